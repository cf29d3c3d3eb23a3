# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all units of a deployment start their engine with: recipe, version and inventory merged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    Request,
    request_problem,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import (
    PlanError,
    nearest,
    shown,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    addresses,
    advice,
    contexts,
    cuts,
    images,
    keys,
    known,
    limits,
    mounts,
    rendering,
    secrets,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import variables as inventory_vars
from ansible_collections.muster.serving.plugins.plugin_utils.plan.derived_image import derive
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect, dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import (
    normalise_args,
    overlay,
    without_nulls,
)

Recipe = Mapping[str, Any]

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

VENVS = "/opt/muster/venvs"
# What a stop may cost: most answers take less.
DRAIN_S = 30


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
        flags = _size_flags(self.dialect, sizes)
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


def replica_nodes(recipe: Recipe, deployment: Deployment) -> int:
    """Return how many nodes hold one copy of the model."""
    nodes: int = deployment.settings.get("muster_replica_nodes") or recipe["nodes"]
    return nodes


def build_engine(recipe: Recipe, deployment: Deployment) -> tuple[Engine | None, list[str]]:
    """Return the engine of a deployment, or None and what is wrong."""
    spec, said, cluster = recipe["engine"], deployment.settings, deployment.cluster
    dialect = dialect_of(recipe)
    version = str(said.get("muster_engine_version", spec["version"])).removeprefix("v")
    try:
        versions.parse(version)
    except ValueError as error:
        return None, [f"{cluster}: muster_engine_version: {error}"]
    if len(versions.release(version).split(".")) < 3:
        return None, [
            f"{cluster}: muster_engine_version: {version!r} names no release: engines number "
            "theirs with three numbers, as 0.22.0"
        ]
    warnings = list(recipe.get("warnings", []))
    errors = _version_errors(recipe, deployment, version, warnings)
    install = said.get("muster_install", spec["installs"][0])
    if install not in spec["installs"]:
        errors.append(
            f"{cluster}: muster_install: {recipe['name']} has no {install} install, only "
            f"{', '.join(spec['installs'])}"
        )
        return None, errors
    image = None
    if install == "container":
        image, found, told = images.image_of(spec, said, version)
        errors += [f"{cluster}: {text}" for text in found]
        warnings += told
    venv, found = _venv(recipe, deployment, version, install)
    errors += found
    if venv and not any("==" in text for text in venv["requirements"]):
        warnings.append(
            f"the channel {venv['channel']} pins no version, and the command line is rendered for "
            f"{spec['name']} {version}: set muster_engine_version to the one that it brings"
        )
    model, model_path, found = _model(recipe, deployment)
    errors += found

    layers, features, draft_path, notes = _layers(recipe, said, dialect)
    folders = {
        "muster_model_path": model_path,
        "muster_draft_model_path": draft_path,
        "muster_profiler_dir": said.get("muster_profiler_dir"),
    }
    found = mounts.folder_problems(folders)
    if install == "container" and not found:
        found, told = mounts.problems(mounts.mounts_of(recipe, said, model_path, draft_path))
        warnings += told
    errors += [f"{cluster}: {text}" for text in found]
    where = f"{cluster}: recipe {recipe['name']}"
    types = known.flag_types(spec["flags"])
    bounds = spec.get("limits", {})
    layers["args"] = rendering.respelled(layers["args"], dialect.spellings, where)
    layers["args"] = limits.expanded(layers["args"], bounds)
    errors += rendering.check_flags(layers["args"], types, dialect.not_to_set, where)
    own_args, found = _own_args(deployment, types, dialect, bounds)
    errors += found + _env_errors(recipe, deployment)
    sizes, found = _sizes(recipe, deployment, dialect, own_args)
    errors += found
    if errors:
        return None, errors
    rules = spec.get("rules", [])
    layers, changes = rendering.apply_rules(layers, rules, version, sizes["data"])
    own_env = said.get("muster_engine_env", {})
    idle = {
        "muster_engine_args": _idle_nulls(own_args, {*layers["args"], *dialect.sizes.values()}),
        "muster_engine_env": _idle_nulls(own_env, layers["env"]),
    }
    args = without_nulls(overlay(layers["args"], own_args))
    drain_s = said.get("muster_drain_s", DRAIN_S)
    if dialect.drain:
        drain_s = drain_s if known.has_flag(dialect.drain, spec["flags"], version) else 0
        args.update({dialect.drain: drain_s} if drain_s else {})
    env = without_nulls(overlay(layers["env"], own_env))
    merged = {
        "args": {name: args[name] for name in args if name not in dialect.sizes.values()},
        "env": env,
    }
    refused = rendering.refusals(
        {**merged, "args": {**merged["args"], **_size_flags(dialect, sizes)}},
        rules,
        version,
        sizes["data"],
    )
    # What a rule has named needs no second message.
    passed = {path.partition(".")[2] for path in refused}
    unchecked = {_as_written(name, dialect) for name in said.get("muster_engine_unchecked", [])}
    about = (spec["name"], version, passed | unchecked)
    env_names = spec.get("env_names", {})
    open_secrets = secrets.in_environment(env, env_names.get("names", {}))
    open_secrets += secrets.in_flags(merged["args"])
    if open_secrets:
        # Alone: what else is wrong with a value is said with the value.
        return None, [f"{cluster}: {text}" for text in open_secrets]
    values, values_of = spec.get("values", {}), spec.get("values_of", "").split()
    bad_values, odd_values = known.wrong_values(merged["args"], values, values_of, *about)
    wrong = [
        *refused.values(),
        *bad_values,
        *known.unknown_flags(
            [*merged["args"], *sorted(idle["muster_engine_args"] - types.keys())],
            spec["flags"],
            *about,
        ),
        *keys.problems(merged["args"], spec.get("keys", {}), *about),
        *keys.said_twice(merged["args"], spec.get("same", {})),
        *known.inert_env(
            [*env, *sorted(idle["muster_engine_env"] - env_names.get("names", {}).keys())],
            env_names,
            *about,
        ),
        *known.wrong_texts(env, env_names, about[2]),
        *limits.problems(
            merged["args"],
            {name: types[name] for name in types if known.has_flag(name, spec["flags"], version)},
            bounds,
            *about[1:],
        ),
    ]
    about_model = recipe["model"]
    if "muster_weights_gb" in said:
        # Weights of another size are not the recipe's, and may be of any format.
        about_model = {**about_model, "format": None, "scale_block": None}
    context = contexts.context_of(about_model, merged["args"], dialect)
    too_long, lifted = contexts.problems(context, about_model, env, dialect)
    advised = advice.heed(
        recipe.get("advice", []),
        merged,
        sizes,
        context.longest,
        about_model,
        said.get("muster_device_memory_gb", recipe["platform"]["device_memory_gb"]),
    )
    wrong += contexts.miswritten(merged["args"], dialect)
    wrong += contexts.unchunked(context, merged["args"], dialect)
    wrong += [*too_long, *advised.errors]
    contradicted, idle_keys = keys.contradictions(merged["args"], sizes, context.longest)
    wrong += contradicted
    uncut, uneven = cuts.problems(about_model, merged["args"], sizes, dialect)
    # More nodes have made more ranks than anybody wrote.
    ranks = "" if dialect.sizes["data"] in own_args else said_by(said, "muster_replica_nodes")
    wrong = [f"{text}{ranks}" if text in refused.values() else text for text in wrong]
    wrong += [f"{text}{ranks}" for text in uncut]
    warnings += [*notes, *advised.warnings, *lifted, *uneven, *idle_keys]
    warnings += contexts.reshaped(merged["args"], dialect)
    warnings += [*odd_values, *known.unusual(merged["args"], spec.get("choices", {}))]
    if image:
        planned = mounts.mounts_of(recipe, said, model_path, draft_path)
        warnings += mounts.unmounted(merged["args"], planned)
    warnings += _idle_names(idle, unchecked, {**merged["args"], **env})
    if wrong:
        return None, [f"{cluster}: {text}" for text in wrong]
    return (
        Engine(
            version=version,
            dialect=dialect,
            install=install,
            image=image.name if image else None,
            digest=image.digest if image else None,
            derived=derive(image.name, spec["patches"]) if image and spec.get("patches") else None,
            venv=venv,
            model=model,
            model_path=model_path,
            draft_path=draft_path,
            args=merged["args"],
            env=env,
            drain_s=drain_s,
            tensor=sizes["tensor"],
            data=sizes["data"],
            prefill=sizes["prefill_context"],
            context=context,
            features=_features(features, spec.get("switches", {}), args),
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
    whose = "muster_engine_version" if "muster_engine_version" in said else "its own engine.version"
    text = (
        f"{recipe['name']} holds for {spec['name']} {spec['holds_for']}, not for {whose} {version}"
    )
    if not said.get("muster_engine_version_unproven"):
        return [
            f"{deployment.cluster}: {text}: choose a version it holds for, or set "
            "muster_engine_version_unproven: true"
        ]
    warnings.append(f"{text}; accepted by muster_engine_version_unproven")
    return []


def _venv(
    recipe: Recipe, deployment: Deployment, version: str, install: str
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the environment that an install without a container makes.

    Its name holds a hash of what goes into it, so that a changed one is made beside the old.
    """
    if install != "venv":
        return None, []
    spec, said = recipe["engine"]["venv"], deployment.settings
    chosen = said.get("muster_wheel_channel", next(iter(spec["channels"])))
    if chosen not in spec["channels"]:
        close = nearest(chosen, spec["channels"])
        return None, [
            f"{deployment.cluster}: muster_wheel_channel: {recipe['name']} has no {chosen!r}: "
            f"{close}"
        ]
    channel = {
        key: [_of_version(text, version) for text in texts]
        for key, texts in spec["channels"][chosen].items()
    }
    request = {
        "python": spec["python"],
        "requirements": said.get("muster_wheel_requirements", channel["requirements"]),
        "index_urls": said.get("muster_wheel_index_urls", channel.get("index_urls", [])),
        "torch_backend": spec.get("torch_backend"),
        "find_links": said.get("muster_wheel_dir"),
    }
    errors = [
        f"{deployment.cluster}: {name}: the user or password of a URL would stand in the plan: "
        "leave it out, and put it into a .netrc on the nodes"
        for name, key in (
            ("muster_wheel_index_urls", "index_urls"),
            ("muster_wheel_requirements", "requirements"),
        )
        if secrets.in_urls(request[key])
    ]
    if errors:
        return None, errors
    text = json.dumps(request, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"{recipe['engine']['name']}-{chosen}-{digest}"
    path = f"{VENVS}/{name}"
    wrong = request_problem(path, Request(**request))
    if wrong:
        own = wrong.startswith(("requirements", "index_urls"))
        where = "muster_wheel_" if own else "the recipe's engine.venv: "
        errors.append(f"{deployment.cluster}: {where}{wrong}")
    engine = recipe["engine"]["name"]
    for text in request["requirements"]:
        other = _pinned(text, engine)
        if other and versions.parse(other)[0] != versions.parse(version)[0]:
            errors.append(
                f"{deployment.cluster}: muster_wheel_requirements: {text}, and the plan is for "
                f'{engine} {version}: set muster_engine_version: "{other}", or correct it'
            )
    if errors:
        return None, errors
    return {"name": name, "path": path, "channel": chosen, **request}, []


def _of_version(text: str, version: str) -> str:
    """Fill a version in; its local part only where a requirement names none of its own."""
    whole = "==" in text and "+" not in text
    return text.replace("{version}", version if whole else versions.public(version))


def _pinned(requirement: str, engine: str) -> str | None:
    """Return the version that a requirement pins the engine to, None where it pins none."""
    name, _equals, version = requirement.partition("==")
    version = version.partition(";")[0].strip()
    try:
        versions.parse(version)
    except ValueError:
        return None
    return version if name.partition("[")[0].strip().lower() == engine else None


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


def _size_flags(dialect: Dialect, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the flags of the sizes, as far as they are written."""
    return {
        flag: sizes[kind]
        for kind, flag in dialect.sizes.items()
        if kind != "prefill_context" or sizes[kind] > 1
    }


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
    recipe: Recipe, said: Mapping[str, Any], dialect: Dialect
) -> tuple[dict[str, Any], list[str], str | None, list[str]]:
    """Return the recipe's flags and environment with its switches set, and what follows.

    That is the features, the folder of the draft weights if they are used, and warnings.
    """
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
    if "speculative" not in recipe:
        return {"args": args, "env": env}, features, None, []
    draft = said.get("muster_draft_model_path")
    if draft:
        args["speculative-config"] = {**recipe["speculative"], "model": draft}
        return {"args": args, "env": env}, features, draft, []
    note = "speculative decoding is off: muster_draft_model_path does not name its draft weights"
    return {"args": args, "env": env}, features, None, [note]


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


def _as_written(name: str, dialect: Dialect) -> str:
    """Return a name of muster_engine_unchecked as the plan has it: FLAG, FLAG.KEY or ENV_NAME."""
    flag, dot, key = name.partition(".")
    if flag.isupper():
        return name
    flag = flag.removeprefix("--").replace("_", "-")
    return f"{dialect.spellings.get(flag, flag)}{dot}{key}"


def _idle_nulls(own: Mapping[str, Any], others: Collection[str]) -> set[str]:
    """Return the names whose null removes nothing of what others set."""
    return {name for name, value in own.items() if value is None and name not in others}


def _idle_names(
    nulls: Mapping[str, Collection[str]], unchecked: Collection[str], merged: Mapping[str, Any]
) -> list[str]:
    """Return what to know of names that remove nothing, or let nothing pass."""
    found = [
        f"{setting}: {', '.join(sorted(names))} (null, and the recipe does not set it)"
        for setting, names in nulls.items()
        if names
    ]
    unused = sorted(name for name in unchecked if name.partition(".")[0] not in merged)
    if unused:
        found.append(f"muster_engine_unchecked: {', '.join(unused)} (nothing sets it)")
    return [f"without effect here: {text}" for text in found]


def _filled(value: Any, profiles: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, profiles) for key, item in value.items()}
    return value.replace("{profiler_dir}", profiles) if isinstance(value, str) else value


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
