# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hash a model's files, which takes minutes once, and keep the hashes on the node.

What is read from a model's folder may hang for ever, so only threads that can be left behind do it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes import (
    Bounds,
    ChangedError,
    Hashes,
    Known,
    Published,
    Stamp,
    Survey,
    cache_path,
    cache_text,
    digest_of,
    is_list_of_sums,
    judge,
    listed_hashes,
    note_path,
    problem_of,
    published_hash,
    read_cache,
    seconds_allowed,
    silent,
    sizes_to_read,
    too_slow,
    unchanged,
)
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import Model

# More threads than this gain nothing on storage that has to be shared with other nodes.
THREADS = 8
CHUNK = 4 << 20
MAX_TEXT = 1 << 20
BOUNDS = Bounds()


def stamp_of(path: str) -> Stamp:
    """Return the stamp that a file has now."""
    seen = os.stat(path)
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ino)


def survey(model: Model) -> Survey:
    """Return what the folder itself tells, without reading weights."""

    def path(name: str) -> str:
        return os.path.join(model.path, name)

    lists = {name: _text(path(name)) for name in filter(is_list_of_sums, model.names)}
    listed = listed_hashes(lists)
    stamps: dict[str, Stamp] = {}
    published: dict[str, Published] = {}
    for name in model.files:
        # Reading it tells why.
        with contextlib.suppress(OSError):
            stamps[name] = stamp_of(path(name))
        note = _text(path(note_path(name)))
        found = published_hash(os.path.realpath(path(name)), note, listed.get(name, ()))
        if found:
            published[name] = found
    return Survey(stamps, published)


def _text(path: str) -> str:
    """Return the text of a file beside the weights; none where it cannot be read."""
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
    """Hash what the cache does not know, keep each hash at once, and return all of them."""
    path = cache_path(model.path)
    text = None
    # A cache that cannot be read or written costs time, and is no fault of the weights.
    with contextlib.suppress(OSError):
        text = files.read(path)
    known = unchanged(read_cache(text, model.path), seen.stamps)
    sizes = sizes_to_read(model.files, seen.stamps, known)
    problems: dict[str, tuple[str, str]] = {}
    given_up = ""
    reading = Reading(model.path, list(sizes))
    allowed = seconds_allowed(sizes, bounds)
    deadline = time.monotonic() + allowed
    try:
        while len(known) + len(problems) < len(model.files):
            if time.monotonic() > deadline:
                given_up = too_slow(allowed)
                break
            try:
                name, found = reading.done.get(timeout=min(1, bounds.stall_s))
            except Empty:
                if time.monotonic() - reading.moved > bounds.stall_s:
                    given_up = silent(bounds.stall_s)
                    break
                continue
            if isinstance(found, (OSError, ChangedError)):
                problems[name] = problem_of(found)
                continue
            if isinstance(found, BaseException):
                raise found
            known[name] = found
            if keep:
                with contextlib.suppress(OSError):
                    files.write(path, cache_text(model.path, known))
    finally:
        reading.stopped = True
    return Hashes({name: entry.sha256 for name, entry in known.items()}, problems, given_up)


def _hashes(model: Model, files: NodeFiles, keep: bool, bounds: Bounds) -> tuple[Hashes, Survey]:
    surveys: list[Survey] = []
    ended(lambda: surveys.append(survey(model)), bounds.stall_s)
    if not surveys:
        return Hashes({}, {}, silent(bounds.stall_s)), Survey({}, {})
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
            checks += judge(model.path, len(model.files), hashes, seen.published, keep)
            if len(hashes.sums) == len(model.files):
                sums.append(hashes.sums)
    return checks, digest_of(sums)[:12] if models and len(sums) == len(models) else None
