# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show a run by stages and nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Show a run by stages and nodes, and end with one screen
version_added: "0.1.0"
description:
  - Shows the plays of a run as stages. A task is told only when it changed something, failed or has
    something to say; with C(--check) what would change, with C(--diff) how.
  - On a terminal the last line tells what runs now, on which nodes, for how long, and how long it
    took in the last run of the same playbook, inventory and limit. Elsewhere there are plain lines
    alone, and a long task says now and then that it still runs.
  - Ends with the time of each stage, what changed, why units started, the warnings, each failure
    once with all its nodes, the address of the endpoint with a command that asks it, and the sum of
    Ansible's counters.
  - With C(-v) and more it prints all that P(ansible.builtin.default#callback) prints, too.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
options:
  history_file:
    description:
      - Where the times of former runs are kept for estimates. A file that cannot be read or written
        means no estimates; an empty value keeps none.
      - By default C(muster/progress.json) in E(XDG_STATE_HOME), or in C(~/.local/state).
    type: str
    env:
      - name: MUSTER_PROGRESS_HISTORY
    ini:
      - section: callback_progress
        key: history_file
  width:
    description: Columns of the line on a terminal; C(0) takes as many as the terminal has.
    type: int
    default: 0
    env:
      - name: MUSTER_PROGRESS_WIDTH
    ini:
      - section: callback_progress
        key: width
"""

import atexit
import json
import os
import textwrap
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible.utils.color import ANSIBLE_COLOR, stringc
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.plugin_utils.screen import (
    history_io,
    run,
    runs_io,
    terminal_io,
    text,
)

_OURS = "muster.serving."
# It prints by itself what it waits for.
_SPEAKING = (_OURS + "replica_wait", _OURS + "bench_run")
# While it asks, nothing may move below its question.
_ASKING = ("ansible.builtin.pause", "ansible.legacy.pause", "pause")
_COLOURS = {
    "plain": None,
    "ok": C.COLOR_OK,
    "changed": C.COLOR_CHANGED,
    "failed": C.COLOR_ERROR,
    "unreachable": C.COLOR_UNREACHABLE,
    "warning": C.COLOR_WARN,
}
_COUNTERS = {"failures": "failed"}
_COUNTED = ("ok", "changed", "unreachable", "failures", "skipped", "rescued", "ignored")
# Of what a failed command printed, so many lines are shown; -v shows all.
_LAST_LINES = 40


class CallbackModule(DefaultCallback):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "muster.serving.progress"

    def __init__(self) -> None:
        super().__init__()
        # Held while a line is decided on and printed, by the run and by the clock beside it.
        self._turn = threading.RLock()
        self._run = run.Run()
        self._history: tuple[Path, str] | None = None
        self._screen: terminal_io.Screen | None = None
        self._clock: terminal_io.Clock | None = None
        self._asking = False
        self._playbook = ""
        # What items of a loop had to say, and the differences, by task and host, until it ends.
        self._items: dict[tuple[str, str], list[str]] = {}
        self._diffs: dict[tuple[str, str], list[str]] = {}

    @property
    def _verbose(self) -> bool:
        return bool(self._display.verbosity > 0)

    # What runs

    def v2_playbook_on_start(self, playbook: Any) -> None:
        super().v2_playbook_on_start(playbook)
        check = bool(context.CLIARGS.get("check"))
        self._playbook = Path(str(playbook._file_name)).name
        self._history = self._history_of(str(playbook._file_name))
        estimates = history_io.read(*self._history) if self._history else {}
        self._run = run.Run(estimates, check)
        self._screen = terminal_io.Screen(
            getattr(self._display, "_lock", None) or threading.RLock()
        )
        self._screen.begin()
        self._clock = terminal_io.Clock(0.5, self._tick)
        # One that builds on this one, as ansible-runner's does, holds Ansible's lock for printing
        # while it calls: beside it the clock would wait for that, and be waited for.
        if self.__class__ is CallbackModule:
            self._clock.start()
        atexit.register(self._stop, True)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        with self._turn:
            self._asking = False
            now = time.monotonic()
            self._print(self._run.stage_ends(now))
            heading = self._run.stage_begins(play.get_name().strip(), now)
            if self._screen and not self._verbose:
                self._screen.head(stringc(heading, C.COLOR_HIGHLIGHT))
        self._play = play
        if self._verbose:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if self._verbose:
            super().v2_playbook_on_task_start(task, is_conditional)
        self._task_begins(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_handler_task_start(task)
        self._task_begins(task)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        super().v2_runner_on_start(host, task)
        with self._turn:
            self._run.node_begins(task._uuid, host.get_name(), time.monotonic())

    def v2_playbook_on_vars_prompt(self, *arguments: Any, **options: Any) -> None:
        with self._turn:
            self._asking = True
            self._draw("")

    # What came of it

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_on_ok(result)
        elif result.warnings or result.deprecations:
            self._handle_warnings(result.result)
        action = _action(result.task)
        # Our own results are large, and only a few of them tell something beyond their status.
        told = self._items.pop((result.task._uuid, result.host.get_name()), [])
        if not action.startswith(_OURS) and not result.task.loop and not self._verbose:
            told = self._said(result)
        self._note(action, result)
        status = run.CHANGED if result.is_changed() else run.OK
        self._ended(result, run.Outcome(status, "\n".join(told), self._diff_of(result)))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        told = self._items.pop((result.task._uuid, result.host.get_name()), [])
        message = "\n".join(told) if told else self._failure(result.result)
        if self._verbose:
            super().v2_runner_on_failed(result, ignore_errors)
        else:
            self._handle_warnings(result.result)
        if self._told_by_verdict(result, ignore_errors):
            message = ""
        status = run.RESCUED if _has_rescue(result.task) else run.FAILED
        self._ended(result, run.Outcome(status, message, self._diff_of(result), ignore_errors))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        message = self._failure(result.result)
        if self._verbose:
            super().v2_runner_on_unreachable(result)
        ignored = bool(result.task.ignore_unreachable)
        if self._told_by_verdict(result, ignored):
            message = ""
        self._ended(result, run.Outcome(run.UNREACHABLE, message, "", ignored))

    def v2_runner_on_skipped(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_on_skipped(result)
        elif result.warnings or result.deprecations:
            self._handle_warnings(result.result)
        self._items.pop((result.task._uuid, result.host.get_name()), None)
        self._ended(result, run.Outcome(run.SKIPPED))

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_item_on_ok(result)
            return
        if result.warnings or result.deprecations:
            self._handle_warnings(result.result)
        told = self._said(result)
        if told or result.is_changed():
            label = self._label(result.result)
            self._of_items(result).append(": ".join([label, *told]))

    def v2_runner_item_on_failed(self, result: Any) -> None:
        label, message = self._label(result.result), self._failure(result.result)
        if self._verbose:
            super().v2_runner_item_on_failed(result)
        else:
            self._handle_warnings(result.result)
        self._of_items(result).append(f"{label}: {message}")

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_retry(result)

    def v2_runner_on_async_poll(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_on_async_poll(result)

    def v2_runner_on_async_ok(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_on_async_ok(result)

    def v2_runner_on_async_failed(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_on_async_failed(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_notify(self, handler: Any, host: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_notify(handler, host)

    def v2_on_file_diff(self, result: Any) -> None:
        if self._verbose:
            super().v2_on_file_diff(result)
            return
        found = result.result
        # Of a loop each item tells its own, before the whole.
        whole = result.task.loop and "results" in found
        if not whole and found.get("diff") and found.get("changed"):
            shown = self._get_diff(found["diff"]).rstrip("\n")
            if shown:
                shown = shown if ANSIBLE_COLOR else text.printable(shown)
                key = (result.task._uuid, result.host.get_name())
                self._diffs.setdefault(key, []).append(shown)

    # The end

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._verbose:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with self._turn:
            self._print(self._run.stage_ends(time.monotonic()))
            self._draw("")
            if self._screen:
                self._screen.head("")
        if self._verbose:
            super().v2_playbook_on_stats(stats)
        else:
            self._print_custom(stats)
        by_host = {host: stats.summarize(host) for host in sorted(stats.processed)}
        lost = [host for host, one in by_host.items() if one["failures"] or one["unreachable"]]
        counters = {
            _COUNTERS.get(name, name): sum(one[name] for one in by_host.values())
            for name in _COUNTED
        }
        custom = stats.custom.get("_run", {})
        endpoints = custom.get("muster_endpoints", {})
        with self._turn:
            self._run.planned(_endpoints(endpoints))
            self._print(self._run.ends(time.monotonic(), lost, counters, self._warnings()))
        if self._history and self._run.times:
            history_io.keep(*self._history, self._run.times)
        if len(endpoints) == 1:
            (only,) = endpoints.values()
            self._keep_run(Path(only["reports"]), custom, lost)
        self._stop(False)

    # Helpers

    def _keep_run(self, reports: Path, custom: Mapping[str, Any], lost: list[str]) -> None:
        """Put the run beside the cluster's reports, where it came to a verdict on it."""
        verdicts = {
            stage: {key: custom[f"muster_{stage}"].get(key) for key in ("passed", "counts")}
            for stage in ("preflight", "serve", "verify")
            if f"muster_{stage}" in custom
        }
        if verdicts and not context.CLIARGS.get("check"):
            record = {
                "playbook": self._playbook,
                "failed_hosts": lost,
                "stages": self._run.stages(),
                "verdicts": verdicts,
            }
            runs_io.keep(reports / runs_io.NAME, record)

    def _task_begins(self, task: Any) -> None:
        action = _action(task)
        with self._turn:
            self._asking = action in _ASKING
            if self._asking:
                self._draw("")
            name = task.get_name().strip()
            speaks, once = action in _SPEAKING, task.run_once is True
            lines = self._run.task_begins(task._uuid, name, time.monotonic(), speaks, once)
            self._print(lines)

    def _ended(self, result: Any, outcome: run.Outcome) -> None:
        with self._turn:
            self._run.node_ends(
                result.task._uuid,
                result.host.get_name(),
                outcome._replace(message=text.printable(outcome.message).strip("\n")),
                time.monotonic(),
            )
            if self._verbose:
                self._run.failures_are_told()

    def _told_by_verdict(self, result: Any, ignored: bool) -> bool:
        """Return whether a failure stands in the table of checks, where its remedy is, too."""
        return ignored and _action(result.task).startswith(_OURS)

    def _note(self, action: str, result: Any) -> None:
        """Keep what the end tells of a result of our own."""
        if action == _OURS + "replica_decision":
            found = result.result
            reasons = [redaction.line(text.printable(one)) for one in found.get("reasons", ())]
            self._run.replica_decided(result.host.get_name(), reasons, bool(found.get("start")))
        elif action == _OURS + "unit_state" and result.task.args.get("state") == "started":
            self._run.units_started(result.host.get_name())
        elif action == _OURS + "cluster_verdict" and result.task.args.get("stage") == "verify":
            self._run.answered(not result.result.get("failed_hosts"))

    def _said(self, result: Any) -> list[str]:
        """Return what a result wants to be shown, as that of debug does."""
        if not self._run_is_verbose(result):
            return []
        found = result.result
        self._clean_results(found, result.task.action)
        return [_message(found["msg"]) if "msg" in found else self._dumped(found)]

    def _failure(self, found: Mapping[str, Any]) -> str:
        """Return the message of a failed result, with what its command printed last."""
        if "censored" in found:
            return str(found["censored"])
        parts = [_message(found["msg"])] if found.get("msg") else []
        if "rc" in found or "module_stderr" in found:
            for key in ("stderr", "module_stderr", "stdout", "module_stdout"):
                lines = str(found.get(key) or "").strip().splitlines()
                if lines and not any("\n".join(lines) in part for part in parts):
                    left = len(lines) - _LAST_LINES
                    more = [f"({left} lines before these)"] if left > 0 else []
                    parts.append("\n".join([*more, *lines[-_LAST_LINES:]]))
        return "\n".join(parts) or self._dumped(found)

    def _dumped(self, found: Mapping[str, Any]) -> str:
        return textwrap.dedent(str(self._dump_results(found))).strip()

    def _label(self, found: Mapping[str, Any]) -> str:
        label = self._get_item_label(found)
        return label if isinstance(label, str) else json.dumps(label, default=str)

    def _of_items(self, result: Any) -> list[str]:
        return self._items.setdefault((result.task._uuid, result.host.get_name()), [])

    def _diff_of(self, result: Any) -> str:
        return "\n".join(self._diffs.pop((result.task._uuid, result.host.get_name()), ()))

    def _warnings(self) -> list[str]:
        shown = getattr(self._display, "_warns", ())
        return sorted(text.printable(str(one)).strip().removeprefix("[WARNING]: ") for one in shown)

    def _print_custom(self, stats: Any) -> None:
        """Print what set_stats and reports leave, where the default callback would."""
        if not stats.custom or not self.get_option("show_custom_stats"):
            return
        self._display.banner("CUSTOM STATS: ")
        for name in sorted(stats.custom):
            shown = self._dump_results(stats.custom[name], indent=1).replace("\n", "")
            self._display.display(f"\t{'RUN' if name == '_run' else name}: {shown}")

    def _print(self, lines: Iterable[run.Line]) -> None:
        for line in lines:
            self._display.display(line.text, color=_COLOURS[line.kind])

    def _tick(self) -> None:
        with self._turn:
            if self._clock is None or self._screen is None:
                return
            now, screen = time.monotonic(), self._screen
            if not self._verbose:
                self._print(self._run.tick(now, beats=not screen.is_terminal))
            columns = self.get_option("width") or screen.columns(80)
            # In the last column a terminal would go on to the next line.
            screen.draw("" if self._asking else self._run.live(now, max(columns - 1, 1)))

    def _draw(self, shown: str) -> None:
        if self._screen:
            self._screen.draw(shown)

    def _stop(self, early: bool) -> None:
        """End the live line; a run that ends early has failures that were not told yet."""
        with self._turn:
            if self._clock is None:
                return
            self._clock.stop()
            self._clock = None
            self._draw("")
            if early:
                self._print(self._run.interrupted(time.monotonic()))
            if self._screen:
                self._screen.end()

    def _history_of(self, playbook: str) -> tuple[Path, str] | None:
        """Return the file of former times and the name of this kind of run in it."""
        told = self.get_option("history_file")
        if told == "":
            return None
        path = Path(told).expanduser() if told else history_io.default_path()
        inventories = context.CLIARGS.get("inventory") or ()
        names = (playbook, *(name for name in inventories if "," not in name))
        places = [os.path.abspath(name) for name in names]
        return path, " ".join([*places, f"-l {context.CLIARGS.get('subset') or 'all'}"])


def _action(task: Any) -> str:
    return str(task.resolved_action or task.action)


def _message(told: Any) -> str:
    if isinstance(told, str):
        return told
    if isinstance(told, (list, tuple)) and all(isinstance(one, str) for one in told):
        return "\n".join(told)
    return json.dumps(told, default=str, indent=2)


def _endpoints(planned: Mapping[str, Any]) -> list[run.Endpoint]:
    return [
        run.Endpoint(name, one["url"], one["model"], one["key"], one.get("authority"))
        for name, one in planned.items()
    ]


def _has_rescue(task: Any) -> bool:
    """Return whether a failure of a task goes to a rescue, as far as its blocks tell."""
    inner, outer = task, getattr(task, "_parent", None)
    while outer is not None:
        if getattr(outer, "rescue", None):
            uuids = [one._uuid for one in outer.block]
            if inner._uuid in uuids:
                return True
        inner, outer = outer, getattr(outer, "_parent", None)
    return False
