# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's NPUs, held against what was observed."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Callable, Collection

from ansible_collections.muster.serving.plugins.module_utils.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.device_checks import (
    Finding,
    devices_text,
    grouped,
    holders_of,
    memory_free,
    used_by_others,
)
from ansible_collections.muster.serving.plugins.module_utils.npu_observe import Fabric, Npus
from ansible_collections.muster.serving.plugins.module_utils.npu_smi import Device
from ansible_collections.muster.serving.plugins.module_utils.owners import Owner

# How devices of one node are joined where the fabric is whole. On A3 SIO joins the two chips of a
# card and HCCS_SW the cards; on A2 every pair has its own HCCS link.
WHOLE_FABRIC = {"a2": ("HCCS",), "a3": ("SIO", "HCCS_SW", "HCCS")}

LISTING = "npu-smi info"
LOST_CARD = (
    "look for the card with lspci and dmesg; reset or reseat it, or leave it out of muster_devices"
)


# --- npu-smi ----------------------------------------------------------------------------------


def npu_checks(
    npus: Npus,
    wanted: list[int],
    own_units: Collection[str],
    memory_utilization: float,
    owner_of: Callable[[int], Owner],
) -> list[Check]:
    """All checks on what npu-smi told.

    Args:
        npus: What was observed.
        wanted: The devices that the deployment uses on this node.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        memory_utilization: The share of a device's memory that the engine will claim.
        owner_of: Finds who owns a process.
    """
    checks = [_tool(npus)]
    if not npus.devices:
        return checks
    by_id = {device["device_id"]: device for device in npus.devices}
    there = [by_id[number] for number in wanted if number in by_id]
    checks += _count(by_id, wanted)
    checks += grouped("npu-health", [_health(device) for device in there], "OK")
    held = [(device, holders_of(device, owner_of)) for device in there]
    checks += grouped(
        "npu-processes",
        [used_by_others(device, holders, own_units, LISTING) for device, holders in held],
        "no process but Muster's own",
    )
    checks += grouped(
        "npu-memory",
        [
            memory_free(device, holders, own_units, memory_utilization, LISTING)
            for device, holders in held
        ],
        f"{memory_utilization:.0%} of the memory free, as the engine claims it",
    )
    return checks + _topology(npus, [device["device_id"] for device in there])


def _tool(npus: Npus) -> Check:
    if not npus.devices:
        status = "failed"
        remedy = "install the NPU driver, or look at what npu-smi info prints and at dmesg"
    elif npus.problems:
        status = "warning"
        remedy = "look at what npu-smi info prints; it was not understood in full"
    else:
        status, remedy = "ok", ""
    told = f"{len(npus.devices)} devices, driver {npus.version}"
    observed = "; ".join(npus.problems) or told
    return check("npu-tool", "bare", status, "npu-smi", observed, "a table of devices", remedy)


def _count(by_id: dict[Any, Device], wanted: list[int]) -> list[Check]:
    return grouped(
        "npu-count",
        [
            Finding(number, "ok", "listed")
            if number in by_id
            else Finding(number, "failed", "not listed by npu-smi", LOST_CARD)
            for number in wanted
        ],
        f"{devices_text(wanted)} listed by npu-smi",
    )


def _health(device: Device) -> Finding:
    number, health = device["device_id"], device["health"]
    if health == "OK":
        return Finding(number, "ok", "OK")
    codes = device.get("error_codes")
    observed = (health or "no health told") + (f", error codes {' '.join(codes)}" if codes else "")
    remedy = (
        "see npu-smi info -t health -i NPU -c CHIP; reset the idle chip "
        "(npu-smi set -t reset -i NPU -c CHIP), or leave the device out of muster_devices"
    )
    return Finding(number, "failed", observed, remedy)


def _topology(npus: Npus, devices: list[int]) -> list[Check]:
    links = WHOLE_FABRIC.get(npus.layout or "")
    if links is None or len(devices) < 2:
        return []
    expected = f"every pair joined by {' or '.join(links)}"
    subject = devices_text(devices)
    topology = npus.topology
    if topology is None:
        return [
            check(
                "npu-topology",
                "bare",
                "unknown",
                subject,
                "npu-smi tells no topology",
                expected,
                "look at what npu-smi info -t topo prints",
            )
        ]
    pairs: dict[str, list[str]] = {}
    for one, other in combinations(devices, 2):
        link = topology.link(one, other) or "no entry"
        if link not in links:
            pairs.setdefault(link, []).append(f"{one}-{other}")
    if not pairs:
        return [check("npu-topology", "bare", "ok", subject, "all joined", expected)]
    observed = "; ".join(
        f"{link} between {', '.join(of[:4])}"
        + (f" and {len(of) - 4} more pairs" if len(of) > 4 else "")
        for link, of in pairs.items()
    )
    return [
        check(
            "npu-topology",
            "bare",
            "failed",
            subject,
            observed,
            expected,
            "use devices that are joined (muster_devices), or have the server's HCCS links looked "
            "at: tensor parallelism over PCIe is slow or fails",
        )
    ]


# --- hccn_tool --------------------------------------------------------------------------------


