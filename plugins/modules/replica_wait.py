# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_wait
short_description: Wait until a replica's units run and serve
version_added: "0.1.0"
description:
  - Looks at each host's own units again and again and prints what it waits for.
  - The hosts of a replica share what they find, so that all of them end as soon as one unit has
    died, with that unit's last log lines and the cause as far as it is known. It is looked for in
    all that the units logged in this start (M(muster.serving.unit_log)); where several ended, that
    of the one that ended first is told, for which a log without any cause waits ten seconds.
  - A replica that does not come up keeps no other from doing so; neither does it keep a gateway on
    the same host. The task fails at the end, for the hosts of that replica alone.
  - Gives up on a replica after the C(start_timeout_s) of its units. A first start that fills the
    engine's cache may take C(first_start.extra_s) longer.
  - With fewer forks than hosts in the play, each host watches its own units alone.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.deployment
  - muster.serving.run
attributes:
  check_mode:
    support: full
    details: It is skipped, since nothing was started.
options:
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
    description: By group of units on this host (a replica or a gateway), all its hosts.
    type: dict
    required: true
  restarts_before:
    description: Restarts by unit name from which to count; see M(muster.serving.unit_info).
    type: dict
    default: {}
  timeout:
    description: Seconds after which the wait gives up, in place of the units' C(start_timeout_s).
    type: int
"""

EXAMPLES = r"""
- name: Wait until the replica serves
  muster.serving.replica_wait:
    deployment: a2-cluster
    model: minimax25
    units: "{{ __unit_decision.units }}"
    hosts: "{{ __unit_decision.hosts }}"
"""

RETURN = r"""
waited_s:
  description: How long it took.
  returned: always
  type: float
dead:
  description: Groups of units on this host that did not come up.
  returned: when not skipped
  type: list
  elements: str
units:
  description: This host's units as last seen; see M(muster.serving.unit_info).
  returned: success
  type: list
  elements: dict
"""
