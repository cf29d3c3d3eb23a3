# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace a file so that neither a killed writer nor a power cut leaves half of one.

All state on a node is written by this. An agent there has it beside its own program, so it imports
the standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time

PREFIX = ".muster-"
# A write takes seconds: what is older was left by a writer that was killed.
LEFT_BEHIND_S = 3600.0


def replace(path: str, text: str, mode: int | None = None, owner: int | None = None) -> None:
    """Replace a file in one step: a reader, and whoever boots next, has the old or the new text.

    Without a mode, a file that exists keeps its own and a new one gets 0644. Folders are made.
    It is the writer's, or the owner's, a user's number.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    if mode is None:
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    folder = os.path.dirname(path)
    _make_folder(folder)
    handle, temporary = tempfile.mkstemp(prefix=PREFIX, dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            if owner is not None:
                os.fchown(stream.fileno(), owner, -1)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    # The name is in the folder: until that is on disk, a power cut brings the old file back.
    _sync_folder(folder)
    _clean(folder)


def _make_folder(folder: str) -> None:
    """Make a folder and those above it, each known to the one that holds it."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make_folder(above)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    _sync_folder(above)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems, such as those of a network, have no such thing.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _clean(folder: str) -> None:
    """Remove what writers that were killed have left in a folder."""
    now = time.time()
    # It takes room and no more: where it cannot be removed, the write has worked all the same.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX) or len(entry.name) != len(PREFIX) + 8:
                continue
            if now - entry.stat(follow_symlinks=False).st_mtime > LEFT_BEHIND_S:
                os.unlink(entry.path)
