"""The firewall in network namespaces that the test makes: real rules, real connections.

systemd is stood for by two scripts, which keep what the timer would run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.network import firewall

from tests.conftest import ROOT

NODE, PEER, STRANGER = (f"muster-fw-{os.getpid()}-{name}" for name in ("node", "peer", "other"))
NODE_AT = {PEER: "10.99.1.1", STRANGER: "10.99.2.1"}
AT = {PEER: "10.99.1.2", STRANGER: "10.99.2.2"}
ALL = [SSH, API, NAMED, ENGINE] = [2222, 8080, 9100, 34567]


def sh(*argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=check, capture_output=True, text=True, **more)


def inside(space: str, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return sh("ip", "netns", "exec", space, *argv, **more)


def refused() -> str:
    """Why this machine cannot run the test; empty where it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "unshare"):
        if not shutil.which(tool):
            return f"needs {tool}"
    probe = f"muster-fw-{os.getpid()}-probe"
    made = sh("ip", "netns", "add", probe, check=False)
    if made.returncode:
        return f"the kernel makes no network namespace: {made.stderr.strip()}"
    try:
        tried = inside(probe, "unshare", "-m", "mount", "-t", "tmpfs", "t", "/run", check=False)
        if tried.returncode:
            return f"no mount in a namespace of its own: {tried.stderr.strip()}"
        if not working(probe):
            return "neither nft nor iptables works in a network namespace here"
    finally:
        sh("ip", "netns", "del", probe, check=False)
    return ""


def working(space: str) -> list[str]:
    """The backends that work here."""
    asked = {"nftables": ["nft", "list", "tables"], "iptables": ["iptables", "-S", "INPUT"]}
    return [
        name
        for name, argv in asked.items()
        if shutil.which(argv[0]) and not inside(space, *argv, check=False).returncode
    ]


REFUSED = refused()
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)

LISTEN = """
import socket, sys, threading
for word in sys.argv[1:]:
    kind, port = word.split(":")
    one = socket.socket(socket.AF_INET6, getattr(socket, kind))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("::", int(port)))
    def echo(peer):
        for data in iter(lambda: peer.recv(9), b""):
            peer.sendall(data)
    def stream(one):
        while True:
            threading.Thread(target=echo, args=[one.accept()[0]]).start()
    def packets(one):
        while True:
            data, where = one.recvfrom(9)
            one.sendto(data, where)
    if kind == "SOCK_STREAM":
        one.listen()
    threading.Thread(target=stream if kind == "SOCK_STREAM" else packets, args=[one]).start()
print("ready", flush=True)
"""
ASK = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    one = socket.socket(socket.AF_INET, getattr(socket, kind))
    one.settimeout(1)
    one.connect((address, port))
    one.sendall(b"x")
    print(one.recv(1) == b"x")
except OSError:
    print(False)
"""
HOLD = """
import socket, sys
one = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
print("ready", flush=True)
for line in sys.stdin:
    one.sendall(b"y")
    print(one.recv(1) == b"y", flush=True)
"""
# The module's own steps, in a mount namespace whose state is thrown away.
STEP = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.network import firewall_io
firewall_io.SBIN = os.environ["PATH"] + ":" + firewall_io.SBIN
files = NodeFiles()
for line in sys.stdin:
    step, params = json.loads(line)
    said = {}
    try:
        if step == "confirm":
            said["changed"] = firewall_io.confirm(files, params)
        elif step == "cut off":
            # As if the run were killed when it has the mark and has kept nothing yet.
            keeps, firewall_io._keep_rules = firewall_io._keep_rules, lambda *_args: 1 // 0
            try:
                firewall_io.confirm(files, params)
            except ZeroDivisionError:
                said["cut off"] = True
            firewall_io._keep_rules = keeps
        elif step == "abandon":
            said["changed"] = firewall_io.abandon(files, params["deployment"], False)
        else:
            changes = firewall_io.difference(files, params)
            said = {"why": changes.why, "others": [str(one) for one in changes.others]}
            if step == "trial":
                firewall_io.put_on_trial(files, changes, 60)
            elif step == "withdraw":
                firewall_io.withdraw(files, changes)
    except firewall_io.FirewallError as error:
        said["error"] = str(error)
    print(json.dumps(said), flush=True)
"""


