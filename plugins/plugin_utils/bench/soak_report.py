# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a soak found, as a report for scripts and as a table for people."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.comparison import load_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.drift import (
    FEWEST,
    Points,
    drift_of,
    settled_points,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import (
    about_of,
    heading,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import scenario_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan
from ansible_collections.muster.serving.plugins.plugin_utils.bench.soak import ERRORS
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns

ENDED, DRIFT = "ended", "drift"
# What of a growth is worth a word: less is what allocators do, or a window's chance.
_LATENCY = ("median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "p99_tpot_ms", "median_e2e_ms")
_LATENCY_MS, _LATENCY_PERCENT = 1.0, 10.0
_MEMORY_MB, _MEMORY_PERCENT = 64.0, 1.0


class Series(NamedTuple):
    """A value over the time of a soak.

    Fields:
        name: What it is, as latency median_ttft_ms.
        unit: ms or MiB.
        points: In seconds since 1970.
        least: A smaller growth is none.
        least_percent: Nor is one of a smaller share.
    """

    name: str
    unit: str
    points: Points
    least: float
    least_percent: float


def soak_report(
    plan: Plan,
    made: Mapping[str, Any],
    done: Mapping[str, Any],
    watched: Mapping[str, Mapping[str, Any]],
    devices: Mapping[str, Any],
    time: str,
) -> dict[str, Any]:
    """Return all that was found, and all that is needed to find it again.

    Args:
        plan: The plan of one cluster.
        made: What was going to be done (runs.runs_of).
        done: What bench_soak returned.
        watched: By host what bench_watch returned.
        devices: {names, driver} of the node's devices.
        time: When it ended, in ISO form.
    """
    windows, event = done["windows"], done["event"]
    findings = [{**event, "subject": made["target"]["url"]}] if event else []
    findings += _ended(watched)
    failed = sum(window["failed"] for window in windows)
    if failed and not (event and event["kind"] == ERRORS):
        first = next(window for window in windows if window["failed"])
        total = sum(window["requests"] for window in windows)
        what = f"{failed} of {total} requests failed"
        findings.append(_finding(ERRORS, first["end"], made["target"]["url"], what))
    findings.sort(key=lambda one: one["at"])
    drifts, short = _drifts(_series(plan, windows, watched))
    findings += drifts
    return {
        **about_of(plan, made, done, devices, time),
        "kind": "soak",
        "passed": not findings,
        "scenario": load_of(scenario_of(made["scenarios"][0])),
        "soak": done["soak"],
        "seconds": done["seconds"],
        "requests": sum(window["requests"] for window in windows),
        "failed": failed,
        "findings": findings,
        "notes": _notes(watched, short),
        "windows": windows,
        "nodes": {host: one.get("samples", []) for host, one in watched.items()},
        "last_words": {
            unit: lines for one in watched.values() for unit, lines in _words(one).items()
        },
    }


def _finding(kind: str, at: float, subject: str, what: str) -> dict[str, Any]:
    return {"kind": kind, "at": at, "subject": subject, "what": what}


def _words(watched: Mapping[str, Any]) -> Mapping[str, list[str]]:
    return watched.get("last_words") or {}


def _ended(watched: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the units whose run has ended while they were watched, when it was first seen."""
    found = []
    for host, one in watched.items():
        samples = one.get("samples") or []
        for unit in samples[0]["units"] if samples else ():
            first = samples[0]["units"][unit]["invocation"]
            for sample in samples:
                now = sample["units"][unit]
                if now["state"] == "active" and now["invocation"] == first:
                    continue
                state = "has started anew" if now["state"] == "active" else f"is {now['state']}"
                what = f"its run has ended, it {state}"
                said = [line for line in _words(one).get(unit) or [] if " systemd[" not in line]
                if said:
                    what += f"; its last line: {said[-1].strip()}"
                found.append(_finding(ENDED, sample["at"], f"{unit} on {host}", what))
                break
    return found


def _series(
    plan: Plan, windows: Sequence[Mapping[str, Any]], watched: Mapping[str, Mapping[str, Any]]
) -> list[Series]:
    """Return all that may drift: latencies, and memory of units and of the plan's devices."""
    # The first window is short, and meets what its prompts warm up.
    later = windows[1:]
    found = [
        Series(
            f"latency {name}",
            "ms",
            [(one["end"], one["metrics"][name]) for one in later if name in one["metrics"]],
            _LATENCY_MS,
            _LATENCY_PERCENT,
        )
        for name in _LATENCY
    ]
    for host, one in watched.items():
        samples = one.get("samples") or []
        units = samples[0]["units"] if samples else {}
        own = {
            str(device)
            for unit in plan["units"]
            if unit["host"] == host
            for device in unit["devices"]
        }
        for unit in units:
            points = [(each["at"], each["units"][unit]["memory_mb"]) for each in samples]
            found.append(_memory(f"host memory of {unit} on {host}", points))
        for device in sorted(own, key=int):
            points = [(each["at"], each["devices"].get(device)) for each in samples]
            found.append(_memory(f"memory of device {device} on {host}", points))
    return found


def _memory(name: str, points: Sequence[tuple[float, float | None]]) -> Series:
    known = [(at, value) for at, value in points if value is not None]
    return Series(name, "MiB", known, _MEMORY_MB, _MEMORY_PERCENT)


def _drifts(series: Sequence[Series]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what drifts, and the names of what cannot be told."""
    found, short = [], []
    for one in series:
        if len(settled_points(one.points)) < FEWEST:
            short.append(one.name)
            continue
        drift = drift_of(one.points, one.least, one.least_percent)
        if drift:
            what = (
                f"grew by {drift.growth:.1f} {one.unit} ({drift.percent:.1f} %) and goes on by "
                f"{drift.per_hour:.1f} {one.unit} an hour"
            )
            found.append(_finding(DRIFT, one.points[-1][0], one.name, what))
    return found, short


def _notes(watched: Mapping[str, Mapping[str, Any]], short: Sequence[str]) -> list[str]:
    notes = [
        f"{host} was not watched: {one.get('msg') or 'it did not answer'}"
        for host, one in watched.items()
        if not one.get("samples")
    ]
    if short:
        shown = ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
        notes.append(f"too few values to tell a drift of {shown}: make bench_soak_s longer")
    return notes


def soak_text(report: Mapping[str, Any]) -> str:
    """Return a report for a terminal."""
    rows = [
        ["WINDOW", "REQUESTS", "FAILED", "TOK/S", "MEDIAN TTFT", "P99 TTFT", "MEDIAN TPOT", "WAIT"]
    ]
    names = ("output_tok_per_s", "median_ttft_ms", "p99_ttft_ms", "median_tpot_ms")
    for number, window in enumerate(report["windows"], 1):
        figures = (window["metrics"].get(name) for name in names)
        waiting = (window["engine"] or {}).get("waiting_mean")
        rows.append(
            [
                str(number),
                str(window["requests"]),
                str(window["failed"]),
                *("-" if value is None else f"{value:.1f}" for value in figures),
                "-" if waiting is None else f"{waiting:.1f}",
            ]
        )
    lines = [heading(report), *columns(rows)]
    wanted = report["soak"]["duration"]
    over = f"after {report['seconds']:.0f} of {wanted:.0f} s"
    if report["passed"]:
        watched = all(report["nodes"].values())
        restarts = "no restart" if watched else "of restarts and memory not all is known"
        lines.append(f"  passed {over}: {report['requests']} requests, none failed, {restarts}")
    else:
        lines.append(f"  failed {over}: {report['requests']} requests, {report['failed']} failed")
    lines += [f"  {line}" for line in told(report)]
    if any(one["kind"] != DRIFT for one in report["findings"]):
        lines.append("  playbooks/diagnose.yml says why, as far as logs and nodes tell")
    lines += [f"  {note}" for note in report["notes"]]
    return "\n".join(lines)


def told(report: Mapping[str, Any]) -> list[str]:
    """Return what has happened, a line each, in the order of time."""
    return [
        f"{_clock(one['at'])} {one['kind']}: {one['subject']}: {one['what']}"
        for one in report["findings"]
    ]


def _clock(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M:%SZ")
