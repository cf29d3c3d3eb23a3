# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_wait
short_description: Wait until a replica's units run and serve
version_added: "0.1.0"
description:
  - Looks at each host's own units again and again and says what it waits for.
  - The hosts of a replica share what they see, so that all of them end as soon as one unit has
    died, with that unit's last log lines.
  - With fewer forks than hosts in the play, each host watches its own units alone.
author:
  - Muster contributors (@muster)
attributes:
  check_mode:
    support: full
    description: Skipped, as nothing was started.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  model:
    description: Name under which the model is served.
    type: str
    required: true
  units:
    description: The plan's units of this host.
    type: list
    elements: dict
    required: true
  hosts:
    description: All hosts of this host's replicas.
    type: list
    elements: str
    required: true
  restarts_before:
    description: Restarts by unit name from which to count; see M(muster.serving.rank_info).
    type: dict
    default: {}
  timeout:
    description: Seconds after which the wait gives up.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Wait until the replica serves
  muster.serving.replica_wait:
    deployment: a2-cluster
    model: minimax25
    units: "{{ __rank_decision.units }}"
    hosts: "{{ __rank_decision.hosts }}"
    timeout: 1800
"""

RETURN = r"""
waited_s:
  description: How long it took.
  returned: always
  type: float
units:
  description: This host's units as last seen; see M(muster.serving.rank_info).
  returned: success
  type: list
  elements: dict
"""
