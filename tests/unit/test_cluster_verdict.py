"""The verdict on all nodes together."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import STATUSES, check
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.comparison import compare
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.folding import rows_of
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.results import (
    collect,
    collect_facts,
    pick,
    with_hosts,
)
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.table import (
    listing,
    sentence,
    table,
)
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.verdict import (
    blocked_hosts,
    count,
    failed_hosts,
)
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.waivers import (
    apply_waivers,
    parse_waivers,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"nic": "nic_check", "npus": "npu_topology_check"}
TODAY = datetime.date(2026, 11, 21)


def on(host, check_id="nic-up", status="failed", subject="eth0", **more):
    texts = {"observed": "down", "expected": "up", "remedy": "ip link set eth0 up", **more}
    return {"host": host, **check(check_id, status, subject, **texts)}


def brief(checks):
    return [(one["host"], one["id"], one["status"]) for one in checks]


def test_checks_of_all_hosts_are_collected_in_order():
    fine = check("nic-up", "ok", "eth0")
    results = {
        "b": {"nic": {"checks": [fine]}, "npus": {"checks": []}},
        "a": {"nic": {"checks": [fine]}, "npus": {"skipped": True, "changed": False}},
    }
    assert brief(collect(["b", "a"], results, MODULES)) == [
        ("b", "nic-up", "ok"),
        ("a", "nic-up", "ok"),
    ]


@pytest.mark.parametrize(
    ("limit", "hosts"),
    [("prod-a2", "prod-a2"), (None, "a"), ("a2:!n3", "'a2:!n3'"), ("n[0:1]", "'n[0:1]'")],
)
def test_a_remedy_that_limits_a_playbook_takes_the_limit_of_the_run(limit, hosts):
    checks = [on("a", remedy="stop.yml -l <hosts> -e x"), on("b", remedy="a reboot")]
    told = [one["remedy"] for one in with_hosts(checks, limit)]
    assert told == [f"stop.yml -l {hosts} -e x", "a reboot"]


def test_a_node_that_cannot_be_reached_is_one_failed_check_with_the_error_of_ssh():
    text = "Task failed: Failed to connect to the host via ssh: No route to host"
    results = {"a": {"nic": {"unreachable": True, "msg": text}, "npus": {"skipped": True}}}
    (one,) = collect(["a"], results, MODULES)
    assert (one["id"], one["host"], one["status"]) == ("node-reachable", "a", "failed")
    assert one["observed"] == "Failed to connect to the host via ssh: No route to host"
    assert "ansible a -m ping" in one["remedy"]


def test_a_host_that_said_nothing_does_not_pass():
    silent = {"a": {"nic": None, "npus": None}}
    checks = collect(["a", "b"], silent, MODULES)
    # Nothing says that there was no connection.
    assert brief(checks) == [("a", "nic-check", "failed"), ("b", "nic-check", "failed")]
    assert checks[0]["observed"] == "no result of nic_check, npu_topology_check"
    assert checks[0]["remedy"]
    results = {"a": {"nic": {"unreachable": True, "msg": "gone"}, "npus": None}}
    assert len(collect(["a"], results, MODULES)) == 1


@pytest.mark.parametrize(
    ("result", "check_id", "seen"),
    [
        ({"msg": "a bug", "failed": False}, "nic-check", "a bug"),
        ({"module_stderr": "Traceback", "rc": 1}, "nic-check", "Traceback"),
        ({"rc": 1}, "nic-check", "without a result"),
        ({"module_stdout": "/bin/sh: 1: /usr/bin/python3: not found"}, "node-python", "python3"),
        (
            {"msg": "ansible-core requires a minimum of Python version 3.8. Current version: 3.6"},
            "node-python",
            "3.6",
        ),
        ({"msg": "The module interpreter '/x' was not found."}, "node-python", "/x"),
    ],
)
def test_a_module_that_breaks_is_a_failed_check(result, check_id, seen):
    (one,) = collect(["a"], {"a": {"nic": result}}, {"nic": "nic_check"})
    assert (one["id"], one["status"]) == (check_id, "failed")
    assert seen in one["observed"]


@pytest.mark.parametrize(
    ("result", "remedy"),
    [
        ({"msg": "Task failed: Incorrect sudo password"}, "correct ansible_become_password"),
        ({"msg": "Incorrect su password"}, "correct ansible_become_password"),
        ({"msg": "Incorrect doas password"}, "correct ansible_become_password"),
        (
            {
                "msg": "MODULE FAILURE",
                "module_stderr": "Sorry, try again.\nsudo: 3 incorrect password attempts",
            },
            "correct ansible_become_password",
        ),
        ({"module_stderr": "su: Authentication failure"}, "correct ansible_become_password"),
        (
            {"msg": "Task failed: Duplicate become password prompt encountered waiting for become"},
            "correct ansible_become_password",
        ),
        ({"msg": "Task failed: Missing sudo password"}, "-K"),
        ({"module_stderr": "sudo: a password is required"}, "-K"),
        (
            {"module_stderr": "sudo: a terminal is required to read the password; either use"},
            "-K",
        ),
        ({"module_stderr": "sudo: sorry, you must have a tty to run sudo"}, "-K"),
        ({"module_stderr": "ubuntu is not in the sudoers file."}, "sudoers"),
        ({"module_stderr": "Sorry, user ubuntu may not run sudo on n1."}, "sudoers"),
        (
            {"module_stderr": "Sorry, user u is not allowed to execute '/bin/sh' as root on n1."},
            "sudoers",
        ),
        ({"module_stderr": "doas: Operation not permitted"}, "sudoers"),
        ({"module_stdout": "/bin/sh: 1: sudo: not found\r\n"}, "ansible_become_method"),
        ({"module_stderr": "bash: line 1: doas: command not found"}, "ansible_become_method"),
        (
            {"msg": "Timeout (12s) waiting for privilege escalation prompt: "},
            "see by hand what sudo says",
        ),
        ({"msg": "Timed out waiting for become success."}, "see by hand what sudo says"),
    ],
)
def test_a_node_where_nobody_becomes_root_says_so(result, remedy):
    results = {"a": {"nic": {"failed": True, **result}, "npus": None}}
    (one,) = collect(["a"], results, MODULES)
    assert (one["id"], one["status"]) == ("node-become", "failed")
    assert remedy in one["remedy"]
    assert one["observed"]


@pytest.mark.parametrize(
    "text", ["docker login: password is required", "Traceback: KeyError: 'sudo'", "a bug in su"]
)
def test_other_trouble_is_not_taken_for_sudos(text):
    (one,) = collect(["a"], {"a": {"nic": {"msg": text}}}, {"nic": "nic_check"})
    assert one["id"] == "nic-check"


def test_the_same_trouble_of_two_modules_is_said_once():
    broken = {"msg": "/usr/bin/python3: not found"}
    assert len(collect(["a"], {"a": {"nic": broken, "npus": broken}}, MODULES)) == 1


def facts_of(**hosts):
    return collect_facts(
        {host: {"nic": {"facts": facts}, "npus": None} for host, facts in hosts.items()}
    )


def compared(facts, groups):
    return [
        (one["host"], one["id"], one["status"], one["observed"]) for one in compare(facts, groups)
    ]


def test_two_nodes_that_differ_are_both_named():
    facts = facts_of(a={"mtu": 9000}, b={"mtu": 1500})
    assert compared(facts, [["a", "b"]]) == [
        ("a", "cluster-mtu", "failed", "9000"),
        ("b", "cluster-mtu", "failed", "1500"),
    ]


def test_of_several_nodes_the_odd_one_is_named():
    facts = facts_of(
        a={"driver_version": "25.2.0"},
        b={"driver_version": "24.1.rc3"},
        c={"driver_version": "25.2.0"},
    )
    seen = compare(facts, [["a", "b", "c"]])
    assert brief(seen) == [
        ("a", "cluster-driver-version", "ok"),
        ("b", "cluster-driver-version", "failed"),
        ("c", "cluster-driver-version", "ok"),
    ]
    assert seen[1]["expected"].endswith("(25.2.0 on a, c)")


def test_replicas_need_not_agree_with_each_other():
    facts = facts_of(a={"mtu": 9000}, b={"mtu": 1500})
    assert compared(facts, [["a"], ["b"]]) == []


def test_what_a_node_does_not_know_or_has_twofold_is_said_to_be_unknown():
    facts = facts_of(a={"npu_tls": [0], "mtu": None}, b={"npu_tls": [0, 1]}, c={"npu_tls": []})
    # What nobody tells is compared by nobody: mtu.
    assert compared(facts, [["a", "b", "c", "d"]]) == [
        ("b", "cluster-npu-tls", "unknown", "not told by this node"),
        ("c", "cluster-npu-tls", "unknown", "not told by this node"),
        ("a", "cluster-npu-tls", "unknown", "told by no other node"),
    ]
    assert all(one["remedy"] for one in compare(facts, [["a", "b", "c", "d"]]))


def test_what_a_check_of_the_node_explains_is_not_said_again():
    facts = facts_of(a={"npu_tls": [0]}, b={"npu_tls": [0, 1]}, c={"npu_tls": [0]})
    seen = [on("b", "npu-tls")]
    assert brief(compare(facts, [["a", "b", "c"]], seen)) == [
        ("a", "cluster-npu-tls", "ok"),
        ("c", "cluster-npu-tls", "ok"),
    ]
    # Another node's check explains nothing here.
    assert ("b", "cluster-npu-tls", "unknown") in brief(
        compare(facts, [["a", "b", "c"]], [on("a", "npu-tls")])
    )


def test_weights_without_an_index_beside_weights_with_one_are_seen():
    facts = facts_of(a={"weights_index": "aa"}, b={"weights_index": None})
    assert brief(compare(facts, [["a", "b"]])) == [
        ("b", "cluster-weights", "unknown"),
        ("a", "cluster-weights", "unknown"),
    ]


def clocks(**offsets):
    """Clocks that were measured within a second."""
    return facts_of(
        **{host: {"clock_offset": [at - 0.5, at + 0.5]} for host, at in offsets.items()}
    )


@pytest.mark.parametrize(
    ("offset", "status"),
    [(0, "ok"), (-5, "ok"), (7, "warning"), (-30, "warning"), (32, "failed"), (-32, "failed")],
)
def test_clocks_of_two_nodes(offset, status):
    seen = compare(clocks(a=1000, b=1000 + offset), [["a", "b"]])
    assert brief(seen) == [("a", "cluster-clock", status), ("b", "cluster-clock", status)]


def test_the_clock_that_is_off_is_named_with_its_distance_and_the_remedy():
    seen = compare(clocks(a=0, b=-100, c=1), [["a", "b", "c"]])
    assert [one["status"] for one in seen] == ["ok", "failed", "ok"]
    assert seen[1]["observed"] == "at least 99 s behind a"
    assert "chrony" in seen[1]["remedy"]
    (ahead, _behind) = compare(clocks(a=20, b=0), [["a", "b"]])
    assert (ahead["status"], ahead["observed"]) == ("warning", "at least 19 s ahead of b")


def test_a_clock_that_was_measured_over_a_slow_way_proves_nothing():
    slow = {"clock_offset": [-40.0, 0.1]}
    seen = compare(
        facts_of(a=slow, b={"clock_offset": [0.0, 0.5]}, c={}),
        [["a", "b", "c"]],
    )
    assert brief(seen) == [("a", "cluster-clock", "ok"), ("b", "cluster-clock", "ok")]
    # Nor does one node say anything, or nodes of two replicas.
    assert compare(clocks(a=0, b=100), [["a"], ["b"]]) == []


@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0, 1e3)), min_size=2, max_size=6),
    st.floats(-1e4, 1e4),
)
def test_clocks_that_can_be_right_pass_whatever_the_controllers_shows(measured, offset):
    names = "abcdef"[: len(measured)]
    # Every node has the same offset from the controller; the way there and back widens the bounds.
    bounds = {
        name: {"clock_offset": [offset - abs(back), offset + there]}
        for name, (back, there) in zip(names, measured, strict=True)
    }
    seen = compare(facts_of(**bounds), [list(names)])
    assert {one["status"] for one in seen} == {"ok"}
    assert len(seen) == len(names)


def test_other_weights_on_one_node_are_named():
    facts = facts_of(
        a={"weights_index": "aa"}, b={"weights_index": "bb"}, c={"weights_index": None}
    )
    assert brief(compare(facts, [["a", "b", "c"]])) == [
        ("a", "cluster-weights", "failed"),
        ("b", "cluster-weights", "failed"),
        ("c", "cluster-weights", "unknown"),
    ]


def test_tls_switches_of_two_nodes():
    facts = facts_of(a={"npu_tls": [0]}, b={"npu_tls": [1]})
    assert [status for _host, _id, status, _seen in compared(facts, [["a", "b"]])] == [
        "failed",
        "failed",
    ]


def test_an_address_on_two_nodes_is_named_on_both():
    facts = facts_of(
        a={"npu_addresses": ["29.0.0.1", "29.0.0.2"]},
        b={"npu_addresses": ["29.0.0.2"]},
        c={"npu_addresses": ["29.0.0.3"]},
    )
    # Over all nodes, since replicas share the fabric.
    seen = compare(facts, [["a"], ["b"], ["c"]])
    assert brief(seen) == [
        ("a", "cluster-npu-address", "failed"),
        ("b", "cluster-npu-address", "failed"),
        ("c", "cluster-npu-address", "ok"),
    ]
    assert (seen[0]["subject"], seen[0]["observed"]) == ("29.0.0.2", "b has it too")


def waiver(until="2026-12-31", check_id="nic-up", **more):
    return {"check": check_id, "reason": "cable ordered", "until": until, **more}


def test_a_waiver_holds_until_its_date_for_its_host_and_check():
    waivers = parse_waivers({"a": [waiver("2026-11-21")], "b": []})
    checks = [on("a"), on("a", "nic-mtu"), on("b")]
    judged, expired = apply_waivers(checks, waivers, TODAY)
    assert [one["status"] for one in judged] == ["waived", "failed", "failed"]
    assert judged[0]["waiver"] == "waived until 2026-11-21: cable ordered"
    assert expired == []


def test_an_expired_waiver_is_ignored_and_said():
    waivers = parse_waivers({"a": [waiver("2026-11-20")]})
    judged, expired = apply_waivers([on("a"), on("a", subject="eth1")], waivers, TODAY)
    assert [one["status"] for one in judged] == ["failed", "failed"]
    # Who looks at the row sees why it counts again.
    assert {one["waiver"] for one in judged} == {"ended on 2026-11-20: cable ordered"}
    assert "waiver   ended on 2026-11-20: cable ordered" in table(judged, 80)
    assert expired == ["a: the waiver of nic-up ran out on 2026-11-20 (cable ordered)"]
    # Nobody misses it when its check is fine.
    assert apply_waivers([on("a", status="ok")], waivers, TODAY)[1] == []


@pytest.mark.parametrize("dates", [("2026-11-20", "2026-12-31"), ("2026-12-31", "2026-11-20")])
def test_of_two_waivers_the_one_that_ends_last_counts(dates):
    waivers = parse_waivers({"a": [waiver(date) for date in dates]})
    judged, expired = apply_waivers([on("a")], waivers, TODAY)
    assert (judged[0]["status"], expired) == ("waived", [])


def test_what_is_fine_or_pending_needs_no_waiver():
    waivers = parse_waivers({"a": [waiver()]})
    for status in ("ok", "pending"):
        assert apply_waivers([on("a", status=status)], waivers, TODAY)[0] == [
            on("a", status=status)
        ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"check": "nic-up", "reason": "r"}, "needs until"),
        (waiver("soon"), "needs until"),
        ({"reason": "r", "until": "2026-12-31"}, "needs check"),
        (waiver(reason=""), "needs check"),
    ],
)
def test_a_waiver_without_its_parts_is_refused(wrong, said):
    with pytest.raises(PlanError, match=f"^a: .*{said}"):
        parse_waivers({"a": [wrong]})


def test_counts_and_sentence():
    checks = [on("a"), on("b", status="ok"), on("b", status="pending")]
    assert count(checks) == {**dict.fromkeys(STATUSES, 0), "failed": 1, "ok": 1, "pending": 1}
    assert failed_hosts(checks) == ["a"]
    assert sentence("preflight", checks) == (
        "preflight: 3 checks on 2 nodes: 1 failed, 1 pending, 1 ok"
    )


def test_the_table_has_each_fault_with_its_remedy_by_host():
    checks = [
        on("b", status="pending", remedy="prepare does it"),
        on("b", "nic-mtu", observed="1500", expected="9000", remedy="raise it"),
        on("a", status="ok"),
    ]
    assert table(checks, 80).splitlines() == [
        "  NODE  STATUS   CHECK    SUBJECT",
        "  b     failed   nic-mtu  eth0",
        "        seen     1500",
        "        expected 9000",
        "        remedy   raise it",
        "  b     pending  nic-up   eth0",
        "        seen     down",
        "        expected up",
        "        remedy   prepare does it",
        "  runbook  docs/runbooks/network.md",
    ]
    assert table([on("a", status="ok")], 80) == ""


NO_DRIVER = [
    on("a", "npu-tool", subject="npu-smi", observed="not there", expected="it", remedy="install"),
    on(
        "a",
        "npu-driver-loaded",
        subject="NPU driver",
        observed="no",
        expected="",
        remedy="install it",
    ),
    *(
        on("a", "device-node", subject=f"/dev/davinci{n}", observed="missing", remedy="install")
        for n in range(3)
    ),
    on("a", "driver-mount", subject="/usr/local/dcmi", observed="missing", remedy="install"),
    on("a"),
]


def test_a_node_without_a_driver_is_one_row_and_what_is_not_of_it_another():
    assert table(NO_DRIVER, 90).splitlines() == [
        "  NODE  STATUS  CHECK              SUBJECT",
        "  a     failed  npu-driver-loaded  NPU driver",
        "        seen     no",
        "        remedy   install it",
        "        follows  npu-tool failed (npu-smi); device-node failed (/dev/davinci0,",
        "                 /dev/davinci1, /dev/davinci2); driver-mount failed (/usr/local/dcmi)",
        "  a     failed  nic-up             eth0",
        "        seen     down",
        "        expected up",
        "        remedy   ip link set eth0 up",
        "  runbook  docs/runbooks/drivers.md (npu-driver-loaded);"
        " docs/runbooks/network.md (nic-up)",
    ]


def test_what_follows_from_nothing_that_failed_here_stands_for_itself():
    elsewhere = [{**one, "host": "b"} for one in NO_DRIVER if one["id"] == "npu-driver-loaded"]
    waived = [
        {**one, "status": "waived", "waiver": "w"} if one["id"] == "npu-driver-loaded" else one
        for one in NO_DRIVER
    ]
    unknown = [
        {**one, "status": "unknown"} if one["id"] == "npu-driver-loaded" else one
        for one in NO_DRIVER
    ]
    for checks in (
        [*(one for one in NO_DRIVER if one["id"] != "npu-driver-loaded"), *elsewhere],
        waived,
        unknown,
    ):
        text = table(checks, 110).partition("\n  runbook  ")[0]
        assert "follows" not in text
        # Equal rows are one all the same, with every subject.
        assert "  a     failed" in text.replace("unknown", "failed ")
        assert "subjects /dev/davinci0, /dev/davinci1, /dev/davinci2" in text
        assert text.count("device-node") == 1


def test_rows_that_differ_in_what_to_do_stay_apart():
    checks = [
        on("a", "device-node", subject="/dev/a", observed="a directory", remedy="rmdir /dev/a"),
        on("a", "device-node", subject="/dev/b", observed="a directory", remedy="rmdir /dev/b"),
        on("b", "device-node", subject="/dev/b", observed="a directory", remedy="rmdir /dev/b"),
    ]
    assert len(rows_of(checks)) == 3


def test_long_texts_are_wrapped_under_themselves():
    text = table([on("a", observed="word " * 40)], 60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("word") == 40


words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=12)


def test_a_waiver_of_no_check_is_refused_with_the_nearest():
    with pytest.raises(PlanError, match=r"npu-helth.*npu-health"):
        parse_waivers({"a": [{"check": "npu-helth", "reason": "r", "until": "2027-01-31"}]})


@given(
    st.lists(
        st.builds(
            on,
            words,
            check_id=st.sampled_from(
                sorted(key for key, kind in CHECKS.items() if kind.worst == "failed")
            ),
            status=st.sampled_from(STATUSES),
            subject=words,
            observed=words,
            remedy=words,
        )
    ),
    st.integers(1, 200),
)
def test_a_table_loses_nothing(checks, width):
    text = table(checks, width)
    failed = {(one["host"], one["id"]) for one in checks if one["status"] == "failed"}
    told = [one for one in checks if one["status"] != "ok"]
    for one in told:
        assert all(one[part] in text for part in ("host", "id", "subject"))
    rows = rows_of(told)
    assert sum(len(row.checks) + len(row.followers) for row in rows) == len(told)
    for row in rows:
        assert row.first["observed"] in text
        assert row.first["remedy"] in text
        # Only under a cause that has failed on this very node.
        for one in row.followers:
            assert row.first["host"] == one["host"]
            assert (row.first["host"], row.first["id"]) in failed
            assert row.first["id"] in causes_of(one["id"])


def causes_of(check_id):
    """The checks that this one can follow from, at once or by way of others."""
    found, todo = set(), list(CHECKS[check_id].follows)
    while todo:
        cause = todo.pop()
        if cause not in found:
            found.add(cause)
            todo += CHECKS[cause].follows
    return found


def test_results_worth_showing_are_picked_and_listed():
    results = {"a": {"e": {"answer": "Hi", "tokens": {"0": 3, "1": 4}, "empty": {}}, "f": None}}
    shown = pick({**results, "b": {"e": None}}, ["answer", "tokens", "empty", "absent"])
    assert shown == {"a": {"answer": "Hi", "tokens": {"0": 3, "1": 4}}}
    assert listing(shown, 80).splitlines() == [
        "  a",
        "    answer           Hi",
        "    tokens           0: 3; 1: 4",
    ]


# The whole role, in a real play

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: muster.serving.preflight
      vars:
        preflight_checks:
          host_check: {}
          nic_check:
            address: 127.0.0.1
            interface: "{{ 'no-such-nic' if inventory_hostname == 'wrong' else none }}"
          port_check:
            ports: [1]
            bind_address: 127.0.0.1
        preflight_report_file: "{{ report }}"
        preflight_waivers: "{{ waivers }}"
        preflight_replicas: "{{ replicas }}"
    - ansible.builtin.debug:
        msg: "{{ inventory_hostname }} goes on"
"""
# Nodes that are this machine have systemd only where it does.
WAIVERS = {
    host: [{"check": one, "reason": "a test", "until": "2099-01-01"} for one in check_ids]
    for host, check_ids in {
        "right": ["nic-kind", "host-systemd"],
        "wrong": ["host-systemd"],
        "gone": ["node-reachable"],
    }.items()
}


