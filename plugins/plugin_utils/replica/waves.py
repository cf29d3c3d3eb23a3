# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order replicas stop and start, so that others serve meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    group_text,
    is_gateway,
)


class Wave(NamedTuple):
    """Hosts whose units stop and start at the same time.

    Fields:
        name: What an operator calls it: replica 0.
        hosts: Its hosts, in the plan's order.
        backends: The units of its replicas that a gateway passes requests to.
    """

    name: str
    hosts: list[str]
    backends: list[str]


def waves_of(
    units: Sequence[Mapping[str, Any]], hosts: Collection[str], at_once: int = 1
) -> list[Wave]:
    """Return the waves in which the units of hosts stop and start.

    Replicas that share a host go together, as do a replica and a gateway beside it.

    Args:
        units: The units of the plan.
        hosts: The hosts that are rolled.
        at_once: How many replicas one wave may have.
    """
    groups: dict[str, list[str]] = {}
    for unit in units:
        if unit["host"] in hosts:
            groups.setdefault(unit["group"], []).append(unit["host"])
    parts: list[tuple[set[str], list[str]]] = []
    for group, own in groups.items():
        joined = [part for part in parts if part[0] & set(own)]
        names = [name for part in joined for name in part[1]]
        parts = [part for part in parts if part not in joined]
        parts.append((set(own).union(*(part[0] for part in joined)), [*names, group]))
    order = list(groups)
    parts.sort(key=lambda part: min(order.index(name) for name in part[1]))
    chunks = [parts[index : index + at_once] for index in range(0, len(parts), at_once)]
    return [
        _wave(units, {host for part in chunk for host in part[0]}, [n for p in chunk for n in p[1]])
        for chunk in chunks
    ]


def gateways_of_plan(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the hosts that run a gateway."""
    return list(dict.fromkeys(unit["host"] for unit in units if is_gateway(unit["group"])))


def _wave(units: Sequence[Mapping[str, Any]], hosts: set[str], groups: Sequence[str]) -> Wave:
    replicas = [name for name in groups if not is_gateway(name)]
    own = [unit for unit in units if unit["host"] in hosts]
    return Wave(
        ", ".join(group_text(name) for name in replicas or groups),
        list(dict.fromkeys(unit["host"] for unit in own)),
        [unit["name"] for unit in own if unit["group"] in replicas and unit.get("api_url")],
    )
