"""What amd-smi and rocm-smi print is understood, and what they do not print is not guessed."""

from __future__ import annotations

import json

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import MAX_PROBLEMS
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import amd_smi, rocm_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.checks import health, modes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.amd_node import AmdNode, say

# Output of real nodes, shortened to the fields that are read.
METRIC_MI300X_ROCM_7_0 = (
    '{"gpu_data": [{"gpu": 0,'
    ' "usage": {"gfx_activity": {"value": 0, "unit": "%"}, "mm_activity": "N/A"},'
    ' "power": {"socket_power": {"value": 158, "unit": "W"}, "gfx_voltage": "N/A"},'
    ' "temperature": {"edge": "N/A", "hotspot": {"value": 45, "unit": "C"}}}]}'
)
ROCM_SMI_MI300X = (
    '{"card0": {"Temperature (Sensor junction) (C)": "45.0",'
    ' "Current Socket Graphics Package Power (W)": "159.0", "GPU use (%)": "0",'
    ' "VRAM Total Memory (B)": "205822885888", "VRAM Total Used Memory (B)": "299687936"}}'
)
PROCESS_USERS = """

============================ ROCm System Management Interface ============================
================================== GPUs Indexed by PID ===================================
PID 78912 is using 0 DRM device(s)
PID 79301 is using 1 DRM device(s):
1 
PID 1949829 is using 2 DRM device(s):
0 
1 
==========================================================================================
================================== End of ROCm SMI Log ===================================
"""  # noqa: W291
LINKS_UP_TO_ROCM_6_2 = (
    '[{"gpu": 0, "bdf": "0000:01:00.0", "link_type": {"gpu_0": "SELF", "gpu_1": "PCIE"}},'
    ' {"gpu": 1, "bdf": "0001:01:00.0", "link_type": {"gpu_0": "PCIE", "gpu_1": "SELF"}}]'
)


@pytest.fixture
def node(tmp_path, monkeypatch):
    return AmdNode(tmp_path, monkeypatch)


def said_by_amd_smi() -> dict[str, str]:
    queries = {**amd_smi.ARGUMENTS, "partition": amd_smi.PARTITION_ARGUMENTS}
    return {query: say("amd-smi", *words).stdout for query, words in queries.items()}


def said_by_rocm_smi() -> dict[str, str]:
    return {query: say("rocm-smi", *words).stdout for query, words in rocm_smi.ARGUMENTS.items()}


@pytest.mark.parametrize("release", ["6.2.4", "7.1.1"])
def test_both_generations_of_amd_smi_tell_the_same(node, release):
    node.set("rocm_version", release)
    node.set("devices.1.processes", [{"pid": 4711, "name": "python3", "memory_mb": 900}])
    node.set("devices.2.uncorrectable_errors", 3)

    seen = amd_smi.read(said_by_amd_smi())

    assert seen.problems == []
    assert seen.version == "6.16.6"
    assert seen.devices[0] == {
        "device_id": 0,
        "name": "AMD Instinct MI300X",
        "bus_id": "0000:0c:00.0",
        "uuid": "00ff74a1-0000-1000-8000-6d7573746572",
        "power_w": 133.0,
        "temperature_c": 38,
        "utilisation_percent": 0,
        "memory_used_mb": 285,
        "memory_total_mb": 196592,
        "uncorrectable_errors": 0,
        "compute_partition": "SPX",
        "memory_partition": "NPS1",
        "processes": [],
    }
    assert health(seen.devices[0]) == "OK"
    assert seen.devices[1]["processes"] == [{"pid": 4711, "name": "python3", "memory_mb": 900}]
    assert seen.devices[2]["uncorrectable_errors"] == 3
    assert seen.topology["devices"] == list(range(8))
    assert seen.topology["links"][1] == ["XGMI", "X", *["XGMI"] * 6]


def test_rocm_smi_tells_the_same_but_for_memory_errors(node):
    node.set("devices.1.processes", [{"pid": 4711, "name": "python3", "memory_mb": 900}])

    by_rocm_smi, by_amd_smi = rocm_smi.read(said_by_rocm_smi()), amd_smi.read(said_by_amd_smi())

    assert by_rocm_smi.problems == ["not told for devices 0-7: uncorrectable_errors"]
    for device in by_rocm_smi.devices:
        device.update(uncorrectable_errors=0, bus_id=device["bus_id"].lower())
    assert by_rocm_smi.devices == by_amd_smi.devices
    assert by_rocm_smi.version == by_amd_smi.version
    assert by_rocm_smi.topology == by_amd_smi.topology


