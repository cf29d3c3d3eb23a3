"""What bench runs, refuses, and makes of what an engine's client wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.endpoint.prefix_cache import (
    prefix_cache,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench import comparison, progress
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import Target
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import (
    Run,
    medians,
    metrics_of,
    run_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import (
    check_baseline,
    gate_failures,
    report_of,
    tables,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    Wish,
    announcement,
    runs_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import (
    OLDEST,
    Scenario,
    expected_s,
    refusals,
    scenarios_of,
    without_load,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.plan_support import host, plan, problems, view
from tests.unit.test_shipped_recipes import CASES, served, unit_of

A2 = ("minimax-m2.5/vllm-ascend-a2", "tp8-dp2")
A3 = ("minimax-m2.5-w8a8/vllm-ascend-a3", "short-context")
A3_LONG = ("minimax-m2.5-w8a8/vllm-ascend-a3", "long-context")
B200 = ("minimax-m2.5/vllm-b200", "tp4")
MI300X = ("minimax-m2.1/sglang-rocm", "tp4")
NVIDIA = ("minimax-m2.7/vllm-nvidia", "tp4-ep")
TINY = {"name": "tiny", "dataset": "random", "input": 64, "output": 16}
TINY |= {"concurrency": 2, "prompts": 8}


def made_plan(recipe: tuple[str, str], **variables: Any) -> Any:
    return plan(served(*recipe, **variables))


def hosts_of(made: Any) -> list[str]:
    return [name for replica in made["replicas"] for name in replica["hosts"]]


def runs(made: Any, **wish: Any) -> dict[str, Any]:
    return runs_of(made, Wish(hosts_of(made), **wish))


def refused(made: Any, **wish: Any) -> str:
    with pytest.raises(PlanError) as error:
        runs(made, **wish)
    return str(error.value)


def flag(argv: list[str], name: str) -> str | None:
    return argv[argv.index(name) + 1] if name in argv else None


# --- the recipes' loads --------------------------------------------------------------------------

# Each load of the guides: recipe, name, dataset, prompt, answer, at once, requests.
LOADS = [
    (A3, "3.5k-1k-c217", "random", 3584, 1024, 217, 217),
    (A3_LONG, "190k-1k-c4", "random", 194560, 1024, 4, 4),
    (A2, "190k-1k-prefix-c4", "prefix_repetition", 194544, 1024, 4, 16),
    (NVIDIA, "2k-1k-c10", "random", 2048, 1024, 10, 100),
    (MI300X, "1k-1k-c1", "random", 1000, 1000, 1, 10),
    (MI300X, "1k-1k-c16", "random", 1000, 1000, 16, 80),
    (MI300X, "1k-1k-c100", "random", 1000, 1000, 100, 500),
    (("minimax-m2/sglang-nvidia", "tp8-ep8"), "1k-1k-c100", "random", 1000, 1000, 100, 1000),
    *((B200, f"2k-512-c{n}", "random", 2048, 512, n, None) for n in (1, 8, 16, 32, 64)),
    *((B200, f"2k-512-c{n}", "random", 2048, 512, n, 512) for n in (128, 256, 512, 1024)),
    (("minimax-m2.5-w8a8/vllm-ascend-a2", "tp8"), "3.5k-1.5k-c120", "random", 3500, 1500, 120, 360),
]


@pytest.mark.parametrize(("recipe", "name", "dataset", "prompt", "answer", "many", "all_"), LOADS)
def test_the_guides_loads_are_in_their_recipes(
    recipe: Any, name: str, dataset: str, prompt: int, answer: int, many: int, all_: int | None
) -> None:
    one = {one.name: one for one in scenarios_of(made_plan(recipe))}[name]
    assert one[2:6] == (dataset, prompt, answer, many)
    assert all_ is None or one.prompts == all_


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_every_load_of_a_recipe_is_run_or_refused(name: str, variant: str) -> None:
    made = made_plan((name, variant))
    found = scenarios_of(made)
    figures = [figure for figure in made["bench"]["figures"] if "run" in figure]
    assert len(found) == len(figures), "two loads of one name"
    if not found:
        return
    held = [one for one in found if not refusals(one, made)]
    told = runs(made)
    assert [one["name"] for one in told["scenarios"]] == [one.name for one in held]
    assert set(told["refused"]) == {one.name for one in found} - {one.name for one in held}
    json.dumps(told)


def test_only_the_long_context_of_a3_refuses_a_load_of_its_own() -> None:
    refusing = {
        (name, variant): list(runs(made_plan((name, variant)))["refused"])
        for name, variant in CASES
        if scenarios_of(made_plan((name, variant)))
    }
    assert {key: names for key, names in refusing.items() if names} == {A3_LONG: ["190k-1k-c4"]}


def test_a_figure_without_a_load_is_named() -> None:
    (told,) = without_load(made_plan(A3))
    assert told.startswith("lengths not told, concurrency 20 (vllm-ascend nightly")


# --- what a deployment cannot hold ---------------------------------------------------------------


def test_a_context_that_is_too_long_names_what_to_change() -> None:
    said = refused(made_plan(A3_LONG), scenarios=["190k-1k-c4"])
    assert "a context of 195584 tokens (194560 + 1024), and the deployment takes 138000" in said
    assert "set max-model-len to 195584 or more in muster_engine_args" in said
    longer = made_plan(A3_LONG, engine_args={"max-model-len": 195584})
    assert runs(longer, scenarios=["190k-1k-c4"])["runs"]


def test_a_context_beyond_the_model_or_its_memory_is_no_setting_away() -> None:
    beyond = {**TINY, "input": 196608}
    assert "no setting helps" in refused(made_plan(A2), custom=[beyond], scenarios=["tiny"])
    small = made_plan(B200, device_memory_gb=68)
    room = small["memory"]["cache_tokens"]
    assert room < 196608
    wide = {**TINY, "input": max(room, 32768)}
    said = refused(small, custom=[wide], scenarios=["tiny"])
    assert f"there is room for {room} tokens" in said


@pytest.mark.parametrize(
    ("recipe", "args", "remedy"),
    [
        (A2, {"enable-prefix-caching": False}, "remove enable-prefix-caching: false"),
        (MI300X, {"disable-radix-cache": True}, "remove disable-radix-cache: true"),
    ],
)
def test_shared_prefixes_need_their_cache(recipe: Any, args: Any, remedy: str) -> None:
    shared = {**TINY, "dataset": "prefix_repetition", "prefix": 32, "prefixes": 2}
    said = refused(made_plan(recipe, engine_args=args), custom=[shared], scenarios=["tiny"])
    assert "the cache of prefixes is off" in said
    assert remedy in said
    assert runs(made_plan(recipe), custom=[shared], scenarios=["tiny"])["runs"]


def test_requests_that_have_to_run_at_once_count_all_ranks() -> None:
    needing = {**TINY, "max_num_seqs": 192}
    assert runs(made_plan(A3), custom=[needing], scenarios=["tiny"])["runs"]
    said = refused(made_plan(A3), custom=[{**needing, "max_num_seqs": 193}], scenarios=["tiny"])
    assert "192 (48 on each of 4 ranks) do: raise max-num-seqs to 49" in said


def test_requests_that_wait_are_told_and_not_refused() -> None:
    _rows, told = announcement(runs(made_plan(A3), scenarios=["3.5k-1k-c217"]))
    assert "of 217 requests at once 192 (48 on each of 4 ranks) run, the others wait" in told[0]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"scenarios": ["2k-512-c9"]}, "there is no '2k-512-c9': did you mean 2k-512-c"),
        ({"repetitions": 0}, "bench_repetitions has to be 1 or more"),
        ({"custom": [{**TINY, "prompts": 0}]}, "prompts has to be 1 or more"),
        ({"custom": [{**TINY, "prefix": 4}]}, "only prefix_repetition has prefixes"),
        (
            {"custom": [{**TINY, "dataset": "prefix_repetition"}]},
            "prefix_repetition needs prefix and prefixes",
        ),
        (
            {"custom": [{**TINY, "dataset": "prefix_repetition", "prefix": 64, "prefixes": 1}]},
            "the prefix has to be shorter than the input",
        ),
        ({"through": "gateway"}, "the cluster has no gateway"),
        ({"replica": 3}, "does not have replica 3 whole"),
        (
            {"custom": [{**TINY, "lengths": "up_to"}], "scenarios": ["tiny"]},
            "SGLang's client alone",
        ),
    ],
)
def test_a_wish_that_cannot_be_met_says_why(wish: dict[str, Any], said: str) -> None:
    assert said in refused(made_plan(B200), **wish)


def test_an_older_client_is_not_guessed_at() -> None:
    old = made_plan(B200, engine_version="0.11.0", engine_version_unproven=True)
    assert "the client of vllm 0.11.0 is not known to bench" in refused(old)


def test_ranks_with_apis_of_their_own_are_measured_through_the_gateway() -> None:
    external = {"data_parallel": "external", "variant": "short-context"}
    nodes = [host(1, A3[0], **external)]
    assert "set bench_through to gateway" in refused(plan(view(c=nodes)))
    nodes = [host(1, A3[0], **external, gateway_hosts=["c-0"])]
    made = plan(view(c=nodes))
    target = runs(made, through="gateway")["target"]
    assert target["url"] == made["endpoint"]["url"]
    assert len(target["metrics"]) == 4


# --- the client's command ------------------------------------------------------------------------


def test_the_clients_command_for_the_pair() -> None:
    told = runs(made_plan(A2), scenarios=["190k-1k-prefix-c4"], repetitions=2)
    warm_up, first, second = (run["argv"] for run in told["runs"])
    assert first[:3] == ["/usr/bin/docker", "run", "--rm"]
    assert flag(first, "--network") == "host"
    assert not {"--privileged", "--device", "--gpus"} & set(first)
    assert flag(first, "--cap-drop") == "ALL"
    client = first[first.index("bench") - 1 :]
    assert client[:3] == ["vllm", "bench", "serve"]
    expected = {
        "--base-url": "http://10.0.0.1:20004",
        "--model": "minimax25",
        "--tokenizer": "/models/m2.5",
        "--dataset-name": "prefix_repetition",
        "--prefix-repetition-prefix-len": "175104",
        "--prefix-repetition-suffix-len": "19440",
        "--prefix-repetition-num-prefixes": "1",
        "--prefix-repetition-output-len": "1024",
        "--num-prompts": "16",
        "--max-concurrency": "4",
        "--seed": "1000",
    }
    assert {name: flag(client, name) for name in expected} == expected
    # None of the prompts was seen before, so that the cache has only what a scenario means.
    seeds = [flag(argv, "--seed") for argv in (warm_up, first, second)]
    assert len(set(seeds)) == 3
    assert flag(warm_up, "--num-prompts") == "4"
    assert flag(warm_up, "--prefix-repetition-output-len") == "32"


def test_sglangs_client_draws_lengths_as_its_guide_did() -> None:
    told = runs(made_plan(MI300X), scenarios=["1k-1k-c16"], warm_up=False)
    (run,) = told["runs"]
    argv = run["argv"]
    assert argv[argv.index("--entrypoint") + 1] == "python3"
    client = argv[argv.index("sglang.bench_serving") :]
    expected = {
        "--backend": "sglang",
        "--dataset-name": "random-ids",
        "--random-input-len": "1000",
        "--random-range-ratio": "0.0",
        "--num-prompts": "80",
        "--seed": "1",
    }
    assert {name: flag(client, name) for name in expected} == expected
    told = runs(made_plan(MI300X), warm_up=False, texts="/data/sharegpt.json")
    argv = told["runs"][0]["argv"]
    assert flag(argv, "--dataset-name") == "random"
    mounts = [argv[i + 1] for i, word in enumerate(argv) if word == "--mount"]
    inside = flag(argv, "--dataset-path")
    assert f"type=bind,source=/data/sharegpt.json,target={inside},readonly" in mounts


def test_an_engine_without_a_container_brings_its_client() -> None:
    made = made_plan(NVIDIA, install="venv", api_key_file="/etc/muster/key")
    told = runs(made)
    argv = told["runs"][0]["argv"]
    assert told["client"]["container"] is None
    assert argv[0] == "/usr/bin/setpriv"
    program = argv[argv.index("bench") - 1]
    assert program == unit_of(*NVIDIA, install="venv")["argv"][0]
    assert flag(argv, "--result-dir") == f"{told['client']['folder']}/out"


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_no_command_holds_a_key_or_hands_devices_over(name: str, variant: str) -> None:
    made = made_plan((name, variant), api_key_file="/etc/muster/key")
    if not scenarios_of(made):
        return
    for run in runs(made)["runs"]:
        words = " ".join(run["argv"])
        assert "API_KEY=" not in words
        assert "/dev/" not in words
        assert all(isinstance(word, str) and word for word in run["argv"])


CLIENTS = yaml.safe_load((ROOT / "tests/unit/bench_flags.yml").read_text())


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("recipe", [A2, B200, MI300X])
def test_every_client_has_the_flags(client: str, recipe: Any) -> None:
    engine, version = client.split()
    made = made_plan(recipe)
    if (engine == "sglang") != (made["engine"]["name"] == "sglang"):
        return
    assert versions.parse(version) >= versions.parse(OLDEST[engine])
    shared = {**TINY, "dataset": "prefix_repetition", "prefix": 32, "prefixes": 2}
    for run in runs(made, custom=[shared], texts="/texts.json")["runs"]:
        argv = run["argv"]
        begin = argv.index("sglang.bench_serving" if engine == "sglang" else "bench")
        flags = {word[2:] for word in argv[begin:] if word.startswith("--")}
        assert flags - set(CLIENTS[client].split()) == set()


def test_a_recipe_of_ones_own_has_loads_that_make_sense(tmp_path: Path) -> None:
    load = {"name": "ours", "dataset": "random", "input": 8, "output": 8}
    load |= {"concurrency": 1, "prompts": 1}
    figure = {"scenario": "ours", "source": "us", "results": {"output_tok_per_s": 1.0}}
    for run, said in (
        (load, ""),
        ({**load, "prefix": 4}, "prefix: has no place here"),
        ({**load, "dataset": "prefix_repetition"}, "'prefix' is missing"),
        ({**load, "prompts": 0}, "0 is less than the minimum of 1"),
        ({**load, "shape": 1}, "run.shape is an unknown key"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "ours").mkdir(parents=True)
        recipe = {"extends": [B200[0]], "figures": [{**figure, "run": run}]}
        (folder / "ours" / "b200.yml").write_text(yaml.safe_dump(recipe))
        nodes = [host(1, "ours/b200", recipes_path=[str(folder)])]
        if said:
            assert said in "\n".join(problems(view(c=nodes)))
        else:
            assert "ours" in [one.name for one in scenarios_of(plan(view(c=nodes)))]


def test_another_host_and_image_can_make_the_load() -> None:
    told = runs(made_plan(B200), client="load-0", image="registry/vllm:mine")
    assert (told["client_host"], told["head"]) == ("load-0", "c-0")
    assert "registry/vllm:mine" in told["runs"][0]["argv"]


# --- what the client wrote -----------------------------------------------------------------------

# The keys of vLLM 0.22.1's and SGLang 0.5.7's files.
VLLM = {
    "date": "20261127-101112",
    "request_rate": "inf",
    "max_concurrency": 2,
    "duration": 4.0,
    "completed": 8,
    "failed": 0,
    "total_input_tokens": 512,
    "total_output_tokens": 128,
    "request_throughput": 2.0,
    "request_goodput": None,
    "output_throughput": 32.0,
    "total_token_throughput": 160.0,
    "max_output_tokens_per_s": 40.0,
    "max_concurrent_requests": 3,
    "rtfx": 0.0,
    "mean_ttft_ms": 50.0,
    "median_ttft_ms": 48.0,
    "std_ttft_ms": 1.0,
    "p99_ttft_ms": 60.0,
    "mean_tpot_ms": 10.0,
    "median_tpot_ms": 9.0,
    "mean_e2el_ms": 200.0,
    "p99_e2el_ms": 240.0,
}
SGLANG = {
    "completed": 8,
    "duration": 4.0,
    "output_throughput": 32.0,
    "total_throughput": 160.0,
    "input_throughput": 128.0,
    "median_e2e_latency_ms": 190.0,
    "p99_e2e_latency_ms": 240.0,
    "max_itl_ms": 12.0,
    "accept_length": None,
}


def test_both_clients_numbers_get_the_names_of_recipes() -> None:
    found = metrics_of(VLLM)
    assert found["total_tok_per_s"] == 160
    assert (found["mean_e2e_ms"], found["p99_e2e_ms"]) == (200, 240)
    assert "request_rate" not in found
    assert metrics_of(SGLANG) == {
        "completed": 8,
        "duration_s": 4,
        "output_tok_per_s": 32,
        "total_tok_per_s": 160,
        "input_tok_per_s": 128,
        "median_e2e_ms": 190,
        "p99_e2e_ms": 240,
        "max_itl_ms": 12,
    }


def tiny(**changes: Any) -> Scenario:
    return Scenario(title="tiny", **{**TINY, **changes})


@pytest.mark.parametrize(
    ("raw", "ended", "problem"),
    [
        (VLLM, {"rc": 0}, ""),
        (SGLANG, {"rc": 0}, ""),
        ({**VLLM, "failed": 1, "completed": 7}, {"rc": 0}, "a run with failed requests is no"),
        ({**SGLANG, "completed": 7}, {"rc": 0}, "of 8 requests 7 were answered"),
        ({**VLLM, "completed": 7}, {"rc": 0}, "of 8 requests 7 were answered"),
        (VLLM, {"rc": 1}, "ended with rc 1"),
        ({}, {"rc": 0}, "does not tell how many"),
        (None, {"rc": 1, "log": ["a", "ValueError: no"]}, "without a result; it said last: Value"),
        (None, {"rc": 124, "timed_out": True}, "did not end in time (bench_timeout)"),
        (None, {"msg": "tiny: the node does not answer"}, "the node does not answer"),
    ],
)
def test_a_run_that_is_no_figure_says_why(raw: Any, ended: Any, problem: str) -> None:
    run = run_of(tiny(), 0, {**ended, "raw": raw})
    assert bool(run.problems) is bool(problem)
    assert problem in "; ".join(run.problems)


def test_answers_that_were_cut_short_are_told() -> None:
    run = run_of(tiny(), 0, {"rc": 0, "raw": {**VLLM, "total_output_tokens": 100}})
    assert run.notes == ["answers were shorter than asked for: 100 of 128 tokens"]


PAGE = """# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 500.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 850.0
vllm:external_prefix_cache_hits_total{engine="0"} 7.0
"""


def test_the_hit_rate_is_that_of_the_run_alone() -> None:
    before = prefix_cache([PAGE])
    assert before == {"queries": 1500, "hits": 850}
    after = {"queries": 3500.0, "hits": 2550.0}
    run = run_of(tiny(), 0, {"rc": 0, "raw": VLLM, "cache_before": before, "cache_after": after})
    assert run.metrics["prefix_hit_rate_percent"] == 85
    # An engine that started anew has counted from zero.
    run = run_of(tiny(), 0, {"rc": 0, "raw": VLLM, "cache_before": after, "cache_after": before})
    assert "prefix_hit_rate_percent" not in run.metrics


def test_counters_of_one_engine_that_are_missing_leave_the_rate_open() -> None:
    assert prefix_cache([PAGE, "vllm:num_requests_running 0\n"]) is None
    assert prefix_cache([]) is None
    assert prefix_cache(['sglang:prompt_tokens_total{a="b"} 8\n']) == {"queries": 8, "hits": 0}


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=5))
def test_medians_lie_within_the_repetitions(values: list[float]) -> None:
    repeated = [Run(0, {"output_tok_per_s": value}, [], []) for value in values]
    middle = medians(repeated)["output_tok_per_s"]
    assert min(values) <= middle <= max(values)


# --- the comparison ------------------------------------------------------------------------------


def status(
    name: str, measured: float, reference: float, tolerance: float = 3, **more: float
) -> str:
    (row, *_others) = comparison.rows_of({name: measured, **more}, {name: reference}, tolerance)
    return str(row["status"])


@pytest.mark.parametrize(
    ("name", "measured", "expected"),
    [
        ("output_tok_per_s", 97, "ok"),
        ("output_tok_per_s", 96.9, "worse"),
        ("output_tok_per_s", 103.1, "better"),
        ("request_per_s", 90, "worse"),
        ("median_ttft_ms", 103, "ok"),
        ("median_ttft_ms", 103.1, "worse"),
        ("median_ttft_ms", 90, "better"),
        ("mean_tpot_ms", 110, "worse"),
        ("p99_ttft_ms", 300, "shown"),
        ("max_itl_ms", 300, "shown"),
        ("duration_s", 300, "shown"),
        ("peak_output_tok_per_s", 1, "shown"),
        ("prefix_hit_rate_percent", 1, "shown"),
    ],
)
def test_each_metric_has_its_direction(name: str, measured: float, expected: str) -> None:
    assert status(name, measured, 100) == expected


@given(st.floats(0.01, 1e6), st.floats(0, 50), st.floats(0.5, 2))
def test_no_metric_is_both_better_and_worse(
    reference: float, tolerance: float, share: float
) -> None:
    up = status("output_tok_per_s", reference * share, reference, tolerance)
    down = status("median_ttft_ms", reference * share, reference, tolerance)
    mirrored = {"better": "worse", "worse": "better", "ok": "ok"}
    assert down == mirrored[up]
    if share >= 1:
        assert up != "worse"


@given(st.floats(0.01, 1e6), st.floats(0, 20), st.floats(0, 20), st.floats(0.5, 1))
def test_a_wider_tolerance_never_fails_what_a_narrow_one_passes(
    reference: float, one: float, other: float, share: float
) -> None:
    narrow, wide = sorted((one, other))
    if status("output_tok_per_s", reference * share, reference, narrow) == "ok":
        assert status("output_tok_per_s", reference * share, reference, wide) == "ok"


def test_a_median_decides_in_place_of_a_mean_that_holds_the_warm_up() -> None:
    one = {one.name: one for one in scenarios_of(made_plan(MI300X))}["1k-1k-c1"]
    rows = {
        row["metric"]: row["status"]
        for row in comparison.rows_of({**one.results, "mean_ttft_ms": 99999}, one.results, 3)
    }
    assert (rows["mean_ttft_ms"], rows["median_ttft_ms"]) == ("shown", "ok")


def test_b200s_table_is_held_against_means() -> None:
    measured = {"mean_ttft_ms": 84, "median_ttft_ms": 60}
    (row,) = comparison.rows_of(measured, {"ttft_ms": 84}, 3)
    assert (row["measured"], row["status"]) == (84, "ok")


def here(made: Any, devices: list[str], **wish: Any) -> Any:
    told = runs(made, **wish)
    return comparison.setting(made, Target(**told["target"]), devices)


def differences(recipe: Any, name: str, seen: list[str], **variables: Any) -> list[str]:
    made = made_plan(recipe, **variables)
    one = {one.name: one for one in scenarios_of(made)}[name]
    return comparison.published(one, made, here(made, seen)).differences


@pytest.mark.parametrize(
    ("recipe", "name", "devices", "variables", "expected"),
    [
        (B200, "2k-512-c8", ["NVIDIA B200"], {}, []),
        (MI300X, "1k-1k-c1", ["AMD Instinct MI300X"], {}, []),
        (
            MI300X,
            "1k-1k-c1",
            ["AMD Instinct MI325X"],
            {},
            ["the devices are AMD Instinct MI325X, and the figure is of MI300X"],
        ),
        (B200, "2k-512-c8", [], {}, ["the node does not tell the names of its devices"]),
        (
            B200,
            "2k-512-c8",
            ["NVIDIA B200"],
            {"weights_gb": 1},
            ["the weights are not the recipe's (muster_weights_gb)"],
        ),
        (
            B200,
            "2k-512-c8",
            ["NVIDIA B200"],
            {"engine_args": {"tensor-parallel-size": 2}, "devices": [0, 1]},
            ["published for tensor 4 x data 1, and this is tensor 2 x data 1"],
        ),
        (
            ("minimax-m2.7-w8a8/vllm-ascend-a3", "short-context"),
            "3.5k-1.5k-c48",
            ["Ascend910"],
            {},
            ["published for tensor 8 x data 2, and this is tensor 4 x data 4"],
        ),
    ],
)
def test_a_figure_of_another_setting_is_told_from_ones_own(
    recipe: Any, name: str, devices: list[str], variables: Any, expected: list[str]
) -> None:
    assert differences(recipe, name, devices, **variables) == expected


def test_no_lab_stands_beside_figures_of_hardware_unsaid() -> None:
    """The lab's emulated devices have the names of real ones."""
    overlay = {
        "weights_gb": 0.1,
        "idle_devices": True,
        "engine_args": {"tensor-parallel-size": 1, "data-parallel-size": 1},
    }
    told = differences(A3, "3.5k-1k-c217", ["Ascend910"], **overlay)
    assert len(told) == 2


