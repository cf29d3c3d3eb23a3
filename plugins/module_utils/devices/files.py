# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the driver's device nodes and files are what a container can be given."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import (
    DRIVER_PATHS,
    DRIVER_TOOLS,
)

_FILE_SUFFIXES = (".info", ".conf", ".so")
_FOLDERS = ("dcmi", "lib64", "driver")

INSTALL_DRIVER = "Install the accelerator's driver and firmware on this node"


class DeviceNode(NamedTuple):
    """What is at the path of a device node.

    Attributes:
        kind: character, directory, file or missing; empty when it cannot be looked at.
        problem: Why it cannot.
        empty: Whether a directory has no device node in it.
        nodev: The first of its device nodes that lies on a file system mounted nodev.
        closed: The first of them that may not be opened.
    """

    kind: str
    problem: str = ""
    empty: bool = False
    nodev: str = ""
    closed: str = ""


class Source(NamedTuple):
    """What is at the source of a mount.

    Attributes:
        kind: file, directory or missing; empty when it cannot be looked at.
        problem: Why it cannot.
        empty: Whether a directory has nothing in it.
        executable: Whether a file may be run by its owner.
    """

    kind: str
    problem: str = ""
    empty: bool = False
    executable: bool = False


def is_driver(source: str) -> bool:
    """Return whether a driver's installer brings this path."""
    return source.startswith(DRIVER_PATHS) or posixpath.basename(source) in DRIVER_TOOLS


def expected_kind(source: str) -> str:
    """Return file or directory where the path tells, else either."""
    name = posixpath.basename(source.rstrip("/"))
    if source.endswith("/") or name in _FOLDERS:
        return "directory"
    if name in DRIVER_TOOLS or name.endswith(_FILE_SUFFIXES):
        return "file"
    return "either"


def node_check(path: str, seen: DeviceNode) -> Check:
    """Return whether a container can be given a device node."""

    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        return check("device-node", status, path, observed, "a character device", remedy)

    if seen.kind == "missing":
        return verdict(
            "failed",
            "missing",
            f"{INSTALL_DRIVER}; where it is installed, look for the lost card with its tool "
            "(npu-smi info, nvidia-smi, amd-smi list) and dmesg.",
        )
    if not seen.kind:
        return verdict("failed", seen.problem, "Look at dmesg and reload the driver.")
    if seen.nodev:
        return verdict(
            "failed",
            f"{posixpath.basename(seen.nodev)} lies on a file system mounted nodev",
            f"Find that file system (findmnt -T {seen.nodev}) and run mount -o remount,dev on it; "
            "/etc/fstab may say nodev, too.",
        )
    if seen.closed:
        return verdict(
            "failed",
            f"{posixpath.basename(seen.closed)} may not be opened, by root either",
            "The device cgroup of this container leaves it out: give the device to it where "
            "it is made (--device, DeviceAllow=, lxc.cgroup2.devices.allow).",
        )
    if seen.kind == "character":
        return verdict("ok", "a character device")
    if seen.kind == "file":
        return verdict("failed", "a plain file", f"Remove it. {INSTALL_DRIVER}.")
    if seen.empty:
        return verdict(
            "failed",
            "a directory, as a container engine makes for a missing source",
            f"Remove it (rmdir {path}). {INSTALL_DRIVER}.",
        )
    return verdict("ok", "a directory of character devices")


def source_check(path: str, seen: Source) -> Check:
    """Return whether the source of a mount is there and of the right kind."""
    expected, driver = expected_kind(path), is_driver(path)
    bring = INSTALL_DRIVER if driver else "Put it there, or take its mount out of the inventory"

    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        wanted = {"either": "a file or directory"}.get(expected, f"a {expected}")
        check_id = "driver-mount" if driver else "mount-source"
        return check(check_id, status, path, observed, wanted, remedy)

    if seen.kind == "missing":
        return verdict(
            "failed", "missing", f"{bring}. Docker would put an empty directory in its place."
        )
    if not seen.kind:
        return verdict("failed", seen.problem, f"Make it readable for root. {bring}.")
    if expected == "file" and seen.kind == "directory":
        return verdict(
            "failed",
            "a directory, as Docker makes for a missing source",
            f"Remove it (rmdir {path}). {bring}.",
        )
    if expected == "directory" and seen.kind == "file":
        return verdict("failed", "a file", f"Remove it. {bring}.")
    if driver and seen.kind == "directory" and seen.empty:
        return verdict("failed", "an empty directory", f"{bring}.")
    if posixpath.basename(path) in DRIVER_TOOLS and not seen.executable:
        return verdict("failed", "a file that is not executable", f"Run chmod 755 {path}.")
    return verdict("ok", f"a {seen.kind}")
