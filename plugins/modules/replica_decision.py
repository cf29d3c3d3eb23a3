# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_decision
short_description: Decide for whole replicas whether their units start
version_added: "0.1.0"
description:
  - Ranks live and die together. If one unit of a replica differs from the plan or does not run, all
    its units stop and start as one; no other replica is touched. A gateway is a group of its own.
  - Says before anything is stopped why a group starts or restarts, in check mode, too.
  - Fails before anything is stopped where a unit would start from an environment that is not there.
  - Reads what M(muster.serving.unit_info) returned on each host, or M(muster.serving.node_checks)
    of its state V(unit). Runs on the controller, once a host, and sends nothing to the node.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.deployment.results
options:
  asked:
    description: Why the host's replica restarts though nothing of it differs. Gateways do not.
    type: str
    default: ""
  restart:
    description: What may be done to a group that runs otherwise than planned; else as planned.
    type: str
    choices: [now, stage, never]
"""

EXAMPLES = r"""
- name: Decide whether the replica starts
  muster.serving.replica_decision:
    plan: "{{ muster_plan.plan }}"
    results: __unit_info
  register: __unit_decision
"""

RETURN = r"""
start:
  description: Whether units of this host stop and start or go.
  returned: success
  type: bool
stop:
  description: Whether any of these runs and has to stop before its replica starts.
  returned: success
  type: bool
wait:
  description: Whether there is something to wait for.
  returned: success
  type: bool
reasons:
  description: Why, a line each.
  returned: success
  type: list
  elements: str
start_id:
  description: Names this start; equal on all hosts.
  returned: success
  type: str
stays:
  description: Groups that differ from the plan and run on, since C(muster_restart) says so.
  returned: success
  type: list
  elements: str
gateway_gone:
  description: Whether RV(orphans) has a gateway.
  returned: success
  type: bool
hosts:
  description: By group that is waited for, all its hosts. A group is a replica or a gateway.
  returned: success
  type: dict
units:
  description: The plan's units of this host, but for those of RV(stays).
  returned: success
  type: list
  elements: dict
links:
  description: The plan's links of this host.
  returned: success
  type: list
  elements: dict
read_units:
  description: Units of this host whose command line the engine's parser is to read.
  returned: success
  type: list
  elements: dict
parser_checks:
  description: What the parser is known to say of RV(read_units); null where it has to be asked.
  returned: success
  type: list
  elements: dict
start_units:
  description: Those of RV(units) that stop and start.
  returned: success
  type: list
  elements: dict
start_links:
  description: The links of RV(start_units).
  returned: success
  type: list
  elements: dict
stale_links:
  description:
    - Links of this host that are not as planned while their replica runs on, each with the
      C(start_id) that it belongs to.
  returned: success
  type: list
  elements: dict
orphans:
  description: Installed units of the deployment on this host that the plan does not have.
  returned: success
  type: list
  elements: str
restarts_before:
  description: Restarts by unit name from which a wait counts, of the units that do not start.
  returned: success
  type: dict
"""
