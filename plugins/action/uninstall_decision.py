# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/uninstall_decision.py has the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.switches_io import refuse_unread
from ansible_collections.muster.serving.plugins.plugin_utils.replica.uninstall import (
    refusals,
)

display = Display()


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "str", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        names = variables["hostvars"][args["hosts"][0]]
        refuse_unread("uninstall", self._loader, names, display.warning)
        found = registered(variables, args["hosts"], args["results"])
        # What a host registered before it was lost says nothing.
        alive = {
            host: one if host in variables["ansible_play_hosts"] else {}
            for host, one in found.items()
        }
        names = names_by_address(variables["hostvars"])
        return {"refused": refusals(alive, names, bool(variables.get("ansible_limit")))}


def names_by_address(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the inventory names of hosts by the addresses that the inventory gives them."""
    names: dict[str, str] = {}
    for host in hostvars:
        for variable in ("muster_address", "ansible_host"):
            try:
                names.setdefault(str(hostvars[host][variable]), host)
            except (KeyError, AnsibleError):
                # Not set, or a template that cannot be read: the address itself will do.
                continue
    return names
