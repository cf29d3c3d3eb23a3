"""No secret gets into a plan."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan.secrets import in_environment

from tests.unit.plan_support import host, plan, problems, single, view

NVIDIA = "minimax-m2.5/vllm-nvidia"
SHAPED = "hf_" + "a" * 20


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_TOKEN",
        "MODELSCOPE_API_TOKEN",
        "WANDB_API_KEY",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "MY_PASSWORD",
        "GIT_PASSWD",
        "S3_CREDENTIALS",
        "CLIENT_SECRET",
    ],
)
def test_a_variable_with_a_secrets_name_is_refused(name: str) -> None:
    (found,) = problems(single(engine_env={name: "opensesame"}))
    assert found.startswith(f"c: {name} would stand in the plan: ")
    assert "opensesame" not in found
    assert ("HF_TOKEN_PATH" in found) is name.startswith("H")


@pytest.mark.parametrize(
    "variables",
    [
        {"engine_env": {"ANYTHING": SHAPED}},
        {"engine_env": {"HTTPS_PROXY": "http://user:opensesame@proxy.lan:3128"}},
        {"engine_args": {"chat-template": SHAPED}},
        {"engine_args": {"additional-config": {"refresh": SHAPED}}},
        {
            "engine_args": {
                "kv-transfer-config": {"kv_connector_extra_config": {"api_key": "opensesame"}}
            }
        },
    ],
)
def test_a_secret_is_known_by_its_shape_and_place(variables: dict[str, Any]) -> None:
    found = problems(single(**variables))
    assert len(found) == 1
    assert "would stand in the plan" in found[0]
    assert SHAPED not in found[0]
    assert "opensesame" not in found[0]


def test_a_url_with_a_password_is_refused() -> None:
    own = {"install": "venv", "wheel_index_urls": ["https://u:opensesame@wheels.lan/simple"]}
    (found,) = problems(view(c=[host(1, NVIDIA, **own)]))
    assert found.startswith("c: muster_wheel_index_urls: the user or password of a URL")
    assert "opensesame" not in found


@pytest.mark.parametrize(
    "env",
    [
        {"TOKENIZERS_PARALLELISM": "false"},
        {"HF_TOKEN_PATH": "/run/secrets/hf"},
        {"NCCL_IB_PKEY": "1"},
        {"HTTPS_PROXY": "http://proxy.lan:3128"},
        {"MY_THING": "100%"},
        {"MY_TOKEN": ""},
        {"MY_THING": "\u00e9\U0001f4a5 prompt: none"},
    ],
)
def test_what_is_no_secret_is_planned(env: dict[str, str]) -> None:
    assert env.items() <= plan(single(engine_env=env))["units"][0]["env"].items()


def test_what_the_engine_reads_as_a_switch_is_no_secret() -> None:
    env = {"ENGINE_FP8_PER_TOKEN": "enabled"}
    assert in_environment(env, ["ENGINE_FP8_PER_TOKEN"]) == []
    assert len(in_environment(env, [])) == 1
