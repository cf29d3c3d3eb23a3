# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the device nodes and files that a container is given."""

from __future__ import annotations

import os
import stat
from typing import Iterable

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import OWN_SOURCES
from ansible_collections.muster.serving.plugins.module_utils.devices.files import (
    DeviceNode,
    Source,
    is_driver,
    node_check,
    source_check,
)


def node_checks(files: NodeFiles, device_nodes: Iterable[str]) -> list[Check]:
    """Return one check for each device node."""
    return [node_check(path, observe_node(files, path)) for path in dict.fromkeys(device_nodes)]


def driver_mount_checks(files: NodeFiles, mounts: Iterable[str]) -> list[Check]:
    """Return one check for the source of each mount that a driver's installer brings."""
    return mount_checks(files, [mount for mount in mounts if is_driver(mount.split(":")[0])])


def mount_checks(files: NodeFiles, mounts: Iterable[str]) -> list[Check]:
    """Return one check for each mount's source, without what Muster makes itself."""
    sources = dict.fromkeys(mount.split(":")[0] for mount in mounts)
    return [
        source_check(source, observe_source(files, source))
        for source in sources
        if not (source + "/").startswith(OWN_SOURCES)
    ]


def observe_node(files: NodeFiles, node: str) -> DeviceNode:
    """Look at a device node, or at a directory of them, which Docker takes as all of them.

    Opening one could have effects in its driver. The kernel tells without: access(2) knows of the
    device cgroup, and only of the mount's nodev it does not.
    """
    path = files.path(node)
    try:
        mode = os.stat(path).st_mode
        folder = stat.S_ISDIR(mode)
        if not folder and not stat.S_ISCHR(mode):
            return DeviceNode("file")
        devices = _devices_in(path) if folder else [path]
        nodev = next((one for one in devices if os.statvfs(one).f_flag & os.ST_NODEV), "")
    except FileNotFoundError:
        return DeviceNode("missing")
    except OSError as error:
        return DeviceNode("", str(error.strerror))
    closed = next((one for one in devices if not os.access(one, os.R_OK | os.W_OK)), "")
    return DeviceNode("directory" if folder else "character", "", not devices, nodev, closed)


def _devices_in(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if stat.S_ISCHR(entry.stat().st_mode))


def observe_source(files: NodeFiles, source: str) -> Source:
    """Look at the source of a mount."""
    path = files.path(source.rstrip("/"))
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return Source("directory", empty=not os.listdir(path), executable=True)
    except FileNotFoundError:
        return Source("missing")
    except OSError as error:
        return Source("", str(error.strerror))
    return Source("file", executable=bool(mode & stat.S_IXUSR))
