"""What is held against a node's GPUs before a deployment may use them."""

from __future__ import annotations

import json
import os
import time
from xml.etree import ElementTree

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import checks as amd_checks
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import checks as gpu_checks
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import look_io as gpu_look
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import RULES
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.cuda import driver_needs
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    NvidiaGpus,
    parse_query,
)
from ansible_collections.muster.serving.plugins.modules import gpu_topology_check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.emulators import nvidia_tools
from lab.emulators.state import load_state
from lab.emulators.state import save_state as lab_save
from tests.unit.amd_node import AmdNode
from tests.unit.amd_node import say as amd_say
from tests.unit.emulated_node import DRESSES, EMULATORS, WORDY
from tests.unit.npu_node import capture
from tests.unit.nvidia_node import NvidiaNode

OWN_UNIT = "muster-b200-r0-single.service"
OURS, FOREIGN = 4711, 4712


@pytest.fixture
def files(tmp_path):
    files = NodeFiles(str(tmp_path))
    files.write("/usr/bin/nvidia-container-runtime-hook", "", mode=0o755)
    os.makedirs(files.path("/dev/dri"))
    for name in ("nvidia0", "kfd", *(f"dri/renderD{128 + n}" for n in range(8))):
        os.symlink("/dev/null", files.path(f"/dev/{name}"))
    return files


@pytest.fixture
def owners(monkeypatch):
    ours = Owner(OURS, "python3", container=OWN_UNIT[: -len(".service")])
    theirs = Owner(FOREIGN, "train.py", container_id="f" * 64, container="notebook")
    monkeypatch.setattr(gpu_look, "read_owner", lambda pid: {OURS: ours, FOREIGN: theirs}[pid])


@pytest.fixture
def node(tmp_path, monkeypatch, owners):
    node = NvidiaNode(tmp_path, monkeypatch)
    node.run_in_process()
    node.make("nvidia-hgx-b200")
    return node


@pytest.fixture
def amd_node(tmp_path, monkeypatch, owners):
    node = AmdNode(tmp_path, monkeypatch)
    node.run_in_process()
    return node


def options(**changed):
    return {
        "vendor": "nvidia",
        "device_count": 8,
        "devices": None,
        "device_names": ["H[12]00", r"\bB200\b"],
        "min_driver": "570",
        "driver": None,
        "own_units": [OWN_UNIT],
        "memory_utilization": 0.92,
        "device_nodes": [],
        "mounts": [],
        "fabric_manager": True,
        "container_gpus": True,
        "multi_node": False,
        "compiler": None,
        "cuda_home": None,
        "tool_path": "nvidia-smi",
        "timeout": 5,
        **changed,
    }


ALONE = {"fabric_manager": False, "container_gpus": False}


def amd_options(**changed):
    mine = {
        "vendor": "amd",
        "tool_path": "amd-smi",
        "device_names": ["MI3[0-9]{2}X"],
        "min_driver": None,
    }
    return options(**{**mine, **changed})


def not_ok(files, params):
    """(id, status, subject, observed) of all that is not ok."""
    return [
        (c["id"], c["status"], c["subject"], c["observed"])
        for c in gpu_look.inspect(params, files)["checks"]
        if c["status"] != "ok"
    ]


def test_a_healthy_node_passes_every_check(node, files):
    result = gpu_look.inspect(options(), files)

    assert [(c["id"], c["status"], c["subject"]) for c in result["checks"]] == [
        ("gpu-driver-loaded", "ok", "NVIDIA driver"),
        ("gpu-tool", "ok", "nvidia-smi"),
        ("gpu-count", "ok", "devices 0-7"),
        ("gpu-name", "ok", "devices 0-7"),
        ("gpu-health", "ok", "devices 0-7"),
        ("gpu-ecc", "ok", "devices 0-7"),
        ("gpu-processes", "ok", "devices 0-7"),
        ("gpu-memory", "ok", "devices 0-7"),
        ("gpu-persistence", "ok", "devices 0-7"),
        ("gpu-compute-mode", "ok", "devices 0-7"),
        ("gpu-mig", "ok", "devices 0-7"),
        ("gpu-topology", "ok", "devices 0-7"),
        ("gpu-driver", "ok", "driver"),
        ("gpu-fabric-manager", "ok", "nvidia-fabricmanager.service"),
        ("gpu-fabric-manager", "ok", "fabric manager version"),
        ("gpu-fabric-manager", "ok", "devices 0-7"),
        ("gpu-toolkit", "ok", "NVIDIA container toolkit"),
    ]
    assert {c["phase"] for c in result["checks"]} == {"bare"}
    assert result["facts"] == {"driver_version": "580.105.08"}


