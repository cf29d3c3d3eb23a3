# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GuideLLM replays, and what of its report is worth a way to the controller."""

from __future__ import annotations

import json
import math
from typing import Any, Iterable, Mapping

# GuideLLM's names of the two kinds of trace: with and without the prefixes that prompts share.
MOONCAKE, LENGTHS = "mooncake", "trace_synthetic"
_NUMBERS = (("timestamp", 0), ("input_length", 1), ("output_length", 1))


class TraceError(ValueError):
    """It is no trace; the text says what is wrong with it."""


def trace_of(lines: Iterable[str]) -> dict[str, Any]:
    """Return what a trace holds, a request a line.

    Args:
        lines: JSON objects with timestamp, input_length and output_length; and hash_ids, one for
            each block of 512 tokens, where it tells which prefixes prompts share.

    Returns:
        kind: As GuideLLM calls it.
        requests: How many there are.
        seconds: From the first to the last, in the trace's own unit of time.
        input: The prompt of the longest request, in tokens.
        output: Its answer.

    Raises:
        TraceError: One is no such object, or there is none.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_row(number, line))
    if not rows:
        raise TraceError("it has no requests")
    with_ids = sum("hash_ids" in row for row in rows)
    if 0 < with_ids < len(rows):
        raise TraceError(f"{with_ids} of its {len(rows)} requests have hash_ids: give all or none")
    times = [row["timestamp"] for row in rows]
    longest = max(rows, key=lambda row: row["input_length"] + row["output_length"])
    return {
        "kind": MOONCAKE if with_ids else LENGTHS,
        "requests": len(rows),
        "seconds": max(times) - min(times),
        "input": longest["input_length"],
        "output": longest["output_length"],
    }


def _row(number: int, line: str) -> dict[str, Any]:
    """Return a request of a trace.

    Raises:
        TraceError: It is none.
    """
    try:
        row = json.loads(line)
    except ValueError:
        raise TraceError(f"line {number} is no JSON") from None
    if not isinstance(row, dict):
        raise TraceError(f"line {number} is no JSON object")
    for name, least in _NUMBERS:
        value = row.get(name)
        whole = name == "timestamp" or isinstance(value, int)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
            raise TraceError(f"line {number}: {name} has to be a number, and is {value!r}")
        if not (math.isfinite(value) and value >= least):
            raise TraceError(f"line {number}: {name} has to be {least} or more, and is {value}")
    return row


def without_requests(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report without its entries of single requests, of some kilobytes each.

    GuideLLM reads it as it reads a whole one.
    """
    return {
        **report,
        "benchmarks": [
            {
                **one,
                "requests": {
                    state: None if entries is None else []
                    for state, entries in (one.get("requests") or {}).items()
                },
            }
            for one in report["benchmarks"]
        ],
    }
