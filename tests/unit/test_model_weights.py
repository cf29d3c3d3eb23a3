import contextlib
import json
import struct
import threading

import pytest
from ansible_collections.muster.serving.plugins.module_utils.weights.model import (
    LENGTH_BYTES,
    LFS_POINTER,
    SHARD_HEAD,
    Config,
    ContentError,
    Index,
    Seen,
    Shard,
    cure,
    header_length,
    indexes_of,
    judge,
    parse_config,
    parse_index,
    parse_shard,
    quantization,
    reason,
    shards_of,
    tokenizer_files,
)
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import Model, inspect
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.weights_folder import SHARDS, make_model, safetensors


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path)


def failed(path, draft=False):
    return [
        (entry["id"], entry["observed"], entry["remedy"])
        for entry in Model(str(path), draft).inspect().checks
        if entry["status"] != "ok"
    ]


def test_a_whole_model(model) -> None:
    seen = Model(str(model)).inspect()
    assert [entry["id"] for entry in seen.checks] == [
        "weights-directory",
        "weights-config",
        "weights-tokenizer",
        "weights-complete",
    ]
    assert {entry["status"] for entry in seen.checks} == {"ok"}
    assert seen.facts["shards"] == 2
    assert seen.facts["bytes"] == sum((model / name).stat().st_size for name in SHARDS)
    assert seen.facts["architecture"] == "MiniMaxM2ForCausalLM"
    assert len(seen.facts["index_sha256"]) == 64
    assert seen.whole
    assert seen.files == sorted(path.name for path in model.iterdir())


def test_files_that_no_engine_reads_are_left_out(model) -> None:
    for name in ("README.md", "stray.safetensors", ".gitattributes"):
        (model / name).write_text("")
    for name in ("chat_template.jinja", "modeling_minimax_m2.py", "merges.txt"):
        (model / name).write_text("")
    seen = Model(str(model)).inspect()
    assert set(seen.files) == {path.name for path in model.iterdir()} - {
        "README.md",
        "stray.safetensors",
        ".gitattributes",
    }


def test_a_model_with_a_failed_check_is_not_whole(model) -> None:
    (model / SHARDS[0]).unlink()
    assert not Model(str(model)).inspect().whole
    assert not Model(str(model / "nothing")).inspect().whole


def test_a_shard_that_is_cut_off_is_named_with_both_sizes(model) -> None:
    shard = model / SHARDS[0]
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1])
    ((check_id, observed, remedy),) = failed(model)
    assert check_id == "weights-complete"
    assert observed == f"{SHARDS[0]}: cut off: {len(raw) - 1} bytes of {len(raw)}"
    assert "Download the model again" in remedy


def test_every_bad_shard_is_named(model) -> None:
    (model / SHARDS[0]).unlink()
    (model / SHARDS[1]).write_bytes(LFS_POINTER + b".github.com/spec/v1\noid sha256:0\n")
    assert [observed for _id, observed, _remedy in failed(model)] == [
        f"{SHARDS[0]}: missing",
        f"{SHARDS[1]}: a Git LFS pointer, not the file itself",
    ]


def test_shards_of_another_download_are_found(model) -> None:
    (model / SHARDS[1]).write_bytes(safetensors({"d": 50}))
    ((_id, observed, remedy),) = failed(model)
    assert observed.startswith(f"{SHARDS[1]}: lacks c")
    assert "different downloads" in remedy


def test_one_file_without_an_index_is_a_model_too(model) -> None:
    (model / "model.safetensors.index.json").unlink()
    (model / SHARDS[1]).unlink()
    seen = Model(str(model)).inspect()
    assert seen.checks[-1]["status"] == "ok"
    assert seen.facts["index_sha256"] is None


def test_a_draft_model_needs_no_tokenizer(model) -> None:
    (model / "tokenizer.json").unlink()
    assert [check_id for check_id, _seen, _remedy in failed(model)] == ["weights-tokenizer"]
    assert failed(model, draft=True) == []


@pytest.mark.parametrize(
    ("name", "text", "check_id", "observed"),
    [
        ("config.json", "{", "weights-config", "is not JSON"),
        ("config.json", "[]", "weights-config", "names no architectures"),
        ("config.json", '{"architectures": ["X"]}', "weights-config", "names no model_type"),
        ("model.safetensors.index.json", "{}", "weights-complete", "has no weight_map"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "../x.safetensors"}}',
            "weights-complete",
            "names '../x.safetensors'",
        ),
    ],
)
def test_a_bad_document_is_a_check(model, name, text, check_id, observed) -> None:
    (model / name).write_text(text)
    ((seen_id, seen, _remedy),) = failed(model)
    assert seen_id == check_id
    assert seen.startswith(observed)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_no_document_is_a_check(model, name) -> None:
    (model / name).write_text("{")
    ((check_id, observed, remedy),) = failed(model)
    assert check_id == "weights-tokenizer"
    assert observed.startswith(f"{name} is not JSON")
    assert remedy.startswith("Download the model again")


