# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which page of docs/runbooks says what to do about a check or a failure signature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Below the collection, in a checkout and where it is installed.
FOLDER = "docs/runbooks"
INDEX = f"{FOLDER}/README.md"


class Runbook(NamedTuple):
    """A page, with the ids of checks and the names of signatures that it is for."""

    name: str
    checks: tuple[str, ...]
    signatures: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Each check, and each signature that can be a finding, stands on one page.
RUNBOOKS = (
    Runbook(
        "nodes",
        _words(
            "node-reachable node-become node-python node-checks host-check host-python nic-check"
            " port-check npu-topology-check gpu-topology-check engine-image engine-parser-check"
            " endpoint-check"
        ),
        (),
    ),
    Runbook("two-operators", ("node-run",), ()),
    Runbook("takeover", ("takeover-holder",), ()),
    Runbook("add-a-node", ("unit-replica",), ()),
    Runbook(
        "host",
        _words(
            "host-systemd host-clock-sync cluster-clock host-hugepages host-limits host-os"
            " host-kernel host-arch host-name"
        ),
        _words(
            "clock security-policy thread-limit inotify-limit open-files rlimit-refused hugepages"
            " map-limit cpu-binding node-hardware kernel-hang kernel-module"
        ),
    ),
    Runbook(
        "memory",
        _words("host-memory host-shm npu-memory gpu-memory"),
        _words(
            "node-memory worker-killed shared-memory memory-taken no-cache cache-too-small"
            " device-memory hccl-memory container-memory cache-leak"
        ),
    ),
    Runbook(
        "disk",
        _words("host-disk host-writable mount-source"),
        _words(
            "disk-full read-only-fs stale-nfs file-system-lost file-locks file-system-mmap"
            " file-permission file-absent user-unknown path-long mount-kind mount-absent"
            " mount-failed"
        ),
    ),
    Runbook(
        "docker",
        _words(
            "container-engine container-engine-version container-engine-cgroup "
            "container-engine-security"
        ),
        _words(
            "docker-storage docker-configuration docker-permission docker-down docker-network"
            " docker-old container-name container-cgroup container-start user-namespace"
            " podman-locks container-runtime docker-held container-options nested-container"
            " container-peer container-stuck"
        ),
    ),
    Runbook(
        "images",
        (),
        _words(
            "image-architecture image-command image-limit image-auth image-absent image-name"
            " image-broken image-not-pulled image-certificate registry-plain registry-unreachable"
        ),
    ),
    Runbook("behind-a-proxy", (), ("proxy",)),
    Runbook("api-key", _words("api-key-file endpoint-key"), ()),
    Runbook("certificate", _words("gateway-certificate"), ("api-certificate",)),
    Runbook(
        "ports",
        _words("port-free port-reserved"),
        _words(
            "hccl-port-taken npu-port-taken zmq-port-taken torch-port-taken api-port-taken"
            " kv-port-taken"
        ),
    ),
    Runbook(
        "network",
        _words(
            "nic-tool nic-exists nic-up nic-address nic-mtu nic-kind nic-prefix nic-route"
            " cluster-mtu port-reachable"
        ),
        _words(
            "hccl-interface gloo-interface nccl-interface nccl-network nccl-rdma nccl-connect"
            " nccl-system nvshmem kv-transfer gpu-direct rdma-memory memlock-limit address-absent"
            " host-ip name-resolution no-route nic-driver nic-link"
            " rdma-absent"
        ),
    ),
    Runbook(
        "ranks",
        (),
        _words(
            "collective-timeout hccl-timeout hccl-agent-timeout npu-notify-timeout handshake"
            " store-unreachable coordinator-late workers-silent peer-ended ranks-differ"
            " parallel-mode hccl-arguments hccl-versions nccl-versions ray-resources ray-versions"
            " ray-unreachable ray-worker-died"
        ),
    ),
    Runbook(
        "npu-network",
        _words(
            "npu-fabric-tool npu-link npu-net-health npu-address npu-gateway npu-detect-address"
            " npu-hccn-conf npu-tls npu-neighbour npu-ping npu-vnic npu-hccs-ping npu-superpod"
            " cluster-npu-tls cluster-npu-address cluster-super-pod cluster-super-pod-server"
            " cluster-super-pod-sdid"
        ),
        _words(
            "npu-link-down npu-tls npu-address npu-dispatch npu-transfer super-pod hccl-ranktable"
            " hccl-transport hccl-failed"
        ),
    ),
    Runbook(
        "devices",
        _words(
            "npu-tool npu-count npu-health npu-ecc npu-processes npu-topology gpu-tool gpu-count"
            " gpu-name gpu-health gpu-ecc gpu-processes gpu-topology gpu-persistence gpu-mig"
            " gpu-compute-mode gpu-fabric-manager gpu-imex gpu-partition container-gpus"
        ),
        _words(
            "npu-held npu-visible-devices npu-few npu-lost npu-driver npu-unavailable npu-operator"
            " npu-streams fabric-manager gpu-lost-in-container gpu-lost gpu-nvlink gpu-ecc"
            " gpu-ordinal gpu-shared gpu-busy gpu-mps gpu-few gpu-none gpu-peer gpu-multicast"
            " gpu-memory-fault gpu-kernel-fault gpu-pci-memory cuda-fork cuda-unknown"
            " gpu-nvml custom-all-reduce"
            " npu-arguments npu-memory-fault gpu-atomics nvswitch-absent"
        ),
    ),
    Runbook(
        "drivers",
        _words(
            "npu-driver-loaded npu-driver npu-driver-install npu-firmware gpu-driver-loaded"
            " gpu-driver gpu-toolkit gpu-compiler gpu-device-nodes device-node driver-mount"
            " cluster-driver-version cluster-firmware-version cann-version cluster-cann-version"
            " image-requirement image-cuda"
        ),
        _words(
            "npu-driver-mount npu-permission npu-driver-old npu-open npu-unsupported npu-runtime"
            " cuda-driver-old rocm-driver-old cuda-compat-mismatch gpu-driver-mismatch"
            " gpu-driver-absent gpu-library gpu-toolkit gpu-runtime-mode gpu-cgroup gpu-hook"
            " gpu-bound gpu-permission cdi-device driver-files-in-image image-requirement"
            " device-permission device-absent toolkit-configuration gpu-firmware"
            " gpu-init wsl-gpu cdi-specification toolkit-privilege gpu-driver-replaced"
            " gpu-driver-branch gpu-driver-in-use"
        ),
    ),
    Runbook(
        "software",
        ("engine-version",),
        _words(
            "npu-soc-mismatch cann-library cann-mismatch cann-compiler cann-inner"
            " torch-npu-mismatch torch-mismatch torch-cpu torch-compile graph-capture gpu-code"
            " cuda-library-missing cuda-kernels-absent rocm-mismatch sglang-import kernel-versions"
            " static-tls library-broken library-missing cpu-instructions glibc-old"
            " package-mismatch package-shadowed module-missing wheels-absent jit-libcuda"
            " jit-compiler"
            " triton-compile triton-driver kernel-download compile-cache aiter-build aiter-shape"
            " aiter-lock platform-plugins preload grouped-routing"
        ),
    ),
    Runbook(
        "weights",
        _words(
            "weights-directory weights-config weights-tokenizer weights-complete weights-hash"
            " weights-architecture weights-format cluster-weights cluster-weights-hash"
        ),
        _words(
            "weights-absent weights-broken weights-quantisation config-broken tokenizer"
            " model-too-new model-code-missing model-inspection remote-code hub-access hub-limit"
            " hub-unreachable weights-pickle bucket-access"
        ),
    ),
    Runbook(
        "engine-arguments",
        ("engine-parser",),
        _words(
            "engine-arguments engine-environment engine-configuration hccl-environment"
            " hccl-buffer-small fuse-qk-norm batched-tokens dispatch-tokens attention-backend"
            " lora-adapter cache-layout attention-workspace spawn-guard fp8-block experts-parallel"
            " parallel-size context-length"
            " quantisation-unsupported"
        ),
    ),
    Runbook(
        "no-answer",
        _words(
            "endpoint-models endpoint-chat endpoint-streaming endpoint-completions"
            " endpoint-responses endpoint-engines endpoint-soak"
        ),
        ("health-silent",),
    ),
    Runbook("garbled-output", _words("endpoint-answers endpoint-repetition"), ()),
    Runbook(
        "reasoning-and-tools",
        ("endpoint-tools",),
        _words("parser-unknown chat-template chat-messages multimodal-prompt tools-off"),
    ),
    Runbook(
        "failed-start",
        (),
        _words(
            "engine-core engine-crash restart-budget start-timeout unit-setup unit-dependency"
            " probe-failed"
        ),
    ),
)

_OF_CHECK = {one: book.name for book in RUNBOOKS for one in book.checks}
_OF_SIGNATURE = {one: book.name for book in RUNBOOKS for one in book.signatures}


def of_check(check_id: str) -> str:
    """Return the path of a check's page, in the repository; the index where it has none."""
    return _path(_OF_CHECK.get(check_id))


def of_signature(name: str) -> str:
    """Return the path of a signature's page, in the repository; the index where it has none."""
    return _path(_OF_SIGNATURE.get(name))


def line(check_ids: Iterable[str]) -> str:
    """Return the pages of checks as one text, each with its checks where there are several."""
    by_page: dict[str, list[str]] = {}
    for one in dict.fromkeys(check_ids):
        by_page.setdefault(of_check(one), []).append(one)
    if len(by_page) < 2:
        return "".join(by_page)
    return "; ".join(f"{page} ({', '.join(ids)})" for page, ids in by_page.items())


def _path(name: str | None) -> str:
    return f"{FOLDER}/{name}.md" if name else INDEX
