# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi prints, as data.

Every function takes text and returns what it understood together with a list of problems; none
raises, and none fills a gap with a guess. Fields come and go with the driver's version: what is
absent, or told as N/A, is null.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Match, Sequence, TypedDict
from xml.sax.saxutils import escape

from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import (
    Problems,
    excerpt,
    plain,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Gpu,
    Observation,
    Process,
    Topology,
)

# A server with sixteen GPUs and their clocks tells about 1 MB.
MAX_XML = 8 * 1024 * 1024

# Values that say that there is no value, and values that say that the device does not answer.
_UNTOLD = re.compile(
    r"|\[?(N/A|Not Supported|Not Available|Requested functionality has been deprecated)\]?", re.I
)
_WITHHELD = re.compile(r"\[?(Insufficient Permissions|Not Found)\]?", re.I)
_BROKEN = re.compile(r"\[?(Unknown Error|ERR!|GPU is lost|GPU requires reset)\b|ERR!", re.I)

_QUANTITY = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(?: (\S{1,4}))?", re.ASCII)
# What no XML may hold, and where the driver puts what it read of a process as it is.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PROCESS_NAME = re.compile(r"(<process_name>)(.*?)(</process_name>)", re.DOTALL)
_BUS_ID = re.compile(
    r"([0-9a-f]{1,8}):([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f])", re.ASCII | re.IGNORECASE
)
_NO_HANDLE = re.compile(rf"device handle for GPU ?({_BUS_ID.pattern})", re.ASCII | re.IGNORECASE)
_GPU_LABEL = re.compile(r"GPU(\d{1,4})", re.ASCII)
_LINK = re.compile(r"X|SYS|NODE|PHB|PXB|PIX|PSB|NV\d{1,3}", re.ASCII)

# Questions that a sound GPU answers with No.
_CONDITIONS = {
    "remapped_row_failure": "remapped_rows/remapped_row_failure",
    "remapped_row_pending": "remapped_rows/remapped_row_pending",
    "pending_retirement": "retired_pages/pending_retirement",
    "pending_blacklist": "retired_pages/pending_blacklist",
    "sram_threshold_exceeded": "ecc_errors/aggregate/sram_threshold_exceeded",
    # Of drivers before gpu_recovery_action.
    "reset_required": "gpu_reset_status/reset_required",
    "drain_and_reset_recommended": "gpu_reset_status/drain_and_reset_recommended",
}


class Fabric(TypedDict):
    """How far the GPU has joined the NVLink fabric, in the driver's words."""

    state: str
    status: str | None


class NvidiaGpu(Gpu):
    """What nvidia-smi -q tells of a GPU; null where it does not.

    unreadable are the words that stand in place of values that the driver could not read, and
    conditions are the questions that a sound GPU answers with No, and it with Yes. mig_pending is
    the MIG mode that it has after its next reset.
    """

    minor_number: int | None
    lost: bool
    unreadable: list[str]
    recovery_action: str | None
    conditions: list[str]
    persistence_mode: str | None
    compute_mode: str | None
    mig_mode: str | None
    mig_pending: str | None
    ecc_mode: str | None
    aggregate_uncorrectable_errors: int | None
    fabric: Fabric | None


@dataclass
class NvidiaGpus(Observation[NvidiaGpu]):
    """A node's NVIDIA GPUs. cuda_version is the newest CUDA that the driver runs."""

    cuda_version: str | None = None


# --- nvidia-smi -q -x -------------------------------------------------------------------------


def parse_query(text: str) -> NvidiaGpus:
    """Parse the XML of nvidia-smi -q -x; what is not whole is a problem and no device."""
    query, problems = NvidiaGpus(), Problems()
    root = _document(text, problems)
    if root is not None:
        query.version = _told(root, "driver_version")
        query.cuda_version = _told(root, "cuda_version")
        elements = root.findall("gpu")
        numbers = _numbers([gpu.get("id", "") for gpu in elements], text)
        query.devices = [_device(*numbered, problems) for numbered in zip(numbers, elements)]
        attached = _told(root, "attached_gpus")
        if attached != str(len(elements)):
            problems.add(f"nvidia-smi counts {attached} GPUs and lists {len(elements)}")
        if not elements:
            problems.add("nvidia-smi lists no GPU")
        if query.version is None:
            problems.add("nvidia-smi tells no driver version")
    query.problems = problems.result()
    return query


