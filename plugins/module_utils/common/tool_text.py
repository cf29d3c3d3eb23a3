# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What readers of tools share: plain text, problems that stay few, excerpts that stay short."""

from __future__ import annotations

import re

# Sequences that move a terminal's cursor, change its colours or set its title.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")

MAX_PROBLEMS = 20


class Problems:
    """Collects what is wrong; a page of garbage must not become a page of problems."""

    def __init__(self) -> None:
        self._seen: list[str] = []
        self._dropped = 0

    def add(self, text: str) -> None:
        if len(self._seen) < MAX_PROBLEMS:
            self._seen.append(text)
        else:
            self._dropped += 1

    def result(self) -> list[str]:
        more = [f"and {self._dropped} more"] if self._dropped else []
        return self._seen + more


def plain(text: str) -> str:
    """Return what a tool printed as it prints it into a file: no colours, line ends of its own."""
    return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\ufeff", "")


def excerpt(text: str, limit: int = 100) -> str:
    """Return one printable line for a message."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
