"""A fleet split over two controllers: both are workers of ansible-runner on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.controllers import commands, shell

from .conftest import NODES, Outcome, lab, on_node

INVENTORY = "inventories/lab"
SEND = commands("layout") + commands("here") + commands("part")


@pytest.fixture(scope="module", autouse=True)
def running_nodes() -> None:
    lab("up")


def merged(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "results" / "merged.json").read_text())
    return value


def units(report: dict[str, Any]) -> set[tuple[str, str, bool, str]]:
    """What a status says of each unit that does not change from one second to the next."""
    return {
        (one["host"], one["name"], one["installed"], one["active_state"]) for one in report["units"]
    }


def test_two_controllers_see_of_a_pair_what_one_sees(
    play: Callable[..., Outcome], tmp_path: Path
) -> None:
    whole = play("playbooks/status.yml")
    one = json.loads((tmp_path / "output" / "status.json").read_text())

    rc, screen = shell(SEND + commands("status"), tmp_path, INVENTORY)
    assert rc == (0 if whole.rc == 0 else 2)
    made = merged(tmp_path)
    assert made["clusters"]["a2-cluster"]["runs"] == ["ctl1", "ctl2"]
    parts = [
        made["runs"][name]["statistics"]["muster_status"]["a2-cluster"] for name in ("ctl1", "ctl2")
    ]
    # Each controller asked its node alone, with the plan of the whole cluster.
    assert [{one["host"] for one in part["units"]} for part in parts] == [{node} for node in NODES]
    assert units(parts[0]) | units(parts[1]) == units(one)
    assert parts[0]["endpoint"] == parts[1]["endpoint"] == one["endpoint"]
    problems = [problem for part in parts for problem in part["problems"]]
    assert sorted(problems) == sorted(one["problems"])
    for problem in problems:
        assert problem in screen
    for name in ("ctl1", "ctl2"):
        kept = tmp_path / "results/artifacts" / name / "muster-output/a2-cluster/status.json"
        assert json.loads(kept.read_text())["units"]


def test_parts_that_overlap_do_not_change_a_node_beside_each_other(tmp_path: Path) -> None:
    """The lock of a run that another controller would have, and a part that wants its nodes."""
    lock = {
        "id": "ctl9:ansible-local-1",
        "who": "ann on ctl9",
        "doing": "site.yml",
        "place": "another controller",
        "pid": 1,
        "started": "1",
        "call": 0,
        "call_started": "",
        "since": "2026-11-30 12:03:11Z",
        "seen": "2026-11-30 12:03:11Z",
    }
    path = "/run/muster/a2-cluster.run.json"
    node = NODES[1]
    now = float(on_node(node, "python3", "-c", "import time; print(time.monotonic())"))
    text = json.dumps({**lock, "at": now, "expires": now + 600})
    on_node(node, "sh", "-c", f"mkdir -p /run/muster && echo '{text}' > {path}")
    try:
        # Whatever else preflight finds on the nodes, they are held, and nothing goes on.
        part = (
            "part ctl1 a2-cluster site.yml &\nwait\npython scripts/merge_results.py $RESULTS ctl1"
        )
        rc, screen = shell(SEND + part, tmp_path, INVENTORY)
    finally:
        on_node(node, "rm", "-f", path)
    assert rc == 2
    assert "ann on ctl9" in screen
    checks = merged(tmp_path)["runs"]["ctl1"]["statistics"]["muster_preflight"]["checks"]
    assert {one["host"] for one in checks if one["id"] == "node-run"} == {node}
