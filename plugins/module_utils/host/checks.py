# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host itself must bring, before any device is looked at: parsing and decisions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    OLDEST_DOCKER,
    Lack,
)

GB = 1_000_000_000

# The systems of the lab, in which everything but the devices' drivers is tried.
LAB_SYSTEMS: Mapping[str, Sequence[str]] = {"debian": ("12",)}
# The kernel of the oldest of these systems.
OLDEST_KERNEL = (4, 18)
# A node of 16 devices runs tens of thousands of threads.
LIMITS = {
    "fs.file-max": 262144,
    "kernel.pid_max": 65536,
    "kernel.threads-max": 65536,
}
# Engines raise their own soft limit to this.
LEAST_OPEN_FILES = 65535


@dataclass(frozen=True)
class Space:
    """What is free on the file system that holds a path, and what the path holds already."""

    mount: str
    free: int
    held: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes that something will take on a disk. What is only estimated warns, and never fails."""

    what: str
    size: int
    space: Space
    estimate: bool = False


@dataclass(frozen=True)
class Folder:
    """A folder that is written to, the mount that it lies or will lie on, and what forbids it."""

    path: str
    mount: str = "/"
    read_only: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Docker:
    """Docker's service as systemd has it, and what its daemon says about itself.

    lack is what is missing of it, see docker_packages. security is by what it confines containers,
    None where it does not say; selinux tells whether the host enforces SELinux's rules.
    """

    load: str
    active: bool = False
    problem: str = ""
    version: str = ""
    cgroup_driver: str = ""
    cgroup_version: str = ""
    lack: Lack | None = None
    security: Sequence[str] | None = None
    selinux: bool = False


@dataclass(frozen=True)
class Systemd:
    """What tells whether systemd runs a node: its own mark, who is process 1, and its answer.

    version is empty where systemctl does not answer; problem then says why.
    """

    booted: bool
    first_process: str = ""
    version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class OpenFiles:
    """How many files an owner's processes may open, as the kernel has it; "" where unknown.

    asked is what was asked for them, a number or infinity.
    """

    owner: str
    got: str
    asked: str = ""


@dataclass(frozen=True)
class KeyFile:
    """What can be said of a key without reading it out."""

    path: str
    problem: str = ""
    mode: int = 0o600
    empty: bool = False


def properties(text: str) -> dict[str, str]:
    """Return lines of KEY=VALUE, as timedatectl and os-release have them, without quotes."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def meminfo(text: str) -> dict[str, int]:
    """Return the fields of /proc/meminfo, sizes in bytes."""
    fields = re.findall(r"^(\w+):[ \t]+([0-9]{1,18})( kB)?$", text, re.MULTILINE | re.ASCII)
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in fields}


def open_files_of(text: str) -> str:
    """Return the hard limit of open files in the text of /proc/PID/limits, "" where there is none.

    An engine raises its own soft limit to it.
    """
    match = re.search(r"^Max open files[ \t]+\S+[ \t]+(\S+)", text, re.MULTILINE)
    if not match:
        return ""
    return "infinity" if match[1] == "unlimited" else match[1]


def granted(asked: str, own: str, most: str, may_raise: bool) -> str:
    """Return the limit that a process gets which systemd is to start, "" where that is not known.

    Args:
        asked: What is asked for it, a number or infinity.
        own: The limit of process 1, beyond which it may have no right to raise.
        most: What the kernel lets anybody have (fs.nr_open).
        may_raise: Whether root may raise limits on this node.
    """
    ceiling = _limit(most if may_raise else own)
    wanted = _limit(asked)
    if ceiling is None or wanted is None:
        return ""
    lower = min(wanted, ceiling)
    return "infinity" if lower == _UNLIMITED else str(lower)


_UNLIMITED = 1 << 64


def _limit(text: str) -> int | None:
    if text == "infinity":
        return _UNLIMITED
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) else None


