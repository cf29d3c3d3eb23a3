# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulates npu-smi and hccn_tool for nodes without NPUs.

Both print what the real ones print; tests/unit/captures holds real output.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

try:
    from lab.emulators.state import Device, Refused, State, present, run_tool, state_path
except ImportError:  # on a node the files stand side by side, without the package
    from state import (  # type: ignore[import-not-found, no-redef]
        Device,
        Refused,
        State,
        present,
        run_tool,
        state_path,
    )


class Server(NamedTuple):
    """What a server with Ascend NPUs is like."""

    devices: int
    chips: int  # on an NPU card: two from A3 on, and each is a device
    name: str
    power_w: float  # of a card, when idle
    temperature_c: int
    used_mb: tuple[int, ...]  # of each chip on a card, when idle
    buses: tuple[str, ...]  # as a real server has them


FAMILIES = {
    "a2": Server(
        devices=8,
        chips=1,
        name="910B3",
        power_w=98.6,
        temperature_c=42,
        used_mb=(3314,),
        buses=("C1", "C2", "81", "82", "01", "02", "41", "42"),
    ),
    "a3": Server(
        devices=16,
        chips=2,
        name="Ascend910",
        power_w=180.2,
        temperature_c=36,
        used_mb=(3396, 3200),
        buses=(
            *("9D", "9F", "99", "9B", "95", "97", "91", "93"),
            *("8D", "8F", "89", "8B", "85", "87", "81", "83"),
        ),
    ),
}
# CPU affinity as a real server reports it.
CPUS = ("144-167", "144-167", "96-119", "96-119", "0-23", "0-23", "48-71", "48-71")

# What a state need not name: that of a node which was made before the tools told it has not got it.
WELL_NODE = {"firmware_compatibility": "OK", "driver_complete": True}
WELL_DEVICE = {
    "firmware_version": "7.8.0.5.216",
    "ecc_double_bit_errors": 0,
    "ecc_isolated_pages": 0,
    "hangs": None,
    "vnic": "UP",
}


# --- state ------------------------------------------------------------------------------------


def make_state(family: str, devices: int | None = None, node: int = 0) -> State:
    """Return the state of a healthy, idle node.

    Args:
        family: What NPUs it has.
        devices: How many; without it as many as such a server has.
        node: The node's number, which keeps NPU addresses apart within one fabric.
    """
    server = FAMILIES[family]
    return {
        "family": family,
        "tool_version": "25.5.0",
        "driver_version": "25.5.0",
        **WELL_NODE,
        "super_pod_id": 0,
        "server_index": node,
        "unreachable": [],
        "faults": {},
        "devices": [
            _make_device(server, index, node) for index in range(devices or server.devices)
        ],
    }


def _make_device(server: Server, index: int, node: int) -> Device:
    npu, chip = divmod(index, server.chips)
    return {
        "id": index,
        "npu": npu,
        "chip": chip,
        "name": server.name,
        "present": True,
        "health": "OK",
        "error_codes": [],
        **WELL_DEVICE,
        "bus_id": f"0000:{server.buses[index % len(server.buses)]}:00.0",
        "power_w": None if chip else server.power_w,
        "temperature_c": server.temperature_c,
        "aicore_percent": 0,
        "hbm_used_mb": server.used_mb[chip],
        "hbm_total_mb": 65536,
        "processes": [],
        "fabric": "HCCS",
        "cpu_affinity": CPUS[index % len(CPUS)],
        "link": "UP",
        "net_health": "Success",
        "address": f"10.20.{node}.{10 + index}",
        "netmask": "255.255.0.0",
        "gateway": "10.20.255.254",
        "netdetect": "10.20.255.254",
        "tls": 0,
        "lldp": "switch",
        "speed_mbps": 200000,
        "optical_present": True,
        "link_down_count": 0,
    }


