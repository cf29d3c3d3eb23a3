"""Runs that meet on one cluster: any interleaving of them, and what a dead one leaves behind."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible_collections.muster.serving.plugins.action import run_lock as run_lock_action
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock, run_lock_io
from ansible_collections.muster.serving.plugins.module_utils.units.run_lock import (
    LEASE_S,
    Now,
    is_gone,
    is_held,
    may_release,
    process_of,
    read_record,
    record_text,
    take,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica import this_run_io
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

STAT = "77 (ansible (x) y) S 1 77 77 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 1 0 4242 1 1 1\n"


def owner(name: str, call: int = 0) -> dict[str, Any]:
    return {
        "id": f"ctl:{name}",
        "who": f"{name} on ctl",
        "doing": "serve.yml",
        "place": "boot 1",
        "pid": 77,
        "started": "4242",
        "call": call,
        "call_started": "",
    }


def held(name: str = "ann", at: float = 100.0) -> dict[str, Any]:
    record = take("c", None, owner(name), Now(at, "12:00")).record
    assert record is not None
    return record


def test_the_second_run_is_told_who_runs_and_since_when() -> None:
    record = take("c", held(), owner("ann"), Now(160, "12:01")).record
    assert record is not None
    outcome = take("c", record, owner("bob"), Now(220, "12:02"))
    assert outcome.record is None
    for told in ("serve.yml by ann on ctl", "since 12:00", "last heard of at 12:01", "20 min"):
        assert told in outcome.refusal


@pytest.mark.parametrize(
    ("seconds", "gone", "working", "granted"),
    [
        (10, [], False, False),
        (LEASE_S - 1, [], False, False),
        (LEASE_S, [], False, True),
        (10, ["ctl:ann"], False, True),
        (10, ["ctl:eve"], False, False),
        # A dead controller's pull may still run on the node.
        (10, ["ctl:ann"], True, False),
        (LEASE_S, [], True, False),
        # The node has restarted, and its file outlived that.
        (-50, [], False, True),
    ],
)
def test_a_stale_lock_is_recognised(
    seconds: float, gone: list[str], working: bool, granted: bool
) -> None:
    now = Now(100 + seconds, "13:00")
    outcome = take("c", held(), owner("bob"), now, gone=gone, working=working)
    assert bool(outcome.record) == granted
    assert bool(outcome.refusal) != granted
    if granted:
        assert outcome.record is not None
        assert outcome.record["since"] == "13:00"
        assert outcome.replaced == held()


def test_a_long_call_extends_its_lease() -> None:
    record = take("c", None, owner("ann"), Now(0, ""), busy_s=3600).record
    assert record is not None
    assert is_held(record, Now(3600 + LEASE_S - 1, ""))
    assert not is_held(record, Now(3600 + LEASE_S, ""))


def test_what_builds_on_an_earlier_look_needs_the_lock_of_that_time() -> None:
    assert take("c", held(), owner("ann"), Now(200, ""), must_hold=True).record
    # Quiet for long, and nobody came: nothing has changed.
    assert take("c", held(), owner("ann"), Now(9999, ""), must_hold=True).record
    assert "does not hold c" in take("c", None, owner("ann"), Now(1, ""), must_hold=True).refusal
    lost = take("c", held("bob"), owner("ann"), Now(9999, ""), must_hold=True)
    assert "does not hold c" in lost.refusal
    assert "by bob" in take("c", held("bob"), owner("ann"), Now(101, ""), must_hold=True).refusal


class Node:
    """A node's lock, and who was granted what on it, in order."""

    def __init__(self) -> None:
        self.record: dict[str, Any] | None = None
        self.grants: list[str] = []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "change", "change", "release", "die"]),
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from([0, 1, 2]),
        # How long it lasts until the next step.
        st.sampled_from([0.0, 1.0, 60.0, LEASE_S - 1, LEASE_S]),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_two_runs_mix_on_a_node_in_any_order(steps: list[tuple[str, str, int, float]]) -> None:
    nodes = [Node(), Node(), Node()]
    looked: dict[tuple[str, int], int] = {}
    quiet_since: dict[tuple[str, int], float] = {}
    dead: set[str] = set()
    time = 0.0
    for kind, run, index, lasts in steps:
        node, now = nodes[index], Now(time, f"t{time:g}")
        time += lasts
        if kind == "die":
            dead.add(run)
        if run in dead:
            continue
        if kind == "release":
            if may_release(node.record, owner(run)):
                node.record = None
            continue
        before = node.record
        gone = [f"ctl:{one}" for one in dead]
        outcome = take("c", before, owner(run), now, gone=gone, must_hold=kind == "change")
        assert bool(outcome.record) != bool(outcome.refusal)
        if outcome.refusal:
            continue
        if before is not None and before["id"] != f"ctl:{run}":
            # Taken from another: only from a dead one, or one that was quiet for its lease.
            other = before["id"].partition(":")[2]
            assert other in dead or now.seconds - quiet_since[other, index] >= LEASE_S
        if kind == "change":
            # Nobody else was here since this run looked.
            assert set(node.grants[looked[run, index] :]) <= {run}
        else:
            looked[run, index] = len(node.grants)
        node.grants.append(run)
        node.record = read_record(record_text(outcome.record or {}))
        quiet_since[run, index] = now.seconds