# --- the report ----------------------------------------------------------------------------------

DEVICES = {"names": ["NVIDIA B200"] * 4, "driver": "580.1"}


def ended(raw: Any, rc: int = 0) -> dict[str, Any]:
    return {"rc": rc, "raw": raw, "timed_out": False, "log": ["the end"], "seconds": 4.0}


def as_published(one: Any, factor: float = 1) -> dict[str, Any]:
    """A client's file with a scenario's published numbers, made slower by a factor."""
    results = one["results"]
    return {
        "completed": one["prompts"],
        "failed": 0,
        "duration": 1.0,
        "total_output_tokens": one["prompts"] * one["output"],
        "output_throughput": results["output_tok_per_s"] / factor,
        "mean_ttft_ms": results["ttft_ms"] * factor,
        "mean_tpot_ms": results["tpot_ms"] * factor,
    }


def measured(
    factor: float = 1, devices: Any = DEVICES, baseline: Any = None, repetitions: int = 1
) -> dict[str, Any]:
    made = made_plan(B200)
    told = runs(made, scenarios=["2k-512-c8"], repetitions=repetitions)
    raw = as_published(told["scenarios"][0], factor)
    done = {"runs": [ended(raw) for _run in told["runs"]], "image_id": "sha256:1"}
    return report_of(made, told, done, devices, 3, baseline, "2026-11-30T10:00:00+00:00")


