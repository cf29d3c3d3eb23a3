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
from ansible_collections.muster.serving.plugins.module_utils.hccn import Ping, is_address
from ansible_collections.muster.serving.plugins.module_utils.npu_observe import (
    Fabric,
    Npus,
    Pings,
)
from ansible_collections.muster.serving.plugins.module_utils.npu_smi import (
    INCOMPLETE_DRIVER,
    Device,
    is_older,
)
from ansible_collections.muster.serving.plugins.module_utils.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.tool_text import excerpt

# How devices of one node are joined where the fabric is whole. On A3 SIO joins the two chips of a
# card and HCCS_SW the cards; on A2 every pair has its own HCCS link.
WHOLE_FABRIC = {"a2": ("HCCS",), "a3": ("SIO", "HCCS_SW", "HCCS")}

LISTING = "npu-smi info"
LOST_CARD = (
    "look for the card with lspci and dmesg; reset or reseat it, or leave it out of muster_devices"
)
# What a ping of hccn_tool sends.
PACKETS = 3


# --- npu-smi ----------------------------------------------------------------------------------


def npu_checks(
    npus: Npus,
    wanted: list[int],
    own_units: Collection[str],
    memory_utilization: float,
    owner_of: Callable[[int], Owner],
    min_driver: str | None = None,
) -> list[Check]:
    """All checks on what npu-smi told.

    Args:
        npus: What was observed.
        wanted: The devices that the deployment uses on this node.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        memory_utilization: The share of a device's memory that the engine will claim.
        owner_of: Finds who owns a process.
        min_driver: The oldest driver that will do.
    """
    checks = [_tool(npus)]
    if not npus.devices:
        return checks
    by_id = {device["device_id"]: device for device in npus.devices}
    there = [by_id[number] for number in wanted if number in by_id]
    checks += _driver(npus, min_driver)
    checks += _count(npus, by_id, wanted)
    checks += grouped("npu-health", [_health(device) for device in there], "OK")
    checks += grouped("npu-ecc", [_ecc(npus, number) for number in npus.ecc], "no double-bit error")
    checks += grouped(
        "npu-firmware",
        [_firmware(npus, number) for number in npus.boards],
        "one version on all cards, compatible with the driver",
    )
    checks += grouped(
        "npu-superpod",
        [_super_pod(npus, number) for number in npus.super_pods],
        "one super pod and server, and an SDID of its own for each device",
    )
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
    # An incomplete driver has a verdict of its own.
    problems = [one for one in npus.problems if not (npus.devices and INCOMPLETE_DRIVER in one)]
    if not npus.devices:
        status = "failed"
        remedy = "install the NPU driver, or look at what npu-smi info prints and at dmesg"
    elif problems:
        status = "warning"
        remedy = "look at what npu-smi info prints; it was not understood in full"
    else:
        status, remedy = "ok", ""
    told = f"{len(npus.devices)} devices, driver {npus.version}"
    observed = "; ".join(problems) or told
    return check("npu-tool", "bare", status, "npu-smi", observed, "a table of devices", remedy)


def _driver(npus: Npus, min_driver: str | None) -> list[Check]:
    checks = []
    expected = "an installation that came to its end"
    complaint = next((one for one in npus.problems if INCOMPLETE_DRIVER in one), None)
    if complaint:
        remedy = "install the driver again, and look for Driver_Install_Status=complete in "
        remedy += "/etc/ascend_install.info"
        seen = ("warning", "driver", complaint, expected, remedy)
    else:
        seen = ("ok", "driver", "npu-smi does not complain", expected, "")
    checks.append(check("npu-driver-install", "bare", *seen))
    if min_driver:
        older = None if npus.version is None else is_older(npus.version, min_driver)
        status = {True: "failed", False: "ok", None: "unknown"}[older]
        remedy = {
            True: f"install driver {min_driver} or later, with the firmware that belongs to it",
            False: "",
            None: "look at what npu-smi info prints after Version:",
        }[older]
        expected = f"{min_driver} or later"
        version = npus.version or "no version told"
        checks.append(check("npu-driver", "bare", status, "driver", version, expected, remedy))
    return checks


