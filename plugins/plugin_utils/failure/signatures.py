# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The known failures that an engine's log can show, as one table.

A line counts for the first signature of the table that it matches, so a narrow one stands before a
wide one. Texts of HCCL are those of its error codes; the others are what the engines, their
libraries, Docker, the kernel and the loader print.
"""

from __future__ import annotations

import functools
import re

from ansible_collections.muster.serving.plugins.plugin_utils.failure import (
    known_ascend,
    known_docker,
    known_engine,
    known_follow_ups,
    known_gpu,
    known_host,
    known_libraries,
    known_ranks,
    known_weights,
)
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    HARMLESS,
    LIKELY,
    SYMPTOM,
    Signature,
)

SIGNATURES: tuple[Signature, ...] = (
    *known_follow_ups.FIRST,
    *known_ascend.SIGNATURES,
    *known_gpu.SIGNATURES,
    *known_libraries.SIGNATURES,
    *known_ranks.SIGNATURES,
    *known_weights.SIGNATURES,
    *known_engine.SIGNATURES,
    *known_docker.SIGNATURES,
    *known_host.SIGNATURES,
    *known_follow_ups.LAST,
)

# Patterns in the order in which they are tried, each with what it says; hints come last.
_TABLE: tuple[tuple[str, Signature, bool], ...] = (
    *(
        (pattern, one._replace(rank=rank), False)
        for one in SIGNATURES
        for pattern, rank in ((one.pattern, one.rank), (one.likely, max(one.rank, LIKELY)))
        if pattern
    ),
    *((one.hint, one._replace(rank=max(one.rank, LIKELY)), True) for one in SIGNATURES if one.hint),
)
# A line of an exception, but not of its source, or at the level of an error: what to look at where
# nothing is known.
ERROR = (
    r"(?:^|[\s:'\"])(?<!\braise )[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b(?::|\()"
    # One without words: alone on its line.
    r"|^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?[A-Z]\w*(?:Error|Exception)\s*$"
    r"|\[(?:ERROR|FATAL)\]"
    r"|\b(?:FATAL|panic|fatal error|terminate called)\b|^docker: "
)
# What a node is asked to look for, so that the lines that it returns say what all of them do.
PATTERNS = [*(pattern for pattern, _one, _hint in _TABLE), ERROR]

# The program went on after a line at these levels or with these words: a warning is a hint, and so
# is a symptom in a line of information. What could not be imported can be what it ends of, but not
# where the part is of another platform, whose symbols torch lacks.
_WARNING = re.compile(
    r"^.{0,60}\bWARNING\b(?!.{0,80}Failed to import(?!.*undefined symbol))(?!.{0,40}A worker died)"
    r"|^(?:\([^)]*\) )*(?:\[rank\d+\]:)?\[W\d{3,4} (?!.*timed out)"
    r"|\b\w*Warning: (?!CUDA initialization)|\blevel=warn|\b[Ii]f you (?:see|hit|get|encounter)\b"
    r"|\b[Ff]all(?:ing|s)? ?back to\b|\b[Ss]kipping\b|\b[Ii]gnoring\b|\b[Cc]hanging \S+ from\b"
)
# A warning with these words ends nothing: the program took something else, or is only slower.
_WENT_ON = re.compile(
    r"\bWARNING\b.*(?:\b[Ff]all(?:ing|s)? ?back (?:to|on)\b"
    r"|\b(?:defaulting|reverting) .{0,60}\bto\b"
    r"|[Rr]etrying with|will be removed in|[Ll]oading raw base weights|suboptimal performance"
    r"|[Uu]nknown vLLM environment variable)"
)
_INFORMATION = re.compile(r"^.{0,60}\bINFO\b(?!: (?:task|rcu))")
_COMPILED = tuple((re.compile(pattern), one, hint) for pattern, one, hint in _TABLE)


@functools.lru_cache(maxsize=4096)  # ranks print the same lines
def read(text: str) -> tuple[Signature, bool] | None:
    """Return the signature that a line counts for, and whether as a hint; None for none."""
    for pattern, one, hint in _COMPILED:
        if pattern.search(text):
            warned = one.rank < HARMLESS and _WARNING.search(text)
            if warned and _WENT_ON.search(text):
                return None
            if warned or (one.rank == SYMPTOM and _INFORMATION.search(text)):
                return one._replace(rank=max(one.rank, LIKELY)), True
            return one, hint
    return None
