"""nvidia-smi's output, whole, partial and broken in every way.

Captured output has its tests in test_nvidia_captures.py. These documents are written after the
public document type (nvsmi_device_v12.dtd) and what drivers 535 to 580 print; the matrix after
servers with NVSwitch.
"""

from __future__ import annotations

import re

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import MAX_PROBLEMS
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import nvidia_smi
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import (
    health,
    modes,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    parse_query,
    parse_topology,
)
from hypothesis import given
from hypothesis import strategies as st

from lab.emulators import nvidia_tools

HEAD = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'

# An A100 under an older driver: other tags for power and SRAM errors, no fabric.
A100 = """\
<gpu id="00000000:07:00.0">
  <product_name>NVIDIA A100-SXM4-80GB</product_name>
  <persistence_mode>Disabled</persistence_mode>
  <mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>
  <uuid>GPU-3f0e8e3a-9d7a-1d4b-6a5e-2c1f9ac0d3b1</uuid>
  <minor_number>3</minor_number>
  <pci><pci_bus_id>00000000:07:00.0</pci_bus_id></pci>
  <fb_memory_usage><total>81920 MiB</total><used>21 MiB</used></fb_memory_usage>
  <compute_mode>Exclusive_Process</compute_mode>
  <utilization><gpu_util>N/A</gpu_util></utilization>
  <ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>
  <ecc_errors>
    <volatile><sram_uncorrectable>1</sram_uncorrectable>
      <dram_correctable>7</dram_correctable><dram_uncorrectable>2</dram_uncorrectable></volatile>
    <aggregate><sram_uncorrectable>1</sram_uncorrectable>
      <dram_uncorrectable>5</dram_uncorrectable></aggregate>
  </ecc_errors>
  <remapped_rows><remapped_row_pending>Yes</remapped_row_pending>
    <remapped_row_failure>No</remapped_row_failure></remapped_rows>
  <temperature><gpu_temp>31 C</gpu_temp></temperature>
  <power_readings><power_draw>61.50 W</power_draw></power_readings>
  <processes>
    <process_info><pid>4711</pid><type>C</type><process_name>python3</process_name>
      <used_memory>20 MiB</used_memory></process_info>
    <process_info><pid>4712</pid><type>C</type>
      <process_name>[Insufficient Permissions]</process_name>
      <used_memory>N/A</used_memory></process_info>
  </processes>
</gpu>"""


def log(*gpus: str, attached: int | None = None) -> str:
    count = len(gpus) if attached is None else attached
    return (
        f"{HEAD}<nvidia_smi_log><driver_version>535.129.03</driver_version>"
        f"<cuda_version>12.2</cuda_version><attached_gpus>{count}</attached_gpus>"
        f"{''.join(gpus)}</nvidia_smi_log>\n"
    )


def h100(*changes: tuple[str, str]) -> str:
    """What the emulator prints of one H100, with elements changed."""
    text = nvidia_tools._query_xml(nvidia_tools.make_state("nvidia", 1))
    for tag, value in changes:
        text, count = re.subn(f"<{tag}>[^<]*</{tag}>", f"<{tag}>{value}</{tag}>", text)
        assert count
    return text


def test_an_older_driver_is_read_as_well():
    query = parse_query(log(A100))

    assert (query.version, query.cuda_version) == ("535.129.03", "12.2")
    # A GPU that is cut tells none of its use.
    assert query.problems == []
    [device] = query.devices
    said = {mode.check_id: mode.status for mode in modes(device)}
    assert said == {
        "gpu-persistence": "warning",
        "gpu-compute-mode": "warning",
        "gpu-mig": "failed",
    }
    assert health(device) == "3 uncorrectable memory errors, row remapping pending"
    assert device == {
        "device_id": 0,
        "minor_number": 3,
        "name": "NVIDIA A100-SXM4-80GB",
        "uuid": "GPU-3f0e8e3a-9d7a-1d4b-6a5e-2c1f9ac0d3b1",
        "lost": False,
        "unreadable": [],
        "recovery_action": None,
        "conditions": ["remapped_row_pending"],
        "bus_id": "00000000:07:00.0",
        "power_w": 61.5,
        "temperature_c": 31,
        "utilisation_percent": None,
        "memory_used_mb": 21,
        "memory_total_mb": 81920,
        "processes": [
            {"pid": 4711, "name": "python3", "memory_mb": 20},
            {"pid": 4712, "name": "", "memory_mb": None},
        ],
        "persistence_mode": "Disabled",
        "compute_mode": "Exclusive_Process",
        "mig_mode": "Enabled",
        "mig_pending": "Enabled",
        "ecc_mode": "Enabled",
        "uncorrectable_errors": 3,
        "aggregate_uncorrectable_errors": 6,
        "fabric": None,
    }


