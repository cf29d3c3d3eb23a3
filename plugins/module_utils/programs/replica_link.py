# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranks of a replica restart as one, without a controller.

An engine whose partner died looks healthy and serves nobody until both sides start again. systemd
restarts a unit that exits; this agent, one for each node and replica, makes the other nodes follow.
It is one standalone script: it imports the standard library only.

Agents only read each other: each serves its generation, and decides alone what to do about what the
others say. A generation counts the restarts of the whole replica since its deliberate start, which
has an id of its own. Whoever sees a larger generation restarts its units, once, and takes over the
number. A restart that nobody else knows of makes a new generation; so no node restarts alone.

The restarts of the agent count in systemd's start limit like those of systemd, so the budget of a
unit is the budget of its replica. A start by hand, or by a boot, gives all its nodes a new budget.
"""

from __future__ import annotations

import argparse
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

POLL_S = 1.0
PEER_TIMEOUT_S = 2.0
# Two polls may be lost before what a peer said is forgotten.
PEER_FRESH_S = 3.0
SYSTEMCTL_TIMEOUT_S = 10.0
# An engine needs longer than this from its start to its first word to the other ranks, so one that
# started no earlier than this before a crash elsewhere has met nothing of what crashed.
AGREE_S = 5.0
# What systemd has not begun by now of what it was asked, it will not.
GRACE_S = 15.0
MAX_ANSWER = 65536

STATES = ("starting", "running", "stopped", "failed")


class Unit(NamedTuple):
    """What systemd says of one unit."""

    active: str
    sub: str
    result: str
    invocation: str
    restarts: int

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


class Local(NamedTuple):
    """This node: the start it was configured for, its boot and its units of the replica."""

    start_id: str
    boot_id: str
    units: Mapping[str, Unit]


class Peer(NamedTuple):
    """What another node says, its times on our clock."""

    start_id: str
    generation: int
    state: str
    by_hand: bool
    crash: str
    crashed_at: float


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
            memory, boot_id=local.boot_id, pending=[], asked_at=0.0, entered_at=0.0, down_at=0.0
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
    actions += _half_replica(memory, units, ours, now)
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
    if not failed or not running:
        return []
    memory.halted = sorted({*memory.halted, *running})
    # A restart that is still to come is no longer asked for; should it come, it is ours.
    memory.accepted = True
    memory.asked_at = now
    why = (
        f"generation {memory.generation}: failed for good: {', '.join(sorted(failed))}; a half "
        "replica serves nobody; systemctl reset-failed and start there, and the others follow"
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
    why = f"generation {generation}: {why}"
    return _restart(names, by_hand, why) if names else [Action("note", (), why)]


def _restart(names: Sequence[str], by_hand: bool, why: str) -> list[Action]:
    restart = Action("restart", tuple(names), why)
    return [Action("reset-failed", tuple(names), why), restart] if by_hand else [restart]


def state_of(memory: Memory, units: Mapping[str, Unit]) -> str:
    """Return one of STATES for the node."""
    at_rest = [unit for name, unit in units.items() if name not in memory.pending]
    if any(unit.failed for unit in at_rest):
        return "failed"
    if memory.pending or any(u.unsettled or u.active == "activating" for u in at_rest):
        return "starting"
    if any(unit.stopped for unit in at_rest):
        return "stopped"
    return "running"


def render_answer(memory: Memory, units: Mapping[str, Unit], now: float) -> str:
    """Return what the peers read. Times go as ages: clocks of two nodes are not comparable."""
    answer = {
        "start_id": memory.start_id,
        "generation": memory.generation,
        "state": state_of(memory, units),
        "by_hand": memory.by_hand,
        "crash": memory.crash,
        "crash_age": round(max(now - memory.crashed_at, 0.0), 3),
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
        crashed_at=now - _field(answer, "crash_age", float),
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
            )
        except KeyError as error:
            raise ValueError(f"systemctl show gave no {error.args[0]}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"systemctl show gave nothing for {', '.join(missing)}")
    return {name: found[name] for name in names}


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
        "crashed_at": float,
        "invocations": dict,
        "seen": dict,
        "pending": list,
        "halted": list,
        "resting": list,
    }
    for required in ("start_id", "boot_id", "generation", "invocations"):
        _field(value, required, kinds.get(required, str))
    # What another release has not written keeps its default: an upgrade restarts nothing.
    names = [
        field.name for field in dataclasses.fields(Memory) if value.get(field.name) is not None
    ]
    return Memory(**{name: _field(value, name, kinds.get(name, str)) for name in names})


class Config(NamedTuple):
    """The configuration file."""

    units: list[str]
    listen: str
    port: int
    peers: list[str]
    state_file: str
    start_id: str


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
    if not 0 < config.port < 65536:
        raise ValueError(f"port: {config.port} is not a port")
    if not os.path.isabs(config.state_file):
        raise ValueError(f"state_file: {config.state_file!r} is not an absolute path")
    if not config.start_id:
        raise ValueError("start_id is empty")
    return config


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


def log(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    """Whatever is asked, the answer is the one document."""

    timeout = PEER_TIMEOUT_S

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

    def __init__(self, listen: str, port: int, answer: Callable[[], str]) -> None:
        if ":" in listen:
            self.address_family = socket.AF_INET6
        self.answer = answer
        super().__init__((listen, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a peer that hangs up: that concerns the peer, which says so."""


