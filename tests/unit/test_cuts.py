"""Into how many parts a model is cut: its heads, its experts, and what the planner refuses."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import cuts
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import SGLANG, VLLM
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import SINGLE, host, plan, problems, view

M2 = {
    "id": "M2",
    "format": "fp8",
    "heads": 48,
    "kv_heads": 8,
    "experts": 256,
    "expert_rows": 1536,
    "scale_block": 128,
}
W8A8 = {**M2, "format": "w8a8", "scale_block": None}
EP = {"enable-expert-parallel": True}


def sizes(tensor: int, data: int = 1, prefill: int = 1) -> dict[str, int]:
    return {"tensor": tensor, "data": data, "prefill_context": prefill}


@pytest.mark.parametrize("tensor", [1, 2, 4, 8, 16, 24, 48])
def test_heads_that_can_be_cut(tensor: int) -> None:
    assert cuts.problems(W8A8, EP, sizes(tensor), VLLM)[0] == []


@pytest.mark.parametrize(
    ("tensor", "offered"),
    [(3, "2 or 4"), (5, "4 or 8"), (6, "4 or 8"), (12, "8 or 16"), (32, "24 or 48"), (64, "48")],
)
def test_heads_that_cannot_be_cut(tensor: int, offered: str) -> None:
    """3 divides the 48 attention heads and not the 8 KV heads, 32 the other way round."""
    for dialect, args in ((VLLM, EP), (SGLANG, {"ep-size": tensor})):
        first = cuts.problems(W8A8, args, sizes(tensor), dialect)[0][0]
        assert first.startswith(f"{dialect.sizes['tensor']} {tensor} cannot cut M2")
        assert "48 attention heads and 8 KV heads" in first
        assert first.endswith(f"take {offered}")


def test_a_model_that_tells_less_is_held_to_what_it_tells() -> None:
    dense = {"id": "D", "kv_heads": 8}
    assert cuts.problems(dense, {}, sizes(32), VLLM) == ([], [])
    (said,) = cuts.problems(dense, {}, sizes(3), VLLM)[0]
    assert "it has 8 KV heads, which" in said


SPREADS = [
    # dialect, args, sizes, parts of an expert, groups that whole experts are dealt to
    (VLLM, {}, sizes(4), 4, 1),
    (VLLM, EP, sizes(4), 1, 4),
    (VLLM, {}, sizes(4, 2), 8, 1),
    (VLLM, EP, sizes(8, 1, 2), 1, 16),
    (VLLM, {"enable-expert-parallel": False}, sizes(2, 2, 2), 8, 1),
    (SGLANG, {}, sizes(8), 8, 1),
    (SGLANG, {"ep-size": 2}, sizes(8), 4, 2),
    (SGLANG, {"ep-size": 8}, sizes(8), 1, 8),
    (SGLANG, {}, sizes(4, 2), 4, 1),
    (SGLANG, {"moe-a2a-backend": "deepep"}, sizes(8), 1, 8),
    (SGLANG, {"moe-a2a-backend": "none"}, sizes(8), 8, 1),
]


@pytest.mark.parametrize(("dialect", "args", "given_sizes", "parts", "groups"), SPREADS)
def test_how_experts_lie(
    dialect: Any, args: dict[str, Any], given_sizes: dict[str, int], parts: int, groups: int
) -> None:
    assert cuts.spread(args, given_sizes, dialect)[:2] == (parts, groups)


EXPERTS = [
    # model, dialect, args, sizes, a piece of the error, or none
    (M2, VLLM, {}, sizes(4), None),
    (M2, VLLM, {}, sizes(8), "pure tensor parallelism of 8 is not supported"),
    (M2, VLLM, {}, sizes(8), "parts of 192, and the fp8 scales are for blocks of 128"),
    (M2, VLLM, {}, sizes(8), "use tensor-parallel-size 4, or expert parallelism"),
    (M2, VLLM, {}, sizes(4, 2), "x data-parallel-size 2 x"),
    (M2, VLLM, {}, sizes(4, 2), "sizes that make no more parts than 4"),
    (M2, VLLM, EP, sizes(4, 2), None),
    (M2, SGLANG, {"ep-size": 2}, sizes(8), None),
    (M2, SGLANG, {}, sizes(8), "pure tensor parallelism of 8 is not supported"),
    (M2, SGLANG, {"ep-size": 2}, sizes(16), "tp-size 16 with ep-size 2 is not supported"),
    (M2, SGLANG, {"ep-size": 3}, sizes(8), "ep-size 3 does not divide tp-size 8"),
    (M2, SGLANG, {"ep-size": 16}, sizes(8), "take 8"),
    ({**M2, "experts": 60}, SGLANG, {"ep-size": 8}, sizes(8), "60 experts to 8 groups"),
    ({**M2, "experts": 4}, VLLM, EP, sizes(8), "4 experts to 8 groups"),
    (W8A8, VLLM, {}, sizes(16), None),
    ({**W8A8, "expert_rows": 1000}, VLLM, {}, sizes(16), "1000 rows into parts of 62.5"),
    (
        M2,
        VLLM,
        {**EP, "decode-context-parallel-size": 2},
        sizes(8),
        "decode-context-parallel-size 2 does not go with tensor-parallel-size 8",
    ),
    (M2, VLLM, {**EP, "decode-context-parallel-size": 2}, sizes(16), None),
]


@pytest.mark.parametrize(("model", "dialect", "args", "given_sizes", "expected"), EXPERTS)
def test_how_experts_may_be_cut(
    model: Any, dialect: Any, args: Any, given_sizes: Any, expected: str | None
) -> None:
    errors, _warnings = cuts.problems(model, args, given_sizes, dialect)
    assert expected in "\n".join(errors) if expected else errors == []


def test_vllm_deals_unequal_shares_and_the_plan_says_so() -> None:
    errors, (warning,) = cuts.problems(M2, EP, sizes(1, 3), VLLM)
    assert errors == []
    assert "deals 256 experts to 3 groups of devices: some hold one more" in warning


@given(
    st.sampled_from([VLLM, SGLANG]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(1, 8),
    st.booleans(),
    st.integers(1, 16),
)
def test_nothing_taken_is_cut_through_a_block(
    dialect: Any, tensor: int, data: int, expert: bool, groups: int
) -> None:
    args: Any = {"ep-size": groups} if dialect is SGLANG else {"enable-expert-parallel": expert}
    errors, _ = cuts.problems(M2, args, sizes(tensor, data), dialect)
    how = cuts.spread(args, sizes(tensor, data), dialect)
    if not errors:
        assert 1536 % (how.parts * 128) == 0
        assert how.groups <= 256
        assert dialect is VLLM or how.parts * how.groups == tensor


@pytest.mark.parametrize(
    ("recipe", "variables", "expected"),
    [
        (
            "minimax-m2/sglang-nvidia",
            {"devices": [0, 1, 2], "engine_args": {"tensor-parallel-size": 3}},
            "c: tp-size 3 cannot cut MiniMax-M2: it has 48 attention heads and 8 KV heads",
        ),
        (
            SINGLE,
            {"devices": [0, 1, 2, 3, 4, 5], "engine_args": {"tensor-parallel-size": 6}},
            "c: tensor-parallel-size 6 cannot cut MiniMax-M2.5-w8a8-QuaRot",
        ),
        (
            "minimax-m2.5/vllm-nvidia",
            {
                "variant": "tp4",
                "devices": list(range(8)),
                "engine_args": {"data-parallel-size": 2},
            },
            "parts of 192, and the fp8 scales are for blocks of 128",
        ),
    ],
)
def test_the_plan_refuses_it(recipe: str, variables: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(problems(view(c=[host(1, recipe, **variables)])))


def test_the_plan_warns_of_unequal_shares() -> None:
    args = {"tensor-parallel-size": 1, "data-parallel-size": 3}
    inventory = view(c=[host(1, SINGLE, devices=[0, 1, 2], engine_args=args, weights_gb=1)])
    assert "some hold one more" in "\n".join(plan(inventory)["warnings"])
