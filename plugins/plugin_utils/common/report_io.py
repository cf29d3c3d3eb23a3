# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports for scripts: as files, and as statistics of the run."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail


def write_json(path: str, value: Any) -> None:
    """Write a JSON file whole or not at all, readable by all.

    Raises:
        AnsibleActionFail: It cannot be written there.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all, readable by all.

    Raises:
        AnsibleActionFail: It cannot be written there.
    """
    try:
        replace_text(Path(path), text)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be written: {error}") from None


def replace_text(target: Path, text: str) -> None:
    """Write a file whole or not at all, readable by all; nothing else is left behind.

    Raises:
        OSError: It cannot be written there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def keep_text(path: str, text: str, check_mode: bool) -> dict[str, Any]:
    """Let a file hold a text, and remove it for an empty one; return a task's changed and diff.

    Raises:
        AnsibleActionFail: It cannot be read, or written there.
    """
    target = Path(path)
    try:
        before = target.read_text(encoding="utf-8")
    except FileNotFoundError:
        before = ""
    except (OSError, UnicodeDecodeError) as error:
        raise AnsibleActionFail(f"{target} cannot be read: {error}") from None
    if before != text and not check_mode:
        if text:
            write_text(path, text)
        else:
            target.unlink()
    return {
        "changed": before != text,
        "diff": {"before": before, "after": text, "before_header": path, "after_header": path},
    }


def statistics(name: str, value: Any) -> dict[str, Any]:
    """Return what a task's result has as ansible_stats to keep a report beyond the run.

    Runners that throw the working folder away keep a run's statistics: AWX as artifacts, others
    through their callback. The reports of one name are merged, key by key.
    """
    return {"data": {name: value}, "per_host": False, "aggregate": True}
