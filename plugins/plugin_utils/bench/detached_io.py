# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a client that runs by itself on its host, over a connection that may break meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import (
    duration,
    progress_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show

# How long one look at the client stays on the host, which its end cuts short.
LOOK_S = 15.0
# How many looks in a row may fail or find the host out of reach: the client runs on meanwhile.
LOST_LOOKS = 20
LOST_S = 5.0


class Detached:
    """A client that one module starts, looks at and ends, by its option step.

    Args:
        action: The action whose task is on the client's host.
        module: The module.
        options: What it is given with each step.
        variables: The task's variables.
    """

    def __init__(
        self,
        action: ControllerAction,
        module: str,
        options: Mapping[str, Any],
        variables: dict[str, Any],
    ) -> None:
        self._action = action
        self._module = module
        self._options = options
        self._variables = variables

    def call(self, step: str, **more: Any) -> dict[str, Any]:
        """Return what the module returns of one step; unreachable and msg without a connection."""
        try:
            result: dict[str, Any] = self._action._execute_module(
                module_name=self._module,
                module_args={**self._options, "step": step, **more},
                task_vars=self._variables,
            )
        except AnsibleConnectionFailure as error:
            # The client does not need the connection.
            return {"unreachable": True, "msg": str(error)}
        return result

    def watch(self, goes_on: Callable[[dict[str, Any]], bool], **look: Any) -> dict[str, Any]:
        """Return what the last look saw, after which the client has ended or is ended.

        Args:
            goes_on: Is told of each look, and says whether a client that runs may run on.
            look: More options of a look.

        Returns:
            As the module does; without running where looks fail, or the host is lost, on which the
            client runs on then.
        """
        failed = 0
        seen: dict[str, Any] = {}
        try:
            while True:
                seen = self.call("look", wait=LOOK_S, **look)
                if "running" in seen:
                    failed = 0
                    if not (goes_on(seen) and seen["running"]):
                        return seen
                elif failed == LOST_LOOKS:
                    return seen
                else:
                    failed += 1
                    time.sleep(LOST_S)
        finally:
            if not seen.get("unreachable"):
                self.call("end")


def say_progress(printed: list[str], total: int, waited: float, what: str, before: str) -> None:
    """Show how far a client is.

    Args:
        printed: What it has printed, its progress bar among it.
        total: How many there are in all.
        waited: Seconds since it was started.
        what: What they are: requests.
        before: What is said before the first of them is done.
    """
    found = progress_of("\n".join(printed), total)
    if not found:
        show(f"    {duration(waited)}: {before}")
        return
    left = "" if found.left_s is None else f", about {duration(found.left_s)} left"
    show(f"    {duration(waited)}: {found.done} of {found.total} {what}{left}")
