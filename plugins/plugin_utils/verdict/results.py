# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stage's tasks came to on each host, as checks and facts. Pure."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    HOSTS,
    Check,
    broken_check,
    check,
)

# By host and registered variable, a task's result; None where it has not run.
Results = Mapping[str, Mapping[str, Mapping[str, Any] | None]]

_PYTHON_TROUBLE = re.compile(
    r"requires a minimum of Python|No python interpreters? found|"
    r"python\S*: (?:command )?not found|interpreter .{1,80} was not found|"
    r"future feature annotations is not defined",
    re.IGNORECASE,
)


# How the ways to become root say that they did not let the SSH user: Ansible's own words, and those
# of sudo, su and doas. The most telling ones come first.
_BECOME_TROUBLE = (
    (
        r"incorrect (?:sudo|su|doas|\w+) password|sorry, try again|incorrect password attempt|"
        r"su: authentication failure|doas: authentication failed|"
        r"duplicate become password prompt",
        "correct ansible_become_password of this host (in its vault), or run with -K and type the "
        "password of the SSH user there",
    ),
    (
        r"missing (?:sudo|su|doas|\w+) password|a password is required|"
        r"a terminal is required to (?:read the password|authenticate)|no tty present|"
        r"you must have a tty|doas: a tty is required",
        "run with -K (--ask-become-pass), set ansible_become_password of this host, or let the SSH "
        "user use sudo without a password (NOPASSWD)",
    ),
    (
        r"is not in the sudoers file|may not run sudo|is not allowed to (?:execute|run)|"
        r"doas: operation not permitted|su: permission denied",
        "let the SSH user become root on the node (sudoers, the group sudo or wheel), or set "
        "ansible_user to one who may",
    ),
    (
        r"\b(?:sudo|su|doas): (?:command )?not found",
        "install it on the node, set ansible_become_method to what the node has, or "
        "ansible_user=root with ansible_become=false",
    ),
    (
        r"waiting for (?:become success|privilege escalation prompt)|must be setuid root|"
        r"effective uid is not 0|account or password (?:is )?expired|account validation failure",
        "see by hand what sudo says: ssh to the node, then sudo -k true; a slow answer is often a "
        "hostname that does not resolve or a directory service that is away",
    ),
)


def collect(
    hosts: Sequence[str],
    results: Results,
    modules: Mapping[str, str],
) -> list[Check]:
    """Return the checks of all hosts, each with its host.

    Args:
        hosts: The hosts that must have reported.
        results: By host and registered variable, a task's result; None where it has not run.
        modules: By registered variable, the module whose result it holds.
    """
    checks: list[Check] = []
    for host in hosts:
        mine = results.get(host, {})
        gone = next((one for one in mine.values() if one and one.get("unreachable")), None)
        if gone is not None:
            checks.append({"host": host, **_unreachable(host, str(gone.get("msg", "")))})
        told = []
        for register, module in modules.items():
            result = mine.get(register)
            if result is None:
                continue
            if isinstance(result.get("checks"), list):
                told += result["checks"]
            elif not result.get("unreachable") and not result.get("skipped"):
                told.append(_broken(module, result))
        checks += [{"host": host, **one} for one in told]
        # A task that broke on a host keeps it from the next one.
        ended = gone is not None or any(one["status"] == "failed" for one in told)
        silent = [module for register, module in modules.items() if mine.get(register) is None]
        if silent and not ended:
            checks.append({"host": host, **_silent(silent)})
    unique = {tuple(one.items()): one for one in checks}
    return list(unique.values())


def with_hosts(checks: Sequence[Check], limit: str | None) -> list[Check]:
    """Return checks whose remedies say which hosts to limit a playbook to.

    Args:
        checks: The checks, each with its host.
        limit: The limit of this run; without one a remedy is for the check's own host.
    """
    return [
        {**one, "remedy": one["remedy"].replace(HOSTS, shlex.quote(limit or one["host"]))}
        for one in checks
    ]


def _unreachable(host: str, text: str) -> Check:
    return check(
        "node-reachable",
        "failed",
        host,
        _first_words(text.removeprefix("Task failed: ")) or "no answer",
        "answers over SSH",
        f"bring it up, or correct ansible_host and its SSH key; try: ansible {host} -m ping",
    )


def _silent(modules: Sequence[str]) -> Check:
    text = f"no result of {', '.join(dict.fromkeys(modules))}"
    remedy = "see above what kept this host from it, or run with this host alone (-l)"
    return {**broken_check(modules[0], text), "remedy": remedy}


def _broken(module: str, result: Mapping[str, Any]) -> Check:
    text = " ".join(str(result.get(key) or "") for key in ("msg", "module_stderr", "module_stdout"))
    if _PYTHON_TROUBLE.search(text):
        return check(
            "node-python",
            "failed",
            "python",
            _first_words(text),
            "Python 3.8 or later",
            "install it, or set ansible_python_interpreter to one that is",
        )
    for words, remedy in _BECOME_TROUBLE:
        if re.search(words, text, re.IGNORECASE):
            observed = _first_words(text.removeprefix("Task failed: "))
            return check("node-become", "failed", "become", observed, "becomes root", remedy)
    return broken_check(module, _first_words(text) or "it ended without a result")


def _first_words(text: str, limit: int = 300) -> str:
    return textwrap.shorten(text, limit, placeholder=" ...")


def collect_facts(
    results: Results,
) -> dict[str, dict[str, Any]]:
    """Return by host the facts of all its results."""
    facts: dict[str, dict[str, Any]] = {}
    for host, by_register in results.items():
        for result in by_register.values():
            if result and isinstance(result.get("facts"), Mapping):
                facts.setdefault(host, {}).update(result["facts"])
    return facts


def pick(results: Results, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by host the first value under each key in its results, empty ones left out."""
    picked = {}
    for host, mine in results.items():
        last_to_first = [one for one in mine.values() if one][::-1]
        picked[host] = {key: one[key] for key in keys for one in last_to_first if one.get(key)}
    return {host: values for host, values in picked.items() if values}
