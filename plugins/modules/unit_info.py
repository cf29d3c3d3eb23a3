# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_info
short_description: Return the state of a node's planned units
version_added: "0.1.0"
description:
  - Compares each unit of the plan with what is installed and running on the node.
  - Never fails on the state of a unit, only when it cannot be found out.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.run
  - muster.serving.run.owner
options:
  deployment:
    description: Name of the deployment, to find its units that the plan no longer has.
    type: str
    required: true
  units:
    description: Units of the plan for this node, as the plan file has them.
    type: list
    elements: dict
    default: []
  links:
    description: Links of the plan for this node, to compare them with what is installed, too.
    type: list
    elements: dict
    default: []
  model:
    description: Name under which the model is served; a unit with an API is ready when it lists it.
    type: str
    default: ""
  wait:
    description:
      - Stay on the node until a unit has ended, all are up and ready, or this many seconds have
        passed. C(0) looks once.
    type: float
    default: 0
  restarts_before:
    description:
      - Restarts by systemd, by unit name, that were there before the watch began. More than that
        means that the unit has ended since.
    type: dict
    default: {}
  engine:
    description: The units' engine, to tell what its parser is known to say of them.
    type: str
    choices: [vllm, vllm-ascend, sglang]
  version:
    description: With O(engine), the version that the plan is made for; without it none is compared.
    type: str
  usage:
    description:
      - Also ask each rank that serves for one token, and return what the engines do, what the links
        tell, and how full the file systems are. It takes a second, and ten more where no token
        comes.
    type: bool
    default: false
  weights:
    description: With O(usage), folders of weights, to tell how full their file systems are.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Look at this node's units
  muster.serving.unit_info:
    deployment: a2-cluster
    units: "{{ muster_plan.units[inventory_hostname] }}"
    model: minimax25
"""

RETURN = r"""
units:
  description: One entry a planned unit.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the unit.
      type: str
    replica:
      description: Index of its replica; of a gateway, its own among the gateways.
      type: int
    group:
      description: The units that start and stop with it, as C(replica-0) or C(gateway-0).
      type: str
    role:
      description: Its role in the plan.
      type: str
    systemd_unit:
      description: Its systemd service.
      type: str
    installed:
      description: Whether Muster installed it here.
      type: bool
    differences:
      description: What the plan wants otherwise, as C({name, current, desired}); never a secret.
      type: list
      elements: dict
    engine:
      description: The image or environment that it was installed with, as C({name, id}).
      type: dict
    active_state:
      description: systemd's ActiveState.
      type: str
    sub_state:
      description: systemd's SubState.
      type: str
    since:
      description: Since when it is in this state, C(YYYY-MM-DD HH:MM:SSZ); empty where never.
      type: str
    boot:
      description: systemd's UnitFileState. What is V(disabled) does not come back with its node.
      type: str
    result:
      description: systemd's Result.
      type: str
    exit_status:
      description: Exit status of the last main process.
      type: str
    restarts:
      description: How often systemd restarted it by itself since its last deliberate start.
      type: int
    invocation_id:
      description: systemd's id of the present run.
      type: str
    ready:
      description:
        - Whether its API lists the model; null for a unit without an API. A gateway is ready when
          it answers, whatever it says of the replicas behind it.
      type: bool
    stalled:
      description:
        - What its link says of an engine that stands still now, or that stays down since it stood
          still after as many restarts as it may have; empty for none.
      type: str
    usage:
      description:
        - With O(usage), what an engine does that lists the model, else null. C(state) is C(serves)
          where each rank gave a token, C(busy) where one gave none in time while it works,
          C(paused), C(refused) (such as a wrong key) or C(no token); C(said) is what is wrong.
          C(running), C(waiting) and C(done) are numbers of requests, C(ranks) has for each
          C(rank) the C(tokens) that it has generated and its C(rate) in tokens a second. What the
          engine does not count is null.
      type: dict
    drained:
      description:
        - With O(usage), of a gateway the units that would serve and get no new requests from it,
          since M(muster.serving.gateway_drain) has taken them out.
      type: list
      elements: str
    drained_by:
      description: With O(usage), of each of RV(units[].drained) by whom, and what takes it back.
      type: list
      elements: str
    first_start:
      description:
        - What its next start does once and how many seconds more it may take for that, as
          C({cache, extra_s, reason}) of the plan; null when its cache on the node holds something.
      type: dict
    ended:
      description: Whether it has ended since the watch began.
      type: bool
    doing:
      description:
        - What it does while it starts, by its log, as C(loads weights, 9 of 20 shards). Empty where
          the last lines do not tell, and once it serves or has ended.
      type: str
    log:
      description: Last lines of its journal; many when it has ended, else the last one.
      type: list
      elements: str
installed:
  description: What the node has of the deployment, planned or not.
  returned: success
  type: dict
  contains:
    units:
      description: Its units, each with C(name).
      type: list
      elements: dict
    gateways:
      description: Names of those that are gateways.
      type: list
      elements: str
    links:
      description:
        - Name and systemd service of the agents that restart its replicas as one.
      type: list
      elements: dict
    running:
      description: The systemd services of all of these that are not at rest.
      type: list
      elements: str
links:
  description:
    - With O(usage), the agents of the installed replicas, each with C(name), C(active_state), the
      C(restarts) of its replica since the last deliberate start (null where that is unknown) and
      the last C(events), C(at) which time it C(did) what and C(why).
  returned: when usage is true
  type: list
  elements: dict
disks:
  description:
    - With O(usage), the file systems that hold C(weights), C(images), C(state) or C(logs), with
      C(mount), C(size_bytes), C(free_bytes) and C(holds).
  returned: when usage is true
  type: list
  elements: dict
planned_links:
  description:
    - Of O(links), the C(name), the C(start_id) of the start that the agent belongs to, and what is
      not as planned (C(differences), a phrase each).
  returned: success
  type: list
  elements: dict
parser_checks:
  description:
    - With O(engine), what M(muster.serving.engine_parser_check) would return for the units that
      differ or do not run, from the answers that it keeps. Null where it would have to ask, and
      where all run as planned.
  returned: success
  type: list
  elements: dict
orphans:
  description: Names of the installed units that the plan does not have.
  returned: success
  type: list
  elements: str
others:
  description: Other deployments of which units run on this node.
  returned: success
  type: list
  elements: dict
  contains:
    deployment:
      description: Its name.
      type: str
    units:
      description: Names of its units that run.
      type: list
      elements: str
verified:
  description: What was verified last of the deployment on this node, as an operator reads it
    (C(verified), C(by), C(doing), C(recipe), C(engine), C(muster)), and under C(before) the same of
    what playbooks/rollback.yml would go back to. Null where nothing was.
  returned: success
  type: dict
run:
  description: The run that holds the deployment here, with C(who), C(doing) and C(since). Null
    where none does.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import (
    look_io,
    run_lock_io,
    unit_io,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **look_io.ARGUMENT_SPEC,
            "usage": {"type": "bool", "default": False},
            "weights": {"type": "list", "elements": "path", "default": []},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module, busy_s=module.params["wait"])
    try:
        seen = look_io.look(module.params, with_usage=module.params["usage"])
    except (unit_io.UnitError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