@pytest.mark.parametrize(
    ("read", "said"), [(amd_smi.read, said_by_amd_smi), (rocm_smi.read, said_by_rocm_smi)]
)
def test_devices_are_counted_as_the_engine_counts(node, read, said):
    node.make("amd-mi355x")
    node.set("devices.3.processes", [{"pid": 7, "name": "python3", "memory_mb": 900}])
    node.set("devices.6.link", "PCIE")

    seen = read(said())

    # HIP's order on a real MI355X server; its first GPU is amd-smi's fourth.
    bus_ids = [device["bus_id"].lower()[5:7] for device in seen.devices]
    assert bus_ids == ["75", "05", "65", "15", "f5", "85", "e5", "95"]
    assert [device["device_id"] for device in seen.devices] == list(range(8))
    assert [len(device["processes"]) for device in seen.devices] == [1, 0, 0, 0, 0, 0, 0, 0]
    assert seen.topology["links"][0].count("PCIE") == 1
    assert seen.topology["links"][6] == [*["PCIE"] * 6, "X", "PCIE"]


def test_without_node_ids_the_order_is_doubted(node):
    node.set("devices.*.node_id", 2)

    seen = amd_smi.read(said_by_amd_smi())

    assert [device["device_id"] for device in seen.devices] == list(range(8))
    assert seen.problems == [
        "node ids not told: devices are counted as the tool counts, not the engine"
    ]


def test_an_exporter_that_holds_no_memory_uses_no_gpu(node):
    node.set("devices.*.processes", [{"pid": 326601, "name": "gpuagent", "memory_mb": 0}])

    for seen in (amd_smi.read(said_by_amd_smi()), rocm_smi.read(said_by_rocm_smi())):
        assert [device["processes"] for device in seen.devices] == [[]] * 8


@pytest.mark.parametrize(
    ("compute", "memory", "status", "observed"),
    [
        ("SPX", "NPS1", "ok", "SPX, NPS1"),
        ("CPX", "NPS4", "failed", "CPX, NPS4"),
        ("SPX", "NPS2", "failed", "SPX, NPS2"),
        ("N/A", "NPS1", "unknown", "not told, NPS1"),
        ("QUX", "NPS1", "unknown", "not told, NPS1"),
    ],
)
@pytest.mark.parametrize("release", ["6.2.4", "7.1.1"])
def test_a_gpu_that_is_cut_in_several_is_seen(node, release, compute, memory, status, observed):
    node.set("rocm_version", release)
    node.set("devices.5.compute_partition", compute)
    node.set("devices.5.memory_partition", memory)

    (mode,) = modes(amd_smi.read(said_by_amd_smi()).devices[5])

    assert (mode.check_id, mode.status, mode.observed) == ("gpu-partition", status, observed)
    assert bool(mode.remedy) == (status != "ok")


@pytest.mark.parametrize("release", ["6.2.4", "7.1.1"])
def test_of_a_cut_gpu_the_cut_is_the_cause(node, release):
    """Only the first part tells partition and memory; all are functions of one PCI device."""
    node.set("rocm_version", release)
    for part in range(8):
        node.set(f"devices.{part}.bus_id", f"0000:0c:00.{part}")
        node.set(f"devices.{part}.compute_partition", "N/A" if part else "CPX")
        node.set(f"devices.{part}.memory_partition", "N/A" if part else "NPS4")
    said = said_by_amd_smi()
    for query in ("static", "metric"):
        document = json.loads(said[query])
        for row in (document["gpu_data"] if isinstance(document, dict) else document)[1:]:
            row.update(dict.fromkeys(set(row) & {"mem_usage", "vram", "usage"}, "N/A"))
        said[query] = json.dumps(document)

    devices = amd_smi.read(said).devices

    assert [health(device) for device in devices] == ["OK"] * 8
    assert [mode.observed for device in devices for mode in modes(device)] == ["CPX, NPS4"] * 8


