"""From a fault to the first new token, with nobody's help, over the engine's own cold start.

Before each fault the pair is stopped and started by hand, which gives it a new budget and a cold
start to compare with, of the same minute on the same machine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import Outcome, lab, on_node

Play = Callable[..., Outcome]
# The fault, a cold start, from the fault to a token, and how many times the former it may be.
Measured = Callable[[str, float, float, float], None]

pytestmark = pytest.mark.chaos

HEAD, FOLLOWER = NODES = ("a2-node0", "a2-node1")
ADDRESSES = {HEAD: "198.19.67.10", FOLLOWER: "198.19.67.11"}
UNITS = {node: f"muster-a2-cluster-r0-rank{rank}" for rank, node in enumerate(NODES)}
AGENTS = dict.fromkeys(NODES, "muster-a2-cluster-r0-link")
PATIENCE_S = 120
RPC_PORT = 2347
# Takes the port as soon as the engine lets go of it.
SQUATTER = f"""
import socket, time
taken = socket.socket()
taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        taken.bind(("0.0.0.0", {RPC_PORT}))
        break
    except OSError:
        time.sleep(0.05)
taken.listen()
time.sleep(600)
"""


@pytest.fixture
def measured(capsys: pytest.CaptureFixture[str]) -> Measured:
    """Print what a fault took beside the cold start before it, and hold it to its goal."""

    def tell(fault: str, cold: float, back: float, most: float) -> None:
        with capsys.disabled():
            print(f"\n{fault}: {back:.1f} s, cold {cold:.1f} s, ratio {back / cold:.2f} ({most})")
        assert back <= most * cold

    return tell


@pytest.fixture(scope="module", autouse=True)
def pair() -> None:
    lab("up")


def run_of(node: str) -> str:
    """The id of the present run of a node's unit."""
    show = ("systemctl", "show", "--property=InvocationID", "--value", UNITS[node])
    return on_node(node, *show).strip()


def runs() -> dict[str, str]:
    return {node: run_of(node) for node in NODES}


def systemctl_on_both(verb: str, units: dict[str, str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda node: on_node(node, "systemctl", verb, units[node]), NODES))


def pids(node: str, pattern: str = "") -> str:
    """The processes of a node's engine whose command line has a pattern, for a shell."""
    found = f"docker top {UNITS[node]} -eo pid,args | tail -n +2 | grep -e '{pattern}'"
    return f"$({found} | awk '{{print $1}}')"


def signal_engine(node: str, name: str, pattern: str = "") -> None:
    on_node(node, "sh", "-c", f"kill -{name} {pids(node, pattern)}")