def free_space(text: str) -> Space | None:
    """Return the last line of df -Pk PATH, or None where there is none."""
    for line in reversed(text.splitlines()):
        match = re.fullmatch(r".*\s([0-9]{1,18})\s+[0-9]{1,3}%\s+(/.*)", line.strip(), re.ASCII)
        if match:
            return Space(match[2], int(match[1]) * 1024)
    return None


def mount_points(text: str) -> list[str]:
    """Return where file systems are mounted, as /proc/self/mountinfo lists them."""
    rows = (line.split(" ") for line in text.splitlines())
    # Blanks and the like stand there as octal numbers.
    return [
        re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), row[4])
        for row in rows
        if len(row) > 4
    ]


def mount_of(path: str, points: Sequence[str]) -> str:
    """Return the mount point that a path lies on."""
    holders = [point for point in points if f"{path}/".startswith(f"{point.rstrip('/')}/")]
    return max(holders, key=len, default="/")


def clock_sync_check(container: str, timedate: Mapping[str, str], problem: str = "") -> Check:
    """Check whether something keeps the node's clock right.

    Args:
        container: What kind of container the node is, if it is one.
        timedate: The properties that timedatectl show prints.
        problem: Why there are none.
    """
    subject, expected = "clock", "synchronised by NTP"
    if timedate.get("NTPSynchronized") == "yes":
        return check("host-clock-sync", "ok", subject, "synchronised", expected)
    if container:
        text = f"the clock is that of the machine below this container ({container})"
        return check("host-clock-sync", "ok", subject, text, expected)
    remedy = "run chrony, or: timedatectl set-ntp true"
    if "NTPSynchronized" not in timedate:
        text = problem or "timedatectl does not say"
        return check("host-clock-sync", "unknown", subject, text, expected, remedy)
    running = timedate.get("NTP") == "yes"
    text = "a client runs, and has not synchronised" if running else "not synchronised"
    if running:
        remedy = "see which servers it reaches: chronyc sources, or timedatectl timesync-status"
    return check("host-clock-sync", "warning", subject, text, expected, remedy)


def memory_check(memory: Mapping[str, int], need_gb: float, running: bool) -> Check:
    """Check whether the engine's processes fit beside what runs; its own are no fault."""
    expected = f"at least {need_gb:g} GB available"
    available = memory.get("MemAvailable")
    if available is None:
        return check(
            "host-memory",
            "unknown",
            "memory",
            "no MemAvailable in /proc/meminfo",
            expected,
            "look at /proc/meminfo",
        )
    text = f"{available / GB:.1f} GB available"
    if running:
        return check("host-memory", "ok", "memory", f"{text} beside what runs")
    if available >= need_gb * GB:
        return check("host-memory", "ok", "memory", text, expected)
    return check(
        "host-memory",
        "failed",
        "memory",
        f"{text} of {memory.get('MemTotal', 0) / GB:.1f} GB",
        expected,
        "stop what takes it: ps -eo rss,pid,args --sort -rss | head",
    )


def hugepages_check(memory: Mapping[str, int]) -> Check:
    """Check for memory set aside as huge pages, lost to engines, which ask for none."""
    if not memory.get("MemTotal"):
        text = "no MemTotal in /proc/meminfo"
        remedy = "look at /proc/meminfo"
        return check("host-hugepages", "unknown", "huge pages", text, "little set aside", remedy)
    pages = memory.get("HugePages_Free", 0) - memory.get("HugePages_Rsvd", 0)
    idle = max(0, pages) * memory.get("Hugepagesize", 0)
    expected = "a tenth of the memory at most set aside and unused"
    if idle * 10 <= memory["MemTotal"]:
        text = f"{idle / GB:.1f} GB set aside and unused"
        return check("host-hugepages", "ok", "huge pages", text, expected)
    return check(
        "host-hugepages",
        "warning",
        "huge pages",
        f"{idle / GB:.1f} GB set aside and unused",
        expected,
        "give it back: sysctl vm.nr_hugepages=0 (and in /etc/sysctl.d or the boot parameters)",
    )