def test_a_name_that_the_market_does_not_know_is_the_boards(node):
    said = said_by_amd_smi()
    document = json.loads(said["static"])
    for row in document["gpu_data"]:
        row["asic"]["market_name"] = "N/A"
        row["board"] = {"product_name": "AMD Instinct MI300X OAM"}

    devices = amd_smi.read({**said, "static": json.dumps(document)}).devices

    assert {device["name"] for device in devices} == {"AMD Instinct MI300X OAM"}


def test_a_real_metric_is_read():
    (device,) = amd_smi.read({"metric": METRIC_MI300X_ROCM_7_0}).devices

    assert (device["power_w"], device["temperature_c"]) == (158.0, 45)
    assert device["utilisation_percent"] == 0
    assert device["memory_used_mb"] is None
    assert health(device) == "its driver tells nothing of its memory"


def test_a_real_card_of_rocm_smi_is_read():
    (device,) = rocm_smi.read({"cards": ROCM_SMI_MI300X}).devices

    assert (device["power_w"], device["temperature_c"]) == (159.0, 45)
    assert (device["memory_used_mb"], device["memory_total_mb"]) == (285, 196288)


def test_real_users_of_two_cards_are_read():
    cards = json.dumps({f"card{card}": {"Node ID": str(card + 1)} for card in range(2)})
    names = '{"system": {"PID79301": "python3.11, 1, 24556904448, 0, 0"}}'

    seen = rocm_smi.read({"cards": cards, "users": PROCESS_USERS, "names": names})

    everywhere = {"pid": 1949829, "name": "", "memory_mb": None}
    assert seen.devices[0]["processes"] == [everywhere]
    assert seen.devices[1]["processes"] == [
        {"pid": 79301, "name": "python3.11", "memory_mb": 23419},
        everywhere,
    ]


@pytest.mark.parametrize(
    "users",
    [
        "",
        "KFD is not there",
        PROCESS_USERS.replace("PID 79301 is", "PID number is"),
        PROCESS_USERS.replace("is using 1 DRM", "is using 2 DRM"),
        "PID 7 is using 1 DRM device(s):\n8 \n",
    ],
)
def test_users_that_are_not_understood_are_not_nobody(users):
    seen = rocm_smi.read({"cards": '{"card0": {}, "card1": {}}', "users": users})

    assert [device["processes"] for device in seen.devices] == [None, None]


def test_links_of_older_releases_are_read():
    metric = '[{"gpu": 0}, {"gpu": 1}]'

    seen = amd_smi.read({"metric": metric, "topology": LINKS_UP_TO_ROCM_6_2})

    assert seen.topology == {
        "devices": [0, 1],
        "links": [["X", "PCIE"], ["PCIE", "X"]],
        "cpu_affinity": None,
    }


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"SELF"', '"SELFIE"', "no topology: 'SELFIE' is told of the link from GPU 0 to GPU 0"),
        ('"gpu_1"', '"gpu_2"', "no topology: nothing is told of the link from GPU 0 to GPU 1"),
    ],
)
def test_half_a_matrix_is_none(old, new, problem):
    topology = LINKS_UP_TO_ROCM_6_2.replace(old, new)

    seen = amd_smi.read({"metric": '[{"gpu": 0}, {"gpu": 1}]', "topology": topology})

    assert seen.topology is None
    assert problem in seen.problems


def test_warnings_before_the_json_are_skipped(node):
    warnings = (
        "/usr/lib/python3.14/site-packages/amdsmi/amdsmi_interface.py:3569: SyntaxWarning: 'return'"
        "\n  return return_dictionary\n[WARN] not\n{neither} this\n"
        "WARNING: User is missing the following required groups: render, video.\n"
    )
    said = {query: warnings + text for query, text in said_by_amd_smi().items()}

    seen = amd_smi.read(said)

    assert len(seen.devices) == 8
    assert seen.problems == []


