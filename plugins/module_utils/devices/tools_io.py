# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and runs the tools of drivers that answer several callers."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import plain

MAX_CALLS = 4


def find_tool(name: str, path: str | None, folders: Sequence[str] = ()) -> str | None:
    """Return a tool as the caller names it, or from these folders, or from the PATH."""
    places = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    return path or shutil.which(name, path=places)


def ask(argv: Sequence[str], timeout: float) -> Output:
    """Return what a tool answers, in plain text: a wrapper may colour it, or end lines its own way.

    Raises:
        CommandError: As of run.
    """
    answer = run(list(argv), timeout)
    return Output(answer.rc, plain(answer.stdout), plain(answer.stderr))


def ask_all(
    commands: Mapping[str, Sequence[str]], timeout: float
) -> dict[str, Output | CommandError]:
    """Run commands side by side, so that a hanging driver costs one timeout.

    Args:
        commands: By any name, the argv.
        timeout: Seconds that each may take.

    Returns:
        By the same name what the command answered, or why it did not.
    """

    def answer(argv: Sequence[str]) -> Output | CommandError:
        try:
            return ask(argv, timeout)
        except CommandError as error:
            return error

    with ThreadPoolExecutor(max_workers=MAX_CALLS) as pool:
        return dict(zip(commands, pool.map(answer, commands.values())))
