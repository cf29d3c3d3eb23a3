# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What port_check does on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.network import (
    sockets_io as net_sockets,
)
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    PortError,
    decide_local,
    decide_probe,
    decide_reserved,
    parse_ephemeral,
    parse_kernel_ranges,
    parse_ports,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["local", "listen", "probe"], "default": "local"},
    "ports": {"type": "list", "elements": "raw", "default": []},
    "bind_address": {"type": "str"},
    "peers": {"type": "list", "elements": "str", "default": []},
    "peer_ports": {"type": "dict"},
    "reserve": {"type": "list", "elements": "raw", "default": []},
    "own_units": {"type": "list", "elements": "str", "default": []},
    "unit_ports": {"type": "dict", "default": {}},
    "lifetime": {"type": "float", "default": 60},
    "timeout": {"type": "float", "default": 3},
}
SYSTEMCTL_S = 30
_SYSCTL = Path("/proc/sys/net/ipv4")


def sysctl(name: str) -> str:
    try:
        return (_SYSCTL / name).read_text()
    except OSError:
        return ""


def active_units(units: Iterable[str]) -> list[str]:
    """Return which units run or are on their way; none where systemd does not tell."""
    names = list(units)
    if not names:
        return []
    try:
        said = run(["systemctl", "is-active", *names], SYSTEMCTL_S).stdout.split()
    except CommandError:
        return []
    return [name for name, state in zip(names, said) if state in ("active", "activating")]


def look_here(params: dict[str, Any], may_end_listeners: bool) -> dict[str, Any]:
    ports = parse_ports(params["ports"])
    busy = net_sockets.find_busy(ports, params["bind_address"])
    if may_end_listeners and net_sockets.end_listeners(busy):
        busy = net_sockets.find_busy(ports, params["bind_address"])
    by_unit = params["unit_ports"]
    starting = parse_ports([port for unit in active_units(by_unit) for port in by_unit[unit]])
    checks, own = decide_local(ports, busy, params["own_units"], starting)
    checks += decide_reserved(
        ports,
        parse_ephemeral(sysctl("ip_local_port_range")),
        parse_kernel_ranges(sysctl("ip_local_reserved_ports")),
        parse_ports(params["reserve"]),
    )
    taken = {*(one.port for one in busy), *starting}
    return {"checks": checks, "own": own, "free": [port for port in ports if port not in taken]}


def listen(free: list[int], params: dict[str, Any]) -> list[int]:
    """Start a listener on the free ports and leave it behind."""
    listeners = net_sockets.listen(free, params["bind_address"] or "")
    if listeners:
        net_sockets.detach(
            lambda: net_sockets.serve(listeners, params["lifetime"], params["peers"]), listeners
        )
    return [listener.getsockname()[1] for listener in listeners]


def probe(params: dict[str, Any]) -> dict[str, Any]:
    by_peer = params["peer_ports"] or dict.fromkeys(params["peers"], params["ports"])
    targets = [(peer, port) for peer, ports in by_peer.items() for port in parse_ports(ports)]
    outcomes: dict[str, dict[int, str]] = {}
    for (peer, port), outcome in net_sockets.probe(
        targets, params["bind_address"], params["timeout"]
    ).items():
        outcomes.setdefault(peer, {})[port] = outcome
    return {"checks": decide_probe(params["bind_address"] or "this node", outcomes)}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the ports of this node, or reach those of its peers.

    Raises:
        OptionError: A port is none.
    """
    may_listen = params["mode"] == "listen" and not check_mode
    try:
        result = probe(params) if params["mode"] == "probe" else look_here(params, may_listen)
    except PortError as error:
        raise OptionError(str(error)) from error
    if params["mode"] == "listen":
        result["address"] = params["bind_address"]
        result["listening"] = listen(result["free"], params) if may_listen else []
    return result
