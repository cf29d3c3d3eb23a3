# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An earlier report of bench, to compare with in place of published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import check_baseline
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError


def read_baseline(path: str) -> tuple[str, Any]:
    """Return the name of an earlier report and what it holds.

    Raises:
        PlanError: It cannot be read, or is none.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError([f"bench_baseline: {path} cannot be read: {error}"]) from None
    return check_baseline(path, value)
