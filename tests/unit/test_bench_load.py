"""The thin edge of sweep and soak: the actions over a client that answers as an engine would."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.action import (
    bench_soak,
    bench_soak_report,
    bench_sweep,
)
from ansible_collections.muster.serving.plugins.module_utils.engine import bench_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import Place

from tests.unit.fake_endpoint import serving
from tests.unit.test_bench import B200, TINY, flag, made_plan, runs

PLAN = made_plan(B200)
MADE = runs(PLAN, custom=[TINY], scenarios=["tiny"], single=True, warm_up=False)
URL = MADE["target"]["url"]

# What an engine makes of a run, from its requests at once and in all, and its number.
Engine = Callable[[int, int, int], dict[str, Any]]


def sample(at: float, running: float, moves: int, error: str = "") -> dict[str, Any]:
    rank = {"running": running, "waiting": 0.0, "kv_usage": 0.1, "moves": moves}
    if error:
        return {"at": at, "engines": {}, "errors": {URL: error}}
    return {"at": at, "engines": {URL: {"0": rank}}, "errors": {}}


def answered(at_once: int, requests: int, number: int) -> dict[str, Any]:
    """A client's end, whose engine has sixteen places."""
    raw = {
        "completed": requests,
        "failed": 0,
        "output_throughput": 10.0 * min(at_once, 16),
        "request_throughput": min(at_once, 16) / 2,
        "p99_ttft_ms": 100.0,
    }
    samples = [sample(1000.0 + 10 * number + at, min(at_once, 16), number + at) for at in (0, 5)]
    return {"raw": raw, "rc": 0, "samples": samples}


def act(
    action_class: Any, engine: Engine, hostvars: dict[str, Any] | None = None, **args: Any
) -> dict[str, Any]:
    """What an action returns whose client ends as the engine says."""
    ends: list[dict[str, Any]] = []

    def module(module_args: dict[str, Any], **_more: Any) -> dict[str, Any]:
        if module_args["step"] == "start":
            argv = module_args["argv"]
            at_once, requests = (
                int(flag(argv, name) or 0) for name in ("--max-concurrency", "--num-prompts")
            )
            ends.append({"cache": None, **engine(at_once, requests, len(ends))})
            return {"running": True, "cache": None, "image_id": "sha256:1", "image_digests": []}
        if module_args["step"] == "end":
            return {}
        told = {"printed": [], "timed_out": False, "log": ["the end"], "running": False}
        return {**told, **ends[-1]}

    action = action_class.__new__(action_class)
    task = {"args": {"plan": PLAN, "made": MADE, **args}, "check_mode": False, "async_val": 0}
    action._task = SimpleNamespace(**task)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action._execute_module = module
    found: dict[str, Any] = action.run(task_vars={"hostvars": hostvars})
    return found


def written(result: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(result["report_file"]).read_text())
    return found


def test_a_sweep_goes_on_to_its_end_and_writes_what_it_found(tmp_path: Path) -> None:
    result = act(bench_sweep.ActionModule, answered, output_dir=str(tmp_path))
    report = written(result)
    assert result["failures"] == []
    assert report["ended"] == "saturated"
    assert 15 <= report["knee"]["concurrency"] <= 17
    assert [step["concurrency"] for step in report["steps"]][:6] == [1, 2, 4, 8, 16, 32]
    assert report["client"]["image_id"] == "sha256:1"
    assert result["ansible_stats"]["data"]["muster_sweep"]["c"]["ended"] == "saturated"


def test_a_sweep_ends_with_a_client_that_gives_nothing(tmp_path: Path) -> None:
    def dying(at_once: int, requests: int, number: int) -> dict[str, Any]:
        if at_once < 4:
            return answered(at_once, requests, number)
        return {"raw": None, "rc": 1, "samples": []}

    result = act(bench_sweep.ActionModule, dying, output_dir=str(tmp_path))
    assert "the client ended with rc 1" in result["failures"][0]
    report = written(result)
    assert (report["ended"], len(report["steps"])) == ("no result", 3)
    assert report["best"]["concurrency"] == 2


def soaked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a soak returns, when each window takes a minute."""
    clock = {"now": 0.0}

    def timed(at_once: int, requests: int, number: int) -> dict[str, Any]:
        clock["now"] += 60
        return engine(at_once, requests, number)

    fake = SimpleNamespace(monotonic=lambda: clock["now"], time=lambda: 1000.0 + clock["now"])
    monkeypatch.setattr(bench_soak, "time", fake)
    return act(bench_soak.ActionModule, timed, duration=600)


def test_a_soak_makes_windows_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    result = soaked(answered, monkeypatch)
    assert result["event"] is None
    assert len(result["windows"]) == 10
    first, second = result["windows"][:2]
    # One request a second, for a minute.
    assert (first["requests"], second["requests"]) == (4, 60)
    assert len({window["seed"] for window in result["windows"]}) == 10


def test_a_soak_ends_when_its_engine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(at_once: int, requests: int, number: int) -> dict[str, Any]:
        if number < 3:
            return answered(at_once, requests, number)
        samples = [sample(2000.0 + 5 * at, 0, 0, "Connection refused") for at in range(8)]
        return {"samples": samples, "running": True}

    result = soaked(dying, monkeypatch)
    assert len(result["windows"]) == 4
    assert result["event"]["kind"] == "silent"
    assert result["windows"][-1]["samples"]
    assert result["windows"][-1]["failed"] == 0


def test_a_soaks_report_takes_what_nodes_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = soaked(answered, monkeypatch)
    unit = {"state": "active", "restarts": 0, "invocation": "a", "memory_mb": 9.0}
    samples = [
        {"at": 1000.0 + at, "units": {"u.service": {**unit, "invocation": run}}, "devices": {}}
        for at, run in ((0, "a"), (30, "b"))
    ]
    watched = {"samples": samples, "last_words": {"u.service": ["Out of memory"]}}
    result = act(
        bench_soak_report.ActionModule,
        answered,
        done=done,
        watched="seen",
        output_dir=str(tmp_path),
        hostvars={MADE["head"]: {"seen": watched}},
    )
    assert not result["passed"]
    assert "u.service on" in result["failures"][0]
    assert "Out of memory" in result["failures"][0]
    assert written(result)["nodes"] == {MADE["head"]: samples}


def test_engines_are_sampled_while_a_client_runs(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "bench"), None, None)
    with serving() as endpoint:
        bench_io.start(place, ["sleep", "2"], None, 60)
        nobody = "http://127.0.0.1:1/v1"
        seen = bench_io.look(place, 20, [endpoint.url, nobody], None, 0.5)
        bench_io.end(place)
    assert not seen["running"]
    assert len(seen["samples"]) >= 2
    first, last = seen["samples"][0], seen["samples"][-1]
    assert first["engines"][endpoint.url]["1"]["tokens"] == 7
    assert "refused" in last["errors"][nobody]
    assert last["at"] > first["at"]
