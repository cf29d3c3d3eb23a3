# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the environment of a client, such as a test harness, from a lock file."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.paths import PREFIX

MIN_PYTHON = (3, 11)
_INSTALL_S = 1800
_ASK_S = 60
_LINES = 12
_GIB = 1 << 30


class PythonEnvError(Exception):
    """There is no environment; the text says why and what to do."""


class Kind(NamedTuple):
    """A client that has an environment of its own.

    Fields:
        name: What it is called.
        folder: Its folder below the user's cache folder, behind `muster-`.
        role: The role whose lock file and variables it has.
        room_gib: How much room its environment takes on the disk at least.
    """

    name: str
    folder: str
    role: str
    room_gib: float


def cache_dir(kind: Kind) -> str:
    """Return this user's folder for the environments and runs of a client."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, PREFIX + kind.folder)


def make(kind: Kind, lock: str, python: str | None, wheels: str | None) -> tuple[str, bool]:
    """Return a client's environment, made where there is none of this lock; and whether it was.

    Args:
        kind: The client.
        lock: What is installed, pins as pip reads them.
        python: The interpreter; None for the one that runs this.
        wheels: A folder with all wheels, for a host without a package index.

    Raises:
        PythonEnvError: It cannot be made.
    """
    interpreter = python or sys.executable
    # However the file was read, it is the same environment.
    digest = hashlib.sha256(f"{lock.strip()}\n{interpreter}".encode()).hexdigest()[:12]
    venv = os.path.join(cache_dir(kind), f"venv-{digest}")
    stamp = os.path.join(venv, ".complete")
    if os.path.exists(stamp):
        return venv, False
    if wheels and not os.path.isdir(wheels):
        raise PythonEnvError(f"{kind.role}_wheels: there is no folder {wheels} on this host")
    version = _do("Python", [interpreter, "-c", "import sys; print(*sys.version_info[:2])"], _ASK_S)
    if tuple(map(int, version.split())) < MIN_PYTHON:
        raise PythonEnvError(
            f"{interpreter} is Python {'.'.join(version.split())}, and {kind.name} wants "
            f"{'.'.join(map(str, MIN_PYTHON))} or later: set {kind.role}_python"
        )
    shutil.rmtree(venv, ignore_errors=True)
    os.makedirs(cache_dir(kind), exist_ok=True)
    free = shutil.disk_usage(cache_dir(kind)).free / _GIB
    if free < kind.room_gib:
        raise PythonEnvError(
            f"{cache_dir(kind)} has {free:.1f} GiB free on this host, and {kind.name} takes "
            f"{kind.room_gib:g} at least: make room, or name a folder on another disk by "
            f"XDG_CACHE_HOME in {kind.role}_environment"
        )
    _do("the environment", [interpreter, "-m", "venv", venv], _INSTALL_S)
    requirements = os.path.join(venv, "requirements.lock")
    Path(requirements).write_text(lock, encoding="utf-8")
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet"]
    # Compiled when first imported: most of it never is.
    pip += ["--disable-pip-version-check", "--no-input", "--no-compile"]
    pip += ["--requirement", requirements]
    pip += ["--no-index", "--find-links", wheels] if wheels else []
    remedy = (
        f"\nWithout a package index, set {kind.role}_wheels to a folder of wheels (pip download -r "
        f"roles/{kind.role}/files/requirements.lock), or {kind.role}_venv to an environment "
        f"with {kind.name} in it"
    )
    _do(kind.name, pip, _INSTALL_S, remedy)
    Path(stamp).touch()
    return venv, True


def _do(what: str, argv: list[str], timeout: float, remedy: str = "") -> str:
    """Return what a command printed that has to succeed.

    Raises:
        PythonEnvError: It failed; the text has its end and the remedy.
    """
    try:
        output = run(argv, timeout)
    except CommandError as error:
        raise PythonEnvError(f"{what} cannot be had: {error}") from None
    if output.rc:
        end = "\n".join(output.text.splitlines()[-_LINES:])
        raise PythonEnvError(f"{what} cannot be had: {end}{remedy}")
    return output.stdout
