# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for a person at a terminal, which is nothing where a program reads what is printed."""

from __future__ import annotations

from ansible import constants
from ansible.utils.display import Display


def show(text: str, color: str | None = None) -> None:
    """Print a table or a line, unless the run's standard output is one JSON document."""
    if not reads_as_json(str(constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK"))):
        Display().display(text, color=color)


def reads_as_json(callback: str) -> bool:
    """Return whether a callback makes JSON of standard output, by its name."""
    return callback.rpartition(".")[2] in ("json", "jsonl")
