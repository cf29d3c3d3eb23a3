"""GuideLLM in a sweep: its command, its report as figures, traces, and what is refused.

tests/guidellm has the real one. captures/guidellm has reports of it, of a server made for them;
what nothing reads was taken out.
"""

import contextlib
import json
import shutil
import stat
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import python_env_io
from ansible_collections.muster.serving.plugins.module_utils.common.python_env_io import (
    PythonEnvError,
)
from ansible_collections.muster.serving.plugins.module_utils.engine import bench_io, guidellm_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import Place
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm import (
    TraceError,
    trace_of,
    without_requests,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm_io import GuidellmError
from ansible_collections.muster.serving.plugins.modules import bench_guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench import guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import Client
from ansible_collections.muster.serving.plugins.plugin_utils.bench.guidellm_io import Guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import progress_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    announcement,
    commands,
    run_of_client,
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import refusals
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep import Limits
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep_report import (
    step_of,
    sweep_report,
    sweep_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.report import trials
from ansible_collections.muster.serving.plugins.plugin_utils.report.shapes import wrong
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.test_bench import A3, B200, DEVICES, MI300X, TINY, flag, made_plan, refused, runs
from tests.unit.test_shipped_recipes import CASES

CAPTURES = Path(__file__).parent / "captures" / "guidellm"
SHARED = {"name": "shared", "dataset": "prefix_repetition", "input": 640, "prefix": 512}
SHARED |= {"prefixes": 2, "output": 64, "concurrency": 8, "prompts": 16}
ROW = {"timestamp": 0, "input_length": 100, "output_length": 10}


def report(name: str) -> Any:
    return json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))


def planned(plan: Any, **wish: Any) -> dict[str, Any]:
    return runs(plan, single=True, tool="guidellm", **wish)


def argv_of(plan: Any, made: Any, **more: Any) -> list[str]:
    one = scenario_of(made["scenarios"][0])
    client = guidellm.in_environment(Client(**made["client"]), "/opt/guidellm")
    return guidellm.command(plan, client, target_made(plan, made), one, 7, **more)


def said(argv: list[str], name: str) -> Any:
    value = flag(argv, name)
    return None if value is None else json.loads(value)


# --- its command ---------------------------------------------------------------------------------


def test_a_load_is_that_of_the_engines_client() -> None:
    plan = made_plan(B200, model_path="/models/m2.5")
    argv = argv_of(plan, planned(plan, custom=[SHARED], scenarios=["shared"]), seconds=30.0)
    assert argv[argv.index("--disable-console-interactive") - 2 :][:2] == [
        *("/opt/guidellm/bin/guidellm", "run")
    ]
    assert said(argv, "--profile") == {"kind": "concurrent", "streams": [8]}
    assert said(argv, "--data") == {
        "kind": "synthetic_text",
        # The prefix is part of the prompt.
        "prompt_tokens": 128,
        "output_tokens": 64,
        "prefix_tokens": 512,
        "prefix_count": 2,
    }
    bounds = [json.loads(argv[n + 1]) for n, word in enumerate(argv) if word == "--constraint"]
    assert bounds == [
        {"kind": "max_requests", "count": 16},
        {"kind": "max_duration", "seconds": 30.0},
    ]
    backend = said(argv, "--backend")
    assert plan["replicas"][0]["url"] == f"{backend['target']}/v1"
    assert (backend["model"], backend["verify"]) == (plan["endpoint"]["model"], True)
    assert said(argv, "--tokenizer")["model"] == "/models/m2.5"
    assert said(argv, "--seed")["value"] == 7
    assert "HF_HUB_OFFLINE=1" in argv


def test_objectives_of_goodput_are_handed_on() -> None:
    plan = made_plan(B200)
    made = planned(plan)
    assert "slo" not in said(argv_of(plan, made), "--metrics")
    wished = said(argv_of(plan, made, goodput={"ttft": 2000.0, "e2el": 9.0}), "--metrics")
    assert wished["slo"] == {"ttft_ms": 2000.0, "e2el_ms": 9.0}


