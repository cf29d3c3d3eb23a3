"""What npu_info tells of a node, well and not well."""

from __future__ import annotations

import json
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices import tools_io
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as npu_observe,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observation import (
    Npus,
    missing_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observe_io import (
    NpuSmi,
    device_numbers,
    find_npu_smi,
    observe_condition,
    observe_npus,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import link_between
from ansible_collections.muster.serving.plugins.modules import npu_info

from tests.unit.emulated_node import EMULATORS
from tests.unit.npu_node import NpuNode, capture


@pytest.fixture
def node(tmp_path, monkeypatch):
    return NpuNode(tmp_path, monkeypatch)


def observe(nodes=range(8), timeout=5) -> Npus:
    tool = NpuSmi("npu-smi", timeout)
    npus = observe_npus(tool, list(nodes))
    observe_condition(tool, npus)
    return npus


def run_module(capsys, **arguments):
    with patch_module_args(arguments), pytest.raises(SystemExit):
        npu_info.main()
    return json.loads(capsys.readouterr().out)


def test_the_module_returns_what_it_documents(node, monkeypatch, capsys):
    monkeypatch.setattr(npu_info, "device_numbers", lambda: list(range(8)))

    result = run_module(capsys, npu_smi_path=str(EMULATORS / "npu-smi"), _ansible_check_mode=True)

    assert result["changed"] is False
    assert result["problems"] == []
    assert (result["version"], result["tool_version"]) == ("25.5.0", "25.5.0")
    assert [device["device_id"] for device in result["devices"]] == list(range(8))
    assert result["devices"][0] == {
        "device_id": 0,
        "npu_id": 0,
        "chip_id": 0,
        "name": "910B3",
        "health": "OK",
        "error_codes": [],
        "bus_id": "0000:C1:00.0",
        "power_w": 98.6,
        "temperature_c": 42,
        "utilisation_percent": 0,
        "memory_used_mb": 3314,
        "memory_total_mb": 65536,
        "processes": [],
    }
    assert result["topology"]["links"][0] == ["X", *["HCCS"] * 7]
    assert result["topology"]["cpu_affinity"][7] == "48-71"


def test_the_module_succeeds_where_there_is_no_driver(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(npu_observe, "NPU_SMI_FOLDERS", ())

    result = run_module(capsys)

    assert result["devices"] == []
    assert result["topology"] is None
    assert result["problems"] == ["npu-smi is not on this node"]


def test_npu_smi_is_found_beside_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(npu_observe, "NPU_SMI_FOLDERS", ("/none", str(tmp_path)))
    (tmp_path / "npu-smi").touch(mode=0o755)

    assert find_npu_smi(None, 5).path == str(tmp_path / "npu-smi")
    assert find_npu_smi("/opt/npu-smi", 5).path == "/opt/npu-smi"


def test_both_chips_of_a_card_are_devices(node):
    node.run_in_process()
    node.make("a3")
    node.set("devices.5.processes", [{"pid": 7, "name": "python3", "memory_mb": 900}])

    npus = observe(range(16))

    assert npus.problems == []
    assert [(d["npu_id"], d["chip_id"]) for d in npus.devices[4:6]] == [(2, 0), (2, 1)]
    assert npus.devices[5]["processes"] == [{"pid": 7, "name": "python3", "memory_mb": 900}]
    assert link_between(npus.topology, 4, 5) == "SIO"


def test_a_sick_chip_tells_its_error_codes(node):
    node.run_in_process()
    node.set("devices.3.health", "Alarm")
    node.set("devices.3.error_codes", ["A4025021", "8C03A000"])

    npus = observe()

    assert npus.devices[3]["health"] == "Alarm"
    assert npus.error_codes(npus.devices[3]) == ["A4025021", "8C03A000"]
    assert node.asked.count("npu-smi info -t health -i 3 -c 0") == 1
    assert len(node.asked) == 3


def test_a_lost_card_is_seen_by_its_device_node(node):
    node.run_in_process()
    node.set("devices.3.present", False)
    node.set("devices.4.present", False)

    assert missing_devices(observe()) == ["npu-smi does not list devices 3-4, which /dev has"]


def test_a_device_without_a_node_is_a_problem(node):
    node.run_in_process()

    problems = missing_devices(observe([0, 1, 2, 4, 5, 7]))
    assert problems == ["/dev has no davinci node for devices 3, 6"]


def test_device_nodes_are_counted_by_number(tmp_path):
    for name in ("davinci0", "davinci10", "davinci2", "davinci_manager", "davinci1x", "hisi_hdc"):
        (tmp_path / name).touch()

    assert device_numbers(str(tmp_path)) == [0, 2, 10]
    assert device_numbers(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"output": "segmentation fault\n", "rc": 139}, "npu-smi says: segmentation fault"),
        ({"output": ""}, "npu-smi lists no device"),
        ({"output": capture("npu_smi_info_MALFORMED_6_rows_cut")}, "row cut off"),
    ],
)
def test_bad_output_is_a_problem(node, fault, problem):
    node.run_in_process()
    node.set("faults.npu-smi", fault)

    npus = observe()

    assert npus.devices == []
    assert problem in npus.problems[0]


def test_a_table_with_an_error_exit_code_is_shown_and_doubted(node):
    node.run_in_process()
    node.set("faults.npu-smi info", {"rc": 2})

    npus = observe()

    assert len(npus.devices) == 8
    assert npus.problems == ["npu-smi info ended with exit code 2"]


def test_without_topology_the_devices_stay(node):
    node.run_in_process()
    node.set("faults.npu-smi topo", {"output": capture("npu_smi_topo_unsupported")})

    npus = observe()

    assert len(npus.devices) == 8
    assert npus.topology is None
    assert npus.problems == [
        "no topology: npu-smi says: This device does not support querying topo."
    ]


def test_a_hanging_tool_costs_one_timeout(node):
    node.set("faults.npu-smi", {"hang": True})
    tool = NpuSmi(str(EMULATORS / "npu-smi"), timeout=0.5)
    begin = time.monotonic()

    npus = observe_npus(tool, list(range(8)))

    assert time.monotonic() - begin < 3
    assert npus.devices == []
    assert "did not end within 0.5 s" in npus.problems[0]
    assert tool.ask("info") is None


def test_several_things_are_asked_at_a_time_and_no_more(monkeypatch):
    running, most = [], []

    def run(argv, timeout):
        running.append(argv)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(argv)
        return Output(0, argv[-1], "")

    monkeypatch.setattr(tools_io, "run", run)
    answers = NpuSmi("npu-smi", timeout=5).ask_several([[str(n)] for n in range(12)])

    assert [answer.stdout for answer in answers] == [str(n) for n in range(12)]
    assert 1 < max(most) <= npu_observe.CONCURRENT_CALLS


def test_a_slow_tool_is_left_after_two_timeouts(node):
    node.run_in_process()
    node.set("devices.*.health", "Alarm")
    node.set("faults.npu-smi health", {"delay_s": 0.3})

    npus = observe(timeout=0.3)

    assert len(npus.devices) == 8
    assert npus.error_codes(npus.devices[0]) == []
    assert npus.error_codes(npus.devices[7]) is None
    assert npus.problems == ["npu-smi took over 0.6 s in all"]
