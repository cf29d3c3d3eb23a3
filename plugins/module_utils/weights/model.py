# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse the files of a model's folder, and judge whether they are a whole model.

A file that cannot be read and one whose content is not right are both a Failure in its place.
"""

from __future__ import annotations

import hashlib
import json
import operator
import posixpath
import struct
from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Sequence, Union

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check

INDEX_SUFFIX = ".safetensors.index.json"
# The format's own bound for a header.
MAX_HEADER = 100_000_000
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("tiktoken.model",),
)
DOCUMENTS = (".json", ".jinja", ".py")
LFS_POINTER = b"version https://git-lfs"
# The bytes at the beginning of a shard that tell how long its header is, or that it is no shard.
SHARD_HEAD = len(LFS_POINTER)
# Of these a safetensors file has as many to say how long the header behind them is.
LENGTH_BYTES = 8
DOWNLOAD = "Download the model again, with its publisher's tool (it resumes)"

_DIRECTORY = "a directory that root can read"


class ContentError(Exception):
    """A file was read, and does not hold what it should."""


Failure = Union[OSError, ContentError]


class Config(NamedTuple):
    """What config.json says of a model, and how its weights are quantised."""

    architecture: str
    model_type: str
    quantization: str | None


class Index(NamedTuple):
    """The tensors of each shard, and the hash of the file that says so."""

    shards: dict[str, list[str]]
    sha256: str


class Shard(NamedTuple):
    """A whole safetensors file: its size in bytes and the tensors in it."""

    size: int
    tensors: frozenset[str]


@dataclass(frozen=True)
class Seen:
    """What was read of a folder. names are its files, sorted; tokenizer has failures alone."""

    names: Sequence[str] | OSError
    config: Config | Failure = field(default_factory=FileNotFoundError)
    tokenizer: Mapping[str, Failure] = field(default_factory=dict)
    indexes: Mapping[str, Index | Failure] = field(default_factory=dict)
    shards: Mapping[str, Shard | Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The checks on a folder, what is known of the model in it, and its files that engines read."""

    checks: list[Check]
    facts: dict[str, Any]
    files: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Return whether all of it was found fit to be read."""
        return all(entry["status"] == "ok" for entry in self.checks)


def reason(failure: Failure) -> str:
    """Return why a file is not fit to be read, as an operator would say it."""
    if isinstance(failure, FileNotFoundError):
        return "missing"
    return str(failure.strerror if isinstance(failure, OSError) else failure)


def cure(failure: Failure) -> str:
    """Return what to do about a file that is not fit to be read."""
    if isinstance(failure, (ContentError, FileNotFoundError)):
        return f"{DOWNLOAD}."
    if isinstance(failure, PermissionError):
        return "Let root read it: on NFS, export with no_root_squash or make it world-readable."
    return "Look at the file system it is on (dmesg, mount)."


def parse_document(raw: bytes) -> Any:
    """Return what a JSON document holds.

    Raises:
        ContentError: It is none.
    """
    if raw.startswith(LFS_POINTER):
        raise ContentError("is a Git LFS pointer, not the file itself")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"is not JSON: {error}") from error


def parse_config(raw: bytes, names: Sequence[str]) -> Config:
    """Return what config.json says, given the names of the files beside it.

    Raises:
        ContentError: It does not say what the model is.
    """
    config = parse_document(raw)
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or not architectures or not architectures[0]:
        raise ContentError("names no architectures")
    if not config.get("model_type"):
        raise ContentError("names no model_type")
    return Config(str(architectures[0]), str(config["model_type"]), quantization(config, names))


def quantization(config: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return how weights are quantised, as the config or a description file beside it says."""
    declared = config.get("quantization_config")
    if isinstance(declared, dict) and isinstance(declared.get("quant_method"), str):
        return str(declared["quant_method"])
    if any(name.startswith("quant_model_description") for name in names):
        return "ascend"
    return None


def parse_index(raw: bytes) -> Index:
    """Return what an index of shards holds.

    Raises:
        ContentError: It is none.
    """
    document = parse_document(raw)
    entries = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise ContentError("has no weight_map")
    shards: dict[str, list[str]] = {}
    for tensor, shard in entries.items():
        if not _is_file_name(shard):
            raise ContentError(f"names {shard!r}, which is not a file name, for {tensor}")
        shards.setdefault(shard, []).append(tensor)
    return Index(shards, hashlib.sha256(raw).hexdigest())


