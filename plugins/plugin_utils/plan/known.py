# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine version knows: its flags, their values, its variables.

An engine refuses an unknown flag or value when it starts, and says nothing of an unknown variable:
all are found here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest, shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.rendering import look

# Name to type, to versions, or to {type, versions}.
Flags = Mapping[str, Any]
_TYPES = ("bool", "float", "int", "ints", "json", "list", "map", "str", "switch")


def flag_types(flags: Flags) -> dict[str, str]:
    """Return the type of each value, whatever the version; "" for one of several types."""
    return {
        name: entry["type"] if isinstance(entry, Mapping) else entry if entry in _TYPES else ""
        for name, entry in flags.items()
    }


def has_flag(name: str, flags: Flags, version: str) -> bool:
    """Tell whether this version has a flag."""
    return acts(having(flags), name, version)


def having(flags: Flags) -> dict[str, str]:
    """Return by name the versions that have it."""
    return {
        name: entry["versions"] if isinstance(entry, Mapping) else "*" if entry in _TYPES else entry
        for name, entry in flags.items()
    }


def unknown_flags(
    names: Iterable[str], flags: Flags, engine: str, version: str, unchecked: Collection[str]
) -> list[str]:
    """Return an error for each flag that this version does not have."""
    there = having(flags)
    what = f"flag of {engine} {version}"
    missing = [name for name in names if name not in unchecked and not acts(there, name, version)]
    return [
        f"--{name} is no {what} by itself: write {name.removeprefix('no-')}: false"
        if acts(there, name.removeprefix("no-"), version)
        else unknown(f"--{name}", name, there, what, "a flag", version)
        for name in missing
    ]


def inert_env(
    env: Iterable[str],
    env_names: Mapping[str, Any],
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> list[str]:
    """Return an error for each variable with an engine's prefix that this version does not read."""
    prefixes, known = tuple(env_names.get("prefixes", ())), having(env_names.get("names", {}))
    return [
        unknown(name, name, known, f"variable that {engine} {version} reads", "a variable", version)
        for name in env
        if name.startswith(prefixes or ("\0",))
        and name not in unchecked
        and not acts(known, name, version)
    ]


def wrong_texts(
    env: Mapping[str, str], env_names: Mapping[str, Any], unchecked: Collection[str]
) -> list[str]:
    """Return an error for each variable whose text the engine cannot read as what it is."""
    words: dict[str, tuple[Callable[[str], Any], str]] = {
        "int": (int, "a whole number (1 and 0 for on and off)"),
        "float": (float, "a number"),
        "bool": (_one_of("true", "yes", "y", "1", "false", "no", "n", "0"), "true or false"),
        "switch": (_one_of("true", "1", "false", "0"), "true or false (or 1 or 0)"),
    }
    errors = []
    for name, kind in flag_types(env_names.get("names", {})).items():
        if name not in env or name in unchecked or kind not in words:
            continue
        read, expected = words[kind]
        try:
            read(env[name])
        except ValueError:
            errors.append(f"{name} has to be {expected}, not {shown(env[name])}")
    return errors


def _one_of(*texts: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        if text.lower() not in texts:
            raise ValueError

    return read


def wrong_values(
    args: Mapping[str, Any],
    values: Mapping[str, str],
    values_of: Collection[str],
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> tuple[list[str], list[str]]:
    """Return errors and warnings about values of flags, and of keys in their JSON, with choices.

    It is a warning where a plugin may bring the value, and where other versions take it and this
    one's choices are not known.

    Args:
        args: Flags by name.
        values: FLAG=VALUE or FLAG.KEY=VALUE to the versions that take it, FLAG=* to those that
            take others, too.
        values_of: The versions whose choices these are.
        engine: The engine's name.
        version: Its version.
        unchecked: Names of flags that pass.
    """
    errors, warnings = [], []
    choices: dict[str, dict[str, str]] = {}
    for name, range_ in values.items():
        flag, _equals, value = name.partition("=")
        choices.setdefault(flag, {})[value] = range_
    known_here = not {version, versions.release(version)}.isdisjoint(values_of)
    for flag in choices:
        value = look(args, flag)
        if value is None or flag in unchecked or flag.partition(".")[0] in unchecked:
            continue
        others_pass = acts(choices[flag], "*", version)
        listed = {value: range_ for value, range_ in choices[flag].items() if value != "*"}
        here = [value for value in listed if acts(listed, value, version)]
        items = value if isinstance(value, list) else [value]
        said_here = [item for item in items if isinstance(item, (str, int))]
        for text in [str(item) for item in said_here if not isinstance(item, bool)]:
            # What fills a class from JSON, or lets others pass, reads members in any spelling.
            loose = others_pass or "." in flag
            if text in here or not here or (loose and _folded(text) in map(_folded, here)):
                continue
            # Members of an enumeration are written large, and taken small, too.
            alike = text.upper() if any(map(str.isupper, here)) else text
            # A number is no misspelling of the next one.
            close = f"known: {', '.join(here)}" if text.isdecimal() else nearest(alike, here)
            takers = f"versions {listed[text]} do" if text in listed else close
            said = f"--{flag}: {text} is no value that {engine} {version} takes"
            if others_pass:
                warnings.append(f"{said}, unless a plugin brings it: {takers}")
            elif text in listed and not known_here:
                warnings.append(f"{said}, as far as it is known: {takers}")
            else:
                errors.append(f"{said}: {takers} (muster_engine_unchecked: [{flag}] lets it pass)")
    return errors, warnings


def unusual(args: Mapping[str, Any], choices: Mapping[str, Collection[str]]) -> list[str]:
    """Return a question about each flag whose value is none of those that go with the model."""
    return [
        f"{flag} {args[flag]} is none of those for this model: {nearest(str(args[flag]), usual)}"
        for flag, usual in choices.items()
        if args.get(flag) and args[flag] not in usual
    ]


def _folded(value: str) -> str:
    return value.lower().replace("-", "_")


def acts(known: Mapping[str, str], name: str, version: str) -> bool:
    """Tell whether a version has a name."""
    return name in known and versions.holds(version, known[name])


def unknown(
    where: str, name: str, known: Mapping[str, str], what: str, there: str, version: str
) -> str:
    """Return an error for a name that a version does not have.

    Args:
        where: The name as the operator wrote it.
        name: The name as the table has it.
        known: The table, names to versions.
        what: What it should have been.
        there: What it is in the versions that have it.
        version: The engine's version.
    """
    if name in known:
        return (
            f"{where} is no {what}: it is {there} in versions {known[name]}: null removes it; or "
            "change muster_engine_version"
        )
    here = [other for other in known if acts(known, other, version)]
    return f"{where} is no {what}: {nearest(name, here)} (muster_engine_unchecked lets a name pass)"
