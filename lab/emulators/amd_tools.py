# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulates amd-smi and rocm-smi for nodes without GPUs.

What they print follows public output of ROCm 6.2 to 7.1 on Instinct servers, reduced to the fields
that tools read. The state's rocm_version decides which generation of amd-smi answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

try:
    from lab.emulators.state import Device, Refused, State, present, run_tool
except ImportError:  # on a node the files stand side by side, without the package
    from state import (  # type: ignore[import-not-found, no-redef]
        Device,
        Refused,
        State,
        present,
        run_tool,
    )


class Server(NamedTuple):
    """What a server with AMD GPUs is like."""

    devices: int
    name: str
    model: str
    memory_mb: int
    used_mb: int  # when idle
    power_w: int  # when idle
    power_limit_w: int
    buses: tuple[str, ...]
    # In which HIP counts the GPUs. On one real MI355X server that is not the order of the bus.
    order: tuple[int, ...]


FAMILIES = {
    "amd": Server(
        devices=8,
        name="AMD Instinct MI300X",
        model="0x74a1",
        memory_mb=196592,
        used_mb=285,
        power_w=133,
        power_limit_w=750,
        buses=("0c", "22", "38", "5c", "9f", "af", "bf", "df"),
        order=(0, 1, 2, 3, 4, 5, 6, 7),
    ),
    "amd-mi355x": Server(
        devices=8,
        name="AMD Instinct MI355X",
        model="0x75a3",
        memory_mb=294896,
        used_mb=283,
        power_w=240,
        power_limit_w=1400,
        buses=("05", "15", "65", "75", "85", "95", "e5", "f5"),
        order=(1, 3, 2, 0, 5, 7, 6, 4),
    ),
}
FIRST_NODE = 2  # of the driver's nodes; the CPUs come before
NO_PROCESS = "No running processes detected"
MB = 1024 * 1024


def make_state(family: str, devices: int | None = None, node: int = 0) -> State:
    """Return the state of a healthy, idle node.

    Args:
        family: What GPUs it has.
        devices: How many; without it as many as such a server has.
        node: The node's number, on which nothing of a node with GPUs depends.
    """
    server = FAMILIES[family]
    return {
        "family": family,
        "rocm_version": "7.1.1",
        "tool_version": "26.2.0+021c61fc",
        "driver_version": "6.16.6",
        "vbios_version": "00143754",
        "faults": {},
        "devices": [_make_device(server, index) for index in range(devices or server.devices)],
    }


def _make_device(server: Server, index: int) -> Device:
    return {
        "id": index,  # as amd-smi counts
        "name": server.name,
        "model": server.model,
        "present": True,
        "bus_id": f"0000:{server.buses[index]}:00.0",
        "uuid": f"{index:02x}ff{server.model[2:]}-0000-1000-8000-6d7573746572",
        "node_id": FIRST_NODE + server.order[index],  # the engine counts along these
        "oam_id": index,
        "power_w": server.power_w,
        "power_limit_w": server.power_limit_w,
        "temperature_c": 38,
        "gpu_percent": 0,
        "memory_used_mb": server.used_mb,
        "memory_total_mb": server.memory_mb,
        "uncorrectable_errors": 0,
        "compute_partition": "SPX",
        "memory_partition": "NPS1",
        "link": "XGMI",
        "processes": [],
    }


def _is_7(state: State) -> bool:
    return int(state["rocm_version"].split(".")[0]) >= 7


def _hip(state: State, device: Device) -> int:
    return int(device["node_id"]) - min(int(gpu["node_id"]) for gpu in present(state))


def _relation(device: Device, peer: Device, alone: str) -> str:
    if device is peer:
        return alone
    return next((str(end["link"]) for end in (device, peer) if end["link"] != "XGMI"), "XGMI")


# --- amd-smi ----------------------------------------------------------------------------------

NO_GPU = (
    "ERROR:root:Unable to detect any GPU devices, check amdgpu version and module status "
    "(sudo modprobe amdgpu)"
)
USAGE = "AMD-SMI Command '{}' is invalid. Run 'amd-smi -h' for more info."


