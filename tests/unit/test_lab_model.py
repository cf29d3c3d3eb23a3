"""The tiny model: files that the published model's readers understand."""

from __future__ import annotations

import json
import struct

import pytest

from lab.model import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("model")
    build.write(target)
    return target


def load(folder, name):
    return json.loads((folder / name).read_text())


def header(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), len(data) - 8 - length


def test_the_index_names_every_tensor_in_its_shard(folder):
    index = load(folder, "model.safetensors.index.json")
    found = {}
    size = 0
    for file in sorted(folder.glob("*.safetensors")):
        tensors, data_length = header(file)
        tensors.pop("__metadata__")
        found.update(dict.fromkeys(tensors, file.name))
        assert max(tensor["data_offsets"][1] for tensor in tensors.values()) == data_length
        size += data_length
    assert len(set(found.values())) == 2
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == size


def test_shapes_fill_their_bytes(folder):
    for file in folder.glob("*.safetensors"):
        for name, tensor in header(file)[0].items():
            if name != "__metadata__":
                count = 1
                for extent in tensor["shape"]:
                    count *= extent
                start, end = tensor["data_offsets"]
                assert end - start == 2 * count, name


def test_every_merge_makes_a_token_of_tokens(folder):
    model = load(folder, "tokenizer.json")["model"]
    vocab = model["vocab"]
    assert sorted(vocab.values()) == list(range(len(vocab)))
    for left, right in model["merges"]:
        assert {left, right, left + right} <= vocab.keys()


def test_the_tokens_that_parsers_look_for_are_single_ones(folder):
    added = {
        token["content"]: token["id"] for token in load(folder, "tokenizer.json")["added_tokens"]
    }
    vocab = load(folder, "tokenizer.json")["model"]["vocab"]
    for mark in ("<think>", "</think>", "<minimax:tool_call>", "</minimax:tool_call>"):
        assert added[mark] == vocab[mark]


def test_the_configuration_fits_the_tokenizer(folder):
    config = load(folder, "config.json")
    vocab = load(folder, "tokenizer.json")["model"]["vocab"]
    assert config["architectures"] == ["MiniMaxM2ForCausalLM"]
    assert config["vocab_size"] == len(vocab)
    names = load(folder, "tokenizer_config.json")
    assert config["eos_token_id"] == vocab[names["eos_token"]]
    assert config["bos_token_id"] == vocab[names["bos_token"]]


def test_all_256_bytes_have_a_letter():
    letters = build.byte_letters()
    assert len(set(letters)) == 256
    assert letters[ord(" ")] == "\u0120"
    assert letters[ord("a")] == "a"


@pytest.mark.parametrize(
    ("value", "raw"), [(1.0, b"\x80\x3f"), (-2.0, b"\x00\xc0"), (0.0, b"\0\0")]
)
def test_bfloat16_is_the_upper_half_of_a_float(value, raw):
    assert build.bfloat16([value]) == raw


def test_the_same_source_gives_the_same_files(folder, tmp_path):
    build.write(tmp_path)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
