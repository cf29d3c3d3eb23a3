# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a start has come up, from what the nodes of its groups report while it is waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.names import container
from ansible_collections.muster.serving.plugins.plugin_utils.failure import judging
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import Report

# How long to look for others that have ended, too, where the log of the first names no cause: the
# one that it followed may be seen a moment later.
SETTLE_S = 10.0


class Group:
    """Units that live and die together: those of a replica, or a gateway.

    Attributes:
        name: Its name.
        hosts: Its hosts.
        units: Its units on the host that waits.
        missing: What it waits for, a phrase each.
        once: By host what its units do at their first start there.
        dead: Whether one has ended, and nothing more is to be learnt of why.
    """

    def __init__(self, name: str, hosts: Sequence[str], units: Sequence[Mapping[str, Any]]) -> None:
        self.name = name
        self.hosts = list(hosts)
        self.units = [unit for unit in units if unit["group"] == name]
        self.missing: list[str] = []
        self.once: dict[str, Mapping[str, Any]] = {}
        self.dead = False
        self._death: tuple[str, Report] | None = None
        self._died: float | None = None
        self._ended: dict[tuple[str, str], Report] = {}
        self._verdict: judging.Verdict | None = None

    def update(self, reports: Mapping[str, Sequence[Report]], now: float) -> None:
        """Take what hosts report, by host, at a time in seconds."""
        statuses = of_group(reports, self.name, self.hosts)
        self.missing = waiting_for(statuses, self.hosts)
        self.once = first_starts(statuses)
        self._death = first_death(statuses)
        ended = {
            (host, report["name"]): report
            for host, own in statuses.items()
            for report in own
            if report.get("ended")
        }
        if ended != self._ended:
            self._ended = ended
            self._verdict = judging.verdict(
                {
                    unit: judging.judge(judging.Log(report.get("cause_lines") or report["log"], []))
                    for unit, report in ended.items()
                }
            )
        if not self._death:
            self.dead = False
            return
        if self._died is None:
            self._died = now
        silent = len(statuses) < len(self.hosts)
        alive = silent or len(ended) < sum(map(len, statuses.values()))
        named = self._verdict is not None and self._verdict.judged.cause is not None
        self.dead = named or not alive or now - self._died >= SETTLE_S

    @property
    def settled(self) -> bool:
        """Return whether it is up, or dead."""
        return self.dead or not (self._death or self.missing)

    def problem(self, waited: float, timeout: int | None) -> str | None:
        """Return why it has not come up, None as long as it may.

        Args:
            waited: Seconds since its start.
            timeout: Seconds in place of its units' own; None for those.
        """
        if self._death:
            return self._epitaph(*self._death, waited) if self.dead else None
        allowed = self._allowed_s(timeout)
        if not self.missing or waited <= allowed:
            return None
        missing = "; ".join(self.missing)
        return f"after {waited:.0f} s (allowed: {allowed} s) still waiting for {missing}"

    def _allowed_s(self, timeout: int | None) -> int:
        """Return how long its start may take; a first start on one host keeps all waiting."""
        limit = max(unit["start_timeout_s"] for unit in self.units) if timeout is None else timeout
        return int(limit + max((once["extra_s"] for once in self.once.values()), default=0))

    def _epitaph(self, host: str, report: Report, waited: float) -> str:
        lines = "\n".join(f"    {redaction.line(line)}" for line in report["log"])
        told: list[str] = []
        if self._verdict:
            first = self._verdict
            if (first.host, first.unit) != (host, report["name"]):
                told.append(f"It follows from {first.unit} on {first.host}, which ended first:")
            told += judging.paragraph(first.judged)
        cause = "".join(f"{redaction.line(line)}\n" for line in told)
        state = ", ".join(
            text
            for text in (
                report["sub_state"],
                report["result"] and f"result {report['result']}",
                report["exit_status"] and f"exit status {report['exit_status']}",
            )
            if text
        )
        return (
            f"{report['name']} on {host} ended {waited:.0f} s into start-up ({state})."
            f" Its last lines:\n{lines}\n{cause}"
            f"All of them: journalctl -u {container(report['name'])} on {host}"
        )


