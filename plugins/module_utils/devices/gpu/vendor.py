# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records of GPU vendors share."""

from __future__ import annotations

# What gpu_topology_check takes beside the options of every module that checks devices.
GPU_OPTIONS = (
    "vendor",
    "device_names",
    "driver",
    "fabric_manager",
    "container_gpus",
    "multi_node",
)

# The releases of Red Hat and of those that follow it.
ENTERPRISE_LINUX = dict.fromkeys(("rhel", "rocky", "almalinux", "ol"), ("8", "9", "10"))
