# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of nodes: where they come from, and which cannot be a node's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

_DOCUMENTATION = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.ip_address("255.255.255.255")


def address_of(host: str, values: Mapping[str, Any]) -> str | None:
    """Return a host's address on the cluster network; None where nothing says one.

    That is muster_address, ansible_host when it is an IP address, or the inventory name when that
    is one: it is where Ansible connects to unless something else is said.
    """
    for value in (values.get("muster_address"), values.get("ansible_host"), host):
        address = ip_or_none(value)
        if address:
            return address
    return None


def ip_or_none(value: Any) -> str | None:
    """Return an IP address in its one spelling, None for what is none."""
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def unfit(address: str) -> str | None:
    """Return why an IP address cannot be that of a node, None if it can."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped:
        return f"write it as {mapped}"
    if ip.is_unspecified:
        return "it stands for all addresses of a node"
    if ip.is_multicast:
        return "it is a multicast address"
    if ip == _BROADCAST:
        return "it is the broadcast address"
    if ip.version == 6 and (ip.is_link_local or "%" in address):
        return "it needs a zone, which no URL of an engine can have"
    if ip.version == 4 and (ip.is_reserved or ip in _THIS_NETWORK):
        return "it is reserved"
    return None


def is_loopback(address: str) -> bool:
    """Tell whether only the node itself reaches an address."""
    return ipaddress.ip_address(address).is_loopback


def is_documentation(address: str) -> bool:
    """Tell whether an address stands for an example."""
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in _DOCUMENTATION)


def family(address: str) -> str:
    """Return IPv4 or IPv6."""
    return f"IPv{ipaddress.ip_address(address).version}"
