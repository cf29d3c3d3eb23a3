# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clusters that control.py measures on, and the runs on them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.paths import key_file
from tests.scale import peer_data, recording
from tests.scale.processes import measured

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LAB_INVENTORY = ROOT / "inventories" / "lab"
CLUSTER = "a2-cluster"
PAIR = 2
# Of so many recordings one is played: other work on the machine may have slowed one down.
TAKES = 3
SSH = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR")


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(argv: Sequence[str], **more: Any) -> str:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)[:300]}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def lab(*arguments: str) -> str:
    return run([sys.executable, "-m", "lab", *arguments])


def on_node(address: str, *argv: str, **more: Any) -> str:
    way = ["ssh", "-i", str(key_file()), *SSH, f"root@{address}"]
    return run([*way, shlex.join(argv)], **more)


@dataclass
class Bench:
    """Where this run keeps what it needs, and what it runs with."""

    folder: Path
    tools: Path

    def ansible(self, *, instant: bool) -> dict[str, str]:
        """The environment of one run of Ansible: its counts are new."""
        counts = self.folder / "counts"
        shutil.rmtree(counts, ignore_errors=True)
        counts.mkdir()
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "plugins" / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "host_tasks",
            "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "plugins" / "connection"),
            "ANSIBLE_FORCE_COLOR": "0",
            "HOST_TASKS_FILE": str(self.folder / "tasks.json"),
            "PYTHONPATH": str(ROOT),
            "RECORDED_COUNTS": str(counts),
            "RECORDED_TIMES": str(not instant),
        }

    def playbook(
        self,
        inventory: Path,
        *arguments: str,
        instant: bool = False,
        memory: bool = False,
        **variables: Any,
    ) -> dict[str, Any]:
        """Run a playbook on the cluster: its figures, and as `tasks` those of the callback."""
        more = {"muster_output_dir": str(self.folder / "output" / inventory.name), **variables}
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory)]
        argv += ["-l", CLUSTER, *arguments, "-e", json.dumps(more)]
        found = measured(argv, ROOT, self.ansible(instant=instant), memory=memory)
        return {**found, "tasks": json.loads((self.folder / "tasks.json").read_text())}

    def pyinfra(self, hosts: Path, **environment: str) -> dict[str, Any]:
        """Deploy to the hosts of a file, and return the figures."""
        argv = [str(self.tools / "pyinfra"), "-y", str(HERE / "peer" / "inventory.py")]
        argv.append(str(HERE / "peer" / "deploy.py"))
        return measured(argv, ROOT, {**os.environ, "PEER_FILE": str(hosts), **environment})


@dataclass
class Cluster:
    """A cluster to measure on: for Ansible its inventory, for pyinfra the file of its hosts."""

    inventory: Path
    plan: dict[str, Any]
    peer: Path
    light: bool
    # By host, on real nodes alone.
    device_addresses: dict[str, list[str]] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        return len({unit["host"] for unit in self.plan["units"]})


def plan_of(bench: Bench, inventory: Path) -> dict[str, Any]:
    file = bench.folder / "plan.json"
    file.unlink(missing_ok=True)
    bench.playbook(inventory, "playbooks/plan.yml", plan_file=str(file))
    plan: dict[str, Any] = json.loads(file.read_text())
    return plan


def inventory_of(folder: Path, hosts: Mapping[str, Mapping[str, Any]]) -> Path:
    """An inventory of these hosts as the lab's cluster, with the lab's variables."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(LAB_INVENTORY / "group_vars", folder / "group_vars", dirs_exist_ok=True)
    groups = {CLUSTER: {"hosts": hosts}}
    (folder / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    return folder


def lab_cluster(bench: Bench, inventory: Path) -> Cluster:
    """The cluster of an inventory of real nodes, brought into service as it is planned."""
    bench.playbook(inventory, "site.yml")
    plan = plan_of(bench, inventory)
    addresses = {unit["host"]: unit["address"] for unit in plan["units"]}
    seen = {}
    for host, address in addresses.items():
        look = ("python3", "-", peer_data.model_path(plan))
        seen[host] = json.loads(on_node(address, *look, input=peer_data.LOOK))
    files = bench.folder / f"files-{len(addresses)}"
    hosts = []
    for host, data in peer_data.hosts_data(plan, seen, files).items():
        ssh = {"hostname": addresses[host], "user": "root", "key": str(key_file())}
        ssh |= {"strict_host_key_checking": "off", "known_hosts_file": "/dev/null"}
        hosts.append((host, {**data, **{f"ssh_{key}": value for key, value in ssh.items()}}))
    for path, content in peer_data.contents(seen, files).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    peer = bench.folder / f"peer-{len(addresses)}.json"
    peer.write_text(json.dumps(hosts))
    devices = {host: [*found["hccn"].values()] for host, found in seen.items()}
    return Cluster(inventory, plan, peer, light=False, device_addresses=devices)


@contextmanager
def lab_nodes(bench: Bench, count: int) -> Iterator[Cluster]:
    """A cluster of so many real nodes that serve; beyond the pair, they are the run's own."""
    if count == PAIR:
        yield lab_cluster(bench, LAB_INVENTORY)
        return
    names = [f"a2-node{number}" for number in range(count)]
    try:
        say(f"{count} lab nodes are made and brought into service")
        lab("up", "--nodes", str(count))
        there = json.loads(lab("status", "--json"))["nodes"]
        hosts = {
            one["name"]: {"ansible_host": one["address"]} for one in there if one["name"] in names
        }
        yield lab_cluster(bench, inventory_of(bench.folder / f"lab-{count}", hosts))
    finally:
        for name in names[PAIR:]:
            lab("node", "remove", name)
        # What the pair runs by the plan of more nodes, it runs by its own again.
        bench.playbook(LAB_INVENTORY, "site.yml")


