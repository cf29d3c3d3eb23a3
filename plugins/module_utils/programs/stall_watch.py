# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an engine that runs stands still: it has work, yields no token and answers nothing.

An engine of which a rank hangs keeps its port open and its /health at 200. What shows it is that
nothing moves which its scheduler counts, while it has work, for a patience; then real completions
of one token have to fail, too. Three things are work, each called a cause below:

- a rank that by the engine's own metrics has requests running or waiting;
- clients whose connections stay open while the metrics show no work: a rank that stopped while it
  was idle never counts the requests that reach it afterwards;
- metrics that do not answer at all, from an engine that served before: what it has is unknown then.

Beside replica_link.py, which imports it, it imports the standard library only.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import time
import urllib.parse
from typing import Container, Iterable, Iterator, Mapping, NamedTuple, Sequence

METRICS_TIMEOUT_S = 5.0
MAX_METRICS = 8 << 20
MAX_ANSWER = 65536
# A cause has to survive this many completions: one may fail for reasons of its own.
TRIES = 2

SILENT = "metrics"
CLIENTS = "clients"

# What a completion of ours came to. REFUSED says nothing of the engine: a wrong key, for instance.
ANSWERED, FAILED, REFUSED, PAUSED = "answered", "failed", "refused", "paused"

_WORK = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
}
_TOKENS = {
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_sum",
    "vllm:iteration_tokens_total_count",
    "sglang:prompt_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:realtime_tokens_total",
}
# None of the counters of vLLM moves between the chunks of a long prefill; how full its cache is
# does. SGLang counts finished requests alone in older versions; the tokens that it holds move.
_MOVES = (
    _WORK
    | _TOKENS
    | {
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "vllm:num_preemptions_total",
        "sglang:num_used_tokens",
        "sglang:token_usage",
        "sglang:gen_throughput",
    }
)
_AWAKE = "vllm:engine_sleep_state"
_LABEL = re.compile(r'(?:^|[{,])(engine|dp_rank|sleep_state)="([^"]*)"')


class Metrics(NamedTuple):
    """What /metrics says, by engine label (the data-parallel rank)."""

    # Requests that run or wait.
    work: Mapping[str, float]
    # The samples that move with each step of its scheduler, as text to compare.
    beats: Mapping[str, str]
    # Tokens since the engine started, of all ranks.
    tokens: float
    asleep: bool


class Seen(NamedTuple):
    """One look at an engine."""

    # systemd's id of this run of the unit; empty while it does not run.
    life: str
    # None where /metrics did not answer.
    metrics: Metrics | None
    # Whether connections of clients to the API stand open.
    clients: bool
    # Whether it said to be ready; looked at only until it was so once.
    ready: bool


