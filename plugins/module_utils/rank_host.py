# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rank_info and rank_units do on a node: ask systemd, Docker and the engine's API."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any, Callable, List, Mapping, Sequence, Tuple

from ansible_collections.muster.serving.plugins.module_utils import rank_unit
from ansible_collections.muster.serving.plugins.module_utils.systemd_unit import parse_show

# run(argv) -> (rc, stdout, stderr), with a timeout of its own.
Run = Callable[[List[str]], Tuple[int, str, str]]

_SHOWN = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,InvocationID"
LOG_LINES = 25


class RankError(Exception):
    """Something on the node keeps a unit from being observed or run; the text says what to do."""


def show(run: Run, systemd_units: Sequence[str]) -> dict[str, dict[str, str]]:
    """Properties of each unit by its name; a unit that systemd does not know is shown as inactive.

    Raises:
        RankError: systemctl did not answer.
    """
    if not systemd_units:
        return {}
    rc, out, err = run(["systemctl", "show", "--property", _SHOWN, *systemd_units])
    if rc != 0:
        raise RankError(
            f"systemctl show ended with rc {rc}: {(err or out).strip()}. Muster runs each rank as a"
            " systemd service: look whether systemd runs on this node (systemctl is-system-running)"
        )
    return parse_show(out)


def last_log(run: Run, systemd_unit: str, lines: int = LOG_LINES) -> list[str]:
    """The unit's last journal lines of its present or last run, oldest first."""
    rc, out, err = run(
        ["journalctl", f"--unit={systemd_unit}", f"--lines={lines}", "--output=cat", "--no-pager"]
    )
    if rc != 0:
        return [f"(journalctl ended with rc {rc}: {err.strip()})"]
    return [line.rstrip() for line in out.splitlines() if line.strip()]


def image_ids(run: Run, images: Sequence[str]) -> dict[str, str | None]:
    """The id of each image on this node, None for one that is not there.

    Raises:
        RankError: Docker does not answer.
    """
    found: dict[str, str | None] = {}
    for image in sorted(set(images)):
        rc, out, err = run([rank_unit.DOCKER, "image", "inspect", "--format", "{{.Id}}", image])
        if rc != 0 and "no such image" not in err.lower():
            # Before prepare there is no Docker: nothing is there, which is all that is asked here.
            if not os.path.exists(rank_unit.DOCKER):
                found[image] = None
                continue
            raise RankError(
                f"docker image inspect {image} ended with rc {rc}: {err.strip()}. "
                "Look at 'systemctl status docker' on this node"
            )
        found[image] = out.strip() if rc == 0 else None
    return found


def secrets(unit: rank_unit.Unit) -> dict[str, str]:
    """The unit's secrets by environment name, read from the files the plan names.

    Raises:
        RankError: A file is missing, unreadable or empty.
    """
    values = {}
    for name, path in (unit.get("secret_files") or {}).items():
        try:
            with open(path, encoding="utf-8") as stream:
                value = stream.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RankError(
                f"{unit['name']}: the secret for {name} cannot be read: {error}. "
                f"Put it into {path} on this node, mode 0600, owner root"
            ) from error
        if not value:
            raise RankError(f"{unit['name']}: the secret file {path} for {name} is empty")
        values[name] = value
    return values


def installed(name: str) -> dict[str, Any] | None:
    """What the state file says runs under this unit name; None when nothing was installed."""
    try:
        with open(rank_unit.state_path(name), encoding="utf-8") as stream:
            state = json.load(stream)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        # A file that cannot be read describes nothing: the unit is installed anew.
        return {"effective": {}}
    return state if isinstance(state, dict) and isinstance(state.get("effective"), dict) else None


def installed_names(deployment: str) -> list[str]:
    """Names of all units of a deployment that this node has, planned or not."""
    try:
        names = sorted(os.listdir(rank_unit.STATE_DIR))
    except FileNotFoundError:
        return []
    stems = [name[: -len(".json")] for name in names if name.endswith(".json")]
    return [stem for stem in stems if (installed(stem) or {}).get("deployment") == deployment]


def serves(api_url: str, model: str, api_key: str | None, timeout: float = 3.0) -> bool:
    """Whether the API at C(.../v1) lists the model. Loading engines do not listen yet."""
    request = urllib.request.Request(f"{api_url}/models")  # noqa: S310 (the plan makes the URL)
    if api_key:
        request.add_header("Authorization", f"Bearer {api_key}")
    # A proxy of the environment has no part in asking a node for its own port.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            listed = json.loads(answer.read(1 << 20))
        return any(entry.get("id") == model for entry in listed["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, urllib.error.URLError):
        return False


def desired(run: Run, units: Sequence[rank_unit.Unit]) -> dict[str, dict[str, str]]:
    """The effective configuration that the plan wants of each unit, by unit name."""
    ids = image_ids(run, [unit["image"] for unit in units])
    return {
        unit["name"]: rank_unit.effective(unit, ids[unit["image"]], secrets(unit)) for unit in units
    }


def describe(
    unit: rank_unit.Unit,
    shown: Mapping[str, str],
    wanted: Mapping[str, str],
    ready: bool | None,
) -> dict[str, Any]:
    """One unit as rank_info returns it."""
    state = installed(unit["name"])
    return {
        "name": unit["name"],
        "replica": unit["replica"],
        "role": unit["role"],
        "systemd_unit": unit["systemd_unit"],
        "installed": state is not None,
        "differences": rank_unit.differences(state and state["effective"], wanted),
        "active_state": shown.get("ActiveState", "inactive"),
        "sub_state": shown.get("SubState", "dead"),
        "result": shown.get("Result", ""),
        "exit_status": shown.get("ExecMainStatus", ""),
        "restarts": rank_unit.restarts(shown),
        "invocation_id": shown.get("InvocationID", ""),
        "ready": ready,
    }