def test_a_healthy_amd_node_passes_every_check(amd_node, files):
    result = gpu_look.inspect(amd_options(), files)

    assert {(c["id"], c["status"]) for c in result["checks"]} >= {
        ("gpu-tool", "ok"),
        ("gpu-count", "ok"),
        ("gpu-name", "ok"),
        ("gpu-health", "ok"),
        ("gpu-processes", "ok"),
        ("gpu-memory", "ok"),
        ("gpu-topology", "ok"),
        ("gpu-device-nodes", "ok"),
    }
    assert not_ok(files, amd_options()) == []
    assert not {c["id"] for c in result["checks"]} & {"gpu-fabric-manager", "gpu-toolkit"}
    assert result["facts"]["driver_version"]


def test_a_driver_is_held_against_what_the_engine_is_built_for(node, files):
    """Two floors: the plan's own word counts, and min_driver alone where there is none."""
    (alone,) = (c for c in gpu_look.inspect(options(), files)["checks"] if c["id"] == "gpu-driver")
    assert (alone["status"], alone["expected"]) == ("ok", "570 or later")
    node.set("driver_version", "570.86.15")
    needs = driver_needs("13.0", "the engine is built for CUDA 13.0", sure=True)
    (wants,) = (
        c
        for c in gpu_look.inspect(options(driver=needs), files)["checks"]
        if c["id"] == "gpu-driver"
    )
    assert (wants["status"], wants["observed"]) == ("failed", "570.86.15")
    assert wants["expected"].startswith("580.65.06 or later: the engine is built for CUDA 13.0")


FAULTS = [
    ("devices.7.present", False, "gpu-count", "failed", "device 7", "not listed by nvidia-smi"),
    ("devices.3.name", "NVIDIA B20", "gpu-name", "failed", "device 3", "NVIDIA B20"),
    ("devices.3.lost", True, "gpu-health", "failed", "device 3", "GPU is lost"),
    ("devices.3.dram_uncorrectable", 2, "gpu-ecc", "failed", "device 3", "2 errors"),
    (
        "devices.3.remapped_row_pending",
        "Yes",
        "gpu-health",
        "failed",
        "device 3",
        "row remapping pending",
    ),
    ("devices.3.ecc_mode", "Disabled", "gpu-ecc", "warning", "device 3", "no error counters"),
    (
        "devices.3.memory_used_mb",
        16000,
        "gpu-memory",
        "failed",
        "device 3",
        "16000 of 183359 MB used, by no process that nvidia-smi lists",
    ),
    (
        "devices.3.memory_used_mb",
        9000,
        "gpu-processes",
        "unknown",
        "device 3",
        "9000 MB used, and nvidia-smi lists no process",
    ),
    (
        "devices.*.persistence_mode",
        "Disabled",
        "gpu-persistence",
        "warning",
        "devices 0-7",
        "persistence mode Disabled",
    ),
    ("devices.3.mig_mode", "Enabled", "gpu-mig", "failed", "device 3", "MIG Enabled"),
    (
        "devices.3.compute_mode",
        "Prohibited",
        "gpu-compute-mode",
        "failed",
        "device 3",
        "compute mode Prohibited",
    ),
    (
        "devices.7.link",
        "SYS",
        "gpu-topology",
        "failed",
        "devices 0-7",
        "SYS between 0-7, 1-7, 2-7, 3-7 and 3 more pairs",
    ),
    (
        "devices.5.fabric_state",
        "In Progress",
        "gpu-fabric-manager",
        "failed",
        "device 5",
        "In Progress, status Success",
    ),
    (
        "fabric_manager_version",
        "570.86.15",
        "gpu-fabric-manager",
        "failed",
        "fabric manager version",
        "570.86.15",
    ),
]


@pytest.mark.parametrize(("path", "value", "check_id", "status", "subject", "observed"), FAULTS)
def test_a_fault_is_named_with_its_device_and_remedy(
    node, files, path, value, check_id, status, subject, observed
):
    node.set(path, value)

    checks = gpu_look.inspect(options(), files)["checks"]

    assert (check_id, status, subject, observed) in not_ok(files, options())
    assert all(c["remedy"] and c["expected"] for c in checks if c["status"] != "ok")


