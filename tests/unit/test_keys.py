"""What stands inside the JSON of flags: refused as the engine would, told where it does nothing."""

import json
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import keys
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import SINGLE, host, plan, problems, view

NVIDIA = "minimax-m2.5/vllm-nvidia"
SGLANG = "minimax-m2/sglang-nvidia"
WHOLE = "a whole number"
A3 = "minimax-m2.5-w8a8/vllm-ascend-a3"


def one(recipe: str, flags: dict[str, Any], **variables: Any) -> Any:
    return view(c=[host(1, recipe, engine_args=flags, **variables)])


def ngram(**said: Any) -> dict[str, Any]:
    return {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3, **said}}


def eagle(**said: Any) -> dict[str, Any]:
    given = {"method": "eagle3", "model": "org/draft", "num_speculative_tokens": 3, **said}
    return {"speculative-config": given}


def compilation(**said: Any) -> dict[str, Any]:
    return {"compilation-config": said}


def ascend(**said: Any) -> dict[str, Any]:
    return {"additional-config": said}


REFUSED = [
    # Types.
    (NVIDIA, compilation(pass_config=[]), "pass_config has to be a map, not []"),
    (NVIDIA, compilation(pass_config={"fuse_norm_quant": "x"}), "has to be true or false, not 'x'"),
    (NVIDIA, compilation(cudagraph_capture_sizes=5), "has to be a list of whole numbers, not 5"),
    (NVIDIA, compilation(cudagraph_capture_sizes=["a"]), "has to be a list of whole numbers"),
    (NVIDIA, compilation(custom_ops="none"), "custom_ops has to be a list, not 'none'"),
    (NVIDIA, ngram(num_speculative_tokens=2.5), "has to be a whole number, not 2.5"),
    (NVIDIA, ngram(num_speculative_tokens=True), "has to be a whole number, not True"),
    (NVIDIA, eagle(model=5), "model has to be text, not 5"),
    (NVIDIA, {"hf-overrides": {"max_position_embeddings": "long"}}, "a whole number from 1"),
    (NVIDIA, {"hf-overrides": {"max_position_embeddings": -1}}, "a whole number from 1, not -1"),
    (NVIDIA, {"hf-overrides": {"rope_scaling": "yarn"}}, "rope_scaling has to be a map"),
    (NVIDIA, {"hf-overrides": {"rope_parameters": {"factor": -2}}}, "factor has to be a number"),
    # The text "false" is true to what reads a switch as it stands.
    (SINGLE, ascend(enable_cpu_binding="false"), "true or false, without quotes, not 'false'"),
    (SINGLE, ascend(ascend_compilation_config=True), "ascend_compilation_config has to be a map"),
    (
        NVIDIA,
        {"model-loader-extra-config": {"enable_multithread_load": "no"}},
        "true or false, without quotes",
    ),
    (SGLANG, {"json-model-override-args": "{bad"}, "a map, or the JSON text of one"),
    (SGLANG, {"model-loader-extra-config": "[1]"}, "a map, or the JSON text of one"),
    (SGLANG, {"kv-events-config": 5}, "a map, or the JSON text of one"),
    # Choices and bounds.
    (NVIDIA, compilation(cudagraph_mode="FULLY"), "did you mean FULL?"),
    (NVIDIA, compilation(mode=9), "compilation-config.mode: 9 is no value"),
    (NVIDIA, compilation(cudagraph_capture_sizes=[8, -1]), "has to be 1 or more, not -1"),
    (NVIDIA, eagle(method="eagel3"), "did you mean eagle3?"),
    (NVIDIA, ngram(num_speculative_tokens="0"), "num_speculative_tokens has to be 1 or more"),
    (NVIDIA, ngram(prompt_lookup_min=5, prompt_lookup_max=2), "2 is less than"),
    (NVIDIA, {"kv-transfer-config": {"kv_role": "both"}}, "did you mean kv_both?"),
    (SINGLE, ascend(weight_nz_mode=7), "weight_nz_mode has to be 0 or more and at most 2, not 7"),
    # Contradictions, within the JSON and with the plan.
    (NVIDIA, {"speculative-config": {}}, "model does not name the draft weights"),
    (NVIDIA, eagle(model=""), "the method eagle3 needs them"),
    (NVIDIA, {"speculative-config": {"method": "ngram"}}, "num_speculative_tokens has to be said"),
    (NVIDIA, eagle(draft_tensor_parallel_size=2), "has to be 1 or that of the model, 4"),
    (NVIDIA, eagle(tensor_parallel_size=4), "its name is draft_tensor_parallel_size"),
    (NVIDIA, eagle(max_model_len=10**7), "max_model_len 10000000 is beyond that of the model"),
    (NVIDIA, {**ngram(), "spec-tokens": 3}, "are one setting, and the engine refuses both"),
    (
        NVIDIA,
        {**compilation(cudagraph_capture_sizes=[1]), "cudagraph-capture-sizes": [1]},
        "--cudagraph-capture-sizes and cudagraph_capture_sizes in --compilation-config",
    ),
    (
        NVIDIA,
        compilation(cudagraph_capture_sizes=[1, 2], max_cudagraph_capture_size=8),
        "max_cudagraph_capture_size 8, is none of",
    ),
    (NVIDIA, compilation(cudagraph_capture_sizes=[]), "cudagraph_capture_sizes is empty"),
    (NVIDIA, compilation(custom_ops=["all", "none"]), "custom_ops has both all and none"),
    (NVIDIA, {"kv-transfer-config": {"kv_connector": "NixlConnector"}}, "needs a kv_role"),
    (NVIDIA, {"model-loader-extra-config": {"concurrency": 8}}, "load-format auto takes"),
    (NVIDIA, {"cudagraph-capture-sizes": [8, 0]}, "cudagraph-capture-sizes has to be 1 or more"),
    (SGLANG, {"cuda-graph-bs": [0]}, "cuda-graph-bs has to be 1 or more, not 0"),
    (SGLANG, {"nccl-port": 70000}, "nccl-port has to be 1 or more and at most 65535"),
    (NVIDIA, {"cudagraph-capture-sizes": ["a"]}, "has to be 1 or more, not 'a'"),
    (
        NVIDIA,
        {"max-num-partial-prefills": 2, "max-long-partial-prefills": 3},
        "max-num-partial-prefills 2 is less than max-long-partial-prefills 3",
    ),
    (NVIDIA, {"eplb-config": {"num_redundant_experts": 8}}, "needs enable-eplb"),
    (NVIDIA, {"profiler-config": {"torch_profiler_dir": "/p"}}, "set muster_profiler_dir"),
    (
        NVIDIA,
        {"hf-overrides": {"max_position_embeddings": 4096}, "max-model-len": 8192},
        "max-model-len 8192 is beyond the context of 4096 that hf-overrides leaves the model",
    ),
    (
        SINGLE,
        ascend(finegrained_tp_config={"lmhead_tensor_parallel_size": 3}),
        "lmhead_tensor_parallel_size 3 does not divide the data parallel size",
    ),
]


