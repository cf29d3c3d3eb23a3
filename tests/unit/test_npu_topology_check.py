"""What is held against a node's NPUs before a deployment may use them."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import threading
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices import tools_io
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    look_io as npu_look,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as npu_observe,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    devices_text,
)
from ansible_collections.muster.serving.plugins.modules import npu_topology_check
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.folding import rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.emulators import ascend_tools
from lab.emulators.state import load_state
from tests.unit.emulated_node import DRESSES, EMULATORS, WORDY, call
from tests.unit.npu_node import CAPTURES, NpuNode, capture

OWN_UNIT = "muster-a2-cluster-r0-rank0.service"
OURS, FOREIGN = 4711, 4712


@pytest.fixture
def node(tmp_path, monkeypatch):
    node = NpuNode(tmp_path, monkeypatch)
    node.run_in_process()
    owners = {OURS: Owner(OURS, "python3", container=OWN_UNIT[: -len(".service")])}
    monkeypatch.setattr(npu_look, "HCCN_CONF", str(tmp_path / "hccn.conf"))
    monkeypatch.setattr(npu_look, "read_owner", lambda pid: owners.get(pid, Owner(pid, "train.py")))
    monkeypatch.setattr(npu_look, "device_numbers", lambda: list(range(8)))
    return node


def inspect(**options):
    return npu_look.look(
        {
            "mode": "check",
            "device_count": 8,
            "devices": None,
            "multi_node": True,
            "min_driver": None,
            "pings": "sampled",
            "own_units": [OWN_UNIT],
            "memory_utilization": 0.92,
            "device_nodes": [],
            "mounts": [],
            "npu_smi_path": "npu-smi",
            "hccn_tool_path": "hccn_tool",
            "timeout": 5,
            **options,
        },
        check_mode=False,
    )


# What a node without /etc/hccn.conf says, as most of these tests have it.
NO_FILE = ("npu-hccn-conf", "warning", "/etc/hccn.conf", "there is no such file")


def not_ok(**options):
    """(id, status, subject, observed) of all that is not ok, but that there is no hccn.conf."""
    told = [
        (c["id"], c["status"], c["subject"], c["observed"])
        for c in inspect(**options)["checks"]
        if c["status"] != "ok"
    ]
    return [one for one in told if one != NO_FILE]


def test_a_healthy_node_passes_every_check(node, tmp_path):
    configure(tmp_path)
    result = inspect()

    assert {(c["id"], c["status"], c["subject"]) for c in result["checks"]} == {
        ("npu-driver-loaded", "ok", "NPU driver"),
        ("npu-tool", "ok", "npu-smi"),
        ("npu-driver-install", "ok", "driver"),
        ("npu-ecc", "ok", "devices 0-7"),
        ("npu-firmware", "ok", "devices 0-7"),
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
        ("npu-hccn-conf", "ok", "device 0"),
    }
    assert {c["phase"] for c in result["checks"]} == {"bare"}
    assert result["facts"] == {
        "driver_version": "25.5.0",
        "firmware_version": ["7.8.0.5.216"],
        "super_pod_id": [],
        "super_pod_server": [],
        "super_pod_sdid": [],
        "npu_tls": [0],
        "npu_addresses": [f"10.20.0.{n}" for n in range(10, 18)],
        "npu_reachable": {str(n): f"10.20.0.{10 + n}" for n in range(8)},
        "npu_vnic": {},
    }


@pytest.fixture
def a3_node(node, monkeypatch):
    monkeypatch.setattr(npu_look, "device_numbers", lambda: list(range(16)))
    node.make("a3", node=40)
    return node


def test_a_healthy_a3_node_passes(a3_node):
    assert not_ok(device_count=16) == []


def test_an_a3_node_tells_its_place_in_the_super_pod(a3_node):
    facts = inspect(device_count=16)["facts"]

    assert (facts["super_pod_id"], facts["super_pod_server"]) == ([0], ["super pod 0, server 40"])
    assert facts["super_pod_sdid"][:2] == [
        "super pod 0, SDID 167772160",
        "super pod 0, SDID 167837697",
    ]
    assert len(set(facts["super_pod_sdid"])) == 16


def test_an_a3_node_tells_where_its_hccs_ends(a3_node):
    a3_node.set("devices.1.vnic", "DOWN")
    a3_node.set("devices.2.vnic", "DOWN")

    # A sample is one chip of each card.
    assert not_ok(device_count=16) == [("npu-vnic", "failed", "device 2", "DOWN")]
    vnic = inspect(device_count=16)["facts"]["npu_vnic"]
    assert list(vnic) == [str(number) for number in range(0, 16, 2)]
    assert (vnic["0"], vnic["2"], vnic["14"]) == ("192.168.42.199", None, "192.168.42.185")

    full = {"device_count": 16, "pings": "full"}
    assert not_ok(**full) == [("npu-vnic", "failed", "devices 1-2", "DOWN")]
    assert len(inspect(**full)["facts"]["npu_vnic"]) == 16


def test_a_super_pod_matters_between_nodes_only(a3_node):
    assert inspect(device_count=16, multi_node=False)["facts"]["super_pod_id"] == []
    assert not [line for line in a3_node.asked if "spod-info" in line]


def test_a_server_that_tells_no_super_pod_is_unknown(a3_node):
    a3_node.set(
        "faults.npu-smi spod-info", {"output": capture("npu_smi_spod_info_UNSUPPORTED"), "rc": 1}
    )

    said = "This device does not support querying spod-info"
    assert not_ok(device_count=16) == [("npu-superpod", "unknown", "devices 0-15", said)]


def test_equal_sdids_are_named(a3_node):
    one = capture("npu_smi_spod_info_A3_dev0")
    a3_node.set("faults.npu-smi spod-info", {"output": one})

    assert not_ok(device_count=16) == [
        ("npu-superpod", "failed", "devices 0-15", "shares SDID 167772160")
    ]


FAULTS = [
    (
        "devices.3.present",
        False,
        "npu-count",
        "failed",
        "device 3",
        "not listed by npu-smi, though its /dev/davinciN is there",
    ),
    (
        "devices.3.ecc_double_bit_errors",
        2,
        "npu-ecc",
        "failed",
        "device 3",
        "2 double-bit errors, 0 pages isolated for double-bit errors",
    ),
    (
        "devices.3.ecc_isolated_pages",
        5,
        "npu-ecc",
        "warning",
        "device 3",
        "5 pages isolated for double-bit errors",
    ),
    (
        "firmware_compatibility",
        "NOK",
        "npu-firmware",
        "failed",
        "devices 0-7",
        "7.8.0.5.216, which does not fit driver 25.5.0",
    ),
    (
        "firmware_compatibility",
        "UNKNOWN",
        "npu-firmware",
        "unknown",
        "devices 0-7",
        "7.8.0.5.216, compatibility UNKNOWN",
    ),
    ("devices.3.firmware_version", "7.7.0", "npu-firmware", "failed", "device 3", "7.7.0"),
    (
        "driver_complete",
        False,
        "npu-driver-install",
        "warning",
        "driver",
        "npu-smi says: [WARNING]The driver package may not be completely installed, which may "
        "cause function abnormal. P...",
    ),
    ("devices.3.health", "Warning", "npu-health", "failed", "device 3", "Warning"),
    ("devices.*.health", "UNKNOWN", "npu-health", "failed", "devices 0-7", "UNKNOWN"),
    ("devices.3.health", "", "npu-health", "failed", "device 3", "no health told"),
    (
        "devices.3.hbm_used_mb",
        5300,
        "npu-memory",
        "failed",
        "device 3",
        "5300 of 65536 MB used, by no process that npu-smi lists",
    ),
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

    assert not_ok() == [(check_id, status, subject, observed)]


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

    assert [check[0] for check in not_ok()] == ["npu-count"]
    assert inspect()["facts"]["npu_reachable"]["3"] is None
    assert not [line for line in node.asked if line.startswith("hccn_tool -i 3")]


def test_a_card_that_even_the_kernel_has_lost_is_told_apart(node, monkeypatch):
    monkeypatch.setattr(npu_look, "device_numbers", lambda: [0, 1, 2, 4, 5, 6, 7])
    node.set("devices.3.present", False)

    assert not_ok(device_nodes=["/dev/davinci3"]) == [
        ("npu-count", "failed", "device 3", "not listed by npu-smi, and without /dev/davinciN"),
    ]


def test_a_lost_card_that_the_deployment_does_not_use_is_a_warning(node):
    node.set("devices.6.present", False)

    assert not_ok(device_count=4) == [
        ("npu-tool", "warning", "npu-smi", "npu-smi does not list device 6, which /dev has")
    ]


def test_a_device_without_a_node_is_told_once(node, monkeypatch):
    monkeypatch.setattr(npu_look, "device_numbers", lambda: [0, 1, 2, 4, 5, 6, 7])

    assert not_ok() == [
        ("npu-count", "failed", "device 3", "listed by npu-smi, but without /dev/davinciN")
    ]
    assert [check[:3] for check in not_ok(device_nodes=["/dev/davinci3"])] == [
        ("device-node", "failed", "/dev/davinci3")
    ]


@pytest.mark.parametrize("lines", range(5, 41))
def test_what_a_table_that_was_cut_off_does_not_list_is_not_taken_for_lost(node, lines):
    table = "".join(ascend_tools._info(load_state()).splitlines(True)[:lines])
    node.set("faults.npu-smi info", {"output": table})

    said = not_ok()

    [(check_id, status, subject, _observed)] = said
    if lines < 29:  # the last row of device 7
        assert (check_id, status, subject) == ("npu-tool", "failed", "npu-smi")
    else:
        assert (check_id, status) == ("npu-processes", "unknown")


def test_a_row_that_is_no_row_hides_a_device(node):
    table = ascend_tools._info(load_state()).splitlines(True)
    table[12] = "dcmi module initialize failed. ret is -8005\n"
    node.set("faults.npu-smi info", {"output": "".join(table)})

    [(check_id, status, _subject, observed)] = not_ok()
    assert (check_id, status) == ("npu-tool", "failed")
    assert observed.startswith("device 2 cannot be read; npu-smi says: dcmi module initialize")


def test_a_table_without_the_processes_of_a_lost_card_is_no_evidence(node):
    state = load_state()
    node.set("devices.7.present", False)
    table = ascend_tools._info(load_state())
    node.write(state)
    node.set("faults.npu-smi info", {"output": table[: table.index("| NPU     Chip")]})

    assert [check[:3] for check in not_ok()] == [("npu-tool", "failed", "npu-smi")]


def test_devices_that_cannot_be_read_are_named(node):
    table = capture("npu_smi_info_MALFORMED_6_rows_cut")
    node.set("faults.npu-smi info", {"output": table})

    [(check_id, status, subject, _observed)] = not_ok()
    assert (check_id, status, subject) == ("npu-tool", "failed", "npu-smi")


@pytest.mark.parametrize("query", ["ecc", "board"])
def test_a_query_that_is_not_supported_is_unknown(node, query):
    said = f"This device does not support querying {query}."
    node.set(f"faults.npu-smi {query}", {"output": said + "\n", "rc": 1})

    check_id = {"ecc": "npu-ecc", "board": "npu-firmware"}[query]
    assert not_ok() == [(check_id, "unknown", "devices 0-7", said[:-1])]


def test_only_the_deployments_devices_are_asked_for_their_condition(node):
    assert not_ok(device_count=2, devices=[4, 5], multi_node=False) == []
    asked = sorted(line for line in node.asked if "ecc" in line or "board" in line)
    assert asked == [
        "npu-smi info -t board -i 4",
        "npu-smi info -t board -i 5",
        "npu-smi info -t ecc -i 4 -c 0",
        "npu-smi info -t ecc -i 5 -c 0",
    ]


@pytest.mark.parametrize(
    ("version", "floor", "status"),
    [
        ("25.5.0", "25.0", "ok"),
        ("25.0.rc1.1", "25.0.rc1", "ok"),
        ("25.0.rc1", "25.0", "failed"),
        ("24.1.0.1", "25.0", "failed"),
        ("xxx", "25.0", "unknown"),
    ],
)
def test_a_driver_below_the_floor_fails(node, version, floor, status):
    node.set("driver_version", version)

    [driver] = [c for c in inspect(min_driver=floor)["checks"] if c["id"] == "npu-driver"]
    assert (driver["status"], driver["observed"], driver["expected"]) == (
        status,
        version,
        f"{floor} or later",
    )


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
    assert (result["facts"]["npu_tls"], result["facts"]["npu_addresses"]) == ([], [])
    assert not [line for line in node.asked if line.startswith("hccn_tool")]


def test_a_configuration_that_agrees_with_the_devices(node, tmp_path):
    (tmp_path / "hccn.conf").write_text(ascend_tools.hccn_conf(load_state()))

    checks = {c["id"]: (c["status"], c["subject"]) for c in inspect()["checks"]}
    # The one that was asked.
    assert checks["npu-hccn-conf"] == ("ok", "device 0")


def test_a_stale_configuration_is_a_warning(node, tmp_path):
    (tmp_path / "hccn.conf").write_text(ascend_tools.hccn_conf(load_state()))
    node.set("devices.3.address", "10.20.0.99")
    node.set("devices.*.tls", 1)

    [(check_id, status, subject, observed)] = not_ok()
    assert (check_id, status, subject) == ("npu-hccn-conf", "warning", "devices 0-7")
    assert observed.endswith("; tls_enable_2 is 0, the device has 1 and 5 more")


@pytest.mark.parametrize(
    ("line", "instead", "observed"),
    [
        ("address_5=10.20.0.15", "address_5=", "address_5 is not in it, the device has 10.20.0.15"),
        ("address_5=10.20.0.15", "", "address_5 is not in it, the device has 10.20.0.15"),
        ("address_5=10.20.0.15", "address_5=x", "address_5 is x, the device has 10.20.0.15"),
    ],
)
def test_what_the_configuration_does_not_tell_is_lost_at_the_next_boot(
    node, tmp_path, line, instead, observed
):
    conf = ascend_tools.hccn_conf(load_state())
    assert line in conf
    (tmp_path / "hccn.conf").write_text(conf.replace(line, instead))

    assert not_ok() == [("npu-hccn-conf", "warning", "device 5", observed)]


def test_a_tls_switch_that_nobody_has_set_has_no_line(node, tmp_path):
    conf = ascend_tools.hccn_conf(load_state())
    lines = [line for line in conf.splitlines() if not line.startswith("tls_enable")]
    (tmp_path / "hccn.conf").write_text("\n".join(lines))

    assert not_ok() == []


@pytest.mark.parametrize(
    ("text", "observed"),
    [
        (None, "there is no such file"),
        ("", "no setting of devices 0-7 in it"),
        ("# nothing here\n\n", "no setting of devices 0-7 in it"),
        ("address_9=10.20.0.19\n", "no setting of devices 0-7 in it"),
    ],
)
def test_a_configuration_without_settings_says_what_is_lost(node, tmp_path, text, observed):
    if text is not None:
        (tmp_path / "hccn.conf").write_text(text)

    [conf] = [c for c in inspect()["checks"] if c["id"] == "npu-hccn-conf"]
    assert (conf["status"], conf["subject"], conf["observed"]) == (
        "warning",
        "/etc/hccn.conf",
        observed,
    )
    assert conf["remedy"].endswith("what is set now is lost at the next boot")


def test_a_setting_that_the_tool_does_not_tell_is_unknown_and_shown(node):
    refused = "permission denied: pls check this cmd run permission."
    node.set("faults.hccn_tool ip", {"output": refused + "\n", "rc": 1})

    assert not_ok() == [("npu-address", "unknown", "devices 0-7", refused[:-1])]


def test_a_damaged_configuration_is_a_warning(node, tmp_path):
    conf = ascend_tools.hccn_conf(load_state())
    (tmp_path / "hccn.conf").write_text(f"...\n{conf}")

    assert not_ok() == [
        (
            "npu-hccn-conf",
            "warning",
            "/etc/hccn.conf",
            "/etc/hccn.conf line 1 is not KEY_DEVICE=VALUE",
        )
    ]


def test_a_directory_in_place_of_the_configuration_is_none(node, tmp_path):
    (tmp_path / "hccn.conf").mkdir()

    [conf] = [c for c in inspect()["checks"] if c["id"] == "npu-hccn-conf"]
    assert (conf["id"], conf["status"], conf["subject"], conf["observed"]) == NO_FILE


def test_an_answer_that_is_none_is_shown(node):
    node.set("faults.hccn_tool link", {"output": "Command execute failed!\n", "rc": 1})
    node.set("devices.5.net_health", "Receive timeout")

    assert not_ok() == [
        ("npu-link", "unknown", "device 5", "Command execute failed!"),
        ("npu-net-health", "failed", "device 5", "Receive timeout"),
    ]
    assert inspect()["facts"]["npu_reachable"]["5"] is None


def test_a_tool_that_says_nothing_of_use_fails_once(node):
    node.set("faults.hccn_tool", {"output": "permission denied: pls check this cmd.\n", "rc": 1})

    said = "permission denied: pls check this cmd"
    assert not_ok() == [("npu-fabric-tool", "failed", "devices 0-7", said)]


@pytest.mark.parametrize("value", ["DOWN", None])
def test_a_port_that_cannot_be_used_is_one_finding_and_not_pinged(node, value):
    key, check_id = ("link", "npu-link") if value else ("address", "npu-address")
    node.set(f"devices.0.{key}", value)
    node.set("devices.0.net_health", "Socket fail")
    node.set("devices.0.gateway", None)

    said = not_ok()

    assert [check[:3] for check in said if check[0] != "npu-gateway"] == [
        (check_id, "failed", "device 0")
    ]
    assert inspect()["facts"]["npu_reachable"]["0"] is None


def test_a_probe_that_fails_for_want_of_a_gateway_says_so(node):
    node.set("devices.5.net_health", "Receive timeout")
    node.set("devices.5.gateway", None)

    said = "Receive timeout, and no gateway is set"
    assert not_ok() == [("npu-net-health", "failed", "device 5", said)]


def test_a_port_that_has_not_been_probed_yet_is_a_warning(node):
    node.set("devices.5.net_health", "Init")

    assert not_ok() == [("npu-net-health", "warning", "device 5", "Init")]


def configure(tmp_path):
    (tmp_path / "hccn.conf").write_text(ascend_tools.hccn_conf(load_state()))


def hccn_calls(node, device=None):
    begin = "hccn_tool -i " + ("" if device is None else f"{device} ")
    return [line.split(" ", 3)[3] for line in node.asked if line.startswith(begin)]


def test_a_healthy_device_takes_one_call(node, tmp_path):
    configure(tmp_path)

    assert not_ok() == []
    assert hccn_calls(node, 5) == ["-net_health -g"]
    assert hccn_calls(node, 0) == [
        *("-net_health -g", "-ip -g", "-gateway -g", "-tls -g", "-lldp -g")
    ]
    assert len(hccn_calls(node)) == 8 + 4


def test_what_is_told_by_the_file_is_said_to_be(node, tmp_path):
    configure(tmp_path)

    observed = {check["id"]: check["observed"] for check in inspect()["checks"]}
    assert observed["npu-tls"] == "switch 0, as /etc/hccn.conf has it"
    assert observed["npu-address"] == "set, as /etc/hccn.conf has it"
    assert observed["npu-gateway"] == "set, as /etc/hccn.conf has it"
    assert observed["npu-link"] == "UP, as its net health shows"


def test_a_sick_device_is_asked_for_the_rest(node, tmp_path):
    configure(tmp_path)
    node.set("devices.5.net_health", "Receive timeout")

    assert not_ok() == [("npu-net-health", "failed", "device 5", "Receive timeout")]
    assert hccn_calls(node, 5) == [
        *("-net_health -g", "-link -g", "-ip -g", "-gateway -g", "-netdetect -g")
    ]
    # Of the others one tells address, gateway and TLS switch, and its neighbour.
    assert len(hccn_calls(node)) == 8 + 4 + 4


@pytest.mark.parametrize(("key", "name"), [("tls", "tls_enable"), ("gateway", "gateway")])
def test_a_file_that_does_not_hold_for_one_device_is_not_believed(node, tmp_path, key, name):
    configure(tmp_path)
    value = {"tls": 1, "gateway": "10.20.255.1"}[key]
    node.set(f"devices.*.{key}", value)

    [(check_id, status, subject, observed)] = not_ok()
    assert (check_id, status, subject) == ("npu-hccn-conf", "warning", "devices 0-7")
    assert f"{name}_0 is" in observed
    assert hccn_calls(node).count(f"-{key} -g") == 8


def test_an_odd_switch_in_the_file_is_looked_at(node, tmp_path):
    node.set("devices.5.tls", 1)
    configure(tmp_path)

    assert not_ok() == [("npu-tls", "failed", "device 5", "switch 1")]
    assert hccn_calls(node).count("-tls -g") == 2


def test_without_a_majority_all_are_named(node):
    for device in range(4):
        node.set(f"devices.{device}.tls", 1)
        node.set(f"devices.{device}.firmware_version", "7.7.0")

    assert not_ok() == [
        ("npu-firmware", "failed", "devices 0-3", "7.7.0"),
        ("npu-firmware", "failed", "devices 4-7", "7.8.0.5.216"),
        ("npu-tls", "failed", "devices 0-3", "switch 1"),
        ("npu-tls", "failed", "devices 4-7", "switch 0"),
    ]


def test_a_gateway_that_neither_the_file_nor_the_tool_has_is_a_warning(node, tmp_path):
    node.set("devices.5.gateway", None)
    configure(tmp_path)

    assert not_ok() == [("npu-gateway", "warning", "device 5", "none")]


@pytest.mark.parametrize("device", [0, 5, 7])
def test_a_stale_address_of_any_device_is_found(node, tmp_path, device):
    configure(tmp_path)
    node.set(f"devices.{device}.address", "10.20.9.9")

    [(check_id, status, subject, _observed)] = not_ok(pings="full")
    assert (check_id, status, subject) == ("npu-hccn-conf", "warning", f"device {device}")


def test_addresses_are_read_from_a_file_that_one_device_confirms(node, tmp_path):
    configure(tmp_path)
    addresses = [f"10.20.0.{10 + device}" for device in range(8)]
    assert inspect()["facts"]["npu_addresses"] == addresses
    assert hccn_calls(node).count("-ip -g") == 1

    # Where the file is wrong for that one, all are asked.
    node.set("devices.0.address", "10.20.9.9")
    node.set("devices.4.address", "10.20.9.8")
    node.asked.clear()
    [(check_id, _status, subject, _observed)] = not_ok()
    assert (check_id, subject) == ("npu-hccn-conf", "devices 0, 4")
    assert hccn_calls(node).count("-ip -g") == 8


def test_a_busy_tool_is_asked_again(node, monkeypatch):
    answer, refusals = ascend_tools.hccn_tool, []

    def sometimes_busy(argv):
        if len(refusals) < 3:
            refusals.append(argv)
            print("hccn_tool is busy, please try again.")
            return 1
        return answer(argv)

    monkeypatch.setitem(ascend_tools.TOOLS, "hccn_tool", sometimes_busy)

    assert not_ok() == []
    assert len(refusals) == 3


def test_a_tool_that_stays_busy_is_given_up(node):
    with ascend_tools.only_one():
        assert not_ok(timeout=0.4) == [
            (
                "npu-fabric-tool",
                "failed",
                "hccn_tool",
                "hccn_tool was busy with other calls for 0.4 s",
            )
        ]


def facts(*addresses, first=0, key="npu_reachable"):
    return {key: {str(first + place): address for place, address in enumerate(addresses)}}


OWN = facts("10.20.0.10", "10.20.0.11")


def ping(*peers, own=OWN, **options):
    """(status, subject, observed) of all that is said of pings."""
    result = npu_look.look(
        {
            "mode": "ping",
            "node_facts": own,
            "peer_facts": list(peers or [facts("10.20.1.10", "10.20.1.11")]),
            "pings": "sampled",
            "hccn_tool_path": "hccn_tool",
            "timeout": 5,
            **options,
        },
        check_mode=False,
    )
    assert result["facts"] == {}
    assert {c["id"] for c in result["checks"]} <= {"npu-ping", "npu-hccs-ping"}
    return [(c["status"], c["subject"], c["observed"]) for c in result["checks"]]


def pinged(node):
    """(device, address) of all pings, in their order."""
    words = [line.split() for line in node.asked]
    return [(int(one[2]), one[6]) for one in words if one[3] in ("-ping", "-hccs_ping")]


def test_each_device_goes_with_that_of_its_own_number_on_every_other_node(node):
    peers = [facts("10.20.1.10", "10.20.1.11"), {}, facts("10.20.2.10", None)]

    assert ping(*peers) == [("ok", "device 0", "3 answers of 3, from 10.20.1.10; 10.20.2.10")]
    assert pinged(node) == [(0, "10.20.1.10"), (0, "10.20.2.10")]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=16),
    st.integers(0, 8),
    st.booleans(),
)
def test_of_two_nodes_every_pair_is_pinged_once_by_one_of_them(up, shift, swapped):
    """Where two devices can reach each other, one asks; what cannot is left out on both sides."""
    one = {str(n): f"10.20.7.{n}" if mine else None for n, (mine, _its) in enumerate(up)}
    other = {str(n + shift): f"10.20.4.{n}" if its else None for n, (_mine, its) in enumerate(up)}
    if shift < len(up):
        # They share numbers, and go by these.
        other = {str(n): other[str(n + shift)] for n in range(len(up))}
        shift = 0
    if swapped:
        one, other = other, one
    there = npu_observe.ping_pairs(one, [other], full=False)
    back = npu_observe.ping_pairs(other, [one], full=False)
    tried = {frozenset((one[str(device)], address)) for device, address in there}
    answered = {frozenset((other[str(device)], address)) for device, address in back}
    assert not tried & answered
    assert len(tried | answered) == sum(mine and its for mine, its in up)
    assert abs(len(tried) - len(answered)) <= 1


def test_a_device_of_another_number_is_found_by_its_place(node):
    other_half = facts("10.20.1.18", None, "10.20.1.20", first=8)

    ping(other_half, own=facts("10.20.0.10", "10.20.0.11", "10.20.0.12"))

    # What is lost does not shift the others into another plane.
    assert pinged(node) == [(0, "10.20.1.18")]
    # The other node's half of the pairs.
    back = npu_observe.ping_pairs(
        other_half["npu_reachable"],
        [facts("10.20.0.10", "10.20.0.11", "10.20.0.12")["npu_reachable"]],
        full=False,
    )
    assert back == [(10, "10.20.0.12")]


def test_a_device_that_is_not_reached_pings_nobody(node):
    assert ping(own=facts(None, "10.20.0.11")) == [
        ("ok", "device 1", "3 answers of 3, from 10.20.1.11")
    ]
    assert pinged(node) == [(1, "10.20.1.11")]


def test_the_node_whose_turn_it_is_not_says_who_asks(node):
    one, other = facts("10.20.0.10"), facts("10.20.1.10")

    assert ping(other, own=one) == [("ok", "device 0", "3 answers of 3, from 10.20.1.10")]
    assert ping(one, own=other) == [("ok", "device 0", "asked for from the other node")]


def test_with_nothing_to_ping_nothing_is_said(node):
    assert ping(own={"npu_reachable": {}}) == []
    assert ping({}) == []
    assert node.asked == []


def test_each_device_pings_all_others_on_demand(node):
    ping(facts("10.20.1.10", "10.20.1.11", None), pings="full")

    assert pinged(node) == list(itertools.product((0, 1), ("10.20.1.10", "10.20.1.11")))


def test_an_npu_that_does_not_answer_is_named(node):
    node.set("unreachable", ["10.20.1.10"])

    assert ping() == [("failed", "device 0", "0 answers of 3, from 10.20.1.10")]


def test_a_lost_packet_is_a_failed_ping(node):
    text = capture("hccn_ping_910B1_ok").replace("3 received, 0.00%", "2 received, 33.33%")
    node.set("faults.hccn_tool ping", {"output": text})

    assert ping() == [("failed", "device 0", "2 answers of 3, from 10.20.1.10")]


def test_a_ping_that_is_not_understood_is_unknown(node):
    node.set("faults.hccn_tool ping", {"output": "Execute failed: Link status is down.\n"})

    said = "Execute failed: Link status is down, from 10.20.1.10"
    assert ping() == [("unknown", "device 0", said)]


def test_pings_that_were_not_tried_are_unknown(node):
    with ascend_tools.only_one():
        said = "hccn_tool was busy with other calls for 0.4 s, from 10.20.1.10"
        assert ping(timeout=0.4) == [("unknown", "device 0", said)]


def in_super_pod(*addresses, pod=0):
    return {"super_pod_id": [pod], **facts(*addresses, key="npu_vnic")}


A3_OWN = in_super_pod("192.168.2.199", "192.168.2.198", None)
A3_PEER = in_super_pod("192.168.3.199", "192.168.3.198", "192.168.3.197")


def test_devices_of_a_super_pod_ping_each_other_through_hccs(a3_node):
    assert ping(A3_PEER, own=A3_OWN) == [("ok", "device 0", "3 answers of 3, from 192.168.3.199")]
    assert a3_node.asked == ["hccn_tool -i 0 -hccs_ping -g address 192.168.3.199"]


def test_hccs_is_pinged_beside_the_network(a3_node):
    own, peer = {**A3_OWN, **OWN}, {**A3_PEER, **facts("10.20.1.10")}

    assert [words[2] for words in ping(peer, own=own)] == [
        "3 answers of 3, from 10.20.1.10",
        "3 answers of 3, from 192.168.3.199",
    ]


def test_a_device_that_hccs_does_not_reach_is_named(a3_node):
    a3_node.set("unreachable", ["192.168.3.198"])
    a3_node.set("devices.0.vnic", "DOWN")

    said = ping(A3_PEER, own=A3_OWN, pings="full")
    peers = "192.168.3.199; 192.168.3.198; 192.168.3.197"
    assert ("failed", "device 0", f"not start to send!, from {peers}") in said
    assert ("failed", "device 1", "0 answers of 3, from 192.168.3.198") in said


def test_hccs_does_not_leave_the_super_pod(a3_node):
    assert ping(in_super_pod("192.168.3.199", pod=1), own=A3_OWN) == []
    alone = {**A3_OWN, "super_pod_id": []}
    assert ping({**A3_PEER, "super_pod_id": []}, own=alone) == []


def test_an_address_that_this_node_has_itself_proves_nothing(a3_node):
    said = "this node has the other's address itself, from 192.168.2.199"
    assert ping(in_super_pod("192.168.2.199"), own=A3_OWN) == [("unknown", "device 0", said)]
    assert ping(OWN) == []
    assert a3_node.asked == []


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
        patch.setattr(tools_io, "run", run)
        patch.setattr(npu_look, "HCCN_CONF", "/nowhere/hccn.conf")
        result = inspect()

    assert {"npu-tool", "npu-fabric-tool"} <= {c["id"] for c in result["checks"]}
    json.dumps(result)


# --- the bound of a pass ----------------------------------------------------------------------

TIMEOUT = 0.5


def slow_tools(monkeypatch, slow):
    """Tools that take so many seconds for a call, as the function of its words tells."""
    asked = []

    def run(argv, timeout):
        asked.append(" ".join(argv))
        seconds = slow(argv)
        time.sleep(min(seconds, timeout))
        if seconds > timeout:
            raise CommandError(f"{argv[0]} hangs") from subprocess.TimeoutExpired(argv, timeout)
        with one_at_a_time:
            return call(ascend_tools.TOOLS[argv[0]], *argv[1:])

    one_at_a_time = threading.Lock()
    monkeypatch.setattr(tools_io, "run", run)
    return asked


@pytest.mark.parametrize(
    "slow",
    [
        lambda argv: 9,
        lambda argv: 0.4,
        lambda argv: 9 if "-t" in argv or argv[0] == "hccn_tool" else 0.4,
        lambda argv: 9 if "-ip" in argv else 0.1,
        lambda argv: 9 if argv[2] in ("1", "6") else 0.02,
    ],
    ids=["all hang", "all are slow", "all but the table hang", "one query hangs", "two devices"],
)
def test_a_pass_ends_within_three_timeouts(node, monkeypatch, slow):
    slow_tools(monkeypatch, lambda argv: slow([*argv, "", ""]))
    begin = time.monotonic()

    said = not_ok(timeout=TIMEOUT)

    assert time.monotonic() - begin < 3 * TIMEOUT + 1
    assert {check[:2] for check in said} <= {("npu-tool", "failed"), ("npu-fabric-tool", "failed")}


def test_a_device_that_hangs_is_named_and_the_others_are_judged(node, monkeypatch):
    node.set("devices.1.address", None)
    node.set("devices.5.ecc_double_bit_errors", 3)
    hangs = ("npu-smi info -t ecc -i 3 -c 0", "hccn_tool -i 2 -net_health -g")
    slow_tools(monkeypatch, lambda argv: 9 if " ".join(argv) in hangs else 0)

    said = not_ok(timeout=TIMEOUT)

    assert said == [
        ("npu-tool", "failed", "device 3", f"{hangs[0]} did not end within 0.5 s"),
        (
            "npu-ecc",
            "failed",
            "device 5",
            "3 double-bit errors, 0 pages isolated for double-bit errors",
        ),
        ("npu-fabric-tool", "failed", "device 2", f"{hangs[1]} did not end within 0.5 s"),
        ("npu-address", "failed", "device 1", "none"),
    ]
    reachable = inspect(timeout=TIMEOUT)["facts"]["npu_reachable"]
    assert [device for device, address in reachable.items() if address is None] == ["1", "2"]


def test_queries_that_hang_together_cost_one_timeout(node, monkeypatch):
    asked = slow_tools(monkeypatch, lambda argv: 9 if "ecc" in argv else 0)
    begin = time.monotonic()

    [(check_id, status, subject, observed)] = not_ok(multi_node=False, timeout=TIMEOUT)

    assert time.monotonic() - begin < 2 * TIMEOUT
    assert (check_id, status, subject) == ("npu-tool", "failed", "npu-smi")
    assert observed.startswith("npu-smi info -t ecc -i")
    assert len([line for line in asked if "ecc" in line]) == npu_observe.CONCURRENT_CALLS


def test_a_tool_that_hangs_costs_a_timeout_and_a_fifth(node, monkeypatch):
    asked = slow_tools(monkeypatch, lambda argv: 9 if argv[0] == "hccn_tool" else 0)

    assert not_ok(timeout=TIMEOUT) == [
        (
            "npu-fabric-tool",
            "failed",
            "hccn_tool",
            "hccn_tool -i 0 -net_health -g did not end within 0.5 s; "
            "hccn_tool -i 1 -net_health -g did not end within 0.1 s",
        )
    ]
    assert len([line for line in asked if line.startswith("hccn_tool")]) == 2


def test_a_device_that_hangs_leaves_the_file_to_another(node, tmp_path, monkeypatch):
    configure(tmp_path)
    device = ["hccn_tool", "-i", "0"]
    asked = slow_tools(monkeypatch, lambda argv: 9 if argv[:3] == device else 0)

    not_ok(timeout=TIMEOUT)

    lines = [line for line in asked if line.endswith(("-tls -g", "-gateway -g", "-lldp -g"))]
    assert {line.split()[2] for line in lines} == {"1"}
    assert len(lines) == 3


def test_an_unused_device_that_hangs_costs_nothing(node, monkeypatch):
    node.set("devices.6.health", "Alarm")
    asked = slow_tools(monkeypatch, lambda argv: 9 if "6" in argv else 0)

    assert not_ok(device_count=4, timeout=TIMEOUT) == []
    assert not [line for line in asked if "-i 6" in line]


def test_after_a_device_that_hung_another_may_take_its_time(node, monkeypatch):
    hangs = "hccn_tool -i 0 -net_health -g"
    slow_tools(
        monkeypatch, lambda argv: 9 if " ".join(argv) == hangs else 0.2 if "-ip" in argv else 0
    )

    assert [check[:3] for check in not_ok(device_count=3, timeout=TIMEOUT)] == [
        ("npu-fabric-tool", "failed", "device 0")
    ]


def test_a_ping_that_hangs_fails_for_its_device(node, monkeypatch):
    slow_tools(monkeypatch, lambda argv: 9 if argv[2] == "0" else 0)

    said = "hccn_tool -i 0 -ping -g address 10.20.1.10 did not end within 0.5 s, from 10.20.1.10"
    assert ping(timeout=TIMEOUT) == [("failed", "device 0", said)]


# --- with real processes ----------------------------------------------------------------------


@pytest.fixture
def real_node(tmp_path, monkeypatch):
    monkeypatch.setattr(npu_look, "device_numbers", lambda: list(range(8)))
    monkeypatch.setattr(npu_look, "HCCN_CONF", str(tmp_path / "hccn.conf"))
    node = NpuNode(tmp_path, monkeypatch)
    (tmp_path / "hccn.conf").write_text(ascend_tools.hccn_conf(load_state()))
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
        ("npu-driver-loaded", "ok", "loaded"),
        ("npu-tool", "failed", "/nowhere/npu-smi could not be started: No such file or directory"),
    ]
    assert result["checks"][1]["remedy"].startswith("the driver is loaded: ")


# What npu-smi says without a table, in words of public reports; and what that is with and without
# device nodes.
WORDS = [
    (
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
        "dcmi module initialize failed. ret is -8005\n",
        ("ok", "failed"),
        "npu-smi does not reach the driver",
        "lsmod",
    ),
    (
        "dcmi model initialized failed, because the device is used. ret is -8020\n",
        ("ok", "ok"),
        "another container has the NPUs to itself",
        "docker ps",
    ),
    (
        "npu-smi: error while loading shared libraries: libdrvdsmi_host.so: cannot open shared "
        "object file: No such file or directory\n",
        ("failed", "failed"),
        "a library of the driver is missing",
        "ldconfig",
    ),
    ("dcmi module initialize failed. ret is -8002\n", ("ok", "ok"), "may not ask", "become"),
    ("dcmi module initialize failed. ret is -8012\n", ("failed", "failed"), "not ready", "wait"),
    ("There is no NPU card on this server.\n", ("ok", "ok"), "has no NPU", "lspci"),
    ("Segmentation fault\n", ("ok", "unknown"), "Segmentation fault", "look at what npu-smi"),
]


@pytest.mark.parametrize(("said", "statuses", "observed", "remedy"), WORDS)
def test_a_driver_that_fails_is_told_by_its_tools_words(
    node, monkeypatch, said, statuses, observed, remedy
):
    node.set("faults.npu-smi info", {"output": said, "rc": 255})
    for nodes, status in zip((list(range(8)), []), statuses, strict=True):
        monkeypatch.setattr(npu_look, "device_numbers", lambda nodes=nodes: nodes)

        checks = {c["id"]: c for c in inspect(multi_node=False)["checks"]}

        assert checks["npu-driver-loaded"]["status"] == status
        assert checks["npu-tool"]["status"] == "failed"
        assert observed in checks["npu-tool"]["observed"]
        assert remedy in checks["npu-tool"]["remedy"]


def test_a_node_without_the_driver_is_one_cause(node, monkeypatch):
    monkeypatch.setattr(npu_look, "device_numbers", list)
    monkeypatch.setattr(tools_io, "run", run)
    mounts = ["/usr/local/dcmi:/usr/local/dcmi", "/usr/local/Ascend/driver/lib64:/x"]
    nodes = [f"/dev/davinci{n}" for n in range(8)]

    asked = {"npu_smi_path": "/nowhere/npu-smi", "mounts": mounts, "device_nodes": nodes}
    checks = inspect(multi_node=False, **asked)["checks"]

    [loaded] = [c for c in checks if c["id"] == "npu-driver-loaded"]
    assert loaded["observed"].startswith("not installed")
    assert loaded["remedy"].startswith("install the NPU driver")
    assert len(checks) == 2 + len(mounts) + len(nodes)
    rows = rows_of([{"host": "n", **c} for c in checks])
    assert [(row.first["id"], len(row.followers)) for row in rows] == [
        ("npu-driver-loaded", 1 + len(mounts) + len(nodes))
    ]


# Every question, and how an answer to it can be none.
QUERIES = [
    *("npu-smi ecc", "npu-smi board", "npu-smi topo", "npu-smi spod-info", "npu-smi info"),
    *("hccn_tool link", "hccn_tool net_health", "hccn_tool ip", "hccn_tool gateway"),
    *("hccn_tool netdetect", "hccn_tool tls", "hccn_tool lldp", "hccn_tool vnic"),
    *("npu-smi", "hccn_tool"),
]


def no_check_vanishes(before, after):
    """Whether each check is there still, or a tool that failed explains why not."""
    gone = {c["id"] for c in before} - {c["id"] for c in after}
    failed = {c["id"] for c in after if c["status"] == "failed"}
    return not gone or failed & {"npu-tool", "npu-fabric-tool"}


@functools.cache
def checks_of_an_a3_node(conf):
    """The checks of the node as it is made, with hccn.conf or without; the test has made it so."""
    return inspect(device_count=16)["checks"]


@pytest.mark.parametrize("conf", [True, False])
@pytest.mark.parametrize("said", ["", "command is not supported\n", "a : b\n"])
@pytest.mark.parametrize("query", QUERIES)
def test_no_check_vanishes_with_an_answer(a3_node, tmp_path, query, said, conf):
    if conf:
        configure(tmp_path)
    before = checks_of_an_a3_node(conf)
    a3_node.set(f"faults.{query}", {"output": said, "rc": 1})

    assert no_check_vanishes(before, inspect(device_count=16)["checks"])


def lines_of(query):
    tool, _space, command = query.partition(" ")
    arguments = {"info": ["info"], "topo": ["info", "-t", "topo"]}.get(
        command, ["info", "-t", command, "-i", "0", "-c", "0"]
    )
    if tool == "hccn_tool":
        arguments = ["-i", "0", f"-{command}", "-g"]
    return call(ascend_tools.TOOLS[tool], *arguments).stdout.splitlines(keepends=True)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.sampled_from(QUERIES[:-2]), data=st.data())
def test_no_check_vanishes_with_a_line(a3_node, tmp_path, query, data):
    configure(tmp_path)
    state = load_state()
    before = checks_of_an_a3_node(True)
    lines = lines_of(query)
    kept = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    text = "".join(line for line, keep in zip(lines, kept, strict=True) if keep)
    a3_node.set(f"faults.{query}", {"output": text})

    after = inspect(device_count=16)["checks"]
    a3_node.write(state)

    assert no_check_vanishes(before, after), (
        text,
        {c["id"] for c in before} - {c["id"] for c in after},
    )


@pytest.mark.parametrize("tool", ["npu-smi", "hccn_tool"])
def test_a_tool_that_is_missing_is_told_once(real_node, tmp_path, capsys, tool):
    path = str(tmp_path / tool)
    option = {"npu-smi": "npu_smi_path", "hccn_tool": "hccn_tool_path"}[tool]

    result = run_module(
        capsys, device_count=8, multi_node=True, mounts=[f"{path}:{path}:ro"], **{option: path}
    )

    check_id = {"npu-smi": "npu-tool", "hccn_tool": "npu-fabric-tool"}[tool]
    said = f"{path} could not be started: No such file or directory"
    failed = [c for c in result["checks"] if c["status"] != "ok"]
    assert [(c["id"], c["status"], c["subject"], c["observed"]) for c in failed] == [
        (check_id, "failed", tool, said)
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


def test_the_module_pings(real_node, capsys):
    result = run_module(capsys, mode="ping", node_facts=OWN, peer_facts=[facts("10.20.1.10")])

    [check] = result["checks"]
    assert (check["id"], check["status"]) == ("npu-ping", "ok")


def test_what_is_no_address_is_refused(real_node, capsys):
    result = run_module(capsys, mode="ping", node_facts=OWN, peer_facts=[facts("-s")])

    assert result["msg"] == "npu_reachable holds 0: '-s', which is no device's address"


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


@pytest.mark.parametrize("name", sorted(DRESSES))
@pytest.mark.parametrize("family", ["a2", "a3"])
def test_a_wrapper_around_the_tools_takes_no_check_away(node, tmp_path, name, family):
    node.make(family)
    configure(tmp_path)
    plain = inspect()
    node.dress = DRESSES[name]

    dressed = inspect()

    assert dressed["facts"] == plain["facts"]
    # Lines that no table has are told; what stands in the table is read none the less.
    assert [(c["id"], c["status"]) for c in dressed["checks"] if c["id"] != "npu-tool"] == [
        (c["id"], c["status"]) for c in plain["checks"] if c["id"] != "npu-tool"
    ]
    said, before = (
        {c["status"] for c in one["checks"] if c["id"] == "npu-tool"} for one in (dressed, plain)
    )
    assert said == ({"warning"} if name in WORDY else before)
