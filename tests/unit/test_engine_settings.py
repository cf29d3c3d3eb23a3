"""What an inventory says of the engine: refused with its cause, told of as idle, or taken."""

from typing import Any

import pytest

from tests.unit.plan_support import SINGLE, host, plan, problems, view

NVIDIA = "minimax-m2.5/vllm-nvidia"
ROCM = "minimax-m2.7/vllm-rocm"
SGLANG = "minimax-m2/sglang-nvidia"


def one(recipe: str, **variables: Any) -> Any:
    return view(c=[host(1, recipe, **variables)])


def args(**flags: Any) -> dict[str, Any]:
    return {"engine_args": flags}


def env(**variables: Any) -> dict[str, Any]:
    return {"engine_env": variables}


REFUSED = [
    # Names that nothing has do not pass by being null.
    (NVIDIA, args(max_num_seq=None), "--max-num-seq is no flag of vllm 0.22.1: did you mean"),
    (NVIDIA, env(VLLM_NOT_THERE=None), "VLLM_NOT_THERE is no variable that vllm 0.22.1 reads"),
    (
        NVIDIA,
        args(no_enable_prefix_caching=True),
        "--no-enable-prefix-caching is no flag of vllm 0.22.1 by itself: write "
        "enable-prefix-caching: false",
    ),
    (
        NVIDIA,
        args(device_memory_utilization=0.9, gpu_memory_utilization=0.8),
        "device-memory-utilization and gpu-memory-utilization are one flag: leave one out",
    ),
    (NVIDIA, args(max_lora_rank=17), "takes: known: 1, 128, 16"),
    # Lists that a command line cannot hold.
    (NVIDIA, args(cudagraph_capture_sizes=[]), "a list of one or more values"),
    (SGLANG, args(cuda_graph_bs=[]), "a list of one or more values"),
    (NVIDIA, args(allowed_media_domains=["--host"]), "a list of one or more values"),
    # What the plan decides, and what its endpoints are.
    (NVIDIA, args(ssl_keyfile="/k", ssl_certfile="/c"), "set muster_gateway_tls"),
    (SGLANG, args(ssl_keyfile="/k"), "set muster_gateway_tls"),
    (NVIDIA, args(uds="/tmp/x"), "uds cannot be set: the plan makes endpoints of an address"),
    (NVIDIA, args(device_ids="0,1"), "device-ids cannot be set: set muster_devices"),
    (SGLANG, args(base_gpu_id=4), "base-gpu-id cannot be set: set muster_devices"),
    (SGLANG, args(gpu_id_step=2), "gpu-id-step cannot be set: set muster_devices"),
    (SGLANG, args(grpc_mode=True), "the plan makes endpoints of HTTP"),
    (SGLANG, args(disaggregation_mode="prefill"), "no form of prefill and decoding apart"),
    (SGLANG, args(enable_dp_attention=True), "gives each data parallel rank devices of its own"),
    (SGLANG, args(nccl_port=8000), "nccl-port 8000 is the plan's api port (8000)"),
    (NVIDIA, env(NVIDIA_VISIBLE_DEVICES="all"), "is what the plan computes"),
    (ROCM, env(ROCR_VISIBLE_DEVICES="0"), "is what the plan computes"),
    (NVIDIA, env(VLLM_HOST_IP="224.0.0.1"), "VLLM_HOST_IP has to be an address of the node"),
    # What the engine refuses when it starts.
    (
        NVIDIA,
        args(max_num_batched_tokens=512, enable_chunked_prefill=False),
        "max-num-batched-tokens 512 is less than the longest sequence, 196608",
    ),
    (NVIDIA, args(tool_call_parser=""), "set tool-call-parser in muster_engine_args, or"),
    (NVIDIA, args(enable_eplb=True, enable_expert_parallel=False), "expert parallelism alone"),
    (NVIDIA, args(data_parallel_backend="ray"), "the plan starts every rank itself"),
    (NVIDIA, args(max_num_seqs=10**9), "at most 65536"),
    (SGLANG, args(json_model_override_args="{bad"), "or the JSON text of one"),
    (
        NVIDIA,
        {"devices": [0, 1], **args(tensor_parallel_size=2, kv_cache_memory_bytes="20g")},
        "the weights do not fit",
    ),
    # Versions, images and wheels.
    (NVIDIA, {"engine_version": "0.22"}, "'0.22' names no release"),
    (NVIDIA, {"install": "venv", "wheel_requirements": []}, "muster_wheel_requirements: nothing"),
    (
        NVIDIA,
        {"install": "venv", "wheel_requirements": ["--index-url http://x"]},
        "muster_wheel_requirements: '--index-url http://x' is not a requirement",
    ),
    (
        NVIDIA,
        {"install": "venv", "wheel_requirements": ["vllm[audio]==0.18.0"]},
        'the plan is for vllm 0.22.1: set muster_engine_version: "0.18.0"',
    ),
    (
        NVIDIA,
        {"install": "venv", "wheel_index_urls": ["wheels.lan"]},
        "muster_wheel_index_urls: 'wheels.lan' is not the address of an index",
    ),
    (NVIDIA, {"served_model_name": " "}, "begins with no hyphen and no space"),
    (
        NVIDIA,
        {"model_source": "huggingface", "model_revision": "--x"},
        "muster_model_revision has to be a branch, tag or commit",
    ),
]


