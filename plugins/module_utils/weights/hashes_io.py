# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the bytes of a model those that its publisher gave out? Minutes once, then kept.

What is read from a model's folder may hang for ever, so only threads that can be left behind do it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import (
    Model,
    cure,
    reason,
)

SCHEMA = 1
# More threads than this gain nothing on storage that has to be shared with other nodes.
THREADS = 8
CHUNK = 4 << 20
MAX_TEXT = 1 << 20
# How many files a verdict names.
NAMED = 5
SHA256 = re.compile(r"[0-9a-f]{64}")
# A line of sha256sum: binary or text mode. A name with a backslash is escaped, and left out.
SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?([^/\\]+)")
HUB_METADATA = ".cache/huggingface/download"


class Bounds(NamedTuple):
    """When hashing a folder is given up: after stall_s without a byte, or when it has taken both
    least_s and what its size takes at bytes_per_s."""

    stall_s: float = 60
    least_s: float = 120
    bytes_per_s: float = 50e6


BOUNDS = Bounds()


class Stamp(NamedTuple):
    """What changes when a file's content does."""

    size: int
    mtime_ns: int
    inode: int


class Known(NamedTuple):
    """The hash of a file as it was when it had this stamp."""

    stamp: Stamp
    sha256: str


class Published(NamedTuple):
    """The hash that a file should have, and where that was read, within the folder."""

    sha256: str
    source: str


class Survey(NamedTuple):
    """A folder as it is: stamps of the files that could be looked at."""

    stamps: dict[str, Stamp]
    published: dict[str, Published]


class Hashes(NamedTuple):
    """By file, its hash, or why it has none (what was seen, what to do). given_up is why the
    rest was not read, or empty."""

    sums: dict[str, str]
    problems: dict[str, tuple[str, str]]
    given_up: str = ""


class ChangedError(Exception):
    """A file was written or replaced while it was read."""


def sums_of(text: str) -> dict[str, str]:
    """Hashes of a file in the format of sha256sum, without names that it has twice and unequal."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        match = SUM.fullmatch(line.rstrip())
        if match:
            found.setdefault(match[2], set()).add(match[1].lower())
    return {name: hashes.pop() for name, hashes in found.items() if len(hashes) == 1}


def etag_sha256(text: str) -> str | None:
    """The hash in what the Hugging Face tool notes of a download: commit, etag and time, a line
    each. The etag of a file that is kept in Git itself is another hash."""
    lines = [line.strip() for line in text.splitlines()]
    return lines[1] if len(lines) > 1 and SHA256.fullmatch(lines[1]) else None


def blob_sha256(path: str) -> str | None:
    """The hash by which a hub's cache names what a link of a snapshot leads to."""
    folder, name = os.path.split(path)
    return name if os.path.basename(folder) == "blobs" and SHA256.fullmatch(name) else None


def is_list_of_sums(name: str) -> bool:
    return name.lower().startswith("sha256sum") or name.lower().endswith(".sha256")


def cache_path(folder: str) -> str:
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    # A name has 255 bytes at most, and a folder's own may have them all.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(folder.rstrip("/")))[:100]
    return f"{STATE_DIR}/weights/{name}-{mark}.json"


