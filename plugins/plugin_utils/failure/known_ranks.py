# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures between ranks: NICs, ports, stores and peers."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    DIAGNOSE,
    LIKELY,
    SYMPTOM,
    Signature,
)

_NIC = "set muster_interface to the NIC that carries the cluster's address"

SIGNATURES = (
    Signature(
        "shared-memory",
        r"Error while (?:creating|attaching to) shared memory segment|\bBus error\b|\bSIGBUS\b"
        r"|insufficient shared memory|unable to (?:open|allocate|mmap) shared memory"
        r"|(?i:no space left).{0,80}/dev/shm|/dev/shm/.{0,120}(?i:no space left)"
        r"|Failed core proc\(s\): \{[^}]*: -7\b",
        "/dev/shm is too small or full",
        "df -h /dev/shm on the node; raise shm_size in the container of an own recipe",
        "vLLM issues 6574 and 14537",
        ("host-shm",),
    ),
    Signature(
        "memlock-limit",
        r"(?i)ibv_(?:reg|create|alloc)\w* failed.{0,60}cannot allocate memory|max locked memory"
        r"|RLIMIT_MEMLOCK|\(ulimit -l\)",
        "the limit of locked memory is too low for RDMA",
        "lift it: --ulimit memlock=-1 of the container, LimitMEMLOCK=infinity of the service;"
        " Docker's own service may bound it",
        "NCCL; NVIDIA nccl-tests issue 206",
        ("host-limits",),
    ),
    Signature(
        "nccl-interface",
        r"(?i:no socket interface found)|connecting to address\s+with family \d+ is neither"
        r"|NCCL_SOCKET_IFNAME.{0,60}(?:not found|does not exist)|No usable (?:network )?interface",
        "NCCL or RCCL finds no NIC of the name that it was given",
        _NIC,
        "NCCL bootstrap",
        ("nic-exists",),
    ),
    Signature(
        "nccl-rdma",
        r"Got completion .{0,80}(?:error|status)[ =](?:5|10|11|12|13)\b"
        r"|NET/IB : Got async event : port error"
        r"|ibv_modify_qp\w* failed|ibv_poll_cq.{0,40}failed",
        "RDMA between the nodes failed: a NIC, its link, its GID or a firewall of RoCE",
        "look at ibstat or rdma link on both nodes; NCCL_IB_HCA and NCCL_IB_GID_INDEX in"
        " muster_engine_env choose another one, NCCL_IB_DISABLE: 1 does without",
        "NCCL, transport of InfiniBand and RoCE",
        ("nic-up", "cluster-mtu"),
        LIKELY,
    ),
    Signature(
        "nccl-connect",
        r"[Cc]onnect to \S+?<\d+> ?(?:failed|returned)|connect returned .{0,60}\((\d+)/\1\)"
        r"|[Cc]all to connect\S* .{0,60}(?:returned|failed)|socket\w*Connect\w*: exceeded retries"
        r"|socket\w*Connect\w*: ?Connect to .{0,80} failed",
        "NCCL or RCCL cannot connect to another rank",
        "admit all TCP between the nodes on the cluster NIC, and see that the peer's unit runs",
        "NCCL bootstrap",
        ("port-reachable", "nic-route"),
        LIKELY,
    ),
    # Ports.
    Signature(
        "kv-port-taken",
        r"KV [Cc]ache sending/receiving thread failed to start"
        r"|(?i:mooncake).{0,120}(?:[Aa]ddress already in use|[Bb]ind.{0,30} fail)",
        "a port of the transfer of KV caches is taken on this node",
        "end what holds it (ss -Htlnp), or move kv_port out of the range from which its transport"
        " takes ports",
        "vllm-ascend issue 6455",
        ("port-free",),
        LIKELY,
        explains=("zmq-port-taken", "api-port-taken"),
    ),
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
        r"(?i)\[Errno 98\]|address already in use|port is already allocated",
        "the port of the API, or another one that the engine listens on, is taken on this node",
        "end what holds it (ss -Htlnp), or set muster_port to another one",
        "seen with vLLM 0.32.0; Docker",
        ("port-free",),
    ),
    # Peers.
    Signature(
        "gloo-interface",
        r"Unable to find (?:address|interface) for: |\bifa != nullptr|unsupported gloo device"
        r"|connect \[127\.0\.[01]\.1\]:\d+",
        "gloo finds no NIC for the name in GLOO_SOCKET_IFNAME or for the host's own name",
        _NIC,
        "seen with vLLM 0.32.0; gpustack issue 4128",
        ("nic-exists", "nic-address"),
        hint=r"Unable to resolve hostname to a \(local\) address\. Using the loopback",
        explains=("collective-timeout",),
    ),
    Signature(
        "name-resolution",
        r"(?i)temporary failure in name resolution|name or service not known"
        r"|network addresses of \([^)]*\) cannot be retrieved",
        "a host's name cannot be resolved on this node",
        "give addresses in place of names (muster_address), or mend DNS or /etc/hosts",
        "torch; libc",
        ("nic-route",),
    ),
    Signature(
        "store-unreachable",
        r"client socket has (?:timed out|failed to connect)|failed to connect/validate to host"
        r"|server socket on \S+ has timed out|seconds waiting for clients\. \d+/\d+ clients joined"
        r"|DistStoreError: (?:Socket Timeout|wait timeout)|wait timeout after \d+ms, keys"
        r"|store[ -]based barrier",
        "the ranks do not meet: one did not start, or cannot reach the address and port of the"
        " first",
        "see that all units of the replica run, then the address (muster_address) and the ports"
        " between the nodes",
        "torch.distributed's store; vLLM issue 17056; SGLang issue 2561",
        ("port-reachable", "nic-route", "nic-address"),
        LIKELY,
    ),
    Signature(
        "handshake",
        r"Did not receive response from front-end process"
        r"|Timed out waiting for engines? (?:core processes |cores? )?to (?:send initial message"
        r"|start)|configured by .?VLLM_ENGINE_READY_TIMEOUT",
        "the head and an engine did not hear of each other in time: one still loads, did not start,"
        " or its rpc port cannot be reached",
        "see why the other one did not start; if it only loads for long, raise"
        " VLLM_ENGINE_READY_TIMEOUT_S in muster_engine_env; then the rpc port between the nodes",
        "vLLM; vLLM issue 35616",
        ("port-reachable", "nic-route"),
        LIKELY,
    ),
    Signature(
        "coordinator-late",
        r"DP Coordinator process failed to report",
        "the coordinator of data parallelism did not come up within vLLM's own 30 s: a busy node or"
        " a slow file system",
        "start it again; see what else loads the node and where the environment lies",
        "vLLM issue 43611",
        ("host-memory",),
        LIKELY,
    ),
    Signature(
        "parallel-mode",
        r"must not use --headless|message from (?:remote|local) engine \d+, expected it to be",
        "head and followers run different modes of data parallelism",
        "take --data-parallel-start-rank and its kin out of muster_engine_args, then serve again",
        "vLLM 0.28.0 and later",
    ),
    Signature(
        "collective-timeout",
        r"[Ww]atchdog caught collective operation timeout|connectFullMesh failed"
        r"|Timed out waiting \d+ms for (?:recv|send) operation|(?i:watchdog timeout)",
        "a rank waited in vain for the others",
        DIAGNOSE,
        "torch.distributed",
        ("port-reachable",),
        SYMPTOM,
    ),
    Signature(
        "nccl-versions",
        r"Mismatched NCCL version",
        "the ranks load different versions of NCCL",
        "give all nodes the same image or environment: playbooks/prepare.yml",
        "NCCL",
    ),
    Signature(
        "nccl-system",
        r"ncclSystemError|unhandled system error|unhandled cuda error|ncclInternalError"
        r"|ncclUnhandledCudaError",
        "NCCL or RCCL failed on a call of the system; the lines around it say which",
        "set NCCL_DEBUG: INFO in muster_engine_env and start again",
        "vLLM issues 4383 and 10626",
        ("nic-up", "port-reachable"),
        SYMPTOM,
    ),
)
