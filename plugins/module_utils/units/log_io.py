# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the log of a unit's runs."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.muster.serving.plugins.module_utils.units import unit_io
from ansible_collections.muster.serving.plugins.module_utils.units.log import journal_argv

# How long the journal of an engine that logged a lot may take.
TIMEOUT_S = 60


def read(invocations: Sequence[str], max_bytes: int) -> list[str]:
    """Return the lines of runs of a unit, oldest first, up to so many bytes of their end.

    Raises:
        UnitError: The journal did not answer in time.
    """
    argv = journal_argv(invocations, max_bytes)
    if not argv:
        return []
    text = unit_io.ask(argv, TIMEOUT_S).stdout
    if len(text.encode("utf-8", "replace")) >= max_bytes:
        text = text.partition("\n")[2]
    return text.splitlines()