def test_a_trace_takes_the_place_of_the_load() -> None:
    plan = made_plan(B200)
    made = planned(plan, trace="/data/monday.jsonl")
    trace = {"path": "/data/monday.jsonl", "scale": 0.001, "kind": "mooncake"}
    argv = argv_of(plan, made, trace=trace)
    assert said(argv, "--profile")["time_scale"] == 0.001
    assert said(argv, "--data")["source"] == {"kind": "json_file", "path": "/data/monday.jsonl"}
    assert "--constraint" not in argv
    rows, _told = announcement(made)
    assert rows[1][:5] == ("trace", "-", "-", "-", "-")
    assert commands(made) == []


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_any_deployment_has_a_command_without_a_key(name: str, variant: str) -> None:
    plan = made_plan((name, variant), api_key_file="/etc/muster/key")
    made = planned(plan, custom=[TINY], scenarios=["tiny"])
    argv = argv_of(plan, made)
    assert not any("api_key" in word or "/etc/muster/key" in word for word in argv)
    assert said(argv, "--tokenizer")["model"] == "/models/m2.5"
    (line,) = commands(made)
    assert "guidellm run" in line


def test_the_pin_is_that_of_the_project() -> None:
    lock = (ROOT / "roles/bench/files/requirements.lock").read_text(encoding="utf-8").split()
    (pinned,) = (line for line in lock if line.startswith("guidellm=="))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{pinned.replace("guidellm", "guidellm[perf]")}"' in project
    (torch,) = (line for line in lock if line.startswith("torch=="))
    assert "+" not in torch, "an index without the CPU's build could not serve it"
    assert not any(line.startswith("nvidia-") for line in lock)


# --- its report ----------------------------------------------------------------------------------


def test_figures_have_the_words_of_the_engines_client() -> None:
    found = guidellm.figures_of(report("errors"))
    assert found is not None
    assert (found["requests"], found["completed"], found["failed"]) == (20, 16, 4)
    assert found["total_output_tokens"] == 16 * 12
    assert found["output_throughput"] == pytest.approx(16 * 12 / found["duration"])
    assert found["request_throughput"] == pytest.approx(16 / found["duration"])
    # The server took 20 ms for the first token and 2 ms for each other.
    assert 20 < found["median_ttft_ms"] < 40
    assert 2 < found["p99_tpot_ms"] < 4
    assert 40 < found["median_e2el_ms"] < 80
    assert "p99_itl_ms" not in found, "it tells no latency of single tokens"


def test_tokens_of_requests_that_were_cut_off_count() -> None:
    cut = report("cut")
    found = guidellm.figures_of(cut)
    assert found is not None
    assert (found["requests"], found["completed"], found["failed"]) == (12, 12, 0)
    assert found["output_throughput"] > 12 * 300 / found["duration"]
    assert "3 requests under way" in guidellm.notes_of(cut)[0]


def test_what_guidellm_lost_is_told() -> None:
    lost = report("errors")
    assert not any("lost" in note for note in guidellm.notes_of(lost))
    lost["benchmarks"][0]["scheduler_state"]["processing_requests"] = 1
    assert "lost 1 of its last requests" in guidellm.notes_of(lost)[0]


@pytest.mark.parametrize("other", [{"benchmarks": [{}]}, {"reports": []}])
def test_a_report_of_another_guidellm_is_named(other: Any) -> None:
    plan = made_plan(B200)
    client = Guidellm(SimpleNamespace(), {}, plan, planned(plan), {})
    with pytest.raises(PlanError, match="bench_venv: its GuideLLM reports otherwise"):
        client.read({"raw": other})
    assert client.read({"raw": None, "rc": 2}) == {"raw": None, "rc": 2, "notes": []}


@pytest.mark.parametrize("nothing", [None, {"benchmarks": []}])
def test_no_load_has_no_figures(nothing: Any) -> None:
    assert guidellm.figures_of(nothing) is None


def test_a_report_without_requests_is_a_report() -> None:
    whole = report("errors")
    assert whole["benchmarks"][0]["requests"]["errored"]
    less = without_requests(whole)
    assert less["benchmarks"][0]["requests"] == {
        "successful": [],
        "errored": [],
        "incomplete": [],
        "total": None,
    }
    assert less["benchmarks"][0]["metrics"] == whole["benchmarks"][0]["metrics"]
    both = guidellm.merged([less, without_requests(report("cut"))])
    assert both is not None
    assert [one["duration"] for one in both["benchmarks"]] == [
        report(name)["benchmarks"][0]["duration"] for name in ("errors", "cut")
    ]
    assert guidellm.merged([]) is None


def step(plan: Any, made: Any, name: str, bounds: dict[str, float]) -> dict[str, Any]:
    raw = report(name)
    figures = guidellm.figures_of(raw)
    ended = {"raw": figures, "rc": 0, "log": [], "seconds": 9.0, "samples": []}
    ended["notes"] = guidellm.notes_of(raw)
    one = scenario_of(made["scenarios"][0])._replace(concurrency=3)
    run = run_of_client(one, 1, one.seed, argv_of(plan, made), None)
    return step_of(one, run, ended, bounds)


