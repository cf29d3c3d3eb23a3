# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rank_info and rank_units do on a node: ask systemd, Docker and the engine's API."""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils import rank_unit
from ansible_collections.muster.serving.plugins.module_utils.command import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.systemd_unit import parse_show

_SHOWN = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,InvocationID"
LOG_LINES = 25


# systemctl, journalctl and docker answer at once, or something is wrong with them.
ASK_TIMEOUT_S = 20


class RankError(Exception):
    """Something on the node keeps a unit from being observed or run; the text says what to do."""


def ask(argv: list[str], timeout: float = ASK_TIMEOUT_S) -> Output:
    """Run a command of the node.

    Raises:
        RankError: It could not be started or did not end in time.
    """
    try:
        return run(argv, timeout)
    except CommandError as error:
        raise RankError(str(error)) from error


def show(systemd_units: Sequence[str]) -> dict[str, dict[str, str]]:
    """Properties of each unit by its name; a unit that systemd does not know is shown as inactive.

    Raises:
        RankError: systemctl did not answer.
    """
    if not systemd_units:
        return {}
    output = ask(["systemctl", "show", "--property", _SHOWN, *systemd_units])
    if output.rc != 0:
        raise RankError(
            f"systemctl show ended with rc {output.rc}: {output.text}. Muster runs each rank as a"
            " systemd service: look whether systemd runs on this node (systemctl is-system-running)"
        )
    return parse_show(output.stdout)


def last_log(systemd_unit: str, lines: int = LOG_LINES) -> list[str]:
    """The unit's last journal lines of its present or last run, oldest first."""
    output = ask(
        ["journalctl", f"--unit={systemd_unit}", f"--lines={lines}", "--output=cat", "--no-pager"]
    )
    if output.rc != 0:
        return [f"(journalctl ended with rc {output.rc}: {output.text})"]
    return [line.rstrip() for line in output.stdout.splitlines() if line.strip()]


def image_ids(images: Sequence[str]) -> dict[str, str | None]:
    """The id of each image on this node, None for one that is not there.

    Raises:
        RankError: Docker does not answer.
    """
    found: dict[str, str | None] = dict.fromkeys(images)
    # Before prepare there may be no Docker: nothing is there, which is all that is asked here.
    if not os.path.exists(rank_unit.DOCKER):
        return found
    for image in found:
        output = ask([rank_unit.DOCKER, "image", "inspect", "--format", "{{.Id}}", image])
        if output.rc == 0:
            found[image] = output.stdout.strip()
        elif "no such image" not in output.stderr.lower():
            raise RankError(
                f"docker image inspect {image} ended with rc {output.rc}: {output.text}. "
                "Look at 'systemctl status docker' on this node"
            )
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
    text = NodeFiles().read(rank_unit.state_path(name))
    if text is None:
        return None
    try:
        state = json.loads(text)
    except ValueError:
        # A file that cannot be read describes nothing: the unit is installed anew.
        return {"effective": {}}
    return state if isinstance(state, dict) and isinstance(state.get("effective"), dict) else None


def installed_names(deployment: str) -> list[str]:
    """Names of all units of a deployment that this node has, planned or not."""
    paths = NodeFiles().glob(rank_unit.state_path("*"))
    stems = [os.path.basename(path)[: -len(".json")] for path in paths]
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
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        # Whoever holds the port instead of the engine may answer anything.
        return False


def desired(units: Sequence[rank_unit.Unit]) -> dict[str, dict[str, str]]:
    """The effective configuration that the plan wants of each unit, by unit name."""
    ids = image_ids([unit["image"] for unit in units])
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
