# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of units, links and their services: composed and read here alone.

A unit is DEPLOYMENT-rREPLICA-rankRANK or DEPLOYMENT-gatewayINDEX. Its service and its container
are of that name behind PREFIX. A group is what starts and stops as one: a replica or a gateway.
"""

from __future__ import annotations

import re
from typing import Iterable

from ansible_collections.muster.serving.plugins.module_utils.common.paths import PREFIX

# What systemctl and the file system match all services of Muster by.
SERVICES = f"{PREFIX}*.service"

# Patterns of whole names, of which a group is the deployment. A name fits one deployment alone.
UNIT = r"(?P<deployment>.+)-(?:r[0-9]+-rank[0-9]+|gateway[0-9]+)"
LINK = r"(?P<deployment>.+)-r[0-9]+"
UNIT_OR_LINK = r"(?P<deployment>.+)-(?:r[0-9]+(?:-rank[0-9]+)?|gateway[0-9]+)"

_UNIT = re.compile(UNIT)
_RANK = re.compile(r"(?P<link>.+-r(?P<index>[0-9]+))-rank[0-9]+")
_GATEWAY = re.compile(r".+-gateway(?P<index>[0-9]+)")


def rank_name(deployment: str, replica: int, rank: int) -> str:
    """Return the name of the unit whose first rank this is."""
    return f"{link_name(deployment, replica)}-rank{rank}"


def gateway_name(deployment: str, index: int) -> str:
    """Return the name of a gateway's unit."""
    return f"{deployment}-gateway{index}"


def link_name(deployment: str, replica: int) -> str:
    """Return the name of the agents that restart a replica as one."""
    return f"{deployment}-r{replica}"


def replica_group(index: int) -> str:
    """Return the group of a replica's units."""
    return f"replica-{index}"


def gateway_group(index: int) -> str:
    """Return the group of one gateway."""
    return f"gateway-{index}"


def is_gateway(group: str) -> bool:
    """Return whether a group is a gateway, not a replica."""
    return group.startswith("gateway-")


def group_text(group: str) -> str:
    """Return what an operator calls a group: replica 0."""
    return group.replace("-", " ")


def service(name: str) -> str:
    """Return the systemd service of a unit."""
    return f"{PREFIX}{name}.service"


def container(name: str) -> str:
    """Return the container of a unit."""
    return f"{PREFIX}{name}"


def unit_of(systemd_unit: str) -> str:
    """Return the unit of a systemd service."""
    return systemd_unit[len(PREFIX) : -len(".service")]


def link_service(link: str) -> str:
    """Return the systemd service of a link."""
    return f"{PREFIX}{link}-link.service"


def address_service(deployment: str) -> str:
    """Return the systemd service that moves the gateways' floating address."""
    return f"{PREFIX}{deployment}-address.service"


def deployment_of(name: str) -> str:
    """Return the deployment of a unit by its name; empty for what is no unit's name."""
    match = _UNIT.fullmatch(name)
    return match["deployment"] if match else ""


def links_of(names: Iterable[str]) -> list[str]:
    """Return the links that may go with units: one a replica, by the units' names."""
    found = (_RANK.fullmatch(name) for name in names)
    return list(dict.fromkeys(match.group("link") for match in found if match))


def replicas_of(names: Iterable[str]) -> list[int]:
    """Return the replicas that units are of, by the units' names; gateways are of none."""
    found = (_RANK.fullmatch(name) for name in names)
    return sorted({int(match.group("index")) for match in found if match})


def gateways_of(names: Iterable[str]) -> list[str]:
    """Return the names that are gateways'."""
    return [name for name in names if _GATEWAY.fullmatch(name)]
