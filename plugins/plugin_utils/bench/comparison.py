# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured beside what is known, and what that may decide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import Target
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import (
    Run,
    medians,
    spread,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan, Scenario

# What of a setting has to be the same for figures to be compared.
DECIDING = ("recipe", "sizes", "weights", "devices", "through", "replicas")
# Whose weights a figure is of.
RECIPES_WEIGHTS, OTHER_WEIGHTS = "the recipe's", "others (muster_weights_gb)"
MET, BELOW, NO_FIGURE, NOT_COMPARED = "met", "below", "no figure", "not compared"

_HIGHER = re.compile(r"(input|output|total)_tok_per_s|request_per_s")
_LOWER = re.compile(r"(?:(mean|median|std|max|p[0-9.]+)_)?(ttft|tpot|itl|e2e)_ms")
# Where a source names no statistic, its throughput follows from these as means.
_UNNAMED = re.compile(r"(ttft|tpot|itl|e2e)_ms")
_NO_NAMES = "the node does not tell the names of its devices"
_SIZES = ("tensor", "data", "prefill_context")
_LOAD = ("dataset", "input", "output", "lengths", "prefix", "prefixes", "concurrency", "prompts")


class Reference(NamedTuple):
    """Figures to compare with.

    Fields:
        results: By metric.
        source: Whose they are.
        differences: Why what is measured here is not the same thing; empty where it is.
        orientation: Why they never decide; empty where they do.
    """

    results: Mapping[str, float]
    source: str
    differences: list[str]
    orientation: str = ""


def setting(plan: Plan, target: Target, devices: Sequence[str]) -> dict[str, Any]:
    """Return what a figure depends on besides its load, as reports keep it.

    Args:
        plan: The plan of one cluster.
        target: What is measured.
        devices: The names of the node's devices, as its tools tell them.
    """
    return {
        "recipe": plan["recipe"],
        "engine": f"{plan['engine']['name']} {plan['engine']['version']}",
        "sizes": plan["bench"]["sizes"],
        "weights": weights_of(plan),
        "devices": sorted(set(devices)),
        "through": target.through,
        "replicas": target.replicas,
    }


def weights_of(plan: Plan) -> str:
    """Return whose weights a plan serves; a lab's have no format."""
    return RECIPES_WEIGHTS if plan["model"]["format"] else OTHER_WEIGHTS


def published(one: Scenario, plan: Plan, here: Mapping[str, Any]) -> Reference:
    """Return a scenario's published figures, and in what this deployment differs from theirs."""
    sizes = {**plan["bench"]["recipe_sizes"], **_only_sizes(one.setup)}
    pattern = one.setup.get("device")
    names = [pattern] if pattern else plan["platform"]["device_names"]
    differences = []
    if here["sizes"] != sizes:
        differences.append(f"published for {_shape(sizes)}, and this is {_shape(here['sizes'])}")
    if not plan["model"]["format"]:
        differences.append("the weights are not the recipe's (muster_weights_gb)")
    if not here["devices"]:
        differences.append(_NO_NAMES)
    elif names:
        differences += [
            f"the devices are {device}, and the figure is of {' or '.join(names)}"
            for device in here["devices"]
            if not any(re.search(name, device) for name in names)
        ]
    if here["replicas"] > 1:
        differences.append(f"the load goes to {here['replicas']} replicas")
    return Reference(one.results, one.source, differences, one.orientation)


def _only_sizes(setup: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes that a source names; one that it leaves out is then 1."""
    given = {name: setup[name] for name in _SIZES if name in setup}
    return {name: given.get(name, 1) for name in _SIZES} if given else {}


def _shape(sizes: Mapping[str, int]) -> str:
    text = f"tensor {sizes['tensor']} x data {sizes['data']}"
    prefill = sizes["prefill_context"]
    return f"{text} x prefill context {prefill}" if prefill > 1 else text


def earlier(
    one: Scenario, report: Mapping[str, Any], here: Mapping[str, Any], name: str
) -> Reference | None:
    """Return an earlier run's figures of the same scenario, None where it has none.

    Args:
        one: The scenario.
        report: What bench wrote then.
        here: The setting now.
        name: The report's file.
    """
    found = next((old for old in report["scenarios"] if old["name"] == one.name), None)
    if found is None or not found.get("metrics") or found["status"] == NO_FIGURE:
        return None
    then = report["setting"]
    differences = [] if here["devices"] else [_NO_NAMES]
    differences += [
        f"{key}: then {_text(then.get(key))}, now {_text(here[key])}"
        for key in DECIDING
        if then.get(key) != here[key]
    ]
    if found["load"] != load_of(one):
        differences.append("the load had the same name and was another one")
    return Reference(found["metrics"], f"{name} of {report['time']}", differences)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == set(_SIZES):
        return _shape(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def load_of(one: Scenario) -> dict[str, Any]:
    """Return what tells one load from another."""
    return {name: getattr(one, name) for name in _LOAD}


def judge(
    one: Scenario, runs: Sequence[Run], reference: Reference | None, tolerance: float
) -> dict[str, Any]:
    """Return the verdict on one scenario.

    Args:
        one: The scenario.
        runs: Its repetitions.
        reference: What to compare with; None for nothing.
        tolerance: By how many percent a metric may be worse.

    Returns:
        status: met, below, no figure, or not compared.
        metrics: The medians of the repetitions; empty without a figure.
        rows: {metric, measured, spread_percent, reference, change_percent, status}, status being
            ok, better, worse, or shown where the metric decides nothing.
        notes: What to know of it.
        failures: What fails a gate.
    """
    problems = [text for run in runs for text in run.problems]
    notes = list(dict.fromkeys(text for run in runs for text in run.notes))
    if one.assumed and reference and reference.source == one.source:
        notes.append(f"not said by the source: {one.assumed}")
    if problems or not runs:
        told = list(dict.fromkeys(problems)) or ["it was not run"]
        failures = [f"{one.name}: {text}" for text in told]
        return _verdict(NO_FIGURE, {}, [], [*notes, *told], failures)
    metrics = medians(runs)
    results = reference.results if reference else {}
    decides = bool(reference and not (reference.differences or reference.orientation))
    if reference and results:
        notes += [f"another setting: {text}" for text in reference.differences]
        if reference.orientation:
            notes.append(f"for orientation: {reference.orientation}")
        notes += _other_prompts(metrics, results)
    rows = [
        {**row, "spread_percent": spread(runs, _measured_as(row["metric"]))}
        for row in rows_of(metrics, results, tolerance, decides)
    ]
    worse = [row for row in rows if row["status"] == "worse"]
    judged = any(row["status"] != "shown" for row in rows)
    failures = [
        f"{one.name}: {row['metric']} {row['measured']:g} against {row['reference']:g} "
        f"({row['change_percent']:+.1f} %, allowed {tolerance:g} %)"
        for row in worse
    ]
    status = (BELOW if worse else MET) if judged else NOT_COMPARED
    return _verdict(status, metrics, rows, notes, failures)


def _verdict(
    status: str,
    metrics: Mapping[str, float],
    rows: list[dict[str, Any]],
    notes: list[str],
    failures: list[str],
) -> dict[str, Any]:
    return {
        "status": status,
        "metrics": dict(metrics),
        "rows": rows,
        "notes": notes,
        "failures": failures,
    }


def rows_of(
    metrics: Mapping[str, float],
    results: Mapping[str, float],
    tolerance: float,
    decides: bool = True,
) -> list[dict[str, Any]]:
    """Return a row for each published metric that was measured."""
    rows = []
    for name, reference in results.items():
        measured = metrics.get(_measured_as(name))
        if measured is None:
            continue
        change = 100 * (measured - reference) / reference if reference else None
        rows.append(
            {
                "metric": name,
                "measured": measured,
                "reference": reference,
                "change_percent": None if change is None else round(change, 2),
                "status": _status(change, _sign(name, results) if decides else 0, tolerance),
            }
        )
    return rows


def _measured_as(name: str) -> str:
    return f"mean_{name}" if _UNNAMED.fullmatch(name) else name


def _sign(name: str, results: Mapping[str, float]) -> int:
    """Return 1 where more is better, -1 where less is, 0 where a metric decides nothing.

    Tails of few requests are chance, and a mean holds the first requests' warm-up where there is a
    median to go by.
    """
    if _HIGHER.fullmatch(name):
        return 1
    found = _LOWER.fullmatch(name)
    if not found or found[1] not in (None, "mean", "median"):
        return 0
    return 0 if found[1] == "mean" and f"median_{found[2]}_ms" in results else -1


def _status(change: float | None, sign: int, tolerance: float) -> str:
    if change is None or sign == 0:
        return "shown"
    gain = change * sign
    # A measured value on the very bound is within it, whatever its binary form.
    if gain < -tolerance - 1e-9:
        return "worse"
    return "better" if gain > tolerance + 1e-9 else "ok"


def _other_prompts(metrics: Mapping[str, float], results: Mapping[str, float]) -> list[str]:
    """Return a note where the client drew other lengths than the source's did."""
    told = []
    for name, what in (
        ("total_input_tokens", "prompts of"),
        ("total_generated_tokens", "answers of"),
    ):
        then, now = results.get(name), metrics.get(name)
        if then and now is not None and abs(now - then) > 0.03 * then:
            told.append(f"{what} {now:.0f} tokens in all, and the source's had {then:.0f}")
    return told
