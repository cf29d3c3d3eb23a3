"""What a whole replica needs, from what its nodes report."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    HostDecision,
    decide,
    decide_host,
    groups_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.waiting import (
    SETTLE_S,
    Group,
    Record,
    first_death,
    first_starts,
    of_group,
    waiting_for,
)

UNITS = [{"name": "r0-rank0", "host": "n0"}, {"name": "r0-rank1", "host": "n1"}]


def report(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "exit_status": "0",
        "result": "success",
        "ready": True if name.endswith("rank0") else None,
        "ended": False,
        "log": [],
        **changes,
    }


def reports(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {unit["name"]: report(unit["name"], **changes.get(unit["host"], {})) for unit in UNITS}


def test_a_healthy_replica_is_left_alone() -> None:
    assert decide(UNITS, reports()) == {
        "start": False,
        "stays": False,
        "wait": False,
        "running": True,
        "reasons": [],
    }


@pytest.mark.parametrize(
    ("host", "change", "reason"),
    [
        ("n1", {"installed": False}, "r0-rank1 is not installed on n1"),
        ("n0", {"active_state": "failed"}, "r0-rank0 does not run on n0 (failed)"),
        (
            "n1",
            {"active_state": "activating", "sub_state": "auto-restart"},
            "r0-rank1 does not run on n1 (activating)",
        ),
        (
            "n1",
            {"active_state": "activating", "sub_state": "auto-restart-queued"},
            "r0-rank1 does not run on n1 (activating)",
        ),
        (
            "n1",
            {"differences": [{"name": "image", "current": "a", "desired": "b"}]},
            "r0-rank1: image a -> b",
        ),
        (
            "n0",
            {"differences": [{"name": "argv --headless", "current": None, "desired": ""}]},
            "r0-rank0: argv --headless added ()",
        ),
    ],
)
def test_one_unit_starts_all_of_them(host: str, change: dict[str, Any], reason: str) -> None:
    verdict = decide(UNITS, reports(**{host: change}))
    assert verdict["start"]
    assert verdict["reasons"] == [reason]


def test_a_loading_replica_is_waited_for_and_not_restarted() -> None:
    verdict = decide(UNITS, reports(n0={"ready": False}))
    assert (verdict["start"], verdict["stays"], verdict["wait"]) == (False, False, True)
    assert verdict["reasons"] == []


def test_the_unit_with_a_fault_is_named_before_the_one_that_followed_it() -> None:
    statuses = {
        "n0": [report("r0-rank0", ended=True, exit_status="0")],
        "n1": [report("r0-rank1", ended=True, exit_status="137")],
    }
    death = first_death(statuses)
    assert death is not None
    assert death[0] == "n1"
    assert first_death({"n0": [report("r0-rank0")]}) is None


def test_a_wait_says_what_is_missing() -> None:
    statuses = {"n0": [report("r0-rank0", ready=False, log=["Loading weights 3/8"])]}
    assert waiting_for(statuses, ["n0", "n1"]) == [
        "word from n1",
        "r0-rank0 on n0 to serve: Loading weights 3/8",
    ]
    statuses = {"n0": [report("r0-rank0")], "n1": [report("r0-rank1", doing="compiles")]}
    assert waiting_for(statuses, ["n0", "n1"]) == []


def test_a_wait_says_what_each_engine_does() -> None:
    statuses = {
        "n0": [report("r0-rank0", ready=False, log=["any"], doing="waits for 10.0.0.1:2347")],
        "n1": [report("r0-rank1", ready=None, doing="loads weights, 3 of 8 shards")],
    }
    assert waiting_for(statuses, ["n0", "n1"]) == [
        "r0-rank0 on n0 to serve: waits for 10.0.0.1:2347",
        "r0-rank1 on n1: loads weights, 3 of 8 shards",
    ]


def test_each_gateway_is_a_group_of_its_own() -> None:
    units = [
        {"group": "replica-0", "host": "n1"},
        {"group": "replica-0", "host": "n0"},
        {"group": "replica-0", "host": "n0"},
        {"group": "gateway-0", "host": "n0"},
        {"group": "gateway-1", "host": "n1"},
    ]
    assert groups_of(units, "n0") == {"gateway-0": ["n0"], "replica-0": ["n0", "n1"]}
    assert groups_of(units, "n1") == {"gateway-1": ["n1"], "replica-0": ["n0", "n1"]}
    assert groups_of(units, "n2") == {}


def test_a_group_is_told_of_by_its_own_hosts() -> None:
    one, other = report("r0-rank0", group="replica-0"), report("gateway0", group="gateway-0")
    told = {"n0": [one, other], "n9": [report("r9-rank0", group="replica-9")]}
    assert of_group(told, "replica-0", ["n0", "n1"]) == {"n0": [one]}


def test_the_longest_first_start_of_each_host_counts() -> None:
    short, long = {"extra_s": 60}, {"extra_s": 900}
    told = {
        "n0": [report("a", first_start=short), report("b", first_start=long)],
        "n1": [report("c", first_start=None)],
    }
    assert first_starts(told) == {"n0": long}


OTHER_IMAGE = {"differences": [{"name": "image", "current": "a", "desired": "b"}]}


@pytest.mark.parametrize("restart", ["stage", "never"])
def test_what_runs_otherwise_than_planned_is_left_running(restart: str) -> None:
    verdict = decide(UNITS, reports(n0=OTHER_IMAGE), restart)
    assert (verdict["start"], verdict["stays"], verdict["wait"]) == (False, True, False)
    assert verdict["reasons"] == ["r0-rank0: image a -> b"]
    assert decide(UNITS, reports(n0=OTHER_IMAGE), "now")["start"]


@pytest.mark.parametrize("restart", ["now", "stage", "never"])
@pytest.mark.parametrize(
    "change",
    [{"active_state": "failed"}, {"active_state": "activating", "sub_state": "auto-restart"}],
)
def test_what_does_not_run_starts_in_any_case(restart: str, change: dict[str, Any]) -> None:
    verdict = decide(UNITS, reports(n0=OTHER_IMAGE, n1=change), restart)
    assert (verdict["start"], verdict["stays"]) == (True, False)


def test_what_is_not_installed_starts_unless_other_units_run_in_its_place() -> None:
    absent = reports(n0={"installed": False}, n1={"installed": False})
    assert decide(UNITS, absent, "never")["start"]
    assert decide(UNITS, absent, "never", orphans=True)["stays"]
    assert decide(UNITS, absent, "now", orphans=True)["start"]


def test_what_runs_as_planned_is_no_matter_of_restarts() -> None:
    assert not decide(UNITS, reports(), "never")["stays"]


def group(host: str = "", at: float = 0.0, **changes: Any) -> Group:
    """Two nodes' group after a look, at a time, in which the unit of one may differ."""
    made = Group("replica-0", ["n0", "n1"], [{"name": "r0-rank0", "group": "replica-0"} | TIMEOUT])
    made.update(seen(host, **changes), at)
    return made


