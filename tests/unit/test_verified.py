"""What was verified is kept on its nodes, and only that starts again."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.action import start_plan
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    unit_io,
    verified,
    verified_io,
)
from ansible_collections.muster.serving.plugins.modules import verified_plan
from hypothesis import given
from hypothesis import strategies as st

PATH = "var/lib/muster/verified/a2-cluster.json"


def unit(name: str, host: str, group: str) -> dict[str, Any]:
    return {
        "name": name,
        "host": host,
        "group": group,
        "install": "container",
        "mounts": [],
        "systemd_unit": f"muster-{name}.service",
    }


def part(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A plan's part of one replica of two nodes, as each of them keeps it."""
    hosts = [f"r{index}n{number}" for number in range(2)]
    group = f"replica-{index}"
    return {
        "engine": {"name": "vllm"},
        "endpoint": {"model": "m2"},
        "replicas": [{"index": index, "hosts": hosts}],
        "units": [unit(f"r{index}-{host}", host, group) for host in hosts],
        "links": [{"name": f"r{index}", "host": host, "group": group} for host in hosts],
        **changes,
    }


class Node:
    """A node whose one unit runs as planned, until a test says otherwise."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.root, self.capsys = root, capsys
        self.wanted = {"image id": "sha256:1", "argv": "vllm serve"}
        self.running: dict[str, str] | None = dict(self.wanted)
        monkeypatch.setattr(verified_plan, "NodeFiles", lambda: NodeFiles(str(root)))
        self.refusal = ""
        monkeypatch.setattr(unit_io, "desired", self.desired)
        self.invocation = "1f"
        monkeypatch.setattr(unit_io, "show", self.show)
        monkeypatch.setattr(
            unit_io, "installed", lambda _name: self.running and {"effective": self.running}
        )

    def show(self, services: list[str]) -> dict[str, dict[str, str]]:
        return {one: {"InvocationID": self.invocation} for one in services}

    def desired(self, units: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
        if self.refusal:
            raise unit_io.UnitError(self.refusal)
        return {one["name"]: self.wanted for one in units}

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


def test_what_runs_when_it_is_verified_is_kept_anew_and_no_change(node: Node) -> None:
    def kept() -> dict[str, Any]:
        record = json.loads((node.root / PATH).read_text())
        return {"runs": record["runs"], "verified": record["told"]["verified"]}

    node.ask(plan=part())
    first = kept()
    assert first["runs"] == {"r0-r0n0": "1f"}
    assert first["verified"].endswith("Z")
    node.invocation = "2e"
    assert not node.ask(plan=part())["changed"]
    assert kept()["runs"] == {"r0-r0n0": "2e"}


def test_the_plan_before_is_kept_and_a_rollback_swaps_them(node: Node) -> None:
    old, new = part(), part(endpoint={"model": "m3"})
    assert node.ask(which="before")["plan"] is None
    node.ask(plan={**old, "told": {"recipe": "r"}})
    assert node.ask(which="before")["plan"] is None
    node.ask(plan=new)
    assert (node.ask()["plan"], node.ask(which="before")["plan"]) == (new, old)
    assert node.ask(which="before")["told"]["recipe"] == "r"
    # Verified once more, it is not its own former plan.
    node.ask(plan=new)
    assert node.ask(which="before")["plan"] == old
    node.ask(plan=old)
    assert (node.ask()["plan"], node.ask(which="before")["plan"]) == (old, new)
    # One step back, and no chain of them.
    record = json.loads((node.root / PATH).read_text())
    assert record["before"]["before"] is None


def test_an_engine_of_the_plan_before_that_has_gone_is_a_problem(node: Node) -> None:
    node.ask(plan=part())
    node.wanted = node.running = {**node.wanted, "image id": "sha256:2"}
    node.ask(plan=part(endpoint={"model": "m3"}))
    (problem,) = node.ask(which="before")["problems"]
    assert "is another than the verified" in problem["text"]
    assert "playbooks/upgrade.yml" in problem["text"], "serve.yml would go forward"
    node.wanted = {**node.wanted, "image id": "not present"}
    (problem,) = node.ask(which="before")["problems"]
    assert "is not on this node any more" in problem["text"]
    assert "prepare.yml" not in problem["text"], "that brings the present plan's"


@pytest.mark.parametrize(
    ("break_it", "which", "said"),
    [
        (lambda _text: None, "verified", "nothing of a2-cluster was verified here yet"),
        (lambda _text: None, "before", "nothing of a2-cluster was verified here yet"),
        (lambda text: text[:-40], "before", "a2-cluster.json is not whole, so it does not tell"),
        (lambda text: text.replace("m1", "m9"), "before", "what was verified before is not whole"),
    ],
)
def test_why_there_is_nothing_to_start_is_told_with_what_to_do(
    node: Node, break_it: Any, which: str, said: str
) -> None:
    node.ask(plan=part(endpoint={"model": "m1"}))
    node.ask(plan=part())
    path = node.root / PATH
    broken = break_it(path.read_text())
    path.unlink()
    if broken is not None:
        path.write_text(broken)
    result = node.ask(which=which)
    assert result["plan"] is None
    assert said in result["why"]


def test_a_rollback_of_what_was_verified_first_has_nothing_to_go_back_to(node: Node) -> None:
    node.ask(plan=part())
    assert "there is nothing to go back to" in node.ask(which="before")["why"]
    assert node.ask()["why"] == ""


def test_a_record_before_that_was_changed_is_none(node: Node) -> None:
    former = json.loads(verified.record_text(part(), {}, {}, {}))
    text = verified.record_text(part(1), {}, {}, {}, former)
    assert verified.before(verified.read_record(text))
    changed = verified.read_record(text.replace('"r0-r0n0"', '"x"'))
    assert changed is not None
    assert verified.before(changed) is None


def test_runs_that_have_only_started_are_none_to_rest_on(node: Node) -> None:
    node.ask(plan=part(), asked=False)
    assert json.loads((node.root / PATH).read_text())["runs"] == {}


@pytest.mark.parametrize("other", [{}, {"deployment": "b"}, {"digest": "another"}])
def test_a_look_tells_what_was_verified_by_which_runs(
    node: Node, other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_io, "NodeFiles", lambda: NodeFiles(str(node.root)))
    node.ask(plan=part())
    asked = {"deployment": "a2-cluster", "digest": verified.digest(part()), **other}
    state = verified_io.state(asked)
    assert bool(state.differs) == bool(other)
    assert state.seen.get("runs") == (None if other else {"r0-r0n0": "1f"})


def test_check_mode_keeps_nothing(node: Node) -> None:
    assert node.ask(plan=part(), _ansible_check_mode=True)["changed"]
    assert not (node.root / PATH).exists()


@pytest.mark.parametrize(
    ("running", "word"),
    [(None, "is not installed"), ({"argv": "old"}, "argv differs from the plan")],
)
def test_what_runs_otherwise_than_planned_is_not_kept(node: Node, running: Any, word: str) -> None:
    node.ask(plan=part())
    node.running = running
    result = node.ask(plan=part(engine={"name": "sglang"}))
    assert not result["changed"]
    assert {"unit": "r0-r0n0", "text": word} in result["problems"]
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
    assert problem["unit"] == "r0-r0n0"
    assert word in problem["text"]


def test_what_a_container_mounts_must_still_be_there(node: Node) -> None:
    for folder in ("weights", "empty", "writable"):
        (node.root / folder).mkdir()
    (node.root / "weights/config.json").touch()
    (node.root / "tool").touch()
    here = ["/weights:/w:ro", "/tool:/tool:ro", "/writable:/x", "/var/lib/muster/cache/a:/c"]
    kept = part()
    kept["units"][0]["mounts"] = [*here, "/empty:/e:ro", "/gone:/g"]
    node.ask(plan=kept)
    assert [one["text"] for one in node.ask()["problems"]] == [
        "/empty is empty: mount it, or put its files back",
        "/gone is not on this node any more: put it back",
    ]


def test_a_secret_that_has_gone_is_the_problem_of_its_unit(node: Node) -> None:
    node.ask(plan=part())
    node.refusal = "the secret for VLLM_API_KEY cannot be read"
    result = node.ask()
    assert not result.get("failed")
    assert result["problems"] == [{"unit": "r0-r0n0", "text": node.refusal}]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "digest": "x"}'])
def test_a_file_that_is_not_whole_is_none(node: Node, text: str) -> None:
    NodeFiles(str(node.root)).write(f"/{PATH}", text)
    assert node.ask()["plan"] is None


def test_a_file_that_was_changed_is_none() -> None:
    text = verified.record_text(part(), {}, {}, {})
    assert verified.read_record(text)
    assert verified.read_record(text.replace("m2", "m3")) is None


@given(st.text() | st.none())
def test_any_text_is_read(text: str | None) -> None:
    verified.read_record(text)


def test_a_mount_that_does_not_answer_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()
    monkeypatch.setattr(verified_io.os.path, "exists", lambda _path: gone.wait(30))
    try:
        [said] = verified_io.mount_problems(NodeFiles(str(node.root)), ["/nfs:/w:ro"], timeout=0.2)
    finally:
        gone.set()
    assert said.startswith("no answer within 0.2 s from a file system of /nfs")


def seen(what: dict[str, Any], **problems: str) -> dict[str, Any]:
    texts = [{"unit": name.replace("_", "-"), "text": text} for name, text in problems.items()]
    return {"deployment": "a2-cluster", "plan": what, "problems": texts}


WHY = verified.why_none("a2-cluster", None, "verified")
NOTHING = {"deployment": "a2-cluster", "plan": None, "problems": [], "why": WHY}
GONE = {"unreachable": True, "msg": "Connection timed out"}
PLANNED = {"plan": {"units": []}}


def start(planned: dict[str, Any] = PLANNED, **by_host: dict[str, Any]) -> dict[str, Any]:
    action = start_plan.ActionModule.__new__(start_plan.ActionModule)
    arguments = {"hosts": list(by_host), "results": "seen", "planned": planned}
    action._task = SimpleNamespace(args=arguments, check_mode=False, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    return action.run(
        task_vars={"hostvars": {host: {"seen": one} for host, one in by_host.items()}}
    )


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(start_plan, "display", SimpleNamespace(warning=said.append))
    return said


@pytest.fixture(autouse=True)
def _quiet(warnings: list[str]) -> None:
    """Nothing is printed."""


def test_each_host_has_the_part_of_its_own_replica() -> None:
    both = {f"r{index}n{number}": seen(part(index)) for index in (0, 1) for number in (0, 1)}
    result = start(**both)
    for host, own in result["parts"].items():
        assert {unit["group"] for unit in own["units"]} == {f"replica-{host[1]}"}
        assert len(own["units"]) == len(own["links"]) == 2
        assert [one["index"] for one in own["replicas"]] == [int(host[1])]
        assert own["deployment"] == result["plan"]["deployment"]


def test_replicas_are_put_together_with_each_unit_once() -> None:
    both = {f"r{index}n{number}": seen(part(index)) for index in (0, 1) for number in (0, 1)}
    result = start(**both)
    assert result["problems"] == {}
    plan = result["plan"]
    assert [unit["host"] for unit in plan["units"]] == list(both)
    assert [link["host"] for link in plan["links"]] == list(both)
    assert [replica["index"] for replica in plan["replicas"]] == [0, 1]
    assert (plan["deployment"], plan["engine"]["name"]) == ("a2-cluster", "vllm")
    assert plan["left_out"] == []


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
        (GONE, "r0n1: it could not be asked (Connection timed out)"),
        (seen(part(), r0_r0n1="its image is gone"), "r0-r0n1 on r0n1: its image is gone"),
    ],
)
def test_a_replica_that_cannot_start_leaves_the_others_alone(other: Any, word: str) -> None:
    result = start(r0n0=seen(part()), r0n1=other, r1n0=seen(part(1)), r1n1=seen(part(1)))
    assert set(result["problems"]) == {"r0n0", "r0n1"}
    assert word in result["problems"]["r0n0"]
    assert {unit["group"] for unit in result["plan"]["units"]} == {"replica-1"}
    assert result["plan"]["left_out"][0] == "r0-r0n0"


def test_half_a_replica_does_not_start() -> None:
    problems = start(r0n0=seen(part()))["problems"]
    assert "r0n1 was verified as a part of it" in problems["r0n0"]


def with_gateway(number: int, host: str) -> dict[str, Any]:
    """What a host of the first replica keeps that runs a gateway, too."""
    kept = part()
    return {**kept, "units": [*kept["units"], unit(f"gateway{number}", host, f"gateway-{number}")]}


def names(result: dict[str, Any]) -> list[str]:
    return [unit["name"] for unit in result["plan"]["units"]]


def test_hosts_of_a_replica_have_gateways_of_their_own() -> None:
    result = start(r0n0=seen(with_gateway(0, "r0n0")), r0n1=seen(with_gateway(1, "r0n1")))
    assert result["problems"] == {}
    assert sorted(names(result)) == ["gateway0", "gateway1", "r0-r0n0", "r0-r0n1"]


def test_a_gateway_starts_beside_a_replica_that_cannot() -> None:
    result = start(r0n0=seen(with_gateway(0, "r0n0")), r0n1=GONE)
    assert names(result) == ["gateway0"]
    assert result["problems"]["r0n0"].startswith("replica 0: r0n1: it could not be asked")
    assert result["plan"]["left_out"] == ["r0-r0n0", "r0-r0n1"]


def test_a_replica_starts_beside_a_gateway_that_cannot() -> None:
    kept = seen(with_gateway(0, "r0n0"), gateway0="its image is gone")
    result = start(r0n0=kept, r0n1=seen(part()))
    assert names(result) == ["r0-r0n0", "r0-r0n1"]
    assert result["problems"] == {"r0n0": "gateway 0: gateway0 on r0n0: its image is gone"}
    assert result["plan"]["left_out"] == ["gateway0"]


def test_one_start_has_one_engine() -> None:
    other = part(1, endpoint={"model": "m3"})
    result = start(r0n0=seen(part()), r0n1=seen(part()), r1n0=seen(other), r1n1=seen(other))
    assert set(result["problems"]) == {"r1n0", "r1n1"}
    assert {unit["group"] for unit in result["plan"]["units"]} == {"replica-0"}


def test_what_is_left_out_does_not_decide_the_engine() -> None:
    older = part(engine={"name": "vllm", "version": "0.18.0"})
    result = start(r0n0=seen(older), r0n1=GONE, r1n0=seen(part(1)), r1n1=seen(part(1)))
    assert set(result["problems"]) == {"r0n0", "r0n1"}
    assert result["plan"]["engine"] == part(1)["engine"]


def test_several_clusters_at_once_are_refused() -> None:
    with pytest.raises(AnsibleActionFail, match=r"choose one of a2-cluster, other with -l"):
        start(r0n0=seen(part()), r1n0={**NOTHING, "deployment": "other"})


def test_an_inventory_that_plans_otherwise_is_said(warnings: list[str]) -> None:
    hosts = {"r0n0": seen(part()), "r0n1": seen(part())}
    start({"plan": part()}, **hosts)
    assert warnings == []
    changed = part()
    changed["units"][1]["mounts"] = ["/x:/x"]
    start({"plan": changed}, **hosts)
    assert "plans otherwise by now: r0-r0n1 as verified" in warnings[0]


def test_an_inventory_without_a_plan_starts_all_the_same(warnings: list[str]) -> None:
    hosts = {"r0n0": seen(part()), "r0n1": seen(part())}
    assert names(start({"failed": True, "msg": "recipe 'x' is unknown"}, **hosts))
    assert "there are no checks" in warnings[0]
