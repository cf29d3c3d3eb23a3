"""The shelves of recipes/_base: what each holds, and that engines and platforms know no model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.plan_support import flags, host, plan, problems, view

BASE = ROOT / "recipes" / "_base"
# The shelves whose files a shelf's own may extend.
BELOW = {
    "knows": {"knows"},
    "engines": {"engines", "knows"},
    "platforms": {"platforms"},
    "models": {"models"},
    "pairs": {"engines", "platforms", "models", "pairs"},
}
# The keys that a shelf's files may have, an engine's by name.
HOLDS = {
    "knows": """
        engine.flags engine.values engine.values_of engine.limits engine.keys engine.env_names
        engine.utilizations engine.cuda engine.same
    """,
    "engines": """
        engine.name engine.command engine.image engine.installs engine.api_key_env engine.rules
        engine.switches engine.utilizations engine.address_env ports container env args features
        advice mounts host_tuning start_timeout_s restart evidence
    """,
    "platforms": "platform env mounts container host_tuning evidence",
    "models": "served_model_name model features verify figures advice",
}
# What only a model, or those who tried one, can say.
MODELS_KEYS = (
    *("served_model_name", "model", "devices", "parallelism", "variants", "speculative"),
    *("figures", "verify", "omitted", "engine.patches", "engine.switches.tool_calling"),
)
MODELS_FLAGS = (
    *("enable-auto-tool-choice", "enable-expert-parallel", "ep-size", "max-model-len"),
    *("max-num-batched-tokens", "max-num-seqs", "quantization", "reasoning-parser"),
    *("tool-call-parser", "trust-remote-code"),
)
FILES = {str(path.relative_to(BASE)): path.read_text() for path in sorted(BASE.rglob("*.yml"))}
MODELS = {name: text for name, text in FILES.items() if name.startswith("models/")}
# minimax, and makers whose models there are not yet.
NAMES = {Path(name).stem.split("-")[0] for name in MODELS} | {"deepseek", "glm", "kimi", "qwen"}


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


# Those that are a model's own: small ones are anybody's.
FIGURES = {
    str(number)
    for text in MODELS.values()
    for number in numbers(yaml.safe_load(text).get("model", {}))
    if number >= 100
}


def without_model(name: str) -> bool:
    shelf, stem = name.split("/")
    return shelf in ("engines", "platforms") or (
        shelf == "pairs" and stem.split("-")[0] not in NAMES
    )


def keys(document: Any, *wanted: str) -> Iterator[str]:
    """Those of the dotted keys that a document has."""
    for path in wanted:
        value = document
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            yield path


def facts_of_a_model(text: str) -> list[str]:
    """What a file says that is only true of some model, a line each."""
    document = yaml.safe_load(text)
    return [
        *(f"the key {key}" for key in keys(document, *MODELS_KEYS)),
        *(f"the flag {flag}" for flag in MODELS_FLAGS if flag in document.get("args", {})),
        *(f"the name {name}" for name in sorted(NAMES) if name in text.lower()),
        *(
            f"the figure {n}"
            for n in sorted(FIGURES)
            if re.search(rf"(?<![\w.]){n}(?![\w.])", text)
        ),
    ]


@pytest.mark.parametrize("name", [name for name in FILES if without_model(name)])
def test_engines_and_platforms_say_nothing_of_a_model(name: str) -> None:
    found = facts_of_a_model(FILES[name])
    assert not found, (
        f"_base/{name}: move these to _base/models, or to a pair of the model: {found}"
    )


def test_facts_of_a_model_are_found_where_they_are() -> None:
    assert "the figure 1536" in facts_of_a_model(FILES["models/minimax-m2-family.yml"])
    found = facts_of_a_model(FILES["pairs/minimax-m2-vllm-nvidia.yml"])
    assert {"the key variants", "the flag reasoning-parser", "the name minimax"} <= set(found)
    advice = "advice:\n  - reason: an expert's 1536 rows are cut\n"
    assert facts_of_a_model(advice) == ["the figure 1536"]


@pytest.mark.parametrize("shelf", ["engines", "platforms"])
def test_an_engine_and_a_platform_name_no_version_to_serve_with(shelf: str) -> None:
    for name in (name for name in FILES if name.startswith(shelf)):
        given = list(keys(yaml.safe_load(FILES[name]), "engine.version", "engine.holds_for"))
        assert not given, f"_base/{name}: {given} is for those who tried it: move it to a pair"


@pytest.mark.parametrize("name", FILES)
def test_a_shelf_holds_what_its_readme_says(name: str) -> None:
    shelf = name.split("/")[0]
    document = yaml.safe_load(FILES[name])
    for base in document.pop("extends", []):
        assert base.split("/")[1] in BELOW[shelf], f"_base/{name} extends {base}"
    engine = document.pop("engine", {})
    given = {*document, *(f"engine.{key}" for key in engine)}
    if shelf in HOLDS:
        assert given <= set(HOLDS[shelf].split()), f"_base/{name} is on the wrong shelf"


def test_every_base_is_used() -> None:
    used = {
        base
        for path in (ROOT / "recipes").rglob("*.yml")
        for base in yaml.safe_load(path.read_text()).get("extends", [])
    }
    assert {f"_base/{name.removesuffix('.yml')}" for name in FILES} == used


# --- a model that the collection does not know ----------------------------------------------------

QWEN: dict[str, Any] = {
    "summary": "A mixture of experts in the style of Qwen3, in bf16",
    "served_model_name": "Qwen/Qwen3-Made-Up",
    "nodes": 1,
    "devices": 8,
    "model": {
        "id": "Qwen3-Made-Up",
        "architecture": "Qwen3MoeForCausalLM",
        "sources": {"huggingface": {"id": "Qwen/Qwen3-Made-Up", "revision": "main"}},
        "format": "bf16",
        "size_gb": 61,
        "max_context": 40960,
        "kv_heads": 4,
        "kv_gb_per_million_tokens": 98,
        "expert_share": 0.95,
        "expert_rows": 768,
        "licence": "Apache-2.0",
    },
    "parallelism": {"tensor": 8, "data": 1},
    "features": ["chat"],
}
SGLANG: dict[str, Any] = {
    "version": "0.5.10",
    "holds_for": ">=0.5.7",
    "image": "lmsysorg/sglang:v{version}",
}
VLLM: dict[str, Any] = {
    "version": "0.22.1",
    "holds_for": ">=0.12",
    "image": "vllm/vllm-openai:v{version}",
    "installs": ["container"],
}
ASCEND: dict[str, Any] = {"version": "0.23.0", "holds_for": ">=0.18"}
# What a recipe extends, what it says of the engine, and its flags.
STARTS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "sglang on nvidia": (["engines/sglang", "platforms/nvidia"], SGLANG, {}),
    "sglang on amd": (["engines/sglang", "platforms/amd-instinct"], SGLANG, {}),
    "vllm on nvidia": (["engines/vllm", "platforms/nvidia"], VLLM, {}),
    "vllm on amd": (["engines/vllm", "platforms/amd-instinct"], VLLM, {}),
    "vllm-ascend on a2": (
        ["engines/vllm-ascend", "platforms/ascend-a2"],
        ASCEND,
        {"enable-expert-parallel": True},
    ),
    "the pair of sglang and nvidia": (["pairs/sglang-nvidia"], SGLANG, {}),
    "the pair of vllm and nvidia": (["pairs/vllm-nvidia"], VLLM, {}),
    "the pair of vllm and rocm": (["pairs/vllm-rocm"], {}, {}),
    "the pair of vllm-ascend and a3": (
        ["pairs/vllm-ascend-a3"],
        ASCEND,
        {"enable-expert-parallel": True},
    ),
}


def write(folder: Path, bases: list[str], engine: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Write a recipe of one's own, and return the variables that choose it."""
    recipe = {**QWEN, "extends": [f"_base/{base}" for base in bases], "engine": engine, **more}
    name = f"qwen3-made-up/{len(list(folder.rglob('*.yml')))}"
    (folder / "qwen3-made-up").mkdir(exist_ok=True)
    (folder / f"{name}.yml").write_text(yaml.safe_dump(recipe))
    return host(1, name, recipes_path=[str(folder)], model_path="/models/qwen")


