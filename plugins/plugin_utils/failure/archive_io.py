# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archives of a failure: read those of the nodes, write one of all."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ansible_collections.muster.serving.plugins.module_utils.units import names
from ansible_collections.muster.serving.plugins.plugin_utils.failure.judging import Log


def logs_of(archive: Path) -> dict[str, Log]:
    """Return by systemd service its journal and log files in an archive.

    They are journal/SERVICE.log and var/log/muster/UNIT/...
    """
    logs: dict[str, Log] = {}
    for name, data in members(archive):
        path = PurePosixPath(name)
        lines = data.decode("utf-8", "replace").splitlines()
        if path.parts[0] == "journal":
            logs.setdefault(path.stem, Log([], [])).journal.extend(lines)
        elif path.parts[:3] == ("var", "log", "muster") and len(path.parts) > 4:
            logs.setdefault(names.service(path.parts[3]), Log([], [])).files.extend(lines)
    return logs


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an archive, but none whose path leads out of it."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            path = PurePosixPath(member.name)
            if stream is not None and not path.is_absolute() and ".." not in path.parts:
                yield member.name, stream.read()


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
