# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to ask an engine and its argument parser about units, and what the answers mean. Pure."""

from __future__ import annotations

import hashlib
import json
import textwrap
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import USER, environment_of
from ansible_collections.muster.serving.plugins.module_utils.engine.version import (
    is_planned,
    public,
)
from ansible_collections.muster.serving.plugins.module_utils.programs.engine_parser import MARK
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import Unit

ACCEPTED, REFUSED, UNKNOWN, ABSENT = "accepted", "refused", "unknown", "absent"
# Parsers list all that they would have taken, and validators add where to read more.
_LONGEST = 600
_BRING = "run prepare, which brings it"
_ASK_YOURSELF = "compare what the engine's log says first with muster_engine_version"


class Place(NamedTuple):
    """Where an engine lives: in an image, or in a virtual environment of the node.

    entrypoint is what stands before the engine in its container.
    """

    image: str | None
    venv: str | None
    entrypoint: tuple[str, ...]


class Question(NamedTuple):
    """Command lines for one engine on this node, to be answered by one process."""

    engine: str
    place: Place
    env: dict[str, str]
    argvs: tuple[tuple[str, ...], ...]


class Verdict(NamedTuple):
    """The parser's word on one command line."""

    status: str
    text: str


class Answer(NamedTuple):
    """What an engine says of itself and of command lines.

    Fields:
        version: The version that its package tells; None where it tells none.
        verdicts: Its parser's, in the order of the command lines.
        unanswered: Why it was not asked, as a verdict; None where it has answered.
    """

    version: str | None
    verdicts: list[Verdict]
    unanswered: Verdict | None = None


def place_of(unit: Unit) -> Place:
    """Return where a unit's engine lives."""
    if unit_files.in_venv(unit):
        return Place(None, environment_of(unit["argv"]), ())
    return Place(unit["image"], None, tuple(unit["container"].get("entrypoint") or ()))


def questions(engine: str, units: Sequence[Unit]) -> list[Question]:
    """Return one question an engine: each command line once, and the environment all units share.

    What differs between units, their devices above all, means nothing where there is no device.
    Gateways run no engine and are left out.
    """
    together: dict[Place, list[Unit]] = {}
    for unit in _of_engines(units):
        together.setdefault(place_of(unit), []).append(unit)
    return [
        Question(
            engine,
            place,
            dict(set.intersection(*(set(unit["env"].items()) for unit in members))),
            tuple(dict.fromkeys(tuple(unit["argv"]) for unit in members)),
        )
        for place, members in together.items()
    ]


def command(question: Question, program: str, container: str) -> list[str]:
    """Return the command that answers; in an image, without network, devices, mounts, secrets."""
    image, venv, entrypoint = question.place
    request = json.dumps({"engine": question.engine, "argvs": question.argvs})
    asking = ["-c", program, request]
    settings = [f"{name}={value}" for name, value in sorted(question.env.items())]
    if image is None:
        # As the user that units run as there. Its home is made with the first start of a unit.
        argv = ["/usr/bin/setpriv", "--reuid", USER, "--regid", USER, "--init-groups"]
        return [*argv, "/usr/bin/env", "HOME=/tmp", *settings, f"{venv}/bin/python", *asking]
    argv = [unit_files.DOCKER, "run", "--rm", "--name", container]
    argv += ["--network", "none", "--pull", "never"]
    for setting in settings:
        argv += ["--env", setting]
    words = [*entrypoint, "python3", *asking]
    return [*argv, "--entrypoint", words[0], image, *words[1:]]


def notes_path(identity: str, question: Question, program: str) -> str:
    """Return where an engine's answer is kept by its identity: asked again, it would repeat it."""
    asked = json.dumps([identity, command(question, program, "")])
    return f"{STATE_DIR}/parser/{hashlib.sha256(asked.encode()).hexdigest()}.json"


def find_answer(stdout: str) -> str:
    """Return the marked line among all that an engine printed; empty where there is none."""
    marked = [line for line in stdout.splitlines() if line.startswith(MARK)]
    return marked[-1][len(MARK) :] if marked else ""


def no_answer(status: str, why: str, count: int) -> Answer:
    """Return what stands for the answer of an engine that gave none."""
    verdict = Verdict(status, why)
    return Answer(None, [verdict] * count, verdict)


