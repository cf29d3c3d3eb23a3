"""takeover.yml on the lab's pair, of which each node serves by other hands: Docker, and systemd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Outcome, kill_at, on_node

Play = Callable[..., Outcome]

pytestmark = pytest.mark.chaos

NODES = ("a2-node0", "a2-node1")
DOCKER, SYSTEMD = NODES
IMAGE = "registry:5000/muster-lab/vllm-cpu:0.32.0"
TOOLS = "/usr/local/lib/muster-lab/device_tools.py"
RECORD = "/var/lib/muster/takeover/a2-cluster.json"
SERVICE = """\
[Service]
ExecStart=/usr/bin/python3 -m http.server 20004
[Install]
WantedBy=multi-user.target
"""
START = {
    DOCKER: "docker run --detach --name by-hand --restart always --network host --init"
    f" --entrypoint python3 {IMAGE} -m http.server 20004",
    SYSTEMD: f"printf '{SERVICE}' > /etc/systemd/system/by-hand.service;"
    " systemctl daemon-reload; systemctl enable --now by-hand",
}
MAIN_PID = {
    DOCKER: "docker inspect --format '{{.State.Pid}}' by-hand",
    SYSTEMD: "systemctl show --property=MainPID --value by-hand",
}
# Whether it runs, and what it does at a boot.
STATE = {
    DOCKER: "docker inspect by-hand"
    " --format '{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}'",
    SYSTEMD: "echo $(systemctl is-active by-hand) $(systemctl is-enabled by-hand)",
}
REMOVE = {
    DOCKER: "docker rm --force by-hand",
    SYSTEMD: "systemctl disable --now by-hand; rm -f /etc/systemd/system/by-hand.service",
}
RUNS = {DOCKER: "running always", SYSTEMD: "active enabled"}
STOPPED = {DOCKER: "exited no", SYSTEMD: "inactive disabled"}


def shell(node: str, script: str) -> str:
    return on_node(node, "sh", "-c", f"{{ {script}; }} 2>/dev/null || true").strip()


def states() -> dict[str, str]:
    return {node: shell(node, script) for node, script in STATE.items()}


def main_pids() -> dict[str, str]:
    return {node: shell(node, script) for node, script in MAIN_PID.items()}


def units() -> dict[str, list[str]]:
    """By node the services of Muster that run."""
    listed = "systemctl list-units --plain --no-legend --state=running 'muster-a2-cluster-*'"
    return {node: [line.split()[0] for line in shell(node, listed).splitlines()] for node in NODES}


def show_on_devices() -> None:
    """Let the emulated NPUs list what runs by hand, as real ones would by themselves."""
    for node, pid in main_pids().items():
        process = {"pid": int(pid or 0), "name": "python3", "memory_mb": 900}
        listed = json.dumps([process] if process["pid"] else [])
        on_node(node, "python3", TOOLS, "set", "devices.0.processes", listed)


@pytest.fixture
def by_hand(play: Play) -> Iterator[dict[str, str]]:
    """A pair that was prepared, and on which something else is on the NPUs and the port."""
    assert play("site.yml").rc == 0
    for node in NODES:
        shell(node, "systemctl stop 'muster-a2-cluster-*'")
        shell(node, START[node])
    show_on_devices()
    assert states() == RUNS
    yield main_pids()
    for node in NODES:
        shell(node, REMOVE[node])
        shell(node, f"rm -f {RECORD}")
    show_on_devices()
    assert play("site.yml").rc == 0


def converged(play: Play, **extra: Any) -> Outcome:
    """Run it after one that was killed: what a step of that does on a node goes on to its end."""
    for _try in range(12):
        show_on_devices()
        outcome = play("playbooks/takeover.yml", **extra)
        if "still changes the node" not in outcome.stdout:
            break
        time.sleep(5)
    return outcome


def test_check_mode_shows_what_would_be_replaced_and_stops_nothing(
    play: Play, by_hand: dict[str, str]
) -> None:
    outcome = play("playbooks/takeover.yml", "--check", "--diff")
    assert outcome.rc == 0
    assert f"runs: container by-hand ({IMAGE}), device 0, port 20004" in outcome.stdout
    assert "stopped: service by-hand.service, device 0" in outcome.stdout
    assert (states(), main_pids()) == (RUNS, by_hand)


@pytest.mark.usefixtures("by_hand")
def test_what_runs_by_hand_is_replaced_and_brought_back(play: Play) -> None:
    outcome = play("playbooks/takeover.yml")
    assert outcome.rc == 0
    assert states() == STOPPED
    assert all(len(running) == 2 for running in units().values())
    for node in NODES:
        assert shell(node, f"stat -c %a {RECORD}") == "600"
        (entry,) = json.loads(shell(node, f"cat {RECORD}"))["entries"]
        assert entry["state"] == "replaced"

    show_on_devices()
    again = play("playbooks/takeover.yml")
    assert again.rc == 0
    assert again.changed_tasks() == []

    assert play("playbooks/return.yml").rc == 0
    assert states() == RUNS
    assert units() == {node: [] for node in NODES}
    assert all(shell(node, f"ls {RECORD}") == "" for node in NODES)


def test_where_the_plan_does_not_answer_the_old_one_serves_again(
    play: Play, by_hand: dict[str, str]
) -> None:
    # The tiny model knows none.
    outcome = play("playbooks/takeover.yml", muster_known_answers=True)
    assert outcome.rc != 0
    assert "endpoint-answers" in outcome.stdout
    assert f"container by-hand ({IMAGE}) was started again" in outcome.stdout
    assert states() == RUNS
    assert main_pids() != by_hand
    assert units() == {node: [] for node in NODES}
    # A boot would start nothing of the plan beside it.
    assert shell(NODES[0], "ls /etc/systemd/system/muster-a2-cluster-*") == ""


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize(
    "stage",
    [
        "TASK [muster.serving.roll : Stop what holds",
        "TASK [muster.serving.unit : Start the replica",
        "TASK [muster.serving.unit : Wait until",
        "TASK [muster.serving.verify : Ask the endpoint",
        "TASK [muster.serving.roll : Note what",
    ],
)
def test_a_run_that_was_killed_is_made_up_for(play: Play, stage: str) -> None:
    kill_at(lambda line: line.startswith(stage), "playbooks/takeover.yml")
    assert converged(play).rc == 0
    assert states() == STOPPED
    assert all(len(running) == 2 for running in units().values())
    assert play("playbooks/return.yml").rc == 0
    assert states() == RUNS
