# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the containers of engines mount, and which mounts cannot be, or give away the node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.paths import LOG_DIR, STATE_DIR
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import texts_in

# A mount over one of these hides what the engine's image has there, or Docker refuses it.
_SYSTEM = frozenset(
    [
        *("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin"),
        *("/sys", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local", "/usr/local/bin"),
        *("/usr/local/lib", "/usr/sbin", "/var"),
    ]
)
# What uninstall empties.
_OWN = (f"{STATE_DIR}/cache", LOG_DIR)
# Where an engine's image keeps its own files; a path elsewhere is most likely meant as the node's.
_IN_IMAGE = (
    "/app",
    "/opt",
    "/root",
    "/sgl-workspace",
    "/tmp",
    "/usr",
    "/vllm-workspace",
    "/workspace",
)
# Flags whose values are paths of URLs.
_OF_URLS = ("root-path", "endpoints")
_SOCKETS = frozenset(
    f"{folder}{socket}"
    for folder in ("/run", "/var/run")
    for socket in ("/docker.sock", "/containerd/containerd.sock")
)


class Mount(NamedTuple):
    """One mount, and the setting that it comes from."""

    setting: str
    source: str
    target: str
    options: str

    @property
    def text(self) -> str:
        """Return the mount as the plan writes it."""
        return ":".join(filter(None, (self.source, self.target, self.options)))


def mounts_of(
    recipe: Mapping[str, Any], said: Mapping[str, Any], model: str | None, draft: str | None
) -> list[Mount]:
    """Return the mounts of an engine's container; {unit} in them is not replaced.

    Args:
        recipe: The recipe.
        said: The settings of the cluster.
        model: The folder of the weights, None where there is none on the nodes.
        draft: The folder of the draft weights.
    """
    folders = (("muster_model_path", model, ":ro"), ("muster_draft_model_path", draft, ":ro"))
    profiles = said.get("muster_profiler_dir")
    texts = [("the recipe", text) for text in recipe["mounts"]]
    texts += [(name, f"{path}:{path}{mode}") for name, path, mode in folders if path]
    texts += [("muster_profiler_dir", f"{profiles}:{profiles}")] if profiles else []
    texts += [("muster_extra_mounts", text) for text in said.get("muster_extra_mounts", [])]
    found: dict[str, Mount] = {}
    for setting, text in texts:
        source, target, *options = text.split(":")
        found.setdefault(text, Mount(setting, source, target, "".join(options)))
    return list(found.values())


def problems(mounts: Sequence[Mount]) -> tuple[list[str], list[str]]:
    """Return which mounts cannot be, and which give a container more than it should have."""
    errors = []
    warnings = []
    at: dict[str, Mount] = {}
    for mount in mounts:
        target = mount.target.rstrip("/") or "/"
        before = at.setdefault(target, mount)
        if target in _SYSTEM:
            what = target if mount.source == mount.target else f"{mount.source} at {target}"
            errors.append(
                f"{mount.setting}: {what} would hide the container's own {target}: name a folder "
                "below it"
            )
        elif before is not mount:
            errors.append(
                f"{mount.setting}: {mount.source} is to be mounted at {target}, and so is "
                f"{before.source} ({before.setting}): a container has one mount there; change a "
                "target, or leave one out"
            )
        if mount.source in _SOCKETS or (mount.source == "/" and target not in _SYSTEM):
            warnings.append(f"{mount.setting}: {mount.text} gives the container the whole node")
    return errors, warnings


def unmounted(args: Mapping[str, Any], mounts: Sequence[Mount]) -> list[str]:
    """Return a warning for each path in the engine's flags that no mount brings in."""
    held = tuple(f"{place.rstrip('/')}/" for place in (*_IN_IMAGE, *(m.target for m in mounts)))
    return [
        f"{name}: no mount brings {path} into the container: muster_extra_mounts can, where the "
        "image does not hold it"
        for name, path in texts_in(args)
        if re.fullmatch(r"/[^\s/].*", path)
        and not f"{path}/".startswith(held)
        and not name.endswith(_OF_URLS)
    ]


def folder_problems(settings: Mapping[str, str | None]) -> list[str]:
    """Return which folders that settings name are none that hold weights or profiles alone."""
    errors = [
        f"{setting}: {path} is a folder of the system: name the one that is meant"
        for setting, path in settings.items()
        if path in _SYSTEM
    ] + [
        f"{setting}: {path} lies in {own}, which Muster fills and empties itself: choose another"
        for setting, path in settings.items()
        for own in _OWN
        if path and f"{path}/".startswith(f"{own}/")
    ]
    model = settings.get("muster_model_path")
    if model and model == settings.get("muster_draft_model_path"):
        errors.append(
            f"muster_draft_model_path: {model} is muster_model_path: draft weights are a model of "
            "their own"
        )
    return errors
