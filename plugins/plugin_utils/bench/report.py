# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bench found, as a report for scripts and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench import comparison
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import digest
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import Run, run_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan, Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns

SCHEMA = 1
# Shown of a load without figures to compare with, in this order.
_SHOWN = (
    *("output_tok_per_s", "total_tok_per_s", "request_per_s"),
    *("mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "median_tpot_ms"),
    *("p99_tpot_ms", "median_e2e_ms", "prefix_hit_rate_percent"),
)
_MARKS = {"worse": "WORSE", "better": "better", "ok": "ok", "shown": ""}


def report_of(
    plan: Plan,
    made: Mapping[str, Any],
    done: Mapping[str, Any],
    devices: Mapping[str, Any],
    tolerance: float,
    baseline: tuple[str, Mapping[str, Any]] | None,
    time: str,
) -> dict[str, Any]:
    """Return all that was found, and all that is needed to find it again.

    Args:
        plan: The plan of one cluster.
        made: What bench was going to do (runs.runs_of).
        done: {runs, image_id, image_digests}: by run, in order, what the node returned of it.
        devices: {names, driver} of the node's devices.
        tolerance: By how many percent a metric may be worse.
        baseline: The name of an earlier report and what it holds; None for the published figures.
        time: When it ended, in ISO form.
    """
    about = about_of(plan, made, done, devices, time)
    here = about["setting"]
    scenarios = [
        _scenario(entry, plan, made, done, here, tolerance, baseline) for entry in made["scenarios"]
    ]
    failures = [text for one in scenarios for text in one.pop("failures")]
    compared = [one for one in scenarios if one["status"] in (comparison.MET, comparison.BELOW)]
    return {
        **about,
        "passed": not failures,
        "compared": len(compared),
        "failures": failures,
        "tolerance_percent": tolerance,
        "baseline": baseline[0] if baseline else None,
        "warm_up": made["warm_up"],
        "repetitions": made["repetitions"],
        "refused": made["refused"],
        "scenarios": scenarios,
    }


def about_of(
    plan: Plan,
    made: Mapping[str, Any],
    client: Mapping[str, Any],
    devices: Mapping[str, Any],
    time: str,
) -> dict[str, Any]:
    """Return what every report of a load begins with: what was loaded, by what, and when.

    Args:
        plan: The plan of one cluster.
        made: What was going to be done (runs.runs_of).
        client: {image_id, image_digests} of the client's image.
        devices: {names, driver} of the node's devices.
        time: When it ended, in ISO form.
    """
    target = target_made(plan, made)
    return {
        "schema": SCHEMA,
        "time": time,
        "deployment": plan["deployment"],
        "plan": {
            "digest": digest(plan),
            **{key: plan[key] for key in ("muster", "recipe", "variant", "evidence", "engine")},
            "model": plan["model"],
        },
        "setting": comparison.setting(plan, target, devices["names"]),
        "driver": devices["driver"],
        "prefix_caching": plan["bench"]["prefix_caching"],
        "context": plan["bench"]["context"],
        "max_num_seqs": plan["bench"]["max_num_seqs"],
        "target": {key: made["target"][key] for key in ("url", "through", "replicas", "head")},
        "client": {
            "host": made["client_host"],
            "image": made["client"]["image"],
            "image_id": client.get("image_id"),
            "image_digests": client.get("image_digests"),
        },
        "engine_argv": target.unit["argv"],
    }


def _scenario(
    entry: Mapping[str, Any],
    plan: Plan,
    made: Mapping[str, Any],
    done: Mapping[str, Any],
    here: Mapping[str, Any],
    tolerance: float,
    baseline: tuple[str, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    one = scenario_of(entry)
    pairs = [
        (run, ended)
        for run, ended in zip(made["runs"], done["runs"], strict=True)
        if run["scenario"] == one.name and ended is not None
    ]
    kept = [(run, ended) for run, ended in pairs if run["repetition"]]
    runs = [run_of(one, run["seed"], ended) for run, ended in kept]
    if len(runs) < made["repetitions"]:
        # The warm-up failed, and nothing was measured after it.
        runs += [
            Run(run["seed"], {}, [f"warm-up: {text}" for text in _warm_up_problems(one, ended)], [])
            for run, ended in pairs
            if not run["repetition"]
        ]
    reference = comparison.published(one, plan, here) if one.source else None
    if baseline:
        reference = comparison.earlier(one, baseline[1], here, baseline[0])
    verdict = comparison.judge(one, runs, reference, tolerance)
    verdict["notes"] += entry["cautions"]
    return {
        "name": one.name,
        "title": one.title,
        "source": reference.source if reference else None,
        "load": comparison.load_of(one),
        **verdict,
        "runs": [
            {
                "repetition": run["repetition"],
                "seed": run["seed"],
                "argv": run["argv"],
                "seconds": ended["seconds"],
                "rc": ended.get("rc"),
                "problems": judged.problems,
                "metrics": judged.metrics,
                "cache_before": ended.get("cache_before"),
                "cache_after": ended.get("cache_after"),
                "raw": ended.get("raw"),
                "log": ended.get("log") if judged.problems else None,
            }
            for (run, ended), judged in zip(kept, runs, strict=False)
        ],
    }


def _warm_up_problems(one: Scenario, ended: Mapping[str, Any]) -> list[str]:
    return run_of(one, 0, ended).problems or ["it failed"]


def gate_failures(report: Mapping[str, Any]) -> list[str]:
    """Return why a gate does not open: what failed, or that nothing was compared."""
    if report["failures"] or report["compared"]:
        return list(report["failures"])
    why = [f"{one['name']}: {note}" for one in report["scenarios"] for note in one["notes"]]
    return [
        "nothing was compared with a figure of the same setting: name scenarios that have one, or "
        "an earlier report of this cluster in bench_baseline",
        *why,
    ]


def tables(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the report as blocks for a terminal, each with the status that it tells of."""
    blocks = [(heading(report), "")]
    for one in report["scenarios"]:
        lines = [f"{one['name']}: {one['status']}. {one['title']}"]
        rows = _rows(one)
        lines += columns(rows) if len(rows) > 1 else []
        if one["source"] and one["rows"]:
            lines.append(f"  reference: {one['source']}")
        lines += [f"  {note}" for note in one["notes"]]
        blocks.append(("\n".join(lines), one["status"]))
    return blocks


def heading(report: Mapping[str, Any]) -> str:
    """Return the line over the tables of any report."""
    here = report["setting"]
    names = ", ".join(here["devices"]) or "devices unknown"
    return (
        f"{report['deployment']}: {here['recipe']} ({report['plan']['variant']}), "
        f"{here['engine']}, {names}, {report['target']['url']}"
    )


def _rows(one: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("METRIC", "MEASURED", "SPREAD", "REFERENCE", "CHANGE", "")]
    for row in one["rows"]:
        change, spread = row["change_percent"], row["spread_percent"]
        rows.append(
            (
                row["metric"],
                f"{row['measured']:.2f}",
                "" if spread is None else f"{spread:.1f} %",
                f"{row['reference']:g}",
                "" if change is None else f"{change:+.1f} %",
                _MARKS[row["status"]],
            )
        )
    told = {row["metric"] for row in one["rows"]}
    if not told:
        rows += [
            (name, f"{one['metrics'][name]:.2f}", "", "", "", "")
            for name in _SHOWN
            if name in one["metrics"]
        ]
    return rows


def check_baseline(name: str, value: Any) -> tuple[str, Mapping[str, Any]]:
    """Return an earlier report to compare with.

    Raises:
        PlanError: It is no report of bench.
    """
    keys = {"time", "setting", "scenarios"}
    if not isinstance(value, dict) or not keys <= set(value) or value.get("schema") != SCHEMA:
        raise PlanError([f"bench_baseline: {name} is no report of bench (bench-*.json)"])
    return name, value
