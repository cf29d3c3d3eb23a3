# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds a plan's devices and ports by other hands, how it stops, and how it comes back. Pure.

A holder is a container, a systemd service or a bare process. What is stopped is kept on the node
in one record a deployment, which is written before the first of them stops: a run that was cut off
finds there how they were.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Collection, Dict, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text, redaction
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    pid_unit,
    stop_command,
)
from ansible_collections.muster.serving.plugins.module_utils.common.paths import PREFIX, STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import devices_text
from ansible_collections.muster.serving.plugins.module_utils.network.ports import takes

SCHEMA = 1
# Seconds that what is stopped has to end by itself.
GRACE_S = 60

# An entry of the record: kind, key (equal for the same thing in another run), name, devices, ports,
# state, since, down (all that stops it was done, and nothing since that starts it), and what its
# kind needs to come back.
Entry = Dict[str, Any]

STOPPING, REPLACED = "stopping", "replaced"

# Why something cannot be brought back.
LOST_CONTAINER = "it was started with --rm, so that a stop removes it"
LOST_SERVICE = "systemd forgets it when it stops (systemd-run)"
LOST_PROCESS = "nothing starts it again, and its environment is not kept, as it may hold secrets"

# Services of packages are the system's own.
_OF_PACKAGES = ("/lib/systemd/", "/usr/lib/systemd/")
# How a service is kept from starting at boot, and let again, by systemd's word for its unit file.
# One without a row does not start at boot by itself.
_AT_BOOT: Mapping[str, tuple[list[str], list[str]]] = {
    "enabled": (["disable"], ["enable"]),
    "enabled-runtime": (["disable", "--runtime"], ["enable", "--runtime"]),
    "generated": (["mask"], ["unmask"]),
}
_USER_UNIT = re.compile(r"/user@(\d+)\.service/.*?([^/]+\.service)(?:/|$)", re.MULTILINE)
_OF_USER = re.compile(r"/user@(\d+)\.service/")
# A user's own services that run containers for whoever asks.
_USER_ENGINES = ("docker.service", "podman.service")
# Above a process that was started by hand: what it did not come from, and must outlive it.
_STARTERS = re.compile(
    r"(?:a|ba|rba|da|z|k|mk|pdk|c|tc|fi|pw)?sh|sshd.*|mosh-server|su|sudo|doas|runuser|login"
    r"|tmux.*|screen|systemd|\(sd-pam\)|init|cron|crond|atd|dockerd|containerd.*|conmon.*"
)
# By a label that it gives its containers, what would start one again.
_MANAGERS = {
    "io.kubernetes.pod.name": "Kubernetes",
    "com.docker.swarm.service.name": "Docker Swarm",
    "com.hashicorp.nomad.alloc_id": "Nomad",
    "com.amazonaws.ecs.task-arn": "Amazon ECS",
}
CLIENTS = ("docker", "podman")
# Their commands that stay while a container runs, and with which it stops.
_RUNS = ({"run"}, {"start"}, {"attach"}, {"compose", "up"})
_PROXY = "docker-proxy"
# What starts at each boot the containers that Podman is to restart always, also stopped ones.
PODMAN_RESTART = "podman-restart.service"


class TakeoverError(Exception):
    """Something is not as it must be to take over or bring back; the text says what to do."""


class Held(NamedTuple):
    """Which devices and ports of the plan a process holds."""

    devices: Collection[int] = ()
    ports: Collection[int] = ()


class Process(NamedTuple):
    """A process as /proc has it, without its environment, which may hold secrets."""

    pid: int
    parent: int = 0
    name: str = ""
    argv: Sequence[str] = ()
    cwd: str = ""
    user: str = ""
    started: str = ""
    cgroup: str = ""
    unit: str = ""
    container_id: str = ""
    # Of Muster, whose unit or agent it is.
    deployment: str = ""


