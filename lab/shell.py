# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands with timeouts, and steps that tell how long they take."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL = 15
PROGRESS_EVERY_S = 10.0


class LabError(Exception):
    """What went wrong and what to do about it, for the operator."""


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    log: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command. With `log`, its output goes there and only the end of it into an error."""
    full_env = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as out:
                code = subprocess.run(
                    argv, timeout=timeout, input=stdin, env=full_env, stdout=out, stderr=out
                ).returncode
            stdout, stderr = log.read_text(errors="replace"), ""
        else:
            done = subprocess.run(
                argv, timeout=timeout, input=stdin, env=full_env, capture_output=True
            )
            code = done.returncode
            stdout, stderr = (
                done.stdout.decode(errors="replace"),
                done.stderr.decode(errors="replace"),
            )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout:.0f} s: {' '.join(argv)}") from error
    if check and code != 0:
        tail = "\n".join(f"    {line}" for line in (stdout + stderr).splitlines()[-TAIL:])
        where = f" (all of it in {log})" if log else ""
        raise LabError(f"exit code {code} of: {' '.join(argv)}{where}\n{tail}")
    return subprocess.CompletedProcess(list(argv), code, stdout, stderr)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print what happens, a line now and then while it lasts, and how long it took."""
    start = time.monotonic()
    done = threading.Event()

    def ticker() -> None:
        while not done.wait(PROGRESS_EVERY_S):
            say(f"    {what} ... {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=ticker, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        say(f"  FAILED {what} after {time.monotonic() - start:.1f} s")
        raise
    else:
        say(f"  done   {what} ({time.monotonic() - start:.1f} s)")
    finally:
        done.set()
        thread.join()
