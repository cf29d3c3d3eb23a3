"""Which node is in which replica, and that one that runs stays there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.units.dealing import replica_checks
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.plan_support import host, plan, view

RECIPE = "minimax-m2.5-w8a8/vllm-ascend-a3"
PAIRS = "minimax-m2.5/vllm-ascend-a2"


def dealt(recipe: str, *pins: int | None, **more: Any) -> dict[int, list[str]]:
    """The hosts of each replica by its number; by host its pin."""
    hosts = [
        host(number, recipe, **({} if pin is None else {"replica": pin}), **more)
        for number, pin in enumerate(pins, 1)
    ]
    return {one["index"]: one["hosts"] for one in plan(view(c=hosts))["replicas"]}


def test_without_a_pin_the_order_of_the_inventory_decides() -> None:
    assert dealt(RECIPE, None, None) == {0: ["c-0"], 1: ["c-1"]}


def test_a_node_stays_in_its_replica() -> None:
    # A new one before it, and one that was taken out between two.
    assert dealt(RECIPE, None, 0) == {0: ["c-1"], 1: ["c-0"]}
    assert dealt(RECIPE, 0, 2) == {0: ["c-0"], 2: ["c-1"]}
    assert dealt(RECIPE, 0, None, 2) == {0: ["c-0"], 1: ["c-1"], 2: ["c-2"]}


def test_a_new_node_fills_the_place_of_a_dead_one() -> None:
    assert dealt(PAIRS, 0, 1, None, 0) == {0: ["c-0", "c-3"], 1: ["c-1", "c-2"]}


def test_more_than_a_replica_holds_is_refused() -> None:
    with pytest.raises(PlanError) as refused:
        dealt(RECIPE, 0, 0)
    assert "muster_replica puts 2 of 1 nodes into replica 0 (c-0, c-1)" in str(refused.value)
    with pytest.raises(PlanError, match="muster_replica has to be a whole number from 0"):
        dealt(RECIPE, -1)


def test_units_and_links_bear_the_number_of_their_replica() -> None:
    made = plan(view(c=[host(1, RECIPE, replica=0), host(2, RECIPE, replica=2)]))
    assert [unit["name"] for unit in made["units"]] == ["c-r0-rank0", "c-r2-rank0"]
    assert {unit["group"] for unit in made["units"]} == {"replica-0", "replica-2"}
    assert [one["url"] for one in made["replicas"]] == [unit["api_url"] for unit in made["units"]]


@given(st.lists(st.none() | st.integers(0, 5), min_size=2, max_size=8))
def test_every_node_is_in_one_whole_replica_and_pins_hold(pins: list[int | None]) -> None:
    assume(len(pins) % 2 == 0)
    said = {pin for pin in pins if pin is not None}
    if any(pins.count(pin) > 2 for pin in said) or len(said) > len(pins) // 2:
        with pytest.raises(PlanError, match="muster_replica puts"):
            dealt(PAIRS, *pins)
        return
    found = dealt(PAIRS, *pins)
    assert sorted(name for own in found.values() for name in own) == sorted(
        f"c-{number}" for number in range(len(pins))
    )
    assert {len(own) for own in found.values()} == {2}
    for number, pin in enumerate(pins):
        assert pin is None or f"c-{number}" in found[pin]


UNITS = [{"replica": 0, "role": "single"}, {"replica": 0, "role": "gateway"}]


def test_a_node_that_would_change_its_replica_is_told_its_pin() -> None:
    (one,) = replica_checks(UNITS, ["c-r1-rank0"], redeal=False)
    assert (one["id"], one["status"], one["subject"]) == ("unit-replica", "failed", "replica 0")
    assert "it has units of replica 1, c-r1-rank0" in one["observed"]
    assert one["remedy"].startswith("muster_replica: 1 for this host")
    assert replica_checks(UNITS, ["c-r1-rank0"], redeal=True)[0]["status"] == "ok"


@pytest.mark.parametrize("orphans", [[], ["c-gateway1"], ["c-r0-rank4"]])
def test_what_goes_with_its_replica_is_no_change_of_it(orphans: list[str]) -> None:
    (one,) = replica_checks(UNITS, orphans, redeal=False)
    assert one["status"] == "ok"


def test_a_node_of_gateways_alone_is_in_no_replica() -> None:
    assert replica_checks(UNITS[1:], ["c-r1-rank0"], redeal=False) == []
