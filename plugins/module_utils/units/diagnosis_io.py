# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect what a node has to say after a failure, as one archive of bounded size."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import tarfile
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    LOG_DIR,
    MANAGED_HEADER,
    PREFIX,
    UNITS_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    by_id,
    parse_show,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.units import names, unit_files
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import restarts

# The newest of a unit's log files, and how much of the end of each.
MAX_FILES = 200
TAIL_BYTES = 512 * 1024
COMMAND_TIMEOUT_S = 30

_SHOWN = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts"

# By name in the archive, what tells of a node. A tool that it does not have is left out.
COMMANDS = {
    "system/uname.txt": ["uname", "-a"],
    "system/uptime.txt": ["uptime"],
    "system/memory.txt": ["free", "-m"],
    "system/disks.txt": ["df", "-hT"],
    "system/addresses.txt": ["ip", "-brief", "address"],
    "system/routes.txt": ["ip", "route"],
    "system/ports.txt": ["ss", "-Htulnp"],
    "system/services.txt": ["systemctl", "list-units", "--no-pager", "--all", names.SERVICES],
    "system/kernel.log": ["journalctl", "--dmesg", "--lines=1000", "--no-pager", "--quiet"],
    "system/docker.log": ["journalctl", "--unit=docker", "--lines=300", "--no-pager", "--quiet"],
    **{
        f"device/{name}": list(argv)
        for vendor in VENDORS.values()
        for name, argv in vendor.commands.items()
    },
    "docker/ps.txt": ["docker", "ps", "--all", "--filter", f"name={PREFIX}",
                      "--format", "table {{.Names}}\t{{.Image}}\t{{.Status}}"],
}  # fmt: skip

# The same for files. None of them holds a secret; the units' own env files are never read.
FILES = (
    "/etc/os-release",
    "/proc/version",
    "/proc/cmdline",
    "/etc/docker/daemon.json",
    *(path for vendor in VENDORS.values() for path in vendor.files),
)
CONFIGURATIONS = (
    f"{UNITS_DIR}/*.json",
    f"{unit_files.CONFIG_DIR}/*.link.json",
    # The last restarts of a replica, each with its reason.
    f"{unit_files.LINK_STATE_DIR}/*.json",
    "/var/lib/muster/verified/*.json",
    f"{unit_files.SYSTEMD_DIR}/{names.SERVICES}",
)


