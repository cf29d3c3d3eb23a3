"""Every platform and shape on the lab: site.yml, then real requests, one cluster after another."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import (
    FLOATING,
    PAIR,
    Outcome,
    eventually,
    invocation,
    lab,
    on_node,
    stop_pair,
)

Play = Callable[..., Outcome]


@pytest.fixture(scope="module", autouse=True)
def _room() -> None:
    """The engines of these tests need the memory that the pair's engines hold."""
    lab("up", "--all")
    stop_pair()


@pytest.fixture
def node() -> Iterator[Callable[[str], None]]:
    """Make nodes that the inventory of the lab knows; they go with the test."""
    made: list[str] = []

    def create(name: str) -> None:
        lab("node", "create", name)
        made.append(name)

    yield create
    for name in made:
        lab("node", "remove", name)


def post(url: str, payload: dict[str, Any], timeout: float = 60) -> Any:
    request = urllib.request.Request(
        url, json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def complete(base: str, model: str) -> int:
    """Ask for a few tokens; how many came."""
    reply = post(f"{base}/completions", {"model": model, "prompt": "Hello", "max_tokens": 4})
    return int(reply["usage"]["completion_tokens"])


def statuses(tmp_path: Path, stage: str) -> dict[tuple[str, str], str]:
    """Status of each check of a report, by node and check."""
    report = json.loads((tmp_path / "output" / f"{stage}.json").read_text())
    assert report["passed"], report["checks"]
    return {(one["host"], one["id"]): one["status"] for one in report["checks"]}


def served(
    play: Play, tmp_path: Path, cluster: str, *options: str, **extra: Any
) -> dict[tuple[str, str], str]:
    """Run site.yml on a cluster; it has to serve, and a second run has nothing to do.

    Returns what the first one saw: the second asks only for a short answer an engine.
    """
    outcome = play("site.yml", *options, limit=cluster, **extra)
    assert outcome.rc == 0
    verified = statuses(tmp_path, "verify")
    asked = {check for _node, check in verified}
    assert {"endpoint-chat", "endpoint-streaming", "endpoint-completions"} <= asked
    assert "failed" not in verified.values()
    again = play("site.yml", *options, limit=cluster, **extra)
    assert again.rc == 0
    assert again.changed() == {}
    assert set(statuses(tmp_path, "verify").values()) == {"ok"}
    return verified


def test_nvidia_with_data_parallelism(
    play: Play, tmp_path: Path, node: Callable[[str], None]
) -> None:
    node("h100-node0")
    served(play, tmp_path, "h100-vllm", lab_more_args={"data-parallel-size": 2})
    checks = statuses(tmp_path, "preflight")
    assert checks["h100-node0", "gpu-toolkit"] == "ok"
    assert checks["h100-node0", "gpu-count"] == "ok"
    assert checks["h100-node0", "gpu-topology"] == "ok"
    asked = json.loads((tmp_path / "output" / "verify.json").read_text())["results"]["h100-node0"]
    assert set(asked["produced"]) == {"engine 0 on h100-node0", "engine 1 on h100-node0"}


def test_nvidia_with_sglang(play: Play, tmp_path: Path, node: Callable[[str], None]) -> None:
    node("h100-node1")
    served(play, tmp_path, "h100-sglang")
    argv = on_node(
        "h100-node1", "docker", "inspect", "-f", "{{.Args}}", "muster-h100-sglang-r0-rank0"
    )
    assert "--tp-size 8" in argv
    assert "--ep-size 8" in argv


@pytest.mark.chaos
def test_hgx_b200(play: Play, tmp_path: Path, node: Callable[[str], None]) -> None:
    node("b200-node0")
    served(play, tmp_path, "b200-vllm")
    assert statuses(tmp_path, "preflight")["b200-node0", "gpu-fabric-manager"] == "ok"


def test_amd_with_vllm_and_with_sglang_changed_as_its_recipe_says(
    play: Play, tmp_path: Path, node: Callable[[str], None]
) -> None:
    node("mi300x-node0")
    served(play, tmp_path, "mi300x-vllm")
    checks = statuses(tmp_path, "preflight")
    assert checks["mi300x-node0", "gpu-device-nodes"] == "ok"
    assert checks["mi300x-node0", "gpu-partition"] == "ok"

    # That a second run of SGLang has nothing to do is seen on NVIDIA.
    assert play("site.yml", limit="mi300x-sglang").rc == 0
    # Both serve, each on its half of the GPUs.
    for port, model in ((8000, "MiniMaxAI/MiniMax-M2.5"), (8001, "MiniMaxAI/MiniMax-M2.1")):
        assert complete(f"http://198.19.67.50:{port}/v1", model) == 4
    image = on_node(
        "mi300x-node0",
        "docker",
        "inspect",
        "-f",
        "{{.Config.Image}}",
        "muster-mi300x-sglang-r0-rank0",
    )
    assert image.startswith("muster/sglang-emulator:0.5.7-rocm-")
    # The image as it came refuses to start: that it serves is the changes' doing.
    with pytest.raises(AssertionError, match="ImportError"):
        on_node(
            "mi300x-node0",
            *("docker", "run", "--rm", "--network=none", "--entrypoint=python3"),
            "registry:5000/muster-lab/sglang-emulator:0.5.7-rocm",
            *("-m", "sglang.launch_server", "--model-path", "/nowhere"),
        )

    # Each stops as its own, and together without a plan.
    active = ("systemctl", "list-units", "--state=active", "--plain", "--no-legend")
    assert play("playbooks/stop.yml", limit="mi300x-vllm").rc == 0
    running = on_node("mi300x-node0", *active, "muster-mi300x-*")
    assert {line.split()[0] for line in running.splitlines()} == {
        "muster-mi300x-sglang-r0-link.service",
        "muster-mi300x-sglang-r0-rank0.service",
    }
    both = play("playbooks/stop.yml", limit="mi300x-vllm,mi300x-sglang", muster_recipe="gone/gone")
    assert both.rc == 0
    assert on_node("mi300x-node0", *active, "muster-mi300x-*") == ""


def test_two_replicas_stand_behind_one_address(play: Play, tmp_path: Path, a3_nodes: None) -> None:
    verified = served(play, tmp_path, "a3-replicas")
    checks = statuses(tmp_path, "preflight")
    assert {checks[node, "npu-count"] for node in PAIR} == {"ok"}
    assert {verified[node, "endpoint-responses"] for node in PAIR} == {"ok"}
    assert complete(f"http://{FLOATING}:8080/v1", "MiniMax-M2.5") == 4


class Client:
    """Asks the cluster's address in a loop and streams beside it, until it is left."""

    def __init__(self) -> None:
        self.asked = 0
        self.problems: list[str] = []
        self._left = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(s,)) for s in (False, True)]

    def __enter__(self) -> Client:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, stream: bool) -> None:
        while not self._left.wait(0.1):
            payload = {"model": "MiniMax-M2.5", "prompt": "Hello", "max_tokens": 32}
            request = urllib.request.Request(
                f"http://{FLOATING}:8080/v1/completions",
                json.dumps({**payload, "stream": stream}).encode(),
                {"Content-Type": "application/json"},
            )
            self.asked += 1
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    whole = answer.read().decode()
                if not ("data: [DONE]" in whole if stream else json.loads(whole)["choices"]):
                    self.problems.append(whole[-200:])
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.problems.append(repr(error))


