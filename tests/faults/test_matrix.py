"""A matrix of faults. Preflight must name exactly what was broken, and change nothing.

Each row of MATRIX is one run: a fault alone, or several in different places, each with its own
findings. With `--alone` each fault has a run of its own, which takes a quarter of an hour.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.host.checks import LEAST_OPEN_FILES

from lab import machine

from .conftest import (
    ADDRESSES,
    FOLLOWER,
    GROUP,
    HEAD,
    NIC,
    NODES,
    PARENT_NIC,
    TOOLS,
    WEIGHTS,
    Finding,
    Preflight,
    inject,
    undo,
    units,
)

CAPTURES = Path(__file__).resolve().parents[1] / "unit" / "captures"

# What prepare will do on a bare node, and what a machine that may not raise limits hands down to
# the lab's nodes; no fault.
BASELINE = frozenset(
    Finding(node, "port-reserved", "pending", "ports 60000-60031") for node in NODES
) | frozenset(
    Finding(node, "host-limits", "warning", "open files of docker.service")
    for node in NODES
    if not machine.may_raise_limits() and machine.open_files_limit() < LEAST_OPEN_FILES
)


@dataclass(frozen=True)
class Fault:
    """What breaks on a node, and which checks must say so, and where."""

    name: str
    node: str
    finds: tuple[Finding, ...]
    inject: str = ""
    undo: str = ""
    # Variables of the inventory that say what is not so, by node or C(all).
    sets: dict[str, Any] = field(default_factory=dict)


# As a run of another controller leaves it on a node, with a lease that does not end here.
OTHER_RUN = {
    "id": "elsewhere:1",
    "who": "ann on elsewhere",
    "doing": "site.yml",
    "place": "elsewhere",
    "pid": 1,
    "started": "1",
    "since": "2026-11-30 01:00:00Z",
    "seen": "2026-11-30 01:00:00Z",
    "call": 0,
    "call_started": "",
    "at": 0,
    "expires": 1e9,
}
LOCK = f"/run/muster/{GROUP}.run.json"


def failed(node: str, check: str, subject: str) -> Finding:
    return Finding(node, check, "failed", subject)


def warned(node: str, check: str, subject: str) -> Finding:
    return Finding(node, check, "warning", subject)


def both(check: str, subject: str) -> tuple[Finding, ...]:
    """Of two nodes nothing says which one is right."""
    return tuple(failed(node, check, subject) for node in NODES)


def device_fault(name: str, node: str, values: dict[str, Any], *finds: Finding) -> Fault:
    """A fault in the state of the emulated devices, which every undo restores."""
    lines = [
        f"{TOOLS} set {shlex.quote(path)} {shlex.quote(json.dumps(value))}"
        for path, value in values.items()
    ]
    # What sets a device up writes the driver's file, too.
    lines.append(f"test -d /etc/hccn.conf || {TOOLS} hccn-conf > /etc/hccn.conf")
    return Fault(name, node, finds, "\n".join(lines))


def tool_fault(name: str, node: str, tool: str, fault: dict[str, Any], *finds: Finding) -> Fault:
    return device_fault(name, node, {f"faults.{tool}": fault}, *finds)


def listener(port: int) -> str:
    """A process of the past, which has nothing to do with Muster's units."""
    program = f"import socket, time; s = socket.create_server(('0.0.0.0', {port})); time.sleep(600)"
    return f"systemd-run --quiet --collect --unit stale-{port} python3 -c {shlex.quote(program)}"


def held(name: str, node: str, port: int) -> Fault:
    finding = failed(node, "port-free", f"port {port}")
    return Fault(name, node, (finding,), listener(port), f"systemctl stop stale-{port}")


def dropped(name: str, node: str, peer: str, port: int) -> Fault:
    """A firewall on the node drops what comes in for a port; its peer feels it."""
    rule = f"INPUT -d {ADDRESSES[node]} -p tcp --dport {port} -j DROP"
    finding = failed(peer, "port-reachable", f"{ADDRESSES[node]} port {port}")
    return Fault(name, node, (finding,), f"iptables -I {rule}", f"iptables -D {rule}")


def weights_fault(name: str, node: str, script: str, *finds: Finding) -> Fault:
    """A fault in the weights, which every undo restores."""
    return Fault(name, node, finds, f"cd {WEIGHTS}\n{script}")


