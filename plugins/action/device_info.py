# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on nodes; plugins/modules/device_info.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, nearest


class ActionModule(ControllerAction):
    SPEC: ClassVar = {"vendor": {"type": "str", "required": True}}
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        vendor = VENDORS.get(args["vendor"])
        if vendor is None:
            raise PlanError([f"vendor: {args['vendor']!r}: {nearest(args['vendor'], VENDORS)}"])
        found = self._execute_module(
            module_name=f"muster.serving.{vendor.info_module}", module_args={}, task_vars=variables
        )
        if found.get("failed") or found.get("unreachable"):
            return dict(found)
        return {
            "devices": found["devices"],
            "version": found["version"],
            "topology": found["topology"],
            "problems": found["problems"],
        }
