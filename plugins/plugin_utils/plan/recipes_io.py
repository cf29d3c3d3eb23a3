# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe files of the collection and of an operator's own folders."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import RecipeBook

RECIPES = Path(__file__).resolve().parents[3] / "recipes"

# The same as safe_load, ten times as fast where PyYAML was built with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class Folders:
    """Folders of recipe files; one that comes earlier hides names of later ones."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)

    def names(self) -> list[str]:
        """Return the names of all files, bases among them."""
        found = set()
        for folder in self.folders:
            for parent, _dirs, files in os.walk(folder):
                for file in files:
                    stem, extension = os.path.splitext(file)
                    if extension == ".yml":
                        path = os.path.relpath(os.path.join(parent, stem), folder)
                        found.add(path.replace(os.sep, "/"))
        return sorted(found)

    def read(self, name: str) -> tuple[str, Any] | None:
        """Return the path of a file and what it holds, None where there is none.

        Raises:
            PlanError: The file cannot be read.
        """
        paths = [os.path.join(folder, f"{name}.yml") for folder in self.folders]
        path = next(filter(os.path.isfile, paths), None)
        if path is None or not _NAME.fullmatch(name):
            return None
        try:
            with open(path, encoding="utf-8") as stream:
                return path, yaml.load(stream, Loader=_LOADER)  # noqa: S506 (a safe one)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise PlanError([f"{path}: cannot be read: {' '.join(str(error).split())}"]) from None


def recipe_book(folders: Sequence[str] = ()) -> RecipeBook:
    """Return the recipes of an operator's folders and of the collection.

    Raises:
        PlanError: One of them is no folder.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            raise PlanError([f"muster_recipes_path: {folder} is not a folder on the controller"])
    return RecipeBook(Folders([*folders, str(RECIPES)]), read_schema())


def read_schema() -> dict[str, Any]:
    """Return the schema that recipe files are checked against."""
    schema: dict[str, Any] = json.loads((RECIPES / "schema.json").read_text(encoding="utf-8"))
    schema["properties"]["platform"]["properties"]["vendor"]["enum"] = list(VENDORS)
    return schema
