# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What logs say of a failure: the findings of a run, and the cause that the others follow from."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.units import log
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks
from ansible_collections.muster.serving.plugins.plugin_utils.failure import signatures
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    CAUSE,
    HARMLESS,
    LIKELY,
    SYMPTOM,
    Signature,
)

# How many findings of a run are shown, how much of a line, and how many lines to look at where no
# cause is known.
SHOWN = 3
SHOWN_LIMIT = 300
LOOK_AT = 3
# How many lines of an engine's own log files are read, the last ones.
FILE_LINES = 20_000

_ERROR = re.compile(signatures.ERROR)


class Log(NamedTuple):
    """The lines of a unit: of its journal, and of the files that the engine itself writes."""

    journal: list[str]
    files: list[str]


class Finding(NamedTuple):
    """A signature in a log: its first line there, and how many lines match it."""

    signature: Signature
    line: str
    times: int


class Judged(NamedTuple):
    """A run of a unit: its findings, the one that the others follow from first.

    errors are lines to look at where no cause is found.
    """

    run: log.Run
    findings: list[Finding]
    errors: list[str]

    @property
    def cause(self) -> Finding | None:
        """The finding that claims to be the cause; None where there are symptoms at most."""
        first = self.findings[0] if self.findings else None
        return first if first and first.signature.rank <= LIKELY else None


class Verdict(NamedTuple):
    """Of several units, the one whose failure the others follow from."""

    host: str
    unit: str
    judged: Judged


def explain(lines: Iterable[str]) -> list[Finding]:
    """Return the findings in the lines of one run, the likeliest cause first.

    Causes stand before likely ones, those before symptoms and what follows any failure. Of one
    rank, what was logged first comes first; a cause comes before what is known to follow from it,
    and a symptom does so before a cause where it was logged first. Beside an error that is not
    known a hint claims no cause, and behind one what other failures end in, too.
    """
    found: dict[str, Finding] = {}
    hints: dict[str, Finding] = {}
    unknown = False
    lines = [*lines]
    for line in lines:
        cut = line[: log.LINE_LIMIT]
        # Who was asked to end before anything failed has not failed.
        if not found and log.asked_to_end(cut):
            break
        text = log.text_of(cut)
        read = signatures.read(text)
        if read is None:
            unknown = unknown or bool(_ERROR.search(text))
            continue
        one, hint = read
        if one.rank == HARMLESS:
            continue
        if (one.late and unknown) or (
            one.unless and any(re.search(one.unless, other[: log.LINE_LIMIT]) for other in lines)
        ):
            one = one._replace(rank=max(one.rank, SYMPTOM))
        table = hints if hint else found
        known = table.get(one.name)
        shown = known.line if known else cut.strip()[:SHOWN_LIMIT]
        if known and known.signature.rank < one.rank:
            one = known.signature
        table[one.name] = Finding(one, shown, (known.times if known else 0) + 1)
    if found:
        least = SYMPTOM if unknown else LIKELY
        for name, finding in hints.items():
            one = finding.signature
            hints[name] = finding._replace(signature=one._replace(rank=max(one.rank, least)))
        found = {**hints, **found}
    logged = list(found)
    ordered = sorted(found.values(), key=lambda finding: finding.signature.rank)
    for finding in list(ordered):
        cause = finding.signature
        behind = [
            one
            for one in ordered
            if one.signature.name in cause.explains
            and (
                cause.rank <= max(one.signature.rank, LIKELY)
                or logged.index(cause.name) < logged.index(one.signature.name)
            )
        ]
        if behind and ordered.index(behind[0]) < ordered.index(finding):
            ordered.remove(finding)
            ordered.insert(ordered.index(behind[0]), finding)
    return ordered


def errors(lines: Iterable[str]) -> list[str]:
    """Return the first lines of a run that look like errors and are no known follow-up."""
    found: dict[str, None] = {}
    for line in lines:
        cut = line[: log.LINE_LIMIT]
        text = log.text_of(cut)
        if _ERROR.search(text) and signatures.read(text) is None:
            found.setdefault(cut.strip()[:SHOWN_LIMIT])
        if len(found) == LOOK_AT:
            break
    return list(found)