TIMEOUT = {"start_timeout_s": 60}
# By itself it says no cause.
SYMPTOM = {"ended": True, "ready": False, "exit_status": "1", "log": ["it went away"]}
CAUSE = {**SYMPTOM, "log": ["No space left on device"]}


def seen(host: str = "", **changes: Any) -> dict[str, list[dict[str, Any]]]:
    return {
        unit["host"]: [
            report(unit["name"], group="replica-0", **(changes if unit["host"] == host else {}))
        ]
        for unit in UNITS
    }


def test_a_start_is_up_when_all_of_it_serves() -> None:
    up = group()
    assert (up.settled, up.dead, up.problem(1e9, None)) == (True, False, None)


def test_a_death_whose_cause_is_known_ends_the_wait_at_once() -> None:
    dead = group("n1", **CAUSE)
    assert dead.settled
    assert "r0-rank1 on n1 ended 3 s into start-up" in str(dead.problem(3, None))


def test_a_death_of_unknown_cause_waits_for_what_it_followed() -> None:
    dying = group("n1", at=100.0, **SYMPTOM)
    assert not dying.settled
    assert dying.problem(1e9, None) is None
    dying.update(seen("n1", **SYMPTOM), 100.0 + SETTLE_S - 0.1)
    assert not dying.dead
    dying.update(seen("n1", **SYMPTOM), 100.0 + SETTLE_S)
    assert dying.dead


def test_a_host_without_word_is_waited_for_until_the_time_is_over() -> None:
    waiting = group()
    waiting.update({"n0": seen()["n0"]}, 1.0)
    assert not waiting.settled
    assert waiting.problem(60, None) is None
    assert waiting.problem(60.5, None) == (
        "after 60 s (allowed: 60 s) still waiting for word from n1"
    )
    assert waiting.problem(6, 5) == "after 6 s (allowed: 5 s) still waiting for word from n1"


def test_a_record_keeps_what_a_later_look_does_not_tell() -> None:
    record = Record()
    once = {"extra_s": 900}
    record.add([report("r0-rank0", first_start=once, invocation_id="1")])
    record.add([report("r0-rank0", first_start=None, invocation_id="2", **SYMPTOM)])
    assert record.unexplained([group()]) == {"r0-rank0": ["1", "2"]}
    record.explain("r0-rank0", ["a line"])
    record.add([report("r0-rank0", first_start=None, invocation_id="2", **SYMPTOM)])
    assert record.unexplained([group()]) == {}
    (kept,) = record.reports
    assert (kept["first_start"], kept["cause_lines"]) == (once, ["a line"])


def decided(asked: str = "", **changes: dict[str, Any]) -> HostDecision:
    units = [{**unit, "group": "replica-0", "systemd_unit": unit["name"]} for unit in UNITS]
    told = {name: {"units": own, "orphans": []} for name, own in seen().items()}
    for host, change in changes.items():
        told[host]["units"] = [{**one, **change} for one in told[host]["units"]]
    plan = {"deployment": "c", "units": units, "links": []}
    return decide_host(plan, "n0", told, asked=asked)


def test_a_host_starts_for_what_another_of_its_replica_lacks() -> None:
    assert decided().starting == set()
    made = decided(n1={"installed": False})
    assert made.starting == {"replica-0"}
    assert [unit["name"] for unit in made.start_units] == ["r0-rank0"]
    assert made.stops(["r0-rank0"])
    assert not made.stops(["r0-rank1"])
    assert "  r0-rank1 is not installed on n1" in [one.text for one in made.told]


def test_what_is_asked_for_starts_what_runs_as_planned() -> None:
    assert decided("the weights have changed").reasons == ["the weights have changed"]
