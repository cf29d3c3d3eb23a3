"""npu-smi's output, of every layout that has been seen in public, and broken in every way."""

from __future__ import annotations

import csv
import itertools
import re

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import MAX_PROBLEMS
from ansible_collections.muster.serving.plugins.module_utils.common.versions import is_older
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.npu_smi import (
    HEALTH_WORDS,
    Board,
    Ecc,
    SuperPod,
    parse_board,
    parse_ecc,
    parse_error_codes,
    parse_info,
    parse_super_pod,
    parse_topology,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import link_between
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.npu_node import CAPTURES, capture


def test_every_capture_has_its_line_in_the_index():
    with (CAPTURES / "index.csv").open(newline="") as stream:
        listed = {row["file"] for row in csv.DictReader(stream)}
    assert listed == {path.name for path in CAPTURES.glob("*.txt")}


# name, layout, driver version, devices, what the problems say
WHOLE = [
    ("npu_smi_info_25.5.0_910A_narrow_noproc", "a2", "25.5.0", [0], ["processes not told"]),
    ("npu_smi_info_310P3_2144_22.0.4", "310p", "22.0.4", [0], ["processes not told"]),
    ("npu_smi_info_310P3_hugepages_22.0.2", "310p", "22.0.2", [0], ["processes not told"]),
    ("npu_smi_info_310P3_oddborders_22.0.2", "310p", "22.0.2", [0], ["processes not told"]),
    ("npu_smi_info_310P3_x8_24.1.0.1", "310p", "24.1.0.1", range(8), []),
    ("npu_smi_info_310_docsample_busid_NA", "310p", "xxx", [0], ["processes not told"]),
    ("npu_smi_info_910A_23.0.5_WARNING_elided", "a2", "23.0.5", [0, 7], ["says: ..."] * 2),
    (
        "npu_smi_info_910A_x4_23.0.rc1_ALL_WARNING",
        "a2",
        "23.0.rc1.b070",
        range(4),
        ["processes not told for NPU 1, 2, 3"],
    ),
    ("npu_smi_info_910A_x8_23.0.rc3_busy", "a2", "23.0.rc2.3", range(8), []),
    (
        "npu_smi_info_910B1_x8_23.0.rc2_ELIDED",
        "a2",
        "23.0.rc2",
        [0, 1, 7],
        ["says: ...", "processes not told"],
    ),
    (
        "npu_smi_info_910B3_x8_24.1.rc1.b030",
        "a2",
        "24.1.rc1.b030",
        range(8),
        ["says: ```", "processes not told"],
    ),
    ("npu_smi_info_910B4_x8_24.1.rc3_busy", "a2", "24.1.rc3", range(8), []),
    ("npu_smi_info_910B4_x8_25.2.0_idle", "a2", "25.2.0", range(8), []),
    ("npu_smi_info_910B2_x2_26.0.rc1_container_pid", "a2", "26.0.rc1", [0, 1], []),
    ("npu_smi_info_950_docsample", "950", "x.x.x", [None], ["does not tell its /dev/davinci"]),
    ("npu_smi_info_A3_16die_24.1.rc3.3_halfbusy", "a3", "24.1.rc3.3", range(16), []),
    ("npu_smi_info_A3_softslice_DUP_PHYID", "a3", "xxx.xxx.xxx", [0], ["listed twice"]),
]


@pytest.mark.parametrize(("name", "layout", "version", "devices", "problems"), WHOLE)
def test_info_of_every_generation(name, layout, version, devices, problems):
    info = parse_info(capture(name))

    assert (info.layout, info.version) == (layout, version)
    assert [device["device_id"] for device in info.devices] == list(devices)
    assert len(info.problems) == len(problems)
    for said, expected in zip(info.problems, problems, strict=True):
        assert expected in said


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(CAPTURES.glob("npu_smi_info_MALFORMED_*.txt"))]
)
def test_a_mutilated_table_is_a_problem_and_no_device(name):
    info = parse_info(capture(name))

    assert info.devices == []
    assert info.problems[-1] == "npu-smi lists no device"
    assert len(info.problems) > 1


