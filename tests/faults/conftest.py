"""A pair of lab nodes of its own, into which faults are injected and from which they are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..integration.conftest import LAB_INVENTORY, Outcome, lab, on_node, play

__all__ = ["play"]

HEAD, FOLLOWER = "fault0", "fault1"
NODES = (HEAD, FOLLOWER)
GROUP = "fault-pair"
# The cluster network has a NIC of its own, so that SSH outlives a fault in it.
NIC = "enp68s0f0np0"
PARENT_NIC = "enp67s0f0np0"
ADDRESSES = {HEAD: "198.19.68.10", FOLLOWER: "198.19.68.11"}
WEIGHTS = "/opt/muster-lab/models/MiniMax-M2.5-tiny"
STATE = "/var/lib/muster-lab/state.json"

TOOLS = "python3 /usr/local/lib/muster-lab/device_tools.py"

# The number gives the NPUs addresses that the faults know.
_SETUP = f"""
ip link add link {PARENT_NIC} name {NIC} type macvlan mode bridge
ip addr add ADDRESS/24 dev {NIC}
ip link set {NIC} up
{TOOLS} make --node NUMBER
{TOOLS} hccn-conf > /etc/hccn.conf
mkdir /var/lib/faults
cp {STATE} /var/lib/faults/state.json
cp /etc/hccn.conf /var/lib/faults/hccn.conf
cp -a {WEIGHTS} /var/lib/faults/weights
"""
# Undone after every round, whatever was injected. A listener of preflight that was not reached by
# its peer lives for a minute, and would hold a port that the next fault takes.
_UNDO = f"""
pkill -x muster-listen || true
cp /var/lib/faults/state.json {STATE}
cp /var/lib/faults/hccn.conf /etc/hccn.conf
rm -rf {WEIGHTS}
cp -a /var/lib/faults/weights {WEIGHTS}
"""
# What is loaded, and whether it runs, without what comes and goes with a login or timedatectl.
_UNITS = (
    "systemctl list-units --all --plain --no-legend --type=service "
    "| awk '{print $1, $3, $4}' | grep -v -e '^user' -e '^systemd-timedated' | sort"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--alone", action="store_true", help="inject one fault at a time")


@dataclass(frozen=True, order=True)
class Finding:
    """A check that is not ok."""

    node: str
    check: str
    status: str
    subject: str


@dataclass(frozen=True)
class Preflight:
    """One run of playbooks/preflight.yml."""

    outcome: Outcome
    findings: frozenset[Finding]
    checks: list[dict[str, Any]]


def inventory(folder: Path, addresses: Mapping[str, str], sets: Mapping[str, Any]) -> Path:
    """Write the pair's inventory, with the lab's overlay.

    Args:
        folder: Where to.
        addresses: The address of each node for SSH.
        sets: Variables by node; those of C(all) hold for both.
    """
    hosts = {
        node: {"ansible_host": addresses[node], "muster_address": ADDRESSES[node]}
        | dict(sets.get(node, {}))
        for node in NODES
    }
    variables = {
        "muster_recipe": "minimax-m2.5/vllm-ascend-a2",
        "muster_interface": NIC,
        "muster_engine_env": {"VLLM_ASCEND_ENABLE_FLASHCOMM1": None},
        **sets.get("all", {}),
    }
    (folder / "group_vars").mkdir(parents=True, exist_ok=True)
    overlay = (LAB_INVENTORY / "group_vars" / "all.yml").read_text()
    (folder / "group_vars" / "all.yml").write_text(overlay)
    document = {"all": {"children": {GROUP: {"hosts": hosts, "vars": variables}}}}
    # JSON is YAML.
    (folder / "hosts.yml").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def pair() -> Iterator[dict[str, str]]:
    """The address of each node for SSH."""
    addresses = {}
    for number, node in enumerate(NODES):
        addresses[node] = json.loads(lab("node", "create", node))["address"]
        setup = _SETUP.replace("ADDRESS", ADDRESSES[node]).replace("NUMBER", str(number))
        on_node(node, "sh", "-ec", setup)
    yield addresses
    for node in NODES:
        lab("node", "remove", node)


@pytest.fixture
def preflight(
    pair: dict[str, str], play: Callable[..., Outcome], tmp_path: Path
) -> Callable[..., Preflight]:
    """Run preflight on the pair, and look at what it reports."""

    def run(sets: Mapping[str, Any]) -> Preflight:
        outcome = play(
            "playbooks/preflight.yml",
            inventory=inventory(tmp_path / "inventory", pair, sets),
            limit=GROUP,
        )
        report = tmp_path / "output" / "preflight.json"
        checks = json.loads(report.read_text())["checks"] if report.exists() else []
        findings = frozenset(
            Finding(one["host"], one["id"], one["status"], one["subject"])
            for one in checks
            if one["status"] != "ok"
        )
        return Preflight(outcome, findings, checks)

    return run


def inject(node: str, script: str) -> None:
    on_node(node, "bash", "-ec", script)


def undo(node: str, script: str) -> None:
    on_node(node, "bash", "-ec", script + _UNDO)


def units(node: str) -> str:
    """Every service of a node, with its state."""
    return on_node(node, "sh", "-c", _UNITS)