class Container(NamedTuple):
    """A running container, without its environment.

    Fields:
        engine: docker or podman.
        restart: Its restart policy, as --restart takes it.
        removed: Whether it goes when it stops (--rm).
        manager: What would start it again: Kubernetes, Docker Swarm; empty for nothing.
        at_boot: The service that would start it again at a boot, whatever can be done about it
            while it is there.
        conmon: Podman's process that watches it.
        unit: The service whose main process that is.
        ports: The TCP ports that are published for it where the plan binds its own.
    """

    id: str
    name: str
    engine: str = "docker"
    image: str = ""
    restart: str = "no"
    removed: bool = False
    manager: str = ""
    at_boot: str = ""
    conmon: int = 0
    unit: str = ""
    ports: Collection[int] = ()


class Service(NamedTuple):
    """A systemd service: its unit file, systemd's word for that, and its main process.

    Fields:
        source: What its unit file is generated from, empty where it is not.
    """

    name: str
    path: str = ""
    file_state: str = ""
    main_pid: int = 0
    source: str = ""


class Seen(NamedTuple):
    """What a look at a node found.

    Fields:
        holds: By process, what of the plan it holds.
        processes: Those processes with all above them, and those of docker and podman commands.
        containers: All that run.
        services: By name, those of the processes.
        ports: The plan's ports here.
    """

    holds: Mapping[int, Held]
    processes: Mapping[int, Process]
    containers: Sequence[Container] = ()
    services: Mapping[str, Service] = {}
    ports: Collection[int] = ()


class Holder(NamedTuple):
    """Something that holds what the plan needs.

    Fields:
        entry: How the record has it.
        pids: Its processes that hold something.
        problem: Why it cannot be taken over, empty where it can.
        remedy: What to do about that.
        lost: Why it cannot be brought back, empty where it can.
    """

    entry: Entry
    pids: Sequence[int] = ()
    problem: str = ""
    remedy: str = ""
    lost: str = ""


def record_path(deployment: str) -> str:
    return f"{STATE_DIR}/takeover/{deployment}.json"


# --- what docker and podman say ------------------------------------------------------------------


def parse_inspect(text: str, engine: str, bind_address: str | None = None) -> list[Container]:
    """Return the containers of docker inspect or podman inspect, as far as they can be read.

    Args:
        text: What it printed.
        engine: docker or podman.
        bind_address: Where the plan binds its ports, None for all addresses.
    """
    try:
        documents = json.loads(text)
    except ValueError:
        return []
    found = []
    for one in documents if isinstance(documents, list) else []:
        try:
            found.append(_container(one, engine, bind_address))
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
    return found


def _container(document: Mapping[str, Any], engine: str, bind_address: str | None) -> Container:
    config, host = document.get("Config") or {}, document.get("HostConfig") or {}
    policy, labels = host.get("RestartPolicy") or {}, config.get("Labels") or {}
    retries = policy.get("MaximumRetryCount") or 0
    bound = (document.get("NetworkSettings") or {}).get("Ports") or {}
    return Container(
        id=document["Id"],
        name=document["Name"].lstrip("/"),
        engine=engine,
        image=document.get("ImageName") or config.get("Image") or "",
        restart=f"{policy.get('Name') or 'no'}{f':{retries}' if retries else ''}",
        removed=bool(host.get("AutoRemove")),
        manager=next((name for label, name in _MANAGERS.items() if label in labels), ""),
        conmon=int((document.get("State") or {}).get("ConmonPid") or 0),
        ports=sorted(
            {
                int(one["HostPort"])
                for inside, many in bound.items()
                for one in many or []
                if inside.endswith("/tcp") and takes(one.get("HostIp") or "", bind_address)
            }
        ),
    )


# --- who holds it -------------------------------------------------------------------------------


