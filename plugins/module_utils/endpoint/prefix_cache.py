# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from an engine's metrics how much its cache of prefixes was asked for, and had. Pure."""

from __future__ import annotations

import math
import re
from typing import Iterable

# What was asked for, and what of it was there, in tokens.
_NAMES = {
    "vllm:prefix_cache_queries_total": "queries",
    "vllm:prefix_cache_hits_total": "hits",
    "sglang:prompt_tokens_total": "queries",
    "sglang:cached_tokens_total": "hits",
}
_SAMPLE = re.compile(
    rf"^(?P<name>{'|'.join(_NAMES)})(?:\{{[^\n]*\}})?[ \t]+(?P<value>[-+.\w]+)", re.MULTILINE
)


def prefix_cache(pages: Iterable[str]) -> dict[str, float] | None:
    """Return {queries, hits} of all engines together, in tokens; None where one tells none."""
    found = {"queries": 0.0, "hits": 0.0}
    asked = 0
    for page in pages:
        asked += 1
        names = set()
        for sample in _SAMPLE.finditer(page):
            try:
                value = float(sample["value"])
            except ValueError:
                continue
            if math.isfinite(value):
                names.add(_NAMES[sample["name"]])
                found[_NAMES[sample["name"]]] += value
        # A counter that nothing has raised yet need not be there.
        if "queries" not in names:
            return None
    return found if asked else None
