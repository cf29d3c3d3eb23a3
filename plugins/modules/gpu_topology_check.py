# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_topology_check
short_description: Check that a node's NVIDIA or AMD GPUs can take a deployment
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Observes the GPUs that a deployment uses on a node - number, name, health, memory errors,
    processes, free memory, modes, links, device nodes and driver files - and, for NVIDIA, the
    fabric manager and the container toolkit.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
  - Calls run side by side, so that a tool that hangs costs O(timeout) and not more.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
  - muster.serving.devices
options:
  vendor:
    description:
      - Whose GPUs they are, as C(platform.vendor) of a recipe.
    type: str
    required: true
  device_count:
    description:
      - How many devices the deployment uses on this node.
    type: int
    required: true
  device_names:
    description:
      - Regular expressions; a device's name has to match one of them. Without any, none is checked.
    type: list
    elements: str
    default: []
  min_driver:
    description:
      - The oldest driver that will do, for instance V(525).
      - Without it, any will.
    type: str
  driver:
    description:
      - What is asked of the driver, and why, as C(driver) of a plan has it. It takes the place of
        O(min_driver).
    type: dict
    suboptions:
      floors:
        description: The oldest drivers that will do, the highest first.
        type: list
        elements: dict
        required: true
        suboptions:
          floor:
            description: The version.
            type: str
            required: true
          reason:
            description: Why it is wanted.
            type: str
            default: ""
          sure:
            description: Whether that is known. Below a floor that is only assumed it is a warning.
            type: bool
            default: true
          of_cuda:
            description: Whether the engine's CUDA wants it, and not the devices.
            type: bool
            default: false
      cuda:
        description: The CUDA that the engine is built for.
        type: str
      full:
        description: The driver of this CUDA. An older one runs no PTX that it made.
        type: str
      compat:
        description: Whether forward compatibility (cuda-compat) is asked for, or always loaded;
          V(none) where the engine has no switch for it.
        type: str
        choices: [none, "off", "on", always]
        default: none
      compat_branches:
        description: The driver branches that NVIDIA lists for it.
        type: list
        elements: int
        default: []
      compat_newest:
        description: The branch that its libraries come from. They break later drivers.
        type: int
      instead:
        description: Another build of the engine, for older drivers.
        type: dict
        suboptions:
          cuda:
            description: The CUDA that it is built for.
            type: str
            required: true
          floor:
            description: The oldest driver for it.
            type: str
            required: true
          how:
            description: How to get it.
            type: str
            required: true
  fabric_manager:
    description:
      - Whether NVLink switches join the GPUs, which NVIDIA's fabric manager has to set up (HGX
        servers with NVSwitch). Nodes of a GB200 or GB300 rack need none of their own.
    type: bool
    default: false
  multi_node:
    description:
      - Whether GPUs of several nodes work together. In a rack of GB200 or GB300, NVIDIA's IMEX
        service then has to join the nodes.
    type: bool
    default: false
  container_gpus:
    description:
      - Whether containers get their GPUs from Docker's C(--gpus), which NVIDIA's container toolkit
        has to carry out.
    type: bool
    default: false
  compiler:
    description:
      - Whether the engine compiles kernels on the node itself, as one without a container does - it
        ends where it cannot (V(required)), or does without some (V(used)).
      - Without it no compiler is looked for.
    type: str
    choices: [required, used]
  cuda_home:
    description:
      - Where the engine's environment says that CUDA's toolkit is. Without it C(nvcc) is looked for
        in the PATH and in C(/usr/local/cuda), as the engine's libraries do.
    type: path
  tool_path:
    description:
      - Path of C(nvidia-smi) or C(amd-smi).
      - Without it the usual places are searched.
    type: path
seealso:
  - module: muster.serving.nvidia_info
  - module: muster.serving.amd_info
"""

EXAMPLES = r"""
- name: Check four GPUs of a node
  muster.serving.gpu_topology_check:
    vendor: nvidia
    device_count: 4
    device_names: [B200]
    own_units: [muster-b200-r0-single.service]
    memory_utilization: 0.92
    fabric_manager: true
    container_gpus: true
  register: gpus
"""

RETURN = r"""
checks:
  description:
    - The verdicts. Devices with the same verdict share one.
    - V(gpu-driver-loaded), V(gpu-tool), V(gpu-count), V(gpu-name), V(gpu-health), V(gpu-ecc),
      V(gpu-processes), V(gpu-memory), V(gpu-topology) and, with O(driver) or O(min_driver),
      V(gpu-driver) for both vendors; V(gpu-persistence), V(gpu-compute-mode), V(gpu-mig),
      V(gpu-fabric-manager), V(gpu-imex), V(gpu-toolkit) and V(gpu-compiler) for NVIDIA;
      V(gpu-partition) and V(gpu-device-nodes) for AMD; V(device-node) and V(driver-mount) from the
      file system.
  returned: always
  type: list
  elements: dict
  sample:
    - id: gpu-mig
      phase: bare
      status: failed
      subject: device 5
      observed: MIG Enabled
      expected: "MIG Disabled: a rank takes a whole GPU"
      remedy: "turn MIG off while nothing runs: nvidia-smi -i N -mig 0, then nvidia-smi -r -i N"
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    driver_version:
      description: The driver's version, the same on all nodes. Null when not known.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.look_io import (
    ARGUMENT_SPEC,
    look,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = look(module.params, module.check_mode)
    except OptionError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
