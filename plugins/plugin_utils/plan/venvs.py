# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's environment without a container: what goes into it, by whose hash it is named."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    Request,
    request_problem,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import secrets, versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import Deployment
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import Recipe

VENVS = "/opt/muster/venvs"


def venv_of(
    recipe: Recipe, deployment: Deployment, version: str
) -> tuple[dict[str, Any] | None, list[str], list[str]]:
    """Return the environment of an install without a container, what is wrong, and what to know.

    Its name holds a hash of what goes into it, so that a changed one is made beside the old.
    """
    spec, said = recipe["engine"]["venv"], deployment.settings
    chosen = said.get("muster_wheel_channel", next(iter(spec["channels"])))
    if chosen not in spec["channels"]:
        close = nearest(chosen, spec["channels"])
        return (
            None,
            [
                f"{deployment.cluster}: muster_wheel_channel: {recipe['name']} has no {chosen!r}: "
                f"{close}"
            ],
            [],
        )
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
        return None, errors, []
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
        return None, errors, []
    unpinned = not any("==" in text for text in request["requirements"])
    told = (
        f"the channel {chosen} pins no version, and the command line is rendered for {engine} "
        f"{version}: set muster_engine_version to the one that it brings"
    )
    made = {"name": name, "path": path, "channel": chosen, **request}
    return made, [], [told] if unpinned else []


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
