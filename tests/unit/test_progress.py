"""How a run is told: its texts, its lines while it runs, and the screen at its end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.screen import history_io, run, text
from hypothesis import given
from hypothesis import strategies as st

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
HOSTS = ("npu-a", "npu-b", "npu-c")
COUNTERS = {"ok": 3, "changed": 0, "failed": 0}


def texts(lines: list[run.Line]) -> str:
    return "\n".join(line.text for line in lines)


def began(name: str = "Tune", hosts: tuple[str, ...] = HOSTS, **more: bool) -> run.Run:
    """Return a run in which a task has begun on hosts."""
    made = run.Run()
    made.stage_begins("Prepare", 0)
    made.task_begins("t", name, 0, **more)
    for host in hosts:
        made.node_begins("t", host, 0)
    return made


def ended(outcomes: dict[str, run.Outcome]) -> run.Run:
    made = began(hosts=tuple(outcomes))
    for host, outcome in outcomes.items():
        made.node_ends("t", host, outcome, 1)
    return made


def test_what_changed_nothing_is_no_line() -> None:
    made = ended(dict.fromkeys(HOSTS, run.Outcome(run.OK)))
    assert texts(made.task_begins("u", "next", 1)) == ""
    assert texts(made.stage_ends(2)) == "  3 nodes done, 2.0 s"


def test_a_stage_in_which_nothing_ran_is_not_told() -> None:
    made = ended(dict.fromkeys(HOSTS, run.Outcome(run.SKIPPED)))
    assert made.stage_ends(2) == []
    assert "Prepare" not in texts(made.ends(2, [], COUNTERS))


def test_nodes_that_tell_the_same_are_one_line_in_the_order_of_the_inventory() -> None:
    made = began()
    for host in reversed(HOSTS):
        made.node_ends("t", host, run.Outcome(run.CHANGED), 1)
    assert texts(made.task_begins("u", "next", 1)) == "  changed npu-a, npu-b, npu-c: Tune"


def test_a_message_is_told_once_with_all_its_nodes() -> None:
    outcome = run.Outcome(run.FAILED, "the disk is full\nfree some")
    made = ended({"npu-a": outcome, "npu-b": outcome})
    shown = texts(made.task_begins("u", "next", 1))
    assert shown == "  failed npu-a, npu-b: Tune"
    shown += texts(made.ends(2, ["npu-a", "npu-b"], COUNTERS))
    assert shown.count("the disk is full") == 1
    assert "npu-a, npu-b: Tune\n    the disk is full\n    free some" in shown


def test_where_others_go_on_a_failure_is_told_at_once_and_named_at_the_end() -> None:
    made = ended({"npu-a": run.Outcome(run.FAILED, "dead"), "npu-b": run.Outcome(run.OK)})
    assert "npu-a: Tune\n    dead" in texts(made.task_begins("u", "next", 1))
    end = texts(made.ends(2, ["npu-a"], COUNTERS))
    assert "dead" not in end
    assert "npu-a: Tune (told above)" in end


def test_what_a_rescue_repeats_is_told_under_the_last_task_alone() -> None:
    made = ended({"npu-a": run.Outcome(run.RESCUED, "it ended")})
    made.task_begins("u", "Report", 1)
    made.node_begins("u", "npu-a", 1)
    made.node_ends("u", "npu-a", run.Outcome(run.FAILED, "it ended"), 2)
    end = texts(made.ends(3, ["npu-a"], COUNTERS))
    assert end.count("it ended") == 1
    assert "failed\n  npu-a: Report\n    it ended" in end
    assert "rescued" not in end


def test_what_was_rescued_is_no_failed_node() -> None:
    made = ended({"npu-a": run.Outcome(run.RESCUED, "no package")})
    end = texts(made.ends(3, [], COUNTERS))
    assert "1 node done, 1 rescued" in end
    assert "rescued\n  npu-a: Tune\n    no package" in end


def test_an_interrupted_run_tells_what_it_had_kept_for_its_end() -> None:
    made = ended({"npu-a": run.Outcome(run.FAILED, "dead")})
    assert "    dead" in texts(made.interrupted(2))


def test_an_ignored_failure_fails_no_node() -> None:
    made = ended({"npu-a": run.Outcome(run.UNREACHABLE, "no route", "", True)})
    assert texts(made.stage_ends(2)).splitlines() == [
        "  ignored, unreachable npu-a: Tune",
        "    no route",
        "  1 node done, 2.0 s",
    ]


def test_a_check_says_what_would_change_and_asks_for_no_endpoint() -> None:
    made = run.Run(check=True)
    made.planned([run.Endpoint("a2", "http://h:1/v1", "m", False)])
    made.stage_begins("Serve", 0)
    made.task_begins("t", "Start", 0)
    made.node_begins("t", "npu-a", 0)
    made.node_ends("t", "npu-a", run.Outcome(run.CHANGED), 1)
    made.replica_decided("npu-a", ["argv --x 1 -> 2"], True)
    # One that was decided on, and not begun after another had failed.
    made.replica_decided("npu-b", ["argv --x 1 -> 2"], True)
    made.units_started("npu-a")
    assert texts(made.task_begins("u", "next", 1)) == "  would change npu-a: Start"
    end = texts(made.ends(2, [], COUNTERS))
    assert "would change\n  npu-a: Start" in end
    assert "units that would start, because\n  npu-a:\n    argv --x 1 -> 2" in end
    assert "curl" not in end
    assert made.times == {}


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (None, "not verified in this run"),
        (True, "it has answered in this run"),
        (False, "it did not answer as it should"),
    ],
)
def test_the_end_has_the_endpoint_and_a_command_without_the_key(
    answered: bool | None, said: str
) -> None:
    made = run.Run()
    made.planned([run.Endpoint("a2", "http://h:1/v1", "mini", True)])
    made.replica_decided("npu-a", [], False)
    if answered is not None:
        made.answered(answered)
    end = texts(made.ends(2, [], COUNTERS))
    assert f"a2: http://h:1/v1 as mini ({said})" in end
    assert 'curl http://h:1/v1/chat/completions -H "Authorization: Bearer $KEY"' in end
    assert end.endswith("\nok=3 changed=0 failed=0")


def test_a_command_that_asks_over_tls_names_what_it_trusts() -> None:
    one = run.Endpoint("a2", "https://h:1/v1", "m", False, "muster-output/a 2/gateway.pem")
    assert run.curl(one).startswith(
        "curl --cacert 'muster-output/a 2/gateway.pem' https://h:1/v1/chat/completions "
    )
    assert "--cacert" not in run.curl(one._replace(authority=None))


def test_a_plan_alone_has_no_endpoint_yet() -> None:
    made = run.Run()
    made.planned([run.Endpoint("a2", "http://h:1/v1", "mini", False)])
    assert "curl" not in texts(made.ends(1, [], COUNTERS))


def test_a_long_task_gives_signs_of_life_at_growing_intervals() -> None:
    made = began()
    made.node_ends("t", "npu-a", run.Outcome(run.OK), 1)
    beats = [second for second in range(300) if made.tick(second, beats=True)]
    assert beats == [30, 60, 120, 240]
    assert began(speaks=True).tick(100, beats=True) == []
    assert began().tick(100, beats=False) == []


def test_the_live_line_names_the_slow_nodes_and_the_last_time() -> None:
    made = run.Run({"Prepare: engine_image: Bring the image": 42})
    made.stage_begins("Prepare", 0)
    made.task_begins("t", "muster.serving.engine_image : Bring the image", 0)
    for host in HOSTS:
        made.node_begins("t", host, 0)
    made.node_ends("t", "npu-b", run.Outcome(run.OK), 1)
    assert made.live(7.9, 200) == (
        "Prepare | 7 s, last time 42 s | engine_image: Bring the image | 2 of 3 nodes: npu-a, npu-c"
    )
    for host in HOSTS:
        made.node_ends("t", host, run.Outcome(run.OK), 50)
    assert made.live(51, 200) == ""


def test_a_failure_does_not_wait_for_slow_nodes_to_be_told() -> None:
    made = began()
    made.node_ends("t", "npu-a", run.Outcome(run.FAILED, "dead"), 1)
    made.node_ends("t", "npu-b", run.Outcome(run.OK), 1)
    assert made.tick(2, beats=False) == []
    assert "failed npu-a: Tune" in texts(made.tick(5, beats=False))
    assert made.tick(6, beats=False) == []


def test_only_what_went_well_gives_an_estimate() -> None:
    made = ended({"npu-a": run.Outcome(run.OK)})
    made.stage_ends(9)
    assert made.times == {"Prepare: Tune": 1}
    made = ended({"npu-a": run.Outcome(run.FAILED, "x")})
    made.stage_ends(9)
    assert made.times == {}


STATUS = st.sampled_from(range(6))
EVENT = st.one_of(
    st.tuples(st.just("stage"), st.text(max_size=20)),
    st.tuples(st.just("task"), st.text(max_size=20)),
    st.tuples(st.just("begin"), st.sampled_from(HOSTS)),
    st.tuples(st.just("tick"), st.floats(0, 1e6)),
    st.tuples(
        st.sampled_from(HOSTS), st.builds(run.Outcome, STATUS, st.text(), st.text(), st.booleans())
    ),
)


@given(st.lists(EVENT, max_size=30), st.sets(st.sampled_from(HOSTS)), st.integers(0, 120))
def test_no_order_of_events_breaks_it_and_the_live_line_fits(events, failed, columns) -> None:
    made, now = run.Run({"a": 1.0}), 0.0
    for number, (kind, value) in enumerate(events):
        now += 1
        if kind == "stage":
            made.stage_ends(now)
            made.stage_begins(value, now)
        elif kind == "task":
            made.task_begins(str(number % 3), value, now, once=bool(number % 2))
        elif kind == "begin":
            made.node_begins(str(number % 3), value, now)
        elif kind == "tick":
            made.tick(now + value, beats=True)
        else:
            made.node_ends(str(number % 3), kind, value, now)
        live = made.live(now, columns)
        assert text.width(live) <= columns
        assert not CONTROLS.search(live)
    lines = made.ends(now, failed, COUNTERS, ["w"])
    assert {line.kind for line in lines} <= set(run.KINDS)


@given(st.text())
def test_what_is_printed_steers_no_terminal(said: str) -> None:
    shown = text.printable(said)
    assert not CONTROLS.search(shown)
    assert text.printable(shown) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("one\r\ntwo", "one\ntwo"),
        ("10%\r20%\r30%", "30%"),
        ("\x1b]0;title\x07a\tb\x08", "a b"),
        ("a\x1b[2Kb", "ab"),
    ],
)
def test_sequences_and_bars_are_taken_out(said: str, shown: str) -> None:
    assert text.printable(said) == shown


@given(st.text(), st.integers(0, 40))
def test_a_line_is_cut_to_its_columns(said: str, columns: int) -> None:
    assert text.width(text.cut(said, columns)) <= columns


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *((0, "0.0 s"), (0.44, "0.4 s"), (9.97, "10 s"), (42, "42 s")),
        *((119.6, "2 min 0 s"), (190, "3 min 10 s"), (3900, "1 h 5 min")),
    ],
)
def test_times_are_said_as_people_do(value: float, said: str) -> None:
    assert text.seconds(value) == said


@pytest.mark.parametrize(
    ("count", "said"), [(1, "h0"), (4, "h0, h1, h2, h3"), (5, "h0, h1, h2 and 2 more")]
)
def test_many_names_are_folded(count: int, said: str) -> None:
    assert text.fold([f"h{number}" for number in range(count)]) == said


def test_times_of_a_run_are_kept_beside_those_of_others(tmp_path: Path) -> None:
    file = tmp_path / "state" / "progress.json"
    history_io.keep(file, "a", {"Serve: Wait": 42.123, "Serve: short": 0.5})
    history_io.keep(file, "b", {"Serve: Wait": 9})
    history_io.keep(file, "a", {"Prepare: Pull": 7})
    assert history_io.read(file, "a") == {"Serve: Wait": 42.1, "Prepare: Pull": 7}
    assert history_io.read(file, "b") == {"Serve: Wait": 9}
    assert [one.name for one in file.parent.iterdir()] == ["progress.json"]
    for number in range(60):
        history_io.keep(file, f"run {number}", {"x": 3})
    assert len(json.loads(file.read_text())["runs"]) <= 40
    assert history_io.read(file, "run 59")


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["runs", "schema", "r", "t"]), inner, max_size=3
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_content_of_the_file_is_an_error(tmp_path_factory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("history") / "progress.json"
    file.write_bytes(content)
    assert all(value > 0 for value in history_io.read(file, "r").values())
    history_io.keep(file, "r", {"t": 5})
    assert history_io.read(file, "r")["t"] == 5


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history_io.keep(tmp_path / "file" / "progress.json", "r", {"t": 5})
    history_io.keep(tmp_path, "r", {"t": 5})
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
