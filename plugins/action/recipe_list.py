# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller alone; see plugins/modules/recipe_list.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.action.cluster_plan import recipe_book
from ansible_collections.muster.serving.plugins.plugin_utils.common import report_io as report
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import catalog

display = Display()


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(
            {"folders": {"type": "list", "elements": "path", "default": []}}
        )
        try:
            found = catalog.entries(recipe_book(options["folders"]))
        except PlanError as error:
            raise AnsibleActionFail("\n".join(error.messages)) from None
        display.display("\n".join(report.columns(catalog.rows(found))) + "\n")
        result.update(changed=False, recipes=found)
        return result
