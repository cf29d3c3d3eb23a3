# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at what holds a plan's devices and ports, stops it, and brings it back."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import check
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import (
    open_files,
    read_owner,
)
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    by_id,
    parse_show,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Device
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    LISTENER,
    parse_ports,
)
from ansible_collections.muster.serving.plugins.module_utils.network.sockets_io import find_busy
from ansible_collections.muster.serving.plugins.module_utils.node import takeover
from ansible_collections.muster.serving.plugins.module_utils.node.takeover import (
    Entry,
    Held,
    Holder,
    Process,
    Seen,
    TakeoverError,
)
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock, run_lock_io

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "required": True},
    "vendor": {"type": "str"},
    "devices": {"type": "list", "elements": "int", "default": []},
    "device_nodes": {"type": "list", "elements": "path", "default": []},
    "ports": {"type": "list", "elements": "raw", "default": []},
    "bind_address": {"type": "str"},
    "for_good": {"type": "bool", "default": False},
}
ASK_S = 30
# A container that is stopped gets its grace first; one that starts may set its devices up.
CARRY_OUT_S = takeover.GRACE_S + 60
# Memory of a device may be free some seconds after its last process has ended.
FREE_S = 60
POLL_S = 1.0
# By these words docker, podman and systemctl say that it itself is not there any more.
_GONE = re.compile(
    r"(?i)no such container|no container with|"
    r"\bunit (?:file )?\S+ (?:not found|could not be found|does not exist|not loaded)"
)

# Runs a command of the node within so many seconds.
Ask = Callable[[Sequence[str], float], Output]


def ask(argv: Sequence[str], timeout: float) -> Output:
    return run([*argv], timeout)


# --- look ---------------------------------------------------------------------------------------


def state(params: dict[str, Any]) -> State:
    """Return what a takeover has to do here, and whether it may."""
    try:
        holders = takeover.holders_of(look(params), params["deployment"])
        entries = read(NodeFiles(), params["deployment"])
    except (CommandError, TakeoverError, OSError) as error:
        remedy = "see to it on the node: nothing is stopped before it can be told what to stop"
        broken = check(
            "takeover-holder", "failed", "devices and ports", str(error), "an answer", remedy
        )
        return State(["it cannot be told what holds devices and ports"], [broken])
    cut_off = takeover.unfinished(entries)
    return State(
        [
            *(takeover.title(one.entry) for one in holders),
            *(f"{takeover.title(one)}: its takeover was cut off" for one in cut_off),
        ],
        takeover.checks_of(holders, params["for_good"]),
        seen={"own_units": takeover.own_units([one for one in holders if not one.problem])},
    )


def look(params: dict[str, Any], proc: Path = Path("/proc")) -> Seen:
    """Return who holds the plan's devices and ports here.

    Raises:
        CommandError: Docker, Podman or systemd did not answer.
    """
    ports, address = parse_ports(params["ports"]), params["bind_address"]
    held: dict[int, tuple[set[int], set[int]]] = {}
    for device, pids in _device_holders(params, proc):
        for pid in pids:
            held.setdefault(pid, (set(), set()))[0].add(device)
    for busy in find_busy(ports, address, proc):
        # What is connected, or listens on another address alone, is in nobody's way.
        if busy.wanted and any(socket.listening for socket in busy.sockets):
            for owner in busy.owners:
                if owner.name != LISTENER:
                    held.setdefault(owner.pid, (set(), set()))[1].add(busy.port)
    wanted = [pid for pid in held if _exists(proc, pid)]
    # Published ports need no process of their own, so containers are asked for in any case.
    containers = _all_containers(address)
    commands = [int(path.parent.name) for path in _commands(proc)]
    processes = _processes([*wanted, *commands], proc)
    units = {one.unit for one in processes.values()} | {one.unit for one in containers}
    services = _services(units - {""})
    mains = [one.main_pid for one in services.values() if one.main_pid]
    return Seen(
        {pid: Held(*held[pid]) for pid in wanted},
        {**processes, **_processes(mains, proc)},
        containers,
        services,
        ports,
    )


