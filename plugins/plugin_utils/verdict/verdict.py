# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the checks of all nodes together: collect, compare, waive, count and render."""

from __future__ import annotations

import datetime
import re
import shlex
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    HOSTS,
    STATUSES,
    Check,
    broken_check,
    check,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import nearest
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.folding import Row, rows_of

# Most urgent first. Only the first makes the gate fail.
_ORDER = ("failed", "unknown", "warning", "waived", "pending", "ok")
_WAIVABLE = ("failed", "unknown", "warning")

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


class VerdictError(ValueError):
    """A waiver cannot be read."""


class Comparison(NamedTuple):
    """A fact that nodes report, and what must hold between them.

    A fact is one value, or a list of the values of a node's devices. The nodes of one replica must
    agree on it, unless one of these is set:

    unique: All values of all nodes must differ.
    spread: The fact is the two bounds of a measured value, and the nodes of a replica may be so far
        apart before it is a warning, and before it is a failure.
    """

    fact: str
    check_id: str
    subject: str
    remedy: str
    unique: bool = False
    spread: tuple[float, float] | None = None


COMPARISONS = (
    # Time-outs of engines and HCCL need no common clock, but the order of log lines does. A clock
    # that is kept never drifts by half a minute. On a node whose clock does, certificates and the
    # tokens of registries and hubs fail sooner or later.
    Comparison(
        "clock_offset",
        "cluster-clock",
        "clock",
        "synchronise the nodes with one source: run chrony (chronyc makestep), or timedatectl"
        " set-ntp true",
        spread=(5, 30),
    ),
    Comparison(
        "weights_index",
        "cluster-weights",
        "index of the weights",
        "copy one download of the weights to all nodes of the replica",
    ),
    Comparison(
        "weights_hash",
        "cluster-weights-hash",
        "hash of the weights",
        "see which files differ (diff of the nodes' /var/lib/muster/weights/*.json), and copy those"
        " of the node that holds the publisher's",
    ),
    Comparison(
        "mtu",
        "cluster-mtu",
        "MTU of the cluster NIC",
        "give the cluster NIC one MTU on all nodes: ip link set NIC mtu N",
    ),
    Comparison(
        "driver_version",
        "cluster-driver-version",
        "driver version",
        "install one driver version on all nodes of the replica",
    ),
    Comparison(
        "npu_tls",
        "cluster-npu-tls",
        "TLS switch of the NPUs",
        "set it alike on every device: hccn_tool -i DEVICE -tls -s enable 0",
    ),
    Comparison(
        "npu_addresses",
        "cluster-npu-address",
        "NPU addresses",
        "give each NPU an address of its own: hccn_tool -i DEVICE -ip -s address ADDRESS"
        " netmask NETMASK",
        unique=True,
    ),
    Comparison(
        "firmware_version",
        "cluster-firmware-version",
        "NPU firmware version",
        "install one firmware version on all nodes of the replica, and reboot them",
    ),
    Comparison(
        "cann_version",
        "cluster-cann-version",
        "CANN version",
        "run one image on all nodes of the replica: name it by digest in muster_image",
    ),
    Comparison(
        "super_pod_id",
        "cluster-super-pod",
        "super pod of the NPUs",
        "put the replica on nodes of one super pod, or have the super pod id of the odd one set",
    ),
    Comparison(
        "super_pod_server",
        "cluster-super-pod-server",
        "place in the super pod",
        "have each server's index in its super pod set, each to another value",
        unique=True,
    ),
    Comparison(
        "super_pod_sdid",
        "cluster-super-pod-sdid",
        "SDIDs of the NPUs",
        "have each server's index in its super pod set: HCCL refuses devices with equal SDIDs",
        unique=True,
    ),
)


class Waiver(NamedTuple):
    """A failed check that an operator accepts for a while."""

    host: str
    check_id: str
    reason: str
    until: datetime.date