def test_errors_of_the_oldest_tags_count():
    old = (
        "<ecc_errors><volatile><single_bit><total>9</total></single_bit>"
        "<double_bit><device_memory>1</device_memory><total>4</total></double_bit></volatile>"
        "</ecc_errors>"
    )
    gpu = re.sub(r"<ecc_errors>.*</ecc_errors>", old, A100, flags=re.DOTALL)

    assert parse_query(log(gpu)).devices[0]["uncorrectable_errors"] == 4


HEALTH = [
    (("gpu_temp", "ERR!"), "ERR!"),
    (("gpu_util", "[Unknown Error]"), "Unknown Error"),
    (("used", "GPU is lost"), "GPU is lost"),
    (("gpu_recovery_action", "Drain and Reset"), "the driver wants: Drain and Reset"),
    (("remapped_row_failure", "Yes"), "row remapping failed"),
    (("pending_retirement", "Yes"), "page retirement pending"),
    (
        (
            "gpu_recovery_action",
            "None</gpu_recovery_action><gpu_reset_status><reset_required>Yes"
            "</reset_required></gpu_reset_status><gpu_recovery_action>None",
        ),
        "the driver wants a reset",
    ),
    (("sram_threshold_exceeded", "Yes"), "too many SRAM errors in its life"),
    (("state", "In Progress"), "fabric In Progress, status Success"),
    (("status", "NVLink not supported"), "fabric Completed, status NVLink not supported"),
]


@pytest.mark.parametrize(("change", "wrong"), HEALTH)
def test_what_is_wrong_is_the_health(change, wrong):
    query = parse_query(h100(change))

    assert health(query.devices[0]) == wrong
    assert query.problems == []


def test_a_sound_gpu_is_ok_whatever_its_past():
    text = re.sub(
        r"(<aggregate>.*<dram_uncorrectable>)0", r"\g<1>12", h100(), count=1, flags=re.DOTALL
    )
    [device] = parse_query(text).devices

    assert health(device) == "OK"
    assert (device["uncorrectable_errors"], device["aggregate_uncorrectable_errors"]) == (0, 12)


@pytest.mark.parametrize("word", ["N/A", "[N/A]", "Not Supported", "[Not Supported]", ""])
def test_what_is_not_told_is_null(word):
    query = parse_query(h100(("instant_power_draw", word), ("average_power_draw", word)))

    assert query.devices[0]["power_w"] is None
    assert query.problems == ["GPU 0: no power draw told"]


@pytest.mark.parametrize("value", ["warm", "29 F", "29", "-3 C", "29 C C", "1e3 C"])
def test_what_is_not_understood_is_no_number(value):
    query = parse_query(h100(("gpu_temp", value)))

    assert query.devices[0]["temperature_c"] is None
    assert query.problems == [f"GPU 0: temperature not understood: {value}"]


@pytest.mark.parametrize(
    ("processes", "problem"),
    [
        ("<processes>[Insufficient Permissions]</processes>", "processes not told"),
        ("<processes><process_info><pid>x</pid></process_info></processes>", "pid x"),
        ("<processes><process_info></process_info></processes>", "pid missing"),
        ("", "processes not told"),
    ],
)
def test_untold_processes_are_not_taken_for_none(processes, problem):
    gpu = re.sub(r"<processes>.*</processes>", processes, A100, flags=re.DOTALL)
    query = parse_query(log(gpu))

    assert query.devices[0]["processes"] is None
    assert any(problem in one for one in query.problems)


@pytest.mark.parametrize(
    ("current", "pending", "status", "observed", "remedy"),
    [
        ("Disabled", "Enabled", "warning", "MIG Disabled, Enabled after the next reset", "back"),
        ("Enabled", "Disabled", "failed", "MIG Enabled, Disabled after the next reset", "waits"),
        ("Enabled", "Enabled", "failed", "MIG Enabled", "-mig 0"),
        ("Disabled", "Disabled", "ok", "MIG Disabled", ""),
        ("N/A", "N/A", "ok", "MIG not there", ""),
        ("[N/A]", "[N/A]", "ok", "MIG not there", ""),
    ],
)
def test_a_gpu_that_is_cut_or_will_be_is_seen(current, pending, status, observed, remedy):
    query = parse_query(h100(("current_mig", current), ("pending_mig", pending)))

    [mode] = [mode for mode in modes(query.devices[0]) if mode.check_id == "gpu-mig"]
    assert (mode.status, mode.observed) == (status, observed)
    assert remedy in mode.remedy