def judge(unit: Log) -> list[Judged]:
    """Return the runs of a unit, the last one first.

    The engine's own files have no start marks: a line is of the last run that had begun by its
    time, and of the last run of all where that cannot be said.
    """
    runs = log.runs(unit.journal)
    more: dict[int, list[str]] = {}
    index, year = len(runs) - 1, 1970
    for line in unit.files[-FILE_LINES:]:
        year = log.year_of(line) or year
        when = log.moment(line, year)
        if when is not None:
            begun = [
                number
                for number, run in enumerate(runs)
                if run.begin is None or run.begin <= when + 1
            ]
            index = begun[-1] if begun else 0
        more.setdefault(max(index, 0), []).append(line)
    if not runs and more:
        runs = [log.Run((), None, None, False, False)]
    return [
        Judged(run, explain(lines), errors(lines))
        for run, lines in reversed(
            [(run, [*run.lines, *more.get(number, [])]) for number, run in enumerate(runs)]
        )
    ]


def verdict(units: Mapping[tuple[str, str], Sequence[Judged]]) -> Verdict | None:
    """Return the failure that the others of a replica follow from, of its last start that failed.

    It is that of the unit that ended first, or of the first one after it whose log names a cause;
    where none does, the first one's symptom. None where no log shows a failure.

    Args:
        units: By host and unit its runs, the last one first.
    """
    failed = [
        Verdict(host, unit, run)
        for (host, unit), judged in units.items()
        for run in judged
        if run.findings
    ]
    if not failed:
        return None
    begins = [one.judged.run.begin for one in failed if one.judged.run.begin is not None]
    latest = max(begins, default=None)
    # Ranks of one start overlap; an older start has ended before the latest one began.
    together = [
        one
        for one in failed
        if latest is None or one.judged.run.end is None or one.judged.run.end >= latest
    ]
    ordered = sorted(
        together, key=lambda one: (one.judged.run.end is None, one.judged.run.end or 0.0)
    )
    return next((one for one in ordered if one.judged.cause), ordered[0])


def sureness(judged: Judged) -> str:
    """Return how sure the first finding of a run is: cause, likely cause or symptom; or none."""
    if not judged.findings:
        return "none"
    first, *others = judged.findings
    if first.signature.rank >= SYMPTOM:
        return "symptom"
    rivals = [
        one
        for one in others
        if one.signature.rank == CAUSE and one.signature.name not in first.signature.explains
    ]
    return "likely cause" if first.signature.rank == LIKELY or rivals else "cause"


def paragraph(judged: Judged) -> list[str]:
    """Return a run's findings as lines for an operator, the first at length; none for none."""
    if not judged.findings:
        return []
    first, *others = judged.findings
    one = first.signature
    word = sureness(judged)
    lines = [
        _seen(first),
        f"{word[0].upper()}{word[1:]}: {one.cause} ({one.source})",
    ]
    if one.checks:
        lines.append(f"Check: {', '.join(one.checks)}")
    lines.append(f"Remedy: {one.remedy}")
    lines.append(f"Runbook: {runbooks.of_signature(one.name)}")
    if not judged.cause:
        lines += look_at(judged)
    return [*lines, *(f"Also: {_seen(other)}" for other in others[: SHOWN - 1])]


def _seen(finding: Finding) -> str:
    """Return a finding's name with the line that it stands for."""
    times = f"{finding.times} lines as" if finding.times > 1 else "a line"
    return f"{finding.signature.name}, {times}: {finding.line}"


def look_at(judged: Judged) -> list[str]:
    """Return the lines to look at of a run whose cause is not known."""
    return [f"Look at: {line}" for line in judged.errors]


def when(seconds: float | None) -> str:
    """Return a time as a report has it, in UTC; empty for none."""
    if seconds is None:
        return ""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