def hccn_conf(state: State) -> str:
    """Return the /etc/hccn.conf that fits the state."""
    lines = []
    for device in state["devices"]:
        keys = {key: device[key] for key in ("address", "netmask", "netdetect", "gateway")}
        keys.update(send_arp_status=1, tls_enable=device["tls"])
        lines += [
            f"{key}_{device['id']}={value}" for key, value in keys.items() if value is not None
        ]
    return "\n".join(lines) + "\n"


def _is_a3(state: State) -> bool:
    return FAMILIES[state["family"]].chips > 1


# --- npu-smi ----------------------------------------------------------------------------------

USAGE = "Usage: npu-smi info <watch|proc|-h|-m|-l|-t type> [Options...]"
WIDTHS = (27, 15, 52)
PROCESS_WIDTHS = (27, 15, 26, 25)


def npu_smi(argv: list[str]) -> int:
    if argv in (["-v"], ["--version"]):
        return run_tool("npu-smi", "-v", lambda s: f"npu-smi version: {s['tool_version']}\n")
    options = _options(argv[1:])
    if argv[:1] != ["info"] or options is None:
        print(USAGE)
        return 1
    if not options:
        return run_tool("npu-smi", "info", _info)
    if "-m" in options:
        return run_tool("npu-smi", "-m", _mapping)
    if "-l" in options:
        return run_tool("npu-smi", "-l", _list)
    kind = options.get("-t", "")
    return run_tool("npu-smi", kind, lambda state: _query(state, kind, options))


def _options(argv: list[str]) -> dict[str, str] | None:
    """Flags of `npu-smi info`, or null for a command line that it does not take."""
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if word in ("-m", "-l"):
            options[word] = ""
        elif word in ("-t", "-i", "-c"):
            options[word] = next(words, "")
        else:
            return None
    return options


def _cards(state: State) -> dict[int, list[Device]]:
    cards: dict[int, list[Device]] = {}
    for device in present(state):
        cards.setdefault(device["npu"], []).append(device)
    return cards


def _border(fill: str, widths: tuple[int, ...]) -> str:
    return "+" + "+".join(fill * width for width in widths) + "+"


def _row(*cells: str, widths: tuple[int, ...] = WIDTHS) -> str:
    return "|" + "|".join(f" {cell}".ljust(w) for cell, w in zip(cells, widths, strict=True)) + "|"


def _info(state: State) -> str:
    a3 = _is_a3(state)
    whole = (sum(WIDTHS) + 2,)
    lines = [
        _border("-", whole),
        _row(
            f"npu-smi {state['tool_version']:<25}Version: {state['driver_version']}", widths=whole
        ),
        _border("-", WIDTHS),
        _row("NPU   Name", "Health", "Power(W)    Temp(C)           Hugepages-Usage(page)"),
        _row(
            "Chip  Phy-ID" if a3 else "Chip",
            "Bus-Id",
            "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)",
        ),
    ]
    cards = _cards(state)
    for chips in cards.values():
        lines.append(_border("=", WIDTHS))
        for position, chip in enumerate(chips):
            if position:
                lines.append(_border("-", whole))
            power = "-" if chip["power_w"] is None else chip["power_w"]
            lines += [
                _row(
                    f"{chip['npu']:<5} {chip['name']}",
                    chip["health"],
                    f"{power:<11} {chip['temperature_c']:<17} {'0':<5}/ 0",
                ),
                _row(
                    f"{chip['chip']:<5} {chip['id'] if a3 else ''}",
                    chip["bus_id"],
                    f"{chip['aicore_percent']:<11} {'0    / 0':<17} "
                    f"{chip['hbm_used_mb']:<5}/ {chip['hbm_total_mb']}",
                ),
            ]
    lines += [
        _border("=", WIDTHS),
        _border("-", WIDTHS),
        _row(
            "NPU     Chip",
            "Process id",
            "Process name",
            "Process memory(MB)",
            widths=PROCESS_WIDTHS,
        ),
        _border("=", WIDTHS),
    ]
    for npu, chips in cards.items():
        rows = [
            _row(
                f"{npu:<7} {chip['chip']}",
                str(process["pid"]),
                process["name"],
                str(process["memory_mb"]),
                widths=PROCESS_WIDTHS,
            )
            for chip in chips
            for process in chip["processes"]
        ]
        lines += rows or [_row(f"No running processes found in NPU {npu}", widths=whole)]
        lines.append(_border("=", WIDTHS))
    if not {**WELL_NODE, **state}["driver_complete"]:
        lines.append(
            "[WARNING]The driver package may not be completely installed, which may cause function "
            "abnormal. Please reinstall it."
        )
    return "\n".join(lines) + "\n"