def play(tmp_path, *options, more=None, **variables):
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        "right": local,
        "wrong": local,
        "mute": {**local, "ansible_python_interpreter": "/no/such/python3"},
        "gone": {"ansible_host": "127.0.0.1", "ansible_port": 1},
        **(more or {}),
    }
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(PLAY)
    report = tmp_path / "out" / "preflight.json"
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", tmp_path / "inventory.json", tmp_path / "play.yml"),
            *("-e", json.dumps({"report": str(report), "replicas": [], **variables})),
            *options,
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, json.loads(report.read_text())


@pytest.fixture(scope="module")
def of_each_kind(tmp_path_factory):
    """One run over a good node and a bad one of each kind, each a replica of its own."""
    replicas = [["right"], ["wrong"], ["mute"], ["gone"]]
    return play(tmp_path_factory.mktemp("kinds"), waivers=WAIVERS, replicas=replicas)


def test_one_bad_node_of_each_kind_in_one_run(of_each_kind):
    done, report = of_each_kind
    assert done.returncode == 2, done.stdout + done.stderr
    failed = {(one["host"], one["id"]) for one in report["checks"] if one["status"] == "failed"}
    waived = {(one["host"], one["id"]) for one in report["checks"] if one["status"] == "waived"}
    assert failed == {("wrong", "nic-exists"), ("mute", "node-python")}
    waived -= {("right", "host-systemd"), ("wrong", "host-systemd")}
    assert waived == {("right", "nic-kind"), ("gone", "node-reachable")}
    assert report["failed_hosts"] == ["wrong", "mute"]
    assert report["passed"] is False
    # Both are this machine, whose clock is the controller's own.
    for host in ("right", "wrong"):
        low, high = report["facts"][host]["clock_offset"]
        assert low <= 0 <= high
    # An unreachable node is tried once; each further task would cost a time-out.
    assert done.stdout.count("unreachable gone: ") == 1
    # The table stands there once, before the failure.
    assert done.stdout.count("set muster_interface: lo") == 1
    assert "a test" in done.stdout


