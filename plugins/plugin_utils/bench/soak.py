# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a steady load goes on, and whether what it loads dies or stands still meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import Metrics
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

# How long an API may be silent: an engine that is busy answers its metrics later, not never.
SILENT_S = 30.0
# What the client does before its first request: importing the engine's libraries, making prompts.
PREPARES_S = 180.0
# A window with a larger share of failed requests ends the soak.
_TOO_MANY = 0.5

STALLED, SILENT, RESTARTED, ERRORS, CLIENT = "stalled", "silent", "restarted", "errors", "client"


class Event(NamedTuple):
    """Why a soak ends before its time.

    Fields:
        kind: stalled, silent, restarted, errors or client.
        at: When it began, in seconds since 1970.
        what: What was seen.
    """

    kind: str
    at: float
    what: str


class Soak(NamedTuple):
    """How long a load goes on, in seconds.

    Fields:
        duration: In all.
        window: A run of the client, whose latencies are told together.
        stall: How long an engine with work may stand still.
    """

    duration: float
    window: float
    stall: float


def soak_of(duration: int, window: int, stall: int) -> Soak:
    """Return how long a load goes on.

    Raises:
        PlanError: A time makes no sense.
    """
    errors = [
        f"{name} has to be {least} seconds or more"
        for name, value, least in (
            ("bench_soak_s", duration, 60),
            ("bench_window_s", window, 10),
            ("bench_stall_s", stall, 10),
        )
        if value < least
    ]
    if errors:
        raise PlanError(errors)
    return Soak(duration, min(window, duration), stall)


def window_load(
    one: Scenario, last: Metrics | None, number: int, soak: Soak, left: float
) -> Scenario | None:
    """Return the load of the next window; None where the time that is left is not worth one.

    Args:
        one: The scenario.
        last: What the window before it measured; None for the first one, which is short.
        number: Which window it is, from 0 on. Each has prompts of its own.
        soak: How long all goes on.
        left: The seconds that are left.
    """
    if number and left < soak.window / 4:
        return None
    requests = 2 * one.concurrency
    rate = (last or {}).get("request_per_s", 0.0)
    if rate > 0:
        requests = round(rate * min(soak.window, max(left, 1.0)))
    prompts = max(requests, one.concurrency, one.prefixes)
    return one._replace(prompts=prompts, seed=one.seed + number)


def event_of(samples: Sequence[Mapping[str, Any]], stall_s: float) -> Event | None:
    """Return what has happened to the engines by their metrics; None for nothing.

    Args:
        samples: Of one run of the client, as bench_client takes them, with the last one of the run
            before it in front.
        stall_s: How long an engine with work may stand still.
    """
    silent: dict[str, float] = {}
    still: dict[tuple[str, str], float] = {}
    before: dict[tuple[str, str], Mapping[str, Any]] = {}
    idle: float | None = None
    for sample in samples:
        now = sample["at"]
        for url, error in sample["errors"].items():
            since = silent.setdefault(url, now)
            if now - since >= SILENT_S:
                what = f"{url} has not answered for {now - since:.0f} s ({error})"
                return Event(SILENT, since, what)
        busy = bool(sample["errors"])
        for url, ranks in sample["engines"].items():
            silent.pop(url, None)
            for label, rank in ranks.items():
                key, name = (url, label), f"rank {label}: " if label else ""
                then = before.get(key)
                if then is not None and _fallen(then, rank):
                    what = f"{name}its counters began anew, so the engine behind {url} restarted"
                    return Event(RESTARTED, now, what)
                work = rank.get("running", 0.0) + rank.get("waiting", 0.0)
                moved = then is None or then["moves"] != rank["moves"]
                busy = busy or bool(work) or moved
                if not work or moved:
                    still.pop(key, None)
                elif now - still.setdefault(key, now) >= stall_s:
                    since = still[key]
                    what = (
                        f"{name}{work:.0f} requests run or wait, no token for {now - since:.0f} s"
                    )
                    return Event(STALLED, since, what)
                before[key] = rank
        idle = None if busy else now if idle is None else idle
        if idle is not None and now - idle >= stall_s + PREPARES_S:
            what = f"the client runs, and no engine has had a request for {now - idle:.0f} s"
            return Event(STALLED, idle, what)
    return None


def _fallen(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a counter that can only grow has less than before."""
    names = ("tokens", "prompt_tokens", "preemptions")
    return any(after[name] < before[name] for name in names if name in after and name in before)


def window_event(
    one: Scenario, metrics: Metrics, ended: Mapping[str, Any], now: float
) -> Event | None:
    """Return why a window ends the soak; None where it goes on.

    Args:
        one: Its load.
        metrics: What it measured; empty where the client gave nothing.
        ended: What the node returned of it.
        now: When it ended, in seconds since 1970.
    """
    if not metrics:
        said = next((line for line in reversed(ended["log"]) if line.strip()), "nothing")
        why = f"the client ended with rc {ended['rc']} and without a result"
        if ended["timed_out"]:
            why = "its requests did not end in time"
        return Event(CLIENT, now, ended.get("msg") or f"{why}; it said last: {said.strip()}")
    failed = failed_of(one, metrics)
    if failed > _TOO_MANY * one.requests:
        what = f"{failed} of {one.requests} requests of a window failed"
        return Event(ERRORS, now, what)
    return None


def failed_of(one: Scenario, metrics: Metrics) -> int:
    """Return how many requests of a window were not answered."""
    return round(max(one.requests - metrics.get("completed", 0.0), metrics.get("failed", 0.0)))
