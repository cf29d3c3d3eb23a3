# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a unit: its runs, the times of its lines, and those that can show why it ended."""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import Iterable, NamedTuple, Sequence

# How much of a line is looked at.
LINE_LIMIT = 2000
# A line that is repeated says no more: so many of each pattern are kept in a run, the first ones.
KEPT = 3

_INVOCATION = re.compile(r"[0-9a-f]{32}")

# What the journal and syslog put before a line: time, host, program.
_PREFIX = re.compile(
    r"(?:\d{4}-\d\d-\d\dT[\d:.,]+(?:[+-]\d\d:?\d\d|Z)?|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
    r" \S+ (?P<program>[^\s\[:]+)(?:\[\d+\])?: "
)
# Marks in a log, of systemd if not said otherwise. Starting comes before Started, if it comes.
_BEGIN = re.compile(r"(?P<word>Starting|Started) \S")
_STOP = re.compile(r"Stopping \S")
_END = re.compile(r"\S+\.service: (?:Main process exited|Failed with result|Deactivated success)")
# Docker's own, as compose prints them.
_DOCKER_BEGIN = re.compile(r"Attaching to \S|\W*Container \S+ {1,2}Start(?:ed|ing)\b")
# The engine serves: what was logged before has not kept it from that.
_SERVES = re.compile(r"Application startup complete|The server is fired up and ready")
# An engine that was asked to end, and says so.
_ASKED = re.compile(r"(?i)\b(?:received|caught|got) (?:signal )?(?:SIGTERM|SIGINT|15)\b")

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# The forms of time in a line: dates with year of the journal, SGLang, NCCL and CANN; those without
# one of vLLM and SGLang, of glibc's syslog, and of torch, whose month has no leading zero.
_DATED = re.compile(
    r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T -](?P<hour>\d\d):(?P<minute>\d\d)"
    r":(?P<second>\d\d)(?:[.,](?P<part>\d{1,6})\d*)?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_UNDATED = (
    re.compile(
        r"(?:\b(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) |\[)(?P<month>\d\d)-(?P<day>\d\d)"
        r" (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    ),
    re.compile(
        r"\[[DIWEF](?P<month>\d{1,2})(?P<day>\d\d)"
        r" (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    ),
    re.compile(
        r"^(?P<name>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2})"
        r" (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    ),
)


class Run(NamedTuple):
    """What a unit logged between one start and the next.

    lines are those that can show why it failed: none from before it served, none from after it was
    told to stop. begin and end are in seconds since 1970, None where no line tells. ended is
    whether the log tells its end, stopped whether it was told to.
    """

    lines: tuple[str, ...]
    begin: float | None
    end: float | None
    ended: bool
    stopped: bool


def journal_argv(invocations: Sequence[str], max_bytes: int) -> list[str]:
    """Return the command that prints the end of what runs of a unit, and systemd of them, logged.

    A pipe bounds it in bytes: journalctl counts lines alone, and a line can be of any length.
    """
    fields = []
    for one in invocations:
        if _INVOCATION.fullmatch(one):
            # What systemd itself says of a run stands under another field; + means or.
            fields += ["+", f"_SYSTEMD_INVOCATION_ID={one}", "+", f"INVOCATION_ID={one}"]
    if not fields:
        return []
    script = f'journalctl --output=short-iso --no-pager --quiet "$@" | tail --bytes={max_bytes}'
    return ["/bin/sh", "-c", script, "sh", *fields[1:]]


def text_of(line: str) -> str:
    """Return what a program printed of a line: without the journal's time, host and program."""
    found = _PREFIX.match(line)
    return line[found.end() :] if found else line


def moment(line: str, year: int = 1970) -> float | None:
    """Return the time of a line in seconds since 1970, None where it has none.

    A time without zone counts as UTC, which containers have; one without a year is of this one.
    """
    head = line[:200]
    found = _DATED.search(head)
    if not found:
        found = next(filter(None, (one.search(head) for one in _UNDATED)), None)
    if not found:
        return None
    parts = found.groupdict()
    try:
        month = _MONTHS.index(parts["name"]) + 1 if "name" in parts else int(parts["month"])
        when = datetime.datetime(
            int(parts.get("year") or year),
            month,
            int(parts["day"]),
            int(parts["hour"]),
            int(parts["minute"]),
            int(parts["second"]),
            int((parts.get("part") or "").ljust(6, "0")),
            datetime.timezone.utc,
        )
    except ValueError:
        return None
    zone = (parts.get("zone") or "Z").replace(":", "")
    if zone != "Z":
        minutes = int(zone[1:3]) * 60 + int(zone[3:5])
        when -= datetime.timedelta(minutes=minutes if zone[0] == "+" else -minutes)
    return when.timestamp()


def year_of(line: str) -> int | None:
    """Return the year that a line's time has, None where it has none."""
    found = _DATED.search(line[:200])
    return int(found.group("year")) if found else None


def begins(line: str) -> str:
    """Return the word of a start mark in a line, empty where it is none."""
    found = _PREFIX.match(line)
    if found and found.group("program") == "systemd":
        word = _BEGIN.match(line, found.end())
        return word.group("word") if word else ""
    return "Docker" if _DOCKER_BEGIN.match(line) else ""


def is_mark(line: str) -> bool:
    """Return whether a line tells of a start, a stop, an end, or that the engine serves."""
    found = _PREFIX.match(line)
    if found and found.group("program") == "systemd":
        return any(one.match(line, found.end()) for one in (_BEGIN, _STOP, _END))
    return bool(
        _DOCKER_BEGIN.match(line) or _SERVES.search(line) or _ASKED.search(line[:LINE_LIMIT])
    )


def asked_to_end(line: str) -> bool:
    """Return whether an engine says in a line that it was asked to end."""
    return bool(_ASKED.search(line[:LINE_LIMIT]))


def runs(lines: Iterable[str]) -> list[Run]:
    """Return the runs of a unit's log, oldest first; without any start mark it is one."""
    found: list[Run] = []
    kept: list[str] = []
    begin: float | None = None
    last: float | None = None
    end: float | None = None
    year = 1970
    ended = stopped = starting = seen = False

    def close() -> None:
        if seen:
            found.append(Run(tuple(kept), begin, last if end is None else end, ended, stopped))

    for line in lines:
        year = year_of(line) or year
        when = moment(line, year)
        word = begins(line)
        if word and not (word == "Started" and starting):
            close()
            kept, begin, last, end = [], when, None, None
            ended = stopped = False
        if word:
            starting = word == "Starting"
        seen = True
        begin = when if begin is None else begin
        last = last if when is None else when
        prefix = _PREFIX.match(line)
        if prefix and prefix.group("program") == "systemd":
            stopped = stopped or bool(_STOP.match(line, prefix.end()))
            if not ended and _END.match(line, prefix.end()):
                ended, end = True, when
        elif _SERVES.search(line[:LINE_LIMIT]):
            kept = []
        if not stopped:
            kept.append(line)
    close()
    return found


def matching(lines: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the marks and the lines that match a pattern, in their order.

    Of each pattern it is the first ones of a run. A line counts for the first pattern that it
    matches, as signatures do.

    Raises:
        re.error: A pattern is no regular expression.
    """
    compiled = [re.compile(pattern) for pattern in patterns]

    # What a log repeats is mostly the same word for word, and there are some hundred patterns.
    @lru_cache(maxsize=1024)
    def first_match(text: str) -> int | None:
        return next((at for at, pattern in enumerate(compiled) if pattern.search(text)), None)

    counts = [0] * len(compiled)
    kept = []
    for line in lines:
        cut = line[:LINE_LIMIT]
        if is_mark(line):
            counts = [0] * len(compiled)
            kept.append(cut)
            continue
        index = first_match(text_of(cut))
        if index is not None:
            counts[index] += 1
            if counts[index] <= KEPT:
                kept.append(cut)
    return kept
