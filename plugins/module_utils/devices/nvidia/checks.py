# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of NVIDIA GPUs alone: health, modes, fabric manager, toolkit."""

from __future__ import annotations

import re
from typing import NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Complaint,
    Driver,
    Finding,
    grouped,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    number_of,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import Mode, Rules
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    NvidiaGpu,
    NvidiaGpus,
)

FABRIC_MANAGER_UNIT = "nvidia-fabricmanager.service"
IMEX_UNIT = "nvidia-imex.service"

# Grace and Blackwell in one module. The NVLink switches of its rack stand outside the nodes and run
# the fabric manager themselves; IMEX, on each node, lets GPUs of several nodes share memory.
_RACK = re.compile(r"\bGB[2-9]00\b")

_CONDITIONS = {
    "remapped_row_failure": "row remapping failed",
    "remapped_row_pending": "row remapping pending",
    "pending_retirement": "page retirement pending",
    "pending_blacklist": "page retirement pending",
    "sram_threshold_exceeded": "too many SRAM errors in its life",
    "reset_required": "the driver wants a reset",
    "drain_and_reset_recommended": "the driver wants a reset once nothing runs",
}


class FabricManager(NamedTuple):
    """NVIDIA's fabric manager on a node. Values are null where they could not be had."""

    service: str | None
    version: str | None


class Imex(NamedTuple):
    """NVIDIA's IMEX service on a node, and its domain, as far as they tell."""

    service: str | None
    domain: str | None
    unready: Sequence[str] = ()  # the nodes of the domain that are not ready, with their state


def parse_imex(text: str) -> tuple[str | None, list[str]]:
    """Return the state of the domain, and the nodes that are not ready, of nvidia-imex-ctl -N."""
    state = re.search(r"^\s*Domain State:\s*(\w+)", text, re.MULTILINE)
    nodes = re.findall(r"^\s*Node #\d+\s+[-*]\s+(\S+)\s+[-*]\s*-?\s*(\w+)", text, re.MULTILINE)
    return state[1] if state else None, [
        f"{node} {word}" for node, word in nodes if word != "READY"
    ]


def in_rack(gpus: NvidiaGpus) -> bool:
    """Return whether the GPUs' NVLink switches are those of a rack, and not the node's own."""
    return any(_RACK.search(device["name"] or "") for device in gpus.devices)


def health(device: NvidiaGpu) -> str:
    """Return OK, or all that is wrong with a GPU, worst first."""
    if device["lost"]:
        return "GPU is lost"
    wrong = list(device["unreadable"])
    if device["recovery_action"]:
        wrong.append(f"the driver wants: {device['recovery_action']}")
    if device["uncorrectable_errors"]:
        wrong.append(f"{device['uncorrectable_errors']} uncorrectable memory errors")
    wrong += [_CONDITIONS[name] for name in device["conditions"]]
    fabric = device["fabric"]
    if fabric and (fabric["state"], fabric["status"]) != ("Completed", "Success"):
        wrong.append(f"fabric {fabric['state']}, status {fabric['status'] or 'not told'}")
    return ", ".join(dict.fromkeys(wrong)) or "OK"


def modes(device: NvidiaGpu) -> list[Mode]:
    """Return what is to be said of the settings of a GPU."""
    persistence, compute = device["persistence_mode"], device["compute_mode"]
    return [
        Mode(
            "gpu-persistence",
            "ok" if persistence == "Enabled" else "warning",
            f"persistence mode {persistence or 'not told'}",
            "persistence mode Enabled, so that the driver stays loaded between processes",
            "keep the driver loaded: systemctl enable --now nvidia-persistenced, or nvidia-smi "
            "-pm 1",
        ),
        Mode(
            "gpu-compute-mode",
            {"Prohibited": "failed", "Exclusive_Process": "warning"}.get(compute or "", "ok"),
            f"compute mode {compute or 'not told'}",
            "compute mode Default: any process may use the GPU, and several at once",
            "nvidia-smi -i N -c DEFAULT; what set it, such as a batch system's prolog, may do so "
            "again",
        ),
        _mig(device["mig_mode"], device["mig_pending"]),
    ]


def _mig(mode: str | None, pending: str | None) -> Mode:
    # A GPU that cannot be cut in instances tells no mode.
    whole = mode in (None, "Disabled")
    later = pending if pending != mode else None
    off = "turn MIG off while nothing runs: nvidia-smi -i N -mig 0, then nvidia-smi -r -i N"
    if later and whole:
        off = "take it back before a reset or a reboot cuts the GPU: nvidia-smi -i N -mig 0"
    elif later:
        off = "it is turned off, and waits for a reset while nothing runs: nvidia-smi -r -i N"
    return Mode(
        "gpu-mig",
        "failed" if not whole else "warning" if later else "ok",
        f"MIG {mode or 'not there'}{f', {later} after the next reset' if later else ''}",
        "MIG Disabled: a rank takes a whole GPU",
        off,
    )


