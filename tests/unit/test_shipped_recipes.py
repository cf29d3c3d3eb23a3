"""The recipes of the collection: whole, fit for their platforms, and as the guides have them."""

import re
from collections import defaultdict
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.node import look_io as node_look
from ansible_collections.muster.serving.plugins.plugin_utils.plan import known, rendering, versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import checks_of, needs_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book

from tests.conftest import ROOT
from tests.unit.plan_support import flags, host, load, plan, problems, view

SHIPPED = recipe_book()
CASES = [(name, variant) for name in SHIPPED.names() for variant in SHIPPED.variants(name)]
A3 = ["short-context", "long-context", "low-latency"]
# Inventories name these: more may come, and none may go.
PROMISED = {
    f"minimax-{model}/{platform}": variants
    for models, platform, variants in (
        ("m2.5-w8a8 m2.7-w8a8", "vllm-ascend-a3", A3),
        ("m2.5 m2.7", "vllm-ascend-a3", ["tp4-dp4"]),
        ("m2.5 m2.7", "vllm-ascend-a2", ["tp8-dp2"]),
        ("m2.5-w8a8 m2.7-w8a8", "vllm-ascend-a2", ["tp8"]),
        ("m2 m2.1 m2.5 m2.7", "vllm-nvidia", ["tp4-ep", "tp4", "tp8-ep", "dp8-ep"]),
        ("m2 m2.1 m2.5 m2.7", "vllm-rocm", ["tp4", "tp2"]),
        ("m2.5", "vllm-b200", ["tp4"]),
        ("m2.5-nvfp4", "vllm-b200", ["tp2"]),
        ("m2 m2.1", "sglang-rocm", ["tp4", "tp8-ep8"]),
        ("m2 m2.1", "sglang-nvidia", ["tp8-ep8", "tp4"]),
    )
    for model in models.split()
}


def served(name: str, variant: str, **variables: Any) -> Any:
    """An inventory of one replica."""
    nodes = load(name, variant)["nodes"]
    return view(c=[host(i + 1, name, variant=variant, **variables) for i in range(nodes)])


def unit_of(name: str, variant: str, **variables: Any) -> Any:
    """The unit of a replica that has one alone."""
    (unit,) = plan(served(name, variant, **variables))["units"]
    return unit


@pytest.mark.parametrize(("name", "variants"), PROMISED.items(), ids=list(PROMISED))
def test_the_promised_recipes_are_there(name: str, variants: list[str]) -> None:
    assert SHIPPED.variants(name)[: len(variants)] == variants


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_the_check_modules_take_what_they_need(name: str, variant: str) -> None:
    made = plan(served(name, variant))
    vendor = made["platform"]["vendor"]
    devices = "npu_topology_check" if vendor == "ascend" else "gpu_topology_check"
    for checks in checks_of(made, needs_of(made)).values():
        assert set(checks) == {"host_check", "nic_check", devices, "port_check"}
        for module, options in checks.items():
            node_look.options_of("checks", module, options)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_they_are_whole(name: str, variant: str) -> None:
    recipe = load(name, variant)
    engine = recipe["engine"]
    assert versions.matches(engine["version"], engine["holds_for"])
    types, computed = known.flag_types(engine["flags"]), dialect_of(recipe).computed
    assert rendering.check_flags(recipe["args"], types, computed, name) == []
    assert known.unknown_flags(recipe["args"], engine["flags"], "", engine["version"], ()) == []
    for rule in engine["rules"]:
        versions.matches("1.0", rule["versions"])
    for answer in recipe["verify"]["known_answers"]:
        re.compile(answer["expect"])
    assert any(recipe["model"]["sources"].values()), "no hub has the weights"
    assert recipe["evidence"]["note"]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_they_hold_nothing_that_the_plan_computes(name: str, variant: str) -> None:
    recipe = load(name, variant)
    computed = {env for names in recipe["platform"]["env"].values() for env in names}
    assert not computed & set(recipe["env"])
    addresses = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")
    assert not addresses.search(yaml.safe_dump({k: recipe[k] for k in ("args", "env", "mounts")}))


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_they_fit_their_platform_and_heed_their_own_advice(name: str, variant: str) -> None:
    recipe = load(name, variant)
    draft = "/models/draft" if "speculative" in recipe else None
    made = plan(served(name, variant, draft_model_path=draft))
    assert made["warnings"] == recipe.get("warnings", [])
    assert made["engine"]["changes"] == []


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_they_claim_nothing_that_their_model_cannot(name: str, variant: str) -> None:
    """Contexts, and the prompts and answers of published figures, are no longer than the model's
    own; what a model takes follows from its layers, heads and experts."""
    recipe = load(name, variant)
    model, claimed = recipe["model"], recipe["args"].get(dialect_of(recipe).context, 0)
    assert claimed <= model["max_context"]
    for figure in recipe.get("figures", []):
        lengths = re.match(r"([\d.]+)(k?)(?:/([\d.]+)(k?))?\b", figure["scenario"])
        if lengths:
            asked, k, answered, k_too = lengths.groups(default="")
            tokens = float(asked) * (1000 if k else 1)
            tokens += float(answered or 0) * (1000 if k_too else 1)
            assert tokens <= model["max_context"], figure["scenario"]
    expert = 3 * model["hidden_size"] * model["expert_rows"]
    experts_gb = model["layers"] * model["experts"] * expert / 1e9
    if model["format"] != "nvfp4":
        # One byte a weight. Guides round, and some count 2**30 bytes as a GB.
        assert model["size_gb"] * model["expert_share"] == pytest.approx(experts_gb, rel=0.08)
    cache_gb = model["layers"] * 2 * model["kv_heads"] * model["head_size"] * 2 / 1e3
    assert model["kv_gb_per_million_tokens"] == pytest.approx(cache_gb, rel=0.08)


