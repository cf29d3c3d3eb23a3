# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decisions ask of a node's files: they are handed a view and change nothing."""

from __future__ import annotations

from typing import Protocol


class FilesView(Protocol):
    """A node's files by their absolute paths, to look at alone."""

    def exists(self, path: str) -> bool:
        """Return whether something is there."""

    def read(self, path: str) -> str | None:
        """Return the text of a file, None where there is none."""

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted."""

    def is_link(self, path: str, target: str) -> bool:
        """Return whether a path is a link to a target."""
