"""What amd_info tells of a node, well and not well; what the lab's tools print."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import (
    observe_io as amd_observe,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.checks import nodes_check
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.observe_io import (
    observe,
    observe_nodes,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import look_io as gpu_look
from ansible_collections.muster.serving.plugins.modules import amd_info

from tests.unit.amd_node import AmdNode, say
from tests.unit.emulated_node import EMULATORS

# What a real MI355X server printed, of its second and fourth GPU.
REAL_TABLE = """\
+------------------------------------------------------------------------------+
| AMD-SMI 26.2.0+021c61fc      amdgpu version: 6.16.6   ROCm version: 7.1.1    |
| VBIOS version: 00165724                                                      |
| Platform: Linux Baremetal                                                    |
|-------------------------------------+----------------------------------------|
| BDF                        GPU-Name | Mem-Uti   Temp   UEC       Power-Usage |
| GPU  HIP-ID  OAM-ID  Partition-Mode | GFX-Uti    Fan               Mem-Usage |
|=====================================+========================================|
| 0000:15:00.0    AMD Instinct MI355X | 0 %      48 °C   0          250/1400 W |
|   1       3       7        SPX/NPS1 | 0 %        N/A           283/294896 MB |
|-------------------------------------+----------------------------------------|
| 0000:75:00.0    AMD Instinct MI355X | 0 %      49 °C   0          242/1400 W |
|   3       0       4        SPX/NPS1 | 0 %        N/A           283/294896 MB |
+-------------------------------------+----------------------------------------+
+------------------------------------------------------------------------------+
| Processes:                                                                   |
|  GPU        PID  Process Name          GTT_MEM  VRAM_MEM  MEM_USAGE     CU % |
|==============================================================================|
|    1     326601  gpuagent                0.0 B     0.0 B      0.0 B    0.0 % |
|    3     326601  gpuagent                0.0 B     0.0 B      0.0 B    0.0 % |
+------------------------------------------------------------------------------+
"""


@pytest.fixture
def node(tmp_path, monkeypatch):
    return AmdNode(tmp_path, monkeypatch)


def run_module(capsys, **arguments):
    with patch_module_args(arguments), pytest.raises(SystemExit):
        amd_info.main()
    return json.loads(capsys.readouterr().out)


def only(monkeypatch, tmp_path, *tools):
    """Leave a node with no tools but these."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(EMULATORS / tool)
    monkeypatch.setattr(amd_observe, "FOLDERS", (str(folder),))
    monkeypatch.setenv("PATH", "/nowhere")


def test_the_module_returns_what_it_documents(node, capsys):
    result = run_module(capsys, amd_smi_path=str(EMULATORS / "amd-smi"), _ansible_check_mode=True)

    assert result["changed"] is False
    assert result["problems"] == []
    assert result["version"] == "6.16.6"
    assert [device["device_id"] for device in result["devices"]] == list(range(8))
    documented = yaml.safe_load(amd_info.RETURN)["devices"]["contains"]
    assert set(result["devices"][0]) == set(documented)
    assert result["topology"]["links"][0] == ["X", *["XGMI"] * 7]


def test_the_module_succeeds_where_there_is_no_driver(monkeypatch, tmp_path, capsys):
    only(monkeypatch, tmp_path)

    result = run_module(capsys)

    assert result["devices"] == []
    assert result["topology"] is None
    assert result["problems"] == ["neither amd-smi nor rocm-smi is on this node"]


@pytest.mark.parametrize(
    ("release", "asked"),
    [
        ("6.2.4", ["list", "static", "metric", "process", "topology"]),
        ("7.1.1", ["list", "static", "metric", "process", "topology", "partition --current"]),
    ],
)
def test_no_more_is_asked_than_a_release_needs(node, release, asked):
    node.run_in_process()
    node.set("rocm_version", release)

    seen = observe("amd-smi", 5)

    assert (seen.failure, seen.problems) == (None, [])
    assert node.asked == [f"amd-smi {words} --json" for words in asked]


