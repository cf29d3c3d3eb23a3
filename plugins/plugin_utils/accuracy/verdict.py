# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run came to, beside its references: as a report for scripts and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import FLEXIBLE, STRICT
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.chance import (
    CONFIDENCE,
    interval,
)
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.runs import HARNESS
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import digest
from ansible_collections.muster.serving.plugins.plugin_utils.bench.comparison import (
    BELOW,
    MET,
    NO_FIGURE,
    NOT_COMPARED,
    OTHER_WEIGHTS,
    weights_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns

SCHEMA = 1
UNCLEAR = "unclear"
# From this share on, answers that cannot be read say more of the run than of the model.
_MANY = 0.05


def status_of(right: int, total: int, reference: float, tolerance: float) -> str:
    """Return how a score stands to a reference: met, below, or unclear where chance may be why.

    Args:
        right: How many answers were right.
        total: How many questions were asked.
        reference: The score to reach, in percent.
        tolerance: How many percentage points it may be worse.
    """
    bound = (reference - tolerance) / 100
    if right / total >= bound - 1e-9:
        return MET
    # Only where even the best share that fits with the answers falls short, it is the model.
    return BELOW if interval(right, total)[1] < bound else UNCLEAR


def judge(
    entry: Mapping[str, Any], ended: Mapping[str, Any], seed: int, tolerance: float
) -> dict[str, Any]:
    """Return the verdict on one data set.

    Args:
        entry: How it was asked (runs.runs_of).
        ended: How its run ended: result, problem, log, kept, seconds.
        seed: What drew its questions.
        tolerance: How many percentage points a score may be worse than its reference.
    """
    result = ended.get("result")
    about = {
        **{name: entry[name] for name in ("name", "title", "form", "shots", "total", "source")},
        "sampling": entry["sampling"],
        "seed": seed,
        "seconds": ended.get("seconds"),
        "answers": ended.get("kept"),
    }
    if not result:
        problem = ended.get("problem") or "it was not run"
        return {
            **about,
            "status": NO_FIGURE,
            "questions": 0,
            "references": [],
            "notes": [problem, *(ended.get("log") or [])[-5:]],
            "failures": [f"{entry['name']}: {problem}"],
        }
    right, total = result["right"][FLEXIBLE], result["questions"]
    low, high = interval(right, total)
    references = [
        {
            **one,
            "status": None
            if one["differences"]
            else status_of(right, total, one["percent"], tolerance),
        }
        for one in entry["references"]
    ]
    found = [one["status"] for one in references if one["status"]]
    status = next((one for one in (BELOW, UNCLEAR, MET) if one in found), NOT_COMPARED)
    return {
        **about,
        "status": status,
        "questions": total,
        "right": right,
        "score_percent": _percent(right / total),
        "interval_percent": [_percent(low), _percent(high)],
        "strict_percent": _percent(result["right"][STRICT] / total),
        **{name: result[name] for name in ("unread", "empty", "unfinished", "task_hash")},
        "harness_version": result["harness_version"],
        "references": references,
        "notes": _notes(entry, result, references, status),
        "failures": [
            f"{entry['name']}: {_percent(right / total):g} % of {total} questions (at most "
            f"{_percent(high):g} % by chance) against {one['percent']:g} % ({one['source']}), "
            f"allowed {tolerance:g} points less"
            for one in references
            if one["status"] == BELOW
        ],
    }


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _notes(
    entry: Mapping[str, Any],
    result: Mapping[str, Any],
    references: Sequence[Mapping[str, Any]],
    status: str,
) -> list[str]:
    total, unread = result["questions"], result["unread"][FLEXIBLE]
    told = [
        f"decides nothing, {one['percent']:g} % ({one['source']}): {'; '.join(one['differences'])}"
        for one in references
        if one["differences"]
    ]
    if status == UNCLEAR:
        more = " (accuracy_full)" if total < entry["total"] else ""
        told.append(f"worse than the reference, but chance may be why: ask more questions{more}")
    short = result["empty"] + result["unfinished"]
    if short:
        told.append(
            f"{short} of {total} answers have no end of their thinking and count as they are: "
            f"raise accuracy_max_tokens ({entry['sampling']['max_gen_toks']}) or the context"
        )
    if unread > max(short, _MANY * total):
        told.append(
            f"in {unread} of {total} answers nothing was found that could be right: look at them "
            "before you trust the score"
        )
    return told


def report_of(
    plan: Mapping[str, Any],
    made: Mapping[str, Any],
    done: Mapping[str, Any],
    tolerance: float,
    time: str,
) -> dict[str, Any]:
    """Return all that was found, and all that is needed to find it again.

    Args:
        plan: The plan of one cluster.
        made: What was to be asked (runs.runs_of).
        done: {sets, venv, client_host}: by data set, in order, how its run ended.
        tolerance: How many percentage points a score may be worse than its reference.
        time: When it began, in ISO form.
    """
    sets = [
        judge(entry, ended, made["seed"], tolerance)
        for entry, ended in zip(made["sets"], done["sets"], strict=True)
    ]
    failures = [text for one in sets for text in one.pop("failures")]
    return {
        "schema": SCHEMA,
        "time": time,
        "deployment": plan["deployment"],
        "passed": not failures,
        "compared": sum(one["status"] in (MET, UNCLEAR, BELOW) for one in sets),
        "failures": failures,
        "tolerance_points": tolerance,
        "confidence_percent": 100 * CONFIDENCE,
        "harness": HARNESS,
        "plan": {
            "digest": digest(plan),
            **{key: plan[key] for key in ("muster", "recipe", "variant", "evidence", "engine")},
            "model": plan["model"],
        },
        "weights": weights_of(plan),
        "target": {"url": made["url"], "model": made["model"]},
        "client": {"host": done["client_host"], "venv": done["venv"]},
        "concurrency": made["concurrency"],
        "sets": sets,
    }


def gate_failures(report: Mapping[str, Any]) -> list[str]:
    """Return why a gate does not open: what failed, or that nothing was compared."""
    if report["failures"] or report["compared"]:
        return list(report["failures"])
    return [
        "no score was compared with one that was asked for in the same way: give those that you "
        "expect in accuracy_references"
    ]


def tables(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the report as blocks for a terminal, each with the status that it tells of."""
    plan = report["plan"]
    versions = {one.get("harness_version") for one in report["sets"]} - {None}
    head = (
        f"{report['deployment']}: {plan['recipe']} ({plan['variant']}), {plan['engine']['name']} "
        f"{plan['engine']['version']}, {report['target']['url']}, "
        f"{report['harness']} {', '.join(sorted(versions))}"
    ).rstrip()
    if report["weights"] == OTHER_WEIGHTS:
        head += f"\n  no figure of the recipe's model: its weights are {OTHER_WEIGHTS}, as in a lab"
    rows: list[tuple[str, ...]] = [
        ("DATA SET", "RIGHT", "OF", "SCORE", "INTERVAL", "STRICT", "REFERENCE", "")
    ]
    blocks = [(head, "")]
    for one in report["sets"]:
        if one["status"] == NO_FIGURE:
            rows.append((one["name"], "-", "-", "-", "-", "-", "-", NO_FIGURE))
            continue
        low, high = one["interval_percent"]
        deciding = [ref for ref in one["references"] if ref["status"]] or one["references"]
        rows.append(
            (
                one["name"],
                str(one["right"]),
                str(one["questions"]),
                f"{one['score_percent']:.2f} %",
                f"{low:.1f} to {high:.1f} %",
                f"{one['strict_percent']:.2f} %",
                f"{deciding[0]['percent']:g} %" if deciding else "-",
                one["status"],
            )
        )
    blocks.append(("\n".join(columns(rows)), ""))
    for one in report["sets"]:
        lines = [f"  {one['name']}: {one['form']}. {note}" for note in one["notes"]]
        if lines:
            blocks.append(("\n".join(lines), one["status"]))
    return blocks
