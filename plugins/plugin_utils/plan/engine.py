# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all units of a deployment start their engine with, and whether that version takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    advice,
    contexts,
    cuts,
    images,
    keys,
    known,
    limits,
    merging,
    mounts,
    rendering,
    secrets,
    venvs,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.derived_image import derive
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect, dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import Recipe


class Engine(NamedTuple):
    """One deployment's engine, the same on all its nodes.

    drain_s is how long it goes on with what it has when it is stopped. image is None without a
    container, derived is what is built from it, venv what is installed in its place. model is what
    the engine is told to load, a path or a hub's name. changes says what the engine's version made
    of the recipe.
    """

    version: str
    dialect: Dialect
    install: str
    image: str | None
    digest: str | None
    derived: dict[str, str] | None
    venv: dict[str, Any] | None
    model: str
    model_path: str | None
    draft_path: str | None
    args: dict[str, Any]
    env: dict[str, str]
    drain_s: int
    tensor: int
    data: int
    prefill: int
    context: contexts.Context
    features: list[str]
    warnings: list[str]
    changes: list[dict[str, str]]

    @property
    def group(self) -> int:
        """Return the devices of one rank."""
        return self.tensor * self.prefill

    @property
    def sizes_text(self) -> str:
        """Return the parallel sizes by the flags that say them."""
        sizes = {"tensor": self.tensor, "data": self.data, "prefill_context": self.prefill}
        flags = merging.size_flags(self.dialect, sizes)
        return ", ".join(f"{flag} {size}" for flag, size in flags.items())

    @property
    def experts_shared(self) -> bool:
        """Tell whether all data parallel ranks share the experts, whole or in parts."""
        return not self.dialect.deals_in_rank

    @property
    def unit_image(self) -> str | None:
        """Return the image that units run."""
        if self.derived:
            return self.derived["image"]
        return f"{self.image}@{self.digest}" if self.digest else self.image


class _Source(NamedTuple):
    """What an engine is started from: its version and install, and the weights that it loads."""

    version: str
    install: str
    image: images.Image | None
    venv: dict[str, Any] | None
    model: str
    model_path: str | None
    draft_path: str | None


def build_engine(recipe: Recipe, deployment: Deployment) -> tuple[Engine | None, list[str]]:
    """Return the engine of a deployment, or None and what is wrong."""
    dialect = dialect_of(recipe)
    source, errors, told = _source(recipe, deployment)
    if not source:
        return None, errors
    asked, found, notes = merging.asked_of(recipe, deployment, dialect)
    errors += found
    if errors:
        return None, errors
    merged = merging.merge(recipe, deployment, dialect, source.version, asked)
    errors = _open_secrets(recipe, deployment, merged)
    if errors:
        # Alone: what else is wrong with a value is said with the value.
        return None, errors
    model = _loaded_model(recipe, deployment)
    context = contexts.context_of(model, merged.args, dialect)
    # More nodes have made more ranks than anybody wrote.
    written = dialect.sizes["data"] in asked.own_args
    ranks = "" if written else said_by(deployment.settings, "muster_replica_nodes")
    unknown, odd = _against_version(recipe, deployment, dialect, source.version, merged, ranks)
    unfit, doubts = _against_model(recipe, deployment, dialect, model, merged, context, ranks)
    if unknown or unfit:
        return None, [f"{deployment.cluster}: {text}" for text in unknown + unfit]
    image, patches = source.image, recipe["engine"].get("patches")
    return (
        Engine(
            version=source.version,
            dialect=dialect,
            install=source.install,
            image=image.name if image else None,
            digest=image.digest if image else None,
            derived=derive(image.name, patches) if image and patches else None,
            venv=source.venv,
            model=source.model,
            model_path=source.model_path,
            draft_path=source.draft_path,
            args=merged.args,
            env=merged.env,
            drain_s=merged.drain_s,
            tensor=merged.sizes["tensor"],
            data=merged.sizes["data"],
            prefill=merged.sizes["prefill_context"],
            context=context,
            features=merged.features,
            warnings=[
                *told,
                *notes,
                *doubts,
                *odd,
                *_unmounted(recipe, deployment, source, merged),
                *_without_effect(deployment, dialect, merged),
            ],
            changes=merged.changes,
        ),
        [],
    )


def served_name(recipe: Recipe, deployment: Deployment) -> str:
    """Return the model's name in the API."""
    return str(deployment.settings.get("muster_served_model_name", recipe["served_model_name"]))