class Limits(NamedTuple):
    """How long an engine may stand still, in seconds."""

    patience_s: float
    # Before its first token: it may still compile what its first request needs.
    first_patience_s: float


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why an engine is suspected, since when (our clock), and completions that failed since."""

    since: float
    failed: int = 0
    requests: int = 0


@dataclasses.dataclass(frozen=True)
class Watch:
    """What is known of one run of an engine."""

    life: str = ""
    ready: bool = False
    # It has given a token.
    served: bool = False
    beats: Mapping[str, str] = dataclasses.field(default_factory=dict)
    causes: Mapping[str, Cause] = dataclasses.field(default_factory=dict)


def observe(watch: Watch, seen: Seen, now: float) -> Watch:
    """Return the watch after one more look."""
    if seen.life != watch.life:
        watch = Watch(life=seen.life)
    if not seen.life:
        return watch
    metrics = seen.metrics
    if metrics is not None and metrics.tokens > 0:
        watch = dataclasses.replace(watch, served=True)
    if seen.ready or watch.served:
        watch = dataclasses.replace(watch, ready=True)
    if not watch.ready:
        return watch
    if metrics is None:
        # No news of its ranks: what they were suspected of goes on.
        return _with(watch, {**watch.causes, SILENT: _going_on(watch, SILENT, now)})
    moved = {engine for engine, beat in metrics.beats.items() if watch.beats.get(engine) != beat}
    watch = dataclasses.replace(watch, beats=dict(metrics.beats))
    if metrics.asleep:
        return _with(watch, {})
    causes = {}
    for engine, requests in metrics.work.items():
        if requests > 0:
            # What the engine counts for all its ranks together speaks for each of them.
            going = _new(now) if moved & {engine, ""} else _going_on(watch, engine, now)
            causes[engine] = dataclasses.replace(going, requests=int(requests))
    if not causes and seen.clients and metrics.beats:
        causes[CLIENTS] = _new(now) if moved else _going_on(watch, CLIENTS, now)
    return _with(watch, causes)


def _new(now: float) -> Cause:
    return Cause(now)


def _going_on(watch: Watch, name: str, now: float) -> Cause:
    return watch.causes.get(name) or _new(now)


def _with(watch: Watch, causes: Mapping[str, Cause]) -> Watch:
    return dataclasses.replace(watch, causes=causes)


def to_ask(watch: Watch, now: float, limits: Limits) -> str | None:
    """Return the cause for which a completion is to be tried now, None for none.

    The first is due after half the patience, the last one when all of it has passed.
    """
    patience = _patience(watch, limits)
    for name, cause in _oldest_first(watch):
        due = cause.since + patience * (0.5 if cause.failed < TRIES - 1 else 1.0)
        if now >= due and not _is_stall(cause, now, patience):
            return name
    return None


def rank_to_ask(watch: Watch, name: str) -> str:
    """Return of which rank a completion for a cause is asked; empty where there is no choice.

    An API that counts one rank alone takes no number: with --data-parallel-rank vLLM labels its
    metrics with that, and refuses it in a request, since it counts the ranks behind the API from 0.
    """
    ranks = [engine for engine in watch.beats if engine.isdigit()]
    return name if name in ranks and len(ranks) > 1 else ""


def answered(watch: Watch, name: str, outcome: str, now: float) -> Watch:
    """Return the watch after a completion that was tried for a cause."""
    cause = watch.causes.get(name)
    if cause is None:
        return watch
    if outcome == FAILED:
        tried = dataclasses.replace(cause, failed=cause.failed + 1)
        return _with(watch, {**watch.causes, name: tried})
    served = watch.served or outcome == ANSWERED
    begun = dataclasses.replace(cause, since=now, failed=0)
    return dataclasses.replace(watch, served=served, causes={**watch.causes, name: begun})


def stall(watch: Watch, now: float, limits: Limits) -> tuple[float, str] | None:
    """Return since when the engine is stalled, on our clock, and what of; None while it is not."""
    patience = _patience(watch, limits)
    for name, cause in _oldest_first(watch):
        if _is_stall(cause, now, patience):
            if name == SILENT:
                what = "its /metrics is silent"
            elif name == CLIENTS:
                what = "clients are connected, no token"
            else:
                rank = f"rank {name}: " if name else ""
                what = f"{rank}{cause.requests} requests wait or run, no token"
            failed = f"{cause.failed} completions of one token failed"
            return cause.since, f"{what} for {now - cause.since:.0f} s, and {failed}"
    return None


def _patience(watch: Watch, limits: Limits) -> float:
    return limits.patience_s if watch.served else limits.first_patience_s


def _is_stall(cause: Cause, now: float, patience: float) -> bool:
    return cause.failed >= TRIES and now - cause.since >= patience


def _oldest_first(watch: Watch) -> list[tuple[str, Cause]]:
    return sorted(watch.causes.items(), key=lambda item: item[1].since)


class Sample(NamedTuple):
    """One sample of an engine's metrics."""

    name: str
    # The data-parallel rank; empty where the engine counts for all of them together.
    engine: str
    labels: Mapping[str, str]
    value: float
    line: str


def samples(text: str, names: Container[str]) -> Iterator[Sample]:
    """Yield the samples of these names, as vLLM and SGLang write them; others are passed over."""
    for line in text.splitlines():
        if not line.startswith(("vllm:", "sglang:", "sglang_")):
            continue
        # SGLang's router and some of its exporters write an underscore.
        name = re.sub(r"^sglang_", "sglang:", re.split(r"[{ ]", line, maxsplit=1)[0])
        if name not in names:
            continue
        labels: dict[str, str] = dict(_LABEL.findall(line))
        try:
            value = float(line.rpartition("}")[2].split()[0 if "}" in line else 1])
        except (ValueError, IndexError):
            continue
        yield Sample(name, labels.get("engine") or labels.get("dp_rank", ""), labels, value, line)


