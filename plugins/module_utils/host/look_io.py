# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_check does on a node."""

from __future__ import annotations

import os
import platform
import resource
import socket
import stat
import sys
import time
from threading import Thread
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    Check,
    OptionError,
    check,
)
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners import is_taken_over
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    OPEN_FILES,
    parse_show,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.host import checks as host_checks
from ansible_collections.muster.serving.plugins.module_utils.host.checks import (
    GB,
    Docker,
    Folder,
    KeyFile,
    Need,
    OpenFiles,
    Space,
    Systemd,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    UNIT,
    DockerError,
    default_open_files,
    load_daemon_json,
    read_daemon_json,
    security_of,
    summary,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_io import (
    client_of,
    docker_info,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import lack_of
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access import access_check
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    observe_losers,
)
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes_io import hash_checks
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import Model, inspect

ARGUMENT_SPEC: dict[str, Any] = {
    "vendor": {"type": "str"},
    "own_units": {"type": "list", "elements": "str", "default": []},
    "address": {"type": "str"},
    "multi_node": {"type": "bool", "default": False},
    "memory_gb": {"type": "float", "default": 0},
    "shm_gb": {"type": "float", "default": 0},
    "images": {"type": "list", "elements": "str", "default": []},
    "image_gb": {"type": "float", "default": 0},
    "disk": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "what": {"type": "str", "required": True},
            "path": {"type": "path"},
            "need_gb": {"type": "float", "required": True},
        },
    },
    "writes": {"type": "list", "elements": "path", "default": []},
    "key_files": {"type": "list", "elements": "path", "default": [], "no_log": False},
    "model_path": {"type": "path"},
    "draft_path": {"type": "path"},
    "model_architecture": {"type": "str"},
    "model_format": {"type": "str", "choices": list(host_checks.FORMATS)},
    "weights_hashes": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 30},
}
DOCKER_ROOT = "/var/lib/docker"
SHM = "/dev/shm"


