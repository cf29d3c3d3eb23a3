# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a node is one deployment's, in which order it goes, and what stays and why. Pure.

Whose something is shows in its place and name, which names.py composes: what matches no place is
not Muster's, and is never touched. Host tuning and Docker's settings have modules of their own.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    LOG_DIR,
    PREFIX,
    STATE_DIR,
    UNITS_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    CACHE_DIR,
    PYTHON_DIR,
    USER,
    UV_HOME,
    environment_of,
)
from ansible_collections.muster.serving.plugins.module_utils.host import docker, tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files
from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    LINK,
    UNIT,
    UNIT_OR_LINK,
    deployment_of,
)

_SYSTEMD = unit_files.SYSTEMD_DIR
_WANTS = f"{_SYSTEMD}/multi-user.target.wants"
_CONFIG = unit_files.CONFIG_DIR
_OPT = posixpath.dirname(UV_HOME)
VENVS_DIR = f"{_OPT}/venvs"
# By it another run knows the image for one that may go.
NOTE_STAYS = "says that Muster brought an image that stays"
NOTE_REPLACED = "says how what takeover.yml replaced comes back: playbooks/return.yml"
NOTE_DROP_IN = "settings that somebody else gave a service of Muster: remove them by hand"
# Of one folder in a line of what stays.
MOST_NAMES = 16
_DEPLOYMENT = "(?P<deployment>.+)"


class Place(NamedTuple):
    """Where things of one kind lie: a pattern of folders, and one of names that tells whose."""

    folder: str
    name: str
    kind: str


# The first that fits decides. Kinds without a deployment in the name are all deployments'.
PLACES = (
    *(
        Place(folder, rf"{PREFIX}{name}\.service", "service")
        for folder in (_SYSTEMD, _WANTS)
        for name in (UNIT, f"{LINK}-link", f"{_DEPLOYMENT}-address")
    ),
    *(
        Place(_SYSTEMD, rf"{PREFIX}{name}\.service\.d", "drop-in")
        for name in (UNIT, f"{LINK}-link", f"{_DEPLOYMENT}-address")
    ),
    Place(_CONFIG, rf"{UNIT}\.env", "settings"),
    Place(_CONFIG, rf"{LINK}\.link\.json", "settings"),
    Place(_CONFIG, rf"{_DEPLOYMENT}\.address\.conf", "settings"),
    Place(f"{STATE_DIR}/cache", UNIT, "cache"),
    Place(unit_files.HOME_DIR, UNIT, "cache"),
    Place(LOG_DIR, UNIT, "log"),
    Place(UNITS_DIR, rf"{UNIT}\.json", "record"),
    Place(f"{STATE_DIR}/verified", rf"{_DEPLOYMENT}\.json", "verified"),
    Place(f"{STATE_DIR}/takeover", rf"{_DEPLOYMENT}\.json", "takeover"),
    Place(f"{STATE_DIR}/bench", _DEPLOYMENT, "state"),
    Place(f"{STATE_DIR}/images", r".+\.json", "note"),
    Place(f"{STATE_DIR}/parser", r".+", "shared"),
    Place(f"{STATE_DIR}/weights", r".+\.json", "shared"),
    Place(f"{STATE_DIR}/*", rf"{UNIT_OR_LINK}(?:\.json)?", "state"),
    Place(unit_files.PROGRAMS_DIR, r"[a-z_]+\.py|__pycache__", "program"),
    Place(_OPT, "|".join(posixpath.basename(one) for one in (UV_HOME, PYTHON_DIR)), "tool"),
    Place(posixpath.dirname(CACHE_DIR), posixpath.basename(CACHE_DIR), "tool cache"),
    # Of a write that was cut off: files_io makes them, and nobody else does.
    *(
        Place(folder, r"\.muster-.{8}", "shared")
        for folder in (
            *(_SYSTEMD, _CONFIG, STATE_DIR, f"{STATE_DIR}/*", unit_files.PROGRAMS_DIR),
            *(posixpath.dirname(path) for path in (tuning.SYSCTL_PATH, docker.DAEMON_JSON)),
        )
    ),
)
# Folders that are Muster's alone, patterns of them; each goes when nothing is left in it.
OWN_FOLDERS = (
    *(f"{STATE_DIR}/*", STATE_DIR, f"{_CONFIG}/*", _CONFIG, unit_files.PROGRAMS_DIR, LOG_DIR),
    *(unit_files.HOME_DIR, VENVS_DIR, _OPT),
)
_STATE_FOLDERS = (
    "bench cache gateway images links parser stalls takeover tls units verified weights"
)
FOLDERS = (
    *(f"{STATE_DIR}/{name}" for name in _STATE_FOLDERS.split()),
    *(folder for folder in OWN_FOLDERS if "*" not in folder),
)
# What lies in Muster's own folders and is looked after by other modules.
_KNOWN = (tuning.STATE_PATH, docker.STATE_PATH, docker.PROXY_ENV, firewall.STATE_PATH)

