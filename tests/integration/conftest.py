"""What drives the lab: playbooks through ansible-runner, nodes through the lab's own commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import pytest

from lab import nodes, podman

ROOT = Path(__file__).resolve().parents[2]
LAB_INVENTORY = ROOT / "inventories" / "lab"

# The nodes of a2-cluster, and the engine of each.
NODES = ("a2-node0", "a2-node1")
UNITS = {node: f"a2-cluster-r0-rank{rank}" for rank, node in enumerate(NODES)}
# The nodes of a3-replicas, and the address of its gateways.
PAIR = ("a3-node0", "a3-node1")
FLOATING = "198.19.67.29"


@dataclass
class Outcome:
    """One run of a playbook: its return code, its events and what it printed."""

    rc: int
    stdout: str = field(repr=False)
    events: list[dict[str, Any]] = field(repr=False)
    stats: dict[str, dict[str, int]] = field(default_factory=dict)

    def changed(self) -> dict[str, int]:
        return {host: count for host, count in self.stats.get("changed", {}).items() if count}

    def task_results(self, task: str) -> dict[str, dict[str, Any]]:
        """The last result of the named task on each host."""
        return {
            event["event_data"]["host"]: event["event_data"]["res"]
            for event in self.events
            if event["event"].startswith("runner_on_")
            and event["event_data"].get("task") == task
            and "res" in event["event_data"]
        }

    def changed_tasks(self) -> list[str]:
        return [
            f"{event['event_data']['host']}: {event['event_data']['task']}"
            for event in self.events
            if event["event"] == "runner_on_ok" and event["event_data"]["res"].get("changed")
        ]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Outcome]:
    """Run a playbook of the checkout, on the lab unless told otherwise."""

    def run(
        playbook: str,
        *arguments: str,
        inventory: Path = LAB_INVENTORY,
        limit: str | None = "a2-cluster",
        **extra: Any,
    ) -> Outcome:
        # ansible-runner keeps the arguments and the variables of the run before.
        for kept in ("cmdline", "extravars"):
            (tmp_path / "env" / kept).unlink(missing_ok=True)
        runner = ansible_runner.run(
            private_data_dir=str(tmp_path),
            project_dir=str(ROOT),
            playbook=playbook,
            inventory=str(inventory),
            limit=limit,
            extravars={"muster_output_dir": str(tmp_path / "output"), **extra},
            cmdline=" ".join(arguments) or None,
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            quiet=True,
        )
        outcome = Outcome(
            runner.rc, Path(runner.stdout.name).read_text(), list(runner.events), runner.stats or {}
        )
        print(outcome.stdout)
        return outcome

    return run


def kill_at(
    begins: Callable[[str], bool], playbook: str, *, limit: str = "a2-cluster", **extra: Any
) -> None:
    """Run a playbook on the lab, and kill it when it prints such a line."""
    with subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(LAB_INVENTORY), playbook, "-l", limit, "-e", json.dumps(extra)),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if begins(line):
                os.killpg(process.pid, signal.SIGKILL)
                return
    pytest.fail("the run ended by itself")


def lab(*arguments: str, timeout: float = 600) -> str:
    """Run a command of the lab and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"lab {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def run_podman(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run podman as the lab does."""
    settings = [f"{name}={value}" for name, value in podman.environment().items()]
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    return subprocess.run(
        [*as_root, "env", *settings, "podman", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def on_node(node: str, *argv: str) -> str:
    """Run a command on a lab node, beside SSH and Ansible.

    What `lab exec` does, which starts Python and looks at all nodes first: a fault alone asks eight
    times.
    """
    done = run_podman("exec", nodes.Node(node, "").container, *argv)
    assert done.returncode == 0, f"on {node}: {' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


def containers() -> dict[str, str]:
    """The id of each node's engine container; empty where none runs."""
    return {
        node: on_node(
            node, "docker", "ps", "--quiet", "--no-trunc", "--filter", f"name=^muster-{unit}$"
        ).strip()
        for node, unit in UNITS.items()
    }


def stop_pair() -> None:
    """Stop the pair's engines, whose memory others need."""
    for node in NODES:
        on_node(node, "sh", "-c", "systemctl stop 'muster-*' 2>/dev/null || true")


def invocation(node: str, unit: str) -> str:
    """The id of a unit's present run."""
    return on_node(node, "systemctl", "show", "--property=InvocationID", "--value", unit).strip()


def eventually(holds: Callable[[], object], seconds: float) -> None:
    """Wait until something holds; an endpoint that does not answer does not hold."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(1)


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    """Address of each lab node by its name."""
    return {node["name"]: node["address"] for node in json.loads(lab("status", "--json"))["nodes"]}


@pytest.fixture(scope="module")
def a3_nodes() -> Iterator[None]:
    """The nodes of a3-replicas, as a provider hands them over."""
    for name in PAIR:
        lab("node", "create", name)
    yield
    for name in PAIR:
        lab("node", "remove", name)