def moved(name: str, node: str, path: str, *finds: Finding, instead: str = "") -> Fault:
    """A path that is not there, or is something else."""
    return Fault(
        name,
        node,
        finds,
        f"mv {path} {path}.away\n{instead}",
        f"rm -rf {path}\nmv {path}.away {path}",
    )


GARBAGE = {"output": "Segmentation fault (core dumped)\n", "rc": 139}
# Of older tools: other columns' widths, other cards, and another order of buses. That its driver is
# another one than the other node's is a fault of its own.
OLDER_TABLE = (
    (CAPTURES / "npu_smi_info_910B4_x8_25.2.0_idle.txt").read_text().replace("25.2.0", "25.5.0")
)
KEY = "/etc/fault-api-key"
AHEAD = "/var/lib/faults/ahead"
AHEAD_PYTHON = f"""
mkdir {AHEAD}
cat > {AHEAD}/sitecustomize.py <<'EOF'
import time
real = time.time
time.time = lambda: real() + 90
EOF
cat > {AHEAD}/python3 <<'EOF'
#!/bin/sh
PYTHONPATH={AHEAD} exec /usr/bin/python3 "$@"
EOF
chmod 755 {AHEAD}/python3
"""

MATRIX: list[list[Fault]] = [
    # --- other runs -------------------------------------------------------------------------
    # Alone: no port is listened on there meanwhile.
    [
        Fault(
            "another controller's run holds a node",
            FOLLOWER,
            (warned(FOLLOWER, "node-run", GROUP),),
            f"mkdir -p /run/muster; echo {shlex.quote(json.dumps(OTHER_RUN))} > {LOCK}",
            f"rm {LOCK}",
        ),
    ],
    # --- ports ------------------------------------------------------------------------------
    [
        held("a stale engine holds the API's port", HEAD, 20004),
        dropped("a firewall drops one HCCL port", FOLLOWER, HEAD, 60007),
        device_fault(
            "an NPU is in alarm",
            HEAD,
            {"devices.3.health": "Alarm", "devices.3.error_codes": ["A4025021"]},
            failed(HEAD, "npu-health", "device 3"),
        ),
        device_fault(
            "an NPU's link is down",
            FOLLOWER,
            {"devices.5.link": "DOWN"},
            failed(FOLLOWER, "npu-link", "device 5"),
        ),
    ],
    [
        held("a stale engine holds the RPC port", HEAD, 2347),
        held("a process holds HCCL's base port", FOLLOWER, 60000),
        device_fault(
            "an NPU warns",
            HEAD,
            {"devices.1.health": "Warning"},
            failed(HEAD, "npu-health", "device 1"),
        ),
        device_fault(
            "an NPU is critical",
            FOLLOWER,
            {"devices.2.health": "Critical"},
            failed(FOLLOWER, "npu-health", "device 2"),
        ),
    ],
    [
        dropped("a firewall drops the RPC port", HEAD, FOLLOWER, 2347),
        device_fault(
            "an NPU's health is unknown",
            HEAD,
            {"devices.7.health": "UNKNOWN"},
            failed(HEAD, "npu-health", "device 7"),
        ),
        device_fault(
            "another's process holds an NPU",
            FOLLOWER,
            {"devices.0.processes": [{"pid": 4711, "name": "python3", "memory_mb": 130}]},
            failed(FOLLOWER, "npu-processes", "device 0"),
        ),
        device_fault(
            "an NPU's memory is held by nobody listed",
            FOLLOWER,
            {"devices.4.hbm_used_mb": 61000},
            failed(FOLLOWER, "npu-memory", "device 4"),
        ),
        Fault(
            "the shared memory is small",
            HEAD,
            (failed(HEAD, "host-shm", "/dev/shm"),),
            "mount -o remount,size=64m /dev/shm",
            "mount -o remount,size=2g /dev/shm",
        ),
    ],
    # --- NIC --------------------------------------------------------------------------------
    [
        Fault(
            "the NIC is down",
            FOLLOWER,
            (failed(FOLLOWER, "nic-up", NIC),),
            f"ip link set {NIC} down",
            f"ip link set {NIC} up",
        ),
        # The NPUs keep what they were told until the next boot.
        Fault(
            "hccn.conf is emptied",
            HEAD,
            (warned(HEAD, "npu-hccn-conf", "/etc/hccn.conf"),),
            ": > /etc/hccn.conf",
        ),
    ],
    [
        Fault(
            "the NIC has another name",
            HEAD,
            (failed(HEAD, "nic-exists", NIC),),
            f"ip link set {NIC} down\nip link set {NIC} name eth9\nip link set eth9 up",
            f"ip link set eth9 down\nip link set eth9 name {NIC}\nip link set {NIC} up",
        ),
        moved(
            "npu-smi is missing",
            FOLLOWER,
            "/usr/local/bin/npu-smi",
            failed(FOLLOWER, "npu-tool", "npu-smi"),
        ),
    ],
    [
        Fault(
            "the NIC has another address",
            FOLLOWER,
            (failed(FOLLOWER, "nic-address", NIC),),
            f"ip addr flush dev {NIC}\nip addr add 198.19.68.99/24 dev {NIC}",
            f"ip addr flush dev {NIC}\nip addr add {ADDRESSES[FOLLOWER]}/24 dev {NIC}",
        )
    ],
    [
        Fault(
            "one NIC has an MTU of 9000, the other of 1500",
            HEAD,
            both("cluster-mtu", "MTU of the cluster NIC"),
            f"ip link set {PARENT_NIC} mtu 9000\nip link set {NIC} mtu 9000",
            f"ip link set {NIC} mtu 1500\nip link set {PARENT_NIC} mtu 1500",
        ),
        device_fault(
            "an NPU's network is unhealthy",
            HEAD,
            {"devices.2.net_health": "Socket fail"},
            failed(HEAD, "npu-net-health", "device 2"),
        ),
        device_fault(
            "TLS is on at one device alone",
            FOLLOWER,
            {"devices.6.tls": 1},
            failed(FOLLOWER, "npu-tls", "device 6"),
        ),
        device_fault(
            "an NPU has no gateway",
            HEAD,
            {"devices.4.gateway": None},
            warned(HEAD, "npu-gateway", "device 4"),
        ),
        device_fault(
            "an NPU has no detect address",
            FOLLOWER,
            {"devices.1.netdetect": None},
            warned(FOLLOWER, "npu-detect-address", "device 1"),
        ),
        Fault(
            "another NIC's name begins alike",
            FOLLOWER,
            (warned(FOLLOWER, "nic-prefix", NIC),),
            f"ip link add link {NIC} name {NIC}.7 type macvlan\n"
            f"ip addr add 198.19.69.1/24 dev {NIC}.7",
            f"ip link del {NIC}.7",
        ),
    ],
    # --- NPUs -------------------------------------------------------------------------------
    [
        device_fault(
            "npu-smi has lost an NPU",
            HEAD,
            {"devices.6.present": False},
            failed(HEAD, "npu-count", "device 6"),
        ),
        device_fault(
            "an NPU does not answer pings",
            HEAD,
            {"unreachable": ["10.20.1.12"]},
            failed(HEAD, "npu-ping", "device 2"),
        ),
    ],
    [
        moved(
            "an NPU has no device node",
            FOLLOWER,
            "/dev/davinci5",
            failed(FOLLOWER, "device-node", "/dev/davinci5"),
        ),
        Fault(
            "a device may not be opened",
            FOLLOWER,
            (failed(FOLLOWER, "device-node", "/dev/davinci3"),),
            "mount --bind /dev/davinci3 /dev/davinci3\nmount -o remount,bind,nodev /dev/davinci3",
            "umount /dev/davinci3",
        ),
        moved(
            "a plain file stands for a device",
            HEAD,
            "/dev/hisi_hdc",
            failed(HEAD, "device-node", "/dev/hisi_hdc"),
            instead="touch /dev/hisi_hdc",
        ),
        device_fault(
            "TLS is on at all devices of one node",
            HEAD,
            {"devices.*.tls": 1},
            *both("cluster-npu-tls", "TLS switch of the NPUs"),
        ),
        Fault(
            "hccn.conf is stale",
            HEAD,
            (warned(HEAD, "npu-hccn-conf", "device 0"),),
            "sed -i 's/^address_0=.*/address_0=10.99.0.1/' /etc/hccn.conf",
        ),
        moved(
            "a directory stands for hccn.conf",
            FOLLOWER,
            "/etc/hccn.conf",
            failed(FOLLOWER, "driver-mount", "/etc/hccn.conf"),
            warned(FOLLOWER, "npu-hccn-conf", "/etc/hccn.conf"),
            instead="mkdir /etc/hccn.conf",
        ),
    ],
    [
        device_fault(
            "an NPU's address is another node's",
            FOLLOWER,
            {"devices.0.address": "10.20.0.10"},
            *both("cluster-npu-address", "10.20.0.10"),
        ),
        device_fault(
            "memory errors",
            HEAD,
            {"devices.2.ecc_double_bit_errors": 1},
            failed(HEAD, "npu-ecc", "device 2"),
        ),
        device_fault(
            "pages isolated for memory errors",
            FOLLOWER,
            {"devices.6.ecc_isolated_pages": 2},
            warned(FOLLOWER, "npu-ecc", "device 6"),
        ),
        device_fault(
            "another driver on one node",
            HEAD,
            {"driver_version": "25.2.0"},
            *both("cluster-driver-version", "driver version"),
        ),
        device_fault(
            "other firmware on one device",
            FOLLOWER,
            {"devices.4.firmware_version": "7.5.0.1.129"},
            failed(FOLLOWER, "npu-firmware", "device 4"),
        ),
    ],
    [
        device_fault(
            "the firmware does not fit the driver",
            HEAD,
            {"firmware_compatibility": "NOK"},
            failed(HEAD, "npu-firmware", "devices 0-7"),
        ),
        device_fault(
            "the driver's installer did not end",
            FOLLOWER,
            {"driver_complete": False},
            warned(FOLLOWER, "npu-driver-install", "driver"),
        ),
        device_fault(
            "a back-to-back cable",
            HEAD,
            {"devices.0.lldp": "npu"},
            failed(HEAD, "npu-neighbour", "device 0"),
        ),
        device_fault(
            "an NPU is joined over PCIe",
            FOLLOWER,
            {"devices.3.fabric": "SYS"},
            failed(FOLLOWER, "npu-topology", "devices 0-7"),
        ),
        moved(
            "the driver's libraries are gone",
            HEAD,
            "/usr/local/dcmi",
            failed(HEAD, "driver-mount", "/usr/local/dcmi"),
            instead="mkdir /usr/local/dcmi",
        ),
    ],
    # --- tools ------------------------------------------------------------------------------
    [
        tool_fault(
            "npu-smi prints garbage", HEAD, "npu-smi", GARBAGE, failed(HEAD, "npu-tool", "npu-smi")
        ),
        tool_fault(
            "npu-smi does not reach its driver",
            FOLLOWER,
            "npu-smi",
            {"output": "dcmi module initialize failed. ret is -8005\n", "rc": 255},
            failed(FOLLOWER, "npu-tool", "npu-smi"),
        ),
    ],
    [
        tool_fault(
            "npu-smi prints another generation's table",
            FOLLOWER,
            "npu-smi info",
            {"output": OLDER_TABLE},
            # It is understood, up to the process that it shows; of 32 GB even an idle device has
            # less free than the engine takes.
            failed(FOLLOWER, "npu-processes", "device 0"),
            *(
                failed(FOLLOWER, "npu-memory", subject)
                for subject in (
                    "device 0",
                    "devices 1, 4",
                    "devices 2, 5",
                    "device 3",
                    "devices 6-7",
                )
            ),
        ),
    ],
    [
        Fault(
            "npu-smi's table is cut off",
            HEAD,
            (failed(HEAD, "npu-tool", "npu-smi"),),
            "table=$(npu-smi info | head -n 14 | python3 -c "
            "'import json, sys; print(json.dumps({\"output\": sys.stdin.read()}))')\n"
            f"{TOOLS} set 'faults.npu-smi info' \"$table\"",
        ),
        moved(
            "hccn_tool is missing",
            FOLLOWER,
            "/usr/local/Ascend/driver/tools/hccn_tool",
            failed(FOLLOWER, "npu-fabric-tool", "hccn_tool"),
        ),
    ],
    # Each waits for the module's time-out once.
    [
        tool_fault(
            "npu-smi hangs", HEAD, "npu-smi", {"hang": True}, failed(HEAD, "npu-tool", "npu-smi")
        ),
        tool_fault(
            "hccn_tool is busy for ever",
            FOLLOWER,
            "hccn_tool lldp",
            {"output": "hccn_tool is busy, please try again.\n", "rc": 1},
            failed(FOLLOWER, "npu-fabric-tool", "hccn_tool"),
        ),
    ],
    [
        tool_fault(
            "hccn_tool hangs",
            HEAD,
            "hccn_tool lldp",
            {"hang": True},
            failed(HEAD, "npu-fabric-tool", "device 0"),
        ),
        Fault(
            "Docker hangs",
            FOLLOWER,
            (failed(FOLLOWER, "container-engine", "Docker"),),
            "kill -STOP $(pidof dockerd)",
            "kill -CONT $(pidof dockerd)",
        ),
        tool_fault(
            "hccn_tool hangs whatever it is asked",
            FOLLOWER,
            "hccn_tool",
            {"hang": True},
            failed(FOLLOWER, "npu-fabric-tool", "hccn_tool"),
        ),
    ],
    # --- weights, disks, Docker and the rest of the host -------------------------------------
    [
        weights_fault(
            "a shard is cut off",
            HEAD,
            "truncate -s 100000 model-00002-of-00002.safetensors",
            failed(HEAD, "weights-complete", WEIGHTS),
        ),
        weights_fault(
            "the tokenizer is missing",
            FOLLOWER,
            "rm tokenizer.json",
            failed(FOLLOWER, "weights-tokenizer", WEIGHTS),
        ),
        Fault(
            "Docker's configuration is no JSON",
            HEAD,
            (failed(HEAD, "container-engine", "Docker"),),
            "cp -a /etc/docker/daemon.json /var/lib/faults/\necho '{' > /etc/docker/daemon.json",
            "cp -a /var/lib/faults/daemon.json /etc/docker/daemon.json",
        ),
        Fault(
            "the disk of images is full",
            FOLLOWER,
            (warned(FOLLOWER, "host-disk", "/var/lib/docker"),),
            "mount -t tmpfs -o size=1m tmpfs /var/lib/docker",
            "umount /var/lib/docker",
        ),
        Fault(
            "a folder that prepare writes to is mounted read-only",
            HEAD,
            (failed(HEAD, "host-writable", "/etc/sysctl.d"),),
            "mount --bind /etc/sysctl.d /etc/sysctl.d\nmount -o remount,bind,ro /etc/sysctl.d",
            "umount /etc/sysctl.d",
        ),
        Fault(
            "the hostname does not resolve",
            HEAD,
            (warned(HEAD, "host-name", "hostname nowhere"),),
            "hostname nowhere",
            f"hostname {HEAD}",
        ),
    ],
    [
        weights_fault(
            "config.json is no JSON",
            HEAD,
            "echo '{' > config.json",
            failed(HEAD, "weights-config", f"{WEIGHTS}/config.json"),
        ),
        weights_fault(
            "the weights are not there",
            FOLLOWER,
            f"cd /; rm -rf {WEIGHTS}",
            failed(FOLLOWER, "weights-directory", WEIGHTS),
        ),
        Fault(
            "the hostname is a loopback's",
            FOLLOWER,
            (warned(FOLLOWER, "host-name", f"hostname {FOLLOWER}"),),
            "cp /etc/hosts /var/lib/faults/hosts\n"
            f"printf '127.0.0.1 localhost {FOLLOWER}\\n' > /etc/hosts",
            "cat /var/lib/faults/hosts > /etc/hosts",
        ),
        Fault(
            "Docker's command is missing",
            HEAD,
            (failed(HEAD, "container-engine", "Docker"),),
            "mv /usr/bin/docker /var/lib/faults/",
            "mv /var/lib/faults/docker /usr/bin/",
        ),
        Fault(
            "the key's file is missing",
            HEAD,
            (failed(HEAD, "api-key-file", KEY),),
            sets={"all": {"muster_api_key_file": KEY}},
        ),
    ],
    [
        Fault(
            "the key's file is empty",
            HEAD,
            (failed(HEAD, "api-key-file", KEY),),
            f"install -m 600 /dev/null {KEY}",
            f"rm {KEY}",
            sets={"all": {"muster_api_key_file": KEY}},
        ),
        # Nodes of the lab share the machine's clock, so it is Python that is told another time.
        Fault(
            "a clock is 90 s off",
            FOLLOWER,
            both("cluster-clock", "clock"),
            AHEAD_PYTHON,
            f"rm -r {AHEAD}",
            sets={FOLLOWER: {"ansible_python_interpreter": f"{AHEAD}/python3"}},
        ),
    ],
    [
        weights_fault(
            "other weights on one node",
            HEAD,
            "sed -i 's/{/{ /' model.safetensors.index.json",
            *both("cluster-weights", "index of the weights"),
        ),
        weights_fault(
            "another model is at the path",
            FOLLOWER,
            "sed -i s/MiniMaxM2ForCausalLM/LlamaForCausalLM/ config.json",
            failed(FOLLOWER, "weights-architecture", WEIGHTS),
        ),
        Fault(
            "the whole world reads the key",
            HEAD,
            (warned(HEAD, "api-key-file", KEY),),
            f"echo secret > {KEY}\nchmod 644 {KEY}",
            f"rm {KEY}",
            sets={"all": {"muster_api_key_file": KEY}},
        ),
        Fault(
            "Docker is masked",
            FOLLOWER,
            (failed(FOLLOWER, "container-engine", "Docker"),),
            "systemctl mask --runtime --now docker.service docker.socket",
            "systemctl unmask --runtime docker.service docker.socket\n"
            "systemctl start docker.socket docker.service",
        ),
    ],
    # --- reach ------------------------------------------------------------------------------
    [
        Fault(
            "a node does not answer",
            FOLLOWER,
            (failed(FOLLOWER, "node-reachable", FOLLOWER),),
            sets={FOLLOWER: {"ansible_port": 2}},
        ),
        Fault(
            "a node has no Python",
            HEAD,
            (failed(HEAD, "node-python", "python"),),
            sets={HEAD: {"ansible_python_interpreter": "/usr/bin/python2.6"}},
        ),
    ],
]

