# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return the checks between a node and the others; checks_between.yml has the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def checks_between(
    seen: Mapping[str, Any], peers: Iterable[Mapping[str, Any]], npu_ping: str = "sampled"
) -> dict[str, dict[str, Any]]:
    """Return the checks between a node and its peers, as node_checks takes them.

    Args:
        seen: The result of node_checks on the node.
        peers: Its results on the other nodes; empty for a host outside the play.
        npu_ping: Which NPUs ping each other: "sampled", "full" or "none".
    """
    others = list(peers)
    checks: dict[str, dict[str, Any]] = {}
    # A NIC that cannot be used has its failed check already, so no port is tried through it. No
    # listener runs in check mode, nor where our own units hold all ports.
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
    # The facts say which NPUs can be reached.
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
    """The filter, as Ansible loads it."""

    def filters(self) -> dict[str, Any]:
        return {"checks_between": checks_between}
