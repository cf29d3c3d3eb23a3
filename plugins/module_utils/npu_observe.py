# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a node's Ascend tools what its NPUs are like. Everything that is run is run from here."""

from __future__ import annotations

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

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
# npu-smi answers several callers; more than these would only queue in the driver.
CONCURRENT_CALLS = 4


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

    def ask_all(self, questions: Sequence[Sequence[str]]) -> list[Output | None]:
        """Ask several things, a few at a time. The answers come in the order of the questions."""
        with ThreadPoolExecutor(CONCURRENT_CALLS) as pool:
            return list(pool.map(lambda arguments: self.ask(*arguments), questions))

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
    nodes: list[int] = field(default_factory=list)  # the N of every /dev/davinciN
    # By device, of those that were asked for; null, or without a value, where it is not told.
    ecc: dict[int, npu_smi.Ecc | None] = field(default_factory=dict)
    boards: dict[int, npu_smi.Board] = field(default_factory=dict)
    super_pods: dict[int, npu_smi.SuperPod | None] = field(default_factory=dict)
    said: dict[tuple[int, str], str] = field(default_factory=dict)  # by device and query


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
    npus = Npus(
        info.devices, info.version, info.tool_version, info.layout, None, info.problems, nodes
    )
    if answer.rc != 0:
        npus.problems.append(f"npu-smi info ended with exit code {answer.rc}")
    if not npus.devices:
        return npus
    npus.problems += _against_nodes(npus, nodes)
    for device in npus.devices:
        device["error_codes"] = []
    sick = [device for device in npus.devices if device["health"] != "OK"]
    answers = tool.ask_all([_query("health", device) for device in sick])
    for device, answer in zip(sick, answers):
        device["error_codes"] = npu_smi.parse_error_codes(answer.stdout) if answer else None
    answer = tool.ask("info", "-t", "topo")
    if answer is not None:
        npus.topology, problems = npu_smi.parse_topology(answer.stdout + answer.stderr)
        npus.problems += problems
    if tool.failure:
        npus.problems.append(tool.failure)
    return npus


def _against_nodes(npus: Npus, nodes: list[int]) -> list[str]:
    listed = {device["device_id"] for device in npus.devices if device["device_id"] is not None}
    lost, hidden = set(nodes) - listed, listed - set(nodes)
    problems = []
    if lost:
        problems.append(f"npu-smi does not list {devices_text(lost)}, which /dev has")
    if hidden:
        problems.append(f"/dev has no davinci node for {devices_text(hidden)}")
    # These servers count their devices through; other cards' numbers have gaps of their own.
    missing = set(range(max(listed | set(nodes), default=0))) - listed - set(nodes)
    if missing and npus.layout in ("a2", "a3"):
        problems.append(f"neither npu-smi nor /dev has {devices_text(missing)}")
    return problems


def _query(kind: str, device: npu_smi.Device) -> list[str]:
    query = ["info", "-t", kind, "-i", str(device["npu_id"])]
    return query if device["chip_id"] is None else [*query, "-c", str(device["chip_id"])]


def observe_condition(tool: Tool, npus: Npus, wanted: list[int], *, super_pod: bool) -> None:
    """Ask for what the table does not tell: memory errors, firmware, place in the super pod.

    Args:
        tool: npu-smi.
        npus: What the table told; it is completed.
        wanted: The devices to ask for.
        super_pod: Whether the devices' place in a super pod matters.
    """
    devices = [device for device in npus.devices if device["device_id"] in wanted]
    kinds = ["ecc", *(["spod-info"] if super_pod else [])]
    asked = [(kind, [device]) for kind in kinds for device in devices]
    queries = [_query(kind, of[0]) for kind, of in asked]
    cards: dict[int, list[npu_smi.Device]] = {}
    for device in devices:
        cards.setdefault(device["npu_id"], []).append(device)
    for npu_id, chips in cards.items():
        asked.append(("board", chips))
        queries.append(["info", "-t", "board", "-i", str(npu_id)])
    for (kind, of), answer in zip(asked, tool.ask_all(queries)):
        if answer is None:
            continue
        for number in [device["device_id"] for device in of]:
            npus.said[number, kind] = excerpt(answer.text)
            if kind == "ecc":
                npus.ecc[number] = npu_smi.parse_ecc(answer.stdout)
            elif kind == "board":
                npus.boards[number] = npu_smi.parse_board(answer.stdout)
            else:
                npus.super_pods[number] = npu_smi.parse_super_pod(answer.stdout)
    if tool.failure and tool.failure not in npus.problems:
        npus.problems.append(tool.failure)


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
    configuration: hccn.Configuration = field(default_factory=dict)
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
        configuration: The text of C(/etc/hccn.conf).
        devices: The devices to look at.
    """
    settings, problems = hccn.parse_configuration(configuration)
    fabric = Fabric(configuration=settings, problems=problems)

    def ask(device: int, command: str) -> str | None:
        answer = tool.ask_alone("-i", str(device), f"-{command}", "-g")
        if answer is None:
            return None
        fabric.said[device, command] = excerpt(answer.text)
        return answer.stdout + answer.stderr

    def setting(device: int, command: str, parse: Callable[[str], str | None]) -> str | None:
        text = ask(device, command)
        if text is None:
            return None
        return "" if hccn.is_unset(text) else parse(text)

    # Command by command: should the time run out, then the most telling answers are there.
    for device in devices:
        fabric.link[device] = hccn.parse_link(ask(device, "link") or "")
    for device in devices:
        fabric.net_health[device] = hccn.parse_net_health(ask(device, "net_health") or "")
    for device in devices:
        fabric.tls[device] = hccn.parse_tls(ask(device, "tls") or "", device)
    for device in devices:
        fabric.address[device] = setting(device, "ip", hccn.parse_address)
        fabric.gateway[device] = setting(device, "gateway", hccn.parse_gateway)
        fabric.detect_address[device] = setting(device, "netdetect", hccn.parse_detect_address)
    if devices:
        fabric.neighbour = hccn.parse_neighbour(ask(devices[0], "lldp") or "")
    fabric.failure = tool.failure
    return fabric


@dataclass
class Pings:
    """What came back from the NPUs of other nodes, by device and address."""

    answers: dict[tuple[int, str], hccn.Ping | None] = field(default_factory=dict)
    said: dict[tuple[int, str], str] = field(default_factory=dict)
    untried: list[tuple[int, str]] = field(default_factory=list)
    failure: str | None = None  # why the rest was not tried


def ping_pairs(devices: list[int], peers: list[list[str]], *, full: bool) -> list[tuple[int, str]]:
    """Which device pings which address.

    Args:
        devices: The devices of this node.
        peers: For each peer, its devices' addresses in their order.
        full: Each device pings all addresses; otherwise of each peer the one at its own place, so
            that every device is tried once from each side.
    """
    return [
        (device, address)
        for addresses in peers
        if addresses
        for place, device in enumerate(devices)
        for address in (addresses if full else [addresses[place % len(addresses)]])
    ]


def observe_pings(tool: Tool, pairs: list[tuple[int, str]]) -> Pings:
    """Ping from one device after the other, as hccn_tool wants it."""
    pings = Pings()
    for device, address in pairs:
        answer = tool.ask_alone("-i", str(device), "-ping", "-g", "address", address)
        if answer is None:
            pings.untried.append((device, address))
            continue
        pings.said[device, address] = excerpt(answer.text)
        pings.answers[device, address] = hccn.parse_ping(answer.stdout)
    pings.failure = tool.failure
    return pings
