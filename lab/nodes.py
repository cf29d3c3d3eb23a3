# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes: systemd containers that look like hosts with accelerators, and their network."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lab import machine, network, podman
from lab.emulators import amd_tools, ascend_tools, device_tools, nvidia_tools
from lab.model import build as model
from lab.network import INTERFACE, NETWORK, PREFIX
from lab.paths import LAB, ROOT, digest, give_to_caller, key_file
from lab.podman import LABEL
from lab.shell import LabError, run, say, step

FIRST_NODE = 10  # a2-node0 has PREFIX.10
FIRST_EXTRA = 100
SHM = "2g"

TOOLS_HOME = "usr/local/lib/muster-lab"
MODELS_HOME = "opt/muster-lab/models"
SHARED_MARK = "var/lib/muster-lab/shared.digest"
FABRIC_MANAGER = "nvidia-fabricmanager.service"


@dataclass(frozen=True)
class Family:
    """What accelerators a node pretends to have.

    `nodes` are the device nodes by name, `{}` being a device's number, with the minor number, or
    the first one. `tools` are the places of the tools, which are emulators of the same name.
    """

    nodes: dict[str, int]
    tools: tuple[str, ...]
    owner: str = "root"
    mode: str = "0666"
    unit: str | None = None


ASCEND = Family(
    nodes={"davinci{}": 0, "davinci_manager": 100, "devmm_svm": 101, "hisi_hdc": 102},
    tools=("usr/local/bin/npu-smi", "usr/local/Ascend/driver/tools/hccn_tool"),
    owner="HwHiAiUser",
    mode="0660",
)
NVIDIA = Family(
    nodes={"nvidia{}": 0, "nvidiactl": 255, "nvidia-uvm": 254},
    tools=("usr/bin/nvidia-smi", "usr/bin/nvidia-container-runtime-hook"),
)
AMD = Family(
    nodes={"kfd": 200, "dri/card{}": 0, "dri/renderD{}": 128},
    tools=("usr/bin/amd-smi", "usr/bin/rocm-smi"),
)
# The families of each emulator, and a row for one that differs from its vendor's others.
FAMILIES = {
    **dict.fromkeys(ascend_tools.FAMILIES, ASCEND),
    **dict.fromkeys(nvidia_tools.FAMILIES, NVIDIA),
    **dict.fromkeys(amd_tools.FAMILIES, AMD),
    "nvidia-hgx-b200": replace(
        NVIDIA, tools=(*NVIDIA.tools, "usr/bin/nv-fabricmanager"), unit=FABRIC_MANAGER
    ),
}


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    devices: int = device_tools.device_count("a2")
    family: str = "a2"

    @property
    def container(self) -> str:
        return f"{NETWORK}-{self.name}"


def cluster_nodes(count: int) -> list[Node]:
    return [Node(f"a2-node{n}", f"{PREFIX}.{FIRST_NODE + n}") for n in range(count)]


# A service of which the lab needs no more than that it is active.
STANDS_STILL = """\
[Unit]
Description=Stands in for NVIDIA's fabric manager (lab)

[Service]
ExecStart=/usr/bin/sleep infinity

[Install]
WantedBy=multi-user.target
"""


# --- what makes one node differ from the image -------------------------------------------------


def device_nodes(family: Family, devices: int, major: int) -> str:
    """tmpfiles.d lines: /dev is new after each boot of the node."""
    minors: dict[str, int] = {}
    for name, first in family.nodes.items():
        if "{}" not in name:
            minors[name] = first
            continue
        # Render nodes are numbered from 128 on, which is their minor number as well.
        minors |= {name.format(first + n): first + n for n in range(devices)}
    lines = [
        f"c /dev/{name} {family.mode} {family.owner} {family.owner} - {major}:{minor}"
        for name, minor in minors.items()
    ]
    return "\n".join(["# Lab: device nodes without a device behind them.", *lines, ""])


def free_major(proc_devices: str) -> int:
    """A character major of the range for local use that no driver here has taken."""
    characters = proc_devices.split("Block devices:")[0]
    taken = {int(line.split()[0]) for line in characters.splitlines() if line[:3].strip().isdigit()}
    for major in range(254, 239, -1):
        if major not in taken:
            return major
    raise LabError("every character device major from 240 to 254 is taken on this machine")


def docker_daemon(*, may_raise_limits: bool, cgroup_v2: bool, open_files: int) -> dict[str, Any]:
    """What nested Docker must be told on a restricted machine; empty on an ordinary one."""
    config: dict[str, Any] = {}
    if not cgroup_v2:
        config["default-cgroupns-mode"] = "private"
    if not may_raise_limits:
        config["default-ulimits"] = {
            "nofile": {"Name": "nofile", "Soft": open_files, "Hard": open_files}
        }
    return config


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int = 0o644


