# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_status
short_description: Show how the units of a cluster are doing
version_added: "0.1.0"
description:
  - Prints one table of the units that M(muster.serving.unit_info) looked at and writes it as JSON.
  - Runs on the controller; a host that could not be reached is shown as such.
author:
  - Muster contributors (@muster)
attributes:
  check_mode:
    support: full
    description: Only tells.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  plan:
    description: The plan.
    type: dict
    required: true
  hosts:
    description: Hosts to tell of.
    type: list
    elements: str
    required: true
  results:
    description: Variable under which each host registered what M(muster.serving.unit_info) said.
    type: str
    required: true
  report_file:
    description: Where to write the same as JSON, on the controller.
    type: path
"""

EXAMPLES = r"""
- name: Show the units
  muster.serving.cluster_status:
    plan: "{{ muster_plan.plan }}"
    hosts: "{{ muster_plan.hosts }}"
    results: __unit_info
  run_once: true
"""

RETURN = r""" # """