def _mapping(state: State) -> str:
    a3 = _is_a3(state)
    head = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if a3 else []), "Chip Name"]
    rows = [head]
    logic = 0
    for npu, chips in _cards(state).items():
        for chip in chips:
            name = chip["name"] if a3 else f"Ascend {chip['name']}"
            phy = [str(chip["id"])] if a3 else []
            rows.append([str(npu), str(chip["chip"]), str(logic), *phy, name])
            logic += 1
        rows.append([str(npu), str(len(chips)), "-", *(["-"] if a3 else []), "Mcu"])
    return "".join("\t" + " ".join(f"{cell:<30}" for cell in row) + "\n" for row in rows)


def _hang_for(device: Device, tool: str) -> None:
    while device.get("hangs") == tool:
        time.sleep(3600)


def _fields(*pairs: tuple[str, Any], width: int = 30) -> str:
    return "".join(f"\t{key:<{width}} : {value}\n" for key, value in pairs)


def _list(state: State) -> str:
    cards = _cards(state)
    blocks = [_fields(("Total Count", len(cards)))]
    blocks += [_fields(("NPU ID", npu), ("Chip Count", len(c))) for npu, c in cards.items()]
    return "\n".join(blocks)


def _query(state: State, kind: str, options: dict[str, str]) -> str:
    if kind == "topo":
        return _topology(state)
    renderers: dict[str, Callable[[State, Device], str]] = {
        "health": _health,
        "usages": _usages,
        "common": _common,
        "ecc": _ecc,
        "board": _board_chip,
    }
    if _is_a3(state):
        renderers["spod-info"] = _spod_info
    if kind not in renderers:
        raise Refused(f"This device does not support querying {kind}.")
    cards = {str(npu): chips for npu, chips in _cards(state).items()}
    chips = cards.get(options.get("-i", ""))
    for chip in chips or []:
        _hang_for(chip, "npu-smi")
    if chips is None:
        raise Refused(f"Invalid card id.\nError parameter of -i\n{USAGE}")
    if "-c" in options:
        chips = [chip for chip in chips if str(chip["chip"]) == options["-c"]]
        if not chips:
            raise Refused(f"Invalid chip id.\nError parameter of -c\n{USAGE}")
        return renderers[kind](state, chips[0])
    if kind == "board":
        return _board_card(state, chips)
    head = _fields(("NPU ID", options["-i"]), ("Chip Count", len(chips)))
    blocks = [head, *(renderers[kind](state, chip) for chip in chips)]
    if kind == "common":
        blocks.append(_fields(("Chip Name", "mcu"), ("Temperature(C)", 38)))
    return "\n".join(blocks)


def _health(_state: State, chip: Device) -> str:
    codes = chip["error_codes"]
    return _fields(
        ("Health Status", chip["health"]),
        ("Error Code", " ".join(codes) or "NA"),
        ("Error Information", "see the error code" if codes else "NA"),
    )


def _hbm_percent(chip: Device) -> int:
    return int(chip["hbm_used_mb"] * 100 / chip["hbm_total_mb"])


def _usages(_state: State, chip: Device) -> str:
    return _fields(
        ("DDR Capacity(MB)", 0),
        ("DDR Usage Rate(%)", 0),
        ("DDR Hugepages Total(page)", 0),
        ("DDR Hugepages Usage Rate(%)", 0),
        ("HBM Capacity(MB)", chip["hbm_total_mb"]),
        ("HBM Usage Rate(%)", _hbm_percent(chip)),
        ("Aicore Usage Rate(%)", chip["aicore_percent"]),
        ("Aivector Usage Rate(%)", 0),
        ("Aicpu Usage Rate(%)", 0),
        ("Ctrlcpu Usage Rate(%)", 0),
        ("DDR Bandwidth Usage Rate(%)", 0),
        ("HBM Bandwidth Usage Rate(%)", 0),
        ("Chip ID", chip["chip"]),
    )