def shm_check(size: int | None, free: int | None, need_gb: float, running: bool) -> Check:
    """Check whether processes of a rank can pass their messages through the host's shared memory.

    Args:
        size: Its bytes; null where there is none.
        free: What is free of them.
        need_gb: What has to be.
        running: Whether units of Muster run, or what the run stops before they start.
    """
    if size is None or free is None:
        remedy = f"mount -t tmpfs -o size={need_gb:g}G tmpfs /dev/shm (and in /etc/fstab)"
        expected = f"at least {need_gb:g} GB free"
        return check("host-shm", "failed", "/dev/shm", "not there", expected, remedy)
    text = f"{free / GB:.1f} GB of {size / GB:.1f} GB free"
    expected = f"at least {need_gb:g} GB free"
    if running:
        return check("host-shm", "ok", "/dev/shm", f"{text} beside what runs")
    if free >= need_gb * GB:
        return check("host-shm", "ok", "/dev/shm", text, expected)
    if size >= need_gb * GB:
        remedy = "remove what dead processes left there, as far as fuser /dev/shm/* names no holder"
    else:
        remedy = f"mount -o remount,size={need_gb:g}G /dev/shm (and in /etc/fstab)"
    return check("host-shm", "failed", "/dev/shm", text, expected, remedy)


def disk_checks(needs: Sequence[Need]) -> list[Check]:
    """Return one verdict for each file system, since what lies on one shares its space."""
    by_mount: dict[str, list[Need]] = {}
    for need in needs:
        by_mount.setdefault(need.space.mount, []).append(need)
    checks = []
    for mount, mine in by_mount.items():
        free = min(need.space.free for need in mine)
        missing = {need: max(0, need.size - need.space.held) for need in mine}
        total = sum(missing.values())
        known = sum(size for need, size in missing.items() if not need.estimate)
        parts = ", ".join(f"{size / GB:.0f} GB for {n.what}" for n, size in missing.items())
        text, expected = f"{free / GB:.0f} GB free", f"room for {parts}"
        if free >= total:
            checks.append(check("host-disk", "ok", mount, text, expected))
            continue
        status = "failed" if free < known else "warning"
        remedy = f"make room on {mount}, or mount a larger file system for it"
        checks.append(check("host-disk", status, mount, text, expected, remedy))
    return checks


def writable_checks(folders: Sequence[Folder]) -> list[Check]:
    """Return a verdict for each mount, since one command mends it, and for each other problem."""

    def one(status: str, subject: str, seen: str, paths: Sequence[str], remedy: str = "") -> Check:
        expected = f"can be written, for {', '.join(paths)}"
        return check("host-writable", status, subject, seen, expected, remedy)

    checks = []
    by_mount: dict[tuple[str, bool], list[str]] = {}
    for folder in folders:
        if folder.problem:
            remedy = (
                f"look at dmesg, lsattr -d {folder.path} (chattr -i lets it be written), and on a "
                "network's file system at whether its server lets root write"
            )
            checks.append(one("failed", folder.path, folder.problem, [folder.path], remedy))
        else:
            by_mount.setdefault((folder.mount, folder.read_only), []).append(folder.path)
    for (mount, read_only), paths in by_mount.items():
        if read_only:
            remedy = (
                f"mount -o remount,rw {mount} (and in /etc/fstab), once dmesg shows no I/O error "
                "that made it read-only"
            )
            checks.append(one("failed", mount, "mounted read-only", paths, remedy))
        else:
            checks.append(one("ok", mount, "can be written", paths))
    return checks


def systemd_check(seen: Systemd) -> Check:
    """Check whether systemd runs the node, as each rank is one of its services."""
    subject, expected = "systemd", "it runs the node, as its process 1"
    if not seen.booted:
        text = f"not running; process 1 is {seen.first_process or 'unknown'}"
        remedy = "use a machine, or a container, that systemd has booted: each rank is its service"
        return check("host-systemd", "failed", subject, text, expected, remedy)
    if not seen.version:
        text = seen.problem or "systemctl does not tell its version"
        remedy = "see systemctl is-system-running and journalctl -b; reboot where it stays silent"
        return check("host-systemd", "unknown", subject, text, expected, remedy)
    return check("host-systemd", "ok", subject, f"systemd {seen.version}", expected)


