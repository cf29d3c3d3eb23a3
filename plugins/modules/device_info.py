# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_info
short_description: Return the state and topology of a node's accelerators, whoever made them
version_added: "0.1.0"
description:
  - Runs on the node the module that the vendor's devices have, and returns what all of them have in
    common.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
options:
  vendor:
    description: Whose devices they are, as C(platform.vendor) of a recipe has it.
    type: str
    required: true
seealso:
  - module: muster.serving.npu_info
  - module: muster.serving.nvidia_info
  - module: muster.serving.amd_info
"""

EXAMPLES = r"""
- name: Look at the devices
  muster.serving.device_info:
    vendor: "{{ muster_plan.stages[inventory_hostname].device_info.vendor }}"
  register: devices
"""

RETURN = r"""
devices:
  description: The devices, each with the keys that its vendor's module documents.
  returned: success
  type: list
  elements: dict
version:
  description: The driver's version, or null.
  returned: success
  type: str
topology:
  description: How the devices are joined, or null.
  returned: success
  type: dict
problems:
  description: What could not be had or understood.
  returned: success
  type: list
  elements: str
"""