def holders_of(seen: Seen, deployment: str) -> list[Holder]:
    """Return what holds the plan's devices and ports and is not of the deployment itself."""
    found: dict[tuple[str, str], tuple[Holder, set[int], set[int], list[int]]] = {}

    def add(holder: Holder, held: Held, pid: int | None = None) -> None:
        key = (holder.entry["kind"], holder.entry["key"])
        _holder, devices, ports, pids = found.setdefault(key, (holder, set(), set(), []))
        devices.update(held.devices)
        ports.update(held.ports)
        if pid is not None:
            pids.append(pid)

    for pid, held in sorted(seen.holds.items()):
        process = seen.processes.get(pid)
        # Without one it has ended meanwhile.
        if process is not None and process.deployment != deployment:
            add(_holder_of(seen, process, held), held, pid)
    for container in seen.containers:
        # Where Docker publishes a port without a process of its own, nobody holds it in /proc.
        ports = {*container.ports} & {*seen.ports}
        if ports and not container.name.startswith(PREFIX):
            inside = (one for one in seen.processes.values() if one.container_id == container.id)
            add(_of_container(seen, container, next(inside, None)), Held(ports=ports))
    return [
        holder._replace(
            entry={**holder.entry, "devices": sorted(devices), "ports": sorted(ports)},
            pids=pids,
        )
        for holder, devices, ports, pids in found.values()
    ]


def _holder_of(seen: Seen, process: Process, held: Held) -> Holder:
    if process.deployment:
        entry = _entry("deployment", process.deployment, process.deployment)
        problem = f"it is of {process.deployment}, another deployment of Muster"
        return Holder(entry, problem=problem, remedy=stop_command(process.deployment))
    container = _container_of(seen, process, held)
    if container is not None:
        if container.name.startswith(PREFIX):
            return _of_lost_unit(f"{container.name}.service")
        return _of_container(seen, container, process)
    if process.unit.startswith(PREFIX):
        return _of_lost_unit(process.unit)
    user_unit = _USER_UNIT.search(process.cgroup)
    if user_unit and not (process.container_id and user_unit[2] in _USER_ENGINES):
        user, name = user_unit.groups()
        command = f"systemctl --user -M {user}@ stop {name}"
        entry = _entry("user service", f"{user}/{name}", name)
        remedy = f"stop it: {command}, and disable it where a login or boot starts it"
        return Holder(entry, problem="it is a user's own service", remedy=remedy)
    if process.container_id:
        return _of_foreign_container(process)
    service = seen.services.get(process.unit)
    if service is None or (_is_of_package(service) and not _is_daemon(seen, process, service)):
        return _of_process(seen, process)
    return _of_service(service)


def _of_foreign_container(process: Process) -> Holder:
    """Return a container that neither root's Docker nor root's Podman knows."""
    short = process.container_id[:12]
    entry = _entry("container", process.container_id, short)
    user = _OF_USER.search(process.cgroup)
    if user:
        problem = f"it is a container of the user {user[1]}, by rootless Podman or Docker"
        remedy = f"stop it as that user: podman stop {short}, or docker stop {short}"
        return Holder(entry, problem=problem, remedy=remedy)
    manager = "Kubernetes" if "kubepods" in process.cgroup else "neither Docker nor Podman"
    problem = f"its container is run by {manager}"
    return Holder(entry, problem=problem, remedy="stop it by what runs it")


def _container_of(seen: Seen, process: Process, held: Held) -> Container | None:
    """Return the container that a process runs in, or whose port it passes on."""
    for one in seen.containers:
        passes_on = process.name == _PROXY and {*held.ports} & {*one.ports}
        if one.id == process.container_id or passes_on:
            return one
    return None


def _of_container(seen: Seen, container: Container, process: Process | None = None) -> Holder:
    """Return a container as a holder; the service that runs it, where one does.

    Podman can put a container into its service's control group, or let the service watch it; of
    Docker only the command that waits for the container is in it.
    """
    inside = process.unit if process and process.container_id else ""
    name = container.unit or inside or _client_unit(seen, container)
    service = seen.services.get(name)
    if service is not None and not _is_of_package(service):
        return _of_service(service, container.name)
    entry = _entry(
        "container",
        container.id,
        container.name,
        engine=container.engine,
        image=container.image,
        restart=container.restart,
    )
    if container.manager:
        problem = f"{container.manager} runs it, and would start it again"
        return Holder(entry, problem=problem, remedy=f"stop it by {container.manager}")
    if container.at_boot:
        problem = (
            f"{container.at_boot} starts it at each boot, and this release of Podman cannot change "
            "its restart policy"
        )
        remedy = (
            f"make it anew without --restart=always, or systemctl disable {container.at_boot} "
            "where no other container needs it"
        )
        return Holder(entry, problem=problem, remedy=remedy)
    return Holder(entry, lost=LOST_CONTAINER if container.removed else "")


