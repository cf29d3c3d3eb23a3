# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_sweep
short_description: Raise a load until a deployment saturates or a bound breaks, and say what binds
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes the one load that M(muster.serving.bench_plan) decided with more and more requests at
    once, on the host of the task, by M(muster.serving.bench_client). It doubles them until the
    throughput stops growing or a bound breaks, and then halves the gaps below both.
  - Reads the engines' metrics meanwhile, and says which limit binds, how sure that is, and what to
    set.
  - Where C(made) has C(tool) V(guidellm), GuideLLM makes the loads in place of the engine's client,
    in an environment that M(muster.serving.bench_guidellm) makes on the host. With O(trace) it
    replays that file once, and nothing is raised.
  - Runs nothing where the units that O(results) tells of do not run, serve or agree with the plan.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.load
  - muster.serving.deployment.plan
  - muster.serving.bench.client
  - muster.serving.bench.watched
  - muster.serving.bench.whose
  - muster.serving.bench.guidellm
  - muster.serving.python_env
options:
  made:
    description: What is to be run, as M(muster.serving.bench_plan) returns it with C(single).
    type: dict
    required: true
  bounds:
    description:
      - By metric the milliseconds that are not to be exceeded, as V(p99_ttft_ms). The mean, median,
        p50, p90, p95 or p99 of C(ttft), C(tpot), C(itl) or C(e2e), as far as the client tells it.
    type: dict
    default: {}
  first:
    description: The first load, in requests at once.
    type: int
    default: 1
  most:
    description:
      - The highest one. Without it twice the requests that can run at once, or 1024 where the plan
        does not tell them.
    type: int
  each:
    description: How many requests follow each other at each place of a load; 8 are made at least.
    type: int
    default: 5
  gain:
    description: By how many percent throughput has to grow where the load doubles.
    type: float
    default: 5.0
  lock:
    description: What GuideLLM's environment is made of, pins as pip reads them.
    type: str
  trace_scale:
    description: The seconds in a unit of the trace's time.
    type: float
    default: 1.0
  seconds:
    description:
      - Seconds that the load of a step, or a trace, lasts at most, with GuideLLM. Requests under
        way then count for their tokens alone. Without it all requests of a load are made.
    type: float
  timeout:
    description: Seconds that one step may take.
    type: int
    default: 7200
  output_dir:
    description: The folder on the controller for the report, C(sweep-TIME.json).
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Find how much the replica takes
  muster.serving.bench_sweep:
    plan: "{{ muster_plan.plan }}"
    made: "{{ bench.made }}"
    bounds: {p99_ttft_ms: 2000, p95_tpot_ms: 60}
    output_dir: "{{ muster_plan.run.output_dir }}"
  delegate_to: "{{ bench.made.client_host }}"
  run_once: true
"""

RETURN = r"""
failures:
  description: Why the sweep ended without a verdict, a line each; empty where it has one.
  returned: always
  type: list
  elements: str
report_file:
  description: Where the report stands.
  returned: when something was measured
  type: str
ansible_stats:
  description: The report without its steps for the run's statistics, under C(muster_sweep).
  returned: when something was measured
  type: dict
"""