def test_values_of_a_busy_a3_chip():
    info = parse_info(capture("npu_smi_info_A3_16die_24.1.rc3.3_halfbusy"))

    assert info.devices[9] == {
        "device_id": 9,
        "npu_id": 4,
        "chip_id": 1,
        "name": "Ascend910",
        "health": "OK",
        "bus_id": "0000:8F:00.0",
        "power_w": None,
        "temperature_c": 37,
        "utilisation_percent": 0,
        "memory_used_mb": 52358,
        "memory_total_mb": 65536,
        "processes": [{"pid": 957770, "name": "pt_main_thread", "memory_mb": 49207}],
    }
    assert info.devices[0]["processes"] == []
    assert info.devices[0]["power_w"] == 182.0


def test_memory_is_hbm_where_there_is_hbm():
    hbm = parse_info(capture("npu_smi_info_910A_x4_23.0.rc1_ALL_WARNING")).devices[2]
    ddr = parse_info(capture("npu_smi_info_310P3_hugepages_22.0.2")).devices[0]

    assert (hbm["memory_used_mb"], hbm["memory_total_mb"]) == (30750, 32768)
    assert (ddr["memory_used_mb"], ddr["memory_total_mb"]) == (4060, 21534)


def test_health_is_the_tools_own_word():
    info = parse_info(capture("npu_smi_info_910A_23.0.5_WARNING_elided"))

    assert [device["health"] for device in info.devices] == ["Warning", "OK"]


@pytest.mark.parametrize("word", HEALTH_WORDS)
def test_every_word_for_health_is_known(word):
    text = capture("npu_smi_info_910B4_x8_25.2.0_idle")
    info = parse_info(text.replace("| OK    ", f"| {word} ", 1))

    assert info.problems == []
    assert [device["health"] for device in info.devices] == [word, *["OK"] * 7]


@pytest.mark.parametrize(
    "text",
    [
        "There is no NPU card on this server.\n",
        "dcmi module initialize failed. ret is -8005\n",
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
        "dcmi model initialized failed, because the device is used. ret is -8020\n",
        capture("npu_smi_info_help_23.0.rc2"),
        # Columns in another language are not guessed at.
        capture("npu_smi_info_910B4_x8_25.2.0_idle").replace("Name", "名称"),
    ],
)
def test_without_a_table_there_is_no_device(text):
    info = parse_info(text)

    assert info.devices == []
    assert len(info.problems) > 1


def test_a_process_without_a_name_is_a_process():
    info = parse_info(capture("npu_smi_info_910B4_x8_24.1.rc3_busy"))

    assert info.devices[6]["processes"] == [{"pid": 99910, "name": "", "memory_mb": 27977}]


def test_a_process_with_another_number_in_its_container_has_the_hosts():
    info = parse_info(capture("npu_smi_info_910B2_x2_26.0.rc1_container_pid"))

    assert info.devices[0]["processes"] == [{"pid": 1504884, "name": "", "memory_mb": 35358}]


def test_process_memory_in_bytes_becomes_megabytes():
    text = capture("npu_smi_info_910A_x8_23.0.rc3_busy")
    text = text.replace("memory(MB)", "memory(B) ").replace("| 30780  ", "| 32275169280")

    assert parse_info(text).devices[0]["processes"][0]["memory_mb"] == 30780


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("82          0    / 0 ", "82          0    / 5.s", "use of cores and memory"),
        ("263.2       46", "263.2         ", "power and temperature not understood"),
        ("30759/ 32768", "0    / 0    ", "reports no memory"),
        ("| OK            | 263.2", "| Fine          | 263.2", "health not known: Fine"),
        ("| 6     910B4", "| six   910B4", "no NPU and chip number"),
        (
            "| 6       0                 | 99910",
            "| 9       0                 | 99910",
            "process 99910",
        ),
        (
            "| 6       0                 | 99910",
            "| 6       0                 | what?",
            "process row",
        ),
        ("| 27977 ", "| many  ", "memory of process 99910"),
        ("| 0000:82:00.0  | 82", "| 0000:82:00.0  | extra | 82", "other columns"),
    ],
)
def test_a_damaged_value_is_named_and_the_rest_stays(before, after, problem):
    text = capture("npu_smi_info_910B4_x8_24.1.rc3_busy")
    assert before in text

    info = parse_info(text.replace(before, after))

    assert problem in " ".join(info.problems)
    untouched = [device for device in info.devices if device["npu_id"] != 6]
    assert [device["device_id"] for device in untouched] == [0, 1, 2, 3, 4, 5, 7]
    assert all(device["memory_total_mb"] == 32768 for device in untouched)


