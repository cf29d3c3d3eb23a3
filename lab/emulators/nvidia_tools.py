# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulates nvidia-smi, nv-fabricmanager and the container toolkit's hook for nodes without GPUs.

What nvidia-smi prints is what driver 580 printed of a real H200 (tests/unit/captures), reduced to
the fields that tools read; several GPUs, their links and the fabric follow public output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

try:
    from lab.emulators.state import (
        Device,
        Refused,
        State,
        load_state,
        present,
        run_tool,
        save_state,
        state_path,
    )
except ImportError:  # on a node the files stand side by side, without the package
    from state import (  # type: ignore[import-not-found, no-redef]
        Device,
        Refused,
        State,
        load_state,
        present,
        run_tool,
        save_state,
        state_path,
    )


class Server(NamedTuple):
    """What a server with NVIDIA GPUs is like."""

    devices: int
    name: str
    memory_mb: int
    reserved_mb: int
    power_w: float  # when idle
    power_limit_w: int
    link: str  # between any two GPUs


FAMILIES = {
    "nvidia": Server(
        devices=8,
        name="NVIDIA H100 80GB HBM3",
        memory_mb=81559,
        reserved_mb=551,
        power_w=72.3,
        power_limit_w=700,
        link="NV18",
    ),
    "nvidia-hgx-b200": Server(
        devices=8,
        name="NVIDIA B200",
        memory_mb=183359,
        reserved_mb=735,
        power_w=141.6,
        power_limit_w=1000,
        link="NV18",
    ),
}
# What nvidia-smi says of a driver that is not as it should be.
DRIVER_WORDS = {
    "mismatch": "Failed to initialize NVML: Driver/library version mismatch\n"
    "NVML library version: 580.126.09",
    "unloaded": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n",
    "no-library": "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make "
    "sure that the NVIDIA Display Driver is properly installed and present in your system.",
}
# Bus ids and CPU affinity of a server with eight SXM modules.
BUSES = ("1B", "43", "52", "61", "9D", "C3", "D1", "DF")
CPUS = ("0-55,112-167", "56-111,168-223")
NICS = 2


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
        "driver_version": "580.105.08",
        "cuda_version": "13.0",
        "fabric_manager_version": "580.105.08",
        "driver": "loaded",
        "faults": {},
        "devices": [_make_device(server, index) for index in range(devices or server.devices)],
    }


def _make_device(server: Server, index: int) -> Device:
    return {
        "id": index,
        "name": server.name,
        "present": True,
        "lost": False,
        "uuid": f"GPU-6d757374-6572-6c61-6200-{index:012x}",
        "minor": index,
        "bus_id": f"00000000:{BUSES[index % len(BUSES)]}:00.0",
        "power_w": server.power_w,
        "power_limit_w": server.power_limit_w,
        "temperature_c": 29,
        "gpu_percent": 0,
        "memory_used_mb": 1,
        "memory_total_mb": server.memory_mb,
        "memory_reserved_mb": server.reserved_mb,
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
        "mig_mode": "Disabled",
        "ecc_mode": "Enabled",
        "sram_uncorrectable": 0,
        "dram_uncorrectable": 0,
        "aggregate_dram_uncorrectable": 0,
        "remapped_row_pending": "No",
        "remapped_row_failure": "No",
        "recovery_action": "None",
        "fabric_state": "Completed",
        "fabric_status": "Success",
        "link": server.link,
        "processes": [],
    }


# --- nvidia-smi -------------------------------------------------------------------------------

TIMESTAMP = "Sat Nov 21 09:00:00 2026"
LIST_FIELDS = "GPU {index}: {name} (UUID: {uuid})"
HEADINGS = (
    "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |",
    "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |",
    "|                                         |                        |               MIG M. |",
)


