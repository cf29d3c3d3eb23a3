# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save what a node has to say of an engine that stands still, before it is restarted.

One folder a stall, readable by root alone: why, the ends of the units' logs, /metrics, the state
and kernel stacks of their processes, Python stacks where py-spy is installed, and what the devices'
tools print. Everything is asked at once and within a bound, since a device that hangs may hang its
tool, and the restart waits for this. The last few folders are kept.

Beside durable_io.py and redaction.py it imports the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from typing import IO, Any, Callable, Iterable, Mapping, Sequence

try:
    from ansible_collections.muster.serving.plugins.module_utils.common import durable_io, redaction
except ImportError:
    # On a node it lies beside this script.
    import durable_io  # type: ignore[import-not-found, no-redef]
    import redaction  # type: ignore[import-not-found, no-redef]

KEPT = 5
# What is not there by then is left out.
BOUND_S = 15.0
ASK_S = 3.0
# Of each text, its end.
MAX_TEXT = 512 * 1024
LOG_LINES = 2000
MAX_PROCESSES = 64
MAX_THREADS = 32
DOCKER = "/usr/bin/docker"
FOLDERS = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/local/cuda/bin"])

Read = Callable[[str], str]


def descendants(parents: Mapping[int, int], roots: Iterable[int]) -> list[int]:
    """Return the processes below and including the roots, from {process: its parent}."""
    found = [pid for pid in roots if pid in parents]
    for pid in found:
        found += [
            child for child, parent in parents.items() if parent == pid and child not in found
        ]
    return sorted(found)


def parents(read: Read, names: Iterable[str]) -> dict[int, int]:
    """Return {process: its parent} of the node; names are those in /proc."""
    found = {}
    for name in names:
        if name.isdecimal():
            # The command's name, in parentheses, may hold blanks.
            fields = read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 1:
                found[int(name)] = int(fields[1])
    return found


def process_text(pid: int, read: Read, threads: Sequence[str]) -> str:
    """Return how a process does: its state, and what its threads wait for in the kernel."""
    wanted = ("Name:", "State:", "PPid:", "Threads:", "VmRSS:")
    status = [line for line in read(f"/proc/{pid}/status").splitlines() if line.startswith(wanted)]
    lines = [f"process {pid}: " + ", ".join(" ".join(line.split()) for line in status)]
    for thread in threads[:MAX_THREADS]:
        at = f"/proc/{pid}/task/{thread}"
        name = read(f"{at}/comm").strip()
        lines.append(f"  thread {thread} {name}: waits in {read(f'{at}/wchan').strip() or '?'}")
        lines += [f"    {line}" for line in read(f"{at}/stack").splitlines()[:20]]
    return "\n".join(lines)


def read_text(path: str) -> str:
    """Return a file's text; nothing of one that is gone or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return ""


def program_of(pid: int) -> str:
    """Return the name of the program that a process runs."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


class Commands:
    """Commands that run at once; each writes its output to a file of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start one, where the node has it."""
        path = os.pathsep.join([os.environ.get("PATH", ""), FOLDERS])
        program = shutil.which(argv[0], path=path)
        if program is None:
            return
        # Unlinked at once: what is kept is written below, redacted.
        handle = os.open(
            os.path.join(self.folder, ".raw"), os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600
        )
        os.unlink(os.path.join(self.folder, ".raw"))
        stream = os.fdopen(handle, "w+b")
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            self._running[name] = (process, stream)

    def texts(self, until: float) -> dict[str, str]:
        """Return what they printed by then; those that have not ended are killed."""
        found = {}
        for name, (process, stream) in self._running.items():
            text = ""
            try:
                process.wait(max(until - time.monotonic(), 0.05))
            except subprocess.TimeoutExpired:
                process.kill()
                text = f"\n(it had not ended after {BOUND_S:.0f} s and was killed)"
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - MAX_TEXT, 0))
            found[name] = stream.read(MAX_TEXT).decode("utf-8", "replace") + text
        return found


