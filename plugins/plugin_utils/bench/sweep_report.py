# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep found, as a report for scripts and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench.binding import (
    limit_of,
    summary_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.comparison import load_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import run_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import (
    about_of,
    heading,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import scenario_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan, Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep import (
    BROKEN,
    FAILED,
    MOST_REACHED,
    SATURATED,
    Limits,
    Step,
    broken_bounds,
    end_of,
    knee_of,
    largest_within,
    limiting,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns

THROUGHPUT = "output_tok_per_s"
NO_RESULT = "no result"
REPLAYED = "replayed"
# What a point of the sweep is told with.
_POINT = ("concurrency", THROUGHPUT, "total_tok_per_s", "request_per_s", "good_request_per_s")
_SHOWN = (
    ("OUTPUT TOK/S", THROUGHPUT),
    ("REQUESTS/S", "request_per_s"),
    ("GOOD/S", "good_request_per_s"),
    ("MEDIAN TTFT", "median_ttft_ms"),
    ("P99 TTFT", "p99_ttft_ms"),
    ("MEDIAN TPOT", "median_tpot_ms"),
    ("P99 TPOT", "p99_tpot_ms"),
)


def step_of(
    one: Scenario, run: Mapping[str, Any], ended: Mapping[str, Any], bounds: Mapping[str, float]
) -> dict[str, Any]:
    """Return one step of a sweep as the report has it.

    Args:
        one: The load of the step.
        run: The client's run (runs.run_of_client).
        ended: What the node returned of it; with notes where its client has some.
        bounds: The operator's bounds by metric.

    Raises:
        PlanError: The client does not tell a metric that has a bound.
    """
    judged = run_of(one, one.seed, ended)
    return {
        "concurrency": one.concurrency,
        # A load whose time was up has fewer.
        "requests": (ended["raw"] or {}).get("requests", one.requests),
        "seed": one.seed,
        "argv": run["argv"],
        "seconds": ended["seconds"],
        "metrics": judged.metrics,
        "broken": broken_bounds(judged.metrics, judged.problems, bounds),
        "problems": judged.problems,
        "notes": judged.notes + ended.get("notes", []),
        "engine": summary_of(ended["samples"]),
        "samples": ended["samples"],
        "raw": ended["raw"],
        "log": ended["log"] if judged.problems else None,
    }


def decided(steps: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Return of steps what decides how a sweep goes on."""
    return [
        Step(
            step["concurrency"],
            0.0 if step["problems"] else step["metrics"].get(THROUGHPUT, 0.0),
            step["broken"],
            bool(step["problems"]),
        )
        for step in steps
    ]


def sweep_report(
    plan: Plan,
    made: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    limits: Limits,
    bounds: Mapping[str, float],
    client: Mapping[str, Any],
    devices: Mapping[str, Any],
    time: str,
    guidellm: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all that was found, and all that is needed to find it again.

    Args:
        plan: The plan of one cluster.
        made: What was going to be done (runs.runs_of).
        steps: Its steps (step_of), in the order in which they were measured.
        limits: Within what it stayed.
        bounds: The operator's bounds by metric.
        client: {image_id, image_digests} of the client's image.
        devices: {names, driver} of the node's devices.
        time: When it ended, in ISO form.
        guidellm: {version, venv, trace, seconds, report, page} of GuideLLM; None for the engine's
            client. With a trace there is one step.
    """
    seen = decided(steps)
    trace = _trace(guidellm)
    by_load = {step["concurrency"]: step for step in steps}
    failed = not any(step["raw"] for step in steps[-1:])
    ended = NO_RESULT if failed else end_of(seen, limits)
    if trace and ended == MOST_REACHED:
        ended = REPLAYED
    within = largest_within(seen) if bounds and not trace else None
    at = limiting(seen)
    binds = None
    # Where throughput still grows, no limit has been met.
    if at is not None and ended in (SATURATED, BROKEN):
        binds = {
            "concurrency": at,
            **limit_of(by_load[at]["samples"], at, plan, made["target"]["replicas"]),
        }
    return {
        **about_of(plan, made, client, devices, time),
        "kind": "sweep",
        "scenario": load_of(scenario_of(made["scenarios"][0])),
        "guidellm": guidellm,
        "bounds": dict(bounds),
        "limits": limits._asdict(),
        "ended": ended,
        "knee": _point(by_load, None if failed else knee_of(seen, limits)),
        "best": _point(by_load, max(seen, key=lambda one: one.throughput).concurrency),
        "largest_within_bounds": _point(by_load, within),
        "binds": binds,
        "steps": list(steps),
    }


def _point(
    by_load: Mapping[int, Mapping[str, Any]], concurrency: int | None
) -> dict[str, Any] | None:
    if concurrency is None:
        return None
    # Clients tell how many were under way in the mean by the same name.
    found = {**by_load[concurrency]["metrics"], "concurrency": concurrency}
    return {name: found[name] for name in _POINT if name in found}


def sweep_text(report: Mapping[str, Any]) -> str:
    """Return a report for a terminal."""
    names = list(dict.fromkeys([*report["bounds"], *(name for _title, name in _SHOWN)]))
    titles = {name: title for title, name in _SHOWN}
    steps = sorted(report["steps"], key=lambda one: one["concurrency"])
    shown = [name for name in names if any(name in step["metrics"] for step in steps)]
    heads = [titles.get(name, name.removesuffix("_ms").replace("_", " ").upper()) for name in shown]
    rows = [["AT ONCE", *heads, "RUN", "WAIT", "KV", ""]]
    for step in steps:
        engine = step["engine"] or {}
        usage = engine.get("kv_usage_max")
        rows.append(
            [
                str(step["concurrency"]),
                *(_number(step["metrics"].get(name)) for name in shown),
                _number(engine.get("running_mean")),
                _number(engine.get("waiting_mean")),
                "-" if usage is None else f"{usage:.0%}",
                "; ".join(step["broken"]),
            ]
        )
    lines = verdict(report)
    for step in steps:
        lines += [f"At {step['concurrency']}: {note.rstrip('.')}." for note in step["notes"]]
    return "\n".join([heading(report), *columns(rows), *(f"  {line}" for line in lines)])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def verdict(report: Mapping[str, Any]) -> list[str]:
    """Return what a sweep comes to, a line each."""
    binds = report["binds"]
    lines = [_of_trace(report)] if _trace(report["guidellm"]) else _of_loads(report)
    if binds:
        lines.append(
            f"What binds at {binds['concurrency']}: {binds['limit']} ({binds['certainty']}): "
            f"{binds['evidence']}."
        )
        lines.append(f"To change it: {binds['change']}.")
    return lines


def _of_loads(report: Mapping[str, Any]) -> list[str]:
    knee, within = report["knee"], report["largest_within_bounds"]
    gain, most = report["limits"]["gain"], report["limits"]["most"]
    last = max(step["concurrency"] for step in report["steps"])
    problem = next((text for step in report["steps"] for text in step["problems"]), "")
    lines = [
        {
            SATURATED: f"Throughput is saturated: twice the load gives less than {gain:g} % more.",
            BROKEN: "A bound breaks before the highest load.",
            FAILED: f"Loads above these gave no figure: {problem}",
            MOST_REACHED: f"Throughput still grows at {last} requests at once, the highest load "
            f"that was asked for (bench_most {most}).",
            NO_RESULT: "The client gave no result: the sweep ended early.",
        }[report["ended"]]
    ]
    if knee:
        lines.append(f"Knee: {_told(knee)}.")
    if report["bounds"]:
        lines.append(
            f"Largest load inside the bounds: {_told(within)}."
            if within
            else "No load is inside the bounds, not even the lowest."
        )
    return lines


def _of_trace(report: Mapping[str, Any]) -> str:
    (step,) = report["steps"]
    path = report["guidellm"]["trace"]["path"]
    if step["problems"]:
        return f"The trace {path} gave no figure: {'; '.join(step['problems'])}"
    kept = " It breaks a bound." if step["broken"] else " It keeps the bounds."
    return (
        f"Of the trace {path} {step['requests']} requests were answered, {step['concurrency']} at "
        f"once in the mean.{kept if report['bounds'] else ''}"
    )


def _trace(guidellm: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the trace that was replayed in place of a sweep; None for a sweep."""
    return guidellm["trace"] if guidellm else None


def _told(point: Mapping[str, Any]) -> str:
    text = f"{point['concurrency']} requests at once, {point[THROUGHPUT]:.1f} tokens/s of answers"
    if "request_per_s" in point:
        text += f", {point['request_per_s']:.2f} requests/s"
    if "good_request_per_s" in point:
        text += f", {point['good_request_per_s']:.2f} of them good"
    return text
