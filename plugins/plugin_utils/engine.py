# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all units of a deployment start their engine with: recipe, version and inventory merged."""

from __future__ import annotations

import re
from typing import Any, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils import (
    inventory_vars,
    rendering,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.inventory import Deployment
from ansible_collections.muster.serving.plugins.plugin_utils.recipes import (
    normalise_args,
    overlay,
    without_nulls,
)

Recipe = Mapping[str, Any]


class Engine(NamedTuple):
    """One deployment's engine, the same on all its nodes.

    C(model) is what the engine is told to load, a path or a hub's name. C(changes) says what the
    engine's version made of the recipe.
    """

    version: str
    image: str
    digest: str | None
    install: str
    model: str
    model_path: str | None
    draft_path: str | None
    args: dict[str, Any]
    env: dict[str, str]
    tensor: int
    data: int
    prefill: int
    features: list[str]
    warnings: list[str]
    changes: list[dict[str, str]]


def build_engine(recipe: Recipe, deployment: Deployment) -> tuple[Engine | None, list[str]]:
    """Return the engine of a deployment, or None and what is wrong."""
    spec, said, cluster = recipe["engine"], deployment.settings, deployment.cluster
    version = str(said.get("muster_engine_version", spec["version"]))
    try:
        versions.parse(version)
    except ValueError as error:
        return None, [f"{cluster}: muster_engine_version: {error}"]
    warnings = list(recipe.get("warnings", []))
    errors = _version_errors(recipe, deployment, version, warnings)
    image, digest, found = _image(recipe, deployment, version)
    errors += found
    install = said.get("muster_install", spec["installs"][0])
    if install not in spec["installs"]:
        errors.append(
            f"{cluster}: muster_install: {recipe['name']} has no {install} install, only "
            f"{', '.join(spec['installs'])}"
        )
    model, model_path, found = _model(recipe, deployment)
    errors += found

    layers, features, draft_path, notes = _layers(recipe, said)
    errors += rendering.check_flags(layers["args"], spec["flags"], f"recipe {recipe['name']}")
    own_args, found = _own_args(deployment, spec["flags"])
    errors += found + _env_errors(recipe, deployment)
    # Whether some rules hold depends on how many ranks there are.
    ranks = own_args.get("data-parallel-size") or recipe["parallelism"]["data"]
    rules = [] if errors else spec.get("rules", [])
    layers, changes = rendering.apply_rules(layers, rules, version, ranks)
    merged = {
        "args": without_nulls(overlay(layers["args"], own_args)),
        "env": without_nulls(overlay(layers["env"], said.get("muster_engine_env", {}))),
    }
    errors += [f"{cluster}: {text}" for text in rendering.refusals(merged, rules, version, ranks)]
    warnings += notes + rendering.unknown_flags(merged["args"], spec["flags"])
    sizes = {}
    for kind, flag in rendering.PARALLEL_FLAGS.items():
        sizes[kind] = merged["args"].pop(flag, recipe["parallelism"].get(kind, 1))
        if not isinstance(sizes[kind], int) or not 1 <= sizes[kind] <= 4096:
            errors.append(f"{cluster}: {flag} has to be from 1 to 4096, not {sizes[kind]!r}")
    if errors:
        return None, errors
    return (
        Engine(
            version=version,
            image=image,
            digest=digest,
            install=install,
            model=model,
            model_path=model_path,
            draft_path=draft_path,
            args=merged["args"],
            env=merged["env"],
            tensor=sizes["tensor"],
            data=sizes["data"],
            prefill=sizes["prefill_context"],
            features=features,
            warnings=warnings,
            changes=changes,
        ),
        [],
    )


def computed_env(recipe: Recipe) -> dict[str, list[str]]:
    """Return the environment variables that the plan computes, by what they carry."""
    return dict(recipe["platform"]["env"])


def served_name(recipe: Recipe, deployment: Deployment) -> str:
    """Return the model's name in the API."""
    return str(deployment.settings.get("muster_served_model_name", recipe["served_model_name"]))


def _version_errors(
    recipe: Recipe, deployment: Deployment, version: str, warnings: list[str]
) -> list[str]:
    """Hold a version against the range for which the recipe holds."""
    spec, said = recipe["engine"], deployment.settings
    if versions.matches(version, spec["holds_for"]):
        return []
    text = (
        f"{recipe['name']} holds for {spec['name']} {spec['holds_for']}, not for "
        f"muster_engine_version {version}"
    )
    if not said.get("muster_engine_version_unproven"):
        return [
            f"{deployment.cluster}: {text}: choose a version it holds for, or set "
            "muster_engine_version_unproven: true"
        ]
    warnings.append(f"{text}; accepted by muster_engine_version_unproven")
    return []


def _image(
    recipe: Recipe, deployment: Deployment, version: str
) -> tuple[str, str | None, list[str]]:
    """Return image and digest."""
    spec, said = recipe["engine"], deployment.settings
    own = said.get("muster_image")
    image, _at, digest = (own or spec["image"].replace("{version}", version)).partition("@")
    if own and (not image or (digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest))):
        return (
            "",
            None,
            [
                f"{deployment.cluster}: muster_image has to be NAME:TAG or NAME@sha256: and 64 hex "
                f"digits, not {own!r}"
            ],
        )
    return image, digest or (None if own else spec.get("digest")), []


