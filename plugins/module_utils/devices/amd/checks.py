# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of AMD GPUs alone: health, partitions, device nodes."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.amd_smi import AmdGpu
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Complaint,
    Driver,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import Mode, Rules


class DeviceNodes(NamedTuple):
    """Whether /dev/kfd is there, and how many render nodes."""

    kfd: bool
    render: int


def health(device: AmdGpu) -> str:
    """Return OK, or why a GPU is not well.

    The driver has no word for it: a GPU that is lost leaves the list, one that is sick tells no
    more of itself. Of a GPU that is cut only the first part tells of memory.
    """
    told = device["memory_total_mb"] is not None
    cut = device["compute_partition"] not in (None, "SPX")
    return "OK" if told or cut else "its driver tells nothing of its memory"


def modes(device: AmdGpu) -> list[Mode]:
    """Return what is to be said of a GPU's partitions."""
    compute, memory = device["compute_partition"], device["memory_partition"]
    status, remedy = "ok", ""
    if compute is None or memory is None:
        status, remedy = "unknown", "look at what amd-smi partition prints"
    elif (compute, memory) != ("SPX", "NPS1"):
        status = "failed"
        remedy = (
            "while nothing uses the GPUs: amd-smi set --gpu all --memory-partition NPS1, then "
            "amd-smi set --gpu all --compute-partition SPX"
        )
    return [
        Mode(
            "gpu-partition",
            status,
            f"{compute or 'not told'}, {memory or 'not told'}",
            "SPX, NPS1: one device a GPU, with all of its memory",
            remedy,
        )
    ]


DRIVER = Driver(
    name="amdgpu driver",
    install="install AMD's driver and ROCm (amdgpu-dkms, amd-smi-lib), and reboot",
    bring_tool="the driver is loaded: install amd-smi-lib of the ROCm release in use",
    signs=("/sys/module/amdgpu", "/dev/kfd"),
    complaints=(
        Complaint(
            r"lib(?:amd_smi|rocm_smi64)\.so\S*: cannot open|unable to find \S*libamd_smi",
            "the library of amd-smi is missing",
            "install amd-smi-lib of the ROCm release in use, and run ldconfig",
        ),
        Complaint(
            r"driver not initialized|amdgpu not found in modules|check amdgpu version and module "
            r"status|driver_not_loaded|rock module is not loaded",
            "the driver is not loaded",
            "load it (modprobe amdgpu) and look at dmesg; where it does not load, the running "
            "kernel has no module of it (dkms status; build amdgpu-dkms anew, or reboot into the "
            "kernel that has it), or Secure Boot refuses it (mokutil --sb-state)",
        ),
        Complaint(
            r"no module named .?amdsmi",
            "amd-smi lacks its own Python package",
            "install amd-smi-lib of the ROCm release in use anew",
            of_driver=False,
        ),
        Complaint(
            r"unable to detect any gpu devices|no gpus? (?:devices? )?(?:were )?(?:found|detected)",
            "the driver has no GPU",
            "see lspci -d 1002: and dmesg (amdgpu): a GPU that is gone needs a reboot, and a "
            "container or guest has to be handed its GPUs where it is made",
            of_driver=None,
        ),
        Complaint(
            r"missing the following required groups|status_no_perm",
            "amd-smi may not ask",
            "ask as root: set become for this host",
            of_driver=False,
        ),
    ),
)

RULES: Rules[AmdGpu] = Rules(
    tool="amd-smi",
    driver=DRIVER,
    listing="amd-smi process",
    link="XGMI",
    link_pattern=r"XGMI",
    # By bus id: amd-smi numbers GPUs in another order than the engine.
    reset="see amd-smi metric -g BUS_ID, with the bus id that amd_info tells, and dmesg "
    "(amdgpu); reset the idle GPU (amd-smi reset -g BUS_ID -G), reboot the node",
    ecc="see amd-smi metric -g BUS_ID --ecc, with the bus id that amd_info tells",
    health=health,
    modes=modes,
)


def nodes_check(nodes: DeviceNodes, gpus: int) -> Check:
    """Return whether every GPU has its device nodes.

    Args:
        nodes: What was seen in /dev.
        gpus: How many GPUs the node has; each has a render node of its own.
    """
    wanted = max(gpus, 1)
    well = nodes.kfd and nodes.render >= wanted
    return check(
        "gpu-device-nodes",
        "ok" if well else "failed",
        "/dev/kfd, /dev/dri",
        f"{'/dev/kfd' if nodes.kfd else 'no /dev/kfd'}, {nodes.render} render nodes",
        f"/dev/kfd, {wanted} render nodes or more",
        "" if well else "modprobe amdgpu, and look at dmesg; /dev/kfd needs the ROCm driver",
    )
