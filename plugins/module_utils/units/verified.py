# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a plan that was verified on a node, as its file has it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import NOT_PRESENT

SCHEMA = 2


def record_path(deployment: str) -> str:
    return f"/var/lib/muster/verified/{deployment}.json"


def kept_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a plan, or of a part of it, is kept once it was verified."""
    return {
        "engine": {"name": part["engine"]["name"]},
        "endpoint": {"model": part["endpoint"]["model"]},
        **{key: part[key] for key in ("replicas", "units", "links")},
    }


def digest(part: Mapping[str, Any]) -> str:
    """Return what tells two parts of plans apart; equal on all nodes of a replica."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def record_text(
    part: Mapping[str, Any],
    engines: Mapping[str, str],
    runs: Mapping[str, str],
    told: Mapping[str, Any],
    former: Mapping[str, Any] | None = None,
) -> str:
    """Return the file of what was verified on a node.

    Args:
        part: A part of a plan.
        engines: By unit of the node, the id of the engine that it ran.
        runs: By unit of the node, systemd's id of the run that answered.
        told: What an operator reads of it: when and by whom it was verified, its recipe, versions.
        former: The record that it takes the place of.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "digest": digest(part),
        "engines": dict(engines),
        "runs": dict(runs),
        "told": dict(told),
        "plan": part,
        "before": None,
    }
    if former:
        # What a rollback goes back to is another plan, not the same one verified earlier.
        same = same_plan(former, record)
        record["before"] = former.get("before") if same else {**former, "before": None}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def same_plan(record: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Return whether two records keep the same plan and engines."""
    return bool(record) and all(
        (record or {}).get(key) == other.get(key) for key in ("digest", "engines")
    )


def read_record(text: str | None) -> dict[str, Any] | None:
    """Return the file's content; None where there is none, or none that is whole."""
    try:
        record = json.loads(text or "")
    except ValueError:
        return None
    return record if _is_whole(record) else None


def before(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the record of what was verified before; None where there is none that is whole."""
    former = (record or {}).get("before")
    return former if _is_whole(former) else None


def _is_whole(record: Any) -> bool:
    try:
        return bool(
            record["schema"] == SCHEMA and record["digest"] == digest(record["plan"])
        ) and isinstance(record["engines"], dict)
    except (KeyError, TypeError):
        return False


def engine_ids(wanted: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return by unit the id of the image or environment that it would run from."""
    return {
        name: effective.get("image id") or effective.get("environment id") or NOT_PRESENT
        for name, effective in wanted.items()
    }


def engine_problem(recorded: str | None, present: str) -> str:
    """Say why a unit cannot start from the engine it was verified with; empty where it can."""
    if present == NOT_PRESENT:
        return "its image or environment is not on this node any more: run playbooks/prepare.yml"
    if recorded != present:
        return (
            "its image or environment is another than the verified one: run playbooks/serve.yml,"
            " then playbooks/verify.yml"
        )
    return ""


def own_units(part: Mapping[str, Any], host: str) -> Sequence[Any]:
    return [unit for unit in part["units"] if unit["host"] == host]
