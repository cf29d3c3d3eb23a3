# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as an operator follows it: stages, tasks and nodes, and the screen at the end. Pure.

Times are given, in seconds of one clock; lines are returned, for the callback to print.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.screen import text

# A node's state in a stage, the worst last.
SKIPPED, OK, CHANGED, RESCUED, FAILED, UNREACHABLE = range(6)
# A long task says that it still runs after so many seconds, and again after twice as many.
_FIRST_BEAT_S = 30.0
# What some nodes of a task have told is printed after so many seconds, though others still run.
_PATIENCE_S = 3.0


class Line(NamedTuple):
    """A line, or several, to print, and what it tells: a name of KINDS."""

    text: str
    kind: str = "plain"


KINDS = ("plain", "ok", "changed", "failed", "unreachable", "warning")


class Outcome(NamedTuple):
    """What a task came to on a node.

    status: One of the numbers above; FAILED and UNREACHABLE also where that is ignored.
    message: What it says of it, or nothing. Of a failure it is printed once in a run.
    diff: What changes, already as it is to be printed.
    ignored: Whether the play goes on with the node all the same.
    """

    status: int
    message: str = ""
    diff: str = ""
    ignored: bool = False


class Endpoint(NamedTuple):
    """Where a deployment is reached, of its plan.

    authority is the file by which its certificate is checked; None where there is no need of one.
    """

    deployment: str
    url: str
    model: str
    needs_key: bool
    authority: str | None = None


@dataclasses.dataclass
class _Task:
    name: str
    stage: _Stage
    began: float
    # It prints by itself what it does.
    speaks: bool = False
    # It runs on one node for all.
    once: bool = False
    running: dict[str, float] = dataclasses.field(default_factory=dict)
    seen: set[str] = dataclasses.field(default_factory=set)
    untold: dict[Outcome, list[str]] = dataclasses.field(default_factory=dict)
    untold_since: float = 0.0
    next_beat_s: float = _FIRST_BEAT_S
    sound: bool = True
    ended: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.stage.name}: {self.name}"


@dataclasses.dataclass
class _Stage:
    name: str
    began: float
    taken_s: float = 0.0
    ran: bool = False
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)


class _Failure(NamedTuple):
    task: str
    host: str
    status: int
    message: str