def test_the_numbers_of_a_model_stand_in_one_place() -> None:
    """On the shelf of models alone, so that a recipe cannot claim other ones."""
    for path in sorted((ROOT / "recipes").rglob("*.yml")):
        model = yaml.safe_load(path.read_text()).get("model", {})
        if path.parent.name != "models":
            assert not model, f"{path.relative_to(ROOT)}: move model to recipes/_base/models"


def test_nothing_is_written_twice() -> None:
    most = 5
    places: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "recipes").rglob("*.yml")):
        if path.match("knows/*-values.yml"):
            # Two engines that take the same are no copies of each other.
            continue
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        for first in range(len(lines) - most):
            block = "\n".join(lines[first : first + most + 1])
            places[block].add(str(path.relative_to(ROOT)))
    twice = {block: files for block, files in places.items() if len(files) > 1}
    assert not twice, "move what these share to a file in recipes/_base"


def test_the_commands_for_an_a3_node() -> None:
    name = "minimax-m2.5-w8a8/vllm-ascend-a3"
    units = {variant: unit_of(name, variant, draft_model_path="/models/draft") for variant in A3}
    args = {variant: flags(unit) for variant, unit in units.items()}
    sizes = ("tensor-parallel-size", "data-parallel-size", "max-model-len", "max-num-seqs")
    assert {variant: [own[size] for size in sizes] for variant, own in args.items()} == {
        "short-context": ["4", "4", "40690", "48"],
        "long-context": ["8", "1", "138000", "16"],
        "low-latency": ["16", "1", "32768", "48"],
    }
    drafts = {v: yaml.safe_load(own["speculative-config"] or "") for v, own in args.items()}
    tokens = [drafts[variant].pop("num_speculative_tokens") for variant in A3]
    assert tokens == [3, 1, 3]
    eagle3 = {"enforce_eager": True, "method": "eagle3", "model": "/models/draft"}
    assert list(drafts.values()) == [eagle3] * 3
    assert args["long-context"]["prefill-context-parallel-size"] == "2"
    assert args["long-context"]["cp-kv-cache-interleave-size"] == "128"
    assert "enable-auto-tool-choice" not in args["short-context"]
    balanced = [v for v in A3 if "VLLM_ASCEND_BALANCE_SCHEDULING" in units[v]["env"]]
    assert balanced == ["short-context"]
    unit = units["short-context"]
    assert unit["image"].endswith("-a3")
    assert (unit["container"]["ipc"], unit["container"]["shm_size"]) == (None, "1g")
    assert unit["device_nodes"][:16] == [f"/dev/davinci{number}" for number in range(16)]


def test_a_container_gets_the_gpus_that_its_variant_needs() -> None:
    unit = unit_of("minimax-m2.7/vllm-nvidia", "tp4-ep")
    assert unit["container"]["gpus"] == [0, 1, 2, 3]
    compilation = yaml.safe_load(flags(unit)["compilation-config"] or "")
    assert compilation == {"mode": 3, "pass_config": {"fuse_minimax_qk_norm": True}}


def test_deep_gemm_can_be_turned_off() -> None:
    name, variant = "minimax-m2.7/vllm-nvidia", "tp4"
    assert "VLLM_USE_DEEP_GEMM" not in unit_of(name, variant)["env"]
    assert unit_of(name, variant, deep_gemm=True)["env"]["VLLM_USE_DEEP_GEMM"] == "1"
    assert unit_of(name, variant, deep_gemm=False)["env"]["VLLM_USE_DEEP_GEMM"] == "0"


