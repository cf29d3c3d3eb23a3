# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard output of a run: a live line on a terminal, which makes room for all that is printed."""

from __future__ import annotations

import contextlib
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


class Screen:
    """Standard output between begin and end: a heading above what is printed, a live line below it.

    Whoever prints in this process writes to sys.stdout or sys.stderr, which come here. The lock is
    Ansible's own for printing: it is held while a worker is forked, so that no worker is born with
    half a line in its buffer.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._out = sys.stdout
        self.is_terminal = is_terminal(sys.stdout)
        self._heading = ""
        self._drawn = ""
        # Nothing is drawn behind what has no end of line yet, as a question.
        self._open = False
        self._replaced: list[tuple[str, Any, Any]] = []

    def begin(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is self._out or (self.is_terminal and is_terminal(stream)):
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
        try:
            return os.get_terminal_size(self._out.fileno()).columns or otherwise
        except (OSError, ValueError, AttributeError):
            return otherwise

    def head(self, text: str) -> None:
        """Have a line stand above what is printed next, if anything is; it replaces another."""
        with self._lock:
            self._heading = f"{text}\n" if text else ""

    def draw(self, text: str) -> None:
        """Show a text of one line in place of what is there; an empty one removes it."""
        with self._lock:
            if text == self._drawn or (self._open and text) or not self.is_terminal:
                return
            self._drawn = text
            self._out.write(_ERASE + text)
            self._out.flush()

    def above(self, stream: TextIO, text: str) -> int:
        """Write to a stream where the live line stands."""
        with self._lock:
            if self._drawn and text:
                self._drawn = ""
                self._out.write(_ERASE)
                self._out.flush()
            if self._heading and text and stream is self._out:
                heading, self._heading = self._heading, ""
                stream.write(heading)
            written = stream.write(text)
            if text:
                self._open = not text.endswith("\n")
            return written


class _Above:
    """A standard stream whose text goes above the live line."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen

    def write(self, text: str) -> int:
        return self._screen.above(self._stream, text)

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
        # What is printed to may be closed by then.
        with contextlib.suppress(OSError, ValueError):
            while not self._stopped.wait(self._every_s):
                self._tick()
