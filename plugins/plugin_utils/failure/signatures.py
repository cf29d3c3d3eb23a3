# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The known failures that an engine's log can show.

A line counts for the first signature of the table that it matches, so a narrow one stands before
a wide one. Texts of HCCL are those of its error codes; the others are what the engines, their
libraries, Docker and the loader print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.units.log import LINE_LIMIT

# How much of a line is shown.
SHOWN_LIMIT = 300

# The ranks of a signature: the cause itself, a symptom of several causes, what follows any failure.
CAUSE, SYMPTOM, FOLLOW_UP = range(3)


class Signature(NamedTuple):
    """A text that engines log, and what it means.

    checks are the ids of the checks that find the cause before a start; empty where none can.
    """

    name: str
    pattern: str
    cause: str
    remedy: str
    source: str
    checks: tuple[str, ...] = ()
    rank: int = CAUSE


class Finding(NamedTuple):
    """A signature in a log: its first line there, and how many lines match it."""

    signature: Signature
    line: str
    times: int


_PREPARE = "run playbooks/prepare.yml"
_PREFLIGHT = "run playbooks/preflight.yml"
_LOWER = "lower gpu-memory-utilization or max-model-len in muster_engine_args"

SIGNATURES = (
    # Ascend: HCCL, the driver and operators over several nodes.
    Signature(
        "npu-port-taken",
        r"specific port\[16666\]",
        "another process uses the same NPU: its port 16666 is taken",
        "end what npu-smi info lists for this NPU, in other containers too",
        "vllm-ascend issues 4725 and 11968",
        ("npu-processes",),
    ),
    Signature(
        "hccl-port-taken",
        r"\b(?:EI0019|EJ0003)\b|and specific port\[\d+\] fail",
        "a port that HCCL listens on is taken on this node, 60000 to 60031 unless moved",
        "end what holds it (ss -Htlnp), or move the range with muster_hccl_base_port",
        "HCCL EI0019, before EJ0003; vllm-ascend issues 405 and 1253",
        ("port-free", "port-reserved"),
    ),
    Signature(
        "npu-link-down",
        r"\bEJ0002\b|network port is down",
        "the link of an NPU's own network port is down",
        "look at the cable and the switch port: hccn_tool -i DEVICE -link -g",
        "HCCL EJ0002; vllm-ascend issue 1815",
        ("npu-link",),
    ),
    Signature(
        "hccl-interface",
        r"\bEI0001\b|by HCCL_SOCKET_IFNAME, but not found",
        "the NIC that HCCL was told to use is not on this node",
        "set muster_interface to the NIC that carries the cluster's address",
        "HCCL EI0001",
        ("nic-exists", "nic-address"),
    ),
    Signature(
        "npu-tls",
        r"\bEI0016\b",
        "the TLS switch is not the same on all NPUs of all nodes",
        "set it alike on every device: hccn_tool -i DEVICE -tls -s enable 0",
        "HCCL EI0016, from driver 25.2.0 on; before it is a time-out",
        ("cluster-npu-tls", "npu-tls"),
    ),
    Signature(
        "super-pod",
        r"\bEI0014\b",
        "the super pod's device ids are not unique, or its nodes are of different super pods",
        "compare npu-smi info -t spod-info of all devices, and unset HCCL_LOGIC_SUPERPOD_ID",
        "HCCL EI0014",
        ("npu-superpod",),
    ),
    Signature(
        "hccl-arguments",
        r"\bEI0005\b",
        "the ranks do not call the same operation: their command lines or versions differ",
        "run playbooks/status.yml for units that differ from the plan, then playbooks/serve.yml",
        "HCCL EI0005",
        ("cluster-driver-version",),
    ),
    Signature(
        "hccl-memory",
        r"\bEI0011\b",
        "HCCL found no memory left on the device for its buffers",
        f"{_LOWER}, or HCCL_BUFFSIZE in muster_engine_env",
        "HCCL EI0011",
        ("npu-memory", "npu-processes"),
    ),
    Signature(
        "back-to-back",
        r"HcclAllocComResourceByTiling",
        "operators that join computing and sending need a switch: the nodes are cabled directly",
        "join the NPUs over a switch, or run without expert parallelism",
        "vllm-ascend issue 7606",
        ("npu-neighbour",),
    ),
    Signature(
        "npu-dispatch",
        r"aclnnMoe(?:Distribute)?(?:Dispatch|Combine)\w*.{0,200}\b561000\b",
        "an expert-parallel operator does not reach the other NPUs",
        "see that all NPU links are up and all NPU addresses answer: hccn_tool -i DEVICE -link -g",
        "vllm-ascend issue 9872",
        ("npu-link", "npu-ping"),
    ),
    Signature(
        "npu-held",
        r"because the device is used\. ret is -8020",
        "another container holds the NPU",
        "stop that container, or give this unit other devices with muster_devices",
        "driver, dcmi return code -8020",
        ("npu-processes",),
    ),
    Signature(
        "npu-driver",
        r"dcmi module initialize failed|DrvMngGetConsoleLogLevel failed|libascend_hal\.so: cannot",
        "the NPU driver does not answer in the container",
        "see that npu-smi info answers on the node and that the driver's folders are mounted",
        "driver, npu-smi",
        ("npu-tool", "driver-mount", "device-node"),
    ),
    Signature(
        "hccl-agent-timeout",
        r"\bEI0015\b|topo exchange \w+ get socket timeout",
        "not all ranks reached each other over the cluster NIC in time",
        "see that all units of the replica ran, then the NIC and the ports between the nodes",
        "HCCL EI0015",
        ("nic-route", "port-reachable"),
        SYMPTOM,
    ),
    Signature(
        "hccl-timeout",
        r"\bEI0006\b|wait socket establish timeout",
        "an NPU waited in vain for another one: link, gateway, address, TLS or a rank that ended",
        f"{_PREFLIGHT}; a peer that only loads slowly needs a higher HCCL_CONNECT_TIMEOUT",
        "HCCL EI0006; vllm-ascend issue 486",
        ("npu-link", "npu-net-health", "npu-gateway", "npu-ping", "cluster-npu-tls"),
        SYMPTOM,
    ),
    # NVIDIA and AMD.
    Signature(
        "fabric-manager",
        r"system not yet initialized|cudaErrorSystemNotReady|CUDA_ERROR_SYSTEM_NOT_READY",
        "the fabric manager does not run, or is not of the driver's version",
        "install nvidia-fabricmanager of the driver's version and start it",
        "CUDA error 802; NVIDIA fabric manager guide",
        ("gpu-fabric-manager",),
    ),
    Signature(
        "gpu-driver",
        r"Driver/library version mismatch|Failed to initialize NVML",
        "the loaded GPU driver is not the installed one",
        "reboot the node, or reload the driver",
        "NVML error 18",
        ("gpu-tool",),
    ),
    Signature(
        "gpu-toolkit",
        r"could not select device driver .{0,40}gpu|nvidia-container-cli: ",
        "Docker cannot give a container GPUs",
        f"install nvidia-container-toolkit, then {_PREPARE}",
        "Docker, NVIDIA container toolkit",
        ("gpu-toolkit",),
    ),
    Signature(
        "gpu-none",
        r"No (?:CUDA|HIP) GPUs are available|Failed to infer device type",
        "the engine sees no device",
        "see that the vendor's tool lists the devices on the node; run playbooks/preflight.yml",
        "torch; vLLM",
        ("gpu-count", "npu-count", "device-node"),
    ),
    Signature(
        "gpu-ecc",
        r"uncorrectable ECC error|CUDA error: (?:an )?uncorrectable",
        "a GPU has a memory error that it could not correct",
        "reset the GPU, and take it out of muster_devices when it happens again",
        "CUDA error 214",
        ("gpu-ecc",),
    ),
    Signature(
        "gpu-code",
        r"no kernel image is available|hipErrorNoBinaryForGpu|HIP error: invalid device function",
        "the image holds no code for this kind of GPU",
        "take an image that is built for it with muster_image",
        "CUDA error 209; HIP error 98 and 209",
        ("gpu-name",),
    ),
    Signature(
        "shared-memory",
        r"Error while (?:creating|attaching to) shared memory segment|Bus error|\bSIGBUS\b",
        "/dev/shm is too small or full",
        "df -h /dev/shm on the node; raise shm_size in the container of an own recipe",
        "vLLM issues 6574 and 14537",
        ("host-shm",),
    ),
    Signature(
        "nccl-interface",
        r"[Nn]o socket interface found",
        "NCCL or RCCL finds no NIC of the name that it was given",
        "set muster_interface to the NIC that carries the cluster's address",
        "NCCL bootstrap",
        ("nic-exists",),
    ),
    Signature(
        "nccl-connect",
        r"socket\w*Connect\w*: ?Connect to .{0,80} failed",
        "NCCL or RCCL cannot connect to another rank",
        "admit all TCP between the nodes on the cluster NIC, and see that the peer's unit runs",
        "NCCL bootstrap",
        ("port-reachable", "nic-route"),
        SYMPTOM,
    ),
    Signature(
        "nccl-system",
        r"ncclSystemError|unhandled system error|unhandled cuda error|ncclInternalError",
        "NCCL or RCCL failed on a call of the system; the lines around it say which",
        "set NCCL_DEBUG: INFO in muster_engine_env and start again",
        "vLLM issues 4383 and 10626",
        ("nic-up", "port-reachable"),
        SYMPTOM,
    ),
    # Ports and peers.
    Signature(
        "zmq-port-taken",
        r"ZMQError: Address already in use",
        "the port between head and followers, or another one of vLLM's own, is taken on this node",
        "end what holds it (ss -Htlnp), or set muster_dp_rpc_port to another one",
        "seen with vLLM 0.32.0",
        ("port-free",),
    ),
    Signature(
        "torch-port-taken",
        r"\bEADDRINUSE\b|server socket has failed to (?:bind|listen)",
        "a port that torch.distributed listens on is taken on this node",
        "end what holds it (ss -Htlnp): often an engine of an earlier run",
        "torch TCPStore; vllm-ascend issue 4546",
        ("port-free",),
    ),
    Signature(
        "api-port-taken",
        r"(?i)\[Errno 98\]|address already in use",
        "the port of the API is taken on this node",
        "end what holds it (ss -Htlnp), or set muster_port to another one",
        "seen with vLLM 0.32.0",
        ("port-free",),
    ),
    Signature(
        "gloo-interface",
        r"Unable to find address for: ",
        "the NIC of GLOO_SOCKET_IFNAME is not on this node or has no address",
        "set muster_interface to the NIC that carries the cluster's address",
        "seen with vLLM 0.32.0",
        ("nic-exists", "nic-address"),
    ),
    Signature(
        "handshake",
        r"Did not receive response from front-end process",
        "the head did not answer this follower within five minutes",
        "see why the head did not start; if it did, that its rpc port can be reached from here",
        "vLLM, headless engines",
        ("port-reachable", "nic-route"),
    ),
    Signature(
        "parallel-mode",
        r"must not use --headless|message from (?:remote|local) engine \d+, expected it to be",
        "head and followers run different modes of data parallelism",
        "take --data-parallel-start-rank and its kin out of muster_engine_args, then serve again",
        "vLLM 0.28.0 and later",
    ),
    # What the engine was given.
    Signature(
        "fuse-qk-norm",
        r"pass_config\.fuse_minimax_qk_norm\s*$|[Uu]nexpected.{0,80}fuse_minimax_qk_norm"
        r"|fuse_minimax_qk_norm.{0,80}[Uu]nexpected",
        "this vLLM does not know fuse_minimax_qk_norm: only 0.12.0 and 0.19.1 to 0.23.0 take it",
        "take it out of compilation-config in muster_engine_args, or change muster_engine_version",
        "vLLM's own parser",
        ("engine-parser",),
    ),
    Signature(
        "engine-arguments",
        r"error: (?:unrecognized arguments|ambiguous option|argument -\S+|the following arguments)"
        r"|invalid (?:tool call|reasoning) parser",
        "the engine refuses its command line",
        "correct muster_engine_args, or muster_engine_version if the image holds another one",
        "vLLM's and SGLang's parsers",
        ("engine-parser",),
    ),
    Signature(
        "engine-configuration",
        r"\bvalidation errors? for \w+",
        "the engine takes the flags, but not one of their values; the next lines say which",
        "correct it in muster_engine_args",
        "vLLM's configuration classes",
        ("engine-parser",),
    ),
    Signature(
        "grouped-routing",
        r"n_group should not be zero for DeepSeekV3 routing",
        "this vLLM takes the model for one with grouped routing on B200",
        "pin vLLM 0.12.0 with muster_engine_version",
        "MiniMax guide for B200",
    ),
    Signature(
        "sglang-import",
        r"ImportError: cannot import name .{0,80} from '(?:sglang|aiter|sgl_kernel)",
        "this image's SGLang does not fit the ROCm libraries in it",
        "take the image that the recipe names, or an older tag of its series, with muster_image",
        "SGLang issues 14398 and 23083",
    ),
    Signature(
        "module-missing",
        r"ModuleNotFoundError: No module named",
        "the image or environment lacks a Python module",
        f"take the image that the recipe names; for an environment, {_PREPARE}",
        "Python",
    ),
    # Memory.
    Signature(
        "memory-taken",
        r"Free memory on device .{0,80}is less than desired",
        "something else holds memory of a device",
        "end it: the vendor's tool lists the processes of each device",
        "vLLM, start-up",
        ("gpu-memory", "npu-memory", "gpu-processes", "npu-processes"),
    ),
    Signature(
        "no-cache",
        r"No available memory for the cache blocks",
        "weights and buffers leave no device memory for the KV cache",
        "raise gpu-memory-utilization in muster_engine_args, or spread the model over more devices",
        "vLLM issue 2248; vllm-ascend issue 9099",
        ("gpu-memory", "npu-memory"),
    ),
    Signature(
        "cache-too-small",
        r"larger than the (?:maximum number of tokens|available KV cache memory)",
        "one request of max-model-len tokens does not fit into the KV cache",
        "lower max-model-len, or raise gpu-memory-utilization, in muster_engine_args",
        "vLLM issue 2418",
        ("gpu-memory", "npu-memory"),
    ),
    Signature(
        "device-memory",
        r"(?:CUDA|NPU|HIP) out of memory|OutOfMemoryError|ACL_ERROR_RT_MEMORY_ALLOCATION",
        "a device ran out of memory",
        _LOWER,
        "torch",
        ("gpu-memory", "npu-memory"),
    ),
    Signature(
        "node-memory",
        r"Out of memory: Killed process|killed by the OOM killer|result 'oom-kill'",
        "the node ran out of memory and the kernel ended the engine",
        "see with free -h what else runs there; weights are read through the node's memory",
        "kernel; systemd",
        ("host-memory",),
    ),
    # Files, devices, Docker.
    Signature(
        "weights-absent",
        r"does not appear to have a file named|Cannot find any model weights|HFValidationError"
        r"|Invalid repository ID or local directory|(?:LocalEntryNotFound|OfflineModeIsEnabled)",
        "the model's files are not at muster_model_path on this node",
        _PREPARE,
        "transformers, huggingface_hub; vLLM",
        ("weights-directory", "weights-config"),
    ),
    Signature(
        "weights-broken",
        r"SafetensorError|No such file or directory: .{0,200}\.safetensors",
        "a file of the weights is missing, or cut off",
        f"copy it again: {_PREPARE} tells which",
        "safetensors",
        ("weights-complete",),
    ),
    Signature(
        "tokenizer",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer",
        "the tokenizer's files are missing or not whole",
        _PREPARE,
        "transformers",
        ("weights-tokenizer",),
    ),
    Signature(
        "device-permission",
        r"/dev/(?:davinci|devmm_svm|hisi_hdc|kfd|dri|nvidia).{0,80}(?i:permission denied)"
        r"|(?i:permission denied).{0,80}/dev/(?:davinci|devmm_svm|hisi_hdc|kfd|dri|nvidia)",
        "the engine's user must not open a device node",
        "see ls -l of it, and the container's group_add and user in the plan",
        "kernel, EACCES",
        ("device-node",),
    ),
    Signature(
        "device-absent",
        r"error gathering device information|[Uu]nable to open /dev/kfd",
        "a device node is not on this node, or not in the container",
        _PREFLIGHT,
        "Docker; ROCm",
        ("device-node",),
    ),
    Signature(
        "mount-absent",
        r"bind source path does not exist|error mounting \"",
        "a path that the container mounts is not on this node",
        _PREFLIGHT,
        "Docker",
        ("mount-source",),
    ),
    Signature(
        "image-architecture",
        r"(?i)exec format error",
        "the image is built for another processor than this node's",
        "take a tag that holds this architecture with muster_image",
        "kernel, ENOEXEC",
        ("host-arch",),
    ),
    Signature(
        "image-absent",
        r"Unable to find image|manifest unknown|pull access denied",
        "the image is not on this node",
        _PREPARE,
        "Docker",
    ),
    Signature(
        "docker-down",
        r"Cannot connect to the Docker daemon",
        "Docker does not run on this node",
        "look at systemctl status docker",
        "Docker",
    ),
    Signature(
        "disk-full",
        r"No space left on device",
        "a file system of the node is full",
        "df -h tells which: Docker's, /dev/shm, or that of the logs",
        "kernel, ENOSPC",
        ("host-disk", "host-shm"),
    ),
    # The loader goes on without the library, so the engine ends of something else.
    Signature(
        "preload",
        r"from LD_PRELOAD cannot be preloaded",
        "a library of LD_PRELOAD, jemalloc for one, is not in the image under that path",
        "name it without a path, or as it stands in the image, in muster_engine_env",
        "ld.so",
        rank=SYMPTOM,
    ),
    Signature(
        "collective-timeout",
        r"[Ww]atchdog caught collective operation timeout|connectFullMesh failed",
        "a rank waited in vain for the others",
        "find the unit of the replica that ended first: playbooks/diagnose.yml",
        "torch.distributed",
        ("port-reachable",),
        SYMPTOM,
    ),
    # What follows any failure.
    Signature(
        "peer-ended",
        r"Connection closed by peer|Failed to recv, got 0 bytes|\bEngineDeadError\b",
        "another process of the replica ended before this one",
        "look at the other units of the replica: playbooks/diagnose.yml",
        "seen with vLLM 0.32.0",
        rank=FOLLOW_UP,
    ),
    Signature(
        "engine-core",
        r"Engine core initialization failed|WorkerProc initialization failed|"
        r"EngineCore failed to start|Engine core proc \S+ died",
        "an engine process ended while it started; its own lines stand further up",
        "run playbooks/diagnose.yml and read the lines before this one",
        "seen with vLLM 0.32.0",
        rank=FOLLOW_UP,
    ),
    Signature(
        "restart-budget",
        r"Start request repeated too quickly",
        "the unit ended so often that systemd starts it no more",
        "mend the cause of the first end, then run playbooks/serve.yml",
        "systemd",
        rank=FOLLOW_UP,
    ),
)

PATTERNS = [one.pattern for one in SIGNATURES]
_COMPILED = tuple((re.compile(one.pattern), one) for one in SIGNATURES)


def explain(lines: Iterable[str]) -> list[Finding]:
    """Return the findings in the lines of a log, the likeliest cause first.

    Of one rank, what was logged first comes first: later failures often follow from it.
    """
    found: dict[str, Finding] = {}
    for line in lines:
        text = line[:LINE_LIMIT]
        one = next((one for pattern, one in _COMPILED if pattern.search(text)), None)
        if one is None:
            continue
        known = found.get(one.name)
        shown = known.line if known else text.strip()[:SHOWN_LIMIT]
        found[one.name] = Finding(one, shown, (known.times if known else 0) + 1)
    return sorted(found.values(), key=lambda finding: finding.signature.rank)


def paragraph(finding: Finding) -> list[str]:
    """Return a finding as lines for an operator: likely cause, check, remedy."""
    one = finding.signature
    cause = "Likely cause" if one.rank == CAUSE else "It says only"
    lines = [f"{cause}: {one.cause} ({one.source})"]
    if one.checks:
        lines.append(f"Check: {', '.join(one.checks)}")
    return [*lines, f"Remedy: {one.remedy}"]
