# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""To whom a process belongs: its systemd unit and its container, by its control group.

What a unit of Muster holds is let go by a stop of its deployment alone: systemd starts a unit again
whose container is stopped.
"""

from __future__ import annotations

import re
from typing import Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import HOSTS
from ansible_collections.muster.serving.plugins.module_utils.common.paths import PREFIX

# docker-<id>.scope and libpod-<id>.scope (systemd driver), /docker/<id> (cgroupfs driver).
_CONTAINER_ID = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
# Podman's, one for each container: it holds the ports that are published for it.
CONMON = "conmon"


class Owner(NamedTuple):
    """A process and what started it. Fields are empty where nothing is known."""

    pid: int
    name: str = ""
    unit: str = ""
    container_id: str = ""
    container: str = ""
    # Of Muster, whose unit or agent it is.
    deployment: str = ""

    def __str__(self) -> str:
        text = f"pid {self.pid}"
        if self.name:
            text += f" ({self.name})"
        if self.container or self.container_id:
            text += f" in container {self.container or self.container_id[:12]}"
        elif self.unit:
            text += f" of {self.unit}"
        return text + (f" of {self.deployment}, a deployment of Muster" if self.deployment else "")

    def belongs_to(self, units: Collection[str]) -> bool:
        """Tell whether one of these systemd units runs the process, itself or in its container.

        Docker starts a container's processes in a control group of its own, outside the unit that
        ran docker run; Muster gives both the same name. A unit may be a process, see pid_unit.
        """
        container = f"{self.container}.service" if self.container else ""
        return any(one and one in units for one in (self.unit, container, pid_unit(self.pid)))


def pid_unit(pid: int) -> str:
    """Return what a process that the run stops is called among the units that may hold things."""
    return f"pid-{pid}.scope"


def is_taken_over(units: Iterable[str]) -> bool:
    """Tell whether units that may hold things are others than Muster's: the run stops them."""
    return any(not unit.startswith(PREFIX) for unit in units)


def held_by(owners: Iterable[Owner]) -> str:
    """Return how a check tells of units that may hold things."""
    names = (owner.container or owner.unit for owner in owners)
    mine = all(name.startswith(PREFIX) for name in names)
    return "held by Muster's own units" if mine else "held by what this run stops first"


def deployment_of(service: str, installed: Mapping[str, str]) -> str:
    """Return whose a service or container of Muster is; empty where it is not Muster's or unknown.

    Args:
        service: Its name.
        installed: By name of an installed unit, its deployment.
    """
    match = re.fullmatch(rf"{PREFIX}(.+?)(?:\.service)?", service)
    if match is None:
        return ""
    name = match.group(1)
    # An agent's name, too, begins with its deployment's.
    near = (one for one in installed.values() if name.startswith(f"{one}-"))
    return installed.get(name) or max(near, key=len, default="")


def stop_command(deployment: str) -> str:
    """Return the command that stops all of a deployment on the nodes of this run."""
    return f"ansible-playbook playbooks/stop.yml -l {HOSTS} -e muster_cluster={deployment}"


def way_to_end(owners: Iterable[Owner]) -> str:
    """Return how to end what holds something; empty where nobody is known to."""
    owners = list(owners)
    deployments = sorted({owner.deployment for owner in owners if owner.deployment})
    if deployments:
        commands = " and ".join(stop_command(one) for one in deployments)
        return f"stop the deployment that it belongs to: {commands}"
    for owner in owners:
        # A unit of Muster whose file has gone still starts its container again.
        unit = f"{owner.container}.service" if owner.container else owner.unit
        if owner.container and not owner.container.startswith(PREFIX):
            engine = "podman" if owner.name == CONMON else "docker"
            return f"stop it: {engine} stop {owner.container}"
        if unit and not unit.startswith(("session-", "user@", "ssh")):
            return f"stop it: systemctl stop {unit}"
    pids = " ".join(sorted({str(owner.pid) for owner in owners}))
    return f"end it: kill {pids}" if pids else ""


def watched_by(argv: Sequence[str]) -> tuple[str, str]:
    """Return the id and the name of the container that a conmon watches, by its command line."""
    # Behind its own options stand those of the command that it runs at the end.
    said = dict(reversed([*zip(argv, argv[1:])]))
    return said.get("-c", ""), said.get("-n", "")


def parse_cgroup(text: str, node: str = "") -> tuple[str, str]:
    """Return the innermost systemd unit and the container id in the text of /proc/PID/cgroup.

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
