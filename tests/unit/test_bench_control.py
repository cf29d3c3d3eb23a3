"""The control path's benchmark: its figures, and nodes that answer from a recording."""

from __future__ import annotations

import base64
import http.server
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scale import figures, peer_data, recording
from tests.scale.clusters import Bench, Cluster
from tests.scale.control import first_token
from tests.scale.figures import INSTANT, PEER, SITE, WITHOUT_VERIFY, Goal

# --- figures ------------------------------------------------------------------------------------

WALLS = st.lists(st.floats(0.1, 1000), min_size=1, max_size=9)


@given(WALLS)
def test_a_median_lies_between_the_least_and_the_most(walls: list[float]) -> None:
    seen = figures.spread(walls)
    assert min(walls) == seen.least <= seen.median <= seen.most == max(walls)
    assert seen.count == len(walls)


@given(WALLS, st.floats(0.5, 20))
def test_a_disturbance_of_a_whole_round_leaves_its_ratio(walls: list[float], factor: float) -> None:
    seen = figures.ratios([wall * factor for wall in walls], walls)
    assert seen.median == pytest.approx(factor)
    assert seen.least == pytest.approx(seen.most)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        figures.spread([])
    with pytest.raises(ValueError, match="longer"):
        figures.ratios([1.0], [1.0, 2.0])


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_commands_take_turns_in_rounds(names: list[str]) -> None:
    rounds = [figures.order(names, turn) for turn in range(2 * len(names))]
    assert all(sorted(one) == sorted(names) for one in rounds)
    # None profits from its place: each is the first as often as any other, and the last.
    for place in (0, -1):
        assert sorted(one[place] for one in rounds) == sorted([*names, *names])


def runs(*walls: float, **more: Any) -> list[dict[str, Any]]:
    return [{"wall_s": wall, "cpu_s": wall / 2, **more} for wall in walls]


def cluster(nodes: int, light: bool, **commands: list[dict[str, Any]]) -> dict[str, Any]:
    names = {"site": SITE, "without": WITHOUT_VERIFY, "peer": PEER, "instant": INSTANT}
    by_name = {names[name]: found for name, found in commands.items()}
    return {"nodes": nodes, "light": light, "how": "so", "runs": by_name}


def goal(result: dict[str, Any], words: str) -> Goal:
    (found,) = [one for one in figures.goals(result) if words in one.name]
    return found


def test_goals_compare_with_the_peer_round_by_round() -> None:
    pair = cluster(2, False, without=runs(4, 8, 6), site=runs(7, 13, 10), peer=runs(5, 8, 6))
    result = {"clusters": [pair]}
    without = goal(result, f"{WITHOUT_VERIFY} over {PEER}, 2 lab")
    assert (without.seen, without.most, without.met) == (1.0, 1.0, True)
    whole = goal(result, f"{SITE} over {PEER}, 2 lab")
    assert (whole.seen, whole.most, whole.met) == (pytest.approx(1.625), 1.5, False)
    assert "MISSED" in str(whole)


def test_real_nodes_are_judged_rather_than_light_ones() -> None:
    light = cluster(8, True, without=runs(1), peer=runs(1))
    assert goal({"clusters": [light]}, f"{WITHOUT_VERIFY} over {PEER}, 8 light").met
    real = cluster(8, False, without=runs(2), peer=runs(1))
    assert goal({"clusters": [light, real]}, f"{WITHOUT_VERIFY} over {PEER}, 8 lab").met is False


def test_the_cost_of_a_node_is_that_of_the_controller_alone() -> None:
    few = cluster(8, True, instant=runs(8, memory_mb=100), without=runs(800), peer=runs(1))
    many = cluster(100, True, instant=runs(120, 120, memory_mb=700))
    result = {"clusters": [few, many]}
    assert goal(result, "cost a node").seen == pytest.approx(1.2)
    assert goal(result, "controller CPU").met
    assert goal(result, "controller memory").met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    result = {"clusters": []}
    assert {one.met for one in figures.goals(result)} == {None}
    assert "not measured" in figures.table(result)
    assert {one["met"] for one in figures.with_goals(result)["goals"]} == {None}


