# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return why nodes that were asked in a loop refused; refusals.yml has the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refusals(asked: Mapping[str, Any]) -> list[str]:
    """Return the messages of those that answered and failed, in the order of the loop.

    Args:
        asked: What a task with a loop registered.
    """
    return [
        str(one.get("msg", "failed without a message"))
        for one in asked.get("results", [])
        if one.get("failed") and "unreachable" not in one
    ]


class FilterModule:
    """The filter, as Ansible loads it."""

    def filters(self) -> dict[str, Any]:
        return {"refusals": refusals}