DRIVER = Driver(
    name="NVIDIA driver",
    install="install the NVIDIA driver of the branch that the recipe asks for, and reboot",
    bring_tool="the driver is loaded: bring nvidia-smi and the libraries of the same version (cat "
    "/proc/driver/nvidia/version; nvidia-utils, nvidia-driver-cuda or the driver's installer)",
    signs=("/proc/driver/nvidia/version",),
    complaints=(
        Complaint(
            r"driver/library version mismatch|nvml/rm version mismatch|api mismatch",
            "the loaded driver is not the installed one, as after an update without a reboot",
            "reboot the node; or stop all that uses the GPUs, unload the driver (rmmod nvidia_uvm "
            "nvidia_drm nvidia_modeset nvidia) and load the new one (modprobe nvidia)",
        ),
        Complaint(
            r"couldn'?t find libnvidia-ml|libnvidia-ml\.so\S*: cannot open|"
            r"shared library not found",
            "the driver's library libnvidia-ml.so is missing",
            "install the libraries of the driver that is loaded (cat /proc/driver/nvidia/version "
            "tells which; libnvidia-compute, nvidia-driver-cuda-libs or the driver's installer), "
            "and run ldconfig",
        ),
        Complaint(
            r"failed to initialize nvml: function not found",
            "libnvidia-ml.so is of an older driver than nvidia-smi",
            "install tool and libraries of one version, that of the loaded driver (cat "
            "/proc/driver/nvidia/version), and remove what is left of the older one",
        ),
        Complaint(
            r"couldn'?t communicate with the nvidia driver|driver not loaded|"
            r"nvidia driver is not loaded",
            "the driver is installed, but not loaded",
            "load it (modprobe nvidia) and look at dmesg; where modprobe knows none, the running "
            "kernel has no module of it (dkms status; after a kernel update build it anew or "
            "reboot into the kernel that has it), or Secure Boot refuses it (mokutil --sb-state)",
        ),
        Complaint(
            r"gpu is lost|fallen off the bus",
            "a GPU is lost",
            "see which one in dmesg (Xid 79), and reboot the node; when it comes back, have card, "
            "riser and power looked at, or leave the device out of muster_devices",
            of_driver=False,
        ),
        Complaint(
            r"unable to determine the device handle",
            "a GPU does not answer the driver",
            "see which one, and why, in dmesg (NVRM, Xid), and reboot the node; when it comes back,"
            " have the card looked at, or leave the device out of muster_devices",
            of_driver=False,
        ),
        Complaint(
            r"gpu access blocked by the operating system",
            "the driver's device nodes may not be opened",
            "see that /dev/nvidiactl and /dev/nvidiaN are there; a node that is itself a container "
            "or guest has to be handed its GPUs where it is made",
            of_driver=False,
        ),
        Complaint(
            r"no devices were found",
            "the driver is loaded and has no GPU",
            "see lspci -d 10de: and dmesg (NVRM): a GPU that fell off the bus needs a reboot, one "
            "that the driver refuses another driver (the open kernel modules from Blackwell on), "
            "and a container or guest has to be handed its GPUs where it is made",
            of_driver=False,
        ),
        Complaint(
            r"inforom is corrupted",
            "a GPU's own record is damaged",
            "the GPU computes, but may keep no record of its memory errors: have the infoROM "
            "restored or the card replaced when it can be spared",
            of_driver=False,
        ),
        Complaint(
            r"insufficient permissions",
            "nvidia-smi may not ask",
            "ask as root: set become for this host",
            of_driver=False,
        ),
    ),
)

RULES: Rules[NvidiaGpu] = Rules(
    tool="nvidia-smi",
    driver=DRIVER,
    listing="nvidia-smi",
    link="NVLink",
    link_pattern=r"NV\d+",
    reset="see nvidia-smi -q -i N and dmesg (Xid); reset the idle GPU (nvidia-smi -r -i N), "
    "reboot the node",
    ecc="turn ECC on where the GPU has it: nvidia-smi -i N -e 1, then reboot",
    health=health,
    modes=modes,
    slower_kin={"A800": "A100", "H800": "H100"},
)


def toolkit_check(found: Sequence[str]) -> Check:
    """Return whether Docker can hand NVIDIA GPUs to a container.

    Args:
        found: The toolkit's programs and CDI specifications on the node.
    """
    return check(
        "gpu-toolkit",
        "ok" if found else "failed",
        "NVIDIA container toolkit",
        found[0] if found else "missing",
        "nvidia-container-runtime-hook in the PATH, or a CDI specification",
        ""
        if found
        else "install nvidia-container-toolkit and run nvidia-ctk runtime configure "
        "--runtime=docker; Docker finds the hook after its next restart",
    )