def _device_holders(params: dict[str, Any], proc: Path) -> list[tuple[int, list[int]]]:
    """Return by planned device the processes on it, as its vendor's tool tells them.

    Where that does not tell, those that have the device node of its number open.
    """
    if not params["vendor"] or not params["devices"]:
        return []
    nodes = {int(n): path for path in params["device_nodes"] for n in re.findall(r"\D(\d+)$", path)}
    found = []
    for device in _devices(params["vendor"]):
        number = device["device_id"]
        if number is None or number not in params["devices"]:
            continue
        if device["processes"] is not None:
            found.append((number, [one["pid"] for one in device["processes"]]))
        elif number in nodes:
            found.append((number, _openers(nodes[number], proc)))
    return found


def _devices(vendor: str) -> Sequence[Device]:
    # Code comes to the node without its compiled form: what is not asked for is not loaded.
    if vendor == "ascend":
        from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
            observe_io as npus,
        )

        tool = npus.find_npu_smi(None, ASK_S)
        return npus.observe_npus(tool, npus.device_numbers()).devices
    from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import look_io as gpus

    devices: Sequence[Device] = gpus.LOOKS[vendor]().observe(None, ASK_S).devices
    return devices


def _openers(node: str, proc: Path) -> list[int]:
    folders = (path for path in proc.iterdir() if path.name.isdigit())
    return [int(path.name) for path in folders if node in open_files(path / "fd")]


def _exists(proc: Path, pid: int) -> bool:
    return (proc / str(pid)).exists()


def _all_containers(bind_address: str | None) -> list[takeover.Container]:
    """Return the containers that run, each by the engine that it is of.

    Raises:
        CommandError: One of them did not answer.
    """
    told = {engine: _containers(engine, bind_address) for engine in takeover.CLIENTS}
    podman = told.pop("podman", [])
    mains = _main_pids() if podman else {}
    always = any(one.restart == "always" for one in podman)
    at_boot = {"always": _restarts_at_boot() if always else ""}
    # The command docker can be Podman by another name (podman-docker).
    known = {one.id for one in podman}
    return [
        *(one for found in told.values() for one in found if one.id not in known),
        *(
            one._replace(unit=mains.get(one.conmon, ""), at_boot=at_boot.get(one.restart, ""))
            for one in podman
        ),
    ]


def _main_pids() -> dict[int, str]:
    """Return by its main process each service that systemd has loaded."""
    said = run(["systemctl", "show", "--property=Id,MainPID", "*.service"], ASK_S)
    shown = by_id(parse_show(said.stdout))
    pids = {name: int(one.get("MainPID") or 0) for name, one in shown.items()}
    return {pid: name for name, pid in pids.items() if pid}


def _restarts_at_boot() -> str:
    """Return what starts Podman's containers at a boot though they are stopped; empty for nothing.

    Since 5.1 Podman can change the policy of a container by which that goes.
    """
    if "--restart" in run(["podman", "update", "--help"], ASK_S).stdout:
        return ""
    said = run(["systemctl", "is-enabled", takeover.PODMAN_RESTART], ASK_S)
    return takeover.PODMAN_RESTART if said.stdout.strip().startswith("enabled") else ""


def _containers(engine: str, bind_address: str | None) -> list[takeover.Container]:
    if shutil.which(engine) is None:
        return []
    listed = run([engine, "ps", "--quiet", "--no-trunc"], ASK_S)
    if listed.rc:
        # Without its daemon it runs none.
        if "daemon running" in listed.text:
            return []
        raise CommandError(f"{engine} ps ended with rc {listed.rc}: {listed.text}")
    ids = listed.stdout.split()
    # One that has ended meanwhile is an error, and the others are told all the same.
    said = run([engine, "inspect", "--type", "container", *ids], ASK_S).stdout if ids else "[]"
    return takeover.parse_inspect(said, engine, bind_address)


