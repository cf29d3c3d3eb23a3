# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a unit's runs, reduced to the lines that can show why it ended."""

from __future__ import annotations

import re
from typing import Iterable, Sequence

# How much of a line is looked at.
LINE_LIMIT = 2000
# A line that is repeated says no more: so many of each pattern are kept, the first ones.
KEPT = 3

_INVOCATION = re.compile(r"[0-9a-f]{32}")


def journal_argv(invocations: Sequence[str], max_bytes: int) -> list[str]:
    """Return the command that prints the end of what runs of a unit, and systemd of them, logged.

    A pipe bounds it in bytes: journalctl counts lines alone, and a line can be of any length.
    """
    fields = []
    for one in invocations:
        if _INVOCATION.fullmatch(one):
            # What systemd itself says of a run stands under another field; + means or.
            fields += ["+", f"_SYSTEMD_INVOCATION_ID={one}", "+", f"INVOCATION_ID={one}"]
    if not fields:
        return []
    script = f'journalctl --output=cat --no-pager --quiet "$@" | tail --bytes={max_bytes}'
    return ["/bin/sh", "-c", script, "sh", *fields[1:]]


def matching(lines: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the lines that match a pattern, in their order; of each pattern the first ones.

    A line counts for the first pattern that it matches, as signatures do.

    Raises:
        re.error: A pattern is no regular expression.
    """
    compiled = [re.compile(pattern) for pattern in patterns]
    counts = [0] * len(compiled)
    kept = []
    for line in lines:
        text = line[:LINE_LIMIT]
        for index, pattern in enumerate(compiled):
            if pattern.search(text):
                counts[index] += 1
                if counts[index] <= KEPT:
                    kept.append(text)
                break
    return kept
