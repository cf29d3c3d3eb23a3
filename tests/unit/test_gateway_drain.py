"""Engines taken out of a gateway and back: HAProxy's answers, and a gateway that is a socket."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.action import (
    gateway_drain as gateway_drain_action,
)
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_admin,
    gateway_admin_io,
    look_io,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import (
    AdminError,
    Server,
    has_other,
    order,
    parse_servers,
)
from ansible_collections.muster.serving.plugins.modules import gateway_drain
from hypothesis import given
from hypothesis import strategies as st

# HAProxy 2.6 on a lab node, with the columns between left out.
STATISTICS = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,weight,
engines,r0,0,0,2,2,,10,UP,1,
engines,r1,1,0,0,2,,12,DRAIN,1,
engines,r2,0,0,0,2,,12,DOWN 1/2,1,

"""
STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 engines 1 r0 10.0.0.1 2 0 1
3 engines 2 r1 10.0.0.2 2 8 1
3 engines 3 r2 10.0.0.3 0 0 1

"""


def test_engines_are_read() -> None:
    assert parse_servers(STATISTICS, STATES) == {
        "r0": Server(up=True, drained=False, requests=2),
        "r1": Server(up=True, drained=True, requests=1),
        "r2": Server(up=False, drained=False, requests=0),
    }


@pytest.mark.parametrize(
    ("statistics", "states"),
    [
        (STATISTICS, ""),
        ("Permission denied\n", STATES),
        ("", STATES),
        (STATISTICS.replace("2,2", "two,2"), STATES),
    ],
)
def test_what_is_no_answer_says_so(statistics: str, states: str) -> None:
    with pytest.raises(AdminError, match="HAProxy said"):
        parse_servers(statistics, states)


@given(st.text(), st.text())
def test_any_text_is_read_or_refused(statistics: str, states: str) -> None:
    with contextlib.suppress(AdminError):
        parse_servers(statistics, states)


def test_another_engine_is_one_that_takes_requests() -> None:
    found = parse_servers(STATISTICS, STATES)
    assert has_other(found, ["r1"])
    assert not has_other(found, ["r0"]), "the others are drained and down"


# systemd's ids of the gateway's runs, the present one last.
RUNS = ["1f"]


class Gateway(socketserver.ThreadingUnixStreamServer):
    """A HAProxy of which the engines' requests end one by one with each look at them."""

    def __init__(self, path: str) -> None:
        self.engines = {"r0": {"admin": 0, "requests": 3}, "r1": {"admin": 0, "requests": 0}}
        self.told: list[str] = []
        super().__init__(path, Handler)

    def answer(self, command: str) -> str:
        if command.startswith("show stat "):
            rows = [f"engines,{n},0,{e['requests']},UP," for n, e in self.engines.items()]
            for engine in self.engines.values():
                engine["requests"] = max(0, engine["requests"] - bool(engine["admin"]))
            return "\n".join(["# pxname,svname,qcur,scur,status,", *rows]) + "\n"
        if command.startswith("show servers"):
            rows = [f"3 engines 1 {n} {e['admin']}" for n, e in self.engines.items()]
            return "\n".join(["1", "# be_id be_name srv_id srv_name srv_admin_state", *rows]) + "\n"
        self.told.append(command)
        _set, _server, name, _state, state = command.split()
        engine = self.engines.get(name.partition("/")[2])
        if engine is None:
            return "No such server.\n"
        engine["admin"] = 8 if state == "drain" else 0
        return "\n"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        command = self.rfile.readline().decode().strip()
        assert isinstance(self.server, Gateway)
        self.wfile.write(self.server.answer(command).encode())


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    path = tmp_path / "admin.sock"
    monkeypatch.setattr(gateway_admin, "admin_socket", lambda _name: str(path))
    monkeypatch.setattr(gateway_admin, "admin_folder", lambda _name: str(tmp_path))
    monkeypatch.setattr(gateway_drain, "POLL_S", 0.01)
    installed = ["c-gateway0", "c-r0-rank0"]
    monkeypatch.setattr(unit_io, "installed_names", lambda _deployment: installed)
    monkeypatch.setattr(
        unit_io,
        "show",
        lambda names: {name: {"ActiveState": "active", "InvocationID": RUNS[-1]} for name in names},
    )
    monkeypatch.setattr(sys.modules[__name__], "RUNS", ["1f"])
    with Gateway(str(path)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def ask(capsys: Any, **options: Any) -> dict[str, Any]:
    asked = {"deployment": "c", "backends": ["r0"], "state": "drained", **options}
    with patch_module_args(asked), pytest.raises(SystemExit):
        gateway_drain.main()
    return json.loads(capsys.readouterr().out)


def test_an_engine_that_is_drained_answers_what_it_has(gateway: Gateway, capsys: Any) -> None:
    drained = ask(capsys)
    assert (drained["changed"], drained["left"], drained["alone"]) == (True, 0, [])
    assert drained["gateways"] == ["c-gateway0"]
    assert gateway.told == [order("r0", "drained")]
    again = ask(capsys)
    assert (again["changed"], len(gateway.told)) == (False, 1)
    back = ask(capsys, state="serving")
    assert (back["changed"], gateway.told[-1]) == (True, order("r0", "serving"))


def test_what_is_not_answered_in_time_is_told(gateway: Gateway, capsys: Any) -> None:
    gateway.engines["r0"]["requests"] = 10_000
    drained = ask(capsys, timeout=0.05)
    assert not drained.get("failed")
    assert drained["left"] > 9000
    failed = ask(capsys, timeout=0.05, enforce=True)
    assert failed["failed"]
    assert "requests are still answered after 0.05 s" in failed["msg"]


def test_check_mode_tells_the_gateway_nothing(gateway: Gateway, capsys: Any) -> None:
    assert ask(capsys, _ansible_check_mode=True)["changed"]
    assert gateway.told == []


@pytest.mark.parametrize(
    ("admin", "backends", "said"),
    [
        (0, ["r0", "r1"], "no other engine that serves: its clients get errors"),
        (
            8,
            ["r0"],
            "its clients get errors. One could: r1, drained by somebody who left no word",
        ),
    ],
)
def test_the_last_engine_is_told_of(
    gateway: Gateway,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    admin: int,
    backends: list[str],
    said: str,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(
        gateway_drain.AnsibleModule, "warn", lambda _self, text: warned.append(text)
    )
    gateway.engines["r1"]["admin"] = admin
    assert ask(capsys, backends=backends)["alone"] == ["c-gateway0"]
    assert said in warned[0]


def test_what_a_gateway_keeps_requests_from_is_told_with_what_it_does(gateway: Gateway) -> None:
    report = {"name": "c-gateway0", "role": "gateway", "ready": True}
    assert look_io.drained(report) == {}
    gateway.engines["r1"]["admin"] = 8
    assert "r1, drained by somebody who left no word" in look_io.drained(report)["r1"]
    assert look_io.drained({**report, "ready": False}) == {}
    assert look_io.drained({**report, "role": "head"}) == {}


def test_an_engine_that_a_gateway_does_not_have_is_no_matter(gateway: Gateway, capsys: Any) -> None:
    drained = ask(capsys, backends=["x"])
    assert (drained["changed"], drained["left"], gateway.told) == (False, 0, [])


def test_a_gateway_of_an_older_plan_has_no_socket(
    gateway: Gateway, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_admin, "admin_socket", lambda _name: "/nothing/admin.sock")
    refused = ask(capsys)
    assert refused["failed"]
    assert "run playbooks/serve.yml" in refused["msg"]


def test_a_node_without_a_gateway_has_nothing_to_do(
    gateway: Gateway, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_admin_io.unit_io, "show", lambda _names: {})
    assert ask(capsys)["gateways"] == []
    assert gateway.told == []


RUN = "restart.yml by ann on ctl1"


def drained_by(gateway: Gateway) -> dict[str, bool]:
    """Return by engine that gets no new requests whether the next run takes it back."""
    units = [{"name": "c-gateway0", "role": "gateway", "ready": True}]
    left = look_io.left_by_runs(units)
    return {name: name in left for name, one in gateway.engines.items() if one["admin"]}


def test_what_a_run_that_was_cut_off_has_drained_is_taken_back(
    gateway: Gateway, capsys: Any
) -> None:
    assert ask(capsys, for_run=True, by=RUN)["told"] == ["r0"]
    assert drained_by(gateway) == {"r0": True}
    report = {"name": "c-gateway0", "role": "gateway", "ready": True}
    text = look_io.drained(report)["r0"]
    assert f"r0, drained by {RUN} at 20" in text
    assert "where that run was cut off, the next one takes it back" in text
    # Another run, on another replica alone.
    assert not ask(capsys, state="resumed", backends=["r1"])["changed"]
    assert ask(capsys, state="resumed", _ansible_check_mode=True)["told"] == ["r0"]
    assert drained_by(gateway) == {"r0": True}
    assert ask(capsys, state="resumed")["told"] == ["r0"]
    assert drained_by(gateway) == {}
    assert not ask(capsys, state="resumed")["changed"]


def test_what_an_operator_has_drained_stays_until_he_takes_it_back(
    gateway: Gateway, capsys: Any
) -> None:
    ask(capsys, by="drain.yml by ann on ctl1")
    # A run that comes to it and is cut off leaves it as it was.
    assert not ask(capsys, for_run=True, by=RUN)["changed"]
    assert not ask(capsys, state="resumed")["changed"]
    assert drained_by(gateway) == {"r0": False}
    # What a run has left is the operator's once he drains it himself.
    ask(capsys, backends=["r1"], for_run=True, by=RUN)
    assert drained_by(gateway) == {"r0": False, "r1": True}
    assert not ask(capsys, backends=["r1"], by="drain.yml by ann on ctl1")["changed"]
    assert drained_by(gateway) == {"r0": False, "r1": False}
    assert ask(capsys, state="serving", backends=["r0", "r1"])["told"] == ["r0", "r1"]
    ask(capsys, for_run=True, by=RUN)
    assert drained_by(gateway) == {"r0": True}, "nothing is left of the order before"


def test_what_nobody_of_muster_has_drained_is_left_alone(gateway: Gateway, capsys: Any) -> None:
    gateway.engines["r0"]["admin"] = 8
    assert not ask(capsys, for_run=True, by=RUN)["changed"]
    assert not ask(capsys, state="resumed")["changed"]
    assert drained_by(gateway) == {"r0": False}


def test_an_order_ends_with_the_run_of_the_gateway_that_it_was_given_to(
    gateway: Gateway, capsys: Any
) -> None:
    ask(capsys, for_run=True, by=RUN)
    gateway.engines["r0"]["admin"] = 0
    RUNS.append("2e")
    assert drained_by(gateway) == {}
    # Somebody drains it by hand since.
    gateway.engines["r0"]["admin"] = 8
    assert not ask(capsys, state="resumed")["changed"]
    assert drained_by(gateway) == {"r0": False}


def test_a_run_that_is_cut_off_before_it_drains_has_noted_it(
    gateway: Gateway, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_args: Any) -> None:
        raise AdminError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(gateway_admin_io, "tell", cut_off)
        assert ask(capsys, for_run=True, by=RUN)["failed"]
    assert drained_by(gateway) == {}
    gateway.engines["r0"]["admin"] = 8
    assert drained_by(gateway) == {"r0": True}


def test_runs_on_two_replicas_lose_nothing_of_each_other(
    gateway: Gateway, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Another call has the gateway while this one comes.
    held, asked = os.open(tmp_path, os.O_RDONLY), threading.Event()
    fcntl.flock(held, fcntl.LOCK_EX)
    servers = gateway_admin_io.servers

    def seen(name: str) -> Any:
        asked.set()
        return servers(name)

    monkeypatch.setattr(gateway_admin_io, "servers", seen)
    order = gateway_admin.Order(True, RUN, "now")

    def other() -> None:
        assert not asked.wait(0.3), "it looks before it has the gateway for itself"
        gateway.engines["r1"]["admin"] = 8
        gateway_admin_io.keep_orders("c-gateway0", {"r1": order})
        os.close(held)

    beside = threading.Thread(target=other)
    beside.start()
    ask(capsys, for_run=True, by=RUN)
    beside.join()
    assert drained_by(gateway) == {"r0": True, "r1": True}


def test_a_full_disk_keeps_nobody_from_draining(
    gateway: Gateway, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gateway_admin_io.NodeFiles, "write", full)
    warned: list[str] = []
    monkeypatch.setattr(
        gateway_drain.AnsibleModule, "warn", lambda _self, text: warned.append(text)
    )
    assert ask(capsys, by=RUN)["changed"]
    assert gateway.engines["r0"]["admin"] == 8
    assert "not kept who has drained its engines: [Errno 28]" in warned[0]


@given(st.text() | st.none(), st.text())
def test_a_file_of_any_content_takes_nothing_back_or_is_read(
    text: str | None, invocation: str
) -> None:
    assert gateway_admin.read_orders(text, invocation) == {}
    orders = {"r0": gateway_admin.Order(True, RUN, "now")}
    whole = gateway_admin.orders_text(orders, invocation)
    assert gateway_admin.read_orders(whole, invocation) == orders
    assert gateway_admin.read_orders(whole[:-3], invocation) == {}
    for broken in ('{"invocation": "1", "orders": []}', "[]", '{"invocation": "1"}'):
        assert gateway_admin.read_orders(broken, "1") == {}


def test_a_run_says_whose_it_is() -> None:
    action = gateway_drain_action.ActionModule.__new__(gateway_drain_action.ActionModule)
    action._task = SimpleNamespace(args={"state": "drained"}, check_mode=False, async_val=0)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action._execute_module = lambda **call: call["module_args"]
    told = action.run(task_vars={"awx_user_name": "carol"})
    assert told["state"] == "drained"
    assert " by carol on " in told["by"]
