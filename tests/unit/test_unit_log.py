"""A unit's whole log, reduced to the lines that can tell why it ended."""

import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.units import log
from ansible_collections.muster.serving.plugins.modules import unit_log as module
from ansible_collections.muster.serving.plugins.plugin_utils.failure.judging import (
    Log,
    explain,
    judge,
)
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import PATTERNS
from hypothesis import given
from hypothesis import strategies as st

RUNS = ["5c9c1e1e2f6b4d2f8a7f3f0f9d1e4b5a", "0" * 32]
CAUSE = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
FOLLOW_UP = "RuntimeError: Engine core initialization failed. See root cause above."
TRACE = [f'  File "/opt/vllm/worker.py", line {number}, in run' for number in range(2000)]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What journalctl prints; what it was asked stands beside it."""
    program = tmp_path / "journalctl"
    log = tmp_path / "log"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\ncat {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def ask(capsys: Any, **arguments: Any) -> dict[str, Any]:
    given_arguments = {"invocations": RUNS, "patterns": PATTERNS, **arguments}
    with patch_module_args(given_arguments), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def test_the_cause_is_found_2000_lines_above_the_end(journal: Path, capsys: Any) -> None:
    journal.write_text("\n".join([CAUSE, *TRACE, FOLLOW_UP]) + "\n")
    lines = ask(capsys)["lines"]
    assert (lines[0], lines[-1]) == (CAUSE, FOLLOW_UP)
    assert explain(lines)[0].signature.name == "device-memory"
    assert explain([*TRACE, FOLLOW_UP][-25:])[0].signature.name == "engine-core"


def test_all_runs_are_read_with_what_systemd_says_of_them(journal: Path, capsys: Any) -> None:
    journal.write_text("")
    ask(capsys)
    asked = (journal.parent / "asked").read_text().split()
    fields = [
        f"{name}={run}" for run in RUNS for name in ("_SYSTEMD_INVOCATION_ID", "INVOCATION_ID")
    ]
    assert [word for word in asked if "=" in word][1:] == fields
    assert asked.count("+") == 3


@pytest.mark.parametrize("run", ["", "--help", "x; reboot", "5C9C"])
def test_what_is_no_id_of_a_run_is_not_asked_for(journal: Path, run: str, capsys: Any) -> None:
    journal.write_text(CAUSE)
    assert ask(capsys, invocations=[run])["lines"] == []
    assert not (journal.parent / "asked").exists()


def test_a_long_log_is_read_from_its_end_in_time(journal: Path, capsys: Any) -> None:
    line = "INFO 11-21 09:00:00 [worker.py:1] loading weights, all is well, as it should be\n"
    journal.write_text(CAUSE + "\n" + line * 60_000 + FOLLOW_UP + "\n")
    begin = time.monotonic()
    lines = ask(capsys)["lines"]
    assert lines[-1] == FOLLOW_UP
    assert CAUSE not in lines
    assert time.monotonic() - begin < 20


def test_no_half_line_is_taken_for_one(journal: Path, capsys: Any) -> None:
    journal.write_text("x" * (1 << 20) + CAUSE + "\nall is well\n")
    assert ask(capsys, max_mb=1)["lines"] == []


def test_what_is_repeated_is_kept_a_few_times() -> None:
    lines = log.matching([CAUSE] * 10_000 + [FOLLOW_UP], PATTERNS)
    assert lines == [CAUSE] * log.KEPT + [FOLLOW_UP]


def test_a_pattern_that_is_none_is_said(journal: Path, capsys: Any) -> None:
    journal.write_text(CAUSE)
    assert ask(capsys, patterns=["("])["failed"]


UNIT = "muster-a-r0-rank0.service"


def systemd(text: str, at: str = "10:00:00") -> str:
    return f"2026-11-21T{at}+0000 n0 systemd[1]: {text}"


def engine(text: str, at: str = "10:00:00") -> str:
    return f"2026-11-21T{at}+0000 n0 muster-a-r0-rank0[277]: {text}"


STARTING = systemd(f"Starting {UNIT} - Muster: head a-r0-rank0...")
STARTED = systemd(f"Started {UNIT} - Muster: head a-r0-rank0.", "10:00:01")
EXITED = systemd(f"{UNIT}: Main process exited, code=exited, status=1/FAILURE", "10:05:00")
STOPPING = systemd(f"Stopping {UNIT} - Muster: head a-r0-rank0...", "10:04:00")
READY = engine("(APIServer pid=7) INFO:     Application startup complete.")
MARKS = [STARTING, STARTED, EXITED, STOPPING, READY, "Attaching to engine-1", "Received SIGTERM"]


@given(st.lists(st.text() | st.sampled_from([CAUSE, FOLLOW_UP, *TRACE[:2], *MARKS])))
def test_the_reduced_log_says_what_the_whole_one_does(lines: list[str]) -> None:
    def said(lines: list[str]) -> list[list[str]]:
        runs = judge(Log(lines, []))
        return [[one.signature.name for one in run.findings] for run in runs if run.findings]

    assert said(log.matching(lines, PATTERNS)) == said(lines)


def test_a_start_mark_begins_a_run() -> None:
    lines = [STARTING, STARTED, engine(CAUSE), EXITED, STARTING, STARTED, engine(FOLLOW_UP)]
    first, second = log.runs(lines)
    assert (first.ended, second.ended) == (True, False)
    assert first.end is not None
    assert first.begin == first.end - 300
    assert engine(CAUSE) in first.lines
    assert engine(CAUSE) not in second.lines


def test_started_alone_begins_a_run_too() -> None:
    """A service of another type has no line for its starting."""
    assert len(log.runs([STARTED, engine(CAUSE), STARTED, engine(CAUSE)])) == 2
    assert len(log.runs(["Attaching to engine-1", CAUSE, "Attaching to engine-1", CAUSE])) == 2


def test_what_follows_a_stop_is_no_failure() -> None:
    lines = [STARTING, STARTED, engine("all is well"), STOPPING, engine(CAUSE), EXITED]
    (judged,) = judge(Log(lines, []))
    assert judged.run.stopped
    assert judged.findings == []
    assert judge(Log(["INFO received SIGTERM, shutting down", CAUSE], []))[0].findings == []
    assert judge(Log([CAUSE, "received SIGTERM", FOLLOW_UP], []))[0].cause is not None


def test_what_came_before_it_served_kept_nobody_from_serving() -> None:
    assert judge(Log([STARTING, engine(CAUSE), READY], []))[0].findings == []
    (judged,) = judge(Log([STARTING, engine(FOLLOW_UP), READY, engine(CAUSE)], []))
    assert [one.signature.name for one in judged.findings] == ["device-memory"]


def test_each_run_keeps_the_first_lines_of_a_pattern() -> None:
    lines = [STARTING, *[CAUSE] * 9, STARTING, *[CAUSE] * 9]
    assert log.matching(lines, PATTERNS) == [STARTING, *[CAUSE] * 3, STARTING, *[CAUSE] * 3]


def utc(*parts: int) -> float:
    return datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2026-11-21T10:27:57+0000 n0 x[1]: ERROR 11-20 01:00:00", utc(2026, 11, 21, 10, 27, 57)),
        ("2026-11-21T18:27:57+0800 n0 x[1]: y", utc(2026, 11, 21, 10, 27, 57)),
        ("2026-11-21T05:57:57-04:30 n0 x[1]: y", utc(2026, 11, 21, 10, 27, 57)),
        ("[2025-03-12 08:41:07 TP0] Scheduler hit", utc(2025, 3, 12, 8, 41, 7)),
        ("[ERROR] HCCL(1,):2025-12-04-14:46:07.911.312 [x]", utc(2025, 12, 4, 14, 46, 7, 911000)),
        ('{"time":"2025-12-04T15:15:35.826445Z"}', utc(2025, 12, 4, 15, 15, 35, 826445)),
        ("(Engine pid=1) ERROR 11-03 10:12:55 [core.py:708] x", utc(2026, 11, 3, 10, 12, 55)),
        ("[12-16 13:40:41] Rank 0 scheduler is dead.", utc(2026, 12, 16, 13, 40, 41)),
        ("[rank4]:[E223 10:47:12.991 x.cpp:616] y", utc(2026, 2, 23, 10, 47, 12)),
        ("[W1226 14:20:07.548 TCPStore.cpp:358] y", utc(2026, 12, 26, 14, 20, 7)),
        ("Nov 12 23:08:41 node1 vllm[4501]: y", utc(2026, 11, 12, 23, 8, 41)),
        ("[26563.503745] oom-kill:constraint=CONSTRAINT_NONE", None),
        ("ERROR 13-41 10:00:00 x", None),
        ("no time at all", None),
    ],
)
def test_times_of_several_forms(line: str, seconds: float | None) -> None:
    assert log.moment(line, 2026) == seconds


@given(st.text())
def test_any_line_has_a_time_or_none(line: str) -> None:
    assert log.moment(line) is None or isinstance(log.moment(line), float)
    assert len(log.runs([line])) == 1
