# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the oldest log files below a folder, until what is left is within bounds.

An engine's runtime bounds what one of its processes writes, but never removes the files of earlier
runs. So a unit runs this before each start, whoever starts it. What cannot be removed is left. It
is one standalone script: it imports the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import Iterator, NamedTuple

MAX_BYTES = 2 << 30
MAX_FILES = 2000


class LogFile(NamedTuple):
    """A file, by when it was written last."""

    mtime: float
    path: str
    size: int


def files_below(folder: str) -> Iterator[LogFile]:
    """Yield the plain files below a folder; no link is followed."""
    for here, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            with contextlib.suppress(OSError):
                seen = os.lstat(path)
                if stat.S_ISREG(seen.st_mode):
                    yield LogFile(seen.st_mtime, path, seen.st_size)


def bound(folder: str, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> list[str]:
    """Remove what is older than the newest files that are within both bounds, and return it."""
    left = max_bytes
    beyond = []
    for index, one in enumerate(sorted(files_below(folder), reverse=True)):
        left -= one.size
        if left < 0 or index >= max_files:
            beyond.append(one.path)
    removed = []
    for path in beyond:
        with contextlib.suppress(OSError):
            os.unlink(path)
            removed.append(path)
    return removed


if __name__ == "__main__":
    for name in sys.argv[1:]:
        bound(name)
