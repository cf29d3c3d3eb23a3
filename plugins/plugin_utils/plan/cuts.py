# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Into how many parts a model is cut, and whether its heads and experts can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect

# Sizes that are offered in place of a wrong one.
_OFFERED = range(1, 257)


class Spread(NamedTuple):
    """How the experts lie on the devices.

    Each is cut into so many parts, and whole ones are dealt to so many groups of devices. says
    is where these numbers come from, in the words of the flags; pure tells that tensor
    parallelism alone cuts.
    """

    parts: int
    groups: int
    says: str
    pure: bool


def spread(args: Mapping[str, Any], sizes: Mapping[str, int], dialect: Dialect) -> Spread:
    """Return how an engine lays the experts out, by its flags and parallel sizes.

    vLLM's expert parallelism deals whole experts to all devices of all ranks; without it the same
    devices share the parts of every expert. SGLang deals them to as many groups as its flag says
    within one rank.
    """
    tensor, flag = sizes["tensor"], dialect.sizes["tensor"]
    if dialect.deals_in_rank:
        groups = _groups_in_rank(args, tensor, dialect)
        parts = max(1, tensor // groups)
        says = f"{flag} {tensor} with {dialect.expert} {groups}"
    else:
        devices = tensor * sizes["data"] * sizes["prefill_context"]
        groups, parts = (devices, 1) if dealt(args, dialect.expert) else (1, devices)
        says = " x ".join(f"{name} {sizes[kind]}" for kind, name in dialect.sizes.items())
        says += f" with{'' if groups > 1 else 'out'} {dialect.expert}"
    if groups == 1 and parts == tensor:
        return Spread(parts, groups, f"pure tensor parallelism of {tensor}", True)
    return Spread(parts, groups, says, False)


def dealt(args: Mapping[str, Any], flag: str) -> bool:
    """Return whether the engine deals whole experts to all ranks, by its flag for that."""
    value = args.get(flag)
    return value is True or (isinstance(value, int) and value > 1)


def problems(
    model: Mapping[str, Any],
    args: Mapping[str, Any],
    sizes: Mapping[str, int],
    dialect: Dialect,
) -> tuple[list[str], list[str]]:
    """Return why a model cannot be cut as its flags say, and what to know if it can.

    Args:
        model: A recipe's model: kv_heads, and heads, experts, expert_rows and scale_block as far
            as they are known.
        args: The engine's flags.
        sizes: The parallel sizes, {tensor, data, prefill_context}.
        dialect: The engine's.
    """
    errors = _heads(model, args, sizes["tensor"], dialect)
    if "experts" not in model and "expert_rows" not in model:
        return errors, []
    if dialect.deals_in_rank and sizes["tensor"] % _groups_in_rank(args, sizes["tensor"], dialect):
        errors.append(
            f"{dialect.expert} {args[dialect.expert]} does not divide {dialect.sizes['tensor']} "
            f"{sizes['tensor']}: the experts are dealt to equal groups of its devices; take "
            f"{_offer(args[dialect.expert], lambda n: sizes['tensor'] % n == 0)}"
        )
        return errors, []
    how = spread(args, sizes, dialect)
    cut = miscut(model, how, dialect)
    if cut:
        errors.append(": ".join(cut))
    warnings: list[str] = []
    experts = model.get("experts")
    if experts and experts % how.groups:
        uneven = f"{how.says} deals {experts} experts to {how.groups} groups of devices"
        if dialect.deals_in_rank or how.groups > experts:
            errors.append(f"{uneven}, which cannot be equal: choose sizes that divide {experts}")
        else:
            warnings.append(f"{uneven}: some hold one more than others and answer slower")
    return errors, warnings


def miscut(model: Mapping[str, Any], how: Spread, dialect: Dialect) -> tuple[str, str] | None:
    """Return why the experts may not be cut into so many parts, and what to do; None if they may.

    Args:
        model: A recipe's model: expert_rows, and scale_block if its experts have scales for blocks.
        how: What spread returned.
        dialect: The engine's.
    """
    rows, block = model.get("expert_rows"), model.get("scale_block") or 1
    if not rows or rows % (how.parts * block) == 0:
        return None
    fewer = how.parts
    while fewer > 1 and rows % (fewer * block):
        fewer //= 2
    way = dialect.sizes["tensor"] if how.pure else "sizes that make no more parts than"
    blocks = f", and the {model['format']} scales are for blocks of {block}" if block > 1 else ""
    return (
        f"{how.says} is not supported: it cuts an expert's {rows} rows into parts of "
        f"{rows / how.parts:g}{blocks}",
        f"use {way} {fewer}, or expert parallelism over all ranks ({dialect.expert})",
    )


def _groups_in_rank(args: Mapping[str, Any], tensor: int, dialect: Dialect) -> int:
    """Return the groups of one rank that SGLang deals experts to."""
    # With a backend for all-to-all it takes all devices of the rank, whatever the flag says.
    if args.get("moe-a2a-backend") not in (None, "none"):
        return tensor
    value = args.get(dialect.expert)
    return value if isinstance(value, int) and value > 0 else 1


def _heads(
    model: Mapping[str, Any], args: Mapping[str, Any], tensor: int, dialect: Dialect
) -> list[str]:
    heads, kv_heads = model.get("heads"), model["kv_heads"]

    def fits(parts: int) -> bool:
        even = kv_heads % parts == 0 or parts % kv_heads == 0
        return even and (heads is None or heads % parts == 0)

    flag = dialect.sizes["tensor"]
    if not fits(tensor):
        what = (
            f"{heads} attention heads and {kv_heads} KV heads" if heads else f"{kv_heads} KV heads"
        )
        return [
            f"{flag} {tensor} cannot cut {model['id']}: it has {what}, which {tensor} devices "
            f"cannot share evenly; take {_offer(tensor, fits)}"
        ]
    decode = args.get("decode-context-parallel-size")
    # Decode context parallelism shares out the copies of KV heads that tensor parallelism makes.
    copies = max(1, tensor // kv_heads)
    if isinstance(decode, int) and decode > 1 and copies % decode:
        return [
            f"decode-context-parallel-size {decode} does not go with {flag} {tensor}: "
            f"{model['id']} has {kv_heads} KV heads, of which {tensor} devices hold {copies} "
            f"copies; take {_offer(decode, lambda n: copies % n == 0)}"
        ]
    return []


def _offer(wrong: int, fits: Any) -> str:
    """Return the sizes next to a wrong one that would do."""
    right = [size for size in _OFFERED if fits(size)]
    below = [size for size in right if size < wrong][-1:]
    above = [size for size in right if size > wrong][:1]
    return " or ".join(map(str, below + above))
