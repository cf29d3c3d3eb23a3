# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""External commands: always bounded in time, always in the C locale."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass


class CommandError(Exception):
    """The command did not start or did not end in time."""

    @property
    def not_started(self) -> bool:
        """Tell whether there is no such command, or none that may be run."""
        return isinstance(self.__cause__, OSError)


@dataclass(frozen=True)
class Output:
    rc: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Return what an operator would have seen, for a message."""
        said = self.stderr.strip() or self.stdout.strip() or f"exit code {self.rc}"
        return said.rstrip(".")


def run(argv: list[str], timeout: float, stdin: str = "") -> Output:
    """Run a command to its end. Without stdin it finds its input at the end.

    Raises:
        CommandError: It could not be started, or it was killed with its children after
            timeout seconds.
    """
    environment = dict(os.environ, LC_ALL="C", LANG="C")
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{argv[0]} could not be started: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(stdin or None, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process stuck in its driver does not even die of that; it is left to the kernel.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=2)
        raise CommandError(f"{' '.join(argv[:3])} did not end within {timeout:g} s") from error
    return Output(process.returncode, stdout, stderr)
