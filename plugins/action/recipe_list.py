# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/recipe_list.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.plan import catalog
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book


class ActionModule(ControllerAction):
    SPEC: ClassVar = {"folders": {"type": "list", "elements": "path", "default": []}}

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        found = catalog.entries(recipe_book(args["folders"]))
        show("\n".join(columns(catalog.rows(found))) + "\n")
        return {"recipes": found}
