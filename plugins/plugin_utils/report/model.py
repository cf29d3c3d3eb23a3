# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a cluster, as data for its template: what is there, and what to do else. Pure.

Nothing here is HTML. Names and log lines are others' texts, which the template escapes.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.verdict import UNCLEAR
from ansible_collections.muster.serving.plugins.plugin_utils.bench.comparison import (
    BELOW,
    MET,
    NO_FIGURE,
    NOT_COMPARED,
)
from ansible_collections.muster.serving.plugins.plugin_utils.report import cluster, figures, trials
from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import Bars
from ansible_collections.muster.serving.plugins.plugin_utils.screen.text import fold

STAGES = ("preflight", "serve", "verify")
# What is kept of what a module saw of a node's devices.
SEEN = ("devices", "version", "topology", "problems")
# What nodes have in common of a check that is told once for all of them.
_ALIKE = ("id", "status", "subject", "observed", "expected", "remedy")
# What a section is made of, or nothing.
Part = Mapping[str, Any] | None
# Of several loads or data sets the worst is told first.
_WORST_FIRST = (NO_FIGURE, BELOW, UNCLEAR, MET, NOT_COMPARED)


class Found(TypedDict):
    """What lies in the folder of a cluster's reports.

    Fields:
        reports: By stage, and under status, its last report.
        devices: By host, what its devices were when they were seen last.
        verified: The plan that was verified last, or nothing.
        runs: The runs, the newest last.
        bench, sweep, soak, accuracy: What these have written, the newest last.
        unreadable: The files that could not be read, each with its reason.
    """

    reports: dict[str, dict[str, Any]]
    devices: dict[str, dict[str, Any]]
    verified: dict[str, Any] | None
    runs: list[dict[str, Any]]
    bench: list[dict[str, Any]]
    sweep: list[dict[str, Any]]
    soak: list[dict[str, Any]]
    accuracy: list[dict[str, Any]]
    unreadable: list[str]


def page_of(plan: Mapping[str, Any], found: Found, now: str, no_plots: str) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        plan: The plan of one cluster.
        found: What lies in the folder of its reports.
        now: The time in ISO form, with its zone.
        no_plots: Why there are no plots; empty where there are.
    """
    reports = found["reports"]
    page = {
        "name": plan["deployment"],
        "now": now,
        "no_plots": no_plots,
        "problems": found["unreadable"],
        "plan": _plan(plan, found["verified"]),
        "groups": cluster.picture(
            plan, found["devices"], reports.get("status", {}), reports.get("preflight", {})
        ),
        "status": reports.get("status"),
        "verdicts": [_verdict(stage, reports.get(stage)) for stage in STAGES],
        "runs": _runs(found["runs"]),
        "bench": figures.bench(found["bench"]),
        "sweep": trials.sweep(found["sweep"][-1] if found["sweep"] else None),
        "soak": trials.soak(found["soak"][-1] if found["soak"] else None),
        "accuracy": trials.accuracy(found["accuracy"]),
    }
    return {**page, "summary": _summary(page)}


def _plan(plan: Mapping[str, Any], verified: Mapping[str, Any] | None) -> dict[str, Any]:
    engine, model, memory = plan["engine"], plan["model"], plan["memory"]
    if verified is None:
        agreement = ("unknown", "nothing has been verified from this controller yet")
    elif verified == plan:
        agreement = ("ok", "the same as what was verified last")
    else:
        agreement = ("warning", "not the same as what was verified last (verified-plan.json)")
    return {
        "agreement": agreement,
        # Figures are then those of another model, as in the lab.
        "own_weights": not model["format"],
        "facts": [
            ("Recipe", f"{plan['recipe']} ({plan['variant']})"),
            ("Evidence", f"{plan['evidence']['level']}: {plan['evidence']['note']}"),
            ("Engine", f"{engine['name']} {engine['version']}"),
            ("Image", engine["image"] or "none: installed in an environment"),
            ("Model", f"{model['id']}, {model['path']}"),
            ("Served as", plan["endpoint"]["model"]),
            ("Platform", plan["platform"]["title"]),
            ("KV cache of a rank", _cache(memory)),
            ("Endpoint", plan["endpoint"]["url"]),
            ("Features", ", ".join(plan["endpoint"]["features"])),
        ],
        "warnings": list(plan["warnings"]),
        "units": [
            {
                **{key: one[key] for key in ("name", "host", "role", "address", "interface")},
                "ranks": ranges_text(one["ranks"]),
                "devices": ranges_text(one["devices"]),
                "ports": ", ".join(f"{port} {number}" for port, number in one["ports"].items()),
                "argv": redaction.value(one["argv"]),
                "env": redaction.value(one["env"]),
            }
            for one in plan["units"]
        ],
    }


def _cache(memory: Mapping[str, Any]) -> str:
    tokens = memory.get("cache_tokens")
    if not tokens:
        return "not computed"
    return f"{memory['cache_gb']:g} GB, about {tokens:,} tokens"


def _verdict(stage: str, report: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a stage's verdict; its time is nothing where it has not been asked yet."""
    if report is None:
        return {"stage": stage, "time": None}
    checks = report["checks"]
    return {
        "stage": stage,
        "time": report["time"],
        "passed": report["passed"],
        "counts": [
            ("warnings" if (word, count > 1) == ("warning", True) else word, count)
            for word, count in report["counts"].items()
            if count
        ],
        "told": _folded([one for one in checks if one["status"] != "ok"]),
        "ok": _folded([one for one in checks if one["status"] == "ok"]),
        "ok_count": report["counts"].get("ok", 0),
        "expired": report["expired_waivers"],
    }


