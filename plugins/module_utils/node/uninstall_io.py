# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for what a deployment has on a node, ask the rest of its replicas, and remove it."""

from __future__ import annotations

import contextlib
import http.client
import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    DOCKER,
    STATE_DIR,
    UNITS_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    parse_inspect,
    read_notes,
    usual_name,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.image_io import has_docker
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import USER, marker_path
from ansible_collections.muster.serving.plugins.module_utils.host import docker, tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.node.uninstall import (
    NOTE_STAYS,
    VENVS_DIR,
    Decision,
    Image,
    Seen,
    Stay,
    Step,
    Wishes,
    is_listed,
    links_of,
    listed_by,
    mount_points,
    needs_reload,
    note_id,
    place_of,
    services_of,
    units_of,
)
from ansible_collections.muster.serving.plugins.module_utils.programs.replica_link import (
    MAX_ANSWER,
    parse_answer,
)
from ansible_collections.muster.serving.plugins.module_utils.units import names, unit_files

ASK_TIMEOUT_S = 60
PEER_TIMEOUT_S = 4
# Where engines keep what they fetched from a hub, weights above all, and files that are weights.
HUB_FOLDERS = ("huggingface", "modelscope")
WEIGHTS = (".safetensors", ".gguf")
# By these an environment is known for one: in a folder that is half removed, they are still there.
MARKS = ("pyvenv.cfg", posixpath.basename(marker_path("/")))


class UninstallError(Exception):
    """Something could not be removed; the text says what to do."""


def look(files: NodeFiles, deployment: str, wishes: Wishes) -> Seen:
    """Return what of Muster is on the node."""
    paths = _listed(files)
    notes = [path for path in paths if place_of(path)[0] == "note"]
    images, problem = _images(files, notes)
    kept = _kept(files, paths, deployment, wishes)
    return Seen(
        paths=paths,
        empty=[path for path in paths if _is_folder(files, path) and not _names(files, path)],
        records={
            posixpath.basename(path)[: -len(".json")]: _json(files, path)
            for path in paths
            if posixpath.dirname(path) == UNITS_DIR and place_of(path)[0] == "record"
        },
        verified={
            place_of(path)[1]: _json(files, path)
            for path in paths
            if place_of(path)[0] == "verified"
        },
        wants={
            path: list(_map(_json(files, path).get(key)))
            for path, key in (
                (tuning.STATE_PATH, "wants"),
                (firewall.STATE_PATH, "wants"),
                (docker.STATE_PATH, "deployments"),
            )
        },
        images=images,
        docker=problem,
        has_docker=files.exists(DOCKER),
        environments=_environments(files),
        user=_has_own_user(files),
        spared={path: why for one in kept.values() for path, why in one.spared.items()},
        settled=[path for path, one in kept.items() if not one.more],
        weights=[
            folder
            for path in files.glob(f"{STATE_DIR}/weights/*.json")
            for folder in [_json(files, path).get("path")]
            if isinstance(folder, str)
        ],
    )


def installed(files: NodeFiles, deployment: str) -> dict[str, Any]:
    """Return the units and links of a deployment, and what the links know of their replicas."""
    paths = _listed(files)
    links = links_of(paths, deployment)
    return {
        "units": [{"name": name} for name in units_of(paths, deployment)],
        "links": [{"name": name, "systemd_unit": names.link_service(name)} for name in links],
        "address": files.exists(unit_files.unit_path(names.address_service(deployment))),
        "replicas": [_replica(files, name) for name in links],
    }


def _listed(files: NodeFiles) -> list[str]:
    """Return all that a decision may be about."""
    found = sorted({path for pattern in listed_by() for path in files.glob(pattern)})
    return [path for path in found if is_listed(path, bool(_names(files, path)))]


def _replica(files: NodeFiles, link: str) -> dict[str, Any]:
    """Return {name, listen, peers} of a link; peers are {address, state}, asked for it now."""
    config = _json(files, unit_files.link_config_path(link))
    port, peers, start = config.get("port"), config.get("peers"), config.get("start_id")
    addresses = [one for one in peers if isinstance(one, str)] if isinstance(peers, list) else []
    with ThreadPoolExecutor(max_workers=max(len(addresses), 1)) as pool:
        states = list(pool.map(lambda address: peer_state(address, port, start), addresses))
    return {
        "name": link,
        "listen": str(config.get("listen") or ""),
        "peers": [
            {"address": address, "state": state} for address, state in zip(addresses, states)
        ],
    }


