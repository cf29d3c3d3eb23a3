"""What nvidia-smi printed of a real H200: the parsers read it, and the emulator prints the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import (
    FabricManager,
    fabric_manager_checks,
    health,
    modes,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    parse_query,
    parse_topology,
)

from lab.emulators import nvidia_tools
from tests.unit.npu_node import capture
from tests.unit.nvidia_node import NvidiaNode, say

IDLE, BUSY, HIDDEN = (
    capture(f"nvidia_smi_query_H200_580_{name}")
    for name in ("idle", "busy", "busy_OTHER_PID_NAMESPACE")
)


def test_an_idle_gpu_is_read_whole():
    query = parse_query(IDLE)

    assert (query.version, query.cuda_version) == ("580.159.04", "13.0")
    assert query.problems == []
    [device] = query.devices
    assert device == {
        "device_id": 0,
        "minor_number": 0,
        "name": "NVIDIA H200",
        "uuid": "GPU-00000000-0000-0000-0000-000000000001",
        "lost": False,
        "unreadable": [],
        "recovery_action": None,
        "conditions": [],
        "bus_id": "00000000:00:06.0",
        "power_w": 79.24,
        "temperature_c": 29,
        "utilisation_percent": 0,
        "memory_used_mb": 0,
        "memory_total_mb": 143771,
        "processes": [],
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
        "mig_mode": "Disabled",
        "mig_pending": "Disabled",
        "ecc_mode": "Enabled",
        "uncorrectable_errors": 0,
        "aggregate_uncorrectable_errors": 0,
        # A GPU that is passed through to a machine does not tell it of its fabric.
        "fabric": None,
    }
    assert health(device) == "OK"
    assert {mode.status for mode in modes(device)} == {"ok"}
    fabric = fabric_manager_checks(FabricManager(None, None), query, [0])
    assert {one["status"] for one in fabric} == {"unknown"}


@pytest.mark.parametrize(
    ("text", "processes"),
    [(BUSY, [{"pid": 432, "name": "python3", "memory_mb": 21090}]), (HIDDEN, [])],
)
def test_a_busy_gpu_tells_its_processes_in_their_own_pid_namespace(text, processes):
    query = parse_query(text)

    assert query.problems == []
    assert query.devices[0]["memory_used_mb"] == 21099
    assert query.devices[0]["processes"] == processes


def test_one_gpu_has_a_topology():
    assert parse_topology(capture("nvidia_smi_topo_H200_x1")) == (
        {"devices": [0], "links": [["X"]], "cpu_affinity": None},
        [],
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NO_CONTROL_NODE", "Failed to initialize NVML: GPU access blocked by the operating"),
        ("NO_DEVICE_NODE", "No devices were found"),
        ("NO_LIBRARY", "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system"),
        ("UNKNOWN_OPTION", "ERROR: Option --nonsense is not recognized"),
    ],
)
def test_where_it_fails_its_own_words_are_the_problem(name, problem):
    query = parse_query(capture(f"nvidia_smi_{name}"))

    assert query.devices == []
    [said] = query.problems
    assert said.startswith(f"nvidia-smi says: {problem}")


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node whose state is that of the captured one."""
    monkeypatch.setattr(nvidia_tools, "NICS", 0)
    monkeypatch.setattr(nvidia_tools, "CPUS", ("0-15",))
    node = NvidiaNode(tmp_path, monkeypatch)
    node.make(devices=1)
    node.set("driver_version", "580.159.04")
    for key, value in {
        "name": "NVIDIA H200",
        "uuid": "GPU-00000000-0000-0000-0000-000000000001",
        "bus_id": "00000000:00:06.0",
        "power_w": 79.24,
        "memory_used_mb": 0,
        "memory_total_mb": 143771,
        "memory_reserved_mb": 616,
        "fabric_state": "N/A",
        "fabric_status": "N/A",
    }.items():
        node.set(f"devices.0.{key}", value)
    return node


def make_busy(node):
    node.set("devices.0.processes", [{"pid": 432, "name": "python3", "memory_mb": 21090}])
    for key, value in {"memory_used_mb": 21099, "power_w": 118.22, "temperature_c": 30}.items():
        node.set(f"devices.0.{key}", value)


def without_clock_and_power(table: str) -> list[str]:
    """Lines of the table; the one with the power, which it reads a moment later, in parts."""
    _clock, *lines = table.splitlines()
    return [line[:23] + line[42:] if "P0" in line else line for line in lines]


@pytest.mark.parametrize("busy", [False, True])
def test_the_emulated_table_is_the_real_one(node, busy):
    if busy:
        make_busy(node)
    real = capture(f"nvidia_smi_table_H200_580_{'busy' if busy else 'idle'}")

    assert without_clock_and_power(say("nvidia-smi").stdout) == without_clock_and_power(real)


@pytest.mark.parametrize(
    ("arguments", "name", "rc"),
    [
        (["-L"], "list_H200", 0),
        (["topo", "-m"], "topo_H200_x1", 0),
        (["--nonsense"], "UNKNOWN_OPTION", 255),
    ],
)
def test_other_answers_are_the_real_ones_to_the_letter(node, arguments, name, rc):
    said = say("nvidia-smi", *arguments)

    assert (said.stdout, said.rc) == (capture(f"nvidia_smi_{name}"), rc)


def test_without_a_gpu_it_ends_as_the_real_one(node):
    node.set("devices.0.present", False)

    said = say("nvidia-smi", "-q", "-x")
    assert (said.stdout, said.rc) == (capture("nvidia_smi_NO_DEVICE_NODE"), 6)


def paths(text: str) -> set[str]:
    def below(element: ET.Element, path: str):
        yield path
        for child in element:
            yield from below(child, f"{path}/{child.tag}")

    return set(below(ET.fromstring(text), ""))  # noqa: S314 (our own files)


@pytest.mark.parametrize(("text", "busy"), [(IDLE, False), (BUSY, True)])
def test_the_emulated_query_reads_as_the_real_one_and_has_no_element_of_its_own(node, text, busy):
    if busy:
        make_busy(node)
    emulated = say("nvidia-smi", "-q", "-x").stdout

    assert parse_query(emulated) == parse_query(text)
    assert paths(emulated) <= paths(text)
