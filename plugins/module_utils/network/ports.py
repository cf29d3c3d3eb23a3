# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports: ranges, the kernel's socket tables, and the verdicts on what was observed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Any, Collection, Iterable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    Owner,
    held_by,
    way_to_end,
)
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import (
    port_range,
    ranges_text,
)

_LISTEN = 0x0A
# What stands for all addresses, in the kernel's tables and for docker and podman.
_ALL = ("", "0.0.0.0", "::")  # noqa: S104 (read, never bound)

# How a listener of this check is known in the process table.
LISTENER = "muster-listen"


class PortError(ValueError):
    """What was given is not a port or a range of ports."""


def parse_ports(values: Iterable[Any]) -> list[int]:
    """Return numbers and FIRST-LAST ranges as a sorted list of ports.

    Raises:
        PortError: A value is neither.
    """
    ports: set[int] = set()
    for value in values:
        found = None if isinstance(value, bool) else port_range("".join(str(value).split()))
        if found is None:
            raise PortError(f"{value!r} is neither a port (1 to 65535) nor a range FIRST-LAST")
        ports.update(found)
    return sorted(ports)


def takes(bound: str, address: str | None) -> bool:
    """Return whether a port bound to one address is taken on another; without it, on any."""
    return not address or _plain(bound) in (*_ALL, _plain(address))


def _plain(address: str) -> str:
    """Return an address without the form that IPv6 sockets give one of IPv4."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)


def parse_kernel_ranges(text: str) -> list[int]:
    """Return the ports of ip_local_reserved_ports; what cannot be read as a port is no port."""
    ports: set[int] = set()
    for part in text.replace(",", " ").split():
        try:
            ports.update(parse_ports([part]))
        except PortError:
            continue
    return sorted(ports)


def parse_ephemeral(text: str) -> tuple[int, int] | None:
    """Return the first and last port of ip_local_port_range."""
    numbers = [int(word) for word in text.split() if word.isascii() and word.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


@dataclass(frozen=True)
class SocketEntry:
    """One line of /proc/net/tcp or /proc/net/tcp6."""

    address: str
    port: int
    remote: str
    listening: bool
    inode: int


def parse_socket_table(text: str) -> list[SocketEntry]:
    """Return the sockets of /proc/net/tcp or /proc/net/tcp6, without lines of another shape."""
    entries = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or not fields[0].endswith(":"):
            continue
        local, remote = _endpoint(fields[1]), _endpoint(fields[2])
        if local is None or remote is None or not fields[9].isdecimal():
            continue
        entries.append(
            SocketEntry(
                address=local[0],
                port=local[1],
                remote=f"{remote[0]} port {remote[1]}",
                listening=fields[3].upper() == f"{_LISTEN:02X}",
                inode=int(fields[9]),
            )
        )
    return entries


def _endpoint(text: str) -> tuple[str, int] | None:
    """Return 0100007F:4E24 as address and port: each 32-bit word is in the host's order."""
    raw, _colon, port = text.partition(":")
    try:
        words = [bytes.fromhex(raw[at : at + 8])[::-1] for at in range(0, len(raw), 8)]
        return str(ipaddress.ip_address(b"".join(words))), int(port, 16)
    except ValueError:
        return None


@dataclass(frozen=True)
class Busy:
    """A port that could not be bound."""

    port: int
    # The address to bind is taken; otherwise only another address of the node is.
    wanted: bool
    problem: str
    sockets: tuple[SocketEntry, ...] = ()
    owners: tuple[Owner, ...] = ()


def decide_local(
    ports: Sequence[int],
    busy: Sequence[Busy],
    own_units: Collection[str],
    starting: Collection[int] = (),
) -> tuple[list[Check], list[int]]:
    """Judge what holds the ports.

    Args:
        ports: The ports that are planned on this node.
        busy: Those of them that cannot be bound.
        own_units: The systemd units of Muster, and what the run stops before they start.
        starting: The ports of those that are up: an engine may bind one at any moment.

    Returns:
        The checks, and the ports that are ours: held by our units or an earlier check's listener,
        or left to a unit that is up.
    """
    taken = {one.port for one in busy}
    own = [
        one.port
        for one in busy
        if one.owners
        and all(owner.name == LISTENER or owner.belongs_to(own_units) for owner in one.owners)
    ]
    checks = []
    free = [port for port in ports if port not in taken and port not in starting]
    left = [port for port in ports if port not in taken and port in starting]
    if free:
        checks.append(check("port-free", "ok", _subject(free), "free", "free"))
    if own:
        owners = (owner for one in busy if one.port in own for owner in one.owners)
        observed = held_by(owner for owner in owners if owner.name != LISTENER)
        checks.append(check("port-free", "ok", _subject(own), observed, "free"))

    if left:
        observed = "left to our own unit, which is up"
        checks.append(check("port-free", "ok", _subject(left), observed, "free"))

    groups: dict[tuple[bool, str, str], list[int]] = {}
    for one in busy:
        if one.port not in own:
            # The kernel lets a second engine listen beside ours (SO_REUSEPORT) and deals the
            # connections to both: the other one is named, and to be ended.
            others = tuple(owner for owner in one.owners if not owner.belongs_to(own_units))
            beside = ", beside our own unit" if len(others) < len(one.owners) else ""
            other = replace(one, owners=others)
            seen = _seen(other) + beside
            groups.setdefault((one.wanted, seen, _release(other)), []).append(one.port)
    for (wanted, seen, release), held in sorted(groups.items(), key=lambda group: group[1]):
        status = "failed" if wanted else "warning"
        checks.append(check("port-free", status, _subject(held), seen, "free", release))
    return checks, sorted([*own, *left])


