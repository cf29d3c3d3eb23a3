# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_venv
short_description: Make the virtual environment that an engine runs from without a container
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes a Python environment with uv and installs what is asked for. Where the node has no uv, it
    is installed below C(/opt/muster/uv) with the node's own python3, venv and pip.
  - An environment is finished when C(.muster.json) stands in it, which is written last. One whose
    making was interrupted is made anew.
  - A finished environment is never changed, because an engine may run from it. A changed request
    needs another path; the old environment stays until it is removed by hand.
  - Adds the system user C(muster), as which such engines run, with the groups of the device nodes.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
    details: It asks no index.
  diff_mode:
    support: full
    details: It shows the request, and the user where it is added.
  idempotent:
    support: full
options:
  path:
    description: Folder of the environment on the node.
    type: str
    required: true
  python:
    description: Version of Python, as C(3.12). uv uses the node's own one, or fetches it.
    type: str
    required: true
  requirements:
    description: What to install, as C(NAME==VERSION) or another requirement.
    type: list
    elements: str
    required: true
  index_urls:
    description: Indexes to look in before the node's default one.
    type: list
    elements: str
    default: []
  torch_backend:
    description:
      - The build of PyTorch to take, as C(cu129), or C(auto) for the one that fits the driver.
    type: str
  find_links:
    description:
      - Folder of wheels on the node. Then nothing else is asked, and uv itself has to be among them
        where the node has none.
    type: str
  readable:
    description: Paths that the engine's user has to be able to read, above all the model's.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that an install may take.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Make the engine's environment
  muster.serving.engine_venv:
    path: /opt/muster/venvs/vllm-0.23.0
    python: "3.12"
    requirements: [vllm==0.23.0]
    torch_backend: auto
"""

RETURN = r"""
missing:
  description: What the node lacked, the user or the environment.
  returned: always
  type: list
  elements: str
uv:
  description: The uv of the node that is used; null where it would be installed in check mode.
  returned: always
  type: str
identity:
  description: A hash of what is installed; environments with the same one are alike. Null where
    the environment would be made in check mode.
  returned: always
  type: str
packages:
  description: What it holds, as C(NAME==VERSION).
  returned: when it is finished
  type: list
  elements: str
"""

import grp
import os
import pwd
import shutil
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
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
    parse_freeze,
    parse_marker,
    request_problem,
    unreadable_problem,
    venv_argv,
)
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io

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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "python": {"type": "str", "required": True},
            "requirements": {"type": "list", "elements": "str", "required": True},
            "index_urls": {"type": "list", "elements": "str", "default": []},
            "torch_backend": {"type": "str"},
            "find_links": {"type": "str"},
            "readable": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 3600},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module, busy_s=2 * module.params["timeout"], changes=True)
    params = module.params
    path, timeout = params["path"], params["timeout"]
    request = Request(
        python=params["python"],
        requirements=params["requirements"],
        index_urls=params["index_urls"],
        torch_backend=params["torch_backend"],
        find_links=params["find_links"],
    )
    # The engine's user reads and runs all of it, whatever root's umask is; it may not enter
    # root's home, where this may have been started.
    os.umask(0o022)
    os.chdir("/")
    os.environ.update(
        UV_CACHE_DIR=CACHE_DIR,
        UV_PYTHON_INSTALL_DIR=PYTHON_DIR,
        # The node's certificates, not uv's own.
        UV_SYSTEM_CERTS="1",
        UV_INDEX=" ".join(request.index_urls),
    )
    missing: list[str] = []
    result: dict[str, Any] = {"missing": missing, "uv": None, "identity": None}
    try:
        problem = request_problem(path, request)
        if problem:
            raise VenvError(problem)
        user = user_command()
        if user:
            missing.append(f"user {USER}")
            if not module.check_mode:
                do(f"add user {USER}", user)
        if not (user and module.check_mode):
            check_readable(params["readable"])
        marker = parse_marker(NodeFiles().read(marker_path(path)))
        check_place(path, marker, request)
        # The node's own Python may have gone with a newer release of its distribution.
        if marker is None or not os.path.exists(f"{path}/bin/python"):
            marker = None
            missing.append(path)
        result["uv"] = find_uv()
        described = f"{path}\n{request.describe()}"
        result["diff"] = {
            "before": described if marker else "",
            "after": (" ".join(user) + "\n" if user else "") + described,
        }
        if marker is None and not module.check_mode:
            result["uv"] = result["uv"] or install_uv(request, timeout)
            marker = make(path, request, result["uv"], timeout)
        if marker:
            result.update(identity=marker.identity, packages=list(marker.packages))
    except (VenvError, CommandError, OSError) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(changed=bool(missing), **result)


if __name__ == "__main__":
    main()
