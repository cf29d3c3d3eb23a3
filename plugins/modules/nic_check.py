# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nic_check
short_description: Check the NIC of a node that joins the cluster
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Observes the network interface that HCCL, Gloo and the engine's own sockets are to use, and
    returns one check for each thing that must hold.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
options:
  address:
    description:
      - The node's address on the cluster network.
    type: str
  interface:
    description:
      - The NIC of the cluster network.
      - Without it the NIC that holds O(address) is looked at.
    type: str
  peers:
    description:
      - Addresses of the other nodes of the replica. The route to each must leave through the NIC.
    type: list
    elements: str
    default: []
  min_mtu:
    description:
      - The smallest MTU that will do. Without it any MTU does; that all nodes have the same is
        checked by M(muster.serving.cluster_verdict) on RV(facts.mtu).
    type: int
  prefix_match:
    description:
      - Whether HCCL takes the NIC's name for a prefix, so that no other may begin with it.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that one call of C(ip) may take.
    type: float
    default: 10
notes:
  - Needs C(ip) of iproute2 on a node with O(peers). On one without them its absence is a warning,
    and only O(interface) and O(address) are looked for.
"""

EXAMPLES = r"""
- name: Check the NIC of the cluster network
  muster.serving.nic_check:
    address: 10.20.0.11
    interface: enp67s0f0np0
    peers: [10.20.0.12]
  register: nic
"""

RETURN = r"""
checks:
  description:
    - The verdicts, with the ids V(nic-tool), V(nic-exists), V(nic-up), V(nic-kind),
      V(nic-address), V(nic-mtu), V(nic-route) and V(nic-prefix).
  returned: always
  type: list
  elements: dict
  sample:
    - id: nic-up
      phase: bare
      status: failed
      subject: enp67s0f0np0
      observed: down
      expected: up, carrier
      remedy: ip link set enp67s0f0np0 up
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    interface:
      description: The NIC that was looked at.
      type: str
    mtu:
      description: Its MTU, or null where there is no such NIC.
      type: int
usable:
  description:
    - Whether the NIC is there, up and holds the address. Otherwise neither routes nor the ports of
      other nodes can be tried through it.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.network.nic_io import (
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
