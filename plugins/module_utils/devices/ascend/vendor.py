# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of Ascend NPUs besides how to ask them."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Vendor

ASCEND = Vendor(
    name="ascend",
    check_module="npu_topology_check",
    info_module="npu_info",
    options=("multi_node", "pings"),
    systems={
        "ubuntu": ("20.04", "22.04", "24.04"),
        "openEuler": ("20.03", "22.03", "24.03"),
        "kylin": ("V10",),
    },
    architectures=("aarch64", "x86_64"),
    driver_paths=(
        "/usr/local/Ascend",
        "/usr/local/dcmi",
        "/etc/ascend_install.info",
        "/etc/hccn.conf",
    ),
    driver_tools=("npu-smi", "hccn_tool"),
    commands={"npu-smi.txt": ("npu-smi", "info")},
    files=(
        "/etc/ascend_install.info",
        "/etc/hccn.conf",
        "/usr/local/Ascend/driver/version.info",
        "/usr/local/Ascend/firmware/version.info",
    ),
    exporter_port=8082,  # MindCluster's npu-exporter
)