class Machine:
    """A node between a peer and a stranger."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        self.started: list[subprocess.Popen[str]] = []
        for space in (NODE, PEER, STRANGER):
            sh("ip", "netns", "add", space)
            inside(space, "ip", "link", "set", "lo", "up")
        for number, space in enumerate((PEER, STRANGER), 1):
            names = (f"to{number}", "eth0")
            made = ["ip", "link", "add", names[0], "netns", NODE, "type", "veth"]
            sh(*made, "peer", "name", names[1], "netns", space)
            for one, name, address in (
                (NODE, names[0], NODE_AT[space]),
                (space, names[1], AT[space]),
            ):
                inside(one, "ip", "addr", "add", f"{address}/24", "dev", name)
                inside(one, "ip", "link", "set", name, "up")
        kinds = ("SOCK_STREAM", "SOCK_DGRAM")
        ports = (*(f"{kinds[0]}:{port}" for port in ALL), f"{kinds[1]}:5353")
        self.start(NODE, sys.executable, "-c", LISTEN, *ports)
        self.steps = self.start_steps()

    def start(self, space: str, *argv: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", space, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    def start_steps(self, session: str = "") -> subprocess.Popen[str]:
        bin_ = self.folder / "bin"
        bin_.mkdir(exist_ok=True)
        units = "/etc/systemd/system"
        link = f"{units}/multi-user.target.wants/muster-firewall.service"
        tools = {
            "systemctl": f"""case $1 in
                enable) mkdir -p {units}/multi-user.target.wants
                    ln -sf {units}/muster-firewall.service {link};;
                disable) rm -f {link};;
                esac""",
            "systemd-run": f'for last; do :; done; echo "$last" > {self.folder}/undo',
        }
        for name, script in tools.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
            (bin_ / name).chmod(0o755)
        scratch = ("/run", "/etc/systemd", "/etc/muster", "/var/lib/muster")
        script = "; ".join(
            [
                f'export PATH={bin_}:$PATH SSH_CONNECTION="{session}"',
                *(f"mkdir -p {place}; mount -t tmpfs t {place}" for place in scratch),
                "mkdir -p /run/systemd/system; echo ready",
                f'exec "{sys.executable}" -c "$1" "$2"',
            ]
        )
        collections = str(ROOT / ".collections")
        argv = ("unshare", "-m", "sh", "-c", script, "sh", STEP, collections)
        return self.start(NODE, *argv)

    def step(self, name: str, **changed: Any) -> dict[str, Any]:
        params = {
            "deployment": "c",
            "state": "absent" if name == "withdraw" else "present",
            "peers": [AT[PEER]],
            "internal_sources": [],
            "api_sources": [],
            "api_ports": [str(API)],
            "also_allowed": [f"{NAMED}/tcp"],
            "ssh_ports": [SSH],
            "backend": self.backend,
            **changed,
        }
        assert self.steps.stdin
        assert self.steps.stdout
        self.steps.stdin.write(json.dumps([name, params]) + "\n")
        self.steps.stdin.flush()
        return json.loads(self.steps.stdout.readline())

    def in_place(self, script: str) -> str:
        """Run a script where the steps run, with their files."""
        place = ["nsenter", "-t", str(self.steps.pid), "-m", "-n", "sh", "-c", script]
        return sh(*place, check=False).stdout

    def undo(self) -> None:
        """What the timer does when the minute is over."""
        self.in_place((self.folder / "undo").read_text().strip())

    def asking(self, space: str, port: int, kind: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", ASK, NODE_AT[space], str(port), kind]
        whole = ["ip", "netns", "exec", space, *argv]
        return subprocess.Popen(whole, stdout=subprocess.PIPE, text=True)

    def reaches(self, space: str, port: int, kind: str = "SOCK_STREAM") -> bool:
        return self.asking(space, port, kind).communicate(timeout=30)[0] == "True\n"

    def seen(self, space: str) -> list[int]:
        """The ports of TCP that a namespace reaches, all asked at once."""
        asked = {port: self.asking(space, port, "SOCK_STREAM") for port in ALL}
        return [port for port, one in asked.items() if one.communicate(timeout=30)[0] == "True\n"]

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        for space in (NODE, PEER, STRANGER):
            sh("ip", "netns", "del", space, check=False)


@pytest.fixture(params=["nftables", "iptables"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    one = Machine.__new__(Machine)
    one.started = []
    try:
        sh("ip", "netns", "add", NODE)
        if request.param not in working(NODE):
            pytest.skip(f"{request.param} does not work here")
        sh("ip", "netns", "del", NODE)
        one.__init__(tmp_path, request.param)  # type: ignore[misc]
        yield one
    finally:
        one.end()


def test_from_trial_to_removal(machine: Machine) -> None:
    assert machine.seen(STRANGER) == ALL
    held = machine.start(STRANGER, sys.executable, "-c", HOLD, NODE_AT[STRANGER], str(ENGINE))

    said = machine.step("trial")
    assert "error" not in said
    assert any(f"{ENGINE}/tcp" in one and "python" in one for one in said["others"])
    assert any("5353/udp" in one for one in said["others"])
    assert not any(f"{port}/tcp" in one for one in said["others"] for port in (SSH, NAMED))
    assert machine.seen(STRANGER) == [SSH, NAMED]
    assert machine.seen(PEER) == ALL
    assert machine.reaches(PEER, 5353, "SOCK_DGRAM")
    assert not machine.reaches(STRANGER, 5353, "SOCK_DGRAM")
    # What the node asks is answered, and what was under way goes on.
    held.stdin.write("go\n")
    held.stdin.flush()
    assert held.stdout.readline() == "True\n"

    machine.undo()
    assert machine.seen(STRANGER) == ALL
    assert "has taken itself back" in machine.step("confirm")["error"]

    machine.step("trial")
    assert machine.step("confirm") == {"changed": True}
    assert machine.step("confirm") == {"changed": False}
    assert machine.seen(STRANGER) == [SSH, NAMED]
    # What was dropped meanwhile has been counted, which is no difference.
    assert machine.step("look")["why"] == []

    # Another source of the API, on trial over what holds; the way back leads to that.
    api = {"api_sources": ["10.99.2.0/24"]}
    assert "/var/lib/muster/firewall.json" in machine.step("trial", **api)["why"]
    assert machine.seen(STRANGER) == [SSH, API, NAMED]
    machine.undo()
    assert machine.seen(STRANGER) == [SSH, NAMED]
    machine.step("trial", **api)
    assert machine.step("confirm", **api) == {"changed": True}
    assert machine.seen(STRANGER) == [SSH, API, NAMED]

    machine.step("withdraw")
    assert machine.seen(STRANGER) == ALL
    assert machine.step("withdraw")["why"] == []
    left = "nft list ruleset; iptables -S; find /etc/muster /var/lib/muster /run/muster -type f"
    assert "muster" not in machine.in_place(left)


def test_it_is_confirmed_over_another_connection_alone(machine: Machine) -> None:
    machine.steps = machine.start_steps(f"{AT[PEER]} 50000 {NODE_AT[PEER]} {SSH}")
    assert "error" not in machine.step("trial", ssh_ports=[])
    assert "over a new connection alone" in machine.step("confirm", ssh_ports=[])["error"]
    # The port that the run came in by is left alone without being named.
    assert machine.seen(STRANGER) == [SSH, NAMED]
    machine.undo()
    assert machine.seen(STRANGER) == ALL


def test_either_the_timer_or_the_confirmation_has_the_trial(machine: Machine) -> None:
    machine.step("trial")
    assert machine.step("cut off") == {"cut off": True}
    # The timer was about to fire when it was stopped.
    machine.undo()
    assert machine.seen(STRANGER) == [SSH, NAMED]
    assert machine.step("confirm") == {"changed": True}
    machine.undo()
    assert machine.seen(STRANGER) == [SSH, NAMED]
    assert machine.step("look")["why"] == []


@pytest.mark.parametrize("cut", ["trial", "cut off"])
def test_what_was_never_confirmed_goes_with_its_deployment(machine: Machine, cut: str) -> None:
    machine.step("trial")
    if cut == "cut off":
        machine.step(cut)
    assert machine.step("abandon", deployment="other") == {"changed": False}
    assert machine.step("abandon") == {"changed": True}
    assert machine.seen(STRANGER) == ALL
    assert machine.step("abandon") == {"changed": False}
    left = "nft list ruleset; iptables -S; find /etc/muster /var/lib/muster /run/muster -type f"
    assert "muster" not in machine.in_place(left)


def test_a_second_run_begins_a_trial_anew(machine: Machine) -> None:
    machine.step("trial")
    machine.step("cut off")
    machine.step("trial")
    machine.undo()
    assert machine.seen(STRANGER) == ALL
    machine.step("trial")
    machine.step("trial")
    assert machine.step("confirm") == {"changed": True}
    assert machine.seen(STRANGER) == [SSH, NAMED]


def test_rules_that_somebody_flushes_come_back_with_the_next_run(machine: Machine) -> None:
    machine.step("trial")
    machine.step("confirm")
    machine.in_place("nft flush ruleset; iptables -F; iptables -X")
    assert machine.seen(STRANGER) == ALL
    assert machine.step("trial")["why"] == ["the rules in the kernel"]
    assert machine.step("confirm") == {"changed": True}
    assert machine.seen(STRANGER) == [SSH, NAMED]


def test_without_a_way_back_nothing_is_closed(machine: Machine) -> None:
    (machine.folder / "bin" / "systemd-run").write_text("#!/bin/sh\necho no bus >&2; exit 1\n")
    assert "no bus" in machine.step("trial")["error"]
    assert machine.seen(STRANGER) == ALL
    assert machine.in_place("find /run/muster -type f") == ""


def test_rules_of_a_firewalld_that_has_gone_keep_nothing_from_being_confirmed(
    machine: Machine,
) -> None:
    gone = machine.folder / "bin" / "firewall-cmd"
    gone.write_text("#!/bin/sh\necho FirewallD is not running >&2; exit 252\n")
    gone.chmod(0o755)
    want = firewall.Want([AT[PEER] + "/32"], [], [str(API)], [f"{NAMED}/tcp"])
    rich = firewall.rich_rules(firewall.policy_of([want], [SSH]))
    kept = firewall.Kept({"c": want}, "firewalld", (SSH,), "", {"public": rich})
    state = machine.folder / "firewall.json"
    state.write_text(firewall.dump_kept(kept))
    machine.in_place(f"cp {state} {firewall.STATE_PATH}")
    assert "error" not in machine.step("trial")
    assert machine.step("confirm") == {"changed": True}
    assert machine.step("look")["why"] == []
    assert machine.seen(STRANGER) == [SSH, NAMED]
