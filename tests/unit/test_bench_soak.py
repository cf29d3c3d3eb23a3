"""Whether a steady load is borne: what dies, stands still or grows is named, and noise is not."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.devices.memory_io import memory_used
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.units import watch_io
from ansible_collections.muster.serving.plugins.module_utils.units.memory import (
    memory_bytes,
    memory_stat_path,
    resident_bytes,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench import soak
from ansible_collections.muster.serving.plugins.plugin_utils.bench.drift import drift_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Scenario
from ansible_collections.muster.serving.plugins.plugin_utils.bench.soak_report import (
    soak_report,
    soak_text,
    told,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_bench import B200, DEVICES, made_plan, runs

# --- drift ---------------------------------------------------------------------------------------


def series(value: Any, count: int = 60, every: float = 30) -> list[tuple[float, float]]:
    return [(1.8e9 + every * step, value(step)) for step in range(count)]


def memory(points: Any) -> Any:
    return drift_of(points, 64, 1)


def noise_of(seed: int, size: float) -> Any:
    drawn = random.Random(seed)  # noqa: S311 - it has to be the same each time
    return lambda: drawn.gauss(0, size)


@pytest.mark.parametrize("size", [1500, 150])
def test_noise_is_no_drift(size: float) -> None:
    for seed in range(200):
        noise = noise_of(seed, size)
        assert memory(series(lambda _step, noise=noise: 10000 + noise())) is None, seed


def test_a_leak_within_noise_is_named_with_its_rate() -> None:
    for seed in range(50):
        noise = noise_of(seed, 100)
        # 20 MiB every half minute.
        found = memory(series(lambda step, noise=noise: 10000 + 20 * step + noise()))
        assert found is not None, seed
        assert found.per_hour == pytest.approx(2400, rel=0.35), seed


def test_single_outliers_neither_make_nor_hide_a_leak() -> None:
    flat = series(lambda step: 90000 if step in (50, 58) else 10000 + step % 3)
    assert memory(flat) is None
    leak = series(lambda step: 1 if step in (50, 58) else 10000 + 20 * step)
    assert memory(leak) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a step", lambda step: 10000 if step < 35 else 12000),
        ("what levels off", lambda step: 10000 + 3000 * (1 - 0.9**step)),
        ("a saw", lambda step: 10000 + 200 * (step % 7)),
        ("a fall", lambda step: 20000 - 50 * step),
        ("too little to matter", lambda step: 10000 + 0.5 * step),
        ("nothing", lambda _step: 0),
    ],
)
def test_what_does_not_go_on_is_no_leak(name: str, value: Any) -> None:
    assert memory(series(value)) is None, name


def test_few_values_tell_nothing() -> None:
    assert memory(series(lambda step: 10000 + 500 * step, count=8)) is None
    assert memory([]) is None


@given(
    st.lists(st.floats(-1e9, 1e9), max_size=300),
    st.floats(0.001, 1e5),
)
def test_any_values_are_borne(values: list[float], every: float) -> None:
    points = [(every * at, value) for at, value in enumerate(values)]
    found = memory(points)
    assert found is None or (found.growth >= 64 and found.per_hour > 0)


@given(st.integers(10, 3000), st.floats(2, 500))
def test_a_straight_growth_is_found_at_any_length(count: int, step: float) -> None:
    points = series(lambda at: 100 + step * at, count=max(count, 20))
    found = memory(points)
    grown = step * 0.8 * (len(points) - 1)
    if grown > 70:
        assert found is not None
        assert found.per_hour == pytest.approx(step * 120, rel=0.01)


# --- the windows ---------------------------------------------------------------------------------

ONE = Scenario("one", "a load", "random", 64, 16, concurrency=4, prompts=8, seed=100)
SOAK = soak.Soak(600, 60, 30)


def test_a_window_is_as_long_as_the_last_one_was_fast() -> None:
    first = soak.window_load(ONE, None, 0, SOAK, 600)
    assert first is not None
    assert (first.prompts, first.seed) == (8, 100)
    second = soak.window_load(ONE, {"request_per_s": 2.5}, 1, SOAK, 550)
    assert second is not None
    assert (second.prompts, second.seed) == (150, 101)
    last = soak.window_load(ONE, {"request_per_s": 2.5}, 9, SOAK, 20)
    assert last is not None
    assert last.prompts == 50
    assert soak.window_load(ONE, {"request_per_s": 2.5}, 9, SOAK, 10) is None
    # It is never narrower than the load.
    slow = soak.window_load(ONE, {"request_per_s": 0.01}, 1, SOAK, 550)
    assert slow is not None
    assert slow.prompts == 4


@given(
    st.floats(0.001, 1000),
    st.integers(60, 5000),
    st.integers(10, 600),
)
def test_windows_come_to_an_end(rate: float, duration: int, window: int) -> None:
    wanted = soak.soak_of(duration, window, 60)
    left, number = float(duration), 0
    last: Any = None
    while (one := soak.window_load(ONE, last, number, wanted, left)) is not None:
        left -= one.requests / rate
        last = {"request_per_s": rate}
        number += 1
        assert number <= 8 * duration / wanted.window + 8


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((30, 60, 60), "bench_soak_s has to be 60 seconds or more"),
        ((600, 5, 60), "bench_window_s has to be 10 seconds or more"),
        ((600, 60, 1), "bench_stall_s has to be 10 seconds or more"),
    ],
)
def test_times_that_make_no_sense_are_refused(times: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        soak.soak_of(*times)


# --- what happens to engines ---------------------------------------------------------------------

URL = "http://10.0.0.1:8000/v1"


def at(second: float, ranks: Any = None, error: str = "") -> dict[str, Any]:
    engines = {} if ranks is None else {URL: ranks}
    return {"at": 1000.0 + second, "engines": engines, "errors": {URL: error} if error else {}}


def rank(work: float, moves: int, tokens: float | None = None) -> dict[str, Any]:
    tokens = 10.0 * moves if tokens is None else tokens
    return {"running": work, "waiting": 0.0, "tokens": tokens, "moves": moves}


def happened(samples: list[Any], stall: float = 30) -> Any:
    return soak.event_of(samples, stall)


def test_a_load_that_is_borne_is_no_event() -> None:
    assert happened([at(5 * n, {"0": rank(4, n), "1": rank(3, n)}) for n in range(100)]) is None


def test_an_engine_with_work_and_without_a_token_stands_still() -> None:
    samples = [at(5 * n, {"0": rank(4, min(n, 4))}) for n in range(20)]
    event = happened(samples)
    assert (event.kind, event.at) == ("stalled", 1025.0)
    assert "4 requests run or wait, no token for 30 s" in event.what
    assert happened(samples[:10]) is None


def test_one_rank_that_stands_still_beside_others_is_named() -> None:
    samples = [at(5 * n, {"0": rank(4, n), "1": rank(4, min(n, 2))}) for n in range(20)]
    assert happened(samples).what.startswith("rank 1: 4 requests")


def test_an_engine_without_work_may_rest() -> None:
    assert happened([at(5 * n, {"0": rank(0, 1)}) for n in range(20)]) is None
    mixed = [at(5 * n, {"0": rank(4 if n % 3 else 0, n // 3)}) for n in range(40)]
    assert happened(mixed) is None


def test_requests_that_reach_no_engine_are_an_event() -> None:
    event = happened([at(5 * n, {"0": rank(0, 1)}) for n in range(60)])
    assert event.kind == "stalled"
    assert "no engine has had a request" in event.what


def test_metrics_that_stay_silent_are_an_event_and_one_missing_answer_is_none() -> None:
    good = [at(5 * n, {"0": rank(4, n)}) for n in range(3)]
    late = [at(15, error="no answer within 10 s"), at(20, {"0": rank(4, 9)})]
    assert happened([*good, *late]) is None
    event = happened([*good, *(at(15 + 5 * n, error="Connection refused") for n in range(7))])
    assert (event.kind, event.at) == ("silent", 1015.0)
    assert "has not answered for 30 s (Connection refused)" in event.what


def test_counters_that_begin_anew_are_a_restart() -> None:
    before, after = at(0, {"0": rank(4, 50)}), at(10, {"0": rank(0, 1)})
    event = happened([before, at(5, error="Connection refused"), after])
    assert (event.kind, event.at) == ("restarted", 1010.0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "Connection refused"])
        ),
        max_size=60,
    )
)
def test_any_samples_are_borne(samples: list[tuple[int, int, str]]) -> None:
    made = [
        at(5 * n, None if error else {"0": rank(work, moves)}, error)
        for n, (work, moves, error) in enumerate(samples)
    ]
    event = happened(made)
    assert event is None or event.at >= 1000


@pytest.mark.parametrize(
    ("metrics", "ended", "kind", "what"),
    [
        ({"completed": 8.0, "failed": 0.0}, {}, None, ""),
        ({"completed": 6.0, "failed": 2.0}, {}, None, ""),
        ({"completed": 2.0}, {}, "errors", "6 of 8 requests of a window failed"),
        ({}, {"rc": 1}, "client", "rc 1 and without a result; it said last: no route"),
        ({}, {"rc": 124, "timed_out": True}, "client", "its requests did not end in time"),
        ({}, {"rc": None, "msg": "window 3: the node does not answer"}, "client", "window 3"),
    ],
)
def test_a_window_without_answers_ends_it(metrics: Any, ended: Any, kind: Any, what: str) -> None:
    result = {"rc": 0, "timed_out": False, "log": ["no route", ""], **ended}
    event = soak.window_event(ONE, metrics, result, 1000.0)
    assert (event.kind if event else None) == kind
    assert event is None or what in event.what


# --- memory of a unit ----------------------------------------------------------------------------


V1 = "40 30 0:36 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
NESTED = "40 30 0:36 /machine/n0 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "path"),
    [
        (
            "0::/system.slice/docker-ab.scope\n",
            V2,
            "/sys/fs/cgroup/system.slice/docker-ab.scope/memory.stat",
        ),
        (
            "12:cpuset:/docker/ab\n5:cpu,memory:/docker/ab\n0::/x\n",
            V1 + V2,
            "/sys/fs/cgroup/memory/docker/ab/memory.stat",
        ),
        # In a container that sees its own part alone.
        (
            "5:memory:/machine/n0/docker/ab\n",
            NESTED,
            "/sys/fs/cgroup/memory/docker/ab/memory.stat",
        ),
        ("0::/\n", V2, "/sys/fs/cgroup/memory.stat"),
        ("0::/\n", "", None),
        ("5:memory:/docker/ab\n", V2, None),
        ("", V2, None),
        ("nothing", "nothing - \n", None),
    ],
)
def test_a_process_leads_to_its_memory(cgroup: str, mounts: str, path: str | None) -> None:
    assert memory_stat_path(cgroup, mounts) == path


def test_without_a_control_group_the_processes_tell() -> None:
    assert resident_bytes("Name:\tpython\nVmRSS:\t900 kB\nRssAnon:\t   300 kB\n") == 307200
    assert resident_bytes("Name:\tkthreadd\n") == 0


@pytest.mark.parametrize(
    ("stat", "found"),
    [
        ("anon 100\nfile 999\nkernel 7\nshmem 20\n", 120),
        ("cache 999\nrss 5\ntotal_rss 100\ntotal_cache 9\ntotal_shmem 20\n", 120),
        ("anon 100\n", 100),
        ("", None),
        ("anon lots\n", None),
    ],
)
def test_memory_is_what_no_file_gives_back(stat: str, found: int | None) -> None:
    assert memory_bytes(stat) == found


# --- the report ----------------------------------------------------------------------------------

UNIT = "muster-c-r0-rank0.service"
WORD_OF_SYSTEMD = f"2026-11-30T14:20:03+0000 n0 systemd[1]: Stopped {UNIT}."


def window(number: int, **metrics: Any) -> dict[str, Any]:
    return {
        "begin": 1000.0 + 60 * number,
        "end": 1060.0 + 60 * number,
        "requests": 100,
        "failed": 0,
        "seed": number,
        "argv": ["client"],
        "rc": 0,
        "metrics": {"completed": 100, "median_ttft_ms": 50.0, "output_tok_per_s": 9.0, **metrics},
        "engine": None,
        "samples": [],
        "log": None,
    }


def look(second: float, memory_mb: float | None = 9000, run: str = "a", **more: Any) -> Any:
    unit = {"state": "active", "restarts": 0, "invocation": run, "memory_mb": memory_mb, **more}
    return {"at": 1000.0 + second, "units": {UNIT: unit}, "devices": {"0": 60000, "7": 5}}


def reported(
    windows: Any = None, samples: Any = None, event: Any = None, watched: Any = None
) -> dict[str, Any]:
    made = made_plan(B200)
    told_ = runs(made, scenarios=["2k-512-c8"], single=True)
    windows = [window(n) for n in range(30)] if windows is None else windows
    samples = [look(30.0 * n) for n in range(60)] if samples is None else samples
    done = {"windows": windows, "event": event, "soak": SOAK._asdict(), "seconds": 600.0}
    host = told_["head"]
    seen = {
        host: watched
        or {"samples": samples, "last_words": {UNIT: ["Out of memory", WORD_OF_SYSTEMD]}}
    }
    report = soak_report(made, told_, {**done, "image_id": "x"}, seen, DEVICES, "now")
    json.dumps(report)
    return report


def test_what_is_borne_has_passed() -> None:
    report = reported()
    assert report["passed"]
    assert report["findings"] == []
    said = "passed after 600 of 600 s: 3000 requests, none failed, no restart"
    assert said in soak_text(report)


def test_a_unit_that_was_restarted_is_told_with_its_last_words() -> None:
    samples = [look(0), look(30), look(60, run="b", restarts=1), look(90, run="b", restarts=1)]
    event = {"kind": "silent", "at": 1065.0, "what": "it has not answered for 30 s"}
    report = reported([window(0)], samples, event)
    assert not report["passed"]
    assert [one["kind"] for one in report["findings"]] == ["ended", "silent"]
    first, second = told(report)
    assert "00:17:40Z ended: muster-c-r0-rank0.service on" in first
    assert first.endswith("its run has ended, it has started anew; its last line: Out of memory")
    assert "00:17:45Z silent" in second


def test_a_unit_that_is_down_is_told_by_its_state() -> None:
    samples = [look(0), look(30, state="failed")]
    assert "it is failed" in told(reported([window(0)], samples))[0]


def test_failed_requests_are_no_pass() -> None:
    windows = [window(n) for n in range(30)]
    windows[7]["failed"] = 2
    (one,) = reported(windows)["findings"]
    assert (one["kind"], one["what"]) == ("errors", "2 of 3000 requests failed")
    assert one["at"] == windows[7]["end"]
    event = {"kind": "stalled", "at": windows[9]["end"], "what": "nothing moves"}
    found = reported(windows, event=event)["findings"]
    assert [finding["kind"] for finding in found] == ["errors", "stalled"]


def test_leaks_and_latencies_that_grow_are_told() -> None:
    leaking = [look(30.0 * n, 9000 + 20 * n) for n in range(60)]
    (one,) = reported(samples=leaking)["findings"]
    assert one["subject"].startswith(f"host memory of {UNIT} on")
    assert "goes on by 2400.0 MiB an hour" in one["what"]
    slower = [window(n, median_ttft_ms=50.0 + 2 * n) for n in range(30)]
    (one,) = reported(slower)["findings"]
    assert one["subject"] == "latency median_ttft_ms"
    assert "120.0 ms an hour" in one["what"]


def test_a_short_soak_says_that_no_drift_can_be_told() -> None:
    report = reported([window(0), window(1)], [look(0), look(30)])
    assert report["passed"]
    assert "too few values to tell a drift" in report["notes"][0]


def test_a_node_that_was_not_watched_is_named() -> None:
    report = reported(watched={"unreachable": True, "msg": "no route"})
    assert "was not watched: no route" in report["notes"][0]
    assert "no restart" not in soak_text(report)


def test_only_devices_of_the_plan_are_told_of() -> None:
    samples = [look(30.0 * n) for n in range(60)]
    for number, sample in enumerate(samples):
        sample["devices"]["7"] = 1000 * number
    assert reported(samples=samples)["passed"]


def test_a_watch_that_is_ended_before_it_begins_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_io, "sample", lambda _units, _vendor: look(0))
    ends = tmp_path / "soak.ends"
    ends.touch()
    assert watch_io.watch([UNIT], "ascend", 30, 600, str(ends)) == [look(0)] * 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_whose_tool_is_not_there_tells_of_no_memory(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory_used(vendor, 5.0) == {}
