"""The lab's npu-smi and hccn_tool print what the real ones print; its command makes any state."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess

import pytest
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.npu_smi import (
    parse_info,
    parse_topology,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import link_between

from lab.emulators import ascend_tools, device_tools
from lab.emulators.state import load_state
from tests.unit.emulated_node import EMULATORS, call
from tests.unit.npu_node import NpuNode, capture


@pytest.fixture
def node(tmp_path, monkeypatch):
    return NpuNode(tmp_path, monkeypatch)


def npu_smi(*arguments) -> str:
    output = call(ascend_tools.npu_smi, *arguments)
    return output.stdout + output.stderr


def hccn_tool(*arguments) -> str:
    output = call(ascend_tools.hccn_tool, *arguments)
    return output.stdout + output.stderr


def state_of(text: str) -> dict:
    """A state with the values that a captured table shows."""
    info = parse_info(text)
    assert info.problems == []
    state = ascend_tools.make_state(info.layout, len(info.devices))
    state.update(tool_version=info.tool_version, driver_version=info.version)
    for device, seen in zip(state["devices"], info.devices, strict=True):
        device.update(id=seen["device_id"], npu=seen["npu_id"], chip=seen["chip_id"])
        device.update(aicore_percent=seen["utilisation_percent"])
        device.update(hbm_used_mb=seen["memory_used_mb"], hbm_total_mb=seen["memory_total_mb"])
        same = ("name", "health", "bus_id", "power_w", "temperature_c", "processes")
        device.update({key: seen[key] for key in same})
    return state


@pytest.mark.parametrize(
    "name",
    [
        "npu_smi_info_910B4_x8_24.1.rc3_busy",
        "npu_smi_info_910B4_x8_25.2.0_idle",
        "npu_smi_info_A3_16die_24.1.rc3.3_halfbusy",
    ],
)
def test_info_is_the_real_table_to_the_letter(node, name):
    text = capture(name)
    node.write(state_of(text))

    assert npu_smi("info") == text


def test_topology_is_the_real_matrix(node):
    real = capture("npu_smi_topo_910B3_x8_msswift").splitlines()[1:10]

    assert npu_smi("info", "-t", "topo").splitlines()[:9] == real


def test_topology_of_a3_joins_the_chips_of_a_card(node):
    node.make("a3")

    topology, problems = parse_topology(npu_smi("info", "-t", "topo"))

    assert problems == []
    assert (link_between(topology, 4, 5), link_between(topology, 5, 6)) == ("SIO", "HCCS_SW")


def keys(text: str) -> list[str]:
    return [line.split(" : ")[0].strip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("npu_smi_usages_910B1", "info -t usages -i 0"),
        ("npu_smi_common_910B1", "info -t common -i 1"),
        ("npu_smi_board_npu_910A", "info -t board -i 0"),
    ],
)
def test_other_queries_have_the_real_keys(node, name, arguments):
    assert keys(npu_smi(*arguments.split())) == keys(capture(name))


def test_ecc_has_the_real_lines(node):
    real = [line.strip() for line in capture("npu_smi_ecc_910_docsample").splitlines()]

    said = npu_smi("info", "-t", "ecc", "-i", "1", "-c", "0").splitlines()
    assert said == ["\t" + line for line in real if line.startswith(("HBM", "Chip ID"))]


def test_a_node_that_was_made_earlier_is_well(node):
    state = load_state()
    for key in ascend_tools.WELL_NODE:
        del state[key]
    for device, key in itertools.product(state["devices"], ascend_tools.WELL_DEVICE):
        del device[key]
    queries = [["info"], *(["info", "-t", kind, "-i", "0", "-c", "0"] for kind in ("ecc", "board"))]
    queries.append(["info", "-t", "board", "-i", "0"])
    said = [npu_smi(*query) for query in queries]

    node.write(state)
    assert [npu_smi(*query) for query in queries] == said


def test_the_drivers_complaint_is_the_last_line(node):
    node.set("driver_complete", False)

    info = parse_info(npu_smi("info"))
    assert (len(info.devices), len(info.problems)) == (8, 1)
    assert npu_smi("info").splitlines()[-1].startswith("[WARNING]The driver package may not be")


def test_super_pod_info_is_the_real_one(node):
    node.make("a3", node=40)

    for chip in (0, 1):
        assert npu_smi("info", "-t", "spod-info", "-i", "0", "-c", str(chip)) == capture(
            f"npu_smi_spod_info_A3_dev{chip}"
        )


def test_a_lost_card_is_an_invalid_one(node):
    node.set("devices.0.present", False)

    assert npu_smi("info", "-t", "board", "-i", "0") == capture("npu_smi_board_INVALID_CARD")
    assert "| 0     910B3" not in npu_smi("info")
    assert hccn_tool("-i", "0", "-link", "-g") == "The device is not exist!\n"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("-i {} -tls -g", "hccn_tls_switch_loop_8_off"),
        ("-i {} -vnic -g", "hccn_vnic_loop_8"),
    ],
)
def test_hccn_answers_are_the_real_ones(node, arguments, name):
    said = "".join(hccn_tool(*arguments.format(device).split()) for device in range(8))

    assert said == capture(name)


def without_values(text: str) -> str:
    return re.sub(r"\d+(\.\d+)*", "0", text)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("-i 3 -ip -g", "hccn_ip_910B1"),
        ("-i 3 -ping -g address 29.1.137.205", "hccn_ping_910B1_ok"),
    ],
)
def test_hccn_answers_have_the_real_form(node, arguments, name):
    assert without_values(hccn_tool(*arguments.split())) == without_values(capture(name))


def test_link_records_have_the_real_form(node):
    node.set("devices.0.link_down_count", 1)

    said = without_values(hccn_tool("-i", "0", "-link_stat", "-g")).splitlines()

    real = re.sub(
        r"(Tue|Sun) (Oct) +", r"\1 \2 ", without_values(capture("hccn_link_stat_flap_2025"))
    )
    assert [re.sub(r"(Tue|Sun) (Oct) +", r"\1 \2 ", line) for line in said] == real.splitlines()


def test_hccn_answers_follow_the_state(node):
    node.set("devices.3.link", "DOWN")
    node.set("devices.3.net_health", "Socket fail")
    node.set("devices.3.gateway", None)
    node.set("devices.3.lldp", "npu")

    assert hccn.parse_link(hccn_tool("-i", "3", "-link", "-g")) == "DOWN"
    assert hccn.parse_link(hccn_tool("-i", "4", "-link", "-g")) == "UP"
    assert hccn.parse_net_health(hccn_tool("-i", "3", "-net_health", "-g")) == "Socket fail"
    assert "no gateway was preset" in hccn_tool("-i", "3", "-gateway", "-g")
    assert hccn.parse_neighbour(hccn_tool("-i", "3", "-lldp", "-g")) == "npu"
    assert "0 received" in hccn_tool("-i", "3", "-ping", "-g", "address", "10.20.1.10")
    assert hccn_tool("-i", "3", "-speed", "-g") == "Speed: Unknown!\n"


def test_the_configuration_file_fits_the_tool(node):
    settings, problems = hccn.parse_configuration(ascend_tools.hccn_conf(load_state()))

    assert problems == []
    for device in range(8):
        said = hccn.parse_address(hccn_tool("-i", str(device), "-ip", "-g"))
        assert said == settings[device]["address"]


def test_no_two_nodes_share_an_address():
    nodes = [ascend_tools.make_state(family, node=n) for n, family in enumerate(["a2", "a2", "a3"])]
    addresses = [device["address"] for node in nodes for device in node["devices"]]

    assert len(set(addresses)) == 8 + 8 + 16


def test_the_nearest_fault_holds(node):
    node.set("faults.npu-smi", {"output": "garbage\n", "rc": 3})
    node.set("faults.npu-smi topo", {})
    node.set("faults.hccn_tool link", {"output": "Command execute failed!\n"})

    assert npu_smi("info") == "garbage\n"
    assert ascend_tools.npu_smi(["info"]) == 3
    assert parse_topology(npu_smi("info", "-t", "topo"))[1] == []
    assert hccn_tool("-i", "0", "-link", "-g") == "Command execute failed!\n"
    assert hccn_tool("-i", "0", "-net_health", "-g") == "net health status: Success\n"


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


TOOLS = {tool: module for module in device_tools.MODULES for tool in module.TOOLS}


def test_every_emulated_tool_is_a_command():
    commands = {file.name for file in EMULATORS.iterdir() if file.is_file() and not file.suffix}

    assert commands == set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_command_answers_as_its_emulator_does(node, tool):
    module = TOOLS[tool]
    node.write(module.make_state(next(iter(module.FAMILIES))))
    expected = call(module.TOOLS[tool], "--version")

    said = run(str(EMULATORS / tool), "--version")
    assert (said.returncode, said.stdout, said.stderr) == (
        expected.rc,
        expected.stdout,
        expected.stderr,
    )


@pytest.mark.parametrize("family", device_tools.VENDORS)
def test_a_state_has_as_many_devices_as_such_a_server_or_as_asked(family):
    state = device_tools.make_state(family)

    assert state["family"] == family
    assert len(state["devices"]) == device_tools.device_count(family)
    assert device_tools.make_state(family, 3, 1)["devices"][2]["id"] == 2
    assert len(device_tools.make_state(family, 3, 1)["devices"]) == 3


def test_the_commands_work_from_a_link_elsewhere(node, tmp_path):
    (tmp_path / "npu-smi").symlink_to(EMULATORS / "npu-smi")

    assert "910B3" in run(str(tmp_path / "npu-smi"), "info").stdout


def test_a_second_hccn_tool_at_the_same_time_is_refused(node):
    ask = (str(EMULATORS / "hccn_tool"), "-i", "1", "-net_health", "-g")

    with ascend_tools.only_one() as alone:
        assert alone
        refused = run(*ask)

    assert refused.stdout == "hccn_tool is busy, please try again.\n"
    assert refused.returncode != 0
    assert run(*ask).stdout == "net health status: Success\n"


def test_a_tool_may_hang_for_one_device(node):
    node.set("devices.3.hangs", "hccn_tool")
    ask = (str(EMULATORS / "hccn_tool"), "-i")

    assert run(*ask, "2", "-link", "-g").stdout == "link status: UP\n"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([*ask, "3", "-link", "-g"], timeout=1, check=False)


def test_the_state_is_made_and_changed_by_command(tmp_path):
    path = tmp_path / "lab" / "state.json"
    tools = ["env", f"MUSTER_LAB_STATE={path}", "python3", str(EMULATORS / "device_tools.py")]

    assert run(*tools, "make", "--family", "a3", "--node", "2").returncode == 0
    assert run(*tools, "set", "devices.3.health", "Alarm").returncode == 0
    assert run(*tools, "set", "devices.*.tls", "1").returncode == 0
    assert run(*tools, "set", "faults.hccn_tool link", '{"hang": true}').returncode == 0
    refused = run(*tools, "set", "devices.3.helth", "Alarm")

    state = json.loads(path.read_text())
    assert [device["health"] for device in state["devices"]].count("Alarm") == 1
    assert {device["tls"] for device in state["devices"]} == {1}
    assert state["faults"] == {"hccn_tool link": {"hang": True}}
    assert refused.returncode == 2
    assert "the state has no devices.3.helth" in refused.stderr
    assert run(*tools, "hccn-conf").stdout.startswith("address_0=10.20.2.10\n")


def test_a_node_without_npus_has_no_configuration_of_them(node):
    node.write(device_tools.make_state("amd"))

    refused = run("python3", str(EMULATORS / "device_tools.py"), "hccn-conf")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "a node of the family amd has no hccn.conf; expected one of a2, a3" in refused.stderr


def test_without_a_state_the_tools_say_so(monkeypatch, tmp_path):
    environment = {**os.environ, "MUSTER_LAB_STATE": str(tmp_path / "none.json")}
    result = subprocess.run(
        [EMULATORS / "npu-smi", "info"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "no usable state" in result.stderr
