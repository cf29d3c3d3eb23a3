# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the devices of a node have in use, by the tool of their vendor."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.devices.amd import (
    observe_io as amd,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as ascend,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Device
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import (
    observe_io as nvidia,
)


def _ascend(timeout: float) -> Sequence[Device]:
    tool = ascend.find_npu_smi(None, timeout)
    return ascend.observe_npus(tool, ascend.device_numbers()).devices


_OBSERVE: Mapping[str, Callable[[float], Sequence[Device]]] = {
    "ascend": _ascend,
    "nvidia": lambda timeout: nvidia.observe(None, timeout).devices,
    "amd": lambda timeout: amd.observe(None, timeout).devices,
}


def memory_used(vendor: str, timeout: float) -> dict[str, int]:
    """Return by device the MiB that are in use; one that the tool tells nothing of is left out."""
    return {
        str(device["device_id"]): device["memory_used_mb"]
        for device in _OBSERVE[vendor](timeout)
        if device["device_id"] is not None and device["memory_used_mb"] is not None
    }