def peer_state(address: str, port: Any, start_id: Any) -> str:
    """Return what the link of another node says of its units; empty where none answers.

    One of another start has begun anew without this node, and loses nothing with it.
    """
    if not isinstance(port, int) or not port:
        return ""
    connection = http.client.HTTPConnection(address, port, timeout=PEER_TIMEOUT_S)
    try:
        connection.request("GET", "/")
        text = connection.getresponse().read(MAX_ANSWER).decode(errors="replace")
        peer = parse_answer(text, 0.0)
        return peer.state if peer.start_id == start_id else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def remove(files: NodeFiles, seen: Seen, decision: Decision) -> dict[Step, Stay]:
    """Remove what goes, in its order, and return what stays although it was to go.

    Raises:
        UninstallError, CommandError, OSError: It cannot be removed.
    """
    late: dict[Step, Stay] = {}
    reload = needs_reload(decision)
    for step in decision.steps:
        if reload and step.kind not in ("service", "settings"):
            reload = False
            _reload(services_of(decision))
        if step.kind in ("image", "user"):
            why = _remove_image(step.name) if step.kind == "image" else _remove_user()
            if why:
                late[step] = Stay(f"{step.kind} {step.name}", why)
        elif step.kind == "note" and Step("image", note_id(step.name)) in late:
            late[step] = Stay(step.name, NOTE_STAYS)
        else:
            remove_path(files, step.name, seen.spared)
    if reload:
        _reload(services_of(decision))
    for folder in decision.folders:
        # Only if nothing is in it.
        with contextlib.suppress(OSError):
            os.rmdir(files.path(folder))
    return late


def remove_path(files: NodeFiles, path: str, spared: Mapping[str, str]) -> None:
    """Remove a file, or a folder with all in it but what is spared. What marks it goes last."""
    if path in spared:
        return
    if not _is_folder(files, path):
        files.remove(path)
        return
    for name in sorted(_names(files, path), key=lambda one: (one in MARKS, one)):
        remove_path(files, f"{path}/{name}", spared)
    # Not where something spared is in it.
    with contextlib.suppress(OSError):
        os.rmdir(files.path(path))


class Kept(NamedTuple):
    """What of something that may go never does, with the reason; and whether there is more."""

    spared: dict[str, str]
    more: bool


def kept_of(
    files: NodeFiles, path: str, weights: bool, mounts: Collection[str] = frozenset()
) -> Kept:
    """Return what of a file or folder stays: what is mounted there and, where asked, weights."""
    if not _is_folder(files, path):
        spare = weights and path.endswith(WEIGHTS)
        return Kept({path: "weights are never removed"} if spare else {}, not spare)
    # Only mounts tell of a folder of the same file system (mount --bind).
    if os.path.ismount(files.path(path)) or os.path.realpath(files.path(path)) in mounts:
        return Kept({path: "something is mounted there"}, False)
    below = _names(files, path)
    if weights and below and posixpath.basename(path) in HUB_FOLDERS:
        return Kept({path: "fetched from a hub: weights are never removed"}, False)
    found = [kept_of(files, f"{path}/{name}", weights, mounts) for name in below]
    spared = {key: why for one in found for key, why in one.spared.items()}
    return Kept(spared, not spared or any(one.more for one in found))


def _kept(
    files: NodeFiles, paths: Sequence[str], deployment: str, wishes: Wishes
) -> dict[str, Kept]:
    """Return of each folder that may go what of it never does."""
    wanted = {
        "cache": wishes.caches,
        "tool cache": wishes.caches,
        "log": wishes.logs,
        "environment": wishes.images,
        "tool": wishes.images,
        "state": True,
    }
    kinds = {path: place_of(path) for path in paths}
    kinds.update((path, ("environment", "")) for path in _environments(files))
    mounts = {files.path(one) for one in mount_points(files.read("/proc/self/mountinfo") or "")}
    return {
        path: kept_of(files, path, kind == "cache", mounts)
        for path, (kind, owner) in kinds.items()
        if wanted.get(kind) and owner in ("", deployment)
    }


def _environments(files: NodeFiles) -> list[str]:
    return [
        path
        for path in files.glob(f"{VENVS_DIR}/*")
        if any(files.exists(f"{path}/{mark}") for mark in MARKS)
    ]


