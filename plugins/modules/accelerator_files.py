# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accelerator_files
short_description: Check the device nodes and mount sources that containers will be given
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Checks that device nodes are character devices that may be opened, without opening them, and
    that the sources of mounts exist and are of the right kind. Docker makes an empty directory for
    a missing source, and a driver's file that became a directory breaks every container after it.
  - Only observes.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
  - muster.serving.checks.enforce
  - muster.serving.run
  - muster.serving.run.owner
options:
  device_nodes:
    description: Device nodes that the containers get.
    type: list
    elements: path
    default: []
  mounts:
    description: Mounts as C(SOURCE:TARGET[:ro]). Directories that Muster makes itself are skipped.
    type: list
    elements: str
    default: []
  container_gpus:
    description: Whether containers get NVIDIA GPUs from Docker's C(--gpus). Then NVIDIA's container
      toolkit must be there.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check what the engine's container will be given
  muster.serving.accelerator_files:
    device_nodes: [/dev/davinci0, /dev/davinci_manager, /dev/devmm_svm, /dev/hisi_hdc]
    mounts:
      - /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro
      - /usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/:ro
    enforce: true
"""

RETURN = r"""
checks:
  description: One for each device node (V(device-node)), driver path (V(driver-mount)) and other
    mount source (V(mount-source)), and one for the container toolkit (V(gpu-toolkit)).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import failure_message
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.files_io import (
    mount_checks,
    node_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import (
    toolkit_check,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.observe_io import (
    observe_toolkit,
)
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "device_nodes": {"type": "list", "elements": "path", "default": []},
            "mounts": {"type": "list", "elements": "str", "default": []},
            "container_gpus": {"type": "bool", "default": False},
            "enforce": {"type": "bool", "default": False},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module)
    files = NodeFiles()
    checks = node_checks(files, module.params["device_nodes"])
    checks += mount_checks(files, module.params["mounts"])
    if module.params["container_gpus"]:
        checks.append(toolkit_check(observe_toolkit(files)))
    message = failure_message(checks)
    if message and module.params["enforce"]:
        module.fail_json(msg=message, checks=checks)
    module.exit_json(changed=False, checks=checks)


if __name__ == "__main__":
    main()
