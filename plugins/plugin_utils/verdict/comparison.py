# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes reported, compared between them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    Check,
    check,
)


class Comparison(NamedTuple):
    """A fact that nodes report, and what must hold between them.

    A fact is one value, or a list of the values of a node's devices. The nodes of one replica must
    agree on it, unless one of these is set:

    unique: All values of all nodes must differ.
    spread: The fact is the two bounds of a measured value, and the nodes of a replica may be so far
        apart before it is a warning, and before it is a failure.
    """

    fact: str
    check_id: str
    subject: str
    remedy: str
    unique: bool = False
    spread: tuple[float, float] | None = None


COMPARISONS = (
    # Time-outs of engines and HCCL need no common clock, but the order of log lines does. A clock
    # that is kept never drifts by half a minute. On a node whose clock does, certificates and the
    # tokens of registries and hubs fail sooner or later.
    Comparison(
        "clock_offset",
        "cluster-clock",
        "clock",
        "synchronise the nodes with one source: run chrony (chronyc makestep), or timedatectl"
        " set-ntp true",
        spread=(5, 30),
    ),
    Comparison(
        "weights_index",
        "cluster-weights",
        "index of the weights",
        "copy one download of the weights to all nodes of the replica",
    ),
    Comparison(
        "weights_hash",
        "cluster-weights-hash",
        "hash of the weights",
        "see which files differ (diff of the nodes' /var/lib/muster/weights/*.json), and copy those"
        " of the node that holds the publisher's",
    ),
    Comparison(
        "mtu",
        "cluster-mtu",
        "MTU of the cluster NIC",
        "give the cluster NIC one MTU on all nodes: ip link set NIC mtu N",
    ),
    Comparison(
        "driver_version",
        "cluster-driver-version",
        "driver version",
        "install one driver version on all nodes of the replica",
    ),
    Comparison(
        "npu_tls",
        "cluster-npu-tls",
        "TLS switch of the NPUs",
        "set it alike on every device: hccn_tool -i DEVICE -tls -s enable 0",
    ),
    Comparison(
        "npu_addresses",
        "cluster-npu-address",
        "NPU addresses",
        "give each NPU an address of its own: hccn_tool -i DEVICE -ip -s address ADDRESS"
        " netmask NETMASK",
        unique=True,
    ),
    Comparison(
        "firmware_version",
        "cluster-firmware-version",
        "NPU firmware version",
        "install one firmware version on all nodes of the replica, and reboot them",
    ),
    Comparison(
        "cann_version",
        "cluster-cann-version",
        "CANN version",
        "run one image on all nodes of the replica: name it by digest in muster_image",
    ),
    Comparison(
        "super_pod_id",
        "cluster-super-pod",
        "super pod of the NPUs",
        "put the replica on nodes of one super pod, or have the super pod id of the odd one set",
    ),
    Comparison(
        "super_pod_server",
        "cluster-super-pod-server",
        "place in the super pod",
        "have each server's index in its super pod set, each to another value",
        unique=True,
    ),
    Comparison(
        "super_pod_sdid",
        "cluster-super-pod-sdid",
        "SDIDs of the NPUs",
        "have each server's index in its super pod set: HCCL refuses devices with equal SDIDs",
        unique=True,
    ),
)


def compare(
    facts: Mapping[str, Mapping[str, Any]],
    groups: Sequence[Sequence[str]],
    seen: Sequence[Check] = (),
) -> list[Check]:
    """Compare what nodes reported: within each group for agreement, over all for uniqueness.

    Args:
        facts: By host, what it reported.
        groups: The hosts of each replica.
        seen: The checks of the hosts themselves, which may say why one tells less than others.
    """
    amiss: dict[str, set[str]] = {}
    for one in seen:
        if one["status"] != "ok":
            amiss.setdefault(one["host"], set()).add(one["id"])
    checks: list[Check] = []
    for comparison in COMPARISONS:
        if comparison.unique:
            checks += _compare_unique(comparison, facts)
            continue
        for group in groups:
            if comparison.spread:
                checks += _compare_spread(comparison, comparison.spread, facts, group)
            else:
                checks += _compare_alike(comparison, facts, group, amiss)
    return checks


def _compare_alike(
    comparison: Comparison,
    facts: Mapping[str, Mapping[str, Any]],
    group: Sequence[str],
    amiss: Mapping[str, set[str]],
) -> list[Check]:
    """Return whether the nodes of a replica agree, and which of them tell less than the others.

    A node on which a check that would explain it is amiss (by host, their ids) is passed over.
    """
    known = {host: _single(facts.get(host, {}).get(comparison.fact)) for host in group}
    values = {host: value for host, value in known.items() if value}
    checks = _compare_equal(comparison, values) if len(values) > 1 else []
    causes = set(CHECKS[comparison.check_id].follows)
    untold = [
        host
        for host in group
        if comparison.fact in facts.get(host, {})
        and not known[host]
        and not causes & amiss.get(host, set())
    ]
    return checks + _untold(comparison, values, untold) if values and untold else checks


