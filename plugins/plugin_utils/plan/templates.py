# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which templates come to the same on several hosts, so that Ansible renders them once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.values import is_literal

_WORD = re.compile(r"[^\W\d]\w*")
# A word that is no name of a value: of a filter, a function or method, a test.
_ACT = re.compile(r"\|\s*(\w+)|(\w+)\s*\(|\bis\s+(?:not\s+)?(\w+)")
# Those that make of the same values the same, whoever asks and when. No lookup does, nor random.
_KNOWN = frozenset(
    [
        *("basename", "bool", "combine", "count", "d", "default", "defined", "dict2items"),
        *("difference", "dirname", "first", "flatten", "float", "int", "items2dict", "join"),
        *("last", "length", "list", "lower", "max", "min", "regex_replace", "replace", "sort"),
        *("split", "string", "sum", "ternary", "to_json", "trim", "union", "unique", "upper"),
    ]
)
# Statements may bring in files, and these all that there is.
_ALL = re.compile(r"\{%|\b(?:hostvars|vars)\b")


def evidence(value: Any, variables: Mapping[str, Any]) -> str | None:
    """Return all that a variable's template comes to its value by; equal where that is equal.

    Args:
        value: The raw value, with templates in it.
        variables: The raw variables of a host.

    Returns:
        None where more may come into it than the values of variables that it names.
    """
    read: dict[str, Any] = {}
    todo = [value]
    while todo:
        for text in _templates(todo.pop()):
            acts = {word for found in _ACT.findall(text) for word in found if word}
            if not acts <= _KNOWN or _ALL.search(text):
                return None
            for word in _WORD.findall(text):
                if word in variables and word not in read:
                    read[word] = variables[word]
                    todo.append(variables[word])
    return repr((value, sorted(read.items())))


def _templates(value: Any) -> Iterator[str]:
    """Yield the texts in a value that are templates."""
    if isinstance(value, str):
        if not is_literal(value):
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _templates(key)
            yield from _templates(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _templates(item)
