# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_report
short_description: Hold what a bench measured against published figures or an earlier run
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Compares each metric with its reference, within a tolerance. More is better of throughputs, less
    of latencies. The medians of latencies decide, or means where no median is known; tails and
    counts are shown.
  - A run with failed requests, or of which the client gave no result, is no figure.
  - A figure of another setting (devices, sizes of parallelism, weights, several replicas) is shown
    beside it with what differs, and never decides. So is one whose load is not known well enough.
  - Writes a report with all that is needed to repeat it, and returns what is wrong without failing.
  - Runs on the controller and connects to no node.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.bench.whose
attributes:
  check_mode:
    support: full
    details: It is skipped, since nothing was measured.
options:
  made:
    description: What was to be run, as M(muster.serving.bench_plan) returns it.
    type: dict
    required: true
  done:
    description: What came of it, as M(muster.serving.bench_run) returns it.
    type: dict
    required: true
  tolerance:
    description: By how many percent a metric may be worse than its reference.
    type: float
    default: 3.0
  gate:
    description:
      - Whether RV(failures) tells what is wrong. Where nothing could be compared, that is wrong,
        too.
    type: bool
    default: false
  baseline:
    description:
      - An earlier report on the controller, to compare with in place of the published figures.
    type: path
  output_dir:
    description: The folder on the controller for the report, C(bench-TIME.json).
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Judge what was measured
  muster.serving.bench_report:
    plan: "{{ muster_plan.plan }}"
    made: "{{ bench.made }}"
    done: "{{ loads }}"
    devices: "{{ devices }}"
    output_dir: "{{ muster_plan.run.output_dir }}"
    gate: true
  run_once: true
  register: judged

- name: Fail where it is too slow
  ansible.builtin.fail:
    msg: "{{ judged.failures | join('; ') }}"
  when: judged.failures | length > 0
"""

RETURN = r"""
passed:
  description: Whether every scenario gave a figure, and none is worse than its reference allows.
  returned: when something was measured
  type: bool
failures:
  description: What fails a gate, a line each; empty without O(gate).
  returned: always
  type: list
  elements: str
scenarios:
  description:
    - By scenario its C(status) (V(met), V(below), V(no figure), V(not compared)), the C(metrics)
      (medians of the repetitions), C(rows) of metrics beside their reference, and C(notes).
  returned: when something was measured
  type: list
  elements: dict
report_file:
  description: Where the report stands.
  returned: when something was measured
  type: str
ansible_stats:
  description: The report without raw results for the run's statistics, under C(muster_bench).
  returned: when something was measured
  type: dict
"""
