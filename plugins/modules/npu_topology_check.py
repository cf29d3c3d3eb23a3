# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_topology_check
short_description: Check that a node's Ascend NPUs can take a deployment
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Observes the devices that a deployment uses on a node - number, health, memory errors, driver
    and firmware, processes, free memory, topology, device nodes and driver files - and, where ranks
    on other nodes have to be reached, each device's own network port and its place in a super pod.
  - With O(mode=ping) it pings other nodes' devices instead, once their addresses are known.
  - One cause is one finding. What only follows from a failed check is left out, and of several
    devices only those are named that differ from most.
  - Output that this module does not understand is shown, with the status V(unknown).
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
  - It takes at most three times O(timeout), and two seconds more for each call that cannot even be
    killed. All calls of one tool end within twice O(timeout); the two tools are asked side by side
    once C(npu-smi) has listed the devices.
  - C(npu-smi) is asked up to four things at a time. A device for which it hangs costs one
    O(timeout), and what runs beside it is judged.
  - C(hccn_tool) is asked for one device after the other, since it refuses concurrent calls; it is
    tried again while other callers keep it busy. A device for which it hangs costs one O(timeout)
    and is left out; the next one then has a fifth of O(timeout) to answer. When a second device
    hangs, the tool is given up.
  - A healthy device costs one call of C(hccn_tool), for its net health, which shows link and detect
    address as well. Address, gateway and TLS switch are read from C(/etc/hccn.conf) where it has
    them and one device confirms it; an address that it has wrong for another device does not answer
    to pings. With O(pings=full) each device is asked for its address.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
  - muster.serving.devices
  - muster.serving.devices.npu_smi
options:
  mode:
    description:
      - V(check) looks at this node.
      - V(ping) only pings the devices of O(peer_facts) from those of O(node_facts).
    type: str
    choices: [check, ping]
    default: check
  device_count:
    description:
      - How many devices the deployment uses on this node. Required with O(mode=check).
    type: int
  multi_node:
    description:
      - Whether the replica spans several nodes. Only then the devices' network ports are checked.
    type: bool
    default: false
  min_driver:
    description:
      - The oldest driver that will do, for instance V(25.0.rc1). A release candidate comes before
        its release.
      - Without it, any will.
    type: str
  node_facts:
    description:
      - This node's own RV(facts) of O(mode=check). Required with O(mode=ping).
      - A device that is not reached itself pings no other.
    type: dict
  peer_facts:
    description:
      - For each other node of the replica, its RV(facts) of O(mode=check). Required with
        O(mode=ping).
    type: list
    elements: dict
  pings:
    description:
      - With V(sampled) each device goes with that of its own number on each other node, or with the
        one at its own place where that node uses devices of other numbers. One of the two pings,
        since an answer proves the way there and back. Through HCCS it is one chip of each card,
        and O(mode=check) looks at these alone.
      - V(full) has each device ping all devices, also those in other planes, which not every
        network joins. They are pinged one after the other, and one that does not answer takes
        seconds; what does not fit into twice O(timeout) is reported as not tried.
    type: str
    choices: [sampled, full]
    default: sampled
  hccn_tool_path:
    description:
      - Path of C(hccn_tool).
    type: path
    default: /usr/local/Ascend/driver/tools/hccn_tool
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

- name: Ping the NPUs of the other half
  muster.serving.npu_topology_check:
    mode: ping
    node_facts: "{{ npus.facts }}"
    peer_facts: "{{ [hostvars['npu-b'].npus.facts] }}"
"""

RETURN = r"""
checks:
  description:
    - The verdicts. Devices with the same verdict share one.
    - V(npu-driver-loaded), V(npu-tool), V(npu-driver-install), V(npu-driver), V(npu-count),
      V(npu-health), V(npu-ecc), V(npu-firmware), V(npu-processes), V(npu-memory), V(npu-topology)
      and V(npu-superpod) come from C(npu-smi); V(device-node) and V(driver-mount) from the file
      system; V(npu-fabric-tool),
      V(npu-link), V(npu-net-health), V(npu-address), V(npu-gateway), V(npu-detect-address),
      V(npu-tls), V(npu-neighbour), V(npu-vnic), V(npu-ping) and V(npu-hccs-ping) from C(hccn_tool);
      V(npu-hccn-conf) holds C(/etc/hccn.conf) against it.
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
  description: What is compared between nodes. Nothing with O(mode=ping).
  returned: always
  type: dict
  contains:
    driver_version:
      description: The driver's version, the same on all nodes. Null when not known.
      type: str
    firmware_version:
      description: The firmware's versions, the same on all devices of all nodes.
      type: list
      elements: str
    super_pod_id:
      description: The super pods, one for all devices of a replica.
      type: list
      elements: int
    super_pod_server:
      description: The node's place in its super pod, each one unique in the cluster.
      type: list
      elements: str
      sample: ["super pod 0, server 40"]
    super_pod_sdid:
      description: The devices' numbers in their super pod, each one unique in the cluster.
      type: list
      elements: str
      sample: ["super pod 0, SDID 167772160"]
    npu_tls:
      description: The TLS switches seen. Over all devices of all nodes there must be one.
      type: list
      elements: int
    npu_addresses:
      description: The devices' own addresses, each one unique in the cluster.
      type: list
      elements: str
    npu_reachable:
      description: By device, where others can ping it. Null where its link is not up or it has no
        address. Empty without O(multi_node).
      type: dict
      sample: {"0": 10.20.0.10, "1": null}
    npu_vnic:
      description: By device, where others of its super pod can ping it through HCCS. Null where it
        has no link. Empty without O(multi_node), and on other servers than A3.
      type: dict
      sample: {"0": 192.168.2.199}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.look_io import (
    ARGUMENT_SPEC,
    RULES,
    look,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    try:
        result = look(module.params, module.check_mode)
    except OptionError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