def parse_waivers(by_host: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Waiver]:
    """Read the waivers of each host.

    Raises:
        VerdictError: One of them lacks a part, names no check or holds no date.
    """
    waivers = []
    for host, entries in by_host.items():
        for entry in entries:
            check_id, reason = entry.get("check"), entry.get("reason")
            if not (isinstance(check_id, str) and check_id and isinstance(reason, str) and reason):
                raise VerdictError(f"{host}: a waiver needs check, reason and until: {entry!r}")
            if check_id not in CHECKS:
                offer = nearest(check_id, CHECKS)
                raise VerdictError(f"{host}: a waiver of {check_id}, which is no check: {offer}")
            try:
                until = datetime.date.fromisoformat(str(entry.get("until")))
            except ValueError:
                raise VerdictError(
                    f"{host}: the waiver of {check_id} needs until, a date as 2027-01-31"
                ) from None
            waivers.append(Waiver(host, check_id, reason, until))
    return waivers


def collect(
    hosts: Sequence[str],
    results: Mapping[str, Mapping[str, Mapping[str, Any] | None]],
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
            checks.append(_at(host, _unreachable(host, str(gone.get("msg", "")))))
        told = []
        for register, module in modules.items():
            result = mine.get(register)
            if result is None:
                continue
            if isinstance(result.get("checks"), list):
                told += result["checks"]
            elif not result.get("unreachable") and not result.get("skipped"):
                told.append(_broken(module, result))
        checks += (_at(host, one) for one in told)
        # A task that broke on a host keeps it from the next one.
        ended = gone is not None or any(one["status"] == "failed" for one in told)
        silent = [module for register, module in modules.items() if mine.get(register) is None]
        if silent and not ended:
            checks.append(_at(host, _silent(silent)))
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


def _at(host: str, one: Mapping[str, Any]) -> Check:
    return {"host": host, **one}


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
    results: Mapping[str, Mapping[str, Mapping[str, Any] | None]],
) -> dict[str, dict[str, Any]]:
    """Return by host the facts of all its results."""
    facts: dict[str, dict[str, Any]] = {}
    for host, by_register in results.items():
        for result in by_register.values():
            if result and isinstance(result.get("facts"), Mapping):
                facts.setdefault(host, {}).update(result["facts"])
    return facts


