# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_plan
short_description: Decide what a bench runs, and refuse what the deployment cannot hold
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Chooses from the loads of which the recipe's variant has published figures, and from an
    operator's own, and makes the command of the engine's own client for each run.
  - Refuses before anything runs what the deployment cannot hold, such as a context longer than it
    takes, or prompts with one prefix where the cache of prefixes is off, and names what to change.
  - Prints what is to be run and about how long it takes by the published figures; in check mode the
    commands, too.
  - Runs on the controller and connects to no node.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
options:
  hosts:
    description: The hosts of the run; a replica is measured that is among them whole.
    type: list
    elements: str
    required: true
  scenarios:
    description:
      - The names of the loads to make. One that the deployment cannot hold fails the task.
      - Without it all are made that the deployment can hold, and the others are named.
    type: list
    elements: str
    default: []
  custom:
    description: Loads of one's own, beside those of the recipe. One of the same name replaces it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: By which it is chosen and compared.
        type: str
        required: true
      dataset:
        description: What prompts are, random texts or random ones with shared first tokens.
        type: str
        choices: [random, prefix_repetition]
        default: random
      input:
        description: Tokens of a prompt, a shared prefix included.
        type: int
        required: true
      output:
        description: Tokens of an answer.
        type: int
        required: true
      lengths:
        description: Whether all have these lengths, or any up to them (with SGLang).
        type: str
        choices: [exact, up_to]
        default: exact
      prefix:
        description: Tokens that prompts share.
        type: int
      prefixes:
        description: How many different prefixes there are.
        type: int
      concurrency:
        description: Requests at once.
        type: int
        required: true
      prompts:
        description: Requests in all.
        type: int
        required: true
      seed:
        description: What the client draws prompts with.
        type: int
      max_num_seqs:
        description: Requests that the replica has to run at once.
        type: int
  repetitions:
    description:
      - How often each load is made. Each time with other prompts, so that none comes from the cache
        of prefixes.
    type: int
    default: 1
  warm_up:
    description: Whether a short load as wide as the scenario goes before it.
    type: bool
    default: true
  through:
    description: Whether the load goes to a replica, or through the gateway to all of them.
    type: str
    choices: [replica, gateway]
    default: replica
  replica:
    description: The index of the replica. Without it the first that is among O(hosts).
    type: int
  client:
    description:
      - The host that makes the load. It needs the engine's image, or its environment, and the
        weights' folder at the same path, of which it reads the tokenizer.
      - Without it the replica's head.
    type: str
  image:
    description: An image for the client, in place of the engine's.
    type: str
  texts:
    description:
      - A file with ShareGPT's conversations on the client's host, from which SGLang's client cuts
        its random prompts. Without it they are random tokens.
    type: path
  single:
    description:
      - Whether one load alone is made, the first that the deployment can hold if none is named.
    type: bool
    default: false
  tool:
    description: What makes the load, V(engine) for the engine's own client, or V(guidellm).
    type: str
    choices: [engine, guidellm]
    default: engine
  trace:
    description: A file on the client's host that V(guidellm) replays in place of a load.
    type: path
  tolerance:
    description: As M(muster.serving.bench_report) takes it, to refuse it before anything runs.
    type: float
    default: 3
  baseline:
    description: As M(muster.serving.bench_report) takes it, to refuse it before anything runs.
    type: path
"""

EXAMPLES = r"""
- name: Decide what to measure
  muster.serving.bench_plan:
    plan: "{{ muster_plan.plan }}"
    hosts: "{{ muster_plan.hosts }}"
    scenarios: [2k-512-c8]
    repetitions: 3
  run_once: true
  register: bench
"""

RETURN = r"""
made:
  description:
    - What M(muster.serving.bench_run) runs and M(muster.serving.bench_report) judges.
    - C(client_host) is where the client runs, C(head) the node whose devices stand for the
      replica's, C(vendor) theirs, C(units) by host the planned units to look at first, C(runs)
      every run of the client with its command, C(refused) by name why a load is left out.
  returned: success
  type: dict
begun:
  description: When, as YYYYMMDDTHHMMSSZ.
  returned: success
  type: str
"""
