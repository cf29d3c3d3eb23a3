# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the plan on the controller, without a connection to any node."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, nearest
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    keep_text,
    statistics,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import is_literal, plain
from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    inventory,
    planner,
    stages,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.cluster import Plan
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory_io import (
    cluster_name,
    groups_that_set,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book
from ansible_collections.muster.serving.plugins.plugin_utils.plan.switches_io import refuse_unread
from ansible_collections.muster.serving.plugins.plugin_utils.plan.templates import evidence
from ansible_collections.muster.serving.plugins.plugin_utils.plan.variables import (
    REGISTERED,
    Unreadable,
    concerns,
    team_digests,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.verified import is_verified

COLLECTION = Path(__file__).resolve().parents[2]
STAGES = ("plan", "preflight", "prepare", "serve", "verify")
# What goes on with the plan of a verb that changes nodes, and with that of one that only looks.
TAKEN_OVER = {True: STAGES[1:], False: ("preflight", "verify")}
KNOWN_TAGS = (*STAGES, "all", "always", "never", "tagged", "untagged")

display = Display()


class ActionModule(ControllerAction):
    """Runs once, on the controller."""

    SPEC: ClassVar = {
        "verb": {"type": "str", "default": "plan"},
        "changes": {"type": "bool", "default": False},
        "show": {"type": "bool", "default": False},
        "plan_file": {"type": "path"},
        "weights_hashes": {"type": "bool"},
        "one_cluster": {"type": "bool", "default": False},
        "optional": {"type": "bool", "default": False},
        "made": {"type": "str"},
        "verified": {"type": "str"},
        "kept": {"type": "list", "elements": "str", "default": []},
    }
    RULES: ClassVar = {"required_by": {"made": ["plan_file", "verified"], "verified": ["made"]}}

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if args["made"]:
            return self._keep(args, variables)
        limited = [str(host) for host in variables["ansible_play_hosts_all"]]
        verb = planner.Verb(args["verb"], args["changes"], args["one_cluster"])
        view = _inventory(variables)
        warn_of_tags(variables.get("ansible_run_tags", ()))
        try:
            # What is misspelt for all stands at the first; each one costs as much as its variables.
            names = variables["hostvars"].raw_get(limited[0])
            refuse_unread(args["verb"], self._loader, names, display.warning)
            plans = planner.plan_clusters(view, limited, verb, _recipe_loader(), _release())
            # A verb that changes nothing sets Docker up on no node, so it needs no CA.
            docker = {
                name: _docker(view, plan) if args["changes"] else None
                for name, plan in plans.items()
            }
            team_keys = {
                name: self._team_keys(view, plan) if args["changes"] else None
                for name, plan in plans.items()
            }
        except PlanError as error:
            failure = _failure(args["verb"], error)
            if not args["optional"]:
                raise AnsibleActionFail(failure) from None
            display.warning(failure)
            return _without_plan(limited, variables)
        if args["show"]:
            for plan in plans.values():
                show(table(plan) + "\n")
        only = next(iter(plans)) if len(plans) == 1 else None
        runs = {
            name: stages.run_of(plan, limited, view["hostvars"]) for name, plan in plans.items()
        }
        parts = {
            name: stages.stages_of(
                plan, limited, args["weights_hashes"], docker[name], team_keys[name]
            )
            for name, plan in plans.items()
        }
        alone = verb.changes or verb.one_cluster
        result = {
            "cluster": only,
            # One with checks of its own is nobody else's.
            "suits": [*TAKEN_OVER[verb.changes]]
            if alone and args["weights_hashes"] is None
            else [],
            "plan": plans[only] if only else {},
            "plans": {} if only else plans,
            "hosts": [
                host
                for plan in plans.values()
                for replica in plan["replicas"]
                for host in replica["hosts"]
                if host in limited
            ],
            "run": runs[only] if only else _run_of_none(limited, variables),
            "runs": runs,
            "stages": {
                host: options
                for by_host in parts.values()
                for host, options in by_host.items()
                if host in limited
            },
        }
        result["ansible_stats"] = statistics(
            "muster_endpoints",
            {
                name: {
                    **{key: plan["endpoint"][key] for key in ("url", "model")},
                    "key": any(unit["secret_files"] for unit in plan["units"]),
                    "authority": _authority(plan, runs[name]["authority"]),
                    "reports": runs[name]["output_dir"],
                }
                for name, plan in plans.items()
            },
        )
        if args["plan_file"]:
            if not only:
                raise AnsibleActionFail(
                    f"plan_file holds the plan of one cluster: choose one of {', '.join(plans)} "
                    "with -l"
                )
            result.update(self._write(args["plan_file"], plans[only]))
        return result

    def _team_keys(self, view: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str] | None:
        """Return the digests of a gateway's keys with their teams; the keys go no further.

        Raises:
            PlanError: The file that holds them cannot be read, or is anybody's to read.
        """
        said = view["hostvars"].get(plan["units"][0]["host"], {}).get("muster_gateway_keys")
        if said is None or not plan["gateway"]:
            return None
        where = f"{plan['deployment']}: muster_gateway_keys"
        if isinstance(said, str):
            path = Path(said).expanduser()
            where = f"{where}: {path}"
            try:
                mode = path.stat().st_mode & 0o777
                content = path.read_bytes()
            except OSError as error:
                raise PlanError([f"{where} cannot be read: {error.strerror}"]) from None
            if mode & 0o077 and not is_encrypted(content):
                raise PlanError([f"{where} has mode {mode:04o}, and it holds keys: chmod 600"])
            try:
                said = plain(self._loader.load_from_file(str(path)))
            except AnsibleError:
                # What the parser says quotes the file.
                raise PlanError([f"{where} is no YAML, or its vault cannot be opened"]) from None
            if not isinstance(said, dict):
                raise PlanError([f"{where} has to hold a map of teams to keys"])
        try:
            return team_digests(said)
        except ValueError as wrong:
            raise PlanError([f"{where}: {wrong}"]) from None

    def _keep(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Write the plan that this run has, where all of it was kept as verified."""
        plan = plain(variables[args["made"]]["plan"])
        kept = registered(variables, variables["ansible_play_hosts"], args["verified"])
        kept.update((host, {}) for host in args["kept"] if host not in kept)
        return self._write(args["plan_file"], plan) if is_verified(plan, kept) else {}

    def _write(self, path: str, plan: Plan) -> dict[str, Any]:
        """Put the plan into a file, when it is not there already."""
        return keep_text(path, json.dumps(plan, indent=2) + "\n", self._task.check_mode)


def table(plan: Plan) -> str:
    """Return a plan as an operator reads it."""
    engine, endpoint, evidence = plan["engine"], plan["endpoint"], plan["evidence"]
    memory, gateway = plan["memory"], plan["gateway"]
    rows = [("unit", "host", "role", "ranks", "devices", "address", "ports")]
    rows += [
        (
            unit["name"],
            unit["host"],
            unit["role"],
            ranges_text(unit["ranks"]),
            ranges_text(unit["devices"]),
            f"{unit['address']} {unit['interface']}".strip(),
            " ".join(f"{name}={port}" for name, port in unit["ports"].items()),
        )
        for unit in plan["units"]
    ]
    lines = [
        f"{plan['deployment']}: {plan['recipe']} ({plan['variant']})",
        f"  engine    {engine['name']} {engine['version']}, {_origin(engine)}",
        f"  endpoint  {endpoint['url']} as {endpoint['model']} ({', '.join(endpoint['features'])})",
        f"  evidence  {evidence['level']}. {evidence.get('note', '')}".rstrip(". "),
        f"  memory    {memory['rank_gb']:g} GiB a rank: {memory['weights_gb']:g} GiB of weights, "
        f"{memory['cache_gb']:g} GiB of KV cache; longest context {memory['max_context']} tokens",
    ]
    if plan["driver"] and plan["driver"]["floors"]:
        oldest = plan["driver"]["floors"][0]
        lines.append(f"  driver    {oldest['floor']} or later: {oldest['reason']}")
    if gateway:
        way = "floating between" if gateway["floating"] else "on"
        hosts = " and ".join(gateway["hosts"])
        lines.append(f"  gateway   {gateway['balance']}, {way} {hosts}, {gateway['image']}")
    lines += ["", *columns(rows), ""]
    lines += [
        f"  note      {change['what']} {change['action']}: {change['reason']}"
        for change in engine["changes"]
    ]
    lines += [f"  warning   {warning}" for warning in plan["warnings"]]
    return "\n".join(lines).rstrip()


def _origin(engine: Mapping[str, Any]) -> str:
    """Return where the engine comes from."""
    if engine["venv"]:
        requirements = " ".join(engine["venv"]["requirements"])
        return f"{requirements} ({engine['venv']['channel']}) in {engine['venv']['path']}"
    image = f"{engine['image']}@{engine['digest']}" if engine["digest"] else engine["image"]
    changed = f", changed to {engine['derived']['image']}" if engine["derived"] else ""
    return f"{image}{changed}"


def _authority(plan: Mapping[str, Any], path: str) -> str | None:
    """Return the file on the controller by which clients check the endpoint's certificate.

    None without TLS, and where clients know the authority.
    """
    gateway = plan["gateway"]
    if not gateway or not gateway["tls"]:
        return None
    known = gateway["tls"]["certificate"] and not gateway["tls"]["ca"]
    return None if known else path


def _failure(verb: str, error: PlanError) -> str:
    count = len(error.messages)
    problems = "1 problem" if count == 1 else f"{count} problems"
    lines = "\n".join(f"- {message}" for message in error.messages)
    return f"{verb} stops before it touches any node: {problems}\n{lines}"


def _recipe_loader() -> planner.Load:
    """Return what loads recipes, each of the files that they share once for all clusters."""
    book = cache(recipe_book)
    return lambda name, variant, folders: book(tuple(folders)).load(name, variant)


def _release() -> str:
    """Return the collection's version; an installed one has a manifest in place of galaxy.yml."""
    manifest = COLLECTION / "MANIFEST.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text("utf-8"))["collection_info"]["version"])
    return str(yaml.safe_load((COLLECTION / "galaxy.yml").read_text("utf-8"))["version"])


def _inventory(variables: Mapping[str, Any]) -> inventory.View:
    """Return what the planner reads of the whole inventory, as plain data."""
    groups = {
        str(name): [str(host) for host in hosts] for name, hosts in variables["groups"].items()
    }
    rendered: dict[tuple[str, str], Any] = {}
    hostvars = {
        host: _host_settings(variables["hostvars"], host, rendered) for host in groups["all"]
    }
    setting = groups_that_set("muster_recipe", variables["hostvars"], variables["playbook_dir"])
    return {
        "groups": groups,
        "hostvars": hostvars,
        "sets_recipe": dict.fromkeys(setting, True),
    }


def _host_settings(
    hostvars: Any, host: str, rendered: dict[tuple[str, str], Any]
) -> dict[str, Any]:
    """Return what the planner reads of one host's variables.

    Args:
        hostvars: Ansible's own.
        host: The host.
        rendered: Values of hosts before by name and evidence, to which those of this one are added:
            a group's template is the same text on each of its hosts.
    """
    raw = hostvars.raw_get(host)
    names = [
        name
        for name in raw
        # What an earlier play registered is a whole plan in every host's variables.
        if name not in REGISTERED and (concerns(name) or name == "ansible_host")
    ]
    found = {}
    for name in names:
        # Most values are no templates, and Ansible takes ten times as long to find that out.
        if is_literal(raw[name]):
            found[str(name)] = plain(raw[name])
            continue
        reason = evidence(raw[name], raw)
        if reason is None:
            found[str(name)] = _value(hostvars[host], name)
            continue
        if (name, reason) not in rendered:
            rendered[name, reason] = _value(hostvars[host], name)
        found[str(name)] = rendered[name, reason]
    return found


def _value(templated: Mapping[str, Any], name: str) -> Any:
    try:
        return plain(templated[name])
    except AnsibleError as error:
        return Unreadable(" ".join(str(error).split()))


def _without_plan(limited: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a verb goes on with that can do without a plan."""
    return {
        "cluster": None,
        "suits": [],
        "plan": {},
        "plans": {},
        "hosts": list(limited),
        "run": _run_of_none(limited, variables),
        "runs": {},
        "stages": {},
    }


def _run_of_none(limited: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the folder for reports of a run that has no plan of one cluster."""
    first = plain(variables["hostvars"][limited[0]])
    name = first.get("muster_cluster") or cluster_name(
        first.get("group_names", ()), variables["hostvars"], variables["playbook_dir"]
    )
    return {"output_dir": first.get("muster_output_dir") or f"muster-output/{name}"}


def _docker(view: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return how Docker reaches registries, as docker_config takes it, without the proxy.

    Raises:
        PlanError: A registry's CA, a file on the controller, cannot be read.
    """
    first = view["hostvars"].get(plan["units"][0]["host"], {})
    return {
        "insecure_registries": first.get("muster_insecure_registries") or [],
        "registry_mirrors": first.get("muster_registry_mirrors") or [],
        "registry_ca": _registry_ca(first.get("muster_registry_ca") or {}),
    }


def _registry_ca(files: Mapping[str, str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    errors = []
    for registry, path in files.items():
        try:
            texts[registry] = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            errors.append(f"muster_registry_ca: {path} of {registry} cannot be read: {reason}")
    if errors:
        raise PlanError(errors)
    return texts


def warn_of_tags(tags: Iterable[str]) -> None:
    """Warn of a tag that is nearly that of a stage: Ansible runs nothing for it and says so not."""
    for tag in tags:
        if tag not in KNOWN_TAGS:
            display.warning(
                f"no task has the tag {tag}: {nearest(tag, STAGES)}; nothing but the plan runs"
            )