def fabric_checks(fabric: Fabric) -> list[Check]:
    """All checks on the devices' own network ports, which ranks on other nodes are reached by."""
    checks = [
        _fabric_tool(fabric),
        *grouped("npu-link", [_link(fabric, device) for device in fabric.link], "UP"),
        *grouped(
            "npu-net-health", [_net_health(fabric, device) for device in fabric.link], "Success"
        ),
        *grouped(
            "npu-address", [_address(fabric, device) for device in fabric.link], "one of its own"
        ),
        *grouped(
            "npu-gateway",
            [_gateway(fabric, device) for device in fabric.link],
            "set, where the nodes' NPUs are in different networks",
        ),
        *grouped(
            "npu-detect-address",
            [_detect_address(fabric, device) for device in fabric.link],
            "set, so that the device probes its network",
        ),
        *grouped(
            "npu-tls", [_tls(fabric, device) for device in fabric.link], "one value on all devices"
        ),
        _neighbour(fabric),
    ]
    # Once the tool has failed, what it was not asked says nothing more.
    return [one for one in checks if not (fabric.failure and one["status"] == "unknown")]


def _fabric_tool(fabric: Fabric) -> Check:
    if fabric.failure:
        status = "failed"
        remedy = "see whether hccn_tool -i 0 -link -g answers; when it hangs, restart the driver"
    elif fabric.problems:
        status, remedy = "warning", "mend /etc/hccn.conf"
    else:
        status, remedy = "ok", ""
    observed = "; ".join([*filter(None, [fabric.failure]), *fabric.problems]) or "answers"
    return check(
        "npu-fabric-tool", "bare", status, "hccn_tool", observed, "an answer for all", remedy
    )


def _untold(fabric: Fabric, device: int, command: str) -> Finding:
    return Finding(
        device,
        "unknown",
        fabric.said.get((device, command), "no answer"),
        f"look at what hccn_tool -i N -{command} -g prints",
    )


def _link(fabric: Fabric, device: int) -> Finding:
    link = fabric.link[device]
    if link is None:
        return _untold(fabric, device, "link")
    if link == "UP":
        return Finding(device, "ok", link)
    remedy = "look at cable, optical module (hccn_tool -i N -optical -g) and switch port"
    return Finding(device, "failed", link, remedy)


def _net_health(fabric: Fabric, device: int) -> Finding:
    health = fabric.net_health[device]
    if health is None:
        return _untold(fabric, device, "net_health")
    if health == "Success":
        return Finding(device, "ok", health)
    if health == "Init":
        # Not probed yet, or nothing to probe: no evidence of a fault.
        remedy = "set a detect address: hccn_tool -i N -netdetect -s address GATEWAY"
        return Finding(device, "warning", health, remedy)
    remedy = "look at the switch port, its VLAN, and the device's address and gateway"
    return Finding(device, "failed", health, remedy)


def _address(fabric: Fabric, device: int) -> Finding:
    address = fabric.address[device]
    if address is None:
        return _untold(fabric, device, "ip")
    if not address:
        remedy = "set it: hccn_tool -i N -ip -s address ADDRESS netmask NETMASK"
        return Finding(device, "failed", "none", remedy)
    if list(fabric.address.values()).count(address) > 1:
        remedy = "give each device its own address: hccn_tool -i N -ip -s ..."
        return Finding(device, "failed", f"shares {address}", remedy)
    return Finding(device, "ok", "set")


def _gateway(fabric: Fabric, device: int) -> Finding:
    gateway = fabric.gateway[device]
    if gateway is None:
        return _untold(fabric, device, "gateway")
    if gateway:
        return Finding(device, "ok", "set")
    return Finding(device, "warning", "none", "set it: hccn_tool -i N -gateway -s gateway GATEWAY")


def _detect_address(fabric: Fabric, device: int) -> Finding:
    address = fabric.detect_address[device]
    if address is None:
        return _untold(fabric, device, "netdetect")
    if address:
        return Finding(device, "ok", "set")
    remedy = "set it to the gateway: hccn_tool -i N -netdetect -s address GATEWAY"
    return Finding(device, "warning", "none", remedy)


def _tls(fabric: Fabric, device: int) -> Finding:
    switch = fabric.tls[device]
    if switch is None:
        return _untold(fabric, device, "tls")
    observed = f"switch {switch}"
    if {0, 1} <= set(fabric.tls.values()):
        remedy = "set one value on all devices of all nodes: hccn_tool -i N -tls -s enable 0 (or 1)"
        return Finding(device, "failed", observed, remedy)
    return Finding(device, "ok", observed)


def _neighbour(fabric: Fabric) -> Check:
    told = {
        "switch": ("ok", "a switch", ""),
        "npu": (
            "failed",
            "another NPU, cabled back to back",
            "join the nodes by a switch; expert parallelism fails over a direct cable",
        ),
        None: (
            "unknown" if fabric.failure else "warning",
            "LLDP tells nothing",
            "enable LLDP at the switch, or make sure by hand that a switch joins the nodes",
        ),
    }
    status, observed, remedy = told[fabric.neighbour]
    return check(
        "npu-neighbour",
        "bare",
        status,
        devices_text(list(fabric.link)[:1]),
        observed,
        "a switch",
        remedy,
    )


def fabric_facts(fabric: Fabric) -> dict[str, Any]:
    """What has to agree, or to differ, between nodes."""
    return {
        "npu_tls": sorted({switch for switch in fabric.tls.values() if switch is not None}),
        "npu_addresses": [address for address in fabric.address.values() if address],
    }