def read_answer(text: str | None, count: int) -> Answer | None:
    """Return the answer to so many command lines, or None where the text does not hold it."""
    try:
        answer = json_text.parse(text)
        version = None if answer["version"] is None else str(answer["version"])
        if answer["error"] is not None:
            return Answer(version, [Verdict(UNKNOWN, str(answer["error"]))] * count)
        verdicts = [Verdict(str(one["status"]), str(one["text"])) for one in answer["verdicts"]]
    except (ValueError, TypeError, KeyError):
        return None
    known = all(verdict.status in (ACCEPTED, REFUSED, UNKNOWN) for verdict in verdicts)
    return Answer(version, verdicts) if known and len(verdicts) == count else None


def is_definite(verdicts: Sequence[Verdict]) -> bool:
    """Tell whether asking again would bring nothing else."""
    return all(verdict.status in (ACCEPTED, REFUSED) for verdict in verdicts)


def last_line(text: str) -> str:
    """Return what a process said last, where the cause of its end stands."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def _shortened(text: str) -> str:
    return textwrap.shorten(text, _LONGEST, placeholder=" ...")


def checks(
    engine: str,
    version: str | None,
    units: Sequence[Unit],
    answers: Sequence[tuple[Question, Answer]],
) -> list[Check]:
    """Return a check of each engine's version, where one is planned, and one of each unit.

    Args:
        engine: Whose parser it is.
        version: The version that the plan is made for; without it none is compared.
        units: The units.
        answers: The answer to each question about them.
    """
    verdicts = {
        (question.place, argv): verdict
        for question, answer in answers
        for argv, verdict in zip(question.argvs, answer.verdicts)
    }
    versions = [
        judge_version(engine, version, question.place, answer)
        for question, answer in answers
        if version
    ]
    return versions + [
        judge(unit, verdicts[place_of(unit), tuple(unit["argv"])]) for unit in _of_engines(units)
    ]


def _of_engines(units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if unit["role"] != "gateway"]


def judge(unit: Unit, verdict: Verdict) -> Check:
    """Return the check of one unit."""
    statuses = {ACCEPTED: "ok", REFUSED: "failed", UNKNOWN: "unknown", ABSENT: "pending"}
    observed = {ACCEPTED: "accepted", UNKNOWN: f"could not be asked: {verdict.text}"}
    remedies: Mapping[str, str] = {
        REFUSED: "correct muster_engine_args; if the recipe itself has the flag, set"
        " muster_engine_version to the version that is installed, or correct the recipe",
        UNKNOWN: "none before the start: a flag that the engine refuses shows in the unit's log",
        ABSENT: _BRING,
    }
    return check(
        "engine-parser",
        statuses[verdict.status],
        unit["name"],
        _shortened(observed.get(verdict.status, verdict.text)),
        "the engine's parser takes the planned command line",
        remedies.get(verdict.status, ""),
    )


def judge_version(engine: str, planned: str, place: Place, answer: Answer) -> Check:
    """Return the check of an engine's version, for all units that run it from one place."""
    where = str(place.image or place.venv)
    expected = f"{engine} {planned}"
    if answer.unanswered:
        status, why = answer.unanswered
        if status == ABSENT:
            return check("engine-version", "pending", where, why, expected, _BRING)
        observed = _shortened(f"could not be asked: {why}")
        return check("engine-version", "unknown", where, observed, expected, _ASK_YOURSELF)
    if answer.version is None:
        observed = f"it has no package of the name {engine}"
        return check("engine-version", "unknown", where, observed, expected, _ASK_YOURSELF)
    observed = _shortened(f"{engine} {answer.version}")
    same = is_planned(answer.version, planned)
    if same is None:
        observed += ", which names no release"
        return check("engine-version", "unknown", where, observed, expected, _ASK_YOURSELF)
    if same:
        return check("engine-version", "ok", where, observed, expected)
    other = (
        f"take an image of {planned} (muster_image)"
        if place.image
        else f"install {planned} (muster_wheel_requirements, muster_wheel_channel)"
    )
    remedy = (
        f'set muster_engine_version: "{public(answer.version)}", so that the command line is made'
        f" for the engine that reads it, or {other}"
    )
    return check("engine-version", "warning", where, observed, expected, remedy)
