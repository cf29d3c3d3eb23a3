# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_info
short_description: Return the state and topology of a node's NVIDIA GPUs
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Asks C(nvidia-smi) for the GPUs of a node, their health, memory, processes, modes and topology.
  - Bad output never makes it fail. What is missing or not understood is null in the result and
    named in RV(problems).
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
options:
  nvidia_smi_path:
    description:
      - Path of C(nvidia-smi).
      - Without it the PATH is searched.
    type: path
  timeout:
    description:
      - Seconds that one call of C(nvidia-smi) may take. All calls run side by side.
    type: float
    default: 30
seealso:
  - module: muster.serving.gpu_topology_check
"""

EXAMPLES = r"""
- name: Look at the GPUs
  muster.serving.nvidia_info:
  register: gpus

- name: Show what is not well
  ansible.builtin.debug:
    msg: "{{ gpus.devices | rejectattr('health', 'equalto', 'OK') }}"
"""

RETURN = r"""
devices:
  description:
    - The GPUs, in the order in which C(nvidia-smi) lists them.
    - Any value but RV(devices[].device_id) may be null.
  returned: always
  type: list
  elements: dict
  contains:
    device_id:
      description: The index, as C(nvidia-smi -i) and C(docker run --gpus device=) take it.
      type: int
    minor_number:
      description: The number behind C(/dev/nvidiaN), which may differ from the index.
      type: int
    name:
      description: The product's name.
      type: str
      sample: NVIDIA B200
    uuid:
      description: Its unique id.
      type: str
    health:
      description:
        - V(OK), or what is wrong - a lost GPU, values that the driver cannot read, uncorrectable
          memory errors, row remapping that is pending or failed, a fabric that is not complete, a
          recovery that the driver wants.
      type: str
    bus_id:
      description: The PCI address.
      type: str
      sample: "00000000:1B:00.0"
    power_w:
      description: Power draw.
      type: float
    temperature_c:
      description: Temperature of the GPU.
      type: int
    utilisation_percent:
      description: Share of time in which a kernel ran.
      type: int
    memory_used_mb:
      description: Device memory in use, in MiB.
      type: int
    memory_total_mb:
      description: Device memory, in MiB.
      type: int
    processes:
      description: Processes on the GPU.
      type: list
      elements: dict
      contains:
        pid:
          description: Process id.
          type: int
        name:
          description: Its name. Empty where C(nvidia-smi) must not show it.
          type: str
        memory_mb:
          description: Device memory that it holds, in MiB.
          type: int
    persistence_mode:
      description: V(Enabled) or V(Disabled).
      type: str
    compute_mode:
      description: V(Default) where several processes may use the GPU.
      type: str
    mig_mode:
      description: V(Enabled) or V(Disabled); null where the GPU cannot be cut in instances.
      type: str
    mig_pending:
      description: The mode that it has after its next reset.
      type: str
    ecc_mode:
      description: V(Enabled) or V(Disabled); null where the GPU has no ECC.
      type: str
    uncorrectable_errors:
      description: Errors of SRAM and DRAM that ECC could not correct since the driver was loaded.
      type: int
    aggregate_uncorrectable_errors:
      description: The same over the GPU's life.
      type: int
    lost:
      description: Whether the driver says that the GPU is lost.
      type: bool
    unreadable:
      description: The words that stand in place of values that the driver could not read.
      type: list
      elements: str
      sample: [ERR!]
    recovery_action:
      description: What the driver wants done, or null.
      type: str
      sample: Drain and Reset
    conditions:
      description:
        - Which of V(remapped_row_failure), V(remapped_row_pending), V(pending_retirement),
          V(pending_blacklist), V(sram_threshold_exceeded), V(reset_required) and
          V(drain_and_reset_recommended) the driver answers with Yes.
      type: list
      elements: str
    fabric:
      description: State and status of the NVLink fabric; null where there is none.
      type: dict
      sample: {state: Completed, status: Success}
version:
  description: The driver's version.
  returned: always
  type: str
  sample: 580.105.08
cuda_version:
  description: The newest CUDA version that the driver runs.
  returned: always
  type: str
  sample: "13.0"
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
      sample: [[X, NV18], [NV18, X]]
    cpu_affinity:
      description: The CPUs near each device. It is not read of this tool, and null.
      type: list
      elements: str
problems:
  description: What could not be had or understood.
  returned: always
  type: list
  elements: str
  sample: ["GPU 3: no power draw told"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import health
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.observe_io import (
    observe,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nvidia_smi_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    gpus = observe(module.params["nvidia_smi_path"], module.params["timeout"])
    module.exit_json(
        changed=False,
        devices=[{**device, "health": health(device)} for device in gpus.devices],
        version=gpus.version,
        cuda_version=gpus.cuda_version,
        topology=gpus.topology,
        problems=[*filter(None, [gpus.failure]), *gpus.problems],
    )


if __name__ == "__main__":
    main()