def seed_files(node: Node) -> dict[str, File]:
    """What a node has from its creation on, by path."""
    daemon = docker_daemon(
        may_raise_limits=machine.may_raise_limits(),
        cgroup_v2=machine.has_cgroup_v2(),
        open_files=machine.open_files_limit(),
    )
    major = free_major(Path("/proc/devices").read_text())
    number = int(node.address.rsplit(".", 1)[1]) - FIRST_NODE
    family = FAMILIES[node.family]
    state = device_tools.make_state(node.family, node.devices, number)
    files = {
        "root/.ssh/authorized_keys": File(key_file().with_suffix(".pub").read_bytes(), 0o600),
        "etc/tmpfiles.d/muster-lab.conf": File(device_nodes(family, node.devices, major).encode()),
        "var/lib/muster-lab/state.json": File(json.dumps(state, indent=1).encode()),
    }
    if node.family in ascend_tools.FAMILIES:
        files["etc/hccn.conf"] = File(ascend_tools.hccn_conf(state).encode())
    if family.unit:
        files[f"etc/systemd/system/{family.unit}"] = File(STANDS_STILL.encode())
    if daemon:
        files["etc/docker/daemon.json"] = File(json.dumps(daemon, indent=2).encode() + b"\n")
    return files


def links(node: Node) -> dict[str, str]:
    """The node's own tools where their installers put them, and its unit enabled."""
    family = FAMILIES[node.family]
    found = {path: f"/{TOOLS_HOME}/{Path(path).name}" for path in family.tools}
    if family.unit:
        wanted = f"etc/systemd/system/multi-user.target.wants/{family.unit}"
        found[wanted] = f"/etc/systemd/system/{family.unit}"
    return found


def shared_files() -> dict[str, File]:
    """Emulators and model: `up` renews them when they differ, whatever state a test has set."""
    files = {
        f"{TOOLS_HOME}/{file.name}": File(file.read_bytes(), 0o755)
        for file in sorted((LAB / "emulators").iterdir())
        if file.is_file() and file.suffix != ".md"
    }
    folder = model.ensure()
    for file in sorted(folder.iterdir()):
        files[f"{MODELS_HOME}/{folder.name}/{file.name}"] = File(file.read_bytes())
    files[SHARED_MARK] = File(digest(*(f"{k} {v}" for k, v in sorted(files.items()))).encode())
    return files


def renew_shared_files(node: Node) -> None:
    files = shared_files()
    now = podman.podman("exec", node.container, "cat", f"/{SHARED_MARK}", check=False)
    if now.encode() != files[SHARED_MARK].content:
        unpack = ["exec", "-i", node.container, "tar", "-C", "/", "-x"]
        podman.podman(*unpack, stdin=tar_of(files, links(node)))


