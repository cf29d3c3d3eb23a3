"""Addresses: where a node's comes from, and what the planner refuses of them."""

import ipaddress
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import addresses
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import SINGLE, host, pair, plan, problems, single, view

NVIDIA = "minimax-m2.5/vllm-nvidia"

NO_NODE = [
    ("0.0.0.0", "stands for all addresses"),  # noqa: S104
    ("0.1.2.3", "it is reserved"),
    ("::", "stands for all addresses"),
    ("255.255.255.255", "the broadcast address"),
    ("224.0.0.1", "a multicast address"),
    ("ff02::1", "a multicast address"),
    ("240.0.0.1", "it is reserved"),
    ("fe80::1", "it needs a zone"),
    ("fe80::1%eth0", "it needs a zone"),
    ("fd00::1%eth0", "it needs a zone"),
    ("::ffff:10.0.0.1", "write it as 10.0.0.1"),
]


@pytest.mark.parametrize(("address", "why"), NO_NODE)
@pytest.mark.parametrize("variable", ["address", "gateway_address"])
def test_what_cannot_be_a_nodes_address_is_refused(variable: str, address: str, why: str) -> None:
    (found,) = problems(single(**{variable: address}))
    assert found.startswith(f"c-0: muster_{variable} has to be an IP address that a node can have")
    assert why in found


@pytest.mark.parametrize(("address", "why"), NO_NODE)
def test_it_is_refused_wherever_it_comes_from(address: str, why: str) -> None:
    inventory = single()
    inventory["hostvars"]["c-0"]["ansible_host"] = address
    (found,) = problems(inventory)
    assert found.startswith("c-0: the address ")
    assert why in found


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8"))
def test_addresses_of_private_networks_are_taken(ip: Any) -> None:
    assert addresses.unfit(str(ip)) is None


@given(st.ip_addresses())
def test_any_address_gets_a_verdict(ip: Any) -> None:
    why = addresses.unfit(str(ip))
    assert why is None or why.strip()
    assert addresses.family(str(ip)) == f"IPv{ipaddress.ip_address(ip).version}"


def renamed(name: str, **values: Any) -> Any:
    variables = {**host(1, SINGLE), **values}
    del variables["ansible_host"]
    groups = {"all": [name], "ungrouped": [], "c": [name]}
    return {"groups": groups, "hostvars": {name: variables}}


@pytest.mark.parametrize("name", ["10.0.0.11", "fd00::11"])
def test_an_inventory_name_that_is_an_address_is_the_address(name: str) -> None:
    assert plan(renamed(name))["units"][0]["address"] == name
    said = plan(renamed(name, muster_address="10.9.9.9"))
    assert said["units"][0]["address"] == "10.9.9.9"


def test_a_loopback_serves_the_node_alone() -> None:
    made = plan(single(address="127.0.0.1"))
    assert any("nobody but the node itself" in warning for warning in made["warnings"])
    inventory = view(c=[host(1, address="127.0.0.1"), host(2, address="::1")])
    found = problems(inventory)
    assert "c-0: the address 127.0.0.1 is the node's own loopback" in found[0]
    gateway = {"recipe": SINGLE, "gateway_hosts": ["c-0"]}
    one = host(1, **gateway, address="127.0.0.1")
    assert problems(view(c=[one])) == []
    assert "own loopback" in problems(view(c=[one, host(2, **gateway)]))[0]


def test_the_nodes_of_a_replica_have_one_family() -> None:
    mixed = view(c=[host(1), host(2, address="fd00::2")])
    assert problems(mixed) == [
        "c-1: has the address fd00::2, and the head of its replica, c-0, 10.0.0.1: the nodes of a "
        "replica need addresses of one family (muster_address)"
    ]
    each = view(c=[host(1, SINGLE), host(2, SINGLE, address="fd00::2")])
    assert problems(each) == []


@pytest.mark.parametrize(
    ("floating", "expected"),
    [
        ("fd00::200", "is IPv6, and c-0 has 10.0.0.1: take one of the same network"),
        ("127.0.0.5", "is a loopback"),
        ("10.0.0.1", "is a node's own address (c-0)"),
        ("10.0.0.4", "is a node's own address (c-3)"),
    ],
)
def test_a_floating_address_is_free_and_of_the_gateways_network(
    floating: str, expected: str
) -> None:
    own = {"gateway_hosts": ["c-0", "c-2"], "gateway_address": floating}
    found = problems(view(c=[host(n, **own) for n in range(1, 5)]))
    assert f"c: muster_gateway_address {floating}" in found[0]
    assert expected in "\n".join(found)


