# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Docker and systemd which running containers would lose their GPUs at a daemon-reload."""

from __future__ import annotations

from typing import Collection

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import parse_show
from ansible_collections.muster.serving.plugins.module_utils.host.docker import UNIT
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access import (
    GPU,
    Container,
    gpu_containers,
    is_own,
    losers,
    majors_of,
    parse_scopes,
    refusal,
)

ASK_TIMEOUT_S = 20


class ReloadError(Exception):
    """systemd must not be reloaded now; the text says whom it would harm, and what to do."""


def observe_losers(files: NodeFiles, timeout: float = ASK_TIMEOUT_S) -> list[Container]:
    """Return the running containers that would lose their GPUs.

    A node without NVIDIA's driver, or without a running Docker, is asked nothing more.

    Raises:
        CommandError: Docker or systemd did not say.
    """
    majors = majors_of(files.read("/proc/devices") or "")
    if GPU not in majors or not _docker_runs(timeout):
        return []
    ids = _said(["docker", "ps", "--quiet", "--no-trunc"], timeout).split()
    if not ids:
        return []
    containers = gpu_containers(_said(["docker", "inspect", *ids], timeout))
    if not containers:
        return []
    names = "Id,LoadState,DevicePolicy,DeviceAllow"
    scopes = [one.scope for one in containers]
    shown = _said(["systemctl", "show", f"--property={names}", *scopes], timeout)
    return losers(containers, parse_scopes(shown), majors)


def refuse_reload(files: NodeFiles, restarted: Collection[str] = ()) -> None:
    """Let nothing pass that makes systemd read its units anew where that costs somebody his GPUs.

    What could not be found out does not stop anybody: the check container-gpus has said so.

    Args:
        files: The node's files.
        restarted: The systemd units whose containers start anew anyway.

    Raises:
        ReloadError: A running container would lose its GPUs.
    """
    try:
        lost = [one for one in observe_losers(files) if not is_own(one, restarted)]
    except CommandError:
        return
    if lost:
        raise ReloadError(refusal(lost))


def _docker_runs(timeout: float) -> bool:
    shown = _said(["systemctl", "show", "--property=ActiveState", UNIT], timeout)
    # Its socket would start a daemon that is asked.
    return parse_show(shown)[0].get("ActiveState") == "active"


def _said(argv: list[str], timeout: float) -> str:
    output = run(argv, timeout)
    # A container that has ended meanwhile is an error for docker inspect, which tells the others.
    if output.rc and not output.stdout.strip().startswith("["):
        raise CommandError(f"{' '.join(argv[:2])} ended with rc {output.rc}: {output.text}")
    return output.stdout
