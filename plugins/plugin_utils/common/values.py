# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values without Ansible's own types."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return a copy without Ansible's own types, as the pure code and JSON want it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value
