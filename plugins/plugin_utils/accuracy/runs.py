# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which data sets a run asks, how, and about how long; decided before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import SETS
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import duration
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

Plan = Mapping[str, Any]

HARNESS = "lm-evaluation-harness"
# An answer shorter than this is none of a model that thinks.
_LEAST_TOKENS = 512


class Wish(NamedTuple):
    """What an operator asks for; the options of muster.serving.accuracy_plan have the words."""

    sets: Sequence[str]
    data: Mapping[str, Any]
    hosts: Sequence[str]
    hub: bool = False
    full: bool = False
    samples: int | None = None
    seed: int = 1234
    concurrency: int = 32
    max_tokens: int | None = None
    sampling: Mapping[str, Any] | None = None
    replica: int | None = None
    references: Mapping[str, float] = {}
    tolerance: float = 2.0


def runs_of(plan: Plan, wish: Wish) -> dict[str, Any]:
    """Return all that a run is going to ask.

    Args:
        plan: The plan of one cluster.
        wish: What is asked for; its data as the module accuracy_data returns it.

    Raises:
        PlanError: It cannot run, for want of data or otherwise, with every reason at once.
    """
    errors = [*_contradictions(wish), *_missing(wish)]
    url, units = target_of(plan, wish)
    entries = []
    for name in dict.fromkeys(wish.sets):
        room = plan["bench"]["context"] - SETS[name].prompt_tokens
        if wish.max_tokens is None and room < _LEAST_TOKENS:
            errors.append(
                f"{name}: prompts take up to {SETS[name].prompt_tokens} tokens, and the deployment "
                f"{plan['bench']['context']} with the answer: give it a longer context, or say how "
                "long answers may be (accuracy_max_tokens)"
            )
        entries.append(
            _entry(plan, wish, name, wish.max_tokens or min(SETS[name].max_tokens, room))
        )
    if errors:
        raise PlanError(["accuracy asks nothing:", *(f"- {text}" for text in errors)])
    hosts = dict.fromkeys(unit["host"] for unit in units)
    return {
        "deployment": plan["deployment"],
        "model": plan["endpoint"]["model"],
        "url": url,
        "seed": wish.seed,
        "concurrency": wish.concurrency,
        "measured": [unit["name"] for unit in units],
        "units": {host: [unit for unit in plan["units"] if unit["host"] == host] for host in hosts},
        "sets": entries,
    }


def _contradictions(wish: Wish) -> list[str]:
    errors = []
    if not wish.sets:
        errors.append("accuracy_sets names no data set")
    if wish.full and wish.samples:
        errors.append("accuracy_full asks all questions, and accuracy_samples some: take one")
    for name in ("samples", "concurrency", "max_tokens"):
        value = getattr(wish, name)
        if value is not None and value < 1:
            errors.append(f"accuracy_{name} has to be 1 or more")
    if wish.tolerance < 0:
        errors.append("accuracy_tolerance has to be 0 or more percentage points")
    for name, percent in wish.references.items():
        if name not in SETS:
            errors.append(f"accuracy_references: {name} is none of {', '.join(SETS)}")
        elif not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
            errors.append(f"accuracy_references: {name} has to be 0 to 100 percent")
    return errors


def _missing(wish: Wish) -> list[str]:
    """Return what is missing of the data, and what to put where."""
    errors = []
    for name in dict.fromkeys(wish.sets):
        found = wish.data[name]
        if not found["problems"] or (wish.hub and not found["files"]):
            continue
        errors += [f"{name}: {text}" for text in found["problems"]]
    if any(not wish.data[name]["files"] for name in wish.sets) and errors:
        errors.append(
            "files go below the folder of accuracy_data on the harness's host; or set "
            "accuracy_hub=true where that host reaches the hub"
        )
    return errors


