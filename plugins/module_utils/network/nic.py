# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the NIC that carries HCCL must be: parsing of ip -json and the decisions on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check

# HCCL itself passes over docker* and lo; the others are of what joins containers.
_CONTAINERS = ("docker", "cni", "flannel", "cali")
# What bridges of one machine are called, where only names are known.
_BRIDGES = ("br-", "virbr")
_NOWHERE = ("dummy", "ifb")
_TUNNELS = (
    *("tun", "wireguard", "vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan"),
    *("ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm"),
)
# Ports of a bridge that lead out of the machine; a NIC itself names no kind.
_OUTWARD = ("", "bond", "team", "vlan", "openvswitch")


class NetError(Exception):
    """What a tool printed is not what it should print."""


@dataclass(frozen=True)
class Nic:
    """One network interface as the kernel shows it.

    master is the bridge or bond whose port it is; others are further names of it, which no socket
    knows; refused are addresses that it has and may not use, since another node of the network has
    them, too.
    """

    name: str
    mtu: int
    up: bool
    carrier: bool
    loopback: bool = False
    kind: str = ""
    master: str = ""
    addresses: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """How packets reach a peer: through a device, or not, and then why."""

    device: str = ""
    problem: str = ""


def parse_addresses(text: str) -> list[Nic]:
    """Parse the output of ip -json -details addr show.

    Raises:
        NetError: The text is not such an output.
    """
    nics = []
    for entry in _json_objects(text):
        name, mtu, flags = entry.get("ifname"), entry.get("mtu"), entry.get("flags")
        if not isinstance(name, str) or not isinstance(mtu, int) or not isinstance(flags, list):
            # ip prints empty objects for interfaces that a filter left out.
            if entry:
                raise NetError(f"an interface without name, mtu or flags: {entry!r:.200}")
            continue
        linkinfo = entry.get("linkinfo")
        addr_info = entry.get("addr_info")
        held = [
            info
            for info in (addr_info if isinstance(addr_info, list) else [])
            if isinstance(info, dict) and isinstance(info.get("local"), str)
        ]
        altnames = entry.get("altnames")
        nics.append(
            Nic(
                name=name,
                mtu=mtu,
                up="UP" in flags,
                carrier="LOWER_UP" in flags,
                loopback="LOOPBACK" in flags,
                kind=str(linkinfo.get("info_kind", "")) if isinstance(linkinfo, dict) else "",
                master=str(entry.get("master") or ""),
                addresses=tuple(one["local"] for one in held if not one.get("dadfailed")),
                others=tuple(map(str, altnames if isinstance(altnames, list) else [])),
                refused=tuple(one["local"] for one in held if one.get("dadfailed")),
            )
        )
    return nics


def parse_route(text: str) -> Route:
    """Return the route in the output of ip -json route get.

    Raises:
        NetError: The text is not such an output.
    """
    for entry in _json_objects(text):
        device = entry.get("dev")
        if isinstance(device, str) and device:
            return Route(device=device)
    raise NetError(f"no interface in the route: {text!r:.200}")


