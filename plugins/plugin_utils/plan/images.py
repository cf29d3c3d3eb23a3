# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's image: its name, its digest, and whether its tag goes with the planned version."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    ImageError,
    parse_reference,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions

# Builds tag their images with the version first: v0.18.0rc1-a3, 0.5.7-rocm700.
_TAGGED = re.compile(r"v?([0-9]+(?:\.[0-9]+){1,2}(?:rc[0-9]+)?(?:\.post[0-9]+)?)(?![0-9.])(.*)")
_MOVING = re.compile(r"latest|main|master|dev|nightly", re.IGNORECASE)


class Image(NamedTuple):
    """An image without its digest, and its digest if there is one."""

    name: str
    digest: str | None


def image_of(
    spec: Mapping[str, Any], said: Mapping[str, Any], version: str
) -> tuple[Image | None, list[str], list[str]]:
    """Return the engine's image, what is wrong with it, and what to know.

    Args:
        spec: A recipe's engine.
        said: The settings of the cluster: muster_image, if it is not the recipe's.
        version: The engine's version.
    """
    own = said.get("muster_image")
    text = own or spec["image"].replace("{version}", versions.public(version))
    try:
        parse_reference(text)
    except ImageError as error:
        return None, [f"engine.image of the recipe: {error}"], []
    name, _at, digest = text.partition("@")
    image = Image(name, digest or (None if own else spec.get("digest")))
    if not own:
        tagged = digest or ":" in _last(name)
        return image, [] if tagged else [f"engine.image of the recipe: {text} has no tag"], []
    errors, warnings = _against_version(image, spec, said, version)
    return image, errors, warnings


def _against_version(
    image: Image, spec: Mapping[str, Any], said: Mapping[str, Any], version: str
) -> tuple[list[str], list[str]]:
    """Hold an image's tag against the version that the command line is rendered for.

    The tag of a repository of the recipe's own name is sure to be that of the engine; that of
    another may be anything, and beside a digest it decides nothing.
    """
    reference = parse_reference(image.name)
    if image.digest and image.name == reference.repository:
        return [], []
    tag = reference.tag or ""
    recipes = parse_reference(spec["image"].replace("{version}", versions.public(version)))
    engines = _last(reference.repository) == _last(recipes.repository)
    planned = f"the plan is for {spec['name']} {version}"
    tagged = _TAGGED.fullmatch(tag)
    warnings = _foreign(image, spec.get("foreign_tags", []))
    if not tagged:
        unnamed = _MOVING.match(tag) or engines
        if not unnamed or image.digest or "muster_engine_version" in said:
            return [], warnings
        return [], [
            *warnings,
            f"muster_image: the tag {tag} names no version, and {planned}: set "
            "muster_engine_version to what the image carries, and a tag or digest that stays",
        ]
    build = _TAGGED.fullmatch(recipes.tag or "")
    if not warnings and engines and build and build[2] not in tagged[2]:
        warnings.append(
            f"muster_image: the recipe's own image is tagged {recipes.tag}, and {tag} may be built "
            "for other devices"
        )
    theirs, ours = versions.parse(tagged[1]), versions.parse(version)
    if theirs == ours or (not engines and theirs[0][0] != ours[0][0]):
        return [], warnings
    remedy = f'set muster_engine_version: "{tagged[1]}", or an image of {version}'
    text = f"muster_image: the tag {tag} says {tagged[1]}, and {planned}: {remedy}"
    if engines and theirs[0] != ours[0] and not image.digest:
        return [f"{text}; where the tag is wrong, name the image by its digest, too"], warnings
    return [], [*warnings, text]


def _foreign(image: Image, words: Collection[str]) -> list[str]:
    """Return a warning where an image's name or tag has a word for other devices, as rocm700."""
    parts = re.split(r"[-_.:]", _last(image.name))
    found = [part for part in parts if part in words or part.rstrip("0123456789") in words]
    return (
        [f"muster_image: {image.name} may be built for other devices ({found[0]})"] if found else []
    )


def _last(repository: str) -> str:
    return repository.rpartition("/")[2]