def target_of(plan: Plan, wish: Wish) -> tuple[str, list[Any]]:
    """Return the API that is asked, and the units behind it.

    It is the gateway's where the run has the whole cluster, and a replica's otherwise.

    Raises:
        PlanError: The run does not have such a replica whole.
    """
    replicas = {one["index"]: one for one in plan["replicas"]}
    everywhere = {unit["host"] for unit in plan["units"]}
    if wish.replica is None and plan["gateway"] and everywhere <= set(wish.hosts):
        return plan["endpoint"]["url"], list(plan["units"])
    whole = [index for index, one in replicas.items() if set(one["hosts"]) <= set(wish.hosts)]
    if wish.replica is not None and wish.replica not in whole:
        known = ", ".join(map(str, replicas))
        raise PlanError(
            [
                f"accuracy_replica: the run does not have replica {wish.replica} whole (the "
                f"cluster's are {known}): widen -l to its hosts"
            ]
        )
    if not whole:
        raise PlanError(["accuracy: the run has no replica whole: widen -l to its hosts"])
    index = whole[0] if wish.replica is None else wish.replica
    units = [unit for unit in plan["units"] if unit["replica"] == index]
    return replicas[index]["url"], [unit for unit in units if unit["role"] != "gateway"]


def _entry(plan: Plan, wish: Wish, name: str, max_tokens: int) -> dict[str, Any]:
    """Return how one data set is asked."""
    one, found = SETS[name], wish.data[name]
    total = found["rows"] or one.size
    asked = total if wish.full else min(wish.samples or one.quick, total)
    tokens = asked * min(one.answer_tokens, max_tokens)
    speed = _speed(plan, min(wish.concurrency, asked))
    sampling = plan["bench"]["sampling"] if wish.sampling is None else wish.sampling
    return {
        "name": name,
        "title": one.title,
        "form": one.form,
        "shots": one.shots,
        "total": total,
        "samples": None if wish.full else asked,
        "questions": asked,
        "files": found["files"],
        "source": ", ".join(found["files"].values()) or f"{one.hub[0]} of the hub",
        "sampling": {**sampling, "max_gen_toks": max_tokens},
        "tokens": tokens,
        "expected_s": round(tokens / speed) if speed else None,
        "references": references_of(plan, name, wish.references),
    }


def _speed(plan: Plan, concurrency: int) -> float | None:
    """Return the published tokens per second of the load nearest below so many requests at once."""
    known = [
        (figure["run"]["concurrency"], figure["results"]["output_tok_per_s"])
        for figure in plan["bench"]["figures"]
        if "run" in figure and "output_tok_per_s" in figure["results"]
    ]
    fitting = [one for one in known if one[0] <= concurrency] or known
    return max(fitting)[1] if fitting else None


def references_of(plan: Plan, name: str, own: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what a score stands beside.

    Returns:
        percent: The score.
        source: Whose it is.
        differences: Why it decides nothing here; empty where it does.
    """
    found: list[dict[str, Any]] = []
    if name in own:
        expected = float(own[name])
        found.append({"percent": expected, "source": "accuracy_references", "differences": []})
    for figure in plan["bench"]["figures"]:
        known = figure.get("accuracy")
        if known and known["set"] == name:
            found.append(
                {
                    "percent": figure["results"]["score_percent"],
                    "source": f"{figure['source']}: {figure['scenario']}",
                    "differences": _differences(plan, name, known),
                }
            )
    return found


def _differences(plan: Plan, name: str, known: Mapping[str, Any]) -> list[str]:
    told = []
    if known["harness"] != HARNESS or known["form"] != SETS[name].form:
        told.append(f"asked by {known['harness']} ({known['form']})")
    if not plan["model"]["format"]:
        told.append("the weights are not the recipe's (muster_weights_gb), as in a lab")
    elif known["model"] != plan["model"]["id"]:
        told.append(f"of {known['model']}, and this is {plan['model']['id']}")
    return told


def announcement(made: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of what will be asked, its heading first."""
    rows: list[tuple[str, ...]] = [("DATA SET", "QUESTIONS", "OF", "PROMPT", "TOKENS", "ABOUT")]
    for one in made["sets"]:
        expected = one["expected_s"]
        rows.append(
            (
                one["name"],
                str(one["questions"]),
                str(one["total"]),
                one["form"],
                f"some {_rounded(one['tokens'])}",
                duration(expected) if expected else "-",
            )
        )
    return rows


def _rounded(tokens: int) -> str:
    return f"{tokens / 1e6:.1f} million" if tokens >= 950_000 else f"{max(1, round(tokens / 1e3))}k"
