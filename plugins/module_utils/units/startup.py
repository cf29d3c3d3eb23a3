# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine that starts is doing, by the last lines of its log."""

from __future__ import annotations

import re
from typing import Sequence

# How many of its last lines are looked at.
LINES = 40
_LINE_LIMIT = 4000

# A start by systemd: what stands before it is of an earlier run.
_BEGIN = re.compile(r"(?:Starting|Started) \S+\.service\b|(?:Starting|Started) Muster\b")
# vLLM and SGLang print a line a shard.
_SHARDS = re.compile(r"loading .{0,40}shards: +\d+% Completed \| (\d+)/(\d+)", re.IGNORECASE)
# A bar of progress as tqdm draws it, over itself: the last state counts.
_BAR = re.compile(r"([A-Za-z][\w ,.=()/-]{2,79}): +\d+%\|[^|]{0,200}\| (\d+)/(\d+)")

# Words of a log, and what they say; what is found is put in. The first row that fits a line counts.
_PHRASES = (
    # torch's store; a socket that "cannot be initialized" is of IPv6, and no wait.
    (r"client socket has failed to connect to \[?([\w.:-]+?)\]?:(\d+)", "waits for {0}:{1}"),
    (r"distributed_init_method=tcp://([\w.:\[\]-]+)", "meets the other ranks at {0}"),
    (
        r"[Ww]aiting for (\d+) local, (\d+) remote core engine proc",
        "waits for {0} engine processes here and {1} on other nodes",
    ),
    (r"Waiting for init message from front-?end", "waits for its API server"),
    (r"waiting for baton release at (\S+)", "waits until another process has compiled {0}"),
    (r"Init torch distributed begin", "meets the other ranks"),
    (r"Capture \S*(?: \S+)? ?graphs? begin|Capturing cuda ?graphs", "captures graphs"),
    (
        r"Dynamo bytecode transform time|Compiling a graph for|JIT Compiling for|"
        r"cache directory: \S+ for vLLM's torch\.compile",
        "compiles",
    ),
    (r"Loading weights took|Model loading took|Load weight end", "has loaded its weights"),
    (r"Starting to load model|Load weight begin", "loads weights"),
)
_COMPILED = [(re.compile(pattern), phrase) for pattern, phrase in _PHRASES]


def doing(lines: Sequence[str]) -> str:
    """Return what an engine does, a phrase; empty where the lines of its log do not tell.

    Args:
        lines: The last ones, oldest first, with those of systemd on the unit.
    """
    for line in reversed(lines):
        if _BEGIN.match(line):
            break
        told = _of_line(line[-_LINE_LIMIT:])
        if told:
            return told
    return ""


def _of_line(line: str) -> str:
    shards = _SHARDS.findall(line)
    if shards:
        return f"loads weights, {shards[-1][0]} of {shards[-1][1]} shards"
    bars = _BAR.findall(line)
    if bars:
        name, count, total = bars[-1]
        # SGLang names the batch size, vLLM the kind of graph.
        name = "captures graphs" if name.lower().startswith("captur") else name.strip()
        return f"{name}, {count} of {total}"
    for pattern, phrase in _COMPILED:
        found = pattern.search(line)
        if found:
            return phrase.format(*found.groups())
    return ""