@given(st.permutations([("ann", 0), ("ann", 1), ("bob", 0), ("bob", 1)]))
def test_two_runs_that_start_at_once_never_both_get_a_replica(
    order: list[tuple[str, int]],
) -> None:
    records: list[dict[str, Any] | None] = [None, None]
    got: dict[str, int] = {"ann": 0, "bob": 0}
    for run, node in order:
        outcome = take("c", records[node], owner(run), Now(1, "now"))
        if outcome.record:
            records[node] = outcome.record
            got[run] += 1
    # A replica is changed only where all of its nodes are held.
    assert [run for run, count in got.items() if count == 2] in (["ann"], ["bob"], [])


def test_runs_on_different_replicas_go_beside_each_other() -> None:
    first = take("c", None, owner("ann"), Now(1, ""))
    second = take("c", None, owner("bob"), Now(1, ""))
    assert first.record
    assert second.record


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner), st.dictionaries(st.sampled_from([*held()]), inner)
            ),
        ).map(json.dumps),
    )
)
def test_a_file_of_any_content_is_a_lock_or_none(text: str | None) -> None:
    record = read_record(text)
    outcome = take("c", record, owner("bob"), Now(1, "now"))
    assert bool(outcome.record) != bool(outcome.refusal)


def test_a_written_lock_is_read_back() -> None:
    assert read_record(record_text(held())) == held()


@pytest.mark.parametrize(
    ("place", "stat", "gone"),
    [
        ("boot 1", STAT, False),
        ("boot 1", "", True),
        ("boot 1", STAT.replace("4242", "4243"), True),
        ("boot 1", STAT.replace(") S ", ") Z "), True),
        # Another machine or container, and one that does not tell its processes.
        ("boot 2", "", False),
        ("boot 1", None, False),
    ],
)
def test_a_run_is_gone_when_its_process_is(place: str, stat: str | None, gone: bool) -> None:
    assert is_gone(held(), place, stat) == gone


@given(st.text())
def test_any_text_of_a_process_can_be_read(text: str) -> None:
    state, started = process_of(text)
    assert bool(state) == bool(started)


class Failed(Exception):
    pass


class Call:
    """A module on a node, as far as taking a lock goes."""

    def __init__(self, check_mode: bool = False, **params: Any) -> None:
        self.params = {"lock": None, "owner": None, **params}
        self.check_mode = check_mode
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fail_json(self, **result: Any) -> None:
        raise Failed(result)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_lock_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))
    return tmp_path


def of_run(name: str, **more: Any) -> dict[str, Any]:
    kept = ("id", "who", "doing", "place", "pid", "started")
    return {**{key: value for key, value in owner(name).items() if key in kept}, **more}


def test_a_node_keeps_a_second_run_out_until_the_first_releases(node: Path) -> None:
    run_lock_io.hold(Call(lock="c", owner=of_run("ann", must_hold=False)), changes=True)
    run_lock_io.hold(Call(lock="other", owner=of_run("bob")))
    # This process stands for ann's call: it still works.
    with pytest.raises(Failed, match=f"still changes the node .pid {os.getpid()}."):
        run_lock_io.hold(Call(lock="c", owner=of_run("bob", gone=["ctl:ann"])))
    run_lock_io.release("c", of_run("bob"))
    assert run_lock_io.holder("c")["who"] == "ann on ctl"
    run_lock_io.release("c", of_run("ann"))
    assert run_lock_io.holder("c") is None
    run_lock_io.hold(Call(lock="c", owner=of_run("bob")))


def _hold_once(root: str) -> None:
    run_lock_io.NodeFiles = lambda: NodeFiles(root)  # type: ignore[assignment]
    run_lock_io.hold(Call(lock="c", owner=of_run("ann")), changes=True)


