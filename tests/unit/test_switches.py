"""Variables that nothing reads are told, and those of others are not."""

import re

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import switches
from ansible_collections.muster.serving.plugins.plugin_utils.plan.switches_io import role_options
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

OPTIONS = role_options()


def errors(verb: str, *given: str) -> list[str]:
    return switches.unread(verb, given, (), OPTIONS)[0]


def warnings(verb: str, given: tuple[str, ...], inventory: tuple[str, ...]) -> list[str]:
    return switches.unread(verb, given, inventory, OPTIONS)[1]


@pytest.mark.parametrize(
    ("verb", "name", "meant"),
    [
        ("bench", "bench_repetitons", "did you mean bench_repetitions?"),
        ("sweep", "sweep_most", "did you mean bench_most?"),
        ("soak", "soak_s", "did you mean bench_soak_s?"),
        ("accuracy", "accuracy_set", "did you mean accuracy_sets?"),
        ("uninstall", "uninstall_image", "did you mean uninstall_images?"),
        ("takeover", "takeover_for_god", "did you mean takeover_for_good?"),
        ("upgrade", "upgrade_at_once", "did you mean roll_at_once?"),
        ("rollback", "roll_drain", "did you mean roll_drain_s?"),
        ("drain", "drain_seconds", "did you mean drain_s?"),
        # What is surely meant for Muster is told of under any verb.
        ("site", "bench_gates", "did you mean bench_gate?"),
    ],
)
def test_a_name_of_the_command_line_that_nothing_reads_is_refused(
    verb: str, name: str, meant: str
) -> None:
    (error,) = errors(verb, name)
    assert error.startswith(f"-e {name}: nothing reads it: ")
    assert meant in error


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("site", "site_name"),
        ("site", "upgrade_window"),
        ("bench", "benchmark"),
        ("bench", "drain_seconds"),
        ("stop", "stop_reason"),
        ("upgrade", "muster_port"),
        ("upgrade", "rolling"),
        # They are read, if by another verb.
        ("site", "bench_scenarios"),
        ("verify", "verify_soak_s"),
        ("plan", "plan_file"),
    ],
)
def test_what_is_read_or_somebody_elses_passes(verb: str, name: str) -> None:
    assert switches.unread(verb, [name], [name], OPTIONS) == ([], [])


def test_what_another_verb_reads_is_told() -> None:
    (told,) = warnings("sweep", ("bench_repetitions", "bench_most"), ())
    assert told == "-e bench_repetitions: without effect here: sweep does not read it"


def test_of_an_inventory_only_what_is_nearly_a_known_name_is_told() -> None:
    names = ("bench_scenario", "bench_user", "accuracy_set", "bench_repetitions", "foo")
    (told,) = warnings("bench", (), names)
    assert told == "bench_scenario: nothing reads it: did you mean bench_scenarios?"
    assert warnings("site", (), names) == []


@given(st.from_regex(r"[a-z]{1,10}(_[a-z]{1,6}){0,3}", fullmatch=True))
def test_every_verb_reads_its_own_and_any_name_is_judged(name: str) -> None:
    for verb in ("site", "bench", "sweep", "upgrade", "uninstall"):
        suspect = bool(switches.suspects(verb, [name]))
        assert suspect or errors(verb, name) == []


def test_what_playbooks_read_is_known() -> None:
    """Each variable of a verb that a playbook gives a default is one to set."""
    read = {
        name
        for path in (ROOT / "playbooks").glob("*.yml")
        for name in re.findall(r"\b([a-z]+_[a-z_]+) \| default\(", path.read_text())
        if switches.suspects(path.stem, [name])
    }
    every = {name for of in OPTIONS.values() for names in of.values() for name in names}
    assert read
    assert read <= {*switches.OF_PLAYBOOKS, *every}
    text = "\n".join(path.read_text() for path in (ROOT / "playbooks").glob("*.yml"))
    assert all(name in text for name in switches.OF_PLAYBOOKS)