def test_plan_and_first_token_have_goals() -> None:
    result = {
        "clusters": [],
        "plan": {"1000": {"plan_s": 2.5, "wall_s": 4.0}},
        "start": {SITE: [30.0, 20.0], "start.yml": [40.0, 40.0], "raw": [20.0, 20.0]},
    }
    assert goal(result, "plan of 1000 hosts").met
    assert goal(result, f"first token by {SITE}").met
    assert goal(result, "first token by start.yml").met is False
    assert "plan of 1000 hosts: 2.50 s, plan.yml 4.00 s" in figures.table(result)


# --- recorded answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a2-node1 at 10.0.0.1", "light007 at 10.1.0.7"),
        ("a2-node10 at 10.0.0.10, 110.0.0.1", "a2-node10 at 10.0.0.10, 110.0.0.1"),
        ("http://10.0.0.1:8000/v1", "http://10.1.0.7:8000/v1"),
        ("muster-a2-r0-rank1.service", "muster-a2-r3-rank1.service"),
        ('{"a2-r0": ["a2-node1\\n"]}', '{"a2-r3": ["light007\\n"]}'),
    ],
)
def test_a_name_is_replaced_where_it_stands_for_itself(text: str, expected: str) -> None:
    names = {"a2-node1": "light007", "10.0.0.1": "10.1.0.7", "a2-r0": "a2-r3"}
    assert recording.renamed(text, names) == expected


@given(st.text(alphabet="ab.- 01", max_size=20))
def test_names_are_replaced_at_once(text: str) -> None:
    swap = {"a": "b", "b": "a", "0": "1", "1": "0"}
    assert recording.renamed(recording.renamed(text, swap), swap) == text
    assert recording.renamed(text, {}) == text


def replica(index: int, *hosts: str) -> dict[str, Any]:
    return {
        "units": [
            {
                "replica": index,
                "host": host,
                "node": host,
                "address": f"10.0.{index}.{place}",
                "name": f"a2-r{index}-rank{place}",
                "group": f"replica-{index}",
            }
            for place, host in enumerate(hosts)
        ],
        "links": [],
    }


def test_the_names_of_a_replica_come_from_plans() -> None:
    one, other = replica(0, "x", "y"), replica(3, "p", "q")
    plan = {part: [*one[part], *other[part]] for part in one}
    names = recording.names_between(recording.replica_of(plan, 0), recording.replica_of(plan, 3))
    assert names["y"] == "q"
    assert names["10.0.0.1"] == "10.0.3.1"
    assert recording.renamed("a2-r0-rank1 of replica-0", names) == "a2-r3-rank1 of replica-3"
    with pytest.raises(ValueError, match="2 units were recorded, not 1"):
        recording.names_between(one, replica(1, "p"))


def test_devices_get_addresses_of_their_own() -> None:
    assert recording.moved(["10.20.1.10", "10.20.1.17"], 99) == {
        "10.20.1.10": "10.20.99.10",
        "10.20.1.17": "10.20.99.17",
    }
    assert recording.moved(["10.20.1.10"], 999) == {"10.20.1.10": "10.23.231.10"}


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Say who this is
      ansible.builtin.command: echo {{ recorded_node | default(inventory_hostname) }} at 10.0.0.1
      changed_when: false
      register: said
    - name: Look twice
      ansible.builtin.stat:
        path: "{{ item }}"
      loop: [/, /nowhere]
      register: looks
    - name: Skip
      ansible.builtin.ping:
      when: false
    - name: Hold the answers against the host
      ansible.builtin.assert:
        that:
          - said.stdout == wanted
          - looks.results | map(attribute='stat.exists') == [true, false]
