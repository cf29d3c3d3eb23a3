# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict as lines for a terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.folding import Row, rows_of
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.verdict import URGENCY, count
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.waivers import WAIVABLE


def sentence(stage: str, checks: Sequence[Check]) -> str:
    """Return the summary of a stage in one line."""
    if not checks:
        return f"{stage}: nothing to check"
    counts = count(checks)
    nodes = len({one["host"] for one in checks})
    found = [f"{counts[status]} {status}" for status in URGENCY if counts[status]]
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
        key=lambda one: (hosts.index(one["host"]), URGENCY.index(one["status"])),
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
    pages = runbooks.line(row.first["id"] for row in rows if row.first["status"] in WAIVABLE)
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
