"""What is asked of a node: whether an engine serves, of real sockets, and what it has on disk."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import Marker
from ansible_collections.muster.serving.plugins.module_utils.network import (
    sockets_io as net_sockets,
)
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import env_value
from ansible_collections.muster.serving.plugins.module_utils.units import (
    look_io,
    unit_files,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.unit_io import (
    UnitError,
    desired,
    first_start,
    is_ready,
    owners_of_files,
    serves,
)
from ansible_collections.muster.serving.plugins.modules import unit_state
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import host, plan, view


@contextmanager
def answering(body: bytes, asked: list[bytes] | None = None) -> Iterator[str]:
    """The URL of a port that gives one caller these bytes and keeps what it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _address = server.accept()
            with caller:
                request = caller.recv(4096)
                if asked is not None:
                    asked.append(request)
                caller.sendall(body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        thread.join(5)


def reply(value: object) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(value).encode()


def test_an_engine_that_lists_the_model_serves() -> None:
    with answering(reply({"data": [{"id": "other"}, {"id": "minimax25"}]})) as url:
        assert serves(url, "minimax25", "key")


@pytest.mark.parametrize(
    "body",
    [
        reply({"data": [{"id": "other"}]}),
        reply({"data": "minimax25"}),
        reply(["minimax25"]),
        b"HTTP/1.0 503 Loading\r\n\r\n",
        b"SSH-2.0-squatter\r\n",
        b"",
    ],
)
def test_whoever_else_holds_the_port_does_not(body: bytes) -> None:
    with answering(body) as url:
        assert not serves(url, "minimax25", None)


def test_a_port_without_a_listener_does_not_serve() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not serves(f"http://127.0.0.1:{port}/v1", "minimax25", None)


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        # No replica behind it serves, which is not the gateway's fault.
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False),
        (b"SSH-2.0-squatter\r\n", False),
        (b"", False),
    ],
)
def test_a_gateway_is_ready_when_its_own_health_check_answers(answer: bytes, ready: bool) -> None:
    with answering(answer) as url:
        assert is_ready({"role": "gateway", "api_url": url}, "minimax25") is ready


def test_a_gateway_that_is_not_up_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    unit = {"role": "gateway", "api_url": f"http://127.0.0.1:{port}/v1"}
    assert not is_ready(unit, "minimax25")


def test_an_engine_is_asked_for_its_model_whatever_its_role() -> None:
    with answering(reply({"data": [{"id": "minimax25"}]})) as url:
        assert is_ready({"role": "rank", "api_url": url}, "minimax25")


def test_an_engine_is_asked_with_the_key_that_its_unit_names(tmp_path) -> None:
    """The variable that carries the key is the recipe's: engines call it differently."""
    key = tmp_path / "key"
    key.write_text("sk-1\n")
    asked: list[bytes] = []
    for name in ("MUSTER_API_KEY", "VLLM_API_KEY"):
        with answering(reply({"data": [{"id": "minimax25"}]}), asked) as url:
            unit = {
                "name": "u",
                "role": "single",
                "api_url": url,
                "secret_files": {"OTHER_SECRET": str(key), name: str(key)},
                "api_key_env": name,
            }
            assert is_ready(unit, "minimax25")
    assert [b"Authorization: Bearer sk-1" in request for request in asked] == [True, True]


