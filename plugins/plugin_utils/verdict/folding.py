# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From checks to the rows of a table: one cause is one row. Reports and results keep all checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check


class Row(NamedTuple):
    """Checks of one id on one node that say the same of several subjects.

    Attributes:
        checks: These checks.
        followers: What only follows from them on this node.
    """

    checks: list[Check]
    followers: list[Check]

    @property
    def first(self) -> Check:
        return self.checks[0]

    def texts(self, key: str) -> list[str]:
        """Return what the checks have under a key, each text once."""
        return list(dict.fromkeys(one[key] for one in self.checks if one.get(key)))


def rows_of(checks: Sequence[Check]) -> list[Row]:
    """Return all checks as rows, in the order of the checks.

    What the table of checks says to follow from another check stands with that one, where it has
    failed on the same node. What is waived explains nothing.
    """
    by_host: dict[str, set[str]] = {}
    for one in checks:
        if one["status"] == "failed":
            by_host.setdefault(one["host"], set()).add(one["id"])
    causes = {id(one): _cause(one, by_host.get(one["host"], set())) for one in checks}
    rows: dict[tuple[str, ...], Row] = {}
    for one in checks:
        if causes[id(one)] is None:
            same = tuple(one.get(key, "") for key in _SAME)
            rows.setdefault(same, Row([], [])).checks.append(one)
    first: Mapping[tuple[str, str], Row] = {
        (row.first["host"], row.first["id"]): row
        for row in reversed(rows.values())
        if row.first["status"] == "failed"
    }
    for one in checks:
        cause = causes[id(one)]
        if cause is not None:
            first[one["host"], cause].followers.append(one)
    return list(rows.values())


# Two checks that have these in common differ in their subject alone, and in what it should be.
_SAME = ("host", "id", "status", "observed", "remedy", "waiver")


def _cause(one: Check, failed: set[str]) -> str | None:
    """Return the failed check of its node that a check follows from, at the root; or None."""
    if one["status"] in ("ok", "waived"):
        return None
    cause = _declared(one["id"], failed)
    while cause is not None:
        deeper = _declared(cause, failed)
        if deeper is None:
            return cause
        cause = deeper
    return None


def _declared(check_id: str, failed: set[str]) -> str | None:
    return next((one for one in CHECKS[check_id].follows if one in failed), None)