# In this order things go. What says which deployment has been here goes last, so that a run that
# was cut off is made up for by the next one.
ORDER = (
    *("service", "settings", "state", "log", "cache", "tool cache", "image", "environment", "tool"),
    *("user", "program", "note", "shared", "verified", "record"),
)


class Image(NamedTuple):
    """An image that Muster brought and that is on the node.

    Fields:
        id: Docker's id of it.
        names: Its names there.
        own_names: Those that Muster gave it.
        containers: The containers that were made of it, running or not.
        layers: Its layers, with which those of an image begin that was built from it.
    """

    id: str
    names: Sequence[str]
    own_names: Sequence[str]
    containers: Sequence[str] = ()
    layers: Sequence[str] = ()


class Seen(NamedTuple):
    """What a look at a node found.

    Fields:
        paths: All that is_listed() of what lies on the node.
        empty: Those of them that are empty folders.
        records: By unit the content of its record, {} where it cannot be read.
        verified: By deployment the content of what was verified.
        wants: By file of host tuning, firewall and Docker's settings, the deployments in it.
        images: Those that Muster brought.
        docker: Why Docker did not tell of images; empty where it did, or where there is none.
        has_docker: Whether Docker is here.
        environments: The paths of VENVS_DIR that are environments.
        user: Whether there is the engines' user as Muster makes it.
        spared: What lies in caches, logs and environments and is never removed, with the reason.
        settled: Of those, the ones in which nothing else is left.
        weights: Folders of weights that were hashed.
    """

    paths: Sequence[str]
    empty: Sequence[str] = ()
    records: Mapping[str, Mapping[str, Any]] = {}
    verified: Mapping[str, Mapping[str, Any]] = {}
    wants: Mapping[str, Sequence[str]] = {}
    images: Sequence[Image] = ()
    docker: str = ""
    has_docker: bool = False
    environments: Sequence[str] = ()
    user: bool = False
    spared: Mapping[str, str] = {}
    settled: Sequence[str] = ()
    weights: Sequence[str] = ()


class Wishes(NamedTuple):
    """What is to go beyond what keeps a deployment running."""

    images: bool = False
    caches: bool = False
    logs: bool = False


class Step(NamedTuple):
    """One thing that goes: its kind of ORDER, and its path, or the name of an image or user."""

    kind: str
    name: str


class Stay(NamedTuple):
    """What stays on the node, and why."""

    what: str
    why: str


class Decision(NamedTuple):
    """What goes, in this order; the folders that go if they are empty then; and what stays."""

    steps: list[Step]
    folders: list[str]
    stays: list[Stay]


def place_of(path: str) -> tuple[str, str]:
    """Return the kind of something at a path and its deployment, empty where it has none."""
    folder, name = posixpath.split(path)
    for place in PLACES:
        if not _fits(folder, place.folder):
            continue
        match = re.fullmatch(place.name, name)
        if match:
            return place.kind, match.groupdict().get("deployment") or ""
    return "", ""


def deployments_of(seen: Seen) -> set[str]:
    """Return the deployments that are on a node: what they left there alone makes none."""
    found = {name for names in seen.wants.values() for name in names} | {*seen.verified}
    for path in seen.paths:
        kind, deployment = place_of(path)
        if deployment and kind in ("service", "settings", "record", "verified"):
            found.add(deployment)
    return found


def units_of(paths: Iterable[str], deployment: str) -> list[str]:
    """Return the names of a deployment's units that have left a service or a record."""
    found = set()
    for path in paths:
        kind, owner = place_of(path)
        name = re.sub(rf"^{PREFIX}|\.service$|\.json$", "", posixpath.basename(path))
        if owner == deployment and kind in ("service", "record") and re.fullmatch(UNIT, name):
            found.add(name)
    return sorted(found)


