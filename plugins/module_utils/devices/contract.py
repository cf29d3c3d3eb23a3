# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every vendor's folder gives: its record, and what was observed of a node's devices.

The order is the same for all: look asks what observe brings, observe runs the tools and hands
their texts to the parsers, and checks holds the observation against what a deployment needs. No
parser knows of a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Iterable, Mapping, NamedTuple, Sequence, TypedDict, TypeVar, cast

from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text


class Process(TypedDict):
    """A process on a device. Its name is empty where the tool may not show it."""

    pid: int
    name: str
    memory_mb: int | None


class Device(TypedDict):
    """What every vendor's tool tells of a device; null where it does not.

    device_id is the number by which engine and container engine are given the device: the N of
    /dev/davinciN, what nvidia-smi -i and docker --gpus count, or HIP. processes is null where the
    tool does not tell who uses the device.
    """

    device_id: int | None
    name: str | None
    bus_id: str | None
    power_w: float | None
    temperature_c: int | None
    utilisation_percent: int | None
    memory_used_mb: int | None
    memory_total_mb: int | None
    processes: list[Process] | None


class Gpu(Device):
    """What the tools of GPU vendors tell besides.

    uncorrectable_errors are the memory errors since the driver was loaded that ECC could not
    correct.
    """

    uuid: str | None
    uncorrectable_errors: int | None


class Topology(TypedDict):
    """How the devices of a node reach each other.

    links[i][j] is the link from devices[i] to devices[j], in the tool's own word: X for itself;
    NV18, SYS, NODE, PHB, PXB, PIX of NVIDIA; HCCS, HCCS_SW, SIO, PIX of Ascend; XGMI, PCIE of AMD.
    cpu_affinity has the CPUs near each device, or is null.
    """

    devices: list[int]
    links: list[list[str]]
    cpu_affinity: list[str] | None


D = TypeVar("D", bound=Device)


@dataclass
class Observation(Generic[D]):
    """What a vendor's tools told of a node's devices.

    problems is what could not be had or understood. failure is why nothing could be had at all, or
    nothing more: the tool is missing, or hangs. printed is all that the tool said where it lists no
    device, and absent whether it could not be started.
    """

    devices: list[D] = field(default_factory=list)
    version: str | None = None  # the driver's
    topology: Topology | None = None
    problems: list[str] = field(default_factory=list)
    failure: str | None = None
    printed: str = ""
    absent: bool = False


def number_of(device: Device) -> int:
    """Return the number of a device that was chosen by it."""
    return cast(int, device["device_id"])


def devices_text(devices: Iterable[int]) -> str:
    """Return what to call devices: device 3, or devices 0-3, 6."""
    text = ranges_text(devices, ", ")
    return f"device {text}" if text.isdecimal() else f"devices {text or 'none'}"


def link_between(topology: Topology, one: int, other: int) -> str | None:
    """Return the link from one device to another; null where the topology has no such device."""
    devices = topology["devices"]
    if one not in devices or other not in devices:
        return None
    return topology["links"][devices.index(one)][devices.index(other)]


class Vendor(NamedTuple):
    """What the project knows of a vendor's devices besides how to ask them.

    Attributes:
        name: As platform.vendor of a recipe has it.
        check_module: The module that checks the devices before a start.
        info_module: The module that tells what there is of them.
        options: The options that it takes beside those of every such module.
        systems: By ID of os-release, the versions that upstream names for hosts of these devices.
            A version stands for its minor ones, too.
        architectures: What the engines for these devices are published for, as uname -m tells it.
        driver_paths: Files and folders that the driver's installer brings, by their beginning.
        driver_tools: Its programs, wherever they stand.
        device_groups: The groups that own the device nodes, for an engine without a container.
        commands: By name in an archive of diagnose, what to ask of the devices.
        files: Files that tell of the driver. None of them holds a secret.
        exporter_port: Where its exporter for Prometheus usually listens; None where it has none.
    """

    name: str
    check_module: str
    info_module: str
    options: Sequence[str]
    systems: Mapping[str, Sequence[str]]
    architectures: Sequence[str]
    driver_paths: Sequence[str] = ()
    driver_tools: Sequence[str] = ()
    device_groups: Sequence[str] = ()
    commands: Mapping[str, Sequence[str]] = {}
    files: Sequence[str] = ()
    exporter_port: int | None = None
