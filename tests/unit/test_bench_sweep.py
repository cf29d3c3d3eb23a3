"""How a sweep goes on, where a deployment saturates, and which limit binds."""

import json
import re
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.endpoint.engine_load import engine_load
from ansible_collections.muster.serving.plugins.plugin_utils.bench import sweep
from ansible_collections.muster.serving.plugins.plugin_utils.bench.binding import (
    limit_of,
    summary_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import Client, command
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    run_of_client,
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep import Limits, Step
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep_report import (
    decided,
    step_of,
    sweep_report,
    sweep_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_bench import (
    A3,
    B200,
    CLIENTS,
    DEVICES,
    MI300X,
    TINY,
    flag,
    made_plan,
    refused,
    runs,
)

# --- how it goes on ------------------------------------------------------------------------------


def swept(limits: Limits, throughput: Any, bound: float) -> list[Step]:
    """The steps of a sweep of something with a throughput and a load at which its bound breaks."""
    steps: list[Step] = []
    while (load := sweep.next_concurrency(steps, limits)) is not None:
        assert len(steps) < 60, "it does not end"
        broken = ["p99_ttft_ms"] if load > bound else []
        steps.append(Step(load, throughput(load), broken))
    return steps


def test_it_doubles_until_throughput_stops_growing_and_halves_below_the_knee() -> None:
    limits = Limits(1, 1024, 5)
    steps = swept(limits, lambda load: 10.0 * min(load, 50), 2000)
    assert [step.concurrency for step in steps[:8]] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert sweep.end_of(steps, limits) == "saturated"
    knee = sweep.knee_of(steps, limits)
    assert knee is not None
    assert 47 <= knee <= 53
    assert sweep.largest_within(steps) == 128


def test_a_bound_that_breaks_is_closed_in_on() -> None:
    limits = Limits(1, 1024, 5)
    steps = swept(limits, float, 100)
    assert [step.concurrency for step in steps[:8]] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert sweep.end_of(steps, limits) == "bound broken"
    within = sweep.largest_within(steps)
    assert within is not None
    assert 90 <= within <= 100
    assert sweep.knee_of(steps, limits) is None, "throughput grows as long as it was looked"
    assert sweep.limiting(steps) == min(step.concurrency for step in steps if step.broken)


def test_a_first_load_that_breaks_the_bound_is_looked_for_below() -> None:
    steps = swept(Limits(16, 64, 5), float, 3)
    assert steps[0].concurrency == 16
    assert sweep.largest_within(steps) == 3
    assert sweep.largest_within(swept(Limits(16, 64, 5), float, 0)) is None


def test_what_still_grows_at_the_highest_load_says_so() -> None:
    limits = Limits(1, 24, 5)
    steps = swept(limits, float, 100)
    assert [step.concurrency for step in steps] == [1, 2, 4, 8, 16, 24]
    assert sweep.end_of(steps, limits) == "most reached"


@given(
    first=st.integers(1, 64),
    more=st.integers(0, 4000),
    gain=st.floats(0.1, 50),
    results=st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1, max_size=80),
)
def test_any_sweep_ends_within_its_limits_and_measures_no_load_twice(
    first: int, more: int, gain: float, results: list[tuple[float, bool]]
) -> None:
    limits = Limits(first, first + more, gain)
    steps: list[Step] = []
    while (load := sweep.next_concurrency(steps, limits)) is not None:
        assert 1 <= load <= limits.most
        assert load not in {step.concurrency for step in steps}
        broken = [step.concurrency for step in steps if step.broken]
        assert not broken or load < min(broken), "above a load that breaks a bound"
        throughput, breaks = results[len(steps) % len(results)]
        steps.append(Step(load, throughput, ["a bound"] if breaks else []))
        assert len(steps) <= 60


@given(at=st.integers(1, 500), bound=st.integers(1, 500))
def test_what_saturates_is_found_wherever_that_is(at: int, bound: int) -> None:
    limits = Limits(1, 2048, 5)
    steps = swept(limits, lambda load: float(min(load, at)), bound)
    within = sweep.largest_within(steps)
    assert within is not None
    if sweep.end_of(steps, limits) == "bound broken":
        assert within <= bound <= within * 1.12 + 2
    if sweep.is_saturated(steps, limits):
        knee = sweep.knee_of(steps, limits)
        assert knee is not None
        assert at / 1.06 - 1 <= knee <= at * 1.12 + 2


# --- what an operator gives ----------------------------------------------------------------------


def test_without_a_limit_twice_what_runs_at_once_is_tried() -> None:
    assert sweep.limits_of(made_plan(A3), 1, 1, None, 5).most == 2 * 48 * 4
    assert sweep.limits_of(made_plan(A3), 2, 1, None, 5).most == 2 * 48 * 4 * 2


@pytest.mark.parametrize(
    ("first", "most", "gain", "said"),
    [
        (0, 8, 5, "bench_first has to be 1 or more"),
        (8, 4, 5, "bench_most (4) has to be as much as bench_first (8)"),
        (1, 8, 0, "bench_gain has to be more than 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(
    first: int, most: int, gain: float, said: str
) -> None:
    with pytest.raises(PlanError) as error:
        sweep.limits_of(made_plan(A3), 1, first, most, gain)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"ttft": 5}, "ttft is none: it has to be"),
        ({"p99_ttft_ms": "soon"}, "has to be a number of milliseconds"),
        ({"p99_ttft_ms": -1}, "has to be a number of milliseconds"),
        ({"p99_ttft_ms": 2000, "median_tpot_ms": "50"}, ""),
    ],
)
def test_bounds_are_of_latencies(bounds: Any, said: str) -> None:
    if not said:
        assert sweep.bounds_of(bounds) == {"p99_ttft_ms": 2000, "median_tpot_ms": 50}
        return
    with pytest.raises(PlanError) as error:
        sweep.bounds_of(bounds)
    assert said in str(error.value)