@pytest.mark.parametrize(("recipe", "flags", "expected"), REFUSED)
def test_what_the_engine_would_refuse_is_refused(
    recipe: str, flags: dict[str, Any], expected: str
) -> None:
    (error,) = problems(one(recipe, flags))
    assert expected in error


TOLD = [
    (NVIDIA, {"kv-transfer-config": {"kv_role": "kv_both"}}, "kv_role (kv_connector is not set)"),
    (
        NVIDIA,
        {"kv-transfer-config": {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}},
        "has no engines that are the other side",
    ),
    (NVIDIA, {"eplb-config": {"window_size": 10}}, "--eplb-config (enable-eplb is not set)"),
    (NVIDIA, {"hf-overrides": {"num_hidden_layers": 2}}, "the weights have the shape"),
    (NVIDIA, {"enforce-eager": True, "cudagraph-capture-sizes": [1]}, "their sizes do nothing"),
    (
        NVIDIA,
        {"enforce-eager": True, **compilation(cudagraph_capture_sizes=[1])},
        "remove cudagraph_capture_sizes from compilation-config",
    ),
    (NVIDIA, {"lora-modules": ["a=org/adapter"]}, "vLLM loads no adapter"),
    (SINGLE, ascend(enable_flashcomm1=False), "can give garbled output"),
]