def sequences(node: str, index: int) -> str:
    """The flag that the tests below change, as the engine was started with it."""
    name = f"muster-a3-replicas-r{index}-rank0"
    argv = on_node(node, "docker", "inspect", "-f", "{{.Args}}", name)
    return argv.partition("--max-num-seqs ")[2].split()[0]


def upgrade(play: Play, count: int, **more: Any) -> Outcome:
    args = {"data-parallel-size": 1, "quantization": None, "max-num-seqs": count}
    args["additional-config"] = {"scheduler_config": None}
    return play("playbooks/upgrade.yml", limit="a3-replicas", lab_a3_args=args, **more)


def test_a_client_sees_nothing_of_an_upgrade_and_a_rollback(
    play: Play, tmp_path: Path, a3_nodes: None
) -> None:
    first = sequences(PAIR[0], 0)
    with Client() as client:
        assert upgrade(play, 7).rc == 0
        assert [sequences(node, index) for index, node in enumerate(PAIR)] == ["7", "7"]
        undone = play("playbooks/rollback.yml", limit="a3-replicas")
        assert undone.rc == 0
        assert [sequences(node, index) for index, node in enumerate(PAIR)] == [first, first]
    assert client.problems == []
    assert client.asked > 100


@pytest.mark.chaos
def test_a_client_sees_nothing_of_an_upgrade_that_fails(
    play: Play, tmp_path: Path, a3_nodes: None
) -> None:
    assert play("site.yml", limit="a3-replicas").rc == 0
    before = invocation(PAIR[1], "muster-a3-replicas-r1-rank0")
    first = sequences(PAIR[0], 0)
    with Client() as client:
        # The engine refuses it at its start, after its parser has taken it.
        failed = upgrade(play, 0, muster_engine_unchecked=["max-num-seqs"])
        assert failed.rc != 0
        assert "It runs again as it was verified before" in failed.stdout
        assert "replica 1 was not begun" in failed.stdout
        assert sequences(PAIR[0], 0) == first
        assert invocation(PAIR[1], "muster-a3-replicas-r1-rank0") == before
    assert client.problems == []


