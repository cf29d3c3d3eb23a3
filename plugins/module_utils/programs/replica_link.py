# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranks of a replica restart as one, when one dies or stands still, without a controller.

An engine whose partner died looks healthy and serves nobody until both sides start again. systemd
restarts a unit that exits; this agent, one for each node and replica, makes the other nodes follow.
An engine that stands still is restarted in the same way by the agent of the node with its API
(stall_watch.py says what that is), after what tells of it was saved (stall_evidence.py).
What it knows of its units it also writes for Prometheus (link_metrics.py).
It runs by itself: beside these and durable_io.py it imports the standard library only.

Agents only read each other: each serves its generation, and decides alone what to do about what the
others say. A generation counts the restarts of the whole replica since its deliberate start, which
has an id of its own. Whoever sees a larger generation restarts its units, once, and takes over the
number. A restart that nobody else knows of makes a new generation; so no node restarts alone.

The restarts of the agent count in systemd's start limit like those of systemd, so the budget of a
unit is the budget of its replica. A start by hand, or by a boot, gives all its nodes a new budget.
Stalls have a budget besides: a replica that stands still again after so many restarts for it stays
down, and each next such restart waits twice as long as the one before.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import dataclasses
import http.client
import http.server
import ipaddress
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Mapping, NamedTuple, Sequence

try:
    from ansible_collections.muster.serving.plugins.module_utils.common import durable_io
    from ansible_collections.muster.serving.plugins.module_utils.programs import (
        link_metrics,
        stall_watch,
    )
except ImportError:
    # On a node they lie beside this script.
    import durable_io  # type: ignore[import-not-found, no-redef]
    import link_metrics  # type: ignore[import-not-found, no-redef]
    import stall_watch  # type: ignore[import-not-found, no-redef]

POLL_S = 1.0
# While all units run and nothing is heard, systemd is asked this seldom: in between it is enough to
# see that their main processes live. Each call of systemctl costs more than all else in a second.
REST_S = 20.0
# The same of units that the operator has stopped, where nothing shows that one was started.
STOPPED_S = 5.0
PEER_TIMEOUT_S = 2.0
# A connection on which a peer has asked nothing for so long is closed.
IDLE_S = 10.0
# Two polls may be lost before what a peer said is forgotten.
PEER_FRESH_S = 3.0
SYSTEMCTL_TIMEOUT_S = 10.0
# An engine needs longer than this from its start to its first word to the other ranks, so one that
# started no earlier than this before a crash elsewhere has met nothing of what crashed.
AGREE_S = 5.0
# What systemd has not begun by now of what it was asked, it will not.
GRACE_S = 15.0
# Where all peers that run have been of another start for so long, the replica has begun anew
# without this node, as when it comes back after another one took its place: it stops its units.
FOREIGN_S = 60.0
MAX_ANSWER = 65536
# A peer that takes longer for one answer, a byte at a time, is told of.
SLOW_S = 10.0
# Each peer may have so many connections open, and so may all others together. Each takes a thread.
MAX_CONNECTIONS = 16
# Between one restart for a stall and the next, doubled with each.
BACKOFF_S = 60.0
# How long saving what tells of a stall may take, and peers to hear that they should save theirs.
EVIDENCE_S = 25.0
HEAR_S = 4.0
# How many of the last restarts a state file tells of.
KEEP_EVENTS = 10
# The file for Prometheus is written when it changes, and this often to show that we live.
METRICS_S = 15.0
# Less is what a clock is steered by, and two readings of it differ by.
CLOCK_STEP_S = 1.0
# No age and no time of a boot's clock is longer than some ten thousand years.
MAX_TIME_S = 3e11

STATES = ("starting", "running", "stopped", "failed")


class Unit(NamedTuple):
    """What systemd says of one unit."""

    active: str
    sub: str
    result: str
    invocation: str
    restarts: int
    # Of its main process; 0 for none.
    pid: int = 0

    @property
    def crashed(self) -> bool:
        """Tell whether systemd is about to restart it."""
        return "auto-restart" in self.sub

    @property
    def unsettled(self) -> bool:
        """Tell whether it is between two lives: what comes next is not known yet."""
        return self.active == "deactivating" or self.crashed

    @property
    def failed(self) -> bool:
        """Tell whether systemd gave up."""
        return self.active == "failed" and not self.unsettled

    @property
    def stopped(self) -> bool:
        return self.active == "inactive" and not self.unsettled

    @property
    def up(self) -> bool:
        return not (self.unsettled or self.failed or self.stopped)


class Stall(NamedTuple):
    """An engine that stands still: the life of the unit that does, and the words for it."""

    invocation: str
    why: str


class Budget(NamedTuple):
    """So many restarts for stalls in so long; then the replica stays down."""

    restarts: int
    window_s: float


class Local(NamedTuple):
    """This node: the start it was configured for, its boot and its units of the replica."""

    start_id: str
    boot_id: str
    units: Mapping[str, Unit]
    stalls: Mapping[str, Stall] = {}
    budget: Budget = Budget(2, 3600.0)


class Peer(NamedTuple):
    """What another node says, its times on our clock."""

    start_id: str
    generation: int
    state: str
    by_hand: bool
    crash: str
    crashed_at: float
    # What it has of an engine that stands still, before it acts: time to save what tells of it.
    stalled: str = ""
    # Its restarts for stalls since the last start by hand or boot.
    restarted_at: tuple[float, ...] = ()


