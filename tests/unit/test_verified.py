"""What was verified is kept on its nodes, and only that starts again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.action import start_plan
from ansible_collections.muster.serving.plugins.module_utils import rank_host, verified
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles
from ansible_collections.muster.serving.plugins.modules import verified_plan
from hypothesis import given
from hypothesis import strategies as st

PATH = "var/lib/muster/verified/a2-cluster.json"


def part(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A plan's part of one replica of two nodes, as each of them keeps it."""
    hosts = [f"r{index}n{number}" for number in range(2)]
    return {
        "engine": {"name": "vllm"},
        "endpoint": {"model": "m2"},
        "replicas": [{"index": index, "hosts": hosts}],
        "units": [{"name": f"r{index}-{host}", "host": host, "replica": index} for host in hosts],
        "links": [{"name": f"r{index}", "host": host, "replica": index} for host in hosts],
        **changes,
    }


class Node:
    """A node whose one unit runs as planned, until a test says otherwise."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.root, self.capsys = root, capsys
        self.wanted = {"image id": "sha256:1", "argv": "vllm serve"}
        self.running: dict[str, str] | None = dict(self.wanted)
        monkeypatch.setattr(verified_plan, "NodeFiles", lambda: NodeFiles(str(root)))
        monkeypatch.setattr(
            rank_host, "desired", lambda units: {unit["name"]: self.wanted for unit in units}
        )
        monkeypatch.setattr(
            rank_host, "installed", lambda _name: self.running and {"effective": self.running}
        )

    def ask(self, **arguments: Any) -> dict[str, Any]:
        given_arguments = {"deployment": "a2-cluster", "host": "r0n0", **arguments}
        with patch_module_args(given_arguments), pytest.raises(SystemExit):
            verified_plan.main()
        return json.loads(self.capsys.readouterr().out)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Node:
    return Node(tmp_path, monkeypatch, capsys)


def test_it_is_kept_once_and_read_again(node: Node) -> None:
    assert node.ask(plan=part())["changed"]
    again = node.ask(plan=part())
    assert (again["changed"], again["problems"]) == (False, [])
    seen = node.ask()
    assert (seen["changed"], seen["plan"], seen["problems"]) == (False, part(), [])
    assert (node.root / PATH).stat().st_mode & 0o777 == 0o600


def test_check_mode_keeps_nothing(node: Node) -> None:
    assert node.ask(plan=part(), _ansible_check_mode=True)["changed"]
    assert not (node.root / PATH).exists()


@pytest.mark.parametrize(
    ("running", "word"),
    [(None, "r0-r0n0 is not installed"), ({"argv": "old"}, "r0-r0n0: argv differs from the plan")],
)
def test_what_runs_otherwise_than_planned_is_not_kept(node: Node, running: Any, word: str) -> None:
    node.ask(plan=part())
    node.running = running
    result = node.ask(plan=part(engine={"name": "sglang"}))
    assert not result["changed"]
    assert word in result["problems"]
    assert result["plan"] == part(), "what was verified before stays"


@pytest.mark.parametrize(
    ("engine_id", "word"),
    [("not present", "is not on this node any more"), ("sha256:2", "is another than the verified")],
)
def test_an_engine_that_is_not_the_verified_one_is_a_problem(
    node: Node, engine_id: str, word: str
) -> None:
    node.ask(plan=part())
    node.wanted = {**node.wanted, "image id": engine_id}
    (problem,) = node.ask()["problems"]
    assert word in problem


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "digest": "x"}'])
def test_a_file_that_is_not_whole_is_none(node: Node, text: str) -> None:
    NodeFiles(str(node.root)).write(f"/{PATH}", text)
    assert node.ask()["plan"] is None


def test_a_file_that_was_changed_is_none() -> None:
    text = verified.record_text(part(), {})
    assert verified.read_record(text)
    assert verified.read_record(text.replace("m2", "m3")) is None


@given(st.text() | st.none())
def test_any_text_is_read(text: str | None) -> None:
    verified.read_record(text)


def seen(what: dict[str, Any], *problems: str) -> dict[str, Any]:
    return {"plan": what, "digest": verified.digest(what), "problems": list(problems)}


NOTHING = {"plan": None, "digest": "", "problems": []}
GONE = {"unreachable": True, "msg": "Connection timed out"}


def start(**by_host: dict[str, Any]) -> dict[str, Any]:
    action = start_plan.ActionModule.__new__(start_plan.ActionModule)
    arguments = {"deployment": "a2-cluster", "hosts": list(by_host), "register": "seen"}
    action._task = SimpleNamespace(args=arguments, check_mode=False, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    return action.run(
        task_vars={"hostvars": {host: {"seen": one} for host, one in by_host.items()}}
    )


def test_replicas_are_put_together_with_each_unit_once() -> None:
    both = {f"r{index}n{number}": seen(part(index)) for index in (0, 1) for number in (0, 1)}
    result = start(**both)
    assert result["problems"] == {}
    plan = result["plan"]
    assert [unit["host"] for unit in plan["units"]] == list(both)
    assert [link["host"] for link in plan["links"]] == list(both)
    assert [replica["index"] for replica in plan["replicas"]] == [0, 1]
    assert (plan["deployment"], plan["engine"]["name"]) == ("a2-cluster", "vllm")


def test_without_anything_verified_serve_is_named() -> None:
    problems = start(r0n0=NOTHING, r0n1=NOTHING)["problems"]
    assert set(problems) == {"r0n0", "r0n1"}
    assert "nothing of a2-cluster was verified here yet" in problems["r0n0"]
    assert "playbooks/serve.yml" in problems["r0n0"]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (seen(part(engine={"name": "sglang"})), "is not the same: run playbooks/serve.yml"),
        (NOTHING, "r0n1: nothing of a2-cluster was verified here"),
        (GONE, r"r0n1: it could not be asked (Connection timed out)"),
        (seen(part(), "x: its image is gone"), "r0n1: x: its image is gone; run playbooks/serve"),
    ],
)
def test_a_replica_that_cannot_start_leaves_the_others_alone(other: Any, word: str) -> None:
    result = start(r0n0=seen(part()), r0n1=other, r1n0=seen(part(1)), r1n1=seen(part(1)))
    assert set(result["problems"]) == {"r0n0", "r0n1"}
    assert word in result["problems"]["r0n0"]
    assert {unit["replica"] for unit in result["plan"]["units"]} == {1}


def test_half_a_replica_does_not_start() -> None:
    problems = start(r0n0=seen(part()))["problems"]
    assert "r0n1 was verified in the same replica" in problems["r0n0"]
