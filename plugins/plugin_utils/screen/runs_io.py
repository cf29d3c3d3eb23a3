# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last runs of a cluster, a JSON object a line, beside its reports on the controller."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import replace_text

NAME = "runs.jsonl"
# How many runs are kept, the last ones.
_RUNS = 200
# A file beyond this is none of ours.
_MOST_BYTES = 5_000_000


def keep(path: Path, record: Mapping[str, Any]) -> None:
    """Put a run that has just ended behind those of before; where that cannot be, nothing happens.

    Args:
        path: The file.
        record: {playbook, failed_hosts, stages, verdicts}: the playbook's name, the hosts that were
            lost, what Run.stages returns, and by stage {passed, counts} of its checks.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runs = [*read(path), {"schema": 1, "time": now, **record}][-_RUNS:]
    with contextlib.suppress(OSError):
        replace_text(path, "".join(json.dumps(run) + "\n" for run in runs))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file, the last one last; a line that is none is left out."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    runs = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            run = json.loads(line)
            if isinstance(run, dict) and isinstance(run.get("time"), str):
                runs.append(run)
    return runs