@pytest.mark.parametrize("install", ["container", "venv"])
@given(key=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_the_key_that_a_unit_was_started_with_is_read_back(install: str, key: str) -> None:
    unit = {"install": install, "env": {"A": "VLLM_API_KEY=x", "Z": "1"}}
    text = unit_files.env_file(unit, {"VLLM_API_KEY": key})
    assert env_value(text, "VLLM_API_KEY", install == "venv") == key
    assert env_value(text, "API_KEY", install == "venv") is None


def test_after_a_rotation_an_engine_is_asked_with_the_key_it_was_started_with(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(unit_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))
    (tmp_path / "key").write_text("new")
    asked: list[bytes] = []
    with answering(reply({"data": [{"id": "minimax25"}]}), asked) as url:
        unit = {
            "name": "u",
            "install": "container",
            "role": "single",
            "api_url": url,
            "env": {},
            "secret_files": {"VLLM_API_KEY": str(tmp_path / "key")},
            "api_key_env": "VLLM_API_KEY",
        }
        started = unit_files.env_file(unit, {"VLLM_API_KEY": "old"})
        NodeFiles(str(tmp_path)).write(unit_files.env_path(unit), started)
        assert is_ready(unit, "minimax25")
    assert b"Authorization: Bearer old" in asked[0]


def test_the_plan_says_which_secret_is_the_key() -> None:
    for recipe, name in (("sglang-nvidia", "MUSTER_API_KEY"), ("vllm-nvidia", "VLLM_API_KEY")):
        inventory = view(c=[host(1, f"minimax-m2/{recipe}", api_key_file="/etc/key")])
        (unit,) = plan(inventory)["units"]
        assert (unit["api_key_env"], unit["secret_files"]) == (name, {name: "/etc/key"})


def test_a_first_start_is_one_while_the_cache_is_empty(tmp_path) -> None:
    once = {"cache": str(tmp_path / "cache"), "extra_s": 900, "reason": "compiles kernels"}
    unit = {"name": "r0-rank0", "first_start": once}
    assert first_start(unit) == once
    (tmp_path / "cache").mkdir()
    assert first_start(unit) == once
    (tmp_path / "cache" / "kernel").touch()
    assert first_start(unit) is None
    assert first_start({"name": "r0-rank0", "first_start": None}) is None
    assert first_start({"name": "r0-rank0"}) is None


def test_a_cache_that_is_no_folder_is_said(tmp_path) -> None:
    (tmp_path / "cache").touch()
    once = {"cache": str(tmp_path / "cache"), "extra_s": 900, "reason": "compiles kernels"}
    with pytest.raises(UnitError, match=r"r0-rank0: the engine's cache .* cannot be looked at"):
        first_start({"name": "r0-rank0", "first_start": once})


def venv_unit(path) -> dict:
    return {
        "name": "r0-rank0",
        "install": "venv",
        "argv": [f"{path}/bin/vllm", "serve"],
        "env": {},
        "restart": {"count": 3, "window_s": 600},
    }


def test_without_containers_no_docker_is_asked(tmp_path, monkeypatch) -> None:
    def refuse(*_arguments) -> None:
        raise AssertionError("Docker was asked")

    monkeypatch.setattr(unit_files, "DOCKER", "/bin/true")
    monkeypatch.setattr(unit_io, "ask", refuse)
    marker = Marker("sha256:1", ["vllm==0.23.0"])
    (tmp_path / ".muster.json").write_text(marker.dump())
    wanted = desired([venv_unit(tmp_path)])["r0-rank0"]
    assert wanted["environment id"] == marker.identity


def test_an_environment_whose_making_was_interrupted_is_not_there(tmp_path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    wanted = desired([venv_unit(tmp_path)])["r0-rank0"]
    assert wanted["environment id"] == unit_files.NOT_PRESENT


@pytest.fixture
def states(tmp_path, monkeypatch):
    """Installed units with their files, by name."""
    monkeypatch.setattr(unit_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))

    def install(**units: list[str]) -> None:
        for name, paths in units.items():
            effective = {f"file {path}": "0" for path in paths}
            NodeFiles(str(tmp_path)).write(
                unit_files.state_path(name), json.dumps({"effective": effective})
            )

    return install


@pytest.mark.parametrize(
    ("wait", "told", "ready"), [(0, {}, True), (5, {}, False), (5, {"u": 1}, True)]
)
def test_what_systemd_restarted_before_the_look_is_no_end(monkeypatch, wait, told, ready) -> None:
    """An engine that came back by itself serves; only a watch counts restarts as ends."""
    service = "muster-u.service"
    shown = {"ActiveState": "active", "SubState": "running", "NRestarts": "1"}
    monkeypatch.setattr(unit_io, "show", lambda _names: {service: shown})
    monkeypatch.setattr(unit_io, "is_ready", lambda _unit, _model: True)
    unit = {"name": "u", "systemd_unit": service, "api_url": "http://192.0.2.1:8000/v1"}
    params = {"units": [unit], "model": "m", "wait": wait, "restarts_before": told}
    assert look_io.glance(params)["u"].ready is ready


def test_what_other_deployments_run_here_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unit_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))
    for name, owner in (("a-r0-rank0", "a"), ("b-r0-rank0", "b"), ("b-r0-rank1", "b"), ("x", "")):
        state = {"deployment": owner, "effective": {}}
        NodeFiles(str(tmp_path)).write(unit_files.state_path(name), json.dumps(state))
    asked = []

    def shown(services):
        asked.extend(services)
        return {"muster-b-r0-rank1.service": {"ActiveState": "active"}}

    monkeypatch.setattr(unit_io, "show", shown)
    assert unit_io.running_others("a") == [{"deployment": "b", "units": ["b-r0-rank1"]}]
    assert asked == ["muster-b-r0-rank0.service", "muster-b-r0-rank1.service"]
    assert unit_io.installed_names("b") == ["b-r0-rank0", "b-r0-rank1"]


def test_a_unit_whose_state_is_cut_off_belongs_where_its_name_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unit_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))
    for name, text in (("a-b-r0-rank0", '{"deploym'), ("a-b-gateway0", ""), ("a-r0-rank0", "[]")):
        NodeFiles(str(tmp_path)).write(unit_files.state_path(name), text)
    # What stop takes for what runs here: such a unit is no less running.
    assert unit_io.installed_names("a-b") == ["a-b-gateway0", "a-b-r0-rank0"]
    assert unit_io.installed_names("a") == ["a-r0-rank0"]


def test_a_file_goes_with_the_last_unit_that_has_it(states) -> None:
    own, shared, foreign = "/etc/muster/a/x", "/etc/muster/x", "/etc/hosts"
    states(a=[own, shared, foreign], b=[shared])
    assert owners_of_files() == {own: {"a"}, shared: {"a", "b"}, foreign: {"a"}}
    assert unit_state.unused_files(["a"], []) == [own]
    assert unit_state.unused_files(["a"], [own]) == []
    assert unit_state.unused_files(["a", "b"], []) == [own, shared]


def test_a_start_ends_what_preflight_left_listening(tmp_path) -> None:
    (listener,) = net_sockets.listen([0], "127.0.0.1")
    port = listener.getsockname()[1]
    net_sockets.detach(lambda: net_sockets.serve([listener], 60, ["192.0.2.1"]), [listener])
    listener.close()
    busy = net_sockets.find_busy([port], "127.0.0.1")
    assert busy, "it listens"
    unit_state.end_listeners([{"name": "a", "address": "127.0.0.1", "ports": {"api": port}}])
    assert net_sockets.find_busy([port], "127.0.0.1") == []
    # A unit that says nothing of ports.
    unit_state.end_listeners([{"name": "b"}])


def test_the_last_lines_of_a_log_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "loading\nHF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz0123\n\nready  \n"
    monkeypatch.setattr(unit_io, "ask", lambda argv: Output(0, said, ""))
    first, secret, last = unit_io.last_log("muster-c-r0-rank0.service")
    assert (first, last) == ("loading", "ready")
    assert "hf_abc" not in secret
