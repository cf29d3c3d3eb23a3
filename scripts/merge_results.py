#!/usr/bin/env python3
"""Merge what `ansible-runner process` kept of several runs: one table, and RESULTS/merged.json.

The exit code is 0 when every run that is named ended well, and 2 otherwise. That of
`ansible-runner process` is 0 whatever came of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.screen.text import printable

ENDPOINTS = "muster_endpoints"


class Kept(NamedTuple):
    """What is kept of one run: the data of the events that begin and end a playbook, and its end.

    status and rc are empty where the run's end did not come back. output is what was printed.
    """

    begins: Sequence[Mapping[str, Any]]
    ends: Sequence[Mapping[str, Any]]
    status: str
    rc: str
    output: str


def read(folder: Path) -> Kept:
    """Return what `ansible-runner process` kept in the folder of one run; empty without one."""

    def text(name: str) -> str:
        path = folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    begins: list[Mapping[str, Any]] = []
    ends: list[Mapping[str, Any]] = []
    events = {"playbook_on_start": begins, "playbook_on_stats": ends}
    for path in folder.glob("job_events/*.json"):
        content = path.read_text(encoding="utf-8", errors="replace")
        # Most events are results of tasks, and large.
        if not any(f'"event": "{name}"' in content for name in events):
            continue
        try:
            event = json.loads(content)
        except ValueError:
            # Cut off where the stream was.
            continue
        if event.get("event") in events:
            events[event["event"]].append(event.get("event_data") or {})
    return Kept(begins, ends, text("status").strip(), text("rc").strip(), text("stdout"))


def judge(kept: Kept) -> dict[str, Any]:
    """Return one run: {passed, status, rc, problems, statistics}.

    problems are sentences. statistics are those of the playbook, by name as Muster gives them.
    """
    last = kept.ends[-1] if kept.ends else {}
    statistics = last.get("artifact_data") or {}
    problems = []
    if len(kept.begins) > 1:
        problems.append(
            f"holds {len(kept.begins)} runs: give each a name or a folder for results of its own"
        )
    if not kept.begins and not kept.status:
        problems.append(
            "nothing came back: whether it began is not known here. What ssh and ansible-runner "
            "said stands on the terminal that sent it out"
        )
    elif not kept.status or not kept.rc:
        problems.append(
            "no result came back: the stream from its controller ended before the run did. What it "
            "changed is not known here, and it may still run there"
        )
    elif kept.ends and "artifact_data" not in last:
        problems.append(
            "no statistics came back: transmit it without --omit-event-data and "
            "--only-failed-event-data"
        )
    elif (kept.status, kept.rc) != ("successful", "0"):
        problems += _reported(statistics) or [_end(kept, last)]
    return {
        "passed": not problems,
        "status": kept.status,
        "rc": int(kept.rc) if kept.rc.isdecimal() else None,
        "problems": [" ".join(printable(one).split()) for one in problems],
        "statistics": statistics,
    }


def _reported(statistics: Mapping[str, Any]) -> list[str]:
    """Return what the reports of a run say is wrong."""
    found = []
    for cluster in statistics.get(ENDPOINTS) or [""]:
        for report in reports(statistics, cluster).values():
            found += [str(one) for one in report.get("problems", ())]
            found += [
                f"{one['host']}: {one['id']} ({one['subject']}): {one['observed']}, expected "
                f"{one['expected']}. {one['remedy']}"
                for one in report.get("checks", ())
                if one["status"] == "failed"
            ]
    return found


def _end(kept: Kept, last: Mapping[str, Any]) -> str:
    """Return how a run ended of which no report says it."""
    lost = [
        f"{word}: {', '.join(sorted(last[key]))}"
        for key, word in (("failures", "failed"), ("dark", "unreachable"))
        if last.get(key)
    ]
    if not lost:
        lost = [line for line in printable(kept.output).splitlines() if line.strip()][-1:]
    return f"{kept.status}, exit code {kept.rc}. {'; '.join(lost)}"


def reports(statistics: Mapping[str, Any], cluster: str) -> dict[str, Mapping[str, Any]]:
    """Return what the statistics of a run say of one cluster, by the name of the report.

    Those of runs that can have several clusters hold a report for each, under its name.
    """
    clusters = set(statistics.get(ENDPOINTS) or ())
    found = {}
    for name, value in statistics.items():
        if name == ENDPOINTS or not isinstance(value, Mapping):
            continue
        report = value.get(cluster) if value and set(value) <= clusters else value
        if report is not None:
            found[name.removeprefix("muster_")] = report
    return found


def merge(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the merged result of runs by name, each as judge() gives it.

    Returns:
        schema: 1.
        passed: Whether every run did.
        runs: As given.
        clusters: By name {url, model, key, passed, runs}: whether every run that had it passed.
    """
    clusters: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        for cluster, endpoint in (run["statistics"].get(ENDPOINTS) or {}).items():
            known = clusters.setdefault(cluster, {**endpoint, "passed": True, "runs": []})
            known["runs"].append(name)
            known["passed"] &= run["passed"]
    passed = bool(runs) and all(run["passed"] for run in runs.values())
    return {"schema": 1, "passed": passed, "runs": dict(runs), "clusters": clusters}


def table(merged: Mapping[str, Any]) -> list[str]:
    """Return a merged result as an operator reads it."""
    rows = [("CLUSTER", "RUN", "RESULT", "REPORTS", "ENDPOINT")]
    runs, clusters = merged["runs"], merged["clusters"]
    for cluster, one in sorted(clusters.items()):
        rows += [(cluster, *_cells(name, runs[name], cluster), one["url"]) for name in one["runs"]]
    placed = {name for one in clusters.values() for name in one["runs"]}
    rows += [("-", *_cells(name, runs[name], ""), "") for name in runs if name not in placed]
    lines = columns([[printable(cell) for cell in row] for row in rows])
    for name, run in runs.items():
        lines += [f"  {name}: {problem}" for problem in run["problems"]]
    return lines


def _cells(name: str, run: Mapping[str, Any], cluster: str) -> tuple[str, str, str]:
    said = []
    for word, report in reports(run["statistics"], cluster).items():
        if "problems" in report:
            count = len(report["problems"])
            said.append(f"{word}: {f'{count} not as planned' if count else 'as planned'}")
        elif isinstance(report.get("passed"), bool):
            said.append(f"{word} {'passed' if report['passed'] else 'failed'}")
        else:
            said.append(word)
    result = "passed" if run["passed"] else run["status"] or "no result"
    return name, result, ", ".join(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("results", type=Path, help="the folder given to ansible-runner process")
    parser.add_argument("runs", nargs="+", help="the --ident of every run that was sent out")
    options = parser.parse_args()
    if not options.results.is_dir():
        parser.error(
            f"{options.results} is no folder: name the one given to ansible-runner process"
        )
    names = dict.fromkeys(options.runs)
    merged = merge({name: judge(read(options.results / "artifacts" / name)) for name in names})
    path = options.results / "merged.json"
    path.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(merged)))
    print(f"report: {path}")
    return 0 if merged["passed"] else 2


if __name__ == "__main__":
    sys.exit(main())