def _common(_state: State, chip: Device) -> str:
    return _fields(
        ("Chip ID", chip["chip"]),
        ("Memory Usage Rate(%)", 0),
        ("HBM Usage Rate(%)", _hbm_percent(chip)),
        ("Aicore Usage Rate(%)", chip["aicore_percent"]),
        ("Aicore Freq(MHZ)", 1800),
        ("Aicore curFreq(MHZ)", 800),
        ("Aicore Count", 20),
        ("Temperature(C)", chip["temperature_c"]),
        ("NPU Real-time Power(W)", "-" if chip["power_w"] is None else chip["power_w"]),
    )


def _ecc(_state: State, chip: Device) -> str:
    chip = {**WELL_DEVICE, **chip}
    kinds = ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count")
    doubles = [chip["ecc_double_bit_errors"]] * 2 + [chip["ecc_isolated_pages"]]
    counts: list[tuple[str, Any]] = []
    for kind, double in zip(kinds, doubles, strict=True):
        counts += [(f"HBM Single Bit {kind}", 0), (f"HBM Double Bit {kind}", double)]
    return _fields(*counts, ("Chip ID", chip["chip"]), width=40)


def _board_card(state: State, chips: list[Device]) -> str:
    return _fields(
        ("NPU ID", chips[0]["npu"]),
        ("Software Version", state["driver_version"]),
        ("Firmware Version", {**WELL_DEVICE, **chips[0]}["firmware_version"]),
        ("Compatibility", {**WELL_NODE, **state}["firmware_compatibility"]),
        ("Board ID", "0x30"),
        ("PCB ID", "A"),
        ("BOM ID", 1),
        ("PCIe Bus Info", chips[0]["bus_id"]),
        ("Slot ID", 0),
        ("Class ID", "NA"),
        ("PCI Vendor ID", "0x19E5"),
        ("PCI Device ID", "0xD803" if _is_a3(state) else "0xD802"),
        ("Subsystem Vendor ID", "0x0200"),
        ("Subsystem Device ID", "0x0100"),
        ("Chip Count", len(chips)),
    )


def _board_chip(state: State, chip: Device) -> str:
    kind = "NPU Name" if _is_a3(state) else "Chip Type"
    return _fields(
        ("NPU ID", chip["npu"]),
        ("Chip ID", chip["chip"]),
        (kind, "Ascend"),
        ("Chip Name", chip["name"]),
        ("Chip Version", "V1"),
        ("PCIe Bus Info", chip["bus_id"]),
        ("Firmware Version", {**WELL_DEVICE, **chip}["firmware_version"]),
    )


def _spod_info(state: State, chip: Device) -> str:
    # How an SDID is made up is inferred from real samples; that it is unique is what matters.
    sdid = state["server_index"] << 22 | chip["chip"] << 16 | chip["id"]
    return _fields(
        ("SDID", sdid),
        ("Super Pod Size", 384),
        ("Super Pod ID", state["super_pod_id"]),
        ("Server Index", state["server_index"]),
    )


LEGEND = """
Legend:

  X    = Self
  SYS  = Path traversing PCIe and NUMA nodes. Nodes are connected through SMP, such as QPI, UPI.
  PHB  = Path traversing PCIe and the PCIe host bridge of a CPU.
  PIX  = Path traversing a single PCIe switch
  PXB  = Path traversing multiple PCIe switches
  HCCS = Connection traversing HCCS.
  NA   = Unknown relationship.
"""