def _source(recipe: Recipe, deployment: Deployment) -> tuple[_Source | None, list[str], list[str]]:
    """Return what an engine is started from, what is wrong with it, and what to know.

    Without a version or an install of the recipe's there is nothing more to say.
    """
    spec, said, cluster = recipe["engine"], deployment.settings, deployment.cluster
    version, errors, warnings = _version(recipe, deployment)
    if version is None:
        return None, errors, warnings
    install = said.get("muster_install", spec["installs"][0])
    if install not in spec["installs"]:
        errors.append(
            f"{cluster}: muster_install: {recipe['name']} has no {install} install, only "
            f"{', '.join(spec['installs'])}"
        )
        return None, errors, warnings
    image = venv = None
    if install == "container":
        image, found, told = images.image_of(spec, said, version)
        errors += [f"{cluster}: {text}" for text in found]
        warnings += told
    if install == "venv":
        venv, found, told = venvs.venv_of(recipe, deployment, version)
        errors += found
        warnings += told
    model, model_path, found = _model(recipe, deployment)
    errors += found
    draft_path = merging.draft_of(recipe, said)
    source = _Source(version, install, image, venv, model, model_path, draft_path)
    found, told = _folders(recipe, deployment, source)
    return source, errors + found, warnings + told


def _version(recipe: Recipe, deployment: Deployment) -> tuple[str | None, list[str], list[str]]:
    """Return the engine's version, held against the range for which the recipe holds."""
    spec, said, cluster = recipe["engine"], deployment.settings, deployment.cluster
    warnings = list(recipe.get("warnings", []))
    version = str(said.get("muster_engine_version", spec["version"])).removeprefix("v")
    try:
        versions.parse(version)
    except ValueError as error:
        return None, [f"{cluster}: muster_engine_version: {error}"], warnings
    if len(versions.release(version).split(".")) < 3:
        text = (
            f"{cluster}: muster_engine_version: {version!r} names no release: engines number "
            "theirs with three numbers, as 0.22.0"
        )
        return None, [text], warnings
    if versions.matches(version, spec["holds_for"]):
        return version, [], warnings
    whose = "muster_engine_version" if "muster_engine_version" in said else "its own engine.version"
    text = (
        f"{recipe['name']} holds for {spec['name']} {spec['holds_for']}, not for {whose} {version}"
    )
    if said.get("muster_engine_version_unproven"):
        accepted = f"{text}; accepted by muster_engine_version_unproven"
        return version, [], [*warnings, accepted]
    text = (
        f"{cluster}: {text}: choose a version it holds for, or set "
        "muster_engine_version_unproven: true"
    )
    return version, [text], warnings


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


def _folders(
    recipe: Recipe, deployment: Deployment, source: _Source
) -> tuple[list[str], list[str]]:
    """Return what is wrong with the folders that an engine gets, and what to know of them."""
    said = deployment.settings
    folders = {
        "muster_model_path": source.model_path,
        "muster_draft_model_path": source.draft_path,
        "muster_profiler_dir": said.get("muster_profiler_dir"),
    }
    errors = mounts.folder_problems(folders)
    warnings: list[str] = []
    if source.install == "container" and not errors:
        planned = mounts.mounts_of(recipe, said, source.model_path, source.draft_path)
        errors, warnings = mounts.problems(planned)
    return [f"{deployment.cluster}: {text}" for text in errors], warnings


def _open_secrets(recipe: Recipe, deployment: Deployment, merged: merging.Merged) -> list[str]:
    """Return the secrets that would stand in the plan."""
    names = recipe["engine"].get("env_names", {}).get("names", {})
    found = secrets.in_environment(merged.env, names) + secrets.in_flags(merged.args)
    return [f"{deployment.cluster}: {text}" for text in found]


def _loaded_model(recipe: Recipe, deployment: Deployment) -> Mapping[str, Any]:
    """Return what is known of the weights that are loaded."""
    model: Mapping[str, Any] = recipe["model"]
    if "muster_weights_gb" in deployment.settings:
        # Weights of another size are not the recipe's, and may be of any format.
        return {**model, "format": None, "scale_block": None}
    return model


