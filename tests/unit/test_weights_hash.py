import contextlib
import hashlib
import json
import os
import threading
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.weights import (
    hashes_io as weights_hash,
)
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes import (
    HUB_METADATA,
    Bounds,
    ChangedError,
    Hashes,
    Known,
    Published,
    Stamp,
    blob_sha256,
    cache_path,
    cache_text,
    digest_of,
    etag_sha256,
    judge,
    listed_hashes,
    problem_of,
    published_hash,
    read_cache,
    seconds_allowed,
    sizes_to_read,
    sums_of,
    unchanged,
)
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes_io import hash_checks
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import Model
from ansible_collections.muster.serving.plugins.modules import model_weights
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.weights_folder import SHARDS, make_model

COMMIT = "4" * 40


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Node:
    """A node with one model, whose hashes are asked for again and again."""

    def __init__(self, tmp_path) -> None:
        self.folder = make_model(tmp_path / "MiniMax-M2")
        self.files = NodeFiles(str(tmp_path / "root"))
        self.cache = tmp_path / "root" / cache_path(str(self.folder)).lstrip("/")

    def ask(self, keep=True, bounds=weights_hash.BOUNDS):
        return hash_checks([Model(str(self.folder)).inspect()], self.files, keep, bounds)

    def note(self, name, etag) -> None:
        """What the hub's tool notes of a download."""
        notes = self.folder / ".cache" / "huggingface" / "download"
        notes.mkdir(parents=True, exist_ok=True)
        (notes / f"{name}.metadata").write_text(f"{COMMIT}\n{etag}\n1712656091.123\n")


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose bytes are read."""
    names = []
    original = weights_hash.Reading._hash

    def spy(self, path):
        names.append(os.path.basename(path))
        return original(self, path)

    monkeypatch.setattr(weights_hash.Reading, "_hash", spy)
    return names


def flip(path) -> None:
    """One byte is another, at the file's own time."""
    seen = path.stat()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_without_published_hashes_files_are_only_compared(node) -> None:
    ((check,), digest) = node.ask()
    assert check["status"] == "ok"
    assert check["observed"] == "0 of 6 files as published, 6 only compared between nodes"
    assert len(digest) == 12


def test_files_as_their_download_noted_them(node) -> None:
    for name in SHARDS:
        node.note(name, sha256(node.folder / name))
    # The etag of a file that is kept in Git itself is no SHA-256.
    node.note("config.json", "a" * 40)
    ((check,), _digest) = node.ask()
    assert check["observed"] == "2 of 6 files as published, 4 only compared between nodes"


def test_a_flipped_byte_is_found_and_named(node) -> None:
    right = sha256(node.folder / SHARDS[1])
    for name in SHARDS:
        node.note(name, sha256(node.folder / name))
    flip(node.folder / SHARDS[1])
    ((check,), digest) = node.ask()
    assert (check["id"], check["status"]) == ("weights-hash", "failed")
    assert check["observed"] == f"{SHARDS[1]} {sha256(node.folder / SHARDS[1])[:12]}"
    assert check["expected"] == f"{SHARDS[1]} {right[:12]} (from .cache/huggingface/download)"
    assert check["remedy"].startswith("Remove these files")
    assert digest


def test_a_byte_that_differs_between_nodes_changes_the_digest(tmp_path) -> None:
    one, other = Node(tmp_path / "1"), Node(tmp_path / "2")
    assert one.ask()[1] == other.ask()[1]
    flip(other.folder / SHARDS[0])
    # The cache knows the file by its time, which a broken disk leaves alone.
    other.cache.unlink()
    assert one.ask()[1] != other.ask()[1]


@pytest.mark.parametrize("name", ["SHA256SUMS", "sha256sum.txt", "MiniMax-M2.sha256"])
def test_a_list_of_sums_beside_the_weights(node, name) -> None:
    lines = [f"{sha256(node.folder / SHARDS[0])}  {SHARDS[0]}", f"{'0' * 64} *./{SHARDS[1]}"]
    (node.folder / name).write_text("\n".join(["# hashes", *lines]) + "\n")
    ((check,), _digest) = node.ask()
    assert check["status"] == "failed"
    assert check["expected"] == f"{SHARDS[1]} 000000000000 (from {name})"


def test_the_hub_knows_better_than_a_list(node) -> None:
    node.note(SHARDS[0], sha256(node.folder / SHARDS[0]))
    (node.folder / "SHA256SUMS").write_text(f"{'0' * 64}  {SHARDS[0]}\n")
    assert node.ask()[0][0]["status"] == "ok"


def test_lists_that_contradict_each_other_say_nothing(node) -> None:
    (node.folder / "SHA256SUMS").write_text(f"{'0' * 64}  {SHARDS[0]}\n")
    (node.folder / "a.sha256").write_text(f"{'1' * 64}  {SHARDS[0]}\n")
    assert node.ask()[0][0]["observed"].startswith("0 of 6 files as published")