"""


def inventory(folder: Path, hosts: dict[str, dict[str, Any]]) -> Path:
    common = {
        "ansible_connection": "recorded",
        "ansible_pipelining": True,
        "ansible_python_interpreter": sys.executable,
        "ansible_ssh_private_key_file": "none",
        "recorded_folder": str(folder / "recording"),
    }
    file = folder / "hosts.json"
    groups = {"a2-cluster": {"hosts": hosts, "vars": common}}
    file.write_text(json.dumps({"all": {"children": groups}}))
    return file


def test_many_hosts_answer_as_a_recorded_node_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of SSH: the command runs here.
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    bench = Bench(tmp_path, tmp_path)

    node = {"ansible_host": "10.0.0.1", "wanted": "a2-node0 at 10.0.0.1"}
    bench.playbook(inventory(tmp_path, {"a2-node0": node}), str(play))
    kept = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.glob("recording/*/*/*"))
    assert kept == [
        "recording/a2-node0/ansible.modules.command/000.json",
        "recording/a2-node0/ansible.modules.stat/000.json",
        "recording/a2-node0/ansible.modules.stat/001.json",
    ]

    ssh.write_text("#!/bin/sh\nexit 255\n")
    light = {
        f"light{number}": {
            "ansible_host": f"10.1.0.{number}",
            "recorded_node": "a2-node0",
            "recorded_names": {"a2-node0": f"light{number}", "10.0.0.1": f"10.1.0.{number}"},
            "wanted": f"light{number} at 10.1.0.{number}",
        }
        for number in range(3)
    }
    for instant in (True, False):
        found = bench.playbook(
            inventory(tmp_path, light), str(play), instant=instant, memory=instant
        )
        tasks = found["tasks"]
        assert (tasks["executed"], tasks["skipped"], tasks["changed"]) == (9, 3, 0)
        assert tasks["seconds"]["ansible.builtin.command"] > 0
        assert found["cpu_s"] > 0
        assert not instant or found["resident_mb"] >= found["memory_mb"] > 20


def test_what_was_never_asked_is_said(tmp_path: Path) -> None:
    kept = recording.Recording(tmp_path)
    kept.keep("n0", "x.y.look", {"rc": 0, "stdout": "1", "stderr": "", "seconds": 1})
    kept.keep("n0", "x.y.look", {"rc": 0, "stdout": "2", "stderr": "", "seconds": 1})
    # Past the end the last answer holds: one that was waited for is there.
    assert [kept.answer("n0", "x.y.look", number, {})["stdout"] for number in (0, 1, 5)] == [
        "1",
        "2",
        "2",
    ]
    answer = kept.answer("n0", "x.y.reach", 0, {"n0": "n7"})
    assert answer["rc"] == 1
    assert "n0 was not asked for x.y.reach" in answer["stderr"]


# --- a start from stopped -----------------------------------------------------------------------


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers once its engine was started, which a file shows."""

    started: ClassVar[Path]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.started.exists() else 503)
        self.end_headers()
        self.wfile.write(b'{"choices": []}')

    def log_message(self, *_said: Any) -> None:
        """Say nothing."""


