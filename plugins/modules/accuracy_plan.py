# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accuracy_plan
short_description: Decide which data sets are asked and how, and refuse where their data is missing
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Says for each data set how many questions are asked in which form, how long answers may be, and
    beside which published or expected score the result will stand.
  - Refuses before anything runs, with all that is missing, what to put where and from which source.
  - Prints what is to be asked and about how long it takes by the recipe's published throughput.
  - Runs on the controller and connects to no node.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.accuracy
options:
  data:
    description: What there is of the data sets, as M(muster.serving.accuracy_data) returns it.
    type: dict
    required: true
  hosts:
    description: The hosts of the run; a replica is asked that is among them whole.
    type: list
    elements: str
    required: true
  sets:
    description: The data sets, in order.
    type: list
    elements: str
    required: true
  hub:
    description: Whether what is not in a folder comes from the hub.
    type: bool
    default: false
  full:
    description: Whether all questions are asked. Otherwise as many as make a quick run.
    type: bool
    default: false
  samples:
    description: How many questions of each data set are asked, in place of the quick run's.
    type: int
  max_tokens:
    description:
      - How long an answer may be, thinking included. Without it the data set's own bound, within
        the deployment's context.
    type: int
  sampling:
    description:
      - C(temperature), C(top_p) and C(top_k) of requests. Without it what the model's authors
        recommend.
    type: dict
  replica:
    description:
      - The index of the replica that is asked. Without it the gateway where O(hosts) are the whole
        cluster, otherwise the first replica of O(hosts).
    type: int
  references:
    description: Scores that are expected, in percent by data set.
    type: dict
    default: {}
  tolerance:
    description: As M(muster.serving.accuracy_report) takes it, to refuse it before it asks.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Decide what to ask
  muster.serving.accuracy_plan:
    plan: "{{ muster_plan.plan }}"
    data: "{{ data.sets }}"
    hosts: "{{ muster_plan.hosts }}"
    sets: [gsm8k]
    references: {gsm8k: 94.5}
  run_once: true
  register: accuracy
"""

RETURN = r"""
made:
  description:
    - What M(muster.serving.accuracy_run) asks and M(muster.serving.accuracy_report) judges.
    - C(url) is the API, C(units) by host the planned units to look at first, C(sets) how each data
      set is asked.
  returned: success
  type: dict
time:
  description: When it was decided, in ISO form.
  returned: success
  type: str
stamp:
  description: The same as part of a file's name.
  returned: success
  type: str
"""
