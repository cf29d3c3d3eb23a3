# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of all actions that work on the controller.

It lies in a room, since every file in plugins/action is an action's name to Ansible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain


class ControllerAction(ActionBase):
    """An action that works on the controller: its options are SPEC, its work is `act`.

    RULES says which options need each other, as AnsibleModule takes it. One that also calls
    modules on its host sets _requires_connection.
    """

    SPEC: ClassVar[Mapping[str, Any]] = {}
    RULES: ClassVar[Mapping[str, Any]] = {}
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(self.SPEC, **self.RULES)
        try:
            result.update({"changed": False, **self.act(args, task_vars or {})})
        except PlanError as error:
            raise AnsibleActionFail(str(error)) from None
        return result

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return the task's result, which is unchanged unless it says otherwise."""
        raise NotImplementedError


def registered(
    variables: Mapping[str, Any], hosts: Iterable[str], name: str
) -> dict[str, dict[str, Any]]:
    """Return by host what it registered under a name, empty where the task has not run."""
    return {host: plain(variables["hostvars"][host].get(name) or {}) for host in hosts}
