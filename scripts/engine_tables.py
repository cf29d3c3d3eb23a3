"""The tables of recipes/_base/knows: what versions of an engine know, as text and as sets.

A table covers some versions, which its header names, or a line of its own where the plan asks. A
name that not all of them know has the range of those that do. Adding a version needs no other: the
range and the header say which of the covered versions know a name.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions

COVERS = re.compile(r"^# Covers: .*\n(?:#   .*\n)*|^  values_of: >-\n(?:    .*\n)+", re.MULTILINE)
ENTRY = re.compile(r'(\S+): (?:"([^"]+)"|\{type: (\w+), versions: "([^"]+)"\}|(\w+))')


class Entry(NamedTuple):
    """The covered versions that know a name, and the type that the last of them gives a flag."""

    having: frozenset[str]
    kind: str = ""


Table = Mapping[str, Entry]


def merge(
    table: Table, covered: Iterable[str], version: str, found: Mapping[str, str]
) -> dict[str, Entry]:
    """Return a table with what one more version knows; one that it covers already is read anew.

    Args:
        table: What the covered versions know.
        covered: These versions.
        version: The one to add.
        found: The names that it knows with the types of flags, "" for other names.
    """
    later = {one for one in covered if versions.parse(one) > versions.parse(version)}
    result = {}
    for name in sorted({*table, *found}):
        old = table.get(name, Entry(frozenset()))
        having = old.having - {version}
        if name in found:
            kind = old.kind if having & later else found[name]
            result[name] = Entry(having | {version}, kind)
        elif having:
            result[name] = Entry(having, old.kind)
    return result


def ordered(covered: Iterable[str]) -> list[str]:
    """Return versions from the oldest to the newest, each once."""
    return sorted(set(covered), key=versions.parse)


def ranges(having: Iterable[str], covered: Iterable[str]) -> str:
    """Return the range of the covered versions that know something, * for all."""
    known, order = set(having), ordered(covered)
    first = min(order.index(one) for one in known)
    last = max(order.index(one) for one in known)
    clauses = [f">={short(order[first])}"] if first else []
    if last + 1 < len(order):
        upper = f"<{short(order[last + 1])}"
        # 0.19.0rc1 is not before 0.19.
        clauses.append(upper if versions.matches(order[last], upper) else f"<={order[last]}")
    clauses += [f"!={one}" for one in order[first:last] if one not in known]
    return ",".join(clauses) or "*"


def short(version: str) -> str:
    """Write 0.18.0 as 0.18."""
    return re.sub(r"^(\d+\.\d+)\.0$", r"\1", version)


def lines(table: Table, covered: Sequence[str]) -> list[str]:
    """Return a table's lines as YAML, a name each."""
    result = []
    for name, entry in table.items():
        spec = ranges(entry.having, covered)
        if not entry.kind:
            result.append(f'{name}: "{spec}"')
        elif spec == "*":
            result.append(f"{name}: {entry.kind}")
        else:
            result.append(f'{name}: {{type: {entry.kind}, versions: "{spec}"}}')
    return result


def parsed(text: Iterable[str], covered: Sequence[str]) -> dict[str, Entry]:
    """Return the table that lines hold.

    Raises:
        ValueError: A line is none of a table's.
    """
    table = {}
    for line in text:
        match = ENTRY.fullmatch(line.strip())
        if not match:
            raise ValueError(f"{line.strip()!r} is no line of a table")
        spec = match[2] or match[4] or "*"
        having = (one for one in covered if spec == "*" or versions.matches(one, spec))
        table[match[1]] = Entry(frozenset(having), match[3] or match[5] or "")
    return table


def covered_by(text: str) -> list[str]:
    """Return the versions that a file says it covers.

    Raises:
        ValueError: It names none.
    """
    match = COVERS.search(text)
    if not match:
        raise ValueError('the header has no line "# Covers: VERSION..."')
    return re.sub(r"#( Covers:)?|values_of: >-", " ", match[0]).split()


def added(text: str, places: Mapping[str, Mapping[str, str]], version: str) -> str:
    """Return a file's text with what one more version knows.

    Args:
        text: A file of recipes/_base/knows.
        places: What the version knows, by the place of each table: its keys joined by slashes.
        version: The version.
    """
    before = covered_by(text)
    after = ordered([*before, version])
    for place, found in places.items():
        start, end, indent = _block(text, place)
        table = merge(parsed(text[start:end].splitlines(), before), before, version, found)
        body = "".join(f"{indent}{line}\n" for line in lines(table, after))
        text = text[:start] + body + text[end:]
    covers = COVERS.search(text)
    first, later = "# Covers: ", "#   "
    if covers and covers[0].startswith(" "):
        first = later = "    "
    listed = textwrap.fill(" ".join(after), 100, initial_indent=first, subsequent_indent=later)
    above = "" if first.startswith("#") else "  values_of: >-\n"
    return COVERS.sub(f"{above}{listed}\n", text, count=1)


def _block(text: str, place: str) -> tuple[int, int, str]:
    """Return where the lines below some keys start and end, and their indentation."""
    start, indent = 0, ""
    for key in place.split("/"):
        match = re.compile(rf"^{indent}{re.escape(key)}:\n", re.MULTILINE).search(text, start)
        if not match:
            raise ValueError(f"the file has no {place}")
        start, indent = match.end(), indent + "  "
    match = re.compile(rf"(?:{indent}\S.*\n)*").match(text, start)
    return start, match.end() if match else start, indent
