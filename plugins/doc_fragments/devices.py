# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that look at a node's accelerators."""

from __future__ import annotations


class ModuleDocFragment:
    # Of the checks of every vendor.
    DOCUMENTATION = r"""
options:
  devices:
    description:
      - Numbers of the devices that the deployment uses, as the engine counts them.
      - Without it, the first O(device_count).
    type: list
    elements: int
  device_nodes:
    description: Device nodes that containers are given. Each must be a character device, or a
      directory that holds some.
    type: list
    elements: path
    default: []
  mounts:
    description: Mounts of the containers, C(SRC:DST[:ro]). The sources that the driver's installer
      brings are checked, the others are not.
    type: list
    elements: str
    default: []
  memory_utilization:
    description: The share of a device's memory that the engine claims (its
      C(--gpu-memory-utilization), without which vLLM takes 0.92, and 0.9 before 0.20), and which
      therefore must be free.
    type: float
    default: 0.92
  own_units:
    description: Names of the systemd units of Muster on this node. A device that one of these, or
      its container, holds is not taken for busy.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that one call of a tool may take.
    type: float
    default: 30
"""

    NPU_SMI = r"""
options:
  npu_smi_path:
    description:
      - Path of C(npu-smi).
      - Without it C(/usr/local/bin), C(/usr/local/sbin) and the PATH are searched.
    type: path
"""