@pytest.mark.parametrize(("recipe", "flags", "expected"), TOLD)
def test_what_does_nothing_or_harm_is_told(
    recipe: str, flags: dict[str, Any], expected: str
) -> None:
    assert expected in "\n".join(plan(one(recipe, flags))["warnings"])


TAKEN = [
    (NVIDIA, compilation(pass_config={})),
    (NVIDIA, compilation(cudagraph_mode="full_and_piecewise", mode=3)),
    (NVIDIA, compilation(cudagraph_mode=2, mode="vllm_compile")),
    (NVIDIA, compilation(cudagraph_capture_sizes=[1, 2, 8], max_cudagraph_capture_size=8)),
    (NVIDIA, compilation(inductor_compile_config={"max_autotune": True})),
    # Guides write numbers and switches as texts, and the classes read them.
    (
        NVIDIA,
        {
            "kv-transfer-config": {
                "kv_connector": "LMCacheConnectorV1",
                "kv_role": "kv_both",
                "kv_port": "20001",
                "kv_connector_extra_config": {"any": ["thing"]},
            }
        },
    ),
    (NVIDIA, {"kv-events-config": {"enable_kv_cache_events": "True", "publisher": "zmq"}}),
    (NVIDIA, ngram(prompt_lookup_max=4, prompt_lookup_min=2)),
    (NVIDIA, {"speculative-config": {"method": "suffix"}}),
    (NVIDIA, eagle(draft_tensor_parallel_size=1, quantization="fp8")),
    (NVIDIA, eagle(method=None, num_speculative_tokens=None)),
    (NVIDIA, {"kernel-config": {"moe_backend": "flashinfer-cutlass"}}),
    (NVIDIA, {"hf-overrides": {"use_cache": True}}),
    (NVIDIA, {"cudagraph-capture-sizes": [1, 2, 4]}),
    (
        NVIDIA,
        {"load-format": "runai_streamer", "model-loader-extra-config": {"concurrency": 8}},
    ),
    (SINGLE, ascend(enable_cpu_binding=False, refresh=1)),
    (SGLANG, {"json-model-override-args": {"use_cache": True}}),
    (SGLANG, {"model-loader-extra-config": '{"enable_multithread_load": true}'}),
]


@pytest.mark.parametrize(("recipe", "flags"), TAKEN)
def test_what_the_engine_takes_is_planned_without_a_word(
    recipe: str, flags: dict[str, Any]
) -> None:
    assert plan(one(recipe, flags))["warnings"] == plan(one(recipe, {}))["warnings"]