# What the plan finds before any node is asked.
PLAN_FAULTS = [
    ("a variable is misspelt", {"all": {"muster_interfaces": NIC}}, "muster_interface"),
    (
        "the recipe is not there",
        {"all": {"muster_recipe": "minimax-m2.5/vllm-ascend-a4"}},
        "minimax-m2.5/vllm-ascend-a",
    ),
    ("no NIC is named", {"all": {"muster_interface": None}}, "muster_interface"),
    (
        "two nodes have one address",
        {FOLLOWER: {"muster_address": ADDRESSES[HEAD]}},
        ADDRESSES[HEAD],
    ),
]


@pytest.fixture
def broken(request: pytest.FixtureRequest, pair: dict[str, str]) -> Iterator[list[Fault]]:
    """The faults of one run, injected, and undone again."""
    faults: list[Fault] = request.param
    touched = sorted({fault.node for fault in faults if fault.inject})
    try:
        for node in touched:
            inject(node, "\n".join(one.inject for one in faults if one.node == node))
        yield faults
    finally:
        for node in touched:
            undo(node, "\n".join(one.undo for one in reversed(faults) if one.node == node))


def run_name(faults: list[Fault]) -> str:
    return "; ".join(fault.name for fault in faults)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broken" in metafunc.fixturenames:
        alone = [[fault] for faults in MATRIX for fault in faults]
        runs = alone if metafunc.config.getoption("alone") else MATRIX
        metafunc.parametrize("broken", runs, ids=run_name, indirect=True)


