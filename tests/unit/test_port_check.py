"""Ports: ranges, who holds them, and whether peers reach them. Sockets are real ones."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.module_utils.network import ports_io as port_look
from ansible_collections.muster.serving.plugins.module_utils.network import (
    sockets_io as net_sockets,
)
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    LISTENER,
    Busy,
    PortError,
    SocketEntry,
    decide_local,
    decide_probe,
    decide_reserved,
    parse_ephemeral,
    parse_kernel_ranges,
    parse_ports,
    parse_socket_table,
    takes,
)
from hypothesis import given
from hypothesis import strategies as st

HOME = "127.0.0.1"


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ([20004, "2347"], [2347, 20004]),
        (["60000-60003", 60002], [60000, 60001, 60002, 60003]),
        ([" 7 - 8 "], [7, 8]),
        ([], []),
    ],
)
def test_ports_and_ranges(values, ports):
    assert parse_ports(values) == ports


@pytest.mark.parametrize("value", [0, 65536, "8-7", "a", "", None, True, "1-2-3", "٣", 1.5, [1]])
def test_what_is_no_port_is_refused(value):
    with pytest.raises(PortError, match="neither a port"):
        parse_ports([value])


@given(st.sets(st.integers(1, 65535)))
def test_written_ports_are_read_back(ports):
    text = ranges_text(ports, ", ")
    assert parse_ports(text.split(",") if text else []) == sorted(ports)


@given(st.text())
def test_any_kernel_text_can_be_read(text):
    assert all(0 < port < 65536 for port in parse_kernel_ranges(text))
    assert parse_ephemeral(text) is None or len(parse_ephemeral(text)) == 2
    assert isinstance(parse_socket_table(text), list)


def test_kernel_ranges():
    assert parse_kernel_ranges("8080,9148-9150\n") == [8080, 9148, 9149, 9150]
    assert parse_kernel_ranges("\n") == []
    assert parse_ephemeral("32768\t60999\n") == (32768, 60999)


def test_the_socket_table_of_the_kernel():
    ipv4 = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
        " inode\n"
        "   0: 0100007F:4E24 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
        " 4711 1 0000000000000000 100 0 0 10 0\n"
        "   1: 0B00140A:EA60 0C00140A:1F90 01 00000000:00000000 00:00000000 00000000  1000        0"
        " 4712 1 0000000000000000 20 4 30 10 -1\n"
    )
    ipv6 = (
        "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A "
        "00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0"
    )
    assert parse_socket_table(ipv4) == [
        SocketEntry("127.0.0.1", 20004, "0.0.0.0 port 0", True, 4711),
        SocketEntry("10.20.0.11", 60000, "10.20.0.12 port 8080", False, 4712),
    ]
    assert parse_socket_table(ipv6) == [SocketEntry("::", 22, ":: port 0", True, 4713)]


def listens(port, address="0.0.0.0"):  # noqa: S104
    return (SocketEntry(address, port, "", True, port),)


def test_ports_that_share_a_verdict_share_a_check():
    squatter = Owner(4711, "VLLM::APIServer", "", "ab" * 32, "minimax2_5")
    busy = [
        Busy(port, True, "in use", listens(port), (squatter,)) for port in (20004, 60000, 60001)
    ]
    checks, own = decide_local([2347, 20004, 60000, 60001], busy, [])
    assert own == []
    assert [(one["status"], one["subject"]) for one in checks] == [
        ("ok", "port 2347"),
        ("failed", "ports 20004, 60000-60001"),
    ]
    assert checks[1]["observed"] == (
        "pid 4711 (VLLM::APIServer) in container minimax2_5 listens on 0.0.0.0"
    )
    assert checks[1]["remedy"].startswith("stop it: docker stop minimax2_5")


@pytest.mark.parametrize(
    ("owner", "remedy"),
    [
        (Owner(9, "x", "old-vllm.service"), "systemctl stop old-vllm.service"),
        (
            Owner(9, "vllm", "", "ab" * 32, "muster-a2-r0-rank0", "a2"),
            "ansible-playbook playbooks/stop.yml -l <hosts> -e muster_cluster=a2; or choose",
        ),
        # Stopping the login that someone started an engine from is no remedy.
        (Owner(9, "x", "ssh.service"), "kill 9"),
        (Owner(9, "x"), "kill 9"),
        (None, "find and stop what holds it (ss -tanp); or choose another port"),
    ],
)
def test_the_remedy_fits_what_holds_the_port(owner, remedy):
    busy = [Busy(80, True, "in use", listens(80), (owner,) if owner else ())]
    assert remedy in decide_local([80], busy, [])[0][0]["remedy"]


def test_what_our_own_units_hold_is_fine():
    ours = Owner(1, "vllm", "", "ab" * 32, "muster-a2-r0-rank0")
    listener = Owner(2, LISTENER)
    foreign = Owner(3, "nc")
    busy = [
        Busy(80, True, "in use", listens(80), (ours,)),
        Busy(81, True, "in use", listens(81), (listener,)),
        Busy(82, True, "in use", listens(82), (ours, foreign)),
    ]
    checks, own = decide_local([80, 81, 82], busy, ["muster-a2-r0-rank0.service"])
    assert own == [80, 81]
    assert [(one["subject"], one["status"]) for one in checks] == [
        ("ports 80-81", "ok"),
        ("port 82", "failed"),
    ]
    # The foreign one is to go, and not ours.
    assert checks[1]["observed"] == "pid 3 (nc) listens on 0.0.0.0, beside our own unit"
    assert checks[1]["remedy"].startswith("end it: kill 3;")
    assert "muster-a2" not in str(checks[1])


def test_two_engines_that_share_a_port_are_both_seen():
    """vLLM sets SO_REUSEPORT, so that a second one on the same port is not refused."""
    port = 0
    with socket.socket() as first, socket.socket() as second:
        for engine in (first, second):
            engine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            engine.bind((HOME, port))
            engine.listen()
            port = engine.getsockname()[1]
        (busy,) = net_sockets.find_busy([port], HOME)
    assert busy.wanted
    assert [(one.port, one.listening) for one in busy.sockets] == [(port, True)] * 2


def test_another_address_of_the_node_is_a_warning():
    busy = [Busy(80, False, "in use", listens(80, "127.0.0.1"), (Owner(9, "nginx"),))]
    assert [one["status"] for one in decide_local([80], busy, [])[0]] == ["warning"]


def test_an_outgoing_connection_is_told_apart_from_a_listener():
    entry = SocketEntry("10.0.0.1", 60000, "10.0.0.2 port 443", False, 5)
    checks, _ = decide_local([60000], [Busy(60000, True, "in use", (entry,), (Owner(9, "x"),))], [])
    assert checks[0]["observed"] == "pid 9 (x) is connected from it to 10.0.0.2 port 443"


def test_ports_that_the_kernel_may_give_away():
    checks = decide_reserved([2347, 40000, 60000, 60001], (32768, 60999), [60001], [60000])
    assert [(one["status"], one["subject"]) for one in checks] == [
        ("ok", "ports 2347, 60001"),
        ("pending", "port 60000"),
        ("warning", "port 40000"),
    ]
    [untold] = decide_reserved([60000], None, [], [])
    assert (untold["status"], untold["subject"]) == ("unknown", "port 60000")
    assert untold["remedy"]
    assert decide_reserved([], None, [], []) == []


def test_each_way_not_to_reach_a_peer_has_its_remedy():
    outcomes = {
        "10.0.0.2": {80: "open", 81: "open", 82: "refused", 83: "timeout"},
        "10.0.0.3": {80: "unreachable: No route to host"},
    }
    checks = decide_probe("10.0.0.1", outcomes)
    assert [(one["status"], one["subject"], one["observed"]) for one in checks] == [
        ("ok", "10.0.0.2 ports 80-81", "open"),
        ("failed", "10.0.0.2 port 82", "refused"),
        ("failed", "10.0.0.2 port 83", "timeout"),
        ("failed", "10.0.0.3 port 80", "unreachable: No route to host"),
    ]
    assert "rejects" in checks[1]["remedy"]
    assert "drops" in checks[2]["remedy"]
    assert "route" in checks[3]["remedy"]


# With real sockets


@pytest.fixture
def squatter():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        listener.bind((HOME, 0))
        listener.listen()
        yield listener


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind((HOME, 0))
    ports = sorted(one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    return ports


def test_the_holder_of_a_port_is_found(squatter):
    port = squatter.getsockname()[1]
    (free,) = free_ports(1)
    (busy,) = net_sockets.find_busy([port, free], HOME)
    assert (busy.port, busy.wanted) == (port, True)
    assert [owner.pid for owner in busy.owners] == [os.getpid()]
    assert [entry.address for entry in busy.sockets] == [HOME]


def test_a_port_on_another_address_is_held_in_part(squatter):
    (busy,) = net_sockets.find_busy([squatter.getsockname()[1]], "127.0.0.2")
    assert not busy.wanted


def test_whoever_is_on_another_address_beside_the_holder_is_not_named(squatter):
    port = squatter.getsockname()[1]
    with socket.create_server(("127.0.0.2", port)):
        (busy,) = net_sockets.find_busy([port], HOME)
        assert [entry.address for entry in busy.sockets] == [HOME]
        (busy,) = net_sockets.find_busy([port], None)
        assert sorted(entry.address for entry in busy.sockets) == [HOME, "127.0.0.2"]


@pytest.mark.parametrize(
    ("bound", "address", "taken"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", None, True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("0.0.0.0", "10.0.0.1", True),  # noqa: S104 (read, not bound)
        ("::", "10.0.0.1", True),
        ("::1", "10.0.0.1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("", "fd00::1", True),
    ],
)
def test_a_port_is_taken_on_its_own_address_or_all(bound, address, taken):
    assert takes(bound, address) == taken


def test_an_address_of_no_nic_does_not_hide_the_holder(squatter):
    (busy,) = net_sockets.find_busy([squatter.getsockname()[1]], "192.0.2.254")
    assert busy.wanted


def test_a_connection_that_has_ended_is_no_holder(squatter):
    port = squatter.getsockname()[1]
    with socket.create_connection((HOME, port)):
        accepted, _ = squatter.accept()
        accepted.close()  # this side now keeps it in TIME_WAIT
    squatter.close()
    assert net_sockets.find_busy([port], HOME) == []


def test_probes_tell_what_they_met(squatter):
    (closed,) = free_ports(1)
    targets = [(HOME, squatter.getsockname()[1]), (HOME, closed)]
    assert list(net_sockets.probe(targets, HOME, 2).values()) == ["open", "refused"]


def connections(port):
    """The states of all connections from or to a port, as the kernel's table has them."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split()[1:4] for line in table]
    return [state for local, remote, state in rows if f":{port:04X}" in local + " " + remote]


