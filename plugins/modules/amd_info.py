# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: amd_info
short_description: Return the state and topology of a node's AMD GPUs
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Asks C(amd-smi) for the GPUs of a node, their memory, processes, partitions and topology. Where
    it is missing, C(rocm-smi) is asked, which knows less.
  - Bad output never makes it fail. What is missing or not understood is null in the result and
    named in RV(problems).
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
options:
  amd_smi_path:
    description:
      - Path of C(amd-smi).
      - Without it C(/opt/rocm/bin) and the PATH are searched.
    type: path
  timeout:
    description:
      - Seconds that one call of the tool may take. Calls run side by side in two rounds, and after
        a round with a call that did not end there is no other.
    type: float
    default: 30
seealso:
  - module: muster.serving.gpu_topology_check
"""

EXAMPLES = r"""
- name: Look at the GPUs
  muster.serving.amd_info:
  register: gpus

- name: Show those that are partitioned
  ansible.builtin.debug:
    msg: "{{ gpus.devices | rejectattr('compute_partition', 'equalto', 'SPX') }}"
"""

RETURN = r"""
devices:
  description:
    - The GPUs, as the engine counts them. On some servers C(amd-smi) counts in another order.
    - Any value may be null.
  returned: always
  type: list
  elements: dict
  contains:
    device_id:
      description: The number for C(HIP_VISIBLE_DEVICES).
      type: int
    name:
      description: The market name.
      type: str
      sample: AMD Instinct MI300X
    health:
      description: V(OK), or in a few words why not.
      type: str
    bus_id:
      description: The PCI address, by which C(amd-smi) and C(lspci) name the GPU as well.
      type: str
      sample: "0000:0c:00.0"
    uuid:
      description: Its unique id.
      type: str
    power_w:
      description: Power draw of the socket.
      type: float
    temperature_c:
      description: Temperature of the hottest spot.
      type: int
    utilisation_percent:
      description: Use of the compute units.
      type: int
    memory_used_mb:
      description: Device memory in use.
      type: int
    memory_total_mb:
      description: Device memory.
      type: int
    uncorrectable_errors:
      description: Errors that ECC could not correct since the driver was loaded.
      type: int
    compute_partition:
      description: V(SPX) where the GPU is one device; V(DPX), V(TPX), V(QPX) or V(CPX) where it is
        cut in several.
      type: str
    memory_partition:
      description: V(NPS1) where the device has all of the memory.
      type: str
    processes:
      description: Processes that hold memory of the GPU, or null where the tool does not show them.
      type: list
      elements: dict
      contains:
        pid:
          description: Process id.
          type: int
        name:
          description: Its name. Empty where the tool does not know it.
          type: str
        memory_mb:
          description: Device memory that it holds. Null where C(rocm-smi) shows it only as the sum
            over several GPUs.
          type: int
version:
  description: The driver's version.
  returned: always
  type: str
  sample: 6.14.14
topology:
  description: How the GPUs are joined, or null.
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
      sample: [[X, XGMI], [XGMI, X]]
    cpu_affinity:
      description: The CPUs near each device. It is not read of this tool, and null.
      type: list
      elements: str
problems:
  description: What could not be had or understood.
  returned: always
  type: list
  elements: str
  sample: ["not told for device 3: power_w, temperature_c"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.checks import health
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.observe_io import observe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "amd_smi_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    gpus = observe(module.params["amd_smi_path"], module.params["timeout"])
    module.exit_json(
        changed=False,
        devices=[{**device, "health": health(device)} for device in gpus.devices],
        version=gpus.version,
        topology=gpus.topology,
        problems=[*filter(None, [gpus.failure]), *gpus.problems],
    )


if __name__ == "__main__":
    main()
