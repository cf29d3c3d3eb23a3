# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as tables and plots of a page. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench import comparison
from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import (
    CURVES,
    Bars,
    Lines,
    Series,
)

Report = Mapping[str, Any]

# In this order, of a load without figures to compare with.
_SHOWN = (
    *("output_tok_per_s", "total_tok_per_s", "request_per_s", "median_ttft_ms", "p99_ttft_ms"),
    *("median_tpot_ms", "p99_tpot_ms", "median_e2e_ms", "prefix_hit_rate_percent"),
)
MARKS = {
    comparison.MET: "ok",
    comparison.BELOW: "failed",
    comparison.NO_FIGURE: "failed",
    comparison.NOT_COMPARED: "unknown",
}
_ROWS = {
    "ok": ("ok", "within the tolerance"),
    "better": ("ok", "better"),
    "worse": ("failed", "worse"),
    "shown": ("unknown", "decides nothing"),
}
_THROUGHPUT = "output_tok_per_s"


def bench(reports: Sequence[Report]) -> dict[str, Any] | None:
    """Return the newest measurement of each load in the newest report's setting, and its plots.

    Args:
        reports: What bench has written, the newest last.
    """
    if not reports:
        return None
    last = reports[-1]
    alike = [one for one in reports if one is last or not _differing(one, last)]
    scenarios: dict[str, dict[str, Any]] = {}
    for report in alike:
        for one in report["scenarios"]:
            # Where the newest attempt has no figure, that is what there is to know.
            scenarios[one["name"]] = {**one, "time": report["time"]}
    shown = [_scenario(one) for one in scenarios.values()]
    return {
        "time": last["time"],
        "setting": setting_of(last),
        "tolerance": last["tolerance_percent"],
        "repetitions": last["repetitions"],
        "baseline": last["baseline"],
        "own_weights": last["setting"]["weights"] != comparison.RECIPES_WEIGHTS,
        "scenarios": shown,
        "refused": last["refused"],
        "charts": [
            chart
            for chart in (
                _against_reference(list(scenarios.values()), last["tolerance_percent"]),
                *_by_concurrency(list(scenarios.values())),
            )
            if chart
        ],
        "earlier": _earlier(reports, last),
        "trend": _trend(alike, {name: one["load"] for name, one in scenarios.items()}),
    }


def _differing(report: Report, last: Report) -> list[str]:
    """Return in what two settings differ that decides; devices without names are never the same."""
    here, then = last["setting"], report["setting"]
    differing = [key for key in comparison.DECIDING if here[key] != then[key]]
    return differing if here["devices"] else list(dict.fromkeys([*differing, "devices"]))


def setting_of(report: Report) -> list[tuple[str, str]]:
    """Return what a report's figures depend on besides the load, as names and words."""
    here = report["setting"]
    sizes = here["sizes"]
    return [
        ("Recipe", f"{here['recipe']} ({report['plan']['variant']})"),
        ("Engine", here["engine"]),
        ("Devices", ", ".join(here["devices"]) or "their names are not told"),
        ("Driver", report["driver"] or "not told"),
        ("Parallelism", ", ".join(f"{name} {size}" for name, size in sizes.items())),
        ("Weights", here["weights"]),
        ("Load goes through", f"{here['through']}, {here['replicas']} replica(s)"),
        ("Prefix cache", "on" if report["prefix_caching"] else "off"),
        ("Client", report["client"]["host"]),
    ]


def _scenario(one: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {**row, "mark": _ROWS[row["status"]][0], "word": _ROWS[row["status"]][1]}
        for row in one["rows"]
    ]
    told = {row["metric"] for row in rows}
    return {
        **{key: one[key] for key in ("name", "title", "time", "status", "source", "notes")},
        "mark": MARKS[one["status"]],
        "load": one["load"],
        "compared": one["status"] in (comparison.MET, comparison.BELOW),
        "rows": rows,
        "others": [
            (name, one["metrics"][name])
            for name in _SHOWN
            if name in one["metrics"] and name not in told
        ],
    }


