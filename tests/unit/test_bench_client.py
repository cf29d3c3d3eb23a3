"""The thin edge of bench: a client that runs by itself, and the action that watches it."""

import itertools
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.muster.serving.plugins.action import bench_run
from ansible_collections.muster.serving.plugins.module_utils.engine import bench_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import (
    BenchError,
    Place,
)
from ansible_collections.muster.serving.plugins.modules import bench_client
from ansible_collections.muster.serving.plugins.plugin_utils.bench import client_io, detached_io
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready

# A client as far as the edge sees one: a bar, a file with its result, an exit code.
FAKE = """#!/bin/sh
echo "the key has ${#OPENAI_API_KEY} letters"
printf '\\r 50%%|##  | 4/8 [00:01<00:01,  4.00it/s]' >&2
sleep "$1"
printf '%s' "$2" >"$3/out/result.json"
exit "$4"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(str(tmp_path / "bench"), None, None)
    yield found
    bench_io.end(found)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    program = tmp_path / "bin" / "fake-bench"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    folder = str(tmp_path / "bench")
    return lambda seconds=0.0, result="{}", rc=0: [
        "fake-bench",
        str(seconds),
        result,
        folder,
        str(rc),
    ]


def test_a_client_ends_by_itself_and_leaves_its_result(place: Place, fake: Any) -> None:
    bench_io.start(place, fake(1, json.dumps({"completed": 8})), "secret", 60)
    going = bench_io.look(place, 0)
    assert going["running"]
    assert "raw" not in going
    seen = bench_io.look(place, 20)
    assert (seen["running"], seen["rc"], seen["timed_out"]) == (False, 0, False)
    assert seen["raw"] == {"completed": 8}
    assert seen["log"][0] == "the key has 6 letters"
    assert "4/8 [00:01<00:01" in seen["printed"][-1]


def test_the_key_is_in_no_command_line_and_in_a_file_for_root_alone(
    place: Place, fake: Any
) -> None:
    bench_io.start(place, fake(20), "correct-horse", 60)
    pid = bench_io.running(place)
    assert b"correct-horse" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    path = Path(place.path("env"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "OPENAI_API_KEY=correct-horse\n"
    bench_io.end(place)
    assert not Path(place.folder).exists()
    deadline = time.monotonic() + 5
    while bench_io.running(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert bench_io.running(place) is None


def test_a_second_client_is_refused_while_one_runs(place: Place, fake: Any) -> None:
    bench_io.start(place, fake(20), None, 60)
    with pytest.raises(BenchError, match=r"another bench of this cluster runs .* kill -- -\d+"):
        bench_io.start(place, fake(), None, 60)


def test_a_client_that_takes_too_long_is_ended(place: Place, fake: Any) -> None:
    bench_io.start(place, fake(30), None, 1)
    seen = bench_io.look(place, 20)
    assert (seen["running"], seen["timed_out"], seen["raw"]) == (False, True, None)


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", None),
        ("no JSON", None),
        ("[1]", None),
        ('{"completed": 8, "server_info": {"api_key": "secret"}}\n', {"completed": 8}),
        ('{"completed": 7}\n{"completed": 8}\n', {"completed": 8}),
        ('{\n  "completed": 8\n}\n', {"completed": 8}),
    ],
)
def test_the_result_is_read_without_what_is_secret(
    place: Place, fake: Any, text: str, raw: Any
) -> None:
    bench_io.start(place, fake(0, text), None, 60)
    assert bench_io.look(place, 20)["raw"] == raw


def test_a_key_that_cannot_be_read_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="put it there, mode 0600, or correct muster_api_key_file"):
        bench_client.key_of(str(tmp_path / "none"))
    (tmp_path / "key").write_text("abc\n")
    assert bench_client.key_of(str(tmp_path / "key")) == "abc"
    assert bench_client.key_of(None) is None


# --- the action ----------------------------------------------------------------------------------


def run_of(argv: list[str], scenario: str = "one", repetition: int = 1) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "repetition": repetition,
        "seed": repetition,
        "requests": 8,
        "expected_s": 2,
        "argv": argv,
    }


def act(
    place: Place,
    runs: list[dict[str, Any]],
    check_mode: bool = False,
    lost: Collection[int] = (),
) -> dict[str, Any]:
    """What the action returns, when its module runs here; some calls find no connection."""
    calls = itertools.count(1)

    def module(module_args: dict[str, Any], **_more: Any) -> dict[str, Any]:
        if next(calls) in lost:
            raise AnsibleConnectionFailure("no route to host")
        try:
            if module_args["step"] == "start":
                bench_io.start(place, module_args["argv"], None, module_args["timeout"])
                return {"running": True, "cache": None}
            if module_args["step"] == "end":
                bench_io.end(place)
                return {}
            return {**bench_io.look(place, module_args["wait"]), "cache": None}
        except BenchError as error:
            return {"failed": True, "msg": str(error)}

    action = bench_run.ActionModule.__new__(bench_run.ActionModule)
    client = {"folder": place.folder, "container": None, "owner": None, "image": None}
    made = {"client": client, "target": {"metrics": []}, "runs": runs}
    args = {"made": made, "timeout": 60}
    action._task = SimpleNamespace(args=args, check_mode=check_mode, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action._execute_module = module
    return action.run(task_vars={})


def test_runs_follow_each_other_and_say_how_far_they_are(
    place: Place, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for screen in (client_io, detached_io):
        monkeypatch.setattr(screen, "show", said.append)
    monkeypatch.setattr(detached_io, "LOOK_S", 0.2)
    good = json.dumps({"completed": 8})
    result = act(place, [run_of(fake(1, good)), run_of(fake(0, good), repetition=2)])
    assert [run["raw"] for run in result["runs"]] == [{"completed": 8}] * 2
    assert said[0] == "  one, repetition 1 (run 1 of 2), about 2 s"
    assert any("4 of 8 requests, about 1 s left" in line for line in said)
    assert not Path(place.folder).exists()


def test_a_connection_that_breaks_for_a_while_ends_nothing(
    place: Place, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached_io, "LOOK_S", 0.2)
    monkeypatch.setattr(detached_io, "LOST_S", 0.1)
    good = json.dumps({"completed": 8})
    result = act(place, [run_of(fake(1, good))], lost=(2, 3, 4))
    assert result["runs"][0]["raw"] == {"completed": 8}
    monkeypatch.setattr(detached_io, "LOST_LOOKS", 2)
    result = act(place, [run_of(fake(1, good))], lost=range(2, 99))
    assert result["failed"]
    assert "no route to host" in result["msg"]
    assert bench_io.running(place), "what cannot be reached cannot be ended"
    bench_io.end(place)


def test_a_client_whose_looks_fail_is_ended(
    place: Place, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached_io, "LOST_S", 0.1)
    monkeypatch.setattr(detached_io, "LOST_LOOKS", 2)

    def full(*_args: object) -> None:
        raise BenchError("No space left on device")

    monkeypatch.setattr(bench_io, "look", full)
    result = act(place, [run_of(fake(60, "{}"))])
    assert "No space left on device" in result["msg"]
    assert not bench_io.running(place)


def test_a_scenario_whose_warm_up_fails_is_not_measured(place: Place, fake: Any) -> None:
    good = json.dumps({"completed": 8})
    result = act(
        place,
        [
            run_of(fake(0, "", 1), "one", 0),
            run_of(fake(0, good), "one"),
            run_of(fake(0, good), "two"),
        ],
    )
    first, second, third = result["runs"]
    assert (first["rc"], second, third["raw"]) == (1, None, {"completed": 8})


def test_what_keeps_the_first_run_from_starting_fails_at_once(place: Place, fake: Any) -> None:
    bench_io.start(place, fake(20), None, 60)
    result = act(place, [run_of(fake())])
    assert result["failed"]
    assert "another bench of this cluster runs" in result["msg"]
    # It is not this run's to end.
    assert bench_io.running(place)


def test_check_mode_makes_no_load(place: Place, fake: Any) -> None:
    assert act(place, [run_of(fake())], check_mode=True)["skipped"]
    assert not Path(place.folder).exists()


# --- what has to run before ----------------------------------------------------------------------


def unit_report(**changes: Any) -> dict[str, Any]:
    return {
        "name": "c-r0-rank0",
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "restarts": 0,
        "ready": True,
        "stalled": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"units": [unit_report()], "orphans": ["c-r0-rank7"]}, ""),
        ({"units": [unit_report(ready=False)], "orphans": []}, "does not serve"),
        ({"units": [unit_report(installed=False)], "orphans": []}, "is not installed"),
        ({"unreachable": True, "msg": "no route"}, "n0 cannot be reached: no route"),
        (
            {
                "units": [unit_report()],
                "orphans": [],
                "run": {"doing": "site.yml", "who": "ops", "since": "10:00"},
            },
            "a run is under way: site.yml by ops",
        ),
        # A gateway beside it is no part of what is measured.
        (
            {
                "units": [unit_report(), unit_report(name="c-gateway0", ready=False)],
                "orphans": [],
            },
            "",
        ),
    ],
)
def test_nothing_is_measured_that_does_not_run_as_planned(seen: Any, said: str) -> None:
    units = [{"name": name, "host": "n0"} for name in ("c-r0-rank0", "c-gateway0")]
    found = not_ready(["c-r0-rank0"], {"n0": units}, {"n0": seen})
    assert bool(found) is bool(said)
    assert said in "\n".join(found)


def test_the_end_of_a_log_keeps_what_failed_first() -> None:
    """Of many requests at once the last traceback is of one that was cut off by the first."""
    refused = "WARNING API request failed with error message: EngineCore encountered an issue"
    trace = ["Traceback (most recent call last):", *['  File "client.py", in _error'] * 40]
    end = [*trace, "ServerDisconnectedError: Server disconnected"]
    assert bench_io.telling([refused, *trace, refused, *end]) == [refused, *end[-30:]]
    assert bench_io.telling(["a", "b"]) == ["a", "b"]
    many = [f"error {number}" for number in range(100)]
    assert bench_io.telling(many) == [*many[:5], *many[-30:]]