# What the tools say of a driver or GPU that is not as it should be: words of theirs in public
# reports, and of a GPU that was hidden piece by piece. Then the check that has the cause, a part of
# what it saw and of its remedy.
WORDS = [
    (
        "nvidia",
        "Failed to initialize NVML: Driver/library version mismatch\n"
        "NVML library version: 565.57\n",
        18,
        ("gpu-driver-loaded", "the loaded driver is not the installed one", "reboot"),
    ),
    (
        "nvidia",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
        "that the latest NVIDIA driver is installed and running.\n",
        9,
        ("gpu-driver-loaded", "installed, but not loaded", "modprobe nvidia"),
    ),
    (
        "nvidia",
        "Failed to initialize NVML: Driver Not Loaded\n",
        9,
        ("gpu-driver-loaded", "installed, but not loaded", "modprobe nvidia"),
    ),
    (
        "nvidia",
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that "
        "the NVIDIA Display Driver is properly installed and present in your system.\n",
        12,
        ("gpu-driver-loaded", "libnvidia-ml.so is missing", "ldconfig"),
    ),
    (
        "nvidia",
        "Failed to initialize NVML: Function Not Found\n",
        13,
        ("gpu-driver-loaded", "of an older driver", "one version"),
    ),
    (
        "nvidia",
        "Unable to determine the device handle for GPU 0000:41:00.0: GPU is lost.  Reboot the "
        "system to recover this GPU\n",
        15,
        ("gpu-tool", "a GPU is lost", "Xid 79"),
    ),
    (
        "nvidia",
        "Unable to determine the device handle for GPU0000:1A:00.0: Unknown Error\n",
        255,
        ("gpu-tool", "does not answer the driver", "dmesg"),
    ),
    ("nvidia", "No devices were found\n", 6, ("gpu-tool", "has no GPU", "lspci")),
    (
        "nvidia",
        "Failed to initialize NVML: GPU access blocked by the operating system\n",
        17,
        ("gpu-tool", "may not be opened", "/dev/nvidiactl"),
    ),
    (
        "nvidia",
        "Failed to initialize NVML: Insufficient Permissions\n",
        4,
        ("gpu-tool", "may not ask", "become"),
    ),
    (
        "amd",
        "ERROR:root:Unable to get devices, driver not initialized (amdgpu not found in modules)\n",
        255,
        ("gpu-driver-loaded", "not loaded", "modprobe amdgpu"),
    ),
    (
        "amd",
        "OSError: libamd_smi.so: cannot open shared object file: No such file or directory\n",
        1,
        ("gpu-driver-loaded", "library of amd-smi is missing", "amd-smi-lib"),
    ),
]


@pytest.mark.parametrize(("vendor", "said", "rc", "expected"), WORDS)
def test_a_driver_that_fails_is_told_by_its_tools_words(
    tmp_path, files, monkeypatch, vendor, said, rc, expected
):
    tool = tmp_path / "smi"
    tool.write_text(f"#!/bin/sh\ncat <<'EOF'\n{said}EOF\nexit {rc}\n")
    tool.chmod(0o755)
    check_id, observed, remedy = expected
    asked = options(vendor=vendor, tool_path=str(tool), **ALONE)

    checks = {c["id"]: c for c in gpu_look.inspect(asked, files)["checks"]}

    assert observed in checks[check_id]["observed"]
    assert said.split()[-1][:8] in " ".join(c["observed"] for c in checks.values())
    assert remedy in checks[check_id]["remedy"]
    loaded, told = checks["gpu-driver-loaded"], checks["gpu-tool"]
    assert told["status"] == "failed"
    # The tool itself names the same remedy, and no other.
    assert told["remedy"] == checks[check_id]["remedy"]
    assert loaded["status"] == ("failed" if check_id == "gpu-driver-loaded" else "ok")


@pytest.mark.parametrize("driver", ["mismatch", "unloaded", "no-library"])
def test_the_labs_driver_fails_as_the_real_one(node, files, driver):
    node.set("driver", driver)

    [loaded, tool] = gpu_look.inspect(options(**ALONE), files)["checks"]
    assert (loaded["id"], loaded["status"], tool["status"]) == (
        "gpu-driver-loaded",
        "failed",
        "failed",
    )


