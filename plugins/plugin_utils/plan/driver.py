# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The oldest driver for a deployment, by its devices and by the CUDA of its engine. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.cuda import (
    driver_needs,
    library_floor,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import known, versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.engine import Engine
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import Recipe

# As tags and local versions name it: cu129, cuda12.9.1, cuda-13.0, cu13.
_CUDA = re.compile(
    r"(?<![a-z0-9])cu(?:da)?-?(1[1-9]|[2-9][0-9])(?:\.?([0-9]))?(?![0-9])", re.IGNORECASE
)


class Build(NamedTuple):
    """What an engine was built for.

    Fields:
        cuda: MAJOR.MINOR, or MAJOR where a name says no more; None where nothing is known of it.
        why: How that is known, in words.
        sure: Whether it is known and not assumed.
        release: The row of its version in the engine's table, if there is one.
        published: Whether it is what that release publishes by default.
    """

    cuda: str | None
    why: str
    sure: bool
    release: Mapping[str, Any] | None = None
    published: bool = False


def driver_of(recipe: Recipe, engine: Engine) -> dict[str, Any] | None:
    """Return what a deployment asks of the driver, the highest floor first; None for nothing.

    The devices' own floor holds whatever the engine is built for.
    """
    platform = recipe["platform"]
    needs, unknown = driver_needs(None, "", sure=True), ""
    if platform["vendor"] == "nvidia":
        build = build_of(recipe, engine)
        compat, instead = _compat(recipe, engine, build), _instead(recipe, engine, build)
        needs = driver_needs(build.cuda, build.why, build.sure, compat, instead)
        if not needs["floors"]:
            unknown = f"; {build.why}{', of which no driver is known' if build.cuda else ''}"
    floors = needs["floors"]
    if "min_driver" in platform:
        reason = platform.get("min_driver_reason", f"{platform['title']} wants it") + unknown
        own = {"floor": platform["min_driver"], "reason": reason, "sure": True, "of_cuda": False}
        floors = sorted([*floors, own], key=lambda one: leading_numbers(one["floor"]), reverse=True)
    elif platform["vendor"] != "nvidia":
        return None
    return {**needs, "floors": floors}


def build_of(recipe: Recipe, engine: Engine) -> Build:
    """Return what CUDA the engine of a deployment is built for."""
    spec = recipe["engine"]
    table = spec.get("cuda")
    name = f"{spec['name']} {engine.version}"
    venv = engine.venv or {}
    if engine.image is not None:
        what = f"the image {engine.image}"
        told = _CUDA.search(_name_and_tag(engine.image)[1])
        default = table is not None and _is_default(engine.image, table, engine.version)
        kind = "image"
    else:
        requirements, indexes = venv["requirements"], venv["index_urls"]
        what = f"what is installed ({', '.join(requirements)})"
        told = next(filter(None, (_told_by(text, spec["name"]) for text in requirements)), None)
        told = told or next(filter(None, map(_told_by_index, indexes)), None)
        pinned = f"{spec['name']}=={engine.version}" in requirements
        default = pinned and not indexes and not venv["find_links"]
        kind = "wheels"
    row, newer = _release(table, engine.version) if table else (None, False)
    if told:
        cuda = f"{told[1]}.{told[2]}" if told[2] else told[1]
        return Build(cuda, f"{what} says by its name that it is built for CUDA {cuda}", True, row)
    if row is None:
        return Build(None, f"it is not known which CUDA {name} is built for", False)
    cuda = row[kind]
    if newer:
        why = (
            f"{what} is taken for one of CUDA {cuda}, as {spec['name']} {table['known_to']} is one"
        )
        return Build(cuda, why, False, row)
    if not default:
        why = f"{what} is taken for one of CUDA {cuda}, as {name} itself is one"
        return Build(cuda, why, False, row)
    sure = kind not in row.get("inferred", [])
    return Build(cuda, f"{what} is built for CUDA {cuda}", sure, row, published=True)


def _is_default(image: str, table: Mapping[str, Any], version: str) -> bool:
    """Tell whether an image is the engine's own of this version, whichever registry it is from."""
    name, tag = _name_and_tag(image)
    return f"/{name}".endswith(f"/{table['image']}") and tag in (version, f"v{version}")


def _name_and_tag(image: str) -> tuple[str, str]:
    path, slash, last = image.rpartition("/")
    name, _colon, tag = last.partition(":")
    return f"{path}{slash}{name}", tag


def _told_by(requirement: str, engine: str) -> re.Match[str] | None:
    """Find the CUDA in a requirement such as vllm==0.22.1+cu129."""
    name, _equals, version = requirement.partition("==")
    # The CUDA of torch, or of another package, is not the engine's.
    return _CUDA.search(version) if name.split("[")[0].strip() == engine else None


def _told_by_index(url: str) -> re.Match[str] | None:
    """Find the CUDA in the address of an index of the engine's own wheels."""
    return _CUDA.search(url) if re.match(r"https?://wheels\.vllm\.ai/", url) else None


def _release(table: Mapping[str, Any], version: str) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the row of a version, and whether the version is newer than what was looked at."""
    newer = versions.parse(version) > versions.parse(table["known_to"])
    rows = (row for row in table["releases"] if versions.holds(version, row["versions"]))
    return next(rows, None), newer


def _compat(recipe: Recipe, engine: Engine, build: Build) -> str:
    """Return whether forward compatibility is on, off or always on; none without a switch."""
    if engine.image is not None and (build.release or {}).get("compat"):
        return "always"
    spec = recipe["engine"]
    variable = spec.get("cuda", {}).get("compat_env", "")
    having = known.having(spec.get("env_names", {}).get("names", {})).get(variable)
    if not having or not versions.holds(engine.version, having):
        return "none"
    return "on" if engine.env.get(variable, "").strip().lower() in ("1", "true") else "off"


def _instead(recipe: Recipe, engine: Engine, build: Build) -> dict[str, str] | None:
    """Return the build of the same release that the oldest driver runs, if that is another."""
    table = recipe["engine"].get("cuda")
    if not build.release or not build.cuda or not build.published:
        return None
    floor = library_floor(build.cuda)
    for name in build.release.get("also", []):
        cuda = f"{name[2:4]}.{name[4]}"
        older = library_floor(cuda)
        if floor and older and leading_numbers(older) < leading_numbers(floor):
            if engine.image is not None:
                how = f"the image {engine.image}-{name} (muster_image)"
            elif "wheels" in table:
                index = table["wheels"].replace("{version}", engine.version)
                how = f"wheels of {index.replace('{build}', name)} (muster_wheel_index_urls)"
            else:
                return None
            return {"cuda": cuda, "floor": older, "how": how}
    return None
