"""What the pages of docs/runbooks show, made by the code that prints it to an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices import checks as devices
from ansible_collections.muster.serving.plugins.module_utils.devices import files
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.checks import DRIVER
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Observation
from ansible_collections.muster.serving.plugins.module_utils.endpoint import checks as endpoint
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError
from ansible_collections.muster.serving.plugins.module_utils.host import checks as host
from ansible_collections.muster.serving.plugins.module_utils.network import nic, ports
from ansible_collections.muster.serving.plugins.module_utils.node import takeover
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock
from ansible_collections.muster.serving.plugins.module_utils.weights import model
from ansible_collections.muster.serving.plugins.plugin_utils.failure import diagnosis, judging
from ansible_collections.muster.serving.plugins.plugin_utils.replica import status
from ansible_collections.muster.serving.plugins.plugin_utils.verdict import table as screen
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.comparison import compare
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.results import (
    collect,
    with_hosts,
)

WIDTH = 120
HEAD, FOLLOWER = "a2-node0", "a2-node1"
URL = "http://10.0.0.11:20004/v1"


def on(node: str, *checks: Check) -> list[Check]:
    return [{"host": node, **one} for one in checks]


def chat(text: str, **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text, **message}}]}


def not_asked() -> list[Check]:
    results: Mapping[str, Any] = {
        HEAD: {"node": {"failed": True, "msg": "Task failed: Incorrect sudo password"}},
        FOLLOWER: {
            "node": {
                "unreachable": True,
                "msg": "Task failed: Failed to connect to the host via ssh: ssh: connect to host"
                " 10.0.0.12 port 22: No route to host",
            }
        },
    }
    return collect([HEAD, FOLLOWER], results, {"node": "node_checks"})


def another_run() -> list[Check]:
    now = run_lock.Now(100.0, "2026-11-30 12:03:11Z")
    owner = {
        "id": "ctl1:1",
        "who": "ann on ctl1",
        "doing": "site.yml",
        "place": "",
        "pid": 1,
        "started": "",
        "call": 0,
        "call_started": "",
    }
    record = run_lock.take("a2-cluster", None, owner, now).record
    later = run_lock.Now(220.0, "2026-11-30 12:05:11Z")
    return on(HEAD, run_lock.run_check("a2-cluster", record, later, changes=True))


def clocks() -> list[Check]:
    facts = {HEAD: {"clock_offset": [0.0, 0.2]}, FOLLOWER: {"clock_offset": [41.0, 41.3]}}
    unsynchronised = host.clock_sync_check("", {"NTPSynchronized": "no", "NTP": "no"})
    return [*compare(facts, [[HEAD, FOLLOWER]]), *on(FOLLOWER, unsynchronised)]


def little_memory() -> list[Check]:
    memory = {"MemTotal": 1024 << 30, "MemAvailable": 17 << 30}
    shm = host.shm_check(64 << 20, 64 << 20, 4, running=False)
    return on(HEAD, host.memory_check(memory, 64, running=False), shm)


def disks() -> list[Check]:
    space = host.Space("/", free=31 << 30)
    needs = [host.Need("the image", 60 << 30, space)]
    folders = [host.Folder("/var/log/muster", mount="/var/log", read_only=True)]
    mount = files.source_check("/data/templates/chat.jinja", files.Source("missing"))
    return on(HEAD, *host.disk_checks(needs), *host.writable_checks(folders), mount)


def no_docker() -> list[Check]:
    return on(HEAD, *host.docker_checks(host.Docker(load="masked")))


def no_key() -> list[Check]:
    missing = host.KeyFile("/etc/muster/api-key", problem="no such file")
    return on(HEAD, *host.key_file_checks([missing]))


def taken_ports() -> list[Check]:
    def listens(port: int, owner: Owner) -> ports.Busy:
        socket = ports.SocketEntry("0.0.0.0", port, "0.0.0.0 port 0", True, 1)  # noqa: S104
        return ports.Busy(port, True, "", (socket,), (owner,))

    old = Owner(5321, "vllm", container="minimax25")
    checks, _own = ports.decide_local(
        [2347, 20004, 60000],
        [listens(20004, old), listens(60000, Owner(7412, "python3"))],
        own_units=(),
    )
    return on(HEAD, *checks)


def holders() -> list[Check]:
    seen = takeover.Seen(
        {5321: takeover.Held(range(8), [20004])},
        {5321: takeover.Process(5321, 1, "vllm", container_id="4f" * 32)},
        [takeover.Container("4f" * 32, "minimax25", image="quay.io/ascend/vllm-ascend:v0.13.0")],
    )
    found = takeover.holders_of(seen, "a2-cluster")
    removed = [one._replace(lost=takeover.LOST_CONTAINER) for one in found]
    return [
        *on(HEAD, *takeover.checks_of(found, for_good=False)),
        *on(FOLLOWER, *takeover.checks_of(removed, for_good=False)),
    ]


def network() -> list[Check]:
    nics = [
        nic.Nic("eno1", 1500, True, True, addresses=("192.168.1.12",)),
        nic.Nic("enp67s0f0np0", 1500, True, False, addresses=("10.0.0.12",)),
    ]
    there = nic.decide(nics, "enp67s0f0", "10.0.0.12", {})
    peers = {"10.0.0.12": {2347: "timeout", 2348: "timeout"}}
    return [*on(HEAD, *ports.decide_probe("10.0.0.11", peers)), *on(FOLLOWER, *there)]


def held_npus() -> list[Check]:
    device: Any = {"device_id": 3, "memory_used_mb": 61203, "memory_total_mb": 65536}
    finding = devices.used_by_others(
        device, [Owner(5321, "vllm", container="minimax25")], (), "npu-smi info"
    )
    return on(HEAD, *devices.grouped("npu-processes", [finding], "no process of others"))


def no_driver() -> list[Check]:
    seen: Observation[Any] = Observation(
        failure="npu-smi: no such command", absent=True, problems=["npu-smi: no such command"]
    )
    paths = [f"/dev/davinci{number}" for number in range(2)]
    mounts = ["/usr/local/dcmi", "/usr/local/bin/npu-smi"]
    return on(
        FOLLOWER,
        devices.driver_loaded_check("npu-driver-loaded", "npu-smi", DRIVER, seen, False),
        *(files.node_check(path, files.DeviceNode("missing")) for path in paths),
        *(files.source_check(path, files.Source("missing")) for path in mounts),
    )


def no_weights() -> list[Check]:
    path = "/data/models/MiniMax-M2.5"
    absent = model.judge(path, False, model.Seen(FileNotFoundError(2, "No such file or directory")))
    index = model.Index({"model-00001-of-00130.safetensors": ["a"]}, "0" * 64)
    cut = model.judge(
        path,
        False,
        model.Seen(
            ["config.json", "tokenizer.json", "model.safetensors.index.json"],
            model.Config("MiniMaxM2ForCausalLM", "minimax_m2", "fp8"),
            {},
            {"model.safetensors.index.json": index},
            {"model-00001-of-00130.safetensors": FileNotFoundError(2, "No such file")},
        ),
    )
    return [*on(HEAD, *absent.checks), *on(FOLLOWER, *cut.checks)]


def silent_rank() -> list[Check]:
    error = EndpointError("no answer within 60 s")
    return on(
        HEAD,
        endpoint.models_check(URL, "minimax25", None, started=True),
        endpoint.chat_checks(URL, error, None)[0],
        endpoint.counted_engine_check("engine 1 on a2-node1", 0, 8, str(error), ""),
    )


def garbage() -> list[Check]:
    reply = chat("the the the the the the the the the the the the the the the the the the")
    question = "What is 17 + 25? Answer with the number alone."
    return on(
        HEAD,
        *endpoint.chat_checks(URL, reply, 8),
        endpoint.known_answer_check(question, r"\b42\b", reply),
    )


def words_for_a_call() -> list[Check]:
    text = '<minimax:tool_call><invoke name="get_weather"></invoke></minimax:tool_call>'
    return on(HEAD, endpoint.tools_check(URL, chat(text), "get_weather"))


# By page, the checks of its table.
TABLES = {
    "nodes": not_asked,
    "two-operators": another_run,
    "host": clocks,
    "memory": little_memory,
    "disk": disks,
    "docker": no_docker,
    "api-key": no_key,
    "ports": taken_ports,
    "takeover": holders,
    "network": network,
    "devices": held_npus,
    "drivers": no_driver,
    "weights": no_weights,
    "no-answer": silent_rank,
    "garbled-output": garbage,
    "reasoning-and-tools": words_for_a_call,
}

# By page, what an engine logs and diagnose explains.
LOGS = {
    "memory": "torch.OutOfMemoryError: NPU out of memory. Tried to allocate 2.00 GiB",
    "images": "docker: Error response from daemon: manifest for quay.io/ascend/vllm-ascend:v0.23"
    " not found: manifest unknown",
    "behind-a-proxy": "proxyconnect tcp: dial tcp 10.0.0.5:3128: connect: connection refused",
    "ports": "ZMQError: Address already in use (addr='tcp://10.0.0.11:2347')",
    "npu-network": "EJ0002: network port is down",
    "software": "ImportError: libascendcl.so: cannot open shared object file",
    "engine-arguments": "vllm: error: unrecognized arguments: --max-num-seq 64",
}


def table(page: str) -> str:
    checks = with_hosts(TABLES[page](), "a2-cluster")
    return screen.table(checks, WIDTH)


def log(page: str) -> str:
    journal = [f"2026-11-29T10:27:49+0000 a2-node1 muster-a2-cluster-r0-rank1[311]: {LOGS[page]}"]
    last, *_earlier = judging.judge(judging.Log(journal, []))
    return "\n".join(judging.paragraph(last))


def ranks() -> str:
    """Return the report on a pair whose follower died first."""
    nodes: dict[str, diagnosis.Node] = {}
    for number, (node, second, text) in enumerate(
        (
            (HEAD, 57, "RuntimeError: Connection closed by peer [10.0.0.12]:41234"),
            (FOLLOWER, 51, LOGS["memory"]),
        )
    ):
        unit = f"muster-a2-cluster-r0-rank{number}"
        journal = [
            f"2026-11-29T10:20:02+0000 {node} systemd[1]: Started {unit}.service - rank {number}.",
            f"2026-11-29T10:27:{second - 1}+0000 {node} {unit}[311]: {text}",
            f"2026-11-29T10:27:{second}+0000 {node} systemd[1]: {unit}.service: Main process"
            " exited, code=exited, status=1/FAILURE",
        ]
        state = {
            "systemd_unit": f"{unit}.service",
            "installed": True,
            "active_state": "failed",
            "sub_state": "failed",
            "result": "exit-code",
            "exit_status": "1",
            "restarts": 0,
        }
        nodes[node] = [(state, judging.judge(judging.Log(journal, [])))]
    return "\n".join(diagnosis.report(nodes))


def stalled() -> str:
    """Return what status says of a replica without tokens."""
    unit = {"name": "a2-cluster-r0-rank0", "host": HEAD, "role": "head"}
    report = {
        "name": unit["name"],
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "restarts": 0,
        "stalled": "stalled since 2026-11-29 10:31:02Z: rank 1: 3 requests wait or run, no token"
        " for 121 s, and 2 completions of one token failed",
        "ready": True,
    }
    return "\n".join(status.problems([unit], {HEAD: {"units": [report], "orphans": []}}))