def test_a_bound_of_which_the_client_tells_nothing_names_what_it_tells() -> None:
    with pytest.raises(PlanError, match=r"does not tell p95_tpot_ms; it tells p99_tpot_ms"):
        sweep.broken_bounds({"p99_tpot_ms": 4.0}, [], {"p95_tpot_ms": 50})


def test_the_loosest_bound_of_a_kind_makes_a_request_good() -> None:
    bounds = {"p50_ttft_ms": 500.0, "p99_ttft_ms": 2000.0, "p99_e2e_ms": 9.0, "p99_itl_ms": 1.0}
    assert sweep.goodput_of(bounds) == {"ttft": 2000.0, "e2el": 9.0}


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_takes_the_command_of_a_step(client: str) -> None:
    engine = client.split()[0]
    made = made_plan(MI300X if engine == "sglang" else B200)
    told = runs(made, custom=[TINY], scenarios=["tiny"], single=True)
    argv = command(
        made,
        Client(**told["client"]),
        target_made(made, told),
        sweep.load_at(scenario_of(told["scenarios"][0]), 32, 5, 7),
        7,
        {"ttft": 2000.0},
    )
    begin = argv.index("sglang.bench_serving" if engine == "sglang" else "bench")
    flags = {word[2:] for word in argv[begin:] if word.startswith("--")}
    assert flags - set(CLIENTS[client].split()) == set()
    assert (flag(argv, "--goodput") == "ttft:2000") == (engine != "sglang")
    assert flag(argv, "--max-concurrency") == "32"
    assert flag(argv, "--num-prompts") == "160"


def test_a_single_load_is_the_first_that_can_be_held() -> None:
    made = made_plan(B200)
    told = runs(made, single=True)
    assert [one["name"] for one in told["scenarios"]] == [runs(made)["scenarios"][0]["name"]]
    assert "name one load" in refused(made, single=True, scenarios=["2k-512-c8", "2k-512-c16"])


# --- the engine's metrics ------------------------------------------------------------------------

