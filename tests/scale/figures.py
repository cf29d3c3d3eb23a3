# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of the control path's benchmark: medians, spreads, ratios within rounds, goals.

Pure: control.py measures, this computes, plot.py draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

SITE = "site.yml"
WITHOUT_VERIFY = "site.yml without verify"
PEER = "pyinfra"
# The nodes take no time: what is left is the controller's.
INSTANT = "site.yml without verify, answered at once"
# What verify's real tokens may cost beside the rest, as a ratio.
TOKENS = 0.5
# By how many nodes, the most that a run without verify may take as a ratio to the peer's.
PEER_GOALS = {2: 1.0, 8: 1.3, 32: 1.8}
# The light nodes between which the cost of a node is compared, and the most that it may grow.
FEW, MANY, GROWTH = 8, 100, 1.3
MANY_CPU_S = 60
MANY_MEMORY_MB = 600
PLAN_HOSTS, PLAN_S = 1000, 3
FIRST_TOKEN = 1.5


@dataclass(frozen=True)
class Spread:
    """A median with the least and the most that was seen, and how often it was measured."""

    median: float
    least: float
    most: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


@dataclass(frozen=True)
class Goal:
    """A figure and the most that it may be; nobody has seen the figure where it is None."""

    name: str
    seen: float | None
    most: float

    @property
    def met(self) -> bool | None:
        return None if self.seen is None else self.seen <= self.most

    def __str__(self) -> str:
        if self.seen is None:
            return f"{self.name}: not measured (goal: at most {self.most:g})"
        word = "met" if self.met else "MISSED"
        return f"{self.name}: {self.seen:.2f} (goal: at most {self.most:g}, {word})"


def spread(values: Iterable[float]) -> Spread:
    """Return the median of some values and how far they lie apart.

    Raises:
        ValueError: There is no value.
    """
    seen = sorted(values)
    if not seen:
        raise ValueError("nothing was measured")
    return Spread(float(median(seen)), seen[0], seen[-1], len(seen))


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Return how often the second goes into the first, round by round.

    Both of a round were measured in the same minute, so what disturbed it disturbed both.

    Raises:
        ValueError: There are not as many of one as of the other, or none.
    """
    return spread(a / b for a, b in zip(over, under, strict=True))


def order(names: Sequence[str], turn: int) -> list[str]:
    """Return commands in the order of a round: each is the first, and after each other, in turn."""
    start = turn % len(names)
    rotated = [*names[start:], *names[:start]]
    return rotated if turn // len(names) % 2 == 0 else rotated[::-1]


Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def summary(runs: Runs, key: str = "wall_s") -> dict[str, Spread]:
    """Return the spread of a figure by command, of those that have it in all of their runs."""
    return {
        command: spread(one[key] for one in found)
        for command, found in runs.items()
        if found and all(one.get(key) is not None for one in found)
    }


def over_peer(runs: Runs, command: str) -> float | None:
    """Return how much longer than the peer a command took, or None where one was not measured."""
    if not runs.get(command) or not runs.get(PEER):
        return None
    walls = [[one["wall_s"] for one in runs[name]] for name in (command, PEER)]
    return ratios(*walls).median


def goals(result: Mapping[str, Any]) -> list[Goal]:
    """Return all goals with what was seen.

    Args:
        result: `clusters`, a list of {nodes, light, runs}; `plan` by the number of hosts
            {plan_s, ...}; `start`, the runs by name of a start from stopped, or None.
    """
    found = []
    clusters = {(one["nodes"], one["light"]): one for one in result["clusters"]}
    for nodes, most in PEER_GOALS.items():
        # Real nodes say more than light ones.
        light = (nodes, True) in clusters and (nodes, False) not in clusters
        one = clusters.get((nodes, light), {"runs": {}})
        kind = "light" if light else "lab"
        for command, extra in ((WITHOUT_VERIFY, 0.0), (SITE, TOKENS)):
            seen = over_peer(one["runs"], command)
            found.append(Goal(f"{command} over {PEER}, {nodes} {kind} nodes", seen, most + extra))
    few, many = (clusters.get((nodes, True)) for nodes in (FEW, MANY))
    found.append(Goal(f"cost a node, {MANY} over {FEW} light nodes", growth(few, many), GROWTH))
    for name, key, most in (
        ("controller CPU s", "cpu_s", MANY_CPU_S),
        ("controller memory MB", "memory_mb", MANY_MEMORY_MB),
    ):
        seen = summary(many["runs"], key).get(INSTANT) if many else None
        found.append(Goal(f"{name}, {MANY} light nodes", seen and seen.median, most))
    plan = (result.get("plan") or {}).get(str(PLAN_HOSTS))
    found.append(Goal(f"plan of {PLAN_HOSTS} hosts, s", plan and plan["plan_s"], PLAN_S))
    start = result.get("start") or {}
    for command in (SITE, "start.yml"):
        seen = ratios(start[command], start["raw"]).median if start.get(command) else None
        found.append(
            Goal(f"first token by {command} over the raw engine's start", seen, FIRST_TOKEN)
        )
    return found


def growth(few: Mapping[str, Any] | None, many: Mapping[str, Any] | None) -> float | None:
    """Return how the wall time a node grows from few to many nodes that answer at once."""
    if not few or not many:
        return None
    a, b = (summary(one["runs"])[INSTANT].median / one["nodes"] for one in (few, many))
    return b / a


def table(result: Mapping[str, Any]) -> str:
    """Return the figures as lines of text."""
    lines = []
    for one in result["clusters"]:
        lines.append(f"{one['nodes']} nodes, {one['how']}")
        walls, cpus = summary(one["runs"]), summary(one["runs"], "cpu_s")
        for command, wall in walls.items():
            tasks = one["runs"][command][-1].get("tasks")
            counted = (
                f", {tasks['executed']} host-tasks, {tasks['skipped']} skipped" if tasks else ""
            )
            lines.append(f"  {command:<42}{wall} s, CPU {cpus[command].median:.1f} s{counted}")
        for command, seen in summary(one["runs"], "memory_mb").items():
            lines.append(f"  {command:<42}memory {seen.median:.0f} MB")
    for hosts, plan in (result.get("plan") or {}).items():
        lines.append(
            f"plan of {hosts} hosts: {plan['plan_s']:.2f} s, plan.yml {plan['wall_s']:.2f} s"
        )
    for command, walls in (result.get("start") or {}).items():
        lines.append(f"first token from stopped, {command}: {spread(walls)} s")
    lines += ["", *(str(goal) for goal in goals(result))]
    return "\n".join(lines)


def with_goals(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result with the goals in it, as JSON holds it."""
    judged = [{**asdict(goal), "met": goal.met} for goal in goals(result)]
    return {**result, "goals": judged}