def vanished(before, after):
    """The ids of checks that are gone, though neither tool nor device is said to have failed."""
    failed = {c["id"] for c in after if c["status"] == "failed"}
    gone = {c["id"] for c in before} - {c["id"] for c in after}
    return set() if failed & {"gpu-tool", "gpu-count", "gpu-health"} else gone


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_check_vanishes_with_an_element(node, files, data):
    text = nvidia_tools._query_xml(load_state())
    state = load_state()
    before = gpu_look.inspect(options(), files)["checks"]
    head, body = text.split("<nvidia_smi_log>", 1)
    root = ElementTree.fromstring(f"<nvidia_smi_log>{body}")  # noqa: S314 - the emulator's own
    parents = [parent for parent in root.iter() if len(parent)]
    for _time in range(data.draw(st.integers(1, 4))):
        parent = data.draw(st.sampled_from(parents))
        if len(parent):
            parent.remove(data.draw(st.sampled_from(list(parent))))
    left = f"{head}{ElementTree.tostring(root, encoding='unicode')}\n"
    node.set("faults.nvidia-smi -q", {"output": left})

    after = gpu_look.inspect(options(), files)["checks"]
    lab_save(state)

    assert vanished(before, after) == set()
    # And what is missing is told by one check at least, unless nobody looks at it.
    assert after[0]["id"] == "gpu-driver-loaded"


@pytest.mark.parametrize("said", ["", "Not supported\n"])
@pytest.mark.parametrize("query", ["nvidia-smi -q", "nvidia-smi topo", "nv-fabricmanager"])
def test_no_check_vanishes_with_an_answer(node, files, query, said):
    before = gpu_look.inspect(options(), files)["checks"]
    node.set(f"faults.{query}", {"output": said, "rc": 1})

    assert vanished(before, gpu_look.inspect(options(), files)["checks"]) == set()


@pytest.mark.parametrize("query", ["list", "static", "metric", "process", "topology", "partition"])
@pytest.mark.parametrize("said", ["", "[]", "[{}]", "KeyError"])
def test_no_check_of_an_amd_node_vanishes_with_an_answer(amd_node, files, query, said):
    before = gpu_look.inspect(amd_options(), files)["checks"]
    amd_node.set(f"faults.amd-smi {query}", {"output": said, "rc": 1})

    assert vanished(before, gpu_look.inspect(amd_options(), files)["checks"]) == set()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["list", "static", "metric", "process", "topology"]),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
)
def test_no_check_of_an_amd_node_vanishes_with_a_field(amd_node, files, query, places):
    state = load_state()
    before = gpu_look.inspect(amd_options(), files)["checks"]
    document = json.loads(amd_say("amd-smi", query, "--json").stdout)
    for place in places:
        holders = [one for one in walk(document) if one]
        if holders:
            holder = holders[place % len(holders)]
            holder.pop(list(holder)[place % len(holder)])
    amd_node.set(f"faults.amd-smi {query}", {"output": json.dumps(document)})

    after = gpu_look.inspect(amd_options(), files)["checks"]
    lab_save(state)

    assert vanished(before, after) == set()


