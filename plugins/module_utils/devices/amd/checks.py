# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of AMD GPUs alone: health, partitions, device nodes."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.amd_smi import AmdGpu
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import Mode, Rules


class DeviceNodes(NamedTuple):
    """Whether /dev/kfd is there, and how many render nodes."""

    kfd: bool
    render: int


def health(device: AmdGpu) -> str:
    """Return OK, or why a GPU is not well.

    The driver has no word for it: a GPU that is lost leaves the list, one that is sick tells no
    more of itself.
    """
    told = device["memory_total_mb"] is not None
    return "OK" if told else "its driver tells nothing of its memory"


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


RULES: Rules[AmdGpu] = Rules(
    tool="amd-smi",
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
