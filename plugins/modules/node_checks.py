# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_checks
short_description: Make several of a node's checks in one round trip
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Does what several check modules do, side by side and in one call, so that a node takes as long
    as the slowest of them. To listen on ports is the last of it.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns. A check
    module that breaks is a failed check of its name, and the others are made all the same.
  - With O(states) it also says what the modules that prepare and serve would change, so that a
    stage need not come to a node on which it has nothing to do.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
  - muster.serving.run
  - muster.serving.run.owner
  - muster.serving.deployment.proxy
attributes:
  check_mode:
    support: partial
    details: M(muster.serving.port_check) starts and ends no listener, and
      M(muster.serving.host_check) keeps no hash.
options:
  checks:
    description:
      - By the name of a check module, its options as they stand in its documentation.
      - An option that is null is as if it were not given, and so is a module without options.
      - The modules are V(host_check), V(nic_check), V(npu_topology_check),
        V(gpu_topology_check) and V(port_check).
      - Without any, and without O(states), the task is skipped, and the node is not connected to.
    type: dict
    required: true
  states:
    description:
      - What a run would look after on the node, by the name that M(muster.serving.cluster_plan)
        has for it, with its options.
      - The names are V(docker), V(engine_image), V(gateway_image), V(engine_venv),
        V(host_tuning), V(firewall), V(unit), V(gateway), V(gateway_access), V(verified) and
        V(takeover). One without options is not looked at. V(docker) gets its proxy from O(proxy).
      - V(takeover) takes the options of M(muster.serving.node_takeover) but for its state. What it
        would stop is no obstacle to the checks.
    type: dict
    default: {}
  hold:
    description:
      - Whether the run is to change the node, so that it takes O(lock). Where another run has it,
        that is a failed check, and no other is made.
      - Without it the other run is a warning, and nothing is started or ended on the node.
      - With O(states) of which none differs, the node is released again at once.
    type: bool
    default: false
notes:
  - An action of the same name runs it, and notes the controller's time before and after.
seealso:
  - module: muster.serving.host_check
  - module: muster.serving.nic_check
  - module: muster.serving.npu_topology_check
  - module: muster.serving.gpu_topology_check
  - module: muster.serving.port_check
  - module: muster.serving.cluster_verdict
"""

EXAMPLES = r"""
- name: Look at a node of a pair
  muster.serving.node_checks:
    checks:
      host_check:
        vendor: ascend
        memory_gb: 8
      nic_check:
        address: 10.20.0.11
        interface: enp67s0f0np0
      npu_topology_check:
        device_count: 8
        multi_node: true
      port_check:
        mode: listen
        ports: [20004, 2347, 60000-60031]
        bind_address: 10.20.0.11
        peers: [10.20.0.12]
  register: node
"""

RETURN = r"""
checks:
  description: The verdicts of all modules that were asked for, with O(lock) V(node-run), and of
    O(states) with the units V(unit-replica), with a gateway's certificate V(gateway-certificate),
    with a takeover V(takeover-holder).
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
states:
  description:
    - By name, what differs (C(differs), a phrase each; empty where its module would change
      nothing). V(unit) has with it what M(muster.serving.unit_info) returns, without logs,
      V(verified) by which C(runs) of units the plan was verified and when (C(verified)), and
      V(gateway_access) the C(authority) by which clients check the certificate, PEM, empty where
      they know it.
    - A state that cannot be told differs, as its module will say why.
  returned: always
  type: dict
released:
  description: Whether the node is held no longer, since the run has nothing to do there.
  returned: with O(hold) and O(states)
  type: bool
facts:
  description: What is compared between nodes, of all modules.
  returned: always
  type: dict
clock:
  description: As M(muster.serving.host_check) returns it.
  returned: with V(host_check)
  type: dict
usable:
  description: As M(muster.serving.nic_check) returns it.
  returned: with V(nic_check)
  type: bool
own:
  description: As M(muster.serving.port_check) returns it, as are the next three.
  returned: with V(port_check), in the modes local and listen
  type: list
  elements: int
free:
  description: See RV(own).
  returned: with V(port_check), in the modes local and listen
  type: list
  elements: int
address:
  description: See RV(own).
  returned: with V(port_check), in the mode listen
  type: str
listening:
  description: See RV(own).
  returned: with V(port_check), in the mode listen
  type: list
  elements: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    Check,
    OptionError,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_io import PROXY_SPEC
from ansible_collections.muster.serving.plugins.module_utils.node.look_io import look
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {"type": "dict", "required": True},
            "states": {"type": "dict", "default": {}},
            "proxy": PROXY_SPEC,
            "hold": {"type": "bool", "default": False},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    runs: list[Check] = []
    other = None
    try:
        if module.params["lock"]:
            run_check, other = run_lock_io.look(module)
            runs = [run_check]
            if run_check["status"] == "failed":
                # What else there is to see is the other run's doing.
                module.exit_json(changed=False, checks=runs, facts={}, held_by=other)
        states = module.params["states"]
        if states.get("docker") is not None:
            states["docker"] = {**states["docker"], "proxy": module.params["proxy"]}
        result = look(module.params["checks"], module.check_mode or other is not None, states)
        if states and module.params["hold"] and not module.check_mode:
            result["released"] = not any(one["differs"] for one in result["states"].values())
            if result["released"] and runs:
                run_lock_io.release(module.params["lock"], module.params["owner"])
    except (OptionError, OSError) as error:
        module.fail_json(msg=str(error))
    result["checks"] = [*runs, *result["checks"]]
    if other:
        result["held_by"] = other
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