def amd_smi(argv: list[str]) -> int:
    if not argv:
        return run_tool("amd-smi", "default", _gpus_or_refuse(_summary))
    renderers: dict[str, Callable[[State], Any]] = {
        "list": _list,
        "static": _static,
        "metric": _metric,
        "process": _process,
        "topology": _topology,
        "partition": _partition,
    }
    command = argv[0]
    if command not in renderers or "--json" not in argv:
        print(USAGE.format(" ".join(argv)), file=sys.stderr)
        return 1

    def answer(state: State) -> str:
        return json.dumps(renderers[command](state), indent=4) + "\n"

    return run_tool("amd-smi", command, _gpus_or_refuse(answer))


def _gpus_or_refuse(answer: Callable[[State], str]) -> Callable[[State], str]:
    def checked(state: State) -> str:
        if not present(state):
            raise Refused(NO_GPU, stderr=True)
        return answer(state)

    return checked


def _value(number: float, unit: str) -> dict[str, Any]:
    return {"value": number, "unit": unit}


def _wrapped(state: State, rows: list[Any]) -> Any:
    return {"gpu_data": rows} if _is_7(state) else rows


def _list(state: State) -> Any:
    return [
        {
            "gpu": device["id"],
            "bdf": device["bus_id"],
            "uuid": device["uuid"],
            "kfd_id": 20000 + 1117 * device["node_id"],
            "node_id": device["node_id"],
            "partition_id": 0,
        }
        for device in present(state)
    ]


def _static(state: State) -> Any:
    rows = []
    for device in present(state):
        row = {
            "gpu": device["id"],
            "asic": {
                "market_name": device["name"],
                "vendor_id": "0x1002",
                "vendor_name": "Advanced Micro Devices Inc. [AMD/ATI]",
                "subvendor_id": "0x1002",
                "device_id": device["model"],
                "rev_id": "0x00",
                "oam_id": device["oam_id"],
            },
            "bus": {
                "bdf": device["bus_id"],
                "max_pcie_width": 16,
                "max_pcie_speed": _value(32, "GT/s"),
                "pcie_interface_version": "Gen 5",
                "slot_type": "OAM",
            },
            "driver": {"name": "amdgpu", "version": state["driver_version"]},
            "vram": {
                "type": "HBM3",
                "vendor": "N/A",
                "size": _value(device["memory_total_mb"], "MB"),
            },
        }
        if not _is_7(state):
            row["partition"] = {
                "compute_partition": device["compute_partition"],
                "memory_partition": device["memory_partition"],
            }
        rows.append(row)
    return _wrapped(state, rows)


def _metric(state: State) -> Any:
    return _wrapped(
        state,
        [
            {
                "gpu": device["id"],
                "usage": {
                    "gfx_activity": _value(device["gpu_percent"], "%"),
                    "umc_activity": _value(0, "%"),
                    "mm_activity": "N/A",
                },
                "power": {
                    "socket_power": _value(device["power_w"], "W"),
                    "gfx_voltage": "N/A",
                    "throttle_status": "UNTHROTTLED",
                    "power_management": "ENABLED",
                },
                "temperature": {
                    "edge": "N/A",
                    "hotspot": _value(device["temperature_c"], "C"),
                    "mem": _value(device["temperature_c"] - 4, "C"),
                },
                "ecc": {
                    "total_correctable_count": 0,
                    "total_uncorrectable_count": device["uncorrectable_errors"],
                    "total_deferred_count": 0,
                    "cache_correctable_count": 0,
                    "cache_uncorrectable_count": 0,
                },
                "mem_usage": {
                    "total_vram": _value(device["memory_total_mb"], "MB"),
                    "used_vram": _value(device["memory_used_mb"], "MB"),
                    "free_vram": _value(device["memory_total_mb"] - device["memory_used_mb"], "MB"),
                },
            }
            for device in present(state)
        ],
    )


def _process(state: State) -> Any:
    return [
        {
            "gpu": device["id"],
            "process_list": [
                {
                    "process_info": {
                        "name": process["name"] or "N/A",
                        "pid": process["pid"],
                        "memory_usage": {
                            "gtt_mem": _value(0, "B"),
                            "cpu_mem": _value(0, "B"),
                            "vram_mem": _value(process["memory_mb"] * MB, "B"),
                        },
                        "mem_usage": _value(0, "B"),
                        "usage": {"gfx": _value(0, "ns"), "enc": _value(0, "ns")},
                    }
                }
                for process in device["processes"]
            ]
            or [{"process_info": NO_PROCESS}],
        }
        for device in present(state)
    ]