def limit_checks(seen: Mapping[str, str], files: OpenFiles) -> list[Check]:
    """Check the kernel's limits, and how many files the engine's processes may open.

    Args:
        seen: The kernel's limits by name.
        files: The limit of open files.
    """
    checks = []
    for name, least in LIMITS.items():
        value = seen.get(name, "")
        expected = f"at least {least}"
        if _enough(value, least):
            checks.append(check("host-limits", "ok", name, value, expected))
        elif not value.isdecimal():
            text = value or "not there"
            checks.append(check("host-limits", "unknown", name, text, expected, f"sysctl {name}"))
        else:
            remedy = f"sysctl {name}={least} (and in /etc/sysctl.d)"
            checks.append(check("host-limits", "warning", name, value, expected, remedy))
    return [*checks, _open_files(files)]


def _enough(value: str, least: int) -> bool:
    limit = _limit(value)
    return limit is not None and limit >= least


def _open_files(files: OpenFiles) -> Check:
    subject, expected = f"open files of {files.owner}", f"at least {LEAST_OPEN_FILES}"
    if _limit(files.got) is None:
        text = files.got or "not told"
        remedy = "look at /proc/PID/limits of such a process, Max open files"
        return check("host-limits", "unknown", subject, text, expected, remedy)
    if _enough(files.got, LEAST_OPEN_FILES):
        return check("host-limits", "ok", subject, files.got, expected)
    if _enough(files.asked, LEAST_OPEN_FILES):
        text = f"{files.got}, though {files.asked} are asked for"
        remedy = (
            "this node's systemd may not raise limits: start the container or machine that it "
            f"runs in with a higher one (as --ulimit nofile={LEAST_OPEN_FILES})"
        )
    else:
        text = files.got
        remedy = (
            f"a drop-in with LimitNOFILE={LEAST_OPEN_FILES} (systemctl edit {files.owner}), then "
            "restart it while no container runs; default-ulimits of /etc/docker/daemon.json go "
            "before it"
        )
    return check("host-limits", "warning", subject, text, expected, remedy)


def system_checks(
    release: Mapping[str, str], kernel: str, machine: str, vendor: str | None
) -> list[Check]:
    """Check operating system, kernel and architecture, as far as somebody vouches for them."""
    name, number = release.get("ID", ""), release.get("VERSION_ID", "")
    shown = release.get("PRETTY_NAME") or f"{name} {number}".strip() or "unknown"
    vendors = [VENDORS[vendor]] if vendor else VENDORS.values()
    tables = [LAB_SYSTEMS, *(one.systems for one in vendors)]
    if any(_among(number, table.get(name, ())) for table in tables):
        checks = [check("host-os", "ok", "operating system", shown)]
    else:
        known = ", ".join(f"{one} {'/'.join(of)}" for one, of in sorted(tables[-1].items()))
        checks = [
            check(
                "host-os",
                "warning",
                "operating system",
                f"{shown}, untested",
                f"one of {known}" if vendor else "one that the vendors of devices name",
                "see that the driver's own release notes name it, then waive this (muster_waivers)",
            )
        ]
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if leading_numbers(kernel) >= OLDEST_KERNEL:
        checks.append(check("host-kernel", "ok", "kernel", kernel))
    else:
        checks.append(
            check(
                "host-kernel",
                "warning",
                "kernel",
                f"{kernel}, untested",
                f"{oldest} or later",
                "use the kernel of a newer release of the operating system",
            )
        )
    if vendor:
        architectures = VENDORS[vendor].architectures
        fine = machine in architectures
        checks.append(
            check(
                "host-arch",
                "ok" if fine else "failed",
                "architecture",
                machine,
                " or ".join(architectures),
                "" if fine else "the engine is not published for it: use another machine",
            )
        )
    return checks