def _client_unit(seen: Seen, container: Container) -> str:
    """Return the systemd unit whose docker or podman command runs a container."""
    names = {container.name, f"--name={container.name}", container.id, container.id[:12]}
    # Without a name that was given, its image tells where it is the only one made of that.
    if [one.image for one in seen.containers].count(container.image) == 1:
        names.add(container.image)
    for process in seen.processes.values():
        if process.name in CLIENTS and process.unit and _runs_one_of(names, process.argv):
            return process.unit
    return ""


def _runs_one_of(names: Collection[str], argv: Sequence[str]) -> bool:
    """Tell whether a docker or podman command runs what it names, and not only reads its log."""
    at = next((at for at, word in enumerate(argv) if word in names), 0)
    return any(verb <= {*argv[1:at]} for verb in _RUNS)


def _of_lost_unit(unit: str) -> Holder:
    entry = _entry("service", unit, unit)
    problem = "it is a unit of Muster of which nothing else is on the node"
    return Holder(entry, problem=problem, remedy=f"systemctl disable --now {unit}")


def _of_service(service: Service, container: str = "") -> Holder:
    entry = _entry(
        "service",
        service.name,
        service.name,
        path=service.path,
        source=service.source,
        file_state=service.file_state,
        container=container,
    )
    if _is_of_package(service):
        problem = "it is the system's own, from a package"
        return Holder(entry, problem=problem, remedy=f"systemctl stop {service.name}, if it may go")
    transient = service.file_state == "transient"
    return Holder(entry, lost=LOST_SERVICE if transient else "")


def _is_of_package(service: Service) -> bool:
    return service.path.startswith(_OF_PACKAGES)


def _is_daemon(seen: Seen, process: Process, service: Service) -> bool:
    """Tell whether a process is what a service is for, and not what was started below it.

    A login is below sshd, and so is whatever was started from it.
    """
    main = seen.processes.get(service.main_pid)
    same = main is not None and main.name == process.name
    # What passes on a port of a container that nobody knows is Docker's own.
    return process.pid == service.main_pid or same or process.name == _PROXY


def _of_process(seen: Seen, process: Process) -> Holder:
    top = process
    service = seen.services.get(process.unit)
    runner = ""
    while True:
        above = seen.processes.get(top.parent)
        if above is None or above.pid <= 1 or _STARTERS.fullmatch(above.name):
            break
        if service is not None and above.pid == service.main_pid:
            # A supervisor, which has others to look after, too.
            runner = f"{above.name} of {service.name}"
            break
        top = above
    entry = _entry(
        "process",
        f"{top.pid}@{top.started}",
        f"{top.name} (pid {top.pid})",
        argv=redaction.value([*top.argv]),
        cwd=top.cwd,
        user=top.user,
    )
    if runner:
        problem = f"{runner} runs it, and would start it again"
        return Holder(entry, problem=problem, remedy="stop it by what that is told, for good")
    return Holder(entry, lost=LOST_PROCESS)


def _entry(kind: str, key: str, name: str, **more: Any) -> Entry:
    return {"kind": kind, "key": key, "name": name, **more}


# --- what is said of it -------------------------------------------------------------------------


def title(entry: Entry) -> str:
    """Return what to call it: container vllm (IMAGE)."""
    image = f" ({entry['image']})" if entry.get("image") else ""
    return f"{entry['kind']} {entry['name']}{image}"