def _against_version(
    recipe: Recipe,
    deployment: Deployment,
    dialect: Dialect,
    version: str,
    merged: merging.Merged,
    ranks: str,
) -> tuple[list[str], list[str]]:
    """Return which names and values the engine's version does not take, and which are odd.

    Args:
        recipe: The recipe, with what is known of its engine's versions.
        deployment: The deployment.
        dialect: How the engine names things.
        version: Its version.
        merged: What it is started with.
        ranks: What to add where the number of ranks is at fault.
    """
    spec = recipe["engine"]
    args, env, idle = merged.args, merged.env, merged.idle
    sized = {**args, **merging.size_flags(dialect, merged.sizes)}
    refused = rendering.refusals(
        {**merged.config, "args": sized}, spec.get("rules", []), version, merged.sizes["data"]
    )
    # What a rule has named needs no second message.
    passed = {path.partition(".")[2] for path in refused} | _unchecked(deployment, dialect)
    about = (spec["name"], version, passed)
    types = known.flag_types(spec["flags"])
    env_names = spec.get("env_names", {})
    values, values_of = spec.get("values", {}), spec.get("values_of", "").split()
    bad_values, odd_values = known.wrong_values(args, values, values_of, *about)
    idle_flags = sorted(idle["muster_engine_args"] - types.keys())
    idle_env = sorted(idle["muster_engine_env"] - env_names.get("names", {}).keys())
    had = {name: types[name] for name in types if known.has_flag(name, spec["flags"], version)}
    errors = [
        *(f"{text}{ranks}" for text in refused.values()),
        *bad_values,
        *known.unknown_flags([*args, *idle_flags], spec["flags"], *about),
        *keys.problems(args, spec.get("keys", {}), *about),
        *keys.said_twice(args, spec.get("same", {})),
        *known.inert_env([*env, *idle_env], env_names, *about),
        *known.wrong_texts(env, env_names, passed),
        *limits.problems(args, had, spec.get("limits", {}), version, passed),
    ]
    return errors, [*odd_values, *known.unusual(args, spec.get("choices", {}))]


def _against_model(
    recipe: Recipe,
    deployment: Deployment,
    dialect: Dialect,
    model: Mapping[str, Any],
    merged: merging.Merged,
    context: contexts.Context,
    ranks: str,
) -> tuple[list[str], list[str]]:
    """Return which values do not go with the model, the devices or each other, and doubts.

    Args:
        recipe: The recipe, with its advice.
        deployment: The deployment.
        dialect: How the engine names things.
        model: What is known of the weights.
        merged: What the engine is started with.
        context: The context that this makes.
        ranks: What to add where the number of ranks is at fault.
    """
    args, sizes = merged.args, merged.sizes
    device_gb = deployment.settings.get(
        "muster_device_memory_gb", recipe["platform"]["device_memory_gb"]
    )
    too_long, lifted = contexts.problems(context, model, merged.env, dialect)
    advised = advice.heed(
        recipe.get("advice", []), merged.config, sizes, context.longest, model, device_gb
    )
    contradicted, idle_keys = keys.contradictions(args, sizes, context.longest)
    uncut, uneven = cuts.problems(model, args, sizes, dialect)
    errors = [
        *contexts.miswritten(args, dialect),
        *contexts.unchunked(context, args, dialect),
        *too_long,
        *advised.errors,
        *contradicted,
        *(f"{text}{ranks}" for text in uncut),
    ]
    doubts = [*advised.warnings, *lifted, *uneven, *idle_keys, *contexts.reshaped(args, dialect)]
    return errors, doubts


def _unmounted(
    recipe: Recipe, deployment: Deployment, source: _Source, merged: merging.Merged
) -> list[str]:
    """Return which files that flags name a container does not have."""
    if not source.image:
        return []
    planned = mounts.mounts_of(recipe, deployment.settings, source.model_path, source.draft_path)
    return mounts.unmounted(merged.args, planned)


def _unchecked(deployment: Deployment, dialect: Dialect) -> set[str]:
    """Return the names of muster_engine_unchecked."""
    names = deployment.settings.get("muster_engine_unchecked", [])
    return {_as_written(name, dialect) for name in names}


def _as_written(name: str, dialect: Dialect) -> str:
    """Return a name of muster_engine_unchecked as the plan has it: FLAG, FLAG.KEY or ENV_NAME."""
    flag, dot, key = name.partition(".")
    if flag.isupper():
        return name
    flag = flag.removeprefix("--").replace("_", "-")
    return f"{dialect.spellings.get(flag, flag)}{dot}{key}"


def _without_effect(deployment: Deployment, dialect: Dialect, merged: merging.Merged) -> list[str]:
    """Return what to know of names that remove nothing, or let nothing pass."""
    found = [
        f"{setting}: {', '.join(sorted(names))} (null, and the recipe does not set it)"
        for setting, names in merged.idle.items()
        if names
    ]
    there = {**merged.args, **merged.env}
    unchecked = _unchecked(deployment, dialect)
    unused = sorted(name for name in unchecked if name.partition(".")[0] not in there)
    if unused:
        found.append(f"muster_engine_unchecked: {', '.join(unused)} (nothing sets it)")
    return [f"without effect here: {text}" for text in found]
