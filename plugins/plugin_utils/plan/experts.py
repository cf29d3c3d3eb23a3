# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a model's experts lie on the devices: dealt out whole, or cut by tensor parallelism."""

from __future__ import annotations

from typing import Any, Mapping


def dealt(args: Mapping[str, Any], flag: str) -> bool:
    """Return whether the engine deals whole experts to all ranks, by its flag for that."""
    value = args.get(flag)
    return value is True or (isinstance(value, int) and value > 1)


def miscut(model: Mapping[str, Any], tensor: int, flag: str) -> tuple[str, str] | None:
    """Return why tensor parallelism may not cut the experts into so many parts, and what to do.

    None if it may.

    Args:
        model: A recipe's model: expert_rows and scale_block, if its experts have scales for blocks.
        tensor: The parts.
        flag: The engine's flag for dealing them out whole.
    """
    rows, block = model.get("expert_rows"), model.get("scale_block")
    if not rows or not block or rows % (tensor * block) == 0:
        return None
    fewer = tensor
    while fewer > 1 and rows % (fewer * block):
        fewer //= 2
    return (
        f"pure tensor parallelism of {tensor} is not supported: it cuts an expert's {rows} rows "
        f"into parts of {rows / tensor:g}, and the {model['format']} scales are for "
        f"blocks of {block}",
        f"use tensor parallel {fewer}, or expert parallelism over all ranks ({flag})",
    )
