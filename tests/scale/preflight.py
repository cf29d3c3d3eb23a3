# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight against what operators do without it, in one run on lab nodes of sixteen devices.

Each device tool takes a tenth of a second a call there, and hccn_tool refuses a second caller, as
it does on hardware. What the emulated tools answer is recorded first and played back by a few lines
of Perl: all nodes share this machine's cores, which the emulators alone would keep busy. The same
nodes are looked at

- by playbooks/preflight.yml, all nodes at once;
- (a) by the shell loops of the engine's documentation, one node after another over SSH;
- (b) by the same commands as looped Ansible tasks, on one node.

Beside preflight's time stands how busy this machine was meanwhile. Where it had hardly any idle
time left, nodes waited for its cores and not for their tools, which real nodes do not.

The lab has to be up; the nodes are made for the run and removed after it:

    .venv/bin/python tests/scale/preflight.py --nodes 2 16
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lab.paths import key_file  # noqa: E402

DEVICES = 16
CALL_S = 0.1
HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"
# What the documentation tells to run for every device of every node before serving.
COMMANDS = ("lldp", "link", "net_health", "netdetect", "gateway", "tls", "ip", "vnic")
PINGS = ("ping", "hccs_ping")
# Any will do: what is pinged makes no difference to what is played back.
ADDRESS = "10.20.0.10"
# The tools' own time, with nothing around them but two round trips.
TOOLS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Look at the NPUs
      muster.serving.npu_topology_check:
        device_count: "{{ devices }}"
        multi_node: true
      register: seen
    - name: Ping those of the other node
      muster.serving.npu_topology_check:
        mode: ping
        node_facts: "{{ seen.facts }}"
        peer_facts: ["{{ hostvars[peer].seen.facts }}"]
"""
SSH = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR")

LOOPED = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Ask every device
      ansible.builtin.command: "{{ hccn_tool }} -i {{ item.0 }} -{{ item.1 }} -g"
      loop: "{{ range(devices) | product(commands) }}"
      changed_when: false
    - name: Ping from every device
      ansible.builtin.command: >-
        {{ hccn_tool }} -i {{ item.0 }} -{{ item.1 }} -g address {{ address }}
      loop: "{{ range(devices) | product(pings) }}"
      changed_when: false
    - name: Show every device's place in the super pod
      ansible.builtin.command: npu-smi info -t spod-info -i {{ item // 2 }} -c {{ item % 2 }}
      loop: "{{ range(devices) | list }}"
      changed_when: false
    - name: Show the devices
      ansible.builtin.command: npu-smi info
      changed_when: false
    - name: Show the addresses
      ansible.builtin.command: cat /etc/hccn.conf
      changed_when: false
"""


