# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of NVIDIA GPUs besides how to ask them."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Vendor
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.vendor import (
    ENTERPRISE_LINUX,
    GPU_OPTIONS,
)

NVIDIA = Vendor(
    name="nvidia",
    check_module="gpu_topology_check",
    info_module="nvidia_info",
    options=(*GPU_OPTIONS, "compiler", "cuda_home"),
    systems={
        **ENTERPRISE_LINUX,
        "ubuntu": ("20.04", "22.04", "24.04", "26.04"),
        "debian": ("12", "13"),
        "sles": ("15", "16"),
        "kylin": ("V10", "V11"),
        "amzn": ("2023",),
        "azurelinux": ("3.0",),
    },
    architectures=("aarch64", "x86_64"),
    device_groups=("video", "render"),
    commands={
        "nvidia-smi.txt": ("nvidia-smi",),
        "nvidia-topology.txt": ("nvidia-smi", "topo", "-m"),
    },
    files=("/proc/driver/nvidia/version",),
    exporter_port=9400,  # dcgm-exporter
)
