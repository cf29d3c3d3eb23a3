# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tiny model: same files for the same source, nothing but the standard library.

The weights are random, but the output layer knows whole words only, so that an answer is
readable nonsense and not a run of broken bytes.
"""

from __future__ import annotations

import json
import os
import random
import struct
import tempfile
from array import array
from pathlib import Path
from typing import Any

from lab.paths import LAB, cache_dir, digest
from lab.shell import step

HERE = LAB / "model"
NAME = "MiniMax-M2.5-tiny"
SEED = 2

HIDDEN = 128
EXPERT_HIDDEN = 128
LAYERS = 2
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 32
EXPERTS = 8
POSITIONS = 2048
INITIAL_STD = 0.05
OUTPUT_STD = 0.5  # far enough from the zero of the unspoken tokens

SPECIAL = ("]!p~[", "]~!b[", "]~b]", "[e~[")
MARKS = ("<think>", "</think>", "<minimax:tool_call>", "</minimax:tool_call>")
SPOKEN = (
    "a and answer are at bench both bring by can cluster device each engine every first follower "
    "for from gather hand has head in is it joins keep large light line link many model more node "
    "now of on one open order over pair port rank ready runs serves small speaks start steps the "
    "then they this to token two unit wait warm weight when with word work"
)


def byte_letters() -> list[str]:
    """How byte-level tokenizers write the 256 bytes: printable ones as they are, others shifted."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, shifted = [], 0
    for byte in range(256):
        letters.append(chr(byte if byte in printable else 0x100 + shifted))
        shifted += byte not in printable
    return letters


def vocabulary() -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Tokens in id order, merges, and the tokens that the model speaks."""
    letters = byte_letters()
    tokens, merges = list(letters), []
    spoken = [letters[ord(" ")] + word for word in SPOKEN.split()]
    known = set(tokens)
    for word in spoken:
        for end in range(2, len(word) + 1):
            if word[:end] not in known:
                known.add(word[:end])
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    return [*tokens, *SPECIAL, *MARKS], merges, spoken


def tokenizer(tokens: list[str], merges: list[tuple[str, str]]) -> dict[str, Any]:
    added = [
        {
            "id": tokens.index(token),
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token in SPECIAL,
        }
        for token in (*SPECIAL, *MARKS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(merge) for merge in merges],
        },
    }


def config(tokens: list[str]) -> dict[str, Any]:
    return {
        "architectures": ["MiniMaxM2ForCausalLM"],
        "attn_type_list": [1] * LAYERS,
        "bos_token_id": tokens.index("]~!b["),
        "dtype": "bfloat16",
        "eos_token_id": tokens.index("[e~["),
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": EXPERT_HIDDEN,
        "max_position_embeddings": POSITIONS,
        "model_type": "minimax_m2",
        "num_attention_heads": HEADS,
        "num_experts_per_tok": 2,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "num_local_experts": EXPERTS,
        "num_mtp_modules": 0,
        "qk_norm_type": "per_layer",
        "rms_norm_eps": 1e-06,
        "rope_theta": 5000000,
        "rotary_dim": HEAD_DIM // 2,
        # The router of vLLM's CPU backend knows softmax without a bias only.
        "scoring_func": "softmax",
        "tie_word_embeddings": False,
        "use_mtp": False,
        "use_qk_norm": True,
        "use_routing_bias": False,
        "vocab_size": len(tokens),
    }


def shapes(vocab: int) -> list[dict[str, tuple[int, ...]]]:
    """Tensors by shard: the first ends within the layers, as in the published checkpoint."""
    shards: list[dict[str, tuple[int, ...]]] = [
        {"model.embed_tokens.weight": (vocab, HIDDEN)},
        {"model.norm.weight": (HIDDEN,), "lm_head.weight": (vocab, HIDDEN)},
    ]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        attention, moe = f"{at}.self_attn", f"{at}.block_sparse_moe"
        shard = shards[layer * len(shards) // LAYERS]
        shard[f"{at}.input_layernorm.weight"] = (HIDDEN,)
        shard[f"{at}.post_attention_layernorm.weight"] = (HIDDEN,)
        shard[f"{attention}.q_proj.weight"] = (HEADS * HEAD_DIM, HIDDEN)
        shard[f"{attention}.k_proj.weight"] = (KV_HEADS * HEAD_DIM, HIDDEN)
        shard[f"{attention}.v_proj.weight"] = (KV_HEADS * HEAD_DIM, HIDDEN)
        shard[f"{attention}.o_proj.weight"] = (HIDDEN, HEADS * HEAD_DIM)
        shard[f"{attention}.q_norm.weight"] = (HEADS * HEAD_DIM,)
        shard[f"{attention}.k_norm.weight"] = (KV_HEADS * HEAD_DIM,)
        shard[f"{moe}.gate.weight"] = (EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            shard[f"{moe}.experts.{expert}.w1.weight"] = (EXPERT_HIDDEN, HIDDEN)
            shard[f"{moe}.experts.{expert}.w2.weight"] = (HIDDEN, EXPERT_HIDDEN)
            shard[f"{moe}.experts.{expert}.w3.weight"] = (EXPERT_HIDDEN, HIDDEN)
    return shards


def bfloat16(values: list[float]) -> bytes:
    """The upper half of each float32."""
    halves = array("H", struct.pack(f"<{len(values)}f", *values))
    return halves[1::2].tobytes()


def _tensor(name: str, shape: tuple[int, ...], spoken: set[int], source: random.Random) -> bytes:
    if len(shape) == 1:
        return bfloat16([1.0] * shape[0])
    rows, columns = shape
    if name != "lm_head.weight":
        return bfloat16([source.gauss(0, INITIAL_STD) for _ in range(rows * columns)])
    return bfloat16(
        [
            source.gauss(0, OUTPUT_STD) if row in spoken else 0.0
            for row in range(rows)
            for _ in range(columns)
        ]
    )


def safetensors(tensors: dict[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, data) in tensors.items():
        end = offset + len(data)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())


def write(folder: Path) -> None:
    tokens, merges, spoken = vocabulary()
    spoken_ids = {tokens.index(token) for token in spoken}
    source = random.Random(SEED)  # noqa: S311 - weights, not secrets
    shards, weight_map, total = shapes(len(tokens)), {}, 0
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {
            name: (shape, _tensor(name, shape, spoken_ids, source)) for name, shape in names.items()
        }
        (folder / file).write_bytes(safetensors(tensors))
        weight_map.update(dict.fromkeys(names, file))
        total += sum(len(data) for _, data in tensors.values())
    documents = {
        "config.json": config(tokens),
        "generation_config.json": {"do_sample": True, "temperature": 1.0, "top_p": 0.95},
        "model.safetensors.index.json": {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(weight_map.items())),
        },
        "tokenizer.json": tokenizer(tokens, merges),
        "tokenizer_config.json": {
            "bos_token": "]~!b[",
            "clean_up_tokenization_spaces": False,
            "eos_token": "[e~[",
            "model_max_length": POSITIONS,
            "pad_token": "]!p~[",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    template = (HERE / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)


def ensure() -> Path:
    """The model's folder in the cache."""
    folder = cache_dir() / f"model-{digest(HERE)}" / NAME
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with step("write the tiny model"):
            scratch = Path(tempfile.mkdtemp(dir=folder.parent))
            scratch.chmod(0o755)
            write(scratch)
            os.replace(scratch, folder)
    return folder