def test_rocm_smi_is_asked_where_there_is_no_amd_smi(node, monkeypatch, tmp_path):
    only(monkeypatch, tmp_path, "rocm-smi")
    node.run_in_process()

    seen = observe(None, 5)

    assert len(seen.devices) == 8
    assert seen.problems == ["not told for devices 0-7: uncorrectable_errors"]
    assert {asked.split()[0] for asked in node.asked} == {"rocm-smi"}


def test_a_lost_gpu_leaves_the_list(node):
    node.run_in_process()
    node.set("devices.3.present", False)

    seen = observe("amd-smi", 5)

    # HIP closes the gap as well.
    assert [device["device_id"] for device in seen.devices] == list(range(7))
    assert "0000:5c:00.0" not in [device["bus_id"] for device in seen.devices]


def test_a_driver_without_gpus_is_a_failure(node):
    node.run_in_process()
    node.set("devices.*.present", False)

    seen = observe("amd-smi", 5)

    assert seen.devices == []
    assert seen.failure.startswith(
        "amd-smi list --json ended with exit code 1: ERROR:root:Unable to detect any GPU devices"
    )


@pytest.mark.parametrize("output", ["segmentation fault\n", "", "{}\n", '[{"gpu": '])
def test_bad_output_is_a_failure(node, output):
    node.run_in_process()
    node.set("faults.amd-smi", {"output": output})

    seen = observe("amd-smi", 5)

    assert seen.devices == []
    assert seen.failure.startswith("amd-smi list")


def test_one_query_that_fails_costs_what_it_would_have_told(node):
    node.run_in_process()
    node.set("faults.amd-smi metric", {"output": "KeyError: 'hotspot'\n", "rc": 1})

    seen = observe("amd-smi", 5)

    assert [device["memory_total_mb"] for device in seen.devices] == [196592] * 8
    assert seen.failure is None
    assert seen.problems[0] == ("amd-smi metric --json ended with exit code 1: KeyError: 'hotspot'")
    assert seen.problems[-1] == (
        "not told for devices 0-7: power_w, temperature_c, utilisation_percent, memory_used_mb, "
        "uncorrectable_errors"
    )


def test_a_hanging_tool_costs_one_timeout(node):
    node.set("faults.amd-smi", {"hang": True})
    begin = time.monotonic()

    seen = observe(str(EMULATORS / "amd-smi"), 0.5)

    assert time.monotonic() - begin < 4
    assert seen.devices == []
    assert "did not end within 0.5 s" in seen.failure


def test_one_hanging_query_leaves_the_others(node):
    node.set("faults.amd-smi process", {"hang": True})

    seen = observe(str(EMULATORS / "amd-smi"), 2)

    assert [device["memory_used_mb"] for device in seen.devices] == [285] * 8
    assert [device["processes"] for device in seen.devices] == [None] * 8
    assert seen.topology is None
    assert "process --json did not end within 2 s" in seen.problems[0]


# --- device nodes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kfd", "render", "gpus", "status", "observed"),
    [
        ("device", 8, 8, "ok", "/dev/kfd, 8 render nodes"),
        ("device", 9, 8, "ok", "/dev/kfd, 9 render nodes"),
        ("device", 7, 8, "failed", "/dev/kfd, 7 render nodes"),
        ("", 8, 8, "failed", "no /dev/kfd, 8 render nodes"),
        ("file", 8, 8, "failed", "no /dev/kfd, 8 render nodes"),
        ("device", 0, 0, "failed", "/dev/kfd, 0 render nodes"),
    ],
)
def test_containers_need_kfd_and_a_render_node_a_gpu(tmp_path, kfd, render, gpus, status, observed):
    folder = tmp_path / "dev" / "dri"
    folder.mkdir(parents=True)
    for name in ["card0", *(f"renderD{128 + number}" for number in range(render))]:
        (folder / name).symlink_to("/dev/null")  # a character device
    (folder / "renderD200").touch()
    if kfd == "device":
        (tmp_path / "dev" / "kfd").symlink_to("/dev/null")
    elif kfd:
        (tmp_path / "dev" / "kfd").touch()

    verdict = nodes_check(observe_nodes(NodeFiles(str(tmp_path))), gpus)

    assert (verdict["status"], verdict["observed"]) == (status, observed)
    assert bool(verdict["remedy"]) == (status != "ok")


# --- gpu_topology_check ------------------------------------------------------------------------


