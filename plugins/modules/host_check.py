# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Check what a host itself must bring for a deployment
version_added: "0.1.0"
author:
  - Muster contributors (@muster)
description:
  - Observes a node without looking at its devices - clock, memory, shared memory, disks, limits,
    operating system, name, Docker, the file of the API's key and the weights - and returns one
    check for each thing that must hold.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns, and
    compares the clocks of a replica's nodes.
  - What M(muster.serving.container_engine_config) installs or starts later is V(pending).
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  vendor:
    description:
      - Whose devices the node has. It decides which operating systems and architectures will do.
    type: str
    choices: [ascend, nvidia, amd]
  own_units:
    description:
      - Names of the systemd units of Muster on this node. While one of them runs, memory and shared
        memory are not measured against the need, of which it holds a part.
    type: list
    elements: str
    default: []
  address:
    description:
      - The node's address on the cluster network, for the remedies.
    type: str
  multi_node:
    description:
      - Whether the replica spans several nodes. The node's name then has to lead to an address that
        others reach.
    type: bool
    default: false
  memory_gb:
    description:
      - Memory that the engine's processes need at least.
    type: float
    default: 0
  shm_gb:
    description:
      - Shared memory that they need at least, where it is the host's.
    type: float
    default: 0
  images:
    description:
      - Images that Docker has to run. Without any, Docker is not looked at.
    type: list
    elements: str
    default: []
  image_gb:
    description:
      - What these images take where Docker keeps them, about. Less is only a warning, and nothing
        is needed once Docker has them.
    type: float
    default: 0
  disk:
    description:
      - What else will be put on the node's disks.
    type: list
    elements: dict
    default: []
    suboptions:
      what:
        description: A word for it.
        type: str
        required: true
      path:
        description:
          - Where it will lie. What lies there already is taken off the need.
          - Without it, it lies where Docker keeps images and containers.
        type: path
      need_gb:
        description: How much it takes in all.
        type: float
        required: true
  key_files:
    description:
      - Files that hold the key of the API. They are looked at, and not read out.
    type: list
    elements: path
    default: []
  model_path:
    description:
      - Folder of the weights, checked as by M(muster.serving.model_weights).
    type: path
  draft_path:
    description:
      - Folder of the draft weights.
    type: path
  model_architecture:
    description:
      - The architecture that C(config.json) of the weights has to name. Without it, any will do.
    type: str
  model_format:
    description:
      - The format that the recipe's weights have. Without it, any will do.
    type: str
    choices: [fp8, w8a8, nvfp4, bf16]
  timeout:
    description:
      - Seconds that one call of a tool, and reading the weights, may take.
    type: float
    default: 30
notes:
  - An action of the same name runs it, and notes the controller's time before and after.
seealso:
  - module: muster.serving.cluster_verdict
  - module: muster.serving.model_weights
"""

EXAMPLES = r"""
- name: Check the host
  muster.serving.host_check:
    vendor: ascend
    address: 10.20.0.11
    multi_node: true
    memory_gb: 8
    shm_gb: 1
    images: [quay.io/ascend/vllm-ascend:v0.18.0]
    image_gb: 30
    model_path: /data/models/MiniMax-M2.5
    model_architecture: MiniMaxM2ForCausalLM
    model_format: fp8
  register: host
"""

RETURN = r"""
checks:
  description:
    - The verdicts.
    - Of the host, V(host-clock-sync), V(host-memory), V(host-shm), V(host-disk),
      V(host-hugepages), V(host-limits), V(host-os), V(host-kernel), V(host-arch), V(host-python)
      and V(host-name).
    - Of Docker, V(container-engine), V(container-engine-version) and V(container-engine-cgroup).
    - Of files, V(api-key-file), V(weights-directory), V(weights-config), V(weights-tokenizer),
      V(weights-complete), V(weights-architecture) and V(weights-format).
  returned: always
  type: list
  elements: dict
  sample:
    - id: host-shm
      phase: bare
      status: failed
      subject: /dev/shm
      observed: 0.1 GB of 0.1 GB free
      expected: at least 1 GB free
      remedy: mount -o remount,size=1G /dev/shm (and in /etc/fstab)
clock:
  description: The node's clock when the module began and ended, in seconds of the epoch.
  returned: always
  type: dict
  sample: {began: 1795255200.1, ended: 1795255201.3}
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    clock_offset:
      description:
        - By how many seconds at least and at most the node's clock is ahead of the controller's,
          as the controller's own times before and after the call prove it.
      type: list
      elements: float
    weights_index:
      description: Beginning of the hash of the weights' index. Null when not known.
      type: str
