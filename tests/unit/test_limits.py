"""Bounds of the numbers in flags, and numbers with a suffix."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import limits
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import SINGLE, flags, host, load, plan, problems, single, view

SGLANG = "minimax-m2/sglang-nvidia"
B200 = "minimax-m2.5/vllm-b200"


@pytest.mark.parametrize(
    ("recipe", "args", "expected"),
    [
        (SINGLE, {"max-num-seqs": 0}, "max-num-seqs has to be 1 or more and at most 65536, not 0"),
        (
            SINGLE,
            {"max_num_seqs": -1},
            "max-num-seqs has to be 1 or more and at most 65536, not -1",
        ),
        (SINGLE, {"max-num-batched-tokens": 0}, "has to be 1 or more, not 0"),
        (
            SINGLE,
            {"max-num-batched-tokens": 16, "max-num-seqs": 32},
            "max-num-batched-tokens 16 is less than max-num-seqs 32, which the engine refuses",
        ),
        (SINGLE, {"gpu-memory-utilization": 95}, "has to be above 0 and at most 1, not 95"),
        (SINGLE, {"gpu-memory-utilization": 1.5}, "has to be above 0 and at most 1, not 1.5"),
        (SINGLE, {"gpu-memory-utilization": 0}, "has to be above 0 and at most 1, not 0"),
        (SINGLE, {"gpu-memory-utilization": -0.5}, "has to be above 0 and at most 1, not -0.5"),
        (SINGLE, {"block-size": 100000}, "has to be 1 or more and at most 1024, not 100000"),
        (SINGLE, {"max-model-len": 0}, "max-model-len has to be 1 or more, or -1, not 0"),
        (B200, {"max-model-len": -1}, "max-model-len has to be 1 or more, not -1"),
        (B200, {"max-model-len": "auto"}, "max-model-len has to be 1 or more, not -1"),
        (SINGLE, {"cpu-offload-gb": -1.0}, "cpu-offload-gb has to be 0 or more, not -1.0"),
        (SINGLE, {"max-log-len": -5}, "max-log-len has to be 0 or more, not -5"),
        (
            SINGLE,
            {"speculative-config": {"method": "ngram", "num_speculative_tokens": 0}},
            "speculative-config.num_speculative_tokens has to be 1 or more, not 0",
        ),
        (SGLANG, {"mem-fraction-static": 1}, "has to be above 0 and below 1, not 1"),
        (
            SGLANG,
            {"max-running-requests": 0},
            "max-running-requests has to be 1 or more and at most 65536, not 0",
        ),
        (SGLANG, {"chunked-prefill-size": -2}, "has to be 1 or more, or -1, not -2"),
        (SGLANG, {"ep-size": 0}, "ep-size has to be 1 or more, not 0"),
        (SINGLE, {"max-model-len": "1.5K"}, "has to be a whole number, not '1.5K'"),
        (SINGLE, {"max-num-seqs": "2k"}, "has to be a whole number, not '2k'"),
        (SGLANG, {"context-length": "128k"}, "has to be a whole number, not '128k'"),
    ],
)
def test_numbers_out_of_bounds_are_refused(
    recipe: str, args: dict[str, Any], expected: str
) -> None:
    found = problems(view(c=[host(1, recipe, engine_args=args)]))
    assert expected in "\n".join(found)
    assert all(text.startswith("c: ") for text in found)


@pytest.mark.parametrize(
    ("recipe", "args"),
    [
        (SINGLE, {"gpu-memory-utilization": 1}),
        (SINGLE, {"max-model-len": -1}),
        (SINGLE, {"max-logprobs": -1}),
        (SINGLE, {"max-num-batched-tokens": 32}),
        (SGLANG, {"chunked-prefill-size": -1}),
        (SGLANG, {"max-queued-requests": 0}),
    ],
)
def test_numbers_within_bounds_are_taken(recipe: str, args: dict[str, Any]) -> None:
    assert problems(view(c=[host(1, recipe, engine_args=args)])) == []


def test_a_number_passes_when_the_inventory_says_so() -> None:
    own = {"engine_args": {"block-size": 2048}, "engine_unchecked": ["block-size"]}
    assert flags(plan(single(**own))["units"][0])["block-size"] == "2048"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("128k", 128_000),
        ("128K", 131_072),
        ("25.6k", 25_600),
        (" 1m ", 1_000_000),
        ("1M", 1_048_576),
        ("2G", 2 * 2**30),
        ("1t", 10**12),
        ("auto", -1),
        ("Auto", -1),
        ("1.5K", "1.5K"),
        ("128", "128"),
        ("k", "k"),
        ("-1k", "-1k"),
        ("1kk", "1kk"),
        ("\u0661k", "\u0661k"),
    ],
)
def test_texts_that_stand_for_a_number(text: str, number: Any) -> None:
    bounds = {"n": {"min": 1, "suffixes": True, "words": {"auto": -1}}}
    assert limits.expanded({"n": text}, bounds) == {"n": number}
    assert limits.expanded({"n": text}, {}) == {"n": text}


def test_the_engine_gets_the_number_that_it_would_read() -> None:
    args = {"max-model-len": "128k", "max-num-batched-tokens": "16K"}
    said = flags(plan(single(engine_args=args))["units"][0])
    assert (said["max-model-len"], said["max-num-batched-tokens"]) == ("128000", "16384")
    said = flags(plan(single(engine_args={"max-model-len": "auto"}))["units"][0])
    assert said["max-model-len"] == "-1"


@given(
    st.sampled_from(["max-num-seqs", "gpu-memory-utilization", "max-model-len", "seed", "other"]),
    st.integers(-10, 10**7) | st.floats(-2, 2),
)
def test_what_passes_is_within_its_bounds(name: str, value: Any) -> None:
    table = load(SINGLE, None)["engine"]["limits"]
    types = {"other": "int", "gpu-memory-utilization": "float"}
    found = limits.problems({name: value}, {name: types.get(name, "int")}, table, "0.23.0", ())
    bounds = table.get(name, {"min": 0})
    if str(value) in bounds.get("special", {}):
        assert found == []
    else:
        low = value >= bounds["min"] if "min" in bounds else value > bounds["above"]
        assert (found == []) is (low and value <= bounds.get("max", value))