def held_text(entry: Entry) -> str:
    """Return what it holds: devices 0-7, port 8000."""
    ports = entry["ports"]
    parts = [devices_text(entry["devices"])] if entry["devices"] else []
    if ports:
        parts.append(f"port{'s' if len(ports) > 1 else ''} {ranges_text(ports, ', ')}")
    return ", ".join(parts)


def checks_of(holders: Sequence[Holder], for_good: bool) -> list[Check]:
    """Return whether all that holds the plan's devices and ports can be taken over."""

    def verdict(status: str, holder: Holder, remedy: str, why: str = "") -> Check:
        seen = f"holds {held_text(holder.entry)}{f'; {why}' if why else ''}"
        expected = "nothing, or what can be stopped and brought back"
        return check("takeover-holder", status, title(holder.entry), seen, expected, remedy)

    checks = []
    for holder in holders:
        if holder.problem:
            checks.append(verdict("failed", holder, holder.remedy, holder.problem))
        elif holder.lost and not for_good:
            remedy = "stop it yourself, or have it stopped for good: -e takeover_for_good=true"
            checks.append(
                verdict("failed", holder, remedy, f"not to be brought back: {holder.lost}")
            )
        elif holder.lost:
            remedy = f"this run stops it for good: {holder.lost}"
            checks.append(verdict("pending", holder, remedy))
        else:
            remedy = "this run stops it, and brings it back where the replica does not answer well"
            checks.append(verdict("pending", holder, remedy))
    return checks or [check("takeover-holder", "ok", "devices and ports", "nothing to take over")]


def own_units(holders: Sequence[Holder]) -> list[str]:
    """Return how the other checks know what is stopped before anything starts."""
    units = []
    for holder in holders:
        entry = holder.entry
        if entry["kind"] == "service":
            units.append(entry["name"])
        container = entry["name"] if entry["kind"] == "container" else entry.get("container")
        if container:
            units.append(f"{container}.service")
        units += map(pid_unit, holder.pids)
    return units


# --- the record ---------------------------------------------------------------------------------


def read_record(text: str | None) -> list[Entry]:
    """Return the entries of a record, none where there is no file.

    Raises:
        TakeoverError: It is none. What it said of things that were stopped must not get lost.
    """
    if text is None:
        return []
    try:
        record = json_text.parse(text)
        entries: list[Entry] = record["entries"]
        if record["schema"] != SCHEMA or not all(map(_is_entry, entries)):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise TakeoverError(
            "this is no record of what was taken over, and nothing was changed. Look what it says "
            "of things that were stopped, bring back by hand what is to run, and move it away"
        ) from error
    return entries


def _is_entry(one: Any) -> bool:
    """Tell whether an entry of a record holds what all of them do."""
    texts = (one[key] for key in ("kind", "key", "name", "state"))
    lists = (one[key] for key in ("devices", "ports"))
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(numbers, list) and all(isinstance(number, int) for number in numbers)
        for numbers in lists
    )


def record_text(deployment: str, entries: Sequence[Entry]) -> str:
    record = {"schema": SCHEMA, "deployment": deployment, "entries": [*entries]}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def begun(entries: Sequence[Entry], holders: Iterable[Holder], when: str) -> list[Entry]:
    """Return the record before holders are stopped.

    One that a run before was stopping keeps what was noted then: it may stand halfway.
    """
    halfway = {_id(one): one for one in entries if one["state"] == STOPPING}
    new = {}
    for holder in holders:
        fresh = {**holder.entry, "lost": holder.lost, "state": STOPPING, "since": when}
        known = halfway.get(_id(fresh), fresh)
        held = {"devices": fresh["devices"], "ports": fresh["ports"]}
        new[_id(fresh)] = {**known, **held, "down": False}
    return [*(one for one in entries if _id(one) not in new), *new.values()]


def finished(entries: Sequence[Entry], when: str) -> list[Entry]:
    """Return the record once what took their place was verified."""
    return [
        {**one, "state": REPLACED, "since": when} if one["state"] == STOPPING else one
        for one in entries
    ]