SSH = """#!/bin/sh
# Runs what it is asked to on this machine, as a node would that is reached over SSH.
for last; do :; done
case "$last" in *-O*|-V) exit 0;; esac
exec /bin/sh -c "$last"
"""
SUDO = """#!/bin/sh
# sudo of a user whose password is not the one that it is told.
for word; do
    test "$before" = -p && prompt=$word
    before=$word
done
if test -z "$prompt"; then
    echo 'sudo: a password is required' >&2
    exit 1
fi
printf '%s' "$prompt" >&2
read -r _password
echo 'Sorry, try again.' >&2
sleep 5
exit 1
"""


@pytest.mark.parametrize(
    ("password", "seen", "remedy"),
    [
        ("wrong", "Incorrect sudo password", "correct ansible_become_password"),
        (None, "Missing sudo password", "-K"),
    ],
)
def test_the_only_node_and_its_password_come_to_a_verdict(tmp_path, password, seen, remedy):
    for name, text in (("ssh", SSH), ("sudo", SUDO)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    become = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_ssh_executable": str(tmp_path / "ssh"),
        "ansible_become": True,
        "ansible_become_exe": str(tmp_path / "sudo"),
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(tmp_path / "tmp"),
        **({"ansible_become_password": password} if password else {}),
    }
    done, report = play(tmp_path, "--limit", "locked", more={"locked": become}, waivers={})
    assert done.returncode == 2, done.stdout + done.stderr
    assert [(one["id"], one["observed"]) for one in report["checks"]] == [("node-become", seen)]
    assert remedy in report["checks"][0]["remedy"]
    assert report["failed_hosts"] == ["locked"]
    # The table came, too.
    assert "node-become" in done.stdout


def test_a_replica_without_faults_goes_on_without_the_others(of_each_kind):
    done, report = of_each_kind
    assert done.returncode == 2, done.stdout + done.stderr
    assert report["failed_hosts"] == ["wrong", "mute"]
    assert "right goes on" in done.stdout
    assert "wrong goes on" not in done.stdout
    assert "mute goes on" not in done.stdout


def test_one_bad_node_blocks_its_whole_replica():
    replicas = [["a", "b"], ["c", "d"]]
    assert blocked_hosts(["b"], replicas) == ["a", "b"]
    assert blocked_hosts(["d", "e"], replicas) == ["c", "d", "e"]
    assert blocked_hosts([], replicas) == []