def test_a_hub_cache_names_its_blobs_by_their_hashes(node) -> None:
    hub = node.folder.parent / "models--MiniMaxAI--MiniMax-M2"
    (hub / "blobs").mkdir(parents=True)
    snapshot = hub / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for path in node.folder.iterdir():
        blob = hub / "blobs" / (sha256(path) if path.name in SHARDS else "b" * 40 + path.name)
        path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    node.folder = snapshot
    ((check,), _digest) = node.ask(keep=False)
    assert check["observed"] == "2 of 6 files as published, 4 only compared between nodes"
    flip((snapshot / SHARDS[0]).resolve())
    ((check,), _digest) = node.ask(keep=False)
    assert check["status"] == "failed"
    assert check["expected"].endswith("(from the names of the blobs)")


def test_the_second_run_reads_nothing(node, hashed) -> None:
    first = node.ask()
    assert len(hashed) == 6
    assert node.ask() == first
    assert len(hashed) == 6


def test_check_mode_reads_the_cache_and_keeps_none(node, hashed) -> None:
    node.ask(keep=False)
    assert not node.cache.exists()
    node.ask()
    node.ask(keep=False)
    assert len(hashed) == 12


def test_only_what_changed_is_read_again(node, hashed) -> None:
    node.ask()
    hashed.clear()
    (node.folder / "config.json").write_text((node.folder / "config.json").read_text() + " ")
    os.utime(node.folder / "tokenizer.json", ns=(1, 1))
    # The same name, size and time, in another file.
    shard = node.folder / SHARDS[0]
    seen = shard.stat()
    copy = node.folder / "copy"
    copy.write_bytes(shard.read_bytes())
    copy.rename(shard)
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    node.ask()
    assert set(hashed) == {"config.json", "tokenizer.json", SHARDS[0]}


def test_an_interrupted_run_goes_on_where_it_was(node, hashed, monkeypatch) -> None:
    original = weights_hash.Reading._hash

    def broken(self, path):
        if path.endswith("config.json"):
            raise KeyboardInterrupt
        return original(self, path)

    monkeypatch.setattr(weights_hash, "THREADS", 1)
    with monkeypatch.context() as during:
        during.setattr(weights_hash.Reading, "_hash", broken)
        with pytest.raises(KeyboardInterrupt):
            node.ask()
    kept = set(json.loads(node.cache.read_text())["files"])
    assert kept
    hashed.clear()
    node.ask()
    assert set(hashed) == {path.name for path in node.folder.iterdir()} - kept


