"""A unit's whole log, reduced to the lines that can tell why it ended."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.units import log
from ansible_collections.muster.serving.plugins.modules import unit_log as module
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import (
    PATTERNS,
    explain,
)
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
    assert lines == [CAUSE, FOLLOW_UP]
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
    assert ask(capsys)["lines"] == [FOLLOW_UP]
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


@given(st.lists(st.text() | st.sampled_from([CAUSE, FOLLOW_UP, *TRACE[:2]])))
def test_the_reduced_log_says_what_the_whole_one_does(lines: list[str]) -> None:
    names = [one.signature.name for one in explain(lines)]
    assert [one.signature.name for one in explain(log.matching(lines, PATTERNS))] == names
