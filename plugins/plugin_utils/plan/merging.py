# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's flags and environment: recipe and inventory merged for a version of the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import (
    PlanError,
    shown,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    addresses,
    known,
    limits,
    rendering,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import variables as inventory_vars
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import (
    Recipe,
    normalise_args,
    overlay,
    without_nulls,
)

# What a runtime takes the devices of a process from, beside what its platform's plan sets.
_DEVICE_ENV = {
    "ASCEND_RT_VISIBLE_DEVICES",
    "ASCEND_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
}

# What a stop may cost: most answers take less.
DRAIN_S = 30


class Asked(NamedTuple):
    """What recipe and inventory ask of an engine, each by itself.

    layers has the recipe's args and env, its switches set. A null of own_args or own_env takes
    away what it names. sizes are the parallel sizes, by kind.
    """

    layers: dict[str, dict[str, Any]]
    own_args: dict[str, Any]
    own_env: dict[str, Any]
    sizes: dict[str, int]
    features: list[str]


class Merged(NamedTuple):
    """What an engine is started with.

    args has no flags of the sizes: those are written by their kind. changes says what the version
    made of the recipe. idle has by setting the names whose null removes nothing.
    """

    args: dict[str, Any]
    env: dict[str, str]
    sizes: dict[str, int]
    drain_s: int
    features: list[str]
    changes: list[dict[str, str]]
    idle: dict[str, set[str]]

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Return args and env as rules and advice take them."""
        return {"args": self.args, "env": self.env}


def asked_of(
    recipe: Recipe, deployment: Deployment, dialect: Dialect
) -> tuple[Asked, list[str], list[str]]:
    """Return what is asked of an engine, what is wrong with it, and what to know."""
    said, where = deployment.settings, f"{deployment.cluster}: recipe {recipe['name']}"
    types = known.flag_types(recipe["engine"]["flags"])
    bounds = recipe["engine"].get("limits", {})
    layers, features, notes = _layers(recipe, said, dialect)
    args = rendering.respelled(layers["args"], dialect.spellings, where)
    args = limits.expanded(args, bounds)
    errors = rendering.check_flags(args, types, dialect.not_to_set, where)
    own_args, found = _own_args(deployment, types, dialect, bounds)
    errors += found + _env_errors(recipe, deployment)
    sizes, found = _sizes(recipe, deployment, dialect, own_args)
    asked = Asked(
        layers={**layers, "args": args},
        own_args=own_args,
        own_env=said.get("muster_engine_env", {}),
        sizes=sizes,
        features=features,
    )
    return asked, errors + found, notes


def merge(
    recipe: Recipe, deployment: Deployment, dialect: Dialect, version: str, asked: Asked
) -> Merged:
    """Return what is asked of an engine as its version takes it, the inventory over the recipe."""
    spec = recipe["engine"]
    layers, changes = rendering.apply_rules(
        asked.layers, spec.get("rules", []), version, asked.sizes["data"]
    )
    args = without_nulls(overlay(layers["args"], asked.own_args))
    drain_s = deployment.settings.get("muster_drain_s", DRAIN_S)
    if dialect.drain:
        drain_s = drain_s if known.has_flag(dialect.drain, spec["flags"], version) else 0
        args.update({dialect.drain: drain_s} if drain_s else {})
    sizes = dialect.sizes.values()
    return Merged(
        args={name: value for name, value in args.items() if name not in sizes},
        env=without_nulls(overlay(layers["env"], asked.own_env)),
        sizes=asked.sizes,
        drain_s=drain_s,
        features=_features(asked.features, spec.get("switches", {}), args),
        changes=changes,
        idle={
            "muster_engine_args": _idle_nulls(asked.own_args, {*layers["args"], *sizes}),
            "muster_engine_env": _idle_nulls(asked.own_env, layers["env"]),
        },
    )


def replica_nodes(recipe: Recipe, deployment: Deployment) -> int:
    """Return how many nodes hold one copy of the model."""
    nodes: int = deployment.settings.get("muster_replica_nodes") or recipe["nodes"]
    return nodes


def computed_env(recipe: Recipe) -> dict[str, list[str]]:
    """Return the environment variables that the plan computes, by what they carry."""
    return dict(recipe["platform"]["env"])


def draft_of(recipe: Recipe, said: Mapping[str, Any]) -> str | None:
    """Return the folder of the draft weights; None where none are used."""
    return said.get("muster_draft_model_path") or None if "speculative" in recipe else None


def size_flags(dialect: Dialect, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the flags of the sizes, as far as they are written."""
    return {
        flag: sizes[kind]
        for kind, flag in dialect.sizes.items()
        if kind != "prefill_context" or sizes[kind] > 1
    }