def test_failed_requests_are_no_figure_and_those_cut_off_are_no_failure() -> None:
    plan = made_plan(B200)
    made = planned(plan)
    (problem,) = step(plan, made, "errors", {})["problems"]
    assert problem.startswith("of 20 requests 16 were answered")
    cut = step(plan, made, "cut", {"p99_tpot_ms": 50, "p50_ttft_ms": 5})
    assert (cut["problems"], cut["requests"]) == ([], 12)
    assert [line.split()[0] for line in cut["broken"]] == ["p50_ttft_ms"]
    assert any("time was up" in note for note in cut["notes"])
    with pytest.raises(PlanError, match="does not tell p99_itl_ms"):
        step(plan, made, "cut", {"p99_itl_ms": 5})


def test_a_time_in_which_nothing_ended_is_no_figure() -> None:
    plan = made_plan(B200)
    made = planned(plan)
    ended = {"raw": {"requests": 0, "completed": 0, "failed": 0}, "rc": 0, "log": [], "seconds": 9}
    one = scenario_of(made["scenarios"][0])
    run = run_of_client(one, 1, 0, ["guidellm"], None)
    assert "bench_step_s" in step_of(one, run, {**ended, "samples": []}, {})["problems"][0]


def swept(name: str, bounds: dict[str, float], trace: bool) -> dict[str, Any]:
    plan = made_plan(B200)
    wish = {"trace": "/data/monday.jsonl"} if trace else {}
    made = planned(plan, **wish)
    seen = {"path": "/data/monday.jsonl", "requests": 20, "kind": "mooncake", "scale": 1.0}
    told = {"version": "0.8.1", "venv": "/v", "seconds": None, "report": "a.json", "page": "a.html"}
    told["trace"] = seen if trace else None
    steps = [step(plan, made, name, bounds)]
    made_of = (plan, made, steps, Limits(1, 3, 5), bounds, {}, DEVICES, "2026-11-30T10:00:00Z")
    return sweep_report(*made_of, told)


@pytest.mark.parametrize(
    ("name", "bounds", "ended", "text"),
    [
        ("cut", {}, "replayed", "12 requests were answered, 3 at once in the mean."),
        ("cut", {"p50_ttft_ms": 999.0}, "replayed", "It keeps the bounds."),
        ("cut", {"p50_ttft_ms": 1.0}, "bound broken", "It breaks a bound."),
        ("errors", {}, "requests failed", "gave no figure: of 20 requests 16"),
    ],
)
def test_a_trace_has_one_step_and_no_knee(
    name: str, bounds: dict[str, float], ended: str, text: str
) -> None:
    found = swept(name, bounds, True)
    assert wrong("sweep", json.loads(json.dumps(found))) == ""
    assert (found["ended"], found["knee"], found["largest_within_bounds"]) == (ended, None, None)
    assert text in sweep_text(found)
    page = trials.sweep(found)
    assert page is not None
    facts = dict(page["facts"])
    assert "Knee" not in facts
    assert "Largest load inside them" not in facts
    assert facts["Trace"] == "/data/monday.jsonl, 20 requests"
    assert facts["Client"] == "GuideLLM 0.8.1, its own page in a.html"
    assert page["word"] == f"trace {ended}"


def test_a_sweep_by_guidellm_is_a_sweep() -> None:
    found = swept("cut", {"p50_ttft_ms": 999.0}, False)
    # How many were under way in the mean is not how many were asked for.
    assert found["steps"][0]["metrics"]["concurrency"] < 3
    assert found["largest_within_bounds"]["concurrency"] == 3
    assert found["best"]["concurrency"] == 3
    assert "Largest load inside the bounds: 3 requests at once" in sweep_text(found)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("| elapsed=9.9s | successful=12 errored=1 incomplete=4 | requests/s=1", (13, 20, None)),
        ("x | successful=3 errored=0 i\ny | successful=30 errored=0 i", (20, 20, None)),
        ("(concurrent@2): started | elapsed=0.0s | successful=0 errored=0 incomplete=0", None),
    ],
)
def test_its_lines_tell_how_far_it_is(printed: str, expected: Any) -> None:
    found = progress_of(printed, 20)
    assert found == expected


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"trace": "/t"}, "bench_trace is replayed by GuideLLM: set bench_tool to guidellm"),
        ({"tool": "guidellm", "image": "x"}, "bench_image is of the engine's client"),
        ({"tool": "guidellm", "texts": "/x"}, "bench_texts is of the engine's client"),
        (
            {"tool": "guidellm", "trace": "/t", "custom": [TINY]},
            "leave out bench_scenarios and bench_custom",
        ),
    ],
)
def test_options_of_the_other_client_are_refused(wish: Any, text: str) -> None:
    assert text in refused(made_plan(B200), single=True, **wish)