def ask(timeout: float = 5, prompt: str | list[int] = "Hello", **more: Any) -> bool:
    """Whether the endpoint gives a completion in time, of one token unless told otherwise."""
    body = {"model": "minimax25", "prompt": prompt, "max_tokens": 1, **more}
    request = urllib.request.Request(
        f"http://{ADDRESSES[HEAD]}:20004/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return bool(json.load(answer)["choices"])
    except (OSError, http.client.HTTPException):
        return False


def answers_again(before: dict[str, str], seconds: float) -> float:
    """When new runs of both ranks have given a token."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if ask():
            at = time.time()
            now = runs()
            if all(now[node] != before[node] for node in NODES):
                return at
        time.sleep(0.5)
    pytest.fail(f"no token from new runs within {seconds:.0f} s: {before} -> {runs()}")


def cold_start() -> float:
    """Stop the pair, start its engines with nothing beside them; the seconds to the first token."""
    systemctl_on_both("stop", AGENTS)
    systemctl_on_both("stop", UNITS)
    # So many starts in so short a time are more than a unit's budget.
    systemctl_on_both("reset-failed", UNITS)
    before = runs()
    begin = time.time()
    systemctl_on_both("start", UNITS)
    took = answers_again(before, 300) - begin
    systemctl_on_both("start", AGENTS)
    # Both ranks have computed, and the agents have seen them do so.
    assert all(ask(60) for _ in range(4))
    time.sleep(5)
    return took


@contextlib.contextmanager
def traffic() -> Iterator[None]:
    """Clients that ask again and again, whatever becomes of it."""
    ended = threading.Event()

    def client() -> None:
        while not ended.is_set():
            ask(30)
            ended.wait(0.1)

    clients = [threading.Thread(target=client, daemon=True) for _ in range(2)]
    for one in clients:
        one.start()
    try:
        yield
    finally:
        ended.set()


def back_at(node: str, unit: str) -> float:
    """When systemd last had a unit of a node up, on the clock that all nodes share."""
    show = ("systemctl", "show", "--timestamp=unix", "--property=ActiveEnterTimestamp", "--value")
    return float(on_node(node, *show, unit).strip().lstrip("@"))


def test_the_pair_serves_with_the_patience_of_a_cluster(play: Play) -> None:
    assert play("site.yml", muster_stall_patience_s=PATIENCE_S).rc == 0


KILLED = {
    "follower killed, idle": (FOLLOWER, "VLLM::EngineCore", False),
    "follower killed, with traffic": (FOLLOWER, "VLLM::EngineCore", True),
    "head killed, with traffic": (HEAD, "vllm serve", True),
    "worker killed in a live container of the head": (HEAD, "VLLM::Worker", True),
}


@pytest.mark.parametrize("fault", KILLED)
def test_a_killed_process(fault: str, measured: Measured) -> None:
    node, pattern, busy = KILLED[fault]
    cold = cold_start()
    before = runs()
    with traffic() if busy else contextlib.nullcontext():
        begin = time.time()
        signal_engine(node, "KILL", pattern)
        measured(fault, cold, answers_again(before, 300) - begin, 1.15)


def test_a_killed_container(measured: Measured) -> None:
    cold = cold_start()
    before = runs()
    begin = time.time()
    on_node(FOLLOWER, "docker", "kill", UNITS[FOLLOWER])
    measured("container of the follower killed", cold, answers_again(before, 300) - begin, 1.15)


def test_docker_restarted(measured: Measured) -> None:
    cold = cold_start()
    before = runs()
    on_node(FOLLOWER, "systemctl", "restart", "docker")
    begin = back_at(FOLLOWER, "docker.service")
    measured("Docker of the follower restarted", cold, answers_again(before, 300) - begin, 1.3)


@pytest.mark.parametrize("nodes", [(FOLLOWER,), NODES], ids=["one", "both"])
def test_nodes_rebooted(nodes: tuple[str, ...], measured: Measured) -> None:
    cold = cold_start()
    before = runs()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda node: lab("node", "restart", node), nodes))
    begin = max(back_at(node, "docker.service") for node in nodes)
    fault = "both nodes rebooted" if len(nodes) > 1 else "node of the follower rebooted"
    measured(fault, cold, answers_again(before, 300) - begin, 1.3)


@pytest.mark.parametrize("node", NODES, ids=["head", "follower"])
def test_a_rank_that_stands_still(node: str, measured: Measured) -> None:
    """Found within the patience and a minute; then it starts as from cold."""
    cold = cold_start()
    before = runs()
    name = "head" if node == HEAD else "follower"
    with traffic():
        begin = time.time()
        signal_engine(node, "STOP")
        back = answers_again(before, 600)
    found = back_at_start(before)
    assert found - begin <= 180
    fault = f"{name} stopped, found after {found - begin:.0f} s, from its new start"
    measured(fault, cold, back - found, 1.3)


def back_at_start(before: dict[str, str]) -> float:
    """When the first new run of the pair began."""
    show = ("systemctl", "show", "--timestamp=unix", "--property=InactiveExitTimestamp", "--value")
    began = [on_node(node, *show, UNITS[node]).strip().lstrip("@") for node in NODES]
    return min(float(at) for at in began)


@contextlib.contextmanager
def link_cut() -> Iterator[None]:
    """Nothing passes between the two nodes."""
    for node, other in (NODES, NODES[::-1]):
        on_node(node, "iptables", "-I", "INPUT", "-s", ADDRESSES[other], "-j", "DROP")
    try:
        yield
    finally:
        for node, other in (NODES, NODES[::-1]):
            on_node(node, "iptables", "-D", "INPUT", "-s", ADDRESSES[other], "-j", "DROP")


def test_a_link_that_heals_within_the_patience_restarts_nothing() -> None:
    cold_start()
    before = runs()
    with traffic():
        with link_cut():
            time.sleep(30)
        assert ask(120)
        time.sleep(20)
    assert runs() == before


def test_a_link_cut_for_five_minutes(measured: Measured) -> None:
    cold = cold_start()
    before = runs()
    with traffic():
        with link_cut():
            time.sleep(300)
        begin = time.time()
        measured("link cut for 5 min, from its heal", cold, answers_again(before, 300) - begin, 2)


def test_a_port_that_is_taken_at_the_restart(measured: Measured) -> None:
    cold = cold_start()
    before = runs()
    on_node(HEAD, "systemd-run", "--unit=squatter", "python3", "-c", SQUATTER)
    try:
        on_node(FOLLOWER, "docker", "kill", UNITS[FOLLOWER])
        time.sleep(cold)
    finally:
        begin = time.time()
        on_node(HEAD, "systemctl", "stop", "squatter")
    measured("port of the ranks taken, from its end", cold, answers_again(before, 300) - begin, 2)
