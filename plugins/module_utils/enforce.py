# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failed checks as the message of a module that enforces them."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.checks import Check


def failure_message(checks: list[Check]) -> str:
    """One line a failed check, with what to do about it; empty when none failed."""
    lines = []
    for entry in checks:
        if entry["status"] == "failed":
            line = f"{entry['id']} {entry['subject']}: {entry['observed']}"
            if entry["expected"]:
                line += f"; expected {entry['expected']}"
            lines.append(f"{line}. {entry['remedy']}")
    return "\n".join(lines)
