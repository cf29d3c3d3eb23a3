# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sweep, a soak and the scores of data sets, as tables and plots of a page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.verdict import UNCLEAR
from ansible_collections.muster.serving.plugins.plugin_utils.bench.comparison import (
    BELOW,
    MET,
    NO_FIGURE,
)
from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import (
    CURVES,
    Lines,
    Series,
)
from ansible_collections.muster.serving.plugins.plugin_utils.report.figures import (
    Report,
    setting_of,
)

# Shown of each step of a sweep and each window of a soak: title, metric.
COLUMNS = (
    ("Output tok/s", "output_tok_per_s"),
    ("Requests/s", "request_per_s"),
    ("Good requests/s", "good_request_per_s"),
    ("Median TTFT, ms", "median_ttft_ms"),
    ("P99 TTFT, ms", "p99_ttft_ms"),
    ("Median TPOT, ms", "median_tpot_ms"),
    ("P99 TPOT, ms", "p99_tpot_ms"),
)
_TITLES = {metric: title for title, metric in COLUMNS}
_MARKS = {MET: "ok", BELOW: "failed", NO_FIGURE: "failed", UNCLEAR: "warning"}


def sweep(report: Report | None) -> dict[str, Any] | None:
    """Return what the newest sweep came to: its facts, its steps and its plots."""
    if report is None:
        return None
    steps = sorted(report["steps"], key=lambda one: one["concurrency"])
    return {
        "time": report["time"],
        "setting": setting_of(report),
        "load": load_text(report["scenario"]),
        "facts": _sweep_facts(report),
        "knee": report["knee"],
        "word": f"trace {report['ended']}" if _trace(report) else "",
        "steps": steps,
        "titles": _shown(step["metrics"] for step in steps),
        "charts": _sweep_charts(steps, report["bounds"]),
    }


def _trace(report: Report) -> Mapping[str, Any] | None:
    """Return the trace that a sweep replayed; None where it raised a load."""
    guidellm = report.get("guidellm")
    trace: Mapping[str, Any] | None = guidellm["trace"] if guidellm else None
    return trace


def _sweep_facts(report: Report) -> list[tuple[str, str]]:
    """Return what a sweep came to, as names and words."""
    guidellm, trace, binds = report.get("guidellm"), _trace(report), report["binds"]
    facts = [("Ended", report["ended"])]
    if guidellm:
        page = f", its own page in {guidellm['page']}" if guidellm["page"] else ""
        facts.append(("Client", f"GuideLLM {guidellm['version']}{page}"))
    if trace:
        facts.append(("Trace", f"{trace['path']}, {trace['requests']} requests"))
    else:
        facts.append(("Knee", _point(report["knee"]) or "none was found"))
    if report["bounds"]:
        bounds = ", ".join(f"{name} {bound:g}" for name, bound in report["bounds"].items())
        facts.append(("Bounds", bounds))
        within = _point(report["largest_within_bounds"]) or "none, not even the lowest load"
        facts += [] if trace else [("Largest load inside them", within)]
    if binds:
        what = f"{binds['limit']} ({binds['certainty']}): {binds['evidence']}"
        facts += [
            (f"What binds at {binds['concurrency']}", what),
            ("To change it", binds["change"]),
        ]
    return facts


def _sweep_charts(steps: Sequence[Mapping[str, Any]], bounds: Mapping[str, float]) -> list[Lines]:
    """Return throughput over the load, then each latency that has a bound, or else two of them."""
    charts = [_by_load("Output tokens a second", steps, ["output_tok_per_s"])]
    if any("good_request_per_s" in step["metrics"] for step in steps):
        goodput = ["request_per_s", "good_request_per_s"]
        charts.append(_by_load("Requests a second, and those inside the bounds", steps, goodput))
    without: Mapping[str, float | None] = {"p99_ttft_ms": None, "p99_tpot_ms": None}
    latencies = bounds or without
    charts += [
        _by_load(_TITLES.get(name, name), steps, [name], bound) for name, bound in latencies.items()
    ]
    return [chart for chart in charts if chart]


def load_text(load: Mapping[str, Any]) -> str:
    """Return a load as a reader takes it, without its concurrency."""
    prefix = f" of which {load['prefix']} shared" if load["prefix"] else ""
    return f"{load['dataset']}, {load['input']} tokens in{prefix}, {load['output']} out"


def _point(point: Mapping[str, Any] | None) -> str:
    if not point:
        return ""
    told = f"{point['concurrency']} requests at once"
    if "output_tok_per_s" in point:
        told += f", {point['output_tok_per_s']:,.1f} output tokens a second"
    if "good_request_per_s" in point:
        told += f", {point['good_request_per_s']:.2f} good requests a second"
    return told


