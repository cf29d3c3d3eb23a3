# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from an engine's metrics how busy each of its ranks is. Pure."""

from __future__ import annotations

import math
import zlib
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import samples

# By the name of a sample, without SGLang's spelling sglang_, what it is here. Where an engine has
# several names of one thing, they are of different versions.
_NAMES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_usage",
    "vllm:gpu_cache_usage_perc": "kv_usage",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "tokens",
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "waiting",
    "sglang:token_usage": "kv_usage",
    "sglang:num_retracted_requests_total": "preemptions",
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:generation_tokens_total": "tokens",
    # These only show that something moves.
    "vllm:iteration_tokens_total_count": "",
    "sglang:num_used_tokens": "",
    "sglang:gen_throughput": "",
    "sglang:realtime_tokens_total": "",
}
_SUMMED = ("preemptions", "prompt_tokens", "tokens")


def engine_load(page: str) -> dict[str, dict[str, Any]]:
    """Return by rank how busy it is, from the text of /metrics; empty where it tells nothing of it.

    Returns:
        By the label of the rank, which is empty for a lone one that has none: running and waiting
        (requests), kv_usage (0 to 1), preemptions, prompt_tokens and tokens (since its start), as
        far as it tells them, and moves, a number that changes whenever any of its samples does.
    """
    found: dict[str, dict[str, Any]] = {}
    lines: dict[str, list[str]] = {}
    for name, rank, _labels, value, line in samples(page, _NAMES):
        if not math.isfinite(value):
            continue
        what = _NAMES[name]
        own = found.setdefault(rank, {})
        lines.setdefault(rank, []).append(line)
        if what in _SUMMED:
            # Several API servers or models may count for one rank.
            own[what] = own.get(what, 0.0) + value
        elif what:
            # Each device of a rank may tell the same.
            own[what] = max(own.get(what, 0.0), value)
    for rank, own in found.items():
        own["moves"] = zlib.crc32("\n".join(sorted(lines[rank])).encode())
    return found
