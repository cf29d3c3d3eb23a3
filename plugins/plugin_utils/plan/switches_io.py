# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a command line, held to what Muster's playbooks and roles read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.utils.vars import load_extra_vars
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import switches

ROLES = Path(__file__).resolve().parents[3] / "roles"


def refuse_unread(
    verb: str, loader: Any, inventory: Iterable[str], warn: Callable[[str], None]
) -> None:
    """Refuse variables of the command line that nothing reads, and warn of misspelt ones.

    Args:
        verb: The verb that runs.
        loader: Ansible's, for files that the command line names.
        inventory: Names of the inventory's variables.
        warn: What says a warning.

    Raises:
        PlanError: The command line has such variables.
    """
    given = [str(name) for name in load_extra_vars(loader)]
    inventory = [str(name) for name in inventory]
    # The options of roles are many files: most runs need none of them.
    if not switches.suspects(verb, [*given, *inventory]):
        return
    errors, warnings = switches.unread(verb, given, inventory, role_options())
    for warning in warnings:
        warn(warning)
    if errors:
        raise PlanError(errors)


def role_options() -> dict[str, dict[str, list[str]]]:
    """Return by role the names of its options by entry point."""
    return {
        path.parts[-3]: {
            entry: list(spec.get("options", {}))
            for entry, spec in yaml.safe_load(path.read_text("utf-8"))["argument_specs"].items()
        }
        for path in sorted(ROLES.glob("*/meta/argument_specs.yml"))
    }
