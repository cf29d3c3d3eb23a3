"""What status says of a cluster, and of what monitoring is to hear."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.action import cluster_status
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import (
    problems,
    status_rows,
    under_way,
    verified_lines,
)

from tests.conftest import ROOT

UNITS = [
    {"name": "c-r0-rank0", "host": "n0", "role": "head"},
    {"name": "c-r0-rank1", "host": "n1", "role": "follower"},
]


def report(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "restarts": 0,
        "stalled": "",
        "ready": True if name.endswith("rank0") else None,
        **changes,
    }


def seen(n1: dict[str, Any] | None = None, **head: Any) -> dict[str, dict[str, Any]]:
    """What unit_info said on both nodes."""
    return {
        "n0": {"units": [report("c-r0-rank0", **head)], "orphans": [], "run": None},
        "n1": n1 or {"units": [report("c-r0-rank1")], "orphans": [], "run": None},
    }


def test_a_cluster_that_serves_as_planned_has_no_problem() -> None:
    assert problems(UNITS, seen()) == []
    # Restarts of the past are shown and are no problem of now.
    assert problems(UNITS, seen(restarts=3)) == []


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"installed": False, "active_state": "inactive"}, "c-r0-rank0 on n0 is not installed"),
        (
            {"active_state": "failed", "sub_state": "failed", "result": "exit-code", "restarts": 5},
            "c-r0-rank0 on n0 does not run (failed, failed, result exit-code, restarted 5 times by"
            " systemd)",
        ),
        (
            {"active_state": "activating", "sub_state": "auto-restart", "ready": False},
            "c-r0-rank0 on n0 does not run (activating, auto-restart)",
        ),
        ({"ready": False}, "c-r0-rank0 on n0 does not serve: its API does not list the model"),
        (
            {"stalled": "stalled since 2026-11-30 12:03:11Z: rank 1: 3 requests wait or run"},
            "c-r0-rank0 on n0 yields no tokens: stalled since 2026-11-30 12:03:11Z: rank 1: "
            "3 requests wait or run",
        ),
        (
            {"differences": [{"name": "argv --max-num-seqs", "current": "32", "desired": "16"}]},
            "c-r0-rank0 on n0 differs from the plan: argv --max-num-seqs 32 -> 16",
        ),
        (
            {
                "differences": [
                    {"name": "env HF_TOKEN", "current": None, "desired": "hf_0123456789abcdefghij"}
                ]
            },
            "c-r0-rank0 on n0 differs from the plan: env HF_TOKEN added (<secret>)",
        ),
    ],
)
def test_what_is_not_as_planned_is_said(head: dict[str, Any], said: str) -> None:
    (text,) = problems(UNITS, seen(**head))
    if "HF_TOKEN" in said:
        assert "hf_0123456789" not in text
        assert text.startswith(said.partition(" (")[0])
    else:
        assert text == said


@pytest.mark.parametrize(
    ("n1", "said", "state"),
    [
        (
            {"unreachable": True, "msg": "Task failed: no\nroute"},
            "n1 cannot be reached: no route",
            "unreachable",
        ),
        (
            {"msg": "Incorrect sudo password"},
            "n1 cannot be asked: Incorrect sudo password",
            "unknown",
        ),
        ({"unreachable": True}, "n1 cannot be reached: no answer", "unreachable"),
    ],
)
def test_a_node_without_an_answer_is_a_problem(n1: dict[str, Any], said: str, state: str) -> None:
    assert problems(UNITS, seen(n1)) == [said]
    assert status_rows(UNITS, seen(n1))[1] == ("n1", "c-r0-rank1", "follower", state, "-", "-", "-")


def test_what_is_no_longer_planned_is_a_problem() -> None:
    n1 = {"units": [report("c-r0-rank1")], "orphans": ["c-r7-rank0"]}
    assert problems(UNITS, seen(n1)) == ["c-r7-rank0 on n1 is installed and no longer planned"]


def test_one_difference_and_several_are_counted() -> None:
    row = {"name": "image", "current": "a", "desired": "b"}
    assert status_rows(UNITS, seen(differences=[row]))[0][-1] == "1 difference"
    assert status_rows(UNITS, seen(differences=[row, row]))[0][-1] == "2 differences"


def test_a_run_that_is_under_way_is_told_once() -> None:
    run = {"doing": "serve.yml", "who": "ann on ctl", "since": "12:00"}
    nodes = seen()
    for one in nodes.values():
        one["run"] = run
    assert under_way(nodes) == ["serve.yml by ann on ctl, since 12:00"]
    assert under_way(seen()) == []


def test_what_was_verified_and_what_before_it_is_told_once_for_all_nodes() -> None:
    nodes = seen()
    assert verified_lines(nodes) == []
    before = {"verified": "2026-11-02 09:10:01Z", "recipe": "r (v)", "engine": "vllm 0.1"}
    last = {"verified": "2026-11-30 10:26:15Z", "by": "ann on ctl", "doing": "upgrade.yml"}
    for one, second in zip(nodes.values(), ("15", "17"), strict=True):
        told = {**before, **last, "verified": f"2026-11-30 10:26:{second}Z"}
        one["verified"] = {**told, "before": before}
    assert verified_lines(nodes) == [
        "verified 2026-11-30 10:26Z by ann on ctl (upgrade.yml): r (v), vllm 0.1 [n0, n1]",
        "before it 2026-11-02 09:10Z: r (v), vllm 0.1 [n0, n1]",
    ]


@pytest.mark.parametrize(
    ("head", "msg", "shown"),
    [
        ({}, "", []),
        ({"ready": False}, "c: 1 thing is not as planned, see above", ["does not serve"]),
    ],
)
def test_the_table_is_followed_by_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, Any], msg: str, shown: list[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(cluster_status, "show", lambda text, color=None: said.append(text))
    action = cluster_status.ActionModule.__new__(cluster_status.ActionModule)
    plan = {"deployment": "c", "recipe": "r", "endpoint": {"url": "u"}, "units": UNITS}
    args = {"plan": plan, "hosts": ["n0", "n1"], "results": "seen"}
    action._task = SimpleNamespace(args=args, check_mode=False, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    nodes = {host: {"seen": one} for host, one in seen(**head).items()}
    result = action.run(task_vars={"hostvars": nodes})
    assert result["failure"] == msg
    assert len(result["problems"]) == len(shown)
    for text in shown:
        assert text in said[-1]
    assert result["ansible_stats"]["data"]["muster_status"]["c"]["problems"] == result["problems"]


def test_the_playbook_ends_with_an_error_for_each_cluster_that_has_a_problem() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/status.yml").read_text(encoding="utf-8"))
    look, show, fail = play["tasks"][-3:]
    # A node that fails is asked no further, and the table is shown all the same.
    assert (look["ignore_unreachable"], look["failed_when"]) == (True, False)
    assert f"{show['register']}.results" in fail["loop"]
    assert "failure" in fail["loop"]