def _topology(state: State) -> str:
    a3 = _is_a3(state)
    label = "Phy-ID" if a3 else "NPU"
    devices = present(state)
    head = "".join(f"{label}{d['id']}".ljust(11) for d in devices)
    lines = ["\t   " + head + ("" if a3 else "CPU Affinity")]
    for device in devices:
        cells = [f"{label}{device['id']}", *(_relation(device, peer, a3) for peer in devices)]
        lines.append(
            "".join(f"{cell:<11}" for cell in cells) + ("" if a3 else device["cpu_affinity"])
        )
    return "\n".join(lines) + "\n" + LEGEND


def _relation(device: Device, peer: Device, a3: bool) -> str:
    if device is peer:
        return "X"
    for end in (device, peer):
        if end["fabric"] != "HCCS":
            return str(end["fabric"])
    if not a3:
        return "HCCS"
    return "SIO" if device["npu"] == peer["npu"] else "HCCS_SW"


# --- hccn_tool --------------------------------------------------------------------------------


def hccn_tool(argv: list[str]) -> int:
    if len(argv) < 4 or argv[0] != "-i" or not argv[1].isdecimal() or argv[3] != "-g":
        print("Command parse failed!", file=sys.stderr)
        return 1
    index, command, extra = int(argv[1]), argv[2].lstrip("-"), argv[4:]
    with only_one() as alone:
        if not alone:
            print("hccn_tool is busy, please try again.")
            return 1
        return run_tool("hccn_tool", command, lambda s: _hccn_answer(s, index, command, extra))


