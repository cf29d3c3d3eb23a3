# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the engines of a node about planned command lines, and keeps what they say."""

from __future__ import annotations

import inspect
import os
from typing import Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.programs import (
    engine_parser as engine_parser_program,
)
from ansible_collections.muster.serving.plugins.module_utils.units import (
    parser,
    unit_files,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.parser import (
    Answer,
    Place,
    Question,
)


def kept_checks(
    engine: str, version: str | None, units: Sequence[unit_files.Unit], files: NodeFiles
) -> list[Check] | None:
    """Return what engine_parser_check would say of units, None where it has to look itself."""
    answers = []
    for question in parser.questions(engine, units):
        try:
            path = _notes_path(question)
            known = path and parser.read_answer(files.read(path), len(question.argvs))
        except (unit_io.UnitError, OSError):
            # It says what is wrong, and keeps nothing from starting.
            return None
        if not known:
            return None
        answers.append((question, known))
    return parser.checks(engine, version, units, answers)


def answer(question: Question, files: NodeFiles, timeout: float, keep: bool) -> Answer:
    """Return what the engine says, from an earlier run or asked for now."""
    count = len(question.argvs)
    try:
        path = _notes_path(question)
        if path is None:
            text = f"{question.place.image or question.place.venv} is not on this node yet"
            return parser.no_answer(parser.ABSENT, text, count)
        known = parser.read_answer(files.read(path), count)
        if known is not None:
            return known
        said = _ask(question, timeout)
    except (unit_io.UnitError, CommandError, OSError) as error:
        return parser.no_answer(parser.UNKNOWN, str(error), count)
    found = parser.read_answer(said, count)
    if found is None:
        text = f"its answer makes no sense: {said}"
        return parser.no_answer(parser.UNKNOWN, text, count)
    if parser.is_definite(found.verdicts) and keep:
        files.write(path, said + "\n")
    return found


def _notes_path(question: Question) -> str | None:
    """Return where the answer of the installed engine is kept, None where none is installed yet.

    Raises:
        UnitError: Docker does not answer.
    """
    identity = _identity(question.place)
    return identity and parser.notes_path(identity, question, _program())


def _identity(place: Place) -> str | None:
    if place.image is not None:
        return unit_io.image_ids([place.image])[place.image]
    return unit_io.environment_ids([str(place.venv)])[str(place.venv)]


def _program() -> str:
    return inspect.getsource(engine_parser_program)


def _ask(question: Question, timeout: float) -> str:
    """Return the answer of the engine's parser as text.

    Raises:
        CommandError: It did not answer; the message has its output.
    """
    container = f"muster-parser-{os.getpid()}"
    try:
        output = run(parser.command(question, _program(), container), timeout)
    except CommandError:
        # The time-out killed Docker's client, not the container.
        if question.place.image is not None:
            run([unit_files.DOCKER, "rm", "--force", container], unit_io.ASK_TIMEOUT_S)
        raise
    said = parser.find_answer(output.stdout)
    if not said:
        last = parser.last_line(output.stderr or output.stdout)
        raise CommandError(f"it ended with rc {output.rc} and said {last}")
    return said
