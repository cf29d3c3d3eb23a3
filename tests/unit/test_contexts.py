"""The longest sequence: what a model takes, what lifts that, and what the planner refuses."""

import json
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan.contexts import (
    AUTO,
    Context,
    context_of,
    problems,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import SGLANG, VLLM
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import host, plan, single, view
from tests.unit.plan_support import problems as refused

MODEL = {"id": "M2", "max_context": 196608}
B200 = "minimax-m2.5/vllm-b200"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 65536}

LIMITS = [
    # dialect, what is laid over the model's configuration, the longest sequence then
    (VLLM, None, 196608),
    (VLLM, {}, 196608),
    (VLLM, {"rope_parameters": {"rope_type": "linear", "factor": 2}}, 393216),
    (VLLM, {"rope_scaling": {"type": "yarn", "factor": 2.5}}, 491520),
    (VLLM, {"rope_parameters": YARN}, 262144),
    (VLLM, {"rope_parameters": {"rope_type": "llama3", "factor": 8}}, 196608),
    (VLLM, {"max_position_embeddings": 400000}, 400000),
    (VLLM, {"max_position_embeddings": "many", "rope_parameters": {"factor": -1}}, 196608),
    (SGLANG, json.dumps({"rope_scaling": {"rope_type": "linear", "factor": 2}}), 393216),
    (SGLANG, json.dumps({"rope_scaling": YARN}), 196608),
    (SGLANG, json.dumps({"max_position_embeddings": 262144, "rope_scaling": YARN}), 262144),
    (SGLANG, "{no json", 196608),
]


@pytest.mark.parametrize(("dialect", "over", "limit"), LIMITS)
def test_what_is_laid_over_the_configuration_lifts_the_limit(
    dialect: Any, over: Any, limit: int
) -> None:
    args = {dialect.config_overrides: over}
    assert context_of(MODEL, args, dialect) == Context(None, limit)


@pytest.mark.parametrize(
    ("args", "env", "level"),
    [
        ({"max-model-len": 196608}, {}, None),
        ({"max-model-len": AUTO}, {}, None),
        ({"max-model-len": 196609}, {}, "error"),
        ({"max-model-len": 196609}, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "0"}, "error"),
        ({"max-model-len": 196609}, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, "warning"),
        (
            {"max-model-len": 393216, "hf-overrides": {"rope_parameters": {"factor": 2}}},
            {},
            "warning",
        ),
        (
            {"max-model-len": 393217, "hf-overrides": {"rope_parameters": {"factor": 2}}},
            {},
            "error",
        ),
    ],
)
def test_longer_than_the_model_takes_is_refused_unless_it_is_meant(
    args: dict[str, Any], env: dict[str, str], level: str | None
) -> None:
    errors, warnings = problems(context_of(MODEL, args, VLLM), MODEL, env, VLLM)
    assert (len(errors), len(warnings)) == (level == "error", level == "warning")


@given(st.integers(-5, 10**7), st.floats(0.1, 50))
def test_what_is_taken_fits_the_model_or_is_told(asked: int, factor: float) -> None:
    args = {"max-model-len": asked, "hf-overrides": {"rope_parameters": {"factor": factor}}}
    context = context_of(MODEL, args, VLLM)
    errors, warnings = problems(context, MODEL, {}, VLLM)
    if not errors:
        assert asked <= max(196608, int(196608 * factor))
        assert bool(warnings) == (asked > 196608)


def test_the_million_tokens_of_a_guide_are_refused() -> None:
    (said,) = refused(view(c=[host(1, B200, engine_args={"max-model-len": 1048576})]))
    assert said == (
        "c: max-model-len 1048576 is beyond the model's own context of 196608 (MiniMax-M2.5): set "
        "it to 196608 or less in muster_engine_args; hf-overrides there, with the rope scaling of "
        "the model's makers, takes it further"
    )


def test_a_lifted_context_is_planned_and_told() -> None:
    rope = {"rope_parameters": {"rope_type": "linear", "factor": 2}}
    args = {"max-model-len": 300000, "hf-overrides": rope}
    made = plan(view(c=[host(1, B200, engine_args=args)]))
    assert any("lifted by hf-overrides" in warning for warning in made["warnings"])
    assert made["memory"]["max_context"] == 393216


def test_what_is_offered_is_never_longer_than_the_model_takes() -> None:
    args = {"max-model-len": 700000, "hf-overrides": {"max_position_embeddings": 700000}}
    (said,) = refused(single(engine_args=args, device_memory_gb=60))
    offered = int(said.split(" in muster_engine_args to ")[1].split()[0])
    assert offered <= 700000
    assert (
        refused(single(engine_args={**args, "max-model-len": offered}, device_memory_gb=60)) == []
    )


def test_an_engine_that_chooses_its_context_needs_room_for_its_weights_alone() -> None:
    auto = {"gpu-memory-utilization": 0.6, "max-model-len": AUTO}
    assert refused(single(engine_args=auto, device_memory_gb=60)) == []
    (said,) = refused(single(engine_args=auto, device_memory_gb=40))
    assert "the weights do not fit" in said