def _untold(
    comparison: Comparison, values: Mapping[str, str], untold: Sequence[str]
) -> list[Check]:
    """Return what is to be said of nodes that tell nothing, or several values, unlike others."""
    others = "; ".join(f"{value} on {host}" for host, value in values.items())
    remedy = f"see why the node does not tell it, and compare by hand: {others}"
    missed = dict.fromkeys(untold, "not told by this node")
    if len(values) == 1:
        missed.update(dict.fromkeys(values, "told by no other node"))
    return [
        {
            "host": host,
            **check(
                comparison.check_id,
                "unknown",
                comparison.subject,
                observed,
                "the same on all nodes of the replica",
                remedy,
            ),
        }
        for host, observed in missed.items()
    ]


def _single(value: Any) -> str:
    """Return a fact as text; empty where a node's devices differ, which is a check of the node."""
    values = {str(one) for one in (value if isinstance(value, list) else [value])} - {"None"}
    return values.pop() if len(values) == 1 else ""


def _compare_equal(comparison: Comparison, values: Mapping[str, str]) -> list[Check]:
    by_value: dict[str, list[str]] = {}
    for host, value in values.items():
        by_value.setdefault(value, []).append(host)
    common = max(by_value.values(), key=len)
    if len(common) * 2 <= len(values):
        # Without a majority no value is known to be right, so every node is named.
        common = []
    checks = []
    for host, value in values.items():
        alike = len(by_value) == 1
        if alike or host in common:
            one = check(comparison.check_id, "ok", comparison.subject, value)
        else:
            others = "; ".join(
                f"{other} on {', '.join(names)}"
                for other, names in sorted(by_value.items())
                if other != value
            )
            one = check(
                comparison.check_id,
                "failed",
                comparison.subject,
                value,
                f"the same on all nodes of the replica ({others})",
                comparison.remedy,
            )
        checks.append({"host": host, **one})
    return checks


def _compare_spread(
    comparison: Comparison,
    spread: tuple[float, float],
    facts: Mapping[str, Mapping[str, Any]],
    group: Sequence[str],
) -> list[Check]:
    bounds = {host: facts.get(host, {}).get(comparison.fact) for host in group}
    known = {host: (value[0], value[1]) for host, value in bounds.items() if value}
    if len(known) < 2:
        return []
    warns, fails = spread
    checks = []
    for host, (low, high) in known.items():
        # The distances that the bounds prove. A node near the majority has a small median distance;
        # of two nodes both get the same, since either may be wrong.
        ahead = {
            other: low - top if low > top else min(0.0, high - bottom)
            for other, (bottom, top) in known.items()
            if other != host
        }
        distance = statistics.median_low(map(abs, ahead.values()))
        if distance <= warns:
            text = f"within {warns:g} s of the other nodes"
            one = check(comparison.check_id, "ok", comparison.subject, text)
        else:
            other = next(name for name, value in ahead.items() if abs(value) == distance)
            way = "ahead of" if ahead[other] > 0 else "behind"
            one = check(
                comparison.check_id,
                "failed" if distance > fails else "warning",
                comparison.subject,
                f"at least {distance:.0f} s {way} {other}",
                f"within {warns:g} s of the other nodes of the replica",
                comparison.remedy,
            )
        checks.append({"host": host, **one})
    return checks


def _compare_unique(comparison: Comparison, facts: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    reported = {
        host: sorted(set(map(str, mine[comparison.fact])))
        for host, mine in facts.items()
        if mine.get(comparison.fact)
    }
    if len(reported) < 2:
        return []
    holders: dict[str, list[str]] = {}
    for host, values in reported.items():
        for value in values:
            holders.setdefault(value, []).append(host)
    checks = []
    for host, values in reported.items():
        doubled = [value for value in values if len(holders[value]) > 1]
        for value in doubled:
            others = ", ".join(other for other in holders[value] if other != host)
            one = check(
                comparison.check_id,
                "failed",
                value,
                f"{others} has it too",
                "on one node alone",
                comparison.remedy,
            )
            checks.append({"host": host, **one})
        if not doubled:
            one = check(comparison.check_id, "ok", comparison.subject, "on no other node")
            checks.append({"host": host, **one})
    return checks
