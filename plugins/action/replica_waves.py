# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/replica_waves.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.waves import (
    gateways_of_plan,
    waves_of,
)

_KEYS = ("name", "host", "group", "api_url")


class ActionModule(ControllerAction):
    """Runs once, on the controller."""

    SPEC: ClassVar = {
        "made": {"type": "str", "required": True},
        "planned": {"type": "str"},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "at_once": {"type": "int", "default": 1},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if args["at_once"] < 1:
            raise AnsibleActionFail(f"at_once: at least 1 replica, not {args['at_once']}")
        units = _units(variables[args["made"]])
        planned = _units(variables[args["planned"]]) if args["planned"] else units
        waves = waves_of(units, args["hosts"], args["at_once"])
        return {
            "waves": [one._asdict() for one in waves],
            "backends": [name for one in waves for name in one.backends],
            # The limit need not hold the gateways, which are told all the same.
            "gateways": gateways_of_plan(planned or units),
        }


def _units(made: Any) -> list[dict[str, Any]]:
    plan = made.get("plan") or {}
    return [{key: plain(unit[key]) for key in _KEYS} for unit in plan.get("units", [])]
