# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a model on disk: documents and headers only, so hundreds of gigabytes take milliseconds."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence, TypeVar

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended
from ansible_collections.muster.serving.plugins.module_utils.weights.model import (
    LENGTH_BYTES,
    SHARD_HEAD,
    ContentError,
    Failure,
    Seen,
    Shard,
    header_length,
    indexes_of,
    judge,
    parse_config,
    parse_document,
    parse_index,
    parse_shard,
    shards_of,
    silence_check,
    tokenizer_files,
)

MAX_JSON = 100_000_000
Content = TypeVar("Content")


class Model:
    """One directory of weights, and what inspect() found there."""

    def __init__(self, path: str, draft: bool = False) -> None:
        self.path = path
        self.draft = draft
        self.checks: list[Check] = []
        self.names: list[str] = []
        # What an engine reads of it, and whether all of that was found fit to be read.
        self.files: list[str] = []
        self.whole = False
        self.facts: dict[str, Any] = {}

    def inspect(self) -> Model:
        """Look at the directory once, and return the model with its facts and checks."""
        seen = look(self.path, self.draft)
        verdict = judge(self.path, self.draft, seen)
        self.names = [] if isinstance(seen.names, OSError) else list(seen.names)
        self.checks, self.facts, self.files = verdict.checks, verdict.facts, verdict.files
        self.whole = verdict.whole
        return self


def look(path: str, draft: bool) -> Seen:
    """Return what there is to read of a model, or of a draft model, in its folder."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return Seen(error)

    def parsed(name: str, parse: Callable[[bytes], Content]) -> Content | Failure:
        try:
            with open(os.path.join(path, name), "rb") as stream:
                return parse(stream.read(MAX_JSON))
        except (OSError, ContentError) as error:
            return error

    config = parsed("config.json", lambda raw: parse_config(raw, names))
    tokenizer = {
        name: parsed(name, parse_document)
        for name in ([] if draft else tokenizer_files(names))
        if name.endswith(".json")
    }
    indexes = {name: parsed(name, parse_index) for name in indexes_of(names)}
    shards = {name: read_shard(os.path.join(path, name)) for name in shards_of(names, indexes)}
    return Seen(
        names,
        config,
        {name: one for name, one in tokenizer.items() if isinstance(one, (OSError, ContentError))},
        indexes,
        shards,
    )


def read_shard(path: str) -> Shard | Failure:
    """Return what a safetensors file holds, by its header and its size, or why that is not read."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(SHARD_HEAD)
            length = header_length(head, size)
            raw = head + stream.read(max(0, LENGTH_BYTES + length - len(head)))
            return parse_shard(raw[LENGTH_BYTES : LENGTH_BYTES + length], size)
    except (OSError, ContentError) as error:
        return error


def inspect(models: Sequence[Model], timeout: float) -> tuple[list[Model], list[Check]]:
    """Look at models one after the other, within so many seconds for all of them.

    Returns:
        The models whose file system answered in time, and the checks of all: a file system that
        does not answer is a failed one.
    """
    done: list[Model] = []

    def look_at_all() -> None:
        for model in models:
            model.inspect()
            done.append(model)

    ended(look_at_all, timeout)
    answered = list(done)
    checks = [entry for model in answered for entry in model.checks]
    if len(answered) < len(models):
        checks.append(silence_check(models[len(answered)].path, timeout))
    return answered, checks