@pytest.mark.parametrize("nothing", ["NA   / NA", "-    / -", "NA/NA"])
def test_what_a_chip_does_not_have_hides_nothing_else(nothing):
    text = capture("npu_smi_info_910B4_x8_25.2.0_idle")
    bare = re.sub(r"\b0 {4}/ 0\b", nothing, text)
    assert bare.count(nothing) == 16

    assert parse_info(bare) == parse_info(text)


def test_the_drivers_own_complaints_are_passed_on():
    for line in (
        "dcmi model initialized failed, because the device is used. ret is -8020",
        "[WARNING]The driver package may not be completely installed, which may cause function "
        "abnormal. Please reinstall it.",
    ):
        info = parse_info(capture("npu_smi_info_910B4_x8_25.2.0_idle") + line + "\n")
        assert len(info.devices) == 8
        assert info.problems[0].startswith(f"npu-smi says: {line[:60]}")


def test_a_page_of_garbage_is_a_short_list_of_problems():
    problems = parse_info("#!\x1b[2J nonsense\n" * 5000).problems

    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == f"and {5000 - MAX_PROBLEMS + 1} more"
    assert all(problem.isprintable() and len(problem) < 140 for problem in problems)


TABLES = ["npu_smi_info_910B4_x8_25.2.0_idle", "npu_smi_info_A3_16die_24.1.rc3.3_halfbusy"]


@pytest.mark.parametrize("name", TABLES)
def test_no_line_of_the_table_goes_missing_without_a_word(name):
    lines = capture(name).splitlines()
    whole = parse_info("\n".join(lines))
    processes = next(i for i, line in enumerate(lines) if "Process id" in line)

    for number in range(3, processes):
        info = parse_info("\n".join(lines[:number] + lines[number + 1 :]))
        assert info.problems or info == whole, f"line {number} is not missed: {lines[number]}"


@given(st.text())
def test_any_text_gives_devices_or_problems(text):
    info = parse_info(text)
    assert info.devices or info.problems


@given(st.data())
def test_a_capture_cut_and_spliced_raises_nothing_and_invents_no_device(data):
    text = capture(data.draw(st.sampled_from([name for name, *_ in WHOLE])))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 400)))
    spliced = text[:start] + data.draw(st.text(max_size=30)) + text[end:]

    info = parse_info(spliced)

    assert info.devices or info.problems
    numbers = [d["device_id"] for d in info.devices if d["device_id"] is not None]
    assert len(numbers) == len(set(numbers))


# --- health -----------------------------------------------------------------------------------


def test_error_codes_of_a_sick_chip():
    codes = parse_error_codes(capture("npu_smi_health_ALARM"))
    assert codes == ["A4025021", "8C03A000", "8C084E00"]


def test_no_error_codes():
    assert parse_error_codes("\tHealth Status   : OK\n\tError Code     : NA\n") == []
    assert parse_error_codes(capture("npu_smi_board_INVALID_CARD")) == []


@given(st.text())
def test_error_codes_of_any_text(text):
    assert all(re.fullmatch("[0-9A-Fa-f]+", code) for code in parse_error_codes(text))


# --- ecc, board, spod-info ----------------------------------------------------------------------


def test_ecc_counts_all_memory():
    text = capture("npu_smi_ecc_910_docsample")
    sick = text.replace(
        "HBM Double Bit Error Count               : 0", "HBM Double Bit Error Count : 2"
    )
    sick = sick.replace(
        "DDR Double Bit Isolated Pages Count      : 0", "DDR Double Bit Isolated Pages Count: 3"
    )

    assert parse_ecc(text) == Ecc(0, 0)
    assert parse_ecc(sick) == Ecc(errors=2, isolated_pages=3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This device does not support querying ecc.\n",
        "\tHBM Double Bit Error Count : 0\n",
        "\tHBM Double Bit Error Count : NA\n\tHBM Double Bit Isolated Pages Count : 0\n",
        # Two chips in one answer: whose count is it?
        "\tHBM Double Bit Error Count : 0\n\tHBM Double Bit Isolated Pages Count : 0\n"
        "\tHBM Double Bit Error Count : 1\n",
    ],
)
def test_an_ecc_answer_that_is_not_whole_is_none(text):
    assert parse_ecc(text) is None


