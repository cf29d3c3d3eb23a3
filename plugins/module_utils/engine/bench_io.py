# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an engine's bench client on this node by itself, and look at it from time to time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.paths import DOCKER
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.engine_load import (
    engine_load,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.prefix_cache import (
    prefix_cache,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm import (
    without_requests,
)

# The client outlives the connection that started it, ends in time, and leaves its exit code.
_SCRIPT = """
folder=$1; limit=$2; shift 2
timeout --foreground --kill-after=30 "$limit" "$@" >"$folder/log" 2>&1
echo $? >"$folder/rc.new"
mv "$folder/rc.new" "$folder/rc"
"""
_TAIL_BYTES = 65536
_LOG_LINES = 30
# What failed first is told further up: clients ask many things at once, and each has its traceback.
_FAILED = re.compile(r"(?!\s).*\b(?:error|fail(?:ed|ure)?)\b", re.IGNORECASE)
_FAILED_LINES = 5
_STEP_S = 0.5
_ASK_S = 20.0
# One that takes longer for its metrics is busy with something else than requests.
_SAMPLE_S = 10.0
# What timeout says when the time was up.
_TIMED_OUT = 124
# SGLang's has the engine's whole configuration, its key among it.
_SECRET = ("server_info",)
# Under these names the engines' clients and GuideLLM look for the API's key.
_KEYS = ("OPENAI_API_KEY", "GUIDELLM__SPEC__BACKEND__API_KEY")


class BenchError(Exception):
    """The client cannot be run; the text says why and what to do."""


class Place(NamedTuple):
    """Where a client runs.

    Fields:
        folder: Its folder on the node.
        container: Its container; None without one.
        owner: As whom it runs, if not as root.
    """

    folder: str
    container: str | None
    owner: str | None

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)


def key_of(path: str | None) -> str | None:
    """Return the API's key from a file of the node.

    Raises:
        BenchError: It cannot be read.
    """
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise BenchError(
            f"the API's key cannot be read from {path} on this node ({error.strerror}): put it "
            "there, mode 0600, or correct muster_api_key_file"
        ) from error


def start(place: Place, argv: Sequence[str], key: str | None, timeout: int) -> None:
    """Start a client, which then runs by itself.

    Raises:
        BenchError: Another one runs, or it cannot be started.
    """
    pid = running(place)
    if pid:
        raise BenchError(
            f"another bench of this cluster runs on this node (process {pid}): wait for its end, "
            f"or end it: kill -- -{pid}"
        )
    end(place)
    out = place.path("out")
    os.makedirs(out, mode=0o755)
    if place.owner:
        shutil.chown(out, place.owner, place.owner)
    environment = dict(os.environ)
    if key and not place.container:
        environment.update(dict.fromkeys(_KEYS, key))
    handle = os.open(place.path("env"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(f"OPENAI_API_KEY={key}\n" if key else "")
    words = ["/bin/sh", "-c", _SCRIPT, "muster-bench", place.folder, str(timeout), *argv]
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        end(place)
        raise BenchError(f"the client could not be started: {error.strerror}") from error
    with open(place.path("pid"), "w", encoding="ascii") as stream:
        stream.write(f"{process.pid} {_started(process.pid)}")


def running(place: Place) -> int | None:
    """Return the process of a client that runs, None for none."""
    try:
        with open(place.path("pid"), encoding="ascii") as stream:
            pid, started = stream.read().split()
    except (OSError, ValueError):
        return None
    # Its number may be another process's by now.
    return int(pid) if started == _started(int(pid)) else None


def _started(pid: int) -> str | None:
    """Return when a process that runs was started, in the kernel's ticks; None where none does."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # Behind the name, which may hold anything: the state, and 19 fields on, the start.
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def look(
    place: Place, wait: float, urls: Sequence[str] = (), key: str | None = None, every: float = 0
) -> dict[str, Any]:
    """Return how a client does, after so many seconds or at its end.

    Args:
        place: Where it runs.
        wait: For how long.
        urls: The APIs of the engines that it loads.
        key: Their key.
        every: How many seconds lie between two samples of what the engines do meanwhile; 0 for
            none.

    Returns:
        running, printed and samples, each as sample() returns it; once it has ended also rc,
        timed_out, raw and log.
    """
    deadline = time.monotonic() + wait
    due = time.monotonic() + every
    samples = []
    while running(place) and time.monotonic() < deadline:
        time.sleep(_STEP_S)
        if every and time.monotonic() >= due:
            due = time.monotonic() + every
            samples.append(sample(urls, key))
    going = running(place) is not None
    printed = redaction.lines(_tail(place.path("log")).replace("\r", "\n"))
    lines = [line for line in printed.splitlines() if line.strip()]
    seen: dict[str, Any] = {"running": going, "printed": lines[-3:], "samples": samples}
    if not going:
        code = _tail(place.path("rc")).strip()
        rc = int(code) if code.lstrip("-").isdigit() else None
        seen.update(
            rc=rc,
            timed_out=rc == _TIMED_OUT,
            raw=_result(place.path("out/result.json")),
            log=telling(lines),
        )
    return seen


def telling(lines: Sequence[str]) -> list[str]:
    """Return the last lines of a log, after the first further up that tell of a failure."""
    earlier = dict.fromkeys(line for line in lines[:-_LOG_LINES] if _FAILED.match(line))
    return [*list(earlier)[:_FAILED_LINES], *lines[-_LOG_LINES:]]


def sample(urls: Sequence[str], key: str | None) -> dict[str, Any]:
    """Return what engines do at this moment: {at, engines, errors}.

    at is in seconds since 1970, engines has by API what engine_load tells of it, and errors by API
    why it does not answer.
    """
    found: dict[str, Any] = {"at": time.time(), "engines": {}, "errors": {}}
    for url in urls:
        try:
            client = Client(url, key, _SAMPLE_S)
            found["engines"][url] = engine_load(client.get(f"{client.root}/metrics"))
        except (EndpointError, ValueError) as error:
            found["errors"][url] = str(error)
    return found


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - _TAIL_BYTES, 0))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _result(path: str) -> dict[str, Any] | None:
    """Return the client's JSON, the last line's where there is one a run, without secrets."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read().strip()
        try:
            found = json.loads(text)
        except ValueError:
            found = json.loads(text.rpartition("\n")[2])
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if found.get("benchmarks"):
        found = without_requests(found)
    return {name: value for name, value in found.items() if name not in _SECRET}


def end(place: Place) -> None:
    """End a client and remove what it left, its container and the file with the key among it."""
    pid = running(place)
    if pid:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    if place.container and os.path.exists(DOCKER):
        with contextlib.suppress(CommandError):
            run([DOCKER, "rm", "--force", place.container], _ASK_S)
    shutil.rmtree(place.folder, ignore_errors=True)


def cache_of(urls: Sequence[str], key: str | None) -> dict[str, float] | None:
    """Return how much the caches of prefixes behind some APIs were asked for, and had."""
    try:
        clients = [Client(url, key, _ASK_S) for url in urls]
        return prefix_cache(client.get(f"{client.root}/metrics") for client in clients)
    except (EndpointError, ValueError):
        return None


def digests_of(image: str) -> list[str]:
    """Return by which digests a registry knows an image of this node; none for one made here."""
    argv = [DOCKER, "image", "inspect", "--format", "{{json .RepoDigests}}", image]
    try:
        said = run(argv, _ASK_S)
        return [str(one) for one in json.loads(said.stdout) or []] if said.rc == 0 else []
    except (CommandError, ValueError, TypeError):
        return []
