# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would put a secret into the plan, which everybody on the nodes can read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import texts_in

_HUB = re.compile(r"(?:HF|HUGGING_?FACE)_.*TOKEN")
# Shorter ones are switches and numbers.
_SHORTEST = 6


def in_environment(env: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return an error for each variable whose name or value is a secret's.

    Args:
        env: The environment of an engine.
        known: Names that the engine reads and that carry none.
    """
    errors = []
    for name, value in env.items():
        if _names_one(name) and name not in known and len(value) >= _SHORTEST:
            errors.append(f"{name} would stand in the plan: {_remedy(name)}")
        elif _shows_one(value):
            errors.append(f"{name} holds a secret, which would stand in the plan: {_remedy(name)}")
    return errors


def in_flags(args: Mapping[str, Any]) -> list[str]:
    """Return an error for each flag, or key inside one, whose name or value is a secret's."""
    return [
        f"{path} holds a secret, which would stand in the plan and in the engine's command line: "
        "keep it in a file on the nodes"
        for path, value in texts_in(args)
        if _shows_one(value) or ("." in path and _names_one(path) and len(value) >= _SHORTEST)
    ]


def in_urls(urls: Collection[str]) -> bool:
    """Tell whether one of some URLs has a user or password in it."""
    return any(redaction.without_users(url) != url for url in urls)


def _names_one(name: str) -> bool:
    return bool(redaction.value({name: "x"})[name] == redaction.SECRET)


def _shows_one(text: str) -> bool:
    """Tell whether a text has the shape of a secret; one with a prompt's words is none."""
    return any(redaction.SECRET in redaction.line(word) for word in text.split())


def _remedy(name: str) -> str:
    if _HUB.fullmatch(name.upper()):
        return (
            "put it into a file on the nodes, mount that with muster_extra_mounts and name it in "
            "HF_TOKEN_PATH, or bring the weights to the nodes (muster_model_path)"
        )
    return "keep it in a file on the nodes"
