# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which inventory groups set a variable themselves: in the inventory, or in their group_vars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ansible.vars.plugins import get_vars_from_inventory_sources, get_vars_from_path


def groups_that_set(name: str, hostvars: Any, playbook_dir: str) -> list[str]:
    """Return the inventory groups that set a variable, not counting what they inherit.

    Templates see of a host's variables which value wins, and not where it stands.

    Args:
        name: The variable.
        hostvars: Ansible's own hostvars.
        playbook_dir: The folder of the playbook, which may have group_vars, too.

    Returns:
        Their names; none where this version of Ansible does not tell.
    """
    inventory = getattr(hostvars, "_inventory", None)
    loader = getattr(hostvars, "_loader", None)
    if inventory is None or loader is None:
        return []
    sources = [source for source in inventory._sources if source]

    def own(group: Any) -> Iterator[dict[str, Any]]:
        yield group.get_vars()
        yield get_vars_from_inventory_sources(loader, sources, [group], "task")
        yield get_vars_from_path(loader, playbook_dir, [group], "task")

    return [
        str(group.name)
        for group in inventory.groups.values()
        if any(found.get(name) is not None for found in own(group))
    ]


def cluster_name(groups: Sequence[str], hostvars: Any, playbook_dir: str) -> str:
    """Return the one of a host's groups that is its cluster, for verbs that need no plan.

    It is the one that sets muster_recipe; where none or several do, the first one.
    """
    setting = groups_that_set("muster_recipe", hostvars, playbook_dir)
    own = [name for name in groups if name in setting]
    return own[0] if len(own) == 1 else next(iter(groups), "all")
