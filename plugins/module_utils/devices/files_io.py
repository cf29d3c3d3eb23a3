# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the driver's device nodes and files what a container can be given?"""

from __future__ import annotations

import os
import posixpath
import stat

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import OWN_SOURCES

DRIVER_SOURCES = (
    "/usr/local/Ascend",
    "/usr/local/dcmi",
    "/etc/ascend_install.info",
    "/etc/hccn.conf",
    "/opt/rocm",
)
DRIVER_TOOLS = ("npu-smi", "hccn_tool")
FILE_SUFFIXES = (".info", ".conf", ".so")

TOOLKIT_PROGRAMS = ("nvidia-container-runtime-hook", "nvidia-ctk", "nvidia-container-runtime")
TOOLKIT_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin")
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")

INSTALL_DRIVER = "Install the accelerator's driver and firmware on this node"


def device_checks(files: NodeFiles, device_nodes: list[str]) -> list[Check]:
    """One check for each device node."""
    return [_device_check(files, node) for node in dict.fromkeys(device_nodes)]


def mount_checks(files: NodeFiles, mounts: list[str]) -> list[Check]:
    """One check for each mount's source, without what Muster makes itself."""
    sources = dict.fromkeys(mount.split(":")[0] for mount in mounts)
    return [
        _source_check(files, source)
        for source in sources
        if not (source + "/").startswith(OWN_SOURCES)
    ]


def expected_kind(source: str) -> str:
    """file or directory where the path tells, else either."""
    name = posixpath.basename(source.rstrip("/"))
    if source.endswith("/") or name in ("dcmi", "lib64", "driver"):
        return "directory"
    if name in DRIVER_TOOLS or name.endswith(FILE_SUFFIXES):
        return "file"
    return "either"


def is_driver(source: str) -> bool:
    """Does the driver's installer bring this path?"""
    return source.startswith(DRIVER_SOURCES) or posixpath.basename(source) in DRIVER_TOOLS


def _device_check(files: NodeFiles, node: str) -> Check:
    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        return check("device-node", status, node, observed, "a character device", remedy)

    path = files.path(node)
    try:
        mode = os.stat(path).st_mode
        # Docker takes a directory of device nodes, such as /dev/dri, as all of them.
        devices = _devices_in(path) if stat.S_ISDIR(mode) else [path]
        refused = _refused(devices) if stat.S_ISDIR(mode) or stat.S_ISCHR(mode) else None
    except FileNotFoundError:
        return verdict(
            "failed",
            "missing",
            f"{INSTALL_DRIVER}; where it is installed, look for the lost card with its tool "
            "(npu-smi info, nvidia-smi, amd-smi list) and dmesg.",
        )
    except OSError as error:
        return verdict("failed", str(error.strerror), "Look at dmesg and reload the driver.")
    if refused:
        return verdict("failed", *refused)
    if stat.S_ISCHR(mode):
        return verdict("ok", "a character device")
    if devices and stat.S_ISDIR(mode):
        return verdict("ok", "a directory of character devices")
    if stat.S_ISDIR(mode):
        return verdict(
            "failed",
            "a directory, as a container engine makes for a missing source",
            f"Remove it (rmdir {node}). {INSTALL_DRIVER}.",
        )
    return verdict("failed", "a plain file", f"Remove it. {INSTALL_DRIVER}.")


def _devices_in(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if stat.S_ISCHR(entry.stat().st_mode))


def _refused(devices: list[str]) -> tuple[str, str] | None:
    """What was seen of the first device that cannot be opened, and the remedy.

    Opening one could have effects in its driver. The kernel tells without: access(2) knows of the
    device cgroup, and only of the mount's nodev it does not.
    """
    for path in devices:
        name = posixpath.basename(path)
        if os.statvfs(path).f_flag & os.ST_NODEV:
            return (
                f"{name} lies on a file system mounted nodev",
                f"Find that file system (findmnt -T {path}) and run mount -o remount,dev on it; "
                "/etc/fstab may say nodev, too.",
            )
        if not os.access(path, os.R_OK | os.W_OK):
            return (
                f"{name} may not be opened, by root either",
                "The device cgroup of this container leaves it out: give the device to it where "
                "it is made (--device, DeviceAllow=, lxc.cgroup2.devices.allow).",
            )
    return None


def toolkit_check(files: NodeFiles) -> Check:
    """Can Docker hand NVIDIA GPUs to a container?

    Docker runs the toolkit's hook for --gpus; newer ones also read a CDI specification.
    """
    programs = [
        f"{folder}/{name}"
        for name in TOOLKIT_PROGRAMS
        for folder in TOOLKIT_FOLDERS
        if files.exists(f"{folder}/{name}")
    ]
    specifications = [
        path
        for folder in CDI_FOLDERS
        for path in files.glob(f"{folder}/*")
        if "nvidia" in path and path.endswith((".yaml", ".yml", ".json"))
    ]
    found = programs + specifications
    return check(
        "gpu-toolkit",
        "ok" if found else "failed",
        "NVIDIA container toolkit",
        found[0] if found else "missing",
        "nvidia-container-runtime-hook in the PATH, or a CDI specification",
        ""
        if found
        else "install nvidia-container-toolkit and run nvidia-ctk runtime configure "
        "--runtime=docker; Docker finds the hook after its next restart",
    )


def _source_check(files: NodeFiles, source: str) -> Check:
    expected = expected_kind(source)
    driver = is_driver(source)
    bring = INSTALL_DRIVER if driver else "Put it there, or take its mount out of the inventory"

    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        wanted = {"either": "a file or directory"}.get(expected, f"a {expected}")
        check_id = "driver-mount" if driver else "mount-source"
        return check(check_id, status, source, observed, wanted, remedy)

    path = files.path(source.rstrip("/"))
    try:
        mode = os.stat(path).st_mode
        kind = "directory" if stat.S_ISDIR(mode) else "file"
        empty = kind == "directory" and not os.listdir(path)
    except FileNotFoundError:
        return verdict(
            "failed", "missing", f"{bring}. Docker would put an empty directory in its place."
        )
    except OSError as error:
        return verdict("failed", str(error.strerror), f"Make it readable for root. {bring}.")
    if expected == "file" and kind == "directory":
        return verdict(
            "failed",
            "a directory, as Docker makes for a missing source",
            f"Remove it (rmdir {source}). {bring}.",
        )
    if expected == "directory" and kind == "file":
        return verdict("failed", "a file", f"Remove it. {bring}.")
    if driver and empty:
        return verdict("failed", "an empty directory", f"{bring}.")
    if posixpath.basename(source) in DRIVER_TOOLS and not mode & stat.S_IXUSR:
        return verdict("failed", "a file that is not executable", f"Run chmod 755 {source}.")
    return verdict("ok", f"a {kind}")