def test_each_fault_is_named_by_its_check_alone(
    broken: list[Fault], preflight: Callable[..., Preflight]
) -> None:
    sets: dict[str, Any] = {}
    for fault in broken:
        sets |= fault.sets
    before = {node: units(node) for node in NODES}
    seen = preflight(sets)
    expected = frozenset(finding for fault in broken for finding in fault.finds)
    assert seen.findings - BASELINE == expected
    assert (seen.outcome.rc != 0) == any(one.status == "failed" for one in expected)
    assert seen.outcome.changed() == {}
    assert {node: units(node) for node in NODES} == before


@pytest.mark.parametrize(
    ("sets", "says"),
    [pytest.param(sets, says, id=name) for name, sets, says in PLAN_FAULTS],
)
def test_the_plan_finds_it_before_any_node_is_asked(
    sets: dict[str, Any], says: str, preflight: Callable[..., Preflight]
) -> None:
    seen = preflight(sets)
    assert seen.outcome.rc != 0
    assert says in str(seen.outcome.task_results("Make the plan"))
    assert seen.checks == []
    plays = {event["event_data"].get("play") for event in seen.outcome.events}
    assert plays - {None} == {"Plan"}


def test_the_pair_is_as_it_was(preflight: Callable[..., Preflight]) -> None:
    seen = preflight({})
    assert seen.findings == BASELINE
    assert seen.outcome.rc == 0
