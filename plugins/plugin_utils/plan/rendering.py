# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags and environment: what a recipe, an engine version and an inventory make of them."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions

_FLAG = re.compile(r"[a-z0-9][a-z0-9-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def render_flags(args: Mapping[str, Any], negates: bool = True) -> list[str]:
    """Write flags as exec would get them.

    True is a bare flag, a map is JSON, a list one flag with its values. False is the flag's --no-
    form on an engine that negates, and no flag at all on others.
    """
    argv: list[str] = []
    for name, value in args.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv += [f"--no-{name}"] if negates else []
        elif isinstance(value, list):
            argv += [f"--{name}", *map(str, value)]
        else:
            text = json.dumps(value, separators=(",", ":")) if _is_map(value) else str(value)
            # A value that looks like a flag has to be tied to its own.
            argv += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return argv


def check_flags(
    args: Mapping[str, Any], types: Mapping[str, str], computed: Mapping[str, str], source: str
) -> list[str]:
    """Return what is wrong with the names and values of flags; null always passes.

    Args:
        args: Flags by name.
        types: The type of a flag's value; one that is not there may hold what a line can hold.
        computed: Flags that nobody sets, since the plan computes what they say, and what to do in
            their place.
        source: Where the flags stand, for the messages.
    """
    errors = []
    for name, value in args.items():
        if not _FLAG.fullmatch(name):
            errors.append(
                f"{source}: {name!r} is no flag: write the long name without its dashes, as in "
                "max-num-seqs"
            )
        elif name in computed:
            errors.append(f"{source}: {name} cannot be set: {computed[name]}")
        elif value is not None:
            expected = _wrong_type(value, types.get(name))
            if expected:
                errors.append(f"{source}: {name} has to be {expected}, not {shown(value)}")
    return errors


def respelled(args: Mapping[str, Any], spellings: Mapping[str, str], source: str) -> dict[str, Any]:
    """Return flags under their one name.

    Raises:
        PlanError: Two spellings of one flag are given.
    """
    result: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in args.items():
        name = spellings.get(key, key)
        other = written.setdefault(name, key)
        if other != key:
            raise PlanError([f"{source}: {other} and {key} are one flag: leave one out"])
        result[name] = value
    return result


def apply_rules(
    config: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], version: str, ranks: int
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Fit a recipe's args and env to an engine version.

    Returns:
        The fitted copy, and what was dropped or renamed, with the reason of each.
    """
    fitted: dict[str, Any] = copy.deepcopy(dict(config))
    changes = []
    for rule in _holding(rules, version, ranks):
        source = rule.get("drop") or rule.get("rename")
        if not source or _pop(fitted, source) is None:
            continue
        if "rename" in rule:
            _put(fitted, rule["to"], rule["value"])
        action = f"renamed to {_spell(rule['to'])}" if "rename" in rule else "dropped"
        changes.append({"what": _spell(source), "action": action, "reason": rule["reason"]})
    return fitted, changes


def refusals(
    config: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], version: str, ranks: int
) -> dict[str, str]:
    """Return, by its path, an error for each thing that the version does not take."""
    errors = {}
    for rule in _holding(rules, version, ranks):
        path = rule.get("refuse") or rule.get("drop") or rule["rename"]
        if look(config, path) is not None:
            successor = f"; set {_spell(rule['to'])}" if "to" in rule else ""
            errors[path] = (
                f"{_spell(path)} does not go with muster_engine_version {version}: "
                f"{rule['reason']}{successor}"
            )
    return errors


def _holding(
    rules: Sequence[Mapping[str, Any]], version: str, ranks: int
) -> list[Mapping[str, Any]]:
    return [
        rule
        for rule in rules
        if versions.matches(version, rule["versions"])
        and (ranks > 1 or not rule.get("with_data_parallel"))
    ]


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _CONTROL.search(value)


def _is_scalar(value: Any) -> bool:
    return _is_number(value) or _is_text(value)


def _is_list(value: Any) -> bool:
    """Tell whether a value is a list that a command line can hold behind its flag."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(map(_is_scalar, value))
        and not any(isinstance(item, str) and item.startswith("-") for item in value)
    )


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (bool, str)) or _is_number(value)


def _parsed(value: Any) -> Any:
    """Return what a JSON text says, None for one that is none; another value as it is."""
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    return None


def _wrong_type(value: Any, expected: str | None) -> str | None:
    """Return what a flag's value should have been, None when it is right."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    forms = {
        "bool": (isinstance(value, bool), "true or false"),
        "int": (is_int, "a whole number"),
        "float": (_is_number(value), "a number"),
        "str": (_is_text(value), "a line of text"),
        "list": (_is_list(value), "a list of one or more values, none of them like a flag"),
        "map": (_is_map(value) and _is_json(value), "a map, written as YAML and not as JSON text"),
        "json": (_is_map(_parsed(value)) and _is_json(value), "a map, or the JSON text of one"),
    }
    if expected is None:
        right = isinstance(value, bool) or any(forms[form][0] for form in ("list", "map"))
        return None if right or _is_scalar(value) else "a value that a command line can hold"
    right, words = forms[expected]
    return None if right else words


def _spell(path: str) -> str:
    kind, _dot, rest = path.partition(".")
    return f"--{rest}" if kind == "args" else rest


def look(config: Any, path: str) -> Any:
    """Return what stands at a dotted path, None where nothing does."""
    for part in path.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(part)
    return config


def _pop(config: dict[str, Any], path: str) -> Any:
    """Take one key out, and the maps around it that this leaves empty."""
    head, _dot, rest = path.partition(".")
    if not rest:
        return config.pop(head, None)
    inner = config.get(head)
    if not isinstance(inner, dict):
        return None
    taken = _pop(inner, rest)
    if taken is not None and not inner and head not in ("args", "env"):
        del config[head]
    return taken


def _put(config: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        inner = config.get(part)
        if not isinstance(inner, dict):
            inner = config[part] = {}
        config = inner
    config[last] = value
