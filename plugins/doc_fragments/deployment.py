# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that name a deployment, its plan and its hosts."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  deployment:
    description: Name of the deployment.
    type: str
    required: true
"""

    # Of a module that brings together what all deployments of a machine want.
    SHARED = r"""
options:
  deployment:
    description:
      - The deployment that wants this. What another deployment on the same machine wants stays.
    type: str
    default: default
"""

    # Of a module that sets Docker's proxy, or compares it.
    PROXY = r"""
options:
  proxy:
    description: The daemon's proxy, which may hold a password. It is kept in a file that only root
      reads.
    type: dict
    default: {}
    suboptions:
      http:
        description: Proxy for HTTP.
        type: str
      https:
        description: Proxy for HTTPS.
        type: str
      no_proxy:
        description: Hosts and networks that are asked directly, separated by commas.
        type: str
"""

    PLAN = r"""
options:
  plan:
    description: The plan, as M(muster.serving.cluster_plan) returns it.
    type: dict
    required: true
"""

    RESULTS = r"""
options:
  results:
    description: Name of the variable under which each host registered the result of the module that
      looked at it.
    type: str
    required: true
"""

    HOSTS = r"""
options:
  hosts:
    description: Inventory names of the hosts that the report is about.
    type: list
    elements: str
    required: true
"""