def cut(text):
    return text[: len(text) // 2]


def of_another_folder(text):
    return text.replace("/MiniMax-M2", "/MiniMax-M1")


def with_another_hash(text):
    return json.dumps({**json.loads(text), "files": {"config.json": {"sha256": "x"}}})


@pytest.mark.parametrize("spoil", [cut, of_another_folder, with_another_hash, lambda _text: "[]"])
def test_a_broken_cache_costs_time_alone(node, hashed, spoil) -> None:
    first = node.ask()
    node.cache.write_text(spoil(node.cache.read_text()))
    hashed.clear()
    assert node.ask() == first
    assert len(hashed) == 6


def test_a_cache_that_cannot_be_kept_costs_time_alone(node) -> None:
    node.cache.parent.parent.mkdir(parents=True)
    node.cache.parent.write_text("a file where the folder should be")
    assert node.ask()[0][0]["status"] == "ok"


def test_a_file_that_changes_while_it_is_read(node, monkeypatch) -> None:
    original = weights_hash.stamp_of
    seen = []

    def grows(path):
        if path.endswith(SHARDS[0]):
            seen.append(path)
            if len(seen) == 3:  # the survey, before reading, after reading
                with open(path, "ab") as stream:
                    stream.write(b"x")
        return original(path)

    monkeypatch.setattr(weights_hash, "stamp_of", grows)
    ((check,), digest) = node.ask()
    assert check["observed"] == f"{SHARDS[0]}: changed while it was read"
    assert digest is None
    assert SHARDS[0] not in json.loads(node.cache.read_text())["files"]


def test_a_file_that_cannot_be_read(node, monkeypatch) -> None:
    original = weights_hash.Reading._hash

    def denied(self, path):
        if path.endswith(SHARDS[0]):
            raise PermissionError(13, "Permission denied")
        return original(self, path)

    monkeypatch.setattr(weights_hash.Reading, "_hash", denied)
    ((check,), digest) = node.ask()
    assert check["observed"] == f"{SHARDS[0]}: Permission denied"
    assert "Let root read it" in check["remedy"]
    assert digest is None


def test_a_file_system_that_stops_answering_ends_in_time(node, monkeypatch) -> None:
    gone = threading.Event()
    original = weights_hash.Reading._hash

    def hangs(self, path):
        if path.endswith(SHARDS[0]):
            gone.wait()
        return original(self, path)

    monkeypatch.setattr(weights_hash.Reading, "_hash", hangs)
    ((check,), digest) = node.ask(bounds=Bounds(stall_s=1))
    gone.set()
    assert check["status"] == "failed"
    assert check["observed"] == "no answer from its file system within 1 s: 5 of 6 files hashed"
    assert "goes on from there" in check["remedy"]
    assert digest is None


def test_a_folder_that_does_not_even_list_ends_in_time(node, monkeypatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(weights_hash, "survey", lambda _model: gone.wait())
    ((check,), digest) = node.ask(bounds=Bounds(stall_s=1))
    gone.set()
    assert check["observed"].endswith("0 of 6 files hashed")
    assert digest is None


def test_storage_that_is_too_slow_is_told_from_one_that_is_gone(node, monkeypatch) -> None:
    gone = threading.Event()

    def slow(self, _path):
        while not gone.wait(0.05):
            self.moved = time.monotonic()

    monkeypatch.setattr(weights_hash.Reading, "_hash", slow)
    ((check,), _digest) = node.ask(bounds=Bounds(stall_s=0.3, least_s=0.6))
    gone.set()
    assert check["observed"] == "not read within 1 s: 0 of 6 files hashed"


def test_a_model_that_is_not_whole_is_not_hashed(node, hashed) -> None:
    (node.folder / SHARDS[0]).write_bytes(b"")
    assert node.ask() == ([], None)
    assert hashed == []


def test_draft_models_count_too(node, tmp_path) -> None:
    draft = make_model(tmp_path / "draft")
    models = [Model(str(node.folder)).inspect(), Model(str(draft), draft=True).inspect()]
    checks, both = hash_checks(models, node.files, True)
    assert [check["subject"] for check in checks] == [str(node.folder), str(draft)]
    assert both != node.ask()[1]
    models[1].whole = False
    assert hash_checks(models, node.files, True)[1] is None


def test_the_module_hashes_when_it_is_asked_to(node, monkeypatch, capsys) -> None:
    monkeypatch.setattr(model_weights, "NodeFiles", lambda: node.files)

    def run(**arguments):
        arguments = {"path": str(node.folder), **arguments}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            model_weights.main()
        return json.loads(capsys.readouterr().out)

    plain = run()
    assert plain["weights_hash"] is None
    assert "weights-hash" not in {check["id"] for check in plain["checks"]}
    result = run(hashes=True, _ansible_check_mode=True)
    assert result["weights_hash"] == node.ask(keep=False)[1]
    assert not node.cache.exists()
    node.note(SHARDS[0], "0" * 64)
    result = run(hashes=True, enforce=True)
    assert "weights-hash" in result["msg"]
    assert node.cache.exists()


def test_formats() -> None:
    digest = "ab" * 32
    assert sums_of(f"{digest}  a b.bin\n{digest.upper()} *./c\n\\{digest}  d\\nb\n") == {
        "a b.bin": digest,
        "c": digest,
    }
    assert sums_of(f"{digest}  a\n{'0' * 64}  a\n") == {}
    assert etag_sha256(f"{COMMIT}\n{digest}\n1712656091.123\n") == digest
    assert etag_sha256(f"{COMMIT}\n{'a' * 40}\n1712656091.123\n") is None
    assert etag_sha256(digest) is None
    assert blob_sha256(f"/hub/blobs/{digest}") == digest
    assert blob_sha256(f"/hub/other/{digest}") is None
    assert blob_sha256(f"/hub/blobs/{COMMIT}") is None


def test_folders_of_one_name_have_caches_of_their_own() -> None:
    paths = {cache_path(path) for path in ("/a/M", "/b/M", "/a/M" * 80)}
    assert len(paths) == 3
    assert all(path.startswith("/var/lib/muster/weights/") for path in paths)
    assert all(len(os.path.basename(path)) < 200 for path in paths)


STAMPS = st.builds(Stamp, st.integers(0), st.integers(0), st.integers(0))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.text(), st.dictionaries(st.text(), st.builds(Known, STAMPS, DIGESTS)), st.integers(0))
def test_a_cache_is_read_as_it_was_written_or_not_at_all(folder, known, length) -> None:
    text = cache_text(folder, known)
    assert read_cache(text, folder) == known
    assert read_cache(text, folder + "x") == {}
    if length < len(text.rstrip()):
        assert read_cache(text[:length], folder) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["schema", "path", "files", "size", "sha256"]), inner)
    ),
    max_leaves=10,
)


