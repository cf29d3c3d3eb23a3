# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a node's Ascend tools what its NPUs are like. Everything that is run is run from here."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Collection, Mapping, Optional, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import excerpt
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn, npu_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observation import (
    Fabric,
    Npus,
    Pings,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import odd_ones
from ansible_collections.muster.serving.plugins.module_utils.devices.tools_io import ask, find_tool

NPU_SMI_FOLDERS = ("/usr/local/bin", "/usr/local/sbin")
HCCN_CONF = "/etc/hccn.conf"
# The driver makes it when it is loaded.
MANAGER = "/dev/davinci_manager"
# npu-smi answers several callers; more than these would only queue in the driver.
CONCURRENT_CALLS = 4
# The share of its timeout that hccn_tool has to answer for another device after it has hung.
RETRY = 0.2


class Tool:
    """One of the driver's tools, asked within bounds.

    A call may take timeout seconds, and all calls together twice as long.
    """

    def __init__(self, name: str, path: str | None, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self.absent = not path
        self.failure = None if path else f"{name} is not on this node"  # why it is asked no more
        self._name = name
        self._deadline: float | None = None

    def call(self, arguments: Sequence[str], seconds: float) -> Output | str | None:
        """Return the tool's answer, or how it hangs; nothing, with failure, once it is given up."""
        if self.failure or not self.path:
            return None
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + 2 * self.timeout
        left = self._deadline - now
        if left > 0:
            try:
                return ask([self.path, *arguments], min(seconds, left))
            except CommandError as error:
                if error.not_started:
                    self.absent, self.failure = True, str(error)
                    return None
                if left >= seconds:
                    said = " ".join([self._name, *arguments])
                    return f"{said} did not end within {seconds:g} s"
        self.failure = self.failure or f"{self._name} took over {2 * self.timeout:g} s in all"
        return None


class NpuSmi(Tool):
    """npu-smi, which answers several callers.

    Once a call hangs, no other is begun. What runs beside it comes to its end, so that one device
    that hangs costs one timeout and none of the others' answers.
    """

    def __init__(self, path: str | None, timeout: float) -> None:
        super().__init__("npu-smi", path, timeout)

    def ask(self, *arguments: str) -> Output | None:
        answer = self.call(arguments, self.timeout)
        if isinstance(answer, str):
            self.failure = self.failure or answer
            return None
        return answer

    def ask_several(self, questions: Sequence[Sequence[str]]) -> list[Output | None]:
        """Ask several things, a few at a time. The answers come in the order of the questions."""
        with ThreadPoolExecutor(CONCURRENT_CALLS) as pool:
            return list(pool.map(lambda arguments: self.ask(*arguments), questions))


class HccnTool(Tool):
    """hccn_tool, which refuses a second caller, such as a metrics exporter beside us.

    A device for which it hangs is not asked for again. Whether that is the device or the tool, the
    next device shows, in RETRY of the timeout; when a second one hangs, the tool is given up.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("hccn_tool", path, timeout)
        self.stuck: dict[int, str] = {}
        self._answers = True

    def ask(self, device: int, *arguments: str) -> Output | None:
        if device in self.stuck:
            return None
        seconds = self.timeout if self._answers else self.timeout * RETRY
        patience = time.monotonic() + seconds
        while True:
            answer = self.call(["-i", str(device), *arguments], seconds)
            if answer is None:
                return None
            if isinstance(answer, str):
                self._hangs(device, answer)
                return None
            if hccn.BUSY not in answer.stdout + answer.stderr:
                self._answers = True
                return answer
            if time.monotonic() >= patience:
                self._hangs(None, f"hccn_tool was busy with other calls for {seconds:g} s")
                return None
            time.sleep(0.2)

    def _hangs(self, device: int | None, said: str) -> None:
        if device is None or self.stuck:
            self.failure = said
        if device is not None:
            self.stuck[device] = said
            self._answers = False


def find_npu_smi(path: str | None, timeout: float) -> NpuSmi:
    """Return npu-smi as the caller names it, or where the driver's installer puts it."""
    return NpuSmi(find_tool("npu-smi", path, NPU_SMI_FOLDERS), timeout)


# --- npu-smi ----------------------------------------------------------------------------------


def device_numbers(folder: str = "/dev") -> list[int]:
    """Return the N of every /dev/davinciN."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = (re.fullmatch(r"davinci(\d{1,4})", name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def observe_npus(tool: NpuSmi, nodes: list[int]) -> Npus:
    """Read the table of devices.

    Args:
        tool: npu-smi.
        nodes: The devices that have a device node. The driver leaves a lost card out of its table
            without a word; its node is what remains.
    """
    loaded = bool(nodes) or os.path.exists(MANAGER)
    answer = tool.ask("info")
    if answer is None:
        said = str(tool.failure)
        return Npus(
            problems=[said],
            doubts=[said],
            nodes=nodes,
            failure=said,
            absent=tool.absent,
            loaded=loaded,
        )
    info = npu_smi.parse_info(answer.stdout + answer.stderr)
    npus = Npus(**vars(info), nodes=nodes)
    npus.loaded = loaded
    if not npus.devices:
        npus.printed = (answer.stdout + answer.stderr).strip()
    if answer.rc != 0:
        said = f"npu-smi info ended with exit code {answer.rc}"
        npus.whole = False
        npus.problems.append(said)
        npus.doubts.append(said)
    return npus


def observe_condition(
    tool: NpuSmi, npus: Npus, wanted: Collection[int] | None = None, *, super_pod: bool = False
) -> None:
    """Ask for what the table does not tell, all at once.

    These are the topology and the error codes of what is not well; of wanted devices also memory
    errors, firmware and the place in the super pod.

    Args:
        tool: npu-smi.
        npus: What the table told; it is completed.
        wanted: The devices that a deployment uses; without it no more is asked than error codes,
            of all devices.
        super_pod: Whether the devices' place in a super pod matters.
    """
    if not npus.devices:
        return
    asked: list[tuple[str, list[npu_smi.Npu], list[str]]] = [
        ("health", [device], _query("health", device))
        for device in npus.devices
        if device["health"] != "OK" and (wanted is None or device["device_id"] in wanted)
    ]
    devices = [device for device in npus.devices if device["device_id"] in (wanted or ())]
    cards: dict[int, list[npu_smi.Npu]] = {}
    for device in devices:
        cards.setdefault(device["npu_id"], []).append(device)
    for npu_id, chips in cards.items():
        asked.append(("board", chips, ["info", "-t", "board", "-i", str(npu_id)]))
    for kind in ["ecc", *(["spod-info"] if super_pod else [])]:
        asked += [(kind, [device], _query(kind, device)) for device in devices]
    asked.append(("topo", [], ["info", "-t", "topo"]))
    for (kind, of, _query_of), answer in zip(
        asked, tool.ask_several([query for *_of, query in asked])
    ):
        numbers = [device["device_id"] for device in of if device["device_id"] is not None]
        if answer is None:
            npus.silent.update(numbers)
            if kind == "health":
                npus.codes[of[0]["npu_id"], of[0]["chip_id"]] = None
        elif kind == "topo":
            npus.topology, problems = npu_smi.parse_topology(answer.stdout + answer.stderr)
            npus.problems += problems
        elif kind == "health":
            codes = npu_smi.parse_error_codes(answer.stdout)
            npus.codes[of[0]["npu_id"], of[0]["chip_id"]] = codes
        else:
            for number in numbers:
                _read_condition(npus, kind, number, answer)
    if tool.failure:
        npus.failure = tool.failure
        npus.problems.append(tool.failure)


def _query(kind: str, device: npu_smi.Npu) -> list[str]:
    query = ["info", "-t", kind, "-i", str(device["npu_id"])]
    return query if device["chip_id"] is None else [*query, "-c", str(device["chip_id"])]


def _read_condition(npus: Npus, kind: str, number: int, answer: Output) -> None:
    npus.said[number, kind] = excerpt(answer.text)
    if kind == "ecc":
        npus.ecc[number] = npu_smi.parse_ecc(answer.stdout)
    elif kind == "board":
        npus.boards[number] = npu_smi.parse_board(answer.stdout)
    else:
        npus.super_pods[number] = npu_smi.parse_super_pod(answer.stdout)


# --- hccn_tool --------------------------------------------------------------------------------


def read_text(path: str) -> str | None:
    """Return a file's text; nothing of one that is not there, or is a folder of Docker's making."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def observe_fabric(
    tool: HccnTool,
    configuration: str | None,
    devices: list[int],
    hccs: Collection[int] = (),
    *,
    full: bool = False,
) -> Fabric:
    """Ask hccn_tool for each device in turn: it refuses concurrent calls.

    Args:
        tool: hccn_tool.
        configuration: The text of /etc/hccn.conf, None where there is none.
        devices: The devices to look at.
        hccs: Those of them whose way to other nodes through HCCS matters, too.
        full: Each device tells its address itself. Otherwise configuration does, where one
            device confirms it; pings show what it has wrong for others.
    """
    settings, problems = hccn.parse_configuration(configuration or "")
    fabric = Fabric(configuration=settings, problems=problems, configured=configuration is not None)

    def ask(device: int, command: str) -> str:
        answer = tool.ask(device, f"-{command}", "-g")
        if answer is None:
            return ""
        fabric.said[device, command] = excerpt(answer.text)
        return answer.stdout + answer.stderr

    def setting(command: str, parse: Callable[[str], str | None]) -> Callable[[int], str | None]:
        def of(device: int) -> str | None:
            text = ask(device, command)
            if (device, command) in fabric.said and hccn.is_unset(text):
                return ""
            return parse(text)

        return of

    # Command by command: should the time run out, then the most telling answers are there.
    for device in devices:
        fabric.net_health[device] = hccn.parse_net_health(ask(device, "net_health"))
    for device in devices:
        if not fabric.is_up(device):
            fabric.link[device] = hccn.parse_link(ask(device, "link"))
    well = [device for device in devices if fabric.net_health[device] == hccn.HEALTHY]
    ask_address = setting("ip", hccn.parse_address)
    if not full:
        fabric.address = _confirm(fabric, "address", well, ask_address)
    for device in devices:
        if device not in fabric.address:
            fabric.address[device] = ask_address(device)
    # Where the link is down, that is what has to be mended.
    ill = [device for device in devices if fabric.is_up(device) is not False and device not in well]
    ask_gateway = setting("gateway", hccn.parse_gateway)
    fabric.gateway = _confirm(fabric, "gateway", well, ask_gateway)
    ask_detect_address = setting("netdetect", hccn.parse_detect_address)
    for device in ill:
        fabric.gateway[device] = ask_gateway(device)
        fabric.detect_address[device] = ask_detect_address(device)
    fabric.tls = _confirm(
        fabric,
        "tls_enable",
        [device for device in devices if device not in tool.stuck],
        lambda device: hccn.parse_tls(ask(device, "tls"), device),
    )
    lit = next((device for device in devices if fabric.is_up(device)), None)
    if lit is not None:
        fabric.neighbour = lit, hccn.parse_neighbour(ask(lit, "lldp"))
    for device in devices:
        if device in hccs:
            fabric.vnic[device] = hccn.parse_vnic(ask(device, "vnic"))
    fabric.stuck, fabric.absent, fabric.failure = tool.stuck, tool.absent, tool.failure
    return fabric


def _confirm(
    fabric: Fabric, key: str, devices: list[int], ask: Callable[[int], str | None]
) -> dict[int, str | None]:
    """Return a setting of each device, as /etc/hccn.conf has it.

    One device is asked whether the file holds. When it does not, and where the file does not tell
    or has one device's TLS switch unlike most others', the devices are asked themselves.
    """
    written = {
        device: fabric.configuration[device][key]
        for device in devices
        if hccn.is_value(key, fabric.configuration.get(device, {}).get(key, ""))
    }
    odd = odd_ones(written) if key == "tls_enable" else set()
    values: dict[int, str | None] = {
        device: ask(device) for device in devices if device not in written or device in odd
    }
    rest = [device for device in devices if device not in values]
    if rest:
        first, *others = rest
        values[first] = ask(first)
        holds = values[first] == written[first]
        if holds:
            fabric.confirmed[key] = set(rest)
        values.update((device, written[device] if holds else ask(device)) for device in others)
    return values


# By the device's number as text, its address; null where it is not to be pinged.
Addresses = Mapping[str, Optional[str]]


def ping_pairs(own: Addresses, peers: Sequence[Addresses], *, full: bool) -> list[tuple[int, str]]:
    """Return which device pings which address.

    Args:
        own: The devices of this node.
        peers: Those of each other node.
        full: Each device pings all of them. Otherwise a device goes with the one of its own number
            on each other node, in whose plane it is, or with the one at its own place where that
            node uses devices of other numbers. An answer proves the way there and back, so of two
            nodes each asks for every other pair.
    """
    pairs = []
    for peer in peers:
        places = sorted(peer, key=int)
        mine = [(place, number) for place, number in enumerate(sorted(own, key=int)) if own[number]]
        if full:
            found = [(number, peer[target]) for _place, number in mine for target in places]
        else:
            found = [
                (number, peer[target])
                for place, number in mine
                for target in ([number] if number in peer else places[place : place + 1])
            ]
        there = [(int(number), address) for number, address in found if address]
        first = sorted(filter(None, own.values())) < sorted(filter(None, peer.values()))
        pairs += there if full else there[0 if first else 1 :: 2]
    return pairs


def observe_pings(
    tool: HccnTool, command: str, pairs: list[tuple[int, str]], own: Collection[str | None]
) -> Pings:
    """Ping from one device after the other, as hccn_tool wants it.

    Args:
        tool: hccn_tool.
        command: ping goes through the devices' network ports, hccs_ping through HCCS.
        pairs: Which device pings which address.
        own: The addresses of this node, which would answer in another's place.
    """
    pings = Pings(own=[pair for pair in pairs if pair[1] in own])
    for device, address in pairs:
        if address in own:
            continue
        answer = tool.ask(device, f"-{command}", "-g", "address", address)
        if answer is None:
            pings.untried.append((device, address))
            continue
        pings.said[device, address] = excerpt(answer.text)
        pings.answers[device, address] = hccn.parse_ping(answer.stdout)
    pings.stuck, pings.failure = tool.stuck, tool.failure
    return pings
