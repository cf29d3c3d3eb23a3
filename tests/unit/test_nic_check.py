"""The NIC that carries HCCL: what ip prints, and what follows from it."""

import contextlib
import json
from dataclasses import replace

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.network import nic_io as nic_look
from ansible_collections.muster.serving.plugins.module_utils.network.nic import (
    NetError,
    Nic,
    Route,
    decide,
    parse_addresses,
    parse_route,
    usable,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import checks_of, needs_of
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import pair, plan, problems

LO = Nic("lo", 65536, up=True, carrier=True, loopback=True, addresses=("127.0.0.1", "::1"))
HCCL = Nic("enp67s0f0np0", 9000, up=True, carrier=True, addresses=("10.20.0.11", "fe80::1"))
OTHER = Nic("eno1", 1500, up=True, carrier=True, addresses=("172.16.0.5",))
DOCKER = Nic("docker0", 1500, up=True, carrier=False, kind="bridge", addresses=("172.17.0.1",))
NODE = [LO, HCCL, OTHER, DOCKER]

# Printed by iproute2 6.1 on Debian 12; ip leaves {} for what a filter took out.
IP_ADDR = """
[{},{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"qdisc":"noqueue",
"operstate":"UNKNOWN","link_type":"loopback","addr_info":[{"family":"inet","local":"127.0.0.1",
"prefixlen":8,"scope":"host","label":"lo"}]},{"ifindex":4,"link_index":5,"ifname":"enp67s0f0np0",
"flags":["NO-CARRIER","BROADCAST","MULTICAST","UP"],"mtu":1500,"operstate":"LOWERLAYERDOWN",
"linkinfo":{"info_kind":"veth"},"addr_info":[{"family":"inet","local":"10.20.0.11","prefixlen":24},
{"family":"inet6","local":"fe80::fc","prefixlen":64}]}]
"""


def failures(checks):
    return [(one["id"], one["status"]) for one in checks if one["status"] != "ok"]


def only(checks, check_id):
    (one,) = [one for one in checks if one["id"] == check_id]
    return one


def test_another_name_of_a_nic_is_none_that_sockets_find():
    entry = {"ifname": "eth0", "mtu": 1500, "flags": ["UP", "LOWER_UP"]}
    named = {**entry, "altnames": ["enp67s0f0np0", "enx1"], "addr_info": []}
    (nic,) = parse_addresses(json.dumps([named]))
    (one,) = decide([nic], "enp67s0f0np0", None, {})
    assert (one["id"], one["status"]) == ("nic-exists", "failed")
    assert "another name of eth0" in one["observed"]
    assert one["remedy"] == "set muster_interface: eth0"
    for altnames in ("x", [5], None):
        parse_addresses(json.dumps([{**entry, "altnames": altnames}]))


def test_an_address_that_another_node_has_is_not_held():
    """As ip prints an IPv6 address for which duplicate address detection has failed."""
    entry = {
        "ifname": "eth0",
        "mtu": 1500,
        "flags": ["UP", "LOWER_UP"],
        "addr_info": [
            {"family": "inet6", "local": "fd00::1", "tentative": True, "dadfailed": True},
            {"family": "inet6", "local": "fd00::2"},
        ],
    }
    (nic,) = parse_addresses(json.dumps([entry]))
    one = only(decide([nic], "eth0", "fd00::1", {}), "nic-address")
    assert (one["status"], "duplicate address" in one["observed"]) == ("failed", True)
    assert only(decide([nic], "eth0", "fd00::2", {}), "nic-address")["status"] == "ok"


def test_a_good_nic_has_nothing_but_ok():
    routes = {"10.20.0.12": Route("enp67s0f0np0"), "10.20.0.13": Route("enp67s0f0np0")}
    checks = decide(NODE, "enp67s0f0np0", "10.20.0.11", routes, min_mtu=9000)
    assert failures(checks) == []
    assert {one["id"] for one in checks} == {
        "nic-exists",
        "nic-up",
        "nic-kind",
        "nic-address",
        "nic-mtu",
        "nic-route",
    }


@pytest.mark.parametrize(
    ("nics", "interface", "address", "failed", "remedy"),
    [
        (NODE, "eth9", "10.20.0.11", "nic-exists", "set muster_interface: enp67s0f0np0, which"),
        (NODE, "eth9", "10.9.9.9", "nic-exists", "one of: enp67s0f0np0, eno1"),
        (NODE, "eno1", "10.20.0.11", "nic-address", "set muster_interface: enp67s0f0np0"),
        (NODE, "enp67s0f0np0", "10.9.9.9", "nic-address", "set muster_address"),
        (NODE, None, "10.9.9.9", "nic-address", "set muster_address"),
        (NODE, "docker0", "172.17.0.1", "nic-kind", "one of: enp67s0f0np0, eno1"),
        (NODE, "lo", "127.0.0.1", "nic-kind", "one of: enp67s0f0np0, eno1"),
        ([Nic("e", 1, up=False, carrier=False)], "e", None, "nic-up", "ip link set e up"),
        ([Nic("e", 1, up=True, carrier=False)], "e", None, "nic-up", "cable"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(nics, interface, address, failed, remedy):
    checks = decide(nics, interface, address, {})
    assert only(checks, failed)["status"] == "failed"
    assert remedy in only(checks, failed)["remedy"]


BELOW = replace(HCCL, master="br0", addresses=())
# What may hold a node's address: the interfaces, its name, what is seen, and whether it will do
# with peers.
KINDS = [
    # libvirt's usual bridge: the NIC is a port beside those of guests.
    ([BELOW, Nic("vnet0", 9000, up=True, carrier=True, kind="tun", master="br0")],
     "bridge", "bridge of enp67s0f0np0", "ok"),
    ([replace(BELOW, kind="bond")], "bridge", "bridge of enp67s0f0np0", "ok"),
    ([replace(BELOW, kind="vlan")], "bridge", "bridge of enp67s0f0np0", "ok"),
    ([replace(BELOW, kind="veth")], "bridge", "no port is a NIC of the node", "failed"),
    ([replace(BELOW, master="br1")], "bridge", "no port is a NIC of the node", "failed"),
    ([], "bridge", "no port is a NIC of the node", "failed"),
    ([replace(BELOW, master="ovs-system")], "openvswitch", "openvswitch", "ok"),
    ([BELOW], "bond", "bond", "ok"),
    ([HCCL], "vlan", "vlan", "ok"),
    ([HCCL], "macvlan", "macvlan", "ok"),
    ([HCCL], "ipvlan", "ipvlan", "ok"),
    ([], "veth", "veth", "ok"),
    ([HCCL], "", "physical", "ok"),
    ([HCCL], "wireguard", "a tunnel (wireguard)", "warning"),
    ([HCCL], "vxlan", "a tunnel (vxlan)", "warning"),
    ([HCCL], "dummy", "dummy, which leads nowhere", "failed"),
]  # fmt: skip


@pytest.mark.parametrize(("below", "kind", "observed", "status"), KINDS)
def test_what_holds_the_address_is_judged_by_where_it_leads(below, kind, observed, status):
    holder = Nic("br0", 9000, up=True, carrier=True, kind=kind, addresses=("10.20.0.1",))
    checks = decide([LO, *below, holder], None, "10.20.0.1", {"10.20.0.2": Route("br0")})

    one = only(checks, "nic-kind")
    assert (one["status"], one["subject"]) == (status, "br0")
    assert observed in one["observed"]
    assert bool(one["remedy"]) == (status != "ok")
    assert {c["status"] for c in checks if c["id"] != "nic-kind"} == {"ok"}
    # A node without peers may be reached through a tunnel.
    alone = only(decide([LO, *below, holder], None, "10.20.0.1", {}), "nic-kind")
    assert (alone["status"] == "failed") == (status == "failed")


def test_what_is_offered_in_place_is_what_will_do():
    """A bridge with its NIC, never the NIC that is its port; no docker bridge."""
    bridge = Nic("br-ex", 9000, up=True, carrier=True, kind="bridge", addresses=("10.20.0.1",))
    port = replace(BELOW, master="br-ex")
    (one,) = decide([LO, DOCKER, port, bridge], "eth9", None, {})
    assert one["remedy"] == "set muster_interface to one of: br-ex"
    held = only(decide([LO, port, bridge], port.name, "10.20.0.1", {}), "nic-address")
    assert held["remedy"].startswith("set muster_interface: br-ex")


def test_without_an_interface_the_address_finds_the_nic():
    assert only(decide(NODE, None, "172.16.0.5", {}), "nic-address")["subject"] == "eno1"


def test_small_mtu():
    one = only(decide(NODE, "eno1", None, {}, min_mtu=9000), "nic-mtu")
    assert (one["status"], one["observed"], one["expected"]) == ("failed", "1500", "at least 9000")


def test_each_peer_must_be_reached_through_the_nic():
    routes = {
        "10.20.0.11": Route("lo"),  # the node itself
        "10.20.0.12": Route("enp67s0f0np0"),
        "10.20.0.13": Route("eno1"),
        "10.20.0.14": Route(problem="RTNETLINK answers: Network is unreachable"),
    }
    checks = decide(NODE, "enp67s0f0np0", "10.20.0.11", routes)
    seen = {one["subject"]: one for one in checks if one["id"] == "nic-route"}
    assert {subject: one["status"] for subject, one in seen.items()} == {
        "enp67s0f0np0 to 10.20.0.12": "ok",
        "enp67s0f0np0 to 10.20.0.13": "failed",
        "enp67s0f0np0 to 10.20.0.14": "failed",
    }
    assert seen["enp67s0f0np0 to 10.20.0.13"]["observed"] == "leaves through eno1"
    assert "unreachable" in seen["enp67s0f0np0 to 10.20.0.14"]["observed"]


@pytest.mark.parametrize(
    ("node", "interface", "seen"),
    [
        ([LO, replace(HCCL, up=False, carrier=False), OTHER], HCCL.name, "nic-up"),
        (NODE, OTHER.name, "nic-address"),
        ([LO, OTHER], HCCL.name, "nic-exists"),
    ],
)
def test_of_a_nic_that_cannot_be_used_no_route_is_judged(node, interface, seen):
    checks = decide(node, interface, "10.20.0.11", {"10.20.0.12": Route("eno1")})
    assert failures(checks) == [(seen, "failed")]
    assert not usable(checks)
    assert usable(decide(NODE, HCCL.name, "10.20.0.11", {"10.20.0.12": Route("eno1")}))


def test_a_vlan_of_the_nic_is_matched_by_its_prefix_too():
    vlan = Nic("enp67s0f0np0.100", 9000, up=True, carrier=True, kind="vlan", addresses=("1.2.3.4",))
    one = only(decide([*NODE, vlan], "enp67s0f0np0", None, {}, prefix_match=True), "nic-prefix")
    assert one["status"] == "warning"
    assert "enp67s0f0np0.100" in one["observed"]
    assert '"=enp67s0f0np0"' in one["remedy"]
    # HCCL has no use for one without an address.
    bare = Nic("enp67s0f0np0.200", 9000, up=True, carrier=True, kind="vlan")
    assert failures(decide([*NODE, bare], "enp67s0f0np0", None, {}, prefix_match=True)) == []
    # Gloo and NCCL are given a name that they do not take for a prefix.
    assert failures(decide([*NODE, vlan], "enp67s0f0np0", None, {})) == []


def test_the_plan_takes_the_remedy_of_a_prefix_that_matches_too_much():
    vlan = Nic("enp67s0f0np0.100", 9000, up=True, carrier=True, kind="vlan", addresses=("1.2.3.4",))
    checks = decide([*NODE, vlan], "enp67s0f0np0", None, {}, prefix_match=True)
    _before, _set, remedy = only(checks, "nic-prefix")["remedy"].partition(
        "set muster_engine_env to "
    )
    mended = plan(pair(engine_env=yaml.safe_load(remedy)))
    assert [unit["env"]["HCCL_SOCKET_IFNAME"] for unit in mended["units"]] == ["=enp67s0f0np0"] * 2
    assert [unit["env"]["GLOO_SOCKET_IFNAME"] for unit in mended["units"]] == ["enp67s0f0np0"] * 2
    assert {
        one["nic_check"]["prefix_match"] for one in checks_of(mended, needs_of(mended)).values()
    } == {False}


@pytest.mark.parametrize("value", ["eth0", "=eth0", "enp67s0f0np0", "^eth0"])
def test_the_plan_takes_no_other_interface_than_its_own(value):
    (problem,) = problems(pair(engine_env={"HCCL_SOCKET_IFNAME": value}))
    assert 'may only be "=" and muster_interface' in problem


def test_parse_what_ip_prints():
    lo, nic = parse_addresses(IP_ADDR)
    assert lo.loopback
    assert nic == Nic(
        "enp67s0f0np0",
        1500,
        up=True,
        carrier=False,
        kind="veth",
        addresses=("10.20.0.11", "fe80::fc"),
    )
    (port,) = parse_addresses(
        '[{"ifname": "eno1", "mtu": 1500, "flags": ["UP"], "master": "br0", "addr_info": []}]'
    )
    assert port.master == "br0"
    route = '[{"dst":"10.20.0.12","dev":"enp67s0f0np0","prefsrc":"10.20.0.11","flags":[]}]'
    assert parse_route(route) == Route("enp67s0f0np0")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"ifname": 3}]', "[" * 9000, "1: lo: <UP>"])
def test_other_output_is_not_guessed_at(text):
    with pytest.raises(NetError):
        parse_addresses(text)
    with pytest.raises(NetError):
        parse_route(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.lists(
        st.fixed_dictionaries(
            {"ifname": st.text() | st.none(), "mtu": st.integers(), "flags": st.just(["UP"])},
            optional={"addr_info": json_values, "linkinfo": json_values, "dev": json_values},
        )
    ).map(json.dumps)
)
def test_any_text_gives_nics_or_an_error(text):
    try:
        nics = parse_addresses(text)
    except NetError:
        nics = []
    assert all(isinstance(nic.name, str) and isinstance(nic.mtu, int) for nic in nics)
    assert decide(nics, "eth0", "10.0.0.1", {"10.0.0.2": Route("eth0")})
    with contextlib.suppress(NetError):
        assert parse_route(text).device


PARAMS = {
    "address": "10.20.0.11",
    "interface": None,
    "peers": [],
    "min_mtu": None,
    "prefix_match": False,
    "timeout": 1,
}


def test_the_module_reports_the_mtu_for_comparison(monkeypatch):
    monkeypatch.setattr(nic_look, "run", lambda argv, timeout: Output(0, IP_ADDR, ""))
    assert nic_look.look(PARAMS, False)["facts"] == {"interface": "enp67s0f0np0", "mtu": 1500}


def no_ip(argv, timeout):
    raise CommandError("ip could not be started: No such file or directory")


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        (no_ip, "could not be started"),
        (lambda argv, timeout: Output(1, "", "Option -json is unknown"), "-json is unknown"),
        (lambda argv, timeout: Output(0, "garbage", ""), "not JSON"),
    ],
)
def test_a_useless_ip_is_a_failed_check(monkeypatch, run, seen):
    monkeypatch.setattr(nic_look, "run", run)
    result = nic_look.look({**PARAMS, "peers": ["10.20.0.12"]}, False)
    assert failures(result["checks"]) == [("nic-tool", "failed")]
    assert seen in result["checks"][0]["observed"]
    assert (result["facts"]["mtu"], result["usable"]) == (None, False)


@pytest.mark.parametrize(
    ("address", "interface", "wrong"),
    [
        ("127.0.0.1", None, []),
        ("127.0.0.1", "lo", []),
        ("127.0.0.1", "eth77", ["nic-exists"]),
        # No node holds an address of the documentation.
        ("192.0.2.77", "lo", ["nic-address"]),
        ("2001:db8::77", None, ["nic-address"]),
    ],
)
def test_a_node_alone_needs_no_ip_but_its_address(monkeypatch, address, interface, wrong):
    monkeypatch.setattr(nic_look, "run", no_ip)
    result = nic_look.look({**PARAMS, "address": address, "interface": interface}, False)
    assert failures(result["checks"]) == [
        ("nic-tool", "warning"),
        *((one, "failed") for one in wrong),
    ]
    assert result["usable"] == (not wrong)
    assert all(one["remedy"] for one in result["checks"] if one["status"] != "ok")
