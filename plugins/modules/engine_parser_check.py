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

import inspect
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.programs import (
    engine_parser as engine_parser_program,
)
from ansible_collections.muster.serving.plugins.module_utils.units import parser as engine_parser
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files, unit_io
from ansible_collections.muster.serving.plugins.module_utils.units.parser import (
    Answer,
    Place,
    Question,
    Verdict,
)


def identity(place: Place) -> str | None:
    """Return what identifies the installed engine, None where none is installed yet.

    Raises:
        UnitError: Docker does not answer.
    """
    if place.image is not None:
        return unit_io.image_ids([place.image])[place.image]
    return unit_io.environment_ids([str(place.venv)])[str(place.venv)]


def ask(question: Question, program: str, timeout: float) -> str:
    """Return the answer of the engine's parser as text.

    Raises:
        CommandError: It did not answer; the message has its output.
    """
    container = f"muster-parser-{os.getpid()}"
    try:
        output = run(engine_parser.command(question, program, container), timeout)
    except CommandError:
        # The time-out killed Docker's client, not the container.
        if question.place.image is not None:
            run([unit_files.DOCKER, "rm", "--force", container], unit_io.ASK_TIMEOUT_S)
        raise
    answer = engine_parser.find_answer(output.stdout)
    if not answer:
        said = engine_parser.last_line(output.stderr or output.stdout)
        raise CommandError(f"it ended with rc {output.rc} and said {said}")
    return answer


def answer(question: Question, files: NodeFiles, timeout: float, keep: bool) -> Answer:
    """Return what the engine says, from an earlier run or asked for now."""
    count = len(question.argvs)
    program = inspect.getsource(engine_parser_program)
    try:
        engine = identity(question.place)
        if engine is None:
            text = f"{question.place.image or question.place.venv} is not on this node yet"
            return engine_parser.no_answer(engine_parser.ABSENT, text, count)
        path = engine_parser.notes_path(engine, question, program)
        known = engine_parser.read_answer(files.read(path), count)
        if known is not None:
            return known
        said = ask(question, program, timeout)
    except (unit_io.UnitError, CommandError) as error:
        return engine_parser.no_answer(engine_parser.UNKNOWN, str(error), count)
    found = engine_parser.read_answer(said, count)
    if found is None:
        text = f"its answer makes no sense: {said}"
        return engine_parser.no_answer(engine_parser.UNKNOWN, text, count)
    if engine_parser.is_definite(found.verdicts) and keep:
        files.write(path, said + "\n")
    return found


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
        },
        supports_check_mode=True,
    )
    params, files = module.params, NodeFiles()
    units = [unit for unit in params["units"] if unit["role"] != "gateway"]
    verdicts: dict[tuple[Place, tuple[str, ...]], Verdict] = {}
    versions = []
    for question in engine_parser.questions(params["engine"], units):
        found = answer(question, files, params["timeout"], keep=not module.check_mode)
        pairs = zip(question.argvs, found.verdicts)
        verdicts.update(((question.place, argv), one) for argv, one in pairs)
        if params["version"]:
            planned = params["version"]
            versions.append(
                engine_parser.judge_version(params["engine"], planned, question.place, found)
            )
    checks = versions + [
        engine_parser.judge(unit, verdicts[engine_parser.place_of(unit), tuple(unit["argv"])])
        for unit in units
    ]
    module.exit_json(changed=False, checks=checks)


if __name__ == "__main__":
    main()