def test_a_run_whose_process_has_gone_is_replaced_with_a_warning(node: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_hold_once, args=(str(node),))
    child.start()
    child.join()
    with pytest.raises(Failed, match=r"another run holds c on this node: serve\.yml by ann"):
        run_lock_io.hold(Call(lock="c", owner=of_run("bob")))
    call = Call(lock="c", owner=of_run("bob", gone=["ctl:ann"]))
    run_lock_io.hold(call)
    assert "took over c" in call.warnings[0]
    assert "ann on ctl" in call.warnings[0]


@pytest.mark.parametrize("call", [Call(), Call(check_mode=True, lock="c", owner=of_run("ann"))])
def test_without_a_lock_and_in_check_mode_nothing_is_written(node: Path, call: Call) -> None:
    run_lock_io.hold(call)
    assert list(node.iterdir()) == []


@pytest.mark.parametrize(("hold", "status"), [(True, "failed"), (False, "warning")])
def test_another_run_is_a_check_of_preflight(node: Path, hold: bool, status: str) -> None:
    run_lock_io.hold(Call(lock="c", owner=of_run("ann")))
    call = Call(lock="c", hold=hold, owner=of_run("bob"))
    verdict, other = run_lock_io.look(call)
    assert (verdict["id"], verdict["status"], verdict["subject"]) == ("node-run", status, "c")
    assert verdict["observed"].startswith("serve.yml by ann on ctl, since ")
    assert other is not None
    assert other["id"] == "ctl:ann"
    gone = Call(lock="c", hold=hold, owner=of_run("bob", gone=["ctl:ann"]))
    assert run_lock_io.look(gone)[0]["status"] == "ok"
    # The one that only looks has left it as it was.
    holder = run_lock_io.holder("c")
    assert holder is not None
    assert holder["id"] == ("ctl:bob" if hold else "ctl:ann")


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("later", [0, 100 * run_lock.LEASE_S])
def test_preflight_says_of_a_step_that_still_works_that_its_lock_does_not_end(
    node: Path, monkeypatch: pytest.MonkeyPatch, hold: bool, later: float
) -> None:
    # This process stands for ann's pull of an image, which may take hours.
    run_lock_io.hold(Call(lock="c", owner=of_run("ann")), busy_s=7200, changes=True)
    moment = run_lock_io.now()
    shifted = moment._replace(seconds=moment.seconds + later)
    monkeypatch.setattr(run_lock_io, "now", lambda: shifted)
    for gone in ([], ["ctl:ann"]):
        call = Call(lock="c", hold=hold, owner=of_run("bob", gone=gone))
        verdict, _other = run_lock_io.look(call)
        assert f"still changes the node (pid {os.getpid()})" in verdict["remedy"]
    assert run_lock_io.holder("c")["who"] == "ann on ctl"


def test_a_run_is_none_other_to_itself(node: Path) -> None:
    for hold in (True, False, True):
        verdict, other = run_lock_io.look(Call(lock="c", hold=hold, owner=of_run("ann")))
        assert (verdict["status"], other) == ("ok", None)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ansible-local-1x"
    folder.mkdir()
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(folder))
    return folder


class Caller:
    """An action on a node where another run may hold the lock."""

    def __init__(self, other: dict[str, Any] | None, check_mode: bool = False) -> None:
        self.other = other
        self.calls: list[dict[str, Any]] = []
        self._task = SimpleNamespace(check_mode=check_mode)

    def _execute_module(self, **call: Any) -> dict[str, Any]:
        args = call["module_args"]
        self.calls.append(args)
        if not self.other or self.other["id"] in args.get("owner", {}).get("gone", ()):
            return {"changed": False}
        return {"failed": True, "msg": "held", "held_by": self.other}


def other_run(**more: Any) -> dict[str, Any]:
    mine = this_run_io.this_run({})
    return {**mine, "id": "another", **more}


def test_a_run_that_lives_on_this_controller_is_left_alone() -> None:
    caller = Caller(other_run())
    assert this_run_io.execute(caller, {"lock": "c"}, {}) == {"failed": True, "msg": "held"}
    assert len(caller.calls) == 1


def test_a_run_that_has_gone_from_this_controller_is_replaced() -> None:
    caller = Caller(other_run(started="1"))
    assert this_run_io.execute(caller, {"lock": "c"}, {}) == {"changed": False}
    # A step that builds on what was seen before does not.
    caller = Caller(other_run(started="1"))
    assert this_run_io.execute(caller, {"lock": "c"}, {}, must_hold=True)["failed"]


def test_a_run_of_another_controller_is_left_alone() -> None:
    caller = Caller(other_run(place="elsewhere", started="1"))
    assert this_run_io.execute(caller, {"lock": "c"}, {})["failed"]