"""

import os
import platform
import socket
import stat
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils import host_checks
from ansible_collections.muster.serving.plugins.module_utils.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.command import CommandError, run
from ansible_collections.muster.serving.plugins.module_utils.container_engine import (
    DAEMON_JSON,
    UNIT,
    EngineError,
    docker_info,
    load_daemon_json,
    summary,
)
from ansible_collections.muster.serving.plugins.module_utils.host_checks import (
    GB,
    Docker,
    KeyFile,
    Need,
    Space,
)
from ansible_collections.muster.serving.plugins.module_utils.model_weights import Model, inspect
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles

DOCKER_ROOT = "/var/lib/docker"
SHM = "/dev/shm"


class Host:
    """Asks the node, each tool within the time that it is given."""

    def __init__(self, params: dict[str, Any], files: NodeFiles) -> None:
        self.params = params
        self.files = files

    def said(self, *argv: str) -> str:
        """What a tool prints, or nothing where it cannot say."""
        try:
            output = run(list(argv), self.params["timeout"])
        except CommandError:
            return ""
        return "" if output.rc else output.stdout

    def number(self, sysctl: str) -> str:
        path = "/proc/sys/" + sysctl.replace(".", "/")
        return (self.files.read(path) or "").strip()

    def running(self) -> bool:
        """Whether a unit of Muster runs here."""
        units = self.params["own_units"]
        said = self.said("systemctl", "show", "--property=ActiveState", *units) if units else ""
        return "ActiveState=active" in said.splitlines()

    def clock(self) -> Check:
        problem = ""
        timedate: dict[str, str] = {}
        try:
            output = run(["timedatectl", "show"], self.params["timeout"])
        except CommandError as error:
            problem = str(error)
        else:
            timedate = host_checks.properties(output.stdout)
            problem = output.text if output.rc else ""
        container = self.said("systemd-detect-virt", "--container").strip()
        return host_checks.clock_sync_check(container, timedate, problem)

    def memory(self) -> list[Check]:
        memory = host_checks.meminfo(self.files.read("/proc/meminfo") or "")
        running = self.running()
        checks = [host_checks.hugepages_check(memory)]
        if self.params["memory_gb"]:
            checks.append(host_checks.memory_check(memory, self.params["memory_gb"], running))
        if self.params["shm_gb"]:
            shm = os.statvfs(SHM)
            size, free = shm.f_blocks * shm.f_frsize, shm.f_bavail * shm.f_frsize
            checks.append(host_checks.shm_check(size, free, self.params["shm_gb"], running))
        return checks

    def docker(self, unit: dict[str, str]) -> tuple[Docker, str]:
        """Docker, and where it keeps its images."""
        load, active = unit.get("LoadState", ""), unit.get("ActiveState") == "active"
        root = DOCKER_ROOT
        try:
            config = load_daemon_json(self.files.read(DAEMON_JSON))
            root = str(config.get("data-root") or root)
            # Its socket would start a daemon that is asked.
            info = docker_info(self.params["timeout"]) if load == "loaded" and active else {}
        except (CommandError, EngineError) as error:
            return Docker(load, active, str(error)), root
        seen = {name: str(value or "") for name, value in summary(info).items()}
        docker = Docker(
            load, active, "", seen["version"], seen["cgroup_driver"], seen["cgroup_version"]
        )
        return docker, seen["root_dir"] or root

    def has_images(self) -> bool:
        names = self.params["images"]
        return bool(self.said("docker", "image", "inspect", "--format", "{{.Id}}", *names))

    def space(self, path: str) -> Space | None:
        """What is free where a path lies or will lie."""
        said = self.said("du", "-sk", path)
        held = int(said.split()[0]) * 1024 if said[:1].isdigit() else 0
        while True:
            seen = host_checks.free_space(self.said("df", "-Pk", path))
            if seen or path == "/":
                return Space(seen.mount, seen.free, held) if seen else None
            path = os.path.dirname(path)

    def disks(self, root: str, images: bool) -> list[Check]:
        wanted = [
            (entry["what"], entry["path"] or root, entry["need_gb"], False)
            for entry in self.params["disk"]
        ]
        if images:
            wanted.append(("images", root, self.params["image_gb"], True))
        needs, unknown = [], []
        for what, path, size, estimate in wanted:
            space = self.space(path)
            if space is None:
                unknown.append(path)
            else:
                needs.append(Need(what, int(size * GB), space, estimate))
        return [
            *host_checks.disk_checks(needs),
            *(
                check(
                    "host-disk",
                    "bare",
                    "unknown",
                    path,
                    "df does not say how much is free",
                    "free space",
                    f"df {path}",
                )
                for path in unknown
            ),
        ]

    def name(self) -> Check:
        name = socket.gethostname()
        lines = self.said("getent", "ahosts", name).splitlines()
        addresses = list(dict.fromkeys(line.split()[0] for line in lines if line.split()))
        return host_checks.name_check(
            name, addresses, self.params["multi_node"], self.params["address"]
        )

    def key_file(self, path: str) -> KeyFile:
        try:
            seen = os.stat(self.files.path(path))
        except OSError as error:
            return KeyFile(path, error.strerror or str(error))
        if not stat.S_ISREG(seen.st_mode):
            return KeyFile(path, "not a file")
        return KeyFile(
            path, "", stat.S_IMODE(seen.st_mode), not (self.files.read(path) or "").strip()
        )

    def weights(self) -> tuple[list[Check], str | None]:
        """The checks on the weights, and the hash of their index."""
        path, draft, wanted, architecture = (
            self.params[name]
            for name in ("model_path", "draft_path", "model_format", "model_architecture")
        )
        if not path:
            return [], None
        models = [Model(path), *([Model(draft, draft=True)] if draft else [])]
        answered, checks = inspect(models, self.params["timeout"])
        if not answered:
            return checks, None
        facts = answered[0].facts
        if architecture and facts["architecture"]:
            seen = facts["architecture"]
            checks.append(host_checks.architecture_check(path, architecture, seen))
        # What has no readable configuration has no format, either.
        if wanted and facts["model_type"]:
            checks.append(host_checks.format_check(path, wanted, facts, answered[0].names))
        digest = facts["index_sha256"]
        return checks, digest and digest[:12]


def look(params: dict[str, Any], files: NodeFiles) -> dict[str, Any]:
    host = Host(params, files)
    release = host_checks.properties(files.read("/etc/os-release") or "")
    checks = [host.clock(), *host.memory()]
    checks += host_checks.system_checks(
        release, platform.release(), platform.machine(), params["vendor"]
    )
    python = f"{platform.python_version()} ({sys.executable})"
    checks.append(check("host-python", "bare", "ok", "python", python, "3.8 or later"))
    checks.append(host.name())

    names = "LoadState,ActiveState,LimitNOFILE"
    unit = host_checks.properties(host.said("systemctl", "show", UNIT, f"--property={names}"))
    root, missing = DOCKER_ROOT, bool(params["images"])
    if params["images"]:
        docker, root = host.docker(unit)
        checks += host_checks.docker_checks(docker)
        missing = not (docker.active and not docker.problem and host.has_images())
    checks += host.disks(root, missing)
    manager = host_checks.properties(
        host.said("systemctl", "show", "--property=DefaultLimitNOFILE")
    )
    # Containers get the daemon's limit, and units without one the manager's.
    in_docker = bool(params["images"]) and unit.get("LoadState") == "loaded"
    limits = {name: host.number(name) for name in host_checks.LIMITS if "." in name}
    limits["LimitNOFILE"] = (
        unit.get("LimitNOFILE", "") if in_docker else manager.get("DefaultLimitNOFILE", "")
    )
    checks += host_checks.limit_checks(limits, UNIT if in_docker else "systemd's units")
    checks += host_checks.key_file_checks([host.key_file(path) for path in params["key_files"]])
    weights, index = host.weights()
    return {"checks": checks + weights, "facts": {"weights_index": index}}


def main() -> None:
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "vendor": {"type": "str", "choices": ["ascend", "nvidia", "amd"]},
            "own_units": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str"},
            "multi_node": {"type": "bool", "default": False},
            "memory_gb": {"type": "float", "default": 0},
            "shm_gb": {"type": "float", "default": 0},
            "images": {"type": "list", "elements": "str", "default": []},
            "image_gb": {"type": "float", "default": 0},
            "disk": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "what": {"type": "str", "required": True},
                    "path": {"type": "path"},
                    "need_gb": {"type": "float", "required": True},
                },
            },
            "key_files": {"type": "list", "elements": "path", "default": [], "no_log": False},
            "model_path": {"type": "path"},
            "draft_path": {"type": "path"},
            "model_architecture": {"type": "str"},
            "model_format": {"type": "str", "choices": ["fp8", "w8a8", "nvfp4", "bf16"]},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    result = look(module.params, NodeFiles())
    module.exit_json(changed=False, clock={"began": began, "ended": time.time()}, **result)


if __name__ == "__main__":
    main()
