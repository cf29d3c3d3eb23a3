# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of AMD GPUs besides how to ask them."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Vendor
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.vendor import (
    ENTERPRISE_LINUX,
    GPU_OPTIONS,
)

AMD = Vendor(
    name="amd",
    check_module="gpu_topology_check",
    info_module="amd_info",
    options=GPU_OPTIONS,
    systems={
        **ENTERPRISE_LINUX,
        "ubuntu": ("22.04", "24.04"),
        "debian": ("12", "13"),
        "sles": ("15",),
        "azurelinux": ("3.0",),
    },
    architectures=("x86_64",),
    driver_paths=("/opt/rocm",),
    device_groups=("video", "render"),
    commands={"amd-smi.txt": ("amd-smi", "static"), "rocm-smi.txt": ("rocm-smi",)},
    files=("/sys/module/amdgpu/version",),
    exporter_port=5000,  # device-metrics-exporter
)
