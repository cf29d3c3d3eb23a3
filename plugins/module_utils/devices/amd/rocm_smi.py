# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rocm-smi prints, as data. It is amd-smi's predecessor, and all that some nodes have.

It tells no count of memory errors as JSON, and the memory of a process only over all GPUs.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import (
    Problems,
    excerpt,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.amd_smi import (
    COMPUTE_PARTITIONS,
    MEMORY_PARTITIONS,
    AmdGpu,
    Row,
    Rows,
    engine_order,
    finish,
    integer,
    json_in,
    make_device,
    make_topology,
    megabytes,
    number,
    one_of,
    size,
    word,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Observation,
    Process,
)

ARGUMENTS = {
    "cards": (
        *("--showproductname", "--showid", "--showuniqueid", "--showbus", "--showdriverversion"),
        *("--showuse", "--showpower", "--showtemp", "--showmeminfo", "vram"),
        *("--showcomputepartition", "--showmemorypartition", "--json"),
    ),
    "names": ("--showpids", "--json"),
    "users": ("--showpidgpus",),  # only as text
    "links": ("--showtopotype", "--json"),
}

_CARD = re.compile(r"card(\d{1,3})", re.ASCII)
_PID = re.compile(r"PID\s?(\d{1,10})", re.ASCII)
_USER = re.compile(r"^PID (\d{1,10}) is using (\d{1,3}) DRM device\(s\):?([\s\d]*)$", re.M | re.A)
_LINK = re.compile(
    r"\(Topology\) Link type between DRM devices (\d{1,3}) and (\d{1,3})", re.ASCII | re.IGNORECASE
)


def read(said: Mapping[str, str]) -> Observation[AmdGpu]:
    """Return what rocm-smi told of the GPUs.

    Args:
        said: By a key of ARGUMENTS, what rocm-smi printed.
    """
    problems = Problems()
    cards, system = _cards(said.get("cards"), problems)
    order = engine_order(
        {card: integer(row.get("Node ID")) for card, row in cards.items()}, problems
    )
    processes = _processes(said, list(cards), problems)
    devices = [
        make_device(
            device_id=order[card],
            name=_first(row, "Card Series", "Card series", "Device Name"),
            bus_id=word(row.get("PCI Bus")),
            uuid=word(row.get("Unique ID")),
            power_w=number(
                _first(
                    row,
                    "Current Socket Graphics Package Power (W)",
                    "Average Graphics Package Power (W)",
                )
            ),
            temperature_c=integer(row.get("Temperature (Sensor junction) (C)")),
            utilisation_percent=integer(row.get("GPU use (%)")),
            memory_used_mb=megabytes(size(row.get("VRAM Total Used Memory (B)"), "B")),
            memory_total_mb=megabytes(size(row.get("VRAM Total Memory (B)"), "B")) or None,
            processes=None if processes is None else processes[card],
            compute_partition=one_of(row.get("Compute Partition"), COMPUTE_PARTITIONS),
            memory_partition=one_of(row.get("Memory Partition"), MEMORY_PARTITIONS),
        )
        for card, row in cards.items()
    ]
    finish(devices, problems)
    links = _links(said.get("links"))
    links.update(((card, card), "SELF") for card in cards)
    topology = make_topology(links, order, problems) if cards else None
    return Observation(devices, word(system.get("Driver version")), topology, problems.result())


def _first(row: Row, *names: str) -> str | None:
    return next((found for found in (word(row.get(name)) for name in names) if found), None)


def _map(value: Any) -> Row:
    return value if isinstance(value, dict) else {}


def _cards(text: str | None, problems: Problems) -> tuple[Rows, Row]:
    if text is None:
        return {}, {}
    document = _map(json_in(text))
    cards = {
        int(match[1]): row
        for match, row in ((_CARD.fullmatch(name), row) for name, row in document.items())
        if match and isinstance(row, dict)
    }
    if not cards:
        problems.add(f"rocm-smi says: {excerpt(text) or 'nothing'}")
    return cards, _map(document.get("system"))


def _processes(
    said: Mapping[str, str], cards: list[int], problems: Problems
) -> dict[int, list[Process]] | None:
    """Return by card the processes that hold memory; null when that is not understood."""
    text = said.get("users")
    if text is None:
        return None
    by_card: dict[int, list[Process]] = {card: [] for card in cards}
    names = _names(said.get("names"))
    users = _USER.findall(text)
    told = text.count("is using") + text.count("No KFD PIDs currently running")
    if not told or text.count("is using") != len(users):
        problems.add(f"rocm-smi --showpidgpus says: {excerpt(text) or 'nothing'}")
        return None
    for pid, count, listed in users:
        used = [int(card) for card in listed.split() if len(card) < 4]
        if len(used) != int(count) or not set(used) <= set(cards):
            problems.add(f"the GPUs of process {pid} are not understood")
            return None
        name, held = names.get(int(pid), ("", None))
        if held == 0:
            continue
        alone = megabytes(held) if len(used) == 1 else None
        for card in used:
            by_card[card].append({"pid": int(pid), "name": name, "memory_mb": alone})
    return by_card


def _names(text: str | None) -> dict[int, tuple[str, int | None]]:
    """Return by process its name, and the memory that it holds over all GPUs."""
    found = {}
    for key, value in _map(_map(json_in(text or "")).get("system")).items():
        match = _PID.fullmatch(key)
        # Name, number of GPUs, memory, SDMA, occupancy; a name may have commas of its own.
        cells = value.rsplit(",", 4) if isinstance(value, str) else []
        if match and len(cells) == 5:
            found[int(match[1])] = (excerpt(cells[0]), size(cells[2].strip(), "B"))
    return found


def _links(text: str | None) -> dict[tuple[int, int], str]:
    """Return by the numbers of two cards the kind of their link, which is told one way only."""
    links = {}
    for key, value in _map(_map(json_in(text or "")).get("system")).items():
        match = _LINK.fullmatch(key)
        if match and isinstance(value, str):
            one, other = int(match[1]), int(match[2])
            links[one, other] = links[other, one] = value
    return links
