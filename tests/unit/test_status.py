"""What status says of a cluster, and of what monitoring is to hear."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.action import cluster_status
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import (
    HEADING,
    problems,
    status_rows,
    under_way,
    verified_lines,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.usage import (
    HEADING as usage_columns,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.usage import (
    disk_lines,
    restart_lines,
    usage_rows,
    version_lines,
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
        "engine": {"name": "vllm:v1", "id": f"sha256:{'a' * 64}"},
        "role": "head" if name.endswith("rank0") else "follower",
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "since": "2026-11-30 12:03:11Z",
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


def used(state: str = "serves", said: str = "", **counts: Any) -> dict[str, Any]:
    """What unit_info says of an engine that was asked for a token."""
    ranks = [{"rank": str(rank), "tokens": 600, "rate": 1.5} for rank in range(2)]
    counted = {"running": 2, "waiting": 0, "done": 12, "ranks": ranks}
    return {"state": state, "said": said, **counted, **counts}


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
            {"ready": False, "doing": "loads weights, 9 of 20 shards"},
            "c-r0-rank0 on n0 does not serve: its API does not list the model (loads weights, 9 of "
            "20 shards)",
        ),
        (
            {"usage": used("no token", "rank 1: timed out")},
            "c-r0-rank0 on n0 yields no tokens: asked for one, rank 1: timed out, and its counters "
            "stand",
        ),
        (
            {"usage": used("paused", "/is_sleeping")},
            "c-r0-rank0 on n0 yields no tokens: it is paused or asleep (/is_sleeping)",
        ),
        (
            {"usage": used("refused", "HTTP 401")},
            "c-r0-rank0 on n0 refuses a completion: HTTP 401",
        ),
        (
            {"usage": used("no token", "timed out"), "stalled": "stalled since 12:03:11Z"},
            "c-r0-rank0 on n0 yields no tokens: stalled since 12:03:11Z",
        ),
        (
            {"stalled": "stalled since 2026-11-30 12:03:11Z: rank 1: 3 requests wait or run"},
            "c-r0-rank0 on n0 yields no tokens: stalled since 2026-11-30 12:03:11Z: rank 1: "
            "3 requests wait or run",
        ),
        (
            {"boot": "disabled", "systemd_unit": "muster-c-r0-rank0.service"},
            "c-r0-rank0 on n0 would not come back with its node, disabled by hand: "
            "systemctl enable muster-c-r0-rank0.service",
        ),
        (
            {
                "drained_by": [
                    "c-r1-rank0, drained by drain.yml by ann on ctl1 at 12:03: take it back"
                ]
            },
            "c-r0-rank0 on n0 keeps new requests from c-r1-rank0, drained by drain.yml by ann on "
            "ctl1 at 12:03: take it back",
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
    row = ("n1", "c-r0-rank1", "follower", state, "-", "-", "-", "-")
    assert status_rows(UNITS, seen(n1))[1] == row


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ({}, "serves"),
        ({"usage": used()}, "serves"),
        ({"usage": used("busy")}, "busy"),
        ({"usage": used("no token", "timed out")}, "no token"),
        ({"stalled": "stalled since 12:03:11Z"}, "stalled"),
        ({"stalled": "stalled since 12:03:11Z", "usage": used("no token")}, "stalled"),
        # What an agent says of a stall that is over.
        ({"stalled": "stalled since 12:03:11Z", "usage": used()}, "serves"),
        ({"ready": False, "doing": "loads weights"}, "starts"),
        ({"ready": False}, "silent"),
    ],
)
def test_the_table_says_that_an_engine_serves_where_it_gave_a_token(
    head: dict[str, Any], word: str
) -> None:
    row = dict(zip(HEADING, status_rows(UNITS, seen(**head))[0], strict=True))
    assert (row["API"], row["SINCE"], row["STATE"]) == (word, "11-30 12:03Z", "running")
    assert bool(problems(UNITS, seen(**head))) is (word not in ("serves", "busy"))


def linked(restarts: int | None, active: str = "active", **changes: Any) -> dict[str, Any]:
    events = [
        {"at": "2026-11-30 12:03:11Z", "did": "restart", "why": "generation 1: 10.0.0.2 crashed"}
    ]
    link = {"name": "c-r0", "active_state": active, "restarts": restarts, "events": events}
    return {"links": [{**link, **changes}]}


def test_a_head_that_healed_itself_serves_and_its_restarts_are_told_with_why() -> None:
    """systemd counts its own restarts alone; what an agent restarted is in the agent's count."""
    nodes = seen(usage=used())
    for number, one in enumerate(nodes.values()):
        at = f"2026-11-30 12:03:1{number}Z"
        one.update(linked(3))
        one["links"][0]["events"][0]["at"] = at
    assert problems(UNITS, nodes) == []
    row = dict(zip(HEADING, status_rows(UNITS, nodes)[0], strict=True))
    assert (row["API"], row["RESTARTS"]) == ("serves", "3")
    assert restart_lines(nodes) == [
        "2026-11-30 12:03Z c-r0: generation 1: 10.0.0.2 crashed [n0, n1]"
    ]


