# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a node's engines what they do, and its file systems what room they have."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import LOG_DIR, STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended
from ansible_collections.muster.serving.plugins.module_utils.programs import stall_watch
from ansible_collections.muster.serving.plugins.module_utils.units import (
    names,
    unit_files,
    unit_io,
    usage,
)

# A completion of one token that takes longer is no answer; then the counters have to have moved.
ASK_S = 10.0
# Between two looks at the counters: less tells no rate.
RATE_S = 1.0
# More ranks than any engine has behind one API.
MAX_ASKED = 64
DISK_S = 10.0


def of_units(units: Sequence[unit_files.Unit], model: str) -> dict[str, dict[str, Any]]:
    """Return by name what engines with an API do, each rank asked for one token at once."""
    if not units:
        return {}
    with ThreadPoolExecutor(len(units)) as pool:
        told = pool.map(lambda unit: _of_api(_api(unit, model)), units)
        return {unit["name"]: one for unit, one in zip(units, told)}


def _api(unit: unit_files.Unit, model: str) -> stall_watch.Api:
    return stall_watch.Api(
        unit=unit["systemd_unit"],
        url=unit["api_url"],
        model=model,
        key_file=unit_files.env_path(unit),
        key_name=unit.get("api_key_env") or "",
        key_quoted=unit_files.in_venv(unit),
    )


def _of_api(api: stall_watch.Api) -> dict[str, Any]:
    before, began = _metrics(api), time.monotonic()
    ranks = usage.ranks_to_ask(before)[:MAX_ASKED]

    def ask(rank: str) -> usage.Answer:
        return usage.Answer(rank, *stall_watch.ask(api, rank, ASK_S))

    with ThreadPoolExecutor(len(ranks)) as pool:
        answers = list(pool.map(ask, ranks))
    time.sleep(max(0.0, began + RATE_S - time.monotonic()))
    after, passed_s = _metrics(api), time.monotonic() - began
    return usage.usage(before, after, passed_s, answers)


def _metrics(api: stall_watch.Api) -> str:
    status, text = stall_watch.get(api, "/metrics", stall_watch.MAX_METRICS)
    return text if status == 200 else ""


def of_links(present: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the agents of the installed units tell.

    Raises:
        UnitError: systemctl did not answer.
    """
    links = names.links_of(present)
    shown = unit_io.show([names.link_service(link) for link in links])
    files = NodeFiles()
    return [
        usage.link_report(
            link,
            files.read(unit_files.link_state_path(link)),
            shown.get(names.link_service(link), {}).get("ActiveState", "inactive"),
        )
        for link in links
    ]


def of_disks(weights: Sequence[str], images: bool) -> list[dict[str, Any]]:
    """Return the file systems on which weights, images, state and logs lie.

    Where one does not answer, as that of a server that has gone, it and those before it are left
    out.

    Raises:
        OSError: A folder cannot be looked at.
    """
    folders = [("weights", path) for path in weights]
    if images:
        folders.append(("images", _docker_root()))
    folders += [("state", STATE_DIR), ("logs", LOG_DIR)]
    found: list[Mapping[str, Any]] = []

    def look() -> None:
        for what, path in reversed(folders):
            found.append(_room(what, path))

    # Weights come last: theirs is the file system that may not answer.
    ended(look, DISK_S)
    return usage.file_systems(list(found))


def _docker_root() -> str:
    try:
        output = unit_io.ask([unit_files.DOCKER, "info", "--format", "{{.DockerRootDir}}"])
    except unit_io.UnitError:
        return "/var/lib/docker"
    return output.stdout.strip() or "/var/lib/docker"


def _room(what: str, path: str) -> dict[str, Any]:
    # What is not there yet would be made below the folder that is.
    while not os.path.exists(path):
        path = os.path.dirname(path)
    path = os.path.realpath(path)
    room = os.statvfs(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return {
        "mount": path,
        "what": what,
        "size_bytes": room.f_blocks * room.f_frsize,
        "free_bytes": room.f_bavail * room.f_frsize,
    }
