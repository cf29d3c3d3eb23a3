# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine version knows: its flags, their values, the keys inside them, its variables.

An engine refuses an unknown flag or value when it starts, and says nothing of an unknown key or
variable: all are found here, before anything starts.
"""

from __future__ import annotations

from typing import Any, Collection, Iterable, Iterator, Mapping

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions

# Name to type, or to {type, versions}.
Flags = Mapping[str, Any]


def flag_types(flags: Flags) -> dict[str, str]:
    """Return the type of each flag's value, whatever the version."""
    return {
        name: entry["type"] if isinstance(entry, Mapping) else entry
        for name, entry in flags.items()
    }


def has_flag(name: str, flags: Flags, version: str) -> bool:
    """Tell whether this version has a flag."""
    return _acts(_having(flags), name, version)


def _having(flags: Flags) -> dict[str, str]:
    """Return by flag the versions that have it."""
    return {
        name: entry["versions"] if isinstance(entry, Mapping) else "*"
        for name, entry in flags.items()
    }


def unknown_flags(
    names: Iterable[str], flags: Flags, engine: str, version: str, unchecked: Collection[str]
) -> list[str]:
    """Return an error for each flag that this version does not have."""
    having = _having(flags)
    what = f"flag of {engine} {version}"
    unknown = [name for name in names if name not in unchecked and not _acts(having, name, version)]
    return [
        f"--{name} is no {what} by itself: write {name.removeprefix('no-')}: false"
        if _acts(having, name.removeprefix("no-"), version)
        else _message(f"--{name}", name, having, what, "a flag", version)
        for name in unknown
    ]


def inert_keys(
    args: Mapping[str, Any],
    keys: Mapping[str, Mapping[str, str]],
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> list[str]:
    """Return an error for each key inside a flag's map that this version does not act on."""
    errors = []
    for flag, known in keys.items():
        value = args.get(flag)
        if not isinstance(value, Mapping):
            continue
        open_ended = tuple(name[:-1] for name in known if name.endswith(".*"))
        for path in _paths(value):
            passed = f"{flag}.{path}" in unchecked or flag in unchecked
            if passed or path.startswith(open_ended) or _acts(known, path, version):
                continue
            errors.append(
                _message(
                    f"--{flag}: {path}",
                    path,
                    known,
                    f"key that {engine} {version} acts on",
                    "a key that acts",
                    version,
                )
            )
    return errors


def inert_env(
    env: Iterable[str],
    env_names: Mapping[str, Any],
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> list[str]:
    """Return an error for each variable with an engine's prefix that this version does not read."""
    prefixes, known = tuple(env_names.get("prefixes", ())), env_names.get("names", {})
    return [
        _message(
            name, name, known, f"variable that {engine} {version} reads", "a variable", version
        )
        for name in env
        if name.startswith(prefixes or ("\0",))
        and name not in unchecked
        and not _acts(known, name, version)
    ]


def wrong_values(
    args: Mapping[str, Any],
    values: Mapping[str, str],
    values_of: Collection[str],
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> tuple[list[str], list[str]]:
    """Return errors and warnings about values that flags with fixed choices do not take.

    It is a warning where a plugin may bring the value, and where other versions take it and this
    one's choices are not known.

    Args:
        args: Flags by name.
        values: FLAG=VALUE to the versions that take it, FLAG=* to those that take others, too.
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
    for flag in [flag for flag in args if flag in choices and flag not in unchecked]:
        others_pass = _acts(choices[flag], "*", version)
        having = {value: range_ for value, range_ in choices[flag].items() if value != "*"}
        here = [value for value in having if _acts(having, value, version)]
        folded = {value.lower() for value in here}
        items = args[flag] if isinstance(args[flag], list) else [args[flag]]
        said_here = [item for item in items if isinstance(item, (str, int))]
        for text in [str(item) for item in said_here if not isinstance(item, bool)]:
            if text in here or not here or (others_pass and text.lower() in folded):
                continue
            # Members of an enumeration are written large, and taken small, too.
            alike = text.upper() if any(map(str.isupper, here)) else text
            # A number is no misspelling of the next one.
            close = f"known: {', '.join(here)}" if text.isdecimal() else nearest(alike, here)
            takers = f"versions {having[text]} do" if text in having else close
            said = f"--{flag}: {text} is no value that {engine} {version} takes"
            if others_pass:
                warnings.append(f"{said}, unless a plugin brings it: {takers}")
            elif text in having and not known_here:
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


def _acts(known: Mapping[str, str], name: str, version: str) -> bool:
    """Tell whether a version has a name."""
    return name in known and versions.holds(version, known[name])


def _message(
    shown: str, name: str, known: Mapping[str, str], what: str, having: str, version: str
) -> str:
    if name in known:
        return (
            f"{shown} is no {what}: it is {having} in versions {known[name]}: null removes it; or "
            "change muster_engine_version"
        )
    here = [other for other in known if _acts(known, other, version)]
    return f"{shown} is no {what}: {nearest(name, here)} (muster_engine_unchecked lets a name pass)"


def _paths(value: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted path of each key that holds no further map."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _paths(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}"
