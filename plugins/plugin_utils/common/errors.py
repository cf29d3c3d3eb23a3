# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exception of planning, and how its messages name things."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


class PlanError(Exception):
    """All that is wrong with a recipe or an inventory, one message of one line an entry.

    Messages quote what others wrote, as names of any characters.
    """

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages: list[str] = list(dict.fromkeys(map(_line, messages)))
        super().__init__("\n".join(self.messages))


def _line(text: str) -> str:
    """Return a text as one line without control characters."""
    return re.sub(r"\s*[\x00-\x1f\x7f\x85\u2028\u2029]+\s*", " ", text).strip()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a half-sentence that offers the known name closest to the given one."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    if len(known) <= 12:
        return f"known: {', '.join(known) or 'none'}"
    return "no known name is close to it"


def shown(value: Any) -> str:
    """Return a value as a message can hold it: short, and a map without what may be secret."""
    if isinstance(value, dict):
        return f"a map of {', '.join(map(str, value)) or 'nothing'}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