@pytest.mark.parametrize("name", ["venv", "python", "wheels", "seconds"])
def test_an_environment_is_nothing_for_the_engines_client(name: str) -> None:
    asked = dict.fromkeys(("venv", "python", "wheels", "seconds"))
    asked |= {"trace_scale": 1.0, name: "x"}
    variable = "bench_step_s" if name == "seconds" else f"bench_{name}"
    with pytest.raises(PlanError, match=f"{variable} is of GuideLLM"):
        guidellm.check_environment("engine", asked)
    guidellm.check_environment("guidellm", asked)
    with pytest.raises(PlanError, match="bench_trace_scale has to be more than 0"):
        guidellm.check_environment("guidellm", {**asked, "trace_scale": 0.0})


@pytest.mark.parametrize(
    ("seconds", "lasts", "text"),
    [
        (None, 0.0, ""),
        (599.0, 9000.0, ""),
        (None, 599.0, ""),
        (None, 600.0, "bench_trace_scale: 0.001 for milliseconds"),
        (600.0, 0.0, "less than bench_timeout"),
        (0.0, 0.0, "more than 0"),
    ],
)
def test_a_load_ends_before_its_client_is_ended(
    seconds: float | None, lasts: float, text: str
) -> None:
    if not text:
        guidellm.check_time(seconds, lasts, 600)
        return
    with pytest.raises(PlanError) as error:
        guidellm.check_time(seconds, lasts, 600)
    assert text in str(error.value)


def test_a_trace_that_does_not_fit_names_what_to_change() -> None:
    plan = made_plan(A3)
    context = plan["bench"]["context"]
    fits = guidellm.trace_load("/t", {"requests": 9, "input": context - 10, "output": 10})
    assert refusals(fits, plan, "guidellm") == []
    long = guidellm.trace_load("/t", {"requests": 9, "input": context, "output": 10})
    (text,) = refusals(long, plan, "guidellm")
    assert f"needs a context of {context + 10} tokens" in text


def test_guidellm_needs_no_engine_of_an_age_and_draws_exact_lengths() -> None:
    plan = made_plan(MI300X)
    (one,) = (one for one in planned(plan, custom=[TINY], scenarios=["tiny"])["scenarios"])
    old = {**plan, "engine": {**plan["engine"], "version": "0.4.0"}}
    assert len(refusals(scenario_of(one), old)) == 1
    assert refusals(scenario_of(one), old, "guidellm") == []
    up_to = scenario_of(one)._replace(lengths="up_to")
    assert refusals(up_to, plan) == []
    assert "exact lengths" in refusals(up_to, plan, "guidellm")[0]


# --- traces --------------------------------------------------------------------------------------


def test_a_trace_is_told_by_its_longest_request() -> None:
    rows = [ROW, {**ROW, "timestamp": 7.5, "input_length": 50, "output_length": 200}]
    found = trace_of([json.dumps(rows[1]), "", json.dumps(rows[0])])
    assert found == {
        "kind": "trace_synthetic",
        "requests": 2,
        "seconds": 7.5,
        "input": 50,
        "output": 200,
    }
    assert trace_of([json.dumps({**ROW, "hash_ids": [1]})])["kind"] == "mooncake"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "no requests"),
        (["timestamp,input_length"], "line 1 is no JSON"),
        (["[1, 2]"], "line 1 is no JSON object"),
        ([json.dumps(ROW), "{}"], "line 2: timestamp has to be a number, and is None"),
        ([json.dumps({**ROW, "timestamp": -1})], "timestamp has to be 0 or more"),
        ([json.dumps({**ROW, "timestamp": float("inf")})], "timestamp has to be 0 or more"),
        ([json.dumps({**ROW, "input_length": 0})], "input_length has to be 1 or more"),
        ([json.dumps({**ROW, "output_length": 2.5})], "output_length has to be a number"),
        ([json.dumps({**ROW, "output_length": True})], "output_length has to be a number"),
        (
            [json.dumps(ROW), json.dumps({**ROW, "hash_ids": [1]})],
            "1 of its 2 requests have hash_ids",
        ),
    ],
)
def test_what_is_no_trace_says_where(lines: list[str], text: str) -> None:
    with pytest.raises(TraceError) as error:
        trace_of(lines)
    assert text in str(error.value)