def _count(npus: Npus, by_id: dict[Any, Device], wanted: list[int]) -> list[Check]:
    return grouped(
        "npu-count",
        [_listed(number, by_id, npus.nodes) for number in wanted],
        f"{devices_text(wanted)} listed by npu-smi",
    )


def _listed(number: int, by_id: dict[Any, Device], nodes: list[int]) -> Finding:
    if number in by_id:
        return Finding(number, "ok", "listed")
    if number in nodes:
        observed = "not listed by npu-smi, though its /dev/davinciN is there"
    else:
        observed = "not listed by npu-smi, and without /dev/davinciN"
    return Finding(number, "failed", observed, LOST_CARD)


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


def _ecc(npus: Npus, number: int) -> Finding:
    ecc = npus.ecc[number]
    if ecc is None:
        return _not_told(npus, number, "ecc")
    pages = f"{ecc.isolated_pages} pages isolated for double-bit errors"
    if ecc.errors:
        observed = f"{ecc.errors} double-bit errors, {pages}"
        remedy = (
            "reset the idle chip (npu-smi set -t reset -i NPU -c CHIP); when errors come back, "
            "have the card replaced, or leave the device out of muster_devices"
        )
        return Finding(number, "failed", observed, remedy)
    if ecc.isolated_pages:
        remedy = "see npu-smi info -t ecc -i NPU -c CHIP, and have the card replaced if they grow"
        return Finding(number, "warning", pages, remedy)
    return Finding(number, "ok", "none")


def _firmware(npus: Npus, number: int) -> Finding:
    board = npus.boards[number]
    firmware = excerpt(board.firmware or "")
    if not firmware or board.compatibility is None:
        return _not_told(npus, number, "board")
    if board.compatibility == "NOK":
        observed = f"{firmware}, which does not fit driver {excerpt(board.software or '')}"
        remedy = "install the firmware that belongs to the driver, and reset the cards or reboot"
        return Finding(number, "failed", observed, remedy)
    if board.compatibility != "OK":
        observed = f"{firmware}, compatibility {excerpt(board.compatibility)}"
        remedy = "compare /usr/local/Ascend/driver/version.info (compatible_version_fw) by hand"
        return Finding(number, "unknown", observed, remedy)
    if len(_firmware_versions(npus)) > 1:
        remedy = "install one firmware version on all cards, and reset them or reboot"
        return Finding(number, "failed", firmware, remedy)
    return Finding(number, "ok", firmware)


def _firmware_versions(npus: Npus) -> list[str]:
    return sorted({excerpt(one.firmware) for one in npus.boards.values() if one.firmware})


def _super_pod(npus: Npus, number: int) -> Finding:
    place = npus.super_pods[number]
    if place is None:
        return _not_told(npus, number, "spod-info")
    told = [one for one in npus.super_pods.values() if one]
    observed = f"super pod {place.pod}, server {place.server}"
    if len({(one.pod, one.server) for one in told}) > 1:
        remedy = "have the server's place in its super pod set anew, alike for all of its devices"
        return Finding(number, "failed", observed, remedy)
    if [one.sdid for one in told].count(place.sdid) > 1:
        remedy = "have the server's place in its super pod set anew; HCCL refuses equal SDIDs"
        return Finding(number, "failed", f"shares SDID {place.sdid}", remedy)
    return Finding(number, "ok", observed)


def _not_told(npus: Npus, number: int, query: str) -> Finding:
    remedy = f"look at what npu-smi info -t {query} -i NPU prints"
    return Finding(number, "unknown", npus.said[number, query], remedy)


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
        *_configuration(fabric),
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