def test_a_probe_leaves_no_connection_behind(squatter):
    """It would hold its own port for a minute, which may be one of the plan's."""
    port = squatter.getsockname()[1]
    assert net_sockets.probe([(HOME, port)], HOME, 2) == {(HOME, port): "open"}
    # A listener that is slow meets a connection that has gone already.
    accepted, (address, _port) = squatter.accept()
    accepted.close()
    assert address == HOME
    assert connections(port) == ["0A"], "only the listener itself"


def test_many_probes_wait_together():
    with socket.socket() as full:
        full.bind((HOME, 0))
        full.listen(0)
        # With its queue full, a listener lets further connections wait for ever.
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.1)
        targets = [(HOME, full.getsockname()[1])]
        start = time.monotonic()
        outcomes = [net_sockets.probe(targets, None, 0.5)[targets[0]] for _ in range(2)]
        for one in waiting:
            one.close()
    assert outcomes == ["timeout", "timeout"]
    assert time.monotonic() - start < 3


def test_a_listener_ends_once_each_peer_has_reached_each_port():
    listeners = net_sockets.listen(free_ports(2), HOME)
    targets = [one.getsockname() for one in listeners]
    server = threading.Thread(target=net_sockets.serve, args=(listeners, 30, [HOME]))
    server.start()
    net_sockets.probe(targets[:1], HOME, 2)
    server.join(0.3)
    assert server.is_alive(), "it ended before the second port was reached"
    net_sockets.probe(targets[1:], HOME, 2)
    server.join(5)
    assert not server.is_alive(), "it did not end after both ports were reached"
    for one in listeners:
        one.close()


