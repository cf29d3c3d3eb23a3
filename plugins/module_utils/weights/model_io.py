# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a model on disk whole? Reads headers only, so hundreds of gigabytes take milliseconds."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import struct
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended

INDEX_SUFFIX = ".safetensors.index.json"
# The format's own bound for a header.
MAX_HEADER = 100_000_000
MAX_JSON = 100_000_000
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("tiktoken.model",),
)
DOCUMENTS = (".json", ".jinja", ".py")
LFS_POINTER = b"version https://git-lfs"
DOWNLOAD = "Download the model again, with its publisher's tool (it resumes)"


class ShardError(Exception):
    """A safetensors file is not what its own header says."""


def shard_header(stream: Any, size: int) -> dict[str, Any]:
    """The tensors of a safetensors file, once its size is the one that the header implies.

    Raises:
        ShardError: It is cut off, longer than it should be, or no safetensors file at all.
    """
    head = stream.read(len(LFS_POINTER))
    if head == LFS_POINTER:
        raise ShardError("a Git LFS pointer, not the file itself")
    if len(head) < 8:
        raise ShardError(f"{size} bytes, too short to be a safetensors file")
    length = struct.unpack("<Q", head[:8])[0]
    if not 2 <= length <= MAX_HEADER:
        raise ShardError("does not begin with a safetensors header")
    if size < 8 + length:
        raise ShardError(f"cut off within its header: {size} bytes, header {8 + length}")
    raw = head[8:] + stream.read(max(0, length - len(head) + 8))
    try:
        header = json.loads(raw[:length])
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [operator.index(entry["data_offsets"][1]) for entry in tensors.values()]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ShardError("its safetensors header cannot be read") from error
    if size < expected:
        raise ShardError(f"cut off: {size} bytes of {expected}")
    if size > expected:
        raise ShardError(f"{size} bytes where its header describes {expected}")
    return tensors


def weight_map(document: Any) -> dict[str, list[str]]:
    """Shards of an index, each with its tensors.

    Raises:
        ValueError: The document is not an index.
    """
    entries = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise ValueError("has no weight_map")
    shards: dict[str, list[str]] = {}
    for tensor, shard in entries.items():
        if not isinstance(shard, str) or not shard or os.path.basename(shard) != shard:
            raise ValueError(f"names {shard!r}, which is not a file name, for {tensor}")
        shards.setdefault(shard, []).append(tensor)
    return shards


def quantization(config: Mapping[str, Any], names: list[str]) -> str | None:
    """How the weights are quantised, as the config or a description file beside it says."""
    declared = config.get("quantization_config")
    if isinstance(declared, dict) and isinstance(declared.get("quant_method"), str):
        return str(declared["quant_method"])
    if any(name.startswith("quant_model_description") for name in names):
        return "ascend"
    return None


def is_document(name: str) -> bool:
    """Whether an engine reads this file beside the shards: configuration, tokenizer, code."""
    return name.endswith(DOCUMENTS) or any(name in group for group in TOKENIZERS)


