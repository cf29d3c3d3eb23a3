# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman, driven so that it works on an ordinary machine and on a restricted one."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lab import machine
from lab.paths import state_dir
from lab.shell import run, say

LABEL = "muster-lab"


def containers_conf(*, may_raise_limits: bool, cgroup_v2: bool, open_files: int) -> str:
    """What podman must be told here; empty where its own defaults work."""
    lines: list[str] = []
    if not may_raise_limits:
        limits = f'["nofile={open_files}:{open_files}", "nproc=4096:4096"]'
        lines += ["[containers]", f"default_ulimits = {limits}"]
    if not cgroup_v2:
        lines += ["[engine]", 'runtime = "runc"']  # crun refuses hybrid cgroups
    return "\n".join([*lines, ""]) if lines else ""


@functools.cache
def environment() -> dict[str, str]:
    text = containers_conf(
        may_raise_limits=machine.may_raise_limits(),
        cgroup_v2=machine.has_cgroup_v2(),
        open_files=machine.open_files_limit(),
    )
    file = state_dir() / "containers.conf"
    if not text:
        file.unlink(missing_ok=True)
        return {}
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {"CONTAINERS_CONF": str(file)}


def podman(
    *args: str,
    timeout: float = 60,
    check: bool = True,
    stdin: bytes | None = None,
    log: Path | None = None,
) -> str:
    return run(
        ["podman", *args],
        timeout=timeout,
        check=check,
        stdin=stdin,
        log=log,
        env=environment(),
    ).stdout


def succeeds(*args: str) -> bool:
    return run(["podman", *args], check=False, env=environment()).returncode == 0


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    done = run(["podman", kind, "inspect", name], check=False, env=environment())
    if done.returncode != 0:
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0] if found else None


def containers(*, of_the_lab: bool = True) -> list[dict[str, Any]]:
    """The lab's own containers, or all of this machine; running or not."""
    filters = ["--filter", f"label={LABEL}"] if of_the_lab else []
    names = podman("ps", "-a", *filters, "--format", "{{.Names}}").split()
    # One that goes away meanwhile is left out, and makes podman end with an error.
    done = run(["podman", "container", "inspect", *names], check=False, env=environment())
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if names else []
    return found


def is_alive(container: dict[str, Any]) -> bool:
    """podman believes its records; a machine that was killed leaves them saying `running`."""
    state = container["State"]
    return bool(state["Running"]) and Path(f"/proc/{state['Pid']}").exists()


def forget_the_dead() -> None:
    """What podman still believes after a machine went down without stopping its containers.

    Where /run outlives a reboot, podman takes last boot's containers for running ones: it marks
    a boot with a file there, and one older than this boot is a leftover. And addresses stay
    leased to containers that cannot give them back; with no container alive all leases are void.
    """
    marker, leases = Path("/run/libpod/alive"), Path("/run/containers/networks/ipam.db")
    booted = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    if marker.exists() and marker.stat().st_mtime < booted:
        say("  podman's state is from before the last boot; letting podman refresh it")
        marker.unlink()
    if leases.exists() and not any(
        is_alive(container) for container in containers(of_the_lab=False)
    ):
        leases.unlink()


def remove_container(name: str) -> None:
    """Also what a killed machine left: a record whose processes and mounts are gone or stray."""
    if not succeeds("rm", "--force", "--volumes", "--time", "5", name):
        info = inspect("container", name)
        if info is None:
            return
        for mount in _stray_mounts(info["Id"]):
            run(["umount", "-l", mount], check=False)
        podman("rm", "--force", "--volumes", "--time", "0", name)


def _stray_mounts(container_id: str) -> list[str]:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((mount for mount in mounts if container_id in mount), reverse=True)


def run_attached(*args: str) -> int:
    """The caller's own streams, and the command's exit code."""
    return subprocess.run(["podman", *args], env={**os.environ, **environment()}).returncode