def _commands(proc: Path) -> Iterable[Path]:
    """Return the comm files of docker and podman commands."""
    return (path for path in proc.glob("[0-9]*/comm") if _text(path).strip() in takeover.CLIENTS)


def _processes(pids: Iterable[int], proc: Path) -> dict[int, Process]:
    """Return processes with all above them."""
    found: dict[int, Process] = {}
    for pid in pids:
        while pid > 0 and pid not in found and _exists(proc, pid):
            found[pid] = _process(pid, proc)
            pid = found[pid].parent
    return found


def _process(pid: int, proc: Path) -> Process:
    folder = proc / str(pid)
    owner = read_owner(pid, proc)
    parent = re.search(r"^PPid:\s*(\d+)", _text(folder / "status"), re.M)
    user = re.search(r"^Uid:\s*(\d+)", _text(folder / "status"), re.M)
    cwd = ""
    with contextlib.suppress(OSError):
        cwd = os.readlink(folder / "cwd")
    return Process(
        pid,
        int(parent[1]) if parent else 0,
        owner.name,
        _text(folder / "cmdline").split("\0")[:-1],
        cwd,
        _user(int(user[1])) if user else "",
        run_lock.process_of(_text(folder / "stat"))[1],
        _text(folder / "cgroup"),
        owner.unit,
        owner.container_id,
        owner.deployment,
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _services(units: Iterable[str]) -> dict[str, takeover.Service]:
    names = sorted(units)
    if not names:
        return {}
    asked = "--property=Id,FragmentPath,SourcePath,UnitFileState,MainPID,LoadState"
    shown = by_id(parse_show(run(["systemctl", "show", asked, *names], ASK_S).stdout))
    return {
        name: takeover.Service(
            name,
            # A file that is linked is enabled by where it lies.
            os.path.realpath(one["FragmentPath"]) if one.get("FragmentPath") else "",
            one.get("UnitFileState", ""),
            int(one.get("MainPID") or 0),
            one.get("SourcePath", ""),
        )
        for name, one in shown.items()
        if one.get("LoadState") == "loaded"
    }


# --- the record ---------------------------------------------------------------------------------


def read(files: NodeFiles, deployment: str) -> list[Entry]:
    """Return the entries of a deployment's record.

    Raises:
        TakeoverError: It cannot be understood.
    """
    path = takeover.record_path(deployment)
    try:
        return takeover.read_record(files.read(path))
    except TakeoverError as error:
        raise TakeoverError(f"{path}: {error}") from error


def write(files: NodeFiles, deployment: str, entries: Sequence[Entry]) -> None:
    """Keep the entries, for root alone; without any there is no file."""
    path = takeover.record_path(deployment)
    if entries:
        files.write(path, takeover.record_text(deployment, entries), 0o600)
    else:
        files.remove(path)


# --- stop and bring back ------------------------------------------------------------------------


def stop(files: NodeFiles, deployment: str, holders: Sequence[Holder], do: Ask = ask) -> None:
    """Stop what holds the plan's devices and ports, and what a run before has left halfway.

    Raises:
        TakeoverError: One does not stop.
        CommandError: A command hangs.
    """
    entries = takeover.begun(read(files, deployment), holders, run_lock_io.now().clock)
    if holders:
        write(files, deployment, entries)
    stopping = takeover.to_stop(entries)
    holding = [one.entry["key"] for one in holders]
    for entry in stopping:
        for argv in takeover.stop_commands(entry):
            said = do(argv, CARRY_OUT_S)
            # One of a run that was cut off holds nothing any more, and may have gone altogether.
            gone = entry["key"] not in holding and _GONE.search(said.text)
            if said.rc and not gone and not _may_fail(argv):
                raise TakeoverError(f"{shlex.join(argv)} ended with rc {said.rc}: {said.text}")
    for holder in holders:
        if holder.entry["kind"] == "process":
            top = int(holder.entry["key"].partition("@")[0])
            end([top, *holder.pids])
    if stopping:
        write(files, deployment, takeover.marked(entries, stopping, down=True))


def _may_fail(argv: Sequence[str]) -> bool:
    """Tell whether a failed command leaves nothing that starts again.

    Older releases of Podman cannot change a restart policy. What starts again for that was refused.
    """
    return list(argv[:2]) == ["podman", "update"]


def end(pids: Iterable[int], grace: float = takeover.GRACE_S) -> None:
    """End processes: by SIGTERM, and those that are left after their grace by SIGKILL."""
    left = {pid: _started(pid) for pid in pids}
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            left = {pid: at for pid, at in left.items() if at and _started(pid) == at}
            time.sleep(0.1)


def _started(pid: int) -> str:
    """Return what tells a process from another one of its number; empty where it has ended."""
    status, started = run_lock.process_of(_text(Path(f"/proc/{pid}/stat")))
    return "" if status == "Z" else started


def wait_until_free(params: dict[str, Any]) -> None:
    """Wait until nothing holds the plan's devices and ports.

    Raises:
        TakeoverError: Something still does, or does again.
    """
    deadline = time.monotonic() + FREE_S
    while True:
        left = takeover.holders_of(look(params), params["deployment"])
        if not left:
            return
        if time.monotonic() > deadline:
            names = "; ".join(
                f"{takeover.title(one.entry)} holds {takeover.held_text(one.entry)}" for one in left
            )
            raise TakeoverError(
                f"{FREE_S} s after all was stopped, {names}: look what starts it again"
            )
        time.sleep(POLL_S)


def finish(files: NodeFiles, deployment: str) -> list[Entry]:
    """Note that what took the place of others was verified, and return these."""
    entries = read(files, deployment)
    done = takeover.unfinished(entries)
    if done:
        write(files, deployment, takeover.finished(entries, run_lock_io.now().clock))
    return done


def bring_back(
    files: NodeFiles, deployment: str, chosen: Sequence[Entry], forget: bool, do: Ask = ask
) -> tuple[list[Entry], list[str]]:
    """Bring back what was stopped, each as it was, the last one first.

    Args:
        files: The node's files.
        deployment: Whose record it stands in.
        chosen: Entries of the record.
        forget: Whether the record forgets those that nothing can bring back.
        do: Runs a command.

    Returns:
        Those that run again, and a line for each that does not and why.
    """
    # What is cut off from here on stands halfway.
    entries = takeover.marked(read(files, deployment), chosen, down=False)
    write(files, deployment, entries)
    back, problems = [], []
    for entry in reversed(chosen):
        problem, gone = _start(entry, do)
        if problem:
            problems.append(f"{takeover.title(entry)}: {problem}")
        else:
            back.append(entry)
        if not problem or gone or (forget and entry["lost"]):
            entries = takeover.without(entries, entry)
            write(files, deployment, entries)
        elif entry["lost"]:
            # How it ran stays in the record for whoever starts it by hand.
            kept = takeover.finished([entry], entry["since"])
            entries = [*takeover.without(entries, entry), *kept]
            write(files, deployment, entries)
    return back, problems


def _start(entry: Entry, do: Ask) -> tuple[str, bool]:
    """Start one, and return why it does not run and whether that is since it has gone for good."""
    if entry["lost"]:
        return takeover.way_back(entry), False
    for argv in takeover.return_commands(entry):
        try:
            said = do(argv, CARRY_OUT_S)
        except CommandError as error:
            return str(error), False
        if said.rc and _GONE.search(said.text):
            return f"it is not on the node any more ({said.text})", True
        if said.rc and not _may_fail(argv):
            text = f"{shlex.join(argv)} ended with rc {said.rc}: {said.text}"
            return f"{text}. By hand: {takeover.way_back(entry)}", False
    return "", False