class Poller(threading.Thread):
    """Asks one peer again and again and keeps the last answer, or why there is none."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.port = port
        self.problem = ""
        self._last: tuple[float, Peer] | None = None

    def run(self) -> None:
        while True:
            asked_at = time.monotonic()
            try:
                text = self._ask()
                now = time.monotonic()
                self._last = (now, parse_answer(text, now))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.problem = str(error) or type(error).__name__
            time.sleep(max(0.0, asked_at + POLL_S - time.monotonic()))

    def _ask(self) -> str:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=PEER_TIMEOUT_S)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(f"HTTP status {response.status}")
            return response.read(MAX_ANSWER).decode()
        finally:
            connection.close()

    def last(self, now: float) -> Peer | None:
        last = self._last
        return last[1] if last and now - last[0] < PEER_FRESH_S else None


class Unusable(Exception):
    """The address cannot be served; systemd tries again."""


class Agent:
    """Observe, decide, remember, act; once a second."""

    def __init__(self, config: Config, systemctl: str) -> None:
        self.config = config
        self.systemctl = systemctl
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self.boot_id = file.read().strip()
        self.pollers = [Poller(address, config.port) for address in config.peers]
        self.memory = self._recall()
        self.units: dict[str, Unit] = {}
        self._said: dict[str, str] = {}

    def run(self) -> None:
        try:
            server = Server(self.config.listen, self.config.port, self._answer)
        except OSError as error:
            raise Unusable(
                f"cannot listen on {self.config.listen} port {self.config.port}: {error}"
            ) from None
        for poller in self.pollers:
            poller.start()
        serving = False
        while True:
            began_at = time.monotonic()
            self._tick(began_at)
            if self.memory is not None and not serving:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                serving = True
            time.sleep(max(0.0, began_at + POLL_S - time.monotonic()))

    def _tick(self, now: float) -> None:
        try:
            units = self._observe()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._say_once("systemd", "blind", f"cannot see the units, nothing is done: {error}")
            return
        self._say_once("systemd", "seen", f"{', '.join(units)} in sight")
        peers = {poller.address: poller.last(now) for poller in self.pollers}
        for poller in self.pollers:
            self._report(poller, peers[poller.address])
        memory, actions = decide(
            self.memory, Local(self.config.start_id, self.boot_id, units), peers, now
        )
        # First remembered, then done: if we die in between, the next agent asks again.
        if memory != self.memory:
            self._remember(memory)
        self.memory, self.units = memory, units
        for action in actions:
            self._act(action)

    def _answer(self) -> str:
        if self.memory is None:
            raise RuntimeError("served before the first decision")
        return render_answer(self.memory, self.units, time.monotonic())

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
        properties = "Id,ActiveState,SubState,Result,InvocationID,NRestarts"
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
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + ".tmp", "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(memory), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".tmp", path)
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
        Agent(config, options.systemctl).run()
    except Unusable as error:
        log(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
