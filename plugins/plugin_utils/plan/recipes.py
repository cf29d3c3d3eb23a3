# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: merged with what they extend, and checked against recipes/schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, nearest

try:
    import jsonschema
except ImportError:
    HAS_JSONSCHEMA = False
else:
    HAS_JSONSCHEMA = True

# Lists of independent things add up from base to recipe. All other lists are one value each, and
# the last one given wins.
ADDING_LISTS = ("advice", "features", "figures", "mounts", "rules", "warnings")

# A whole recipe, of the shape of recipes/schema.json.
Recipe = Mapping[str, Any]


def normalise_args(args: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Spell all flags of one layer alike; two spellings of one flag are an error."""
    result: dict[str, Any] = {}
    for key, value in args.items():
        name = key.replace("_", "-")
        if name in result:
            raise PlanError([f"{where}: {key} is given twice, with hyphens and underscores"])
        result[name] = value
    return result


def overlay(
    base: Mapping[str, Any], top: Mapping[str, Any], adding: Sequence[str] = ()
) -> dict[str, Any]:
    """Lay one map over another: maps merge, lists of the given names add up.

    Null stays, as the mark of removal.
    """
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            # The keys inside a flag's value are the engine's own.
            result[key] = overlay(old, value, () if key in ("args", "env") else adding)
        elif key in adding and isinstance(value, list) and isinstance(old, list):
            result[key] = old + [item for item in value if item not in old]
        else:
            result[key] = value
    return result


def without_nulls(value: Any) -> Any:
    """Drop the keys of a map that an overlay set to null."""
    if isinstance(value, Mapping):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


class Source(Protocol):
    """Where recipe files come from."""

    def names(self) -> list[str]:
        """Return the names of all files, bases among them."""

    def read(self, name: str) -> tuple[str, Any] | None:
        """Return where a file is and what it holds, None where there is none.

        Raises:
            PlanError: The file cannot be read.
        """


class RecipeBook:
    """The recipes of a source, each merged with what it extends."""

    def __init__(self, source: Source, schema: Mapping[str, Any]) -> None:
        self.source = source
        self.schema = schema
        # Bases are shared by many recipes.
        self._read_before: dict[str, tuple[str, dict[str, Any]]] = {}

    def names(self) -> list[str]:
        """Return the names of all recipes, bases left out."""
        return [name for name in self.source.names() if "/" in name and not name.startswith("_")]

    def variants(self, name: str) -> list[str]:
        """Return the variants of a recipe, its default first.

        Raises:
            PlanError: The recipe is unknown, or one of its files is wrong.
        """
        self._known(name)
        return list(self._merged(name).get("variants") or {"default": {}})

    def load(self, name: str, variant: str | None = None) -> dict[str, Any]:
        """Return a whole recipe with its variant laid over it.

        The result has the added keys name and variant.

        Raises:
            PlanError: The recipe or variant is unknown, or one of its files is wrong.
        """
        self._known(name)
        merged = self._merged(name)
        variants = merged.pop("variants", None) or {"default": {}}
        chosen = variant or next(iter(variants))
        if chosen not in variants:
            raise PlanError(
                [f"recipe {name} has no variant {chosen!r}: {nearest(chosen, variants)}"]
            )
        over = {key: value for key, value in variants[chosen].items() if key != "summary"}
        merged = overlay(merged, over, ADDING_LISTS)
        complete = {"$defs": self.schema["$defs"], "$ref": "#/$defs/complete"}
        self._validate(merged, complete, f"{name} (variant {chosen})")
        return {**merged, "name": name, "variant": chosen}

    def _known(self, name: str) -> None:
        if name not in self.names():
            raise PlanError([f"recipe {name!r} is unknown: {nearest(name, self.names())}"])

    def _merged(self, name: str) -> dict[str, Any]:
        """Return one file laid over all that it extends."""
        result: dict[str, Any] = {}
        for part in self._lineage(name, ()):
            _path, document = self._read(part)
            result = overlay(result, document, ADDING_LISTS)
        del result["extends"]
        return result

    def _lineage(self, name: str, below: tuple[str, ...], extends: str = "") -> list[str]:
        """Return the files that one is made of, itself last.

        One that several extend counts once, where it first comes: laid on a second time, it would
        undo what those in between have changed.

        Args:
            name: The file's name.
            below: The files that extend it, one by way of the other.
            extends: The path of the last of these.
        """
        if name in below:
            raise PlanError([f"recipe {below[0]}: extends itself by way of {' -> '.join(below)}"])
        path, document = self._read(name, extends)
        found: dict[str, None] = {}
        for base in document["extends"]:
            found |= dict.fromkeys(self._lineage(base, (*below, name), path))
        return [*found, name]

    def _read(self, name: str, extends: str = "") -> tuple[str, dict[str, Any]]:
        """Return a file's path and content, without that of the files which it extends."""
        if name not in self._read_before:
            found = self.source.read(name)
            if found is None:
                raise PlanError([f"{extends}: extends {name!r}, for which there is no file"])
            path, document = found
            if not isinstance(document, dict):
                raise PlanError([f"{path}: is not a map of recipe keys"])
            self._validate(document, self.schema, path)
            self._read_before[name] = path, self._normalised(document, path)
        return self._read_before[name]

    def _normalised(self, document: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Spell flags alike in all places of a file that hold some."""
        result = {"extends": [], **document}
        if "args" in result:
            result["args"] = normalise_args(result["args"], f"{where}: args")
        if "variants" in result:
            result["variants"] = {
                name: self._normalised(body, f"{where}: variants.{name}")
                for name, body in result["variants"].items()
            }
        return result

    @staticmethod
    def _validate(document: Any, schema: Mapping[str, Any], where: str) -> None:
        if not HAS_JSONSCHEMA:
            raise PlanError(
                ["the controller's Python lacks the package jsonschema: install it beside ansible"]
            )
        try:
            # A round trip through JSON finds what YAML allows and a plan cannot hold.
            plain = json.loads(json.dumps(document, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise PlanError(
                [f"{where}: holds a value that JSON has no form for: {error}"]
            ) from None
        if plain != document:
            raise PlanError([f"{where}: all keys have to be text"])
        errors = jsonschema.Draft202012Validator(schema).iter_errors(plain)
        messages = [f"{where}: {line}" for error in errors for line in _explain(error)]
        if messages:
            raise PlanError(sorted(messages))


def _explain(error: Any) -> Iterable[str]:
    """Say one schema violation with its key path and what would be right."""
    here = ".".join(str(part) for part in error.absolute_path)
    at = f"{here}: " if here else ""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for key in sorted(set(error.instance) - set(known)):
            yield f"{f'{here}.' if here else ''}{key} is an unknown key: {nearest(key, known)}"
    elif error.validator == "required":
        yield f"{at}{error.message.replace(' is a required property', ' is missing')}"
    elif error.validator == "not":
        yield f"{at}has no place here"
    else:
        yield f"{at}{error.message}"