@given(JSON, JSON, JSON)
def test_any_document_is_a_cache_or_none(document, files, entry) -> None:
    for record in (
        document,
        {"schema": 1, "path": "/m", "files": files},
        {"schema": 1, "path": "/m", "files": {"a": entry}},
    ):
        for known in read_cache(json.dumps(record), "/m").values():
            assert all(type(part) is int for part in known.stamp)


@given(st.text() | st.lists(st.sampled_from(["a" * 64, " ", "*", "\n", "x"])).map("".join))
def test_any_text_is_read_for_hashes(text) -> None:
    for digest in sums_of(text).values():
        assert len(digest) == 64
    with contextlib.suppress(TypeError):
        assert len(etag_sha256(text)) == 64


# Verdicts, without files

A, B = "a" * 64, "b" * 64
NOTE = f"{COMMIT}\n{A}\n1712656091.123\n"


@pytest.mark.parametrize(
    ("target", "note", "listed", "expected"),
    [
        ("/m/f", "", [], None),
        (f"/hub/blobs/{B}", NOTE, [A], Published(B, "the names of the blobs")),
        ("/m/f", NOTE, [B], Published(A, HUB_METADATA)),
        ("/m/f", "", [B], Published(B, "list-0")),
        ("/m/f", "", [B, B], Published(B, "list-0")),
        ("/m/f", "", [A, B], None),
    ],
)
def test_who_is_believed_about_a_file(target, note, listed, expected) -> None:
    lists = {f"list-{number}": f"{sha256}  f\n" for number, sha256 in enumerate(listed)}
    assert published_hash(target, note, listed_hashes(lists).get("f", ())) == expected


@pytest.mark.parametrize(
    ("error", "observed", "remedy"),
    [
        (ChangedError(), "changed while it was read", "Wait"),
        (FileNotFoundError(2, "No such file or directory"), "missing", "Download"),
        (OSError(5, "Input/output error"), "Input/output error", "dmesg"),
    ],
)
def test_why_a_file_has_no_hash(error, observed, remedy) -> None:
    assert problem_of(error)[0] == observed
    assert remedy in problem_of(error)[1]


def test_files_with_one_problem_are_one_verdict_and_only_some_are_named() -> None:
    hashes = Hashes({"right": A}, {f"f{number}": ("boom", "Look.") for number in range(7)})
    (one,) = judge("/m", 8, hashes, {"right": Published(A, "a list")}, keep=True)
    assert one["observed"] == "f0, f1, f2, f3, f4 and 2 more: boom"
    assert (one["subject"], one["status"], one["remedy"]) == ("/m", "failed", "Look.")


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_hashed_before_giving_up_is_held_to_its_publisher_too(keep) -> None:
    hashes = Hashes({"f": A}, {}, "not read within 1 s")
    wrong, slow = judge("/m", 3, hashes, {"f": Published(B, "a list")}, keep)
    assert (wrong["observed"], wrong["expected"]) == (f"f {A[:12]}", f"f {B[:12]} (from a list)")
    assert slow["observed"] == "not read within 1 s: 1 of 3 files hashed"
    assert ("the next run goes on" in slow["remedy"]) == keep


SUMS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([A, B]))


@given(SUMS, SUMS)
def test_a_folder_is_right_exactly_when_no_hash_differs(sums, published) -> None:
    expected = {name: Published(sha256, "a list") for name, sha256 in published.items()}
    differ = any(published.get(name, sha256) != sha256 for name, sha256 in sums.items())
    (one,) = judge("/m", len(sums), Hashes(sums, {}), expected, keep=True)
    assert one["status"] == ("failed" if differ else "ok")


@given(st.lists(SUMS, max_size=3), st.lists(SUMS, max_size=3))
def test_models_have_one_digest_exactly_when_all_their_hashes_are_equal(ours, theirs) -> None:
    assert (digest_of(ours) == digest_of(theirs)) == (ours == theirs)


@given(
    st.dictionaries(st.sampled_from("abcd"), STAMPS),
    st.dictionaries(st.sampled_from("abcd"), st.builds(Known, STAMPS, DIGESTS)),
    st.sets(st.sampled_from("abcd")),
)
def test_every_file_is_known_or_read_and_the_largest_come_first(stamps, cached, files) -> None:
    for name in list(stamps)[:2]:
        cached[name] = Known(stamps[name], A)
    known = unchanged(cached, stamps)
    assert all(stamps[name] == entry.stamp for name, entry in known.items())
    assert {name for name in stamps if name in cached and cached[name].stamp == stamps[name]} == {
        *known
    }
    sizes = sizes_to_read(files, stamps, known)
    assert {*sizes} == files - {*known}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)


def test_time_is_allowed_by_size_and_never_less_than_the_least() -> None:
    bounds = Bounds(least_s=10, bytes_per_s=100)
    assert seconds_allowed({}, bounds) == 10
    assert seconds_allowed({"a": 900, "b": 600}, bounds) == 15