def parse_metrics(text: str) -> Metrics:
    """Parse the text of an engine's /metrics; what is no sample of ours is passed over."""
    work: dict[str, float] = {}
    beats: dict[str, list[str]] = {}
    tokens, asleep = 0.0, False
    for name, engine, labels, value, line in samples(text, _MOVES | {_AWAKE}):
        if name == _AWAKE:
            asleep = asleep or (labels.get("sleep_state") == "awake" and value == 0)
            continue
        beats.setdefault(engine, []).append(line)
        if name in _WORK:
            work[engine] = work.get(engine, 0.0) + value
        elif name in _TOKENS:
            tokens += value
    joined = {engine: "\n".join(sorted(lines)) for engine, lines in beats.items()}
    # An engine without token counters cannot be judged.
    counts = any(name in text for name in ("_tokens_total", "num_used_tokens"))
    return Metrics(work if counts else {}, joined if counts else {}, tokens, asleep)


def has_clients(tables: Iterable[str], port: int) -> bool:
    """Tell whether /proc/net/tcp or tcp6 has an established connection to a local port."""
    wanted = f":{port:04X}"
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == "01" and fields[1].endswith(wanted):
                return True
    return False


def env_value(text: str, name: str, quoted: bool) -> str | None:
    """Return a variable's value in a unit's environment file, as unit_files.env_file writes it.

    None without it. quoted is whether its values are, as those for systemd.
    """
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals and key == name:
            return re.sub(r'\\(["\\$`])', r"\1", value[1:-1]) if quoted else value
    return None


class Api(NamedTuple):
    """How the API of a unit is asked."""

    unit: str
    url: str
    model: str
    # The file with its environment, the name of the key in it, and whether values are quoted.
    key_file: str
    key_name: str
    key_quoted: bool


def look(api: Api, watch: Watch, life: str) -> Seen:
    """Look at an engine: one short request, and a second one until it is ready."""
    if not life:
        return Seen("", None, False, False)
    known = watch.life == life and watch.ready
    status, text = get(api, "/metrics", MAX_METRICS)
    metrics = None if status == 0 else parse_metrics(text if status == 200 else "")
    ready = not known and get(api, "/health", MAX_ANSWER)[0] == 200
    busy = metrics is not None and any(metrics.work.values())
    clients = not busy and metrics is not None and has_clients(_tables(), _address(api)[1])
    return Seen(life, metrics, clients, ready)


def ask(api: Api, rank: str, timeout_s: float, silent: bool = False) -> tuple[str, str]:
    """Return what one real completion came to, and the words for it.

    Args:
        api: Where it is asked.
        rank: Which rank is to answer; empty where there is no choice.
        timeout_s: How long the completion may take.
        silent: Whether the engine's metrics do not answer.
    """
    # Where the engine has these pages at all. One whose metrics are silent would not answer.
    for flag in ("is_sleeping", "is_paused") if not silent else ():
        status, text = get(api, f"/{flag}", MAX_ANSWER)
        if status == 200 and re.search(rf'"{flag}"\s*:\s*true', text):
            return PAUSED, f"/{flag}"
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if rank:
        # vLLM takes it to that rank; others pay no heed.
        headers["X-data-parallel-rank"] = rank
    body = json.dumps({"model": api.model, "prompt": "1", "max_tokens": 1})
    try:
        if api.key_name:
            with open(api.key_file, encoding="utf-8") as file:
                key = env_value(file.read(), api.key_name, api.key_quoted)
            headers["Authorization"] = f"Bearer {key}"
    except (OSError, ValueError) as error:
        return REFUSED, f"no key: {error}"
    status, text = _request(api, "POST", "/v1/completions", MAX_ANSWER, timeout_s, body, headers)
    if status == 200:
        return ANSWERED, "HTTP 200"
    if 400 <= status < 500:
        return REFUSED, f"HTTP {status}"
    return FAILED, f"HTTP {status}" if status else text


def _address(api: Api) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(api.url)
    return parts.hostname or "", parts.port or 80


def get(api: Api, path: str, limit: int) -> tuple[int, str]:
    """Return status and text of a page; 0 and the reason where there was no whole answer."""
    return _request(api, "GET", path, limit, METRICS_TIMEOUT_S, None, {"Connection": "close"})


def _request(
    api: Api,
    method: str,
    path: str,
    limit: int,
    timeout_s: float,
    body: str | None,
    headers: Mapping[str, str],
) -> tuple[int, str]:
    """Return status and text; 0 and the reason where there was no whole answer."""
    host, port = _address(api)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    began = time.monotonic()
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        data = b""
        # Each read has the timeout of its own: what trickles in would never end.
        while len(data) < limit and time.monotonic() - began < timeout_s:
            piece = response.read1(65536)
            if not piece:
                return response.status, data.decode("utf-8", "replace")
            data += piece
        return 0, "no end of the answer"
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


def _tables() -> Sequence[str]:
    tables = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:
                tables.append(file.read())
        except OSError:
            continue
    return tables