def lab(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"lab {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


# Runs on a node, and writes one file an answer.
RECORDER = """
import contextlib, io, json, pathlib, sys
sys.path.insert(0, "/usr/local/lib/muster-lab")
import device_tools
folder = pathlib.Path("/var/lib/scale")
folder.mkdir()
for tool, *arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        {"npu-smi": device_tools.npu_smi, "hccn_tool": device_tools.hccn_tool}[tool](arguments)
    # The address has no part in the name.
    (folder / " ".join([tool, *arguments]).split(" address")[0]).write_text(said.getvalue())
"""
# One process a call: what the tools take of this machine's cores, real nodes have for themselves.
# What has not been recorded is asked of the emulator.
PLAYER = """#!/usr/bin/perl
my @asked = @ARGV > WORDS ? @ARGV[0 .. WORDS - 1] : @ARGV;
open(my $answer, "<", join(" ", "/var/lib/scale/TOOL", @asked)) or exec "PATH.emulated", @ARGV;
LOCK
select(undef, undef, undef, SECONDS);
print <$answer>;
"""
LOCK = """open(my $lock, ">", "/run/hccn_tool.lock");
flock($lock, 2 | 4) or do { print "hccn_tool is busy, please try again.\\n"; exit 1 };"""
PLAYERS = (
    ("npu-smi", "/usr/local/bin/npu-smi", 7, ""),
    ("hccn_tool", HCCN_TOOL, 4, LOCK),
)


def questions() -> Iterator[list[str]]:
    """All that is asked of the tools of a node, by anyone."""
    yield from (["npu-smi", "info"], ["npu-smi", "info", "-t", "topo"])
    for device in range(DEVICES):
        card, chip = ["-i", str(device // 2)], ["-c", str(device % 2)]
        yield ["npu-smi", "info", "-t", "board", *card]
        yield from (["npu-smi", "info", "-t", kind, *card, *chip] for kind in ("ecc", "spod-info"))
        for command in COMMANDS:
            yield ["hccn_tool", "-i", str(device), f"-{command}", "-g"]
        for command in PINGS:
            yield ["hccn_tool", "-i", str(device), f"-{command}", "-g", "address", ADDRESS]


def make(name: str) -> dict[str, str]:
    """A node whose tools take their time."""
    node: dict[str, str] = json.loads(lab("node", "create", name, "--family", "a3"))
    lab("exec", name, "python3", "-c", RECORDER, json.dumps(list(questions())))
    for tool, path, words, lock in PLAYERS:
        player = PLAYER.replace("TOOL", tool).replace("PATH", path).replace("WORDS", str(words))
        player = player.replace("LOCK", lock).replace("SECONDS", str(CALL_S))
        script = 'mv "$0" "$0.emulated" && printf %s "$1" > "$0" && chmod 755 "$0"'
        lab("exec", name, "sh", "-ec", script, path, player)
    return node


def inventory(folder: Path, nodes: list[dict[str, str]]) -> Path:
    """Replicas of two nodes, as the checks between nodes want them."""
    path = folder / "inventory.json"
    names = [node["name"] for node in nodes]
    # Replicas are of two nodes each, which ping each other.
    hosts = {
        node["name"]: {"ansible_host": node["address"], "peer": names[place ^ 1]}
        for place, node in enumerate(nodes)
    }
    variables = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(key_file()),
        "ansible_ssh_common_args": " ".join(SSH),
        "muster_recipe": "minimax-m2.5-w8a8/vllm-ascend-a3",
        "muster_replica_nodes": 2,
        "muster_interface": "enp67s0f0np0",
        "muster_model_path": "/opt/muster-lab/models/MiniMax-M2.5-tiny",
        "muster_weights_gb": 0.1,
        "muster_output_dir": str(folder / "output"),
    }
    groups = {"scale": {"hosts": hosts, "vars": variables}}
    path.write_text(json.dumps({"all": {"children": groups}}))
    return path


def timed(argv: list[str], **more: Any) -> tuple[float, str]:
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{argv[:3]}: rc {done.returncode}\n{done.stdout[-3000:]}{done.stderr}")
    return time.monotonic() - begin, done.stdout


def playbook(path: str, inventory_file: Path, *options: str) -> tuple[float, str]:
    command = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return timed([command, "-i", str(inventory_file), path, *options], env=environment)


def ad_hoc(hosts: Path, module: str) -> float:
    """How long a module without options takes, on all hosts at once."""
    command = str(Path(sys.executable).with_name("ansible"))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return timed([command, "-i", str(hosts), "all", "-m", module], env=environment)[0]


def shell_loop(node: dict[str, str]) -> float:
    """The loops of the documentation on one node, over SSH."""
    numbers = f"$(seq 0 {DEVICES - 1})"
    asked = [f"{HCCN_TOOL} -i $i -{command} -g" for command in COMMANDS]
    asked += [f"{HCCN_TOOL} -i $i -{command} -g address {ADDRESS}" for command in PINGS]
    asked.append("npu-smi info -t spod-info -i $((i / 2)) -c $((i % 2))")
    loops = "; ".join(f"for i in {numbers}; do {command}; done" for command in asked)
    script = f"{loops}; npu-smi info; cat /etc/hccn.conf"
    return timed(["ssh", "-i", str(key_file()), *SSH, f"root@{node['address']}", script])[0]


def cpu_times() -> tuple[int, int]:
    """How long this machine's cores have been at work, and how long there have been any."""
    first_line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, idle, iowait, *rest = (int(word) for word in first_line.split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait


def row(what: str, seconds: float, note: str = "") -> None:
    print(f"  {what:<42}{seconds:8.1f} s  {note}".rstrip())


def measure(count: int, looped: bool) -> None:
    nodes: list[dict[str, str]] = []
    try:
        nodes += (make(f"scale{number}") for number in range(count))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            hosts = inventory(folder, nodes)
            # The first run opens the connections, as a second run on a cluster finds them.
            playbook("playbooks/preflight.yml", hosts)
            busy, there = cpu_times()
            ours, _text = playbook("playbooks/preflight.yml", hosts)
            busy, there = (now - then for now, then in zip(cpu_times(), (busy, there), strict=True))
            report = json.loads((folder / "output" / "preflight.json").read_text())

            # All nodes at once, as preflight asks them: the slowest one counts.
            (folder / "tools.yml").write_text(TOOLS)
            devices = ("-e", json.dumps({"devices": DEVICES}))
            tools, _text = playbook(str(folder / "tools.yml"), hosts, *devices)
            trips = ad_hoc(hosts, "ansible.builtin.ping")
            tools -= 2 * trips
            goal = 1.2 * tools + 2 * trips

            print(f"{count} nodes of {DEVICES} devices, {CALL_S} s a call")
            checks = len(report["checks"])
            row("preflight.yml", ours, f"{checks} checks, CPUs {100 * busy // there} % busy")
            row("the tools' own time on the slowest node", tools)
            row("one round trip (ansible all -m ping)", trips)
            row("goal: 1.2 x tools + 2 round trips", goal, "met" if ours <= goal else "missed")
            loops = sum(shell_loop(node) for node in nodes)
            row("(a) shell loops, node after node", loops, f"{loops / ours:.1f} x as long")
            if looped:
                (folder / "looped.yml").write_text(LOOPED)
                variables = {
                    "devices": DEVICES,
                    "commands": COMMANDS,
                    "pings": PINGS,
                    "address": ADDRESS,
                    "hccn_tool": HCCN_TOOL,
                }
                more = ("-l", nodes[0]["name"], "-e", json.dumps(variables))
                seconds, _text = playbook(str(folder / "looped.yml"), hosts, *more)
                row(
                    "(b) looped Ansible tasks, one node", seconds, f"{seconds / ours:.1f} x as long"
                )
    finally:
        for node in nodes:
            lab("node", "remove", node["name"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 16])
    for position, count in enumerate(parser.parse_args().nodes):
        measure(count, looped=position == 0)


if __name__ == "__main__":
    main()