def _topology(state: State) -> Any:
    return [
        {
            "gpu": device["id"],
            "bdf": device["bus_id"],
            "links": [
                {
                    "gpu": peer["id"],
                    "bdf": peer["bus_id"],
                    "weight": 0 if device is peer else 15,
                    "link_status": "ENABLED",
                    "link_type": _relation(device, peer, "SELF"),
                    "num_hops": 0 if device is peer else 1,
                    "bandwidth": "N/A" if device is peer else "50000-100000",
                }
                for peer in present(state)
            ],
        }
        for device in present(state)
    ]


def _partition(state: State) -> Any:
    rows = [
        {
            "gpu_id": device["id"],
            "memory": device["memory_partition"],
            "accelerator_type": device["compute_partition"],
            "accelerator_profile_index": 0,
            "partition_id": "0",
        }
        for device in present(state)
    ]
    return {"current_partition": rows} if _is_7(state) else rows


def _line(text: str) -> str:
    return f"| {text:<76} |"


def _readable(megabytes: float) -> str:
    if not megabytes:
        return "0.0 B"
    return f"{megabytes:.1f} MB" if megabytes < 1024 else f"{megabytes / 1024:.1f} GB"


def _summary(state: State) -> str:
    whole = "+" + "-" * 78 + "+"
    halves = "|" + "-" * 37 + "+" + "-" * 40 + "|"
    lines = [
        whole,
        _line(
            f"AMD-SMI {state['tool_version']:<20} amdgpu version: {state['driver_version']:<8} "
            f"ROCm version: {state['rocm_version']}"
        ),
        _line(f"VBIOS version: {state['vbios_version']}"),
        _line("Platform: Linux Baremetal"),
        halves,
        "| BDF                        GPU-Name | Mem-Uti   Temp   UEC       Power-Usage |",
        "| GPU  HIP-ID  OAM-ID  Partition-Mode | GFX-Uti    Fan               Mem-Usage |",
        halves.replace("-", "="),
    ]
    for position, device in enumerate(present(state)):
        if position:
            lines.append(halves)
        mode = f"{device['compute_partition']}/{device['memory_partition']}"
        power = f"{device['power_w']}/{device['power_limit_w']} W"
        memory = f"{device['memory_used_mb']}/{device['memory_total_mb']} MB"
        busy = f"{device['gpu_percent']} %"
        heat = f"{device['temperature_c']} °C"
        lines += [
            f"| {device['bus_id']} {device['name']:>22} | 0 %   {heat:>8}   "
            f"{device['uncorrectable_errors']:<3} {power:>17} |",
            f"| {device['id']:>3} {_hip(state, device):>7} {device['oam_id']:>7} {mode:>15} "
            f"| {busy:<8}   N/A {memory:>23} |",
        ]
    lines += [
        halves.replace("|", "+"),
        whole,
        _line("Processes:"),
        _line(" GPU        PID  Process Name          GTT_MEM  VRAM_MEM  MEM_USAGE     CU %"),
        "|" + "=" * 78 + "|",
    ]
    rows = [
        _line(
            f"{device['id']:>4} {process['pid']:>10}  {process['name']:<18} {'0.0 B':>10} "
            f"{_readable(process['memory_mb']):>9} {'0.0 B':>10} {'0.0 %':>8}"
        )
        for device in present(state)
        for process in device["processes"]
    ]
    lines += [*(rows or [_line(" No running processes found")]), whole]
    return "\n".join(lines) + "\n"


# --- rocm-smi ---------------------------------------------------------------------------------


def rocm_smi(argv: list[str]) -> int:
    command = next((word.lstrip("-") for word in argv if word.startswith("--show")), "concise")
    return run_tool("rocm-smi", command, lambda state: _rocm_answer(state, argv))


def _rocm_answer(state: State, argv: list[str]) -> str:
    if not argv:
        return _log("Concise Info", _concise(state))
    if argv == ["--showpidgpus"]:
        return _log("GPUs Indexed by PID", _users(state))
    if "--json" not in argv:
        raise Refused(f"rocm-smi (lab): only --json, --showpidgpus or nothing, not {argv}")
    document: dict[str, dict[str, str]] = {}
    for device in present(state):
        facts = _card(device, argv)
        if facts:
            document[f"card{device['id']}"] = facts
    system = _system(state, argv)
    if system:
        document["system"] = system
    if not document:
        print("WARNING: No JSON data to report", file=sys.stderr)
        return ""
    return json.dumps(document) + "\n"