def may_raise_limits() -> bool:
    """Tell whether root may raise limits here, found by raising this process's own for a moment.

    In a container it may lack the right, whatever its capabilities say.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    except (ValueError, OSError):
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return True


class Host:
    """Asks the node, each tool within the time that it is given."""

    def __init__(self, params: dict[str, Any], files: NodeFiles) -> None:
        self.params = params
        self.files = files

    def said(self, *argv: str) -> str:
        """Return what a tool prints, or nothing where it cannot say."""
        try:
            output = run(list(argv), self.params["timeout"])
        except CommandError:
            return ""
        return "" if output.rc else output.stdout

    def number(self, sysctl: str) -> str:
        path = "/proc/sys/" + sysctl.replace(".", "/")
        return (self.files.read(path) or "").strip()

    def systemd(self) -> tuple[Systemd, str]:
        """Return what tells whether systemd runs the node; a unit's default limit of open files."""
        booted = self.files.exists("/run/systemd/system")
        first = (self.files.read("/proc/1/comm") or "").strip()
        try:
            output = run(
                ["systemctl", "show", "--property=DefaultLimitNOFILE,Version"],
                self.params["timeout"],
            )
        except CommandError as error:
            return Systemd(booted, first, problem=str(error)), ""
        if output.rc:
            return Systemd(booted, first, problem=output.text), ""
        manager = parse_show(output.stdout)[0]
        version = manager.get("Version", "")
        return Systemd(booted, first, version), manager.get("DefaultLimitNOFILE", "")

    def units(self) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Return Docker's unit, and those of Muster's that run here."""
        names = "LoadState,ActiveState,LimitNOFILE,MainPID"
        own_units = self.params["own_units"]
        said = self.said("systemctl", "show", UNIT, *own_units, f"--property={names}")
        docker, *own = parse_show(said)
        return docker, [unit for unit in own if unit.get("ActiveState") == "active"]

    def open_files(
        self, docker: dict[str, str], running: list[dict[str, str]], default: str
    ) -> OpenFiles:
        """Return how many files an engine may open: its container, or its unit if it has none."""
        if self.params["images"]:
            # A container has the daemon's limit, unless the daemon is told another one.
            try:
                told = default_open_files(read_daemon_json(self.files))
            except DockerError:
                # The check of Docker says so.
                told = ""
            if told:
                return OpenFiles(UNIT, told, told)
            asked, owner = docker.get("LimitNOFILE") or default, UNIT
            main = docker.get("MainPID", "")
        else:
            asked, owner = str(OPEN_FILES), "Muster's units"
            main = next((unit.get("MainPID", "") for unit in running), "")
        measured = host_checks.open_files_of(self.files.read(f"/proc/{main}/limits") or "")
        own = host_checks.open_files_of(self.files.read("/proc/1/limits") or "")
        got = measured or host_checks.granted(
            asked, own, self.number("fs.nr_open"), may_raise_limits()
        )
        return OpenFiles(owner, got, asked)

    def clock(self) -> Check:
        container = self.said("systemd-detect-virt", "--container").strip()
        if container:
            # It is not the container's to keep, and timedatectl would start a service for it.
            return host_checks.clock_sync_check(container, {})
        problem = ""
        timedate: dict[str, str] = {}
        try:
            output = run(["timedatectl", "show"], self.params["timeout"])
        except CommandError as error:
            problem = str(error)
        else:
            timedate = host_checks.properties(output.stdout)
            problem = output.text if output.rc else ""
        return host_checks.clock_sync_check("", timedate, problem)

    def memory(self, running: bool) -> list[Check]:
        memory = host_checks.meminfo(self.files.read("/proc/meminfo") or "")
        checks = [host_checks.hugepages_check(memory)]
        if self.params["memory_gb"]:
            checks.append(host_checks.memory_check(memory, self.params["memory_gb"], running))
        if self.params["shm_gb"]:
            size, free = self.shm()
            checks.append(host_checks.shm_check(size, free, self.params["shm_gb"], running))
        return checks

    def shm(self) -> tuple[int | None, int | None]:
        """Return the bytes of the shared memory, and what is free of it; null if there is none."""
        try:
            shm = os.statvfs(SHM)
        except OSError:
            return None, None
        return shm.f_blocks * shm.f_frsize, shm.f_bavail * shm.f_frsize

    def docker(self, unit: dict[str, str], release: dict[str, str]) -> tuple[Docker, str]:
        """Return Docker, and where it keeps its images."""
        load, active = unit.get("LoadState", ""), unit.get("ActiveState") == "active"
        lack = lack_of(release, load == "loaded", client_of(self.files))
        root = DOCKER_ROOT
        try:
            config = load_daemon_json(read_daemon_json(self.files))
            root = str(config.get("data-root") or root)
            # Its socket would start a daemon that is asked.
            info = docker_info(self.params["timeout"]) if active and not lack else {}
        except (CommandError, DockerError) as error:
            return Docker(load, active, str(error), lack=lack), root
        seen = {name: str(value or "") for name, value in summary(info).items()}
        docker = Docker(
            load,
            active,
            "",
            seen["version"],
            seen["cgroup_driver"],
            seen["cgroup_version"],
            lack,
            security_of(info),
            (self.files.read("/sys/fs/selinux/enforce") or "").strip() == "1",
        )
        return docker, seen["root_dir"] or root

    def gpu_access(self) -> list[Check]:
        """Check whether running containers keep their GPUs; only NVIDIA's may lose them."""
        if self.params["vendor"] != "nvidia":
            return []
        try:
            lost = observe_losers(self.files, self.params["timeout"])
        except CommandError as error:
            return access_check([], [], str(error))
        return access_check(lost, self.params["own_units"])

    def has_images(self) -> bool:
        names = self.params["images"]
        return bool(self.said("docker", "image", "inspect", "--format", "{{.Id}}", *names))

    def held(self, path: str) -> int:
        """Return the bytes that a path has already of what it needs."""
        said = self.said("du", "-sk", path)
        return int(said.split()[0]) * 1024 if said[:1].isdigit() else 0

    def space(self, path: str, held: int) -> Space | None:
        """Return what is free where a path lies or will lie."""
        while True:
            seen = host_checks.free_space(self.said("df", "-Pk", path))
            if seen or path == "/":
                return Space(seen.mount, seen.free, held) if seen else None
            path = os.path.dirname(path)

    def disks(self, root: str, images: bool) -> list[Check]:
        wanted = [
            (entry["what"], entry["path"], entry["need_gb"], False) for entry in self.params["disk"]
        ]
        if images:
            wanted.append(("images", None, self.params["image_gb"], True))
        needs, unknown = [], []
        for what, path, size, estimate in wanted:
            # What Docker keeps already may be anything.
            space = self.space(path, self.held(path)) if path else self.space(root, 0)
            if space is None:
                unknown.append(path or root)
            else:
                needs.append(Need(what, int(size * GB), space, estimate))
        return [
            *host_checks.disk_checks(needs),
            *(
                check(
                    "host-disk",
                    "unknown",
                    path,
                    "df does not say how much is free",
                    "free space",
                    f"df {path}",
                )
                for path in unknown
            ),
        ]

    def nearest(self, path: str) -> str:
        """Return a path, or what of it exists already.

        Raises:
            OSError: Its file system does not let it be seen.
        """
        try:
            os.stat(self.files.path(path))
        except FileNotFoundError:
            return self.nearest(os.path.dirname(path))
        return path

    def folder(self, path: str, points: list[str]) -> Folder:
        """Return what forbids to write to a folder, or to make it where it is missing."""
        try:
            there = self.files.path(self.nearest(path))
            read_only = bool(os.statvfs(there).f_flag & os.ST_RDONLY)
            mount = host_checks.mount_of(os.path.realpath(there), points)
        except OSError as error:
            return Folder(path, problem=error.strerror or str(error))
        # It asks the kernel and writes nothing. chattr +i and a server's refusal show as well.
        refused = not read_only and not os.access(there, os.W_OK)
        return Folder(path, mount, read_only, "may not be written to" if refused else "")

    def folders(self, root: str) -> list[Folder]:
        """Return the folders that are written to, with Docker's own where it has to run images."""
        paths = self.params["writes"] + ([root] if self.params["images"] else [])
        points = host_checks.mount_points(self.files.read("/proc/self/mountinfo") or "")
        seen: dict[str, Folder] = {}

        def look_at(path: str) -> None:
            seen[path] = self.folder(path, points)

        # A shared file system that has gone away blocks its reader for ever: its thread is left.
        readers = [Thread(target=look_at, args=(path,), daemon=True) for path in paths]
        for reader in readers:
            reader.start()
        timeout = self.params["timeout"]
        until = time.monotonic() + timeout
        for reader in readers:
            reader.join(max(0, until - time.monotonic()))
        silent = f"no answer from its file system within {timeout:g} s"
        return [seen.get(path) or Folder(path, problem=silent) for path in paths]

    def name(self) -> Check:
        name = socket.gethostname()
        lines = self.said("getent", "ahosts", name).splitlines()
        addresses = list(dict.fromkeys(line.split()[0] for line in lines if line.split()))
        return host_checks.name_check(
            name, addresses, self.params["multi_node"], self.params["address"]
        )

    def key_file(self, path: str) -> KeyFile:
        try:
            seen = os.stat(self.files.path(path))
        except OSError as error:
            return KeyFile(path, error.strerror or str(error))
        if not stat.S_ISREG(seen.st_mode):
            return KeyFile(path, "not a file")
        return KeyFile(
            path, "", stat.S_IMODE(seen.st_mode), not (self.files.read(path) or "").strip()
        )

    def weights(self, keep_hashes: bool) -> tuple[list[Check], dict[str, str | None]]:
        """Return the checks on the weights, and the facts by which they are compared."""
        path, draft, wanted, architecture = (
            self.params[name]
            for name in ("model_path", "draft_path", "model_format", "model_architecture")
        )
        if not path:
            return [], {}
        models = [Model(path), *([Model(draft, draft=True)] if draft else [])]
        answered, checks = inspect(models, self.params["timeout"])
        if not answered:
            return checks, {}
        facts = answered[0].facts
        if architecture and facts["architecture"]:
            seen = facts["architecture"]
            checks.append(host_checks.architecture_check(path, architecture, seen))
        # What has no readable configuration has no format, either.
        if wanted and facts["model_type"]:
            checks.append(host_checks.format_check(path, wanted, facts, answered[0].names))
        index = facts["index_sha256"]
        compared = {"weights_index": index and index[:12]}
        if self.params["weights_hashes"]:
            hashes, compared["weights_hash"] = hash_checks(models, self.files, keep_hashes)
            checks += hashes
        return checks, compared


