"""Whatever a device tool prints, its parser neither breaks nor guesses.

The inputs are what the tools are known to print, cut, spliced, shuffled, translated and respaced,
and text of no kind. With HYPOTHESIS_PROFILE=thorough they are 20,000 and more.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import MAX_PROBLEMS
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import amd_smi, rocm_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import hccn, npu_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import nvidia_smi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.emulators import amd_tools, nvidia_tools
from lab.emulators.state import save_state
from tests.unit.amd_node import say
from tests.unit.npu_node import CAPTURES

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
WANTED_INPUTS = 20_000
# Of each tool in turn, the different inputs that its parsers were given.
INPUTS: dict[str, set[int]] = {}


def examples(count: int) -> settings:
    return settings(
        max_examples=count if THOROUGH else 40, suppress_health_check=[HealthCheck.too_slow]
    )


def given_to(tool: str, *texts: str) -> None:
    INPUTS.setdefault(tool, set()).add(hash(texts))


def captured(*prefixes: str) -> list[str]:
    names = sorted(path.name for path in CAPTURES.glob("*.txt"))
    found = [name for name in names if name.startswith(prefixes)]
    return [(CAPTURES / name).read_bytes().decode() for name in found]


# --- what may happen to a text ------------------------------------------------------------------

TRANSLATED = {
    "Health": "健康状态",
    "OK": "正常",
    "No running processes found in NPU": "未发现运行中的进程 NPU",
    "Process id": "进程号",
    "Error": "错误",
    "status": "状态",
    "received": "已接收",
    "Version": "版本",
    ".": ",",
    ":": "\N{FULLWIDTH COLON}",
    "0": "\N{ARABIC-INDIC DIGIT ZERO}",
    "1": "\N{FULLWIDTH DIGIT ONE}",
}


def cut(text: str, one: int, _other: int, _extra: str) -> str:
    return text[: len(text) * one // 10_000]


def splice(text: str, one: int, other: int, extra: str) -> str:
    start = len(text) * one // 10_000
    return text[:start] + extra + text[start + other // 50 :]


def repeat_lines(text: str, one: int, other: int, extra: str) -> str:
    lines = text.splitlines(keepends=True)
    start = len(lines) * one // 10_000
    return "".join([*lines[: start + other % 9], extra, *lines[start:]])


def shuffle_lines(text: str, one: int, _other: int, _extra: str) -> str:
    lines = text.splitlines(keepends=True)
    random.Random(one).shuffle(lines)  # noqa: S311
    return "".join(lines)


def swap_lines(text: str, one: int, other: int, _extra: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    a, b = len(lines) * one // 10_000, len(lines) * other // 10_000
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def translate(text: str, one: int, _other: int, _extra: str) -> str:
    for place, (word, other) in enumerate(TRANSLATED.items()):
        if one >> place & 1:
            text = text.replace(word, other)
    return text


def respace(text: str, one: int, _other: int, _extra: str) -> str:
    widths = random.Random(one)  # noqa: S311
    return re.sub(r"[ \t]+", lambda _: " " * widths.choice((1, 1, 2, 9)), text)


def end_lines(text: str, one: int, _other: int, _extra: str) -> str:
    return text.replace("\n", ("\r\n", "\r", "\n\n", " \n\t", "")[one % 5])


def change_number(text: str, one: int, other: int, _extra: str) -> str:
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return text
    chosen = numbers[len(numbers) * one // 10_000]
    return text[: chosen.start()] + str(other**3) + text[chosen.end() :]


OPERATIONS: list[Callable[[str, int, int, str], str]] = [
    cut,
    splice,
    repeat_lines,
    shuffle_lines,
    swap_lines,
    translate,
    respace,
    end_lines,
    change_number,
]
STEP = st.tuples(
    st.sampled_from(OPERATIONS), st.integers(0, 9_999), st.integers(0, 9_999), st.text(max_size=12)
)
STEPS = st.lists(STEP, min_size=1, max_size=3)


def mutated(text: str, steps: list) -> str:
    for operation, one, other, extra in steps:
        text = operation(text, one, other, extra)
    return text


# --- what holds of every result -----------------------------------------------------------------


def check_told(value: object, text: str) -> None:
    """Every word and number of the value stands in the text."""
    words = value.removesuffix("...").split() if isinstance(value, str) else [str(value)]
    for word in words:
        assert word in text, f"{value!r} was never told"


def check_problems(problems: list[str]) -> None:
    assert len(problems) <= MAX_PROBLEMS + 1
    assert all(problem.isprintable() and len(problem) < 250 for problem in problems)


def check_numbers(device: dict, *keys: str) -> None:
    assert all(device[key] is None or type(device[key]) is int for key in keys)


# --- npu-smi ------------------------------------------------------------------------------------

TABLES = captured("npu_smi_info_")
MATRICES = captured("npu_smi_topo_")
ANSWERS = captured("npu_smi_board_", "npu_smi_ecc", "npu_smi_spod", "npu_smi_health", "npu_smi_us")
DEVICE_KEYS = {
    *("device_id", "npu_id", "chip_id", "name", "health", "bus_id", "power_w", "temperature_c"),
    *("utilisation_percent", "memory_used_mb", "memory_total_mb", "processes"),
}


def check_npu_smi(text: str) -> None:
    given_to("npu-smi", text)
    info = npu_smi.parse_info(text)
    assert info.devices or info.problems
    check_problems(info.problems)
    check_problems(info.doubts)
    assert info.problems or not info.doubts
    assert info.devices or not info.whole
    numbers = [one["device_id"] for one in info.devices if one["device_id"] is not None]
    assert len(numbers) == len(set(numbers))
    for device in info.devices:
        assert set(device) == DEVICE_KEYS
        told = ("npu_id", "device_id", "chip_id", "temperature_c", "memory_used_mb")
        check_numbers(device, *told, "memory_total_mb", "utilisation_percent")
        for key in (*told, "name", "bus_id", "health", "memory_total_mb", "utilisation_percent"):
            if device[key] is not None:
                check_told(device[key], text)
        for process in device["processes"] or []:
            check_told(process["pid"], text)
            check_told(process["name"], text)
    for version in filter(None, (info.version, info.tool_version)):
        check_told(version, text)

    topology, problems = npu_smi.parse_topology(text)
    assert (topology is None) == bool(problems)
    if topology:
        assert {len(row) for row in topology["links"]} == {len(topology["devices"])}
        assert {link for row in topology["links"] for link in row} <= set(npu_smi.LINK_WORDS)
        for number in topology["devices"]:
            check_told(number, text)

    for code in npu_smi.parse_error_codes(text):
        check_told(code, text)
    for value in filter(None, npu_smi.parse_board(text)):
        check_told(value, text)
    for value in npu_smi.parse_super_pod(text) or []:
        check_told(value, text)
    if npu_smi.parse_ecc(text):
        check_told("Double Bit Error Count", text)
        check_told("Double Bit Isolated Pages Count", text)


@examples(6_500)
@given(st.sampled_from(TABLES + MATRICES + ANSWERS), STEPS)
def test_npu_smi_changed(text, steps):
    check_npu_smi(mutated(text, steps))


@examples(3_000)
@given(st.text(max_size=300) | st.text("|+-=NPUChipOK0123 /.\n", max_size=300))
def test_npu_smi_of_no_kind(text):
    check_npu_smi(text)


@examples(5_000)
@given(st.sampled_from(TABLES), st.integers(0, 9_999))
def test_half_a_table_tells_no_more_than_the_whole(text, end):
    part = cut(text, end, 0, "")
    given_to("npu-smi", part)
    whole, half = npu_smi.parse_info(text), npu_smi.parse_info(part)

    assert len(half.devices) == len(whole.devices) or not half.whole
    assert len(half.devices) <= len(whole.devices)
    for device, of_whole in zip(half.devices, whole.devices, strict=False):
        processes = device.pop("processes") or []
        all_processes = of_whole.pop("processes") or []
        assert device == of_whole
        assert processes == all_processes[: len(processes)]


# --- hccn_tool ----------------------------------------------------------------------------------

FABRIC = [
    *captured("hccn_"),
    "link status: DOWN\n",
    "net health status: Receive timeout\n",
    "netdetect addr: 10.0.0.1\n",
    "hccn_tool is busy, please try again.\n",
    "Get gateway failed, because no gateway was preset there!\n",
    "device 0 PING 10.0.0.1\nrecv time out seq=0\n"
    "3 packets transmitted, 2 received, 33.33% packet loss\n",
    "vnic link status: DOWN\nvnic ipaddr: 192.168.2.199\nvnic netmask: 255.255.255.0\n",
    "recv seq 0, time = 7us, L1 plane check result = 0x0\n"
    "1 packets transmitted, 1 received, 0.00% packets loss\nThis pkt ping success!\n",
    "System Description TLV\n\tAscendNPU\nEnd of LLDPDU TLV\n",
]


def check_hccn(text: str) -> None:
    given_to("hccn_tool", text)
    assert hccn.parse_link(text) in (None, "UP", "DOWN")
    addresses = (hccn.parse_address, hccn.parse_gateway, hccn.parse_detect_address)
    for address in [parse(text) for parse in addresses]:
        assert address is None or hccn.is_address(address)
    strings = (hccn.parse_link, hccn.parse_net_health, *addresses)
    for value in filter(None, [parse(text) for parse in strings]):
        check_told(value, text)
    for device in (0, 3):
        switch = hccn.parse_tls(text, device)
        assert switch is None or f"tls switch[{switch}]" in text
    neighbour = hccn.parse_neighbour(text)
    assert neighbour in (None, "switch", "npu")
    assert neighbour is None or "System Description" in text
    vnic = hccn.parse_vnic(text)
    if vnic:
        assert hccn.is_address(vnic.address)
        check_told(vnic.address, text)
        assert f"vnic link status: {vnic.link}" in re.sub(r"status:\s*", "status: ", text)
    ping = hccn.parse_ping(text)
    if ping:
        assert re.search(rf"0*{ping.sent} packets transmitted,\s*0*{ping.received} received", text)
    settings_, problems = hccn.parse_configuration(text)
    for device, values in settings_.items():
        check_told(device, text)
        for key, value in values.items():
            assert key in text
            assert value in text
    assert all(problem.isprintable() for problem in problems)
    assert isinstance(hccn.is_unset(text), bool)


@examples(4_500)
@given(st.sampled_from(FABRIC), STEPS)
def test_hccn_tool_changed(text, steps):
    check_hccn(mutated(text, steps))


@examples(1_500)
@given(st.text(max_size=200) | st.text("abdeilnrst: _=[]0123.,\n\tUP", max_size=200))
def test_hccn_tool_of_no_kind(text):
    check_hccn(text)


# --- nvidia-smi ---------------------------------------------------------------------------------

NVIDIA = nvidia_tools.make_state("nvidia", 1)
NVIDIA_TEXTS = [
    nvidia_tools._query_xml(NVIDIA),
    nvidia_tools._topology(nvidia_tools.make_state("nvidia", 8)),
]


def check_nvidia_smi(text: str) -> None:
    given_to("nvidia-smi", text)
    query = nvidia_smi.parse_query(text)
    assert query.devices or query.problems
    check_problems(query.problems)
    assert [one["device_id"] for one in query.devices] == list(range(len(query.devices)))
    for device in query.devices:
        told = ("minor_number", "temperature_c", "memory_used_mb", "memory_total_mb")
        check_numbers(device, *told)
        for key in (*told, "name", "uuid", "bus_id"):
            if device[key] is not None and "&" not in text:
                check_told(device[key], text)
        for process in device["processes"] or []:
            check_told(process["pid"], text)

    topology, problems = nvidia_smi.parse_topology(text)
    assert (topology is None) == bool(problems)
    if topology:
        assert {len(row) for row in topology["links"]} == {len(topology["devices"])}
        for number in topology["devices"]:
            check_told(f"GPU{number}", text)


@examples(2_500)
@given(st.sampled_from(NVIDIA_TEXTS), STEPS)
def test_nvidia_smi_changed(text, steps):
    whole = len(nvidia_smi.parse_query(text).devices)
    text = mutated(text, steps)
    check_nvidia_smi(text)
    if all(step[0] is cut for step in steps):
        assert len(nvidia_smi.parse_query(text).devices) <= whole


@examples(1_500)
@given(st.text(max_size=300) | st.text("<>/&;!?xmlgpu0 N/A\n", max_size=300))
def test_nvidia_smi_of_no_kind(text):
    check_nvidia_smi(text)
    check_nvidia_smi(f"<?xml?>{text}</nvidia_smi_log>")


# --- amd-smi and rocm-smi -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What both tools print of two GPUs, by tool and query."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("node") / "state.json"
        patch.setenv("MUSTER_LAB_STATE", str(path))
        save_state(amd_tools.make_state("amd", 2))
        queries = {**amd_smi.ARGUMENTS, "partition": amd_smi.PARTITION_ARGUMENTS}
        return {
            "amd-smi": {key: say("amd-smi", *words).stdout for key, words in queries.items()},
            "rocm-smi": {
                key: say("rocm-smi", *words).stdout for key, words in rocm_smi.ARGUMENTS.items()
            },
        }


def check_amd(tool: str, texts: dict[str, str]) -> int:
    given_to(tool, *texts.values())
    read = {"amd-smi": amd_smi.read, "rocm-smi": rocm_smi.read}[tool]
    seen = read(texts)
    check_problems(seen.problems)
    assert seen.devices or seen.problems
    text = "".join(texts.values())
    ids = [device["device_id"] for device in seen.devices]
    assert ids == sorted(set(ids))
    for device in seen.devices:
        check_numbers(device, "temperature_c", "memory_used_mb", "memory_total_mb")
        for key in ("name", "uuid", "bus_id", "temperature_c"):
            if device[key] is not None and "\\" not in text:
                check_told(device[key], text)
        for process in device["processes"] or []:
            check_told(process["pid"], text)
    if seen.topology:
        assert {len(row) for row in seen.topology["links"]} == {len(ids)}
    return len(ids)


@pytest.mark.parametrize("tool", ["amd-smi", "rocm-smi"])
@examples(1_250)
@given(data=st.data(), steps=STEPS)
def test_amd_tools_changed(said, tool, data, steps):
    texts = dict(said[tool])
    changed = data.draw(st.sets(st.sampled_from(sorted(texts)), min_size=1))
    for query in changed:
        texts[query] = mutated(texts[query], steps)

    count = check_amd(tool, texts)

    if all(step[0] is cut for step in steps):
        assert count <= 2


@pytest.mark.parametrize("tool", ["amd-smi", "rocm-smi"])
@examples(1_000)
@given(text=st.text(max_size=200) | st.text('{}[]":, gpu01card\n', max_size=200))
def test_amd_tools_of_no_kind(said, tool, text):
    check_amd(tool, dict.fromkeys(said[tool], text))


# --- how much was tried -------------------------------------------------------------------------


@pytest.mark.skipif(not THOROUGH, reason="counts what HYPOTHESIS_PROFILE=thorough tries")
def test_enough_was_tried():
    counts = {tool: len(inputs) for tool, inputs in INPUTS.items()}
    assert set(counts) == {"npu-smi", "hccn_tool", "nvidia-smi", "amd-smi", "rocm-smi"}
    assert sum(counts.values()) >= WANTED_INPUTS, counts