def nvidia_smi(argv: list[str]) -> int:
    if not argv:
        return run_tool("nvidia-smi", "table", _table)
    if argv in (["-L"], ["--list-gpus"]):
        return run_tool("nvidia-smi", "-L", _list)
    if argv == ["-q", "-x"]:
        return run_tool("nvidia-smi", "-q", _query_xml)
    if argv == ["topo", "-m"]:
        return run_tool("nvidia-smi", "topo", _topology)
    if argv[0].startswith("--query-gpu="):
        return run_tool("nvidia-smi", "query-gpu", lambda state: _query_csv(state, argv))
    if argv[0] in ("-pm", "--persistence-mode") and argv[1:] in (["0"], ["1"]):
        return run_tool("nvidia-smi", "-pm", lambda state: _set_persistence(state, argv[1]))
    print(f"ERROR: Option {argv[-1]} is not recognized. Please run 'nvidia-smi -h'.\n")
    return 255


def _gpus(state: State) -> list[Device]:
    """What NVML counts: a card that has left the bus is in no list."""
    if state["driver"] in DRIVER_WORDS:
        raise Refused(DRIVER_WORDS[state["driver"]])
    gpus = present(state)
    if not gpus:
        raise Refused("No devices were found", rc=6)
    return gpus


def _lost(device: Device) -> str:
    return (
        f"Unable to determine the device handle for GPU{device['bus_id'][4:]}: GPU is lost.  "
        "Reboot the system to recover this GPU"
    )


def _list(state: State) -> str:
    lines = [
        _lost(device) if device["lost"] else LIST_FIELDS.format(index=index, **device)
        for index, device in enumerate(_gpus(state))
    ]
    return "\n".join(lines) + "\n"


def _border(fill: str, *widths: int) -> str:
    return "+" + "+".join(fill * width for width in widths) + "+"


def _table(state: State) -> str:
    gpus = _gpus(state)
    widths = (41, 24, 22)
    versions = (
        f"NVIDIA-SMI {state['driver_version']:<23}Driver Version: {state['driver_version']:<15}"
        f"CUDA Version: {state['cuda_version']}"
    )
    lines = [
        f"{TIMESTAMP:<31}",
        _border("-", 89),
        f"| {versions:<88}|",
        _border("-", *widths),
        *HEADINGS,
        "|" + "+".join("=" * width for width in widths) + "|",
    ]
    for index, gpu in enumerate(gpus):
        persistence = "On" if gpu["persistence_mode"] == "Enabled" else "Off"
        usage = f"{gpu['memory_used_mb']}MiB / {gpu['memory_total_mb']:>6}MiB"
        power = f"{gpu['power_w']:.0f}W / {gpu['power_limit_w']:>4}W"
        uncorrectable = gpu["sram_uncorrectable"] + gpu["dram_uncorrectable"]
        if gpu["lost"]:
            lines.append(f"| {index:>3}  {gpu['name']:<22} {'ERR!':>12} |{_lost(gpu)}")
        else:
            lines += [
                f"| {index:>3}  {gpu['name']:<25}{persistence:>8}  |   {gpu['bus_id']:>16} Off |"
                f" {uncorrectable:>20} |",
                f"| N/A  {gpu['temperature_c']:>3}C    P0          {power:>14} | {usage:>22} |"
                f"{gpu['gpu_percent']:>7}%      {gpu['compute_mode']:>7} |",
                f"|{'':41}|{'':24}| {gpu['mig_mode']:>20} |",
            ]
        lines.append(_border("-", *widths))
    rows = [
        f"| {index:>4}   N/A  N/A {process['pid']:>15}      C   {process['name']:<28.28}"
        f"{process['memory_mb']:>15}MiB |"
        for index, gpu in enumerate(gpus)
        for process in gpu["processes"]
    ]
    lines += [
        "",
        _border("-", 89),
        f"| {'Processes:':<88}|",
        f"| {' GPU   GI   CI              PID   Type   Process name':<77}{'GPU Memory':<11}|",
        f"| {'       ID   ID':<77}{'Usage':<11}|",
        f"|{'=' * 89}|",
        *(rows or [f"| {' No running processes found':<88}|"]),
        _border("-", 89),
    ]
    return "\n".join(lines) + "\n"