def _among(number: str, versions: Sequence[str]) -> bool:
    return any(number == one or number.startswith(f"{one}.") for one in versions)


def name_check(name: str, addresses: Sequence[str], several: bool, address: str | None) -> Check:
    """Check whether the node's name resolves, and for peers to more than a loopback address."""
    subject = f"hostname {name}"
    expected = "resolves to an address that peers reach" if several else "resolves"
    own = address or "ADDRESS"
    loopback = [one for one in addresses if one.startswith("127.") or one == "::1"]
    if not addresses:
        remedy = f"add to /etc/hosts: {own} {name}"
        return check("host-name", "warning", subject, "does not resolve", expected, remedy)
    text = ", ".join(addresses)
    if several and len(loopback) == len(addresses):
        remedy = f"let its line in /etc/hosts begin with {own} instead of {loopback[0]}"
        return check("host-name", "warning", subject, text, expected, remedy)
    return check("host-name", "ok", subject, text, expected)


def docker_checks(docker: Docker) -> list[Check]:
    """Check whether Docker is there and answers. What prepare installs or starts is pending."""

    def one(part: str, status: str, observed: str, expected: str, remedy: str = "") -> Check:
        return check(f"container-engine{part}", status, "Docker", observed, expected, remedy)

    expected = "installed and answering"
    if docker.load == "masked":
        remedy = "systemctl unmask docker.service"
        return [one("", "failed", "docker.service is masked", expected, remedy)]
    if docker.lack:
        status = "pending" if docker.lack.install else "failed"
        return [one("", status, docker.lack.seen, expected, docker.lack.remedy)]
    if docker.problem:
        remedy = "look at journalctl -u docker.service and at /etc/docker/daemon.json"
        return [one("", "failed", docker.problem, expected, remedy)]
    if not docker.active:
        return [one("", "pending", "not running", expected, "prepare starts it")]
    checks = [one("", "ok", "answers", expected)]
    least = ".".join(map(str, OLDEST_DOCKER))
    if not leading_numbers(docker.version):
        remedy = "look at docker info (Server Version)"
        text = docker.version or "no version told"
        checks.append(one("-version", "unknown", text, f"{least} or later", remedy))
    elif leading_numbers(docker.version) >= OLDEST_DOCKER:
        checks.append(one("-version", "ok", docker.version, f"{least} or later"))
    else:
        remedy = f"install Docker {least} or later"
        checks.append(one("-version", "failed", docker.version, f"{least} or later", remedy))
    # On the older hierarchy Docker's own default is cgroupfs, and nothing comes of it.
    driver = f"{docker.cgroup_driver} on cgroup v{docker.cgroup_version}"
    if not (docker.cgroup_version and docker.cgroup_driver):
        remedy = "look at docker info (Cgroup Driver, Cgroup Version)"
        checks.append(one("-cgroup", "unknown", "not told", "systemd on cgroup v2", remedy))
    elif docker.cgroup_version == "2" and docker.cgroup_driver != "systemd":
        remedy = (
            'set "exec-opts": ["native.cgroupdriver=systemd"] in /etc/docker/daemon.json and '
            "restart Docker while no container runs"
        )
        checks.append(one("-cgroup", "warning", driver, "systemd on cgroup v2", remedy))
    else:
        checks.append(one("-cgroup", "ok", driver, "systemd on cgroup v2"))
    return [*checks, _confinement(docker)]