@dataclasses.dataclass
class Memory:
    """What an agent keeps over its own restarts and the node's. Times are of the boot's clock."""

    start_id: str
    boot_id: str
    generation: int = 0
    # The generation began with a deliberate start or a boot, not with a crash.
    by_hand: bool = False
    entered_at: float = 0.0
    # The lives of our units that belong to this generation.
    invocations: dict[str, str] = dataclasses.field(default_factory=dict)
    # Units whose next life is our own doing, whether systemd has accepted to begin it, and when
    # it was last asked for anything.
    pending: list[str] = dataclasses.field(default_factory=list)
    accepted: bool = True
    asked_at: float = 0.0
    # Units that we stopped because the replica has failed elsewhere.
    halted: list[str] = dataclasses.field(default_factory=list)
    # Units that were last seen failed or stopped: systemd begins no new life of these by itself.
    resting: list[str] = dataclasses.field(default_factory=list)
    # When a unit was first seen going down by itself.
    down_at: float | None = None
    # Our last restart that nobody ordered: the life it began, and when the one before had ended.
    crash: str = ""
    crashed_at: float = 0.0
    # The same of each peer, as far as we have dealt with it.
    seen: dict[str, str] = dataclasses.field(default_factory=dict)
    # Our restarts of the replica for stalls since the last start by hand or boot.
    restarted_at: list[float] = dataclasses.field(default_factory=list)
    # Why the replica stays down after its budget for stalls.
    gave_up: str = ""
    # For people and status: units that stand still now, by their life, and the last restarts.
    stalled: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    events: list[dict[str, str]] = dataclasses.field(default_factory=list)
    # The lives of units that have given a token: only such an engine can stand still.
    served: dict[str, str] = dataclasses.field(default_factory=dict)
    # The lives that we ended last. Their replica is broken, so their service waits but shortly for
    # what they serve: ExecStop looks here.
    hopeless: list[str] = dataclasses.field(default_factory=list)
    # Since when peers run in another start, and none in ours.
    foreign_at: float | None = None
    # For Prometheus: the lives of each unit within systemd's start limit, and when each began.
    starts: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


class Action(NamedTuple):
    """A verb of systemctl for some units, or note for none; always with the reason."""

    verb: str
    units: tuple[str, ...]
    why: str


def decide(
    memory: Memory | None, local: Local, peers: Mapping[str, Peer | None], now: float
) -> tuple[Memory, list[Action]]:
    """Decide what to remember and to do.

    Args:
        memory: What the last call returned, None before the first.
        local: This node as it is.
        peers: By address; None for one that does not answer.
        now: Seconds since boot.
    """
    units = local.units
    if memory is None or memory.start_id != local.start_id:
        memory = Memory(local.start_id, local.boot_id, entered_at=now)
    memory = copy.deepcopy(memory)
    rebooted = memory.boot_id != local.boot_id
    if rebooted:
        # What was asked for is gone, and everything went down before this boot's clock began.
        memory = dataclasses.replace(
            memory,
            boot_id=local.boot_id,
            pending=[],
            asked_at=0.0,
            entered_at=0.0,
            down_at=0.0,
            restarted_at=[],
            starts={},
            foreign_at=None,
        )
    ours = {a: p for a, p in peers.items() if p is not None and p.start_id == memory.start_id}

    actions = _account(memory, units, now)
    waiting = [n for n, u in units.items() if u.unsettled and n not in memory.pending]
    if waiting:
        if memory.down_at is None and not memory.halted:
            memory.down_at = now
        return memory, actions
    actions += _own_restarts(memory, units, ours, now, rebooted)
    memory.down_at = None
    memory.resting = [name for name, unit in units.items() if unit.failed or unit.stopped]
    actions += _follow(memory, units, ours, now)
    actions += _unheard_crashes(memory, units, ours, now)
    actions += _stalls(memory, local, ours, now)
    actions += _half_replica(memory, units, ours, now)
    actions += _left_behind(memory, units, peers, now)
    return memory, actions


def _account(memory: Memory, units: Mapping[str, Unit], now: float) -> list[Action]:
    """Learn the lives that we caused or that begin the record; ask again if a call was lost."""
    asked = []
    for name, unit in units.items():
        known = memory.invocations.get(name)
        if name in memory.pending:
            if unit.invocation not in ("", known):
                memory.pending.remove(name)
                # With restarts counted, it has crashed since: not ours any more.
                if unit.restarts == 0:
                    memory.invocations[name] = unit.invocation
            elif not unit.unsettled:
                asked.append(name)
        elif known is None and unit.invocation and (unit.up or unit.crashed):
            memory.invocations[name] = unit.invocation
    # An old life that goes on shows that the call was lost. It is made again at once: the other
    # units must not meet that life, nor a restart by hand meanwhile pass for ours.
    lost = not memory.accepted and any(units[name].up for name in asked)
    if not asked or not (lost or now - memory.asked_at >= GRACE_S):
        return []
    if memory.accepted:
        # The operator stopped it meanwhile, or its start limit was hit.
        memory.pending = [name for name in memory.pending if name not in asked]
        return []
    memory.asked_at = now
    why = f"generation {memory.generation}: systemd was not reached, asking again"
    return _restart(asked, memory.by_hand, why)


def _own_restarts(
    memory: Memory,
    units: Mapping[str, Unit],
    peers: Mapping[str, Peer],
    now: float,
    rebooted: bool,
) -> list[Action]:
    """Restart the whole replica where a unit lives anew and not by our doing."""
    changed = [
        name
        for name, unit in units.items()
        if name in memory.invocations
        and name not in memory.pending
        and unit.invocation not in ("", memory.invocations[name])
    ]
    if not changed:
        return []
    by_hand = all(name in memory.resting or units[name].restarts == 0 for name in changed)
    top = max([memory.generation] + [peer.generation for peer in peers.values()])
    # By hand means everybody, also those who gave up at the present generation. Otherwise sides
    # that went down together agree on one generation.
    generation = top + 1 if by_hand and not rebooted else max(memory.generation + 1, top)
    for name in changed:
        memory.invocations[name] = units[name].invocation
    memory.crash = units[changed[0]].invocation
    memory.crashed_at = now if memory.down_at is None else memory.down_at
    cause = "the node booted" if rebooted else "by hand" if by_hand else "after a crash"
    others = [n for n in _restartable(memory, units, by_hand) if n not in changed]
    why = f"{', '.join(changed)} restarted here ({cause})"
    return _enter(memory, generation, by_hand, others, now, why)