@given(st.lists(st.one_of(st.text(), st.just(json.dumps(ROW))), max_size=6))
def test_no_text_breaks_the_look_at_a_trace(lines: list[str]) -> None:
    with contextlib.suppress(TraceError):
        assert trace_of(lines)["requests"] >= 1


# --- its host ------------------------------------------------------------------------------------


def interpreter(folder: Path, version: str) -> str:
    """Something that is called as Python is, says its version and fails at all else."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && echo {version} || {{ echo no venv >&2; exit 1; }}'
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("version", "wheels", "text"),
    [
        ("3 10", None, "is Python 3.10, and GuideLLM wants 3.11 or later: set bench_python"),
        ("3 12", "/no/wheels", "bench_wheels: there is no folder /no/wheels"),
        ("3 12", None, "the environment cannot be had: no venv"),
    ],
)
def test_an_environment_that_cannot_be_made_says_why(
    cache: Path, tmp_path: Path, version: str, wheels: str | None, text: str
) -> None:
    with pytest.raises(PythonEnvError) as error:
        guidellm_io.prepare("guidellm==0", interpreter(tmp_path, version), wheels, None)
    assert text in str(error.value)
    assert not list(cache.glob("*/*/.complete"))


def test_a_full_disk_is_told_before_it_is_filled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(9, 9, 1 << 30))
    with pytest.raises(PythonEnvError, match=r"1\.0 GiB free.*GuideLLM takes 2\.5.*XDG_CACHE_HOME"):
        guidellm_io.prepare("guidellm==0", interpreter(tmp_path, "3 12"), None, None)
    assert not list(cache.glob("*/venv*"))


def test_a_host_without_an_index_is_told_what_to_bring(cache: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(PythonEnvError, match=r"(?s)bench_wheels.*roles/bench/files.*bench_venv"):
        guidellm_io.prepare("guidellm==0.0.0", None, str(wheels), None)
    assert not list(cache.glob("*/*/.complete"))


def test_what_guidellm_reads_has_to_be_there(tmp_path: Path) -> None:
    params: dict[str, Any] = dict.fromkeys(("lock", "python", "wheels", "venv", "url", "trace"))
    params |= {"tokenizer": str(tmp_path), "api_key_file": None}
    with pytest.raises(GuidellmError, match=r"tokenizer.*bench_client"):
        bench_guidellm.prepare(params, check_mode=True)
    (tmp_path / "tokenizer.json").touch()
    params["trace"] = str(tmp_path / "trace.jsonl")
    with pytest.raises(GuidellmError, match=r"bench_trace: .*cannot be read on this host"):
        bench_guidellm.prepare(params, check_mode=True)
    (tmp_path / "trace.jsonl").write_text("{}\n")
    with pytest.raises(GuidellmError, match=r"bench_trace: .*line 1: timestamp"):
        bench_guidellm.prepare(params, check_mode=True)
    (tmp_path / "trace.jsonl").write_text(f"{json.dumps(ROW)}\n")
    found = bench_guidellm.prepare(params, check_mode=True)
    assert (found["venv"], found["made"], found["trace"]["requests"]) == (None, False, 1)
    params["venv"] = str(tmp_path)
    with pytest.raises(GuidellmError, match=r"there is no .*bin/guidellm.*bench_venv"):
        bench_guidellm.prepare(params, check_mode=True)


def test_a_page_that_is_not_made_says_why(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "guidellm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'ValidationError: no report' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(GuidellmError, match="makes no page: ValidationError: no report"):
        guidellm_io.page_of(str(tmp_path), {})


def test_the_key_reaches_guidellm_by_its_environment_alone(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "run"), None, None)
    script = 'printf %s "$GUIDELLM__SPEC__BACKEND__API_KEY" | tr a-z A-Z; ls -l "$0/env"'
    bench_io.start(place, ["/bin/sh", "-c", script, place.folder], "sk-secret", 20)
    try:
        seen = bench_io.look(place, 20)
        assert "SK-SECRET" in seen["log"][0]
        assert stat.S_IMODE((tmp_path / "run/env").stat().st_mode) == 0o600
    finally:
        bench_io.end(place)


def test_both_clients_environments_lie_apart(cache: Path) -> None:
    folder = python_env_io.cache_dir(guidellm_io.GUIDELLM)
    assert folder == str(cache / "muster-guidellm")