class Record:
    """What one host has reported of its units in this start."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[str, Any]] = {}
        # By unit the ids of its runs; one that systemd restarts gets a new id.
        self._runs: dict[str, dict[str, None]] = {}

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Return the last report of each unit, with what was found out before."""
        return list(self._reports.values())

    def add(self, reports: Sequence[Report]) -> None:
        """Take a look at units."""
        for report in reports:
            # The cache fills during a first start, which counts as one to its end.
            known = self._reports.get(report["name"], report)
            kept = {key: known[key] for key in ("first_start", "cause_lines") if key in known}
            self._reports[report["name"]] = {**report, **kept}
            self._runs.setdefault(report["name"], {})[report["invocation_id"]] = None

    def unexplained(self, groups: Sequence[Group]) -> dict[str, list[str]]:
        """Return the units that have ended and whose logs are to be read, with their runs."""
        names = [unit["name"] for group in groups for unit in group.units]
        return {
            name: list(self._runs[name])
            for name in names
            if self._reports[name]["ended"] and "cause_lines" not in self._reports[name]
        }

    def explain(self, name: str, lines: Sequence[str]) -> None:
        """Take what a unit's log has that can tell why it ended."""
        # Shared with the death, so that every host of the replica can name the cause.
        self._reports[name]["cause_lines"] = list(lines)


def lost(host: str, group: str, message: str) -> dict[str, Any]:
    """Return the report that stands for all units of a host that does not answer any more."""
    return {
        "name": f"the units of {host}",
        "group": group,
        "ended": True,
        "active_state": "unknown",
        "sub_state": "cannot be seen any more",
        "result": "",
        "exit_status": "",
        "ready": None,
        "log": [message],
    }


def of_group(
    statuses: Mapping[str, Sequence[Report]], group: str, hosts: Sequence[str]
) -> dict[str, list[Report]]:
    """Return the reports of one group by host; a host that has not reported is left out."""
    return {
        host: [report for report in statuses[host] if report["group"] == group]
        for host in hosts
        if host in statuses
    }


def first_starts(statuses: Mapping[str, Sequence[Report]]) -> dict[str, Mapping[str, Any]]:
    """Return what units do once, at their first start on a host, by host; the longest of each."""
    found: dict[str, Mapping[str, Any]] = {}
    for host in sorted(statuses):
        for report in statuses[host]:
            once = report.get("first_start")
            if once and once["extra_s"] > found.get(host, {"extra_s": 0})["extra_s"]:
                found[host] = once
    return found


def first_death(statuses: Mapping[str, Sequence[Report]]) -> tuple[str, Report] | None:
    """Return the host and report of a unit that has ended, as told by any host; None when all live.

    When several have ended, the one whose exit status says a fault comes first: it is the likelier
    cause, while the others followed it.
    """
    dead = [
        (host, report)
        for host in sorted(statuses)
        for report in statuses[host]
        if report.get("ended")
    ]
    faulty = [entry for entry in dead if entry[1].get("exit_status") not in ("0", "", None)]
    return next(iter(faulty or dead), None)


def waiting_for(statuses: Mapping[str, Sequence[Report]], hosts: Sequence[str]) -> list[str]:
    """Return what is missing, a phrase each: hosts without word, units that do not serve yet.

    Where one does not serve, those without an API of their own say what they do, too: it may wait
    for them.
    """
    missing = [f"word from {host}" for host in hosts if host not in statuses]
    beside = []
    for host in sorted(statuses):
        for report in statuses[host]:
            doing = report.get("doing", "")
            if report["ready"] is False:
                last = doing or (report["log"][-1].strip() if report["log"] else "")
                missing.append(f"{report['name']} on {host} to serve{f': {last}' if last else ''}")
            elif report["active_state"] != "active":
                missing.append(f"{report['name']} on {host} to run ({report['sub_state']})")
            elif report["ready"] is None and doing:
                beside.append(f"{report['name']} on {host}: {doing}")
    return missing + beside if missing else []
