# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the tasks of former runs took, for estimates: a small file of the user's."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Of how many kinds of run the times are kept, those that ran last.
_RUNS = 40
# A task that is shorter needs no estimate.
_LEAST_S = 2.0
# A file beyond this is none of ours.
_MOST_BYTES = 1_000_000


def default_path() -> Path:
    """Return where the times are kept unless told otherwise, by the XDG rules."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~/.local/state"))
    return folder / "muster" / "progress.json"


def read(path: Path, run: str) -> dict[str, float]:
    """Return seconds by task of the last run of this kind; empty where there is nothing to read."""
    times = _runs(path).get(run)
    return {
        str(task): float(taken)
        for task, taken in (times.items() if isinstance(times, dict) else ())
        if isinstance(taken, (int, float)) and math.isfinite(taken) and taken > 0
    }


def keep(path: Path, run: str, times: Mapping[str, float]) -> None:
    """Put a run's times beside those of others; where that cannot be, nothing happens.

    What this run did not do keeps its time: it may have had nothing to start.
    """
    runs = _runs(path)
    told = {task: round(taken, 1) for task, taken in times.items() if taken >= _LEAST_S}
    runs[run] = {**read(path, run), **told}
    if not told:
        return
    runs[run] = dict(list(runs[run].items())[-200:])
    # The newest stands last.
    last = {name: runs[name] for name in [*(name for name in runs if name != run), run][-_RUNS:]}
    temporary = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            temporary = file.name
            json.dump({"schema": 1, "runs": last}, file)
        os.replace(temporary, path)
    except (OSError, ValueError):
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _runs(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    runs = document.get("runs") if isinstance(document, dict) else None
    return runs if isinstance(runs, dict) else {}
