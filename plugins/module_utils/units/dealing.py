# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node stays in the replica that it is in. Pure."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    HOSTS,
    Check,
    check,
)
from ansible_collections.muster.serving.plugins.module_utils.units import names


def replica_checks(
    units: Sequence[Mapping[str, Any]], orphans: Sequence[str], redeal: bool
) -> list[Check]:
    """Return whether the plan leaves a node in its replica; nothing of a node without engines.

    When a node is added or taken out before it, a node would change its replica, and both would
    restart.

    Args:
        units: The plan's units of the node.
        orphans: The installed units of the deployment that are not among them.
        redeal: Whether that is wanted.
    """
    planned = sorted({unit["replica"] for unit in units if unit["role"] != "gateway"})
    if not planned:
        return []
    subject = ", ".join(names.group_text(names.replica_group(index)) for index in planned)
    former = [index for index in names.replicas_of(orphans) if index not in planned]
    if not former or redeal:
        return [check("unit-replica", "ok", subject, "stays in it", "stays in it")]
    numbers = ", ".join(str(index) for index in former)
    return [
        check(
            "unit-replica",
            "failed",
            subject,
            f"it has units of replica {numbers}, {', '.join(orphans)}",
            f"units of {subject}",
            f"muster_replica: {former[0]} for this host keeps it where it is. To deal anew, stop "
            f"them (playbooks/stop.yml -l {HOSTS}), then run again with -e muster_redeal=true",
        )
    ]
