"""replica_link: what an agent decides, what it reads and writes, and real agents on loopback."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import http.server
import inspect
import itertools
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import replica_link
from ansible_collections.muster.serving.plugins.module_utils.programs.replica_link import (
    AGREE_S,
    BACKOFF_S,
    GRACE_S,
    Budget,
    Local,
    Memory,
    Peer,
    Stall,
    Unit,
    boot_time,
    decide,
    parse_answer,
    parse_config,
    parse_memory,
    parse_units,
    render_answer,
    state_of,
)
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import Api
from ansible_collections.muster.serving.plugins.module_utils.units import links_io
from hypothesis import given
from hypothesis import strategies as st

A, B = "a.service", "b.service"
P1, P2 = "192.0.2.2", "192.0.2.3"
NOW = 1000.0

RUNNING = Unit("active", "running", "success", "old", 0)
CRASHED = RUNNING._replace(active="activating", sub="auto-restart", result="exit-code")
AGAIN = RUNNING._replace(invocation="new", restarts=1)
BY_HAND = RUNNING._replace(invocation="new")
FAILED = Unit("failed", "failed", "start-limit-hit", "old", 3)
STOPPING = RUNNING._replace(active="deactivating", sub="stop-sigterm")
STOPPED = RUNNING._replace(active="inactive", sub="dead")

MEMORY = Memory(
    "start", "boot", entered_at=100.0, invocations={A: "old", B: "old"}, seen={P1: "", P2: ""}
)
PEER = Peer("start", 0, "running", False, "", 0.0)


def decided(units, peers=None, memory=MEMORY, boot_id="boot", now=NOW, start_id="start"):
    """The new memory and the actions as a list of what an operator would have typed."""
    if isinstance(units, Unit):
        units = {A: units}
    memory, actions = decide(memory, Local(start_id, boot_id, units), peers or {}, now)
    return memory, [" ".join([action.verb, *action.units]) for action in actions]


def remembering(**changes):
    return dataclasses.replace(MEMORY, **changes)


GEN3 = remembering(generation=3)
HALTED = remembering(generation=3, halted=[A])
PENDING = remembering(generation=1, pending=[A], accepted=True, asked_at=NOW - 2)


@pytest.mark.parametrize(
    ("case", "units", "peers", "memory", "generation", "commands"),
    [
        ("all is well", RUNNING, {P1: PEER}, MEMORY, 0, []),
        ("a peer is silent", RUNNING, {P1: None}, MEMORY, 0, []),
        ("crash of the only unit", AGAIN, {P1: PEER}, MEMORY, 1, ["note"]),
        ("the others of the node follow", {A: AGAIN, B: RUNNING}, {}, MEMORY, 1, [f"restart {B}"]),
        (
            "what the operator stopped stays",
            {A: AGAIN, B: STOPPED},
            {},
            MEMORY,
            1,
            ["note"],
        ),
        (
            "a crash is no new try for what failed for good",
            {A: AGAIN, B: FAILED},
            {},
            MEMORY,
            1,
            ["note", f"stop {A}"],
        ),
        ("a crash is not over", CRASHED, {P1: PEER._replace(generation=4)}, MEMORY, 0, []),
        ("a stop is not over", STOPPING, {P1: PEER._replace(generation=4)}, MEMORY, 0, []),
        ("both sides crashed", AGAIN, {P1: PEER._replace(generation=1)}, MEMORY, 1, ["note"]),
        ("both, and a peer twice", AGAIN, {P1: PEER._replace(generation=2)}, MEMORY, 2, ["note"]),
        ("by hand goes beyond", BY_HAND, {P1: PEER._replace(generation=1)}, MEMORY, 2, ["note"]),
        (
            "a peer is ahead",
            RUNNING,
            {P1: PEER._replace(generation=2)},
            MEMORY,
            2,
            [f"restart {A}"],
        ),
        ("a peer is behind", RUNNING, {P1: PEER}, GEN3, 3, []),
        (
            "the furthest counts",
            RUNNING,
            {P1: PEER._replace(generation=2), P2: PEER._replace(generation=5)},
            MEMORY,
            5,
            [f"restart {A}"],
        ),
        (
            "a peer was started by hand: a new budget",
            RUNNING,
            {P1: PEER._replace(generation=1, by_hand=True)},
            MEMORY,
            1,
            [f"reset-failed {A}", f"restart {A}"],
        ),
        (
            "another start is ignored",
            RUNNING,
            {P1: PEER._replace(start_id="next", generation=9, state="failed")},
            MEMORY,
            0,
            [],
        ),
        ("stopped here: left alone", STOPPED, {P1: PEER._replace(generation=2)}, MEMORY, 0, []),
        (
            "stopped here, the peer started by hand: left alone",
            STOPPED,
            {P1: PEER._replace(generation=2, by_hand=True)},
            MEMORY,
            0,
            [],
        ),
        ("a peer was stopped", RUNNING, {P1: PEER._replace(state="stopped")}, MEMORY, 0, []),
        (
            "a peer failed for good",
            RUNNING,
            {P1: PEER._replace(state="failed")},
            MEMORY,
            0,
            [f"stop {A}"],
        ),
        (
            "a peer had failed before we were started by hand",
            RUNNING,
            {P1: PEER._replace(state="failed", generation=2)},
            GEN3,
            3,
            [],
        ),
        ("failed here: the others stop", {A: FAILED, B: RUNNING}, {}, MEMORY, 0, [f"stop {B}"]),
        (
            "failed here, a crash elsewhere",
            FAILED,
            {P1: PEER._replace(generation=4)},
            MEMORY,
            4,
            ["note"],
        ),
        (
            "failed here, started by hand elsewhere",
            FAILED,
            {P1: PEER._replace(generation=4, by_hand=True)},
            MEMORY,
            4,
            [f"reset-failed {A}", f"restart {A}"],
        ),
        (
            "failed here, started by hand here",
            BY_HAND,
            {P1: PEER._replace(generation=3)},
            GEN3,
            4,
            ["note"],
        ),
        (
            "failed here, started by hand here, and crashed before it was seen",
            AGAIN,
            {P1: PEER._replace(generation=3)},
            remembering(generation=3, resting=[A]),
            4,
            ["note"],
        ),
        ("halted, a crash elsewhere", STOPPED, {P1: PEER._replace(generation=4)}, HALTED, 3, []),
        (
            "halted, a peer crashed unheard",
            STOPPED,
            {P1: PEER._replace(generation=3, crash="x", crashed_at=900.0)},
            HALTED,
            3,
            [],
        ),
        (
            "our restart passes through failed and a peer crashed again",
            FAILED,
            {P1: PEER._replace(generation=2)},
            PENDING,
            2,
            [f"restart {A}"],
        ),
        (
            "halted, the failed one was started by hand",
            STOPPED,
            {P1: PEER._replace(generation=4, by_hand=True)},
            HALTED,
            4,
            [f"reset-failed {A}", f"restart {A}"],
        ),
        ("our restart is on its way", STOPPING, {P1: PEER}, PENDING, 1, []),
        ("our restart came", BY_HAND, {P1: PEER}, PENDING, 1, []),
        ("our restart came and crashed", AGAIN, {P1: PEER}, PENDING, 2, ["note"]),
        (
            "our restart is on its way and a peer crashed again",
            STOPPING,
            {P1: PEER._replace(generation=2)},
            PENDING,
            2,
            [f"restart {A}"],
        ),
        (
            "a peer crashed unheard, long after our start",
            RUNNING,
            {P1: PEER._replace(crash="x", crashed_at=100 + AGREE_S + 1)},
            MEMORY,
            1,
            [f"restart {A}"],
        ),
        (
            "a peer crashed unheard, at our start",
            RUNNING,
            {P1: PEER._replace(crash="x", crashed_at=100 + AGREE_S - 1)},
            MEMORY,
            0,
            [],
        ),
    ],
)
def test_rule(case, units, peers, memory, generation, commands) -> None:
    after, actual = decided(units, peers, memory)
    assert (actual, after.generation) == (commands, generation), case
    # systemd took it and nothing else happened, so nothing more is done.
    after = dataclasses.replace(after, accepted=True)
    assert decided(units, peers, after, now=NOW + 1)[1] == [], case


def test_first_sight_is_no_restart() -> None:
    memory, commands = decided({A: RUNNING, B: STOPPED}, {P1: PEER}, memory=None)
    assert (memory.generation, commands) == (0, [])
    # B is started after the agent.
    memory, commands = decided({A: RUNNING, B: BY_HAND}, {P1: PEER}, memory)
    assert (memory.generation, commands) == (0, [])
    assert memory.invocations == {A: "old", B: "new"}


def test_a_crash_before_first_sight_counts() -> None:
    memory, _ = decided(CRASHED, memory=None)
    memory, _ = decided(AGAIN, memory=memory)
    assert memory.generation == 1


def test_a_new_start_forgets_the_old_one() -> None:
    memory, commands = decided(BY_HAND, {P1: PEER}, GEN3, start_id="next")
    assert (memory.start_id, memory.generation, commands) == ("next", 0, [])


def test_a_reboot_is_a_restart_of_the_replica_with_a_new_budget() -> None:
    # Its answers of before the boot, and what it was about to do then, are void.
    memory, _ = decided(BY_HAND, {P1: PEER}, PENDING, boot_id="next", now=30.0)
    assert (memory.generation, memory.by_hand, memory.pending) == (2, True, [])
    assert memory.crashed_at == 0.0
    # Both sides of a power cut agree.
    memory, _ = decided(BY_HAND, {P1: PEER._replace(generation=1)}, boot_id="next", now=30.0)
    assert memory.generation == 1


@pytest.mark.parametrize("rest", [FAILED, STOPPED])
def test_a_start_by_hand_that_crashes_unseen_is_still_one(rest) -> None:
    memory, _ = decided(rest)
    memory, _ = decided(AGAIN, memory=memory)
    assert memory.by_hand
    memory, _ = decided(AGAIN._replace(invocation="newer"), memory=memory)
    assert not memory.by_hand


def test_a_crash_is_dated_when_the_unit_went_down() -> None:
    memory, _ = decided(CRASHED, now=NOW)
    memory, _ = decided(AGAIN, memory=memory, now=NOW + 8)
    assert (memory.crashed_at, memory.entered_at) == (NOW, NOW + 8)
    memory, _ = decided(AGAIN._replace(invocation="newer"), memory=memory, now=NOW + 60)
    assert memory.crashed_at == NOW + 60


def test_an_unheard_crash_is_looked_at_once() -> None:
    peer = PEER._replace(crash="x", crashed_at=50.0)
    memory, commands = decided(RUNNING, {P1: peer})
    assert commands == []
    # The clock of the peer drifts.
    assert decided(RUNNING, {P1: peer._replace(crashed_at=900.0)}, memory)[1] == []


def test_an_agent_that_lost_its_state_file_tells_that_it_restarts() -> None:
    memory, _ = decided(RUNNING, memory=None)
    memory, commands = decided(RUNNING, {P1: PEER._replace(generation=3)}, memory)
    assert (commands, memory.crash) == ([f"restart {A}"], "old")


def test_an_order_that_systemd_never_got_is_given_again() -> None:
    memory = remembering(generation=1, pending=[A], accepted=False, asked_at=NOW, by_hand=True)
    assert decided(STOPPED, memory=memory, now=NOW + GRACE_S - 1)[1] == []
    memory, commands = decided(STOPPED, memory=memory, now=NOW + GRACE_S)
    assert commands == [f"reset-failed {A}", f"restart {A}"]
    assert decided(STOPPED, memory=memory, now=NOW + GRACE_S + 1)[1] == []


def test_an_order_that_a_unit_outlives_is_given_again_at_once() -> None:
    memory = remembering(generation=1, pending=[A, B], accepted=False, asked_at=NOW)
    assert decided({A: RUNNING, B: FAILED}, memory=memory, now=NOW + 1)[1] == [f"restart {A} {B}"]
    # What goes down does so by our order.
    assert decided({A: STOPPING, B: BY_HAND}, memory=memory, now=NOW + 1)[1] == []
    # systemd has the order and takes its time.
    memory = dataclasses.replace(memory, accepted=True)
    assert decided({A: RUNNING, B: FAILED}, memory=memory, now=NOW + 1)[1] == []


@pytest.mark.parametrize(("unit", "state"), [(FAILED, "failed"), (STOPPED, "stopped")])
def test_an_order_that_systemd_refused_is_not_given_again(unit, state) -> None:
    memory, commands = decided(unit, memory=PENDING, now=NOW + GRACE_S)
    assert (commands, state_of(memory, {A: unit})) == ([], state)


def test_a_stop_that_systemd_never_got_is_given_again() -> None:
    peers = {P1: PEER._replace(state="failed")}
    memory, commands = decided(RUNNING, peers)
    assert commands == [f"stop {A}"]
    assert decided(RUNNING, peers, memory, now=NOW + GRACE_S - 1)[1] == []
    assert decided(RUNNING, peers, memory, now=NOW + GRACE_S)[1] == [f"stop {A}"]


def test_a_restart_that_a_stop_overtakes_is_no_start_by_hand() -> None:
    peers = {P1: PEER._replace(state="failed", generation=1)}
    memory = dataclasses.replace(PENDING, accepted=False)
    memory, commands = decided(STOPPING, peers, memory)
    assert commands == [f"stop {A}"]
    started_and_stopped = STOPPED._replace(invocation="new")
    memory, commands = decided(started_and_stopped, peers, memory, now=NOW + 2)
    assert (memory.generation, commands) == (1, [])
    memory, commands = decided(started_and_stopped, peers, memory, now=NOW + GRACE_S)
    assert (state_of(memory, {A: started_and_stopped}), commands) == ("stopped", [])


def test_a_restart_that_a_stop_cancels_is_not_asked_for_again() -> None:
    peers = {P1: PEER._replace(state="failed", generation=1)}
    memory, _ = decided(STOPPING, peers, dataclasses.replace(PENDING, accepted=False))
    memory, commands = decided(STOPPED, peers, memory, now=NOW + GRACE_S)
    assert (state_of(memory, {A: STOPPED}), commands) == ("stopped", [])


def test_what_failed_does_not_pass_a_crash_on_as_a_start_by_hand() -> None:
    memory, _ = decided(FAILED, {P1: PEER._replace(generation=4)}, remembering(by_hand=True))
    assert (memory.generation, memory.by_hand) == (4, False)


def test_what_the_operator_stops_after_a_halt_stays_stopped() -> None:
    memory, _ = decided(STOPPED, {P1: PEER._replace(generation=4, by_hand=True)}, HALTED)
    memory, _ = decided(BY_HAND, memory=memory)
    stopped = BY_HAND._replace(active="inactive", sub="dead")
    assert decided(stopped, {P1: PEER._replace(generation=5)}, memory)[1] == []


STALLED = {A: Stall("old", "stalled since 12:00: no token for 130 s")}
BUDGET = Budget(2, 10000.0)


def stalled_at(memory, now, peers=None, units=None, stalls=STALLED):
    local = Local("start", "boot", units or {A: RUNNING}, stalls, BUDGET)
    memory, actions = decide(memory, local, peers or {}, now)
    return memory, [" ".join([action.verb, *action.units]) for action in actions]


def beside(seconds, peers, units=None, memory=MEMORY):
    """Return what an agent does that sees these peers for so long, once a second."""
    done = []
    for second in range(seconds):
        local = Local("start", "boot", units or {A: RUNNING, B: RUNNING})
        memory, actions = decide(memory, local, peers, NOW + second)
        done += [(second, action.verb, action.units) for action in actions]
    return done


ANOTHER = PEER._replace(start_id="another")


def test_a_node_that_was_replaced_stops_what_it_brings_back() -> None:
    first, *_again = beside(100, {P1: ANOTHER, P2: None})
    assert first == (60, "stop", (A, B))
    memory = remembering(foreign_at=NOW - 100)
    (action,) = decide(memory, Local("start", "boot", {A: RUNNING}), {P1: ANOTHER}, NOW)[1]
    assert "192.0.2.2 run in another start" in action.why
    assert "playbooks/uninstall.yml" in action.why


@pytest.mark.parametrize(
    ("peers", "units"),
    [
        # A part of ours still runs.
        ({P1: ANOTHER, P2: PEER}, None),
        ({P1: None, P2: None}, None),
        # What has stopped there takes nobody's place: its node may begin anew just now.
        ({P1: ANOTHER._replace(state="stopped"), P2: ANOTHER._replace(state="failed")}, None),
        ({P1: ANOTHER}, {A: STOPPED, B: STOPPED}),
    ],
)
def test_a_node_whose_replica_goes_on_or_has_ended_stops_nothing(peers, units) -> None:
    assert beside(100, peers, units) == []


def test_a_peer_that_is_of_another_start_for_a_while_is_no_other_replica() -> None:
    memory = MEMORY
    for second in range(200):
        peer = ANOTHER if second % 50 < 40 else None
        local = Local("start", "boot", {A: RUNNING, B: RUNNING})
        memory, actions = decide(memory, local, {P1: peer}, NOW + second)
        assert actions == []


def test_a_stall_restarts_the_replica_as_one() -> None:
    memory, commands = stalled_at(MEMORY, NOW, {P1: PEER}, {A: RUNNING, B: RUNNING})
    assert (commands, memory.generation) == ([f"restart {A} {B}"], 1)
    # While the restart is on its way, and of the life that it began, the stall says nothing.
    assert stalled_at(memory, NOW + 1, {P1: PEER}, {A: STOPPING, B: STOPPING})[1] == []
    memory, commands = stalled_at(memory, NOW + 20, {P1: PEER}, {A: BY_HAND, B: BY_HAND})
    assert (commands, memory.pending) == ([], [])
    # The other node follows as after a crash.
    peer = parse_answer(render_answer(memory, {A: BY_HAND}, NOW + 20), NOW + 20)
    assert peer.restarted_at == (NOW,)
    assert decided(RUNNING, {P1: peer})[1] == [f"restart {A}"]


@pytest.mark.parametrize(
    "units", [STOPPED, FAILED, STOPPING, CRASHED, RUNNING._replace(invocation="another")]
)
def test_a_stall_of_what_does_not_run_so_any_more_restarts_nothing(units) -> None:
    memory, commands = stalled_at(MEMORY, NOW, units={A: units})
    assert not [command for command in commands if command.startswith("restart")]
    assert memory.restarted_at == []


def test_each_next_restart_for_a_stall_waits_twice_as_long() -> None:
    memory = remembering(generation=1, restarted_at=[NOW])
    assert stalled_at(memory, NOW + BACKOFF_S - 1)[1] == []
    memory, commands = stalled_at(memory, NOW + BACKOFF_S)
    assert commands == [f"restart {A}"]
    three = Budget(3, BUDGET.window_s)
    memory = dataclasses.replace(memory, pending=[])
    late = NOW + 2 * BACKOFF_S
    for now, expected in ((late, []), (NOW + 3 * BACKOFF_S, ["restart"])):
        local = Local("start", "boot", {A: RUNNING}, STALLED, three)
        assert [action.verb for action in decide(memory, local, {}, now)[1]] == expected


def test_a_restart_that_two_agents_began_at_once_counts_once_in_the_budget() -> None:
    memory, _ = stalled_at(MEMORY, NOW, {P1: PEER})
    # Its ranks have APIs of their own: the other node's agent found the stall in the same second.
    peer = PEER._replace(generation=1, restarted_at=(NOW + 1,))
    again = dataclasses.replace(memory, pending=[], accepted=True, invocations={A: "new"})
    stalls = {A: Stall("new", "stalled again")}
    memory, commands = stalled_at(again, NOW + 500, {P1: peer}, {A: BY_HAND}, stalls)
    assert (commands, memory.gave_up) == ([f"restart {A}"], "")
    assert memory.restarted_at == [NOW, NOW + 500]


def test_after_its_budget_a_replica_that_stalls_stays_down_and_says_why() -> None:
    # The other node's agent judges an API of its own: its restart counts, too.
    peer = PEER._replace(restarted_at=(NOW - 500,))
    memory = remembering(restarted_at=[NOW - 1000.0])
    memory, commands = stalled_at(memory, NOW, {P1: peer})
    assert commands == [f"stop {A}"]
    assert memory.gave_up.startswith(f"{A} stalled since 12:00: no token for 130 s; it stays down")
    # Its peers stop, too.
    assert state_of(memory, {A: STOPPING}) == "failed"
    failed = parse_answer(render_answer(memory, {A: STOPPED}, NOW), NOW)
    assert decided(RUNNING, {P1: failed})[1] == [f"stop {A}"]
    # Nothing but a start by hand brings it back.
    crash = PEER._replace(generation=4)
    memory, commands = stalled_at(memory, NOW + 60, {P1: crash}, {A: STOPPED})
    assert commands == []
    memory, _ = stalled_at(memory, NOW + 99, {P1: PEER}, {A: BY_HAND})
    assert (memory.gave_up, memory.restarted_at) == ("", [])
    assert state_of(memory, {A: BY_HAND}) == "running"


def test_a_restart_of_long_ago_or_of_another_boot_is_no_part_of_the_budget() -> None:
    memory = remembering(restarted_at=[1.0, 2.0])
    memory, commands = stalled_at(memory, BUDGET.window_s + 3)
    assert (commands, memory.restarted_at) == ([f"restart {A}"], [BUDGET.window_s + 3])
    memory, _ = decided(BY_HAND, memory=memory, boot_id="next", now=30.0)
    assert memory.restarted_at == []


@given(st.lists(st.tuples(st.floats(0.5, 4000), st.sampled_from(["stall", "calm"])), max_size=60))
def test_stalls_restart_no_more_than_the_budget_in_any_window(looks) -> None:
    memory, now, lives, at = MEMORY, NOW, 0, []
    unit = RUNNING
    for pause, kind in looks:
        now += pause
        stalls = {A: Stall(unit.invocation, "stands still")} if kind == "stall" else {}
        local = Local("start", "boot", {A: unit}, stalls, BUDGET)
        memory, actions = decide(memory, local, {}, now)
        for action in actions:
            if action.verb == "restart":
                lives += 1
                at.append(now)
                unit = RUNNING._replace(invocation=f"life{lives}")
                memory.accepted = True
            elif action.verb == "stop":
                unit = STOPPED._replace(invocation=unit.invocation)
    for first in at:
        assert sum(first <= one < first + BUDGET.window_s for one in at) <= BUDGET.restarts
    assert all(later - one >= BACKOFF_S for one, later in itertools.pairwise(at))
    assert not memory.gave_up or unit.stopped


def test_the_reason_names_unit_peer_and_generation() -> None:
    local = Local("start", "boot", {A: RUNNING})
    _, [action] = decide(MEMORY, local, {P1: PEER._replace(generation=2)}, NOW)
    assert action.why == f"generation 2: {P1} restarted the replica (after a crash)"
    _, [action] = decide(MEMORY, local, {P1: PEER._replace(state="failed")}, NOW)
    assert f"generation 0: failed for good: peer {P1};" in action.why
    _, [action] = decide(MEMORY, Local("start", "boot", {A: AGAIN}), {}, NOW)
    assert action.why == f"generation 1: {A} restarted here (after a crash)"


@pytest.mark.parametrize(
    ("units", "pending", "state"),
    [
        ({A: RUNNING}, [], "running"),
        ({A: RUNNING._replace(active="activating", sub="start")}, [], "starting"),
        ({A: CRASHED}, [], "starting"),
        ({A: STOPPING}, [], "starting"),
        ({A: STOPPED}, [A], "starting"),
        ({A: RUNNING, B: STOPPED}, [], "stopped"),
        ({A: FAILED, B: STOPPED}, [], "failed"),
        ({A: FAILED}, [A], "starting"),
        # What systemd 254 and later show between two lives.
        ({A: FAILED._replace(sub="failed-before-auto-restart")}, [], "starting"),
        ({A: STOPPED._replace(sub="dead-before-auto-restart")}, [], "starting"),
    ],
)
def test_state(units, pending, state) -> None:
    assert state_of(remembering(pending=pending), units) == state


def test_an_answer_carries_ages_from_clock_to_clock() -> None:
    memory = remembering(generation=2, by_hand=True, crash="x", crashed_at=90.0)
    text = render_answer(memory, {A: RUNNING}, 100.0)
    assert parse_answer(text, 5000.0) == Peer("start", 2, "running", True, "x", 4990.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "asleep"}, "unknown state 'asleep'"),
        ({"generation": -1}, "generation -1 is negative"),
        ({"generation": True}, "generation: True is not of type int"),
        ({"crash": None}, "crash: None is not of type str"),
        ({"crash_age": -1}, "crash_age: -1 is no time"),
        ({"crash_age": 10**400}, "crash_age: 10+ is no time"),
        ({"crash_age": float("nan")}, "crash_age: nan is no time"),
        ({"restart_ages": [-60.0]}, "restart_ages: -60.0 is no time"),
        ({"restart_ages": [float("inf")]}, "restart_ages: inf is no time"),
    ],
)
def test_a_wrong_answer_is_refused(change, message) -> None:
    answer = {**json.loads(render_answer(MEMORY, {A: RUNNING}, NOW)), **change}
    with pytest.raises(ValueError, match=message):
        parse_answer(json.dumps(answer), NOW)


SHOW = """\
Result=success
NRestarts=0
Id=a.service
ActiveState=active
SubState=running
InvocationID=0123456789abcdef0123456789abcdef

