# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of all nodes come to: counts, failed hosts and the replicas they block. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import STATUSES, Check
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks

# By status, the most urgent first. Only the first makes the gate fail.
URGENCY = ("failed", "unknown", "warning", "waived", "pending", "ok")


def with_pages(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, those that are not ok with the runbook that is for them."""
    return [
        one if one["status"] == "ok" else {**one, "page": runbooks.of_check(one["id"])}
        for one in checks
    ]


def count(checks: Sequence[Check]) -> dict[str, int]:
    """Return how many checks have each status."""
    counted = Counter(one["status"] for one in checks)
    return {status: counted[status] for status in STATUSES}


def failed_hosts(checks: Sequence[Check]) -> list[str]:
    """Return the hosts with a failed check, in the order of the checks."""
    return list(dict.fromkeys(one["host"] for one in checks if one["status"] == "failed"))


def blocked_hosts(failed: Sequence[str], replicas: Sequence[Sequence[str]]) -> list[str]:
    """Return the hosts of replicas with a failed host, and failed hosts outside all replicas."""
    blocked = [host for hosts in replicas if set(hosts) & set(failed) for host in hosts]
    return list(dict.fromkeys([*blocked, *failed]))


def failures(checks: Sequence[Check]) -> list[str]:
    """Return each failed check as HOST: ID (SUBJECT)."""
    return [
        f"{one['host']}: {one['id']} ({one['subject']})"
        for one in checks
        if one["status"] == "failed"
    ]