def _follow(
    memory: Memory, units: Mapping[str, Unit], peers: Mapping[str, Peer], now: float
) -> list[Action]:
    """Follow a peer that is ahead: restart as it did."""
    ahead = {a: p for a, p in peers.items() if p.generation > memory.generation}
    if not ahead:
        return []
    top = max(peer.generation for peer in ahead.values())
    first = sorted(address for address, peer in ahead.items() if peer.generation == top)
    by_hand = any(ahead[address].by_hand for address in first)
    failed = [name for name, unit in units.items() if unit.failed and name not in memory.pending]
    if not by_hand and (failed or memory.halted):
        if not failed:
            return []
        # A crash elsewhere is no reason to try again, but our failure holds for it too.
        memory.generation, memory.by_hand = top, False
        why = f"generation {top} of {', '.join(first)} cannot run: {', '.join(failed)} failed here"
        return [Action("note", (), why)]
    names = _restartable(memory, units, by_hand)
    if not names:
        return []
    if not memory.seen:
        # We have never met the others (the state file is lost), so they do not know that our
        # units lived until now. Were it not told, we would restart alone.
        memory.crash = units[names[0]].invocation
        memory.crashed_at = now
    cause = "by hand" if by_hand else "after a crash"
    why = f"{', '.join(first)} restarted the replica ({cause})"
    return _enter(memory, top, by_hand, names, now, why)


def _unheard_crashes(
    memory: Memory, units: Mapping[str, Unit], peers: Mapping[str, Peer], now: float
) -> list[Action]:
    """Restart if a peer came to our generation by a crash of its own, neither hearing the other.

    If our units had been up for long by then, they have met what crashed. Each crash is looked at
    once, soon after it, because the clocks of two nodes drift apart.
    """
    level = {a: p for a, p in peers.items() if p.generation == memory.generation}
    late = [
        address
        for address, peer in level.items()
        if peer.crash
        and peer.crash != memory.seen.get(address)
        and peer.crashed_at > memory.entered_at + AGREE_S
    ]
    for address, peer in level.items():
        memory.seen[address] = peer.crash
    names = _restartable(memory, units, by_hand=False)
    if not late or not names or memory.halted:
        return []
    why = f"{', '.join(sorted(late))} crashed unheard, after our units had started"
    return _enter(memory, memory.generation + 1, False, names, now, why)


def _stalls(memory: Memory, local: Local, peers: Mapping[str, Peer], now: float) -> list[Action]:
    """Restart the replica of an engine that stands still, or end it when its budget is used up."""
    words = [
        f"{name} {stall.why}"
        for name, stall in sorted(local.stalls.items())
        # Of an earlier life, or one that we are about to end, it says nothing.
        if local.units[name].up
        and local.units[name].invocation == stall.invocation
        and name not in (*memory.pending, *memory.halted)
    ]
    if not words or memory.gave_up:
        return []
    why = "; ".join(words)
    # Every agent whose node has an API judges it: the budget is the replica's.
    own = [at for at in memory.restarted_at if now - at < local.budget.window_s]
    of_peers = [at for peer in peers.values() for at in peer.restarted_at]
    recent = _once([*own, *(at for at in of_peers if now - at < local.budget.window_s)])
    if len(recent) >= local.budget.restarts:
        memory.gave_up = (
            f"{why}; it stays down: {len(recent)} restarts in "
            f"{local.budget.window_s / 60:.0f} minutes did not help; when the cause is mended, "
            "systemctl reset-failed and start one of its units, and the others follow"
        )
        # _half_replica stops it.
        return []
    if recent and now - recent[-1] < BACKOFF_S * 2 ** (len(recent) - 1):
        return []
    names = _restartable(memory, local.units, by_hand=False)
    memory.crash = local.units[names[0]].invocation
    memory.crashed_at = now
    memory.restarted_at = [*own, now]
    return _enter(memory, memory.generation + 1, False, names, now, why)


def _once(times: Sequence[float]) -> list[float]:
    """Return times in their order, one for each restart.

    Two agents that find the same stall may both begin its restart before they hear of each other.
    """
    found: list[float] = []
    for at in sorted(times):
        if not found or at - found[-1] >= BACKOFF_S / 2:
            found.append(at)
    return found


def _half_replica(
    memory: Memory, units: Mapping[str, Unit], peers: Mapping[str, Peer], now: float
) -> list[Action]:
    """Stop ours where another part has failed for good: a half replica serves nobody."""
    failed = {
        f"{name} here ({unit.result})"
        for name, unit in units.items()
        if unit.failed and name not in memory.pending
    }
    failed |= {
        f"peer {address}"
        for address, peer in peers.items()
        if peer.state == "failed" and peer.generation >= memory.generation
    }
    again = now - memory.asked_at >= GRACE_S
    running = [
        name
        for name, unit in units.items()
        if (unit.up or name in memory.pending) and (name not in memory.halted or again)
    ]
    if not (failed or memory.gave_up) or not running:
        return []
    memory.halted = sorted({*memory.halted, *running})
    # A restart that is still to come is no longer asked for; should it come, it is ours.
    memory.accepted = True
    memory.asked_at = now
    why = memory.gave_up or (
        f"generation {memory.generation}: failed for good: {', '.join(sorted(failed))}; a half "
        "replica serves nobody; systemctl reset-failed and start there, and the others follow"
    )
    return [Action("stop", tuple(running), why)]


