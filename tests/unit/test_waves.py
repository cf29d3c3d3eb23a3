"""In which order replicas stop and start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.action import replica_waves
from ansible_collections.muster.serving.plugins.filter.refusals import refusals
from ansible_collections.muster.serving.plugins.plugin_utils.replica.waves import (
    gateways_of_plan,
    waves_of,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT


def unit(host: str, group: str, api: bool = True) -> dict[str, Any]:
    url = f"http://{host}:8000/v1" if api else None
    return {"name": f"{group}-{host}", "host": host, "group": group, "api_url": url}


# Two pairs, and two gateways: one beside the second pair, one on a host of its own.
UNITS = [
    unit("a", "replica-0"),
    unit("b", "replica-0", api=False),
    unit("c", "replica-1"),
    unit("d", "replica-1", api=False),
    unit("c", "gateway-0"),
    unit("e", "gateway-1"),
]


def test_a_replica_goes_as_one_with_the_gateway_beside_it() -> None:
    first, second, third = waves_of(UNITS, "abcde")
    assert (first.name, first.hosts) == ("replica 0", ["a", "b"])
    assert first.backends == ["replica-0-a"]
    assert (second.name, second.hosts) == ("replica 1", ["c", "d"])
    assert second.backends == ["replica-1-c"], "a gateway is none of its own backends"
    assert (third.name, third.hosts, third.backends) == ("gateway 1", ["e"], [])
    assert gateways_of_plan(UNITS) == ["c", "e"]


def test_several_go_at_once_where_that_is_wanted() -> None:
    (first, second) = waves_of(UNITS, "abcde", 2)
    assert (first.name, first.hosts) == ("replica 0, replica 1", ["a", "b", "c", "d"])
    assert second.hosts == ["e"]


def test_replicas_that_share_a_host_go_together() -> None:
    shared = [unit("a", "replica-0"), unit("a", "replica-1"), unit("b", "replica-2")]
    assert [one.hosts for one in waves_of(shared, "ab")] == [["a"], ["b"]]
    assert waves_of(shared, "ab")[0].backends == ["replica-0-a", "replica-1-a"]


def test_hosts_outside_are_left_alone() -> None:
    assert [one.hosts for one in waves_of(UNITS, "ab")] == [["a", "b"]]
    assert waves_of(UNITS, "") == []


@given(
    st.sets(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), min_size=1, max_size=10),
    st.sets(st.sampled_from("abcdef")),
    st.integers(1, 4),
)
def test_each_host_is_in_one_wave_and_no_replica_in_two(
    placed: set[tuple[str, int]], hosts: set[str], at_once: int
) -> None:
    units = [unit(host, f"replica-{index}") for host, index in sorted(placed)]
    waves = waves_of(units, hosts, at_once)
    rolled = [host for one in waves for host in one.hosts]
    assert sorted(rolled) == sorted({host for host, _index in placed} & hosts)
    for _host, index in placed:
        own = {host for host, other in placed if other == index} & hosts
        assert sum(bool(own & set(one.hosts)) for one in waves) == bool(own)


def order(**args: Any) -> Any:
    action = replica_waves.ActionModule.__new__(replica_waves.ActionModule)
    given_args = {"made": "rolled", "planned": None, "hosts": ["a", "b"], "at_once": 1, **args}
    variables = {"rolled": {"plan": {"units": UNITS[:2]}}, "whole": {"plan": {"units": UNITS}}}
    return action.act(given_args, {**variables, "none": {"plan": {}}})


def test_gateways_outside_the_limit_are_told_all_the_same() -> None:
    assert order()["gateways"] == []
    assert order(planned="whole")["gateways"] == ["c", "e"]
    # Without a plan of the inventory there is what is on the nodes.
    assert order(made="whole", planned="none")["gateways"] == ["c", "e"]


def test_none_at_once_is_refused() -> None:
    with pytest.raises(AnsibleActionFail, match="at least 1 replica, not 0"):
        order(at_once=0)


def test_the_role_keeps_the_order_that_is_told_whoever_answers_first(tmp_path: Path) -> None:
    """The role as it is, but for what it does in a wave; earlier waves' hosts answer later."""
    role = tmp_path / "roles/roll"
    shutil.copytree(ROOT / "roles/roll", role)
    wave = [{"name": "Roll", "ansible.builtin.debug": {"msg": "rolls {{ roll_wave.name }}"}}]
    (role / "tasks/wave.yml").write_text(yaml.safe_dump(wave))
    (role / "tasks/resume.yml").write_text("[]")
    waits = {"a": 0.3, "b": 0.3, "c": 0.15, "d": 0.15, "e": 0}
    hosts = {name: {"wait": wait, "ansible_connection": "local"} for name, wait in waits.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    play = {
        "hosts": "all",
        "gather_facts": False,
        # Templated by each host's worker, for each of its tasks.
        "environment": {"waited": "{{ lookup('ansible.builtin.pipe', 'sleep ' ~ wait) }}"},
        "vars": {
            "made": {"plan": {"units": UNITS}},
            "roll_made": "made",
            "roll_hosts": sorted(hosts),
            "roll_plan": {},
        },
        "roles": ["roll"],
    }
    rolled = re.findall(r"rolls (\w+ \d)", play_on(tmp_path, play))
    assert rolled == 2 * ["replica 0"] + 2 * ["replica 1"] + ["gateway 1"]


@pytest.mark.parametrize(
    ("on_failure", "said"),
    [("rollback", "restart.yml starts what was verified"), ("return", "takeover.yml goes on")],
)
def test_a_way_back_that_fails_is_told_with_what_to_do(
    tmp_path: Path, on_failure: str, said: str
) -> None:
    """The role as it is, but that a wave and both ways back of it fail."""
    role = tmp_path / "roles/roll"
    shutil.copytree(ROOT / "roles/roll", role)
    wave = yaml.safe_load((role / "tasks/wave.yml").read_text())
    wave[1]["block"] = [{"ansible.builtin.fail": {"msg": "the new one is ill"}}]
    (role / "tasks/wave.yml").write_text(yaml.safe_dump(wave))
    for name in ("rollback", "return"):
        broken = [{"ansible.builtin.fail": {"msg": f"no {name} either"}}]
        (role / f"tasks/{name}.yml").write_text(yaml.safe_dump(broken))
    for name in ("back", "resume"):
        (role / f"tasks/{name}.yml").write_text("[]")
    hosts = {name: {"ansible_connection": "local"} for name in "abcd"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    variables = {"made": {"plan": {"units": UNITS}}, "roll_made": "made", "roll_plan": {}}
    variables.update(roll_hosts=sorted(hosts), roll_on_failure=on_failure)
    play = {"hosts": "all", "gather_facts": False, "vars": variables, "roles": ["roll"]}
    out = " ".join(play_on(tmp_path, play, rc=2).split())
    assert "replica 0: the new one is ill" in out
    assert f"so has the way back: no {on_failure} either. It does not serve" in out
    assert said in out
    assert "replica 1 was not begun and runs on as it is" in out


def play_on(folder: Path, play: dict[str, Any], rc: int = 0) -> str:
    """Run a play on the hosts of a folder, and return what it prints."""
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            folder / "hosts.yml",
            folder / "play.yml",
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("limited", "told"),
    [
        ("abcde", ["replica-0-a,replica-1-c at c", "replica-0-a,replica-1-c at e"]),
        # The gateways are outside.
        ("ab", ["replica-0-a at c", "replica-0-a at e"]),
        ("e", []),
    ],
)
def test_what_a_run_may_have_left_drained_is_asked_for_at_every_gateway(
    tmp_path: Path, limited: str, told: list[str]
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/roll/tasks/resume.yml").read_text(encoding="utf-8"))
    hold, _order, back = tasks
    assert hold["muster.serving.run_lock"]["state"] == "held", "else another run may live"
    given = back.pop("muster.serving.gateway_drain")
    assert given["state"] == "resumed"
    backends = given["backends"].replace("}}", "| join(',') ~ ' at ' ~ __roll_gateway }}")
    back["ansible.builtin.debug"] = {"msg": backends}
    hosts = {name: {"ansible_connection": "local"} for name in limited}
    inventory = {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    variables = {
        "roll_made": "made",
        "made": {"plan": {"units": UNITS}},
        # A host that failed before is no longer here.
        "roll_hosts": sorted({*limited, "d"}),
    }
    play = {"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}
    assert re.findall(r"msg\W+(replica\S+ at \w)", play_on(tmp_path, play)) == told


@pytest.mark.parametrize("name", ["upgrade", "serve", "start", "rolled", "takeover"])
def test_each_verb_takes_back_what_a_run_that_was_cut_off_has_drained(name: str) -> None:
    text = (ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8")
    main = yaml.safe_load((ROOT / "roles/roll/tasks/main.yml").read_text(encoding="utf-8"))
    assert main[0]["ansible.builtin.import_tasks"] == "resume.yml"
    first = text.index("name: muster.serving.roll\n")
    itself = "tasks_from: resume" in text
    assert itself or "roll_made:" in text[first:]
    leaves = text.find("end_host")
    # Where it is all left as it is, somebody has to be there to tell the gateways.
    assert leaves < 0 or not itself or first < leaves


def gateway_tasks(name: str) -> list[dict[str, Any]]:
    """What a file of the role tells the gateways, and what it makes of their answers."""
    tasks = yaml.safe_load((ROOT / f"roles/roll/tasks/{name}.yml").read_text(encoding="utf-8"))
    if name == "wave":
        tasks = tasks[1]["block"][:2]
    return [
        one for one in tasks if {"muster.serving.gateway_drain", "ansible.builtin.fail"} & {*one}
    ]


@pytest.mark.parametrize(
    ("name", "refuses", "goes_on"),
    [
        ("wave", False, True),
        ("wave", True, False),
        ("back", False, True),
        ("back", True, False),
        # It changes nothing, and comes again with the next run.
        ("resume", False, True),
        ("resume", True, True),
    ],
)
def test_a_gateway_whose_node_is_down_stops_nobody_and_one_that_refuses_stops_all(
    tmp_path: Path, name: str, refuses: bool, goes_on: bool
) -> None:
    tasks = gateway_tasks(name)
    assert tasks[0].pop("muster.serving.gateway_drain")
    tasks[0]["ansible.builtin.command"] = "false" if refuses else "true"
    tasks.append({"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} goes on"}})
    hosts: dict[str, dict[str, Any]] = {host: {"ansible_connection": "local"} for host in "ab"}
    hosts["down"] = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    told = {"gateways": ["a", "down"], "backends": ["r0"]}
    variables = {"roll_order": told, "__roll_resume": told, "roll_wave": told, "roll_plan": {}}
    play = {"hosts": "a,b", "gather_facts": False, "vars": variables, "tasks": tasks}
    out = play_on(tmp_path, play, rc=0 if goes_on else 2)
    assert "Connection refused" in out
    assert len(re.findall(r"\w goes on", out)) == (2 if goes_on else 0)


def test_only_who_answers_can_refuse() -> None:
    down = {"unreachable": True, "failed": True, "msg": "no route"}
    asked = {"results": [{"failed": False}, down, {"failed": True, "msg": "two answer still"}]}
    assert refusals(asked) == ["two answer still"]
    assert refusals({"results": []}) == refusals({"skipped": True}) == []