def pick(
    results: Mapping[str, Mapping[str, Mapping[str, Any] | None]], keys: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return by host the first value under each key in its results, empty ones left out."""
    picked = {}
    for host, mine in results.items():
        last_to_first = [one for one in mine.values() if one][::-1]
        picked[host] = {key: one[key] for key in keys for one in last_to_first if one.get(key)}
    return {host: values for host, values in picked.items() if values}


def compare(
    facts: Mapping[str, Mapping[str, Any]],
    groups: Sequence[Sequence[str]],
    seen: Sequence[Check] = (),
) -> list[Check]:
    """Compare what nodes reported: within each group for agreement, over all for uniqueness.

    Args:
        facts: By host, what it reported.
        groups: The hosts of each replica.
        seen: The checks of the hosts themselves, which may say why one tells less than others.
    """
    amiss: dict[str, set[str]] = {}
    for one in seen:
        if one["status"] != "ok":
            amiss.setdefault(one["host"], set()).add(one["id"])
    checks = []
    for comparison in COMPARISONS:
        if comparison.unique:
            checks.extend(_compare_unique(comparison, facts))
            continue
        for group in groups:
            if comparison.spread:
                checks.extend(_compare_spread(comparison, comparison.spread, facts, group))
                continue
            known = {host: _single(facts.get(host, {}).get(comparison.fact)) for host in group}
            values = {host: value for host, value in known.items() if value}
            if len(values) > 1:
                checks.extend(_compare_equal(comparison, values))
            causes = set(CHECKS[comparison.check_id].follows)
            untold = [
                host
                for host in group
                if comparison.fact in facts.get(host, {})
                and not known[host]
                and not causes & amiss.get(host, set())
            ]
            if values and untold:
                checks.extend(_untold(comparison, values, untold))
    return checks


def _untold(
    comparison: Comparison, values: Mapping[str, str], untold: Sequence[str]
) -> list[Check]:
    """Return what is to be said of nodes that tell nothing, or several values, unlike others."""
    others = "; ".join(f"{value} on {host}" for host, value in values.items())
    remedy = f"see why the node does not tell it, and compare by hand: {others}"
    missed = dict.fromkeys(untold, "not told by this node")
    if len(values) == 1:
        missed.update(dict.fromkeys(values, "told by no other node"))
    return [
        _at(
            host,
            check(
                comparison.check_id,
                "unknown",
                comparison.subject,
                observed,
                "the same on all nodes of the replica",
                remedy,
            ),
        )
        for host, observed in missed.items()
    ]


def _single(value: Any) -> str:
    """Return a fact as text; empty where a node's devices differ, which is a check of the node."""
    values = {str(one) for one in (value if isinstance(value, list) else [value])} - {"None"}
    return values.pop() if len(values) == 1 else ""


def _compare_equal(comparison: Comparison, values: Mapping[str, str]) -> list[Check]:
    by_value: dict[str, list[str]] = {}
    for host, value in values.items():
        by_value.setdefault(value, []).append(host)
    common = max(by_value.values(), key=len)
    if len(common) * 2 <= len(values):
        # Without a majority no value is known to be right, so every node is named.
        common = []
    checks = []
    for host, value in values.items():
        alike = len(by_value) == 1
        if alike or host in common:
            one = check(comparison.check_id, "ok", comparison.subject, value)
        else:
            others = "; ".join(
                f"{other} on {', '.join(names)}"
                for other, names in sorted(by_value.items())
                if other != value
            )
            one = check(
                comparison.check_id,
                "failed",
                comparison.subject,
                value,
                f"the same on all nodes of the replica ({others})",
                comparison.remedy,
            )
        checks.append(_at(host, one))
    return checks


def _compare_spread(
    comparison: Comparison,
    spread: tuple[float, float],
    facts: Mapping[str, Mapping[str, Any]],
    group: Sequence[str],
) -> list[Check]:
    bounds = {host: facts.get(host, {}).get(comparison.fact) for host in group}
    known = {host: (value[0], value[1]) for host, value in bounds.items() if value}
    if len(known) < 2:
        return []
    warns, fails = spread
    checks = []
    for host, (low, high) in known.items():
        # The distances that the bounds prove. A node near the majority has a small median distance;
        # of two nodes both get the same, since either may be wrong.
        ahead = {
            other: low - top if low > top else min(0.0, high - bottom)
            for other, (bottom, top) in known.items()
            if other != host
        }
        distance = statistics.median_low(map(abs, ahead.values()))
        if distance <= warns:
            text = f"within {warns:g} s of the other nodes"
            one = check(comparison.check_id, "ok", comparison.subject, text)
        else:
            other = next(name for name, value in ahead.items() if abs(value) == distance)
            way = "ahead of" if ahead[other] > 0 else "behind"
            one = check(
                comparison.check_id,
                "failed" if distance > fails else "warning",
                comparison.subject,
                f"at least {distance:.0f} s {way} {other}",
                f"within {warns:g} s of the other nodes of the replica",
                comparison.remedy,
            )
        checks.append(_at(host, one))
    return checks


def _compare_unique(comparison: Comparison, facts: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    reported = {
        host: sorted(set(map(str, mine[comparison.fact])))
        for host, mine in facts.items()
        if mine.get(comparison.fact)
    }
    if len(reported) < 2:
        return []
    holders: dict[str, list[str]] = {}
    for host, values in reported.items():
        for value in values:
            holders.setdefault(value, []).append(host)
    checks = []
    for host, values in reported.items():
        doubled = [value for value in values if len(holders[value]) > 1]
        for value in doubled:
            others = ", ".join(other for other in holders[value] if other != host)
            one = check(
                comparison.check_id,
                "failed",
                value,
                f"{others} has it too",
                "on one node alone",
                comparison.remedy,
            )
            checks.append(_at(host, one))
        if not doubled:
            one = check(comparison.check_id, "ok", comparison.subject, "on no other node")
            checks.append(_at(host, one))
    return checks


def apply_waivers(
    checks: Sequence[Check], waivers: Sequence[Waiver], today: datetime.date
) -> tuple[list[Check], list[str]]:
    """Mark what is waived.

    Returns:
        The checks, and a line for each waiver that has run out while its check still fails.
    """
    by_key = {(one.host, one.check_id): one for one in waivers}
    judged, expired = [], {}
    for one in checks:
        waiver = by_key.get((one["host"], one["id"]))
        if waiver is None or one["status"] not in _WAIVABLE:
            judged.append(one)
        elif waiver.until < today:
            judged.append(one)
            expired[waiver] = (
                f"{waiver.host}: the waiver of {waiver.check_id} ran out on {waiver.until}"
                f" ({waiver.reason})"
            )
        else:
            reason = f"waived until {waiver.until}: {waiver.reason}"
            judged.append({**one, "status": "waived", "waiver": reason})
    return judged, list(expired.values())


def with_pages(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, those that are not ok with the runbook that is for them."""
    return [
        one if one["status"] == "ok" else {**one, "page": runbooks.of_check(one["id"])}
        for one in checks
    ]


def count(checks: Sequence[Check]) -> dict[str, int]:
    """Return how many checks have each status."""
    counted = Counter(one["status"] for one in checks)
    return {status: counted[status] for status in STATUSES}


def failed_hosts(checks: Sequence[Check]) -> list[str]:
    """Return the hosts with a failed check, in the order of the checks."""
    return list(dict.fromkeys(one["host"] for one in checks if one["status"] == "failed"))


def blocked_hosts(failed: Sequence[str], replicas: Sequence[Sequence[str]]) -> list[str]:
    """Return the hosts of replicas with a failed host, and failed hosts outside all replicas."""
    blocked = [host for hosts in replicas if set(hosts) & set(failed) for host in hosts]
    return list(dict.fromkeys([*blocked, *failed]))


def sentence(stage: str, checks: Sequence[Check]) -> str:
    """Return the summary of a stage in one line."""
    if not checks:
        return f"{stage}: nothing to check"
    counts = count(checks)
    nodes = len({one["host"] for one in checks})
    found = [f"{counts[status]} {status}" for status in _ORDER if counts[status]]
    return (
        f"{stage}: {len(checks)} check{'' if len(checks) == 1 else 's'} on {nodes} "
        f"node{'' if nodes == 1 else 's'}: {', '.join(found)}"
    )


def table(checks: Sequence[Check], width: int) -> str:
    """Return all checks that are not ok, by host and then by urgency, each with its remedy.

    What says the same of several subjects is one row, and so are a cause and what follows from it.
    A line below all of them names the runbooks for what prepare or a waiver does not settle.
    """
    hosts = list(dict.fromkeys(one["host"] for one in checks))
    shown = sorted(
        (one for one in checks if one["status"] != "ok"),
        key=lambda one: (hosts.index(one["host"]), _ORDER.index(one["status"])),
    )
    if not shown:
        return ""
    rows = rows_of(shown)
    heading, *lines_of = columns([("NODE", "STATUS", "CHECK", "SUBJECT"), *map(_cells, rows)])
    indent = " " * heading.index("STATUS")
    lines = [heading]
    for row, line in zip(rows, lines_of, strict=True):
        lines.append(line)
        for label, text in (
            ("subjects", ", ".join(row.texts("subject")) if len(row.checks) > 1 else ""),
            ("seen", row.first["observed"]),
            ("expected", " / ".join(row.texts("expected"))),
            ("remedy", row.first["remedy"]),
            ("waiver", row.first.get("waiver", "")),
            ("follows", _following(row)),
        ):
            if text:
                lines += _paragraph(f"{indent}{label:<9}", text, width)
    pages = runbooks.line(row.first["id"] for row in rows if row.first["status"] in _WAIVABLE)
    if pages:
        lines += _paragraph("  runbook  ", pages, width)
    return "\n".join(lines)


def _following(row: Row) -> str:
    """Return what follows from a row by check, with its subjects."""
    subjects: dict[str, list[str]] = {}
    for one in row.followers:
        subjects.setdefault(f"{one['id']} {one['status']}", []).append(one["subject"])
    texts = [f"{name} ({', '.join(dict.fromkeys(of))})" for name, of in subjects.items()]
    return "; ".join(texts)


def listing(values: Mapping[str, Mapping[str, Any]], width: int) -> str:
    """Return named values by host as lines for a terminal."""
    lines = []
    for host, mine in values.items():
        lines.append(f"  {host}")
        for key, value in mine.items():
            lines += _paragraph(f"    {key.replace('_', ' '):<17}", _words(value), width)
    return "\n".join(lines)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        keys: dict[str, list[str]] = {}
        for key, one in value.items():
            keys.setdefault(_words(one), []).append(str(key))
        return "; ".join(f"{', '.join(names)}: {text}" for text, names in keys.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _cells(row: Row) -> tuple[str, str, str, str]:
    one, count_of = row.first, len(row.checks)
    subject = one["subject"] if count_of == 1 else f"{count_of} of them"
    return one["host"], one["status"], one["id"], subject


def _paragraph(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(start) + 30),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
