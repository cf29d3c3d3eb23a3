# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_topology_check
short_description: Check that a node's Ascend NPUs can take a deployment
version_added: "0.1.0"
author:
  - Muster contributors (@muster)
description:
  - Observes the devices that a deployment uses on a node - number, health, processes, free memory,
    topology, device nodes and driver files - and, where ranks on other nodes have to be reached,
    each device's own network port.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
  - It takes at most four times O(timeout). A tool that hangs costs one O(timeout) and is not asked
    again. C(hccn_tool) is asked for one device after the other, since it refuses concurrent calls.
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  device_count:
    description:
      - How many devices the deployment uses on this node.
    type: int
    required: true
  devices:
    description:
      - Which devices these are, by the number behind C(/dev/davinciN).
      - Without it, the first O(device_count).
    type: list
    elements: int
  multi_node:
    description:
      - Whether the replica spans several nodes. Only then the devices' network ports are checked.
    type: bool
    default: false
  own_units:
    description:
      - Names of the systemd units of Muster on this node. A device that one of these, or its
        container, holds is not taken for busy.
    type: list
    elements: str
    default: []
  memory_utilization:
    description:
      - The share of a device's memory that the engine claims (its C(--gpu-memory-utilization)), and
        which therefore must be free.
    type: float
    default: 0.9
  device_nodes:
    description:
      - Device nodes that containers are given; each must be a character device.
    type: list
    elements: path
    default: []
  mounts:
    description:
      - Mounts of the containers, C(SRC:DST[:ro]). The sources that the driver's installer brings
        are checked, the others are not.
    type: list
    elements: str
    default: []
  npu_smi_path:
    description:
      - Path of C(npu-smi).
      - Without it C(/usr/local/bin), C(/usr/local/sbin) and the PATH are searched.
    type: path
  hccn_tool_path:
    description:
      - Path of C(hccn_tool).
    type: path
    default: /usr/local/Ascend/driver/tools/hccn_tool
  timeout:
    description:
      - Seconds that one call of a tool may take. All calls of one tool take at most twice as long.
    type: float
    default: 30
seealso:
  - module: muster.serving.npu_info
"""

EXAMPLES = r"""
- name: Check the NPUs of a node that is half of a replica
  muster.serving.npu_topology_check:
    device_count: 8
    multi_node: true
    own_units: [muster-a2-cluster-r0-rank0.service]
    memory_utilization: 0.92
    device_nodes: [/dev/davinci0, /dev/davinci_manager, /dev/devmm_svm, /dev/hisi_hdc]
  register: npus
"""

RETURN = r"""
checks:
  description:
    - The verdicts. Devices with the same verdict share one.
    - V(npu-tool), V(npu-count), V(npu-health), V(npu-processes), V(npu-memory) and V(npu-topology)
      come from C(npu-smi); V(device-node) and V(driver-mount) from the file system;
      V(npu-fabric-tool), V(npu-link), V(npu-net-health), V(npu-address), V(npu-gateway),
      V(npu-detect-address), V(npu-tls) and V(npu-neighbour) from C(hccn_tool) and
      C(/etc/hccn.conf).
  returned: always
  type: list
  elements: dict
  sample:
    - id: npu-link
      phase: bare
      status: failed
      subject: device 5
      observed: DOWN
      expected: UP
      remedy: look at cable, optical module (hccn_tool -i N -optical -g) and switch port
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    driver_version:
      description: The driver's version, the same on all nodes. Null when not known.
      type: str
    npu_tls:
      description: The TLS switches seen. Over all devices of all nodes there must be one.
      type: list
      elements: int
    npu_addresses:
      description: The devices' own addresses, each one unique in the cluster.
      type: list
      elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.accelerator_files import (
    device_checks,
    is_driver,
    mount_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.npu_checks import (
    fabric_checks,
    fabric_facts,
    npu_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.npu_observe import (
    HCCN_CONF,
    Fabric,
    Tool,
    device_numbers,
    find_npu_smi,
    observe_fabric,
    observe_npus,
    read_text,
)
from ansible_collections.muster.serving.plugins.module_utils.owners import read_owner


def inspect(params: dict[str, Any]) -> dict[str, Any]:
    wanted = params["devices"] or list(range(params["device_count"]))
    timeout = params["timeout"]
    npus = observe_npus(find_npu_smi(params["npu_smi_path"], timeout), device_numbers())
    checks = npu_checks(npus, wanted, params["own_units"], params["memory_utilization"], read_owner)
    files = NodeFiles()
    checks += device_checks(files, params["device_nodes"])
    checks += mount_checks(files, [m for m in params["mounts"] if is_driver(m.split(":")[0])])
    fabric = Fabric()
    if params["multi_node"]:
        tool = Tool("hccn_tool", params["hccn_tool_path"], timeout)
        listed = {device["device_id"] for device in npus.devices}
        # A card that npu-smi has lost is one failure, not one a question.
        there = [number for number in wanted if number in listed] or wanted
        fabric = observe_fabric(tool, read_text(HCCN_CONF), there)
        checks += fabric_checks(fabric)
    return {
        "checks": checks,
        "facts": {"driver_version": npus.version, **fabric_facts(fabric)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "device_count": {"type": "int", "required": True},
            "devices": {"type": "list", "elements": "int"},
            "multi_node": {"type": "bool", "default": False},
            "own_units": {"type": "list", "elements": "str", "default": []},
            "memory_utilization": {"type": "float", "default": 0.9},
            "device_nodes": {"type": "list", "elements": "path", "default": []},
            "mounts": {"type": "list", "elements": "str", "default": []},
            "npu_smi_path": {"type": "path"},
            "hccn_tool_path": {
                "type": "path",
                "default": "/usr/local/Ascend/driver/tools/hccn_tool",
            },
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    devices = module.params["devices"]
    if devices and len(set(devices)) != module.params["device_count"]:
        module.fail_json(
            msg=f"devices names {len(set(devices))} devices, "
            f"device_count is {module.params['device_count']}"
        )
    module.exit_json(changed=False, **inspect(module.params))


if __name__ == "__main__":
    main()