def _images(files: NodeFiles, notes: Sequence[str]) -> tuple[list[Image], str]:
    """Return the images that are here and that Muster brought, and why Docker did not tell."""
    brought = {}
    for path in notes:
        known = read_notes(files.read(path))
        if known and known.brought:
            brought[note_id(path)] = [usual_name(name) for name in known.brought]
    if not brought or not files.exists(DOCKER):
        return [], ""
    try:
        if not has_docker():
            return [], "Docker does not run, so they cannot be told: start it, then run again"
        users = _containers()
        found = []
        for image_id, own in sorted(brought.items()):
            output = run([DOCKER, "image", "inspect", image_id], ASK_TIMEOUT_S)
            image = parse_inspect(output.stdout) if output.rc == 0 else None
            if image is None and "no such image" not in output.text.lower():
                return [], f"Docker does not tell: {output.text}"
            if image is not None:
                given = [*image["repo_tags"], *_other_digests(image["repo_digests"], own)]
                users_of = users.get(image_id, [])
                found.append(Image(image_id, given, own, users_of, image["layers"]))
    except (CommandError, UninstallError) as error:
        return [], f"Docker does not tell: {error}"
    return found, ""


def _other_digests(digests: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return the names by digest that an image has not from a pull under one of these names."""
    repositories = {name.partition("@")[0].rpartition(":")[0] or name for name in own}
    repositories |= {name.partition("@")[0] for name in own}
    return [one for one in digests if usual_name(one).partition("@")[0] not in repositories]


def _containers() -> dict[str, list[str]]:
    """Return by id of an image the containers that were made of it, running or not."""
    listed = run([DOCKER, "ps", "--all", "--quiet", "--no-trunc"], ASK_TIMEOUT_S)
    if listed.rc:
        raise UninstallError(listed.text)
    ids = listed.stdout.split()
    made: dict[str, list[str]] = {}
    if not ids:
        return made
    form = "{{.Image}} {{.Name}}"
    # Of one that has ended meanwhile it says nothing, and tells the others.
    for line in run([DOCKER, "inspect", "--format", form, *ids], ASK_TIMEOUT_S).stdout.splitlines():
        image, _space, name = line.partition(" ")
        made.setdefault(image, []).append(name.lstrip("/"))
    return made


def _remove_image(image_id: str) -> str:
    """Remove an image by its names, and return why that cannot be; empty where it went.

    Docker refuses it where a container was made of it meanwhile.
    """
    output = run([DOCKER, "image", "inspect", image_id], ASK_TIMEOUT_S)
    image = parse_inspect(output.stdout) if output.rc == 0 else None
    if image is None:
        return ""
    for name in [*image["repo_tags"], *image["repo_digests"], image_id]:
        output = run([DOCKER, "image", "rm", name], 10 * ASK_TIMEOUT_S)
        if output.rc and "no such image" not in output.text.lower():
            return f"Docker does not remove it: {output.text}"
    return ""


def _has_own_user(files: NodeFiles) -> bool:
    """Tell whether the engines' user is there as engine_venv makes it."""
    for line in (files.read("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if fields[0] == USER and len(fields) == 7:
            return fields[5] == "/nonexistent"
    return False


def _remove_user() -> str:
    output = run(["userdel", USER], ASK_TIMEOUT_S)
    return f"userdel says: {output.text}" if output.rc else ""


def _reload(services: Sequence[str]) -> None:
    """Let systemd forget services whose files have gone."""
    output = run(["systemctl", "daemon-reload"], ASK_TIMEOUT_S)
    if output.rc:
        raise UninstallError(
            f"systemctl daemon-reload ended with rc {output.rc}: {output.text}. Run it by hand"
        )
    if services:
        # Refused for those that have not failed.
        run(["systemctl", "reset-failed", *services], ASK_TIMEOUT_S)


def _is_folder(files: NodeFiles, path: str) -> bool:
    """Tell whether there is a folder at a path, and no link to one."""
    real = files.path(path)
    return os.path.isdir(real) and not os.path.islink(real)


def _names(files: NodeFiles, path: str) -> list[str]:
    return sorted(os.listdir(files.path(path))) if _is_folder(files, path) else []


def _json(files: NodeFiles, path: str) -> Mapping[str, Any]:
    """Return the object in a file, an empty one where there is none that can be read."""
    try:
        return _map(json_text.parse(files.read(path)))
    except (ValueError, OSError):
        return {}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