def links_of(paths: Iterable[str], deployment: str) -> list[str]:
    """Return the names of a deployment's links that have left a service or a configuration."""
    found = set()
    for path in paths:
        kind, owner = place_of(path)
        name = posixpath.basename(path)
        for pattern in (rf"{PREFIX}({LINK})-link\.service", rf"({LINK})\.link\.json"):
            match = re.fullmatch(pattern, name)
            if match and owner == deployment and kind in ("service", "settings"):
                found.add(match[1])
    return sorted(found)


def services_of(decision: Decision) -> list[str]:
    """Return the systemd services whose files go."""
    names = [posixpath.basename(step.name) for step in decision.steps if step.kind == "service"]
    return list(dict.fromkeys(names))


def needs_reload(decision: Decision) -> bool:
    """Tell whether systemd is to be told that services have gone.

    One that was cut off may have removed them and not come to that.
    """
    return any(step.kind in ("service", "record") for step in decision.steps)


def decide(seen: Seen, deployment: str, wishes: Wishes) -> Decision:
    """Return what of a deployment goes from a node, and what stays of all that is Muster's."""
    others = sorted(deployments_of(seen) - {deployment})
    named = {path: place_of(path) for path in seen.paths}
    own = {path: kind for path, (kind, owner) in named.items() if owner == deployment}
    common = {path: kind for path, (kind, owner) in named.items() if kind and not owner}
    read, read_by_others = _files(seen, deployment)
    engines = _engines(seen, common, others, wishes)
    asked = {"log": ("uninstall_logs", wishes.logs), "cache": ("uninstall_caches", wishes.caches)}

    steps = [Step("settings", path) for path in read] + engines.steps
    stays = [Stay(path, "units of another deployment read it") for path in read_by_others]
    stays += engines.stays
    for path, kind in own.items():
        option, wanted = asked.get(kind, ("", True))
        if kind == "takeover":
            stays.append(Stay(path, NOTE_REPLACED))
        elif kind == "drop-in":
            stays.append(Stay(path, NOTE_DROP_IN))
        elif wanted:
            steps.append(Step(kind, path))
        else:
            stays.append(Stay(path, _on_request(option)))
    here = {one.id for one in seen.images}
    for path, kind in common.items():
        goes = kind == "note" and Step("image", note_id(path)) in engines.steps
        if kind == "note" and not goes and (seen.docker or note_id(path) in here):
            stays.append(Stay(path, NOTE_STAYS))
        elif kind in ("program", "note", "shared") and others and not goes:
            stays.append(Stay(path, f"{_list(others)} may use it, too"))
        elif kind in ("program", "note", "shared"):
            steps.append(Step(kind, path))
    # A gateway's, whose file a run that was cut off has removed.
    empty = [path for path in seen.empty if _of_units_settings(path, deployment)]
    known = {*_KNOWN, *read, *read_by_others, *seen.environments, *empty}
    stays += [
        Stay(path, "Muster did not make it")
        for path, (kind, _owner) in named.items()
        if not kind and path not in known and is_own(path) and not _is_of_firewall(path)
    ]
    stays += [Stay(path, why) for path, why in seen.spared.items()]
    stays += _of_others(seen, deployment, others)
    steps = [step for step in dict.fromkeys(steps) if step.name not in seen.settled]
    stays += _of_the_node(seen, deployment) if steps else []
    emptied = [posixpath.dirname(step.name) for step in steps if step.name.startswith("/")]
    own_folders = [folder for folder in emptied if is_own_folder(folder)]
    return Decision(
        sorted(steps, key=lambda step: (ORDER.index(step.kind), step.name)),
        list(dict.fromkeys([*empty, *own_folders, *FOLDERS])),
        _folded(stays),
    )


def note_id(path: str) -> str:
    """Return the id of the image that a note is about, as its name has it."""
    return posixpath.basename(path)[: -len(".json")].replace("-", ":", 1)


class _Engines(NamedTuple):
    steps: list[Step]
    stays: list[Stay]