def tar_of(files: dict[str, File], links: dict[str, str]) -> bytes:
    """An archive for `podman cp`, with the folders on the way in their usual modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders = {parent for path in (*files, *links) for parent in Path(path).parents[:-1]}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(str(folder))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o700 if folder.parts[0] == "root" else 0o755
            entry.mtime = int(time.time())
            archive.addfile(entry)
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            archive.addfile(entry, io.BytesIO(file.content))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


# --- key ---------------------------------------------------------------------


def ensure_key() -> None:
    key = key_file()
    if not key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "muster-lab", "-f", str(key)])
        for file in (key, key.with_suffix(".pub")):
            give_to_caller(file)


# --- one node -----------------------------------------------------------------------------------


def ssh_answers(address: str, timeout: float = 1.0) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_for_ssh(nodes: list[Node], timeout: float = 90) -> None:
    deadline = time.monotonic() + timeout
    waiting = list(nodes)
    while waiting := [node for node in waiting if not ssh_answers(node.address)]:
        if time.monotonic() > deadline:
            names = ", ".join(node.name for node in waiting)
            raise LabError(
                f"no SSH answer from {names} in {timeout:.0f} s; see what systemd says there:\n"
                f"    podman exec {waiting[0].container} journalctl -b --no-pager | tail -50"
            )
        time.sleep(0.2)


def _marks(node: Node) -> dict[str, str]:
    """Labels that say what a container was made of; a difference means a new one."""
    return {
        LABEL: "node",
        f"{LABEL}.node": json.dumps(asdict(node), sort_keys=True),
        f"{LABEL}.key": digest(key_file().with_suffix(".pub")),
    }


def is_healthy(node: Node, image: str) -> bool:
    info = podman.inspect("container", node.container)
    if info is None or not podman.is_alive(info):
        return False
    labels = info["Config"]["Labels"] or {}
    same = all(labels.get(key) == value for key, value in _marks(node).items())
    same = (
        same and info["Image"] == podman.podman("image", "inspect", "-f", "{{.Id}}", image).strip()
    )
    return same and ssh_answers(node.address)


def create_node(node: Node, image: str) -> None:
    podman.remove_container(node.container)
    attach = f"{NETWORK}:ip={node.address},interface_name={INTERFACE},alias={node.name}"
    volume = f"{node.container}-docker"
    if podman.succeeds("volume", "exists", volume):
        podman.podman("volume", "rm", "--force", volume, timeout=300)
    podman.podman("volume", "create", "--label", f"{LABEL}=node", volume)
    podman.podman(
        "create",
        "--name", node.container,
        "--hostname", node.name,
        *(f"--label={key}={value}" for key, value in _marks(node).items()),
        "--network", attach,
        "--systemd=always",
        "--privileged",
        "--pids-limit=-1",
        "--shm-size", SHM,
        "--volume", f"{volume}:/var/lib/docker",
        image,
        "/lib/systemd/systemd",
    )  # fmt: skip
    seed = tar_of({**seed_files(node), **shared_files()}, links(node))
    copy = ("cp", "-", f"{node.container}:/")
    try:
        podman.podman(*copy, stdin=seed)
    except LabError:
        # Podman's own helper dies now and then on a busy machine; what it copied is copied over.
        podman.podman(*copy, stdin=seed)
    podman.podman("start", node.container)


def remove_node(name: str) -> None:
    node = Node(name, "")
    podman.remove_container(node.container)
    podman.podman("volume", "rm", "--force", f"{node.container}-docker", check=False, timeout=300)


def restart_node(node: Node) -> None:
    """What a reboot is to a host: every process gone, /run, /dev and /tmp new."""
    podman.podman("restart", "--time", "30", node.container, timeout=90)
    wait_for_ssh([node])


def known_nodes() -> list[tuple[Node, dict[str, Any]]]:
    found = []
    for info in podman.containers():
        text = (info["Config"]["Labels"] or {}).get(f"{LABEL}.node")
        if text:
            found.append((Node(**json.loads(text)), info))
    return sorted(found, key=lambda pair: [int(part) for part in pair[0].address.split(".")])


def node_named(name: str) -> Node:
    for node, _info in known_nodes():
        if node.name == name:
            return node
    raise LabError(f"the lab has no node {name}; `python -m lab status` lists what it has")


def inventory_node(name: str) -> Node | None:
    """A node as the lab's inventory has it, or None where it has no such host."""
    inventory = yaml.safe_load((ROOT / "inventories" / "lab" / "hosts.yml").read_text())
    for group in inventory["all"]["children"].values():
        host = group["hosts"].get(name)
        if host:
            family = host.get("lab_family", "a2")
            return Node(name, host["ansible_host"], device_tools.device_count(family), family)
    return None


def new_node(name: str, family: str | None, devices: int | None) -> Node:
    """A bare extra node: as the lab's inventory has it, or with the next free address."""
    planned = inventory_node(name)
    if planned:
        return replace(planned, family=family or planned.family, devices=devices or planned.devices)
    family = family or "a2"
    taken = {node.address for node, _info in known_nodes() if node.name != name}
    for host in range(FIRST_EXTRA, 255):
        address = f"{PREFIX}.{host}"
        if address not in taken:
            return Node(name, address, devices or device_tools.device_count(family), family)
    raise LabError("the lab's network has no free address; remove extra nodes")


def ensure_nodes(nodes: list[Node], image: str) -> None:
    fresh = [node for node in nodes if not is_healthy(node, image)]
    for node in nodes:
        if node not in fresh:
            renew_shared_files(node)
            say(f"  reused {node.name} ({node.address})")
    if not fresh:
        return
    with step(f"start {', '.join(node.name for node in fresh)}"):
        for node in fresh:
            create_node(node, image)
        wait_for_ssh(fresh)


def remove_everything() -> None:
    for info in podman.containers():
        podman.remove_container(info["Name"])
    volumes = podman.podman("volume", "ls", "-q", "--filter", f"label={LABEL}").split()
    for volume in volumes:
        podman.podman("volume", "rm", "--force", volume, timeout=300)
    network.remove()
    key = key_file()
    for file in (key, key.with_suffix(".pub")):
        file.unlink(missing_ok=True)
