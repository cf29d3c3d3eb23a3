# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall_decision
short_description: Decide from which hosts a deployment may go
version_added: "0.1.0"
description:
  - A replica goes as a whole. From a host of one that runs on other hosts, which the run leaves out
    or has lost, it does not go. Where the rest does not run, or does not answer, it does.
  - Reads what M(muster.serving.uninstall_info) returned. Runs on the controller and sends nothing
    to the nodes.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.hosts
  - muster.serving.deployment.results
"""

EXAMPLES = r"""
- name: Decide for whole replicas
  muster.serving.uninstall_decision:
    hosts: "{{ ansible_play_hosts_all }}"
    results: __found
  run_once: true
  register: __decision
"""

RETURN = r"""
refused:
  description: By host from which it may not go, why, with the hosts that are missing.
  returned: success
  type: dict
"""
