# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a node's Ascend tools what its NPUs are like. Everything that is run is run from here."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.muster.serving.plugins.module_utils import hccn, npu_smi
from ansible_collections.muster.serving.plugins.module_utils.command import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.device_checks import devices_text
from ansible_collections.muster.serving.plugins.module_utils.tool_text import excerpt

NPU_SMI_FOLDERS = ("/usr/local/bin", "/usr/local/sbin")
HCCN_CONF = "/etc/hccn.conf"


class Tool:
    """One of the driver's tools, asked within bounds.

    A call may take C(timeout) seconds, and all calls together twice as long. A tool that once did
    not answer is not asked again, so a hanging driver costs one timeout.
    """

    def __init__(self, name: str, path: str | None, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self.failure = None if path else f"{name} is not on this node"
        self._name = name
        self._deadline: float | None = None

    def ask(self, *arguments: str) -> Output | None:
        """What the tool answers, or nothing, with the reason in C(failure)."""
        if self.failure or not self.path:
            return None
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + 2 * self.timeout
        left = self._deadline - now
        if left <= 0:
            self.failure = f"{self._name} took more than {2 * self.timeout:g} s in all"
            return None
        try:
            return run([self.path, *arguments], min(self.timeout, left))
        except CommandError as error:
            self.failure = str(error)
            return None

    def ask_alone(self, *arguments: str) -> Output | None:
        """Ask a tool that refuses a second caller, such as a metrics exporter beside us."""
        patience = time.monotonic() + self.timeout
        while True:
            output = self.ask(*arguments)
            if output is None or hccn.BUSY not in output.stdout + output.stderr:
                return output
            if time.monotonic() >= patience:
                self.failure = f"{self._name} was busy with other calls for {self.timeout:g} s"
                return None
            time.sleep(0.2)


def find_npu_smi(path: str | None, timeout: float) -> Tool:
    """npu-smi as the caller names it, or where the driver's installer puts it."""
    folders = os.pathsep.join([*NPU_SMI_FOLDERS, os.environ.get("PATH", "")])
    return Tool("npu-smi", path or shutil.which("npu-smi", path=folders), timeout)


# --- npu-smi ----------------------------------------------------------------------------------


@dataclass
class Npus:
    """What a node's NPUs are like, as far as npu-smi tells."""

    devices: list[npu_smi.Device] = field(default_factory=list)
    version: str | None = None
    tool_version: str | None = None
    layout: str | None = None
    topology: npu_smi.Topology | None = None
    problems: list[str] = field(default_factory=list)


def device_numbers(folder: str = "/dev") -> list[int]:
    """The N of every C(/dev/davinciN)."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = (re.fullmatch(r"davinci(\d{1,4})", name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def observe_npus(tool: Tool, nodes: list[int]) -> Npus:
    """Ask for devices, topology, and the error codes of what is not well.

    Args:
        tool: npu-smi.
        nodes: The devices that have a device node. The driver leaves a lost card out of its table
            without a word; its node is what remains.
    """
    answer = tool.ask("info")
    if answer is None:
        return Npus(problems=[str(tool.failure)])
    info = npu_smi.parse_info(answer.stdout + answer.stderr)
    npus = Npus(info.devices, info.version, info.tool_version, info.layout, None, info.problems)
    if answer.rc != 0:
        npus.problems.append(f"npu-smi info ended with exit code {answer.rc}")
    if not npus.devices:
        return npus
    npus.problems += _against_nodes(npus.devices, nodes)
    for device in npus.devices:
        device["error_codes"] = [] if device["health"] == "OK" else _error_codes(tool, device)
    answer = tool.ask("info", "-t", "topo")
    if answer is not None:
        npus.topology, problems = npu_smi.parse_topology(answer.stdout + answer.stderr)
        npus.problems += problems
    if tool.failure:
        npus.problems.append(tool.failure)
    return npus


def _against_nodes(devices: list[npu_smi.Device], nodes: list[int]) -> list[str]:
    listed = {device["device_id"] for device in devices if device["device_id"] is not None}
    lost, hidden = set(nodes) - listed, listed - set(nodes)
    problems = []
    if lost:
        problems.append(f"npu-smi does not list {devices_text(lost)}, which /dev has")
    if hidden:
        problems.append(f"/dev has no davinci node for {devices_text(hidden)}")
    return problems


def _error_codes(tool: Tool, device: npu_smi.Device) -> list[str] | None:
    where = ["-i", str(device["npu_id"])]
    if device["chip_id"] is not None:
        where += ["-c", str(device["chip_id"])]
    answer = tool.ask("info", "-t", "health", *where)
    return npu_smi.parse_error_codes(answer.stdout) if answer else None


def topology_result(topology: npu_smi.Topology | None) -> dict[str, Any] | None:
    """The topology as modules return it."""
    return None if topology is None else topology._asdict()


# --- hccn_tool --------------------------------------------------------------------------------


@dataclass
class Fabric:
    """What the devices' own network ports are like.

    A value is null where the tool did not tell it, and empty where it is not set.
    """

    link: dict[int, str | None] = field(default_factory=dict)
    net_health: dict[int, str | None] = field(default_factory=dict)
    tls: dict[int, int | None] = field(default_factory=dict)
    address: dict[int, str | None] = field(default_factory=dict)
    gateway: dict[int, str | None] = field(default_factory=dict)
    detect_address: dict[int, str | None] = field(default_factory=dict)
    neighbour: str | None = None  # of the first device
    said: dict[tuple[int, str], str] = field(default_factory=dict)  # by device and command
    failure: str | None = None  # the tool gave up, so that the rest is unknown
    problems: list[str] = field(default_factory=list)


def read_text(path: str) -> str:
    """The text of a file that may not be there, or may be a directory that Docker put there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def observe_fabric(tool: Tool, configuration: str, devices: list[int]) -> Fabric:
    """Ask hccn_tool for each device in turn: it refuses concurrent calls.

    Args:
        tool: hccn_tool.
        configuration: The text of C(/etc/hccn.conf). What it holds is not asked for.
        devices: The devices to look at.
    """
    settings, problems = hccn.parse_configuration(configuration)
    fabric = Fabric(problems=problems)

    def ask(device: int, command: str) -> str | None:
        answer = tool.ask_alone("-i", str(device), f"-{command}", "-g")
        if answer is None:
            return None
        fabric.said[device, command] = excerpt(answer.text)
        return answer.stdout

    def setting(
        device: int, key: str, command: str, parse: Callable[[str], str | None]
    ) -> str | None:
        value = settings.get(device, {}).get(key, "")
        if hccn.is_address(value):
            return value
        text = ask(device, command)
        return None if text is None else parse(text) or ""

    # Command by command: should the time run out, then the most telling answers are there.
    for device in devices:
        fabric.link[device] = hccn.parse_link(ask(device, "link") or "")
    for device in devices:
        fabric.net_health[device] = hccn.parse_net_health(ask(device, "net_health") or "")
    for device in devices:
        fabric.tls[device] = hccn.parse_tls(ask(device, "tls") or "", device)
    for device in devices:
        fabric.address[device] = setting(device, "address", "ip", hccn.parse_address)
        fabric.gateway[device] = setting(device, "gateway", "gateway", hccn.parse_gateway)
        fabric.detect_address[device] = setting(
            device, "netdetect", "netdetect", hccn.parse_detect_address
        )
    if devices:
        fabric.neighbour = hccn.parse_neighbour(ask(devices[0], "lldp") or "")
    fabric.failure = tool.failure
    return fabric
