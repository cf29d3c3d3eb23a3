# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pyinfra deploy is given, made of a plan and of what a node has.

Pure but for LOOK, which runs on a node.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.scale.recording import renamed

HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"

# Runs on a node, told the model's folder. Prints what the node has as JSON: files {path: {mode,
# content in base64}}, directories {path: mode}, units {name: {running, enabled}}, packages,
# hccn {device: address} and weights {file: bytes}.
LOOK = r"""
import base64, glob, json, os, re, stat, subprocess, sys

def said(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE).stdout.decode().strip()

def mode(path):
    return format(stat.S_IMODE(os.stat(path).st_mode), "o")

def paths(*patterns):
    return sorted(path for pattern in patterns for path in glob.glob(pattern))

def read(path):
    with open(path, "rb") as stream:
        return stream.read()

def is_(state, unit):
    return said("systemctl", "is-" + state, unit) == state

units = [path for path in paths("/etc/systemd/system/muster-*.service") if "muster-lab" not in path]
files = units + paths(
    "/etc/muster/*", "/usr/local/lib/muster/*.py", "/etc/sysctl.d/*muster*",
    "/etc/docker/daemon.json",
)
folders = paths("/var/log/muster/*", "/var/lib/muster/cache/*")
dockerd = os.path.realpath(said("sh", "-c", "command -v dockerd"))
names = [os.path.basename(path) for path in units]
model = sys.argv[1]
print(json.dumps({
    "files": {
        path: {"mode": mode(path), "content": base64.b64encode(read(path)).decode()}
        for path in files if os.path.isfile(path)
    },
    "directories": {path: mode(path) for path in folders},
    "units": {
        name: {"running": is_("active", name), "enabled": is_("enabled", name)}
        for name in names
    },
    "packages": [said("dpkg", "-S", dockerd).partition(":")[0]],
    "hccn": dict(re.findall(r"^address_(\d+)=(\S+)", read("/etc/hccn.conf").decode(), re.M)),
    "weights": {
        name: os.path.getsize(os.path.join(model, name))
        for name in os.listdir(model) if os.path.isfile(os.path.join(model, name))
    },
}))
"""

Seen = Mapping[str, Mapping[str, Any]]


def model_path(plan: Mapping[str, Any]) -> str:
    """Return where a plan's units find the model on their nodes."""
    path: str = plan["units"][0]["argv"][2]
    return path


def contents(seen: Seen, folder: Path) -> dict[Path, bytes]:
    """Return by file what pyinfra copies to nodes from below a folder on the controller."""
    return {
        _source(folder, host, path): base64.b64decode(file["content"])
        for host, found in seen.items()
        for path, file in found["files"].items()
    }


def _source(folder: Path, host: str, path: str) -> Path:
    return folder / host / path.strip("/")


def hosts_data(plan: Mapping[str, Any], seen: Seen, folder: Path) -> dict[str, dict[str, Any]]:
    """Return by host the data of the deploy.

    Args:
        plan: The plan that the nodes serve.
        seen: By host, what LOOK printed.
        folder: Where `contents` lie.
    """
    return {
        host: {
            "npu_smi": npu_smi_questions(len(found["hccn"])),
            "hccn_tool": hccn_questions(
                found["hccn"], [seen[peer]["hccn"] for peer in peers(plan, host)]
            ),
            "driver_paths": driver_paths(plan, host),
            "sysctl": sysctl(found["files"]),
            "cpu_governor": plan["host_tuning"]["cpu_governor"],
            "packages": found["packages"],
            "weights": {"folder": model_path(plan), "files": found["weights"]},
            "directories": found["directories"],
            "files": [
                {"path": path, "mode": file["mode"], "src": str(_source(folder, host, path))}
                for path, file in found["files"].items()
            ],
            "images": sorted({one["image"] for one in units_of(plan, host) if one["image"]}),
            "units": found["units"],
        }
        for host, found in seen.items()
    }


def units_of(plan: Mapping[str, Any], host: str) -> list[Mapping[str, Any]]:
    return [one for one in plan["units"] if one["host"] == host]


