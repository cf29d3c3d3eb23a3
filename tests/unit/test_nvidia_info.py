"""What nvidia_info tells of a node, well and not well; what the lab's nvidia-smi prints."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import health
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    parse_query,
    parse_topology,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.observe_io import (
    observe as observe_nvidia,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.tools_io import find_tool
from ansible_collections.muster.serving.plugins.modules import nvidia_info

from lab.emulators import nvidia_tools
from tests.unit.emulated_node import EMULATORS
from tests.unit.nvidia_node import NvidiaNode, say

SMI = str(EMULATORS / "nvidia-smi")


@pytest.fixture
def node(tmp_path, monkeypatch):
    return NvidiaNode(tmp_path, monkeypatch)


def observe():
    return observe_nvidia("nvidia-smi", 5)


def run_module(capsys, **arguments):
    with patch_module_args(arguments), pytest.raises(SystemExit):
        nvidia_info.main()
    return json.loads(capsys.readouterr().out)


def test_the_module_returns_what_it_documents(node, capsys):
    result = run_module(capsys, nvidia_smi_path=SMI, _ansible_check_mode=True)

    documented = yaml.safe_load(nvidia_info.RETURN)
    assert set(documented) <= set(result)
    assert set(documented["devices"]["contains"]) == set(result["devices"][0])
    assert result["changed"] is False
    assert result["problems"] == []
    assert (result["version"], result["cuda_version"]) == ("580.105.08", "13.0")
    assert [device["device_id"] for device in result["devices"]] == list(range(8))
    assert {device["health"] for device in result["devices"]} == {"OK"}
    assert result["topology"]["devices"] == list(range(8))
    assert result["topology"]["links"][0] == ["X", *["NV18"] * 7]


def test_the_module_succeeds_where_there_is_no_driver(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")

    result = run_module(capsys)

    assert result["devices"] == []
    assert result["topology"] is None
    assert result["problems"] == ["nvidia-smi is not on this node"]


def test_tools_are_found_in_folders_beside_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "amd-smi").touch(mode=0o755)

    assert find_tool("amd-smi", None, ("/none", str(tmp_path))) == str(tmp_path / "amd-smi")
    assert find_tool("amd-smi", None) is None
    assert find_tool("amd-smi", "/opt/amd-smi") == "/opt/amd-smi"


def test_a_lost_gpu_keeps_its_place(node):
    node.run_in_process()
    node.set("devices.3.lost", True)

    gpus = observe()

    assert [health(gpu) for gpu in gpus.devices] == [*["OK"] * 3, "GPU is lost", *["OK"] * 4]
    assert gpus.devices[3]["memory_total_mb"] is None


def test_index_and_minor_number_may_differ(node):
    node.run_in_process()
    node.set("devices.0.present", False)

    assert [(gpu["device_id"], gpu["minor_number"]) for gpu in observe().devices][:2] == [
        (0, 1),
        (1, 2),
    ]


def test_a_single_gpu_needs_no_topology(node):
    node.run_in_process()
    node.make(devices=1)
    node.set("faults.nvidia-smi topo", {"output": ""})

    gpus = observe()

    assert (gpus.topology, gpus.problems) == (None, [])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"output": "Failed to initialize NVML: Unknown Error\n", "rc": 255}, "says: Failed to"),
        ({"output": ""}, "nvidia-smi says: nothing"),
        ({"output": "<?xml version='1.0'?>\n<nvidia_smi_log>\n<gpu>"}, "cut off"),
    ],
)
def test_bad_output_is_a_problem(node, fault, problem):
    node.run_in_process()
    node.set("faults.nvidia-smi -q", fault)

    gpus = observe()

    assert gpus.devices == []
    assert problem in gpus.problems[0]


def test_an_answer_with_an_error_exit_code_is_shown_and_doubted(node):
    node.run_in_process()
    node.set("faults.nvidia-smi -q", {"rc": 14})

    gpus = observe()

    assert len(gpus.devices) == 8
    assert gpus.problems == ["nvidia-smi -q ended with exit code 14"]


def test_a_hanging_tool_costs_one_timeout(node):
    node.set("faults.nvidia-smi", {"hang": True})
    begin = time.monotonic()

    gpus = observe_nvidia(SMI, 0.5)

    assert time.monotonic() - begin < 3
    assert gpus.devices == []
    assert "did not end within 0.5 s" in gpus.failure


def test_a_hanging_topology_leaves_the_devices(node):
    node.set("faults.nvidia-smi topo", {"hang": True})

    gpus = observe_nvidia(SMI, 2)

    assert (len(gpus.devices), gpus.topology, gpus.cuda_version) == (8, None, "13.0")
    assert "topo -m did not end within 2 s" in gpus.problems[0]


# --- the emulator -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", nvidia_tools.FAMILIES)
def test_what_the_lab_prints_is_understood_in_full(node, family):
    node.make(family)
    query = parse_query(say("nvidia-smi", "-q", "-x").stdout)

    assert query.problems == []
    untold = {key for gpu in query.devices for key, value in gpu.items() if value is None}
    assert untold == {"recovery_action"}, "null says that nothing is to be done"
    assert parse_topology(say("nvidia-smi", "topo", "-m").stdout)[1] == []


def test_the_table_has_whole_rows(node):
    node.set("devices.2.processes", [{"pid": 4711, "name": "python3", "memory_mb": 70000}])
    node.set("devices.1.persistence_mode", "Disabled")

    _clock, *lines = say("nvidia-smi").stdout.splitlines()

    assert {len(line) for line in lines} == {91, 0}
    assert sum(" Off  |   00000000" in line for line in lines) == 1
    assert re.search(r"\| +2 .* 4711 .* python3 .* 70000MiB \|", "\n".join(lines))


def test_the_list_names_the_lost(node):
    node.set("devices.1.lost", True)

    first, second, *_rest = say("nvidia-smi", "-L").stdout.splitlines()

    assert first.startswith("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-")
    assert second.startswith("Unable to determine the device handle for GPU0000:43:00.0: GPU is")


def test_values_come_as_csv(node):
    node.set("devices.1.memory_used_mb", 4096)
    query = "--query-gpu=index,memory.used"

    assert say("nvidia-smi", query, "--format=csv").stdout.splitlines()[:3] == [
        "index, memory.used [MiB]",
        "0, 1 MiB",
        "1, 4096 MiB",
    ]
    bare = say("nvidia-smi", query, "--format=csv,noheader,nounits").stdout.splitlines()
    assert bare[1] == "1, 4096"
    assert say("nvidia-smi", "--query-gpu=soul", "--format=csv").rc == 1


def test_persistence_can_be_turned_on(node):
    node.set("devices.5.persistence_mode", "Disabled")

    said = say("nvidia-smi", "-pm", "1").stdout

    assert "Enabled persistence mode for GPU 00000000:C3:00.0." in said
    query = parse_query(say("nvidia-smi", "-q", "-x").stdout)
    assert {gpu["persistence_mode"] for gpu in query.devices} == {"Enabled"}


def test_what_it_does_not_know_is_refused(node):
    assert say("nvidia-smi", "--gpu-reset").rc == 255
    node.set("devices.*.present", False)
    assert say("nvidia-smi", "-q", "-x").stdout == "No devices were found\n"


def ask_hook(tmp_path, asked, *arguments):
    """Run the hook as a container engine does. This machine has no /dev/nvidia0 to hand on."""
    bundle = tmp_path / "bundle"
    bundle.mkdir(exist_ok=True)
    env = ["PATH=/bin"] + ([] if asked is None else [f"NVIDIA_VISIBLE_DEVICES={asked}"])
    config = {"process": {"env": env}, "root": {"path": "rootfs"}}
    (bundle / "config.json").write_text(json.dumps(config))
    return subprocess.run(
        [EMULATORS / "nvidia-container-runtime-hook", *arguments],
        input=json.dumps({"id": "c0ffee", "pid": 1, "bundle": str(bundle)}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def hook_log(tmp_path):
    log = tmp_path / nvidia_tools.HOOK_LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_the_hook_writes_down_who_asked_for_what(node, tmp_path):
    assert ask_hook(tmp_path, "0,1", "prestart").returncode == 0
    assert ask_hook(tmp_path, "2,3", "poststop").returncode == 0

    assert hook_log(tmp_path) == [{"container": "c0ffee", "devices": "0,1"}]


def test_the_hook_refuses_a_device_that_is_not_there(node, tmp_path):
    node.set("devices.1.lost", True)

    for asked in ("1", "0,9"):
        refused = ask_hook(tmp_path, asked, "prestart")
        assert refused.returncode == 1
        assert "unknown device" in refused.stderr


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("all", [0, 1, 2, 3]),
        ("2,0", [2, 0]),
        ("GPU-6d757374-6572-6c61-6200-000000000003", [3]),
        ("none", []),
        ("void", None),
        ("", None),
    ],
)
def test_devices_are_chosen_by_index_or_id(asked, chosen):
    devices = nvidia_tools.chosen_devices(nvidia_tools.make_state("nvidia", 4), asked)

    assert (None if devices is None else [device["id"] for device in devices]) == chosen