VLLM = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 7.0
vllm:num_requests_running{engine="1",model_name="m"} 8.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:generation_tokens_total{engine="0",model_name="m"} 100.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.8e+09
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
"""
SGLANG = """\
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 4.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="1"} 4.0
sglang:num_queue_reqs{engine_type="unified",model_name="m"} 1.0
sglang:token_usage{model_name="m"} 0.25
sglang:generation_tokens_total{model_name="m"} 12.0
"""


def without_moves(page: str) -> dict[str, dict[str, Any]]:
    found = engine_load(page)
    return {rank: {k: v for k, v in own.items() if k != "moves"} for rank, own in found.items()}


def test_vllm_tells_of_each_rank() -> None:
    assert without_moves(VLLM) == {
        "0": {"running": 7, "waiting": 3, "kv_usage": 0.5, "preemptions": 2, "tokens": 100},
        "1": {"running": 8},
    }


@pytest.mark.parametrize("page", [SGLANG, SGLANG.replace("sglang:", "sglang_")])
def test_both_spellings_of_sglang_are_read(page: str) -> None:
    assert without_moves(page) == {
        "": {"running": 4, "waiting": 1, "kv_usage": 0.25, "tokens": 12},
    }


def test_an_old_name_of_the_cache_is_read() -> None:
    page = 'vllm:gpu_cache_usage_perc{model_name="m"} 0.75'
    assert without_moves(page) == {"": {"kv_usage": 0.75}}


def test_moves_of_a_rank_differ_when_one_of_its_samples_does() -> None:
    later = engine_load(VLLM.replace("100.0", "101.0"))
    assert later["0"]["moves"] != engine_load(VLLM)["0"]["moves"]
    assert later["1"]["moves"] == engine_load(VLLM)["1"]["moves"]


@given(st.text(max_size=300))
def test_no_page_breaks_the_reading(page: str) -> None:
    for text in (page, f"vllm:num_requests_running{{{page}}} 1", f"vllm:x {page}"):
        for own in engine_load(text).values():
            assert isinstance(own["moves"], int)


# --- what binds ----------------------------------------------------------------------------------


def sample(at: float, running: float = 0, waiting: float = 0, kv: float = 0, **more: Any) -> Any:
    rank = {"running": running, "waiting": waiting, "kv_usage": kv, "moves": at, **more}
    return {"at": at, "engines": {"http://a/v1": {"0": rank}}, "errors": {}}


def busy(count: int = 6, **rank: Any) -> list[Any]:
    return [sample(1000.0 + at, **rank) for at in range(count)]


# A3 short-context: 48 on each of 4 ranks.
@pytest.mark.parametrize(
    ("samples", "concurrency", "limit", "certainty", "change"),
    [
        (busy(running=192, waiting=30, kv=0.3), 256, "max-num-seqs", "sure", "max-num-seqs to 96"),
        (busy(running=192, waiting=30, kv=0.8), 256, "max-num-seqs", "sure", "max-num-seqs to 54"),
        (busy(running=192, waiting=30, kv=0.94), 256, "max-num-seqs", "sure", "no room for more"),
        (
            [
                sample(1.0, 80, 40, 0.97, preemptions=3.0),
                sample(2.0, 80, 40, 0.99, preemptions=9.0),
            ],
            256,
            "kv-cache",
            "sure",
            "raise gpu-memory-utilization",
        ),
        (busy(running=80, waiting=40, kv=0.97), 256, "kv-cache", "likely", "more devices"),
        (
            busy(running=80, waiting=40, kv=0.3),
            256,
            "batched-tokens",
            "likely",
            "raise max-num-batched-tokens",
        ),
        (busy(running=64, waiting=0, kv=0.3), 64, "devices", "likely", "add a replica"),
        (busy(running=20, waiting=0, kv=0.3), 64, "client", "likely", "bench_client"),
        ([], 64, "unknown", "unknown", "/metrics"),
        (
            [{"at": 1.0, "engines": {}, "errors": {"http://a/v1": "refused"}}],
            64,
            "unknown",
            "unknown",
            "/metrics",
        ),
    ],
)
def test_the_limit_that_binds_and_what_to_set(
    samples: Any, concurrency: int, limit: str, certainty: str, change: str
) -> None:
    found = limit_of(samples, concurrency, made_plan(A3), 1)
    assert (found["limit"], found["certainty"]) == (limit, certainty)
    assert change in found["change"]


@pytest.mark.parametrize("kv", [0.5, 0.85, 0.88, 0.895, 0.94])
@pytest.mark.parametrize("own", [1, 8, 32, 256])
def test_nothing_is_raised_to_what_it_is(own: int, kv: float) -> None:
    made = made_plan(A3)
    made["bench"]["max_num_seqs"] = own
    change = limit_of(busy(running=4 * own, waiting=9, kv=kv), 8 * own, made, 1)["change"]
    found = re.search(r"raise max-num-seqs to (\d+)", change)
    assert int(found[1]) > own if found else "no room for more" in change


def test_sglang_is_told_in_its_own_flags() -> None:
    made = made_plan(MI300X)
    assert "chunked-prefill-size" in limit_of(busy(running=8, waiting=4), 16, made, 1)["change"]
    full = limit_of(busy(running=8, waiting=4, kv=0.99), 16, made, 1)
    assert "mem-fraction-static" in full["change"]


def test_what_is_before_and_after_the_load_is_left_out() -> None:
    seen = summary_of([sample(1.0), *busy(2, running=4, waiting=2, kv=0.5), sample(9.0)])
    assert seen is not None
    assert (seen["samples"], seen["running_mean"], seen["waiting_share"]) == (2, 4.0, 1.0)
    assert summary_of([sample(1.0)]) is None


# --- the report ----------------------------------------------------------------------------------


def measured(bounds: dict[str, float], most: int = 64, failing: int = 10**6) -> dict[str, Any]:
    """The report of a sweep of a plan whose 16 places are all that helps."""
    made = made_plan(B200)
    told = runs(made, scenarios=["2k-512-c8"], single=True)
    limits = Limits(1, most, 5)
    base = scenario_of(told["scenarios"][0])
    steps: list[dict[str, Any]] = []
    while (load := sweep.next_concurrency(decided(steps), limits)) is not None:
        one = sweep.load_at(base, load, 5, base.seed + len(steps))
        raw = {
            "completed": one.requests if load < failing else one.requests - 1,
            "failed": 0 if load < failing else 1,
            "output_throughput": 10.0 * min(load, 16),
            "request_throughput": min(load, 16) / 50,
            "request_goodput:": 0.1,
            # In the mean, as SGLang's client tells it.
            "concurrency": 0.9 * load,
            "p99_ttft_ms": 100.0 * max(load / 16, 1),
            "median_ttft_ms": 50.0,
        }
        samples = busy(running=min(load, 16), waiting=max(load - 16, 0), kv=0.2)
        ended = {"raw": raw, "rc": 0, "timed_out": False, "log": ["the end"], "seconds": 4.0}
        run = run_of_client(one, 1, one.seed, ["client"], None)
        steps.append(step_of(one, run, {**ended, "samples": samples}, bounds))
    about = {"image_id": "sha256:1"}
    return sweep_report(made, told, steps, limits, bounds, about, DEVICES, "2026-11-30T10:00:00Z")


def test_a_report_has_the_knee_the_bound_what_binds_and_all_to_repeat_it() -> None:
    report = measured({"p99_ttft_ms": 150.0})
    json.dumps(report)
    assert report["ended"] == "bound broken"
    assert report["largest_within_bounds"]["concurrency"] in (22, 23, 24)
    assert 15 <= report["knee"]["concurrency"] <= 17
    assert report["binds"]["limit"] == "batched-tokens"
    assert {"argv", "seed", "raw", "samples"} <= set(report["steps"][0])
    assert report["plan"]["digest"].startswith("sha256:")
    assert len({step["seed"] for step in report["steps"]}) == len(report["steps"])
    text = sweep_text(report)
    assert "p99_ttft_ms 200.0, bound 150" in text
    assert "Largest load inside the bounds: 2" in text
    assert "To change it: raise max-num-batched-tokens" in text


def test_without_bounds_it_ends_where_it_is_saturated() -> None:
    report = measured({})
    assert (report["ended"], report["largest_within_bounds"]) == ("saturated", None)
    assert "twice the load gives less than 5 % more" in sweep_text(report)


def test_failed_requests_end_the_climb() -> None:
    report = measured({}, failing=8)
    # Nobody has set a bound, and throughput grew as long as there were figures.
    assert (report["ended"], report["knee"], report["binds"]) == ("requests failed", None, None)
    assert max(step["concurrency"] for step in report["steps"]) == 8
    assert "Loads above these gave no figure: of 40 requests 39 were answered" in sweep_text(report)
