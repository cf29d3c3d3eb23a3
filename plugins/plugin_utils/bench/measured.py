# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client's own JSON says, under the names that recipes have for figures."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Scenario

Metrics = dict[str, float]

_NAMES = {
    "duration": "duration_s",
    "completed": "completed",
    "failed": "failed",
    "total_input_tokens": "total_input_tokens",
    "total_output_tokens": "total_generated_tokens",
    "request_throughput": "request_per_s",
    "request_goodput": "good_request_per_s",
    # As versions before the colon was found write it.
    "request_goodput:": "good_request_per_s",
    "input_throughput": "input_tok_per_s",
    "output_throughput": "output_tok_per_s",
    "total_token_throughput": "total_tok_per_s",
    "total_throughput": "total_tok_per_s",
    "max_output_tokens_per_s": "peak_output_tok_per_s",
    "max_concurrent_requests": "peak_concurrent_requests",
    "concurrency": "concurrency",
    "accept_length": "accept_length",
    "spec_decode_acceptance_length": "accept_length",
}
_LATENCY = re.compile(r"(mean|median|std|max|p[0-9.]+)_(ttft|tpot|itl|e2el|e2e_latency)_ms")
_SHORT = 0.97


class Run(NamedTuple):
    """One run of a scenario.

    Fields:
        seed: What its prompts were drawn with.
        metrics: What was measured; empty where the client gave nothing.
        problems: Why it is no figure; empty where it is one.
        notes: What else to know of it.
    """

    seed: int
    metrics: Metrics
    problems: list[str]
    notes: list[str]


def metrics_of(raw: Mapping[str, Any]) -> Metrics:
    """Return the numbers of a client's JSON by the names of recipes; others are left out."""
    found: Metrics = {}
    for key, value in raw.items():
        latency = _LATENCY.fullmatch(key)
        kind = latency[2].replace("e2e_latency", "e2e").replace("e2el", "e2e") if latency else ""
        name = f"{latency[1]}_{kind}_ms" if latency else _NAMES.get(key)
        if name and _is_number(value):
            found[name] = float(value)
    return found


def run_of(one: Scenario, seed: int, ended: Mapping[str, Any]) -> Run:
    """Return one run from what the node returned of it.

    Args:
        one: The scenario.
        seed: What its prompts were drawn with.
        ended: {rc, raw, timed_out, log, cache_before, cache_after}, and msg where the client could
            not be run; raw is null where it wrote no result, and a cache is {queries, hits} in
            tokens, or null.
    """
    raw = ended.get("raw")
    if not isinstance(raw, Mapping):
        return Run(seed, {}, [_why_nothing(ended)], [])
    metrics = metrics_of(raw)
    problems, notes = [], []
    completed = metrics.get("completed")
    # A load with a bound in time may have made fewer.
    requests = raw.get("requests", one.requests)
    if completed is None:
        problems.append("the client's result does not tell how many requests were answered")
    else:
        metrics.setdefault("failed", requests - completed)
        if metrics["failed"] > 0 or completed < requests:
            problems.append(
                f"of {requests} requests {completed:.0f} were answered: a run with failed "
                "requests is no figure"
            )
        elif not completed:
            problems.append("no request had an end before its time was up (bench_step_s)")
    if ended.get("rc"):
        problems.append(f"the client ended with rc {ended['rc']}")
    hits = _hit_rate(ended.get("cache_before"), ended.get("cache_after"))
    if hits is not None:
        metrics["prefix_hit_rate_percent"] = hits
    tokens, asked = metrics.get("total_generated_tokens"), requests * one.output
    if one.lengths == "exact" and tokens is not None and tokens < _SHORT * asked:
        notes.append(f"answers were shorter than asked for: {tokens:.0f} of {asked} tokens")
    return Run(seed, metrics, problems, notes)


def _why_nothing(ended: Mapping[str, Any]) -> str:
    if ended.get("msg"):
        return str(ended["msg"])
    last = [line.strip() for line in ended.get("log") or [] if line.strip()]
    said = f"; it said last: {last[-1]}" if last else ""
    if ended.get("timed_out"):
        return f"the client did not end in time (bench_timeout){said}"
    return f"the client ended with rc {ended.get('rc')} and without a result{said}"


def _hit_rate(before: Any, after: Any) -> float | None:
    """Return which share of the prompts' tokens the cache of prefixes had, in percent."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return None
    queries = after["queries"] - before["queries"]
    hits = after["hits"] - before["hits"]
    # An engine that started anew counts from zero.
    return round(100 * hits / queries, 2) if queries > 0 and 0 <= hits <= queries else None


def medians(runs: Sequence[Run]) -> Metrics:
    """Return the median of each metric that all runs have."""
    common = set.intersection(*(set(run.metrics) for run in runs)) if runs else set()
    names = (name for name in (runs[0].metrics if runs else {}) if name in common)
    return {name: statistics.median(run.metrics[name] for run in runs) for name in names}


def spread(runs: Sequence[Run], name: str) -> float | None:
    """Return how far a metric's extremes lie apart, in percent of its median; None for one run."""
    values = [run.metrics[name] for run in runs if name in run.metrics]
    middle = statistics.median(values) if values else 0
    if len(values) < 2 or not middle:
        return None
    return round(100 * (max(values) - min(values)) / abs(middle), 2)


def devices_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return names and driver of the devices that device_info has found, if it has."""
    names = [device["name"] for device in found.get("devices", []) if device.get("name")]
    return {"names": names, "driver": found.get("version")}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