def test_board():
    assert parse_board(capture("npu_smi_board_npu_910A")) == Board("23.0.5", "7.1.0.7.220", "OK")
    assert parse_board(capture("npu_smi_board_chip_910A")) == Board(None, "7.1.0.7.220", None)
    assert parse_board(capture("npu_smi_board_INVALID_CARD")) == Board(None, None, None)


def test_super_pod():
    assert parse_super_pod(capture("npu_smi_spod_info_A3_dev1")) == SuperPod(167837697, 0, 40)
    assert parse_super_pod(capture("npu_smi_spod_info_UNSUPPORTED")) is None


VERSIONS = ["22.0.4", "23.0.rc1.b070", "23.0.rc1", "23.0.rc2", "23.0.rc2.3", "23.0.1", "24.1.rc3"]
VERSIONS += [
    "24.1.rc3.7",
    "24.1.0",
    "24.1.0.1",
    "25.0.rc1.b033",
    "25.0.rc1",
    "25.0.RC1.1",
    "25.2.0",
]


def test_drivers_come_in_this_order():
    for one, other in itertools.combinations(VERSIONS, 2):
        assert (is_older(one, other), is_older(other, one)) == (True, False), (one, other)
    assert is_older("25.0", "25.0.0") is is_older("25.0.0", "25.0") is False


@pytest.mark.parametrize("version", ["", "xxx", "25.", "25.0.beta", "25.0-3", "٣.0"])
def test_what_is_no_version_has_no_order(version):
    assert is_older(version, "25.0") is None


# --- topology ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("npu_smi_topo_910B1_x8", {"HCCS"}),
        ("npu_smi_topo_910B3_x8_msswift", {"HCCS"}),
        ("npu_smi_topo_910B_x8_yuanrong", {"HCCS"}),
        ("npu_smi_topo_8card_ALL_SYS", {"SYS"}),
        ("npu_smi_topo_8card_UB_pairs", {"UB", "SYS"}),
        ("npu_smi_topo_8card_UB_quads", {"UB", "SYS"}),
    ],
)
def test_topology(name, links):
    topology, problems = parse_topology(capture(name))

    assert problems == []
    assert topology["devices"] == list(range(8))
    seen = {link_between(topology, a, b) for a in range(8) for b in range(8) if a != b}
    assert seen == links
    assert len(topology["cpu_affinity"]) == 8


def test_topology_of_pairs():
    topology, _ = parse_topology(capture("npu_smi_topo_8card_UB_pairs"))

    assert link_between(topology, 2, 3) == "UB"
    assert link_between(topology, 3, 4) == "SYS"
    assert link_between(topology, 3, 8) is None
    assert topology["cpu_affinity"][7] == "64-127,192-255"


def test_topology_with_network_cards_and_without_affinity():
    text = (
        "\t   Phy-ID2    Phy-ID3    NIC0\n"
        "Phy-ID2    X          SIO        PHB\n"
        "Phy-ID3    SIO        X          SYS\n"
        "NIC0       PHB        SYS        X\n"
        "NIC0: enp67s0f0np0\n"
    )
    assert parse_topology(text) == (
        {"devices": [2, 3], "links": [["X", "SIO"], ["SIO", "X"]], "cpu_affinity": None},
        [],
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("This device does not support querying topo.\n", "does not support querying topo"),
        ("", "says: nothing"),
        (capture("npu_smi_topo_910C_phyids_CUT"), "row Phy-ID12 has 0 of 4 links"),
        ("  NPU0  NPU1\nNPU0  X  HCCS\n", "row NPU1 has 0 of 2 links"),
        ("  NPU0  NPU1\nNPU0  X\nNPU1  HCCS  X\n", "row NPU0 has 1 of 2 links"),
        ("  NPU0  NPU1\nNPU0  X  what\nNPU1  HCCS  X\n", "unknown link what"),
        ("  NPU0  NPU0\nNPU0  X  HCCS\nNPU0  HCCS  X\n", "listed twice"),
    ],
)
def test_a_topology_that_is_not_whole_is_none(text, problem):
    topology, problems = parse_topology(text)

    assert topology is None
    assert problem in problems[0]


@given(st.text(alphabet=st.sampled_from("NPU0123XHCSY \n\tid-")))
def test_topology_of_any_text(text):
    topology, problems = parse_topology(text)
    assert (topology is None) == bool(problems)