@pytest.mark.parametrize("start", STARTS)
def test_a_model_of_ones_own_gets_nothing_of_another(start: str, tmp_path: Path) -> None:
    bases, engine, args = STARTS[start]
    chosen = write(tmp_path, bases, engine, args={**args, "max-num-seqs": 16} if args else {})
    made = plan(view(c=[chosen]))
    assert "minimax" not in json.dumps(made).lower()
    assert "tools" not in made["endpoint"]["features"]
    # One of AMD's own kernels warns whatever the model is.
    assert [text for text in made["warnings"] if "AITER" not in text] == []
    given = flags(made["units"][0])
    assert not set(given) & (set(MODELS_FLAGS) - set(args) - {"max-num-seqs"})


@pytest.mark.parametrize(
    ("bases", "engine", "flag"),
    [
        (["engines/sglang", "platforms/nvidia"], SGLANG, {"ep-size": 8}),
        (["engines/vllm", "platforms/nvidia"], VLLM, {"enable-expert-parallel": True}),
    ],
)
def test_scales_for_blocks_bound_how_experts_are_cut(
    bases: list[str], engine: dict[str, Any], flag: dict[str, Any], tmp_path: Path
) -> None:
    blocks = {**QWEN["model"], "format": "fp8", "scale_block": 128}
    chosen = write(tmp_path, bases, engine, model=blocks)
    (said,) = problems(view(c=[chosen]))
    assert "an expert's 768 rows into parts of 96, and the fp8 scales are for blocks of 128" in said
    size = {"ep-size": "tp-size"}.get(next(iter(flag)), "tensor-parallel-size")
    assert f"use {size} 2, or expert parallelism over all ranks ({next(iter(flag))})" in said
    assert not problems(view(c=[write(tmp_path, bases, engine, model=blocks, args=flag)]))
    wide = {**blocks, "expert_rows": 2048}
    assert not problems(view(c=[write(tmp_path, bases, engine, model=wide)]))


def test_tool_calls_want_the_parser_of_the_model(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"enable-auto-tool-choice": True}
    bases = ["engines/vllm", "platforms/nvidia"]
    (said,) = problems(view(c=[write(tmp_path, bases, VLLM, args=asked)]))
    assert "vLLM does not start with tool calls and without a parser" in said
    asked["tool-call-parser"] = "hermes"
    assert not problems(view(c=[write(tmp_path, bases, VLLM, args=asked)]))


def test_a_base_of_two_bases_is_laid_on_once(tmp_path: Path) -> None:
    """The platform's own base does not undo what the pair before it changed."""
    bases = ["pairs/sglang-nvidia", "platforms/nvidia-hgx-b200"]
    made = plan(view(c=[write(tmp_path, bases, SGLANG)]))
    assert made["platform"]["name"] == "nvidia-hgx-b200"
    assert made["units"][0]["image"].startswith("lmsysorg/sglang")
    # The pair has none for what is beside weights and cache, the GPUs' own base has 4 GB a device.
    memory = made["memory"]
    assert memory["cache_gb"] == round(memory["rank_gb"] - memory["weights_gb"], 1)
