# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_soak_report
short_description: Judge a deployment that was loaded for a time
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Says whether it passed, or what has happened and when. That is what ended the load, units whose
    run has ended, requests that failed, and memory or latencies that grow.
  - A growth counts where the median of the slopes of all pairs of values is worth a word, the pairs
    agree on it, and it goes on to the end.
  - Writes a report, and returns what is wrong without failing.
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
    details: It is skipped, since nothing was loaded.
options:
  made:
    description: What was to be run, as M(muster.serving.bench_plan) returns it with C(single).
    type: dict
    required: true
  done:
    description: What came of it, as M(muster.serving.bench_soak) returns it.
    type: dict
    required: true
  watched:
    description:
      - Name of the variable under which the hosts of C(made.units) registered the result of
        M(muster.serving.bench_watch).
    type: str
    required: true
  output_dir:
    description: The folder on the controller for the report, C(soak-TIME.json).
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Judge what was loaded
  muster.serving.bench_soak_report:
    plan: "{{ muster_plan.plan }}"
    made: "{{ bench.made }}"
    done: "{{ soak }}"
    watched: watched
    output_dir: "{{ muster_plan.run.output_dir }}"
  run_once: true
  register: judged
"""

RETURN = r"""
passed:
  description: Whether nothing has happened.
  returned: when a load was made
  type: bool
failures:
  description: What has happened, a line each in the order of time, with when and what was seen.
  returned: always
  type: list
  elements: str
report_file:
  description: Where the report stands.
  returned: when a load was made
  type: str
ansible_stats:
  description:
    - The report without its windows and samples for the run's statistics, under C(muster_soak).
  returned: when a load was made
  type: dict
"""