Result=exit-code
NRestarts=2
Id=b.service
ActiveState=activating
SubState=auto-restart
InvocationID=00000000000000000000000000000000
"""


def test_systemctl_show_is_read() -> None:
    assert parse_units(SHOW, [B, A]) == {
        A: Unit("active", "running", "success", "0123456789abcdef0123456789abcdef", 0),
        B: Unit("activating", "auto-restart", "exit-code", "", 2),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHOW.replace("Id=b", "Id=c"), "gave nothing for b.service"),
        (SHOW.replace("NRestarts=2\n", ""), "gave no NRestarts"),
        (SHOW.replace("NRestarts=2", "NRestarts=[not set]"), "not set"),
    ],
)
def test_strange_output_of_systemctl_is_an_error_with_its_reason(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_units(text, [A, B])


CONFIG = {
    "units": [A],
    "listen": "192.0.2.1",
    "port": 2348,
    "peers": [P1, "2001:db8::3"],
    "state_file": "/var/lib/muster/links/x.json",
    "start_id": "ab12",
}


def test_config_is_read() -> None:
    assert parse_config(json.dumps(CONFIG))._asdict() == {
        **CONFIG,
        "stall": None,
        "metrics": None,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": A}, "unknown key 'unit'; known: units, listen"),
        ({"units": []}, "units is empty"),
        ({"units": ["--now"]}, "'--now' is not the name of a service"),
        ({"listen": "node1"}, "'node1' is not an IP address"),
        ({"peers": [7]}, "7 is not an IP address"),
        ({"peers": ["192.0.2.1"]}, "192.0.2.1 is this node's own address"),
        ({"port": "2348"}, "port: '2348' is not of type int"),
        ({"port": 70000}, "70000 is not a port"),
        ({"state_file": "x.json"}, "'x.json' is not an absolute path"),
        ({"start_id": ""}, "start_id is empty"),
        ({"stall": []}, "stall: .* is not of type dict"),
        ({"stall": {"patience_s": 0}}, "first_patience_s is missing"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(json.dumps({**CONFIG, **change}))


def test_a_state_file_of_another_release_is_read() -> None:
    """An upgrade that forgot where the replica stands would restart it."""
    old = {"start_id": "s", "boot_id": "b", "generation": 4, "invocations": {A: "x"}, "gone": 1}
    assert parse_memory(json.dumps(old)) == Memory("s", "b", 4, invocations={A: "x"})
    with pytest.raises(ValueError, match="generation is missing"):
        parse_memory('{"start_id": "s", "boot_id": "b"}')


@pytest.mark.parametrize(
    "change",
    [
        {"invocations": {A: 1}},
        {"served": {A: ["x"]}},
        {"pending": [7]},
        {"hopeless": [{}]},
        {"starts": {A: ["x"]}},
        {"starts": {A: {"x": "now"}}},
        {"stalled": {A: "x"}},
        {"events": ["x"]},
        {"entered_at": float("nan")},
        {"restarted_at": [10**400]},
    ],
)
def test_a_state_file_that_would_end_the_agent_is_none(change) -> None:
    """It would come back each time that systemd starts the agent again."""
    whole = dataclasses.asdict(MEMORY)
    assert parse_memory(json.dumps(whole)) == MEMORY
    with pytest.raises(ValueError, match=next(iter(change))):
        parse_memory(json.dumps({**whole, **change}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*CONFIG, *dataclasses.asdict(MEMORY), "state"]), inner)
    ),
    max_leaves=10,
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_read_or_refused(text) -> None:
    readers = (
        parse_config,
        parse_memory,
        lambda t: parse_answer(t, NOW),
        lambda t: parse_units(t, [A]),
    )
    for read in readers:
        with contextlib.suppress(ValueError):
            read(text)


@pytest.mark.parametrize("program", links_io.PROGRAMS.values())
def test_the_scripts_stand_alone(program) -> None:
    """They are copied to the nodes as they are."""
    tree = ast.parse(inspect.getsource(program), feature_version=(3, 8))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    beside = {Path(path).stem for path in links_io.PROGRAMS}
    assert modules <= sys.stdlib_module_names | beside | {"ansible_collections"}


def put_programs(folder: Path) -> Path:
    """Put the agent into a folder as a node has it, and return its program."""
    for path, program in links_io.PROGRAMS.items():
        (folder / Path(path).name).write_text(inspect.getsource(program))
    return folder / "replica_link.py"


def test_the_agent_finds_beside_it_what_it_imports(tmp_path) -> None:
    put_programs(tmp_path)
    for name in ("replica_link", "stall_evidence"):
        # Without what the tests' own environment would find of the collection.
        argv = [sys.executable, "-S", "-E", str(tmp_path / f"{name}.py"), "--help"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert "--config" in done.stdout


# Real agents: a systemctl whose units are directories of one file a property.
SYSTEMCTL = """\
#!/bin/sh
cd {root} || exit 1
echo "$*" >> calls
# Like systemd's own, a job goes on when who asked for it ends, and nobody sees half of one.
trap '' HUP INT TERM
put() {{ cat > "$unit/.new" && mv "$unit/.new" "$unit/$1"; }}
set_state() {{ echo $1 | put ActiveState; echo $2 | put SubState; }}
verb=$1
for unit; do
  [ -d "$unit" ] || continue
  case $verb in
  show) (cd "$unit" && grep '' [A-Z]* | sed 's/:/=/'; echo) ;;
  restart)
    set_state active running
    echo 0 | put NRestarts
    put InvocationID < /proc/sys/kernel/random/uuid ;;
  stop) set_state inactive dead ;;
  esac