def _model(recipe: Recipe, deployment: Deployment) -> tuple[str, str | None, list[str]]:
    """Return what the engine loads, and the folder that holds it when there is one."""
    said, cluster = deployment.settings, deployment.cluster
    source = said.get("muster_model_source", "local")
    if source != "local":
        found = recipe["model"]["sources"].get(source)
        if found:
            return found["id"], None, []
        text = f"{cluster}: muster_model_source: {recipe['model']['id']} is not on {source}"
        return "", None, [text]
    path = said.get("muster_model_path")
    if path is None and "muster_model_path" not in deployment.wrong:
        return (
            "",
            None,
            [
                f"{cluster}: muster_model_path is not set: name the folder on the nodes that holds "
                f"{recipe['model']['id']}"
            ],
        )
    return path or "", path, []


def _layers(
    recipe: Recipe, said: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], str | None, list[str]]:
    """Return the recipe's flags and environment with its switches set, and what follows.

    That is the features, the folder of the draft weights if they are used, and warnings.
    """
    args, env = dict(recipe["args"]), dict(recipe["env"])
    features = list(recipe["features"])
    switches = recipe["engine"].get("switches", {})
    tools = switches.get("tool_calling", {})
    if said.get("muster_tool_calling", tools.get("default", False)):
        args = overlay(args, tools.get("args", {}))
        features += tools.get("features", [])
    if "muster_reasoning_parser" in said:
        args["reasoning-parser"] = said["muster_reasoning_parser"] or None
    if "muster_profiler_dir" in said:
        profiler = switches.get("profiler", {}).get("args", {})
        args = overlay(args, _filled(profiler, said["muster_profiler_dir"]))
    if said.get("muster_model_source") == "modelscope":
        env["VLLM_USE_MODELSCOPE"] = "True"
    if "speculative" not in recipe:
        return {"args": args, "env": env}, features, None, []
    draft = said.get("muster_draft_model_path")
    if draft:
        args["speculative-config"] = {**recipe["speculative"], "model": draft}
        return {"args": args, "env": env}, features, draft, []
    note = "speculative decoding is off: muster_draft_model_path does not name its draft weights"
    return {"args": args, "env": env}, features, None, [note]


def _filled(value: Any, profiles: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, profiles) for key, item in value.items()}
    return value.replace("{profiler_dir}", profiles) if isinstance(value, str) else value


def _own_args(deployment: Deployment, types: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    where = f"{deployment.cluster}: muster_engine_args"
    try:
        args = normalise_args(deployment.settings.get("muster_engine_args", {}), where)
    except PlanError as error:
        return {}, error.messages
    return args, rendering.check_flags(args, types, where)


def _env_errors(recipe: Recipe, deployment: Deployment) -> list[str]:
    own = deployment.settings.get("muster_engine_env", {})
    where = f"{deployment.cluster}: muster_engine_env"
    computed = {name for names in computed_env(recipe).values() for name in names}
    errors = [
        f"{where}: {name!r} cannot name an environment variable"
        for name in own
        if not inventory_vars.ENV_NAME.fullmatch(name)
    ]
    errors += [
        f"{where}: {name} is what the plan computes for each node"
        for name in own
        if name in computed
    ]
    key_env = recipe["engine"].get("api_key_env")
    if key_env in own:
        errors.append(f"{where}: {key_env} would stand in the plan: set muster_api_key_file")
    return errors
