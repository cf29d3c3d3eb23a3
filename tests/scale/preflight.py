# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight against what operators do without it, in one run on lab nodes of sixteen devices.

Each device tool takes a tenth of a second a call there, and hccn_tool refuses a second caller, as
it does on hardware. What the emulated tools answer is recorded first and played back by a small
program, which needs a C compiler: all nodes share this machine's cores, which the emulators alone
would keep busy. The same nodes are looked at

- by playbooks/preflight.yml, all nodes at once;
- (a) by the shell loops of the engine's documentation, one node after another over SSH;
- (b) by the same commands as looped Ansible tasks, on one node.

A node's own tool time is that in which at least one of its tools ran during preflight. Beside
preflight's time stands how busy this machine was meanwhile. Where it had hardly any idle time left,
nodes waited for its cores and not for their tools, which real nodes do not.

The lab has to be up; the nodes are made for the run and removed after it:

    .venv/bin/python tests/scale/preflight.py --nodes 2 16
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
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
import ascend_tools
folder = pathlib.Path("/var/lib/scale")
folder.mkdir()
for tool, *arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        ascend_tools.TOOLS[tool](arguments)
    # The address has no part in the name.
    (folder / " ".join([tool, *arguments]).split(" address")[0]).write_text(said.getvalue())
"""
PLAYER = Path(__file__).with_name("player.c")
# Name, place, how many words of a question name its answer, and whether it refuses a second caller.
TOOLS = (
    ("npu-smi", "/usr/local/bin/npu-smi", 7, False),
    ("hccn_tool", HCCN_TOOL, 4, True),
)
LOG = "/run/scale.log"


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


def build(folder: Path) -> dict[str, Path]:
    """The programs that play the tools back, by where they will lie."""
    players = {}
    for tool, place, words, locks in TOOLS:
        texts = {"TOOL": tool, "PLACE": place, "LOG": LOG}
        numbers = {"WORDS": words, "LOCK": int(locks), "SECONDS": CALL_S}
        macros = [f'-D{name}="{text}"' for name, text in texts.items()]
        macros += [f"-D{name}={number}" for name, number in numbers.items()]
        players[place] = folder / tool
        timed(["cc", "-O2", "-static", *macros, str(PLAYER), "-o", str(players[place])])
    return players


def make(name: str, players: dict[str, Path]) -> dict[str, str]:
    """A node whose tools take their time."""
    node: dict[str, str] = json.loads(lab("node", "create", name, "--family", "a3"))
    lab("exec", name, "python3", "-c", RECORDER, json.dumps(list(questions())))
    for place, player in players.items():
        script = 'mv "$0" "$0.emulated" && cat > "$0" && chmod 755 "$0"'
        command = ["ssh", "-i", str(key_file()), *SSH, f"root@{node['address']}"]
        with player.open("rb") as program:
            timed([*command, shlex.join(["sh", "-ec", script, place])], stdin=program)
    return node


def inventory(folder: Path, nodes: list[dict[str, str]]) -> Path:
    """Replicas of two nodes, as the checks between nodes want them."""
    path = folder / "inventory.json"
    hosts = {node["name"]: {"ansible_host": node["address"]} for node in nodes}
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


def tool_time(name: str) -> float:
    """How long at least one tool of a node has run."""
    log = (line.split() for line in lab("exec", name, "cat", LOG).splitlines())
    total = until = 0.0
    for begun, ended in sorted((float(begun), float(ended)) for begun, ended in log):
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total


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
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            players = build(folder)
            nodes += (make(f"scale{number}", players) for number in range(count))
            hosts = inventory(folder, nodes)
            # The first run opens the connections, as a second run on a cluster finds them.
            playbook("playbooks/preflight.yml", hosts)
            for node in nodes:
                lab("exec", node["name"], "rm", LOG)
            busy, there = cpu_times()
            ours, _text = playbook("playbooks/preflight.yml", hosts)
            busy, there = (now - then for now, then in zip(cpu_times(), (busy, there), strict=True))
            report = json.loads((folder / "output" / "preflight.json").read_text())

            tools = max(tool_time(node["name"]) for node in nodes)
            trips = ad_hoc(hosts, "ansible.builtin.ping")
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
    counts = parser.parse_args().nodes
    if not shutil.which("cc"):
        raise SystemExit("The tools are played back by a program in C: install a compiler, as cc.")
    for position, count in enumerate(counts):
        measure(count, looped=position == 0)


if __name__ == "__main__":
    main()
