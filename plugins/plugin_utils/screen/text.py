# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts for lines of a screen: printable, as wide as told, with names folded. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import ESCAPES

# All that steers a terminal, but the end of a line. What ends a line for Unicode alone is none.
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e]")
# What is left of a text that does not fit.
_MORE = "..."


def printable(text: str) -> str:
    """Return a text with its line ends, without what steers a terminal.

    Of a line that was written over itself, as a bar of progress is, the last state is left.
    """
    lines = [_overwritten(ESCAPES.sub("", line)) for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(_CONTROLS.sub(" ", line).rstrip() for line in lines)


def _overwritten(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def width(text: str) -> int:
    """Return how many columns of a terminal a line takes."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return a line in so many columns at most; one that is cut ends with dots."""
    if width(text) <= columns:
        return text
    room = columns - len(_MORE)
    if room < 1:
        return "." * max(columns, 0)
    kept = ""
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept += char
    return kept.rstrip() + _MORE


def indented(text: str, by: str) -> str:
    """Return a text with each of its lines that is not empty further to the right."""
    return "\n".join(by + line if line else line for line in text.split("\n"))


def fold(names: Sequence[str], most: int = 4) -> str:
    """Return names in one phrase, the first of them where there are many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def seconds(value: float) -> str:
    """Return a time as an operator says it: 0.4 s, 42 s, 3 min 10 s, 1 h 5 min."""
    if value < 9.95:
        return f"{max(value, 0):.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def task_name(name: str) -> str:
    """Return a task's name with its role in short: of a collection's role the last part alone."""
    role, colon, task = printable(name).replace("\n", " ").partition(" : ")
    return f"{role.rpartition('.')[2]}: {task}" if colon else role