def _shown(metrics: Any) -> list[tuple[str, str]]:
    """Return the columns that any of several measurements fills."""
    known = {name for one in metrics for name in one}
    return [(title, metric) for title, metric in COLUMNS if metric in known]


def _by_load(
    title: str, steps: Sequence[Mapping[str, Any]], names: Sequence[str], bound: float | None = None
) -> Lines | None:
    series = []
    for name in names:
        points = [
            (step["concurrency"], step["metrics"][name])
            for step in steps
            if name in step["metrics"]
        ]
        if points:
            series.append(Series(_TITLES.get(name, name), points))
    if not series:
        return None
    says = f"From {steps[0]['concurrency']} to {steps[-1]['concurrency']} requests at once"
    says += f"; the bound is {bound:g}." if bound else "."
    return Lines(
        title,
        says,
        "requests at once",
        series[0].name,
        series,
        log_x=True,
        bound=(f"bound {bound:g}", bound) if bound else None,
    )


def soak(report: Report | None) -> dict[str, Any] | None:
    """Return what the newest soak came to: its findings, its windows and its plots."""
    if report is None:
        return None
    windows = report["windows"]
    charts = [
        _by_time(
            "Latency over the soak, a point for each window",
            "ms",
            {
                _TITLES[name].removesuffix(", ms"): [
                    (one["end"], one["metrics"][name]) for one in windows if name in one["metrics"]
                ]
                for name in ("median_ttft_ms", "p99_ttft_ms", "median_tpot_ms")
            },
        ),
        _by_time(
            "Throughput over the soak",
            "output tokens a second",
            {
                "Output tokens a second": [
                    (one["end"], one["metrics"]["output_tok_per_s"])
                    for one in windows
                    if "output_tok_per_s" in one["metrics"]
                ]
            },
        ),
        _by_time("Memory of the units on their hosts", "MiB", _memory(report["nodes"], _of_units)),
        _by_time(
            "Memory of the devices of each node", "MiB", _memory(report["nodes"], _of_devices)
        ),
    ]
    return {
        "time": report["time"],
        "setting": setting_of(report),
        "load": f"{load_text(report['scenario'])}, {report['scenario']['concurrency']} at once",
        "passed": report["passed"],
        "seconds": report["seconds"],
        "wanted": report["soak"]["duration"],
        "requests": report["requests"],
        "failed": report["failed"],
        "findings": report["findings"],
        "notes": report["notes"],
        "windows": windows,
        "titles": _shown(one["metrics"] for one in windows),
        "charts": [chart for chart in charts if chart],
    }


def _of_units(sample: Mapping[str, Any]) -> Mapping[str, float | None]:
    return {name: unit["memory_mb"] for name, unit in sample["units"].items()}


def _of_devices(sample: Mapping[str, Any]) -> Mapping[str, float | None]:
    known = [value for value in sample["devices"].values() if value is not None]
    return {"devices": sum(known)} if known else {}


def _memory(
    nodes: Mapping[str, Sequence[Mapping[str, Any]]],
    read: Callable[[Mapping[str, Any]], Mapping[str, float | None]],
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for host, samples in nodes.items():
        for sample in samples:
            for name, value in read(sample).items():
                if value is not None:
                    found.setdefault(f"{name} on {host}", []).append((sample["at"], value))
    return found


def _by_time(
    title: str, unit: str, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> Lines | None:
    series = [Series(name, points) for name, points in curves.items() if len(points) > 1]
    if not series:
        return None
    more = f" The first {CURVES} of {len(series)}." if len(series) > CURVES else ""
    return Lines(title, f"In {unit}.{more}", "time (UTC)", unit, series[:CURVES], times=True)


def accuracy(reports: Sequence[Report]) -> dict[str, Any] | None:
    """Return the newest scores, and a row for each set of each report, the newest first."""
    if not reports:
        return None
    last = reports[-1]
    return {
        "time": last["time"],
        "passed": last["passed"],
        "harness": last["harness"],
        "own_weights": not last["plan"]["model"]["format"],
        "sets": [_score(one) for one in last["sets"]],
        "earlier": [
            {"time": report["time"], **_score(one)}
            for report in reversed(reports)
            for one in report["sets"]
        ],
    }


def _score(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: one[key] for key in ("name", "title", "form", "status", "questions", "total")},
        "mark": _MARKS.get(one["status"], "unknown"),
        "right": one.get("right"),
        "score": one.get("score_percent"),
        "strict": one.get("strict_percent"),
        "interval": one.get("interval_percent"),
        "references": one["references"],
        "notes": one["notes"],
    }
