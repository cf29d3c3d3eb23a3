# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return where exporters of devices would listen; device_exporters.yml has the documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.observability import targets


class FilterModule:
    """The filter, as Ansible loads it."""

    def filters(self) -> dict[str, Any]:
        return {"device_exporters": targets.device_exporters}
