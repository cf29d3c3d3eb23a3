# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes' archives tell of a failure: findings by unit, the report, one archive of all."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import (
    Finding,
    explain,
    paragraph,
)

# How many findings of a unit are printed; the likeliest come first.
SHOWN = 3


def logs_of(archive: Path) -> dict[str, list[str]]:
    """By systemd service, the lines of its journal and of its own log files in an archive."""
    lines: dict[str, list[str]] = {}
    for name, text in _texts(archive):
        service = _service(PurePosixPath(name))
        if service:
            lines.setdefault(service, []).extend(text.splitlines())
    return lines


def _service(path: PurePosixPath) -> str | None:
    """Whose log this is: journal/SERVICE.log, var/log/muster/UNIT/..."""
    if path.parts[0] == "journal":
        return path.stem
    if path.parts[:3] == ("var", "log", "muster") and len(path.parts) > 4:
        return f"muster-{path.parts[3]}.service"
    return None


def _texts(archive: Path) -> Iterator[tuple[str, str]]:
    for name, data in members(archive):
        yield name, data.decode("utf-8", "replace")


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive; a node's word on where they go is not taken."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            path = PurePosixPath(member.name)
            if stream is not None and not path.is_absolute() and ".." not in path.parts:
                yield member.name, stream.read()


def judge(
    seen: Mapping[str, Any], logs: Mapping[str, Sequence[str]]
) -> list[tuple[dict[str, Any], list[Finding]]]:
    """Each unit of a node, with what its logs tell."""
    return [(unit, explain(logs.get(unit["systemd_unit"], []))) for unit in seen["units"]]


def problem(seen: Mapping[str, Any]) -> str | None:
    """Why a node could not be asked."""
    if "units" in seen and not seen.get("failed"):
        return None
    word = "not reached" if seen.get("unreachable") else "not asked"
    text = str(seen.get("msg") or "no result").removeprefix("Task failed: ")
    return f"{word}: {' '.join(text.split())[:300]}"


def report(
    nodes: Mapping[str, str | list[tuple[dict[str, Any], list[Finding]]]],
) -> list[str]:
    """The report as lines: by node its units, by unit the likeliest findings."""
    lines = []
    for host, told in nodes.items():
        if isinstance(told, str):
            lines.append(f"{host}: {told}")
            continue
        lines.append(f"{host}" if told else f"{host}: no unit planned or installed")
        for unit, findings in told:
            lines.append(f"  {unit['systemd_unit']}: {_state(unit)}")
            for finding in findings[:SHOWN]:
                seen = f"{finding.times} lines as" if finding.times > 1 else "a line"
                lines.append(f"    {finding.signature.name}, {seen}: {finding.line}")
                lines += [f"      {line}" for line in paragraph(finding)]
            if len(findings) > SHOWN:
                others = ", ".join(finding.signature.name for finding in findings[SHOWN:])
                lines.append(f"    and {others}")
            if unit["installed"] and not findings:
                lines.append("    no known failure in its logs")
    return lines


def _state(unit: Mapping[str, Any]) -> str:
    if not unit["installed"]:
        return "not installed"
    words = [f"{unit['active_state']} ({unit['sub_state']})"]
    if unit["result"] not in ("", "success"):
        words.append(f"result {unit['result']}")
    if unit["exit_status"] not in ("", "0"):
        words.append(f"exit status {unit['exit_status']}")
    if unit["restarts"]:
        words.append(f"{unit['restarts']} restarts")
    return ", ".join(words)


def merge(target: Path, archives: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Write one archive: each node's files below its name, and texts of the controller."""
    with tarfile.open(target, "w:gz") as tar:
        for name, text in texts.items():
            _add(tar, name, text.encode())
        for host, archive in archives.items():
            for name, data in members(archive):
                _add(tar, f"{host}/{name}", data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    tar.addfile(member, io.BytesIO(data))