def test_a_task_without_a_lock_says_nothing_of_its_run() -> None:
    caller = Caller(other_run())
    this_run_io.execute(caller, {"deployment": "c"}, {})
    assert caller.calls == [{"deployment": "c"}]


@pytest.mark.parametrize(
    ("args", "check_mode", "other", "held"),
    [
        ({}, False, None, True),
        ({"hold": True}, False, None, True),
        # It only looks.
        ({"hold": False}, False, None, False),
        ({}, True, None, False),
        ({}, False, {"place": "elsewhere"}, False),
    ],
)
def test_a_run_knows_what_it_holds(
    run_folder: Path,
    args: dict[str, Any],
    check_mode: bool,
    other: dict[str, Any] | None,
    held: bool,
) -> None:
    caller = Caller(other_run(**other) if other else None, check_mode)
    variables = {"inventory_hostname": "n/0"}
    this_run_io.execute(caller, {"lock": "c", **args}, variables)
    assert this_run_io.holds("c", variables) == held
    assert not this_run_io.holds("c", {"inventory_hostname": "n1"})
    this_run_io.let_go("c", variables)
    assert not this_run_io.holds("c", variables)


def test_awx_says_whose_job_it_is() -> None:
    assert this_run_io.this_run({"awx_user_name": "carol"})["who"].startswith("carol on ")


@pytest.mark.parametrize(
    ("run_tags", "skip_tags", "runs"),
    [
        (["all"], [], True),
        (["prepare", "verify"], [], True),
        (["tagged"], [], True),
        (["prepare", "serve"], [], False),
        (["all"], ["verify"], False),
        (["all"], ["tagged"], False),
        (["untagged"], [], False),
    ],
)
def test_a_stage_that_tags_leave_out_releases_nothing(
    run_tags: list[str], skip_tags: list[str], runs: bool
) -> None:
    assert run_lock_action.runs("verify", run_tags, skip_tags) == runs


@pytest.mark.parametrize(
    ("more", "holds", "released"),
    [
        ({}, True, False),
        ({"ansible_play_hosts": ["n1"]}, True, True),
        ({"ansible_skip_tags": ["verify"]}, True, True),
        # It could not be reached, or another run has it.
        ({"ansible_play_hosts": ["n1"]}, False, False),
    ],
)
def test_a_host_that_failed_releases_before_its_time_what_it_holds(
    run_folder: Path, more: dict[str, Any], holds: bool, released: bool
) -> None:
    action = run_lock_action.ActionModule.__new__(run_lock_action.ActionModule)
    called: list[Any] = []
    action._task = SimpleNamespace(
        args={"state": "released", "lock": "c", "after": "verify"}, check_mode=False, async_val=0
    )
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action._execute_module = lambda **call: called.append(call) or {}
    variables = {
        "inventory_hostname": "n0",
        "ansible_play_hosts": ["n0", "n1"],
        "ansible_run_tags": ["all"],
        "ansible_skip_tags": [],
        **more,
    }
    if holds:
        this_run_io.execute(Caller(None), {"lock": "c"}, variables)
    action.run(task_vars=variables)
    assert bool(called) == released
    assert this_run_io.holds("c", variables) == (holds and not released)


def tasks_of(name: str) -> list[dict[str, Any]]:
    """Return all tasks of a playbook, those of its blocks among them."""

    def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        inner = [
            flat(task.get(part, [])) for task in tasks for part in ("block", "rescue", "always")
        ]
        return [*tasks, *(task for found in inner for task in found)]

    plays = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    return [task for play in plays for task in flat(play.get("tasks", []))]


