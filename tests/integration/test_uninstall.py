"""uninstall.yml on the lab's pair: what is left is what its table says; site.yml brings it back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import NODES, UNITS, Outcome, containers, kill_at, lab, on_node

Play = Callable[..., Outcome]

pytestmark = pytest.mark.chaos

ALL = {"uninstall_images": True, "uninstall_caches": True, "uninstall_logs": True}
# What the node's own services write while it runs, Docker among them, which stays.
OF_THE_NODE = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/root/.ansible", "/var/lib/dpkg"),
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/systemd", "/var/lib/apt", "/var/cache"),
    *(
        "/var/log",
        "/var/lib/muster-lab",
        "/usr/local/lib/muster-lab",
        "/etc/docker",
        "/opt/containerd",
        "/usr/lib/python3",
    ),
)
# A package's files, the links of its alternatives and services, and the accounts that it adds.
OF_PACKAGES = """
cat /var/lib/dpkg/info/*.list
find /etc/alternatives /etc/rc*.d /etc/systemd/system/*.wants -name '[!m]*'
ls -d /etc/*- /etc/ld.so.cache
true
"""
# Of sysctls, one that is the node's own: the others are those of the machine below.
SETTINGS = """
sysctl -n net.ipv4.ip_local_reserved_ports
cat /etc/docker/daemon.json
ls /etc/sysctl.d /etc/docker/certs.d
getent passwd muster
systemctl list-unit-files --no-legend 'muster-a2*' 'muster-host*'
systemctl list-units --all --no-legend 'muster-a2*' 'muster-host*'
true
"""


def shell(node: str, script: str) -> str:
    return on_node(node, "sh", "-c", f"{{ {script.strip()}; }} 2>/dev/null".replace("\n", "; "))


def listing(node: str) -> set[str]:
    """All paths of a node but those that it writes by itself."""
    pruned = " -o ".join(f"-path {path}" for path in OF_THE_NODE)
    found = on_node(node, "sh", "-c", f"find / -xdev \\( {pruned} \\) -prune -o -print")
    ours = shell(node, "find /var/log/muster /var/cache/muster; true")
    return {*found.splitlines(), *ours.splitlines()}


def told(outcome: Outcome) -> dict[str, dict[str, str]]:
    """By node what stays on it by the table, with the reason; a folder's entries one by one."""
    (result,) = outcome.task_results("Say what stays").values()
    found: dict[str, dict[str, str]] = {node: {} for node in NODES}
    for stay in result["stays"]:
        folder, colon, entries = stay["what"].partition(": ")
        inside = [f"{folder}/{name}" for name in entries.split(", ")]
        names = inside if colon and folder.startswith("/") else [stay["what"]]
        for node in stay["hosts"]:
            found[node].update(dict.fromkeys(names, stay["why"]))
    return found


def left_of_muster(node: str, bare: set[str]) -> set[str]:
    """The paths by the name of Muster that a bare node does not have."""
    return {path for path in listing(node) - bare if "muster" in path}


@pytest.fixture(scope="module", autouse=True)
def bare() -> dict[str, Any]:
    """What two nodes have as a provider hands them over: paths and settings, by node."""
    lab("up", "--fresh")
    return {node: (listing(node), shell(node, SETTINGS)) for node in NODES}


def test_a_pair_serves(play: Play) -> None:
    assert play("site.yml").rc == 0
    assert all(containers().values())


def test_check_mode_shows_all_of_it_and_changes_nothing(play: Play) -> None:
    before = {node: (listing(node), shell(node, SETTINGS)) for node in NODES}
    running = containers()
    outcome = play("playbooks/uninstall.yml", "--check", "--diff", **ALL)
    assert outcome.rc == 0
    assert {*outcome.changed()} == {*NODES}
    for node, unit in UNITS.items():
        assert f"-service /etc/systemd/system/muster-{unit}.service" in outcome.stdout
        assert f"-record /var/lib/muster/units/{unit}.json" in outcome.stdout
        assert told(outcome)[node]
    assert "what would stay, and why" in outcome.stdout
    assert {node: (listing(node), shell(node, SETTINGS)) for node in NODES} == before
    assert containers() == running


def test_half_a_pair_that_runs_stays_and_the_other_half_is_named(play: Play) -> None:
    running = containers()
    outcome = play("playbooks/uninstall.yml", limit="a2-node0")
    assert outcome.rc != 0
    assert "a2-cluster-r0 runs on a2-node1, which this run does not reach" in " ".join(
        outcome.stdout.split()
    )
    assert outcome.changed() == {}
    assert containers() == running


def test_what_is_left_is_what_the_table_says(play: Play, bare: dict[str, Any]) -> None:
    outcome = play("playbooks/uninstall.yml")
    assert outcome.rc == 0
    for node in NODES:
        paths, settings = bare[node]
        stays = told(outcome)[node]
        assert shell(node, SETTINGS) == settings
        left = left_of_muster(node, paths)
        above = {parent for what in stays for parent in map(str, Path(what).parents)}
        unnamed = {
            path
            for path in left
            if path not in above
            and not any(path == what or path.startswith(f"{what}/") for what in stays)
        }
        assert unnamed == set()
        assert f"/var/lib/muster/cache/{UNITS[node]}" in stays
        assert f"/var/log/muster/{UNITS[node]}" in stays
        assert any(what.startswith("image ") for what in stays)
        assert any(what.startswith("Docker ") for what in stays)


def test_a_second_run_changes_nothing_and_says_that_nothing_is_there(play: Play) -> None:
    outcome = play("playbooks/uninstall.yml")
    assert outcome.rc == 0
    assert outcome.changed() == {}
    assert "nothing to uninstall on a2-node0, a2-node1" in outcome.stdout


def test_what_was_left_goes_when_it_is_asked_for(play: Play, bare: dict[str, Any]) -> None:
    outcome = play("playbooks/uninstall.yml", **ALL)
    assert outcome.rc == 0
    for node in NODES:
        paths, _settings = bare[node]
        assert left_of_muster(node, paths) == set()
        assert on_node(node, "docker", "images", "--quiet").strip() == ""
        # What is new by other names came with packages, which stay.
        packages = {*shell(node, OF_PACKAGES).splitlines()}
        new = listing(node) - paths - packages
        assert {path for path in new if not path.startswith("/etc/apparmor")} == set()


def test_site_brings_it_back(play: Play) -> None:
    assert play("site.yml").rc == 0
    assert all(containers().values())


@pytest.mark.parametrize(
    "stage",
    ["TASK [Decide for whole", "TASK [muster.serving.unit : Stop", "TASK [Take the settings"],
)
def test_a_run_that_was_killed_is_made_up_for(play: Play, bare: dict[str, Any], stage: str) -> None:
    assert play("site.yml").rc == 0
    kill_at(lambda line: line.startswith(stage), "playbooks/uninstall.yml")
    # What a step of it does on a node goes on, and nobody takes over before that has ended.
    for _try in range(12):
        outcome = play("playbooks/uninstall.yml", **ALL)
        if outcome.rc == 0 or "still changes the node" not in outcome.stdout:
            break
        time.sleep(5)
    assert outcome.rc == 0
    for node in NODES:
        paths, settings = bare[node]
        assert shell(node, SETTINGS) == settings
        assert left_of_muster(node, paths) == set()


def test_another_deployment_of_the_node_stays_as_it_is(play: Play) -> None:
    assert play("site.yml").rc == 0
    # A second one by its records and files; its unit is a service that runs.
    other = json.dumps({"deployment": "other", "effective": {"image": "none"}})
    service = "/etc/systemd/system/muster-other-r0-rank0.service"
    script = f"""
printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > {service}
echo '{other}' > /var/lib/muster/units/other-r0-rank0.json
echo KEY=1 > /etc/muster/other-r0-rank0.env
systemctl daemon-reload
systemctl start muster-other-r0-rank0
"""
    shell("a2-node1", script)
    outcome = play("playbooks/uninstall.yml", **ALL)
    assert outcome.rc == 0
    assert shell("a2-node1", "systemctl is-active muster-other-r0-rank0").strip() == "active"
    there = shell("a2-node1", "ls /etc/muster /var/lib/muster/units /usr/local/lib/muster").split()
    assert {"other-r0-rank0.env", "other-r0-rank0.json", "replica_link.py"} <= {*there}
    assert not any("a2-cluster" in name for name in there)
    assert any(what.startswith("other, another") for what in told(outcome)["a2-node1"])
    outcome = play("playbooks/uninstall.yml", limit="a2-node1", muster_cluster="other", **ALL)
    assert outcome.rc == 0
    assert shell("a2-node1", "ls -d /etc/muster /var/lib/muster; true").strip() == ""
    assert play("site.yml").rc == 0