def _document(text: str, problems: Problems) -> ET.Element | None:
    start = text.find("<?xml")
    end = text.rfind("</nvidia_smi_log>")
    if start < 0:
        problems.add(f"nvidia-smi says: {excerpt(text) or 'nothing'}")
        return None
    if end < 0:
        problems.add("nvidia-smi's answer is cut off")
        return None
    end += len("</nvidia_smi_log>")
    for around in (text[:start], text[end:]):
        if around.strip():
            # Errors of the driver stand before or after the document.
            problems.add(f"nvidia-smi says: {excerpt(around)}")
    document = text[start:end]
    if len(document) > MAX_XML:
        problems.add(f"nvidia-smi's answer has {len(document)} characters, which is not believed")
        return None
    if "<!ENTITY" in document:
        problems.add("nvidia-smi's answer defines entities, which the real one never does")
        return None
    try:
        root = _parsed(document)
    except (ET.ParseError, ValueError, RecursionError) as error:
        problems.add(f"nvidia-smi's answer is no XML: {excerpt(str(error))}")
        return None
    if root.tag != "nvidia_smi_log":
        problems.add(f"nvidia-smi's answer is of another kind: {excerpt(root.tag)}")
        return None
    return root


def _parsed(document: str) -> ET.Element:
    """Return the document's root.

    The driver escapes nothing in the name of a process, and may put bytes there that are no text.
    """
    try:
        return ET.fromstring(document)  # noqa: S314 - no entities, bounded size
    except ET.ParseError:
        return ET.fromstring(_PROCESS_NAME.sub(_as_xml, document))  # noqa: S314


def _as_xml(name: Match[str]) -> str:
    return name[1] + escape(_NO_XML.sub("?", name[2])) + name[3]


def _numbers(ids: Sequence[str], text: str) -> list[int]:
    """Return the number of each GPU that is listed.

    The driver counts along the bus, and counts a GPU for which it then has no handle: with that one
    left out of the list, the place in it is no number.

    Args:
        ids: The PCI addresses, in the order of the list.
        text: All that was said.
    """
    there = [_place(address) for address in ids]
    gone = {_place(found[1]) for found in _NO_HANDLE.finditer(text)} - set(there)
    along = sorted({*there, *gone})
    if () in along or there != [place for place in along if place not in gone]:
        return list(range(len(ids)))
    return [along.index(place) for place in there]


def _place(address: str) -> tuple[int, ...]:
    """Return a PCI address as numbers; none where it is no address."""
    found = _BUS_ID.fullmatch(address.strip())
    return tuple(int(part, 16) for part in found.groups()) if found else ()


def _text(parent: ET.Element, path: str) -> str | None:
    """Return the text of an element; null where there is no such element."""
    found = parent.find(path)
    return None if found is None else excerpt(found.text or "", 200)


def _told(parent: ET.Element, path: str) -> str | None:
    """Return the text of an element; null also where the tool says that it has none to tell."""
    text = _text(parent, path)
    if text is None or _UNTOLD.fullmatch(text) or _BROKEN.match(text) or _WITHHELD.match(text):
        return None
    return text


class _Reader:
    """Reads one GPU's element; a value that is there and not understood is a problem."""

    def __init__(self, label: str, gpu: ET.Element, problems: Problems) -> None:
        self.gpu = gpu
        self.broken: list[str] = []
        self._label = label
        self._problems = problems

    def problem(self, text: str) -> None:
        self._problems.add(f"{self._label}: {text}")

    def word(self, path: str) -> str | None:
        text = _text(self.gpu, path)
        if text is not None and _BROKEN.match(text):
            self.broken.append(text.strip("[]"))
        return _told(self.gpu, path)

    def quantity(self, what: str, unit: str, *paths: str, required: bool = True) -> float | None:
        """Return a number with its unit, from the first place that has one."""
        for path in paths:
            text = self.word(path)
            if text is None:
                continue
            found = _QUANTITY.fullmatch(text)
            if found and (found[2] or "") in unit.split("|"):
                return float(found[1])
            self.problem(f"{what} not understood: {text}")
            return None
        if required and not self.broken:
            self.problem(f"no {what} told")
        return None

    def count(self, what: str, unit: str, *paths: str, required: bool = True) -> int | None:
        number = self.quantity(what, unit, *paths, required=required)
        return None if number is None else int(number)


