# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version that an installed engine tells, against the one that a plan is made for. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

# PEP 440, as far as engines use it. Builds add what is behind a plus, and count changes as .devN.
_VERSION = re.compile(
    r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)"
    r"((?:(?:a|b|rc)[0-9]{1,9})?(?:\.post[0-9]{1,9})?)"
    r"(?:\.dev([0-9]{1,9}))?(?:\+[a-z0-9._-]+)?",
    re.ASCII | re.IGNORECASE,
)
# What setuptools_scm calls a build that found no tag, as in a shallow clone: 0.1.dev7+g1234567.
_UNTAGGED = ((0, 1), (0,), ())


class _Version(NamedTuple):
    """A release without trailing zeros, what marks a candidate or post release, and the changes."""

    release: tuple[int, ...]
    mark: str
    changes: int | None


def is_planned(told: str, planned: str) -> bool | None:
    """Tell whether an engine's version is the planned one; None where one of them names no release.

    What marks a build is no difference: the local part, and changes since a tag (.devN) within the
    same release. setuptools_scm counts them towards the next release, and a changed file in a
    checkout of the tag itself as .dev0: 0.18.1.dev0 was made from 0.18.0.
    """
    ours, theirs = _read(planned), _read(told)
    if ours is None or theirs is None or theirs.release in _UNTAGGED:
        return None
    if theirs.changes is None:
        return (theirs.release, theirs.mark) == (ours.release, ours.mark)
    of_tag = theirs.changes == 0 and not theirs.mark and theirs.release == _next(ours.release)
    return theirs.release == ours.release or of_tag


def public(told: str) -> str:
    """Return a version without what marks a build of it, as muster_engine_version takes it."""
    found = _VERSION.fullmatch(told)
    return f"{found[1]}{found[2]}" if found else told


def _read(text: str) -> _Version | None:
    found = _VERSION.fullmatch(text.strip())
    if not found:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return _Version(tuple(numbers), found[2].lower(), int(found[3]) if found[3] else None)


def _next(release: tuple[int, ...]) -> tuple[int, ...]:
    """Return the release that setuptools_scm guesses behind one of three numbers."""
    whole = release + (0,) * (3 - len(release))
    return (*whole[:-1], whole[-1] + 1)