def _json_objects(text: str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NetError(f"not JSON: {text!r:.200}") from error
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        raise NetError(f"not a list of objects: {text!r:.200}")
    return parsed


def chosen_nic(nics: Sequence[Nic], interface: str | None, address: str | None) -> str:
    """Return the NIC to look at: the named one, else that which holds the address, else nothing."""
    if interface:
        return interface
    holder = _holder(nics, address)
    return holder.name if holder else ""


def decide(
    nics: Sequence[Nic],
    interface: str | None,
    address: str | None,
    routes: Mapping[str, Route],
    min_mtu: int | None = None,
    prefix_match: bool = False,
) -> list[Check]:
    """Judge the NIC of the cluster network.

    Args:
        nics: All interfaces of the node.
        interface: The name the inventory gives, or nothing: then the address finds the NIC.
        address: The node's address on the cluster network.
        routes: The route to each peer.
        min_mtu: The smallest MTU that will do.
        prefix_match: Whether HCCL takes the NIC's name for a prefix.
    """
    by_name = {nic.name: nic for nic in nics}
    holder = _holder(nics, address)
    candidates = [nic.name for nic in nics if not nic.master and not _unfit(nic, nics)]

    if not interface:
        if holder is None:
            return [_no_holder(address, candidates, by_name)]
        interface = holder.name
    nic = by_name.get(interface)
    if nic is None:
        named = next((one for one in nics if interface in one.others), None)
        if named:
            return [_other_name(interface, named)]
        return [_no_such_nic(interface, address, holder, candidates)]

    checks = [check("nic-exists", "ok", interface, "present")]
    checks.append(_up(nic))
    checks.append(_kind(nic, nics, candidates, peers=bool(routes)))
    if address:
        checks.append(_address(nic, address, holder))
    if min_mtu is not None:
        checks.append(_mtu(nic, min_mtu))
    # Without it the packets leave elsewhere, or not at all, whatever the routes.
    if usable(checks):
        checks.extend(
            _route(nic, peer, route) for peer, route in sorted(routes.items()) if peer != address
        )
    if prefix_match:
        checks.extend(_prefix(nic, nics))
    return checks


def tool_check(problem: str, status: str) -> Check:
    """Return the check on an ip(8) that does not tell the node's interfaces, and why."""
    return check(
        "nic-tool",
        status,
        "ip",
        problem,
        "the node's interfaces as JSON",
        "install iproute2 (5.0 or later)",
    )


def decide_alone(
    problem: str, names: Sequence[str], interface: str | None, address: str | None, *, held: bool
) -> list[Check]:
    """Judge the NIC of a node without peers whose ip(8) does not answer.

    An engine on such a node needs no more than an address that the node holds.

    Args:
        problem: What is wrong with ip.
        names: The names of the node's interfaces.
        interface: The name the inventory gives, or nothing.
        address: The node's address, or nothing.
        held: Whether the node holds the address.
    """
    checks = [tool_check(problem, "warning")]
    if interface:
        there = interface in names
        inside = ("lo", *_CONTAINERS, *_BRIDGES)
        candidates = [name for name in names if not name.startswith(inside)]
        checks.append(
            check("nic-exists", "ok", interface, "present")
            if there
            else _no_such_nic(interface, address, None, candidates)
        )
    if address:
        checks.append(
            check("nic-address", "ok", address, "held by the node")
            if held
            else check(
                "nic-address",
                "failed",
                address,
                "on no NIC",
                "an address that the node holds",
                "set muster_address to the node's address on the cluster network",
            )
        )
    return checks


def usable(checks: Sequence[Check]) -> bool:
    """Tell whether packets can leave through the NIC: it is there, up, and holds the address."""
    needed = ("nic-tool", "nic-exists", "nic-up", "nic-address")
    return not any(one["id"] in needed and one["status"] == "failed" for one in checks)


def _holder(nics: Sequence[Nic], address: str | None) -> Nic | None:
    return next((nic for nic in nics if address and address in nic.addresses), None)


def _unfit(nic: Nic, nics: Sequence[Nic]) -> str:
    """Return why it is no NIC of a network of several machines; nothing where it may be one."""
    if nic.loopback:
        return "loopback"
    if nic.kind in _NOWHERE:
        return f"{nic.kind}, which leads nowhere"
    if nic.name.startswith(_CONTAINERS):
        return f"{nic.kind or 'an interface'} of containers"
    if nic.kind == "bridge" and not _outward(nic, nics):
        return "a bridge of which no port is a NIC of the node"
    return ""


def _outward(bridge: Nic, nics: Sequence[Nic]) -> list[str]:
    return [one.name for one in nics if one.master == bridge.name and one.kind in _OUTWARD]


def _kind(nic: Nic, nics: Sequence[Nic], candidates: Sequence[str], *, peers: bool) -> Check:
    """Judge what the interface is.

    Engines are given its name, and bind to it whatever it is: an address on a bridge, a bond or a
    VLAN is as good as on the NIC below, as long as there is one.
    """
    unfit = _unfit(nic, nics)
    others = f"set muster_interface to one of: {', '.join(candidates) or 'none found'}"
    if unfit:
        expected = "a NIC of the cluster network, or a bridge, bond or VLAN of one"
        return check("nic-kind", "failed", nic.name, unfit, expected, others)
    if nic.kind in _TUNNELS and peers:
        return check(
            "nic-kind",
            "warning",
            nic.name,
            f"a tunnel ({nic.kind})",
            "a NIC of the cluster network",
            "use the network below it (muster_interface, muster_address): through a tunnel ranks "
            "find each other, and what they send over sockets is slow",
        )
    below = _outward(nic, nics) if nic.kind == "bridge" else []
    observed = f"bridge of {', '.join(below)}" if below else nic.kind or "physical"
    return check("nic-kind", "ok", nic.name, observed)


def _no_such_nic(
    interface: str, address: str | None, holder: Nic | None, candidates: Sequence[str]
) -> Check:
    remedy = (
        f"set muster_interface: {holder.name}, which holds {address}"
        if holder
        else f"set muster_interface to one of: {', '.join(candidates) or 'none found'}"
    )
    return check(
        "nic-exists",
        "failed",
        interface,
        f"no such NIC; the node has {', '.join(candidates) or 'none'}",
        f"a NIC named {interface}",
        remedy,
    )


def _other_name(interface: str, nic: Nic) -> Check:
    return check(
        "nic-exists",
        "failed",
        interface,
        f"another name of {nic.name}, by which no socket finds it",
        f"a NIC named {interface}",
        f"set muster_interface: {nic.name}",
    )


def _no_holder(address: str | None, candidates: Sequence[str], by_name: Mapping[str, Nic]) -> Check:
    held = [f"{one} ({name})" for name in candidates for one in by_name[name].addresses]
    return check(
        "nic-address",
        "failed",
        address or "no address",
        f"on no NIC; the node holds {', '.join(held) or 'no address'}",
        "an address that the node holds",
        "set muster_address to the node's address on the cluster network",
    )


def _up(nic: Nic) -> Check:
    if nic.up and nic.carrier:
        return check("nic-up", "ok", nic.name, "up, carrier")
    return check(
        "nic-up",
        "failed",
        nic.name,
        "up, no carrier" if nic.up else "down",
        "up, carrier",
        "check the cable and the switch port" if nic.up else f"ip link set {nic.name} up",
    )


def _address(nic: Nic, address: str, holder: Nic | None) -> Check:
    if address in nic.addresses:
        return check("nic-address", "ok", nic.name, address)
    if address in nic.refused:
        return check(
            "nic-address",
            "failed",
            nic.name,
            f"{address} is not used: another node of the network has it (duplicate address)",
            f"{nic.name} holds {address}",
            "give one of the two nodes another address",
        )
    if holder is not None:
        observed = f"{address} is on {holder.name}"
        remedy = f"set muster_interface: {holder.name}, or muster_address to one of {nic.name}'s"
    else:
        observed = f"{address} is on no NIC"
        remedy = f"set muster_address to the node's address on {nic.name}, or configure it there"
    held = ", ".join(nic.addresses) or "none"
    return check(
        "nic-address",
        "failed",
        nic.name,
        f"{observed}; {nic.name} holds {held}",
        f"{nic.name} holds {address}",
        remedy,
    )


def _mtu(nic: Nic, min_mtu: int) -> Check:
    expected = f"at least {min_mtu}"
    if nic.mtu >= min_mtu:
        return check("nic-mtu", "ok", nic.name, str(nic.mtu), expected)
    return check(
        "nic-mtu",
        "failed",
        nic.name,
        str(nic.mtu),
        expected,
        f"raise it with: ip link set {nic.name} mtu {min_mtu} (and in the network configuration)",
    )


def _route(nic: Nic, peer: str, route: Route) -> Check:
    subject = f"{nic.name} to {peer}"
    expected = f"leaves through {nic.name}"
    if route.device == nic.name:
        return check("nic-route", "ok", subject, expected, expected)
    if route.problem:
        observed = route.problem
        remedy = f"add a route to {peer} through {nic.name}, or correct the peer's muster_address"
    else:
        observed = f"leaves through {route.device}"
        remedy = f"put {peer} on the network of {nic.name}, or set muster_interface: {route.device}"
    return check("nic-route", "failed", subject, observed, expected, remedy)


def _prefix(nic: Nic, nics: Sequence[Nic]) -> list[Check]:
    """Check that no VLAN of the NIC is taken for it: HCCL_SOCKET_IFNAME is matched as a prefix."""
    others = [
        other.name
        for other in nics
        if other.name != nic.name and other.name.startswith(nic.name) and other.addresses
    ]
    if not others:
        expected = "HCCL_SOCKET_IFNAME, a prefix, matches one NIC"
        return [check("nic-prefix", "ok", nic.name, "matches no other", expected)]
    return [
        check(
            "nic-prefix",
            "warning",
            nic.name,
            f"also matched: {', '.join(others)}",
            "HCCL_SOCKET_IFNAME, a prefix, matches one NIC",
            f'name it exactly: set muster_engine_env to {{HCCL_SOCKET_IFNAME: "={nic.name}"}}',
        )
    ]
