# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of NVIDIA GPUs alone: health, modes, fabric manager, toolkit."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
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

_CONDITIONS = {
    "remapped_row_failure": "row remapping failed",
    "remapped_row_pending": "row remapping pending",
    "pending_retirement": "page retirement pending",
    "pending_blacklist": "page retirement pending",
    "sram_threshold_exceeded": "too many SRAM errors in its life",
}


class FabricManager(NamedTuple):
    """NVIDIA's fabric manager on a node. Values are null where they could not be had."""

    service: str | None
    version: str | None


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
    persistence, mig = device["persistence_mode"], device["mig_mode"]
    return [
        Mode(
            "gpu-persistence",
            "ok" if persistence == "Enabled" else "warning",
            f"persistence mode {persistence or 'not told'}",
            "persistence mode Enabled, so that the driver stays loaded between processes",
            "keep the driver loaded: systemctl enable --now nvidia-persistenced, or nvidia-smi "
            "-pm 1",
        ),
        # A GPU that cannot be cut in instances tells no MIG mode.
        Mode(
            "gpu-mig",
            "ok" if mig in (None, "Disabled") else "failed",
            f"MIG {mig or 'not there'}",
            "MIG Disabled: a rank takes a whole GPU",
            "turn MIG off while nothing runs: nvidia-smi -i N -mig 0, then nvidia-smi -r -i N",
        ),
    ]


RULES: Rules[NvidiaGpu] = Rules(
    tool="nvidia-smi",
    listing="nvidia-smi",
    link="NVLink",
    link_pattern=r"NV\d+",
    reset="see nvidia-smi -q -i N and dmesg (Xid); reset the idle GPU (nvidia-smi -r -i N), "
    "reboot the node",
    ecc="turn ECC on where the GPU has it: nvidia-smi -i N -e 1, then reboot",
    health=health,
    modes=modes,
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
    """Does the fabric manager run, is it the driver's, and has it joined the devices?"""
    checks = [_service(manager), _manager_version(manager, gpus.version)]
    there = [device for device in gpus.devices if device["device_id"] in wanted]
    return checks + grouped(
        "gpu-fabric-manager",
        [_fabric(device) for device in there],
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


def _fabric(device: NvidiaGpu) -> Finding:
    number, fabric = number_of(device), device["fabric"]
    if fabric is None:
        return Finding(
            number, "unknown", "no fabric state told", "look at nvidia-smi -q -i N (Fabric)"
        )
    observed = f"{fabric['state']}, status {fabric['status'] or 'not told'}"
    if (fabric["state"], fabric["status"]) == ("Completed", "Success"):
        return Finding(number, "ok", observed)
    return Finding(
        number,
        "failed",
        observed,
        f"see journalctl -u {FABRIC_MANAGER_UNIT}; restart it while the GPUs are idle",
    )
