# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster runs from and does, and the room on its nodes, as lines for a screen. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction

# By host, what unit_info said.
Seen = Mapping[str, Mapping[str, Any]]

HEADING = ("UNIT", "RUNNING", "WAITING", "DONE", "TOKENS", "TOKENS/S", "TOKENS BY RANK")
_PRESENT = ("running", "waiting")
# Of more units only so many have a row.
UNITS = 10
# More ranks than this are told by the least and the most of them.
RANKS = 4
# So many restarts are on the screen, all that are known in the report.
EVENTS = 5


def version_lines(plan: Mapping[str, Any], seen: Seen) -> list[str]:
    """Return what is planned, and what the installed units run from with their hosts."""
    engine = plan["engine"]
    lines = [f"{engine['name']} {engine['version']}, planned by Muster {plan['muster']}"]
    hosts: dict[str, list[str]] = {}
    for host, one in seen.items():
        for report in one.get("units", []):
            if report["role"] != "gateway" and report["engine"]["name"]:
                name, digest = (_short(report["engine"][key]) for key in ("name", "id"))
                hosts.setdefault(f"installed: {name} ({digest})", []).append(host)
    lines += [f"{text} [{hosts_text(found)}]" for text, found in hosts.items()]
    return lines


def _short(text: str) -> str:
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1", text)


def hosts_text(hosts: Sequence[str]) -> str:
    """Return hosts by name, or where they are many their number."""
    once = list(dict.fromkeys(hosts))
    return ", ".join(once) if len(once) <= RANKS else f"{len(once)} nodes"


def usage_rows(units: Sequence[Mapping[str, Any]], seen: Seen) -> list[tuple[str, ...]]:
    """Return a row a unit that was asked what it does, under HEADING, and one of all together.

    Of many units only those with the most requests have a row.
    """
    told = []
    for unit in units:
        reports = {one["name"]: one for one in seen[unit["host"]].get("units", [])}
        report = reports.get(unit["name"], {})
        if report.get("usage"):
            told.append(report)
    if len(told) < 2:
        return [_row(one["name"], totals([one]), one["usage"]["ranks"]) for one in told]
    busiest = sorted(told, key=lambda one: -sum(one["usage"][key] or 0 for key in _PRESENT))
    shown = busiest[: UNITS if len(told) > UNITS + 1 else None]
    rows = [_row(one["name"], totals([one]), one["usage"]["ranks"]) for one in told if one in shown]
    rest = len(told) - len(shown)
    name = f"all, with {rest} not shown" if rest else "all"
    return [*rows, _row(name, totals(told), [])]


def _row(name: str, sums: Mapping[str, Any], ranks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (
        name,
        *(_count(sums[key]) for key in (*_PRESENT, "done", "tokens")),
        "-" if sums["rate"] is None else f"{sums['rate']:.1f}",
        _by_rank(ranks),
    )


def _by_rank(ranks: Sequence[Mapping[str, Any]]) -> str:
    if len(ranks) < 2:
        return "-"
    if len(ranks) <= RANKS:
        return ", ".join(f"{one['rank']}: {_count(one['tokens'])}" for one in ranks)
    counts = [one["tokens"] for one in ranks]
    return f"{len(ranks)} ranks, {_count(min(counts))} to {_count(max(counts))}"


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.1f}{letter}"
    return str(number)


def restart_lines(seen: Seen) -> list[str]:
    """Return the last restarts that the agents know, the newest first, with their hosts."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for host, one in seen.items():
        for link in one.get("links", []):
            for event in link["events"]:
                text = f"{link['name']}: {redaction.line(event['why'])}"
                # Nodes tell the same within a second or two.
                hosts.setdefault((event["at"][:16], text), []).append(host)
    lines = [
        f"{minute}Z {text} [{hosts_text(found)}]"
        for (minute, text), found in sorted(hosts.items(), reverse=True)
    ]
    more = len(lines) - EVENTS
    return [*lines[:EVENTS], *([f"{more} more in the report"] if more > 0 else [])]


def disk_lines(seen: Seen) -> list[str]:
    """Return a line a kind of file system, with the node that has the least left."""
    kinds: dict[tuple[str, str], list[tuple[float, str, Mapping[str, Any]]]] = {}
    for host, one in seen.items():
        for disk in one.get("disks", []):
            key = (disk["mount"], ", ".join(disk["holds"]))
            share = disk["free_bytes"] / max(disk["size_bytes"], 1)
            kinds.setdefault(key, []).append((share, host, disk))
    lines = []
    for (mount, holds), found in kinds.items():
        share, host, disk = min(found, key=lambda one: one[0])
        where = f"least on {host} of {len(found)} nodes" if len(found) > 1 else host
        lines.append(
            f"{mount} ({holds}): {bytes_text(disk['free_bytes'])} of "
            f"{bytes_text(disk['size_bytes'])} free, {share:.0%} [{where}]"
        )
    return lines


def bytes_text(count: float) -> str:
    """Return a size in the unit that suits it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def totals(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the requests and tokens of all units together; null for what none of them counts."""
    told = [report["usage"] for report in reports if report.get("usage")]
    found: dict[str, Any] = {}
    for key in (*_PRESENT, "done"):
        values = [one[key] for one in told if one[key] is not None]
        found[key] = sum(values) if values else None
    ranks = [rank for one in told for rank in one["ranks"]]
    found["tokens"] = sum(rank["tokens"] for rank in ranks) if ranks else None
    rates = [rank["rate"] for rank in ranks if rank["rate"] is not None]
    found["rate"] = round(sum(rates), 1) if rates else None
    return found