@pytest.mark.parametrize("name", ["prepare", "serve", "start", "stop"])
def test_what_a_playbook_holds_it_releases_also_when_it_fails(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")
    assert re.search(r"_?lock: ", text)
    (block,) = [
        task
        for task in tasks_of(name)
        if any("muster.serving.run_lock" in one for one in task.get("always", []))
    ]
    last = block["always"][-1]["muster.serving.run_lock"]
    assert last["state"] == "released"
    held_names = set(re.findall(r"lock: (.+)", yaml.safe_dump(block["block"])))
    assert {one.strip("'") for one in held_names} == {last["lock"]}


@pytest.mark.parametrize("name", ["prepare", "serve", "verify", "upgrade", "takeover"])
def test_a_host_that_a_playbook_leaves_out_is_released_first(name: str) -> None:
    tasks = tasks_of(name)
    (leave,) = [
        at for at, task in enumerate(tasks) if task.get("ansible.builtin.meta") == "end_host"
    ]
    release = tasks[leave - 1]
    assert release["muster.serving.run_lock"]["state"] == "released"
    # Of a run that holds, at least where the host is left out.
    conditions = [
        [one] if isinstance(one, str) else one for one in (release["when"], tasks[leave]["when"])
    ]
    assert {*conditions[0]} - {"release_after is defined"} == {*conditions[1]}
    # What a later stage releases is not released here.
    later = {"prepare": True, "serve": True, "takeover": True}.get(name, False)
    assert ("after" in release["muster.serving.run_lock"]) == later


@pytest.mark.parametrize("name", ["plan", "status", "diagnose", "recipes"])
def test_what_changes_nothing_holds_nothing(name: str) -> None:
    assert "lock:" not in (ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")


def test_preflight_holds_only_for_a_run_that_changes_nodes_after_it() -> None:
    (part,) = [task for task in tasks_of("preflight") if "block" in task]
    (role,), (release,) = part["block"], part["always"]
    assert role["vars"]["preflight_hold"] == "{{ run_changes | default(false) }}"
    assert release["when"] == "run_changes | default(false)"
    assert release["muster.serving.run_lock"]["lock"] == role["vars"]["preflight_lock"]
    runs = {
        name: {
            play["import_playbook"]: play.get("vars", {})
            for play in yaml.safe_load(
                (ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")
            )
            if "import_playbook" in play
        }
        for name in ("site", "serve", "start")
    }
    assert runs["site"]["preflight.yml"]["run_changes"]
    assert runs["serve"]["preflight.yml"]["run_changes"]
    # Its checks only warn, and it holds the nodes when it comes to their units.
    assert "run_changes" not in runs["start"]["preflight.yml"]
    # One stage of site.yml releases for all.
    after = {vars.get("release_after") for vars in runs["site"].values()} - {None}
    assert after == {"verify"}


def test_serve_checks_only_where_this_run_has_not() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/serve.yml").read_text(encoding="utf-8"))
    plan, look, gate = plays[0], plays[1], plays[2]
    # A condition of an import would be asked for each task of its plays, that of the plan included.
    assert not any("when" in play for play in plays)
    assert (plan["import_playbook"], look["import_playbook"]) == ("plan.yml", "look.yml")
    assert gate["vars"]["preflight_gate_of"] == "{{ muster_work.serve }}"
    first = tasks_of("preflight")[0]
    assert first["ansible.builtin.meta"] == "end_play"
    assert first["when"] == ["preflight_gate_of is defined", "preflight_verdict is defined"]
    role = yaml.safe_load((ROOT / "roles/preflight/tasks/main.yml").read_text(encoding="utf-8"))
    assert "preflight_verdict" in [task.get("register") for task in role]


def test_serve_does_not_touch_a_node_whose_checks_have_failed(tmp_path: Path) -> None:
    node = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(tmp_path / "none"),
        "ansible_become": False,
        "muster_address": "10.0.0.11",
        "muster_recipe": "minimax-m2.5-w8a8/vllm-ascend-a2",
        "muster_model_path": "/data/model",
        "muster_output_dir": str(tmp_path / "output"),
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"a2": {"hosts": {"npu-a": node}}}))
    ran = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("playbooks/serve.yml", "-i", inventory),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "npu-a  failed  node-python" in ran.stdout
    assert "Go on without the replicas that have failed checks" in ran.stdout
    assert "Look at this node's units" not in ran.stdout


def test_prepare_holds_all_nodes_before_it_changes_one() -> None:
    roles = [
        task["ansible.builtin.import_role"]["name"]
        for task in tasks_of("prepare")
        if "ansible.builtin.import_role" in task
    ]
    assert roles[0] == "muster.serving.accelerator"
    only = yaml.safe_load((ROOT / "roles/accelerator/tasks/main.yml").read_text(encoding="utf-8"))
    assert [set(task) & {"muster.serving.accelerator_files"} for task in only] == [
        {"muster.serving.accelerator_files"}
    ]


def test_every_module_that_holds_has_an_action_that_says_who() -> None:
    plugins = ROOT / "plugins"
    holding = {
        path.stem
        for path in (plugins / "modules").glob("*.py")
        if re.search(r"run_lock_io\.(hold|look)\(", path.read_text(encoding="utf-8"))
    }
    named = {
        path.stem
        for path in (plugins / "action").glob("*.py")
        if re.search(r"HoldingAction|execute\(self, self\._task\.args", path.read_text("utf-8"))
    }
    assert holding == named
    assert run_lock.lock_path("c").startswith("/run/")