def test_a_report_holds_all_that_is_needed_to_repeat_it() -> None:
    report = measured()
    json.dumps(report)
    assert report["plan"]["digest"].startswith("sha256:")
    assert report["plan"]["engine"]["version"] == "0.12.0"
    assert report["client"]["image_id"] == "sha256:1"
    assert report["prefix_caching"] is True
    (one,) = report["scenarios"]
    (run,) = one["runs"]
    assert {"seed", "argv", "raw", "cache_before"} <= set(run)
    assert one["source"] == "HGX B200 guide, vLLM 0.12.0, TP 4"


def test_the_gate_opens_for_what_is_as_published_and_for_nothing_slower() -> None:
    assert measured()["scenarios"][0]["status"] == "met"
    assert gate_failures(measured()) == []
    slower = measured(1.05)
    assert slower["scenarios"][0]["status"] == "below"
    failures = gate_failures(slower)
    assert [text.split()[1] for text in failures] == ["output_tok_per_s", "ttft_ms", "tpot_ms"]
    assert "allowed 3 %" in failures[0]


def test_a_gate_that_compares_nothing_stays_shut() -> None:
    report = measured(devices={"names": ["NVIDIA B300"], "driver": None})
    assert report["scenarios"][0]["status"] == "not compared"
    assert report["passed"]
    assert "nothing was compared" in gate_failures(report)[0]
    text = "\n".join(block for block, _status in tables(report))
    assert "another setting: the devices are NVIDIA B300" in text


