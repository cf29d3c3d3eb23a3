# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the hashes of a model's files by those that its publisher gave out, and parse both."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from typing import Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.weights.model import cure, reason

SCHEMA = 1
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
    """Return the hashes by name of a file in the format of sha256sum.

    A name that it has twice with unequal hashes is left out.
    """
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        match = SUM.fullmatch(line.rstrip())
        if match:
            found.setdefault(match[2], set()).add(match[1].lower())
    return {name: hashes.pop() for name, hashes in found.items() if len(hashes) == 1}


def etag_sha256(text: str) -> str | None:
    """Return the hash in what the Hugging Face tool notes of a download, None where there is none.

    A note is commit, etag and time, a line each. The etag of a file that is kept in Git itself is
    another hash.
    """
    lines = [line.strip() for line in text.splitlines()]
    return lines[1] if len(lines) > 1 and SHA256.fullmatch(lines[1]) else None


def blob_sha256(path: str) -> str | None:
    """Return the hash by which a hub's cache names the file that a link of a snapshot leads to."""
    folder, name = posixpath.split(path)
    return name if posixpath.basename(folder) == "blobs" and SHA256.fullmatch(name) else None


def is_list_of_sums(name: str) -> bool:
    """Return whether a file is named as lists in the format of sha256sum are."""
    return name.lower().startswith("sha256sum") or name.lower().endswith(".sha256")


def note_path(name: str) -> str:
    """Return where in its folder the Hugging Face tool notes the download of a file."""
    return f"{HUB_METADATA}/{name}.metadata"


def listed_hashes(lists: Mapping[str, str]) -> dict[str, set[Published]]:
    """Return the hashes that lists in the format of sha256sum have of each file.

    Args:
        lists: The text of each list, by the list's name.
    """
    found: dict[str, set[Published]] = {}
    for source, text in lists.items():
        for name, sha256 in sums_of(text).items():
            found.setdefault(name, set()).add(Published(sha256, source))
    return found


def published_hash(target: str, note: str, listed: Collection[Published]) -> Published | None:
    """Return the hash that a file should have, None where its folder does not tell.

    Args:
        target: The file's path with all links followed.
        note: What the hub's tool notes of its download, or nothing.
        listed: What lists beside it have of it.
    """
    blob, etag = blob_sha256(target), etag_sha256(note)
    # A hub's own notes come with the file; a list may be of an earlier revision.
    if blob:
        return Published(blob, "the names of the blobs")
    if etag:
        return Published(etag, HUB_METADATA)
    if len({one.sha256 for one in listed}) == 1:
        return min(listed)
    return None


def cache_path(folder: str) -> str:
    """Return where a node keeps the hashes of a folder's files."""
    mark = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    # A name has 255 bytes at most, and a folder's own may have them all.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", posixpath.basename(folder.rstrip("/")))[:100]
    return f"{STATE_DIR}/weights/{name}-{mark}.json"


def cache_text(folder: str, known: Mapping[str, Known]) -> str:
    """Return what read_cache() reads."""
    files = {
        name: {**entry.stamp._asdict(), "sha256": entry.sha256} for name, entry in known.items()
    }
    record = {"schema": SCHEMA, "path": folder, "files": files}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def read_cache(text: str | None, folder: str) -> dict[str, Known]:
    """Return what a cache knows of this folder; nothing where it is broken or another folder's."""
    known = {}
    try:
        record = json_text.parse(text)
        if record["schema"] != SCHEMA or record["path"] != folder:
            return {}
        for name, entry in record["files"].items():
            stamp = Stamp(entry["size"], entry["mtime_ns"], entry["inode"])
            if SHA256.fullmatch(entry["sha256"]) and all(isinstance(part, int) for part in stamp):
                known[name] = Known(stamp, entry["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return known


def unchanged(cached: Mapping[str, Known], stamps: Mapping[str, Stamp]) -> dict[str, Known]:
    """Return what is known of the files that still have the stamp of their hash."""
    return {name: entry for name, entry in cached.items() if stamps.get(name) == entry.stamp}


def sizes_to_read(
    files: Iterable[str], stamps: Mapping[str, Stamp], known: Mapping[str, Known]
) -> dict[str, int]:
    """Return the files to be hashed with their sizes in bytes, 0 where that is not known.

    The largest comes first, so that no thread is left alone with it in the end.
    """
    sizes = {
        name: stamps[name].size if name in stamps else 0 for name in files if name not in known
    }
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def seconds_allowed(sizes: Mapping[str, int], bounds: Bounds) -> float:
    """Return how long reading these files may take."""
    return max(bounds.least_s, sum(sizes.values()) / bounds.bytes_per_s)


def too_slow(seconds: float) -> str:
    """Return why reading was given up that took longer than it may."""
    return f"not read within {seconds:.0f} s"


def silent(seconds: float) -> str:
    """Return why reading was given up from which no byte came for so long."""
    return f"no answer from its file system within {seconds:g} s"


def problem_of(error: OSError | ChangedError) -> tuple[str, str]:
    """Return why a file has no hash: what was seen, what to do."""
    if isinstance(error, ChangedError):
        return "changed while it was read", "Wait until the download or copy is complete."
    return reason(error), cure(error)


def digest_of(models: Iterable[Mapping[str, str]]) -> str:
    """Return one hash for the files of models, each by name, beginning with the model itself."""
    text = json.dumps([sorted(sums.items()) for sums in models])
    return hashlib.sha256(text.encode()).hexdigest()


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def judge(
    path: str, count: int, hashes: Hashes, published: Mapping[str, Published], keep: bool
) -> list[Check]:
    """Return the verdicts on what was read of a folder.

    All that differs is one, and each way of not reading files is one.

    Args:
        path: The folder.
        count: How many files there are to hash.
        hashes: What came of it.
        published: The hashes that files should have, for those of which that is known.
        keep: Whether hashes are kept for the next run.
    """

    def verdict(status: str, observed: str, expected: str, remedy: str = "") -> Check:
        return check("weights-hash", status, path, observed, expected, remedy)

    sums = hashes.sums
    held = [name for name in sorted(sums) if name in published]
    wrong = [name for name in held if sums[name] != published[name].sha256]
    checks = []
    if wrong:
        sources = sorted({published[name].source for name in wrong})
        checks.append(
            verdict(
                "failed",
                _some([f"{name} {sums[name][:12]}" for name in wrong]),
                _some([f"{name} {published[name].sha256[:12]}" for name in wrong])
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
            verdict("failed", f"{_some(names)}: {observed}", "files that can be read", remedy)
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
