# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes, timed: how long one ran, what CPU time it and its children took, their memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def measured(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], *, memory: bool = False
) -> dict[str, Any]:
    """Run a command and return {wall_s, cpu_s, busy_percent, said}, with memory also its memory_mb.

    CPU time is that of the process and of those that it has waited for. SSH's masters, which
    outlive a run of Ansible, are not among them. busy_percent is this machine's, whoever used it.

    Raises:
        SystemExit: The command failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        busy, there = machine_ticks()
        begun = time.monotonic()
        process = subprocess.Popen(
            argv, cwd=cwd, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        watch = Watch(process.pid) if memory else None
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        busy, there = (now - then for now, then in zip(machine_ticks(), (busy, there), strict=True))
        output.seek(0)
        said = output.read()
    figures: dict[str, Any] = {
        "wall_s": round(wall, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "busy_percent": round(100 * busy / max(there, 1)),
        "said": said,
    }
    if watch:
        figures.update(watch.end())
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)[:300]}: rc {process.returncode}\n{said[-4000:]}")
    return figures


class Watch:
    """Looks again and again at the memory of a process and all below it.

    A page that several of them share counts once (PSS): Ansible forks a worker for each host, and
    their resident sets are mostly their parent's.
    """

    EVERY_S = 0.25

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._pss = self._rss = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> dict[str, int]:
        """Return the most that was seen at once: {memory_mb, resident_mb}, in 10^6 bytes."""
        self._over.set()
        self._thread.join()
        return {"memory_mb": self._pss * 1024 // 10**6, "resident_mb": self._rss * 1024 // 10**6}

    def _look(self) -> None:
        while not self._over.wait(self.EVERY_S):
            pss, rss = 0, 0
            for pid in tree(self._pid):
                found = rollup(pid)
                pss, rss = pss + found.get("Pss", 0), rss + found.get("Rss", 0)
            self._pss, self._rss = max(self._pss, pss), max(self._rss, rss)


def tree(root: int) -> list[int]:
    """Return a process and all below it, as far as they still are."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += (int(child) for child in children.read_text().split())
            except OSError:
                continue
    return found


def rollup(pid: int) -> dict[str, int]:
    """Return a process's memory by kind, in KiB; nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {name.rstrip(":"): int(number) for name, number, *_unit in words}


def machine_ticks() -> tuple[int, int]:
    """Return how long this machine's cores have been at work, and how long there have been any."""
    first_line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, idle, iowait, *rest = (int(word) for word in first_line.split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait
