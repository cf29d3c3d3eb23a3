# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values without Ansible's own types."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

_STARTS = ("{{", "{%", "{#")


def plain(value: Any) -> Any:
    """Return a copy without Ansible's own types, as the pure code and JSON want it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    # A tagged one is of a class of its own, which str() would keep.
    return str.__str__(value) if isinstance(value, str) else value


def texts_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in a value, each after the dotted path to it; lists have no part in that."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts_in(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner, path)
    elif isinstance(value, str):
        yield path, value


def is_literal(value: Any) -> bool:
    """Tell whether a variable's raw value stands for itself: no template, nothing encrypted."""
    if isinstance(value, str):
        return not value.startswith("#jinja2:") and not any(start in value for start in _STARTS)
    if isinstance(value, Mapping):
        return all(is_literal(key) and is_literal(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_literal(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, datetime.date))
