# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine versions, ordered and matched as PEP 440 says for the forms that the engines use."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache

Key = tuple[tuple[int, ...], tuple[int, int], int]

_VERSION = re.compile(r"v?(\d+(?:\.\d+){0,3})(?:rc(\d+))?(?:\.post(\d+))?(?:\+[A-Za-z0-9.]+)?")
_CLAUSE = re.compile(r"(>=|<=|==|!=|<)\s*(\S+)")
_COMPARE: dict[str, Callable[[Key, Key], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
}


class VersionError(ValueError):
    """A text is no version, or no range of versions."""


# Tables name the same few dozen versions thousands of times.
@lru_cache(maxsize=1024)
def parse(version: str) -> Key:
    """Return what versions are ordered by; a local part such as +cpu does not count.

    Raises:
        VersionError: The text is no version of the form 1.2.3, 1.2.3rc1 or 1.2.3.post1.
    """
    match = _VERSION.fullmatch(version)
    if not match or len(version) > 64:
        raise VersionError(
            f"{version!r} is not a version such as 0.18.0, 0.18.0rc1 or 0.23.0.post1"
        )
    release = tuple(int(part) for part in match[1].split("."))
    candidate = (0, int(match[2])) if match[2] else (1, 0)
    return release + (0,) * (4 - len(release)), candidate, int(match[3] or -1)


def matches(version: str, specifier: str) -> bool:
    """Tell whether a version lies in a range such as >=0.18.0,<0.19.

    Raises:
        VersionError: Version or range cannot be read.
    """
    key = parse(version)
    for clause in specifier.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if not match:
            raise VersionError(f"{specifier!r} is not a range such as >=0.18.0,<0.19")
        bound = parse(match[2])
        if not _COMPARE[match[1]](key, bound):
            return False
        # 0.19.0rc1 is not "before 0.19": it already behaves like it.
        if match[1] == "<" and key[0] == bound[0] and bound[1] == (1, 0):
            return False
    return True


def holds(version: str, specifier: str) -> bool:
    """Tell whether a version has what a range of versions has; * is all of them.

    A candidate, post or local version has what its release has.
    """
    return specifier == "*" or any(matches(one, specifier) for one in (version, release(version)))


def public(version: str) -> str:
    """Return a version without its local part, such as +cu129, which no image's tag can have."""
    return version.partition("+")[0]


def release(version: str) -> str:
    """Return the release that a candidate, post or local version belongs to.

    Raises:
        VersionError: The text is no version.
    """
    parse(version)
    match = re.match(r"v?([0-9.]+[0-9])", version)
    return match[1] if match else version