def test_a_replica_that_is_drained_gets_no_new_requests(play: Play, a3_nodes: None) -> None:
    def served_by(node: str) -> float:
        with urllib.request.urlopen(f"http://{addresses[node]}:8000/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("vllm:request_success_total")]
        return sum(float(line.split()[-1]) for line in found)

    addresses = {"a3-node0": "198.19.67.20", "a3-node1": "198.19.67.21"}
    base = f"http://{FLOATING}:8080/v1"
    assert play("playbooks/drain.yml", limit="a3-node1").rc == 0
    before = served_by("a3-node0")
    assert [complete(base, "MiniMax-M2.5") for _ in range(8)] == [4] * 8
    assert served_by("a3-node0") >= before + 8
    again = play("playbooks/drain.yml", limit="a3-node1", drain_state="serving")
    assert (again.rc, bool(again.changed())) == (0, True)


def test_a_replica_that_is_down_is_missed_by_nobody(a3_nodes: None) -> None:
    on_node("a3-node1", "systemctl", "stop", "muster-a3-replicas-r1-rank0.service")
    answers = [complete(f"http://{FLOATING}:8080/v1", "MiniMax-M2.5") for _ in range(8)]
    assert answers == [4] * 8


def test_a_dead_replica_does_not_keep_the_other_from_changing(
    play: Play, tmp_path: Path, a3_nodes: None
) -> None:
    """The second node cannot be reached; the first takes a new flag all the same."""
    # Sessions that Ansible keeps open would outlive their daemon.
    on_node("a3-node1", "sh", "-c", "systemctl stop ssh.socket ssh; pkill sshd || true")
    try:
        more = {"lab_a3_args": {"data-parallel-size": 1, "quantization": None, "max-num-seqs": 7}}
        outcome = play("site.yml", limit="a3-replicas", **more)
    finally:
        on_node("a3-node1", "systemctl", "start", "ssh")
    assert outcome.rc != 0
    ran = on_node("a3-node0", "docker", "inspect", "-f", "{{.Args}}", "muster-a3-replicas-r0-rank0")
    assert "--max-num-seqs 7" in ran
    assert complete("http://198.19.67.20:8000/v1", "MiniMax-M2.5") == 4


def test_ranks_with_an_api_each_stand_behind_a_gateway(
    play: Play, tmp_path: Path, a3_nodes: None
) -> None:
    """External data parallelism over two nodes, then a rank that dies and takes the other along."""
    external = {
        "muster_data_parallel": "external",
        "muster_replica_nodes": 2,
        # Two replicas of a node each become one of two.
        "muster_redeal": True,
        "lab_a3_args": {"data-parallel-size": 2, "quantization": None},
        "muster_gateway_balance": "prefix-affine",
    }
    assert play("playbooks/stop.yml", limit="a3-replicas").rc == 0
    served(play, tmp_path, "a3-replicas", **external)
    report = json.loads((tmp_path / "output" / "verify.json").read_text())
    engines = [one for one in report["checks"] if one["id"] == "endpoint-engines"]
    assert [one["subject"].split(" (")[0] for one in engines] == [
        "engine 0 on a3-node0",
        "engine 1 on a3-node1",
    ]
    before = invocation("a3-node0", "muster-a3-replicas-r0-rank0")
    on_node("a3-node1", "docker", "kill", "muster-a3-replicas-r0-rank1")
    eventually(lambda: invocation("a3-node0", "muster-a3-replicas-r0-rank0") != before, 60)
    eventually(lambda: complete(f"http://{FLOATING}:8080/v1", "MiniMax-M2.5") == 4, 180)
