# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What amd-smi prints as JSON, as data.

ROCm 6 prints a list with one entry a GPU; ROCm 7 wraps some of these lists in a map. Values are
numbers, or {value, unit}, or N/A. Nothing here raises, and nothing fills a gap with a guess: what
is missing is null and named among the problems.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any, Dict, Iterable, Mapping, cast

from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import (
    Problems,
    excerpt,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Gpu,
    Observation,
    Process,
    Topology,
    devices_text,
    number_of,
)

ARGUMENTS = {
    query: (query, "--json") for query in ("list", "static", "metric", "process", "topology")
}
# Where static does not tell it: reading it may wake an idle GPU, so ROCm 7 leaves it out.
PARTITION_ARGUMENTS = ("partition", "--current", "--json")

LINK_WORDS = {"SELF": "X", "XGMI": "XGMI", "PCIE": "PCIE", "N/A": "N/A", "UNKNOWN": "UNKNOWN"}
COMPUTE_PARTITIONS = ("SPX", "DPX", "TPX", "QPX", "CPX")
MEMORY_PARTITIONS = ("NPS1", "NPS2", "NPS4", "NPS8")
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}

MAX_STARTS = 50
# What the driver tells of every Instinct GPU.
FACTS = (
    *("name", "bus_id", "power_w", "temperature_c", "utilisation_percent"),
    *("memory_used_mb", "memory_total_mb", "processes", "uncorrectable_errors"),
    *("compute_partition", "memory_partition"),
)

Row = Dict[str, Any]
Rows = Dict[int, Row]  # by the number that the tool gives the GPU

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)


# --- JSON, and values in it -------------------------------------------------------------------


def json_in(text: str) -> Any:
    """Return the first JSON map, or list of maps, that begins a line; null when there is none.

    Warnings of Python and of amd-smi itself stand before it. What is inside a document is indented,
    so that half a document is never taken for a whole one.
    """
    decoder = json.JSONDecoder()
    for start in islice(re.finditer(r"^[\[{]", text, re.MULTILINE), MAX_STARTS):
        try:
            value, _end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) or (
            isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
        ):
            return value
    return None


