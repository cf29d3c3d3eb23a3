# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do for unit_info and unit_state what touches a node: ask systemd, Docker, the engine's API."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text, redaction
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    by_id,
    parse_show,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    environment_of,
    identity_of,
    marker_path,
)
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import env_value
from ansible_collections.muster.serving.plugins.module_utils.units import names, unit_files

_SHOWN = (
    "Id,LoadState,UnitFileState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,InvocationID,"
    "StateChangeTimestampMonotonic"
)
LOG_LINES = 25


# systemctl, journalctl and docker answer at once, or something is wrong with them.
ASK_TIMEOUT_S = 20


class UnitError(Exception):
    """Something on the node keeps a unit from being observed or run; the text says what to do."""


def ask(argv: list[str], timeout: float = ASK_TIMEOUT_S) -> Output:
    """Run a command of the node and return what it printed.

    Raises:
        UnitError: It could not be started or did not end in time.
    """
    try:
        return run(argv, timeout)
    except CommandError as error:
        raise UnitError(str(error)) from error


def show(systemd_units: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return properties of each unit by its name; one that systemd does not know is inactive.

    Raises:
        UnitError: systemctl did not answer.
    """
    if not systemd_units:
        return {}
    output = ask(["systemctl", "show", "--property", _SHOWN, *systemd_units])
    if output.rc != 0:
        raise UnitError(
            f"systemctl show ended with rc {output.rc}: {output.text}. Muster runs each rank as a"
            " systemd service: look whether systemd runs on this node (systemctl is-system-running)"
        )
    return by_id(parse_show(output.stdout))


def running(services: Sequence[str]) -> list[str]:
    """Return those of systemd's services that are not at rest, whatever they are about to do.

    Raises:
        UnitError: systemctl did not answer.
    """
    shown = show(services)
    return [
        service
        for service in services
        if shown.get(service, {}).get("ActiveState", "inactive") not in ("inactive", "failed")
    ]


def last_log(systemd_unit: str, lines: int = LOG_LINES) -> list[str]:
    """Return the last journal lines of a unit, oldest first, without secrets and prompts.

    They go on to terminals, reports and the artifacts of runners.
    """
    output = ask(
        ["journalctl", f"--unit={systemd_unit}", f"--lines={lines}", "--output=cat", "--no-pager"]
    )
    if output.rc != 0:
        return [f"(journalctl ended with rc {output.rc}: {output.text})"]
    kept = redaction.lines(output.stdout).splitlines()
    return [line.rstrip() for line in kept if line.strip()]


def image_ids(images: Sequence[str]) -> dict[str, str | None]:
    """Return the id of each image on this node, None for one that is not there.

    Raises:
        UnitError: Docker does not answer.
    """
    found: dict[str, str | None] = dict.fromkeys(images)
    # Before prepare there may be no Docker: nothing is there, which is all that is asked here.
    if not os.path.exists(unit_files.DOCKER):
        return found
    for image in found:
        output = ask([unit_files.DOCKER, "image", "inspect", "--format", "{{.Id}}", image])
        if output.rc == 0:
            found[image] = output.stdout.strip()
        elif "no such image" not in output.stderr.lower():
            raise UnitError(
                f"docker image inspect {image} ended with rc {output.rc}: {output.text}. "
                "Look at 'systemctl status docker' on this node"
            )
    return found


def environment_ids(paths: Sequence[str]) -> dict[str, str | None]:
    """Return the identity of each environment by path; None for one not there or not whole."""
    files = NodeFiles()
    return {path: identity_of(files.read(marker_path(path))) for path in paths}


def secrets(unit: unit_files.Unit) -> dict[str, str]:
    """Return a unit's secrets by environment name, read from the files the plan names.

    Raises:
        UnitError: A file is missing, unreadable or empty.
    """
    values = {}
    for name, path in (unit.get("secret_files") or {}).items():
        try:
            with open(path, encoding="utf-8") as stream:
                value = stream.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnitError(
                f"{unit['name']}: the secret for {name} cannot be read: {error}. "
                f"Put it into {path} on this node, mode 0600, owner root"
            ) from error
        if not value:
            raise UnitError(f"{unit['name']}: the secret file {path} for {name} is empty")
        values[name] = value
    return values


def installed(name: str) -> dict[str, Any] | None:
    """Return what the state file says runs under a unit's name; None when nothing is installed."""
    text = NodeFiles().read(unit_files.state_path(name))
    if text is None:
        return None
    try:
        state = json_text.parse(text)
    except ValueError:
        state = None
    # A file that cannot be read describes nothing: the unit is installed anew.
    whole = isinstance(state, dict) and isinstance(state.get("effective"), dict)
    return state if whole else {"effective": {}}


def deployments() -> dict[str, str]:
    """Return the deployment of each installed unit by its name.

    The name itself tells it of a unit whose state file cannot be read: it runs all the same.
    """
    paths = NodeFiles().glob(unit_files.state_path("*"))
    stems = [os.path.basename(path)[: -len(".json")] for path in paths]
    return {
        stem: str((installed(stem) or {}).get("deployment") or names.deployment_of(stem))
        for stem in stems
    }


def installed_names(deployment: str) -> list[str]:
    """Return the names of all units of a deployment that this node has, planned or not."""
    return [name for name, owner in deployments().items() if owner == deployment]


def running_others(deployment: str) -> list[dict[str, Any]]:
    """Return the other deployments of which units run here, each with their names.

    Raises:
        UnitError: systemctl did not answer.
    """
    owners = {name: owner for name, owner in deployments().items() if owner not in ("", deployment)}
    shown = show([names.service(name) for name in owners])
    running: dict[str, list[str]] = {}
    for name, owner in owners.items():
        state = shown.get(names.service(name), {}).get("ActiveState", "inactive")
        if state not in ("inactive", "failed"):
            running.setdefault(owner, []).append(name)
    return [{"deployment": owner, "units": found} for owner, found in sorted(running.items())]


def owners_of_files() -> dict[str, set[str]]:
    """Return the names of the installed units that each file of units belongs to, by its path."""
    owners: dict[str, set[str]] = {}
    for state in NodeFiles().glob(unit_files.state_path("*")):
        name = os.path.basename(state)[: -len(".json")]
        for path in unit_files.file_paths((installed(name) or {}).get("effective")):
            owners.setdefault(path, set()).add(name)
    return owners


def is_ready(unit: unit_files.Unit, model: str) -> bool:
    """Return whether the API of a unit that has one does its work.

    An engine lists the model; a gateway answers, whatever it says of the replicas behind it.
    """
    url = str(unit["api_url"])
    if unit["role"] == "gateway":
        return answers(urllib.parse.urljoin(url, "/muster/health"))
    return serves(url, model, api_key(unit))


def api_key(unit: unit_files.Unit) -> str | None:
    """Return the key that the API of an engine asks for; None where it asks for none.

    It is the one that the unit was started with: the file that the plan names may hold another
    since, which only a restart takes over.
    """
    name = unit.get("api_key_env")
    if not name:
        return None
    text = NodeFiles().read(unit_files.env_path(unit))
    started = env_value(text, name, unit_files.in_venv(unit)) if text else None
    return secrets(unit).get(name) if started is None else started


def answers(url: str, timeout: float = 3.0) -> bool:
    """Return whether a health check is answered, well or ill."""
    try:
        with _direct().open(url, timeout=timeout):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 503
    except (OSError, http.client.HTTPException, ValueError):
        return False


def serves(api_url: str, model: str, api_key: str | None, timeout: float = 3.0) -> bool:
    """Return whether the API at .../v1 lists the model. Loading engines do not listen yet."""
    request = urllib.request.Request(f"{api_url}/models")  # noqa: S310 (the plan makes the URL)
    if api_key:
        request.add_header("Authorization", f"Bearer {api_key}")
    try:
        with _direct().open(request, timeout=timeout) as answer:
            listed = json.loads(answer.read(1 << 20))
        return any(entry.get("id") == model for entry in listed["data"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        # Whoever holds the port instead of the engine may answer anything.
        return False


def _direct() -> urllib.request.OpenerDirector:
    """Return an opener that asks a node for its own port past any proxy of the environment.

    Whose certificate a gateway has is for verify to ask; here the node asks whether it lives.
    """
    anybody = ssl._create_unverified_context()  # noqa: S323
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody)
    )


def desired(units: Sequence[unit_files.Unit]) -> dict[str, dict[str, str]]:
    """Return the effective configuration that the plan wants of each unit, by unit name."""
    paths = {
        unit["name"]: environment_of(unit["argv"]) for unit in units if unit_files.in_venv(unit)
    }
    environments = environment_ids(list(paths.values()))
    # A node whose units need no container needs no Docker.
    images = image_ids([unit["image"] for unit in units if unit["name"] not in paths])
    wanted = {}
    for unit in units:
        name = unit["name"]
        engine_id = environments[paths[name]] if name in paths else images[unit["image"]]
        wanted[name] = unit_files.effective(unit, engine_id, secrets(unit))
    return wanted


def first_start(unit: unit_files.Unit) -> dict[str, Any] | None:
    """Return a unit's first_start of the plan while its cache is absent or empty, else None."""
    once: dict[str, Any] | None = unit.get("first_start")
    if once is None:
        return None
    try:
        with os.scandir(once["cache"]) as entries:
            return None if any(entries) else once
    except FileNotFoundError:
        return once
    except OSError as error:
        raise UnitError(
            f"{unit['name']}: the engine's cache {once['cache']} cannot be looked at: {error}"
        ) from error


def stalled(systemd_unit: str, shown: Mapping[str, str]) -> str:
    """Return what the agent of a unit's replica says of it as it stands still; empty for nothing.

    An agent that wrote nothing, or nothing that can be read, says nothing.
    """
    links = names.links_of([names.unit_of(systemd_unit)])
    # A gateway has none.
    text = NodeFiles().read(unit_files.link_state_path(links[0])) if links else None
    return unit_files.stall_text(text or "", systemd_unit, shown)


def since(shown: Mapping[str, str]) -> str:
    """Return since when a unit is in its state, as YYYY-MM-DD HH:MM:SSZ; empty where never."""
    changed = shown.get("StateChangeTimestampMonotonic", "")
    if not changed.isdecimal() or int(changed) == 0:
        return ""
    # By the clock that does not jump: systemd's text of it goes by locale and time zone.
    at = time.time() - (time.monotonic() - int(changed) / 1e6)
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def describe(
    unit: unit_files.Unit,
    shown: Mapping[str, str],
    wanted: Mapping[str, str],
    ready: bool | None,
) -> dict[str, Any]:
    """Return one unit as unit_info does."""
    state = installed(unit["name"])
    return {
        "name": unit["name"],
        "replica": unit["replica"],
        "group": unit["group"],
        "role": unit["role"],
        "systemd_unit": unit["systemd_unit"],
        "installed": state is not None,
        "engine": unit_files.engine_of(state and state["effective"]),
        "differences": unit_files.differences(state and state["effective"], wanted),
        "active_state": shown.get("ActiveState", "inactive"),
        "sub_state": shown.get("SubState", "dead"),
        "since": since(shown),
        "boot": shown.get("UnitFileState", ""),
        "result": shown.get("Result", ""),
        "exit_status": shown.get("ExecMainStatus", ""),
        "restarts": unit_files.restarts(shown),
        "invocation_id": shown.get("InvocationID", ""),
        "ready": ready,
        "stalled": stalled(unit["systemd_unit"], shown),
        "first_start": first_start(unit),
    }