def _left_behind(
    memory: Memory, units: Mapping[str, Unit], peers: Mapping[str, Peer | None], now: float
) -> list[Action]:
    """Stop ours where the others have begun anew without us: they would meet as two replicas."""
    others = {
        a: p for a, p in peers.items() if p is not None and p.state in ("running", "starting")
    }
    running = [name for name, unit in units.items() if unit.up]
    if not others or not running or any(p.start_id == memory.start_id for p in others.values()):
        memory.foreign_at = None
        return []
    if memory.foreign_at is None:
        memory.foreign_at = now
    if now - memory.foreign_at < FOREIGN_S:
        return []
    memory.foreign_at = None
    memory.pending, memory.accepted = [], True
    why = (
        f"{', '.join(sorted(others))} run in another start, without this node: what runs here is "
        "no part of their replica any more; playbooks/uninstall.yml removes it, and site.yml gives "
        "this node its part of a plan"
    )
    return [Action("stop", tuple(running), why)]


def _restartable(memory: Memory, units: Mapping[str, Unit], by_hand: bool) -> list[str]:
    """Leave out what the operator stopped, and what gave up unless the operator starts anew."""
    return [
        name
        for name, unit in units.items()
        if unit.up or name in memory.pending or name in memory.halted or (unit.failed and by_hand)
    ]


def _enter(
    memory: Memory, generation: int, by_hand: bool, names: Sequence[str], now: float, why: str
) -> list[Action]:
    memory.generation = generation
    memory.by_hand = by_hand
    memory.entered_at = now
    memory.asked_at = now
    memory.pending = list(names)
    memory.accepted = not names
    memory.halted = []
    if by_hand:
        memory.restarted_at, memory.gave_up = [], ""
    why = f"generation {generation}: {why}"
    return _restart(names, by_hand, why) if names else [Action("note", (), why)]


def _restart(names: Sequence[str], by_hand: bool, why: str) -> list[Action]:
    restart = Action("restart", tuple(names), why)
    return [Action("reset-failed", tuple(names), why), restart] if by_hand else [restart]


def state_of(memory: Memory, units: Mapping[str, Unit]) -> str:
    """Return one of STATES for the node."""
    at_rest = [unit for name, unit in units.items() if name not in memory.pending]
    if memory.gave_up or any(unit.failed for unit in at_rest):
        return "failed"
    if memory.pending or any(u.unsettled or u.active == "activating" for u in at_rest):
        return "starting"
    if any(unit.stopped for unit in at_rest):
        return "stopped"
    return "running"


def render_answer(memory: Memory, units: Mapping[str, Unit], now: float, stalled: str = "") -> str:
    """Return what the peers read. Times go as ages: clocks of two nodes are not comparable."""
    answer = {
        "start_id": memory.start_id,
        "generation": memory.generation,
        "state": state_of(memory, units),
        "by_hand": memory.by_hand,
        "crash": memory.crash,
        "crash_age": round(max(now - memory.crashed_at, 0.0), 3),
        "stalled": stalled,
        "restart_ages": [round(max(now - at, 0.0), 3) for at in memory.restarted_at],
    }
    return json.dumps(answer) + "\n"


def parse_answer(text: str, now: float) -> Peer:
    """Parse a peer's answer.

    Raises:
        ValueError: It is none.
    """
    answer = _object(text)
    peer = Peer(
        start_id=_field(answer, "start_id", str),
        generation=_field(answer, "generation", int),
        state=_field(answer, "state", str),
        by_hand=_field(answer, "by_hand", bool),
        crash=_field(answer, "crash", str),
        crashed_at=now - _seconds(_field(answer, "crash_age", float), "crash_age", 0.0),
        # An agent of an earlier release does not say these.
        stalled=_field(answer, "stalled", str) if "stalled" in answer else "",
        restarted_at=tuple(
            now - _seconds(age, "restart_ages", 0.0) for age in _numbers(answer, "restart_ages")
        ),
    )
    if peer.state not in STATES:
        raise ValueError(f"unknown state {peer.state!r}")
    if peer.generation < 0:
        raise ValueError(f"generation {peer.generation} is negative")
    return peer


