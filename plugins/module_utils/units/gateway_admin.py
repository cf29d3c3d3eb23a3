# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway's HAProxy is told and says while it runs. Pure.

The socket is that of HAProxy's runtime API (management.txt of 2.4 and later).
"""

from __future__ import annotations

import csv
import json
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR

BACKEND = "engines"
STATES = {"drained": "drain", "serving": "ready", "resumed": "ready"}
SERVERS = f"show stat {BACKEND} 4 -1"
ADMIN = f"show servers state {BACKEND}"
# Bits of srv_admin_state.
_DRAINED = 0x08


class Server(NamedTuple):
    """An engine as a gateway sees it.

    Fields:
        up: Whether its checks pass.
        drained: Whether it gets no new requests, by order.
        requests: Those that it answers now, or that wait for it.
    """

    up: bool
    drained: bool
    requests: int


class Order(NamedTuple):
    """Who has taken an engine out of a gateway.

    Fields:
        of_run: Whether a run has, for as long as it goes. Else it is out until it is taken back.
        by: By what command, and whose.
        at: When.
    """

    of_run: bool
    by: str
    at: str


class AdminError(Exception):
    """A gateway does not do what it is told; the text says what it said."""


def admin_folder(gateway: str) -> str:
    """Return the folder on the node that holds the socket of a gateway's unit."""
    return f"{STATE_DIR}/gateway/{gateway}"


def admin_socket(gateway: str) -> str:
    return f"{admin_folder(gateway)}/admin.sock"


def orders_path(gateway: str) -> str:
    """Return the file on the node that says who has taken engines out of a gateway."""
    return f"{admin_folder(gateway)}/drained.json"


def read_orders(text: str | None, invocation: str) -> dict[str, Order]:
    """Return by engine who has taken it out.

    Args:
        text: What the file says; None where there is none.
        invocation: systemd's id of the gateway's present run, since it forgets with each.
    """
    try:
        record = json.loads(text or "{}")
        if record.get("invocation") != invocation:
            return {}
        return {
            str(name): Order(bool(one["of_run"]), str(one["by"]), str(one["at"]))
            for name, one in record["orders"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # Without it nothing is taken back that somebody may have meant.
        return {}


def orders_text(orders: Mapping[str, Order], invocation: str) -> str:
    """Return the text of the file."""
    record = {
        "invocation": invocation,
        "orders": {name: one._asdict() for name, one in orders.items()},
    }
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def in_force(orders: Mapping[str, Order], servers: Mapping[str, Server]) -> dict[str, Order]:
    """Return the orders of engines that are still out."""
    return {name: one for name, one in orders.items() if name in servers and servers[name].drained}


def left_by_runs(orders: Mapping[str, Order]) -> list[str]:
    """Return the engines that runs have taken out: each takes its own back, if it lives."""
    return sorted(name for name, one in orders.items() if one.of_run)


def drained_text(name: str, order: Order | None) -> str:
    """Return by whom an engine was drained, and what takes it back."""
    by = f"by {order.by} at {order.at}" if order else "by somebody who left no word of it"
    back = "playbooks/drain.yml -e drain_state=serving takes it back"
    if order and order.of_run:
        back = f"where that run was cut off, the next one takes it back, else {back}"
    return f"{name}, drained {by}: {back}"


def order(server: str, state: str) -> str:
    """Return the command that takes a server out or back, by a name of STATES."""
    return f"set server {BACKEND}/{server} state {STATES[state]}"


def parse_servers(statistics: str, states: str) -> dict[str, Server]:
    """Return the gateway's engines by name.

    Args:
        statistics: The answer to SERVERS, CSV.
        states: The answer to ADMIN, a table of words.

    Raises:
        AdminError: It is none of these.
    """
    table = csv.DictReader(statistics.lstrip("# ").splitlines())
    if "svname" not in (table.fieldnames or ()):
        raise AdminError(f"HAProxy said: {statistics.strip()[:200]!r}")
    header, admin = "", {}
    for line in states.splitlines():
        if line.startswith("# "):
            header = line[2:]
        elif header and line.strip():
            told = dict(zip(header.split(), line.split()))
            admin[told.get("srv_name", "")] = told.get("srv_admin_state", "0")
    try:
        return {
            row["svname"]: Server(
                row["status"].startswith(("UP", "no check", "DRAIN")),
                bool(int(admin[row["svname"]], 0) & _DRAINED),
                int(row["scur"] or 0) + int(row["qcur"] or 0),
            )
            for row in table
        }
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise AdminError(f"HAProxy said: {states.strip()[:200]!r}") from error


def has_other(servers: Mapping[str, Server], names: Sequence[str]) -> bool:
    """Return whether an engine besides these can take requests."""
    return any(one.up and not one.drained for name, one in servers.items() if name not in names)


def drained(servers: Mapping[str, Server], besides: Sequence[str] = ()) -> list[str]:
    """Return the engines that would serve and get no new requests, by order."""
    return sorted(
        name for name, one in servers.items() if one.up and one.drained and name not in besides
    )
