# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states that Muster brings to a node, brought by pyinfra.

Written as its documentation advises: operations where there are some, and a fact of one command for
what one command can tell. The files come rendered; Muster renders them itself from its plan.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import FactBase, OperationError, operation
from pyinfra.operations import apt, docker, files, server, systemd

GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


class Governors(FactBase[list[str]]):
    """The governors that the node's CPUs have."""

    def command(self) -> str:
        return f"cat {GOVERNORS} 2>/dev/null | sort -u"

    def process(self, output: list[str]) -> list[str]:
        return list(output)


class Missing(FactBase[list[str]]):
    """Which of several paths are not there."""

    def command(self, paths: list[str]) -> str:
        words = " ".join(shlex.quote(path) for path in paths)
        return f'for path in {words}; do test -e "$path" || echo "$path"; done'

    def process(self, output: list[str]) -> list[str]:
        return list(output)


class Weights(FactBase[dict[str, int]]):
    """The files of a model and their sizes."""

    def command(self, folder: str) -> str:
        return f"find {shlex.quote(folder)} -maxdepth 1 -type f -printf '%f %s\\n'"

    def process(self, output: list[str]) -> dict[str, int]:
        return {name: int(size) for name, _, size in (line.rpartition(" ") for line in output)}


class Devices(FactBase[list[str]]):
    """What the device tools print. npu-smi answers several callers, hccn_tool one."""

    def command(self, npu_smi: list[str], hccn_tool: list[str]) -> str:
        several = " ".join(shlex.quote(one) for one in npu_smi)
        one_by_one = "; ".join(hccn_tool)
        return f"{{ {one_by_one}; }} & printf '%s\\n' {several} | xargs -P4 -I@ sh -c @; wait"

    def process(self, output: list[str]) -> list[str]:
        return list(output)


@operation()
def governor(wanted: str):
    """Set the CPUs' governor."""
    if host.get_fact(Governors) == [wanted]:
        host.noop(f"the governor is {wanted}")
        return
    yield f"echo {shlex.quote(wanted)} | tee {GOVERNORS}"


@operation()
def there(paths: list[str]):
    """Hold that what nobody can bring is there."""
    missing = host.get_fact(Missing, paths=paths)
    if missing:
        raise OperationError(f"missing: {' '.join(missing)}")
    host.noop("all are there")
    yield from ()


@operation()
def weights(folder: str, wanted: dict[str, int]):
    """Hold that the model's files are there, each of its size."""
    if host.get_fact(Weights, folder=folder) != wanted:
        raise OperationError(f"{folder} does not hold what was published")
    host.noop("the weights are there")
    yield from ()


@operation()
def devices(npu_smi: list[str], hccn_tool: list[str]):
    """Hold that all devices are well."""
    said = host.get_fact(Devices, npu_smi=npu_smi, hccn_tool=hccn_tool)
    if not any("OK" in line for line in said):
        raise OperationError("npu-smi tells of no device that is well")
    host.noop("the devices are well")
    yield from ()


data = host.data

devices(name="Devices", npu_smi=data.npu_smi, hccn_tool=data.hccn_tool)
there(name="Driver", paths=data.driver_paths)
for key, value in data.sysctl.items():
    server.sysctl(name=f"Sysctl {key}", key=key, value=value)
if data.cpu_governor:
    governor(name="Governor", wanted=data.cpu_governor)
apt.packages(name="Docker", packages=data.packages)
weights(name="Weights", folder=data.weights["folder"], wanted=data.weights["files"])
for path, mode in data.directories.items():
    files.directory(name=f"Directory {path}", path=path, mode=mode)
for file in data.files:
    files.put(name=f"File {file['path']}", src=file["src"], dest=file["path"], mode=file["mode"])
systemd.service(name="Docker runs", service="docker.service", running=True, enabled=True)
for image in data.images:
    docker.image(name=f"Image {image}", image=image, present=True)
for unit, state in data.units.items():
    systemd.service(
        name=f"Unit {unit}", service=unit, running=state["running"], enabled=state["enabled"]
    )