@pytest.mark.parametrize(("recipe", "variables", "expected"), REFUSED)
def test_what_cannot_be_is_refused(recipe: str, variables: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(problems(one(recipe, **variables)))


def test_a_wrong_size_is_told_of_once() -> None:
    (error,) = problems(one(NVIDIA, **args(tensor_parallel_size="4")))
    assert "tensor-parallel-size has to be a whole number" in error


def test_a_flag_of_other_versions_is_told_of_once() -> None:
    (error,) = problems(one(NVIDIA, **args(swap_space=-4)))
    assert "swap-space is no flag of vllm 0.22.1" in error


TOLD = [
    (NVIDIA, args(max_num_seqs=None), "without effect here: muster_engine_args: max-num-seqs"),
    (NVIDIA, env(A=None), "without effect here: muster_engine_env: A (null"),
    (NVIDIA, {"engine_unchecked": ["nothing"]}, "muster_engine_unchecked: nothing (nothing sets"),
    (NVIDIA, args(load_format="dummy"), "no answer will be right"),
    (NVIDIA, args(disable_log_stats=True), "verify cannot tell which ranks answer"),
    (SGLANG, args(enable_metrics=False), "verify cannot tell which ranks answer"),
    (NVIDIA, args(chat_template="/data/t.jinja"), "no mount brings /data/t.jinja into the"),
    (
        NVIDIA,
        args(speculative_config={"model": "/draft", "num_speculative_tokens": 2}),
        "speculative-config.model: no mount brings /draft into",
    ),
    (NVIDIA, env(HCCL_BUFFSIZE="512"), "nothing here reads HCCL_BUFFSIZE"),
    (SINGLE, env(SGLANG_X="1"), "nothing here reads SGLANG_X"),
    (NVIDIA, env(LD_LIBRARY_PATH="/x"), "LD_LIBRARY_PATH replaces the image's own"),
    (NVIDIA, {"image": "vllm/vllm-openai-rocm:v0.22.1"}, "for other devices (rocm)"),
    (SGLANG, {"image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x"}, "for other devices (rocm700)"),
]


@pytest.mark.parametrize(("recipe", "variables", "expected"), TOLD)
def test_what_does_nothing_or_harm_is_told(
    recipe: str, variables: dict[str, Any], expected: str
) -> None:
    assert expected in "\n".join(plan(one(recipe, **variables))["warnings"])


TAKEN = [
    (NVIDIA, {"variant": "dp8-ep", **args(max_model_len=196608, kv_cache_dtype="fp8")}),
    (
        NVIDIA,
        {"devices": [0, 1], **args(tensor_parallel_size=2, cpu_offload_gb=60, max_model_len="64k")},
    ),
    (NVIDIA, args(gpu_memory_utilization=0.5, kv_cache_memory_bytes="10g")),
    (NVIDIA, {"engine_unchecked": ["new_flag"], **args(new_flag=1)}),
    (NVIDIA, {"engine_unchecked": ["--new-flag"], **args(new_flag=1)}),
    (NVIDIA, {"engine_unchecked": ["VLLM_NEW"], **env(VLLM_NEW="1")}),
    (NVIDIA, args(chat_template="/vllm-workspace/examples/t.jinja")),
    (NVIDIA, {"extra_mounts": ["/data:/data:ro"], **args(chat_template="/data/t.jinja")}),
    (NVIDIA, args(root_path="/llm")),
    (NVIDIA, {"model_path": "/var/lib/muster/models/M"}),
    (NVIDIA, args(tensor_parallel_size=None)),
    (NVIDIA, args(max_num_batched_tokens=512)),
    (NVIDIA, args(enable_chunked_prefill=False)),
    (NVIDIA, {"install": "venv", "wheel_requirements": ["vllm==0.22.1+cu129", "numpy<3"]}),
    (NVIDIA, {"install": "venv", "engine_version": "0.22.1+cu129"}),
    (NVIDIA, env(VLLM_HOST_IP="10.9.9.9")),
    (NVIDIA, {"image": "[fd00::1]:5000/a/vllm:v0.22.1"}),
    (NVIDIA, {"image": "vllm/vllm-openai:v0.22.1-cu129"}),
    (SGLANG, args(nccl_port=8001)),
    (SGLANG, args(json_model_override_args='{"a": 1}')),
    (SGLANG, args(cuda_graph_bs=[1, 2])),
]


@pytest.mark.parametrize(("recipe", "variables"), TAKEN)
def test_what_the_engine_takes_is_planned_without_a_word(
    recipe: str, variables: dict[str, Any]
) -> None:
    before = plan(one(recipe, variant=variables.get("variant")))["warnings"]
    assert plan(one(recipe, **variables))["warnings"] == before


def test_a_local_version_is_in_no_tag() -> None:
    made = plan(one(NVIDIA, engine_version="0.22.1+cu129"))
    assert made["engine"]["image"] == "vllm/vllm-openai:v0.22.1"
    assert made["engine"]["version"] == "0.22.1+cu129"
    wheels = plan(one(ROCM, install="venv", engine_version="0.18.0+rocm700"))["engine"]["venv"]
    assert wheels["requirements"] == ["vllm==0.18.0+rocm700"]
    assert wheels["index_urls"] == ["https://wheels.vllm.ai/rocm/0.18.0/rocm700"]


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [(NVIDIA, {"enable_auto_tool_choice": False}), (SGLANG, {"tool_call_parser": None})],
)
def test_what_the_flags_take_away_is_no_feature(recipe: str, flags: dict[str, Any]) -> None:
    assert "tools" in plan(one(recipe))["endpoint"]["features"]
    assert "tools" not in plan(one(recipe, **args(**flags)))["endpoint"]["features"]


def test_a_password_of_an_index_is_not_repeated() -> None:
    index = ["-i https://me:hunter2@wheels.lan/simple"]
    found = problems(one(NVIDIA, install="venv", wheel_requirements=index))
    assert found
    assert "hunter2" not in "\n".join(found)


def test_one_address_is_not_that_of_two_nodes() -> None:
    two = view(c=[host(n, NVIDIA, **env(VLLM_HOST_IP="10.0.0.1")) for n in (1, 2)])
    assert "VLLM_HOST_IP would be one address for all nodes" in "\n".join(problems(two))