done
"""


class Node:
    def __init__(self, root: Path, listen: str, port: int, peers: list[str], *beside: str) -> None:
        self.root = root
        self.unit = f"{root.name}.service"
        self.units = [self.unit, *(f"{root.name}-{name}.service" for name in beside)]
        for unit in self.units:
            (root / unit).mkdir(parents=True)
            self.set(
                unit,
                Id=unit,
                ActiveState="active",
                SubState="running",
                Result="success",
                InvocationID=f"{unit}-first",
                NRestarts=0,
            )
        self.systemctl = root / "systemctl"
        self.replace_systemctl(SYSTEMCTL.format(root=root))
        self.config = root / "link.json"
        self.config.write_text(
            json.dumps(
                {
                    "units": self.units,
                    "listen": listen,
                    "port": port,
                    "peers": peers,
                    "state_file": str(root / "links" / "state.json"),
                    "start_id": "ab12",
                }
            )
        )
        host = f"[{listen}]" if ":" in listen else listen
        self.url = f"http://{host}:{port}/"
        self.journal = root / "journal"
        self.process: subprocess.Popen[bytes] | None = None
        self.program = put_programs(root)

    def watch(self, url: str, patience_s: float, restarts: int) -> None:
        """Let the agent watch an engine."""
        key_file = self.root / "unit.env"
        key_file.write_text("VLLM_API_KEY=planted-key\n")
        key_file.chmod(0o600)
        api = Api(self.unit, url, "m", str(key_file), "VLLM_API_KEY", False)
        stall = {
            "patience_s": patience_s,
            "first_patience_s": patience_s,
            "restarts": restarts,
            "window_s": 3600,
            "evidence": str(self.root / "stalls"),
            "commands": {"device/info": ["echo", "API_KEY=planted-key"]},
            "apis": [api._asdict()],
        }
        config = json.loads(self.config.read_text())
        self.config.write_text(json.dumps({**config, "stall": stall}))

    def tell_prometheus(self):
        """Let the agent write its metrics; return what reads the samples of one."""
        self.metrics = self.root / "link.prom"
        metrics = {"file": str(self.metrics), "labels": {"host": "n"}, "starts": 3}
        config = json.loads(self.config.read_text())
        config["metrics"] = {**metrics, "window_s": 3600}
        self.config.write_text(json.dumps(config))

        def told(name: str) -> str:
            lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
            return "\n".join(line for line in lines if line.startswith(f"{name}{{"))

        return told

    def state(self) -> dict:
        return json.loads((self.root / "links" / "state.json").read_text())

    def replace_systemctl(self, text: str) -> None:
        # As one step: an agent may be calling it.
        new = self.root / "new"
        new.write_text(text)
        new.chmod(0o755)
        new.replace(self.systemctl)

    def set(self, unit: str = "", **properties: object) -> None:
        for name, value in properties.items():
            # As one step: an agent may be looking.
            new = self.root / "new"
            new.write_text(f"{value}\n")
            new.replace(self.root / (unit or self.unit) / name)

    def start(self) -> None:
        with self.journal.open("ab") as journal:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    self.program,
                    "--config",
                    self.config,
                    "--systemctl",
                    self.systemctl,
                ],
                stderr=journal,
            )

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def answer(self) -> dict:
        try:
            with urllib.request.urlopen(self.url, timeout=2) as response:
                return json.load(response)
        except OSError:
            return {}

    def restarts(self) -> int:
        calls = (self.root / "calls").read_text().splitlines()
        return calls.count(f"restart --no-block -- {self.unit}")


def eventually(nodes, condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            pytest.fail("\n".join(f"{n.root.name}: {n.journal.read_text()}" for n in nodes))
        time.sleep(0.05)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def pair(tmp_path, port):
    nodes = [
        Node(tmp_path / "head", "127.0.0.1", port, ["127.0.0.2"]),
        Node(tmp_path / "follower", "127.0.0.2", port, ["127.0.0.1"]),
    ]
    for node in nodes:
        node.start()
    yield nodes
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()


def test_agents_restart_the_replica_as_one(pair) -> None:
    head, follower = pair
    linked = "is running in generation 0"
    eventually(pair, lambda: all(linked in node.journal.read_text() for node in pair))

    follower.set(NRestarts=1, InvocationID="after-crash")
    eventually(pair, lambda: head.restarts() == 1)
    eventually(pair, lambda: {n.answer().get("generation") for n in pair} == {1})
    assert "restart head.service: generation 1: 127.0.0.2 restarted the replica" in (
        head.journal.read_text()
    )

    # The head's agent is replaced while nothing happens, as an upgrade does.
    eventually(pair, lambda: {n.answer().get("state") for n in pair} == {"running"})
    assert head.end() == 0
    head.start()
    eventually(pair, lambda: head.answer().get("state") == "running")

    follower.set(ActiveState="failed", SubState="failed", Result="start-limit-hit")
    eventually(pair, lambda: head.answer().get("state") == "stopped")
    assert "failed for good: peer 127.0.0.2" in head.journal.read_text()

    follower.set(NRestarts=0, SubState="running", ActiveState="active", InvocationID="by-hand")
    eventually(pair, lambda: {n.answer().get("generation") for n in pair} == {2})
    eventually(pair, lambda: {n.answer().get("state") for n in pair} == {"running"})
    assert (head.restarts(), follower.restarts()) == (2, 0)

    # A peer that is away is said once, and nothing is done.
    assert follower.end() == 0
    eventually(pair, lambda: "127.0.0.2 does not answer" in head.journal.read_text())
    time.sleep(1.5)
    assert head.journal.read_text().count("127.0.0.2 does not answer") == 1
    assert head.restarts() == 2


def test_what_one_look_changes_is_written_once(tmp_path, monkeypatch) -> None:
    node = Node(tmp_path / "node", "127.0.0.1", 0, [])
    node.tell_prometheus()
    written = []

    def replace(path: str, text: str, mode: int) -> None:
        written.append(json.loads(text))

    monkeypatch.setattr(replica_link.durable_io, "replace", replace)
    config = parse_config(node.config.read_text())
    agent = replica_link.Agent(config, str(node.systemctl), str(node.config))
    lives = []
    for restarts, life in enumerate(("first", "after-crash")):
        node.set(NRestarts=restarts, InvocationID=life)
        lives.append(life)
        agent._tick(time.monotonic())
        assert [sorted(one["starts"][node.unit]) for one in written] == [sorted(lives)]
        written.clear()


def test_what_prometheus_reads_follows_the_units_and_ends_with_the_agent(tmp_path, port) -> None:
    node = Node(tmp_path / "node", "127.0.0.1", port, [], "second")
    told = node.tell_prometheus()
    node.start()
    try:
        eventually([node], lambda: 'unit="node.service"} 1' in told("muster_unit_starts"))
        assert oct(node.metrics.stat().st_mode & 0o777) == "0o644"
        assert told("muster_replica_restart_time_seconds") == ""
        node.set(NRestarts=1, InvocationID="after-crash")
        eventually([node], lambda: 'unit="node.service"} 2' in told("muster_unit_starts"))
        assert told("muster_replica_restart_time_seconds")
        # A new agent knows what the one before it counted.
        assert node.end() == 0
        assert not node.metrics.exists()
        node.start()
        eventually([node], lambda: 'unit="node.service"} 2' in told("muster_unit_starts"))
        node.set(ActiveState="inactive", SubState="dead")
        eventually([node], lambda: 'unit="node.service"} 0' in told("muster_unit_wanted"))
        assert 'unit="node.service"} 0' in told("muster_unit_up")
    finally:
        node.end()


def test_the_time_of_the_boot_follows_a_clock_that_is_set(monkeypatch) -> None:
    clock = {"time": 1000.0, "monotonic": 40.0}
    for name in clock:
        monkeypatch.setattr(replica_link.time, name, lambda name=name: clock[name])
    at_start = boot_time(None)
    assert at_start == 960.0
    # Two readings differ a little: what is written would change with each.
    clock.update(time=1060.2, monotonic=100.0)
    assert boot_time(at_start) == 960.0
    # The network's time has come.
    clock.update(time=1.8e9, monotonic=160.0)
    assert boot_time(at_start) == 1.8e9 - 160.0


def test_ranks_of_one_node_restart_as_one_without_a_peer(tmp_path, port) -> None:
    node = Node(tmp_path / "node", "127.0.0.1", port, [], "second", "third")
    node.start()
    try:
        eventually([node], lambda: node.answer().get("state") == "running")
        node.set(node.units[1], NRestarts=1, InvocationID="after-crash")
        again = {"generation": 1, "state": "running"}
        eventually([node], lambda: again.items() <= node.answer().items())
        calls = (node.root / "calls").read_text().splitlines()
        others = f"{node.units[0]} {node.units[2]}"
        assert [call for call in calls if not call.startswith("show")] == [
            f"restart --no-block -- {others}"
        ]

        node.set(node.units[2], ActiveState="failed", SubState="failed", Result="exit-code")
        eventually([node], lambda: node.answer().get("state") == "failed")
        # It says so before it acts.
        stop = f"stop --no-block -- {node.units[0]} {node.units[1]}"
        eventually([node], lambda: stop in (node.root / "calls").read_text().splitlines())
    finally:
        assert node.end() == 0


def test_a_refused_order_is_given_until_it_is_taken_and_said_once(tmp_path, port) -> None:
    node = Node(tmp_path / "node", "127.0.0.1", port, [], "second")
    taken = node.systemctl.read_text()
    refused = taken.replace("  restart)", '  restart) echo "Unit is masked" >&2; exit 1 ;;\n  x)')
    node.start()
    try:
        eventually([node], lambda: node.answer().get("state") == "running")
        node.replace_systemctl(refused)
        node.set(node.units[1], NRestarts=1, InvocationID="after-crash")
        eventually([node], lambda: node.restarts() >= 4)
        node.replace_systemctl(taken)
        again = {"generation": 1, "state": "running"}
        eventually([node], lambda: again.items() <= node.answer().items())
    finally:
        assert node.end() == 0
    said = node.journal.read_text()
    assert said.count("asking again") == 1
    # For the order and for its repetition.
    assert said.count("did not work: systemctl restart: rc 1: Unit is masked") == 2


class StandingEngine(http.server.BaseHTTPRequestHandler):
    """An engine of --data-parallel-rank 1: it has work, and its counters stand still while /health
    is well. Behind its API it counts one rank, 0, and refuses others.
    """

    def do_GET(self) -> None:
        metrics = (
            'vllm:num_requests_running{engine="1"} 2\nvllm:generation_tokens_total{engine="1"} '
        )
        text = f"{metrics}{self.server.tokens}\n" if self.path == "/metrics" else ""
        self.send_response(404 if self.path.startswith("/is_") else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
        if self.server.moves:
            self.server.tokens += 1

    def do_POST(self) -> None:
        self.server.asked.append(self.headers["Authorization"])
        self.send_error(503 if self.headers["X-data-parallel-rank"] in (None, "0") else 400)

    def log_message(self, *_args) -> None:
        pass


@pytest.fixture
def engine():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandingEngine)
    server.tokens, server.moves, server.asked = 5, True, []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_engine_that_stands_still_is_restarted_until_its_budget_ends(
    tmp_path, port, engine
) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", port, ["127.0.0.2"])
    peer = Node(tmp_path / "follower", "127.0.0.2", port, ["127.0.0.1"])
    node.watch(engine.url, patience_s=2.0, restarts=1)
    peer.watch(engine.url, patience_s=2.0, restarts=1)
    config = json.loads(peer.config.read_text())
    peer.config.write_text(json.dumps({**config, "stall": {**config["stall"], "apis": []}}))
    both = [node, peer]
    for one in both:
        one.start()
    try:
        eventually(both, lambda: node.answer().get("state") == "running")
        time.sleep(4)
        assert node.restarts() == 0
        assert engine.asked == []

        engine.moves = False
        eventually(both, lambda: node.restarts() == 1 and peer.restarts() == 1)
        assert set(engine.asked) == {"Bearer planted-key"}
        words = "rank 1: 2 requests wait or run, no token for"
        assert words in node.state()["events"][-1]["why"]
        # Their stop finds there that it need not wait for what they serve.
        for one in both:
            assert one.state()["hopeless"] == [f"{one.unit}-first"]
        # Both nodes have saved what they have, without secrets, for root alone.
        eventually(both, lambda: all("evidence is in" in one.journal.read_text() for one in both))
        for one in both:
            [folder] = (one.root / "stalls").iterdir()
            texts = {path.name: path.read_text() for path in folder.iterdir()}
            assert words in texts["why.txt"]
            assert texts["device-info"] == "API_KEY=<secret>\n"
            assert {oct(path.stat().st_mode & 0o77) for path in folder.iterdir()} == {"0o0"}
        [metrics] = (node.root / "stalls").glob(f"*/{node.unit}.metrics.txt")
        assert "generation_tokens_total" in metrics.read_text()

        # It stands still again, and has no restart left.
        eventually(both, lambda: node.answer().get("state") == "failed")
        eventually(both, lambda: peer.answer().get("state") == "stopped")
        assert (node.restarts(), peer.restarts()) == (1, 1)
        assert "it stays down: 1 restarts in 60 minutes did not help" in node.journal.read_text()
        assert node.state()["gave_up"].startswith(f"{node.unit} stalled since ")
        assert "planted-key" not in node.journal.read_text() + json.dumps(node.state())
    finally:
        assert [one.end() for one in both] == [0, 0]


def test_at_rest_an_agent_asks_systemd_seldom_and_sees_a_death_at_once(tmp_path, port) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", 0, [], "second")
    lives = [subprocess.Popen(["sleep", "60"]) for _ in node.units]
    for unit, life in zip(node.units, lives, strict=True):
        node.set(unit, MainPID=life.pid)
    node.start()
    calls = node.root / "calls"
    try:
        eventually([node], calls.exists)
        time.sleep(4)
        assert len(calls.read_text().splitlines()) <= 2
        node.set(NRestarts=1, InvocationID="after-crash", MainPID=os.getpid())
        lives[0].kill()
        lives[0].wait()
        died_at = time.monotonic()
        eventually([node], lambda: f"restart --no-block -- {node.units[1]}" in calls.read_text())
        assert time.monotonic() - died_at < 3
    finally:
        assert node.end() == 0
        for life in lives:
            life.kill()
            life.wait()


def test_an_agent_serves_ipv6(tmp_path, port) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    node = Node(tmp_path / "head", "::1", port, ["::2"])
    node.start()
    try:
        eventually([node], lambda: node.answer().get("generation") == 0)
    finally:
        assert node.end() == 0


def test_an_agent_without_systemd_says_so_and_serves_nothing(tmp_path, port) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", port, [])
    node.systemctl.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    node.start()
    try:
        eventually([node], lambda: "nothing is done" in node.journal.read_text())
        assert "rc 1: Failed to connect to bus" in node.journal.read_text()
        time.sleep(1.2)
        assert node.journal.read_text().count("nothing is done") == 1
    finally:
        assert node.end() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        # Only who has no peers serves nobody.
        (json.dumps({**CONFIG, "port": 0}), "port: 0 is not a port"),
    ],
)
def test_a_bad_config_is_one_line_and_rc_2(tmp_path, text, message) -> None:
    path = tmp_path / "x.link.json"
    path.write_text(text)
    done = run_script(path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{path}: ")
    assert message in line


def test_a_missing_config_is_one_line_and_rc_2(tmp_path) -> None:
    done = run_script(tmp_path / "none.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "none.json" in done.stderr


def test_a_taken_port_is_said(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = Node(tmp_path / "head", "127.0.0.1", taken.getsockname()[1], [])
        done = run_script(node.config)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in done.stderr


class NonsensePeer(socketserver.ThreadingTCPServer):
    """Answers each connection with the next text, and hangs up."""

    daemon_threads = True

    def __init__(self, address: str, port: int, texts: Sequence[bytes]) -> None:
        self.texts, self.at = texts, 0
        super().__init__((address, port), NonsenseHandler)


class NonsenseHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4096)
        text = self.server.texts[self.server.at % len(self.server.texts)]
        self.server.at += 1
        self.request.sendall(text)


def answer_of(**change) -> bytes:
    text = json.dumps({**json.loads(render_answer(MEMORY, {A: RUNNING}, NOW)), **change})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def test_nothing_that_a_peer_answers_ends_the_talk_with_it(tmp_path, port) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", port, ["127.0.0.2"])
    nonsense = [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
        b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
        answer_of(crash_age=10**400),
        answer_of(start_id="ab12", generation=7, crash_age=10**400),
        answer_of(start_id="ab12", generation=7, restart_ages=[10**400]),
    ]
    # Once a second, the list would take a while.
    program = node.program.read_text().replace("POLL_S = 1.0", "POLL_S = 0.1")
    node.program.write_text(program)
    with NonsensePeer("127.0.0.2", port, nonsense) as peer:
        threading.Thread(target=peer.serve_forever, args=(0.05,), daemon=True).start()
        node.start()
        try:
            eventually([node], lambda: peer.at > len(nonsense))
            assert "generation 7" not in node.journal.read_text()
            # One that comes to its senses is heard.
            peer.texts = [answer_of(start_id="ab12", generation=1)]
            eventually([node], lambda: "127.0.0.2 restarted the" in node.journal.read_text())
        finally:
            assert node.end() == 0
            peer.shutdown()


def test_a_peer_that_drips_is_told_of() -> None:
    poller = replica_link.Poller("127.0.0.2", 9)
    poller._asked_at = 100.0
    assert poller.last(101.0) is None
    assert poller.problem == ""
    poller.last(100.0 + replica_link.SLOW_S + 1)
    assert "has not answered whole for" in poller.problem


def test_strangers_cost_an_agent_little_and_keep_no_peer_out(tmp_path, port) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", port, ["127.0.0.2"])
    node.start()
    strangers: list[socket.socket] = []
    try:
        eventually([node], node.answer)
        status = Path(f"/proc/{node.process.pid}/status")

        def figure(name: str) -> int:
            return int(re.search(rf"^{name}:\s+(\d+)", status.read_text(), re.M)[1])

        strangers += [
            socket.create_connection(("127.0.0.1", port), timeout=5) for _one in range(300)
        ]
        with socket.create_connection(
            ("127.0.0.1", port), timeout=5, source_address=("127.0.0.2", 0)
        ) as peer:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 200 " in peer.recv(4096)
        assert figure("Threads") < 30
        assert figure("VmRSS") < 30 * 1024
        for one in strangers:
            one.close()
        # Whoever asks for what it says by hand is answered again.
        eventually([node], node.answer)
    finally:
        for one in strangers:
            one.close()
        assert node.end() == 0


def test_a_disk_that_takes_nothing_keeps_no_agent_from_its_work(tmp_path, port) -> None:
    node = Node(tmp_path / "head", "127.0.0.1", 0, [], "second")
    # As with a full or read-only one each write fails, for root, too.
    (node.root / "links").write_text("")
    node.start()
    try:
        eventually([node], lambda: "cannot write" in node.journal.read_text())
        node.set(NRestarts=1, InvocationID="after-crash")
        calls = node.root / "calls"
        eventually([node], lambda: f"restart --no-block -- {node.units[1]}" in calls.read_text())
    finally:
        assert node.end() == 0


def run_script(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, put_programs(config.parent), "--config", config],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
    )


def test_a_watcher_that_comes_first_looks_again_soon() -> None:
    """Until the agent has seen the unit; an engine may stand still a moment later."""
    api = Api("muster-c-r0-rank0.service", "http://127.0.0.1:9/v1", "m", "", "", False)
    config = replica_link.StallConfig(120, 2100, 2, 3600, "", {}, [api])
    life = [""]
    watcher = replica_link.Watcher(api, config, "", 0, lambda: life[0], lambda _why: None)
    assert watcher._look() == replica_link.POLL_S
    life[0] = "a"
    assert watcher._look() == watcher.interval_s == 10