def _is_file_name(name: Any) -> bool:
    if not isinstance(name, str) or not name or "\0" in name or posixpath.basename(name) != name:
        return False
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def header_length(head: bytes, size: int) -> int:
    """Return how many bytes the header of a safetensors file has, behind those of its length.

    Args:
        head: The first SHARD_HEAD bytes of the file, or all that it has.
        size: How many it has.

    Raises:
        ContentError: It is no such file, or cut off within its header.
    """
    if head.startswith(LFS_POINTER):
        raise ContentError("a Git LFS pointer, not the file itself")
    if len(head) < LENGTH_BYTES:
        raise ContentError(f"{size} bytes, too short to be a safetensors file")
    length = int(struct.unpack("<Q", head[:LENGTH_BYTES])[0])
    if not 2 <= length <= MAX_HEADER:
        raise ContentError("does not begin with a safetensors header")
    if size < LENGTH_BYTES + length:
        raise ContentError(
            f"cut off within its header: {size} bytes, header {LENGTH_BYTES + length}"
        )
    return length


def parse_shard(header: bytes, size: int) -> Shard:
    """Return what a safetensors file holds, once its size is the one that its header implies.

    Args:
        header: The header, without the bytes of its length.
        size: How many bytes the file has.

    Raises:
        ContentError: It is cut off, longer than it should be, or its header cannot be read.
    """
    try:
        entries = json.loads(header)
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        ends = [operator.index(entry["data_offsets"][1]) for entry in tensors.values()]
        expected = LENGTH_BYTES + len(header) + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ContentError("its safetensors header cannot be read") from error
    if size < expected:
        raise ContentError(f"cut off: {size} bytes of {expected}")
    if size > expected:
        raise ContentError(f"{size} bytes where its header describes {expected}")
    return Shard(size, frozenset(tensors))


def is_document(name: str) -> bool:
    """Return whether engines read this file beside the shards: configuration, tokenizer, code."""
    return name.endswith(DOCUMENTS) or any(name in group for group in TOKENIZERS)


def tokenizer_files(names: Sequence[str]) -> tuple[str, ...]:
    """Return the files of the first complete tokenizer, its configuration first; or none."""
    if "tokenizer_config.json" in names:
        for group in TOKENIZERS:
            if set(group) <= set(names):
                return ("tokenizer_config.json", *group)
    return ()


def indexes_of(names: Sequence[str]) -> list[str]:
    """Return the files of a folder that say which shards there are."""
    return [name for name in names if name.endswith(INDEX_SUFFIX)]


def shards_of(names: Sequence[str], indexes: Mapping[str, Index | Failure]) -> dict[str, list[str]]:
    """Return the shards that make up a model, each with the tensors that it has to hold.

    These are the ones that an index names, or every safetensors file where there is no index.
    Where an index is not fit to be read, nobody knows.
    """
    if not indexes:
        return {name: [] for name in names if name.endswith(".safetensors")}
    shards: dict[str, list[str]] = {}
    for index in indexes.values():
        if not isinstance(index, Index):
            return {}
        for shard, tensors in index.shards.items():
            shards.setdefault(shard, []).extend(tensors)
    return shards


def judge(path: str, draft: bool, seen: Seen) -> Verdict:
    """Return the verdicts on a folder, and what is known of the model in it.

    Args:
        path: The folder.
        draft: Whether it is a draft model, which needs no tokenizer of its own.
        seen: What was read of it.
    """
    facts: dict[str, Any] = {
        "path": path,
        "architecture": None,
        "model_type": None,
        "quantization": None,
        "shards": 0,
        "bytes": 0,
        "index_sha256": None,
    }
    checks = [_directory_check(path, seen.names)]
    if isinstance(seen.names, OSError):
        return Verdict(checks, facts)
    checks.append(_config_check(path, seen.config))
    if isinstance(seen.config, Config):
        facts.update(seen.config._asdict())
    if not draft:
        checks += _tokenizer_checks(path, seen.names, seen.tokenizer)
    first = next(iter(seen.indexes.values()), None)
    facts["index_sha256"] = first.sha256 if isinstance(first, Index) else None
    needed = shards_of(seen.names, seen.indexes)
    bad: dict[str, tuple[str, str]] = {}
    for name in sorted(needed):
        shard = seen.shards[name]
        problem = _shard_problem(shard, needed[name])
        if problem:
            bad[name] = problem
        elif isinstance(shard, Shard):
            facts["shards"] += 1
            facts["bytes"] += shard.size
    checks += _complete_checks(path, seen.indexes, len(needed), bad)
    files = sorted({*needed, *filter(is_document, seen.names)}) if needed else []
    return Verdict(checks, facts, files)


