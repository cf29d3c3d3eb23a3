# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's GPUs, held against what was observed.

An observation is one dict, of the same shape whoever made the GPUs:

    devices: a list of dicts
        device_id            int, the index by which engine and container engine are given the
                             device: what nvidia-smi -i, amd-smi and docker --gpus count
        name, bus_id, uuid   str or null
        health               "OK", or in a few words why not
        power_w, temperature_c, utilisation_percent, memory_used_mb, memory_total_mb
                             numbers or null
        processes            [{pid, name, memory_mb}], or null where the tool does not tell
        uncorrectable_errors int, the memory errors since the driver was loaded that ECC could not
                             correct, or null
        modes                [{check, status, observed, expected, remedy}], one for each setting of
                             the device that matters: persistence, MIG, partitions. check is the
                             id of the check that it becomes ("gpu-mig"); status is ok, warning,
                             failed or unknown; remedy is empty only when it is ok
        fabric               {state, status} of the NVLink fabric as NVIDIA tells it, or null
    version: the driver's version, or null
    topology: {ids: [device_id], matrix: [[word]]}, or null. matrix[i][j] is the link between
        ids[i] and ids[j]: X, NV18, SYS, NODE, PHB, PXB, PIX of NVIDIA; X, XGMI, PCIE of AMD
    problems: [str], what could not be had or understood
    failure: why nothing could be had at all (tool missing, hanging), or null
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, TypedDict

Device = Dict[str, Any]


class Topology(TypedDict):
    ids: List[int]
    matrix: List[List[str]]


class Observation(TypedDict):
    devices: List[Device]
    version: Optional[str]
    topology: Optional[Topology]
    problems: List[str]
    failure: Optional[str]