def test_an_earlier_report_takes_the_place_of_published_figures() -> None:
    old = {"names": ["NVIDIA B300"], "driver": None}
    baseline = check_baseline("bench-1.json", json.loads(json.dumps(measured(devices=old))))
    assert gate_failures(measured(devices=old, baseline=baseline)) == []
    assert len(gate_failures(measured(1.05, devices=old, baseline=baseline))) >= 1
    moved = measured(devices=DEVICES, baseline=baseline)
    assert moved["scenarios"][0]["status"] == "not compared"
    assert "devices: then NVIDIA B300, now NVIDIA B200" in moved["scenarios"][0]["notes"][0]
    with pytest.raises(PlanError, match="is no report of bench"):
        check_baseline("plan.json", {"schema": 1})


def test_a_warm_up_that_failed_leaves_no_figure() -> None:
    made = made_plan(B200)
    told = runs(made, scenarios=["2k-512-c8", "2k-512-c16"])
    good = as_published(told["scenarios"][1])
    done = {"runs": [ended(None, 1), None, ended(good), ended(good)]}
    report = report_of(made, told, done, DEVICES, 3, None, "now")
    first, second = report["scenarios"]
    assert (first["status"], second["status"]) == ("no figure", "met")
    assert "warm-up: the client ended with rc 1" in gate_failures(report)[0]


