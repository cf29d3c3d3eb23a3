"""Several check modules in one call: side by side, each on its own, ports last."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError, check
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.host import look_io as host_look
from ansible_collections.muster.serving.plugins.module_utils.node import look_io as node_look


def fake(look, *options):
    return lambda: SimpleNamespace(ARGUMENT_SPEC={name: {} for name in options}, look=look)


def verdict(name: str) -> dict[str, str]:
    return check(name.replace("_", "-"), "ok", "x")


@pytest.fixture
def looks(monkeypatch):
    mine: dict[str, Any] = {}
    monkeypatch.setattr(node_look, "LOOKS", mine)
    return mine


@pytest.fixture
def states(monkeypatch):
    mine: dict[str, Any] = {}
    monkeypatch.setattr(node_look, "STATES", mine)
    return mine


def state_of(state):
    return lambda: SimpleNamespace(ARGUMENT_SPEC={"of": {}}, state=state)


def test_states_are_looked_at_beside_the_checks(looks, states) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def look(_options, _check_mode):
        meeting.wait()
        return {"checks": [verdict("nic-up")], "facts": {"nic": 1}}

    def state(options):
        # Passes only when both are under way.
        meeting.wait()
        return State([], [verdict("cann-version")], {"cann": 2}, {"of": options["of"]})

    looks["nic_check"] = fake(look)
    states["engine_image"] = state_of(state)
    states["docker"] = state_of(lambda _options: State(["daemon.json"]))
    asked = {"engine_image": {"of": "x"}, "docker": {}, "unit": None}
    states["unit"] = state_of(None)
    result = node_look.look({"nic_check": {}}, False, asked)

    assert result["states"] == {
        "engine_image": {"differs": [], "of": "x"},
        "docker": {"differs": ["daemon.json"]},
    }
    assert {one["id"] for one in result["checks"]} == {"nic-up", "cann-version"}
    assert result["facts"] == {"nic": 1, "cann": 2}


def test_what_a_takeover_stops_is_no_obstacle_to_the_checks(looks, states) -> None:
    asked: dict[str, Any] = {}

    def look(options, _check_mode):
        asked.update(options)
        return {"checks": []}

    spec = {"own_units": {"type": "list", "elements": "str"}}
    looks["port_check"] = lambda: SimpleNamespace(ARGUMENT_SPEC=spec, look=look)
    looks["nic_check"] = fake(look, "address")
    states["takeover"] = state_of(
        lambda _options: State(["container vllm"], seen={"own_units": ["vllm.service"]})
    )
    given = {"port_check": {"own_units": ["muster-a"]}, "nic_check": {"address": "x"}}
    result = node_look.look(given, False, {"takeover": {}})
    assert asked == {"own_units": ["muster-a", "vllm.service"], "address": "x"}
    assert result["states"]["takeover"]["differs"] == ["container vllm"]


def test_a_state_that_cannot_be_told_differs(looks, states) -> None:
    def broken(_options):
        raise OSError("no answer")

    states["docker"] = state_of(broken)
    result = node_look.look({}, False, {"docker": {}})
    assert result["states"]["docker"]["differs"] == ["it cannot be told: OSError: no answer"]
    assert result["checks"] == []


def test_a_state_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OptionError, match=r"states: dokcer is none of docker, engine_image"):
        node_look.look({}, False, {"dokcer": {}})
    with pytest.raises(OptionError, match="states: verified: missing required arguments: digest"):
        node_look.look({}, False, {"verified": {"deployment": "a"}})


def test_every_state_keeps_the_contract() -> None:
    for name, load in node_look.STATES.items():
        one = load()
        assert isinstance(one.ARGUMENT_SPEC, dict), name
        assert callable(one.state), name


def test_options_are_those_of_the_module_with_its_defaults() -> None:
    given = {"address": "10.20.0.11", "interface": None, "min_mtu": "9000"}
    assert node_look.options_of("checks", "nic_check", given) == {
        "address": "10.20.0.11",
        "interface": None,
        "peers": [],
        "min_mtu": 9000,
        "prefix_match": False,
        "timeout": 10,
    }


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"nic_checks": {}}, "nic_checks is none of npu_topology_check, gpu_topology_check"),
        ({"nic_check": ["address"]}, "nic_check has no options, but"),
        ({"nic_check": {"adress": "10.0.0.1", "interface": "x"}}, "adress"),
        ({"nic_check": {}}, "one of the following is required: address, interface"),
        ({"npu_topology_check": {"device_count": "many"}}, "device_count"),
    ],
)
def test_options_that_the_module_would_not_take_are_refused(asked, says) -> None:
    with pytest.raises(OptionError, match=says):
        node_look.look(asked, False)


def test_checks_are_made_side_by_side_and_ports_after_them(looks) -> None:
    meeting = threading.Barrier(2, timeout=10)
    order = []

    def look(name):
        def run(options, check_mode):
            if name != "port_check":
                # Passes only when both are under way.
                meeting.wait()
            order.append(name)
            return {"checks": [verdict(name)], "facts": {name: options}, f"{name}_more": check_mode}

        return run

    for name in ("port_check", "host_check", "nic_check"):
        looks[name] = fake(look(name), "of", "mode")
    options = {name: {"of": name, "mode": "listen"} for name in looks}
    result = node_look.look(options, True)

    assert order[-1] == "port_check"
    assert {one["id"].replace("-", "_") for one in result["checks"]} == set(looks)
    assert result["facts"] == options
    assert result["host_check_more"] is True


def test_a_check_that_breaks_is_a_failure_of_its_own(looks) -> None:
    def broken(options, check_mode):
        raise RecursionError("too deep")

    looks["host_check"] = fake(broken)
    looks["nic_check"] = fake(lambda options, check_mode: {"checks": [verdict("nic-up")]})
    checks = node_look.look({name: {} for name in looks}, False)["checks"]
    by_id = {one["id"]: one for one in checks}

    assert by_id["nic-up"]["status"] == "ok"
    assert by_id["host-check"]["status"] == "failed"
    assert by_id["host-check"]["observed"] == "RecursionError: too deep"


def test_options_that_do_not_go_together_are_refused(looks) -> None:
    def refuse(options, check_mode):
        raise OptionError("devices names 2 devices, device_count is 8")

    looks["npu_topology_check"] = fake(refuse)
    with pytest.raises(OptionError, match="npu_topology_check: devices names 2 devices"):
        node_look.look({"npu_topology_check": {}}, False)


def test_every_look_keeps_the_contract() -> None:
    for name, load in node_look.LOOKS.items():
        look = load()
        assert isinstance(look.ARGUMENT_SPEC, dict), name
        assert callable(look.look), name


def test_the_clock_is_read_first_and_last(looks, monkeypatch) -> None:
    """A slow check beside it must not widen the bounds of what the node's clock is off."""
    monkeypatch.setattr(
        host_look, "observe", lambda *_more, **_options: {"checks": [], "facts": {}}
    )
    looks["host_check"] = lambda: host_look

    def slow(options, check_mode):
        time.sleep(0.3)
        return {"checks": []}

    looks["npu_topology_check"] = fake(slow)
    before = time.time()
    result = node_look.look({"npu_topology_check": {}, "host_check": {}}, False)
    assert result["clock"]["began"] - before < 0.3 <= result["clock"]["ended"] - before