def _engines(
    seen: Seen, common: Mapping[str, str], others: Sequence[str], wishes: Wishes
) -> _Engines:
    """Return what goes and stays of what engines run from: images, environments, their user."""
    documents = [
        document
        for found, owner in ((seen.records, deployment_of), (seen.verified, str))
        for name, document in found.items()
        if owner(name) in others
    ]
    used = set().union(*map(engines_in, documents))
    known = {*map(deployment_of, seen.records), *seen.verified}
    # Of a deployment that was prepared and never started, nothing says what it runs from.
    waiting = [name for name in others if name not in known]
    why: dict[Step, str] = {}
    names = {Step("image", one.id): f"image {_list(one.own_names)}" for one in seen.images}
    for image in seen.images:
        why[Step("image", image.id)] = _why_image(image, used)
    for image in seen.images:
        made = [
            _list(one.own_names)
            for one in seen.images
            if why[Step("image", one.id)] and _is_made_of(one, image)
        ]
        if made and not why[Step("image", image.id)]:
            why[Step("image", image.id)] = f"{_list(made)} is made of it"
    environments = [Step("environment", path) for path in seen.environments]
    for step in environments:
        why[step] = "units of another deployment run from it" if step.name in used else ""
    for step in why:
        if waiting:
            why[step] = why[step] or f"{_list(waiting)} is prepared here and may start from it"
        if not wishes.images:
            why[step] = _on_request("uninstall_images")
    left = any(why[step] for step in environments) or bool(waiting)
    for path, kind in common.items():
        if kind == "tool":
            need = "environments that stay need it" if left else ""
            why[Step(kind, path)] = need if wishes.images else _on_request("uninstall_images")
        elif kind == "tool cache":
            why[Step(kind, path)] = "" if wishes.caches else _on_request("uninstall_caches")
    if seen.user:
        names[Step("user", USER)] = f"user {USER}"
        why[Step("user", USER)] = _why_user(seen, left, wishes)
    stays = [Stay(names.get(step, step.name), text) for step, text in why.items() if text]
    if seen.docker:
        stays.append(Stay("images", seen.docker))
    return _Engines([step for step, text in why.items() if not text], stays)


def _why_image(image: Image, used: Collection[str]) -> str:
    """Return why an image stays that is asked to go; empty where it goes."""
    foreign = sorted({*image.names} - {*image.own_names})
    if image.containers:
        return f"containers are made of it: {_list(image.containers)}"
    if {image.id, *image.names, *image.own_names} & {*used}:
        return "units of another deployment run from it"
    return f"it has a name that Muster did not give it: {_list(foreign)}" if foreign else ""


def _is_made_of(image: Image, base: Image) -> bool:
    """Tell whether an image was built from another one."""
    layers = [*base.layers]
    return bool(layers) and image.id != base.id and [*image.layers][: len(layers)] == layers


def _why_user(seen: Seen, left: bool, wishes: Wishes) -> str:
    """Return why the engines' user stays; empty where it goes."""
    if not wishes.images:
        return _on_request("uninstall_images")
    if left:
        return "engines run as this user from environments that stay"
    owned = any(place_of(path)[0] == "cache" for path in seen.paths if _is_home(path))
    if owned and not wishes.caches:
        return f"what is below {unit_files.HOME_DIR} is its own: {_on_request('uninstall_caches')}"
    return ""


def engines_in(document: Any) -> set[str]:
    """Return what engines run from by the content of a record, or of what was verified.

    These are names and ids of images, and environments.
    """
    found: set[str] = set()
    if isinstance(document, Mapping):
        if document.get("install") == "venv" and document.get("argv"):
            found.add(environment_of(document["argv"]))
        for key, value in document.items():
            if key in ("image", "image id", "environment") and isinstance(value, str):
                found.add(value)
            elif key == "engines" and isinstance(value, Mapping):
                found |= {one for one in value.values() if isinstance(one, str)}
            else:
                found |= engines_in(value)
    elif isinstance(document, (list, tuple)):
        found.update(*map(engines_in, document))
    return found


def _files(seen: Seen, deployment: str) -> tuple[list[str], list[str]]:
    """Return the files that a deployment's units read, and those that others' read, too."""
    owners: dict[str, set[str]] = {}
    for name, record in seen.records.items():
        effective = record.get("effective")
        for path in unit_files.file_paths(effective if isinstance(effective, Mapping) else {}):
            if unit_files.is_removable(path):
                owners.setdefault(path, set()).add(deployment_of(name))
    own = sorted(path for path in owners if deployment in owners[path])
    alone = [path for path in own if owners[path] == {deployment}]
    return alone, [path for path in own if path not in alone]


