# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nic_check does on a node."""

from __future__ import annotations

import errno
import socket
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.network.nic import (
    NetError,
    Route,
    chosen_nic,
    decide,
    decide_alone,
    parse_addresses,
    parse_route,
    tool_check,
    usable,
)
from ansible_collections.muster.serving.plugins.module_utils.network.sockets_io import bind

ARGUMENT_SPEC: dict[str, Any] = {
    "address": {"type": "str"},
    "interface": {"type": "str"},
    "peers": {"type": "list", "elements": "str", "default": []},
    "min_mtu": {"type": "int"},
    "prefix_match": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 10},
}
RULES: dict[str, Any] = {"required_one_of": [["address", "interface"]]}


def ip(args: list[str], timeout: float) -> str:
    """Return what ip -json prints.

    Raises:
        NetError: It cannot be run, failed, or did not end in time.
    """
    try:
        output = run(["ip", "-json", *args], timeout)
    except CommandError as error:
        raise NetError(str(error)) from error
    if output.rc != 0:
        raise NetError(output.text)
    return output.stdout


def holds(address: str | None) -> bool:
    """Tell whether the node holds an address: one that it does not cannot be bound."""
    try:
        bind(address or "", 0).close()
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def route_to(peer: str, timeout: float) -> Route:
    try:
        return parse_route(ip(["route", "get", peer], timeout))
    except NetError as error:
        return Route(problem=str(error))


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the NIC of this node."""
    try:
        nics = parse_addresses(ip(["-details", "addr", "show"], params["timeout"]))
    except NetError as error:
        facts = {"interface": params["interface"], "mtu": None}
        if params["peers"] or params["min_mtu"] is not None:
            return {"checks": [tool_check(str(error), "failed")], "facts": facts, "usable": False}
        checks = decide_alone(
            str(error),
            [name for _number, name in socket.if_nameindex()],
            params["interface"],
            params["address"],
            held=holds(params["address"]),
        )
        return {"checks": checks, "facts": facts, "usable": usable(checks)}
    interface = chosen_nic(nics, params["interface"], params["address"])
    nic = next((one for one in nics if one.name == interface), None)
    checks = decide(
        nics,
        params["interface"],
        params["address"],
        {peer: route_to(peer, params["timeout"]) for peer in params["peers"]},
        params["min_mtu"],
        params["prefix_match"],
    )
    return {
        "checks": checks,
        "facts": {"interface": interface, "mtu": nic.mtu if nic else None},
        "usable": usable(checks),
    }
