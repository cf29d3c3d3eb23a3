# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's AMD GPUs are like: by amd-smi, or by rocm-smi where that is all there is."""

from __future__ import annotations

import os
import stat
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import excerpt
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import amd_smi, rocm_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.amd_smi import AmdGpu
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.checks import DeviceNodes
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Observation
from ansible_collections.muster.serving.plugins.module_utils.devices.tools_io import (
    ask_all,
    find_tool,
)

FOLDERS = ("/opt/rocm/bin",)


def observe(path: str | None, timeout: float) -> Observation[AmdGpu]:
    """Ask for all that is known of the GPUs.

    Args:
        path: Where amd-smi is; without it the usual places are searched, for rocm-smi as well.
        timeout: Seconds that one call may take. Calls run side by side, and after a round with one
            that did not end there is no other.
    """
    tool = find_tool("amd-smi", path, FOLDERS)
    if tool:
        return _by_amd_smi(tool, timeout)
    tool = find_tool("rocm-smi", None, FOLDERS)
    if tool:
        answers = _ask(tool, rocm_smi.ARGUMENTS, timeout)
        return _with(answers, rocm_smi.read(answers.said))
    return Observation(failure="neither amd-smi nor rocm-smi is on this node", absent=True)


class Answers(NamedTuple):
    """What a tool answered.

    Attributes:
        said: By query, what it printed.
        problems: Why it did not print more.
        complaints: What it printed besides, or in place of an answer.
        absent: Whether it could not be started.
    """

    said: dict[str, str]
    problems: list[str]
    complaints: list[str]
    absent: bool


def _by_amd_smi(tool: str, timeout: float) -> Observation[AmdGpu]:
    arguments: dict[str, Sequence[str]] = dict(amd_smi.ARGUMENTS)
    later = {"topology": arguments.pop("topology")}
    answers = _ask(tool, arguments, timeout)
    if len(answers.said) == len(arguments):
        if not amd_smi.tells_partition(answers.said["static"]):
            later["partition"] = amd_smi.PARTITION_ARGUMENTS
        more = _ask(tool, later, timeout)
        answers.said.update(more.said)
        answers.problems.extend(more.problems)
    return _with(answers, amd_smi.read(answers.said))


def _ask(tool: str, arguments: Mapping[str, Sequence[str]], timeout: float) -> Answers:
    """Ask a tool several things at once."""
    commands = {query: [tool, *words] for query, words in arguments.items()}
    answers = Answers({}, [], [], absent=False)
    for query, answer in ask_all(commands, timeout).items():
        if isinstance(answer, CommandError):
            answers.problems.append(str(answer))
            answers = answers._replace(absent=answers.absent or answer.not_started)
            continue
        answers.said[query] = answer.stdout
        answers.complaints.append(f"{answer.stdout}\n{answer.stderr}".strip())
        if answer.rc != 0:
            words = " ".join(arguments[query][:2])
            answers.problems.append(
                f"{os.path.basename(tool)} {words} ended with exit code {answer.rc}: "
                f"{excerpt(answer.text)}"
            )
    return answers


def _with(answers: Answers, gpus: Observation[AmdGpu]) -> Observation[AmdGpu]:
    """Put what went wrong with the calls before what went wrong with their answers."""
    gpus.problems = answers.problems + gpus.problems
    if not gpus.devices:
        gpus.failure = gpus.problems.pop(0) if gpus.problems else "no GPU is told of"
        gpus.printed = next(filter(None, answers.complaints), "")
        gpus.absent = answers.absent and not answers.said
    return gpus


def observe_nodes(files: NodeFiles) -> DeviceNodes:
    """Look for the device nodes, which every container with GPUs is given."""
    render = [path for path in files.glob("/dev/dri/renderD*") if _is_device(files, path)]
    return DeviceNodes(_is_device(files, "/dev/kfd"), len(render))


def _is_device(files: NodeFiles, path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(files.path(path)).st_mode)
    except OSError:
        return False