def roots(units: Sequence[str]) -> dict[str, list[int]]:
    """Return the first processes of each unit: its main process, and that of its container."""
    containers = {unit[: -len(".service")]: unit for unit in units}
    asked = (
        ["systemctl", "show", "--property=Id,MainPID", "--", *units],
        [DOCKER, "inspect", "--format", "{{.Name}} {{.State.Pid}}", *containers],
    )
    said = []
    for argv in asked:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            # docker inspect fails for a unit without a container, after what it has of the others.
            done = subprocess.run(argv, capture_output=True, timeout=ASK_S, check=False)
            said.append(done.stdout.decode("utf-8", "replace"))
    return parse_roots("\n\n".join(said), containers)


def parse_roots(text: str, containers: Mapping[str, str]) -> dict[str, list[int]]:
    """Parse what roots() was told; containers is {container: its unit}."""
    told = []
    for block in text.split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        told.append((shown.get("Id", ""), shown.get("MainPID", "")))
    for line in text.splitlines():
        name, _blank, pid = line.partition(" ")
        told.append((containers.get(name.lstrip("/"), ""), pid))
    found: dict[str, list[int]] = {unit: [] for unit in containers.values()}
    for unit, pid in told:
        if unit in found and pid.isdecimal() and int(pid) > 0:
            found[unit].append(int(pid))
    return found


def metrics(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = url[: -len("/v1")] if url.endswith("/v1") else url
    try:
        with opener.open(f"{base}/metrics", timeout=5) as answer:
            return str(answer.read(MAX_TEXT).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{base}/metrics does not answer: {error!r}"


def collect(config: Mapping[str, Any], why: str, folder: str) -> dict[str, str]:
    """Return all texts by file name."""
    until = time.monotonic() + BOUND_S
    stall = config["stall"]
    texts = {"why.txt": f"{time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime())} {why}\n"}
    commands = Commands(folder)
    for unit in config["units"]:
        log = ["journalctl", f"--unit={unit}", f"--lines={LOG_LINES}", "--output=short-iso"]
        commands.start(f"{unit}.log", [*log, "--no-pager", "--quiet"])
    for name, argv in stall["commands"].items():
        commands.start(name, argv)
    known = parents(read_text, entries("/proc"))
    for unit, first in roots(config["units"]).items():
        own = descendants(known, first)[:MAX_PROCESSES]
        texts[f"{unit}.processes.txt"] = "\n".join(
            process_text(pid, read_text, sorted(entries(f"/proc/{pid}/task"))) for pid in own
        )
        for pid in own:
            # An engine may have given itself another name.
            if "python" in program_of(pid):
                commands.start(f"{unit}.{pid}.stacks.txt", ["py-spy", "dump", "--pid", str(pid)])
    for api in stall["apis"]:
        # The next one may be silent, too, and each takes its time to show it.
        if time.monotonic() > until:
            break
        texts[f"{api['unit']}.metrics.txt"] = metrics(api["url"])
    return {**texts, **commands.texts(until)}


def save(config: Mapping[str, Any], why: str) -> str:
    """Save all and return the folder; older ones than the last few are removed."""
    place = config["stall"]["evidence"]
    os.makedirs(place, mode=0o700, exist_ok=True)
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = os.path.join(place, at)
    new = os.path.join(place, f".{at}")
    shutil.rmtree(new, ignore_errors=True)
    os.mkdir(new, 0o700)
    for name, text in collect(config, why, new).items():
        path = os.path.join(new, name.replace("/", "-"))
        durable_io.replace(path, redaction.lines(text)[-MAX_TEXT:], 0o600)
    os.rename(new, folder)
    # What an earlier call left behind begins with a dot and goes, too.
    kept = sorted(entries(place), key=lambda name: (not name.startswith("."), name))
    for name in kept[:-KEPT]:
        shutil.rmtree(os.path.join(place, name), ignore_errors=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Save what tells of an engine that stands still.")
    parser.add_argument("--config", required=True, help="the agent's configuration")
    parser.add_argument("--why", required=True, help="what was seen")
    options = parser.parse_args(arguments)
    try:
        with open(options.config, encoding="utf-8") as file:
            config = json.load(file)
        sys.stdout.write(f"evidence is in {save(config, options.why)}\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"no evidence was saved: {error!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
