"""muster_firewall on a running pair: what a machine reaches that is none of its peers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from .conftest import Outcome, lab, on_node

Play = Callable[..., Outcome]

pytestmark = pytest.mark.chaos

HEAD, FOLLOWER = PAIR = ("a2-node0", "a2-node1")
STRANGER = "stranger"
SSH = 22
CONTROLLER = "198.19.67.1"
FIREWALL = {"enabled": True, "api_sources": [CONTROLLER], "close_others": True}
# Prints which of the ports that follow an address take a connection.
REACH = """\
import concurrent.futures, json, socket, sys

def reached(port):
    try:
        with socket.create_connection((sys.argv[1], port), 2):
            return True
    except OSError:
        return False

ports = [int(word) for word in sys.argv[2:]]
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps([p for p, open in zip(ports, pool.map(reached, ports)) if open]))
"""


@pytest.fixture(scope="module", autouse=True)
def stranger() -> Iterator[None]:
    lab("up")
    lab("node", "create", STRANGER)
    yield
    lab("node", "remove", STRANGER)


def listening(node: str, address: str) -> list[int]:
    """The TCP ports on which a node listens at its address, or at all of its own."""
    found = [line.split()[3].rpartition(":") for line in on_node(node, "ss", "-Htln").splitlines()]
    return sorted({int(port) for at, _, port in found if at in (address, "*", "0.0.0.0", "[::]")})  # noqa: S104


def reached(source: str, address: str, ports: list[int]) -> list[int]:
    return json.loads(on_node(source, "python3", "-c", REACH, address, *map(str, ports)))  # type: ignore[no-any-return]


def test_a_stranger_reaches_ssh_alone_and_the_pair_serves(
    play: Play, addresses: dict[str, str]
) -> None:
    try:
        assert play("site.yml", muster_firewall=FIREWALL).rc == 0
        for node, peer in (PAIR, PAIR[::-1]):
            ports = listening(node, addresses[node])
            assert len(ports) > 5
            assert reached(STRANGER, addresses[node], ports) == [SSH]
            assert reached(peer, addresses[node], ports) == ports
        # The controller is a source of the API, and verify has asked there.
        again = play("site.yml", muster_firewall=FIREWALL)
        assert (again.rc, again.changed()) == (0, {})
    finally:
        opened = play("site.yml", muster_firewall={**FIREWALL, "enabled": False})
    assert opened.rc == 0
    ports = listening(HEAD, addresses[HEAD])
    assert reached(STRANGER, addresses[HEAD], ports) == ports