@pytest.mark.parametrize("query", ["list", "static", "metric", "process"])
def test_a_document_that_is_cut_off_is_not_understood(node, query):
    said = said_by_amd_smi()
    said[query] = said[query][: len(said[query]) // 2]

    seen = amd_smi.read(said)

    assert len(seen.devices) == 8
    assert any(problem.startswith(f"amd-smi {query} says: ") for problem in seen.problems)


@pytest.mark.parametrize(
    ("value", "megabytes"),
    [
        ({"value": 196592, "unit": "MB"}, 196592),
        ({"value": 192, "unit": "GB"}, 196608),
        ({"value": "205822885888", "unit": "B"}, 196288),
        (196592, 196592),
        ("196592", 196592),
        ({"value": 5, "unit": "pages"}, None),
        ({"value": 5, "unit": []}, None),
        ({"value": "N/A", "unit": "MB"}, None),
        ("N/A", None),
        (True, None),
        (-1, None),
        (float("nan"), None),
        (10**400, None),
    ],
)
def test_memory_comes_in_many_forms(value, megabytes):
    assert amd_smi.megabytes(amd_smi.size(value, "MB")) == megabytes


def test_processes_come_with_and_without_a_name(node):
    entries = [
        {"process_info": {"name": "N/A", "pid": 7, "memory_usage": {"vram_mem": "N/A"}}},
        {"process_info": {"name": "vllm", "pid": 8, "mem_usage": {"value": 3 << 30, "unit": "B"}}},
        {"name": "python3", "pid": "9", "mem_usage": {"value": 2, "unit": "GB"}},
    ]
    said = {"metric": '[{"gpu": 0}]'}

    seen = amd_smi.read({**said, "process": json.dumps([{"gpu": 0, "process_list": entries}])})
    strange = amd_smi.read({**said, "process": '[{"gpu": 0, "process_list": ["?"]}]'})

    assert seen.devices[0]["processes"] == [
        {"pid": 7, "name": "", "memory_mb": None},
        {"pid": 8, "name": "vllm", "memory_mb": 3072},
        {"pid": 9, "name": "python3", "memory_mb": 2048},
    ]
    assert strange.devices[0]["processes"] is None
    assert "process on GPU 0 not understood: ?" in strange.problems


# --- whatever they print ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What amd-smi prints of a healthy node, by release and query, and rocm-smi, by query."""
    with pytest.MonkeyPatch.context() as patch:
        node = AmdNode(tmp_path_factory.mktemp("node"), patch)
        rocm, amd = said_by_rocm_smi(), {"7.1.1": said_by_amd_smi()}
        node.set("rocm_version", "6.2.4")
        amd["6.2.4"] = said_by_amd_smi()
    return amd, rocm


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("N/A"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
GARBAGE = st.text() | JSON.map(json.dumps) | st.integers(0, 4000).map(lambda deep: "[" * deep)


def check_sane(seen):
    ids = [device["device_id"] for device in seen.devices]
    assert ids == sorted(set(ids))
    assert len(seen.problems) <= MAX_PROBLEMS + 1
    assert all(problem.isprintable() for problem in seen.problems)
    for device in seen.devices:
        for fact in ("power_w", "temperature_c", "memory_used_mb", "memory_total_mb"):
            assert device[fact] is None or device[fact] >= 0
    json.dumps(vars(seen), allow_nan=False)


@given(
    said=st.fixed_dictionaries(
        {}, optional=dict.fromkeys([*amd_smi.ARGUMENTS, "partition"], GARBAGE)
    )
)
def test_amd_smi_may_print_anything(said):
    check_sane(amd_smi.read(said))


@given(said=st.fixed_dictionaries({}, optional=dict.fromkeys(rocm_smi.ARGUMENTS, GARBAGE)))
def test_rocm_smi_may_print_anything(said):
    check_sane(rocm_smi.read(said))


def spoilt(data, value):
    """The document with one value somewhere inside it replaced."""
    if isinstance(value, (dict, list)) and value and data.draw(st.integers(0, 9)):
        key = data.draw(
            st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))
        )
        copy = value.copy()
        copy[key] = spoilt(data, value[key])
        return copy
    return data.draw(JSON)


@given(data=st.data(), release=st.sampled_from(["6.2.4", "7.1.1"]))
def test_any_value_may_be_anything(printed, data, release):
    said = dict(printed[0][release])
    query = data.draw(st.sampled_from(sorted(said)))
    said[query] = json.dumps(spoilt(data, json.loads(said[query])))

    seen = amd_smi.read(said)

    check_sane(seen)
    assert len(seen.devices) >= 8


@given(data=st.data(), query=st.sampled_from(["cards", "links"]))
def test_any_value_of_rocm_smi_may_be_anything(printed, data, query):
    said = dict(printed[1])
    said[query] = json.dumps(spoilt(data, json.loads(said[query])))

    check_sane(rocm_smi.read(said))
