# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accuracy_report
short_description: Hold scores of data sets against references, with what chance allows
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - A score is worse than its reference only where it falls short by more than the tolerance, and
    the answers leave no room for chance (the exact binomial interval of 95 %). Where chance may be
    why, it is V(unclear).
  - A published score decides only where it was asked by the same harness in the same form, of the
    same weights. Others are shown with what differs.
  - Writes a report with all that is needed to repeat it, and returns what is wrong without failing.
  - Runs on the controller and connects to no node.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
attributes:
  check_mode:
    support: full
    details: It is skipped, since nothing was asked.
options:
  made:
    description: What was to be asked, as M(muster.serving.accuracy_plan) returns it.
    type: dict
    required: true
  done:
    description: What came of it, as M(muster.serving.accuracy_run) returns it.
    type: dict
    required: true
  client_host:
    description: The host that ran the harness.
    type: str
    required: true
  tolerance:
    description: By how many percentage points a score may be worse than its reference.
    type: float
    default: 2.0
  gate:
    description:
      - Whether RV(failures) names each score that is worse, each data set without one, and a run in
        which nothing was compared.
    type: bool
    default: false
  path:
    description: The report's file on the controller.
    type: path
    required: true
  time:
    description: The time that the report bears, in ISO form.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Judge the scores
  muster.serving.accuracy_report:
    plan: "{{ muster_plan.plan }}"
    made: "{{ accuracy.made }}"
    done: "{{ answers }}"
    client_host: localhost
    path: "{{ muster_plan.run.output_dir }}/accuracy-{{ accuracy.stamp }}.json"
    time: "{{ accuracy.time }}"
    gate: true
  run_once: true
  register: judged

- name: Fail where it answers worse
  ansible.builtin.fail:
    msg: "{{ judged.failures | join('; ') }}"
  when: judged.failures | length > 0
"""

RETURN = r"""
passed:
  description: Whether every data set gave a score, and none is worse than its reference allows.
  returned: when something was asked
  type: bool
failures:
  description: What fails a gate, a line each; empty without O(gate).
  returned: always
  type: list
  elements: str
sets:
  description:
    - By data set its C(status) (V(met), V(unclear), V(below), V(no figure), V(not compared)), its
      score and interval, the form of the prompt, references and C(notes).
  returned: when something was asked
  type: list
  elements: dict
report_file:
  description: Where the report stands.
  returned: when something was asked
  type: str
ansible_stats:
  description: The report for the run's statistics, under C(muster_accuracy).
  returned: when something was asked
  type: dict
"""
