# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""To whom a process belongs: its systemd unit and its container, by its control group."""

from __future__ import annotations

import re
from typing import Collection, NamedTuple

# docker-<id>.scope and libpod-<id>.scope (systemd driver), /docker/<id> (cgroupfs driver).
_CONTAINER_ID = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")


class Owner(NamedTuple):
    """A process and what started it. Fields are empty where nothing is known."""

    pid: int
    name: str = ""
    unit: str = ""
    container_id: str = ""
    container: str = ""

    def __str__(self) -> str:
        text = f"pid {self.pid}"
        if self.name:
            text += f" ({self.name})"
        if self.container or self.container_id:
            text += f" in container {self.container or self.container_id[:12]}"
        elif self.unit:
            text += f" of {self.unit}"
        return text

    def belongs_to(self, units: Collection[str]) -> bool:
        """Whether one of these systemd units runs the process, itself or in its container.

        Docker starts a container's processes in a control group of its own, outside the unit that
        ran docker run; Muster gives both the same name.
        """
        return self.unit in units or (bool(self.container) and f"{self.container}.service" in units)


def parse_cgroup(text: str, node: str = "") -> tuple[str, str]:
    """The innermost systemd unit and the container id in the text of /proc/PID/cgroup.

    Args:
        text: The control groups of the process.
        node: Those of process 1. A node may be a container itself; that one is not the process's.
    """
    outer = set(_CONTAINER_ID.findall(node))
    unit = container_id = ""
    for line in text.splitlines():
        path = line.split(":", 2)[-1]
        found_units = _UNIT.findall(path)
        found_ids = [one for one in _CONTAINER_ID.findall(path) if one not in outer]
        unit = unit or (found_units[-1] if found_units else "")
        container_id = container_id or (found_ids[-1] if found_ids else "")
    return unit, container_id