class Archive:
    """Texts without secrets and prompts, up to so many bytes in all."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self.left = max_bytes
        self.left_out: list[str] = []
        # Readable by its owner alone, whatever the umask.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._stream = os.fdopen(handle, "wb")
        self._tar = tarfile.open(fileobj=self._stream, mode="w:gz")  # noqa: SIM115 (see close)

    def add(self, name: str, text: str) -> None:
        """Add a text; where it is more than what is left, its end."""
        data = redaction.lines(text).encode("utf-8", "replace")
        if len(data) > self.left:
            self.left_out.append(name)
            # Whole lines only: half of one could begin within what its other half hides.
            data = data[len(data) - self.left :].partition(b"\n")[2]
        if data:
            self.left -= len(data)
            member = tarfile.TarInfo(name.lstrip("/"))
            member.size, member.mode = len(data), 0o600
            self._tar.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        self._tar.close()
        self._stream.close()


def observe(systemd_units: list[str]) -> list[dict[str, Any]]:
    """Return how each unit does; one that cannot be asked has no state."""
    output = ask(["systemctl", "show", "--property", _SHOWN, *systemd_units])
    shown = by_id(parse_show(output)) if systemd_units else {}
    return [
        {
            "systemd_unit": name,
            "installed": shown.get(name, {}).get("LoadState") == "loaded",
            "active_state": shown.get(name, {}).get("ActiveState", ""),
            "sub_state": shown.get(name, {}).get("SubState", ""),
            "result": shown.get(name, {}).get("Result", ""),
            "exit_status": shown.get(name, {}).get("ExecMainStatus", ""),
            "restarts": restarts(shown.get(name, {})),
        }
        for name in systemd_units
    ]


def installed_units(files: NodeFiles) -> list[str]:
    """Return the services that Muster made here, its agents included."""
    paths = files.glob(f"{unit_files.SYSTEMD_DIR}/{names.SERVICES}")
    return [os.path.basename(path) for path in paths if MANAGED_HEADER in read(files, path)]


def collect(archive: Archive, files: NodeFiles, systemd_units: list[str], log_lines: int) -> None:
    """Put all that tells of a failure into an archive, what matters most first."""
    archive.add("units.json", json.dumps(observe(systemd_units), indent=2))
    for name in systemd_units:
        journal = ["journalctl", f"--unit={name}", f"--lines={log_lines}", "--output=short-iso"]
        archive.add(f"journal/{name}.log", ask([*journal, "--no-pager", "--quiet"]))
    for pattern in CONFIGURATIONS:
        for path in files.glob(pattern):
            archive.add(path, configuration(read(files, path)))
    for path in FILES:
        archive.add(path, read(files, path))
    for name, argv in COMMANDS.items():
        archive.add(name, ask(argv))
    archive.add("docker/inspect.json", containers())
    for path in log_files(files):
        archive.add(path, tail(files.path(path)))
    # What was saved of engines that stood still, the newest first.
    for path in sorted(files.glob(f"{unit_files.STALLS_DIR}/*/*/*"), reverse=True):
        archive.add(path, tail(files.path(path)))


def ask(argv: list[str]) -> str:
    """Return what a command prints; nothing where the node does not have it."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/local/bin"])
    program = shutil.which(argv[0], path=folders)
    if program is None:
        return ""
    try:
        output = run([program, *argv[1:]], COMMAND_TIMEOUT_S)
    except CommandError as error:
        return str(error)
    return output.stdout + output.stderr


def read(files: NodeFiles, path: str) -> str:
    """Return a file's text; nothing where there is none, or a folder Docker made in its place."""
    try:
        return files.read(path) or ""
    except OSError:
        return ""


def configuration(text: str) -> str:
    """Return a file of Muster's own, redacted by its structure where it has one."""
    try:
        return json.dumps(redaction.value(json.loads(text)), indent=2)
    except ValueError:
        return text


def containers() -> str:
    """Return what Docker says of Muster's containers, without the values of their environments."""
    filtered = ["docker", "ps", "--all", "--filter", f"name={PREFIX}"]
    present = ask([*filtered, "--format", "{{.Names}}"]).split()
    own = [name for name in present if name.startswith(PREFIX)]
    if not own:
        return ""
    try:
        inspected = json.loads(ask(["docker", "inspect", *own]))
        for one in inspected:
            one["Config"]["Env"] = redaction.without_values(one["Config"].get("Env"))
    except (ValueError, TypeError, KeyError, AttributeError):
        # Whatever it is, its environments could not be taken out.
        return ""
    return json.dumps(redaction.value(inspected), indent=2)


def log_files(files: NodeFiles) -> list[str]:
    """Return the newest files below the folder of the engines' logs; no link is followed."""
    found = []
    for folder, folders, plain in os.walk(files.path(LOG_DIR)):
        folders.sort()
        for name in plain:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                    found.append((status.st_mtime, path))
    newest = sorted(found, reverse=True)[:MAX_FILES]
    return ["/" + os.path.relpath(path, files.root) for _mtime, path in newest]


def tail(path: str, limit: int = TAIL_BYTES) -> str:
    """Return the end of a log, whole lines only; nothing of a file that is no text."""
    try:
        # An engine owns the folder: what was a file a moment ago may be a link or a pipe now.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - limit))
            data = stream.read(limit)
    except OSError:
        return ""
    if b"\0" in data:
        return ""
    if size > limit:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace")
