# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accuracy_run
short_description: Ask data sets by lm-evaluation-harness, and show how far it is
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Asks nothing where the units that O(results) tells of do not run, serve or agree with the plan,
    or where a run that changes nodes is under way.
  - Makes the harness's environment on the host of the task where it is not there yet, and runs what
    M(muster.serving.accuracy_plan) decided there, a data set after the other, by
    M(muster.serving.accuracy_client).
  - Prints every fifteen seconds how many questions are answered and how long the rest takes.
  - The harness runs by itself, so that a connection that breaks for a while ends nothing.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.load
  - muster.serving.accuracy.harness
  - muster.serving.python_env
options:
  made:
    description: What is to be asked, as M(muster.serving.accuracy_plan) returns it.
    type: dict
    required: true
  venv:
    description: An environment with C(lm_eval) on the host. Without it one is made of O(lock).
    type: path
  lock:
    description: What the environment is made of, pins as pip reads them.
    type: str
    required: true
  api_key_file:
    description: A file on the host with the API's key, which gets into no command line.
    type: path
  timeout:
    description: Seconds that one data set may take.
    type: int
    default: 86400
  keep:
    description:
      - The folder on the host for the harness's own files, a log of all answers among them.
    type: path
  results:
    description:
      - Name of the variable under which the hosts of C(made.units) registered the result of
        M(muster.serving.unit_info). Without it the units are not looked at.
    type: str
"""

EXAMPLES = r"""
- name: Ask
  muster.serving.accuracy_run:
    made: "{{ accuracy.made }}"
    lock: "{{ lookup('ansible.builtin.file', 'requirements.lock', rstrip=false) }}"
    results: units
  delegate_to: localhost
  run_once: true
  register: answers
"""

RETURN = r"""
sets:
  description:
    - For each data set of O(made), in its order, how its run ended.
    - Each has C(result) as M(muster.serving.accuracy_client) returns it, or C(problem), and
      C(seconds), C(rc), C(log) and C(kept).
  returned: success
  type: list
  elements: dict
venv:
  description: The harness's environment.
  returned: success
  type: str
"""