def parse_units(text: str, names: Sequence[str]) -> dict[str, Unit]:
    """Parse the output of systemctl show with the properties of observe().

    Raises:
        ValueError: A unit or a property is missing.
    """
    found: dict[str, Unit] = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if not values:
            continue
        try:
            invocation = values["InvocationID"]
            found[values["Id"]] = Unit(
                active=values["ActiveState"],
                sub=values["SubState"],
                result=values["Result"],
                invocation="" if set(invocation) == {"0"} else invocation,
                restarts=int(values["NRestarts"]),
                pid=int(values.get("MainPID") or 0),
            )
        except KeyError as error:
            raise ValueError(f"systemctl show gave no {error.args[0]}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"systemctl show gave nothing for {', '.join(missing)}")
    return {name: found[name] for name in names}


# What is in the maps and lists of a state file.
_WITHIN: Mapping[str, type] = {
    **dict.fromkeys(("invocations", "seen", "served"), str),
    **dict.fromkeys(("pending", "halted", "resting", "hopeless"), str),
    **dict.fromkeys(("stalled", "events", "starts"), dict),
}


def parse_memory(text: str) -> Memory:
    """Parse the state file.

    Raises:
        ValueError: It is none.
    """
    value = _object(text)
    kinds = {
        "generation": int,
        "by_hand": bool,
        "accepted": bool,
        "entered_at": float,
        "asked_at": float,
        "down_at": float,
        "foreign_at": float,
        "crashed_at": float,
        "invocations": dict,
        "seen": dict,
        "pending": list,
        "halted": list,
        "resting": list,
        "restarted_at": list,
        "stalled": dict,
        "events": list,
        "served": dict,
        "hopeless": list,
        "starts": dict,
    }
    for required in ("start_id", "boot_id", "generation", "invocations"):
        _field(value, required, kinds.get(required, str))
    # What another release has not written keeps its default: an upgrade restarts nothing.
    names = [
        field.name for field in dataclasses.fields(Memory) if value.get(field.name) is not None
    ]
    _numbers(value, "restarted_at")
    memory = Memory(**{name: _field(value, name, kinds.get(name, str)) for name in names})
    # Nobody looks at it again: of another shape it would end the agent each time it starts.
    for name, kind in _WITHIN.items():
        found = getattr(memory, name)
        for one in found.values() if isinstance(found, dict) else found:
            _field({name: one}, name, kind)
    times = {name: getattr(memory, name) for name, kind in kinds.items() if kind is float}
    for name, at in times.items():
        if at is not None:
            _seconds(at, name)
    for lives in memory.starts.values():
        for at in lives.values():
            _seconds(_field({"starts": at}, "starts", float), "starts")
    return memory


class Config(NamedTuple):
    """The configuration file."""

    units: list[str]
    listen: str
    port: int
    peers: list[str]
    state_file: str
    start_id: str
    stall: StallConfig | None
    metrics: link_metrics.Config | None = None


class StallConfig(NamedTuple):
    """What of a configuration concerns engines that stand still."""

    patience_s: float
    first_patience_s: float
    restarts: int
    window_s: float
    # Where evidence is kept, and by file name the commands of the devices' tools.
    evidence: str
    commands: dict[str, list[str]]
    apis: list[stall_watch.Api]


def parse_config(text: str) -> Config:
    """Parse the configuration file.

    Raises:
        ValueError: What is wrong with it.
    """
    value = _object(text)
    unknown = sorted(set(value) - set(Config._fields))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(Config._fields)}")
    config = Config(
        units=_field(value, "units", list),
        listen=_field(value, "listen", str),
        port=_field(value, "port", int),
        peers=_field(value, "peers", list),
        state_file=_field(value, "state_file", str),
        start_id=_field(value, "start_id", str),
        stall=_stall_config(value["stall"]) if value.get("stall") is not None else None,
        metrics=(
            link_metrics.parse_config(value["metrics"])
            if value.get("metrics") is not None
            else None
        ),
    )
    if not config.units:
        raise ValueError("units is empty")
    for name in config.units:
        if not isinstance(name, str) or not name.endswith(".service") or name.startswith("-"):
            raise ValueError(f"units: {name!r} is not the name of a service")
    for address in [config.listen, *config.peers]:
        try:
            ipaddress.ip_address(address if isinstance(address, str) else "")
        except ValueError:
            raise ValueError(f"listen, peers: {address!r} is not an IP address") from None
    if config.listen in config.peers:
        raise ValueError(f"peers: {config.listen} is this node's own address")
    # Without a peer there is nobody to serve.
    if not (0 < config.port < 65536 or (config.port == 0 and not config.peers)):
        raise ValueError(f"port: {config.port} is not a port")
    if not os.path.isabs(config.state_file):
        raise ValueError(f"state_file: {config.state_file!r} is not an absolute path")
    if not config.start_id:
        raise ValueError("start_id is empty")
    for api in config.stall.apis if config.stall else []:
        if api.unit not in config.units:
            raise ValueError(f"stall: apis: {api.unit!r} is none of units")
    return config


def _stall_config(value: Any) -> StallConfig:
    value = _map(value, "stall")
    config = StallConfig(
        patience_s=_field(value, "patience_s", float),
        first_patience_s=_field(value, "first_patience_s", float),
        restarts=_field(value, "restarts", int),
        window_s=_field(value, "window_s", float),
        evidence=_field(value, "evidence", str),
        commands=_field(value, "commands", dict),
        apis=[_api(one) for one in _field(value, "apis", list)],
    )
    for key in ("patience_s", "first_patience_s", "window_s"):
        if not 0 < getattr(config, key) < float("inf"):
            raise ValueError(f"stall: {key}: {getattr(config, key)} is no time")
    if config.restarts < 0:
        raise ValueError(f"stall: restarts: {config.restarts} is negative")
    return config


def _map(value: Any, key: str) -> dict[str, Any]:
    found: dict[str, Any] = _field({key: value}, key, dict)
    return found


def _api(value: Any) -> stall_watch.Api:
    value = _map(value, "stall: apis")
    texts = {name: _field(value, name, str) for name in stall_watch.Api._fields[:-1]}
    return stall_watch.Api(**texts, key_quoted=_field(value, "key_quoted", bool))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(value, dict):
        return value
    raise ValueError(f"not a JSON object but {type(value).__name__}")


def _field(value: dict[str, Any], key: str, kind: type) -> Any:
    if key not in value:
        raise ValueError(f"{key} is missing")
    kinds = (int, float) if kind is float else (kind,)
    # A bool is an int to Python, not to us.
    if not isinstance(value[key], kinds) or (kind is not bool and isinstance(value[key], bool)):
        raise ValueError(f"{key}: {value[key]!r} is not of type {kind.__name__}")
    return value[key]


def _numbers(value: dict[str, Any], key: str) -> list[float]:
    """Return a list of numbers of seconds; an empty one where there is none."""
    numbers = _field(value, key, list) if key in value else []
    return [_seconds(_field({key: number}, key, float), key) for number in numbers]


