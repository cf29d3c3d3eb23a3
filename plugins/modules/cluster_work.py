# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_work
short_description: Say on which hosts the stages of a run have something to do
version_added: "0.1.0"
description:
  - Reads what M(muster.serving.node_checks) saw of the states on each host. Runs on the controller,
    once for all hosts, and sends nothing to any node.
  - A replica serves as one, so where one of its hosts differs, serve comes to all of them.
  - What clients check the gateways' certificates by it keeps in the file on the controller that
    the plan's run names, and removes that file where they need none. Where no gateway's host has
    told, the file stays as it is. To put it onto a controller that has none is no change.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the file by which clients check a gateway's certificate.
  idempotent:
    support: full
options:
  made:
    description: Variable under which M(muster.serving.cluster_plan) was registered.
    type: str
    required: true
  hosts:
    description: The hosts that were looked at.
    type: list
    elements: str
    required: true
  results:
    description:
      - Variable under which each of them registered M(muster.serving.node_checks). Every stage
        comes to a host of which it has nothing, and says there what is wrong.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say what is left to do
  muster.serving.cluster_work:
    made: muster_plan
    hosts: "{{ muster_plan.hosts }}"
    results: look
  run_once: true
  register: muster_work
"""

RETURN = r"""
prepare:
  description: The hosts on which prepare would change something.
  returned: success
  type: list
  elements: str
serve:
  description: The hosts of replicas and gateways that do not serve as planned, or that prepare
    comes to first.
  returned: success
  type: list
  elements: str
verify:
  description: The hosts that ask an endpoint, or have to keep what was verified.
  returned: success
  type: list
  elements: str
brief:
  description: By host of which all units run as they did when they answered last, when that was.
    There verify asks for one short answer an engine.
  returned: success
  type: dict
  sample:
    a2-node0: "2026-11-30 09:25:43Z"
takeover:
  description: The hosts of replicas and gateways in whose place something else runs, in a takeover.
  returned: success
  type: list
  elements: str
units_known:
  description: Whether serve need not look at the units again, as this run holds their nodes since
    they were looked at, and changes nothing before.
  returned: success
  type: bool
resume:
  description: The hosts of gateways at which a run has drained an engine and not taken it back yet,
    or of which that was not seen. They may be outside O(hosts).
  returned: success
  type: list
  elements: str
upgrade:
  description: Those of RV(serve), and the hosts of replicas and gateways that run as planned and
    were never verified so, since a run that upgraded them was cut off.
  returned: success
  type: list
  elements: str
"""
