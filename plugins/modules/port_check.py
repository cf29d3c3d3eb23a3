# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_check
short_description: Check that the ports of a node's units are free and reachable
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Checks all TCP ports that a node's units will listen on in one call, names what holds them,
    and tries whether peers can be reached on theirs while no engine runs yet.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
attributes:
  check_mode:
    support: partial
    details: It starts and ends no listener.
  idempotent:
    support: full
    details: A listener ends by itself and leaves nothing behind.
options:
  mode:
    description:
      - V(local) tries to bind each port.
      - V(listen) does the same, and then listens on those that are free in a process of its own,
        so that peers can be probed. It ends after O(lifetime), or as soon as every peer has
        reached every port. The module returns at once. A listener that an earlier run left behind
        is ended first.
      - V(probe) connects to O(peer_ports), or to O(ports) of all O(peers).
    type: str
    choices: [local, listen, probe]
    default: local
  ports:
    description:
      - The ports, as numbers and ranges C(FIRST-LAST).
    type: list
    elements: raw
    default: []
  bind_address:
    description:
      - The node's address on the cluster network. Ports are bound on it, and probes leave from it.
      - Without it all addresses are meant.
    type: str
  peers:
    description:
      - Addresses of the nodes that probe (V(listen)) or are probed (V(probe)).
    type: list
    elements: str
    default: []
  peer_ports:
    description:
      - For V(probe), the ports of each peer by its address, where they differ.
      - Give RV(listening) of that peer. What runs there already is not disturbed then.
    type: dict
  reserve:
    description:
      - Ports that prepare will add to C(net.ipv4.ip_local_reserved_ports).
    type: list
    elements: raw
    default: []
  own_units:
    description:
      - Systemd units of Muster. A port that one of them holds, or its container, is fine and
        is never listened on.
    type: list
    elements: str
    default: []
  unit_ports:
    description:
      - By systemd unit of Muster, its ports. While a unit is up they are left to it, bound or not;
        a listener would keep an engine that is starting from its port.
    type: dict
    default: {}
  lifetime:
    description:
      - Seconds after which a listener ends.
    type: float
    default: 60
  timeout:
    description:
      - Seconds that a probe waits for an answer.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: Look who holds the ports, and listen on the free ones
  muster.serving.port_check:
    mode: listen
    ports: [20004, 2347, 60000-60031]
    bind_address: 10.20.0.11
    peers: [10.20.0.12]
    own_units: [muster-a2-cluster-r0-rank0.service]
  register: ports

- name: Reach the head from a follower
  muster.serving.port_check:
    mode: probe
    bind_address: 10.20.0.12
    peer_ports:
      10.20.0.11: [20004, 2347, 60000-60031]
"""

RETURN = r"""
checks:
  description:
    - The verdicts, with the ids V(port-free), V(port-reserved) and V(port-reachable).
    - Ports with the same verdict share a check.
  returned: always
  type: list
  elements: dict
  sample:
    - id: port-free
      phase: bare
      status: failed
      subject: port 20004
      observed: pid 4711 (VLLM::APIServer) in container minimax2_5 listens on 0.0.0.0
      expected: free
      remedy: "stop it: docker stop minimax2_5; or choose another port"
free:
  description: The ports that nothing holds.
  returned: in the modes local and listen
  type: list
  elements: int
own:
  description: The ports that our own units, or a listener of this module, hold, or that are left
    to a unit that is up.
  returned: in the modes local and listen
  type: list
  elements: int
address:
  description: The value of O(bind_address).
  returned: in the mode listen
  type: str
listening:
  description: The ports that a listener was started on; none in check mode.
  returned: in the mode listen
  type: list
  elements: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.network.ports_io import (
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