@pytest.mark.parametrize("interface", ["eth0,eth1", "=eth0", "^eth", "a=b", "eth 0"])
def test_an_interface_is_one_name(interface: str) -> None:
    (found,) = problems(pair(interface=interface))
    assert found.startswith("c: muster_interface has to be the name of one network interface")


def test_the_loopback_interface_joins_no_nodes() -> None:
    assert "c-0: muster_interface lo joins no nodes" in problems(pair(interface="lo"))[0]
    assert problems(single(interface="lo")) == []


# --- one machine in two clusters ------------------------------------------------------------------


def test_clusters_at_one_address_share_a_machine() -> None:
    """Neither has said muster_node: the address tells."""
    found = problems(view(a=[host(1, SINGLE)], b=[host(1, SINGLE)]), ["a-0"])
    assert found == [
        "a-0 and b-0 have one address (10.0.0.1) and both claim device 0-7: give each its own "
        "muster_devices with the same muster_node; or correct muster_address",
        "a-0 and b-0 have one address (10.0.0.1) and both claim a port, api 8000 and api 8000: "
        "change muster_port of one; or correct muster_address",
        "a-0 and b-0 have one address (10.0.0.1) and both claim a port, hccl 60000-60031 and hccl "
        "60000-60031: change muster_hccl_base_port of one; or correct muster_address",
    ]


def test_each_conflict_of_a_machine_is_told_once() -> None:
    twins = [host(1, SINGLE, node="m"), host(1, SINGLE, node="m")]
    found = problems(view(a=twins[:1], b=twins[1:]), ["a-0"])
    assert len(found) == 3
    assert all("are one machine (m)" in text for text in found)


def test_clusters_at_one_address_may_have_their_own_devices_and_ports() -> None:
    own = {"engine_args": {"tensor-parallel-size": 4}, "weights_gb": 100}
    first = host(1, SINGLE, devices=[0, 1, 2, 3], **own)
    second = host(1, SINGLE, devices=[4, 5, 6, 7], port=8001, hccl_base_port=60032, **own)
    assert problems(view(a=[first], b=[second]), ["a-0"]) == []


def test_a_loopback_says_nothing_of_the_machine() -> None:
    near = host(1, SINGLE, address="127.0.0.1")
    assert problems(view(a=[near], b=[near]), ["a-0"]) == []


def floats(
    clusters: dict[str, list[dict[str, Any]]], address: str, router: int | None = None
) -> None:
    """Give a cluster's gateways, all its hosts, a floating address."""
    for name, hosts in clusters.items():
        for own in hosts:
            own["muster_gateway_hosts"] = [f"{name}-{number}" for number in range(len(hosts))]
            own["muster_gateway_address"] = address
            if router:
                own["muster_gateway_router_id"] = router


def test_two_clusters_cannot_have_one_floating_address() -> None:
    a, b = [host(1, SINGLE), host(2, SINGLE)], [host(3, SINGLE), host(4, SINGLE)]
    floats({"a": a}, "10.0.0.100")
    floats({"b": b}, "10.0.0.100", 52)
    said = "a and b have the same muster_gateway_address 10.0.0.100: give each its own"
    inventory = view(a=a, b=b)
    assert said in problems(inventory, verb="plan", changes=False)
    # One of them is enough to see it.
    assert said in problems(inventory, ["a-0", "a-1"])
    floats({"b": b}, "10.0.0.101", 52)
    assert problems(view(a=a, b=b), verb="plan", changes=False) == []


def test_a_floating_address_is_no_other_clusters_node() -> None:
    a = [host(1, SINGLE), host(2, SINGLE)]
    floats({"a": a}, "10.0.0.3")
    (found,) = problems(view(a=a, b=[host(3, SINGLE)]), ["a-0", "a-1"])
    assert found.startswith("a: muster_gateway_address 10.0.0.3 is the address of b-0 of b")


@pytest.mark.parametrize(("router", "errors"), [(51, 2), (52, 0)])
def test_gateways_of_one_machine_need_their_own_numbers(router: int, errors: int) -> None:
    a = [host(n, NVIDIA, node=f"m{n}", devices=[0, 1, 2, 3]) for n in (1, 2)]
    b = [
        host(n, NVIDIA, node=f"m{n}", devices=[4, 5, 6, 7], port=8001, gateway_port=8081)
        for n in (1, 2)
    ]
    floats({"a": a}, "10.0.0.100")
    floats({"b": b}, "10.0.0.101", router)
    found = problems(view(a=a, b=b), verb="plan", changes=False)
    assert len([text for text in found if "muster_gateway_router_id 51" in text]) == errors
    assert len(found) == errors