@pytest.mark.parametrize(
    ("variables", "compiler", "first_start"),
    [
        ({}, None, False),
        ({"install": "venv"}, "required", True),
        ({"install": "venv", "engine_version": "0.19.1"}, "used", True),
        (
            {"install": "venv", "engine_env": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}},
            "used",
            True,
        ),
    ],
)
def test_kernels_are_compiled_on_the_node_where_no_image_brings_them(
    variables: Any, compiler: str | None, first_start: bool
) -> None:
    made = plan(served("minimax-m2.5/vllm-nvidia", "tp4", **variables))
    assert made["engine"]["compiler"] == compiler
    (unit,) = made["units"]
    assert bool(unit["first_start"]) is first_start
    if first_start:
        assert unit["first_start"]["cache"] == f"/var/cache/muster/{unit['name']}/.cache/flashinfer"
        assert set(unit["first_start"]) == {"cache", "extra_s", "reason"}
    (checks,) = checks_of(made, needs_of(made)).values()
    assert checks["gpu_topology_check"]["compiler"] == compiler


def test_the_kernels_that_aiter_compiles_stay_on_the_node() -> None:
    unit = unit_of("minimax-m2.7/vllm-rocm", "tp2")
    source, inside = next(m.split(":")[:2] for m in unit["mounts"] if "/cache/" in m)
    assert unit["env"]["AITER_JIT_DIR"].startswith(f"{inside}/")
    assert unit["first_start"]["cache"] == unit["env"]["AITER_JIT_DIR"].replace(inside, source)
    assert unit["device_nodes"] == ["/dev/kfd", "/dev/dri"]
    assert unit["env"]["HIP_VISIBLE_DEVICES"] == "0,1"


def test_sglang_on_amd_has_the_guides_changes_and_not_its_privileges() -> None:
    made = plan(served("minimax-m2.1/sglang-rocm", "tp8-ep8"))
    (unit,) = made["units"]
    assert unit["image"] == made["engine"]["derived"]["image"]
    assert not unit["container"]["privileged"]
    assert unit["container"]["cap_add"] == ["SYS_PTRACE"]
    assert unit["device_nodes"] == ["/dev/kfd", "/dev/dri"]
    assert unit["argv"][:3] == ["python3", "-m", "sglang.launch_server"]
    assert flags(unit)["ep-size"] == "8"


REFUSED = {
    "pure tensor parallelism of 8": (
        ("minimax-m2/vllm-nvidia", "tp8-ep"),
        {"enable-expert-parallel": False},
        "pure tensor parallelism of 8 is not supported",
    ),
    "the same with SGLang": (
        ("minimax-m2/sglang-nvidia", "tp8-ep8"),
        {"ep-size": None},
        "pure tensor parallelism of 8 is not supported",
    ),
    "expert load balancing on Ascend": (
        ("minimax-m2.5-w8a8/vllm-ascend-a3", "short-context"),
        {"additional-config": {"eplb_config": {"dynamic_eplb": True}}},
        "no expert load balancing",
    ),
    "another quantisation of weights of eight bits": (
        ("minimax-m2.5-w8a8/vllm-ascend-a2", "tp8"),
        {"quantization": "fp8"},
        "leave quantization at ascend",
    ),
    "another quantisation of weights that are fp8": (
        ("minimax-m2.5/vllm-nvidia", "tp4"),
        {"quantization": "awq"},
        "the weights say of themselves that they are fp8",
    ),
    "fused MC2 on A2": (
        ("minimax-m2.7-w8a8/vllm-ascend-a2", "tp8"),
        {"additional-config": {"enable_fused_mc2": True}},
        "fused MC2 is an operator of Atlas A3",
    ),
}