def test_a_file_system_that_does_not_answer_is_a_check(model) -> None:
    class Gone(Model):
        def inspect(self) -> Model:
            gone.wait()
            return self

    gone = threading.Event()
    answered, checks = inspect([Model(str(model)), Gone("/mnt/gone")], timeout=0.2)
    gone.set()
    assert [one.path for one in answered] == [str(model)]
    assert [one["subject"] for one in checks if one["status"] == "failed"] == ["/mnt/gone"]
    assert checks[-1]["observed"] == "no answer from its file system within 0.2 s"


def test_a_missing_directory_or_a_file_in_its_place_is_a_check(tmp_path) -> None:
    ((_id, observed, remedy),) = failed(tmp_path / "nothing")
    assert observed == "missing"
    assert "muster_model_path" in remedy
    (tmp_path / "file").write_text("")
    assert failed(tmp_path / "file")[0][1] == "a file"


def test_weights_of_another_format_are_missing_weights(model) -> None:
    for path in model.glob("*safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").write_bytes(b"x")
    ((_id, observed, _remedy),) = failed(model)
    assert observed == "none"


@pytest.mark.parametrize(
    ("config", "names", "method"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, [], "fp8"),
        ({}, ["quant_model_description.json"], "ascend"),
        ({"quantization_config": "fp8"}, [], None),
        ({}, [], None),
    ],
)
def test_quantisation(config, names, method) -> None:
    assert quantization(config, names) == method


def shard_of(raw: bytes) -> Shard:
    length = header_length(raw[:SHARD_HEAD], len(raw))
    return parse_shard(raw[LENGTH_BYTES : LENGTH_BYTES + length], len(raw))


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 64), max_size=5), st.integers(0, 400))
def test_a_file_is_accepted_exactly_at_its_full_length(tensors, cut) -> None:
    tensors.pop("__metadata__", None)
    raw = safetensors(tensors)
    assert shard_of(raw) == Shard(len(raw), frozenset(tensors))
    for other in (raw[: max(0, len(raw) - 1 - cut)], raw + b"x"):
        with pytest.raises(ContentError):
            shard_of(other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("data_offsets"), inner),
    max_leaves=10,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_shard_or_refused(raw) -> None:
    for content in (raw, struct.pack("<Q", len(raw)) + raw):
        with contextlib.suppress(ContentError):
            assert shard_of(content).size == len(content)


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(["weight_map", "architectures", "model_type"]), JSON).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_bytes_are_a_document_or_refused(raw) -> None:
    with contextlib.suppress(ContentError):
        assert parse_index(raw).shards
    with contextlib.suppress(ContentError):
        assert parse_config(raw, []).architecture


FILE_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(st.text(), FILE_NAMES, min_size=1))
def test_an_index_gives_every_tensor_to_its_shard(weight_map) -> None:
    shards = parse_index(json.dumps({"weight_map": weight_map}).encode()).shards
    assert {tensor: shard for shard, of in shards.items() for tensor in of} == weight_map


@pytest.mark.parametrize("name", ["", "/x", "a/b", "a/", "a\0b", "\ud800", 1, None, ["a"]])
def test_what_cannot_be_a_file_beside_the_index_is_refused(name) -> None:
    with pytest.raises(ContentError, match="which is not a file name, for t"):
        parse_index(json.dumps({"weight_map": {"t": name}}).encode())


# Verdicts, without files

CONFIG = Config("MiniMaxM2ForCausalLM", "minimax_m2", None)
NAMES = ("config.json", "m.safetensors", "tokenizer.json", "tokenizer_config.json")
WHOLE = Seen(NAMES, CONFIG, shards={"m.safetensors": Shard(8, frozenset())})


def verdicts(seen, draft=False):
    return {
        (one["id"], one["observed"]): one["remedy"]
        for one in judge("/m", draft, seen).checks
        if one["status"] != "ok"
    }


