# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says how a node reaches the others; see checks_between.yml for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def checks_between(
    seen: Mapping[str, Any], peers: Iterable[Mapping[str, Any]], npu_ping: str = "sampled"
) -> dict[str, dict[str, Any]]:
    """Return what node_checks is to make of a node, now that all have been looked at.

    Args:
        seen: What node_checks returned of the node.
        peers: What it returned of the others; nothing of a host outside the play.
        npu_ping: Which NPUs ping each other: C(sampled), C(full) or C(none).
    """
    others = list(peers)
    checks: dict[str, dict[str, Any]] = {}
    # A NIC that cannot be used has its verdict already, and nothing is tried through it. Nothing
    # listens where all ports are held by own units, and in check mode.
    ports = {
        peer["address"]: peer["listening"]
        for peer in others
        if peer.get("usable") and peer.get("listening")
    }
    if seen.get("usable") and ports:
        checks["port_check"] = {
            "mode": "probe",
            "bind_address": seen.get("address"),
            "peer_ports": ports,
        }
    # Of NPUs that cannot be reached, the facts tell.
    facts = [peer["facts"] for peer in others if "npu_reachable" in peer.get("facts", {})]
    if npu_ping != "none" and facts and "npu_reachable" in seen.get("facts", {}):
        checks["npu_topology_check"] = {
            "mode": "ping",
            "node_facts": seen["facts"],
            "peer_facts": facts,
            "pings": npu_ping,
        }
    return checks


class FilterModule:
    """Gives Ansible the filter."""

    def filters(self) -> dict[str, Any]:
        return {"checks_between": checks_between}
