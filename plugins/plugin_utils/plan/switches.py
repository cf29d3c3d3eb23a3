# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables without the prefix muster_: those of a verb, and names that look like one of them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest

# What playbooks read themselves, beside the options of roles.
OF_PLAYBOOKS = (
    "drain_s",
    "drain_state",
    "observability_host",
    "plan_file",
    "report_look",
    "takeover_for_good",
    "uninstall_caches",
    "uninstall_images",
    "uninstall_logs",
)
# Prefixes under which nobody else's variables are likely to stand on a command line.
_OWN = ("accuracy", "bench", "observability", "soak", "sweep", "takeover", "uninstall")
# Prefixes that others use, too, but hardly for a run of the verb itself.
_OF_VERB = ("drain", "report", "restart", "rollback", "upgrade", "verify")
# The role, and its entry point, that does a verb, where they are not called like it.
_ENTRIES = {
    "restart": ("roll", "main"),
    "rollback": ("roll", "main"),
    "soak": ("bench", "soak"),
    "sweep": ("bench", "sweep"),
    "upgrade": ("roll", "main"),
}
# How alike a variable of an inventory has to be to a known one, which it then misspells.
_MISSPELT = 0.85

# By role the names of its options by entry point.
Options = Mapping[str, Mapping[str, Collection[str]]]


def suspects(verb: str, names: Iterable[str]) -> list[str]:
    """Return the names that stand for nothing but a setting of Muster's when this verb runs."""
    prefixes = {*_OWN, *({verb, _role(verb)[0]} if verb in _OF_VERB else ())}
    return sorted(name for name in names if name.partition("_")[0] in prefixes)


def unread(
    verb: str, given: Iterable[str], inventory: Iterable[str], options: Options
) -> tuple[list[str], list[str]]:
    """Return which variables nothing reads, as errors and as warnings.

    One of the command line is meant for this run, so it is an error; one of an inventory may be
    anybody's, and is told of where it is nearly the name of one that the verb reads.

    Args:
        verb: The verb that runs.
        given: Names of the command line.
        inventory: Names of the inventory.
        options: The options of Muster's roles.
    """
    every = {
        *OF_PLAYBOOKS,
        *(name for entries in options.values() for found in entries.values() for name in found),
    }
    given = set(given)
    errors = [
        f"-e {name}: nothing reads it: {_meant(name, every)}"
        for name in suspects(verb, given)
        if name not in every
    ]
    role, entry = _role(verb)
    here = set(options.get(role, {}).get(entry, ()))
    warnings = [
        f"-e {name}: without effect here: {verb} does not read it"
        for name in sorted(given & every - here - {*OF_PLAYBOOKS})
        if here and name.startswith(f"{role}_")
    ]
    read = sorted(here | {name for name in OF_PLAYBOOKS if name.startswith(f"{verb}_")})
    for name in sorted({*inventory} - given - every):
        close = difflib.get_close_matches(name, read, n=1, cutoff=_MISSPELT)
        if close:
            warnings.append(f"{name}: nothing reads it: did you mean {close[0]}?")
    return errors, warnings


def _role(verb: str) -> tuple[str, str]:
    """Return the role that does a verb, and its entry point."""
    return _ENTRIES.get(verb, (verb, "main"))


def _meant(name: str, known: Collection[str]) -> str:
    """Return a half-sentence with the name that was meant, as far as one is near."""
    prefix, _line, rest = name.partition("_")
    role = _role(prefix)[0]
    own = [one for one in known if one.startswith(f"{role}_")]
    for alike in (f"{role}_{rest}", f"{role}_{name}"):
        if alike in own:
            return f"did you mean {alike}?"
    return nearest(f"{role}_{rest}", own)
