# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's NPUs, held against what was observed."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Callable, Collection

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import excerpt
from ansible_collections.muster.serving.plugins.module_utils.common.versions import is_older
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.hccn import Ping
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.npu_smi import (
    INCOMPLETE_DRIVER,
    Npu,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observation import (
    Fabric,
    Npus,
    Pings,
    missing_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Complaint,
    Driver,
    Finding,
    driver_loaded_check,
    grouped,
    holders_of,
    memory_free,
    odd_ones,
    silence,
    used_by_others,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    devices_text,
    link_between,
    number_of,
)

# How devices of one node are joined where the fabric is whole. On A3 SIO joins the two chips of a
# card and HCCS_SW the cards; on A2 every pair has its own HCCS link.
WHOLE_FABRIC = {"a2": ("HCCS",), "a3": ("SIO", "HCCS_SW", "HCCS")}

LISTING = "npu-smi info"
LOST_CARD = (
    "look for the card with lspci and dmesg; reset or reseat it, or leave it out of muster_devices"
)
# What a ping of hccn_tool sends.
PACKETS = 3

# The numbers are those of the driver's own dcmi_interface_api.h.
DRIVER = Driver(
    name="NPU driver",
    install="install the NPU driver and firmware of the release that the engine's image asks for, "
    "and reboot",
    bring_tool="the driver is loaded: install its package in full, which brings npu-smi, or set "
    "up what it left out (/usr/local/Ascend/driver/tools)",
    complaints=(
        Complaint(
            r"lib(?:dcmi|drvdsmi_host|ascend_hal|c_sec|mmpa)\S*: cannot open",
            "a library of the driver is missing",
            "see that /usr/local/Ascend/driver/lib64 has it and that the loader looks there "
            "(/etc/ld.so.conf.d, ldconfig); else install the driver's package in full",
        ),
        Complaint(
            r"the device is used|ret is -8020\b",
            "another container has the NPUs to itself",
            "find it (docker ps, docker inspect: Devices) and stop it",
            of_driver=False,
        ),
        Complaint(
            r"ret is -8002\b|permission denied",
            "npu-smi may not ask",
            "ask as root: set become for this host",
            of_driver=False,
        ),
        Complaint(
            r"ret is -80(?:12|17)\b",
            "the driver is not ready, or is being upgraded",
            "wait for it; after an upgrade of driver or firmware reboot the node",
        ),
        Complaint(
            r"there is no npu card|ret is -8008\b",
            "the driver has no NPU",
            "look for the cards with lspci (Huawei, d80) and dmesg; reseat them, or reboot",
            of_driver=False,
        ),
        Complaint(
            r"dcmi \w+ initialized? failed|drvmnggetconsoleloglevel failed",
            "npu-smi does not reach the driver",
            "see lsmod (drv_, ascend) and dmesg; reboot after an update of driver or firmware; a "
            "node that is itself a container has to be handed its NPUs where it is made",
            of_driver=None,
        ),
    ),
)


# --- npu-smi ----------------------------------------------------------------------------------


def npu_checks(
    npus: Npus,
    wanted: list[int],
    own_units: Collection[str],
    memory_utilization: float,
    owner_of: Callable[[int], Owner],
    min_driver: str | None = None,
    device_nodes: Collection[str] = (),
) -> list[Check]:
    """Return all checks on what npu-smi told.

    Args:
        npus: What was observed.
        wanted: The devices that the deployment uses on this node.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        memory_utilization: The share of a device's memory that the engine will claim.
        owner_of: Finds who owns a process.
        min_driver: The oldest driver that will do.
        device_nodes: The device nodes that have checks of their own.
    """
    by_id = {device["device_id"]: device for device in npus.devices}
    loaded = driver_loaded_check("npu-driver-loaded", "npu-smi", DRIVER, npus, npus.loaded)
    tool = _tool(npus, [number for number in wanted if number not in by_id], wanted)
    if not npus.devices:
        return [loaded, tool]
    there = [by_id[number] for number in wanted if number in by_id]
    checks = [loaded, tool, *_driver(npus, min_driver)]
    if npus.whole or len(there) == len(wanted):
        checks += _count(npus, by_id, wanted, device_nodes)
    checks += grouped("npu-health", [_health(npus, device) for device in there], "OK")
    checks += grouped("npu-ecc", [_ecc(npus, number) for number in npus.ecc], "no double-bit error")
    checks += grouped("npu-firmware", _firmware(npus), "one on all cards, made for the driver")
    checks += grouped(
        "npu-superpod",
        _super_pod(npus),
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
    checks += _topology(npus, [number_of(device) for device in there])
    return _without_unknowns(checks) if tool["status"] == "failed" else checks


def lost_devices(npus: Npus, wanted: list[int]) -> list[int]:
    """Return those of the wanted devices that npu-smi would have listed, were they there."""
    listed = {device["device_id"] for device in npus.devices}
    return [number for number in wanted if npus.whole and number not in listed]


def _without_unknowns(checks: list[Check]) -> list[Check]:
    """Leave out unknowns: once a tool has failed, what it did not tell says nothing more."""
    return [one for one in checks if one["status"] != "unknown"]


def _tool(npus: Npus, unlisted: list[int], wanted: list[int]) -> Check:
    # An incomplete driver has a verdict of its own.
    doubts = [one for one in npus.doubts if not (npus.devices and INCOMPLETE_DRIVER in one)]
    subject, status, remedy = "npu-smi", "ok", ""
    if not npus.devices:
        said, remedy = silence("npu-smi", DRIVER, npus, npus.loaded)
        status, doubts = "failed", [said]
    elif npus.failure:
        status, doubts = "failed", [npus.failure, *doubts]
        remedy = "see whether it answers by hand; reset the chip, or restart the driver"
        if len(npus.silent) == 1:
            subject = devices_text(npus.silent)
    elif unlisted and not npus.whole:
        status, remedy = "failed", "look at what npu-smi info prints; its table does not end"
        doubts = [f"{devices_text(unlisted)} cannot be read", *doubts]
    else:
        doubts = doubts + (missing_devices(npus, wanted) if npus.whole else [])
        if doubts:
            status = "warning"
            remedy = "look at what npu-smi info prints; it was not understood in full"
    told = f"{len(npus.devices)} devices, driver {npus.version}"
    observed = "; ".join(doubts) or told
    return check("npu-tool", status, subject, observed, "a table of devices", remedy)


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
    checks.append(check("npu-driver-install", *seen))
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
        checks.append(check("npu-driver", status, "driver", version, expected, remedy))
    return checks


def _count(
    npus: Npus, by_id: dict[Any, Npu], wanted: list[int], device_nodes: Collection[str]
) -> list[Check]:
    def of(number: int) -> Finding:
        node = f"/dev/davinci{number}"
        if number in by_id:
            if number in npus.nodes or node in device_nodes:
                return Finding(number, "ok", "listed")
            observed = "listed by npu-smi, but without /dev/davinciN"
        elif number in npus.nodes:
            observed = "not listed by npu-smi, though its /dev/davinciN is there"
        else:
            observed = "not listed by npu-smi, and without /dev/davinciN"
        return Finding(number, "failed", observed, LOST_CARD)

    expected = f"{devices_text(wanted)} listed by npu-smi"
    return grouped("npu-count", [of(number) for number in wanted], expected)


def _health(npus: Npus, device: Npu) -> Finding:
    number, health = number_of(device), device["health"]
    if health == "OK":
        return Finding(number, "ok", "OK")
    codes = npus.error_codes(device)
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


def _firmware(npus: Npus) -> list[Finding]:
    told = {number: excerpt(board.firmware or "") for number, board in npus.boards.items()}
    odd = odd_ones({number: version for number, version in told.items() if version})

    def of(number: int) -> Finding:
        board, firmware = npus.boards[number], told[number]
        if not firmware or board.compatibility is None:
            return _not_told(npus, number, "board")
        if board.compatibility == "NOK":
            observed = f"{firmware}, which does not fit driver {excerpt(board.software or '')}"
            remedy = (
                "install the firmware that belongs to the driver, and reset the cards or reboot"
            )
            return Finding(number, "failed", observed, remedy)
        if number in odd:
            remedy = "install one firmware version on all cards, and reset them or reboot"
            return Finding(number, "failed", firmware, remedy)
        if board.compatibility != "OK":
            observed = f"{firmware}, compatibility {excerpt(board.compatibility)}"
            remedy = "compare /usr/local/Ascend/driver/version.info (compatible_version_fw) by hand"
            return Finding(number, "unknown", observed, remedy)
        return Finding(number, "ok", firmware)

    return [of(number) for number in npus.boards]


def _firmware_versions(npus: Npus) -> list[str]:
    return sorted({excerpt(one.firmware) for one in npus.boards.values() if one.firmware})


def _super_pod(npus: Npus) -> list[Finding]:
    told = {number: place for number, place in npus.super_pods.items() if place}
    odd = odd_ones({number: (place.pod, place.server) for number, place in told.items()})
    sdids = [place.sdid for place in told.values()]

    def of(number: int) -> Finding:
        place = npus.super_pods[number]
        if place is None:
            return _not_told(npus, number, "spod-info")
        observed = f"super pod {place.pod}, server {place.server}"
        if number in odd:
            remedy = "have the server's place in its super pod set anew, alike for all its devices"
            return Finding(number, "failed", observed, remedy)
        if sdids.count(place.sdid) > 1:
            remedy = "have the server's place in its super pod set anew; HCCL refuses equal SDIDs"
            return Finding(number, "failed", f"shares SDID {place.sdid}", remedy)
        return Finding(number, "ok", observed)

    return [of(number) for number in npus.super_pods]


def _not_told(npus: Npus, number: int, query: str) -> Finding:
    remedy = f"look at what npu-smi info -t {query} -i NPU prints"
    return Finding(number, "unknown", npus.said[number, query], remedy)


def _topology(npus: Npus, devices: list[int]) -> list[Check]:
    if len(devices) < 2:
        return []
    subject = devices_text(devices)
    links = WHOLE_FABRIC.get(npus.layout or "")
    if links is None:
        return [
            check(
                "npu-topology",
                "unknown",
                subject,
                f"NPUs of the kind {npus.layout}",
                "joined as such NPUs are, which is not known here",
                "look at what npu-smi info -t topo prints",
            )
        ]
    expected = f"every pair joined by {' or '.join(links)}"
    topology = npus.topology
    if topology is None:
        return [
            check(
                "npu-topology",
                "unknown",
                subject,
                "npu-smi tells no topology",
                expected,
                "look at what npu-smi info -t topo prints",
            )
        ]
    pairs: dict[str, list[str]] = {}
    for one, other in combinations(devices, 2):
        link = link_between(topology, one, other) or "no entry"
        if link not in links:
            pairs.setdefault(link, []).append(f"{one}-{other}")
    if not pairs:
        return [check("npu-topology", "ok", subject, "all joined", expected)]
    observed = "; ".join(
        f"{link} between {', '.join(of[:4])}"
        + (f" and {len(of) - 4} more pairs" if len(of) > 4 else "")
        for link, of in pairs.items()
    )
    return [
        check(
            "npu-topology",
            "failed",
            subject,
            observed,
            expected,
            "use devices that are joined (muster_devices), or have the server's HCCS links looked "
            "at: tensor parallelism over PCIe is slow or fails",
        )
    ]


# --- hccn_tool --------------------------------------------------------------------------------

BY_FILE = ", as /etc/hccn.conf has it"
HANGS = "see whether hccn_tool -i N -link -g answers by hand; reset the chip, or restart the driver"


def fabric_checks(fabric: Fabric) -> list[Check]:
    """Check the devices' own network ports, by which ranks on other nodes are reached.

    What only follows from another finding on the same device is left out.
    """
    mute = _mute(fabric)
    devices = [one for one in fabric.net_health if one not in fabric.stuck and one not in mute]
    checks = [
        *_fabric_tool(fabric, mute),
        *_findings(fabric, devices, "npu-link", _link, "UP"),
        *_findings(fabric, devices, "npu-net-health", _net_health, hccn.HEALTHY),
        *_findings(fabric, devices, "npu-address", _address, "one of its own"),
        *_findings(
            fabric,
            devices,
            "npu-gateway",
            _gateway,
            "set, where the nodes' NPUs are in different networks",
        ),
        *_findings(
            fabric,
            devices,
            "npu-detect-address",
            _detect_address,
            "set, so that the device probes its network",
        ),
        *grouped("npu-tls", _tls(fabric, devices), "one value on all devices"),
        *_neighbour(fabric, devices),
        *_findings(fabric, devices, "npu-vnic", _vnic, "UP, with an address"),
        *_configuration(fabric),
    ]
    return _without_unknowns(checks) if fabric.failure else checks


def _findings(
    fabric: Fabric,
    devices: list[int],
    check_id: str,
    of: Callable[[Fabric, int], Finding | None],
    expected: str,
) -> list[Check]:
    found = [of(fabric, device) for device in devices]
    return grouped(check_id, [one for one in found if one], expected)


def _mute(fabric: Fabric) -> list[int]:
    """Return the devices of which nothing was understood."""
    if fabric.failure:
        return []
    return [
        device
        for device, health in fabric.net_health.items()
        if device not in fabric.stuck
        and health is None
        and fabric.link.get(device) is None
        and not fabric.address.get(device)
    ]


def _fabric_tool(fabric: Fabric, mute: list[int]) -> list[Check]:
    def verdict(status: str, subject: str, observed: str, remedy: str = "") -> Check:
        expected = "an answer for each device"
        return check("npu-fabric-tool", status, subject, observed, expected, remedy)

    if fabric.absent:
        remedy = "install the NPU driver in full; it brings hccn_tool"
        return [verdict("failed", "hccn_tool", str(fabric.failure), remedy)]
    if fabric.failure:
        why = dict.fromkeys([*fabric.stuck.values(), fabric.failure])
        return [verdict("failed", "hccn_tool", "; ".join(why), HANGS)]
    checks = [
        verdict("failed", devices_text([device]), said, HANGS)
        for device, said in fabric.stuck.items()
    ]
    said: dict[str, list[int]] = {}
    for device in mute:
        said.setdefault(fabric.said[device, "net_health"], []).append(device)
    checks += [
        verdict("failed", devices_text(of), text, "look at what hccn_tool -i N -link -g prints")
        for text, of in said.items()
    ]
    return checks or [verdict("ok", "hccn_tool", "answers")]


def _untold(fabric: Fabric, device: int, command: str) -> Finding:
    return Finding(
        device,
        "unknown",
        fabric.said.get((device, command), "no answer"),
        f"look at what hccn_tool -i N -{command} -g prints",
    )


def _link(fabric: Fabric, device: int) -> Finding:
    if fabric.net_health[device] == hccn.HEALTHY:
        return Finding(device, "ok", "UP, as its net health shows")
    link = fabric.link.get(device)
    if link is None:
        return _untold(fabric, device, "link")
    if link == "UP":
        return Finding(device, "ok", link)
    remedy = "look at cable, optical module (hccn_tool -i N -optical -g) and switch port"
    return Finding(device, "failed", link, remedy)


def _is_sick(fabric: Fabric, device: int) -> bool:
    """Tell whether the device's probe fails, though nothing that it needs is known to be amiss."""
    return (
        fabric.net_health[device] not in (hccn.HEALTHY, "Init", None)
        and fabric.is_up(device) is not False
        and fabric.address.get(device) != ""
    )


def _net_health(fabric: Fabric, device: int) -> Finding | None:
    health = fabric.net_health[device]
    if health == hccn.HEALTHY:
        return Finding(device, "ok", health)
    if health is None:
        return None if fabric.is_up(device) is False else _untold(fabric, device, "net_health")
    if health == "Init" and fabric.is_up(device) and fabric.detect_address.get(device) != "":
        # Not probed yet: no evidence of a fault.
        remedy = "ask again in a minute: hccn_tool -i N -net_health -g"
        return Finding(device, "warning", health, remedy)
    if not _is_sick(fabric, device):
        return None
    if fabric.gateway.get(device) == "":
        remedy = "set the gateway: hccn_tool -i N -gateway -s gateway GATEWAY"
        return Finding(device, "failed", f"{health}, and no gateway is set", remedy)
    remedy = "look at the switch port, its VLAN, and the device's address and gateway"
    return Finding(device, "failed", health, remedy)


def _address(fabric: Fabric, device: int) -> Finding:
    address = fabric.address.get(device)
    if address is None:
        return _untold(fabric, device, "ip")
    if not address:
        remedy = "set it: hccn_tool -i N -ip -s address ADDRESS netmask NETMASK"
        return Finding(device, "failed", "none", remedy)
    if list(fabric.address.values()).count(address) > 1:
        remedy = "give each device its own address: hccn_tool -i N -ip -s ..."
        return Finding(device, "failed", f"shares {address}", remedy)
    confirmed = device in fabric.confirmed.get("address", ())
    return Finding(device, "ok", "set" + (BY_FILE if confirmed else ""))


def _gateway(fabric: Fabric, device: int) -> Finding | None:
    if fabric.is_up(device) is False or _is_sick(fabric, device):
        return None
    gateway = fabric.gateway.get(device)
    if gateway is None:
        return _untold(fabric, device, "gateway")
    if gateway:
        confirmed = device in fabric.confirmed.get("gateway", ())
        return Finding(device, "ok", "set" + (BY_FILE if confirmed else ""))
    return Finding(device, "warning", "none", "set it: hccn_tool -i N -gateway -s gateway GATEWAY")


def _detect_address(fabric: Fabric, device: int) -> Finding | None:
    if fabric.net_health[device] == hccn.HEALTHY:
        return Finding(device, "ok", "answers")
    if fabric.is_up(device) is False:
        return None
    address = fabric.detect_address.get(device)
    if address is None:
        return _untold(fabric, device, "netdetect")
    if address:
        return Finding(device, "ok", "set")
    remedy = "set it to the gateway: hccn_tool -i N -netdetect -s address GATEWAY"
    return Finding(device, "warning", "none", remedy)


def _tls(fabric: Fabric, devices: list[int]) -> list[Finding]:
    odd = odd_ones({device: switch for device, switch in fabric.tls.items() if switch})

    def of(device: int) -> Finding:
        switch = fabric.tls.get(device)
        if switch is None:
            return _untold(fabric, device, "tls")
        observed = f"switch {switch}"
        if device in odd:
            remedy = "set one value on all devices of all nodes: "
            remedy += "hccn_tool -i N -tls -s enable 0 (or 1)"
            return Finding(device, "failed", observed, remedy)
        confirmed = device in fabric.confirmed.get("tls_enable", ())
        return Finding(device, "ok", observed + (BY_FILE if confirmed else ""))

    return [of(device) for device in devices]


def _neighbour(fabric: Fabric, devices: list[int]) -> list[Check]:
    if fabric.neighbour is None:
        untold = [one for one in devices if fabric.is_up(one) is None]
        # Where all links are down, that is what has to be mended.
        if not untold:
            return []
        observed, remedy = "no device is known to have a link", "see what is said of the links"
        subject = devices_text(untold)
        return [check("npu-neighbour", "unknown", subject, observed, "a switch", remedy)]
    if fabric.neighbour[0] in fabric.stuck:
        return []
    device, neighbour = fabric.neighbour
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
    status, observed, remedy = told[neighbour]
    subject = devices_text([device])
    return [check("npu-neighbour", status, subject, observed, "a switch", remedy)]


def _vnic(fabric: Fabric, device: int) -> Finding | None:
    if device not in fabric.vnic:
        return None
    vnic = fabric.vnic[device]
    if vnic is None:
        return _untold(fabric, device, "vnic")
    if vnic.link == "UP":
        return Finding(device, "ok", vnic.link)
    remedy = "see npu-smi info -t health and dmesg; have the server's HCCS links looked at"
    return Finding(device, "failed", vnic.link, remedy)


# By key of hccn.conf, the command that asks the device.
ASKED_BY = {"address": "ip", "gateway": "gateway", "netdetect": "netdetect", "tls_enable": "tls"}
SET_ANEW = "set them anew (hccn_tool -i N -ip -s ...), which writes the file, or mend it"


def _configuration(fabric: Fabric) -> list[Check]:
    """Check whether /etc/hccn.conf, which HCCL's callers read, is what the devices really use.

    The driver sets the devices by it at the next boot: what it lacks is lost then.
    """
    expected = "/etc/hccn.conf as the devices are set"

    def verdict(status: str, subject: str, observed: str, remedy: str = "") -> Check:
        return check("npu-hccn-conf", status, subject, observed, expected, remedy)

    checks = []
    if fabric.problems:
        said = _few(fabric.problems, 3)
        checks.append(verdict("warning", "/etc/hccn.conf", said, "mend the file"))
    if fabric.failure:
        return checks
    devices = list(fabric.net_health)
    if not any(fabric.configuration.get(device) for device in devices):
        there = f"no setting of {devices_text(devices)} in it"
        observed = there if fabric.configured else "there is no such file"
        remedy = f"{SET_ANEW}; what is set now is lost at the next boot"
        return [*checks, verdict("warning", "/etc/hccn.conf", observed, remedy)]
    compared = []
    stale = []
    for device in devices:
        settings = fabric.configuration.get(device, {})
        used = {
            "address": fabric.address.get(device),
            "gateway": fabric.gateway.get(device),
            "netdetect": fabric.detect_address.get(device),
            "tls_enable": fabric.tls.get(device),
        }
        for key, value in used.items():
            written = settings.get(key, "")
            # A TLS switch that nobody has set has no line.
            if not value or (not written and key == "tls_enable"):
                continue
            # What the file alone told agrees with it.
            if (device, ASKED_BY[key]) in fabric.said:
                compared.append(device)
            if value != written:
                seen = f"is {written}" if written else "is not in it"
                stale.append((device, f"{key}_{device} {seen}, the device has {value}"))
    if stale:
        subject, texts = devices_text(device for device, _text in stale), [one[1] for one in stale]
        return [*checks, verdict("warning", subject, _few(texts, 3), SET_ANEW)]
    if not compared and not checks:
        observed = "hccn_tool tells nothing of the devices to hold it against"
        remedy = "look at what hccn_tool -i N -ip -g prints"
        return [verdict("unknown", devices_text(devices), observed, remedy)]
    return checks or [verdict("ok", devices_text(compared), "agrees")]


def _few(texts: list[str], limit: int) -> str:
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return "; ".join(texts[:limit]) + more


# --- pings ------------------------------------------------------------------------------------


def ping_checks(check_id: str, pings: Pings) -> list[Check]:
    """Check whether the NPUs of other nodes answer to those of this one.

    Args:
        check_id: npu-ping, or npu-hccs-ping for what went through HCCS.
        pings: What came back.
    """
    seen: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for pair, answer in pings.answers.items():
        seen.setdefault(_ping(check_id, answer, pings.said[pair]), []).append(pair)
    for pair in pings.untried:
        hangs = pings.stuck.get(pair[0])
        key = ("failed", hangs, HANGS) if hangs else ("unknown", pings.failure or "", HANGS)
        seen.setdefault(key, []).append(pair)
    # That two nodes' network ports share an address, the verdict over all nodes finds.
    if pings.own and check_id == "npu-hccs-ping":
        remedy = "compare what hccn_tool -i N -vnic -g prints on both nodes"
        seen["unknown", "this node has the other's address itself", remedy] = pings.own
    good = [key for key in seen if key[0] == "ok"]
    shown = [key for key in seen if key not in good] or good
    return [
        check(
            check_id,
            status,
            devices_text(device for device, _address in seen[status, observed, remedy]),
            f"{observed}, from {_few(_addresses(seen[status, observed, remedy]), 4)}",
            "an answer to every packet",
            remedy,
        )
        for status, observed, remedy in shown
    ]


def _addresses(pairs: list[tuple[int, str]]) -> list[str]:
    return list(dict.fromkeys(address for _device, address in pairs))


def _ping(check_id: str, answer: Ping | None, said: str) -> tuple[str, str, str]:
    hccs = check_id == "npu-hccs-ping"
    observed = said if answer is None else f"{answer.received} answers of {answer.sent}"
    if answer and answer.received >= (1 if hccs else PACKETS) and answer.received == answer.sent:
        return "ok", observed, ""
    if answer is None and not (hccs and any(word in said for word in hccn.HCCS_FAILURES)):
        command = "hccs_ping" if hccs else "ping"
        remedy = f"look at what hccn_tool -i N -{command} -g address ADDRESS prints"
        return "unknown", observed, remedy
    remedy = (
        "see that both servers are cabled into one super pod, and have its HCCS links looked at"
        if hccs
        else "look at both devices' links, addresses (hccn_tool -i N -ip -g, against their node's "
        "/etc/hccn.conf) and gateways, at the switch between them, its VLAN and its routes"
    )
    return "failed", observed, remedy


# --- facts ------------------------------------------------------------------------------------


def npu_facts(npus: Npus) -> dict[str, Any]:
    """Return what has to agree, or to differ, between nodes, as npu-smi tells it.

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


def fabric_facts(fabric: Fabric, wanted: list[int], hccs: Collection[int]) -> dict[str, Any]:
    """Return what has to agree or differ between nodes, and where their devices are reached."""

    def reachable(device: int) -> str | None:
        up = fabric.is_up(device) and device not in fabric.stuck
        return fabric.address.get(device) or None if up else None

    def vnic(device: int) -> str | None:
        seen = fabric.vnic.get(device)
        return seen.address if seen and seen.link == "UP" else None

    asked = wanted if fabric.net_health else []
    return {
        "npu_tls": sorted({int(switch) for switch in fabric.tls.values() if switch}),
        "npu_addresses": [address for address in fabric.address.values() if address],
        "npu_reachable": {str(device): reachable(device) for device in asked},
        "npu_vnic": {str(device): vnic(device) for device in asked if device in hccs},
    }
