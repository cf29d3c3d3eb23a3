# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers: failed checks that an operator accepts until a day. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, nearest

# The statuses that a waiver may take from a check.
WAIVABLE = ("failed", "unknown", "warning")


class Waiver(NamedTuple):
    """A failed check that an operator accepts for a while."""

    host: str
    check_id: str
    reason: str
    until: datetime.date


def parse_waivers(by_host: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Waiver]:
    """Read the waivers of each host.

    Raises:
        PlanError: One of them lacks a part, names no check or holds no date.
    """
    waivers = []
    for host, entries in by_host.items():
        for entry in entries:
            check_id, reason = entry.get("check"), entry.get("reason")
            if not (isinstance(check_id, str) and check_id and isinstance(reason, str) and reason):
                raise PlanError([f"{host}: a waiver needs check, reason and until: {entry!r}"])
            if check_id not in CHECKS:
                offer = nearest(check_id, CHECKS)
                raise PlanError([f"{host}: a waiver of {check_id}, which is no check: {offer}"])
            try:
                until = datetime.date.fromisoformat(str(entry.get("until")))
            except ValueError:
                raise PlanError(
                    [f"{host}: the waiver of {check_id} needs until, a date as 2027-01-31"]
                ) from None
            waivers.append(Waiver(host, check_id, reason, until))
    return waivers


def apply_waivers(
    checks: Sequence[Check], waivers: Sequence[Waiver], today: datetime.date
) -> tuple[list[Check], list[str]]:
    """Mark what is waived, and what no longer is.

    Of several waivers of one check the one that ends last counts.

    Returns:
        The checks, and a line for each waiver that has run out while its check still fails.
    """
    in_time = sorted(waivers, key=lambda one: one.until)
    by_key = {(one.host, one.check_id): one for one in in_time}
    judged, expired = [], {}
    for one in checks:
        waiver = by_key.get((one["host"], one["id"]))
        if waiver is None or one["status"] not in WAIVABLE:
            judged.append(one)
        elif waiver.until < today:
            judged.append({**one, "waiver": f"ended on {waiver.until}: {waiver.reason}"})
            expired[waiver] = (
                f"{waiver.host}: the waiver of {waiver.check_id} ran out on {waiver.until}"
                f" ({waiver.reason})"
            )
        else:
            reason = f"waived until {waiver.until}: {waiver.reason}"
            judged.append({**one, "status": "waived", "waiver": reason})
    return judged, list(expired.values())
