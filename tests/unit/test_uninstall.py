"""Whether a deployment may go from hosts of a play, and what is told of what stayed."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.action import (
    uninstall_decision,
    uninstall_report,
)
from ansible_collections.muster.serving.plugins.module_utils.node.uninstall_io import peer_state
from ansible_collections.muster.serving.plugins.plugin_utils.replica.uninstall import (
    RUNS,
    broken_replicas,
    leftovers,
    refusals,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

CONNECTION = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
NAMES = {"10.0.0.1": "n1", "10.0.0.2": "n2", "10.0.0.3": "n3"}


def host(number: int, peers: Mapping[int, str], link: str = "c-r0", **more: Any) -> dict[str, Any]:
    """What uninstall_info says on a host with a part of a replica: its peers and their states."""
    replica = {
        "name": link,
        "listen": f"10.0.0.{number}",
        "peers": [{"address": f"10.0.0.{one}", "state": state} for one, state in peers.items()],
    }
    return {"deployment": "c", "replicas": [replica], **more}


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        # The whole replica, whatever runs of it.
        ({"n1": host(1, {2: "running"}), "n2": host(2, {1: "running"})}, {}),
        # A part of one that runs, that starts, that is stopped, has failed or does not answer.
        ({"n1": host(1, {2: "running"})}, {"n1": [("c-r0", ["n2"])]}),
        ({"n1": host(1, {2: "starting"})}, {"n1": [("c-r0", ["n2"])]}),
        ({"n1": host(1, {2: "stopped", 3: "failed"})}, {}),
        ({"n1": host(1, {2: ""})}, {}),
        # One host of it has not answered this run, and its units run.
        ({"n1": host(1, {2: "running"}), "n2": {}}, {"n1": [("c-r0", ["n2"])]}),
        # Its files have gone in an earlier run.
        ({"n1": host(1, {2: ""}), "n2": {"deployment": "c", "replicas": []}}, {}),
        # Each replica for itself.
        (
            {
                "n1": host(1, {2: "running"}),
                "n2": host(2, {1: "running"}),
                "n3": host(3, {4: "running"}, "c-r1"),
            },
            {"n3": [("c-r1", ["10.0.0.4"])]},
        ),
        # A single node, and a host that has a gateway alone.
        ({"n1": host(1, {}), "n2": {"deployment": "c", "replicas": []}}, {}),
    ],
)
def test_a_replica_goes_as_a_whole_unless_the_rest_does_not_run(
    found: dict[str, Any], refused: dict[str, Any]
) -> None:
    assert broken_replicas(found, NAMES) == refused
    assert set(refusals(found, NAMES, True)) == set(refused)


def test_a_refusal_names_the_missing_hosts_and_both_ways_out() -> None:
    text = refusals({"n1": host(1, {2: "running", 3: "starting"})}, NAMES, True)["n1"]
    assert "c-r0 runs on n2, n3, which this run does not reach" in text
    assert "Nothing was changed here. Add n2,n3 to the limit" in text
    assert "playbooks/stop.yml -l n2,n3 -e muster_cluster=c" in text


def test_several_clusters_take_a_limit() -> None:
    found = {"n1": host(1, {}), "n2": host(2, {}, "d-r0", deployment="d")}
    assert refusals(found, NAMES, limited=True) == {}
    assert set(refusals(found, NAMES, limited=False)) == {"n1", "n2"}
    assert "Run again with -l c" in refusals(found, NAMES, limited=False)["n1"]
    assert refusals({"n1": host(1, {})}, NAMES, limited=False) == {}


@given(
    st.sets(st.integers(1, 6), min_size=1),
    st.dictionaries(st.integers(1, 6), st.sampled_from(["", *RUNS, "stopped", "failed"])),
)
def test_a_part_goes_only_where_no_other_runs(limit: set[int], states: dict[int, str]) -> None:
    """Each host of a replica of six is asked by all others."""
    found = {
        f"n{number}": host(
            number, {one: states.get(one, "running") for one in range(1, 7) if one != number}
        )
        for number in limit
    }
    left = {one for one in range(1, 7) if one not in limit}
    runs = any(states.get(one, "running") in RUNS for one in left)
    assert bool(broken_replicas(found, {})) == runs


def action(kind: Any, variables: dict[str, Any], check_mode: bool = False, **args: Any) -> Any:
    made = kind.ActionModule.__new__(kind.ActionModule)
    made._task = SimpleNamespace(args=args, check_mode=check_mode, async_val=0, _uuid="task")
    made._connection, made._loader = CONNECTION, None
    return made.run(task_vars=variables)


def test_the_decision_names_hosts_as_the_inventory_does() -> None:
    hostvars = {
        "n1": {"ansible_host": "10.0.0.1", "found": host(1, {2: "running", 3: "running"})},
        # What was registered before it was lost counts for nothing.
        "n2": {"muster_address": "10.0.0.2", "found": host(2, {1: "running", 3: "running"})},
        "n9": {},
    }
    said = action(
        uninstall_decision,
        {"hostvars": hostvars, "ansible_play_hosts": ["n1"], "ansible_limit": "c"},
        hosts=["n1", "n2"],
        results="found",
    )
    assert set(said["refused"]) == {"n1"}
    assert "c-r0 runs on n2, 10.0.0.3" in said["refused"]["n1"]


def test_what_stays_on_several_hosts_for_one_reason_is_one_row() -> None:
    stay = {"what": "/var/log/muster/x", "why": "not asked for"}
    other = {"what": "Docker", "why": "others use it"}
    found = {"n1": [{"stays": [stay, other]}, {}], "n2": [{"stays": [stay]}, {"stays": [stay]}]}
    assert leftovers(found) == [
        {"hosts": ["n1", "n2"], **stay},
        {"hosts": ["n1"], **other},
    ]


@pytest.mark.parametrize(
    ("check_mode", "heading"), [(False, "what stays, and why"), (True, "what would stay, and why")]
)
def test_the_report_shows_a_table_and_where_nothing_was(
    check_mode: bool, heading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(uninstall_report, "show", shown.append)
    stay = {"what": "/var/log/muster/x", "why": "not asked for"}
    hostvars = {
        "n1": {"tuned": {"changed": False}, "removed": {"changed": True, "stays": [stay]}},
        "n2": {"tuned": {"changed": False}, "removed": {"changed": False, "stays": []}},
        # Lost on the way.
        "n3": {"tuned": {"changed": True}},
    }
    said = action(
        uninstall_report,
        {"hostvars": hostvars},
        check_mode,
        hosts=["n1", "n2", "n3"],
        results=["tuned", "removed"],
    )
    assert shown[0] == "nothing to uninstall on n2"
    assert shown[1] == heading
    assert [line.split() for line in shown[2].splitlines()] == [
        ["NODE", "WHAT", "WHY"],
        ["n1", "/var/log/muster/x", "not", "asked", "for"],
    ]
    assert said["nothing"] == ["n2"]
    assert said["ansible_stats"]["data"]["muster_uninstall"]["stays"] == said["stays"]


@contextmanager
def link(body: bytes, status: int = 200) -> Iterator[int]:
    """The port of a link, or of whoever sits there in its place."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


