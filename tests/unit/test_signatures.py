"""What an engine's log says of a failure, on lines as engines and their libraries print them."""

import re
import time

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.failure import signatures
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import (
    explain,
    paragraph,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

CORE = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)

# By signature, a line that has to be read as it.
LINES = {
    "npu-port-taken": "socket type[1], listen on ip[10.0.0.1] and specific port[16666] fail",
    "hccl-port-taken": "socket type[2], listen on ip[10.0.0.1%eth0] and specific port[60000] fail",
    "npu-link-down": "EJ0002: network port is down, device[3]",
    "hccl-interface": "[EI0001] set ifname to [abc] by HCCL_SOCKET_IFNAME, but not found",
    "npu-tls": "Communication_Error_TLS(EI0016): the TLS configuration of the ranks differs",
    "super-pod": "EI0014: superDeviceId 7 of rank 3 is not unique",
    "hccl-arguments": "EI0005: the arguments for communication are inconsistent",
    "hccl-memory": "EI0011: memory resources are not enough",
    "back-to-back": "Nnopbase fails to invoke the HcclAllocComResourceByTiling ... ret=4",
    "npu-dispatch": "call aclnnMoeDistributeDispatchV4 failed, detail: EZ9999 ... error 561000",
    "npu-held": "dcmi model initialized failed, because the device is used. ret is -8020",
    "npu-driver": "dcmi module initialize failed. ret is -8005",
    "hccl-agent-timeout": "[EI0015] topo exchange agent get socket timeout",
    "hccl-timeout": "EI0006: Getting socket times out. wait socket establish timeout",
    "fabric-manager": "CUDA initialization: Error 802: system not yet initialized",
    "gpu-driver": "Failed to initialize NVML: Driver/library version mismatch",
    "gpu-toolkit": 'docker: could not select device driver "" with capabilities: [[gpu]].',
    "gpu-none": "RuntimeError: No HIP GPUs are available",
    "gpu-ecc": "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "gpu-code": "RuntimeError: CUDA error: no kernel image is available for execution",
    "shared-memory": "Error while creating shared memory segment /dev/shm/nccl-bWHyCi",
    "nccl-interface": "NCCL WARN Bootstrap : no socket interface found",
    "nccl-connect": "socketStartConnect: Connect to 10.0.0.2<41000> failed : Connection refused",
    "nccl-system": "NCCL error in: NCCLUtils.hpp:317, unhandled system error, NCCL version 2.21.5",
    "zmq-port-taken": "zmq.error.ZMQError: Address already in use (addr='tcp://10.0.0.1:2347')",
    "torch-port-taken": "DistNetworkError: The server socket has failed to listen",
    "api-port-taken": "OSError: [Errno 98] Address already in use",
    "gloo-interface": "RuntimeError: Unable to find address for: eth9",
    "handshake": "Did not receive response from front-end process within 5 minutes",
    "parallel-mode": "Remote engine 1 must not use --headless in external or hybrid dp lb mode",
    "fuse-qk-norm": "pass_config.fuse_minimax_qk_norm",
    "engine-arguments": "vllm: error: unrecognized arguments: --quantisation ascend",
    "engine-configuration": "1 validation error for SchedulerConfig",
    "grouped-routing": "RuntimeError: n_group should not be zero for DeepSeekV3 routing",
    "sglang-import": "ImportError: cannot import name 'ServerArgs' from 'sglang'",
    "module-missing": "ModuleNotFoundError: No module named 'vllm_ascend'",
    "memory-taken": "Free memory on device (3.1/79.1 GiB) on startup is less than desired",
    "no-cache": "ValueError: No available memory for the cache blocks. Try increasing ...",
    "cache-too-small": "max seq len (196608) is larger than the maximum number of tokens",
    "device-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "node-memory": "muster-a.service: A process of this unit has been killed by the OOM killer.",
    "weights-absent": "OSError: /models/m2 does not appear to have a file named config.json",
    "weights-broken": "safetensors_rust.SafetensorError: Error while deserializing header",
    "tokenizer": "OSError: Can't load tokenizer for '/models/m2'.",
    "device-permission": "open /dev/davinci0: Permission denied",
    "device-absent": 'error gathering device information while adding custom device "/dev/kfd"',
    "mount-absent": "docker: invalid mount config for type: bind source path does not exist: /x.",
    "image-architecture": "exec /usr/local/bin/vllm: exec format error",
    "image-absent": "Unable to find image 'quay.io/ascend/vllm-ascend:v0.18.0' locally",
    "docker-down": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
    "disk-full": "OSError: [Errno 28] No space left on device",
    "preload": "ld.so: object '/usr/lib/libjemalloc.so.2' from LD_PRELOAD cannot be preloaded",
    "collective-timeout": "Gloo connectFullMesh failed with [pair.cc:144] no error",
    "peer-ended": "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    "engine-core": CORE,
    "restart-budget": "muster-a.service: Start request repeated too quickly.",
}