class Run:
    """One run of a playbook, as far as it has come.

    Args:
        estimates: Seconds that tasks took in the last run, by their keys.
        check: Whether it only looks, by check mode.
    """

    def __init__(self, estimates: Mapping[str, float] | None = None, check: bool = False) -> None:
        self.times: dict[str, float] = {}
        self._estimates = estimates or {}
        self._check = check
        self._stages: list[_Stage] = []
        self._tasks: dict[str, _Task] = {}
        # By host its place in the inventory.
        self._order: dict[str, int] = {}
        self._changes: dict[str, list[str]] = {}
        self._failures: list[_Failure] = []
        self._told: set[str] = set()
        self._starts: dict[str, list[str]] = {}
        self._begun: set[str] = set()
        self._endpoints: list[Endpoint] = []
        # Whether units were brought to what the plan says, and whether the endpoint answered well.
        self._served = False
        self._answered: bool | None = None

    def stage_begins(self, name: str, now: float) -> str:
        """Return its heading, which is to be printed above what it prints, if it does."""
        self._stages.append(_Stage(text.printable(name).replace("\n", " ") or "play", now))
        return self._stages[-1].name

    def stage_ends(self, now: float) -> list[Line]:
        """Return what its nodes came to; of a stage in which nothing ran, nothing."""
        lines = self._flush(now, ended=True)
        self._tasks = {}
        if self._stages and not self._stages[-1].taken_s:
            stage = self._stages[-1]
            # Never zero, which stands for a stage that has not ended.
            stage.taken_s = max(now - stage.began, 0.001)
            if stage.ran:
                came_to, kind = self._came_to(stage), _kind(stage)
                lines.append(Line(f"  {came_to}, {text.seconds(stage.taken_s)}", kind))
        return lines

    def task_begins(
        self, task: str, name: str, now: float, speaks: bool = False, once: bool = False
    ) -> list[Line]:
        lines = self._flush(now, ended=True)
        if not self._stages:
            self.stage_begins("", now)
        # Where each host goes on by itself, a task begins once more for each.
        if task not in self._tasks:
            self._tasks[task] = _Task(text.task_name(name), self._stages[-1], now, speaks, once)
        return lines

    def node_begins(self, task: str, host: str, now: float) -> None:
        known = self._tasks.get(task)
        if known:
            known.running[host] = now
            known.seen.add(host)
            self._order.setdefault(host, len(self._order))

    def node_ends(self, task: str, host: str, outcome: Outcome, now: float) -> None:
        known = self._tasks.get(task)
        if not known:
            return
        stage = known.stage
        known.running.pop(host, None)
        known.ended = now
        stage.ran = stage.ran or outcome.status > SKIPPED
        bad = outcome.status in (FAILED, UNREACHABLE, RESCUED)
        known.sound = known.sound and not bad
        if not known.once or (bad and not outcome.ignored) or outcome.status == CHANGED:
            reached = OK if bad and outcome.ignored else outcome.status
            stage.nodes[host] = max(stage.nodes.get(host, SKIPPED), reached)
        if outcome.status == CHANGED:
            tasks = self._changes.setdefault(host, [])
            if known.name not in tasks:
                tasks.append(known.name)
        if bad and not outcome.ignored:
            self._failures.append(_Failure(known.name, host, outcome.status, outcome.message))
        if bad or outcome.status == CHANGED or outcome.message or outcome.diff:
            known.untold_since = known.untold_since if known.untold else now
            known.untold.setdefault(outcome, []).append(host)

    def replica_decided(self, host: str, reasons: Sequence[str], starts: bool) -> None:
        """Note why units of a host start, or that they run as planned."""
        self._served = True
        if starts:
            self._starts[host] = list(reasons)

    def units_started(self, host: str) -> None:
        """Note that units of a host have been started, or would be: not all that is decided is."""
        self._begun.add(host)

    def planned(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = list(endpoints)

    def answered(self, well: bool) -> None:
        """Note whether the endpoint answered as it should."""
        self._answered = well

    def failures_are_told(self) -> None:
        """Note that someone else has printed all messages so far."""
        self._told.update(failure.message for failure in self._failures)
        for task in self._tasks.values():
            task.untold.clear()

    def tick(self, now: float, beats: bool) -> list[Line]:
        """Return what is due by the clock: what waits for slower nodes, signs of life."""
        lines = self._flush(now, ended=False)
        for task in self._tasks.values():
            if beats and task.running and now - task.began >= task.next_beat_s:
                task.next_beat_s *= 2
                if not task.speaks:
                    lines.append(Line(f"  {self._at_it(task, now)}"))
        return lines

    def live(self, now: float, columns: int) -> str:
        """Return what runs now, in one line of so many columns; empty where nothing does."""
        task = next((task for task in self._tasks.values() if task.running), None)
        if task is None:
            return ""
        return text.cut(f"{task.stage.name} | {self._at_it(task, now)}", columns)

    def interrupted(self, now: float) -> list[Line]:
        """Return what is left to be told of a run that ends before its end."""
        lines = self._flush(now, ended=True)
        told = self._failed_lines(self._failures, "failed")
        return lines + told

    def ends(
        self,
        now: float,
        failed: Iterable[str],
        counters: Mapping[str, int],
        warnings: Sequence[str] = (),
    ) -> list[Line]:
        """Return the screen at the end.

        Args:
            now: The time.
            failed: Hosts on which the run has failed, or that it did not reach.
            counters: Ansible's own, summed over the hosts.
            warnings: Each once.
        """
        lines = self.stage_ends(now)
        lost = set(failed)
        for stage in self._stages:
            for host, state in stage.nodes.items():
                if state in (FAILED, UNREACHABLE) and host not in lost:
                    stage.nodes[host] = RESCUED
        return [
            *lines,
            Line(""),
            *self._times(now),
            *self._changed_lines(),
            *self._started_lines(),
            *self._section(f"warnings: {len(warnings)}", "warning", warnings),
            *self._failure_lines(lost),
            *self._endpoint_lines(),
            Line(" ".join(f"{name}={count}" for name, count in counters.items())),
        ]

    def _changed_lines(self) -> list[Line]:
        entries = [
            f"{text.fold(hosts)}: {'; '.join(tasks)}"
            for hosts, tasks in self._by_value(self._changes)
        ]
        return self._section("would change" if self._check else "changed", "changed", entries)

    def _started_lines(self) -> list[Line]:
        begun = {host: why for host, why in self._starts.items() if host in self._begun}
        entries = [
            f"{text.fold(hosts)}:" + "".join(f"\n  {reason}" for reason in reasons)
            for hosts, reasons in self._by_value(begun)
        ]
        title = "units that would start, because" if self._check else "units started, because"
        return self._section(title, "changed", entries)

    def _failure_lines(self, lost: set[str]) -> list[Line]:
        """Return what failed on lost hosts, after what was rescued and not told yet."""
        final = {one.host for one in self._failures if one.host in lost and one.status != RESCUED}
        # A rescue may fail by what is no task's message; then what led to it is all there is.
        bad = [one for one in self._failures if one.host in lost and self._is_final(one, final)]
        told = self._failed_lines(bad, "failed")
        rescued = [
            one for one in self._failures if one not in bad and one.message not in self._told
        ]
        return [*self._failed_lines(rescued, "rescued"), *told]

    def _flush(self, now: float, ended: bool) -> list[Line]:
        lines = []
        for key, task in list(self._tasks.items()):
            if task.untold and (ended or now - task.untold_since >= _PATIENCE_S):
                for outcome, hosts in task.untold.items():
                    lines += self._event(task, outcome, self._in_order(hosts))
                task.untold = {}
            if ended and not task.running:
                if task.seen and task.sound and not self._check:
                    taken = task.ended - task.began
                    self.times[task.key] = max(taken, self.times.get(task.key, 0.0))
                del self._tasks[key]
        return lines

    def _event(self, task: _Task, outcome: Outcome, hosts: list[str]) -> list[Line]:
        said, kind = _said(outcome, self._check)
        # The end names all that have failed.
        line = f"  {said} {text.fold(hosts, 8)}: {task.name}"
        if outcome.status == RESCUED and not outcome.ignored:
            line += ", which has a rescue"
        if outcome.message and self._tells_now(task, outcome):
            if outcome.message in self._told:
                line += " (as above)"
            else:
                line += f"\n{text.indented(outcome.message, '    ')}"
                if outcome.status >= RESCUED:
                    self._told.add(outcome.message)
        diff = [Line(outcome.diff)] if outcome.diff else []
        return [Line(line, kind), *diff]

    def _in_order(self, hosts: Iterable[str]) -> list[str]:
        """Return hosts in the order of the inventory, as they began."""
        return sorted(hosts, key=lambda host: self._order.get(host, 0))

    def _tells_now(self, task: _Task, outcome: Outcome) -> bool:
        """Return whether a message is told at once; of a run that is at its end, the end tells."""
        if outcome.status < RESCUED or outcome.ignored or outcome.message in self._told:
            return True
        if outcome.status == RESCUED:
            return False
        lost = {failure.host for failure in self._failures}
        return not task.once and any(host not in lost for host in task.stage.nodes)

    def _by_value(self, entries: Mapping[str, Sequence[str]]) -> list[tuple[list[str], list[str]]]:
        """Return hosts of equal values together."""
        joined: dict[tuple[str, ...], list[str]] = {}
        for host in self._in_order(entries):
            joined.setdefault(tuple(entries[host]), []).append(host)
        return [(hosts, list(value)) for value, hosts in joined.items()]

    def _at_it(self, task: _Task, now: float) -> str:
        hosts = sorted(task.running, key=lambda host: task.running[host])
        words = task.name
        if len(task.seen) > 1 or not task.once:
            words += f" | {len(hosts)} of {text.nodes(len(task.seen))}"
        if len(hosts) < len(task.seen) or len(hosts) < 4:
            words += f": {text.fold(hosts, 3)}"
        bad = [host for host, state in task.stage.nodes.items() if state >= FAILED]
        if bad:
            words += f" | {len(bad)} failed"
        last = self._estimates.get(task.key)
        # The time is what an operator looks for, so it stands where nothing is cut off.
        spent = max(now - task.began, 0)
        time = f"{int(spent)} s" if spent < 120 else text.seconds(spent)
        if last:
            time += f", last time {text.seconds(last)}"
        return f"{time} | {words}"

    def stages(self) -> list[dict[str, Any]]:
        """Return the stages that ran, {name, seconds, nodes, changed, failed}: nodes are counts."""
        return [
            {
                "name": stage.name,
                "seconds": round(stage.taken_s, 1),
                "nodes": len(stage.nodes),
                "changed": sum(state == CHANGED for state in stage.nodes.values()),
                "failed": sum(state in (FAILED, UNREACHABLE) for state in stage.nodes.values()),
            }
            for stage in self._stages
            if stage.ran
        ]

    def _times(self, now: float) -> list[Line]:
        stages = [stage for stage in self._stages if stage.ran]
        if not stages:
            return [Line("nothing was done")]
        size = max(6, *(text.width(stage.name) for stage in stages))
        lines = []
        for stage in stages:
            name = stage.name + " " * (size - text.width(stage.name))
            taken = text.seconds(stage.taken_s)
            lines.append(Line(f"{name}  {taken:>12}  {self._came_to(stage)}", _kind(stage)))
        total = text.seconds(now - self._stages[0].began)
        lines.append(Line(f"{'in all'.ljust(size)}  {total:>12}"))
        return lines

    def _came_to(self, stage: _Stage) -> str:
        """Return in words what a stage's nodes came to."""
        by_state: dict[int, list[str]] = {}
        for host in self._in_order(stage.nodes):
            by_state.setdefault(stage.nodes[host], []).append(host)
        words = []
        done = sum(len(by_state.get(state, ())) for state in (OK, CHANGED, RESCUED))
        if done:
            words.append(f"{text.nodes(done)} done")
        for state, word in ((CHANGED, "changed"), (RESCUED, "rescued")):
            if by_state.get(state):
                words.append(f"{len(by_state[state])} {word}")
        for state, word in ((FAILED, "failed"), (UNREACHABLE, "unreachable")):
            if by_state.get(state):
                words.append(f"{len(by_state[state])} {word} ({text.fold(by_state[state])})")
        return ", ".join(words) or "done"

    @staticmethod
    def _section(title: str, kind: str, entries: Sequence[str]) -> list[Line]:
        if not entries:
            return []
        body = "\n".join(text.indented(entry, "  ") for entry in entries)
        return [Line(title, kind), Line(body)]

    @staticmethod
    def _is_final(failure: _Failure, final: set[str]) -> bool:
        return failure.status != RESCUED or failure.host not in final

    def _failed_lines(self, failures: Sequence[_Failure], title: str) -> list[Line]:
        # Of tasks that say the same of a host, one after the other, the last.
        last = {(one.host, one.message): one for one in failures}
        joined: dict[tuple[str, str, int], list[str]] = {}
        for one in last.values():
            joined.setdefault((one.task, one.message, one.status), []).append(one.host)
        entries = []
        for (task, message, status), hosts in joined.items():
            lost = " (unreachable)" if status == UNREACHABLE else ""
            entry = f"{', '.join(self._in_order(hosts))}{lost}: {task}"
            if message in self._told:
                entry += " (told above)"
            elif message:
                self._told.add(message)
                entry += f"\n{text.indented(message, '  ')}"
            entries.append(entry)
        kind = "failed" if title == "failed" else "warning"
        return self._section(title, kind, entries)

    def _endpoint_lines(self) -> list[Line]:
        if self._check or (not self._served and self._answered is None):
            return []
        state = {None: "not verified in this run", True: "it has answered in this run"}.get(
            self._answered, "it did not answer as it should"
        )
        entries = []
        for one in self._endpoints:
            entries.append(f"{one.deployment}: {one.url} as {one.model} ({state})")
            entries.append(f"  {curl(one)}")
        return self._section("endpoint", "ok" if self._answered else "plain", entries)


def curl(endpoint: Endpoint) -> str:
    """Return a command that asks an endpoint; a key stands in it as a variable of the shell."""
    key = ' -H "Authorization: Bearer $KEY"' if endpoint.needs_key else ""
    trust = f" --cacert {shlex.quote(endpoint.authority)}" if endpoint.authority else ""
    model = endpoint.model.replace("\\", "\\\\").replace('"', '\\"')
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return (
        f"curl{trust} {shlex.quote(endpoint.url + '/chat/completions')}{key}"
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _said(outcome: Outcome, check: bool) -> tuple[str, str]:
    if outcome.ignored and outcome.status >= RESCUED:
        return "ignored, failed" if outcome.status != UNREACHABLE else "ignored, unreachable", (
            "warning"
        )
    return {
        SKIPPED: ("skipped", "plain"),
        OK: ("ok", "ok"),
        CHANGED: ("would change" if check else "changed", "changed"),
        RESCUED: ("failed", "warning"),
        FAILED: ("failed", "failed"),
        UNREACHABLE: ("unreachable", "unreachable"),
    }[outcome.status]


def _kind(stage: _Stage) -> str:
    worst = max(stage.nodes.values(), default=OK)
    kinds = {CHANGED: "changed", FAILED: "failed", UNREACHABLE: "unreachable", RESCUED: "warning"}
    return kinds.get(worst, "ok")
