# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_run
short_description: Make the loads of a bench with the engine's own client, and show how far it is
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Runs nothing where the units that O(results) tells of do not run, serve or agree with the plan,
    or where a run that changes nodes is under way.
  - Runs what M(muster.serving.bench_plan) decided, one after the other, on the host of the task, by
    M(muster.serving.bench_client). A container of the client has the host's network and no
    privileges.
  - Prints every fifteen seconds how many requests are done and how long the rest takes.
  - The client runs by itself, so that a connection that breaks for a while ends nothing.
  - A scenario whose warm-up fails is not measured; the others are.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.load
  - muster.serving.bench.client
options:
  made:
    description: What is to be run, as M(muster.serving.bench_plan) returns it.
    type: dict
    required: true
  timeout:
    description: Seconds that one run of the client may take.
    type: int
    default: 7200
"""

EXAMPLES = r"""
- name: Make the load
  muster.serving.bench_run:
    made: "{{ bench.made }}"
    results: units
    timeout: 3600
  delegate_to: "{{ bench.made.client_host }}"
  run_once: true
  register: loads
"""

RETURN = r"""
runs:
  description:
    - For each run of O(made), in its order, how the client ended; null where its warm-up failed.
    - Each has C(seconds), C(rc), C(timed_out), C(raw) (the client's own JSON), C(log) (its last
      lines), C(cache_before) and C(cache_after) (counters of the prefix cache).
  returned: success
  type: list
  elements: dict
image_id:
  description: The id of the client's image; null without one.
  returned: success
  type: str
image_digests:
  description: By which digests a registry knows that image; null without one.
  returned: success
  type: list
  elements: str
"""
