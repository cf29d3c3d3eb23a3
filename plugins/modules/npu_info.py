# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_info
short_description: Return the state and topology of a node's Ascend NPUs
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Asks C(npu-smi) for the devices of a node, their health, memory, processes and topology.
  - Bad output never makes it fail. What is missing or not understood is null in the result and
    named in RV(problems).
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.devices.npu_smi
options:
  timeout:
    description:
      - Seconds that one call of C(npu-smi) may take. All calls together take at most twice as long,
        and after a call that did not end there is no other.
    type: float
    default: 30
seealso:
  - module: muster.serving.npu_topology_check
"""

EXAMPLES = r"""
- name: Look at the NPUs
  muster.serving.npu_info:
  register: npus

- name: Show what is not well
  ansible.builtin.debug:
    msg: "{{ npus.devices | rejectattr('health', 'equalto', 'OK') }}"
"""

RETURN = r"""
devices:
  description:
    - The devices, as the engine counts them. On Atlas A3 each of a card's two chips is one.
    - Any value may be null.
  returned: always
  type: list
  elements: dict
  contains:
    device_id:
      description: The number behind C(/dev/davinciN).
      type: int
    npu_id:
      description: The card, as C(npu-smi) counts.
      type: int
    chip_id:
      description: The chip on its card.
      type: int
    name:
      description: The chip's name.
      type: str
      sample: 910B3
    health:
      description: V(OK), V(Warning), V(Alarm), V(Critical) or V(UNKNOWN).
      type: str
    error_codes:
      description: The driver's error codes when the health is not V(OK).
      type: list
      elements: str
    bus_id:
      description: The PCI address.
      type: str
      sample: "0000:C1:00.0"
    power_w:
      description: Power draw; null on a card's second chip.
      type: float
    temperature_c:
      description: Temperature.
      type: int
    utilisation_percent:
      description: Use of the AI cores.
      type: int
    memory_used_mb:
      description: Device memory in use. An idle chip of 64 GB shows about 3 GB.
      type: int
    memory_total_mb:
      description: Device memory.
      type: int
    processes:
      description: Processes on the device, or null where C(npu-smi) does not show them.
      type: list
      elements: dict
      contains:
        pid:
          description: Process id.
          type: int
        name:
          description: Its name. Empty for a process of another user or container.
          type: str
        memory_mb:
          description: Device memory that it holds.
          type: int
version:
  description: The driver's version.
  returned: always
  type: str
  sample: 25.5.0
tool_version:
  description: The version of C(npu-smi), which may differ.
  returned: always
  type: str
  sample: 25.5.0
topology:
  description: How the devices are joined, or null.
  returned: always
  type: dict
  contains:
    devices:
      description: The devices, in the order of rows and columns.
      type: list
      elements: int
    links:
      description: The kind of link between each two; V(X) is the device itself.
      type: list
      elements: list
      sample: [[X, HCCS], [HCCS, X]]
    cpu_affinity:
      description: The CPUs near each device, or null.
      type: list
      elements: str
problems:
  description: What could not be had or understood, and devices that are missing.
  returned: always
  type: list
  elements: str
  sample: ["npu-smi does not list device 3, which /dev has"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observation import (
    missing_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observe_io import (
    device_numbers,
    find_npu_smi,
    observe_condition,
    observe_npus,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "npu_smi_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    tool = find_npu_smi(module.params["npu_smi_path"], module.params["timeout"])
    npus = observe_npus(tool, device_numbers())
    observe_condition(tool, npus)
    module.exit_json(
        changed=False,
        devices=[{**one, "error_codes": npus.error_codes(one)} for one in npus.devices],
        version=npus.version,
        tool_version=npus.tool_version,
        topology=npus.topology,
        problems=npus.problems + missing_devices(npus),
    )


if __name__ == "__main__":
    main()