def _folded(checks: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return checks with those that nodes have in common as one, under the names of all these."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    for one in checks:
        key = tuple(one[name] for name in _ALIKE)
        hosts.setdefault(key, []).append(one["host"])
    return [
        {**dict(zip(_ALIKE, key, strict=True)), "host": fold(list(dict.fromkeys(names)))}
        for key, names in hosts.items()
    ]


def _runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the runs of a cluster, the newest first, and the stages of one of them as a plot.

    It is the last one of site.yml, which has all stages, or else the last one.
    """
    if not runs:
        return None
    rows = [
        {
            "time": run["time"],
            "playbook": run["playbook"],
            "seconds": sum(stage["seconds"] for stage in run["stages"]),
            "stages": run["stages"],
            "failed_hosts": run["failed_hosts"],
            "mark": "failed" if run["failed_hosts"] or _failed(run) else "ok",
            "verdicts": {
                stage: "passed" if one["passed"] else "failed"
                for stage, one in run["verdicts"].items()
            },
        }
        for run in reversed(runs)
    ]
    last = next((row for row in rows if row["playbook"] == "site.yml"), rows[0])
    chart = Bars(
        f"Stages of {last['playbook']}",
        f"It took {last['seconds']:.1f} seconds in all.",
        "seconds",
        [(one["name"], one["seconds"], f"{one['seconds']:g} s") for one in last["stages"]],
    )
    return {"rows": rows, "last": last, "chart": chart if last["stages"] else None}


def _failed(run: Mapping[str, Any]) -> bool:
    return any(not one["passed"] for one in run["verdicts"].values())


def _summary(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is to be seen at a glance, {title, mark, word, more, time, section} each."""
    cards = []
    status = page["status"]
    if status is None:
        cards.append(_card("Now", "status", None, "cluster"))
    else:
        wrong = len(status["problems"])
        word = "serves as planned" if not wrong else f"{wrong} not as planned"
        cards.append(
            _card("Now", "status", ("failed" if wrong else "ok", word, ""), "cluster", status)
        )
    cards.append(_devices_card([node for group in page["groups"] for node in group["nodes"]]))
    for one in page["verdicts"]:
        said = None
        if one["time"]:
            counts = ", ".join(f"{count} {word}" for word, count in one["counts"])
            said = ("ok", "passed", counts) if one["passed"] else ("failed", "failed", counts)
        cards.append(_card(one["stage"].capitalize(), one["stage"], said, "verdicts", one))
    return [
        *cards,
        _bench_card(page["bench"]),
        _sweep_card(page["sweep"]),
        _soak_card(page["soak"]),
        _accuracy_card(page["accuracy"]),
    ]


def _devices_card(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how the devices of the plan do that have been seen, since the oldest look at any."""
    marks = [one["mark"] for node in nodes for one in node["devices"] if one["in_plan"]]
    if not marks:
        return _card("Devices", "report", None, "cluster")
    ill, silent = marks.count("failed"), marks.count("unknown")
    said = ("ok", "all OK") if not silent else ("unknown", f"{silent} tell nothing")
    if ill:
        said = ("failed", f"{ill} not OK")
    since = {"time": min(node["seen"] for node in nodes if node["devices"])}
    return _card("Devices", "report", (*said, f"{len(marks)} of the plan seen"), "cluster", since)


def _bench_card(bench: Part) -> dict[str, Any]:
    if bench is None:
        return _card("Bench", "bench", None, "bench")
    words = [one["status"] for one in bench["scenarios"]]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    worst = next((one for one in _WORST_FIRST if one in words), "nothing measured")
    mark = figures.MARKS.get(worst, "unknown")
    return _card("Bench", "bench", (mark, worst, counts), "bench", bench)


def _sweep_card(sweep: Part) -> dict[str, Any]:
    if sweep is None:
        return _card("Sweep", "sweep", None, "sweep")
    knee = sweep["knee"]
    word = f"knee at {knee['concurrency']} at once" if knee else sweep["word"] or "no knee found"
    said = ("ok" if knee else "unknown", word, sweep["load"])
    return _card("Sweep", "sweep", said, "sweep", sweep)


def _soak_card(soak: Part) -> dict[str, Any]:
    if soak is None:
        return _card("Soak", "soak", None, "soak")
    more = f"{soak['requests']} requests in {soak['seconds']:.0f} s"
    said = ("failed", f"{len(soak['findings'])} found", more)
    if soak["passed"]:
        said = ("ok", "passed", more)
    return _card("Soak", "soak", said, "soak", soak)


def _accuracy_card(accuracy: Part) -> dict[str, Any]:
    if accuracy is None:
        return _card("Accuracy", "accuracy", None, "accuracy")
    words = [one["status"] for one in accuracy["sets"]]
    worst = next((one for one in _WORST_FIRST if one in words), "nothing asked")
    mark = next((one["mark"] for one in accuracy["sets"] if one["status"] == worst), "unknown")
    scores = ", ".join(
        f"{one['name']} {one['status']}"
        if one["score"] is None
        else f"{one['name']} {one['score']:g} % ({one['status']})"
        for one in accuracy["sets"]
    )
    return _card("Accuracy", "accuracy", (mark, worst, scores), "accuracy", accuracy)


def _card(
    title: str,
    playbook: str,
    said: tuple[str, str, str] | None,
    section: str,
    part: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    mark, word, more = said or ("unknown", "not done yet", "")
    return {
        "title": title,
        "mark": mark,
        "word": word,
        "more": more,
        "time": part["time"] if part and said else None,
        "section": section,
        "playbook": playbook,
    }


def moment(time: str | float) -> str:
    """Return a time as a reader takes it: of ISO form with its zone, or of seconds since 1970."""
    if isinstance(time, str):
        read = datetime.datetime.fromisoformat(time).astimezone(datetime.UTC)
    else:
        read = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return f"{read:%Y-%m-%d %H:%M:%S} UTC"


def number(value: float) -> str:
    """Return a number as short as it can be read: four digits or all before the point."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if float(value).is_integer() or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{1 if size >= 100 else 2 if size >= 1 else 3}f}"
