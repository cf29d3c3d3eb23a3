# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds of the numbers in flags, and numbers that are written with a suffix."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.rendering import look

# Flag, or FLAG.KEY inside its map, to its bounds; see engine.limits in recipes/schema.json.
Limits = Mapping[str, Mapping[str, Any]]

# A number that has no bounds of its own.
_COUNT: Mapping[str, Any] = {"min": 0}
# As human_readable_int of vLLM reads them (vllm/engine/arg_utils.py, 0.18.0): small ones are powers
# of 1000 and may follow a fraction, capital ones are powers of 1024 and may not.
_SUFFIXED = re.compile(r"([0-9]{1,12})(\.[0-9]{1,12})?([kKmMgGtT])", re.ASCII)
_POWERS = "kmgt"


def expanded(args: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return flags with numbers in place of texts that stand for one, such as 128k.

    What stands for none is left to the check of its type.
    """
    return {
        name: _number(value, limits.get(name, {})) if isinstance(value, str) else value
        for name, value in args.items()
    }


def problems(
    args: Mapping[str, Any],
    types: Mapping[str, str],
    limits: Limits,
    version: str,
    unchecked: Collection[str],
) -> list[str]:
    """Return an error for each number in flags that the engine does not take.

    Args:
        args: Flags by name.
        types: The types of their values.
        limits: The bounds.
        version: The engine's version.
        unchecked: Names that pass.
    """
    errors = []
    numbers = {
        name: value
        for name, value in args.items()
        if types.get(name) in ("int", "float") or (name in limits and types.get(name) == "list")
    }
    inner = {name: look(args, name) for name in limits if "." in name}
    for name, said in {**numbers, **inner}.items():
        if name in unchecked or name.partition(".")[0] in unchecked:
            continue
        bounds = limits.get(name, _COUNT)
        special = bounds.get("special", {})
        for item in said if isinstance(said, list) else [said]:
            value = _as_number(item)
            if value is None and item is not None and types.get(name) == "list":
                errors.append(f"{name} has to be {_words(bounds, version)}, not {item!r}")
            if value is None or (
                str(value) in special and versions.holds(version, special[str(value)])
            ):
                continue
            if not _within(value, bounds):
                errors.append(f"{name} has to be {_words(bounds, version)}, not {value}")
            other = bounds.get("at_least")
            least = _as_number(look(args, other)) if other else None
            if least is not None and value < least:
                errors.append(
                    f"{name} {value} is less than {other} {least}, which the engine refuses: "
                    "raise the one or lower the other"
                )
    return errors


def _number(text: str, bounds: Mapping[str, Any]) -> Any:
    """Return the number that a text stands for, the text itself where it stands for none."""
    if text.strip().lower() in bounds.get("words", {}):
        return bounds["words"][text.strip().lower()]
    match = _SUFFIXED.fullmatch(text.strip()) if bounds.get("suffixes") else None
    if not match:
        return text
    whole, fraction, suffix = match.groups(default="")
    power = _POWERS.index(suffix.lower()) + 1
    if suffix.islower():
        return int(float(whole + fraction) * 1000**power)
    return text if fraction else int(whole) * 1024**power


def _as_number(value: Any) -> float | None:
    """Return the number that a value is, also as a text, or None."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
        return int(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number else None


def _within(value: float, bounds: Mapping[str, Any]) -> bool:
    return (
        bounds.get("min", value) <= value <= bounds.get("max", value)
        and ("above" not in bounds or value > bounds["above"])
        and ("below" not in bounds or value < bounds["below"])
    )


def _words(bounds: Mapping[str, Any], version: str) -> str:
    """Return bounds as a message says them."""
    least = f"above {bounds['above']}" if "above" in bounds else f"{bounds['min']} or more"
    most = [
        f"{word} {bounds[key]}"
        for key, word in (("max", "at most"), ("below", "below"))
        if key in bounds
    ]
    said = " and ".join([least, *most])
    for value, range_ in bounds.get("special", {}).items():
        if versions.holds(version, range_):
            said += f", or {value}"
    return said