def observe(params: dict[str, Any], files: NodeFiles, keep_hashes: bool) -> dict[str, Any]:
    """Return the checks of a host, and the facts that are compared between nodes."""
    host = Host(params, files)
    release = host_checks.properties(files.read("/etc/os-release") or "")
    systemd, default_limit = host.systemd()
    unit, running = host.units()
    holding = bool(running) or is_taken_over(params["own_units"])
    checks = [host_checks.systemd_check(systemd), host.clock(), *host.memory(holding)]
    checks += host_checks.system_checks(
        release, platform.release(), platform.machine(), params["vendor"]
    )
    python = f"{platform.python_version()} ({sys.executable})"
    checks.append(check("host-python", "ok", "python", python, "3.8 or later"))
    checks.append(host.name())

    root, answers = DOCKER_ROOT, False
    if params["images"]:
        docker, root = host.docker(unit, release)
        checks += host_checks.docker_checks(docker)
        answers = docker.active and not docker.problem and not docker.lack
    checks += host.gpu_access()
    room = host.disks(root, images=bool(params["images"]))
    # Images that are there already need no room; where it would do anyway, nobody has to know.
    if answers and any(one["status"] != "ok" for one in room) and host.has_images():
        room = host.disks(root, images=False)
    checks += room
    checks += host_checks.writable_checks(host.folders(root))
    limits = {name: host.number(name) for name in host_checks.LIMITS}
    checks += host_checks.limit_checks(limits, host.open_files(unit, running, default_limit))
    checks += host_checks.key_file_checks([host.key_file(path) for path in params["key_files"]])
    weights, compared = host.weights(keep_hashes)
    return {"checks": checks + weights, "facts": compared}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return the checks of a host, their facts, and the node's clock in seconds of the epoch.

    Raises:
        OptionError: There is no such vendor.
    """
    if params["vendor"] not in (None, *VENDORS):
        raise OptionError(f"vendor: {params['vendor']} is none of {', '.join(VENDORS)}")
    # First, since what passes before it blurs by how much the node's clock is off.
    began = time.time()
    result = observe(params, NodeFiles(), keep_hashes=not check_mode)
    return {**result, "clock": {"began": began, "ended": time.time()}}
