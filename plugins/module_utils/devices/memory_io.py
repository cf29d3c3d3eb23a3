# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the devices of a node have in use, by the tool of their vendor."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as ascend,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Device
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.look_io import LOOKS


def _devices(vendor: str, timeout: float) -> Sequence[Device]:
    if vendor in LOOKS:
        found: Sequence[Device] = LOOKS[vendor]().observe(None, timeout).devices
        return found
    tool = ascend.find_npu_smi(None, timeout)
    return ascend.observe_npus(tool, ascend.device_numbers()).devices


def memory_used(vendor: str, timeout: float) -> dict[str, int]:
    """Return by device the MiB that are in use; one that the tool tells nothing of is left out."""
    return {
        str(device["device_id"]): device["memory_used_mb"]
        for device in _devices(vendor, timeout)
        if device["device_id"] is not None and device["memory_used_mb"] is not None
    }