def walk(value):
    """All maps in a JSON document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            yield from walk(inner)


def test_the_four_troubles_have_four_remedies():
    for rules in (RULES, amd_checks.RULES):
        remedies = [one.remedy for one in rules.driver.complaints]
        remedies += [rules.driver.install, rules.driver.bring_tool]
        assert len(set(remedies)) >= len(remedies) - 1


@pytest.mark.parametrize("text", ["", "Segmentation fault", "nvidia-smi: command garbled"])
def test_words_that_nobody_knows_name_no_cause(text):
    assert RULES.driver.complaint(text) is None
    seen = NvidiaGpus(problems=["nvidia-smi says: ?"], printed=text)
    checks = {
        c["id"]: c
        for c in gpu_checks.gpu_checks(
            RULES, seen, [0], [], [], 0.9, whole_fabric=False, owner_of=Owner, loaded=True
        )
    }
    assert checks["gpu-driver-loaded"]["status"] == "ok"
    assert checks["gpu-tool"]["remedy"] == "look at what nvidia-smi prints and at dmesg"


def test_a_lost_gpu_beside_others_has_its_own_remedy(node, files):
    """nvidia-smi lists the others, and says of the lost one what it cannot."""
    table = nvidia_tools._query_xml(load_state())
    lost = "Unable to determine the device handle for GPU0000:DF:00.0: Unknown Error\n"
    node.set("faults.nvidia-smi -q", {"output": table + lost})

    [tool] = [c for c in gpu_look.inspect(options(), files)["checks"] if c["id"] == "gpu-tool"]
    assert tool["status"] == "warning"
    assert "dmesg (NVRM, Xid)" in tool["remedy"]


@pytest.mark.parametrize("name", sorted(DRESSES))
@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_a_wrapper_around_the_tools_takes_no_check_away(
    tmp_path, monkeypatch, owners, files, vendor, name
):
    node = {"nvidia": NvidiaNode, "amd": AmdNode}[vendor](tmp_path, monkeypatch)
    node.run_in_process()
    asked = amd_options() if vendor == "amd" else options(**ALONE)
    plain = gpu_look.inspect(asked, files)
    node.dress = DRESSES[name]

    dressed = gpu_look.inspect(asked, files)

    assert dressed["facts"] == plain["facts"]
    assert [(c["id"], c["status"]) for c in dressed["checks"] if c["id"] != "gpu-tool"] == [
        (c["id"], c["status"]) for c in plain["checks"] if c["id"] != "gpu-tool"
    ]
    # amd-smi's own warnings stand beside its JSON, too, and are passed over.
    doubted = vendor == "nvidia" and name in WORDY
    [tool] = [c for c in dressed["checks"] if c["id"] == "gpu-tool"]
    assert tool["status"] == ("warning" if doubted else "ok")
    assert ("infoROM" in tool["remedy"]) == (doubted and "after" in name)


@pytest.mark.parametrize("gone", range(8))
@pytest.mark.parametrize("spelling", ["GPU{}", "GPU {}"])
def test_the_gpu_that_has_no_handle_is_the_one_that_is_missed(node, files, gone, spelling):
    """nvidia-smi lists the others one after the other; their numbers are those of all."""
    node.set(f"devices.{(gone + 3) % 8}.name", "NVIDIA B20")
    root = ElementTree.fromstring(  # noqa: S314 - the emulator's own
        nvidia_tools._query_xml(load_state()).split("?>", 1)[1].split(">", 1)[1]
    )
    lost = root.findall("gpu")[gone]
    root.remove(lost)
    address = spelling.format(lost.get("id")[4:].lower())
    node.set(
        "faults.nvidia-smi -q",
        {
            "output": f"<?xml version='1.0' ?>\n{ElementTree.tostring(root, encoding='unicode')}\n"
            f"Unable to determine the device handle for {address}: Unknown Error\n",
            "rc": 15,
        },
    )

    told = not_ok(files, options())

    assert ("gpu-count", "failed", f"device {gone}", "not listed by nvidia-smi") in told
    assert ("gpu-name", "failed", f"device {(gone + 3) % 8}", "NVIDIA B20") in told


RACK = {"device_names": [r"B200"], "device_count": 4}


@pytest.mark.parametrize("name", ["NVIDIA GB200", "NVIDIA GB300"])
def test_a_node_of_a_rack_needs_no_fabric_manager_of_its_own(node, files, name):
    node.make("nvidia-hgx-b200", devices=4)
    node.set("devices.*.name", name)
    node.fabric_manager = "inactive"
    asked = options(**{**RACK, "device_names": ["GB[23]00"]})

    assert not_ok(files, asked) == []
    assert "nv-fabricmanager --version" not in node.asked
    fabric = {
        c["observed"]
        for c in gpu_look.inspect(asked, files)["checks"]
        if c["id"] == "gpu-fabric-manager"
    }
    assert fabric == {
        "none is needed: it runs on the rack's NVLink switches",
        "Completed, status Success",
    }


def test_an_hgx_b200_still_needs_its_fabric_manager(node, files):
    node.fabric_manager = "inactive"

    assert [c[:2] for c in not_ok(files, options(multi_node=True))] == [
        ("gpu-fabric-manager", "failed")
    ]


IMEX_UP = """Connectivity Table Legend:
C - Connected - Ready for operation

3/25/2025 10:39:43.659
Nodes:
Node #0   * 10.136.206.48 *   - READY                - Version: 570.124.06
Node #1   - 10.136.206.49     - READY                - Version: 570.124.06

 Nodes From\\To  0   1
       0        C   C
       1        C   C
