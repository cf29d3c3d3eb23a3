# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a sweep goes on from what it has measured, and where a deployment saturates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import Metrics
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan, Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

# The highest load without a limit of one's own, where the plan does not tell how many run at once.
MOST = 1024
# Requests of a step, at least: one or two would be chance.
FEWEST = 8
# Gaps of this share of a load are not worth a step more.
RESOLUTION = 0.1

_BOUND = re.compile(r"(mean|median|p50|p90|p95|p99)_(ttft|tpot|itl|e2e)_ms")
SATURATED, BROKEN, MOST_REACHED = "saturated", "bound broken", "most reached"
# A step without a figure: requests failed, or the client did.
FAILED = "requests failed"


class Limits(NamedTuple):
    """Within what a sweep stays.

    Fields:
        first: The first load, in requests at once.
        most: The highest one.
        gain: By how many percent throughput has to grow where the load doubles, or it is saturated.
    """

    first: int
    most: int
    gain: float


class Step(NamedTuple):
    """A load that was measured.

    Fields:
        concurrency: Requests at once.
        throughput: Tokens of answers a second; 0 where it gave no figure.
        broken: Which bounds it breaks, failed requests among them; empty where it keeps all.
        failed: Whether it gave no figure.
    """

    concurrency: int
    throughput: float
    broken: Sequence[str] = ()
    failed: bool = False


def limits_of(plan: Plan, replicas: int, first: int, most: int | None, gain: float) -> Limits:
    """Return within what a sweep stays; without a limit twice what can run at once.

    Raises:
        PlanError: They contradict themselves.
    """
    if most is None:
        most = MOST
        if plan["bench"]["max_num_seqs"] is not None:
            most = 2 * plan["bench"]["max_num_seqs"] * plan["bench"]["sizes"]["data"] * replicas
        most = max(most, first)
    errors = []
    if first < 1:
        errors.append("bench_first has to be 1 or more")
    if most < first:
        errors.append(f"bench_most ({most}) has to be as much as bench_first ({first}) or more")
    if gain <= 0:
        errors.append("bench_gain has to be more than 0 percent")
    if errors:
        raise PlanError(errors)
    return Limits(first, most, gain)


def bounds_of(given: Mapping[str, Any]) -> dict[str, float]:
    """Return an operator's bounds by metric, in milliseconds.

    Raises:
        PlanError: One is of no latency, or no number.
    """
    errors = []
    found = {}
    for name, value in given.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            found[name] = 0.0
        if not _BOUND.fullmatch(name):
            errors.append(
                f"bench_bounds: {name} is none: it has to be mean, median, p50, p90, p95 or p99 of "
                "ttft, tpot, itl or e2e, as p99_ttft_ms"
            )
        elif not found[name] > 0:
            errors.append(f"bench_bounds: {name} has to be a number of milliseconds, more than 0")
    if errors:
        raise PlanError(errors)
    return found


def goodput_of(bounds: Mapping[str, float]) -> dict[str, float]:
    """Return by kind of latency what a good request takes at most, as vllm bench serve counts them.

    Of several bounds of one kind the loosest counts, since the others are of fewer requests.
    """
    found: dict[str, float] = {}
    for name, limit in bounds.items():
        match = _BOUND.fullmatch(name)
        if match and match[2] != "itl":
            kind = "e2el" if match[2] == "e2e" else match[2]
            found[kind] = max(found.get(kind, 0.0), limit)
    return found


def load_at(one: Scenario, concurrency: int, each: int, seed: int) -> Scenario:
    """Return a scenario at another concurrency.

    Args:
        one: The scenario.
        concurrency: Requests at once.
        each: How many requests follow each other at each of these places.
        seed: What its prompts are drawn with.
    """
    prompts = max(concurrency * each, FEWEST, one.prefixes)
    return one._replace(concurrency=concurrency, prompts=prompts, seed=seed)


def broken_bounds(
    metrics: Metrics, problems: Sequence[str], bounds: Mapping[str, float]
) -> list[str]:
    """Return which bounds a step breaks, a line each; what gave no figure breaks all.

    Raises:
        PlanError: The client does not tell a metric that has a bound.
    """
    if problems:
        return list(problems)
    missing = [name for name in bounds if name not in metrics]
    if missing:
        told = ", ".join(sorted(name for name in metrics if _BOUND.fullmatch(name)))
        raise PlanError(
            f"bench_bounds: this engine's client does not tell {name}; it tells {told}"
            for name in missing
        )
    return [
        f"{name} {metrics[name]:.1f}, bound {limit:g}"
        for name, limit in bounds.items()
        if metrics[name] > limit
    ]


def next_concurrency(steps: Sequence[Step], limits: Limits) -> int | None:
    """Return the load to measure next; None where nothing more is to be learnt.

    It doubles until a bound breaks, throughput stops growing or the highest load is reached, and
    then halves the gap below the lowest load that breaks a bound, and that below the knee.
    """
    if not steps:
        return limits.first
    highest = max(step.concurrency for step in steps)
    climbing = not any(step.broken for step in steps) and not is_saturated(steps, limits)
    if climbing:
        return min(2 * highest, limits.most) if highest < limits.most else None
    lowest = min((step.concurrency for step in steps if step.broken), default=None)
    for top in (lowest, knee_of(steps, limits)):
        # Nobody works beyond a bound, wherever the knee is.
        if top is not None and (lowest is None or top <= lowest):
            below = max((one.concurrency for one in steps if one.concurrency < top), default=0)
            if top - below > max(1.0, RESOLUTION * top):
                return (top + below) // 2
    return None


def is_saturated(steps: Sequence[Step], limits: Limits) -> bool:
    """Return whether doubling the load has not made the throughput grow any more."""
    figures = [step for step in steps if step.throughput > 0]
    return any(
        high.throughput < low.throughput * (1 + limits.gain / 100)
        for high in figures
        for low in figures
        if high.concurrency >= 2 * low.concurrency
    )


def knee_of(steps: Sequence[Step], limits: Limits) -> int | None:
    """Return the lowest load whose throughput is the best one but for the gain that counts.

    There is none while the throughput grows.
    """
    if not is_saturated(steps, limits):
        return None
    best = max((step.throughput for step in steps), default=0.0)
    enough = best / (1 + limits.gain / 100)
    figures = [step.concurrency for step in steps if 0 < step.throughput >= enough]
    return min(figures, default=None)


def largest_within(steps: Sequence[Step]) -> int | None:
    """Return the largest load below all that break a bound; None for none."""
    lowest = min((step.concurrency for step in steps if step.broken), default=None)
    inside = [step.concurrency for step in steps if lowest is None or step.concurrency < lowest]
    return max(inside, default=None)


def end_of(steps: Sequence[Step], limits: Limits) -> str:
    """Return why the load was not raised any more."""
    broken = [step for step in steps if step.broken]
    if broken:
        return FAILED if min(broken, key=lambda step: step.concurrency).failed else BROKEN
    return SATURATED if is_saturated(steps, limits) else MOST_REACHED


def limiting(steps: Sequence[Step]) -> int | None:
    """Return the load at which to look for what binds: the lowest that breaks, or the highest."""
    broken = [step.concurrency for step in steps if step.broken]
    return min(broken) if broken else max((step.concurrency for step in steps), default=None)