def _against_reference(scenarios: Sequence[Mapping[str, Any]], tolerance: float) -> Bars | None:
    """Return what may be compared, each metric in percent of its reference."""
    bars = [
        (
            f"{one['name']}  {row['metric']}",
            100 * row["measured"] / row["reference"],
            f"{100 * row['measured'] / row['reference'] - 100:+.1f} % ({_ROWS[row['status']][1]})",
        )
        for one in scenarios
        for row in one["rows"]
        if row["status"] != "shown" and row["reference"]
    ]
    if not bars:
        return None
    return Bars(
        "Measured, in percent of the reference",
        f"The line is the reference, the band around it the tolerance of {tolerance:g} %. More is "
        "better of tok_per_s and request_per_s, less of ms.",
        "percent of the reference",
        bars,
        (100, tolerance),
    )


def _by_concurrency(scenarios: Sequence[Mapping[str, Any]]) -> list[Lines]:
    """Return throughput over concurrency, of loads that differ in nothing else."""
    families: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one in scenarios:
        load = one["load"]
        if load["concurrency"] and _THROUGHPUT in one["metrics"]:
            key = (load["dataset"], load["input"], load["output"], load["prefix"])
            families.setdefault(key, []).append(one)
    charts = []
    for (dataset, before, after, _prefix), members in families.items():
        points = sorted(
            (one["load"]["concurrency"], one["metrics"][_THROUGHPUT]) for one in members
        )
        if len(points) < 2:
            continue
        references = sorted(
            (one["load"]["concurrency"], row["reference"])
            for one in members
            for row in one["rows"]
            if row["metric"] == _THROUGHPUT and row["status"] != "shown"
        )
        series = [Series("measured", points)]
        if references:
            series.append(Series("reference of the same setting", references, reference=True))
        charts.append(
            Lines(
                f"Output tokens a second, {dataset} {before} in, {after} out",
                f"From {points[0][1]:.4g} at {points[0][0]} at once to {points[-1][1]:.4g} at "
                f"{points[-1][0]}.",
                "requests at once",
                "output tokens a second",
                series,
                log_x=True,
            )
        )
    return charts


def _earlier(reports: Sequence[Report], last: Report) -> list[dict[str, Any]]:
    """Return a row for each load of each report, the newest first."""
    return [
        {
            "time": report["time"],
            "name": one["name"],
            "status": one["status"],
            "mark": MARKS[one["status"]],
            "output": one["metrics"].get(_THROUGHPUT),
            "ttft": _typical(one["metrics"], "ttft_ms"),
            "tpot": _typical(one["metrics"], "tpot_ms"),
            "differs": [] if report is last else _differing(report, last),
        }
        for report in reversed(reports)
        for one in report["scenarios"]
    ]


def _typical(metrics: Mapping[str, float], name: str) -> tuple[float | None, str]:
    """Return a time's median, or its mean where no median is known, and which of them it is."""
    for statistic in ("median", "mean"):
        if f"{statistic}_{name}" in metrics:
            return metrics[f"{statistic}_{name}"], statistic
    return None, ""


def _trend(reports: Sequence[Report], loads: Mapping[str, Any]) -> Lines | None:
    """Return the throughput of each load over time, in one setting.

    Args:
        reports: Those of this setting, the newest last.
        loads: By name, the newest load; another one of its name is another curve's.
    """
    by_load: dict[str, list[tuple[float, float]]] = {}
    for report in reports:
        for one in report["scenarios"]:
            if _THROUGHPUT in one["metrics"] and one["load"] == loads[one["name"]]:
                point = (seconds_of(report["time"]), one["metrics"][_THROUGHPUT])
                by_load.setdefault(one["name"], []).append(point)
    series = [Series(name, points) for name, points in by_load.items() if len(points) > 1]
    if not series:
        return None
    more = f" The first {CURVES} of {len(series)} loads." if len(series) > CURVES else ""
    return Lines(
        "Output tokens a second, run by run",
        f"Runs of the same setting alone.{more}",
        "time (UTC)",
        "output tokens a second",
        series[:CURVES],
        times=True,
    )


def seconds_of(time: str) -> float:
    """Return a time in ISO form as seconds since 1970."""
    return datetime.datetime.fromisoformat(time).timestamp()