@pytest.mark.parametrize(("recipe", "args", "expected"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_serve_is_refused(
    recipe: tuple[str, str], args: dict[str, Any], expected: str
) -> None:
    assert expected in "\n".join(problems(served(*recipe, engine_args=args)))


WARNED = {
    "experts without FlashComm1": (
        {"VLLM_ASCEND_ENABLE_FLASHCOMM1": None},
        {},
        "can give garbled output",
    ),
    "experts with FlashComm1 off": (
        {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "0"},
        {},
        "can give garbled output",
    ),
    "FlashComm1 without expert parallelism": (
        {},
        {"enable-expert-parallel": None},
        "does not start with FlashComm1",
    ),
    "balance scheduling of long contexts": (
        {"VLLM_ASCEND_BALANCE_SCHEDULING": "1"},
        {"max-model-len": 138000},
        "balance scheduling is for short contexts",
    ),
    "balance scheduling of one rank": (
        {"VLLM_ASCEND_BALANCE_SCHEDULING": "1"},
        {},
        "and there is one",
    ),
}


@pytest.mark.parametrize(("env", "args", "expected"), WARNED.values(), ids=list(WARNED))
def test_what_serves_badly_is_warned_of(
    env: dict[str, Any], args: dict[str, Any], expected: str
) -> None:
    name, variant = "minimax-m2.5-w8a8/vllm-ascend-a3", "low-latency"
    made = plan(served(name, variant, engine_env=env, engine_args=args))
    assert expected in "\n".join(made["warnings"])


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, False),
        ({"device_memory_gb": 256}, False),
        ({"device_memory_gb": 288}, True),
        ({"device_memory_gb": 288, "engine_args": {"max-num-batched-tokens": 8192}}, True),
        ({"device_memory_gb": 288, "engine_args": {"max-num-batched-tokens": "4K"}}, False),
        ({"device_memory_gb": 288, "engine_env": {"VLLM_ROCM_USE_AITER_MOE": "0"}}, False),
        ({"device_memory_gb": 288, "engine_env": {"VLLM_ROCM_USE_AITER": "0"}}, False),
    ],
)
def test_many_tokens_a_batch_are_warned_of_where_aiter_faults(
    variables: dict[str, Any], warned: bool
) -> None:
    made = plan(served("minimax-m2.5/vllm-rocm", "tp4", **variables))
    assert any("AITER's fused MoE" in line for line in made["warnings"]) is warned


@pytest.mark.parametrize(
    ("recipe", "parser", "warned"),
    [
        (("minimax-m2.5-w8a8/vllm-ascend-a2", "tp8"), "minmax_m2", True),
        (("minimax-m2.5-w8a8/vllm-ascend-a2", "tp8"), "minimax_m2", False),
        (("minimax-m2.5-w8a8/vllm-ascend-a2", "tp8"), False, False),
        (("minimax-m2/sglang-nvidia", "tp4"), "minimax_m2", True),
        (("minimax-m2/sglang-nvidia", "tp4"), "minimax", False),
    ],
)
def test_a_parser_of_no_known_name_is_asked_about(
    recipe: tuple[str, str], parser: Any, warned: bool
) -> None:
    made = plan(served(*recipe, reasoning_parser=parser))
    assert any("is none of those for this model" in line for line in made["warnings"]) is warned


def test_other_weights_may_be_of_any_format() -> None:
    args = {"quantization": "awq", "tensor-parallel-size": 8, "enable-expert-parallel": False}
    own = {"devices": list(range(8)), "engine_args": args}
    recipe = ("minimax-m2.5/vllm-nvidia", "tp4")
    assert len(problems(served(*recipe, **own))) == 2
    assert problems(served(*recipe, **own, weights_gb=130)) == []


def test_m2_7_with_the_draft_weights_of_m2_5_is_warned_of() -> None:
    recipe = ("minimax-m2.7-w8a8/vllm-ascend-a3", "short-context")
    other = plan(served(*recipe, draft_model_path="/models/MiniMax-M2.5-eagel-model"))
    assert "make M2.7 no faster" in "\n".join(other["warnings"])
    its = plan(served(*recipe, draft_model_path="/models/MiniMax-M2.7-eagle-model-short"))
    assert "no faster" not in "\n".join(its["warnings"])


FIGURES = [
    (
        ("minimax-m2.5/vllm-ascend-a2", "tp8-dp2"),
        "190k/1k, 90 % prefix repetition, concurrency 4, 16 prompts",
        {"mean_ttft_ms": 3305.25, "output_tok_per_s": 35.29},
    ),
    (
        ("minimax-m2.5-w8a8/vllm-ascend-a3", "short-context"),
        "3.5k/1k, concurrency 217",
        {"mean_ttft_ms": 10316.56, "output_tok_per_s": 4803.81},
    ),
    (
        ("minimax-m2.5-w8a8/vllm-ascend-a3", "long-context"),
        "190k/1k, concurrency 4",
        {"mean_itl_ms": 105.54, "output_tok_per_s": 37.12},
    ),
    (
        ("minimax-m2.5/vllm-b200", "tp4"),
        "2048/512, random, concurrency 512",
        {"ttft_ms": 686, "output_tok_per_s": 8822},
    ),
    (
        ("minimax-m2.1/sglang-rocm", "tp4"),
        "1000/1000, random, concurrency 1, 10 prompts",
        {"mean_ttft_ms": 4489.71, "median_ttft_ms": 382.24},
    ),
]


@pytest.mark.parametrize(("recipe", "scenario", "results"), FIGURES)
def test_published_figures_stand_beside_what_they_are_of(
    recipe: tuple[str, str], scenario: str, results: dict[str, float]
) -> None:
    figures = {f["scenario"]: f["results"] for f in load(*recipe)["figures"]}
    assert {metric: figures[scenario].get(metric) for metric in results} == results
