# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write text that systemd reads, and read text that systemctl prints.

Sources: systemd.service(5), "Command lines"; systemd.syntax(7); systemd.unit(5), "Specifiers";
systemd.exec(5), "EnvironmentFile".
"""

from __future__ import annotations

import re
from typing import Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.paths import MANAGED_HEADER

# How many files a unit of Muster's asks to open. Where its limit cannot be raised so far, systemd
# gives it the highest that can.
OPEN_FILES = 1048576

# What needs no quotes on a command line. "~" and glob characters mean nothing to systemd, but a
# reader expects them quoted.
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quote(argument: str) -> str:
    """Return an argument as systemd's ExecStart= wants it, so that the process gets it unchanged.

    Raises:
        ValueError: The argument holds a NUL, which no process can be given.
    """
    if "\0" in argument:
        raise ValueError("a command line argument cannot hold a NUL character")
    if _PLAIN.fullmatch(argument):
        return argument
    return '"' + "".join(_escape(character) for character in argument) + '"'


def _escape(character: str) -> str:
    known = _ESCAPES.get(character)
    if known is not None:
        return known
    # Other control characters would end the line or be dropped by the unit file's reader.
    if ord(character) < 0x20 or ord(character) == 0x7F:
        return f"\\x{ord(character):02x}"
    # Line separators that Python, and some editors, take for a line's end.
    if character in "\x85\u2028\u2029":
        return f"\\u{ord(character):04x}"
    return character


def command(argv: Sequence[str]) -> str:
    """Return an argv as the value of ExecStart=, an option with its value to a line."""
    lines: list[str] = []
    for argument in argv:
        quoted = quote(argument)
        # A flag opens a line; what follows it stays beside it.
        if lines and not argument.startswith("-"):
            lines[-1] += " " + quoted
        else:
            lines.append(quoted)
    return " \\\n  ".join(lines)


def environment_line(name: str, value: str) -> str:
    """Return a variable as a line for EnvironmentFile=, so that the process gets it unchanged.

    Raises:
        ValueError: The name is none, or the value holds a control character, which some releases
            drop with the whole variable.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an environment variable")
    if _CONTROL.search(value):
        raise ValueError(f"{name}: a value for the engine's environment holds a control character")
    return f'{name}="' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


def unit_file(sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Return a unit file from (section, ((key, value), ...)) in the order given."""
    blocks = []
    for name, entries in sections:
        lines = [f"[{name}]"] + [f"{key}={value}" for key, value in entries]
        blocks.append("\n".join(lines))
    return MANAGED_HEADER + "\n\n" + "\n\n".join(blocks) + "\n"


def parse_pairs(text: str) -> list[list[tuple[str, str]]]:
    """Return the properties that systemctl show prints, of each unit in the order asked for.

    A property with several entries, such as DeviceAllow, is there several times. Asked for no unit
    it prints those of the manager. Units stand apart by blank lines, and anything that is not
    KEY=VALUE is passed over; so there is always a first one, perhaps with nothing.
    """
    return [
        [
            (key.strip(), value)
            for key, equals, value in (line.partition("=") for line in block.splitlines())
            if equals
        ]
        for block in re.split(r"\n[ \t]*\n", text)
    ]


def parse_show(text: str) -> list[dict[str, str]]:
    """Return the same by name, for properties that have one value."""
    return [dict(pairs) for pairs in parse_pairs(text)]


def by_id(shown: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return what parse_show() gives by the units' names, for those asked for their Id."""
    return {unit["Id"]: unit for unit in shown if "Id" in unit}