def _element(name: str, *children: str | tuple[str, Any], attributes: str = "") -> str:
    """One XML element; a child is an element's text, or a name and its value."""
    inner = "".join(
        child if isinstance(child, str) else f"<{child[0]}>{escape(str(child[1]))}</{child[0]}>\n"
        for child in children
    )
    return f"<{name}{attributes}>\n{inner}</{name}>\n"


def _query_xml(state: State) -> str:
    gpus = _gpus(state)
    body = _element(
        "nvidia_smi_log",
        ("timestamp", TIMESTAMP),
        ("driver_version", state["driver_version"]),
        ("cuda_version", state["cuda_version"]),
        ("attached_gpus", len(gpus)),
        *(_gpu_xml(gpu) for gpu in gpus),
    )
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n'
    return head + body + "\n"


def _gpu_xml(gpu: Device) -> str:
    def told(value: Any, unit: str = "") -> str:
        if gpu["lost"]:
            return "GPU is lost"
        return f"{value} {unit}".rstrip() if isinstance(value, (int, float)) else str(value)

    def ecc(dram: int) -> list[tuple[str, Any]]:
        values = {
            "sram_correctable": 0,
            "sram_uncorrectable_parity": gpu["sram_uncorrectable"],
            "sram_uncorrectable_secded": 0,
            "dram_correctable": 0,
            "dram_uncorrectable": dram,
        }
        counted = gpu["ecc_mode"] == "Enabled"
        return [(key, told(value) if counted else "N/A") for key, value in values.items()]

    total, used = gpu["memory_total_mb"], gpu["memory_used_mb"]
    reserved = gpu["memory_reserved_mb"]
    processes = [
        _element(
            "process_info",
            ("gpu_instance_id", "N/A"),
            ("compute_instance_id", "N/A"),
            ("pid", process["pid"]),
            ("type", "C"),
            ("process_name", process["name"]),
            ("used_memory", f"{process['memory_mb']} MiB"),
        )
        for process in gpu["processes"]
    ]
    return _element(
        "gpu",
        ("product_name", gpu["name"]),
        ("product_brand", "NVIDIA"),
        ("product_architecture", "Blackwell" if "B200" in gpu["name"] else "Hopper"),
        ("persistence_mode", told(gpu["persistence_mode"])),
        _element("mig_mode", ("current_mig", gpu["mig_mode"]), ("pending_mig", gpu["mig_mode"])),
        "<mig_devices>\nNone\n</mig_devices>\n",
        ("uuid", gpu["uuid"]),
        ("minor_number", gpu["minor"]),
        ("gpu_recovery_action", gpu["recovery_action"]),
        _element("pci", ("pci_bus_id", gpu["bus_id"])),
        ("fan_speed", "N/A"),
        ("performance_state", "P0"),
        _element(
            "fb_memory_usage",
            ("total", told(total, "MiB")),
            ("reserved", told(reserved, "MiB")),
            ("used", told(used, "MiB")),
            ("free", told(total - reserved - used, "MiB")),
        ),
        ("compute_mode", told(gpu["compute_mode"])),
        _element("utilization", ("gpu_util", told(gpu["gpu_percent"], "%"))),
        _element("ecc_mode", ("current_ecc", gpu["ecc_mode"]), ("pending_ecc", gpu["ecc_mode"])),
        _element(
            "ecc_errors",
            _element("volatile", *ecc(gpu["dram_uncorrectable"])),
            _element(
                "aggregate",
                *ecc(gpu["aggregate_dram_uncorrectable"] + gpu["dram_uncorrectable"]),
                ("sram_threshold_exceeded", "No"),
            ),
        ),
        _element("retired_pages", ("pending_blacklist", "N/A"), ("pending_retirement", "N/A")),
        _element(
            "remapped_rows",
            ("remapped_row_corr", 0),
            ("remapped_row_unc", 0),
            ("remapped_row_pending", gpu["remapped_row_pending"]),
            ("remapped_row_failure", gpu["remapped_row_failure"]),
        ),
        _element(
            "temperature",
            ("gpu_temp", told(gpu["temperature_c"], "C")),
            ("gpu_temp_tlimit", "58 C"),
            ("memory_temp", "N/A"),
        ),
        _element(
            "gpu_power_readings",
            ("power_state", "P0"),
            ("average_power_draw", told(gpu["power_w"], "W")),
            ("instant_power_draw", told(gpu["power_w"], "W")),
            ("current_power_limit", f"{gpu['power_limit_w']:.2f} W"),
        ),
        _element("fabric", ("state", gpu["fabric_state"]), ("status", gpu["fabric_status"])),
        _element("processes", *processes),
        attributes=f' id="{gpu["bus_id"]}"',
    )


LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks
"""  # noqa: E501


def _topology(state: State) -> str:
    gpus = _gpus(state)
    nics = [f"NIC{number}" for number in range(NICS)]
    labels = [f"GPU{index}" for index in range(len(gpus))] + nics
    # Underlined, also where nobody looks at a terminal.
    head = "\t".join([*labels, "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])
    lines = [f"\t\x1b[4m{head}\x1b[0m"]
    for index, gpu in enumerate(gpus):
        node = index * 2 // len(gpus)
        links = [_relation(gpu, peer) for peer in gpus]
        near = ["NODE" if number == node else "SYS" for number in range(NICS)]
        lines.append("\t".join([f"GPU{index}", *links, *near, CPUS[node], str(node), "", "N/A"]))
    for number, nic in enumerate(nics):
        far = ["NODE" if index * 2 // len(gpus) == number else "SYS" for index in range(len(gpus))]
        row = [" X " if number == other else "SYS" for other in range(NICS)]
        lines.append("\t".join([nic, *far, *row, "", "", "", ""]))
    mapping = "".join(f"  NIC{number}: mlx5_{number}\n" for number in range(NICS))
    legend = f"{LEGEND}\nNIC Legend:\n\n{mapping}\n" if nics else LEGEND
    return "\n".join(lines) + "\n" + legend


def _relation(gpu: Device, peer: Device) -> str:
    if gpu is peer:
        return " X "
    for end in (gpu, peer):
        if not end["link"].startswith("NV"):
            return str(end["link"])
    return str(gpu["link"])


CSV_FIELDS = {
    "index": ("{index}", ""),
    "name": ("{name}", ""),
    "uuid": ("{uuid}", ""),
    "pci.bus_id": ("{bus_id}", ""),
    "driver_version": ("{driver_version}", ""),
    "memory.total": ("{memory_total_mb}", "MiB"),
    "memory.used": ("{memory_used_mb}", "MiB"),
    "temperature.gpu": ("{temperature_c}", ""),
    "utilization.gpu": ("{gpu_percent}", "%"),
    "power.draw": ("{power_w:.2f}", "W"),
    "persistence_mode": ("{persistence_mode}", ""),
    "mig.mode.current": ("{mig_mode}", ""),
}


def _query_csv(state: State, argv: list[str]) -> str:
    fields = argv[0].partition("=")[2].split(",")
    form = next((word.partition("=")[2] for word in argv[1:] if word.startswith("--format=")), "")
    options = form.split(",")
    for field in fields:
        if field not in CSV_FIELDS:
            raise Refused(f'Field "{field}" is not a valid field to query.\n')
    if "csv" not in options:
        raise Refused("\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n")
    lines = []
    if "noheader" not in options:
        units = (CSV_FIELDS[field][1] for field in fields)
        lines.append(
            ", ".join(f + (f" [{u}]" if u else "") for f, u in zip(fields, units, strict=True))
        )
    for index, gpu in enumerate(_gpus(state)):
        cells = []
        for field in fields:
            template, unit = CSV_FIELDS[field]
            value = template.format(index=index, driver_version=state["driver_version"], **gpu)
            if gpu["lost"] and field not in ("index", "uuid", "pci.bus_id"):
                value = "[GPU is lost]"
            elif unit and "nounits" not in options:
                value = f"{value} {unit}"
            cells.append(value)
        lines.append(", ".join(cells))
    return "\n".join(lines) + "\n"


def _set_persistence(state: State, value: str) -> str:
    mode = "Enabled" if value == "1" else "Disabled"
    lines = []
    for gpu in _gpus(state):
        already = "already " if gpu["persistence_mode"] == mode else ""
        gpu["persistence_mode"] = mode
        lines.append(
            f"Persistence mode is {already}{mode} for GPU {gpu['bus_id']}."
            if already
            else f"{mode} persistence mode for GPU {gpu['bus_id']}."
        )
    save_state(state)
    return "\n".join([*lines, "All done."]) + "\n"


def fabric_manager(argv: list[str]) -> int:
    if argv not in (["-v"], ["--version"]):
        print("nv-fabricmanager (lab): only --version", file=sys.stderr)
        return 1
    return run_tool(
        "nv-fabricmanager",
        "--version",
        lambda state: f"Fabric Manager version is : {state['fabric_manager_version']}\n",
    )


# --- the container toolkit's hook -------------------------------------------------------------

HOOK_LOG = "container-hook.jsonl"


def container_hook(argv: list[str]) -> int:
    """What Docker runs before a container's process when `--gpus` was given.

    It writes which devices were asked for beside the node's state, and makes their nodes in the
    container. The real hook also brings the driver's libraries and limits the device cgroup.
    """
    if argv[:1] != ["prestart"]:
        return 0  # Docker registers no other; the real hook has nothing to do then either.
    container = json.load(sys.stdin)
    config = json.loads(Path(container["bundle"], "config.json").read_text(encoding="utf-8"))
    environment = dict(entry.partition("=")[::2] for entry in config["process"].get("env", []))
    asked = environment.get("NVIDIA_VISIBLE_DEVICES", "")
    record = {"container": container["id"], "devices": asked}
    with state_path().with_name(HOOK_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    try:
        chosen = chosen_devices(load_state(), asked)
    except Refused as refusal:
        print(f"nvidia-container-cli: {refusal}", file=sys.stderr)
        return 1
    if chosen is not None:
        # An absolute path stays as it is.
        root = Path(container["bundle"], config["root"]["path"])
        _make_nodes(container["pid"], root, chosen)
    return 0


def chosen_devices(state: State, asked: str) -> list[Device] | None:
    """The devices that NVIDIA_VISIBLE_DEVICES names; null for no GPU support at all."""
    gpus = present(state)
    if asked in ("", "void"):
        return None
    if asked == "none":
        return []
    if asked == "all":
        return gpus
    chosen = []
    for word in asked.split(","):
        named = [
            gpu
            for index, gpu in enumerate(gpus)
            if word in (str(index), gpu["uuid"]) and not gpu["lost"]
        ]
        if not named:
            raise Refused(f"device error: {word}: unknown device")
        chosen += named
    return chosen


def _make_nodes(pid: int, root: Path, gpus: list[Device]) -> None:
    """Make the device nodes below the container's root, which only its own processes see yet."""
    names = [f"nvidia{gpu['minor']}" for gpu in gpus] + ["nvidiactl", "nvidia-uvm"]
    inside = ["nsenter", f"--mount=/proc/{pid}/ns/mnt"]
    for name in names:
        node = Path("/dev", name)
        if node.exists():
            number = node.stat().st_rdev
            numbers = [str(os.major(number)), str(os.minor(number))]
            target = str(root / "dev" / name)
            # Docker has made those that it was given by name.
            script = 'test -e "$0" || mknod -m 666 "$0" c "$1" "$2"'
            subprocess.run([*inside, "sh", "-c", script, target, *numbers], check=True)


TOOLS: dict[str, Callable[[list[str]], int]] = {
    "nvidia-smi": nvidia_smi,
    "nv-fabricmanager": fabric_manager,
    "nvidia-container-runtime-hook": container_hook,
}