def _seconds(number: float, key: str, least: float = -MAX_TIME_S) -> float:
    """Return a number of seconds. JSON has numbers that are none, or beyond any float."""
    if not least <= number <= MAX_TIME_S:
        raise ValueError(f"{key}: {str(number)[:20]} is no time")
    return float(number)


def log(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    """Whatever is asked, the answer is the one document."""

    timeout = IDLE_S
    protocol_version = "HTTP/1.1"

    server: Server

    def do_GET(self) -> None:
        body = self.server.answer().encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line for every poll of every peer would bury the events."""


class Server(socketserver.ThreadingTCPServer):
    """http.server's own would ask DNS for its name, which can hang while a node boots."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, listen: str, port: int, peers: Sequence[str], answer: Callable[[], str]
    ) -> None:
        if ":" in listen:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self._peers = {ipaddress.ip_address(one) for one in peers}
        self._open: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()
        super().__init__((listen, port), Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take no more connections of a peer, or of all others together, than they need."""
        client = self._client(client_address)
        with self._counting:
            if self._open[client] >= MAX_CONNECTIONS:
                return False
            self._open[client] += 1
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started.
            self._left(client_address)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(client_address)

    def _left(self, client_address: Any) -> None:
        with self._counting:
            self._open[self._client(client_address)] -= 1

    def _client(self, client_address: Any) -> str:
        """Return a peer's address; nothing for anybody else."""
        address = str(client_address[0])
        return address if ipaddress.ip_address(address.partition("%")[0]) in self._peers else ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a peer that hangs up: that concerns the peer, which says so."""


class Poller(threading.Thread):
    """Asks one peer again and again and keeps the last answer, or why there is none."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.port = port
        self.problem = ""
        # Kept open: a new one for each poll costs more than all else that an agent does at rest.
        self._connection = http.client.HTTPConnection(address, port, timeout=PEER_TIMEOUT_S)
        self._last: tuple[float, Peer] | None = None
        self._asked_at: float | None = None

    def run(self) -> None:
        while True:
            self._asked_at = asked_at = time.monotonic()
            try:
                text = self._ask()
                now = time.monotonic()
                self._last = (now, parse_answer(text, now))
            # Whatever it answers, it is asked again.
            except Exception as error:
                self.problem = str(error) or type(error).__name__
            self._asked_at = None
            time.sleep(max(0.0, asked_at + POLL_S - time.monotonic()))

    def _ask(self) -> str:
        try:
            # Opens a connection where there is none.
            self._connection.request("GET", "/")
            response = self._connection.getresponse()
            text = response.read(MAX_ANSWER).decode()
            if response.status != 200:
                raise ValueError(f"HTTP status {response.status}")
            return text
        except BaseException:
            self._connection.close()
            raise

    def last(self, now: float) -> Peer | None:
        asked_at = self._asked_at
        if asked_at is not None and now - asked_at > SLOW_S:
            self.problem = f"it has not answered whole for {SLOW_S:.0f} s"
        last = self._last
        return last[1] if last and now - last[0] < PEER_FRESH_S else None


class Watcher(threading.Thread):
    """Watches the engine behind one API, and saves what tells of a stall before it says so."""

    def __init__(
        self,
        api: stall_watch.Api,
        config: StallConfig,
        served: str,
        hear_s: float,
        life: Callable[[], str],
        save: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True)
        self.api = api
        self.limits = stall_watch.Limits(config.patience_s, config.first_patience_s)
        self.interval_s = min(max(config.patience_s / 12, 1.0), 10.0)
        self.ask_s = min(max(config.patience_s / 4, 5.0), 30.0)
        self.watch = stall_watch.Watch(life=served, served=bool(served), ready=bool(served))
        self.hear_s = hear_s
        # Said to peers from the first moment on, and acted upon when evidence is saved.
        self.suspect = ""
        self._said = ""
        self.stall: Stall | None = None
        self._life = life
        self._save = save

    def run(self) -> None:
        while True:
            try:
                pause_s = self._look()
            except Exception as error:
                # Whatever an engine answers, the agent goes on.
                said = f"{self.api.unit}: cannot be watched: {error!r}"
                if said != self._said:
                    log(said)
                self._said = said
                pause_s = self.interval_s
            time.sleep(pause_s)

    def _look(self) -> float:
        """Look once; return how long to wait until the next time."""
        api, life = self.api, self._life()
        watch = stall_watch.observe(
            self.watch, stall_watch.look(api, self.watch, life), time.monotonic()
        )
        cause = stall_watch.to_ask(watch, time.monotonic(), self.limits)
        if cause is not None:
            rank, silent = stall_watch.rank_to_ask(watch, cause), cause == stall_watch.SILENT
            outcome, words = stall_watch.ask(api, rank, self.ask_s, silent)
            watch = stall_watch.answered(watch, cause, outcome, time.monotonic())
            said = f"{api.unit}: nothing moves, and a completion was {outcome} ({words})"
            # One that is paused, or refuses our key, is said once.
            if outcome != stall_watch.ANSWERED and said != self._said:
                log(said)
            self._said = said
        self.watch = watch
        now = time.monotonic()
        found = stall_watch.stall(watch, now, self.limits)
        if found is None or watch.life != self._life():
            self.suspect, self.stall = "", None
            # One that served before we came may stand still soon after: then only a look at it
            # while it still served tells that this is no start.
            return self.interval_s if watch.life else POLL_S
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time.time() - (now - found[0])))
        words = f"stalled since {since}: {found[1]}"
        if not self.suspect:
            self.suspect = words
            log(f"{api.unit} {words}")
            self._save(f"{api.unit} {words}")
            # It may come round meanwhile.
            return self.hear_s
        self.stall = Stall(watch.life, self.suspect)
        return self.interval_s


