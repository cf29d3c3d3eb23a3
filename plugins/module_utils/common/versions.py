# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of drivers, tools and kernels, which follow no one standard. Engines' are PEP 440's."""

from __future__ import annotations

import re
from itertools import zip_longest

_VERSION_PART = re.compile(r"(rc|b|)(\d{1,9})", re.ASCII)


def leading_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with; none where it begins with something else."""
    match = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", text, re.ASCII)
    return tuple(map(int, match[0].split("."))) if match else ()


def is_older(version: str, floor: str) -> bool | None:
    """Return whether one version comes before another; None when either is no such version.

    A release candidate comes before its release (24.1.rc3 before 24.1.0), and a build of it
    (25.0.rc1.b033) before the candidate.
    """
    one, other = _version_key(version), _version_key(floor)
    if one is None or other is None:
        return None
    for mine, its in zip_longest(one, other, fillvalue=(0, 0)):
        if mine != its:
            return mine < its
    return False


def _version_key(version: str) -> list[tuple[int, int]] | None:
    ranks = {"": 0, "rc": -1, "b": -2}
    key = []
    for part in version.lower().split("."):
        found = _VERSION_PART.fullmatch(part)
        if not found:
            return None
        key.append((ranks[found[1]], int(found[2])))
    return key
