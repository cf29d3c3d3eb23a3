# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a node, below a root that a test can choose."""

from __future__ import annotations

import contextlib
import glob
import os
import stat

from ansible_collections.muster.serving.plugins.module_utils.common import durable_io


class NodeFiles:
    """Reads and writes a node's files. Paths are the node's own absolute paths."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def read(self, path: str) -> str | None:
        """Return the text of a file, or None where there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="surrogateescape") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def holds(self, path: str, text: str, mode: int) -> bool:
        """Tell whether there is a file, no link to one, as this user would write it."""
        try:
            seen = os.lstat(self.path(path))
        except OSError:
            return False
        own = stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid()
        return own and stat.S_IMODE(seen.st_mode) == mode and self.read(path) == text

    def glob(self, pattern: str) -> list[str]:
        """Return the node's own paths that match, sorted."""
        found = glob.glob(os.path.join(glob.escape(self.root), pattern.lstrip("/")))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)

    def write(
        self, path: str, text: str, mode: int | None = None, owner: int | None = None
    ) -> None:
        """Replace a file in one step, also through a power cut: see durable_io.replace."""
        durable_io.replace(self.path(path), text, mode, owner)

    def write_kernel(self, path: str, value: str) -> None:
        """Write a value into a file of /proc or /sys, which cannot be replaced."""
        with open(self.path(path), "w", encoding="ascii") as stream:
            stream.write(value + "\n")

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, once."""
        if self.is_link(path, target):
            return
        link = self.path(path)
        os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
        self.remove(path)
        os.symlink(target, link)

    def is_link(self, path: str, target: str) -> bool:
        link = self.path(path)
        return os.path.islink(link) and os.readlink(link) == target

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(path))