def test_a_listener_ends_when_its_time_is_up():
    listeners = net_sockets.listen(free_ports(1), HOME)
    start = time.monotonic()
    net_sockets.serve(listeners, 0.2, [HOME])
    assert 0.2 <= time.monotonic() - start < 5
    listeners[0].close()


def module(ports, **more):
    """The module's listen mode in a process of its own, as Ansible runs it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.muster.serving.plugins.module_utils.network"
        " import ports_io as m\n"
        f"params = dict(ports={ports!r}, bind_address={HOME!r}, peers=[{HOME!r}], own_units=[],"
        f" reserve=[], lifetime=30, unit_ports={{}}, **{more!r})\n"
        "result = m.look_here(params, True)\n"
        "print(m.listen(result['free'], params), flush=True)\n"
    )
    root = os.path.join(os.path.dirname(__file__), "..", "..", ".collections")
    done = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def test_a_listener_outlives_its_module_and_the_next_run_replaces_it():
    ports = free_ports(2)
    # The module's output is read to its end, so the listener has let go of it.
    assert module(ports) == str(ports)
    first = {owner for busy in net_sockets.find_busy(ports, HOME) for owner in busy.owners}
    assert {owner.name for owner in first} == {LISTENER}

    assert module(ports) == str(ports)
    second = {owner for busy in net_sockets.find_busy(ports, HOME) for owner in busy.owners}
    assert {owner.name for owner in second} == {LISTENER}
    assert first != second

    # Another run that may not end it sees no fault in it.
    params = {
        "ports": ports,
        "bind_address": HOME,
        "own_units": [],
        "unit_ports": {},
        "reserve": [],
    }
    seen = port_look.look_here(params, may_end_listeners=False)
    assert (seen["own"], seen["free"]) == (ports, [])
    assert {one["status"] for one in seen["checks"] if one["id"] == "port-free"} == {"ok"}

    targets = [(HOME, port) for port in ports]
    assert set(net_sockets.probe(targets, HOME, 2).values()) == {"open"}
    deadline = time.monotonic() + 5
    while net_sockets.find_busy(ports, HOME) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert net_sockets.find_busy(ports, HOME) == []


def test_the_ports_of_a_unit_that_is_up_are_left_to_it(monkeypatch):
    ports = free_ports(3)
    monkeypatch.setattr(
        port_look, "active_units", lambda units: [name for name in units if name == "up"]
    )
    params = {
        "ports": ports,
        "bind_address": HOME,
        "own_units": ["up", "down"],
        "unit_ports": {"up": [str(ports[0])], "down": [str(ports[1])]},
        "reserve": [],
    }
    seen = port_look.look_here(params, may_end_listeners=True)
    assert (seen["own"], seen["free"]) == (ports[:1], ports[1:])
    observed = {one["observed"] for one in seen["checks"] if one["id"] == "port-free"}
    assert observed == {"free", "left to our own unit, which is up"}
    assert {one["status"] for one in seen["checks"] if one["id"] == "port-free"} == {"ok"}
