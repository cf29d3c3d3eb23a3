"""What is left to do, from one look at each node."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible_collections.muster.serving.plugins.action import cluster_work
from ansible_collections.muster.serving.plugins.module_utils.node.look_io import STATES
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import unplanned
from ansible_collections.muster.serving.plugins.plugin_utils.replica import this_run_io
from ansible_collections.muster.serving.plugins.plugin_utils.replica.work import (
    KEPT,
    PREPARED,
    SERVED,
    TAKEN_OVER,
    authority_of,
    work_of,
)
from hypothesis import given
from hypothesis import strategies as st

WHEN = "2026-11-30 09:25:43Z"
# Two pairs, and a gateway beside the first.
UNITS = [
    {"group": "replica-0", "host": "a"},
    {"group": "replica-0", "host": "b"},
    {"group": "gateway-0", "host": "a"},
    {"group": "replica-1", "host": "c"},
    {"group": "replica-1", "host": "d"},
]
HOSTS = ("a", "b", "c", "d")
ASKERS = {"a", "c"}


def seen(*differs: str, run: str = "1f") -> dict[str, Any]:
    """A host that runs as it was verified, but for the states that are named."""
    states: dict[str, Any] = {name: {"differs": []} for name in (*PREPARED, *SERVED)}
    states["unit"]["units"] = [{"name": "u", "invocation_id": run}]
    states["verified"] = {"differs": [], "runs": {"u": "1f"}, "verified": WHEN}
    for name in differs:
        states[name] = {**states[name], "differs": ["x"]}
    return states


def looks(**others: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {host: others.get(host, seen()) for host in HOSTS}


def test_where_nothing_differs_only_the_askers_are_asked_and_briefly() -> None:
    work = work_of(UNITS, looks(), ASKERS)
    assert (work.prepare, work.serve, work.verify) == ([], [], ["a", "c"])
    assert work.brief == dict.fromkeys(HOSTS, WHEN)


@pytest.mark.parametrize("name", PREPARED)
def test_what_prepare_changes_is_served_and_verified_anew(name: str) -> None:
    work = work_of(UNITS, looks(c=seen(name)), ASKERS)
    assert (work.prepare, work.serve) == (["c"], ["c", "d"])
    assert work.verify == ["a", "c", "d"]
    # Users reach that replica through the gateway, too.
    assert work.brief == {"b": WHEN}


def test_a_replica_of_which_one_host_is_held_is_taken_over_as_one() -> None:
    free, held = {"takeover": {"differs": []}}, {"takeover": {"differs": ["container vllm"]}}
    taken = {host: {**seen(), **(held if host == "d" else free)} for host in HOSTS}
    assert work_of(UNITS, taken, ASKERS).takeover == ["c", "d"]
    taken = {host: {**seen(), **(held if host == "b" else free)} for host in HOSTS}
    assert work_of(UNITS, taken, ASKERS).takeover == ["a", "b"]
    assert work_of(UNITS, looks(), ASKERS).takeover == []


@pytest.mark.parametrize("name", SERVED)
def test_a_replica_is_served_as_one(name: str) -> None:
    work = work_of(UNITS, looks(b=seen(name)), ASKERS)
    assert (work.prepare, work.serve) == ([], ["a", "b"])
    assert set(work.brief) == {"c", "d"}


@pytest.mark.parametrize("host", [seen("verified"), seen(run="2e"), seen(run="")])
def test_what_was_restarted_since_or_not_verified_is_verified_in_full(host: Any) -> None:
    work = work_of(UNITS, looks(d=host), ASKERS)
    assert (work.prepare, work.serve) == ([], [])
    assert work.verify == ["a", "c", "d"]
    assert work.brief == {"b": WHEN}


def test_an_upgrade_comes_to_what_runs_as_planned_and_was_never_verified_so() -> None:
    work = work_of(UNITS, looks(b=seen("verified"), d=seen("unit")), ASKERS)
    assert (work.serve, work.upgrade) == (["c", "d"], ["a", "b", "c", "d"])
    # What an agent has restarted since was verified.
    assert work_of(UNITS, looks(b=seen(run="2e")), ASKERS).upgrade == []


def test_every_stage_comes_to_a_host_that_told_nothing() -> None:
    work = work_of(UNITS, looks(b={}), ASKERS)
    assert (work.prepare, work.serve) == (["b"], ["a", "b"])
    assert "b" in work.verify


def test_a_host_outside_the_run_is_nothing_to_rest_on() -> None:
    alone = {host: one for host, one in looks().items() if host != "d"}
    work = work_of(UNITS, alone, ASKERS)
    assert work.serve == ["c"]
    assert "c" not in work.brief


def test_gateways_are_told_where_a_run_has_left_an_engine_drained_or_may_have() -> None:
    def look(left: list[str]) -> dict[str, Any]:
        return {**seen(), "unit": {**seen()["unit"], "left_drained": left}}

    assert work_of(UNITS, looks(a=look([])), ASKERS).resume == []
    assert work_of(UNITS, looks(a=look(["u"])), ASKERS).resume == ["a"]
    # It was not reached, could not look, or is outside the limit.
    assert work_of(UNITS, looks(a={}), ASKERS).resume == ["a"]
    assert work_of(UNITS, {"c": look([]), "d": look([])}, ASKERS).resume == ["a"]


@given(
    st.fixed_dictionaries(
        {
            host: st.builds(
                lambda names, run: seen(*names, run=run),
                st.lists(st.sampled_from([*PREPARED, *SERVED, "verified"]), max_size=2),
                st.sampled_from(["1f", "2e"]),
            )
            for host in HOSTS
        }
    )
)
def test_what_differs_is_never_passed_over(found: dict[str, Any]) -> None:
    work = work_of(UNITS, found, ASKERS)
    for host, states in found.items():
        differing = {name for name, one in states.items() if one["differs"]}
        assert (host in work.prepare) == bool(differing & set(PREPARED))
        assert not differing & set(SERVED) or host in work.serve
        assert not differing or host in work.verify
        assert not differing or host in work.upgrade
        assert not (host in work.brief and host in work.serve)
    for pair in (("a", "b"), ("c", "d")):
        assert len({host in work.serve for host in pair}) == 1


def told(authority: str | None) -> dict[str, Any]:
    """A host of a gateway, or of none, with what clients check its certificate by."""
    seen_there = {} if authority is None else {"authority": authority}
    return {**seen(), "gateway_access": {"differs": [], **seen_there}}


@pytest.mark.parametrize(
    ("by_host", "known"),
    [
        ([], None),
        ([None, None], None),
        ([None, "one\n"], "one\n"),
        (["one\n", "one\n"], "one\n"),
        (["one\n", "two\n"], "one\ntwo\n"),
        (["", ""], ""),
        (["", None], ""),
    ],
)
def test_clients_need_the_authorities_of_all_gateways(
    by_host: list[str | None], known: str | None
) -> None:
    found = {f"gateway-{index}": told(one) for index, one in enumerate(by_host)}
    assert authority_of({"silent": {}, "engine": {"unit": {}}, **found}) == known


def test_the_authoritys_file_is_made_changed_and_removed_as_hosts_tell(tmp_path: Path) -> None:
    path = tmp_path / "output" / "gateway.pem"
    made = {
        "cluster": "c",
        "run": {"authority": str(path)},
        "plan": {"units": UNITS},
        "stages": {"a": {"verify": {"url": None, "gateway_url": None}}},
    }

    def work(authority: str | None, check_mode: bool = False) -> bool:
        action = cluster_work.ActionModule.__new__(cluster_work.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        variables = {"plan": made, "hostvars": {"a": {"look": {"states": told(authority)}}}}
        result = action.act({"made": "plan", "hosts": ["a"], "results": "look"}, variables)
        assert result["prepare"] == []
        return bool(result.get("changed"))

    assert not work(None)
    # On a controller that has none it is no change.
    assert not work("one\n", check_mode=True)
    assert not path.exists()
    assert (work("one\n"), work("one\n"), path.read_text()) == (False, False, "one\n")
    assert work("two\n", check_mode=True)
    assert path.read_text() == "one\n"
    assert (work("two\n"), work("two\n"), path.read_text()) == (True, False, "two\n")
    assert not work(None)
    assert work("", check_mode=True)
    assert path.read_text() == "two\n"
    assert (work(""), work(""), path.exists()) == (True, False, False)


@pytest.mark.parametrize(
    ("states", "held", "known"),
    [
        (seen("unit"), True, True),
        # Another run may have changed them since.
        (seen("unit"), False, False),
        # An image may take minutes.
        (seen("unit", "engine_image"), True, False),
        ({**seen("unit"), "takeover": {"differs": ["container vllm"]}}, True, False),
        ({}, True, False),
    ],
)
def test_what_was_seen_of_units_holds_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: Any, held: bool, known: bool
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    action = cluster_work.ActionModule.__new__(cluster_work.ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    asks = {"verify": {"url": None, "gateway_url": None}}
    made = {"cluster": "c", "plan": {"units": UNITS[:2]}, "stages": {"a": asks, "b": asks}}
    hostvars = {"a": {"look": {"states": states}}, "b": {"look": {"states": seen()}}}
    for host in ("a", "b") if held else ("a",):
        this_run_io._mark("c", {"inventory_hostname": host}).touch()
    work = action.act(
        {"made": "plan", "hosts": ["a", "b"], "results": "look"},
        {"plan": made, "hostvars": hostvars},
    )
    assert work["serve"] == ["a", "b"]
    assert work["units_known"] == known


def test_every_state_has_its_stage() -> None:
    assert set(STATES) == {*PREPARED, *SERVED, *TAKEN_OVER, *KEPT}


REPORT = {
    "name": "u",
    "installed": True,
    "differences": [],
    "active_state": "active",
    "sub_state": "running",
    "ready": True,
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"ready": None}, []),
        ({"ready": False}, ["u does not serve"]),
        ({"installed": False}, ["u is not installed"]),
        ({"differences": [{"name": "argv"}]}, ["u differs from the plan"]),
        ({"active_state": "failed"}, ["u does not run"]),
        ({"active_state": "activating", "sub_state": "auto-restart"}, ["u does not run"]),
    ],
)
def test_a_unit_that_is_not_as_planned_says_how(changes: Any, told: list[str]) -> None:
    assert unplanned([{**REPORT, **changes}], []) == told
    assert unplanned([{**REPORT, **changes}], ["old"]) == [*told, "old is not planned"]