def _subject(ports: Sequence[int]) -> str:
    return f"port{'s' if len(ports) > 1 else ''} {ranges_text(ports, ', ')}"


def _seen(one: Busy) -> str:
    holders = ", ".join(sorted({str(owner) for owner in one.owners}))
    listeners = sorted({entry.address for entry in one.sockets if entry.listening})
    if listeners:
        return f"{holders or 'an unknown process'} listens on {', '.join(listeners)}"
    if one.sockets:
        remotes = sorted({entry.remote for entry in one.sockets})
        return f"{holders or 'an unknown process'} is connected from it to {', '.join(remotes)}"
    return one.problem


def _release(one: Busy) -> str:
    way = way_to_end(one.owners) or "find and stop what holds it (ss -tanp)"
    return f"{way}; or choose another port"


def decide_reserved(
    ports: Sequence[int],
    ephemeral: tuple[int, int] | None,
    reserved: Collection[int],
    to_reserve: Collection[int],
) -> list[Check]:
    """Judge whether the kernel may give one of the ports to an outgoing connection.

    Args:
        ports: The ports that units will listen on.
        ephemeral: The kernel's range for outgoing connections.
        reserved: What the kernel leaves out of it.
        to_reserve: What prepare adds to that.
    """
    if ephemeral is None:
        if not ports:
            return []
        expected = "outside the ports of outgoing connections"
        seen = "net.ipv4.ip_local_port_range is not told"
        remedy = "look at sysctl net.ipv4.ip_local_port_range"
        return [check("port-reserved", "unknown", _subject(ports), seen, expected, remedy)]
    first, last = ephemeral
    inside = [port for port in ports if first <= port <= last]
    open_ports = [port for port in inside if port not in reserved]
    expected = f"outside {first}-{last} or in net.ipv4.ip_local_reserved_ports"
    checks = []
    safe = [port for port in ports if port not in open_ports]
    if safe:
        checks.append(check("port-reserved", "ok", _subject(safe), expected, expected))
    pending = [port for port in open_ports if port in to_reserve]
    if pending:
        checks.append(
            check(
                "port-reserved",
                "pending",
                _subject(pending),
                "an outgoing connection may take it",
                expected,
                "prepare reserves it",
            )
        )
    exposed = [port for port in open_ports if port not in to_reserve]
    if exposed:
        checks.append(
            check(
                "port-reserved",
                "warning",
                _subject(exposed),
                "an outgoing connection may take it",
                expected,
                f"choose a port outside {first}-{last}, or add it to"
                " net.ipv4.ip_local_reserved_ports",
            )
        )
    return checks


_PROBE_REMEDIES = {
    "refused": "a firewall rejects it: admit all TCP from {source} on {peer},"
    " since engines also use ports that cannot be known before",
    "timeout": "a firewall on {peer} or between the nodes drops it: admit all TCP from {source},"
    " since engines also use ports that cannot be known before",
    "unreachable": "correct the route between {source} and {peer}, or admit it in the firewall",
}


def decide_probe(source: str, outcomes: Mapping[str, Mapping[int, str]]) -> list[Check]:
    """Judge connections to peers.

    Args:
        source: The address they were made from.
        outcomes: For each peer and port open, refused, timeout or
            unreachable: REASON.
    """
    checks = []
    for peer, by_port in sorted(outcomes.items()):
        groups: dict[str, list[int]] = {}
        for port, outcome in by_port.items():
            groups.setdefault(outcome, []).append(port)
        for outcome, ports in sorted(groups.items()):
            subject = f"{peer} {_subject(ports)}"
            if outcome == "open":
                checks.append(check("port-reachable", "ok", subject, "open", "open"))
                continue
            remedy = _PROBE_REMEDIES[outcome.partition(":")[0]].format(source=source, peer=peer)
            checks.append(check("port-reachable", "failed", subject, outcome, "open", remedy))
    return checks