@dataclass
class Recorded:
    """What a pair answered: to Ansible in a folder, to pyinfra in a file."""

    pair: Cluster
    folder: Path
    file: Path


def record(bench: Bench, pair: Cluster) -> Recorded:
    """Keep what the pair answers to Ansible and to pyinfra: of several takes the median in time."""
    folders, files = {}, {}
    for number in range(TAKES):
        folder, file = bench.folder / f"take{number}", bench.folder / f"take{number}.jsonl"
        take(bench, pair, folder, file)
        folders[recording.Recording(folder).seconds()] = folder
        files[peer_data.seconds(file.read_text())] = file
    return Recorded(
        pair, folders[statistics.median_low(folders)], files[statistics.median_low(files)]
    )


def take(bench: Bench, pair: Cluster, folder: Path, file: Path) -> None:
    """Keep what the pair answers once.

    Raises:
        SystemExit: Something changed, so that the answers are none of a run without a change.
    """
    # Connections stay open, as they do with Ansible's own plugin.
    shared = "-oControlMaster=auto", "-oControlPersist=60s", f"-oControlPath={bench.folder}/%C"
    variables = {
        "ansible_connection": "recorded",
        "ansible_pipelining": True,
        "ansible_ssh_common_args": " ".join([*SSH, *shared]),
    }

    def play(path: str, to: Path) -> int:
        found = bench.playbook(pair.inventory, path, recorded_folder=str(to), **variables)
        changed: int = found["tasks"]["changed"]
        return changed

    # Opens the connections.
    play("playbooks/preflight.yml", bench.folder / "first")
    if play("site.yml", folder):
        raise SystemExit(f"{CLUSTER} changes from run to run: is it in use by another?")
    # Where site.yml had nothing to ask, a cluster of other names may have.
    play("playbooks/verify.yml", folder)
    if peer_data.changed(bench.pyinfra(pair.peer, PEER_RECORD=str(file))["said"]):
        raise SystemExit(f"pyinfra changed what site.yml brought to {CLUSTER}")


def light_cluster(bench: Bench, recorded: Recorded, count: int) -> Cluster:
    """A cluster of so many nodes that answer as the recorded pair did."""
    pair = recorded.pair
    names = [f"light{number:03}" for number in range(count)]
    hosts: dict[str, dict[str, Any]] = {
        name: {"ansible_host": f"198.18.{number // 200}.{number % 200 + 10}"}
        for number, name in enumerate(names)
    }
    folder = bench.folder / f"light-{count}"
    plan = plan_of(bench, inventory_of(folder, hosts))
    replica_of_pair = recording.replica_of(pair.plan, 0)
    stands_for: dict[str, tuple[str, dict[str, str]]] = {}
    for replica in plan["replicas"]:
        parts = recording.replica_of(plan, replica["index"])
        between = recording.names_between(replica_of_pair, parts)
        pairs = dict(zip(replica["hosts"], pair.plan["replicas"][0]["hosts"], strict=True))
        for host, node in pairs.items():
            addresses = pair.device_addresses[node]
            between |= recording.moved(addresses, names.index(host))
        stands_for |= {host: (node, between) for host, node in pairs.items()}
    for name, (node, between) in stands_for.items():
        hosts[name] |= {
            "ansible_connection": "recorded",
            "ansible_pipelining": True,
            "recorded_folder": str(recorded.folder),
            "recorded_node": node,
            "recorded_names": between,
        }
    answers = peer_data.answers_by_host(recorded.file.read_text())
    data = dict(json.loads(pair.peer.read_text()))
    peer = bench.folder / f"peer-light-{count}.json"
    light = [
        peer_data.light_host(name, data[node], answers[node], between)
        for name, (node, between) in stands_for.items()
    ]
    peer.write_text(json.dumps(light))
    return Cluster(inventory_of(folder, hosts), plan, peer, light=True)
