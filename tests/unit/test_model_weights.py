import contextlib
import io
import json
import struct
import threading

import pytest
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import (
    LFS_POINTER,
    Model,
    ShardError,
    inspect,
    quantization,
    shard_header,
    weight_map,
)
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


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 64), max_size=5), st.integers(0, 400))
def test_a_file_is_accepted_exactly_at_its_full_length(tensors, cut) -> None:
    tensors.pop("__metadata__", None)
    raw = safetensors(tensors)
    assert set(shard_header(io.BytesIO(raw), len(raw))) == set(tensors)
    shorter = raw[: max(0, len(raw) - 1 - cut)]
    with pytest.raises(ShardError):
        shard_header(io.BytesIO(shorter), len(shorter))
    with pytest.raises(ShardError):
        shard_header(io.BytesIO(raw + b"x"), len(raw) + 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("data_offsets"), inner),
    max_leaves=10,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_shard_or_a_shard_error(raw) -> None:
    for content in (raw, struct.pack("<Q", len(raw)) + raw):
        with contextlib.suppress(ShardError):
            shard_header(io.BytesIO(content), len(content))


@given(JSON | st.dictionaries(st.just("weight_map"), JSON))
def test_any_document_is_an_index_or_refused(document) -> None:
    with contextlib.suppress(ValueError):
        assert weight_map(document)
