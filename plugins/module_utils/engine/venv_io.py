# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an engine's environment on the node."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import DEVICE_GROUPS
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    CACHE_DIR,
    PYTHON_DIR,
    USER,
    UV_HOME,
    Marker,
    Request,
    VenvError,
    bootstrap_argv,
    explain,
    install_argv,
    is_usable,
    marker_path,
    packages_of,
    parse_freeze,
    parse_marker,
    request_problem,
    unreadable_problem,
    venv_argv,
)
from ansible_collections.muster.serving.plugins.module_utils.host.checks import properties

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "python": {"type": "str", "required": True},
    "requirements": {"type": "list", "elements": "str", "required": True},
    "index_urls": {"type": "list", "elements": "str", "default": []},
    "torch_backend": {"type": "str"},
    "find_links": {"type": "str"},
    "readable": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 3600},
}

ASK_TIMEOUT_S = 60


def do(what: str, argv: list[str], timeout: float = ASK_TIMEOUT_S) -> Output:
    """Run a command that has to succeed.

    Raises:
        VenvError: It failed; the message has its output and the remedy.
    """
    output = run(argv, timeout)
    if output.rc:
        raise VenvError(explain(what, f"{output.stdout}\n{output.stderr}"))
    return output


def user_command() -> list[str]:
    """Return the command that adds the engines' user or its groups; empty when none is missing."""
    groups = {entry.gr_name: entry for entry in grp.getgrall()}
    devices = [name for name in DEVICE_GROUPS if name in groups]
    try:
        own = pwd.getpwnam(USER)
    except KeyError:
        argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        argv += ["--shell", "/usr/sbin/nologin"]
        argv += ["--gid", USER] if USER in groups else ["--user-group"]
        argv += ["--groups", ",".join(devices)] if devices else []
        return [*argv, USER]
    missing = [
        name
        for name in devices
        if USER not in groups[name].gr_mem and groups[name].gr_gid != own.pw_gid
    ]
    return ["usermod", "--append", "--groups", ",".join(missing), USER] if missing else []


def check_readable(paths: list[str]) -> None:
    """Make sure that the engine's user can read these paths.

    Raises:
        VenvError: It cannot read one of them.
    """
    for path in paths:
        # A path that is missing is reported by the role that brings it.
        if not os.path.exists(path):
            continue
        words = ["find", "-L", path, "-maxdepth", "1", "!", "-readable", "-print", "-quit"]
        output = run(["runuser", "-u", USER, "--", *words], ASK_TIMEOUT_S)
        if output.rc or output.stdout.strip():
            raise VenvError(unreadable_problem(path, output.text))


def find_uv() -> str | None:
    for path in (shutil.which("uv"), f"{UV_HOME}/bin/uv"):
        if path and os.path.exists(path) and is_usable(run([path, "--version"], 60).stdout):
            return path
    return None


def install_uv(request: Request, timeout: float) -> str:
    shutil.rmtree(UV_HOME, ignore_errors=True)
    try:
        do("make an environment for uv", [sys.executable, "-m", "venv", UV_HOME], timeout)
        do("install uv", bootstrap_argv(request), timeout)
    except (VenvError, CommandError):
        shutil.rmtree(UV_HOME, ignore_errors=True)
        raise
    return f"{UV_HOME}/bin/uv"


def check_place(path: str, marker: Marker | None, request: Request) -> None:
    """Make sure that an environment made at the path overwrites nothing.

    Raises:
        VenvError: Something else is there.
    """
    if marker and marker.request != request.hash:
        raise VenvError(
            f"{path} holds an environment that was made for another request, and an engine may run "
            "from it. Give a changed request a path of its own."
        )
    if os.path.lexists(path) and not marker:
        ours = os.path.isdir(path) and not os.path.islink(path)
        if not ours or (os.listdir(path) and not os.path.exists(f"{path}/pyvenv.cfg")):
            raise VenvError(f"{path} is there and no environment. Move it away.")


def make(path: str, request: Request, uv: str, timeout: float) -> Marker:
    """Make the environment; remove it when that fails."""
    if request.find_links and not os.path.isdir(request.find_links):
        raise VenvError(f"{request.find_links} is no folder of wheels on this node")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        do(f"make an environment of Python {request.python}", venv_argv(uv, path, request), timeout)
        do(f"install {', '.join(request.requirements)}", install_argv(uv, path, request), timeout)
        frozen = do("list the packages", [uv, "pip", "freeze", "--python", f"{path}/bin/python"])
    except (VenvError, CommandError):
        shutil.rmtree(path, ignore_errors=True)
        raise
    marker = Marker(request.hash, parse_freeze(frozen.stdout))
    NodeFiles().write(marker_path(path), marker.dump(), 0o644)
    return marker


def bring(params: dict[str, Any], check_mode: bool, result: dict[str, Any]) -> None:
    """Do what engine_venv does.

    Args:
        params: The module's options.
        check_mode: Whether nothing is made.
        result: The module's result, filled as far as it goes.

    Raises:
        VenvError, CommandError, OSError: It cannot be done; the text says what to do.
    """
    path, timeout = params["path"], params["timeout"]
    request = Request(
        python=params["python"],
        requirements=params["requirements"],
        index_urls=params["index_urls"],
        torch_backend=params["torch_backend"],
        find_links=params["find_links"],
    )
    # The engine's user may not enter root's home, where this may have been started.
    os.chdir("/")
    missing: list[str] = []
    result.update(missing=missing, uv=None, bootstrap=[], identity=None)
    problem = request_problem(path, request)
    if problem:
        raise VenvError(problem)
    user = user_command()
    if user:
        missing.append(f"user {USER}")
        if not check_mode:
            do(f"add user {USER}", user)
    if not (user and check_mode):
        check_readable(params["readable"])
    marker = parse_marker(NodeFiles().read(marker_path(path)))
    check_place(path, marker, request)
    # The node's own Python may have gone with a newer release of its distribution.
    if marker is None or not os.path.exists(f"{path}/bin/python"):
        marker = None
        missing.append(path)
    described = f"{path}\n{request.describe()}"
    result["diff"] = {
        "before": described if marker else "",
        "after": (" ".join(user) + "\n" if user else "") + described,
    }
    if marker is None:
        result["uv"] = find_uv()
    if marker is None and result["uv"] is None:
        release = properties(NodeFiles().read("/etc/os-release") or "")
        result["bootstrap"] = packages_of(release)
    if marker is None and not check_mode:
        # All users read and run it, whatever root's umask is.
        os.umask(0o022)
        os.environ.update(
            UV_CACHE_DIR=CACHE_DIR,
            UV_PYTHON_INSTALL_DIR=PYTHON_DIR,
            # The node's certificates, not uv's own.
            UV_SYSTEM_CERTS="1",
            UV_INDEX=" ".join(request.index_urls),
        )
        result["uv"] = result["uv"] or install_uv(request, timeout)
        marker = make(path, request, result["uv"], timeout)
    if marker:
        result.update(identity=marker.identity, packages=list(marker.packages))


def state(params: dict[str, Any]) -> State:
    """Return what engine_venv would make."""
    result: dict[str, Any] = {}
    bring(params, True, result)
    return State(result["missing"])