def test_only_the_last_restarts_are_on_the_screen() -> None:
    nodes = seen()
    events = [{"at": f"2026-11-{day}", "did": "restart", "why": str(day)} for day in range(10, 20)]
    nodes["n0"].update(linked(10, events=events))
    lines = restart_lines(nodes)
    assert (len(lines), lines[0], lines[-1]) == (
        6,
        "2026-11-19Z c-r0: 19 [n0]",
        "5 more in the report",
    )


def test_an_agent_that_does_not_run_is_a_problem_while_its_replica_runs() -> None:
    nodes = seen()
    nodes["n0"].update(linked(0, "failed"))
    (text,) = problems(UNITS, nodes)
    assert text.startswith("the agent muster-c-r0-link.service does not run (failed)")
    assert text.endswith("on n0")
    nodes["n0"]["units"][0].update(active_state="inactive")
    assert not any("agent" in text for text in problems(UNITS, nodes))


def test_a_link_that_is_not_as_planned_is_a_problem_and_told_once() -> None:
    nodes = seen()
    differences = ["has other settings", "does not run"]
    nodes["n0"].update(linked(0, "failed"))
    nodes["n0"]["planned_links"] = [{"name": "c-r0", "start_id": "a", "differences": differences}]
    agent, link = problems(UNITS, nodes)
    assert agent.startswith("the agent muster-c-r0-link.service does not run")
    assert link == (
        "the link c-r0 has other settings, which serve.yml mends without a restart, on n0"
    )


def disk(free: int, *holds: str, size: int = 100 << 30) -> dict[str, Any]:
    return {"mount": "/data", "size_bytes": size, "free_bytes": free, "holds": list(holds)}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (disk(50 << 30, "state"), []),
        (disk(1 << 20, "state", "weights"), ["/data (state) has 1.0 MiB of 100.0 GiB left on n0"]),
        (disk(30 << 30, "logs", size=7 << 40), ["/data (logs) has 30.0 GiB of 7.0 TiB left on n0"]),
        # Weights are only read.
        (disk(0, "weights"), []),
    ],
)
def test_no_room_to_write_is_a_problem(found: dict[str, Any], told: list[str]) -> None:
    nodes = seen()
    nodes["n0"]["disks"] = [found]
    assert problems(UNITS, nodes) == told


def test_a_file_system_is_told_once_with_the_node_that_has_the_least() -> None:
    nodes = seen()
    nodes["n0"]["disks"] = [disk(50 << 30, "state", "logs")]
    nodes["n1"]["disks"] = [disk(20 << 30, "state", "logs")]
    assert disk_lines(nodes) == [
        "/data (state, logs): 20.0 GiB of 100.0 GiB free, 20% [least on n1 of 2 nodes]"
    ]


def test_versions_are_those_that_are_installed() -> None:
    plan = {"engine": {"name": "vllm", "version": "0.18.1"}, "muster": "0.1.0"}
    nodes = seen()
    nodes["n1"]["units"][0]["engine"] = {"name": "vllm:v2", "id": "sha256:" + "b" * 64}
    assert version_lines(plan, nodes) == [
        "vllm 0.18.1, planned by Muster 0.1.0",
        "installed: vllm:v1 (sha256:aaaaaaaaaaaa) [n0]",
        "installed: vllm:v2 (sha256:bbbbbbbbbbbb) [n1]",
    ]


def many(count: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """So many replicas of one unit on a node each; the last ones have the most to do."""
    units, nodes = [], {}
    for number in range(count):
        name, host = f"minimax-prod-r{number}-rank0", f"npu-node-{number:03}"
        units.append({"name": name, "host": host, "role": "single"})
        one = report(name, usage=used(running=number, done=10**number if number < 9 else None))
        nodes[host] = {"units": [one], "orphans": [], "run": None}
    return units, nodes


@pytest.mark.parametrize("count", [1, 2, 11, 40])
def test_tables_stay_readable_with_many_units(count: int) -> None:
    units, nodes = many(count)
    usage = usage_rows(units, nodes)
    for heading, rows in ((HEADING, status_rows(units, nodes)), (usage_columns, usage)):
        assert max(map(len, columns([heading, *rows]))) <= 100
    if count == 1:
        assert [row[0] for row in usage] == [units[0]["name"]]
    elif count <= 11:
        assert [row[0] for row in usage] == [*(unit["name"] for unit in units), "all"]
    else:
        assert [row[0] for row in usage] == [
            *(unit["name"] for unit in units[30:]),
            "all, with 30 not shown",
        ]
    # All of them count.
    assert int(usage[-1][1]) == sum(range(count))


def test_a_number_is_as_short_as_it_may_be() -> None:
    (unit,), nodes = many(1)
    one = nodes[unit["host"]]["units"][0]
    ranks = [{"rank": str(rank), "tokens": 1500000 * rank, "rate": None} for rank in range(6)]
    one["usage"] = used(running=9999, waiting=12345, done=None, ranks=ranks)
    assert usage_rows([unit], nodes) == [
        (unit["name"], "9999", "12.3k", "-", "22.5M", "-", "6 ranks, 0 to 7.5M")
    ]


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
    plan.update(variant="v", muster="0.1.0", engine={"name": "vllm", "version": "1"})
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