Domain State: UP
"""


@pytest.mark.parametrize(
    ("service", "said", "status", "observed"),
    [
        ("active", IMEX_UP, "ok", "active, domain UP"),
        ("inactive", "", "warning", "inactive"),
        ("active", "", "unknown", "active; nvidia-imex-ctl -N tells no state of the domain"),
        (
            "active",
            IMEX_UP.replace("UP", "DEGRADED").replace("49     - READY", "49     - UNAVAILABLE"),
            "warning",
            "domain DEGRADED, 10.136.206.49 UNAVAILABLE",
        ),
    ],
)
def test_imex_joins_the_nodes_of_a_rack(node, files, service, said, status, observed):
    node.make("nvidia-hgx-b200", devices=4)
    node.set("devices.*.name", "NVIDIA GB200")
    node.services = {"nvidia-imex.service": service}
    node.imex = said

    asked = options(**RACK, multi_node=True)
    [imex] = [c for c in gpu_look.inspect(asked, files)["checks"] if c["id"] == "gpu-imex"]

    assert (imex["status"], imex["observed"]) == (status, observed)
    # One node needs none.
    alone = gpu_look.inspect(options(**RACK), files)["checks"]
    assert [c["status"] for c in alone if c["id"] == "gpu-imex"] == ["ok"]


@pytest.mark.parametrize(
    ("name", "patterns", "status"),
    [
        ("NVIDIA H800", ["A100", "H100"], "warning"),
        ("NVIDIA H800 PCIe", ["H100"], "warning"),
        ("NVIDIA A800-SXM4-80GB", ["A100"], "warning"),
        ("NVIDIA H800", ["B200"], "failed"),
        ("NVIDIA H20", ["A100", "H20"], "ok"),
        ("NVIDIA H20-3e", ["H20"], "ok"),
        ("NVIDIA L20", ["H20"], "failed"),
        ("NVIDIA Device 2330", ["H100"], "unknown"),
        ("NVIDIA Graphics Device", ["H100"], "unknown"),
        ("10de:2330", ["H100"], "unknown"),
        ("0x74a1", ["MI300X"], "unknown"),
        ("[74b5]", ["MI300X"], "unknown"),
        ("AMD Instinct MI300X", ["MI300X"], "ok"),
        ("NVIDIA A10", ["A100"], "failed"),
    ],
)
def test_a_name_is_held_to_the_recipes(name, patterns, status):
    finding = gpu_checks._name(RULES, {"device_id": 0, "name": name}, patterns)
    assert finding.status == status
    assert bool(finding.remedy) == (status != "ok")
    assert name in finding.observed


def test_a_lost_gpu_is_one_failure(node, files):
    node.set("devices.3.lost", True)

    assert not_ok(files, options()) == [("gpu-health", "failed", "device 3", "GPU is lost")]


def test_a_fault_elsewhere_does_not_concern_the_deployment(node, files):
    node.set("devices.6.recovery_action", "Reset")
    node.set("devices.7.link", "SYS")
    node.set("devices.7.mig_mode", "Enabled")
    node.set("devices.7.processes", [{"pid": FOREIGN, "name": "", "memory_mb": 60000}])
    node.set("devices.7.fabric_state", "Not Started")

    assert not_ok(files, options(device_count=4, devices=[0, 1, 2, 3])) == []


def test_foreign_processes_are_named_with_their_container(node, files):
    node.set("devices.2.processes", [{"pid": FOREIGN, "name": "python3", "memory_mb": 30000}])

    assert not_ok(files, options()) == [
        (
            "gpu-processes",
            "failed",
            "device 2",
            f"used by pid {FOREIGN} (train.py) in container notebook",
        )
    ]


@pytest.mark.parametrize(
    ("capture_name", "share", "found"),
    [
        ("idle", 0.92, []),
        ("busy", 0.8, [("gpu-processes", "failed")]),
        ("busy", 0.92, [("gpu-processes", "failed"), ("gpu-memory", "failed")]),
        # The same moment, seen from another PID namespace than the holder's.
        ("busy_OTHER_PID_NAMESPACE", 0.8, [("gpu-processes", "unknown")]),
        ("busy_OTHER_PID_NAMESPACE", 0.92, [("gpu-memory", "failed")]),
    ],
)
def test_a_real_gpu_that_is_held_is_found_whoever_looks(capture_name, share, found):
    checks = gpu_checks.gpu_checks(
        RULES,
        parse_query(capture(f"nvidia_smi_query_H200_580_{capture_name}")),
        [0],
        ["H200"],
        [OWN_UNIT],
        share,
        whole_fabric=False,
        owner_of=Owner,
    )

    bad = [one for one in checks if one["status"] != "ok"]
    assert [(one["id"], one["status"]) for one in bad] == found
    if "OTHER" in capture_name:
        assert "PID namespace" in bad[0]["remedy"]
        assert "nvidia-smi lists no process" in bad[0]["observed"] or "by no" in bad[0]["observed"]


def test_own_processes_and_their_memory_are_no_obstacle(node, files):
    for device in range(8):
        node.set(f"devices.{device}.processes", [{"pid": OURS, "name": "", "memory_mb": 60000}])
    node.set("devices.*.memory_used_mb", 170000)

    assert not_ok(files, options()) == []
    assert [check[:2] for check in not_ok(files, options(own_units=[]))] == [
        ("gpu-processes", "failed"),
        ("gpu-memory", "failed"),
    ]


def test_cards_without_nvlink_serve_with_a_warning(node, files):
    node.set("devices.*.link", "PHB")

    alone = options(fabric_manager=False, device_count=2)
    assert not_ok(files, alone) == [
        ("gpu-topology", "warning", "devices 0-1", "PHB between 0-1"),
    ]
    # Where switches join the GPUs, this is a fault.
    assert not_ok(files, options(device_count=2)) == [
        ("gpu-topology", "failed", "devices 0-1", "PHB between 0-1"),
    ]


def test_bridged_pairs_are_no_broken_mesh(node, files):
    matrix = "\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\n"
    for gpu, row in enumerate((" X NV12 SYS SYS", "NV12 X SYS SYS", "SYS SYS X NV12")):
        matrix += f"GPU{gpu}\t" + "\t".join(row.split()) + "\t0-31\n"
    node.set("faults.nvidia-smi topo", {"output": matrix + "GPU3\tSYS\tSYS\tNV12\tX\t0-31\n"})

    assert not_ok(files, options(fabric_manager=False, device_count=4)) == [
        (
            "gpu-topology",
            "warning",
            "devices 0-3",
            "SYS between 0-2, 0-3, 1-2, 1-3",
        )
    ]


def test_an_untold_topology_is_unknown(node, files):
    node.set("faults.nvidia-smi topo", {"output": "Not supported\n"})

    assert ("gpu-topology", "unknown", "devices 0-7", "nvidia-smi tells no topology") in not_ok(
        files, options()
    )


def test_one_device_needs_no_links(node, files):
    node.set("faults.nvidia-smi topo", {"output": "Not supported\n"})

    assert [c[0] for c in not_ok(files, options(device_count=1))] == ["gpu-tool"]


@pytest.mark.parametrize(
    ("answer", "status", "observed"),
    [
        ("inactive", "failed", "inactive"),
        ("failed", "failed", "failed"),
        ("", "unknown", "systemctl does not tell"),
    ],
)
def test_a_fabric_manager_that_does_not_run_is_seen(node, files, answer, status, observed):
    node.fabric_manager = answer

    assert not_ok(files, options()) == [
        ("gpu-fabric-manager", status, "nvidia-fabricmanager.service", observed)
    ]


def test_without_switches_no_fabric_manager_is_asked_for(node, files):
    node.fabric_manager = "inactive"

    assert not_ok(files, options(fabric_manager=False)) == []
    assert "nv-fabricmanager --version" not in node.asked


@pytest.mark.parametrize(
    "brings", ["/usr/local/bin/nvidia-ctk", "/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.json"]
)
def test_the_container_toolkit_is_found_or_missed(node, files, brings):
    files.remove("/usr/bin/nvidia-container-runtime-hook")
    files.write("/etc/cdi/other-vendor.yaml", "")

    assert not_ok(files, options()) == [
        ("gpu-toolkit", "failed", "NVIDIA container toolkit", "missing")
    ]
    assert not_ok(files, options(container_gpus=False)) == []
    files.write(brings, "")
    assert not_ok(files, options()) == []


def test_device_nodes_and_driver_files_are_looked_at(node, files):
    params = options(
        device_nodes=["/dev/nvidia0", "/dev/nvidia1", "/dev/dri"],
        mounts=["/opt/rocm:/opt/rocm:ro", "/data/model:/data/model"],
    )

    assert [check[:3] for check in not_ok(files, params)] == [
        ("device-node", "failed", "/dev/nvidia1"),
        ("driver-mount", "failed", "/opt/rocm"),
    ]


def test_an_amd_node_is_judged_by_the_same_checks(amd_node, files):
    amd_node.set("devices.2.processes", [{"pid": FOREIGN, "name": "python3", "memory_mb": 900}])
    os.unlink(files.path("/dev/kfd"))

    assert [check[:2] for check in not_ok(files, amd_options(device_names=["MI355X"]))] == [
        ("gpu-name", "failed"),
        ("gpu-processes", "failed"),
        ("gpu-device-nodes", "failed"),
    ]


DEVICE = st.fixed_dictionaries(
    {
        "name": st.none() | st.text(max_size=5),
        "memory_used_mb": st.none() | st.integers(0, 200000),
        "memory_total_mb": st.none() | st.integers(1, 200000),
        "uncorrectable_errors": st.none() | st.integers(0, 3),
        "lost": st.booleans(),
        "unreadable": st.lists(st.just("ERR!"), max_size=1),
        "recovery_action": st.none() | st.just("Reset"),
        "conditions": st.lists(st.just("remapped_row_pending"), max_size=1),
        "persistence_mode": st.none() | st.just("Enabled"),
        "compute_mode": st.none() | st.sampled_from(["Default", "Exclusive_Process", "Prohibited"]),
        "mig_mode": st.none() | st.just("Enabled"),
        "mig_pending": st.none() | st.sampled_from(["Enabled", "Disabled"]),
        "processes": st.none() | st.just([{"pid": 1, "name": "", "memory_mb": None}]),
        "fabric": st.none() | st.just({"state": "Completed", "status": None}),
    }
)


@given(
    st.lists(DEVICE, max_size=4),
    st.lists(st.lists(st.sampled_from(["X", "NV18", "SYS"]), min_size=3, max_size=3), max_size=3),
    st.none() | st.text(max_size=9),
)
def test_whatever_was_observed_has_a_verdict(devices, matrix, version):
    gpus = NvidiaGpus(
        [{"device_id": n, **device} for n, device in enumerate(devices)],
        version,
        {"devices": [0, 1, 2], "links": matrix} if len(matrix) == 3 else None,
        [] if devices else ["none"],
    )
    checks = gpu_checks.gpu_checks(
        RULES,
        gpus,
        [0, 1, 2],
        ["a"],
        [],
        0.9,
        whole_fabric=False,
        owner_of=Owner,
    )

    assert [c["id"] for c in checks if c["status"] != "ok" and not c["remedy"]] == []
    assert checks[1]["status"] == ("ok" if devices else "failed")


# --- the module ---------------------------------------------------------------------------------


def run_module(capsys, **arguments):
    with patch_module_args({"vendor": "nvidia", **arguments}), pytest.raises(SystemExit):
        gpu_topology_check.main()
    return json.loads(capsys.readouterr().out)


def test_the_module_returns_checks_and_facts(tmp_path, monkeypatch, capsys):
    NvidiaNode(tmp_path, monkeypatch)
    smi = str(EMULATORS / "nvidia-smi")

    result = run_module(capsys, device_count=2, tool_path=smi, _ansible_check_mode=True)

    assert result["changed"] is False
    assert [c for c in result["checks"] if c["status"] != "ok"] == []
    assert result["facts"] == {"driver_version": "580.105.08"}


def test_without_a_tool_one_check_says_so(tmp_path, files):
    result = gpu_look.inspect(options(tool_path="/nowhere/nvidia-smi", **ALONE), files)

    assert [(c["id"], c["status"], c["observed"]) for c in result["checks"]] == [
        (
            "gpu-driver-loaded",
            "failed",
            "not installed: no nvidia-smi, and the kernel has no such driver",
        ),
        (
            "gpu-tool",
            "failed",
            "/nowhere/nvidia-smi could not be started: No such file or directory",
        ),
    ]


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_a_driver_whose_tool_alone_is_missing_is_told_apart(files, vendor):
    module = {"nvidia": "/proc/driver/nvidia/version", "amd": "/sys/module/amdgpu/version"}
    files.write(module[vendor], "580")
    asked = options(vendor=vendor, tool_path="/nowhere/smi", **ALONE)

    [loaded, tool] = [
        c for c in gpu_look.inspect(asked, files)["checks"] if c["id"] != "gpu-device-nodes"
    ]

    assert (loaded["id"], loaded["status"]) == ("gpu-driver-loaded", "ok")
    assert (tool["id"], tool["status"]) == ("gpu-tool", "failed")
    assert tool["remedy"].startswith("the driver is loaded: ")


def test_a_hanging_tool_costs_one_timeout(tmp_path, monkeypatch, capsys):
    NvidiaNode(tmp_path, monkeypatch).set("faults.nvidia-smi", {"hang": True})
    begin = time.monotonic()

    result = run_module(
        capsys, device_count=8, tool_path=str(EMULATORS / "nvidia-smi"), timeout=0.5
    )

    assert time.monotonic() - begin < 3
    [loaded, one] = result["checks"]
    # This machine has no driver, and a tool that hangs is no evidence of it.
    assert (loaded["id"], loaded["status"]) == ("gpu-driver-loaded", "unknown")
    assert (one["id"], one["status"]) == ("gpu-tool", "failed")
    assert "did not end within 0.5 s" in one["observed"]


def test_options_that_cannot_be_meant_are_refused(capsys):
    twice = run_module(capsys, device_count=8, devices=[0, 1, 1])
    strange = run_module(capsys, device_count=8, device_names=["B200", "H[100"])

    assert twice["msg"] == "devices names 2 devices, device_count is 8"
    assert strange["msg"].startswith("device_names: 'H[100' is no regular expression")