def names(lines: list[str]) -> list[str]:
    return [finding.signature.name for finding in explain(lines)]


@pytest.mark.parametrize("name", [one.name for one in signatures.SIGNATURES])
def test_each_signature_is_read_in_its_own_text(name: str) -> None:
    prefix = "(EngineCore_DP0 pid=214) ERROR 11-18 18:07:28 [core.py:708] "
    assert names([prefix + LINES[name]]) == [name]


def test_names_are_unique() -> None:
    every = [one.name for one in signatures.SIGNATURES]
    assert len({*every}) == len(every)


@pytest.mark.parametrize("name", [one.name for one in signatures.SIGNATURES if one.rank == 0])
def test_what_follows_any_failure_is_no_cause(name: str) -> None:
    follow_ups = [LINES[one] for one in ("peer-ended", "engine-core", "restart-budget")]
    assert names([*follow_ups, LINES[name], *follow_ups])[0] == name


def test_a_symptom_stands_between_cause_and_follow_up() -> None:
    order = ["npu-link-down", "hccl-timeout", "engine-core"]
    assert names([LINES[name] for name in reversed(order)]) == order


def test_among_causes_the_first_in_the_log_comes_first() -> None:
    order = ["gloo-interface", "zmq-port-taken"]
    assert names([LINES[name] for name in order]) == order
    assert names([LINES[name] for name in reversed(order)]) == list(reversed(order))


def test_a_finding_keeps_its_first_line_and_counts() -> None:
    lines = ["OSError: [Errno 98] Address already in use", "again: address already in use"]
    (finding,) = explain(lines)
    assert (finding.line, finding.times) == (lines[0], 2)


HEALTHY = [
    "INFO 11-21 09:00:00 [api_server.py:1839] vLLM API server version 0.32.0",
    "INFO args: {'compilation_config': {'pass_config': {'fuse_minimax_qk_norm': True}}}",
    "INFO Launching 1 data parallel engine(s) in headless mode",
    "INFO [gpu_worker.py:358] Available KV cache memory: 18.78 GiB",
    "INFO Maximum concurrency for 196,608 tokens per request: 3.10x",
    "(APIServer pid=7) INFO:     Application startup complete.",
    'INFO:     10.0.0.9:51422 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
    "/usr/bin/npu-smi info: Error Code : NA",
]


def test_a_healthy_log_says_nothing() -> None:
    assert explain(HEALTHY) == []


def test_a_paragraph_names_cause_check_and_remedy() -> None:
    text = "\n".join(paragraph(explain([LINES["zmq-port-taken"]])[0]))
    assert re.search(r"^Likely cause: .*rpc|^Likely cause: .*port", text)
    assert re.search(r"^Check: port-free$", text, re.MULTILINE)
    assert "muster_dp_rpc_port" in text
    assert paragraph(explain([CORE])[0])[0].startswith("It says only: ")


def known_checks() -> set[str]:
    """The ids in the code: string literals like check ids."""
    sources = [
        path
        for folder in ("modules", "module_utils", "plugin_utils")
        for path in (ROOT / "plugins" / folder).rglob("*.py")
        if path.name != "signatures.py"
    ]
    every = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return {*re.findall(r'"([a-z]+(?:-[a-z0-9]+)+)"', every)}


def test_every_check_that_is_named_exists() -> None:
    named = {check for one in signatures.SIGNATURES for check in one.checks}
    assert named - known_checks() == set()


def test_every_variable_that_is_named_exists() -> None:
    known = (ROOT / "plugins/plugin_utils/plan/variables.py").read_text(encoding="utf-8")
    named = {
        name for one in signatures.SIGNATURES for name in re.findall(r"muster_\w+", one.remedy)
    }
    assert {name for name in named if f'"{name}"' not in known} == set()


@given(st.lists(st.text()))
def test_any_text_is_read(lines: list[str]) -> None:
    assert len(explain(lines)) <= len(lines)


@pytest.mark.parametrize("piece", ["Connect to ", "a", " ", "validation error for ", "/dev/nvidia"])
def test_a_long_line_is_bounded(piece: str) -> None:
    begin = time.monotonic()
    findings = explain([piece * (2_000_000 // len(piece))] * 20)
    assert time.monotonic() - begin < 2
    assert all(len(finding.line) <= signatures.SHOWN_LIMIT for finding in findings)