def cache_text(folder: str, known: Mapping[str, Known]) -> str:
    files = {
        name: {**entry.stamp._asdict(), "sha256": entry.sha256} for name, entry in known.items()
    }
    record = {"schema": SCHEMA, "path": folder, "files": files}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def read_cache(text: str | None, folder: str) -> dict[str, Known]:
    """What a cache knows of this folder; nothing where it is broken or another folder's."""
    known = {}
    try:
        record = json.loads(text or "")
        if record["schema"] != SCHEMA or record["path"] != folder:
            return {}
        for name, entry in record["files"].items():
            stamp = Stamp(entry["size"], entry["mtime_ns"], entry["inode"])
            if SHA256.fullmatch(entry["sha256"]) and all(isinstance(part, int) for part in stamp):
                known[name] = Known(stamp, entry["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return known


def digest_of(models: Iterable[Mapping[str, str]]) -> str:
    """One hash for the files of models, each by name, beginning with the model itself."""
    text = json.dumps([sorted(sums.items()) for sums in models])
    return hashlib.sha256(text.encode()).hexdigest()


def some(words: Sequence[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def judge(
    model: Model, hashes: Hashes, published: Mapping[str, Published], keep: bool
) -> list[Check]:
    """The verdicts on what was read: one on all that differs, one for each way of not reading."""

    def verdict(status: str, observed: str, expected: str, remedy: str = "") -> Check:
        return check("weights-hash", status, model.path, observed, expected, remedy)

    sums, count = hashes.sums, len(model.files)
    held = [name for name in sorted(sums) if name in published]
    wrong = [name for name in held if sums[name] != published[name].sha256]
    checks = []
    if wrong:
        sources = sorted({published[name].source for name in wrong})
        checks.append(
            verdict(
                "failed",
                some([f"{name} {sums[name][:12]}" for name in wrong]),
                some([f"{name} {published[name].sha256[:12]}" for name in wrong])
                + f" (from {', '.join(sources)})",
                # The hub's tool takes a file that is no newer than its notes, or a blob, for right.
                "Remove these files, in a hub's cache also the blobs behind them, and download them"
                " again: a download may keep what is there. If they were changed on purpose,"
                " waive weights-hash.",
            )
        )
    ways: dict[tuple[str, str], list[str]] = {}
    for name, problem in sorted(hashes.problems.items()):
        ways.setdefault(problem, []).append(name)
    for (observed, remedy), names in ways.items():
        checks.append(
            verdict("failed", f"{some(names)}: {observed}", "files that can be read", remedy)
        )
    if hashes.given_up:
        kept = " What was hashed is kept, and the next run goes on from there." if keep else ""
        checks.append(
            verdict(
                "failed",
                f"{hashes.given_up}: {len(sums)} of {count} files hashed",
                "all files read",
                "Look at the mount (mount, dmesg), at the server behind it and at how fast it"
                f" reads.{kept}",
            )
        )
    if not checks:
        observed = f"{len(held)} of {count} files as published"
        if len(held) < count:
            observed += f", {count - len(held)} only compared between nodes"
        checks.append(verdict("ok", observed, "the publisher's hashes, where the folder has them"))
    return checks


def stamp_of(path: str) -> Stamp:
    seen = os.stat(path)
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ino)


def survey(model: Model) -> Survey:
    """What the folder itself tells, without reading weights."""
    stamps = {}
    published: dict[str, Published] = {}
    lists: dict[str, set[Published]] = {}
    for name in filter(is_list_of_sums, model.names):
        for listed, sha256 in sums_of(_text(os.path.join(model.path, name))).items():
            lists.setdefault(listed, set()).add(Published(sha256, name))
    for name in model.files:
        path = os.path.join(model.path, name)
        # Reading it tells why.
        with contextlib.suppress(OSError):
            stamps[name] = stamp_of(path)
        noted = f"{HUB_METADATA}/{name}.metadata"
        blob = blob_sha256(os.path.realpath(path))
        etag = etag_sha256(_text(os.path.join(model.path, noted)))
        listed_sums = lists.get(name, set())
        # A hub's own notes come with the file; a list may be of an earlier revision.
        if blob:
            published[name] = Published(blob, "the names of the blobs")
        elif etag:
            published[name] = Published(etag, HUB_METADATA)
        elif len({one.sha256 for one in listed_sums}) == 1:
            published[name] = min(listed_sums)
    return Survey(stamps, published)


def _text(path: str) -> str:
    """The text of a file beside the weights; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_TEXT)
    except OSError:
        return ""


class Reading:
    """Files that are hashed side by side, and when a byte was last read."""

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self.folder = folder
        self.moved = time.monotonic()
        self.stopped = False
        self.names: SimpleQueue[str] = SimpleQueue()
        self.done: SimpleQueue[tuple[str, Known | BaseException]] = SimpleQueue()
        for name in names:
            self.names.put(name)
        for _number in range(min(THREADS, len(names))):
            Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        with contextlib.suppress(Empty):
            while not self.stopped:
                name = self.names.get_nowait()
                try:
                    self.done.put((name, self._hash(os.path.join(self.folder, name))))
                except BaseException as error:
                    self.done.put((name, error))

    def _hash(self, path: str) -> Known:
        digest = hashlib.sha256()
        buffer = bytearray(CHUNK)
        before = stamp_of(path)
        with open(path, "rb", buffering=0) as stream:
            while True:
                count = stream.readinto(buffer)
                self.moved = time.monotonic()
                if not count:
                    break
                if self.stopped:
                    raise TimeoutError
                digest.update(memoryview(buffer)[:count])
        if stamp_of(path) != before:
            raise ChangedError
        return Known(before, digest.hexdigest())


def read(model: Model, seen: Survey, files: NodeFiles, keep: bool, bounds: Bounds) -> Hashes:
    """Hash what the cache does not know, and keep each hash at once."""
    path = cache_path(model.path)
    text = None
    # A cache that cannot be read or written costs time, and is no fault of the weights.
    with contextlib.suppress(OSError):
        text = files.read(path)
    cached = read_cache(text, model.path)
    known = {name: entry for name, entry in cached.items() if seen.stamps.get(name) == entry.stamp}
    sizes = {
        name: seen.stamps[name].size if name in seen.stamps else 0
        for name in model.files
        if name not in known
    }
    problems: dict[str, tuple[str, str]] = {}
    given_up = ""
    # The largest first, so that no thread is left alone with it in the end.
    reading = Reading(model.path, sorted(sizes, key=lambda name: -sizes[name]))
    allowed = max(bounds.least_s, sum(sizes.values()) / bounds.bytes_per_s)
    deadline = time.monotonic() + allowed
    try:
        while len(known) + len(problems) < len(model.files):
            if time.monotonic() > deadline:
                given_up = f"not read within {allowed:.0f} s"
                break
            try:
                name, found = reading.done.get(timeout=min(1, bounds.stall_s))
            except Empty:
                if time.monotonic() - reading.moved > bounds.stall_s:
                    given_up = f"no answer from its file system within {bounds.stall_s:g} s"
                    break
                continue
            if isinstance(found, BaseException):
                problems[name] = _problem(found)
                continue
            known[name] = found
            if keep:
                with contextlib.suppress(OSError):
                    files.write(path, cache_text(model.path, known))
    finally:
        reading.stopped = True
    return Hashes({name: entry.sha256 for name, entry in known.items()}, problems, given_up)


def _problem(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ChangedError):
        return "changed while it was read", "Wait until the download or copy is complete."
    if isinstance(error, OSError):
        return reason(error), cure(error)
    raise error


def _hashes(model: Model, files: NodeFiles, keep: bool, bounds: Bounds) -> tuple[Hashes, Survey]:
    surveys: list[Survey] = []
    ended(lambda: surveys.append(survey(model)), bounds.stall_s)
    if not surveys:
        silence = f"no answer from its file system within {bounds.stall_s:g} s"
        return Hashes({}, {}, silence), Survey({}, {})
    return read(model, surveys[0], files, keep, bounds), surveys[0]


def hash_checks(
    models: Sequence[Model], files: NodeFiles, keep: bool, bounds: Bounds = BOUNDS
) -> tuple[list[Check], str | None]:
    """Hash models that were inspected, one after the other, and hold them to what is published.

    A model that is not whole is left out: it has to be downloaded again, whatever its hashes.

    Args:
        models: The model and its draft models, in the same order on every node.
        files: The node's files, for the cache.
        keep: Whether new hashes are kept in it.
        bounds: When to give up.

    Returns:
        The checks, and the beginning of one hash over all files of all models, to be compared
        between nodes. That is None unless all of them were hashed.
    """
    checks: list[Check] = []
    sums: list[dict[str, str]] = []
    for model in models:
        if model.whole:
            hashes, seen = _hashes(model, files, keep, bounds)
            checks += judge(model, hashes, seen.published, keep)
            if len(hashes.sums) == len(model.files):
                sums.append(hashes.sums)
    return checks, digest_of(sums)[:12] if models and len(sums) == len(models) else None
