# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was observed of a node's NPUs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection

from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn, npu_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    devices_text,
)


@dataclass
class Npus(npu_smi.Info):
    """What a node's NPUs are like, as far as npu-smi tells: its table, and what was asked after it.

    failure says that the tool gave up, so that the rest is unknown.
    """

    nodes: list[int] = field(default_factory=list)  # the N of every /dev/davinciN
    loaded: bool | None = None  # whether the driver shows any device node
    # By device, of those that were asked for; null, or without a value, where it is not told.
    ecc: dict[int, npu_smi.Ecc | None] = field(default_factory=dict)
    boards: dict[int, npu_smi.Board] = field(default_factory=dict)
    super_pods: dict[int, npu_smi.SuperPod | None] = field(default_factory=dict)
    said: dict[tuple[int, str], str] = field(default_factory=dict)  # by device and query
    # By card and chip, the driver's codes of what is not well; null where they were not told.
    codes: dict[tuple[int, int | None], list[str] | None] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)  # the devices for which it did not answer

    def error_codes(self, device: npu_smi.Npu) -> list[str] | None:
        """Return the driver's codes of what is wrong with a device."""
        return self.codes.get((device["npu_id"], device["chip_id"]), [])


def missing_devices(npus: Npus, used: Collection[int] = ()) -> list[str]:
    """Return which devices npu-smi or /dev does not have, without those that are used."""
    if not npus.devices:
        return []
    listed = {device["device_id"] for device in npus.devices if device["device_id"] is not None}
    nodes = set(npus.nodes)
    lost, hidden = nodes - listed - set(used), listed - nodes - set(used)
    problems = []
    if lost:
        problems.append(f"npu-smi does not list {devices_text(lost)}, which /dev has")
    if hidden:
        problems.append(f"/dev has no davinci node for {devices_text(hidden)}")
    # These servers count their devices through; other cards' numbers have gaps of their own.
    missing = set(range(max(listed | nodes, default=0))) - listed - nodes - set(used)
    if missing and npus.layout in ("a2", "a3"):
        problems.append(f"neither npu-smi nor /dev has {devices_text(missing)}")
    return problems


@dataclass
class Fabric:
    """What the devices' own network ports are like.

    A value is null where the tool did not tell it, and empty where it is not set. What is not
    there was not asked: a net health that is a success tells link and detect address, and
    /etc/hccn.conf the rest, where confirmed says so.
    """

    net_health: dict[int, str | None] = field(default_factory=dict)
    link: dict[int, str | None] = field(default_factory=dict)
    address: dict[int, str | None] = field(default_factory=dict)
    gateway: dict[int, str | None] = field(default_factory=dict)
    detect_address: dict[int, str | None] = field(default_factory=dict)
    tls: dict[int, str | None] = field(default_factory=dict)
    vnic: dict[int, hccn.Vnic | None] = field(default_factory=dict)
    neighbour: tuple[int, str | None] | None = None  # of one device that has a link
    configuration: hccn.Configuration = field(default_factory=dict)
    configured: bool = True  # there is a /etc/hccn.conf, whatever is in it
    # By key of hccn.conf, the devices whose value is the file's, as one of them has confirmed.
    confirmed: dict[str, set[int]] = field(default_factory=dict)
    said: dict[tuple[int, str], str] = field(default_factory=dict)  # by device and command
    stuck: dict[int, str] = field(default_factory=dict)  # the devices for which the tool hung
    absent: bool = False
    failure: str | None = None  # the tool gave up, so that the rest is unknown
    problems: list[str] = field(default_factory=list)  # of hccn.conf

    def is_up(self, device: int) -> bool | None:
        if self.net_health.get(device) == hccn.HEALTHY:
            return True
        link = self.link.get(device)
        return None if link is None else link == "UP"


@dataclass
class Pings:
    """What came back from the NPUs of other nodes, by device and address."""

    answers: dict[tuple[int, str], hccn.Ping | None] = field(default_factory=dict)
    said: dict[tuple[int, str], str] = field(default_factory=dict)
    own: list[tuple[int, str]] = field(default_factory=list)  # addresses of this node itself
    untried: list[tuple[int, str]] = field(default_factory=list)
    stuck: dict[int, str] = field(default_factory=dict)  # the devices for which the tool hung
    failure: str | None = None  # why the rest was not tried