@contextlib.contextmanager
def only_one() -> Iterator[bool]:
    """Hold the tool's lock, as the real one does: a second call at the same time is refused."""
    with state_path().with_name("hccn_tool.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _hccn_answer(state: State, index: int, command: str, extra: list[str]) -> str:
    device = next((d for d in present(state) if d["id"] == index), None)
    if device is None:
        raise Refused("The device is not exist!", stderr=True)
    _hang_for(device, "hccn_tool")
    if command in ("ping", "hccs_ping"):
        if extra[:1] != ["address"] or len(extra) != 2:
            raise Refused("Command parse failed!", stderr=True)
        return {"ping": _ping, "hccs_ping": _hccs_ping}[command](state, device, extra[1])
    renderers: dict[str, Callable[[Device], str]] = {
        "link": lambda d: f"link status: {d['link']}\n",
        "net_health": lambda d: f"net health status: {_net_health(d)}\n",
        "netdetect": _netdetect,
        "gateway": _gateway,
        "ip": _ip,
        "vnic": lambda d: (
            f"vnic link status: {d.get('vnic', 'UP')}\n"
            f"vnic ipaddr: {_vnic_address(state, d)}\nvnic netmask: 255.255.255.0\n"
        ),
        "tls": lambda d: (
            f"dev_id:{d['id']}, tls switch[{d['tls']}](0:disable, 1:enable), "
            "tls preconfigured[1](0:non-preset, 1:preset), tls alarm time threshold[60]days\n"
        ),
        "lldp": _lldp,
        "optical": _optical,
        "link_stat": _link_stat,
        "speed": lambda d: (
            f"Speed: {d['speed_mbps']} Mb/s\n" if d["link"] == "UP" else "Speed: Unknown!\n"
        ),
        "fec": lambda _: "fec mode: rs FEC mode\n",
        "stat": lambda _: "packet statistics:\nroce_rx_err_pkt_num:0\nroce_tx_err_pkt_num:0\n",
        "process": lambda _: "device hccp process: exist\n",
        "mtu": lambda _: "mtu is 4200\n",
    }
    if command not in renderers:
        raise Refused("The command is not supported on this product.", stderr=True)
    return renderers[command](device)


def _net_health(device: Device) -> str:
    """What the device's probe of its detect address has come to."""
    if device["net_health"] != "Success":
        return str(device["net_health"])
    if not device["netdetect"]:
        return "Init"
    return "Success" if device["link"] == "UP" else "Unreachable"


def _netdetect(device: Device) -> str:
    if not device["netdetect"]:
        raise Refused("Get netdetect failed, because no ip was preset there!", stderr=True)
    return f"netdetect address: {device['netdetect']}\n"


def _gateway(device: Device) -> str:
    if not device["gateway"]:
        raise Refused("Get gateway failed, because no gateway was preset there!", stderr=True)
    return f"default gateway:{device['gateway']}, Iface:eth{device['id']}\n"


def _ip(device: Device) -> str:
    if not device["address"]:
        raise Refused("Get ipconf failed, because no ip was preset there!", stderr=True)
    return f"ipaddr:{device['address']}\nnetmask:{device['netmask']}\n"


def _ping(state: State, device: Device, peer: str) -> str:
    lost = device["link"] != "UP" or peer in state["unreachable"]
    answers = [
        f"recv time out seq={seq}" if lost else f"recv seq={seq},time=0.114000ms"
        for seq in range(3)
    ]
    summary = "3 packets transmitted, " + (
        "0 received, 100.00% packet loss" if lost else "3 received, 0.00% packet loss"
    )
    return "\n".join([f"device {device['id']} PING {peer}", *answers, summary]) + "\n"


def _vnic_address(state: State, device: Device) -> str:
    # A lone server has the addresses of the net 192.168.2; what a super pod's have is inferred.
    return f"192.168.{2 + state['server_index'] % 250}.{199 - device['id']}"


def _hccs_ping(state: State, device: Device, peer: str) -> str:
    if not _is_a3(state):
        raise Refused("The command is not supported on this product.", stderr=True)
    if device.get("vnic", "UP") != "UP":
        raise Refused("not start to send!", stderr=True)
    lost = peer in state["unreachable"]
    answers = [
        f"recv time out seq={seq}"
        if lost
        else f"recv seq {seq}, time = 7us, L1 plane check result = 0x0"
        for seq in range(3)
    ]
    summary = "3 packets transmitted, " + (
        "0 received, 100.00% packets loss" if lost else "3 received, 0.00% packets loss"
    )
    end = [] if lost else ["This pkt ping success!"]
    return "\n".join([*answers, summary, *end]) + "\n"


def _lldp(device: Device) -> str:
    switch = device["lldp"] == "switch"
    port = f"400GE1/{device['id'] // 2 + 1}/5:{device['id'] % 2 + 1}" if switch else "eth0"
    system = "Versatile Routing Platform Software" if switch else "AscendNPU"
    return (
        f"Port ID TLV\n\tIfname: {port}\nSystem Description TLV\n\t{system}\n"
        "Maximum Frame Size TLV\n\t9216\nEnd of LLDPDU TLV\n"
    )


def _optical(device: Device) -> str:
    present = device["optical_present"]
    return (
        "optical info:\n"
        f"present              : {'present' if present else 'not present'}\n"
        "temperature          : 47 C\n"
        "vendor name          : Hisense\n"
        "Tx Power0            : 1.4035 mW\n"
        f"Rx Power0            : {'1.0189' if present else '0.0000'} mW\n"
        "TxPower High Thres   : 3.5481 mW\n"
        "TxPower Low Thres    : 0.2818 mW\n"
        "RxPower High Thres   : 3.5481 mW\n"
        "RxPower Low Thres    : 0.1445 mW\n"
        "Tx Los Flag          : 0x0\n"
        f"Rx Los Flag          : {'0x0' if present else '0xff'}\n"
    )


def _link_stat(device: Device) -> str:
    records = [("13:26", "UP")]
    for flap in range(device["link_down_count"]):
        records += [(f"14:{flap % 60:02}", "DOWN"), (f"14:{flap % 60:02}", "UP")]
    if device["link"] == "DOWN":
        records.append(("15:00", "DOWN"))
    downs = sum(1 for _, status in records if status == "DOWN")
    lines = [
        "current time        : Tue Oct 28 21:46:46 2025",
        f"link up count       : {len(records) - downs}",
        f"link down count     : {downs}",
        "link change records :",
        *(f"    Sun Oct  5 10:{time_} 2025    LINK {status}" for time_, status in records[::-1]),
    ]
    return "".join(f"[devid {device['id']}]{line}\n" for line in lines)


TOOLS: dict[str, Callable[[list[str]], int]] = {"npu-smi": npu_smi, "hccn_tool": hccn_tool}
