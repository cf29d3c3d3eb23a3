# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return which inventory group is a host's cluster; cluster_name.yml has the documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory_io import cluster_name


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"cluster_name": cluster_name}