def number(value: Any) -> float | None:
    """Return a number that is bare, a numeral, or in {value, unit}; null for N/A and the rest."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e15 else None


def integer(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def is_index(value: int) -> bool:
    """Tell whether a number can be a GPU's; JSON's true is none."""
    return not isinstance(value, bool) and 0 <= value < 1024


def size(value: Any, unit: str) -> int | None:
    """Return bytes; unit is that of a bare number."""
    found = number(value)
    named = value.get("unit", unit) if isinstance(value, dict) else unit
    factor = UNITS.get(named) if isinstance(named, str) else None
    return None if found is None or factor is None else round(found * factor)


def megabytes(count: int | None) -> int | None:
    return None if count is None else count // UNITS["MB"]


def word(value: Any) -> str | None:
    """Return a text that says something; null for N/A and all else."""
    text = excerpt(value) if isinstance(value, str) else ""
    return None if text in ("", "N/A") else text


def one_of(value: Any, words: Iterable[str]) -> str | None:
    return value if isinstance(value, str) and value in words else None


def inner(row: Row, *names: str) -> Any:
    """Return the value at the end of these names, or null."""
    value: Any = row
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# --- what amd-smi and rocm-smi share ----------------------------------------------------------


class AmdGpu(Gpu):
    """What amd-smi or rocm-smi tells of a GPU; null where it does not.

    The partitions are SPX and NPS1 where the GPU is one device with all of its memory.
    """

    compute_partition: str | None
    memory_partition: str | None


def make_device(device_id: int, **facts: Any) -> AmdGpu:
    """Return a device; what is not given is null."""
    device: Any = {"device_id": device_id, "uuid": None, **dict.fromkeys(FACTS), **facts}
    return cast(AmdGpu, device)


def engine_order(node_ids: Mapping[int, int | None], problems: Problems) -> dict[int, int]:
    """Return the device number that HIP, and so the engine, gives to each GPU of the tool.

    The tools count along the PCI bus, HIP along the driver's own node ids; on some servers these
    are not the same order.
    """
    nodes = sorted(node for node in node_ids.values() if node is not None)
    if len(set(nodes)) == len(node_ids):
        return {gpu: nodes.index(node) for gpu, node in node_ids.items() if node is not None}
    if len(node_ids) > 1:
        problems.add("node ids not told: devices are counted as the tool counts, not the engine")
    return {gpu: gpu for gpu in node_ids}


def finish(devices: list[AmdGpu], problems: Problems) -> None:
    """Sort the devices, and name what is not known of them."""
    devices.sort(key=number_of)
    missing: dict[str, list[str]] = {}
    for fact in FACTS:
        silent = [number_of(device) for device in devices if cast(Row, device)[fact] is None]
        if silent:
            missing.setdefault(devices_text(silent), []).append(fact)
    for subject, facts in missing.items():
        problems.add(f"not told for {subject}: {', '.join(facts)}")


def make_topology(
    links: Mapping[tuple[int, int], str], order: Mapping[int, int], problems: Problems
) -> Topology | None:
    """Return the matrix of links between GPUs; null and a problem when it is not whole."""
    gpus = sorted(order, key=lambda gpu: order[gpu])
    matrix = [[LINK_WORDS.get(links.get((one, other), ""), "") for other in gpus] for one in gpus]
    for gpu, row in zip(gpus, matrix):
        if "" in row:
            other = gpus[row.index("")]
            said = links.get((gpu, other))
            said = "nothing" if said is None else repr(excerpt(said))
            problems.add(f"no topology: {said} is told of the link from GPU {gpu} to GPU {other}")
            return None
    return {"devices": [order[gpu] for gpu in gpus], "links": matrix, "cpu_affinity": None}


# --- amd-smi ----------------------------------------------------------------------------------


def read(said: Mapping[str, str]) -> Observation[AmdGpu]:
    """Return what amd-smi told of the GPUs.

    Args:
        said: By sub-command, what it printed. A sub-command that was not asked is not missed, but
            what it would have told is.
    """
    problems = Problems()
    listed, static, metric, process, partition = (
        _rows(query, said.get(query), problems)
        for query in ("list", "static", "metric", "process", "partition")
    )
    gpus = sorted({*listed, *static, *metric})
    order = engine_order({gpu: _node_id(listed.get(gpu, {})) for gpu in gpus}, problems)
    devices = []
    for gpu in gpus:
        fixed, measured = static.get(gpu, {}), metric.get(gpu, {})
        entry, cut = listed.get(gpu, {}), partition.get(gpu, {})
        compute = (
            inner(fixed, "partition", "accelerator_partition")
            or inner(fixed, "partition", "compute_partition")
            or cut.get("accelerator_type")
        )
        memory = inner(fixed, "partition", "memory_partition") or cut.get("memory")
        bus_id = word(entry.get("bdf")) or word(inner(fixed, "bus", "bdf"))
        total = size(inner(measured, "mem_usage", "total_vram"), "MB")
        if total is None:
            total = size(inner(fixed, "vram", "size"), "MB")
        devices.append(
            make_device(
                device_id=order[gpu],
                name=word(inner(fixed, "asic", "market_name"))
                or word(inner(fixed, "board", "product_name")),
                bus_id=bus_id,
                uuid=word(entry.get("uuid")),
                power_w=number(inner(measured, "power", "socket_power")),
                temperature_c=integer(inner(measured, "temperature", "hotspot")),
                utilisation_percent=integer(inner(measured, "usage", "gfx_activity")),
                memory_used_mb=megabytes(size(inner(measured, "mem_usage", "used_vram"), "MB")),
                memory_total_mb=megabytes(total) or None,
                uncorrectable_errors=integer(inner(measured, "ecc", "total_uncorrectable_count")),
                processes=_processes(gpu, process.get(gpu, {}).get("process_list"), problems),
                compute_partition=one_of(compute, COMPUTE_PARTITIONS),
                memory_partition=one_of(memory, MEMORY_PARTITIONS),
            )
        )
    _share_partition(devices)
    finish(devices, problems)
    topology = None
    if "topology" in said:
        rows = _rows("topology", said["topology"], problems)
        topology = make_topology(_links(rows), order, problems) if rows and gpus else None
    versions = (_driver_version(row) for row in static.values())
    version = next((version for version in versions if version), None)
    return Observation(devices, version, topology, problems.result())


def _share_partition(devices: Iterable[AmdGpu]) -> None:
    """Give every part of a cut GPU the partition of the whole, which only the first part tells.

    The parts are functions of one PCI device.
    """
    whole: dict[str, AmdGpu] = {}
    for device in devices:
        slot, _dot, _function = (device["bus_id"] or "").rpartition(".")
        first = whole.setdefault(slot, device) if slot else device
        if first["compute_partition"] not in (None, "SPX") and device["compute_partition"] is None:
            device["compute_partition"] = first["compute_partition"]
            device["memory_partition"] = device["memory_partition"] or first["memory_partition"]


def tells_partition(text: str) -> bool:
    """Tell whether the output of amd-smi static has the partition of its GPUs."""
    return any("partition" in row for row in _rows("static", text, Problems()).values())


def _rows(query: str, text: str | None, problems: Problems) -> Rows:
    if text is None:
        return {}
    document = json_in(text)
    if isinstance(document, dict):
        wrapped = document.get("gpu_data", document.get("current_partition"))
        document = [document] if wrapped is None else wrapped
    rows: Rows = {}
    strange = 0
    for row in document if isinstance(document, list) else []:
        gpu = row.get("gpu", row.get("gpu_id")) if isinstance(row, dict) else None
        if isinstance(gpu, int) and is_index(gpu) and gpu not in rows:
            rows[gpu] = row
        else:
            strange += 1
    if strange:
        problems.add(f"amd-smi {query}: {strange} entries are not of one GPU each")
    elif not rows:
        problems.add(f"amd-smi {query} says: {excerpt(text) or 'nothing'}")
    return rows


def _node_id(row: Row) -> int | None:
    return integer(row.get("node_id"))


def _driver_version(row: Row) -> str | None:
    return word(inner(row, "driver", "version")) or word(inner(row, "driver", "driver_version"))


def _processes(gpu: int, entries: Any, problems: Problems) -> list[Process] | None:
    """Return the processes that hold memory of a GPU.

    A metrics exporter attaches to every GPU and holds nothing of it; it is nobody's obstacle.
    """
    if not isinstance(entries, list):
        return None
    found: list[Process] = []
    for entry in entries:
        info = entry.get("process_info", entry) if isinstance(entry, dict) else entry
        if info in ("No running processes detected", "N/A"):
            continue
        pid = integer(inner(info, "pid"))
        if pid is None:
            problems.add(f"process on GPU {gpu} not understood: {excerpt(str(entry))}")
            return None
        held = size(inner(info, "memory_usage", "vram_mem"), "B")
        if held is None:
            held = size(inner(info, "mem_usage"), "B")
        if held != 0:
            name = word(inner(info, "name")) or ""
            found.append({"pid": pid, "name": name, "memory_mb": megabytes(held)})
    return found


def _links(rows: Rows) -> dict[tuple[int, int], str]:
    """Return by the numbers of two GPUs the kind of link from the one to the other."""
    links: dict[tuple[int, int], str] = {}
    for gpu, row in rows.items():
        entries, kinds = row.get("links"), row.get("link_type")
        if isinstance(entries, list):
            told = [(inner(entry, "gpu"), inner(entry, "link_type")) for entry in entries]
        elif isinstance(kinds, dict):  # up to ROCm 6.2
            told = [(integer(name[len("gpu_") :]), kind) for name, kind in kinds.items()]
        else:
            told = []
        links.update(
            ((gpu, other), kind)
            for other, kind in told
            if isinstance(other, int) and is_index(other) and isinstance(kind, str)
        )
    return links