def _device(index: int, gpu: ET.Element, problems: Problems) -> NvidiaGpu:
    read = _Reader(f"GPU {index}", gpu, problems)
    mig = read.word("mig_mode/current_mig")
    action = read.word("gpu_recovery_action")
    if gpu.find("mig_mode/current_mig") is None:
        # A GPU that cannot be cut says N/A.
        read.problem("no MIG mode told")
    return {
        "device_id": index,
        "minor_number": read.count("minor number", "", "minor_number", required=False),
        "name": read.word("product_name"),
        "uuid": read.word("uuid"),
        "bus_id": _told(gpu, "pci/pci_bus_id") or excerpt(gpu.get("id", "")) or None,
        "power_w": read.quantity(
            "power draw",
            "W",
            "gpu_power_readings/instant_power_draw",
            "gpu_power_readings/power_draw",
            "gpu_power_readings/average_power_draw",
            "power_readings/power_draw",
        ),
        "temperature_c": read.count("temperature", "C", "temperature/gpu_temp"),
        "utilisation_percent": read.count(
            # A GPU that is cut tells it of no part.
            *("utilisation", "%", "utilization/gpu_util"),
            required=mig != "Enabled",
        ),
        "memory_used_mb": read.count("used memory", "MiB|MB", "fb_memory_usage/used"),
        "memory_total_mb": read.count("memory", "MiB|MB", "fb_memory_usage/total"),
        "processes": _processes(read),
        "persistence_mode": read.word("persistence_mode"),
        "compute_mode": read.word("compute_mode"),
        "mig_mode": mig,
        "mig_pending": read.word("mig_mode/pending_mig"),
        "ecc_mode": read.word("ecc_mode/current_ecc"),
        "uncorrectable_errors": _uncorrectable(read, "volatile"),
        "aggregate_uncorrectable_errors": _uncorrectable(read, "aggregate"),
        "fabric": _fabric(read),
        "lost": any("GPU is lost" in text for text in gpu.itertext()),
        "recovery_action": None if action == "None" else action,
        "conditions": [name for name, path in _CONDITIONS.items() if read.word(path) == "Yes"],
        # Last, when all has been read.
        "unreadable": list(dict.fromkeys(read.broken)),
    }


def _processes(read: _Reader) -> list[Process] | None:
    listed = read.gpu.find("processes")
    if listed is None or (len(listed) == 0 and (listed.text or "").strip() not in ("", "None")):
        read.problem("processes not told")
        return None
    processes: list[Process] = []
    for entry in listed.findall("process_info"):
        pid = _text(entry, "pid") or ""
        if not re.fullmatch(r"[0-9]{1,10}", pid):
            # Who this is stays open, and so does who uses the device.
            read.problem(f"process not understood: pid {pid or 'missing'}")
            return None
        memory = _QUANTITY.fullmatch(_text(entry, "used_memory") or "")
        processes.append(
            {
                "pid": int(pid),
                "name": _told(entry, "process_name") or "",
                "memory_mb": int(float(memory[1])) if memory else None,
            }
        )
    return processes


def _uncorrectable(read: _Reader, since: str) -> int | None:
    """Return the sum of all uncorrectable errors, in the tags of old and new drivers."""
    counters = read.gpu.find(f"ecc_errors/{since}")
    if counters is None:
        return None
    texts = [one.text or "" for one in counters if "uncorrectable" in one.tag]
    texts += [one.text or "" for one in counters.findall("double_bit/total")]
    numbers = [int(text) for text in map(str.strip, texts) if re.fullmatch(r"[0-9]{1,15}", text)]
    return sum(numbers) if numbers else None


def _fabric(read: _Reader) -> Fabric | None:
    state = read.word("fabric/state")
    return None if state is None else {"state": state, "status": read.word("fabric/status")}


# --- nvidia-smi topo -m -----------------------------------------------------------------------


def parse_topology(text: str) -> tuple[Topology | None, list[str]]:
    """Parse the matrix of nvidia-smi topo -m; null and a problem when it is not whole.

    The tool underlines the header even in a file. GPUs stand before NICs in rows and columns; what
    comes after the GPUs' columns is not read.
    """
    lines = [line.split() for line in plain(text).splitlines() if line.strip()]
    start = next((i for i, words in enumerate(lines) if _is_header(words)), None)
    if start is None:
        return None, [f"no topology: nvidia-smi says: {excerpt(text) or 'nothing'}"]
    labels = [word for word in lines[start] if _GPU_LABEL.fullmatch(word)]
    if len(set(labels)) != len(labels) or lines[start][: len(labels)] != labels:
        return None, ["no topology: the header lists a GPU twice or after others"]
    rows = {words[0]: words[1 : len(labels) + 1] for words in lines[start + 1 :]}
    for position, label in enumerate(labels):
        cells = rows.get(label, [])
        if len(cells) != len(labels):
            return None, [f"no topology: row {label} has {len(cells)} of {len(labels)} links"]
        strange = [cell for cell in cells if not _LINK.fullmatch(cell)]
        if strange:
            return None, [f"no topology: row {label} has an unknown link {excerpt(strange[0])}"]
        if [column for column, cell in enumerate(cells) if cell == "X"] != [position]:
            # Cells have moved: none of them can be believed.
            return None, [f"no topology: row {label} is not at X with itself alone"]
    ids = [int(label[len("GPU") :]) for label in labels]
    links = [rows[label] for label in labels]
    return {"devices": ids, "links": links, "cpu_affinity": None}, []


def _is_header(words: list[str]) -> bool:
    """Tell whether it is the header: a row of the matrix has its own label and then a link."""
    return bool(_GPU_LABEL.fullmatch(words[0])) and (
        len(words) == 1 or not _LINK.fullmatch(words[1])
    )