def _of_others(seen: Seen, deployment: str, others: Sequence[str]) -> list[Stay]:
    """Return that other deployments stay, and what they want of the node itself."""
    stays = []
    for path, names in seen.wants.items():
        left = sorted({*names} - {deployment})
        if left:
            stays.append(Stay(path, f"what {_list(left)} wants of the node stays in force"))
    for name in others:
        units = units_of(seen.paths, name)
        what = f"{name}, another deployment" + (f" ({_list(units)})" if units else "")
        stays.append(Stay(what, f"to remove it, too: -e muster_cluster={name}"))
    return stays


def _of_the_node(seen: Seen, deployment: str) -> list[Stay]:
    """Return what a deployment used or brought that is the node's or its operator's."""
    stays = [Stay(path, "weights are never removed") for path in seen.weights]
    units = units_of(seen.paths, deployment)
    if units:
        what = f"journal of {PREFIX}{deployment}-*"
        stays.append(Stay(what, "journald removes it by its own limits"))
    if seen.has_docker:
        why = "others may use it: remove its packages by hand if nobody does"
        stays.append(Stay("Docker and what it keeps in /var/lib/docker", why))
    packages = {
        "keepalived": any(path.endswith("-address.service") for path in seen.paths),
        "python3-venv or python3-pip": bool(seen.environments),
    }
    by_hand = "remove it by hand if nobody uses it"
    stays += [Stay(f"the package {name}", by_hand) for name, used in packages.items() if used]
    return stays


def is_own_folder(path: str) -> bool:
    """Tell whether a folder is Muster's alone, as far as its name says."""
    return any(_fits(path, one) for one in OWN_FOLDERS)


def is_own(path: str) -> bool:
    """Tell whether something lies in a folder of Muster's, and is none of those itself."""
    return is_own_folder(posixpath.dirname(path)) and path not in FOLDERS


def _is_of_firewall(path: str) -> bool:
    return f"{path}/".startswith(f"{firewall.KEPT_DIR}/")


def _of_units_settings(path: str, deployment: str) -> bool:
    """Tell whether a folder is that of the settings of a unit of a deployment."""
    folder, name = posixpath.split(path)
    return folder == _CONFIG and deployment_of(name) == deployment


def _is_home(path: str) -> bool:
    return path.startswith(f"{unit_files.HOME_DIR}/")


def listed_by() -> list[str]:
    """Return the patterns of paths that are to be looked at; what is no name in them is *."""
    folders = [place.folder for place in PLACES] + [*OWN_FOLDERS]
    return [f"{folder}/{name}" for folder in dict.fromkeys(folders) for name in ("*", ".muster-*")]


def is_listed(path: str, holds: bool) -> bool:
    """Tell whether a path is one of those that a decision is about.

    Args:
        path: One that fits a pattern of listed_by().
        holds: Whether it is a folder with something in it.
    """
    if path in FOLDERS or (holds and is_own_folder(path) and not place_of(path)[0]):
        return False
    return bool(place_of(path)[0]) or is_own(path)


def mount_points(mountinfo: str) -> set[str]:
    """Return where something is mounted, from /proc/self/mountinfo."""
    fields = (line.split(" ") for line in mountinfo.splitlines())
    # A blank in a name is written as \040.
    return {
        re.sub(r"\\([0-7]{3})", lambda one: chr(int(one[1], 8)), found[4])
        for found in fields
        if len(found) > 4
    }


def _fits(folder: str, pattern: str) -> bool:
    """Tell whether a folder fits a pattern, in which * stands for one name."""
    return folder.count("/") == pattern.count("/") and fnmatch.fnmatchcase(folder, pattern)


def _on_request(option: str) -> str:
    return f"-e {option}=true removes it"


def _folded(stays: Sequence[Stay]) -> list[Stay]:
    """Return one entry for all that stays in a folder for one reason."""
    folded: dict[tuple[str, str], list[str]] = {}
    for stay in stays:
        folder = posixpath.dirname(stay.what) if stay.what.startswith("/") else stay.what
        folded.setdefault((folder, stay.why), []).append(stay.what)
    return [
        Stay(what[0] if len(what) == 1 else f"{folder}: {_names(what)}", why)
        for (folder, why), what in folded.items()
    ]


def _names(paths: Sequence[str]) -> str:
    names = [posixpath.basename(path) for path in paths]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return _list(names[:MOST_NAMES]) + more


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
