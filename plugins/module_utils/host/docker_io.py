# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the Docker daemon and writes its configuration."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import durable_io
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import run
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import parse_show
from ansible_collections.muster.serving.plugins.module_utils.host.checks import properties
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    CERTIFICATES,
    DAEMON_JSON,
    STATE_PATH,
    UNIT,
    Changes,
    Daemon,
    DockerError,
    Wanted,
    decide,
    read_daemon_json,
    wanted_from,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    CLIENTS,
    lack_of,
)

# May hold a password.
PROXY_SPEC: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "http": {"type": "str", "no_log": True},
        "https": {"type": "str", "no_log": True},
        "no_proxy": {"type": "str"},
    },
}
ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "default": "default"},
    "insecure_registries": {"type": "list", "elements": "str", "default": []},
    "registry_mirrors": {"type": "list", "elements": "str", "default": []},
    "proxy": PROXY_SPEC,
    "registry_ca": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 90},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def write(files: NodeFiles, changes: Changes) -> None:
    """Put the files in place. What is ours is noted first, so an interruption loses nothing.

    Raises:
        DockerError: Somebody else has written the daemon's configuration meanwhile.
        OSError: A file cannot be written.
    """
    _hold_still(files, changes)
    if changes.state is not None and files.read(STATE_PATH) != changes.state:
        files.write(STATE_PATH, changes.state)
    for path, change in changes.files.items():
        if change.after is None:
            files.remove(path)
        elif path == DAEMON_JSON:
            write_daemon_json(files, change.after)
        else:
            files.write(path, change.after, change.mode)
    if changes.state is None:
        files.remove(STATE_PATH)


def _hold_still(files: NodeFiles, changes: Changes) -> None:
    """Refuse to write over what another tool has put into the daemon's configuration since."""
    change = changes.files.get(DAEMON_JSON)
    if change and read_daemon_json(files) != change.before:
        raise DockerError(
            f"{DAEMON_JSON} was changed by somebody else at the same time. Nothing was changed: "
            "run again."
        )


def write_daemon_json(files: NodeFiles, text: str) -> None:
    """Replace the daemon's configuration, or the file that a link in its place leads to.

    Raises:
        DockerError: It leads to what is no file.
        OSError: It cannot be written.
    """
    target = os.path.realpath(files.path(DAEMON_JSON))
    if os.path.exists(target) and not os.path.isfile(target):
        raise DockerError(
            f"{DAEMON_JSON} leads to {target}, which is no file. Nothing was changed."
        )
    durable_io.replace(target, text)


def take_back(files: NodeFiles, changes: Changes) -> None:
    """Take what a deployment added out of the files."""
    for path, change in changes.files.items():
        if path == DAEMON_JSON and (change.after or os.path.islink(files.path(path))):
            # A link is not Muster's: what it leads to stays, with nothing in it.
            write_daemon_json(files, change.after or "{}\n")
            continue
        if change.after is not None:
            files.write(path, change.after, change.mode)
            continue
        files.remove(path)
        # A folder that was made for this file. Docker's own is not one.
        for folder in (posixpath.dirname(path), CERTIFICATES):
            if folder != posixpath.dirname(DAEMON_JSON):
                with contextlib.suppress(OSError):
                    os.rmdir(files.path(folder))


def keep_state(files: NodeFiles, changes: Changes) -> None:
    """Note what is Muster's from now on."""
    if changes.state is None:
        files.remove(STATE_PATH)
    elif files.read(STATE_PATH) != changes.state:
        files.write(STATE_PATH, changes.state)


def client_of(files: NodeFiles) -> str | None:
    """Return where the docker command stands; None where there is none."""
    return next((path for path in CLIENTS if files.exists(path)), None)


def docker_info(timeout: float) -> dict[str, Any]:
    """Return what the running daemon says about itself.

    Raises:
        DockerError: It does not answer.
        CommandError: It does not answer in time.
    """
    output = run(["docker", "info", "--format", "{{json .}}"], timeout)
    try:
        info = json.loads(output.stdout)
    except ValueError:
        info = {}
    if output.rc or not isinstance(info, dict) or not info.get("ServerVersion"):
        raise DockerError(
            f"the Docker daemon does not answer: {output.text}. Look at journalctl -u {UNIT}."
        )
    return info


def observe(files: NodeFiles, timeout: float) -> Daemon:
    """Return the daemon as it is, without a start of one that is stopped.

    Raises:
        DockerError: systemd or the daemon does not answer, or it is masked.
        CommandError: One of them does not answer in time.
    """
    names = "LoadState,ActiveState,UnitFileState,MainPID"
    output = run(["systemctl", "show", UNIT, f"--property={names}"], timeout=30)
    if output.rc:
        raise DockerError(f"systemd does not answer: {output.text}. Docker needs it as init here.")
    unit = parse_show(output.stdout)[0]
    if unit.get("LoadState") == "masked":
        raise DockerError(
            f"{UNIT} is masked. Run systemctl unmask {UNIT} if Docker shall run here."
        )
    service = unit.get("LoadState") == "loaded"
    release = properties(files.read("/etc/os-release") or "")
    lack = lack_of(release, service, client_of(files))
    active = unit.get("ActiveState") in ("active", "activating", "reloading")
    process = f"/proc/{unit.get('MainPID', '0')}"
    environment = (files.read(process + "/environ") or "").split("\0")
    return Daemon(
        lack=lack,
        active=active,
        enabled=unit.get("UnitFileState") in ("enabled", "enabled-runtime", "static"),
        environment=dict(entry.split("=", 1) for entry in environment if "=" in entry),
        command=(files.read(process + "/cmdline") or "").split("\0"),
        # Asking the socket would start a stopped daemon, which check mode must not do.
        info=docker_info(timeout) if active and not lack else {},
    )


def difference(files: NodeFiles, params: dict[str, Any]) -> tuple[Wanted, Daemon, Changes]:
    """Return what is wanted of Docker, how it is, and what docker_config would change.

    Raises:
        DockerError: It cannot be told, or cannot be done without harm to what runs.
        CommandError: A command does not end in time.
    """
    wanted = wanted_from(params, files)
    daemon = observe(files, params["timeout"])
    return wanted, daemon, decide(files, wanted, daemon, params["deployment"])


def state(params: dict[str, Any]) -> State:
    """Return what docker_config would change."""
    _wanted, _daemon, changes = difference(NodeFiles(), params)
    steps = {"install": changes.install, "enable": changes.enable}
    named = [name for name, todo in steps.items() if todo]
    return State([*changes.files, *named, *([changes.action] if changes.action != "none" else [])])