def test_the_first_token_is_timed_from_the_commands_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Endpoint.started = tmp_path / "started"
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    asked = tmp_path / "asked"
    ssh.write_text(f'#!/bin/sh\nsleep 1\necho "$@" >>{asked}\ntouch {Endpoint.started}\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    units = [{"address": "10.0.0.1", "systemd_unit": f"muster-r{rank}.service"} for rank in (0, 1)]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        plan = {"units": units, "endpoint": {"url": url, "model": "m"}}
        pair = Cluster(tmp_path, plan, tmp_path, light=False)
        seconds = first_token(Bench(tmp_path, tmp_path), pair, "raw")
        server.shutdown()
    assert seconds >= 1
    said = asked.read_text()
    assert all(f"root@10.0.0.1 systemctl start muster-r{rank}.service" in said for rank in (0, 1))


# --- the peer -----------------------------------------------------------------------------------


def seen_on(third: int, devices: int = 4) -> dict[str, Any]:
    settings = "# Managed\nvm.swappiness = 0\nnet.x = 1-2\n"
    content = base64.b64encode(settings.encode()).decode()
    return {
        "files": {"/etc/sysctl.d/90-m.conf": {"mode": "644", "content": content}},
        "directories": {"/var/log/muster/x": "755"},
        "units": {"muster-x.service": {"running": True, "enabled": True}},
        "packages": ["docker.io"],
        "hccn": {str(number): f"10.20.{third}.{number}" for number in range(devices)},
        "weights": {"config.json": 5},
    }


PLAN = {
    "host_tuning": {"cpu_governor": "performance"},
    "replicas": [{"hosts": ["a2-node0", "a2-node1"]}],
    "units": [
        {
            "host": host,
            "argv": ["vllm", "serve", "/models/m"],
            "device_nodes": ["/dev/davinci0"],
            "mounts": ["/var/log/muster/x:/log", "/usr/local/dcmi:/usr/local/dcmi:ro"],
            "image": "registry:5000/e:1",
        }
        for host in ("a2-node0", "a2-node1")
    ],
}


def test_the_deploy_gets_the_states_of_a_node(tmp_path: Path) -> None:
    seen = {"a2-node0": seen_on(0), "a2-node1": seen_on(1)}
    data = peer_data.hosts_data(PLAN, seen, tmp_path)["a2-node0"]
    assert data["sysctl"] == {"vm.swappiness": "0", "net.x": "1-2"}
    assert data["driver_paths"] == ["/dev/davinci0", "/usr/local/dcmi"]
    assert data["images"] == ["registry:5000/e:1"]
    assert data["weights"] == {"folder": "/models/m", "files": {"config.json": 5}}
    sources = [Path(file["src"]) for file in data["files"]]
    assert [peer_data.contents(seen, tmp_path)[source][:9] for source in sources] == [b"# Managed"]


def test_each_device_tool_is_asked_once_and_every_pair_pinged_from_one_side() -> None:
    hccn = {host: seen_on(number)["hccn"] for number, host in enumerate("ab")}
    asked = {one: peer_data.hccn_questions(hccn[one], [hccn[other]]) for one, other in ("ab", "ba")}
    pings = [line for lines in asked.values() for line in lines if "-ping" in line]
    assert len({line.split()[2] for line in pings}) == 4
    assert all(line.count(".") == 3 for line in pings)
    for lines in (*asked.values(), peer_data.npu_smi_questions(4)):
        assert len(set(lines)) == len(lines)


def test_the_look_at_a_node_is_a_program() -> None:
    compile(peer_data.LOOK, "look", "exec")


def test_a_light_host_of_the_peer_answers_in_its_own_names(tmp_path: Path) -> None:
    seen = {"a2-node0": seen_on(0), "a2-node1": seen_on(1)}
    data = peer_data.hosts_data(PLAN, seen, tmp_path / "a2-node0")["a2-node0"]
    lines = [
        {"host": "a2-node0", "command": "ls", "success": True, "stdout": ["a2-node0"]},
        {"host": "a2-node0", "command": "ls a2-node0", "success": True, "stdout": []},
    ]
    answers = peer_data.answers_by_host("\n".join(json.dumps(line) for line in lines))
    names = {"a2-node0": "light5", "x": "y"}
    name, light = peer_data.light_host(
        "light5", {**data, "ssh_user": "root"}, answers["a2-node0"], names
    )
    assert name == "@fake/light5"
    assert [*light["fake_responses"]] == ["ls light5", "ls"]
    assert light["fake_responses"]["ls"]["stdout"] == ["light5"]
    assert light["directories"] == {"/var/log/muster/y": "755"}
    # The controller's own file keeps its place.
    assert light["files"][0]["src"] == data["files"][0]["src"]
    assert "ssh_user" not in light


@pytest.mark.parametrize(("row", "expected"), [("56   -   -   56", 0), ("56   12   -   44", 12)])
def test_changes_are_read_from_the_last_table(row: str, expected: int) -> None:
    said = f"--> Results:\n    Operation   Hosts\n    Devices   2\n    Grand total    {row}   \n\n"
    assert peer_data.changed(said) == expected


def test_a_deploy_without_a_table_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no table of results"):
        peer_data.changed("Loading inventory...")
