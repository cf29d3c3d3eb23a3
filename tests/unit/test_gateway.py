"""The gateway: its units in the plan, what HAProxy and keepalived are told, and who holds the
address. What HAProxy does with it is in tests/integration/test_gateway.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import gateway_probe
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_address,
    unit_files,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import gateway
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_endpoint import serving

HOSTS = [
    gateway.GatewayHost("npu-0", "machine-0", "10.0.0.1", "eth0"),
    gateway.GatewayHost("npu-1", "machine-1", "10.0.0.2", "eth1"),
]
BACKENDS = [gateway.Backend("r0", "10.0.0.1", 20004), gateway.Backend("r1", "10.0.0.2", 20004)]
FLOATING = gateway.Floating("10.0.0.9", 51)


def units(**changes):
    return gateway.gateway_units(
        **{
            "cluster": "a2",
            "hosts": HOSTS,
            "port": 8080,
            "backends": BACKENDS,
            "model": "minimax25",
            **changes,
        }
    )


def config(**changes):
    return gateway.haproxy_config(
        **{"bind": "10.0.0.1", "port": 8080, "backends": BACKENDS, "model": "m", **changes}
    )


def test_each_host_runs_a_gateway_that_restarts_alone() -> None:
    first, second = units()
    assert (first["name"], first["host"], first["node"]) == ("a2-gateway0", "npu-0", "machine-0")
    assert (first["group"], second["group"]) == ("gateway-0", "gateway-1")
    assert first["api_url"] == "http://10.0.0.1:8080/v1"
    assert (first["ranks"], first["devices"], first["device_nodes"]) == ([], [], [])
    assert "bind 10.0.0.1:8080\n" in first["files"]["/etc/muster/a2-gateway0/haproxy.cfg"]


def test_a_unit_is_one_that_the_node_can_run() -> None:
    unit = units(api_key_file="/etc/muster/key")[0]
    argv = unit_files.docker_argv(unit)
    path = argv[argv.index("-f") + 1]
    assert list(unit["files"]) == [path]
    assert "/etc/muster/a2-gateway0:/etc/muster/a2-gateway0:ro" in argv
    assert argv[argv.index("--user") + 1] == "99:99"
    assert unit_files.is_removable(path)
    assert json.loads(json.dumps(unit)) == unit


def test_the_key_is_named_and_never_shown() -> None:
    unit = units(api_key_file="/etc/muster/key")[0]
    assert unit["secret_files"] == {"MUSTER_API_KEY": "/etc/muster/key"}
    (text,) = unit["files"].values()
    assert '"Bearer %[env(MUSTER_API_KEY)]"' in text
    assert units()[0]["secret_files"] == {}
    assert "Authorization" not in config()


def test_a_low_port_is_opened_as_root_and_served_as_somebody_else() -> None:
    unit = units(port=80)[0]
    (text,) = unit["files"].values()
    assert unit["container"]["user"] == "0:0"
    assert "    uid 99\n    gid 99\n" in text
    assert "uid" not in config()


def test_with_a_floating_address_every_address_is_listened_on() -> None:
    for address, bind in (("10.0.0.9", "0.0.0.0:8080"), ("2001:db8::9", "[::]:8080")):
        floating = gateway.Floating(address, 51)
        (text,) = units(floating=floating)[0]["files"].values()
        assert f"    bind {bind}\n" in text


@given(model=st.text(min_size=1, max_size=40))
def test_a_model_of_any_name_is_asked_for_by_that_name(model: str) -> None:
    (line,) = [line for line in config(model=model).splitlines() if "http-check send" in line]
    (body,) = re.findall(r" body '([^']*)'$", line)
    assert json.loads(body) == {"model": model, "prompt": "1", "max_tokens": 1}


@given(
    backends=st.lists(
        st.builds(
            gateway.Backend,
            st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
            st.ip_addresses().map(str),
            st.integers(1, 65535),
        ),
        min_size=1,
        max_size=50,
    ),
    balance=st.sampled_from(gateway.BALANCES),
)
def test_every_backend_is_in_and_checked(backends, balance) -> None:
    text = config(backends=backends, balance=balance)
    servers = [line.split()[1:] for line in text.splitlines() if line.startswith("    server ")]
    assert [name for name, _address in servers] == [backend.name for backend in backends]
    assert [address.rpartition(":")[2] for _name, address in servers] == [
        str(backend.port) for backend in backends
    ]
    assert "    default-server check " in text
    maxconn = int(re.findall(r"maxconn (\d+)", text)[0])
    assert maxconn >= max(4096, len(backends) * 512)


def test_two_engines_are_not_each_others_share() -> None:
    """A bound of twice the share would be no bound for one of two."""
    three = [*BACKENDS, gateway.Backend("r2", "10.0.0.3", 1)]
    affine = {"balance": gateway.PREFIX_AFFINE}
    assert "hash-balance-factor 150" in config(**affine)
    assert "hash-balance-factor 200" in config(backends=three, **affine)
    assert "hash-balance-factor" not in config()


# --- the floating address ----------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "address", "said"),
    [
        (HOSTS[:1], "10.0.0.9", "a2: muster_gateway_address moves between gateways"),
        ([HOSTS[0], HOSTS[1]._replace(interface="")], "10.0.0.9", "npu-1: muster_interface"),
    ],
)
def test_an_address_that_cannot_move_is_an_error(hosts, address, said) -> None:
    with pytest.raises(PlanError, match=said):
        units(hosts=hosts, floating=gateway.Floating(address, 51))


def test_hosts_tell_each_other_of_the_address_directly() -> None:
    first, second = (unit["floating"]["config"] for unit in units(floating=FLOATING))
    for text, own, peer, interface in (
        (first, "10.0.0.1", "10.0.0.2", "eth0"),
        (second, "10.0.0.2", "10.0.0.1", "eth1"),
    ):
        assert f"    unicast_src_ip {own}\n    unicast_peer {{\n        {peer}\n    }}" in text
        assert f"    interface {interface}\n    virtual_router_id 51\n" in text
        assert "    state BACKUP\n    nopreempt\n" in text
        pages = f"http://{own}:8080/muster/health http://{peer}:8080/muster/health"
        assert f'script "{gateway_address.PROBE_PATH} {pages}"' in text
        assert text.count("{") == text.count("}")


OWN, PEER, THIRD = "own", "peer", "third"


@pytest.mark.parametrize(
    ("answers", "holds"),
    [
        ({OWN: 200, PEER: 200}, True),
        ({OWN: 200, PEER: None}, True),
        ({OWN: None, PEER: 200}, False),
        # Nobody's address answers nothing; a gateway without an engine answers that.
        ({OWN: None, PEER: None}, False),
        ({OWN: 503, PEER: 503}, True),
        ({OWN: 503, PEER: None}, True),
        ({OWN: 503, PEER: 200}, False),
        ({OWN: 503, PEER: 503, THIRD: 200}, False),
        # Somebody else on the port.
        ({OWN: 404, PEER: None}, False),
    ],
)
def test_who_holds_the_address(answers, holds) -> None:
    own, *peers = answers
    assert gateway_probe.should_hold(own, peers, answers.get) is holds


def test_peers_are_asked_at_once() -> None:
    """Each may keep it waiting as long as it asks at all, and keepalived waits no longer."""
    peers = [f"http://10.0.0.{number}/health" for number in range(5)]
    together = threading.Barrier(len(peers))

    def ask(url: str) -> int | None:
        if url not in peers:
            return 503
        together.wait(10)
        return None

    assert gateway_probe.should_hold("http://10.0.0.9/health", peers, ask)


def test_the_probe_runs_by_itself(tmp_path) -> None:
    """keepalived runs it as nobody, without the collection."""
    files = gateway_address.wanted_files(
        "a2", {"address": "10.0.0.9", "config": "text\n"}, sys.executable
    )
    text, mode = files[gateway_address.PROBE_PATH]
    assert mode == 0o755
    program = tmp_path / "probe"
    program.write_text(text)
    program.chmod(mode)
    with serving() as up, serving() as refusing:
        refusing.broken["/v1/health"] = 503
        own, peer = f"{up.url}/health", f"{refusing.url}/health"

        def probe(*pages: str) -> int:
            done = subprocess.run([program, *pages], cwd="/", env={}, timeout=10, check=False)
            return done.returncode

        assert [probe(own, peer), probe(peer, own), probe(peer, peer)] == [0, 1, 0]
        up.broken["/v1/health"] = "hang"
        start = time.monotonic()
        assert probe(own, peer) == 1
        assert time.monotonic() - start < 3


def test_without_an_address_nothing_is_left() -> None:
    wanted = gateway_address.wanted_files("a2", None, sys.executable)
    assert wanted == {
        "/etc/muster/a2.address.conf": None,
        "/etc/systemd/system/muster-a2-address.service": None,
    }


def test_the_service_knows_nothing_of_the_distributions_own() -> None:
    text = gateway_address.service("a2", "10.0.0.9")
    assert "--use-file=/etc/muster/a2.address.conf" in text
    assert "--pid=/run/muster-a2-address.pid" in text
    assert "keepalived.service" not in text


@pytest.mark.parametrize(
    ("changed", "active", "verb"),
    [
        ([], True, None),
        ([], False, "start"),
        # What gives up the address happens only where it must.
        ([gateway_address.config_path("a2")], True, "reload"),
        ([gateway_address.PROBE_PATH], True, None),
        (
            [gateway_address.config_path("a2"), gateway_address.service_path("a2")],
            True,
            "restart",
        ),
        ([gateway_address.config_path("a2")], False, "start"),
    ],
)
def test_what_becomes_of_the_service(changed, active, verb) -> None:
    assert gateway_address.verb("a2", dict.fromkeys(changed), active) == verb
