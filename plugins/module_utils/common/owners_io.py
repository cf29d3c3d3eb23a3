# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads to whom a process belongs from /proc and from Docker's records."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    CONMON,
    Owner,
    deployment_of,
    parse_cgroup,
    watched_by,
)
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    PREFIX,
    UNITS_DIR,
)


def read_owner(
    pid: int,
    proc: Path = Path("/proc"),
    docker_root: Path | None = None,
    units: Path = Path(UNITS_DIR),
) -> Owner:
    """Return what is known about a process; it may have ended meanwhile."""
    node = _read(proc / "1" / "cgroup")
    unit, container_id = parse_cgroup(_read(proc / str(pid) / "cgroup"), node)
    name, container = _read(proc / str(pid) / "comm").strip(), ""
    if name == CONMON:
        container_id, container = watched_by(_read(proc / str(pid) / "cmdline").split("\0"))
    if container_id and not container:
        container = container_name(container_id, docker_root)
    service = next((name for name in (container, unit) if name.startswith(PREFIX)), "")
    return Owner(
        pid=pid,
        name=name,
        unit=unit,
        container_id=container_id,
        container=container,
        deployment=deployment_of(service, installed_units(units)) if service else "",
    )


def open_files(directory: Path) -> list[str]:
    """Return where a process's file descriptors lead; nothing when it has ended or is not ours."""
    links = []
    try:
        for entry in os.scandir(directory):
            links.append(os.readlink(entry.path))  # noqa: PERF401 (what was read before an error counts)
    except OSError:
        pass
    return links


def installed_units(folder: Path) -> dict[str, str]:
    """Return by name of an installed unit of Muster its deployment."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = str(json_text.parse(_read(path))["deployment"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def container_name(container_id: str, docker_root: Path | None = None) -> str:
    """Return the name of a Docker container, or nothing.

    Docker's own record is read first: it answers at once, and also while the daemon hangs.
    """
    record = (docker_root or Path("/var/lib/docker")) / "containers" / container_id
    try:
        name = json.loads(_read(record / "config.v2.json"))["Name"]
        return str(name).lstrip("/")
    except (ValueError, KeyError, TypeError):
        pass
    try:
        output = run(["docker", "inspect", "--format", "{{.Name}}", container_id], timeout=5)
    except CommandError:
        return ""
    return output.stdout.strip().lstrip("/") if output.rc == 0 else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