@pytest.fixture
def not_ok(node, tmp_path):
    """The checks of four GPUs of the node that are not ok."""
    node.run_in_process()
    dri = tmp_path / "root" / "dev" / "dri"
    dri.mkdir(parents=True)
    for path in [dri.parent / "kfd", *(dri / f"renderD{128 + gpu}" for gpu in range(8))]:
        path.symlink_to("/dev/null")  # a character device
    params = {
        "vendor": "amd",
        "device_count": 4,
        "devices": None,
        "device_names": ["MI3(00|25|50|55)X"],
        "min_driver": None,
        "own_units": [],
        "memory_utilization": 0.9,
        "device_nodes": ["/dev/kfd"],
        "mounts": [],
        "fabric_manager": False,
        "container_gpus": False,
        "tool_path": "amd-smi",
        "timeout": 5,
    }

    def inspect():
        checks = gpu_look.inspect(params, NodeFiles(str(tmp_path / "root")))["checks"]
        assert len(checks) > 8
        return {
            one["id"]: (one["status"], one["subject"]) for one in checks if one["status"] != "ok"
        }

    return inspect


@pytest.mark.parametrize("release", ["6.2.4", "7.1.1"])
@pytest.mark.parametrize("family", ["amd", "amd-mi355x"])
def test_a_healthy_node_passes(node, not_ok, release, family):
    node.make(family)
    node.set("rocm_version", release)

    assert not_ok() == {}


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        ("compute_partition", "CPX", "gpu-partition"),
        ("link", "PCIE", "gpu-topology"),
        ("uncorrectable_errors", 2, "gpu-ecc"),
        ("name", "AMD Instinct MI210", "gpu-name"),
        ("memory_used_mb", 100000, "gpu-memory"),
        ("processes", [{"pid": 1, "name": "x", "memory_mb": 900}], "gpu-processes"),
    ],
)
def test_one_fault_is_one_failure_of_the_engines_device(node, not_ok, path, value, check):
    node.make("amd-mi355x")
    node.set(f"devices.1.{path}", value)  # which HIP counts as 3

    subject = "devices 0-3" if check == "gpu-topology" else "device 3"
    assert not_ok() == {check: ("failed", subject)}


# --- the lab's tools ----------------------------------------------------------------------------


def test_the_table_is_the_real_one_to_the_letter(node):
    node.make("amd-mi355x")
    node.set("vbios_version", "00165724")
    for gpu, seen in {1: (250, 48, 7), 3: (242, 49, 4)}.items():
        for key, value in zip(("power_w", "temperature_c", "oam_id"), seen, strict=True):
            node.set(f"devices.{gpu}.{key}", value)
        agent = {"pid": 326601, "name": "gpuagent", "memory_mb": 0}
        node.set(f"devices.{gpu}.processes", [agent])

    lines = say("amd-smi").stdout.splitlines()

    # The lines of the other GPUs left out: three above the second, three below it, twelve at last.
    assert lines[:8] + lines[11:14] + lines[17:19] + lines[31:] == REAL_TABLE.splitlines()


def test_rocm_smi_alone_prints_a_table(node):
    lines = say("rocm-smi").stdout.splitlines()

    assert sum("AMD Instinct MI300X" in line for line in lines) == 8
    assert sum("NPS1, SPX" in line for line in lines) == 8


def test_an_idle_rocm_smi_has_no_json_of_processes(node):
    answer = say("rocm-smi", "--showpids", "--json")

    assert (answer.rc, answer.stdout) == (0, "")
    assert answer.stderr == "WARNING: No JSON data to report\n"


def test_what_a_tool_does_not_know_is_refused(node):
    assert say("amd-smi", "metrics", "--json").rc == 1
    assert say("rocm-smi", "--showtemp").rc == 1


@pytest.mark.parametrize("tool", ["amd-smi", "rocm-smi"])
def test_the_commands_work_from_a_link_elsewhere(node, tmp_path, tool):
    (tmp_path / tool).symlink_to(EMULATORS / tool)

    answer = subprocess.run(
        [tmp_path / tool], capture_output=True, text=True, timeout=20, check=True
    )

    assert "AMD Instinct MI300X" in answer.stdout