@pytest.mark.parametrize(
    ("recipe", "name", "right", "wrong", "expected"),
    [
        (SINGLE, "VLLM_ASCEND_ENABLE_FLASHCOMM1", ["0", "1"], ["true", "", "1.0"], WHOLE),
        (SINGLE, "HCCL_BUFFSIZE", ["512"], ["many", "512M"], WHOLE),
        (NVIDIA, "VLLM_ENGINE_READY_TIMEOUT_S", ["600", " 600 "], ["10m", "true"], WHOLE),
        # These are read as words.
        (NVIDIA, "VLLM_ALLOW_LONG_MAX_MODEL_LEN", ["true", "1"], [], ""),
        (NVIDIA, "VLLM_LOGGING_LEVEL", ["DEBUG"], [], ""),
        # What SGLang cannot read it passes over, and takes its default.
        (SGLANG, "SGLANG_LOG_REQUEST_EXCEEDED_MS", ["-1", "5"], ["5s", "true"], WHOLE),
        (SGLANG, "SGLANG_TEST_STUCK_DETOKENIZER", ["0", "1.5"], ["soon"], "a number"),
        (SGLANG, "SGLANG_LOG_GC", ["True", "y", "0", "NO"], ["on", "2", " 1", ""], "true or false"),
        # Two readers: one takes yes, the other takes it for no.
        (SGLANG, "SGLANG_RETURN_ORIGINAL_LOGPROB", ["true", "1", "0"], ["yes", "off"], "(or 1"),
        (SGLANG, "SGLANG_DISABLED_MODEL_ARCHS", ["a,b", ""], [], ""),
    ],
)
def test_a_variable_is_what_the_engine_can_read(
    recipe: str, name: str, right: list[str], wrong: list[str], expected: str
) -> None:
    def told(value: str, **more: Any) -> list[str]:
        return problems(view(c=[host(1, recipe, engine_env={name: value}, **more)]))

    assert [value for value in right if told(value)] == []
    for value in wrong:
        (error,) = told(value)
        assert f"{name} has to be " in error
        assert expected in error
    assert [value for value in wrong if told(value, engine_unchecked=[name])] == []


def test_a_name_of_unchecked_lets_a_key_and_its_value_pass() -> None:
    flags = compilation(mode=9, cudagraph_capture_sizes=[0], brand_new=1)
    names = ["mode", "cudagraph_capture_sizes", "brand_new"]
    for unchecked in (["compilation-config"], [f"compilation_config.{name}" for name in names]):
        assert problems(one(NVIDIA, flags, engine_unchecked=unchecked)) == []


def test_a_map_for_sglang_is_written_as_json() -> None:
    over = {"json-model-override-args": {"max_position_embeddings": 4096}, "context-length": 2048}
    argv = plan(one(SGLANG, over))["units"][0]["argv"]
    text = argv[argv.index("--json-model-override-args") + 1]
    assert json.loads(text) == over["json-model-override-args"]


def test_a_draft_of_the_recipe_is_held_to_the_plan() -> None:
    said = {"speculative-config": {"draft_tensor_parallel_size": 8}}
    (error,) = problems(one(A3, said, draft_model_path="/draft"))
    assert "has to be 1 or that of the model" in error
    assert problems(one(A3, {}, draft_model_path="/draft")) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
FLAGS = ["compilation-config", "speculative-config", "kv-transfer-config", "eplb-config"]
KEYS = [
    *("pass_config", "custom_ops", "cudagraph_capture_sizes", "max_cudagraph_capture_size"),
    *("method", "model", "draft_tensor_parallel_size", "max_model_len", "kv_role", "kv_connector"),
    *("num_redundant_experts", "mode", "cudagraph_mode", "num_speculative_tokens"),
]


@given(st.sampled_from(FLAGS), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_value_is_refused_or_taken_and_nothing_breaks(flag: str, value: dict[str, Any]) -> None:
    assert all(error.startswith("c: ") for error in problems(one(NVIDIA, {flag: value})))


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("bool", [True, 0, "false", "on"], [2, "maybe", [], "", None]),
        ("switch", [True, False, 1], ["true", "1", 2, [], None]),
        ("int", [1, -1, 2.0, "7"], [True, 1.5, "1.5", "x", "", [], float("inf"), None]),
        ("float", [1, 0.5, "1e9", "3."], ["x", True, [], float("nan"), None]),
        ("str", ["", "x"], [1, True, [], None]),
        ("list", [[], [1]], ["x", 1, None]),
        ("ints", [[], [1, "2"]], [[1.5], ["x"], 1, [None], None]),
        ("", [1, "x", [], None], []),
    ],
)
def test_types(kind: str, right: list[Any], wrong: list[Any]) -> None:
    table = {"config": {"key": kind or "*"}}

    def told(value: Any) -> list[str]:
        return keys.problems({"config": {"key": value}}, table, "vllm", "1.0.0", ())

    assert [value for value in right if told(value)] == []
    # Null removes a key, so it is right everywhere.
    assert [value for value in wrong if value is not None and not told(value)] == []
