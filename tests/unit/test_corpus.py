"""Signatures on the ends of logs from public reports: tests/logs/README.md says what they are."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.failure import judging, signatures
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    FOLLOW_UP,
    SYMPTOM,
)

from tests.conftest import ROOT
from tests.unit.test_signatures import LINES

LOGS = ROOT / "tests" / "logs"
RANKS = {one.name: one.rank for one in signatures.SIGNATURES}
# Of the half aside: how much of what is named is right, and of what can be named is named.
RIGHT, NAMED = 0.95, 0.85


class Case(NamedTuple):
    path: Path
    source: str
    answer: str
    lines: list[str]

    @property
    def nameable(self) -> bool:
        """Whether the log has the words of a cause."""
        return RANKS.get(self.answer, SYMPTOM) < SYMPTOM


def read(path: Path) -> Case:
    head, _mark, body = path.read_text(encoding="utf-8").partition("\n---\n")
    keys = dict(line.split(": ", 1) for line in head.splitlines())
    return Case(path, keys["source"], keys["answer"], body.splitlines())


CASES = {
    side: [read(path) for path in sorted((LOGS / side).glob("*.log"))] for side in ("seen", "aside")
}
EVERY = [*CASES["seen"], *CASES["aside"]]


def findings(case: Case) -> list[judging.Finding]:
    runs = judging.judge(judging.Log(case.lines, []))
    return runs[0].findings if runs else []


def named(case: Case) -> str | None:
    """The cause that is claimed, likely ones included; None where none is."""
    runs = judging.judge(judging.Log(case.lines, []))
    cause = runs[0].cause if runs else None
    return cause.signature.name if cause else None


def test_the_corpus_is_large_enough_and_its_halves_are_alike() -> None:
    quiet = [case for case in EVERY if case.answer == "none"]
    assert (len(EVERY) >= 150, len(quiet) >= 30) == (True, True)
    seen, aside = len(CASES["seen"]), len(CASES["aside"])
    assert abs(seen - aside) < 0.1 * len(EVERY)


def test_each_report_is_there_once_with_a_known_answer() -> None:
    sources = [case.source for case in EVERY]
    assert len({*sources}) == len(sources)
    assert [one for one in sources if not re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", one)] == []
    answers = {case.answer for case in EVERY} - {"none", "unnameable"}
    assert answers - {*RANKS} == set()
    assert [case.path.name for case in EVERY if not any(case.lines)] == []


def test_nothing_in_it_is_private() -> None:
    for case in EVERY:
        text = "\n".join(case.lines)
        assert not re.search(
            r"[\w.+-]+@[\w-]+\.(?:com|org|net|cn)\b|\bhf_[A-Za-z0-9]{8}|/home/", text
        ), case


@pytest.mark.parametrize("case", CASES["seen"], ids=lambda case: case.path.stem)
def test_a_seen_case_is_told_right(case: Case) -> None:
    if case.nameable:
        assert named(case) == case.answer
    else:
        assert named(case) is None
    if RANKS.get(case.answer) == SYMPTOM:
        assert findings(case)[0].signature.name == case.answer


@pytest.mark.parametrize(
    "case", [case for case in EVERY if case.answer == "none"], ids=lambda case: case.path.stem
)
def test_what_is_healthy_or_unrelated_names_nothing(case: Case) -> None:
    assert [one.signature.name for one in findings(case)] == []


@pytest.mark.parametrize(
    "case", [case for case in EVERY if not case.nameable], ids=lambda case: case.path.stem
)
def test_no_cause_is_claimed_where_the_log_tells_none(case: Case) -> None:
    assert named(case) is None


def test_the_half_aside_is_told_right(capsys: pytest.CaptureFixture[str]) -> None:
    told = [(case, named(case)) for case in CASES["aside"]]
    claimed = [(case, name) for case, name in told if name]
    right = [case for case, name in claimed if name == case.answer]
    nameable = [case for case in CASES["aside"] if case.nameable]
    shares = len(right) / len(claimed), len(right) / len(nameable)
    with capsys.disabled():
        print(
            f"\ntests/logs/aside: {len(right)} of {len(claimed)} causes named are right"
            f" ({shares[0]:.1%}), {len(right)} of {len(nameable)} nameable ones are named so"
            f" ({shares[1]:.1%})"
        )
    wrong = [
        f"{case.path.name}: {name or 'nothing'} in place of {case.answer}"
        for case, name in told
        if (name != case.answer if case.nameable else name)
    ]
    assert shares[0] >= RIGHT, "\n".join(wrong)
    assert shares[1] >= NAMED, "\n".join(wrong)


def test_every_signature_has_a_case_or_a_line_of_a_stated_source() -> None:
    answers = {case.answer for case in EVERY}
    for one in signatures.SIGNATURES:
        assert one.source, one.name
        if one.rank < FOLLOW_UP:
            assert one.name in answers or one.name in LINES, one.name
