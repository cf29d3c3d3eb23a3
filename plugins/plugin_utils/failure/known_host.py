# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of the node: memory, limits, files, devices, Docker and its images."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREFLIGHT,
    PREPARE,
    SYMPTOM,
    Signature,
)

_DEVICES = r"/dev/(?:davinci|devmm_svm|hisi_hdc|kfd|dri|nvidia)"
_NETWORK = (
    r"(?:request canceled|Client\.Timeout|i/o timeout|connection refused|no such host"
    r"|network is unreachable|no route to host|TLS handshake timeout|context deadline exceeded"
    r"|\bEOF\b|connection reset by peer)"
)

SIGNATURES = (
    # Memory and limits.
    Signature(
        "node-memory",
        r"(?i)out of memory: killed process|killed by the OOM killer|result 'oom-kill'"
        r"|\boom-kill:constraint=|memory cgroup out of memory|\bOOMKilled\b"
        r"|\[Errno 12\] Cannot allocate memory|DefaultCPUAllocator: (?:can't|not enough)",
        "the node ran out of memory, and the kernel ended the engine or refused it more",
        "see with free -h what else runs there; weights are read through the node's memory",
        "kernel; systemd",
        ("host-memory",),
        explains=("worker-killed",),
    ),
    Signature(
        "worker-killed",
        r"line \d+:\s+\d+ Killed\b|(?:^|[\]\s])Killed\s*$|(?i:(?:exit|return) ?code\W{1,3}-9\b)"
        r"|signal 9\b"
        r"|(?:killed|terminated) by signal:? ?SIGKILL"
        r"|\(SIGKILL\) received|status=9/KILL|status=137/|exited with code 137\b"
        r"|Failed core proc\(s\): \{[^}]*: -9\b|died with exit code -9\b",
        "a process of the engine was ended from outside, most often by the kernel for want of"
        " memory",
        "look at dmesg and free -h on the node; the other units only follow",
        "vllm-ascend issue 10911; SGLang issue 15235",
        ("host-memory",),
        LIKELY,
    ),
    Signature(
        "security-policy",
        r"avc: {1,2}denied|apparmor=\"DENIED\"|SELinux is preventing"
        r"|(?i:apparmor .{0,80}(?:denied|could not be loaded)|\bseccomp\b.{0,60}(?:denied|fail))"
        r"|pthread_create failed.{0,60}Operation not permitted"
        r"|(?:[gs]et_mempolicy|mbind|move_pages|unshare|clone3?)\b.{0,40}Operation not permitted",
        "a security rule of the node (SELinux, AppArmor, Docker's seccomp profile) refuses the"
        " container a call or a file",
        "the line names it: admit it in the policy, or security_opt in the container of an own"
        " recipe; an old Docker's seccomp profile refuses clone3",
        "kernel; audit",
        rank=LIKELY,
    ),
    Signature(
        "thread-limit",
        r"(?i)fork: (?:retry: )?resource temporarily unavailable|pthread_create failed"
        r"|can't start new thread|thread creation failed|fork rejected by pids controller"
        r"|\[Errno 11\] resource temporarily unavailable"
        r"|unable to create (?:new )?(?:native )?thread"
        r"|what\(\): .{0,30}resource temporarily unavailable",
        "the limit of processes and threads is reached",
        "raise --pids-limit of the container, TasksMax of the service or ulimit -u; fewer"
        " OMP_NUM_THREADS",
        "kernel, EAGAIN",
        ("host-limits",),
    ),
    Signature(
        "open-files",
        r"(?i)too many open files",
        "the limit of open files is reached",
        "raise LimitNOFILE of the service or --ulimit nofile of the container",
        "kernel, EMFILE",
        ("host-limits",),
    ),
    # Files and devices.
    Signature(
        "device-permission",
        rf"{_DEVICES}.{{0,80}}(?i:permission denied)|(?i:permission denied).{{0,80}}{_DEVICES}"
        r"|not (?:a )?member of .{0,30}\b(?:render|video)\b.{0,10} group",
        "the engine's user must not open a device node",
        "see ls -l of it, and the container's group_add and user in the plan",
        "kernel, EACCES",
        ("device-node",),
    ),
    Signature(
        "device-absent",
        r"error gathering device information|[Uu]nable to open /dev/kfd"
        rf"|{_DEVICES}.{{0,80}}(?i:no such (?:file|device))"
        rf"|(?i:no such (?:file|device)).{{0,80}}{_DEVICES}",
        "a device node is not on this node, or not in the container",
        PREFLIGHT,
        "Docker; ROCm",
        ("device-node",),
    ),
    Signature(
        "read-only-fs",
        r"(?i)read-only file system",
        "a path that the engine writes to is mounted read-only, or the file system turned read-only"
        " after an error",
        "mount it writable (muster_extra_mounts without :ro); dmesg tells of errors of a disk",
        "kernel, EROFS",
        ("host-writable",),
    ),
    Signature(
        "stale-nfs",
        r"(?i)stale (?:nfs )?file handle",
        "a network file system was exported anew under the engine: its handles are stale",
        "mount it anew on the node, then start the unit again",
        "kernel, ESTALE",
    ),
    Signature(
        "file-system-lost",
        r"(?i)\[Errno (?:5|107|112)\]|Transport endpoint is not connected|\bInput/output error",
        "a disk or network file system of the node does not answer",
        "look at dmesg and mount on the node; mount it anew, or replace the disk",
        "kernel, EIO and ENOTCONN",
        ("host-disk",),
    ),
    Signature(
        "disk-full",
        r"(?i)no space left on device|disk quota exceeded",
        "a file system of the node is full",
        "df -h tells which: Docker's, /dev/shm, or that of the logs",
        "kernel, ENOSPC",
        ("host-disk", "host-shm"),
    ),
    Signature(
        "file-permission",
        r"\[Errno 13\]|(?i:\b(?:open|stat|mkdir\w*|cannot \w+)\b.{0,160}: permission denied)",
        "the engine's user may not read or write a path",
        "the line names it: give that user the right, or another path; the user stands in the"
        " plan's container",
        "kernel, EACCES",
        ("mount-source", "host-writable"),
    ),
    Signature(
        "glibc-old",
        r"version `(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found",
        "the node's or image's C or C++ library is older than the engine's wheels were built for",
        "take the container in place of an environment (muster_install), or a newer release of the"
        " system",
        "ld.so",
        ("host-os",),
    ),
    # Docker.
    Signature(
        "mount-kind",
        r"Are you trying to mount a directory onto a file|error mounting \".{0,300}not a directory",
        "a path that the container mounts is a folder where a file is wanted, or the reverse:"
        " Docker makes a folder of a file that was missing",
        "remove the empty folder on the node and put the file in its place",
        "Docker",
        ("mount-source", "driver-mount"),
    ),
    Signature(
        "mount-absent",
        r"bind source path does not exist|error mounting \".{0,300}no such file or directory",
        "a path that the container mounts is not on this node",
        PREFLIGHT,
        "Docker",
        ("mount-source",),
    ),
    Signature(
        "image-architecture",
        r"(?i)exec format error|no matching manifest for \S+",
        "the image is built for another processor than this node's",
        "take a tag that holds this architecture with muster_image",
        "kernel, ENOEXEC; Docker",
        ("host-arch",),
    ),
    Signature(
        "image-command",
        r"exec: \"[^\"]+\": (?:executable file not found|stat [^:]+: no such file)"
        r"|status=203/EXEC|Failed at step EXEC",
        "the program that the plan starts is not in the image or environment",
        f"another image with muster_image; for an environment, {PREPARE}",
        "Docker; systemd",
    ),
    Signature(
        "image-certificate",
        r"x509: |certificate signed by unknown authority|CERTIFICATE_VERIFY_FAILED",
        "the registry or Hub, or a proxy before it, shows a certificate that this node does not"
        " know",
        f"name its authority with muster_registry_ca, then {PREPARE}",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "registry-plain",
        r"server gave HTTP response to HTTPS client",
        "the registry speaks HTTP, and Docker was not told so",
        f"name it in muster_insecure_registries, then {PREPARE}",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "image-limit",
        r"(?i)\btoomanyrequests\b|pull rate limit",
        "the registry allows this address no more pulls for now",
        "log in, wait, or pull through muster_registry_mirrors",
        "Docker Hub",
    ),
    Signature(
        "image-auth",
        r"(?i)unauthorized: |no basic auth credentials|authentication required"
        r"|(?<!repository does not exist or may require 'docker login': )denied: requested access"
        r"|(?:/v2/|manifests).{0,200}(?:401 unauthorized|403 forbidden)|daemon: denied"
        r"|fetch (?:anonymous|oauth) token: unexpected status",
        "the registry wants a login for the image",
        "docker login on the node, then run playbooks/prepare.yml",
        "Docker",
    ),
    Signature(
        "registry-unreachable",
        rf"(?:/v2/|registry|docker\.io).{{0,300}}{_NETWORK}",
        "the node does not reach the registry",
        "muster_proxy or muster_registry_mirrors, or see DNS, route and firewall of the node",
        "Docker",
    ),
    Signature(
        "image-absent",
        r"manifest unknown|pull access denied|manifest for \S+ not found|repository does not exist"
        r"|failed to resolve (?:reference|source metadata).{0,200}: not found",
        "the registry has no image of that name and tag, or shows it to nobody without a login",
        "correct muster_image",
        "Docker",
    ),
    Signature(
        "image-not-pulled",
        r"Unable to find image|No such image",
        "the image is not on this node",
        PREPARE,
        "Docker",
        rank=LIKELY,
    ),
    Signature(
        "container-name",
        r"The container name \"[^\"]+\" is already in use",
        "a container of the unit's name is still there",
        "docker rm --force NAME on the node, then start the unit again",
        "Docker",
    ),
    Signature(
        "docker-permission",
        r"permission denied while trying to connect to the [Dd]ocker",
        "the user may not talk to Docker",
        "units run as root: look at the service file, and at become in the inventory",
        "Docker",
    ),
    Signature(
        "docker-down",
        r"Cannot connect to the Docker daemon",
        "Docker does not run on this node",
        "look at systemctl status docker",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "gpu-permission",
        r"NVML: Insufficient Permissions|NVMLError_NoPermission",
        "the engine may not use the GPU: the modes of /dev/nvidia*, the container's user, or a rule"
        " of SELinux",
        "see ls -lZ of the device nodes and the audit log of the node",
        "NVML error 4; NVIDIA nvidia-docker issue 676",
        ("device-node",),
        SYMPTOM,
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
)