def unfinished(entries: Iterable[Entry]) -> list[Entry]:
    """Return what was being stopped when a run was cut off, or is now."""
    return [one for one in entries if one["state"] == STOPPING]


def to_stop(entries: Iterable[Entry]) -> list[Entry]:
    """Return those of which not all is done yet that stops them."""
    return [one for one in unfinished(entries) if not one.get("down")]


def marked(entries: Iterable[Entry], chosen: Iterable[Entry], down: bool) -> list[Entry]:
    """Return the record with the mark that chosen entries are down, or without it."""
    keys = {_id(one) for one in chosen}
    return [{**one, "down": down} if _id(one) in keys else one for one in entries]


def left(entries: Iterable[Entry], chosen: Iterable[Entry]) -> list[Entry]:
    """Return those of chosen entries that the record still has."""
    keys = {_id(one) for one in entries}
    return [one for one in chosen if _id(one) in keys]


def without(entries: Iterable[Entry], gone: Entry) -> list[Entry]:
    """Return the record without one entry."""
    return [one for one in entries if _id(one) != _id(gone)]


def _id(entry: Entry) -> tuple[str, str]:
    return entry["kind"], entry["key"]


# --- how it stops and comes back ----------------------------------------------------------------


def stop_commands(entry: Entry) -> list[list[str]]:
    """Return what stops it and keeps it from starting again; nothing for a process."""
    if entry["kind"] == "container":
        stop = [entry["engine"], "stop", "-t", str(GRACE_S), entry["key"]]
        return [*_restart_policy(entry, "no"), stop]
    if entry["kind"] == "service":
        # Reloads systemd, so it comes after what may lose its GPUs by that has stopped.
        off, _on = _AT_BOOT.get(entry["file_state"], ([], []))
        stop = ["systemctl", "stop", entry["name"]]
        return [stop, ["systemctl", *off, entry["name"]]] if off else [stop]
    return []


def return_commands(entry: Entry) -> list[list[str]]:
    """Return what brings it back as it was; nothing where nothing can."""
    if entry["lost"]:
        return []
    if entry["kind"] == "container":
        start = [entry["engine"], "start", entry["key"]]
        return [*_restart_policy(entry, entry["restart"]), start]
    _off, on = _AT_BOOT.get(entry["file_state"], ([], []))
    # Where its file lies elsewhere, systemd knows it by its path alone once it was disabled.
    file = entry["path"] if "enable" in on else entry["name"]
    start = ["systemctl", "start", entry["name"]]
    return [["systemctl", *on, file], start] if on else [start]


def remove_commands(entry: Entry) -> list[list[str]]:
    """Return what an operator types who does not want it back."""
    if entry["lost"]:
        return []
    if entry["kind"] == "container":
        return [[entry["engine"], "rm", entry["key"][:12]]]
    if entry["file_state"] == "generated":
        # Its unit file is written anew from its source, and it is masked.
        source = entry.get("source")
        return [["rm", source], ["systemctl", "unmask", entry["name"]]] if source else []
    return [["rm", entry["path"]]] if entry["path"] else []


def _restart_policy(entry: Entry, policy: str) -> list[list[str]]:
    if entry["restart"] in ("", "no"):
        return []
    return [[entry["engine"], "update", f"--restart={policy}", entry["key"]]]


def way_back(entry: Entry) -> str:
    """Return what an operator is told of how something comes back."""
    if entry["kind"] == "process":
        command = shlex.join(entry["argv"])
        return f"by hand, with its environment: cd {entry['cwd']} && {command} (as {entry['user']})"
    if entry["lost"]:
        return f"by hand: {entry['lost']}"
    return " && ".join(shlex.join(one) for one in return_commands(entry))


def told(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return what an operator is told of what was replaced: what, can_return, back, and remove."""
    return [
        {
            "what": f"{title(one)}, which held {held_text(one)}",
            "state": one["state"],
            "since": one.get("since", ""),
            "can_return": not one["lost"],
            "back": way_back(one),
            "remove": " && ".join(shlex.join(words) for words in remove_commands(one)),
        }
        for one in entries
    ]