def boot_time(before: float | None) -> float:
    """Return the Unix time of the boot: as before, until the node's clock is set.

    An agent starts with the node, often before its clock is right.
    """
    now = time.time() - time.monotonic()
    return now if before is None or abs(now - before) > CLOCK_STEP_S else before


class Unusable(Exception):
    """The address cannot be served; systemd tries again."""


class Agent:
    """Observe, decide, remember, act; once a second, and seldom while nothing happens."""

    def __init__(self, config: Config, systemctl: str, path: str) -> None:
        self.config = config
        self.systemctl = systemctl
        self.path = path
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self.boot_id = file.read().strip()
        # The clock of what is remembered begins with the boot.
        self._boot_time = boot_time(None)
        self.pollers = [Poller(address, config.port) for address in config.peers]
        self.memory = self._recall()
        self.units: dict[str, Unit] = {}
        served = self.memory.served if self.memory else {}
        self.watchers = [
            Watcher(
                api,
                config.stall,
                served.get(api.unit, ""),
                HEAR_S if config.peers else 0.0,
                lambda unit=api.unit: self._life(unit),  # type: ignore[misc]
                self._save,
            )
            for api in (config.stall.apis if config.stall else [])
            if config.stall
        ]
        self._said: dict[str, str] = {}
        self._looked_at = float("-inf")
        self._heard: list[Any] = []
        self._saving = threading.Lock()
        self._saved_for: set[str] = set()
        # What was last written for Prometheus, and when.
        self._metrics = ("", float("-inf"))

    def run(self) -> None:
        server = None
        try:
            if self.config.port:
                config = self.config
                server = Server(config.listen, config.port, config.peers, self._answer)
        except OSError as error:
            raise Unusable(
                f"cannot listen on {self.config.listen} port {self.config.port}: {error}"
            ) from None
        for thread in (*self.pollers, *self.watchers):
            thread.start()
        serving = server is None
        while True:
            began_at = time.monotonic()
            self._tick(began_at)
            self._write_metrics(began_at)
            if server is not None and self.memory is not None and not serving:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                serving = True
            time.sleep(max(0.0, began_at + POLL_S - time.monotonic()))

    def _tick(self, now: float) -> None:
        peers = {poller.address: poller.last(now) for poller in self.pollers}
        for peer in peers.values():
            self._save_with(peer)
        stalls = {w.api.unit: w.stall for w in self.watchers if w.stall is not None}
        heard = [peer and peer._replace(crashed_at=0.0, restarted_at=()) for peer in peers.values()]
        if heard == self._heard and not stalls and self._at_rest(now):
            self._note_served()
            return
        try:
            units = self._observe()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._say_once("systemd", "blind", f"cannot see the units, nothing is done: {error}")
            return
        self._say_once("systemd", "seen", f"{', '.join(units)} in sight")
        self._looked_at, self._heard = now, heard
        for poller in self.pollers:
            self._report(poller, peers[poller.address])
        stall = self.config.stall
        budget = Budget(stall.restarts, stall.window_s) if stall else Budget(0, 1.0)
        local = Local(self.config.start_id, self.boot_id, units, stalls, budget)
        memory, actions = decide(self.memory, local, peers, now)
        memory.stalled = {
            name: {"invocation": found.invocation, "why": found.why}
            for name, found in stalls.items()
        }
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        done = [
            {"at": at, "did": action.verb, "why": action.why}
            for action in actions
            if action.verb in ("restart", "stop", "note")
        ]
        memory.events = [*memory.events, *done][-KEEP_EVENTS:]
        ended = [
            units[name].invocation
            for action in actions
            if action.verb in ("restart", "stop")
            for name in action.units
        ]
        memory.hopeless = ended or memory.hopeless
        memory.starts = self._starts(memory, units, now)
        # First remembered, then done: if we die in between, the next agent asks again.
        if memory != self.memory:
            self._remember(memory)
        self.memory, self.units = memory, units
        for action in actions:
            self._act(action)
        self._note_served()

    def _at_rest(self, now: float) -> bool:
        """Tell whether nothing can have happened to the units since systemd was last asked."""
        units, memory = self.units.values(), self.memory
        age = now - self._looked_at
        if not units or memory is None or memory.pending or memory.stalled or age >= REST_S:
            return False
        if all(unit.failed or unit.stopped for unit in units):
            return age < STOPPED_S
        return all(
            unit.active == "active" and unit.pid > 0 and os.path.exists(f"/proc/{unit.pid}")
            for unit in units
        )

    def _life(self, name: str) -> str:
        unit = self.units.get(name)
        return unit.invocation if unit is not None and unit.up else ""

    def _note_served(self) -> None:
        """Remember which lives have given a token: a new agent cannot ask one that is silent."""
        served = {w.api.unit: w.watch.life for w in self.watchers if w.watch.served}
        if self.memory is not None and served and served != self.memory.served:
            self.memory = dataclasses.replace(self.memory, served=served)
            self._remember(self.memory)

    def _save_with(self, peer: Peer | None) -> None:
        """Save what this node has of a stall that another one has found, once."""
        words = peer.stalled if peer and peer.start_id == self.config.start_id else ""
        if words and words not in self._saved_for:
            self._saved_for.add(words)
            threading.Thread(target=self._save, args=(words,), daemon=True).start()

    def _save(self, words: str) -> None:
        """Save what tells of a stall, within a bound: the restart waits for it."""
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stall_evidence.py")
        with self._saving:
            try:
                done = subprocess.run(
                    [sys.executable, program, "--config", self.path, "--why", words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=EVIDENCE_S,
                    check=False,
                )
                said = (done.stdout + done.stderr).decode(errors="replace").strip()
                log(said[-2000:])
            except (OSError, subprocess.SubprocessError) as error:
                log(f"the evidence is not whole: {error}")

    def _starts(self, memory: Memory, units: Mapping[str, Unit], now: float) -> link_metrics.Starts:
        """Return the lives that count in the units' start limit."""
        config = self.config.metrics
        if config is None:
            return memory.starts
        lives = {n: u.invocation for n, u in units.items() if u.up or u.crashed}
        return link_metrics.note(memory.starts, lives, now, config.window_s)

    def _write_metrics(self, now: float) -> None:
        """Write what is known of the units for Prometheus; that nobody reads it is no fault."""
        config, memory = self.config.metrics, self.memory
        # What was last seen too long ago is not told as if it were so.
        if config is None or memory is None or now - self._looked_at > 3 * REST_S:
            return
        text = self._metrics_text(config, memory, now)
        if text == self._metrics[0] and now - self._metrics[1] < METRICS_S:
            return
        try:
            # node_exporter is none of root's.
            durable_io.replace(config.file, text, 0o644)
            self._metrics = (text, now)
        except OSError as error:
            self._say_once("metrics", "unwritten", f"cannot write {config.file}: {error}")

    def _metrics_text(self, config: link_metrics.Config, memory: Memory, now: float) -> str:
        suspects = {watcher.api.unit for watcher in self.watchers if watcher.suspect}
        anew_at = memory.entered_at if memory.by_hand else 0.0
        self._boot_time = boot_time(self._boot_time)
        seen = {}
        for name, unit in self.units.items():
            lives = memory.starts.get(name, {})
            seen[name] = link_metrics.Seen(
                up=unit.up,
                wanted=not unit.stopped or name in (*memory.halted, *memory.pending),
                stalled=name in suspects,
                started_at=lives.get(unit.invocation, now),
                starts=link_metrics.count(lives, now, config.window_s, anew_at),
            )
        unordered = memory.generation > 0 and not memory.by_hand
        return link_metrics.render(
            config,
            seen,
            memory.entered_at if unordered else None,
            max(memory.restarted_at, default=None),
            self.config.stall.first_patience_s if self.config.stall else None,
            self._boot_time,
        )

    def _answer(self) -> str:
        if self.memory is None:
            raise RuntimeError("served before the first decision")
        stalled = "; ".join(f"{w.api.unit} {w.suspect}" for w in self.watchers if w.suspect)
        return render_answer(self.memory, self.units, time.monotonic(), stalled)

    def _report(self, poller: Poller, peer: Peer | None) -> None:
        name = poller.address
        if peer is None:
            if poller.problem:
                message = f"peer {name} does not answer, nothing is done: {poller.problem}"
                self._say_once(name, "silent", message)
        elif peer.start_id != self.config.start_id:
            message = f"peer {name} belongs to start {peer.start_id}, it is ignored"
            self._say_once(name, peer.start_id, message)
        else:
            message = f"peer {name} is {peer.state} in generation {peer.generation}"
            self._say_once(name, f"{peer.state} {peer.generation}", message)

    def _say_once(self, subject: str, condition: str, message: str) -> None:
        if self._said.get(subject) != condition:
            self._said[subject] = condition
            log(message)

    def _observe(self) -> dict[str, Unit]:
        properties = "Id,ActiveState,SubState,Result,InvocationID,NRestarts,MainPID"
        return parse_units(
            self._call("show", "-p", properties, "--", *self.config.units), self.config.units
        )

    def _act(self, action: Action) -> None:
        if action.verb == "note":
            log(action.why)
            return
        call = f"{action.verb} {' '.join(action.units)}"
        # A lost call comes again with each tick: said once.
        self._say_once(action.verb, action.why, f"{call}: {action.why}")
        options = [] if action.verb == "reset-failed" else ["--no-block"]
        try:
            self._call(action.verb, *options, "--", *action.units)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            # A unit that is not loaded has no failure to reset.
            if action.verb != "reset-failed" or "not loaded" not in str(error):
                problem = f"{call} did not work: {error}"
                self._say_once(f"{action.verb} failed", f"{action.why} {problem}", problem)
            return
        if action.verb == "restart" and self.memory is not None:
            self.memory = dataclasses.replace(self.memory, accepted=True)
            self._remember(self.memory)

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.systemctl, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SYSTEMCTL_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise ValueError(f"systemctl {arguments[0]}: rc {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def _recall(self) -> Memory | None:
        try:
            with open(self.config.state_file, encoding="utf-8") as file:
                return parse_memory(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log(f"{self.config.state_file} is lost, beginning anew: {error}")
            return None

    def _remember(self, memory: Memory) -> None:
        path = self.config.state_file
        try:
            durable_io.replace(path, json.dumps(dataclasses.asdict(memory)), 0o600)
        except OSError as error:
            log(f"cannot write {path}, a restart of this agent will not know of now: {error}")


def end(_number: int, _frame: Any) -> None:
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Restart the ranks of a replica as one.")
    parser.add_argument("--config", required=True, help="JSON file: " + ", ".join(Config._fields))
    parser.add_argument("--systemctl", default="systemctl", help="the command to use")
    options = parser.parse_args(arguments)
    # At any point: what was decided is remembered before it is done.
    signal.signal(signal.SIGTERM, end)
    try:
        with open(options.config, encoding="utf-8") as file:
            config = parse_config(file.read())
    except (OSError, ValueError) as error:
        log(f"{options.config}: {error}")
        return 2
    peers = ", ".join(config.peers) or "no other node"
    log(f"linking {', '.join(config.units)} with {peers}, start {config.start_id}")
    try:
        Agent(config, options.systemctl, options.config).run()
    except Unusable as error:
        log(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        if config.metrics:
            # What nobody looks after any more is not told.
            with contextlib.suppress(OSError):
                os.unlink(config.metrics.file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
