"""Settings that do nothing here are told in one line, and odd ones are asked about."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import effects
from ansible_collections.muster.serving.plugins.plugin_utils.plan.variables import VARIABLES

from tests.unit.plan_support import PAIR, SINGLE, host, load, pair, plan, view

NVIDIA = "minimax-m2.5/vllm-nvidia"
SGLANG = "minimax-m2/sglang-nvidia"
IDLE = [
    (NVIDIA, {"npu_ping": "full"}, "muster_npu_ping (for Ascend NPUs)"),
    (NVIDIA, {"hccl_base_port": 60000}, "muster_hccl_base_port (for Ascend NPUs)"),
    (SINGLE, {"deep_gemm": True}, f"muster_deep_gemm ({SINGLE} has no such switch)"),
    (SGLANG, {"profiler_dir": "/p"}, "muster_profiler_dir (sglang has no profiler here)"),
    (NVIDIA, {"draft_model_path": "/d"}, "muster_draft_model_path (the recipe has no draft)"),
    (NVIDIA, {"wheel_channel": "nightly"}, "muster_wheel_channel (without a container alone)"),
    (
        NVIDIA,
        {"install": "venv", "extra_mounts": ["/a:/b"]},
        "muster_extra_mounts (for containers)",
    ),
    (NVIDIA, {"install": "venv", "proxy": {"http": "p:1"}}, "muster_proxy (for containers)"),
    (SINGLE, {"data_parallel": "external"}, "muster_data_parallel (a replica has one data"),
    (SINGLE, {"link_port": 2000}, "muster_link_port (a replica is one process)"),
    (SINGLE, {"gateway_port": 8081}, "muster_gateway_port (muster_gateway_hosts is not set)"),
    (
        SINGLE,
        {"gateway_address": "10.0.0.9"},
        "muster_gateway_address (muster_gateway_hosts is not",
    ),
    (SINGLE, {"model_revision": "v1"}, "muster_model_revision (the weights are on the nodes)"),
    (SINGLE, {"model_source": "modelscope"}, "muster_model_path (the weights come from a hub)"),
    (
        SINGLE,
        {"gateway_hosts": ["c-0"], "gateway_router_id": 9},
        "muster_gateway_router_id (muster_gateway_address is not set)",
    ),
]


def warned(recipe: str, **variables: Any) -> list[str]:
    hosts = [host(n + 1, recipe, **variables) for n in range(load(recipe, None)["nodes"])]
    warnings: list[str] = plan(view(c=hosts))["warnings"]
    return warnings


@pytest.mark.parametrize(("recipe", "variables", "expected"), IDLE)
def test_a_setting_without_effect_is_told(
    recipe: str, variables: dict[str, Any], expected: str
) -> None:
    (line,) = [text for text in warned(recipe, **variables) if "without effect" in text]
    assert expected in line


def test_all_of_them_are_one_line() -> None:
    own = {"npu_ping": "none", "wheel_dir": "/w", "link_port": 2000}
    (line,) = [text for text in warned(NVIDIA, **own) if "without effect" in text]
    assert line == (
        "without effect here: muster_npu_ping (for Ascend NPUs), muster_wheel_dir (without a "
        "container alone), muster_link_port (a replica is one process)"
    )


@pytest.mark.parametrize(
    ("recipe", "variables"),
    [
        (PAIR, {"npu_ping": "full", "hccl_base_port": 61000, "link_port": 3000}),
        (NVIDIA, {"install": "venv", "wheel_channel": "release", "deep_gemm": False}),
        (NVIDIA, {"proxy": {"http": "http://p:1"}, "image": "vllm/vllm-openai:v0.22.1"}),
        (
            NVIDIA,
            {"install": "venv", "proxy": {"http": "p:1"}, "gateway_hosts": ["c-0"]},
        ),
        (SINGLE, {"draft_model_path": "/d", "gateway_hosts": ["c-0"], "gateway_port": 80}),
    ],
)
def test_what_has_an_effect_is_not_told(recipe: str, variables: dict[str, Any]) -> None:
    assert "without effect" not in "\n".join(warned(recipe, **variables))


def test_only_variables_that_there_are_can_be_idle() -> None:
    recipe = load(PAIR, None)
    known = {variable.name for variable in VARIABLES}
    said = dict.fromkeys(known, 2000)
    (line,) = effects.warnings(
        said | {"muster_engine_env": {}}, recipe, install="venv", ranks=1, nodes=1
    )
    named = {word for word in line.replace(",", " ").split() if word.startswith("muster_")}
    assert named <= known


@pytest.mark.parametrize("port", [510, 80, 384, 22, 1000])
def test_a_port_of_the_system_may_be_what_yaml_made_of_another(port: int) -> None:
    lines = [text for text in warned(SINGLE, port=port) if "YAML reads 8:30 as 510" in text]
    assert bool(lines) is (port != 80)


def test_a_path_that_replaces_the_images_is_told() -> None:
    assert any(
        "PATH replaces" in line for line in plan(pair(engine_env={"PATH": "/x"}))["warnings"]
    )
