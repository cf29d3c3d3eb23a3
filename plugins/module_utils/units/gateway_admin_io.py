# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the gateways of a node and tells them what to do."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import contextmanager
from typing import Iterator, Mapping

from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_admin,
    names,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import (
    AdminError,
    Order,
    Server,
)

_TIMEOUT_S = 10.0


def running_gateways(deployment: str) -> list[str]:
    """Return the deployment's gateways on this node that run.

    Raises:
        UnitError: systemd does not answer.
    """
    found = names.gateways_of(unit_io.installed_names(deployment))
    shown = unit_io.show([names.service(name) for name in found])
    return [
        name for name in found if shown.get(names.service(name), {}).get("ActiveState") == "active"
    ]


def ask(gateway: str, command: str) -> str:
    """Return what a gateway says to a command of HAProxy's runtime API.

    Raises:
        AdminError: It does not answer.
    """
    path = gateway_admin.admin_socket(gateway)
    if not os.path.exists(path):
        raise AdminError(f"{gateway} has no {path}: run playbooks/serve.yml, which starts it anew")
    try:
        return exchange(path, command)
    except OSError as error:
        raise AdminError(f"{gateway}: {path} does not answer: {error}") from error


def exchange(path: str, command: str) -> str:
    """Return what HAProxy says to a command at the socket at a path.

    Raises:
        OSError: Nobody answers there.
    """
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(path)
        connection.sendall(command.encode() + b"\n")
        while True:
            part = connection.recv(65536)
            if not part:
                break
            answer += part
    return answer.decode(errors="replace")


def servers(gateway: str) -> dict[str, Server]:
    """Return a gateway's engines by name.

    Raises:
        AdminError: It does not answer.
    """
    return gateway_admin.parse_servers(
        ask(gateway, gateway_admin.SERVERS), ask(gateway, gateway_admin.ADMIN)
    )


def orders(gateway: str, found: Mapping[str, Server]) -> dict[str, Order]:
    """Return by engine that a gateway gives no new requests who has told it so.

    Args:
        gateway: The gateway's unit.
        found: What servers() has just said.

    Raises:
        UnitError: systemd does not answer.
    """
    text = NodeFiles().read(gateway_admin.orders_path(gateway))
    told = gateway_admin.read_orders(text, _invocation(gateway))
    return gateway_admin.in_force(told, found)


@contextmanager
def alone(gateway: str) -> Iterator[None]:
    """Keep other calls from a gateway's orders meanwhile: runs on other replicas drain there, too.

    Raises:
        AdminError: There is no such gateway here.
    """
    folder = gateway_admin.admin_folder(gateway)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        text = f"{gateway}: {folder}: {error}: run playbooks/serve.yml, which starts it anew"
        raise AdminError(text) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keep_orders(gateway: str, told: Mapping[str, Order]) -> None:
    """Keep who has taken engines out of a gateway, for as long as it runs.

    Raises:
        UnitError: systemd does not answer.
        OSError: The file cannot be written.
    """
    files, path = NodeFiles(), gateway_admin.orders_path(gateway)
    if told:
        files.write(path, gateway_admin.orders_text(told, _invocation(gateway)), 0o600)
    else:
        files.remove(path)


def _invocation(gateway: str) -> str:
    service = names.service(gateway)
    return unit_io.show([service]).get(service, {}).get("InvocationID", "")


def tell(gateway: str, server: str, state: str) -> None:
    """Take an engine out of a gateway, or back.

    Raises:
        AdminError: The gateway does not answer, or refuses.
    """
    said = ask(gateway, gateway_admin.order(server, state)).strip()
    if said:
        raise AdminError(f"{gateway}: HAProxy refuses {state} of {server}: {said}")
