# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read how much memory the processes of a unit hold. Pure."""

from __future__ import annotations

import posixpath

# Anonymous and shared memory, by the names of both versions of the kernel's control groups. Pages
# of files are left out: the kernel takes those back.
_V2 = ("anon", "shmem")
_V1 = ("total_rss", "total_shmem")


def memory_stat_path(cgroup: str, mounts: str) -> str | None:
    """Return where the memory of a process's control group stands; None where that is not told.

    Args:
        cgroup: Its /proc/PID/cgroup.
        mounts: /proc/self/mountinfo, since in a container a part of the groups is mounted alone.
    """
    lines = [line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2]
    by_name = {controllers: path for _number, controllers, path in lines}
    for controllers, path in by_name.items():
        if "memory" in controllers.split(","):
            return _below("cgroup", "memory", path, mounts)
    return _below("cgroup2", "", by_name[""], mounts) if "" in by_name else None


def _below(kind: str, controller: str, path: str, mounts: str) -> str | None:
    for line in mounts.splitlines():
        before, _dash, after = line.partition(" - ")
        fields, (found, *options) = before.split(), after.split() or [""]
        named = not controller or (options and controller in options[-1].split(","))
        if len(fields) > 4 and found == kind and named:
            root, point = fields[3].rstrip("/"), fields[4]
            if root and path.startswith(f"{root}/"):
                path = path[len(root) :]
            return posixpath.join(point, path.strip("/"), "memory.stat")
    return None


def memory_bytes(stat: str) -> int | None:
    """Return the bytes that the processes of a control group hold, from its memory.stat."""
    values = {}
    for line in stat.splitlines():
        name, _blank, value = line.partition(" ")
        if value.strip().isdecimal():
            values[name] = int(value)
    names = _V2 if "anon" in values else _V1
    found = [values[name] for name in names if name in values]
    return sum(found) if found else None


def resident_bytes(status: str) -> int:
    """Return the bytes of anonymous pages that a process holds, from its /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            words = line.split()
            return 1024 * int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
    return 0