class Model:
    """One directory of weights: looks once, then holds facts and checks."""

    def __init__(self, path: str, draft: bool = False) -> None:
        self.path = path
        self.draft = draft
        self.checks: list[Check] = []
        self.names: list[str] = []
        # What an engine reads of it, and whether all of that was found fit to be read.
        self.files: list[str] = []
        self.whole = False
        self.facts: dict[str, Any] = {
            "path": path,
            "architecture": None,
            "model_type": None,
            "quantization": None,
            "shards": 0,
            "bytes": 0,
            "index_sha256": None,
        }

    def inspect(self) -> Model:
        names = self._names()
        if names is not None:
            self.names = names
            self._config(names)
            if not self.draft:
                self._tokenizer(names)
            self._weights(names)
        self.whole = all(entry["status"] == "ok" for entry in self.checks)
        return self

    def _check(
        self, part: str, status: str, subject: str, observed: str, expected: str, remedy: str = ""
    ) -> None:
        self.checks.append(check(f"weights-{part}", status, subject, observed, expected, remedy))

    def _names(self) -> list[str] | None:
        expected = "a directory that root can read"
        try:
            names = sorted(os.listdir(self.path))
        except FileNotFoundError:
            observed = "missing"
            remedy = (
                "Put the model there, mount the file system that holds it, or set "
                "muster_model_path."
            )
        except NotADirectoryError:
            observed, remedy = "a file", "Set muster_model_path to the directory that holds it."
        except OSError as error:
            observed, remedy = str(error.strerror), cure(error)
        else:
            self._check("directory", "ok", self.path, f"{len(names)} files", expected)
            return names
        self._check("directory", "failed", self.path, observed, expected, remedy)
        return None

    def _config(self, names: list[str]) -> None:
        subject = os.path.join(self.path, "config.json")
        expected = "JSON with model_type and architectures"
        try:
            config, _digest = self._json("config.json")
            architectures = config.get("architectures") if isinstance(config, dict) else None
            if not isinstance(architectures, list) or not architectures:
                raise ValueError("names no architectures")
            if not config.get("model_type"):
                raise ValueError("names no model_type")
        except OSError as error:
            self._check("config", "failed", subject, reason(error), expected, cure(error))
            return
        except ValueError as error:
            self._check("config", "failed", subject, str(error), expected, f"{DOWNLOAD}.")
            return
        self.facts["architecture"] = str(architectures[0])
        self.facts["model_type"] = str(config["model_type"])
        self.facts["quantization"] = quantization(config, names)
        self._check("config", "ok", subject, str(architectures[0]), expected)

    def _tokenizer(self, names: list[str]) -> None:
        expected = "tokenizer_config.json and " + " or ".join(
            "+".join(group) for group in TOKENIZERS
        )
        complete = [group for group in TOKENIZERS if set(group) <= set(names)]
        if complete and "tokenizer_config.json" in names:
            documents = ["tokenizer_config.json", *complete[0]]
            broken = [self._broken(name) for name in documents if name.endswith(".json")]
            problems = [problem for problem in broken if problem]
            if not problems:
                self._check("tokenizer", "ok", self.path, "+".join(complete[0]), expected)
            for observed, remedy in problems:
                self._check("tokenizer", "failed", self.path, observed, expected, remedy)
            return
        seen = sorted(name for name in names if name.startswith(("tokenizer", "vocab", "merges")))
        self._check(
            "tokenizer", "failed", self.path, ", ".join(seen) or "none", expected, f"{DOWNLOAD}."
        )

    def _broken(self, name: str) -> tuple[str, str] | None:
        """Why a document cannot be read, and what to do, or nothing."""
        try:
            self._json(name)
        except OSError as error:
            return f"{name}: {reason(error)}", cure(error)
        except ValueError as error:
            return f"{name} {error}", f"{DOWNLOAD}."
        return None

    def _weights(self, names: list[str]) -> None:
        """Every shard that an index names, or every safetensors file where there is no index."""
        shards: dict[str, list[str]] = {}
        indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
        for name in indexes:
            subject = os.path.join(self.path, name)
            try:
                document, digest = self._json(name)
                for shard, tensors in weight_map(document).items():
                    shards.setdefault(shard, []).extend(tensors)
            except OSError as error:
                self._check("complete", "failed", subject, reason(error), "an index", cure(error))
                return
            except ValueError as error:
                self._check("complete", "failed", subject, str(error), "an index", f"{DOWNLOAD}.")
                return
            self.facts["index_sha256"] = self.facts["index_sha256"] or digest
        if not indexes:
            shards = {name: [] for name in names if name.endswith(".safetensors")}
        if not shards:
            self._check(
                "complete", "failed", self.path, "none", "safetensors files", f"{DOWNLOAD}."
            )
            return
        self.files = sorted({*shards, *filter(is_document, names)})
        bad = [problem for name in sorted(shards) for problem in self._shard(name, shards[name])]
        expected = f"{len(shards)} whole safetensors files"
        if not bad:
            self._check("complete", "ok", self.path, f"{self.facts['shards']} whole", expected)
        for observed, remedy in bad:
            self._check("complete", "failed", self.path, observed, expected, remedy)

    def _shard(self, name: str, tensors: list[str]) -> list[tuple[str, str]]:
        path = os.path.join(self.path, name)
        try:
            with open(path, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                present = shard_header(stream, size)
        except OSError as error:
            return [(f"{name}: {reason(error)}", cure(error))]
        except ShardError as error:
            return [(f"{name}: {error}", f"{DOWNLOAD}.")]
        absent = [tensor for tensor in tensors if tensor not in present]
        if absent:
            return [
                (
                    f"{name}: lacks {absent[0]} and {len(absent) - 1} more tensors of the index",
                    f"Index and shards are of different downloads. {DOWNLOAD}.",
                )
            ]
        self.facts["shards"] += 1
        self.facts["bytes"] += size
        return []

    def _json(self, name: str) -> tuple[Any, str]:
        with open(os.path.join(self.path, name), "rb") as stream:
            raw = stream.read(MAX_JSON)
        if raw.startswith(LFS_POINTER):
            raise ValueError("is a Git LFS pointer, not the file itself")
        try:
            return json.loads(raw), hashlib.sha256(raw).hexdigest()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is not JSON: {error}") from error


def reason(error: OSError) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error.strerror)


def cure(error: OSError) -> str:
    """What to do about a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{DOWNLOAD}."
    if isinstance(error, PermissionError):
        return "Let root read it: on NFS, export with no_root_squash or make it world-readable."
    return "Look at the file system it is on (dmesg, mount)."


def inspect(models: Sequence[Model], timeout: float) -> tuple[list[Model], list[Check]]:
    """Look at models one after the other.

    Returns:
        The models whose file system answered in time, and the checks of all: a file system that
        does not answer is a failed one.
    """
    done: list[Model] = []

    def look() -> None:
        for model in models:
            model.inspect()
            done.append(model)

    ended(look, timeout)
    answered = list(done)
    checks = [entry for model in answered for entry in model.checks]
    if len(answered) < len(models):
        checks.append(
            check(
                "weights-directory",
                "failed",
                models[len(answered)].path,
                f"no answer from its file system within {timeout:g} s",
                "a directory that root can read",
                "Look at the mount (mount, dmesg) and at the server behind it.",
            )
        )
    return answered, checks