def _configuration(fabric: Fabric) -> list[Check]:
    """Whether C(/etc/hccn.conf), which HCCL's callers read, is what the devices really use."""
    compared = []
    stale = []
    for device, settings in fabric.configuration.items():
        tls = fabric.tls.get(device)
        used = {
            "address": fabric.address.get(device),
            "gateway": fabric.gateway.get(device),
            "netdetect": fabric.detect_address.get(device),
            "tls_enable": None if tls is None else str(tls),
        }
        for key, value in used.items():
            written = settings.get(key, "")
            if not value or not (is_address(written) or written in ("0", "1")):
                continue
            compared.append(device)
            if value != written:
                stale.append((device, f"{key}_{device} is {written}, the device has {value}"))
    if not compared:
        return []
    subject = devices_text(device for device, _text in stale) if stale else devices_text(compared)
    texts = _few([text for _device, text in stale], 3)
    expected = "/etc/hccn.conf as the devices are set"
    remedy = "set them anew (hccn_tool -i N -ip -s ...), which writes the file, or mend the file"
    seen = ("warning", subject, texts, expected, remedy)
    return [
        check("npu-hccn-conf", "bare", *seen)
        if stale
        else check("npu-hccn-conf", "bare", "ok", subject, "agrees", expected)
    ]


def _few(texts: list[str], limit: int) -> str:
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return "; ".join(texts[:limit]) + more


# --- pings ------------------------------------------------------------------------------------


def ping_checks(pings: Pings) -> list[Check]:
    """Whether the NPUs of other nodes answer to those of this one."""
    seen: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for pair, answer in pings.answers.items():
        seen.setdefault(_ping(answer, pings.said[pair]), []).append(pair)
    if pings.untried:
        remedy = "see whether hccn_tool -i 0 -link -g answers; when it hangs, restart the driver"
        seen["unknown", pings.failure or "not tried", remedy] = pings.untried
    good = [key for key in seen if key[0] == "ok"]
    shown = [key for key in seen if key not in good] or good
    return [
        check(
            "npu-ping",
            "bare",
            status,
            devices_text(device for device, _address in seen[status, observed, remedy]),
            f"{observed}, from {_few(_addresses(seen[status, observed, remedy]), 4)}",
            f"{PACKETS} answers of {PACKETS}",
            remedy,
        )
        for status, observed, remedy in shown
    ]


def _addresses(pairs: list[tuple[int, str]]) -> list[str]:
    return list(dict.fromkeys(address for _device, address in pairs))


def _ping(answer: Ping | None, said: str) -> tuple[str, str, str]:
    if answer is None:
        return "unknown", said, "look at what hccn_tool -i N -ping -g address ADDRESS prints"
    observed = f"{answer.received} answers of {answer.sent}"
    if answer.received >= PACKETS and answer.received == answer.sent:
        return "ok", observed, ""
    remedy = (
        "look at both devices' links, addresses and gateways, at the switch between them, its "
        "VLAN and its routes"
    )
    return "failed", observed, remedy


# --- facts ------------------------------------------------------------------------------------


def npu_facts(npus: Npus) -> dict[str, Any]:
    """What has to agree, or to differ, between nodes, as npu-smi tells it.

    Server indexes and SDIDs have a meaning within their super pod alone.
    """
    places = [one for one in npus.super_pods.values() if one]
    return {
        "driver_version": npus.version,
        "firmware_version": _firmware_versions(npus),
        "super_pod_id": sorted({one.pod for one in places}),
        "super_pod_server": sorted({f"super pod {one.pod}, server {one.server}" for one in places}),
        "super_pod_sdid": [f"super pod {one.pod}, SDID {one.sdid}" for one in places],
    }


def fabric_facts(fabric: Fabric) -> dict[str, Any]:
    """What has to agree, or to differ, between nodes."""
    return {
        "npu_tls": sorted({switch for switch in fabric.tls.values() if switch is not None}),
        "npu_addresses": [address for address in fabric.address.values() if address],
    }
