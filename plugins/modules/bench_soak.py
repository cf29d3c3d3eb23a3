# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_soak
short_description: Load a deployment for a time, until an engine dies or stands still
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes the one load that M(muster.serving.bench_plan) decided in windows, each a run of the
    client by M(muster.serving.bench_client) on the host of the task, with prompts of its own.
  - Reads the engines' metrics meanwhile, and ends when one does not answer any more, when its
    counters begin anew, when it has work and gives no token, or when most requests of a window
    fail.
  - M(muster.serving.bench_soak_report) judges what it returns.
  - Runs nothing where the units that O(results) tells of do not run, serve or agree with the plan.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.load
  - muster.serving.deployment.plan
  - muster.serving.bench.client
  - muster.serving.bench.watched
options:
  made:
    description: The load, as M(muster.serving.bench_plan) returns it with C(single).
    type: dict
    required: true
  duration:
    description: Seconds that the load goes on.
    type: int
    required: true
  window:
    description: Seconds of one window, whose latencies are told together.
    type: int
    default: 60
  stall:
    description: Seconds that an engine with work may go without a token.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Load it for half an hour
  muster.serving.bench_soak:
    plan: "{{ muster_plan.plan }}"
    made: "{{ bench.made }}"
    duration: 1800
  delegate_to: "{{ bench.made.client_host }}"
  run_once: true
  register: soak
"""

RETURN = r"""
windows:
  description:
    - Each has C(begin) and C(end) (seconds since 1970), C(requests), C(failed), C(metrics) of the
      client, C(engine) (what its metrics said meanwhile), C(seed), C(argv) and C(rc); one that
      ended the soak also C(samples) and C(log).
  returned: success
  type: list
  elements: dict
event:
  description:
    - Why it ended before its time, null where it did not. C(kind) is V(stalled), V(silent),
      V(restarted), V(errors) or V(client), C(at) when it began, C(what) what was seen.
  returned: success
  type: dict
soak:
  description: Its C(duration), C(window) and C(stall).
  returned: success
  type: dict
seconds:
  description: How long it took.
  returned: success
  type: float
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