def silence_check(path: str, timeout: float) -> Check:
    """Return the verdict on a folder whose file system did not answer within so many seconds."""
    return check(
        "weights-directory",
        "failed",
        path,
        f"no answer from its file system within {timeout:g} s",
        _DIRECTORY,
        "Look at the mount (mount, dmesg) and at the server behind it.",
    )


def _directory_check(path: str, names: Sequence[str] | OSError) -> Check:
    if not isinstance(names, OSError):
        return check("weights-directory", "ok", path, f"{len(names)} files", _DIRECTORY)
    observed, remedy = reason(names), cure(names)
    if isinstance(names, FileNotFoundError):
        remedy = (
            "Put the model there, mount the file system that holds it, or set muster_model_path."
        )
    elif isinstance(names, NotADirectoryError):
        observed, remedy = "a file", "Set muster_model_path to the directory that holds it."
    return check("weights-directory", "failed", path, observed, _DIRECTORY, remedy)


def _config_check(path: str, config: Config | Failure) -> Check:
    subject = posixpath.join(path, "config.json")
    expected = "JSON with model_type and architectures"
    if isinstance(config, Config):
        return check("weights-config", "ok", subject, config.architecture, expected)
    return check("weights-config", "failed", subject, reason(config), expected, cure(config))


def _tokenizer_checks(
    path: str, names: Sequence[str], failures: Mapping[str, Failure]
) -> list[Check]:
    expected = "tokenizer_config.json and " + " or ".join("+".join(group) for group in TOKENIZERS)
    files = tokenizer_files(names)
    if not files:
        seen = sorted(name for name in names if name.startswith(("tokenizer", "vocab", "merges")))
        observed = ", ".join(seen) or "none"
        return [check("weights-tokenizer", "failed", path, observed, expected, f"{DOWNLOAD}.")]
    if not failures:
        return [check("weights-tokenizer", "ok", path, "+".join(files[1:]), expected)]
    checks = []
    for name, failure in failures.items():
        # What a document's content is, it says of the document itself: "is not JSON".
        colon = "" if isinstance(failure, ContentError) else ":"
        observed = f"{name}{colon} {reason(failure)}"
        checks.append(check("weights-tokenizer", "failed", path, observed, expected, cure(failure)))
    return checks


def _complete_checks(
    path: str,
    indexes: Mapping[str, Index | Failure],
    count: int,
    bad: Mapping[str, tuple[str, str]],
) -> list[Check]:
    """Return whether all shards are there and whole.

    Args:
        path: The folder.
        indexes: What its indexes say.
        count: How many shards there should be.
        bad: By shard that is not whole, what was seen and what to do.
    """
    for name, index in indexes.items():
        if not isinstance(index, Index):
            subject = posixpath.join(path, name)
            return [
                check("weights-complete", "failed", subject, reason(index), "an index", cure(index))
            ]
    if not count:
        return [
            check("weights-complete", "failed", path, "none", "safetensors files", f"{DOWNLOAD}.")
        ]
    expected = f"{count} whole safetensors files"
    if not bad:
        return [check("weights-complete", "ok", path, f"{count} whole", expected)]
    return [
        check("weights-complete", "failed", path, f"{name}: {observed}", expected, remedy)
        for name, (observed, remedy) in bad.items()
    ]


def _shard_problem(shard: Shard | Failure, tensors: Sequence[str]) -> tuple[str, str] | None:
    """Return what is wrong with a shard that has to hold some tensors, and what to do."""
    if not isinstance(shard, Shard):
        return reason(shard), cure(shard)
    absent = [tensor for tensor in tensors if tensor not in shard.tensors]
    if absent:
        return (
            f"lacks {absent[0]} and {len(absent) - 1} more tensors of the index",
            f"Index and shards are of different downloads. {DOWNLOAD}.",
        )
    return None