def peers(plan: Mapping[str, Any], host: str) -> list[str]:
    """Return the other hosts of a host's replica."""
    return [
        other
        for replica in plan["replicas"]
        if host in replica["hosts"]
        for other in replica["hosts"]
        if other != host
    ]


def driver_paths(plan: Mapping[str, Any], host: str) -> list[str]:
    """Return device nodes and what else the driver brings that a host's containers get."""
    found: set[str] = set()
    for unit in units_of(plan, host):
        found.update(unit["device_nodes"])
        mounts = (mount.split(":")[0] for mount in unit["mounts"] if mount.endswith(":ro"))
        found.update(mounts)
    return sorted(found)


def sysctl(files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the settings of the files in sysctl.d among these."""
    found = {}
    for path, file in files.items():
        if not path.startswith("/etc/sysctl.d/"):
            continue
        for line in base64.b64decode(file["content"]).decode().splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.startswith("#"):
                found[key.strip()] = value.strip()
    return found


def npu_smi_questions(devices: int) -> list[str]:
    """Return what preflight asks npu-smi on a node of an A2, whose cards hold one chip each."""
    return [
        "npu-smi info",
        *(f"npu-smi info -t board -i {device}" for device in range(devices)),
        *(f"npu-smi info -t ecc -i {device} -c 0" for device in range(devices)),
        "npu-smi info -t topo",
    ]


def hccn_questions(own: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what preflight asks hccn_tool on a node, which pings half of its peers' devices."""
    first = sorted(own, key=int)[:1]
    asked = [(device, "net_health -g") for device in own]
    asked += [(one, f"{what} -g") for one in first for what in ("ip", "gateway", "tls", "lldp")]
    for other in others:
        start = 0 if sorted(own.values()) < sorted(other.values()) else 1
        for device in sorted(own.keys() & other.keys(), key=int)[start::2]:
            asked.append((device, f"ping -g address {other[device]}"))
    return [f"{HCCN_TOOL} -i {device} -{what}" for device, what in asked]


# --- light hosts --------------------------------------------------------------------------------


def answers_by_host(lines: str) -> dict[str, dict[str, Any]]:
    """Return by host and command what was recorded, of JSON lines {host, command, ...}."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines.splitlines():
        one = json.loads(line)
        found.setdefault(one.pop("host"), {})[one.pop("command")] = one
    return found


def seconds(lines: str) -> float:
    """Return how long all recorded commands took together."""
    return sum(json.loads(line)["seconds"] for line in lines.splitlines())


def light_host(
    name: str, data: Mapping[str, Any], answers: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Return a host for pyinfra's connector `fake`, which answers as a recorded host did.

    Args:
        name: The light host.
        data: What the deploy is given for the recorded host.
        answers: By command, what the recorded host answered.
        names: By recorded name, that which takes its place. What files hold stays as it was
            recorded, and so do their checksums.
    """
    sources = {file["path"]: file["src"] for file in data["files"]}
    own = {key: value for key, value in data.items() if not key.startswith("ssh_")}
    own["files"] = [{**file, "src": ""} for file in own["files"]]
    light: dict[str, Any] = json.loads(renamed(json.dumps(own), names))
    for file, source in zip(light["files"], sources.values(), strict=True):
        file["src"] = source
    told = json.loads(renamed(json.dumps(answers), names))
    # A command is found by a part of its text: the longest one first is the command itself.
    light["fake_responses"] = dict(sorted(told.items(), key=lambda one: -len(one[0])))
    return f"@fake/{name}", {**light, "fake_delay": 0, "fake_delay_jitter": 0}


def changed(said: str) -> int:
    """Return how many operations pyinfra's last table counts as changed, of all hosts together.

    Raises:
        ValueError: There is no such table.
    """
    # Hosts, Success, Error, No Change.
    found = re.findall(r"^\s*Grand total\s+\d+\s+(\d+|-)\s", said, re.MULTILINE)
    if not found:
        raise ValueError(f"pyinfra printed no table of results:\n{said[-2000:]}")
    return int(found[-1].replace("-", "0"))
