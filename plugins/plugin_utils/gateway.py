# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway in front of replicas or ranks: HAProxy's and keepalived's configuration. Pure."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

IMAGE = "docker.io/library/haproxy:3.0"
BALANCES = ("least-outstanding", "prefix-affine")


class GatewayHost(NamedTuple):
    """A host of the cluster that runs a gateway."""

    host: str
    machine: str
    address: str
    interface: str


class Backend(NamedTuple):
    """One API server behind the gateway: a replica, or a rank that has its own."""

    name: str
    address: str
    port: int


class Floating(NamedTuple):
    """An address that moves to whichever gateway answers; I(router_id) is VRRP's, 1 to 255."""

    address: str
    router_id: int


def gateway_units(
    *,
    cluster: str,
    hosts: Sequence[GatewayHost],
    port: int,
    backends: Sequence[Backend],
    model: str,
    balance: str = BALANCES[0],
    api_key_file: str | None = None,
    image: str = IMAGE,
    floating: Floating | None = None,
) -> list[dict[str, Any]]:
    """Return the gateway units of a plan, one a host.

    Each unit has, beside the keys of every unit, C(floating): null, or what the role
    M(gateway) is given, C({"name", "address", "router_id", "interface", "url", "peers", "config"}).

    Raises:
        PlanError: The floating address cannot work with these hosts.
    """
    raise NotImplementedError