def _confinement(docker: Docker) -> Check:
    """Check whether Docker lets containers have the host's network, its devices and mounts."""

    def one(status: str, observed: str, remedy: str = "") -> Check:
        expected = "root of a container is root of the host, and opens what it is given"
        return check("container-engine-security", status, "Docker", observed, expected, remedy)

    if docker.security is None:
        return one("unknown", "not told", "look at docker info (Security Options)")
    if "rootless" in docker.security:
        return one(
            "failed",
            "rootless: containers get neither the host's network nor devices of its root",
            "let the service docker.service, which root runs, listen at /var/run/docker.sock",
        )
    if "userns" in docker.security:
        return one(
            "failed",
            "userns-remap: Docker refuses the host's network to remapped containers",
            "take userns-remap out of /etc/docker/daemon.json, and restart Docker while no "
            "container runs",
        )
    if "selinux" in docker.security and docker.selinux:
        return one(
            "warning",
            "selinux-enabled, and SELinux is enforcing: what is not labelled for containers is "
            "denied to them",
            "chcon -Rt container_file_t the folders of weights, of muster_extra_mounts, "
            "/var/lib/muster/cache and /var/log/muster (semanage fcontext keeps it), and setsebool "
            "-P container_use_devices on; or take selinux-enabled out of /etc/docker/daemon.json",
        )
    return one("ok", ", ".join(docker.security) or "not confined further")


def key_file_checks(files: Sequence[KeyFile]) -> list[Check]:
    """Check the file with the API's key: there, not empty, and nobody else's to read."""
    checks = []
    for one in files:
        expected = "a file with the key that only its owner reads"
        if one.problem or one.empty:
            status, seen = "failed", one.problem or "empty"
            remedy = "put the key there (mode 0600), or correct muster_api_key_file"
        elif one.mode & 0o077:
            status, seen, remedy = "warning", f"mode {one.mode:04o}", f"chmod 600 {one.path}"
        else:
            status, seen, remedy = "ok", f"mode {one.mode:04o}", ""
        checks.append(check("api-key-file", status, one.path, seen, expected, remedy))
    return checks


def architecture_check(path: str, wanted: str, seen: str) -> Check:
    """Check whether config.json is that of the recipe's model."""
    if seen == wanted:
        return check("weights-architecture", "ok", path, seen, wanted)
    return check(
        "weights-architecture",
        "failed",
        path,
        seen,
        wanted,
        "set muster_model_path to the recipe's model, or choose the recipe of this one",
    )


def _described(names: Sequence[str]) -> bool:
    """Return whether ModelSlim described the weights in a file of its own."""
    return any(name.startswith("quant_model_description") for name in names)


# The formats of weights that a recipe can name, and how each shows: by the method that config.json
# has, and the names of the files beside it.
FORMATS: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "fp8": lambda method, names: method in ("fp8", "fbgemm_fp8"),
    "w8a8": lambda method, names: method == "compressed-tensors" or _described(names),
    "nvfp4": lambda method, names: (
        method.startswith(("modelopt", "compressed-tensors")) or "hf_quant_config.json" in names
    ),
    "bf16": lambda method, names: not method,
}


def format_check(path: str, wanted: str, facts: Mapping[str, Any], names: Sequence[str]) -> Check:
    """Check whether the weights are of the recipe's format.

    Args:
        path: The folder of the weights.
        wanted: The recipe's format, one of FORMATS.
        facts: What was read from config.json, see model_weights.Model.
        names: The files of the folder.
    """
    method = str(facts.get("quantization") or "")
    seen = f"{method or 'no'} quantisation"
    if "fp8" in method and _described(names):
        # The engine believes config.json, and without its flag takes the weights for what they
        # are not.
        return check(
            "weights-format",
            "warning" if wanted == "w8a8" else "failed",
            path,
            f"{seen} in config.json beside ModelSlim's quant_model_description",
            f"{wanted} weights, and a config.json that says nothing else",
            "these are w8a8 weights with the config.json of the original: take its "
            "quantization_config out, or set muster_model_path to weights of one kind",
        )
    if FORMATS[wanted](method, names):
        return check("weights-format", "ok", path, seen, wanted)
    # Every engine that takes fp8 weights takes the same ones unquantised, given the memory.
    status = "warning" if wanted == "fp8" and not method else "failed"
    remedy = (
        f"set muster_model_path to {wanted} weights, choose the recipe of these weights, or say in "
        "muster_weights_gb how much memory they take if they are meant"
    )
    return check("weights-format", status, path, seen, f"{wanted} weights", remedy)
