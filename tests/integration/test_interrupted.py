"""Upgrade and rollback that end in the middle: two replicas serve on, and the next run converges.

Each test goes on from where the one before it ended, on two replicas behind two gateways.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from .conftest import PAIR, Outcome, kill_at, lab, stop_pair
from .test_platforms import Client, sequences

Play = Callable[..., Outcome]

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("a3_nodes")]

LIMIT = "a3-replicas"
UPGRADE, ROLLBACK = "playbooks/upgrade.yml", "playbooks/rollback.yml"
# A flag that each upgrade changes; never one that was there before.
NUMBERS = count(3)
# Where a run may end: before anything stopped, between stop and start, while an engine loads, when
# it serves and no gateway knows of it yet, before what was verified is kept.
STAGES = [
    "Judge the command lines of all nodes",
    "Drain it at the gateways",
    "Stop the replica's units",
    "Start the replica's units",
    "Wait until the replica serves",
    "Take the wave back at the gateways",
    "Ask the endpoint",
]


def args_with(number: int) -> dict[str, Any]:
    args = {"data-parallel-size": 1, "quantization": None, "max-num-seqs": number}
    return {**args, "additional-config": {"scheduler_config": None}}


def again(play: Play, playbook: str, **extra: Any) -> Outcome:
    """The next run. What a step does on a node goes on, and nobody takes over before its end."""
    for _try in range(12):
        outcome = play(playbook, limit=LIMIT, **extra)
        if outcome.rc == 0 or "still changes the node" not in outcome.stdout:
            break
        time.sleep(5)
    return outcome


def numbers() -> list[str]:
    return [sequences(node, index) for index, node in enumerate(PAIR)]


def test_two_replicas_serve(play: Play) -> None:
    lab("up", "--all")
    stop_pair()
    args = args_with(next(NUMBERS))
    assert play("site.yml", limit=LIMIT, lab_a3_args=args).rc == 0


@pytest.mark.parametrize("stage", STAGES)
def test_an_upgrade_that_was_killed_is_made_up_for(play: Play, stage: str) -> None:
    number = next(NUMBERS)
    args = args_with(number)
    with Client() as client:
        kill_at(lambda line: stage in line, UPGRADE, limit=LIMIT, lab_a3_args=args)
        assert again(play, UPGRADE, lab_a3_args=args).rc == 0
    assert numbers() == [str(number)] * 2
    assert client.problems == []
    settled = play("site.yml", limit=LIMIT, lab_a3_args=args)
    assert (settled.rc, settled.changed()) == (0, {})


@pytest.mark.parametrize("stage", ["Stop the replica's units", "Wait until the replica serves"])
def test_a_rollback_that_was_killed_is_made_up_for(play: Play, stage: str) -> None:
    former = numbers()[0]
    assert play(UPGRADE, limit=LIMIT, lab_a3_args=args_with(next(NUMBERS))).rc == 0
    with Client() as client:
        kill_at(lambda line: stage in line, ROLLBACK, limit=LIMIT)
        assert again(play, ROLLBACK).rc == 0
    assert numbers() == [former] * 2
    assert client.problems == []


def test_a_node_that_is_lost_in_an_upgrade_is_named_and_the_next_run_converges(play: Play) -> None:
    number = next(NUMBERS)
    args = args_with(number)
    kill_at(
        lambda line: "Wait until the replica serves" in line, UPGRADE, limit=LIMIT, lab_a3_args=args
    )
    lab("node", "restart", PAIR[0])
    assert again(play, UPGRADE, lab_a3_args=args).rc == 0
    assert numbers() == [str(number)] * 2