def fabric_manager_checks(
    manager: FabricManager, gpus: NvidiaGpus, wanted: list[int]
) -> list[Check]:
    """Check that the fabric manager runs, is the driver's, and has joined the devices."""
    return [
        _service(manager),
        _manager_version(manager, gpus.version),
        *_fabric_checks(
            gpus,
            wanted,
            f"see journalctl -u {FABRIC_MANAGER_UNIT}; restart it while the GPUs are idle",
        ),
    ]


def rack_checks(imex: Imex, gpus: NvidiaGpus, wanted: list[int], multi_node: bool) -> list[Check]:
    """Return whether the rack's switches have joined the devices, and IMEX several nodes.

    Args:
        imex: What was seen of IMEX.
        gpus: What was observed.
        wanted: The devices that the deployment uses on this node.
        multi_node: Whether GPUs of several nodes work together.
    """
    none = check(
        "gpu-fabric-manager",
        "ok",
        FABRIC_MANAGER_UNIT,
        "none is needed: it runs on the rack's NVLink switches",
    )
    remedy = (
        "see nvidia-smi -q -i N (Fabric), and on the rack's NVLink switches whether their fabric "
        "manager runs and takes in this node; a GPU that stays out needs a reset"
    )
    return [none, *_fabric_checks(gpus, wanted, remedy), _imex_check(imex, multi_node)]


def _imex_check(imex: Imex, multi_node: bool) -> Check:
    expected = "active, its domain UP"
    start = (
        "name the rack's nodes in /etc/nvidia-imex/nodes_config.cfg, alike on all of them, and run "
        f"systemctl enable --now {IMEX_UNIT} on each; without it GPUs of other nodes are reached "
        "over the network, not by NVLink"
    )

    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        return check("gpu-imex", status, IMEX_UNIT, observed, expected, remedy)

    if not multi_node:
        return verdict("ok", "none is needed within one node")
    if imex.service is None:
        return verdict("unknown", "systemctl does not tell", f"systemctl status {IMEX_UNIT}")
    if imex.service != "active":
        return verdict("warning", imex.service, start)
    if imex.domain is None:
        observed = "active; nvidia-imex-ctl -N tells no state of the domain"
        remedy = "look at what nvidia-imex-ctl -N prints; it needs IMEX_CMD_ENABLED in its config"
        return verdict("unknown", observed, remedy)
    if imex.domain != "UP":
        observed = ", ".join([f"domain {imex.domain}", *imex.unready])
        remedy = f"start {IMEX_UNIT} on the nodes that are not ready, and see journalctl -u "
        return verdict("warning", observed, f"{remedy}{IMEX_UNIT} there")
    return verdict("ok", "active, domain UP")


def _fabric_checks(gpus: NvidiaGpus, wanted: list[int], remedy: str) -> list[Check]:
    there = [device for device in gpus.devices if device["device_id"] in wanted]
    return grouped(
        "gpu-fabric-manager",
        [_fabric(device, remedy) for device in there],
        "fabric Completed, status Success",
    )


def _service(manager: FabricManager) -> Check:
    status = {"active": "ok", None: "unknown"}.get(manager.service, "failed")
    return check(
        "gpu-fabric-manager",
        status,
        FABRIC_MANAGER_UNIT,
        manager.service or "systemctl does not tell",
        "active",
        ""
        if status == "ok"
        else "install the fabric manager of the driver's version and enable it: "
        f"systemctl enable --now {FABRIC_MANAGER_UNIT}",
    )


def _manager_version(manager: FabricManager, driver: str | None) -> Check:
    if manager.version is None or driver is None:
        status, remedy = "unknown", "compare nv-fabricmanager --version with the driver's version"
    elif manager.version == driver:
        status, remedy = "ok", ""
    else:
        status, remedy = "failed", f"install the fabric manager {driver}, and reboot"
    return check(
        "gpu-fabric-manager",
        status,
        "fabric manager version",
        manager.version or "not told",
        f"the driver's, {driver}",
        remedy,
    )


def _fabric(device: NvidiaGpu, remedy: str) -> Finding:
    number, fabric = number_of(device), device["fabric"]
    if fabric is None:
        return Finding(
            number, "unknown", "no fabric state told", "look at nvidia-smi -q -i N (Fabric)"
        )
    observed = f"{fabric['state']}, status {fabric['status'] or 'not told'}"
    if (fabric["state"], fabric["status"]) == ("Completed", "Success"):
        return Finding(number, "ok", observed)
    return Finding(number, "failed", observed, remedy)