ANSWER = {
    "start_id": "1",
    "generation": 0,
    "state": "running",
    "by_hand": False,
    "crash": "",
    "crash_age": 1.0,
}


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (json.dumps(ANSWER).encode(), "running"),
        (json.dumps({**ANSWER, "state": "stopped"}).encode(), "stopped"),
        (json.dumps({**ANSWER, "state": "odd"}).encode(), ""),
        (b"<html>", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_link_of_a_peer_says_how_it_does(body: bytes, state: str) -> None:
    with link(body) as port:
        assert peer_state("127.0.0.1", port, "1") == state


@pytest.mark.parametrize("port", [0, None, "x", 1])
def test_a_peer_without_a_link_says_nothing(port: Any) -> None:
    assert peer_state("127.0.0.1", port, "1") == ""


def test_a_node_that_its_replica_has_replaced_goes_without_it() -> None:
    with link(json.dumps(ANSWER).encode()) as port:
        assert peer_state("127.0.0.1", port, "of the start before") == ""


def test_the_playbook_holds_before_it_decides_and_stops_before_it_removes() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / "uninstall.yml").read_text())
    held, run = play["tasks"][:2]
    spec = held["ansible.builtin.validate_argument_spec"]["argument_spec"]
    removal = next(task for task in run["block"] if "muster.serving.node_uninstall" in task)
    switches = {"images", "caches", "logs"}
    assert switches < set(removal["muster.serving.node_uninstall"])
    assert spec == {f"uninstall_{name}": {"type": "bool"} for name in switches}
    order = [
        next(key for key in task if key.startswith(("muster.", "ansible."))).rpartition(".")[2]
        for task in run["block"]
    ]
    assert order == [
        *("uninstall_info", "uninstall_decision", "fail", "import_role", "import_role"),
        *("node_firewall", "host_tuning", "docker_config", "node_uninstall"),
    ]
    assert run["always"][-1]["muster.serving.run_lock"]["state"] == "released"
