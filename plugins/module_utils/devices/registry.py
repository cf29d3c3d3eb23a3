# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vendors whose devices can serve: one line each."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.muster.serving.plugins.module_utils.devices.amd.vendor import AMD
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.vendor import ASCEND
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Vendor
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.vendor import NVIDIA

VENDORS: Mapping[str, Vendor] = {vendor.name: vendor for vendor in (ASCEND, NVIDIA, AMD)}

# Of all of them: what the drivers' installers bring, and who owns the device nodes.
DRIVER_PATHS = tuple(path for vendor in VENDORS.values() for path in vendor.driver_paths)
DRIVER_TOOLS = tuple(tool for vendor in VENDORS.values() for tool in vendor.driver_tools)
DEVICE_GROUPS = tuple(
    dict.fromkeys(group for vendor in VENDORS.values() for group in vendor.device_groups)
)