@pytest.mark.parametrize(
    "name", ["a&b", "<defunct>", "x\x00\x01\x1b[0m", "\ufffd\ufffd", "/usr/bin/python3 -c 'a<b'"]
)
def test_no_name_of_a_process_hides_the_gpus(name):
    query = parse_query(log(A100.replace("python3", name), A100))

    assert len(query.devices) == 2
    assert query.problems == []
    assert [one["pid"] for one in query.devices[0]["processes"]] == [4711, 4712]


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]>'
NO_DOCUMENT = [
    ("", "nvidia-smi says: nothing"),
    ("No devices were found\n", "nvidia-smi says: No devices were found"),
    (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "nvidia-smi says: NVIDIA-SMI has failed because it couldn't communicate",
    ),
    (log(A100)[:900], "nvidia-smi's answer is cut off"),
    (log(A100).replace("</uuid>", ""), "nvidia-smi's answer is no XML: mismatched tag"),
    (BOMB + "<nvidia_smi_log>&c;</nvidia_smi_log>", "defines entities"),
    ("<?xml version='1.0'?><a><nvidia_smi_log></nvidia_smi_log>", "is no XML"),
    ("<?xml version='1.0'?><a></a><!-- </nvidia_smi_log>", "is no XML"),
    (HEAD + " " * nvidia_smi.MAX_XML + "<nvidia_smi_log></nvidia_smi_log>", "not believed"),
    (log(), "nvidia-smi lists no GPU"),
]


@pytest.mark.parametrize(("text", "problem"), NO_DOCUMENT)
def test_without_a_whole_document_there_is_no_device(text, problem):
    query = parse_query(text)

    assert query.devices == []
    assert problem in query.problems[0]


def test_a_gpu_that_is_not_listed_is_missed():
    query = parse_query(log(A100, attached=2))

    assert query.problems[-1] == "nvidia-smi counts 2 GPUs and lists 1"


def test_the_drivers_complaint_beside_the_document_is_a_problem():
    lost = "Unable to determine the device handle for GPU0000:BA:00.0: GPU is lost."
    query = parse_query(log(A100) + lost)

    assert len(query.devices) == 1
    assert query.problems[0] == f"nvidia-smi says: {lost}"


def test_a_page_of_garbage_is_no_page_of_problems():
    query = parse_query(log(*["<gpu></gpu>"] * 300))

    assert len(query.devices) == 300
    assert len(query.problems) == MAX_PROBLEMS + 1


@given(st.text(), st.integers(0, 3000))
def test_no_text_is_too_strange(text, at):
    sample = log(A100)
    for strange in (text, HEAD + text, sample[:at] + text + sample[at:], sample[:at]):
        query = parse_query(strange)
        assert query.devices or query.problems


ELEMENT = st.text("<>/&;!ENTITYgpupid0 N/A", max_size=60)


@given(ELEMENT)
def test_no_element_is_too_strange(text):
    for tag in ("gpu_temp", "pid", "processes", "used_memory", "dram_uncorrectable"):
        parse_query(log(re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{text}</{tag}>", A100, flags=16)))


# --- topology -----------------------------------------------------------------------------------

# Two GPUs of a server whose GPUs are joined, and two NICs; affinity may be empty.
MATRIX = """\
\t\x1b[4mGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV18\tPIX\tSYS\t\t0\t\tN/A
GPU1\tNV18\t X \tSYS\tNODE\t56-111,168-223\t1\t\tN/A
NIC0\tPIX\tSYS\t X \tSYS\t\t\t\t
NIC1\tSYS\tNODE\tSYS\t X \t\t\t\t

Legend:

  X    = Self
  NV#  = Connection traversing a bonded set of # NVLinks

NIC Legend:

  NIC0: mlx5_0
"""


def test_the_matrix_holds_the_gpus_alone():
    assert parse_topology(MATRIX) == (
        {"devices": [0, 1], "links": [["X", "NV18"], ["NV18", "X"]], "cpu_affinity": None},
        [],
    )


def test_one_gpu_has_a_matrix_too():
    text = "\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-11\tN/A\n"

    assert parse_topology(text)[0] == {
        "devices": [0],
        "links": [["X"]],
        "cpu_affinity": None,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no topology: nvidia-smi says: nothing"),
        (
            "Failed to initialize NVML: Driver/library version mismatch",
            "no topology: nvidia-smi says: Failed to initialize NVML",
        ),
        (MATRIX.replace("GPU1\tNV18\t X ", "GPU1\tNV18"), "row GPU1 is not at X with itself alone"),
        (MATRIX.replace("GPU1\tNV18", "GPU2\tNV18"), "row GPU1 has 0 of 2 links"),
        (MATRIX.replace("X \tNV18\tPIX", "X \tNVSWITCH\tPIX"), "an unknown link NVSWITCH"),
        (MATRIX.replace("GPU1\tNIC0", "GPU0\tNIC0"), "lists a GPU twice"),
    ],
)
def test_half_a_matrix_is_none(text, problem):
    topology, problems = parse_topology(text)

    assert topology is None
    assert problem in problems[0]


@given(st.lists(st.sampled_from(["GPU0", "GPU1", "NIC0", "X", "NV4", "\n", "SYS", "?"])))
def test_a_matrix_is_whole_or_none(words):
    topology, problems = parse_topology("\t".join(words))

    assert (topology is None) == bool(problems)
    if topology:
        assert {len(row) for row in topology["links"]} == {len(topology["devices"])}
