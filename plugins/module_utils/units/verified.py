# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a plan that was verified on a node, as its file has it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import NOT_PRESENT

SCHEMA = 2
_VERIFY = "run playbooks/serve.yml, then playbooks/verify.yml"
_UPGRADE = "let the inventory say what is to run, then run playbooks/upgrade.yml"


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
        record = json_text.parse(text)
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


def why_none(deployment: str, text: str | None, which: str) -> str:
    """Say why a node has nothing to start from.

    Args:
        deployment: What was to start.
        text: The node's file; None where there is none.
        which: verified, or before.
    """
    path = record_path(deployment)
    if text is None:
        return f"nothing of {deployment} was verified here yet, to start from: {_VERIFY}"
    record = read_record(text)
    if record is None:
        return f"{path} is not whole, so it does not tell what was verified here: {_VERIFY}"
    if which == "before" and record.get("before"):
        return f"what was verified before is not whole in {path}: {_UPGRADE}"
    return (
        "nothing else was verified here before what was verified last, so there is nothing to go "
        f"back to: {_UPGRADE}"
    )


def engine_problem(recorded: str | None, present: str, which: str = "verified") -> str:
    """Say why a unit cannot start from the engine it was verified with; empty where it can.

    Args:
        recorded: Its id when it was verified.
        present: That of what is on the node by its name now.
        which: verified, or before, of which no other playbook than upgrade knows anything.
    """
    if present == NOT_PRESENT:
        remedy = _UPGRADE if which == "before" else "run playbooks/prepare.yml"
        return f"its image or environment is not on this node any more: {remedy}"
    if recorded != present:
        remedy = _UPGRADE if which == "before" else _VERIFY
        return f"its image or environment is another than the verified one: {remedy}"
    return ""


def own_units(part: Mapping[str, Any], host: str) -> Sequence[Any]:
    return [unit for unit in part["units"] if unit["host"] == host]