def _card(device: Device, argv: list[str]) -> dict[str, str]:
    told = {
        "--showproductname": {
            "Card Series": device["name"],
            "Card Model": device["model"],
            "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
            "Node ID": device["node_id"],
        },
        "--showid": {"Device Name": device["name"], "Device ID": device["model"]},
        "--showuniqueid": {"Unique ID": device["uuid"]},
        "--showbus": {"PCI Bus": device["bus_id"].upper()},
        "--showuse": {"GPU use (%)": device["gpu_percent"]},
        "--showpower": {"Current Socket Graphics Package Power (W)": float(device["power_w"])},
        "--showtemp": {
            "Temperature (Sensor junction) (C)": float(device["temperature_c"]),
            "Temperature (Sensor memory) (C)": float(device["temperature_c"] - 4),
        },
        "--showmeminfo": {
            "VRAM Total Memory (B)": device["memory_total_mb"] * MB,
            "VRAM Total Used Memory (B)": device["memory_used_mb"] * MB,
        },
        "--showcomputepartition": {"Compute Partition": device["compute_partition"]},
        "--showmemorypartition": {"Memory Partition": device["memory_partition"]},
    }
    return {
        name: str(value)
        for option, facts in told.items()
        if option in argv
        for name, value in facts.items()
    }


def _system(state: State, argv: list[str]) -> dict[str, str]:
    gpus = present(state)
    system = {}
    if "--showdriverversion" in argv:
        system["Driver version"] = str(state["driver_version"])
    if "--showpids" in argv:
        for pid, cards in _cards_by_process(state).items():
            used = [p for gpu in gpus for p in gpu["processes"] if p["pid"] == pid]
            memory = sum(process["memory_mb"] for process in used) * MB
            system[f"PID{pid}"] = f"{used[0]['name']}, {len(cards)}, {memory}, 0, 0"
    if "--showtopotype" in argv:
        for position, device in enumerate(gpus):
            for peer in gpus[position + 1 :]:
                pair = f"{device['id']} and {peer['id']}"
                system[f"(Topology) Link type between DRM devices {pair}"] = _relation(
                    device, peer, ""
                )
    return system


def _cards_by_process(state: State) -> dict[int, list[int]]:
    cards: dict[int, list[int]] = {}
    for device in present(state):
        for process in device["processes"]:
            cards.setdefault(process["pid"], []).append(device["id"])
    return cards


def _users(state: State) -> str:
    lines = [
        f"PID {pid} is using {len(cards)} DRM device(s):\n" + "".join(f"{card} " for card in cards)
        for pid, cards in _cards_by_process(state).items()
    ]
    return "\n".join(lines or ["No KFD PIDs currently running"])


def _concise(state: State) -> str:
    lines = [
        "Device  [Model : Revision]    Temp        Power     Partitions      SCLK    MCLK    Fan  "
        "Perf  PwrCap  VRAM%  GPU%  ",
        "        Name (20 chars)       (Junction)  (Socket)  (Mem, Compute)                       "
        "                           ",
        "=" * 116,
    ]
    for device in present(state):
        partitions = f"{device['memory_partition']}, {device['compute_partition']}"
        share = round(100 * device["memory_used_mb"] / device["memory_total_mb"])
        lines += [
            f"{device['id']:<7} [{device['model']} : 0x00]       {device['temperature_c']:.1f}°C"
            f"      {device['power_w']:.1f}W    {partitions:<15} 131Mhz  900Mhz  0%   auto  "
            f"{device['power_limit_w']:.1f}W  {share:>3}%   {device['gpu_percent']:>3}%  ",
            f"        {device['name']:<108}",
        ]
    return "\n".join(lines)


def _log(title: str, text: str) -> str:
    return "\n".join(
        [
            "",
            " ROCm System Management Interface ".center(118, "="),
            f" {title} ".center(118, "="),
            text,
            "=" * 118,
            " End of ROCm SMI Log ".center(118, "="),
            "",
        ]
    )


TOOLS: dict[str, Callable[[list[str]], int]] = {"amd-smi": amd_smi, "rocm-smi": rocm_smi}
