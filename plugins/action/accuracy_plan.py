# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/accuracy_plan.py has the documentation."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.accuracy.runs import (
    Wish,
    announcement,
    runs_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "data": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "sets": {"type": "list", "elements": "str", "required": True},
        "hub": {"type": "bool", "default": False},
        "full": {"type": "bool", "default": False},
        "samples": {"type": "int"},
        "seed": {"type": "int", "default": 1234},
        "concurrency": {"type": "int", "default": 32},
        "max_tokens": {"type": "int"},
        "sampling": {"type": "dict"},
        "replica": {"type": "int"},
        "references": {"type": "dict", "default": {}},
        "tolerance": {"type": "float", "default": 2.0},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        made = runs_of(plain(args.pop("plan")), Wish(**plain(args)))
        show(f"{made['deployment']}: {made['model']} at {made['url']}")
        show("\n".join(columns(announcement(made))))
        if self._task.check_mode:
            show("  check mode: nothing of it is asked")
        now = datetime.datetime.now(datetime.UTC)
        return {
            "made": made,
            "time": now.isoformat(timespec="seconds"),
            "stamp": f"{now:%Y%m%dT%H%M%SZ}",
        }