def test_one_bad_repetition_is_enough() -> None:
    made = made_plan(B200)
    told = runs(made, scenarios=["2k-512-c8"], repetitions=3)
    good = as_published(told["scenarios"][0])
    bad = {**good, "failed": 1, "completed": good["completed"] - 1}
    done = {"runs": [ended(good), ended(good), ended(bad), ended(good)]}
    (one,) = report_of(made, told, done, DEVICES, 3, None, "now")["scenarios"]
    assert (one["status"], one["metrics"]) == ("no figure", {})


def test_a_load_for_orientation_never_decides() -> None:
    made = made_plan(A3)
    told = runs(made, scenarios=["3.5k-1k-c217"], warm_up=False)
    raw = {"completed": 217, "failed": 0, "output_throughput": 1.0, "mean_ttft_ms": 1.0}
    done = {"runs": [ended(raw)]}
    names = {"names": ["Ascend910"], "driver": None}
    (one,) = report_of(made, told, done, names, 3, None, "now")["scenarios"]
    assert one["status"] == "not compared"
    assert any(note.startswith("for orientation: the guide gives no") for note in one["notes"])


# --- how far it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Starting main benchmark run...", None),
        ("  0%|          | 0/8 [00:00<?, ?it/s]", (0, 8, None)),
        (
            " 12%|#  | 1/8 [00:31<03:37, 31.0s/it]\n 50%|##  | 4/8 [01:00<01:00, 15.0s/it]",
            (4, 8, 60),
        ),
        ("25%| 2/8 [1:00:00<3:00:00, 1800s/it]", (2, 8, 10800)),
        ("warm-up: 2/2 [00:01<00:00, 2it/s]", None),
    ],
)
def test_the_last_bar_of_the_requests_counts(printed: str, expected: Any) -> None:
    assert progress.progress_of(printed, 8) == expected


@given(st.text(max_size=200), st.integers(1, 1000))
def test_no_text_breaks_the_progress(printed: str, total: int) -> None:
    found = progress.progress_of(printed, total)
    assert found is None or 0 <= found.done <= found.total == total


def test_times_by_the_published_figures() -> None:
    (slow, *_), (fast, *_) = scenarios_of(made_plan(MI300X)), [tiny()]
    assert expected_s(slow) == 138.49
    assert expected_s(fast) is None
    assert expected_s(tiny(results={"output_tok_per_s": 64.0})) == 2
    assert [progress.duration(s) for s in (45, 200, 5000)] == ["45 s", "3 min", "1 h 23 min"]


def test_devices_without_names_are_nobodys() -> None:
    unknown = {"names": [], "driver": None}
    baseline = check_baseline("bench-1.json", json.loads(json.dumps(measured(devices=unknown))))
    again = measured(devices=unknown, baseline=baseline)
    assert again["scenarios"][0]["status"] == "not compared"
    assert "does not tell the names of its devices" in gate_failures(again)[1]
