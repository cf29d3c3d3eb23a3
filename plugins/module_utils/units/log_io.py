# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a unit's runs, reduced to the lines that can tell why it ended."""

from __future__ import annotations

import re
from typing import Iterable, Sequence

from ansible_collections.muster.serving.plugins.module_utils.units import unit_io

# How much of a line is looked at.
LINE_LIMIT = 2000
# A line that is repeated says no more: so many of each pattern are kept, the first ones.
KEPT = 3
# How long the journal of an engine that logged a lot may take.
TIMEOUT_S = 60

_INVOCATION = re.compile(r"[0-9a-f]{32}")


def journal_argv(invocations: Sequence[str], max_bytes: int) -> list[str]:
    """The command that prints the end of what some runs of a unit logged, and systemd of them.

    A pipe bounds it in bytes: journalctl knows lines alone, and a line has no bound worth the name.
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


def read(invocations: Sequence[str], max_bytes: int) -> list[str]:
    """The lines of some runs of a unit, oldest first, up to so many bytes of their end.

    Raises:
        UnitError: The journal did not answer in time.
    """
    argv = journal_argv(invocations, max_bytes)
    if not argv:
        return []
    text = unit_io.ask(argv, TIMEOUT_S).stdout
    if len(text.encode("utf-8", "replace")) >= max_bytes:
        text = text.partition("\n")[2]
    return text.splitlines()


def telling(lines: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The lines that match a pattern, in their order; of each pattern the first ones.

    A line counts for the first pattern that it matches, as signatures do.

    Raises:
        re.error: A pattern is none.
    """
    compiled = [re.compile(pattern) for pattern in patterns]
    seen = [0] * len(compiled)
    kept = []
    for line in lines:
        text = line[:LINE_LIMIT]
        for index, pattern in enumerate(compiled):
            if pattern.search(text):
                seen[index] += 1
                if seen[index] <= KEPT:
                    kept.append(text)
                break
    return kept