def _layers(
    recipe: Recipe, said: Mapping[str, Any], dialect: Dialect
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return the recipe's flags and environment with its switches set, features and warnings."""
    args, env = dict(recipe["args"]), dict(recipe["env"])
    features = list(recipe["features"])
    switches = recipe["engine"].get("switches", {})
    for variable in ("muster_tool_calling", "muster_deep_gemm"):
        switch = switches.get(variable.removeprefix("muster_"), {})
        if said.get(variable, switch.get("default", False)):
            args = overlay(args, switch.get("args", {}))
            env = overlay(env, switch.get("env", {}))
            features += switch.get("features", [])
        elif variable in said:
            env = overlay(env, switch.get("off_env", {}))
    if "muster_reasoning_parser" in said:
        args["reasoning-parser"] = said["muster_reasoning_parser"] or None
    if "muster_profiler_dir" in said:
        profiler = _filled(switches.get("profiler", {}), said["muster_profiler_dir"])
        args = overlay(args, profiler.get("args", {}))
        env = overlay(env, profiler.get("env", {}))
    env.update(dialect.hub_env.get(said.get("muster_model_source", "local"), {}))
    notes = []
    draft = draft_of(recipe, said)
    if draft:
        args["speculative-config"] = {**recipe["speculative"], "model": draft}
    elif "speculative" in recipe:
        notes.append(
            "speculative decoding is off: muster_draft_model_path does not name its draft weights"
        )
    return {"args": args, "env": env}, features, notes


def _filled(value: Any, profiles: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, profiles) for key, item in value.items()}
    return value.replace("{profiler_dir}", profiles) if isinstance(value, str) else value


def _features(
    features: Sequence[str], switches: Mapping[str, Any], args: Mapping[str, Any]
) -> list[str]:
    """Return the features without those of a switch whose flags the inventory has taken away."""
    off = {
        feature
        for switch in switches.values()
        for feature in switch.get("features", [])
        if any(args.get(flag) in (None, False, "") for flag in switch.get("args", {}))
    }
    return [feature for feature in features if feature not in off]


def _own_args(
    deployment: Deployment, types: Mapping[str, str], dialect: Dialect, bounds: limits.Limits
) -> tuple[dict[str, Any], list[str]]:
    where = f"{deployment.cluster}: muster_engine_args"
    try:
        args = normalise_args(deployment.settings.get("muster_engine_args", {}), where)
        args = rendering.respelled(args, dialect.spellings, where)
        args = limits.expanded(args, bounds)
    except PlanError as error:
        return {}, error.messages
    return args, rendering.check_flags(args, types, dialect.not_to_set, where)


def _sizes(
    recipe: Recipe, deployment: Deployment, dialect: Dialect, own_args: Mapping[str, Any]
) -> tuple[dict[str, int], list[str]]:
    """Return the parallel sizes.

    A replica of more nodes than the recipe's has as many more data parallel ranks.
    """
    given = dict(recipe["parallelism"])
    nodes = replica_nodes(recipe, deployment)
    if nodes != recipe["nodes"]:
        given["data"] = max(1, given["data"] * nodes // recipe["nodes"])
    sizes, errors = {}, []
    for kind in ("tensor", "data", "prefill_context"):
        flag = dialect.sizes.get(kind)
        value = given.get(kind, 1)
        if flag and own_args.get(flag) is not None:
            value = own_args[flag]
        # What is no number is told of with the types of all flags.
        number = isinstance(value, int) and not isinstance(value, bool)
        if number and not 1 <= value <= 4096:
            errors.append(
                f"{deployment.cluster}: {flag} has to be a number from 1 to 4096, not {value!r}"
                + said_by(deployment.settings, "muster_replica_nodes")
            )
        sizes[kind] = value
    return sizes, errors


def _env_errors(recipe: Recipe, deployment: Deployment) -> list[str]:
    own = deployment.settings.get("muster_engine_env", {})
    where = f"{deployment.cluster}: muster_engine_env"
    computed = {name for names in computed_env(recipe).values() for name in names}
    computed |= _DEVICE_ENV
    errors = [
        f"{where}: {name!r} cannot name an environment variable"
        for name in own
        if not inventory_vars.ENV_NAME.fullmatch(name)
    ]
    # Some libraries take a name for a prefix, unless it is written as =NIC.
    interfaces = [host.get("muster_interface") for host in deployment.hosts.values()]
    exact = recipe["platform"].get("env_exact", [])
    errors += [
        f"{where}: {name} is what the plan computes for each node"
        + (', and may only be "=" and muster_interface' if name in exact else "")
        for name, value in own.items()
        if name in computed
        and not (name in exact and all(value == f"={one}" for one in interfaces))
    ]
    address_env = recipe["engine"].get("address_env")
    wrong = _wrong_address(own.get(address_env), len(deployment.hosts))
    if wrong:
        errors.append(f"{where}: {address_env} {wrong}")
    key_env = recipe["engine"].get("api_key_env")
    if key_env in own:
        errors.append(f"{where}: {key_env} would stand in the plan: set muster_api_key_file")
    return errors


def _wrong_address(address: str | None, nodes: int) -> str | None:
    """Return why an address in the environment cannot be that of each of so many nodes."""
    if not address:
        return None
    if nodes > 1:
        return "would be one address for all nodes: set muster_address"
    if not addresses.ip_or_none(address) or addresses.unfit(address):
        return f"has to be an address of the node, not {shown(address)}"
    return None


def _idle_nulls(own: Mapping[str, Any], others: Collection[str]) -> set[str]:
    """Return the names whose null removes nothing of what others set."""
    return {name for name, value in own.items() if value is None and name not in others}
