# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recipe's advice: configurations that a parser takes and that do not serve well, or at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.plan.rendering import look


class Advised(NamedTuple):
    """What holds for one configuration, a line each."""

    errors: list[str]
    warnings: list[str]


def heed(
    advice: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    sizes: Mapping[str, int],
    context: int | None,
    model: Mapping[str, Any],
    device_gb: float,
) -> Advised:
    """Return the advice whose conditions a configuration meets.

    Args:
        advice: {level, when, reason, remedy} each; see recipes/schema.json.
        config: {args, env} as the engine will get them.
        sizes: The parallel sizes, {tensor, data, prefill_context}.
        context: The longest sequence.
        model: The recipe's model.
        device_gb: Memory of one device.
    """
    facts = {
        **config,
        "sizes": sizes,
        "context": context,
        "model": model,
        "device_gb": device_gb,
    }
    advised = Advised([], [])
    for item in advice:
        if all(_meets(look(facts, path), wanted) for path, wanted in item["when"].items()):
            lines = advised.errors if item["level"] == "error" else advised.warnings
            lines.append(f"{item['reason']}: {item['remedy']}")
    return advised


def _meets(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return bool(value == wanted)
    if "set" in wanted and wanted["set"] is not (value not in (None, False, "")):
        return False
    if "not" in wanted and value == wanted["not"]:
        return False
    if "matches" in wanted:
        return isinstance(value, str) and re.search(wanted["matches"], value) is not None
    if "min" not in wanted and "max" not in wanted:
        return True
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return bool(wanted.get("min", value) <= value <= wanted.get("max", value))
