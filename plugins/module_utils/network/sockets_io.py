# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets behind port_check: try to bind, listen for a while, probe peers."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import (
    open_files,
    read_owner,
)
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    LISTENER,
    Busy,
    SocketEntry,
    parse_socket_table,
    takes,
)

# Closed so, a connection is forgotten at once. Otherwise it would hold its port, which may be one
# of the plan's, for a minute.
_FORGET = struct.pack("ii", 1, 0)
# Well under the usual limit of 1024 open files.
_AT_ONCE = 256


def bind(address: str, port: int) -> socket.socket:
    """Return a TCP socket bound as an engine binds it: closed connections do not matter.

    Raises:
        OSError: The port cannot be bound.
    """
    bound = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def find_busy(ports: Sequence[int], address: str | None, proc: Path = Path("/proc")) -> list[Busy]:
    """Return ports that cannot be bound on the address or, without one, on all addresses."""
    wildcard = "::" if address and ":" in address else "0.0.0.0"  # noqa: S104 (bound, never served)
    problems = {}
    for port in ports:
        problem = _bind_problem(address or wildcard, port)
        if problem and problem[0] == errno.EADDRNOTAVAIL:
            # Not an address of this node: nic_check says so; the port is judged all the same.
            problem = _bind_problem(wildcard, port)
        if problem:
            problems[port] = (True, problem[1])
        elif address:
            problem = _bind_problem(wildcard, port)
            if problem:
                problems[port] = (False, problem[1])
    if not problems:
        return []
    sockets = _sockets(problems, proc)
    for port, (wanted, _text) in problems.items():
        # Where the address is none of this node's, all of them stay.
        near = [entry for entry in sockets[port] if takes(entry.address, address)]
        if wanted and near:
            sockets[port] = near
    owners = owners_of(sockets, proc)
    return [
        Busy(
            port=port,
            wanted=wanted,
            problem=text,
            sockets=tuple(sockets[port]),
            owners=tuple(
                {owner for entry in sockets[port] for owner in owners.get(entry.inode, [])}
            ),
        )
        for port, (wanted, text) in problems.items()
    ]


def _bind_problem(address: str, port: int) -> tuple[int, str] | None:
    try:
        bind(address, port).close()
    except OSError as error:
        return error.errno or 0, error.strerror or str(error)
    return None


def _sockets(ports: Iterable[int], proc: Path) -> dict[int, list[SocketEntry]]:
    """Return the sockets on each port: its listeners, or else its connections."""
    found: dict[int, list[SocketEntry]] = {port: [] for port in ports}
    for table in ("tcp", "tcp6"):
        try:
            text = (proc / "net" / table).read_text()
        except OSError:
            continue
        for entry in parse_socket_table(text):
            if entry.port in found and entry.inode:
                found[entry.port].append(entry)
    return {
        port: [entry for entry in entries if entry.listening] or entries
        for port, entries in found.items()
    }


def owners_of(sockets: Mapping[int, Sequence[SocketEntry]], proc: Path) -> dict[int, list[Owner]]:
    """Return the processes that hold each socket, by its inode."""
    wanted = {
        f"socket:[{entry.inode}]": entry.inode for found in sockets.values() for entry in found
    }
    pids: dict[int, set[int]] = {}
    for directory in proc.iterdir():
        if directory.name.isdigit():
            for link in open_files(directory / "fd"):
                if link in wanted:
                    pids.setdefault(wanted[link], set()).add(int(directory.name))
    known = {pid: read_owner(pid, proc) for found in pids.values() for pid in found}
    return {inode: [known[pid] for pid in sorted(found)] for inode, found in pids.items()}


def listen(ports: Sequence[int], address: str) -> list[socket.socket]:
    """Listen on all the ports that can be bound, and return the sockets."""
    listeners = []
    for port in ports:
        try:
            listener = bind(address, port)
        except OSError:
            continue
        listener.listen(64)
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


def serve(listeners: Sequence[socket.socket], lifetime: float, peers: Iterable[str]) -> None:
    """Accept and close connections until every peer has reached every port, or time is up."""
    deadline = time.monotonic() + lifetime
    waiting = {(peer, one.getsockname()[1]) for peer in peers for one in listeners}
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        while waiting and deadline > time.monotonic():
            for key, _events in selector.select(deadline - time.monotonic()):
                listener = key.fileobj  # type: ignore[assignment]
                try:
                    connection, remote = listener.accept()
                except OSError:  # the peer has gone again
                    continue
                connection.close()
                waiting.discard((remote[0], listener.getsockname()[1]))


def detach(work: Callable[[], None], keep: Sequence[socket.socket]) -> None:
    """Run work in a process of its own that outlives this one, with these sockets only."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            Path("/proc/self/comm").write_text(LISTENER)
            _close_all_but({one.fileno() for one in keep})
            work()
    finally:
        os._exit(0)


def end_listeners(busy: Iterable[Busy], patience: float = 2) -> bool:
    """End listeners that an earlier check, perhaps an interrupted one, left behind.

    Returns:
        Whether there were any.
    """
    pids = {owner.pid for one in busy for owner in one.owners if owner.name == LISTENER}
    for pid in pids:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + patience
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(pids)


def _alive(pid: int) -> bool:
    return read_owner(pid).name == LISTENER


def _close_all_but(keep: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:  # the directory's own, gone with the listing
                continue


def probe(
    targets: Sequence[tuple[str, int]], source: str | None, timeout: float
) -> dict[tuple[str, int], str]:
    """Connect to all targets, many at a time.

    Returns:
        For each open, refused, timeout or unreachable: REASON.
    """
    outcomes: dict[tuple[str, int], str] = {}
    for at in range(0, len(targets), _AT_ONCE):
        outcomes.update(_probe(targets[at : at + _AT_ONCE], source, timeout))
    return outcomes


def _probe(
    targets: Sequence[tuple[str, int]], source: str | None, timeout: float
) -> dict[tuple[str, int], str]:
    outcomes = dict.fromkeys(targets, "timeout")
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for target in targets:
            one = socket.socket(_family(target[0]), socket.SOCK_STREAM)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
            try:
                if source:
                    one.bind((source, 0))
                code = one.connect_ex(target)
            except OSError as error:
                code = error.errno or errno.EIO
            if code == errno.EINPROGRESS:
                selector.register(one, selectors.EVENT_WRITE, target)
            else:
                outcomes[target] = _outcome(code)
                one.close()
        while selector.get_map() and deadline > time.monotonic():
            for key, _events in selector.select(deadline - time.monotonic()):
                one = key.fileobj  # type: ignore[assignment]
                outcomes[key.data] = _outcome(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                selector.unregister(one)
                one.close()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return outcomes


def _outcome(code: int) -> str:
    if code == 0:
        return "open"
    if code == errno.ECONNREFUSED:
        return "refused"
    if code == errno.ETIMEDOUT:
        return "timeout"
    return f"unreachable: {os.strerror(code)}"
