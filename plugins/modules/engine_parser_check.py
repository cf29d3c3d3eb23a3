# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_parser_check
short_description: Ask the engine itself for its version and about the planned command lines
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Runs the argument parser of the engine that is installed, in its image or its venv, over the
    argv of each unit. No recipe knows an engine's version as well as the engine does.
  - Compares the version that the engine's package tells with the planned one. Another one is a
    warning, since the parser decides whether the command line fits.
  - An image is asked in one throw-away container for all its units, without network, devices,
    mounts and secrets, so that units which run are not disturbed. A venv is asked by its own
    Python, as the user that its units run as.
  - An engine that cannot be asked, for instance since it does not load without a device, is a check
    with status V(unknown) and never a refusal.
  - A definite answer is kept below C(/var/lib/muster/parser/), and the same question is then not
    asked again.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
attributes:
  check_mode:
    support: full
    details: It asks the parser in check mode, too, but keeps no answer.
options:
  engine:
    description: Whose parser it is.
    type: str
    choices: [vllm, vllm-ascend, sglang]
    required: true
  version:
    description:
      - The version that the plan is made for. Without it none is compared, as for what starts again
        as it was verified.
    type: str
  units:
    description:
      - Units of the plan for this node, as the plan file has them. Gateways run no engine and are
        left out.
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds that one container or one process of a venv may take.
    type: float
    default: 180
  known:
    description:
      - What M(muster.serving.unit_info) told of these very units. The engine is then not asked, nor
        is the node connected to.
    type: list
    elements: dict
notes:
  - An action of the same name runs it.
"""

EXAMPLES = r"""
- name: Let the engine read what it would be started with
  muster.serving.engine_parser_check:
    engine: "{{ muster_plan.plan.engine.name }}"
    version: "{{ muster_plan.plan.engine.version }}"
    units: "{{ muster_plan.units[inventory_hostname] }}"
  register: parser
"""

RETURN = r"""
checks:
  description:
    - One verdict a unit, with the id V(engine-parser), and with O(version) one on each image or
      venv, with the id V(engine-version).
  returned: always
  type: list
  elements: dict
  sample:
    - id: engine-parser
      phase: ready
      status: failed
      subject: a2-cluster-r0-rank0
      observed: "unrecognized arguments: --max-seqs 7"
      expected: the engine's parser takes the planned command line
      remedy: >-
        correct muster_engine_args; if the recipe itself has the flag, set muster_engine_version to
        the version that is installed, or correct the recipe
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import parser, parser_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "engine": {
                "type": "str",
                "choices": ["vllm", "vllm-ascend", "sglang"],
                "required": True,
            },
            "version": {"type": "str"},
            "units": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "float", "default": 180},
            "known": {"type": "list", "elements": "dict"},
        },
        supports_check_mode=True,
    )
    params, files = module.params, NodeFiles()
    engine, units, keep = params["engine"], params["units"], not module.check_mode
    checks = params["known"]
    if checks is None:
        answers = [
            (question, parser_io.answer(question, files, params["timeout"], keep))
            for question in parser.questions(engine, units)
        ]
        checks = parser.checks(engine, params["version"], units, answers)
    module.exit_json(changed=False, checks=checks)


if __name__ == "__main__":
    main()
