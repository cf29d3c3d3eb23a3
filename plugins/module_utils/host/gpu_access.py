# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which running containers keep their GPUs when systemd reads its units anew. Pure.

NVIDIA's older hook opens the devices to a container behind systemd's back. Where systemd keeps the
container's control group, it applies its own list of devices again at each daemon-reload, and what
is not in that list is gone: NVML then says Unknown Error, until the container is started anew. A
container that is given its devices by name, or by CDI, has them in that list.

Sources: NVIDIA/nvidia-container-toolkit issues 48 and 1227; opencontainers/runc issue 3708;
systemd.resource-control(5), DeviceAllow and DevicePolicy.
"""

from __future__ import annotations

import json
import re
from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import parse_pairs


class Kind(NamedTuple):
    """A kind of device that CUDA opens.

    Attributes:
        drivers: How /proc/devices names it, in newer drivers and in those before.
        path: A regular expression of its nodes.
        others: The minor numbers of the same major that are none of it.
    """

    drivers: Sequence[str]
    path: str
    others: Sequence[str] = ()


# 254 and 255 are nvidia-modeset and nvidiactl.
GPU = Kind(("nvidia", "nvidia-frontend"), r"/dev/nvidia\d+", ("254", "255"))
UVM = Kind(("nvidia-uvm",), r"/dev/nvidia-uvm", ("1",))
NO_DEVICES = ("", "void", "none")


class Container(NamedTuple):
    """A running container with GPUs: its id, and its name."""

    id: str
    name: str

    @property
    def scope(self) -> str:
        """Return the unit that Docker keeps it in, where systemd has its control groups."""
        return f"docker-{self.id}.scope"


class Scope(NamedTuple):
    """What systemd lets a container open: its policy, and entries of path and access."""

    loaded: bool
    policy: str
    allowed: Sequence[tuple[str, str]]


def majors_of(devices: str) -> dict[Kind, str]:
    """Return the major number of each kind in /proc/devices; none without NVIDIA's driver."""
    characters = devices.partition("Block devices:")[0]
    found = re.findall(r"^\s*(\d{1,6}) (\S+)$", characters, re.M | re.A)
    return {
        kind: major
        for kind in (GPU, UVM)
        for major, name in reversed(found)
        if name in kind.drivers
    }


def gpu_containers(inspected: str) -> list[Container]:
    """Return the running containers with NVIDIA GPUs, of what docker inspect prints as JSON."""
    try:
        listed = json.loads(inspected or "[]")
    except ValueError:
        return []
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [
        Container(str(one.get("Id", "")), str(one.get("Name", "")).lstrip("/"))
        for one in found
        if _map(one, "State").get("Running") and _has_gpus(one)
    ]


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    inner = value.get(key)
    return inner if isinstance(inner, list) else []


