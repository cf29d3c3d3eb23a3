# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live line of a terminal: the last one, which makes room for all that is printed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

_ERASE = "\r\x1b[K"


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream shows what moves a cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    except (AttributeError, ValueError):
        return False


def columns(stream: TextIO, otherwise: int) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or otherwise
    except (OSError, ValueError, AttributeError):
        return otherwise


class LiveLine:
    """The last line of a terminal, between begin and end.

    Whoever prints in this process writes to sys.stdout or sys.stderr, which make room for it here.
    The lock is Ansible's own for printing: it is held while a worker is forked, so that no worker
    is born with half a line in its buffer.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._out = sys.stdout
        self._drawn = ""
        # Nothing is drawn behind what has no end of line yet, as a question.
        self._open = False
        self._replaced: list[tuple[str, Any, Any]] = []

    def begin(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream):
                above = _Above(stream, self)
                setattr(sys, name, above)
                self._replaced.append((name, stream, above))

    def end(self) -> None:
        self.draw("")
        for name, stream, above in self._replaced:
            if getattr(sys, name) is above:
                setattr(sys, name, stream)
        self._replaced = []

    def columns(self, otherwise: int) -> int:
        return columns(self._out, otherwise)

    def draw(self, text: str) -> None:
        """Show a text of one line in place of what is there; an empty one removes it."""
        with self._lock:
            if text == self._drawn or (self._open and text):
                return
            self._drawn = text
            self._out.write(_ERASE + text)
            self._out.flush()

    def above(self, stream: TextIO, text: str) -> int:
        """Write to a stream where the line stands."""
        with self._lock:
            if self._drawn and text:
                self._drawn = ""
                self._out.write(_ERASE)
                self._out.flush()
            written = stream.write(text)
            if text:
                self._open = not text.endswith("\n")
            return written


class _Above:
    """A standard stream whose text goes above the live line."""

    def __init__(self, stream: TextIO, line: LiveLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        return self._line.above(self._stream, text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Clock:
    """Calls a function again and again beside what runs, until it is stopped."""

    def __init__(self, every_s: float, tick: Callable[[], None]) -> None:
        self._every_s = every_s
        self._tick = tick
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muster-progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._tick()
