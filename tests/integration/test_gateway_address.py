"""Two gateways on bare lab nodes, with an address that moves between them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.plan import gateway

from lab import network, registry
from lab.gateway import build
from tests.unit.fake_endpoint import MODEL, Endpoint, serving

from .conftest import Outcome, lab, on_node, run_podman

Play = Callable[..., Outcome]

CLUSTER = "gw"
NODES = ("gw0", "gw1")
PORT = 8080
ADDRESS = f"{network.PREFIX}.250"
SERVICE = f"muster-{CLUSTER}-address.service"
# Two probes a second apart, and a moment to take over.
MOVES_WITHIN_S = 4.0
# A host that is gone says nothing: its partner waits for three advertisements.
DEAD_HOST_WITHIN_S = 5.0

PLAYBOOK = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.import_role: {name: muster.serving.docker}
      vars:
        docker_insecure_registries: ["registry:5000"]
      when: units is truthy
    - ansible.builtin.command: "docker pull -q {{ image }}"
      changed_when: false
      when: units is truthy
    - muster.serving.unit_state:
        state: started
        deployment: gw
        units: "{{ units | selectattr('host', 'equalto', inventory_hostname) }}"
      changed_when: false
      when: first
    - ansible.builtin.import_role: {name: muster.serving.gateway}
      vars:
        gateway_deployment: gw
        gateway_floating: >-
          {{ (units | selectattr('host', 'equalto', inventory_hostname)
          | first | default({})).floating | default(none) }}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, Any]]:
    lab("up", "--all")
    made = {name: json.loads(lab("node", "create", name)) for name in NODES}
    yield made
    for name in NODES:
        lab("node", "remove", name)


@pytest.fixture(scope="module")
def engine(nodes: dict[str, Any]) -> Iterator[Endpoint]:
    with serving(f"{network.PREFIX}.1") as found:
        yield found


@pytest.fixture(scope="module")
def units(nodes: dict[str, Any], engine: Endpoint) -> list[dict[str, Any]]:
    return gateway.gateway_units(
        cluster=CLUSTER,
        hosts=[
            gateway.GatewayHost(name, name, node["address"], network.INTERFACE)
            for name, node in nodes.items()
        ],
        port=PORT,
        backends=[gateway.Backend("r0", f"{network.PREFIX}.1", engine.port)],
        model=MODEL,
        image=f"{registry.NAME}:{registry.PORT}/{build.REPOSITORY}:{build.TAG}",
        floating=gateway.Floating(ADDRESS, 67),
    )


@pytest.fixture
def bring(play: Play, nodes: dict[str, Any], tmp_path: Path) -> Callable[..., Outcome]:
    def run(units: list[dict[str, Any]], *, first: bool = False) -> Outcome:
        hosts = {
            name: {
                "ansible_host": node["address"],
                "ansible_user": "root",
                "ansible_ssh_private_key_file": node["key"],
                "ansible_ssh_common_args": "-o StrictHostKeyChecking=no "
                "-o UserKnownHostsFile=/dev/null",
            }
            for name, node in nodes.items()
        }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        (tmp_path / "address.yml").write_text(PLAYBOOK)
        outcome = play(
            str(tmp_path / "address.yml"),
            inventory=tmp_path / "hosts.yml",
            limit=None,
            units=units,
            first=first,
            image=units[0]["image"] if units else "",
        )
        assert outcome.rc == 0, outcome.stdout
        return outcome

    return run


def status(address: str = ADDRESS) -> int | None:
    """What the gateway at an address answers, None for nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{PORT}/muster/health", timeout=0.3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def holders() -> list[str]:
    return [node for node in NODES if ADDRESS in on_node(node, "ip", "-4", "-o", "address", "show")]


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, f"not within {within_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start


def the_other(node: str) -> str:
    return next(one for one in NODES if one != node)


def test_one_gateway_holds_the_address(
    bring: Callable[..., Outcome], units: list[dict[str, Any]]
) -> None:
    bring(units, first=True)
    wait_for(lambda: status() == 200, 15, "an answer from the floating address")
    assert len(holders()) == 1
    assert bring(units).changed() == {}
    for node in NODES:
        ran_as = on_node(node, "ps", "-o", "uid=", "-C", "haproxy").split()
        assert set(ran_as) == {str(gateway.USER_ID)}


def test_it_moves_when_its_gateway_dies_and_does_not_move_back(nodes: dict[str, Any]) -> None:
    (before,) = holders()
    gone = f"muster-{CLUSTER}-gateway{NODES.index(before)}"
    on_node(before, "docker", "kill", gone)
    outage = wait_for(lambda: status() == 200, MOVES_WITHIN_S, "another gateway has the address")
    print(f"a gateway killed: no answer for {outage:.1f} s")
    assert holders() == [the_other(before)]
    # systemd starts it again.
    own = nodes[before]["address"]
    wait_for(lambda: status(own) == 200, 20, f"the gateway of {before} serves again")
    time.sleep(4)
    assert holders() == [the_other(before)]


def test_it_moves_when_its_host_goes_silent() -> None:
    (before,) = holders()
    run_podman("pause", f"{network.NETWORK}-{before}")
    try:
        outage = wait_for(lambda: status() == 200, DEAD_HOST_WITHIN_S, "the partner has taken over")
        print(f"a host gone silent: no answer for {outage:.1f} s")
    finally:
        run_podman("unpause", f"{network.NETWORK}-{before}")
    wait_for(lambda: len(holders()) == 1, 10, "one holder after the host is back")


def test_without_an_engine_the_address_still_answers(
    nodes: dict[str, Any], engine: Endpoint
) -> None:
    own = [node["address"] for node in nodes.values()]
    engine.broken["/v1/completions"] = 500
    try:
        wait_for(lambda: {*map(status, own)} == {503}, 20, "the gateways take the engine out")
        wait_for(lambda: status() == 503, MOVES_WITHIN_S, "the address is with one of them")
        time.sleep(4)
        assert status() == 503
    finally:
        engine.broken.clear()
    wait_for(lambda: status() == 200, 15, "the engine is back")


def test_a_new_configuration_keeps_the_address_where_it_is(
    bring: Callable[..., Outcome], units: list[dict[str, Any]]
) -> None:
    before = holders()
    changed = json.loads(json.dumps(units))
    for unit in changed:
        unit["floating"]["config"] += "# another line\n"
    outcome = bring(changed)
    results = outcome.task_results("Let the address move to a gateway that serves")
    assert {host: result["action"] for host, result in results.items()} == dict.fromkeys(
        NODES, "reload"
    )
    assert status() == 200
    time.sleep(3)
    assert (status(), holders()) == (200, before)


def test_it_goes_with_the_plan(bring: Callable[..., Outcome]) -> None:
    assert set(bring([]).changed()) == set(NODES)
    assert holders() == []
    for node in NODES:
        assert "not-found" in on_node(node, "systemctl", "show", "-p", "LoadState", SERVICE)
    assert bring([]).changed() == {}
