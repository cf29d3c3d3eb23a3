"""Sweep and soak on the pair: what a load shows of a sound engine, and of one that dies."""

from __future__ import annotations

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import LAB_INVENTORY, ROOT, Outcome, lab, on_node

pytestmark = pytest.mark.chaos

Play = Callable[..., Outcome]

LOAD = {
    "bench_scenarios": ["tiny"],
    "bench_custom": [
        {"name": "tiny", "input": 64, "output": 32, "concurrency": 4, "prompts": 16},
    ],
    "bench_warm_up": False,
}


@pytest.fixture(scope="module", autouse=True)
def pair() -> None:
    lab("up")


def report(tmp_path: Path, kind: str) -> dict[str, Any]:
    (path,) = (tmp_path / "output").glob(f"{kind}-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_sweep_tells_what_ran_meanwhile(play: Play, tmp_path: Path) -> None:
    assert play("site.yml").rc == 0
    outcome = play("playbooks/sweep.yml", bench_most=4, bench_sample_s=0.5, **LOAD)
    assert outcome.rc == 0
    assert outcome.changed() == {}
    found = report(tmp_path, "sweep")
    assert [step["problems"] for step in found["steps"]] == [[]] * len(found["steps"])
    # Four requests saturate a CPU or not, by what else it does.
    assert found["ended"] in ("most reached", "saturated")
    assert (found["binds"] is None) == (found["ended"] == "most reached")
    widest = max(found["steps"], key=lambda step: step["concurrency"])
    assert 0 < widest["engine"]["running_max"] <= widest["concurrency"]


def test_a_sound_pair_bears_a_load(play: Play, tmp_path: Path) -> None:
    times = {"bench_soak_s": 90, "bench_window_s": 20, "bench_watch_s": 10}
    outcome = play("playbooks/soak.yml", **times, **LOAD)
    assert outcome.rc == 0
    assert outcome.changed() == {}
    found = report(tmp_path, "soak")
    assert (found["passed"], found["failed"]) == (True, 0)
    assert set(found["nodes"]) == {"a2-node0", "a2-node1"}
    for samples in found["nodes"].values():
        (unit,) = samples[-1]["units"].values()
        assert unit["memory_mb"] > 100, "an engine holds memory"
        assert samples[-1]["devices"]
    for node in found["nodes"]:
        assert on_node(node, "sh", "-c", "ls /run/muster-bench-* 2>/dev/null || true") == ""


def test_an_engine_that_is_killed_under_load_ends_the_soak(play: Play, tmp_path: Path) -> None:
    killed = "pkill -KILL -f '[E]ngineCore'"  # the brackets: not this shell itself
    timer = threading.Timer(60, lambda: on_node("a2-node1", "sh", "-c", killed))
    timer.start()
    times = {"bench_soak_s": 600, "bench_window_s": 30, "bench_watch_s": 10}
    outcome = play("playbooks/soak.yml", **times, **LOAD)
    timer.join()
    assert outcome.rc == 2
    found = report(tmp_path, "soak")
    assert not found["passed"]
    assert found["seconds"] < 300
    kinds = {one["kind"] for one in found["findings"]}
    assert "ended" in kinds
    assert any("a2-node1" in one["subject"] for one in found["findings"])
    assert play("site.yml").rc == 0


def test_the_playbook_costs_no_throughput(
    play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client's own command by hand, and the same through bench.yml, by turns.

    Single runs of the same command differ by a tenth, so that the figures of four are compared. The
    controller, which shares its cores with engines nowhere but here, stands back for them.
    """
    assert play("site.yml").rc == 0
    load = {"name": "tiny", "input": 64, "output": 64, "concurrency": 4, "prompts": 144}

    def by_playbook() -> dict[str, Any]:
        extra = {
            **LOAD,
            "bench_custom": [load],
            "bench_repetitions": 1,
            "muster_output_dir": str(tmp_path / "output"),
        }
        command = [
            *("nice", "-n", "19", str(Path(sys.executable).with_name("ansible-playbook"))),
            *("-i", str(LAB_INVENTORY), "playbooks/bench.yml", "-l", "a2-cluster"),
            *("-e", json.dumps(extra)),
        ]
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            check=True,
        )
        newest = max((tmp_path / "output").glob("bench-*.json"), key=lambda one: one.name)
        (run,) = json.loads(newest.read_text())["scenarios"][0]["runs"]
        found: dict[str, Any] = run
        return found

    # The first of all is slower, by whichever way it comes.
    argv = by_playbook()["argv"]
    seed = argv.index("--seed") + 1

    def by_hand(turn: int) -> float:
        # The same prompts again would come from the cache of prefixes.
        command = [*argv[:seed], str(int(argv[seed]) + 100 + turn), *argv[seed + 1 :]]
        folder = "/var/lib/muster/bench/a2-cluster"
        said = on_node(
            "a2-node0",
            *("sh", "-c", f"mkdir -p {folder}/out; touch {folder}/env; {shlex.join(command)}"),
        )
        on_node("a2-node0", "rm", "-r", folder)
        found = re.search(r"Output token throughput \(tok/s\): +([\d.]+)", said)
        assert found
        return float(found[1])

    played: list[float] = []
    typed: list[float] = []
    for turn, way in enumerate("hpphhpph"):
        if way == "p":
            played.append(by_playbook()["metrics"]["output_tok_per_s"])
        else:
            typed.append(by_hand(turn))
    with capsys.disabled():
        print(f"\ntok/s through the playbook {played}, by hand {typed}")
    assert statistics.mean(played) >= 0.95 * statistics.mean(typed)
