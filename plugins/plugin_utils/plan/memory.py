# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model fits: weights, KV cache and reserve of one rank against its devices' memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.plan.contexts import AUTO, Context

# Bits of a number in the KV cache, by what the engines call its type; 16 where nothing matches.
_CACHE_BITS = ((r"bf(loat)?16|float16|half|auto", 16), (r".*8.*", 8), (r".*[34].*", 4.5))


class Memory(NamedTuple):
    """One data parallel rank's memory, in GiB; tokens is what its KV cache can hold."""

    available: float
    weights: float
    reserve: float
    cache: float
    tokens: int


def fit(
    model: Mapping[str, Any],
    *,
    device_gb: float,
    reserve_gb: float,
    utilization: float,
    sizes: Mapping[str, int],
    experts_shared: bool,
    cache_type: Any = None,
    offloaded_gb: float = 0,
) -> Memory:
    """Return what one rank has, needs and has left.

    Every rank holds the dense part of the weights once for each prefill context parallel rank.
    Experts are held by each rank, or shared by all: vLLM deals them out by expert parallelism and
    cuts them into parts for all devices of all ranks without it (FusedMoEParallelConfig). Tensor
    parallel ranks beyond the model's KV heads hold copies of the cache.

    Args:
        model: A recipe's model: size_gb or memory_gb, expert_share, kv_gb_per_million_tokens and
            kv_heads.
        device_gb: Memory of one device.
        reserve_gb: What neither weights nor cache can have, a device.
        utilization: The share of a device's memory that the engine takes.
        sizes: The parallel sizes, {tensor, data, prefill_context}.
        experts_shared: Whether all ranks share the experts.
        cache_type: The type of the numbers in the KV cache, as the engine's flag has it.
        offloaded_gb: What a device leaves of its weights in the node's memory.
    """
    copies = sizes["prefill_context"]
    devices = sizes["tensor"] * copies
    available = devices * device_gb * utilization
    whole = model.get("memory_gb", model["size_gb"])
    experts = whole * model["expert_share"]
    dealt = experts / sizes["data"] if experts_shared else experts * copies
    weights = max(0.0, (whole - experts) * copies + dealt - devices * offloaded_gb)
    reserve = devices * reserve_gb
    cache = max(0.0, available - weights - reserve)
    kv_copies = max(1.0, sizes["tensor"] / model["kv_heads"])
    a_million = model["kv_gb_per_million_tokens"] * kv_copies * _cache_bits(cache_type) / 16
    tokens = int(cache / a_million * 1e6)
    return Memory(available, weights, reserve, cache, tokens)


def _cache_bits(cache_type: Any) -> float:
    text = str(cache_type)
    return next((bits for form, bits in _CACHE_BITS if re.fullmatch(form, text)), 16)


def misfits(memory: Memory, context: Context, flag: str, rank: str, said: str = "") -> list[str]:
    """Return what does not fit, and what to change.

    Args:
        memory: What fit returned.
        context: The longest sequence that the engine is to take.
        flag: The engine's flag for it.
        rank: What makes a rank, by the flags of its sizes.
        said: What the inventory says of these figures, to be added.
    """
    left = f"{memory.available:.0f} GiB a rank, {memory.weights:.0f} GiB of them weights and "
    left += f"{memory.reserve:.0f} GiB reserve ({rank})"
    if not memory.tokens:
        return [
            f"the weights do not fit: there are {left}: give a rank more devices, or choose a "
            f"recipe with smaller weights{said}"
        ]
    if context.asked == AUTO or context.longest <= memory.tokens:
        return []
    asked = f"{flag} {context.asked}"
    if context.asked is None:
        asked = f"the model's own context of {context.limit}"
    fits = min(memory.tokens // 1024 * 1024, context.limit)
    return [
        f"{asked} does not fit: {left} leave a KV cache of {memory.cache:.0f} GiB for "
        f"{memory.tokens} tokens: set {flag} in muster_engine_args to {fits} or less, or give "
        f"a rank more devices{said}"
    ]
