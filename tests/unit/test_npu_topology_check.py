"""What is held against a node's NPUs before a deployment may use them."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils import npu_observe
from ansible_collections.muster.serving.plugins.module_utils.command import Output
from ansible_collections.muster.serving.plugins.module_utils.device_checks import devices_text
from ansible_collections.muster.serving.plugins.module_utils.owners import Owner
from ansible_collections.muster.serving.plugins.modules import npu_topology_check
from hypothesis import given
from hypothesis import strategies as st

from lab.emulators import device_tools
from tests.unit.npu_node import CAPTURES, EMULATORS, NpuNode, capture

OWN_UNIT = "muster-a2-cluster-r0-rank0.service"
OURS, FOREIGN = 4711, 4712


@pytest.fixture
def node(tmp_path, monkeypatch):
    node = NpuNode(tmp_path, monkeypatch)
    node.run_in_process()
    owners = {OURS: Owner(OURS, "python3", container=OWN_UNIT[: -len(".service")])}
    monkeypatch.setattr(npu_topology_check, "HCCN_CONF", str(tmp_path / "hccn.conf"))
    monkeypatch.setattr(
        npu_topology_check, "read_owner", lambda pid: owners.get(pid, Owner(pid, "train.py"))
    )
    monkeypatch.setattr(npu_topology_check, "device_numbers", lambda: list(range(8)))
    return node


def inspect(**options):
    return npu_topology_check.inspect(
        {
            "device_count": 8,
            "devices": None,
            "multi_node": True,
            "own_units": [OWN_UNIT],
            "memory_utilization": 0.92,
            "device_nodes": [],
            "mounts": [],
            "npu_smi_path": "npu-smi",
            "hccn_tool_path": "hccn_tool",
            "timeout": 5,
            **options,
        }
    )


def not_ok(**options):
    """(id, status, subject, observed) of all that is not ok."""
    return [
        (c["id"], c["status"], c["subject"], c["observed"])
        for c in inspect(**options)["checks"]
        if c["status"] != "ok"
    ]


def test_a_healthy_node_passes_every_check(node):
    result = inspect()

    assert {(c["id"], c["status"], c["subject"]) for c in result["checks"]} == {
        ("npu-tool", "ok", "npu-smi"),
        ("npu-count", "ok", "devices 0-7"),
        ("npu-health", "ok", "devices 0-7"),
        ("npu-processes", "ok", "devices 0-7"),
        ("npu-memory", "ok", "devices 0-7"),
        ("npu-topology", "ok", "devices 0-7"),
        ("npu-fabric-tool", "ok", "hccn_tool"),
        ("npu-link", "ok", "devices 0-7"),
        ("npu-net-health", "ok", "devices 0-7"),
        ("npu-address", "ok", "devices 0-7"),
        ("npu-gateway", "ok", "devices 0-7"),
        ("npu-detect-address", "ok", "devices 0-7"),
        ("npu-tls", "ok", "devices 0-7"),
        ("npu-neighbour", "ok", "device 0"),
    }
    assert {c["phase"] for c in result["checks"]} == {"bare"}
    assert result["facts"] == {
        "driver_version": "25.5.0",
        "npu_tls": [0],
        "npu_addresses": [f"10.20.0.{n}" for n in range(10, 18)],
    }


def test_a_healthy_a3_node_passes(node, monkeypatch):
    monkeypatch.setattr(npu_topology_check, "device_numbers", lambda: list(range(16)))
    node.make("a3")

    assert not_ok(device_count=16) == []


FAULTS = [
    ("devices.3.present", False, "npu-count", "failed", "device 3", "not listed by npu-smi"),
    ("devices.3.health", "Warning", "npu-health", "failed", "device 3", "Warning"),
    ("devices.*.health", "UNKNOWN", "npu-health", "failed", "devices 0-7", "UNKNOWN"),
    ("devices.3.health", "", "npu-health", "failed", "device 3", "no health told"),
    ("devices.3.hbm_used_mb", 5300, "npu-memory", "failed", "device 3", "5300 of 65536 MB used"),
    (
        "devices.7.fabric",
        "SYS",
        "npu-topology",
        "failed",
        "devices 0-7",
        "SYS between 0-7, 1-7, 2-7, 3-7 and 3 more pairs",
    ),
    ("devices.5.link", "DOWN", "npu-link", "failed", "device 5", "DOWN"),
    ("devices.*.link", "DOWN", "npu-link", "failed", "devices 0-7", "DOWN"),
    ("devices.5.net_health", "Init", "npu-net-health", "warning", "device 5", "Init"),
    (
        "devices.5.net_health",
        "Receive timeout",
        "npu-net-health",
        "failed",
        "device 5",
        "Receive timeout",
    ),
    ("devices.5.address", None, "npu-address", "failed", "device 5", "none"),
    (
        "devices.5.address",
        "10.20.0.10",
        "npu-address",
        "failed",
        "devices 0, 5",
        "shares 10.20.0.10",
    ),
    ("devices.5.gateway", None, "npu-gateway", "warning", "device 5", "none"),
    ("devices.5.netdetect", None, "npu-detect-address", "warning", "device 5", "none"),
    ("devices.5.tls", 1, "npu-tls", "failed", "device 5", "switch 1"),
    (
        "devices.0.lldp",
        "npu",
        "npu-neighbour",
        "failed",
        "device 0",
        "another NPU, cabled back to back",
    ),
]


@pytest.mark.parametrize(("path", "value", "check_id", "status", "subject", "observed"), FAULTS)
def test_a_fault_is_named_with_its_device(node, path, value, check_id, status, subject, observed):
    node.set(path, value)

    assert (check_id, status, subject, observed) in not_ok()


@pytest.mark.parametrize(("path", "value"), [(fault[0], fault[1]) for fault in FAULTS])
def test_whatever_is_not_ok_has_a_remedy(node, path, value):
    node.set(path, value)

    checks = [c for c in inspect()["checks"] if c["status"] != "ok"]

    assert checks
    assert all(c["remedy"] and c["expected"] for c in checks)


def test_a_fault_elsewhere_does_not_concern_the_deployment(node):
    node.set("devices.6.health", "Alarm")
    node.set("devices.6.link", "DOWN")
    node.set("devices.7.fabric", "SYS")
    node.set("devices.7.processes", [{"pid": FOREIGN, "name": "", "memory_mb": 60000}])

    assert not_ok(device_count=4, devices=[0, 1, 2, 3]) == []


def test_a_lost_card_is_counted_and_not_asked_for_its_port(node):
    node.set("devices.3.present", False)

    assert [check[0] for check in not_ok()] == ["npu-tool", "npu-count"]


def test_error_codes_are_shown(node):
    node.set("devices.3.health", "Alarm")
    node.set("devices.3.error_codes", ["A4025021", "8C03A000"])

    assert not_ok() == [
        ("npu-health", "failed", "device 3", "Alarm, error codes A4025021 8C03A000")
    ]


def test_foreign_processes_are_named(node):
    node.set("devices.2.processes", [{"pid": FOREIGN, "name": "python3", "memory_mb": 30000}])

    assert not_ok() == [
        ("npu-processes", "failed", "device 2", f"used by pid {FOREIGN} (train.py)")
    ]


def test_own_processes_and_their_memory_are_no_obstacle(node):
    for device in range(8):
        node.set(f"devices.{device}.processes", [{"pid": OURS, "name": "", "memory_mb": 60000}])
    node.set("devices.*.hbm_used_mb", 63000)

    assert not_ok() == []
    assert [
        c["observed"] for c in inspect()["checks"] if c["id"] in ("npu-processes", "npu-memory")
    ] == [
        "held by Muster's own units",
        "held by Muster's own units",
    ]


def test_a_stranger_beside_our_own_process_is_named(node):
    node.set(
        "devices.2.processes",
        [
            {"pid": OURS, "name": "", "memory_mb": 60000},
            {"pid": FOREIGN, "name": "", "memory_mb": 100},
        ],
    )
    assert [check[0] for check in not_ok()] == ["npu-processes"]


def test_another_deployments_unit_is_a_stranger(node):
    node.set("devices.2.processes", [{"pid": OURS, "name": "", "memory_mb": 60000}])

    assert [check[0] for check in not_ok(own_units=[])] == ["npu-processes"]


def test_an_untold_process_table_is_not_taken_for_none(node):
    table = capture("npu_smi_info_910B3_x8_24.1.rc1.b030")
    node.set("faults.npu-smi info", {"output": table})

    said = not_ok()

    assert (
        "npu-processes",
        "unknown",
        "devices 0-7",
        "npu-smi does not tell the processes",
    ) in said


def test_a_server_without_hccs_fails(node):
    node.set("faults.npu-smi topo", {"output": capture("npu_smi_topo_8card_ALL_SYS")})

    [(check_id, status, _, observed)] = not_ok()

    assert (check_id, status) == ("npu-topology", "failed")
    assert observed == "SYS between 0-1, 0-2, 0-3, 0-4 and 24 more pairs"


def test_an_untold_topology_is_unknown(node):
    node.set("faults.npu-smi topo", {"output": capture("npu_smi_topo_unsupported")})

    assert ("npu-topology", "unknown", "devices 0-7", "npu-smi tells no topology") in not_ok()


def test_a_single_node_replica_needs_no_fabric(node):
    node.set("devices.*.link", "DOWN")

    result = inspect(multi_node=False)

    assert {c["status"] for c in result["checks"]} == {"ok"}
    assert result["facts"] == {"driver_version": "25.5.0", "npu_tls": [], "npu_addresses": []}
    assert not [line for line in node.asked if line.startswith("hccn_tool")]


def test_what_the_configuration_holds_is_not_asked(node, tmp_path):
    (tmp_path / "hccn.conf").write_text(device_tools.hccn_conf(device_tools.load_state()))

    assert not_ok() == []
    # link, net_health and tls of eight devices, and one neighbour
    assert len([line for line in node.asked if line.startswith("hccn_tool")]) == 25


def test_what_the_configuration_lacks_is_asked(node, tmp_path):
    conf = device_tools.hccn_conf(device_tools.load_state())
    (tmp_path / "hccn.conf").write_text(conf.replace("address_5=10.20.0.15", "address_5="))

    assert not_ok() == []
    assert "hccn_tool -i 5 -ip -g" in node.asked


def test_a_damaged_configuration_is_a_warning(node, tmp_path):
    (tmp_path / "hccn.conf").write_text("address_0=10.20.0.10\n...\n")

    assert not_ok() == [
        (
            "npu-fabric-tool",
            "warning",
            "hccn_tool",
            "/etc/hccn.conf line 2 is not KEY_DEVICE=VALUE",
        )
    ]


def test_a_directory_in_place_of_the_configuration_is_none(node, tmp_path):
    (tmp_path / "hccn.conf").mkdir()

    assert not_ok() == []


def test_an_answer_that_is_none_is_shown(node):
    node.set("faults.hccn_tool link", {"output": "Command execute failed!\n", "rc": 1})

    assert not_ok() == [("npu-link", "unknown", "devices 0-7", "Command execute failed!")]


def test_a_busy_tool_is_asked_again(node, monkeypatch):
    answer, refusals = device_tools.hccn_tool, []

    def sometimes_busy(argv):
        if len(refusals) < 3:
            refusals.append(argv)
            print("hccn_tool is busy, please try again.")
            return 1
        return answer(argv)

    monkeypatch.setattr(device_tools, "hccn_tool", sometimes_busy)

    assert not_ok() == []
    assert len(refusals) == 3


def test_a_tool_that_stays_busy_is_given_up(node):
    with device_tools.only_one():
        assert not_ok(timeout=0.4) == [
            (
                "npu-fabric-tool",
                "failed",
                "hccn_tool",
                "hccn_tool was busy with other calls for 0.4 s",
            )
        ]


def test_the_device_nodes_and_driver_files_of_the_plan_are_looked_at(node, tmp_path):
    (tmp_path / "davinci0").touch()
    result = inspect(
        device_nodes=["/dev/null", str(tmp_path / "davinci0")],
        mounts=["/usr/local/Ascend/driver/lib64:/x:ro", "/data/weights:/data/weights"],
    )

    failed = {c["subject"]: c["status"] for c in result["checks"] if not c["id"].startswith("npu-")}
    assert failed == {
        "/dev/null": "ok",
        str(tmp_path / "davinci0"): "failed",
        "/usr/local/Ascend/driver/lib64": "failed",
    }


TEXTS = [
    *(path.read_bytes().decode() for path in sorted(CAPTURES.glob("*.txt"))),
    "hccn_tool: permission denied: pls check this cmd run permission.\n",
]


@given(st.lists(st.sampled_from(TEXTS) | st.text(max_size=200), min_size=1, max_size=4))
def test_any_output_of_the_tools_gives_checks(texts):
    answers = itertools.cycle(texts)

    def run(argv, timeout):
        return Output(0, next(answers), next(answers))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npu_observe, "run", run)
        patch.setattr(npu_topology_check, "HCCN_CONF", "/nowhere/hccn.conf")
        result = inspect()

    assert {"npu-tool", "npu-fabric-tool"} <= {c["id"] for c in result["checks"]}
    json.dumps(result)


# --- with real processes ----------------------------------------------------------------------


@pytest.fixture
def real_node(tmp_path, monkeypatch):
    monkeypatch.setattr(npu_topology_check, "device_numbers", lambda: list(range(8)))
    monkeypatch.setattr(npu_topology_check, "HCCN_CONF", str(tmp_path / "hccn.conf"))
    node = NpuNode(tmp_path, monkeypatch)
    (tmp_path / "hccn.conf").write_text(device_tools.hccn_conf(device_tools.load_state()))
    return node


def run_module(capsys, **arguments):
    tools = {
        "npu_smi_path": str(EMULATORS / "npu-smi"),
        "hccn_tool_path": str(EMULATORS / "hccn_tool"),
    }
    with patch_module_args({**tools, **arguments}), pytest.raises(SystemExit):
        npu_topology_check.main()
    return json.loads(capsys.readouterr().out)


def test_the_module_returns_checks_and_facts(real_node, capsys):
    result = run_module(capsys, device_count=2, multi_node=True, _ansible_check_mode=True)

    assert result["changed"] is False
    assert [c for c in result["checks"] if c["status"] != "ok"] == []
    assert result["facts"]["npu_addresses"] == ["10.20.0.10", "10.20.0.11"]


def test_without_npu_smi_one_check_says_so(real_node, capsys):
    result = run_module(capsys, device_count=8, npu_smi_path="/nowhere/npu-smi")

    assert [(c["id"], c["status"], c["observed"]) for c in result["checks"]] == [
        ("npu-tool", "failed", "/nowhere/npu-smi could not be started: No such file or directory")
    ]


def test_hanging_tools_cost_a_timeout_each(real_node, capsys):
    real_node.set("faults.npu-smi", {"hang": True})
    real_node.set("faults.hccn_tool", {"hang": True})
    begin = time.monotonic()

    result = run_module(capsys, device_count=8, multi_node=True, timeout=1)

    assert time.monotonic() - begin < 5
    failed = [c for c in result["checks"] if c["status"] != "ok"]
    assert [(c["id"], c["status"]) for c in failed] == [
        ("npu-tool", "failed"),
        ("npu-fabric-tool", "failed"),
    ]
    assert all("did not end within 1 s" in c["observed"] for c in failed)


def test_devices_and_their_number_must_agree(capsys):
    result = run_module(capsys, device_count=8, devices=[0, 1, 1])

    assert result["msg"] == "devices names 2 devices, device_count is 8"


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ([3], "device 3"),
        ([0, 1, 2], "devices 0-2"),
        ([6, 0, 1, 2, 4], "devices 0-2, 4, 6"),
        ([], "devices none"),
    ],
)
def test_devices_text(devices, text):
    assert devices_text(devices) == text
