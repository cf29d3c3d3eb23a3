# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things: state that `down` removes, caches that it keeps."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.shell import say

LAB = Path(__file__).resolve().parent
ROOT = LAB.parent


def _xdg(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable) or str(Path.home() / fallback)
    return Path(base) / "muster-lab"


def state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    return _xdg("XDG_CACHE_HOME", ".cache")


def key_file() -> Path:
    return state_dir() / "id_ed25519"


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Room for a build; `sweep_scratch` removes what a killed one left."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="tmp", dir=cache_dir())


def sweep_scratch() -> None:
    for leftover in cache_dir().glob("tmp*"):
        shutil.rmtree(leftover)


def log_file(name: str) -> Path:
    return state_dir() / "logs" / f"{name}.log"


def digest(*parts: str | bytes | Path) -> str:
    """A short hash of texts, of files and of whole folders (names, modes, contents)."""
    total = hashlib.sha256()

    def add(data: bytes) -> None:
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)

    for part in parts:
        if isinstance(part, Path):
            files = sorted(part.rglob("*")) if part.is_dir() else [part]
            for file in files:
                if file.is_file() and file.suffix != ".pyc":
                    name = file.relative_to(part) if part.is_dir() else Path(file.name)
                    add(str(name).encode())
                    add(b"x" if os.access(file, os.X_OK) else b"-")
                    add(file.read_bytes())
        else:
            add(part.encode() if isinstance(part, str) else part)
    return total.hexdigest()[:12]


def give_to_caller(path: Path) -> None:
    """Under sudo, what the caller's own Ansible must read belongs to the caller."""
    if "SUDO_UID" in os.environ and "SUDO_GID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


@contextmanager
def lab_lock() -> Iterator[None]:
    """One lab command at a time changes the lab."""
    directory = state_dir()
    directory.mkdir(parents=True, exist_ok=True)
    give_to_caller(directory)
    with (directory / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  another lab command is at work; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
