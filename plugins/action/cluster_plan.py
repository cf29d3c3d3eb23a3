# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the plan on the controller, without a connection to any node."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils import planner
from ansible_collections.muster.serving.plugins.plugin_utils.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.inventory_vars import PREFIX
from ansible_collections.muster.serving.plugins.plugin_utils.recipes import RecipeBook, read_schema

COLLECTION = Path(__file__).resolve().parents[2]
RECIPES = COLLECTION / "recipes"

display = Display()


def plain(value: Any) -> Any:
    """Return a value without Ansible's tags, in types that JSON has."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return str(value)


class ActionModule(ActionBase):
    """Runs once, on the controller."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            argument_spec={
                "verb": {"type": "str", "default": "plan"},
                "changes": {"type": "bool", "default": False},
                "plan_file": {"type": "path"},
            }
        )
        variables = task_vars or {}
        try:
            plans = self._plans(variables, options["verb"], options["changes"])
        except PlanError as error:
            count = len(error.messages)
            head = "1 problem" if count == 1 else f"{count} problems"
            lines = "\n".join(f"- {message}" for message in error.messages)
            raise AnsibleActionFail(
                f"{options['verb']} stops before any node is touched, {head}:\n{lines}"
            ) from None
        if options["changes"] or options["verb"] == "plan":
            for plan in plans.values():
                display.display(planner.table(plan) + "\n")
        limited = list(map(str, variables["ansible_play_hosts_all"]))
        chosen = next(iter(plans)) if len(plans) == 1 else None
        result.update(
            changed=False,
            cluster=chosen,
            plan=plans[chosen] if chosen else None,
            plans=plans,
            hosts=[host for plan in plans.values() for host in _hosts(plan, limited)],
            units=_of_hosts(map(planner.units_by_host, plans.values()), limited),
            needs=_of_hosts(map(planner.needs_of, plans.values()), limited),
        )
        if options["plan_file"]:
            if not chosen:
                raise AnsibleActionFail(
                    f"plan_file holds the plan of one cluster, not of {', '.join(plans)}: "
                    "choose one with -l"
                )
            result.update(self._write(options["plan_file"], result["plan"]))
        return result

    def _plans(
        self, variables: Mapping[str, Any], verb: str, changes: bool
    ) -> dict[str, planner.Plan]:
        """Return the plans of all clusters that the play's hosts belong to."""
        view = _inventory(variables)
        limited = set(map(str, variables["ansible_play_hosts_all"]))
        found = planner.clusters(view)
        touched = {name: hosts for name, hosts in found.items() if limited & set(hosts)}
        if not touched:
            raise PlanError(
                [
                    f"none of the hosts {', '.join(sorted(limited)) or '(none)'} belongs to a "
                    "cluster: set muster_recipe for the inventory group that is one"
                ]
            )
        if len(touched) > 1 and (changes or verb == "plan"):
            raise PlanError(
                [f"{verb} takes one cluster: choose one of {', '.join(touched)} with -l"]
            )
        machines = _machines(view, [host for hosts in touched.values() for host in hosts])
        plans = {}
        errors: list[str] = []
        for cluster, hosts in found.items():
            # A deployment on the same machines counts, even outside the limit.
            if cluster not in touched and not machines & _machines(view, hosts):
                continue
            try:
                plans[cluster] = self._plan(view, cluster)
            except PlanError as error:
                errors += error.messages
        errors += planner.machine_conflicts(list(plans.values()))
        chosen = {cluster: plan for cluster, plan in plans.items() if cluster in touched}
        if changes:
            for plan in chosen.values():
                errors += planner.limit_errors(plan, sorted(limited), verb)
        if errors:
            raise PlanError(errors)
        return chosen

    def _plan(self, view: planner.View, cluster: str) -> planner.Plan:
        name, variant = planner.recipe_of(view, cluster)
        own = view["hostvars"][view["groups"][cluster][0]].get("muster_recipes_path") or []
        folders = [own] if isinstance(own, str) else own
        for folder in folders:
            if not os.path.isdir(str(folder)):
                raise PlanError([f"{cluster}: muster_recipes_path: {folder} is no folder"])
        book = RecipeBook(
            [*map(str, folders), str(RECIPES)], read_schema(str(RECIPES / "schema.json"))
        )
        release = yaml.safe_load((COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))
        return planner.build_plan(book.load(name, variant), view, cluster, release["version"])

    def _write(self, path: str, plan: planner.Plan) -> dict[str, Any]:
        """Put the plan into a file, when it is not there already."""
        text = json.dumps(plan, indent=2) + "\n"
        try:
            before = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            before = ""
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleActionFail(f"plan_file {path} cannot be read: {error}") from None
        if before == text:
            return {"changed": False}
        if not self._task.check_mode:
            try:
                write_atomically(Path(path), text)
            except OSError as error:
                raise AnsibleActionFail(f"plan_file {path} cannot be written: {error}") from None
        return {
            "changed": True,
            "diff": {
                "before": before,
                "after": text,
                "before_header": path,
                "after_header": path,
            },
        }


def write_atomically(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _inventory(variables: Mapping[str, Any]) -> planner.View:
    """Return the whole inventory as plain data: what the planner reads of it."""
    groups = {str(name): list(map(str, hosts)) for name, hosts in variables["groups"].items()}
    hostvars: dict[str, dict[str, Any]] = {}
    errors = []
    for host in groups["all"]:
        hostvars[host] = {}
        templated = variables["hostvars"][host]
        for name in templated:
            if not name.startswith(PREFIX) and name != "ansible_host":
                continue
            try:
                hostvars[host][str(name)] = plain(templated[name])
            except AnsibleError as error:
                reason = " ".join(str(error).split())
                errors.append(f"{host}: {name} cannot be evaluated: {reason}")
    if errors:
        raise PlanError(errors)
    return {"groups": groups, "hostvars": hostvars}


def _machines(view: planner.View, hosts: list[str]) -> set[Any]:
    return {str(view["hostvars"][host].get("muster_node") or host) for host in hosts}


def _hosts(plan: planner.Plan, limited: Sequence[str]) -> list[str]:
    return [host for replica in plan["replicas"] for host in replica["hosts"] if host in limited]


def _of_hosts(maps: Any, limited: Sequence[str]) -> dict[str, Any]:
    return {host: value for one in maps for host, value in one.items() if host in limited}