def test_a_folder_in_which_all_is_right() -> None:
    verdict = judge("/m", False, WHOLE)
    assert verdict.whole
    assert [one["id"] for one in verdict.checks] == [
        "weights-directory",
        "weights-config",
        "weights-tokenizer",
        "weights-complete",
    ]
    assert verdict.facts == {
        "path": "/m",
        "architecture": "MiniMaxM2ForCausalLM",
        "model_type": "minimax_m2",
        "quantization": None,
        "shards": 1,
        "bytes": 8,
        "index_sha256": None,
    }
    assert verdict.files == sorted(NAMES)


@pytest.mark.parametrize(
    ("failure", "said", "remedy"),
    [
        (FileNotFoundError(2, "No such file or directory"), "missing", "Download the model"),
        (PermissionError(13, "Permission denied"), "Permission denied", "Let root read it"),
        (OSError(5, "Input/output error"), "Input/output error", "dmesg"),
        (ContentError("cut off"), "cut off", "Download the model"),
    ],
)
def test_a_file_that_is_not_fit_to_be_read(failure, said, remedy) -> None:
    assert reason(failure) == said
    assert remedy in cure(failure)
    shard = Seen(NAMES, CONFIG, shards={"m.safetensors": failure})
    assert verdicts(shard) == {("weights-complete", f"m.safetensors: {said}"): cure(failure)}
    config = Seen(NAMES, failure, shards=WHOLE.shards)
    assert verdicts(config) == {("weights-config", said): cure(failure)}
    index = Seen((*NAMES, "m.safetensors.index.json"), CONFIG, indexes={"i": failure})
    assert verdicts(index) == {("weights-complete", said): cure(failure)}


def test_an_index_that_is_not_fit_leaves_open_which_shards_there_are() -> None:
    fine, bad = Index({"a": ["t"]}, "1" * 64), ContentError("has no weight_map")
    assert shards_of(["m.safetensors"], {"1": fine, "2": bad}) == {}
    verdict = judge("/m", True, Seen(NAMES, CONFIG, indexes={"1": fine, "2": bad}))
    assert (verdict.checks[-1]["subject"], verdict.whole) == ("/m/2", False)
    assert (verdict.files, verdict.facts["shards"]) == ([], 0)


def test_several_indexes_name_the_shards_of_one_model() -> None:
    indexes = {"1": Index({"a": ["t"]}, "1" * 64), "2": Index({"a": ["u"], "b": ["v"]}, "2" * 64)}
    assert shards_of(["stray.safetensors"], indexes) == {"a": ["t", "u"], "b": ["v"]}
    shards = {"a": Shard(3, frozenset("tu")), "b": Shard(4, frozenset("v"))}
    verdict = judge("/m", True, Seen(NAMES, CONFIG, indexes=indexes, shards=shards))
    assert verdict.whole
    assert verdict.facts["index_sha256"] == "1" * 64
    assert (verdict.facts["shards"], verdict.facts["bytes"]) == (2, 7)


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["tokenizer.json", "tokenizer_config.json"], ("tokenizer_config.json", "tokenizer.json")),
        (["tokenizer.json"], ()),
        (["tokenizer_config.json", "vocab.json"], ()),
        (
            ["merges.txt", "tokenizer_config.json", "vocab.json"],
            ("tokenizer_config.json", "vocab.json", "merges.txt"),
        ),
    ],
)
def test_which_files_are_the_tokenizer(names, files) -> None:
    assert tokenizer_files(names) == files


@given(
    st.lists(
        st.sampled_from([*NAMES, "merges.txt", "vocab.json", "m.safetensors.index.json", "README"]),
        unique=True,
    ),
    st.data(),
)
def test_a_model_is_whole_exactly_when_nothing_of_it_has_failed(names, data) -> None:
    failure = ContentError("is not JSON")

    def drawn(fine, *others):
        return data.draw(st.sampled_from([fine, failure, OSError(5, "boom"), *others]))

    index = Index({"m.safetensors": ["t"]}, "0" * 64)
    indexes = {name: drawn(index) for name in indexes_of(names)}
    shards = {
        name: drawn(Shard(8, frozenset("t")), Shard(8, frozenset()))
        for name in shards_of(names, indexes)
    }
    tokenizer = {
        name: failure for name in tokenizer_files(names) if data.draw(st.booleans(), label=name)
    }
    config = drawn(CONFIG)
    verdict = judge("/m", False, Seen(names, config, tokenizer, indexes, shards))
    right = (
        config is CONFIG
        and tokenizer_files(names)
        and not tokenizer
        and all(one is index for one in indexes.values())
        and shards
        and all(isinstance(one, Shard) and (not indexes or one.tensors) for one in shards.values())
    )
    assert verdict.whole == bool(right)
    for one in verdict.checks:
        assert bool(one["remedy"]) == (one["status"] != "ok")
