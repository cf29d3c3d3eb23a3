# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall_report
short_description: Show what an uninstallation left, and why
version_added: "0.1.0"
description:
  - Prints one table of what M(muster.serving.node_uninstall) and M(muster.serving.docker_config)
    left on the nodes, and on which of them nothing was to be removed.
  - Runs on the controller and sends nothing to the nodes.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.hosts
options:
  results:
    description: Names of the variables under which each host registered what was removed there.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say what stays
  muster.serving.uninstall_report:
    hosts: "{{ ansible_play_hosts }}"
    results: [__docker, __removed]
  run_once: true
"""

RETURN = r"""
nothing:
  description: Hosts on which nothing was to be removed.
  returned: success
  type: list
  elements: str
stays:
  description: What stays, each with C(hosts), C(what) and C(why).
  returned: success
  type: list
  elements: dict
ansible_stats:
  description: The same for the run's statistics, under C(muster_uninstall).
  returned: success
  type: dict
"""