def _maps(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [one for one in _list(value, key) if isinstance(one, dict)]


def _has_gpus(container: Mapping[str, Any]) -> bool:
    host = _map(container, "HostConfig")
    if any(_asks_for_gpus(request) for request in _maps(host, "DeviceRequests")):
        return True
    paths = (str(one.get("PathOnHost", "")) for one in _maps(host, "Devices"))
    if any(re.fullmatch(r"/dev/nvidia\d+", path) for path in paths):
        return True
    entries = _list(_map(container, "Config"), "Env")
    env = dict(str(entry).partition("=")[::2] for entry in entries)
    asked = env.get("NVIDIA_VISIBLE_DEVICES", "")
    return host.get("Runtime") == "nvidia" and asked not in NO_DEVICES


def _asks_for_gpus(request: Mapping[str, Any]) -> bool:
    if request.get("Driver") == "cdi":
        names = _list(request, "DeviceIDs")
        return any(str(name).startswith("nvidia.com/gpu") for name in names)
    return request.get("Driver") in (None, "", "nvidia") and any(
        isinstance(one, list) and "gpu" in one for one in _list(request, "Capabilities")
    )


def parse_scopes(shown: str) -> dict[str, Scope]:
    """Return the scopes by name of what systemctl show prints with their Id."""
    scopes = {}
    for pairs in parse_pairs(shown):
        single = dict(pairs)
        entries = [value.partition(" ") for key, value in pairs if key == "DeviceAllow"]
        allowed = [(path, access) for path, _space, access in entries if path]
        if "Id" in single:
            loaded = single.get("LoadState") == "loaded"
            scopes[single["Id"]] = Scope(loaded, single.get("DevicePolicy", ""), allowed)
    return scopes


def keeps_gpus(scope: Scope | None, majors: Mapping[Kind, str]) -> bool:
    """Return whether a container can open its GPUs after a daemon-reload.

    Args:
        scope: Its scope; None, or one that is not loaded, is none of systemd's to apply.
        majors: The major numbers of what it opens.
    """
    if scope is None or not scope.loaded:
        return True
    # Without a list, this policy lets everything be opened: a privileged container's.
    if scope.policy == "auto" and not scope.allowed:
        return True
    opened = [path for path, access in scope.allowed if {"r", "w"} <= set(access)]
    return all(any(_is_of(path, kind, major) for path in opened) for kind, major in majors.items())


def _is_of(path: str, kind: Kind, major: str) -> bool:
    """Return whether an entry of systemd's list opens devices of a kind.

    runc writes all of a major number as char-NUMBER, or as char-NAME for systemd before 240.
    """
    if path in ("char-*", f"char-{major}", *(f"char-{name}" for name in kind.drivers)):
        return True
    if re.fullmatch(kind.path, path):
        return True
    number = re.fullmatch(r"/dev/char/(\d+):(\d+|\*)", path)
    return number is not None and number[1] == major and number[2] not in kind.others


def losers(
    containers: Sequence[Container], scopes: Mapping[str, Scope], majors: Mapping[Kind, str]
) -> list[Container]:
    """Return the containers that would lose their GPUs."""
    return [one for one in containers if not keeps_gpus(scopes.get(one.scope), majors)]


def remedy(container: Container, own: bool) -> str:
    """Return what to do about a container that would lose its GPUs."""
    if own:
        return (
            "its service is worded by an earlier release: stop its replica (playbooks/stop.yml) "
            "and run site.yml, which gives it its GPUs so that it keeps them"
        )
    return (
        f"stop it (docker stop {container.name}), or start it anew with its GPUs by CDI (--device "
        "nvidia.com/gpu=N) or by name beside --gpus (--device /dev/nvidiaN --device "
        "/dev/nvidiactl --device /dev/nvidia-uvm)"
    )


def access_check(
    lost: Sequence[Container], own_units: Collection[str], problem: str = ""
) -> list[Check]:
    """Return whether running containers keep their GPUs when prepare and serve reload systemd.

    Args:
        lost: The containers that would lose them.
        own_units: The systemd units of Muster on this node. Theirs is a warning: nothing is
            reloaded as long as they run as planned.
        problem: Why that could not be found out.
    """
    expected = "in systemd's list of devices of its container"

    def verdict(status: str, subject: str, observed: str, remedy: str = "") -> Check:
        return check("container-gpus", status, subject, observed, expected, remedy)

    if problem:
        hint = "look at docker ps and systemctl show docker-ID.scope -p DeviceAllow"
        return [verdict("unknown", "running containers", problem, hint)]
    if not lost:
        return [verdict("ok", "running containers", "none would lose its GPUs")]
    return [
        verdict(
            "warning" if is_own(one, own_units) else "failed",
            f"container {one.name}",
            "systemctl daemon-reload takes its GPUs away: NVIDIA's hook gave them past systemd",
            remedy(one, is_own(one, own_units)),
        )
        for one in lost
    ]


def is_own(container: Container, units: Collection[str]) -> bool:
    """Return whether a container is that of one of these systemd units, which it is named for."""
    return f"{container.name}.service" in units


def refusal(lost: Sequence[Container]) -> str:
    """Return why nothing is done that makes systemd read its units anew."""
    names = ", ".join(one.name for one in lost)
    many = len(lost) > 1
    return (
        f"this reloads systemd, which would take the GPUs from the running container{'s' * many} "
        f"{names}: NVIDIA's hook gave them past systemd. Nothing was changed. For "
        f"{'each of them' if many else 'it'}: {remedy(lost[0], own=False)}."
    )
