"""site.yml on the lab, in the order of an operator's day. Each test leaves the pair in service."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.host.tuning import SYSCTL_PATH

from .conftest import LAB_INVENTORY, NODES, UNITS, Outcome, containers, kill_at, lab, on_node

Play = Callable[..., Outcome]


def lab_variables() -> dict[str, Any]:
    """What the lab's inventory says of the pair, its flags without the template around them."""
    folder = LAB_INVENTORY / "group_vars"
    merged: dict[str, Any] = {}
    for name in ("all", "a2-cluster"):
        merged.update(yaml.safe_load((folder / f"{name}.yml").read_text()))
    return {**merged, "muster_engine_args": merged["lab_cpu_args"]}


def complete(address: str, prompt: str = "Hello") -> str:
    """One completion straight from the endpoint."""
    request = urllib.request.Request(
        f"http://{address}:20004/v1/completions",
        json.dumps({"model": "minimax25", "prompt": prompt, "max_tokens": 4}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["choices"][0]["text"])


@pytest.fixture(scope="module", autouse=True)
def bare_nodes() -> None:
    """Two nodes as a provider hands them over: driver and SSH, nothing else."""
    lab("up", "--fresh")


def test_check_mode_on_bare_nodes_ends_well_and_changes_nothing(play: Play) -> None:
    outcome = play("site.yml", "--check", "--diff")
    assert outcome.rc == 0
    assert outcome.changed(), "a dry run on bare nodes must say what it would do"
    for node in NODES:
        left = on_node(node, "sh", "-c", "ls -d /etc/muster /var/lib/muster 2>/dev/null || true")
        assert left.strip() == ""


def test_site_takes_bare_nodes_to_an_answer_from_both_ranks(play: Play, tmp_path: Path) -> None:
    outcome = play("site.yml")
    assert outcome.rc == 0
    report = json.loads((tmp_path / "output" / "verify.json").read_text())
    assert report["passed"]
    endpoint = outcome.task_results("Ask the endpoint")["a2-node0"]
    assert endpoint["answer"]
    assert {rank: tokens > 0 for rank, tokens in endpoint["tokens"].items()} == {
        "0": True,
        "1": True,
    }


def test_what_runs_is_confined() -> None:
    net_raw, mknod = 1 << 13, 1 << 27
    for node, unit in UNITS.items():
        for service, most in ((unit, 25), ("a2-cluster-r0-link", 50)):
            # Its exposure as systemd counts it, times ten; it ends with an error above that.
            analyze = ("systemd-analyze", "security", "--no-pager", f"--threshold={most}")
            on_node(node, *analyze, f"muster-{service}.service")
        pid = on_node(node, "docker", "inspect", "-f", "{{.State.Pid}}", f"muster-{unit}").strip()
        status = on_node(node, "cat", f"/proc/{pid}/status")
        told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert told["NoNewPrivs"] == "1"
        assert told["Seccomp"] == "2"
        assert int(told["CapBnd"], 16) & (net_raw | mknod) == 0


def test_a_second_run_changes_nothing_and_restarts_nothing(play: Play) -> None:
    before = containers()
    assert all(before.values())
    outcome = play("site.yml")
    assert outcome.rc == 0
    assert outcome.changed_tasks() == []
    assert containers() == before


def test_another_patience_reaches_the_links_and_no_engine(play: Play) -> None:
    before = containers()
    changed = play("playbooks/serve.yml", "--diff", muster_stall_patience_s=45)
    assert changed.rc == 0
    links = [f"{node}: Bring the replica's links up to date" for node in before]
    assert sorted(changed.changed_tasks()) == sorted(links)
    assert '"patience_s": 45' in changed.stdout
    back = play("playbooks/serve.yml")
    assert (back.rc, sorted(back.changed_tasks())) == (0, sorted(links))
    assert containers() == before


def test_check_mode_shows_a_flag_that_would_change(play: Play) -> None:
    before = containers()
    args = {**lab_variables()["muster_engine_args"], "max-num-seqs": 7}
    outcome = play("site.yml", "--check", "--diff", muster_engine_args=args)
    assert outcome.rc == 0
    assert "+argv --max-num-seqs: 7" in outcome.stdout
    assert "replica 0 of a2-cluster restarts on a2-node0, a2-node1:" in outcome.stdout
    assert "argv --max-num-seqs 128 -> 7" in outcome.stdout
    assert "-argv --max-num-seqs: 128" in outcome.stdout
    assert containers() == before


def test_a_running_replica_stays_where_the_operator_says_so(play: Play) -> None:
    before = containers()
    args = {**lab_variables()["muster_engine_args"], "max-num-seqs": 7}
    outcome = play("site.yml", muster_engine_args=args, muster_restart="stage")
    assert outcome.rc == 0
    assert containers() == before
    said = " ".join(outcome.stdout.split())
    assert "argv --max-num-seqs 128 -> 7" in said
    assert "-e muster_restart=now" in said


def test_a_changed_flag_restarts_both_ranks_and_nothing_else(play: Play) -> None:
    before = containers()
    docker = {
        node: on_node(node, "systemctl", "show", "-p", "InvocationID", "docker") for node in NODES
    }
    args = {**lab_variables()["muster_engine_args"], "max-num-seqs": 7}
    outcome = play("site.yml", muster_engine_args=args)
    assert outcome.rc == 0
    assert {task.partition(": ")[2] for task in outcome.changed_tasks()} == {
        "Stop the replica's units",
        "Start the replica's units",
        "Keep on the node what was verified",
    }
    after = containers()
    for node in NODES:
        assert after[node], f"{node} runs no engine"
        assert after[node] != before[node]
        assert on_node(node, "systemctl", "show", "-p", "InvocationID", "docker") == docker[node]


def test_half_a_pair_is_refused_before_any_node_is_touched(play: Play) -> None:
    before = containers()
    outcome = play("site.yml", limit="a2-node0")
    assert outcome.rc != 0
    assert "a2-node1" in outcome.stdout
    assert containers() == before


def wait_for_restart(before: dict[str, str], address: str, seconds: float) -> None:
    """Until both ranks run in new containers, and the endpoint gives a completion."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(3)
        now = containers()
        if all(now[node] and now[node] != before[node] for node in NODES):
            break
    else:
        pytest.fail(f"no restart of both within {seconds} s: {before} -> {containers()}")
    while time.monotonic() < deadline:
        try:
            complete(address)
            return
        except OSError:
            time.sleep(3)
    pytest.fail("both ranks restarted, and the endpoint still gives no completion")


def test_a_dead_rank_takes_its_replica_with_it_and_both_come_back(
    addresses: dict[str, str],
) -> None:
    before = containers()
    on_node("a2-node1", "docker", "kill", f"muster-{UNITS['a2-node1']}")
    wait_for_restart(before, addresses["a2-node0"], 180)


def test_a_rank_that_stands_still_restarts_its_replica_and_is_told(
    addresses: dict[str, str],
) -> None:
    before = containers()
    patience_s = lab_variables()["muster_stall_patience_s"]
    complete(addresses["a2-node0"])

    def ask() -> None:
        with contextlib.suppress(OSError):
            complete(addresses["a2-node0"])

    # All processes of the follower, whose port stays open.
    pids = f"$(docker top muster-{UNITS['a2-node1']} -eo pid | tail -n +2)"
    on_node("a2-node1", "sh", "-c", f"kill -STOP {pids}")
    threading.Thread(target=ask, daemon=True).start()
    # The patience, a completion that fails, the evidence, docker stop, and a start.
    wait_for_restart(before, addresses["a2-node0"], patience_s + 30 + 30 + 180)
    for node in NODES:
        why = on_node(node, "sh", "-c", "cat /var/lib/muster/stalls/a2-cluster-r0/*/why.txt")
        assert "stalled since" in why
    texts = "/var/lib/muster/stalls/a2-cluster-r0/*/*.processes.txt"
    assert "T (stopped)" in on_node("a2-node1", "sh", "-c", f"cat {texts}")
    state = json.loads(on_node("a2-node0", "cat", "/var/lib/muster/links/a2-cluster-r0.json"))
    assert "no token for" in state["events"][-1]["why"] or "silent" in state["events"][-1]["why"]
    assert (state["gave_up"], state["stalled"]) == ("", {})


def test_status_tells_units_apart_and_stop_stops_them(play: Play, tmp_path: Path) -> None:
    drifted = play("playbooks/status.yml")
    assert drifted.rc == 2, "the pair runs with the flag that was changed above"
    assert "a2-cluster-r0-rank0 on a2-node0 differs from the plan" in drifted.stdout
    args = {**lab_variables()["muster_engine_args"], "max-num-seqs": 7}
    assert play("playbooks/status.yml", muster_engine_args=args).rc == 0
    report = json.loads((tmp_path / "output" / "status.json").read_text())
    assert [(unit["name"], unit["active_state"], unit["ready"]) for unit in report["units"]] == [
        ("a2-cluster-r0-rank0", "active", True),
        ("a2-cluster-r0-rank1", "active", None),
    ]
    assert report["problems"] == []
    assert play("playbooks/stop.yml").rc == 0
    assert not any(containers().values())
    stopped = play("playbooks/status.yml")
    assert stopped.rc == 2
    assert "a2-cluster-r0-rank1 on a2-node1 does not run (inactive" in stopped.stdout


def test_an_engine_that_dies_at_start_ends_the_play_with_its_last_lines(play: Play) -> None:
    args = {**lab_variables()["muster_engine_args"], "max-num-seqs": 0}
    begin = time.monotonic()
    # The plan refuses such a number unless it is told to let it pass.
    outcome = play("site.yml", muster_engine_args=args, muster_engine_unchecked=["max-num-seqs"])
    assert outcome.rc != 0
    assert time.monotonic() - begin < 240, "it waited for a time-out"
    failed = outcome.task_results("Report why the replica did not come up")
    assert set(failed) == set(NODES), "the play ends for all nodes"
    for result in failed.values():
        assert "Its last lines" in result["msg"]
        assert "max_num_seqs" in result["msg"]
    assert not any(containers().values()), "half a replica was left running"


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        # Units are up and load: the next run waits for them and starts nothing twice.
        ("TASK [muster.serving.unit : Wait until", "playbooks/serve.yml"),
        pytest.param(
            *("TASK [muster.serving.host_tuning : Tune", "site.yml"), marks=pytest.mark.chaos
        ),
    ],
)
def test_a_killed_controller_is_no_harm(play: Play, stage: str, again: str) -> None:
    if "host_tuning" in stage:
        # Prepare comes to nodes that differ alone.
        for node in NODES:
            on_node(node, "rm", SYSCTL_PATH)
    waits = "Wait until" in stage
    # Ansible names a task when it ends; what its wait says comes while it runs.
    kill_at(
        lambda line: line.startswith(stage) or (waits and " s, waiting for" in line), "site.yml"
    )
    left = containers()
    outcome = play(again)
    assert outcome.rc == 0
    assert containers() == left, "what had been started was started again"
    assert all(left.values())


def test_a_node_that_is_down_fails_the_check_by_name(play: Play) -> None:
    before = containers()
    # Sessions that Ansible keeps open would outlive their daemon.
    on_node("a2-node1", "sh", "-c", "systemctl stop ssh.socket ssh; pkill sshd || true")
    try:
        outcome = play("site.yml")
    finally:
        on_node("a2-node1", "systemctl", "start", "ssh")
    assert outcome.rc != 0
    assert "node-reachable" in outcome.stdout
    assert containers() == before
