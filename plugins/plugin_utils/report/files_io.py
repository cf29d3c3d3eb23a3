# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a page is made from, on the controller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.report import page, shapes
from ansible_collections.muster.serving.plugins.plugin_utils.report.model import STAGES, Found
from ansible_collections.muster.serving.plugins.plugin_utils.screen import runs_io

DEVICES = "devices.json"
# How many reports of a kind are read, the last ones.
_REPORTS = 30
# A file beyond this is none of ours.
_MOST_BYTES = 50_000_000


def template() -> str:
    """Return the text of the page's template."""
    return Path(__file__).with_name(page.TEMPLATE).read_text(encoding="utf-8")


def collect(folder: Path) -> Found:
    """Return what lies in the folder of a cluster's reports; what is not there is empty."""
    unreadable: list[str] = []
    kinds = {**dict.fromkeys(STAGES, "verdict"), "status": "status"}
    reports = {
        name: report
        for name, kind in kinds.items()
        if (report := _read(folder / f"{name}.json", kind, unreadable)) is not None
    }
    runs = runs_io.read(folder / runs_io.NAME)
    return {
        "reports": reports,
        "devices": (_read(folder / DEVICES, "devices", unreadable) or {}).get("hosts", {}),
        "verified": _read(folder / "verified-plan.json", "plan", unreadable),
        "runs": [run for run in runs if not shapes.wrong("run", run)],
        "bench": _series(folder, "bench", unreadable),
        "sweep": _series(folder, "sweep", unreadable),
        "soak": _series(folder, "soak", unreadable),
        "accuracy": _series(folder, "accuracy", unreadable),
        "unreadable": unreadable,
    }


def _series(folder: Path, kind: str, unreadable: list[str]) -> list[dict[str, Any]]:
    """Return the last of some dated reports, the newest last."""
    paths = sorted(folder.glob(f"{kind}-*.json"))[-_REPORTS:]
    read = (_read(path, kind, unreadable) for path in paths)
    return [one for one in read if one is not None]


def _read(path: Path, kind: str, unreadable: list[str]) -> dict[str, Any] | None:
    """Return a report; nothing where the file is absent, or is named as unreadable."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            unreadable.append(f"{path} is larger than any report")
            return None
        # What is no number stands for none.
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _text: None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        unreadable.append(f"{path} cannot be read: {error}")
        return None
    if told := shapes.wrong(kind, value):
        unreadable.append(f"{path} is not as this release writes it, at {told}")
        return None
    return dict(value)
