# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu-smi prints, as data.

Every function takes text and returns what it understood together with a list of problems; none
raises, and none fills a gap with a guess. Columns move with the driver's version and with the width
of a value, so rows are split at their bars, never at an offset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import (
    Problems,
    excerpt,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Device,
    Observation,
    Process,
    Topology,
)

# The words of the driver's own source. Whatever is not OK is unfit to serve.
HEALTH_WORDS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")
# A line of its own at the end of any table, once the driver's installer has not come to its end.
INCOMPLETE_DRIVER = "The driver package may not be"
LINK_WORDS = ("X", "SYS", "PHB", "PXB", "PIX", "HCCS", "HCCS_SW", "SIO", "UB", "NA")

_PAIR = r"(\d{1,9})\s*/\s*(\d{1,9})"
# Of huge pages, and of memory beside HBM, a chip or a guest may have none.
_ANY_PAIR = r"(?:\d{1,9}|NA|-)\s*/\s*(?:\d{1,9}|NA|-)"
_POWER_ROW = re.compile(rf"(\S+)\s+(\S+)\s+{_ANY_PAIR}", re.ASCII)
_HBM_ROW = re.compile(rf"(\S+)\s+{_ANY_PAIR}\s+{_PAIR}", re.ASCII)
_MEMORY_ROW = re.compile(rf"(\S+)\s+{_PAIR}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_INTEGER = re.compile(r"\d{1,15}", re.ASCII)
_VERSIONS = re.compile(r"npu-smi\s+(\S+)\s+Version:\s*(\S+)")
_IDLE = re.compile(r"No running processes found in NPU (\d{1,9})", re.ASCII)
_LABEL = re.compile(r"(?:NPU|Phy-ID)(\d{1,9})", re.ASCII)
_NIC_LABEL = re.compile(r"NIC\d{1,9}", re.ASCII)


class Layout(NamedTuple):
    """How one generation's table names its devices."""

    name: str
    # Where the number behind /dev/davinciN stands: "npu", "second" (the chip row's second word), or
    # nowhere in the table.
    device_id: str
    hbm: bool


class Npu(Device):
    """What npu-smi tells of an NPU: one chip, which is a device of its own on every generation.

    npu_id is the card and chip_id the chip on it, as npu-smi counts; health is its word for it.
    device_id is null where the table does not tell it.
    """

    npu_id: int
    chip_id: int | None
    health: str


@dataclass
class Info(Observation[Npu]):
    """What npu-smi info said."""

    tool_version: str | None = None
    layout: str | None = None
    # The problems that no null or unknown word in a device shows.
    doubts: list[str] = field(default_factory=list)
    # Whether the table of devices came to its end and each row of it was understood. Only then is a
    # device that it does not list one that is not there.
    whole: bool = False


# --- npu-smi info -----------------------------------------------------------------------------


def parse_info(text: str) -> Info:
    """Parse the table of npu-smi info, of any generation that has been seen."""
    return _InfoParser().parse(text)


class _InfoParser:
    def __init__(self) -> None:
        self.info = Info()
        self.problems = Problems()
        self.doubts = Problems()
        self.gaps = False
        self.layout: Layout | None = None
        self.section = "head"
        self.pending: list[str] | None = None  # a chip's first row, waiting for its second
        self.chips: dict[tuple[int | None, int | None], Npu] = {}
        self.npus_told: set[int] = set()  # whose processes the second table tells
        self.process_unit = 1

    def parse(self, text: str) -> Info:
        for raw in text.splitlines():
            line = raw.strip()
            if not line:
                continue
            if line.startswith("+"):
                self.end_chip()
            elif line.startswith("|") and line.endswith("|") and len(line) > 1:
                self.row([cell.strip() for cell in line[1:-1].split("|")])
            elif line.startswith("|"):
                self.pending = None
                self.gap(f"row cut off: {excerpt(line)}")
            else:
                # Error texts of the driver, and lines that somebody left out of a copy.
                self.doubt(f"npu-smi says: {excerpt(line)}")
                # Among the devices it may be what is left of a row.
                self.gaps |= self.section == "chips" and INCOMPLETE_DRIVER not in line
        self.end_chip()
        self.finish()
        return self.info

    def doubt(self, text: str) -> None:
        self.problems.add(text)
        self.doubts.add(text)

    def gap(self, text: str) -> None:
        self.doubt(text)
        self.gaps = True

    def row(self, cells: list[str]) -> None:
        first = cells[0]
        versions = _VERSIONS.match(first)
        if versions:
            self.info.tool_version, self.info.version = versions.groups()
        elif "Process id" in cells:
            self.section = "processes"
            in_bytes = any(cell.startswith("Process memory(B)") for cell in cells)
            self.process_unit = 1024 * 1024 if in_bytes else 1
        elif first.split()[:2] == ["NPU", "Name"] or cells[:2] == ["NPU ID", "Name"]:
            self.section = "columns"
        elif self.section == "columns":
            self.columns(cells)
        elif self.section == "chips":
            self.chip_row(cells)
        elif self.section == "processes":
            self.process_row(cells)
        else:
            self.gap(f"row above any header: {excerpt(' | '.join(cells))}")

    def columns(self, cells: list[str]) -> None:
        words = tuple(cells[0].split())
        hbm = "HBM-Usage(MB)" in cells[-1]
        layouts = {
            ("Chip",): Layout("a2", "npu", hbm),
            ("Chip", "Phy-ID"): Layout("a3", "second", hbm),
            ("Chip", "Device"): Layout("310p", "second", hbm),
            (): Layout("950", "", hbm),
        }
        self.layout = layouts.get(words)
        self.section = "chips" if self.layout else "head"
        if self.layout:
            self.info.layout = self.layout.name
        else:
            self.gap(f"layout not known: {excerpt(' | '.join(cells))}")

    def chip_row(self, cells: list[str]) -> None:
        if self.pending is None:
            self.pending = cells
            return
        top, self.pending = self.pending, None
        if self.layout and self.layout.name == "950":
            # Here a bar stands between number and name.
            top, cells = [" ".join(top[:2]), *top[2:]], [" ".join(cells[:2]).strip(), *cells[2:]]
        if len(top) != 3 or len(cells) != 3:
            self.gap(f"a chip's rows have other columns: {excerpt(' | '.join(cells))}")
            return
        self.chip(top, cells)

    def end_chip(self) -> None:
        if self.pending is not None:
            self.gap(f"second row missing: {excerpt(' | '.join(self.pending))}")
            self.pending = None

    def chip(self, top: list[str], bottom: list[str]) -> None:
        layout = self.layout
        words = top[0].split(None, 1)
        ids = bottom[0].split()
        npu_id = _integer(words[0]) if words else None
        chip_id = _integer(ids[0]) if ids else None
        if layout is None or npu_id is None or (chip_id is None and layout.name != "950"):
            self.gap(f"no NPU and chip number in: {excerpt(' | '.join(top + bottom))}")
            return
        device_id = self.device_id(layout, npu_id, chip_id, ids)
        label = f"NPU {npu_id}" + (f" chip {chip_id}" if chip_id is not None else "")
        device: Npu = {
            "device_id": device_id,
            "npu_id": npu_id,
            "chip_id": chip_id,
            "name": words[1] if len(words) > 1 else "",
            "health": excerpt(top[1]),
            "bus_id": None if bottom[1] in ("", "NA") else bottom[1],
            "power_w": None,
            "temperature_c": None,
            "utilisation_percent": None,
            "memory_used_mb": None,
            "memory_total_mb": None,
            "processes": None,
        }
        if top[1] not in HEALTH_WORDS:
            self.problems.add(f"{label}: health not known: {excerpt(top[1])}")
        if device_id is None:
            self.gap(f"{label}: this table does not tell its /dev/davinci number")
        self.figures(device, label, top[2], bottom[2], hbm=layout.hbm)
        key = (npu_id, chip_id)
        twin = next(
            (d for d in self.info.devices if device_id is not None and d["device_id"] == device_id),
            self.chips.get(key),
        )
        if twin:
            # A chip cut in slices is listed once a slice.
            self.doubt(f"{label}: device {device_id} is listed twice; counted once")
            self.chips.setdefault(key, twin)
            return
        self.chips[key] = device
        self.info.devices.append(device)

    def device_id(
        self, layout: Layout, npu_id: int, chip_id: int | None, ids: list[str]
    ) -> int | None:
        if layout.device_id == "second":
            return _integer(ids[1]) if len(ids) > 1 else None
        # Where the table has no device column, an NPU is one chip.
        return npu_id if layout.device_id == "npu" and chip_id == 0 else None

    def figures(self, device: Npu, label: str, top: str, bottom: str, *, hbm: bool) -> None:
        power = _POWER_ROW.fullmatch(top)
        if power:
            device["power_w"] = _decimal(power[1])
            device["temperature_c"] = _integer(power[2])
        else:
            self.doubt(f"{label}: power and temperature not understood: {excerpt(top)}")
        usage = (_HBM_ROW if hbm else _MEMORY_ROW).fullmatch(bottom)
        if not usage:
            self.problems.add(f"{label}: use of cores and memory not understood: {excerpt(bottom)}")
            return
        device["utilisation_percent"] = _integer(usage[1])
        used, total = (int(number) for number in usage.groups()[-2:])
        if total > 0:
            device["memory_used_mb"], device["memory_total_mb"] = used, total
        else:
            self.problems.add(f"{label}: reports no memory")

    def process_row(self, cells: list[str]) -> None:
        idle = _IDLE.fullmatch(cells[0])
        if idle and len(cells) == 1:
            self.npus_told.add(int(idle[1]))
            return
        ids = [_integer(word) for word in cells[0].split()]
        pid, memory = (_integer(cells[1]), _integer(cells[3])) if len(cells) > 3 else (None, None)
        if pid is None or None in ids or len(ids) not in (1, 2):
            self.doubt(f"process row not understood: {excerpt(' | '.join(cells))}")
            return
        npu_id, chip_id = ids[0], ids[1] if len(ids) == 2 else None
        device = self.chips.get((npu_id, chip_id))
        if device is None or npu_id is None:
            self.doubt(f"process {pid} on a chip that is not listed: {excerpt(cells[0])}")
            return
        self.npus_told.add(npu_id)
        if memory is None:
            self.doubt(f"memory of process {pid} not understood: {excerpt(cells[3])}")
        memory_mb = None if memory is None else memory // self.process_unit
        # The name stays empty for processes of another user or another container.
        process: Process = {"pid": pid, "name": cells[2], "memory_mb": memory_mb}
        device["processes"] = [*(device["processes"] or []), process]

    def finish(self) -> None:
        info = self.info
        for device in info.devices:
            if device["processes"] is None and device["npu_id"] in self.npus_told:
                device["processes"] = []
        silent = sorted({d["npu_id"] for d in info.devices if d["processes"] is None})
        if silent:
            numbers = ", ".join(str(number) for number in silent)
            self.problems.add(f"processes not told for NPU {numbers}")
        if not info.devices:
            self.doubt("npu-smi lists no device")
        info.problems, info.doubts = self.problems.result(), self.doubts.result()
        # The devices end where the processes begin; without these, nothing tells a cut from an end.
        info.whole = bool(info.devices) and not self.gaps and self.section == "processes"


def _integer(word: str) -> int | None:
    return int(word) if _INTEGER.fullmatch(word) else None


def _decimal(word: str) -> float | None:
    """Return a number; null for NA, and for the - of a card's second chip."""
    return float(word) if _DECIMAL.fullmatch(word) else None


# --- npu-smi info -t health -------------------------------------------------------------------


def parse_error_codes(text: str) -> list[str]:
    """Return the error codes in the output of npu-smi info -t health -i N -c C."""
    found = re.search(r"^\s*Error Code\s*:[ \t]*(.*)$", text, re.MULTILINE)
    words = found[1].split() if found else []
    return [word for word in words if re.fullmatch(r"[0-9A-Fa-f]{4,16}", word)]


# --- npu-smi info -t ecc, board and spod-info -------------------------------------------------


class Ecc(NamedTuple):
    """What a chip's memory could not correct."""

    errors: int
    isolated_pages: int


class Board(NamedTuple):
    """What drives a card; null where it is not told."""

    software: str | None
    firmware: str | None
    compatibility: str | None


class SuperPod(NamedTuple):
    """Where a chip stands in its super pod."""

    sdid: int
    pod: int
    server: int


def parse_ecc(text: str) -> Ecc | None:
    """Return the counts of npu-smi info -t ecc -i N -c C, over all memory the chip tells of."""
    fields = _fields(text)
    kinds = [kind for kind in ("HBM", "DDR") if f"{kind} Double Bit Error Count" in fields]
    errors = [_integer(fields[f"{kind} Double Bit Error Count"]) for kind in kinds]
    pages = [_integer(fields.get(f"{kind} Double Bit Isolated Pages Count", "")) for kind in kinds]
    known = [count for count in errors + pages if count is not None]
    if not kinds or len(known) != 2 * len(kinds):
        return None
    return Ecc(sum(known[: len(kinds)]), sum(known[len(kinds) :]))


def parse_board(text: str) -> Board:
    """Return the versions in npu-smi info -t board -i N, and whether they fit each other."""
    fields = _fields(text)
    return Board(
        fields.get("Software Version"), fields.get("Firmware Version"), fields.get("Compatibility")
    )


def parse_super_pod(text: str) -> SuperPod | None:
    """Return the place that npu-smi info -t spod-info -i N -c C tells."""
    fields = _fields(text)
    sdid, pod, server = (
        _integer(fields.get(key, "")) for key in ("SDID", "Super Pod ID", "Server Index")
    )
    if sdid is None or pod is None or server is None:
        return None
    return SuperPod(sdid, pod, server)


def _fields(text: str) -> dict[str, str]:
    """Return the key : value lines of one chip or card. A key with two values is none."""
    fields: dict[str, str] = {}
    ambiguous = set()
    for line in text.splitlines():
        key, _colon, value = (part.strip() for part in line.partition(":"))
        if value and fields.setdefault(key, value) != value:
            ambiguous.add(key)
    return {key: value for key, value in fields.items() if key not in ambiguous}


# --- npu-smi info -t topo ---------------------------------------------------------------------


def parse_topology(text: str) -> tuple[Topology | None, list[str]]:
    """Parse the matrix of npu-smi info -t topo; null and a problem when it is not whole."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    start = next((i for i, words in enumerate(lines) if _is_header(words)), None)
    if start is None:
        said = excerpt(text) or "nothing"
        return None, [f"no topology: npu-smi says: {said}"]
    header = [word for word in lines[start] if _LABEL.fullmatch(word) or _NIC_LABEL.fullmatch(word)]
    affinity = lines[start][-2:] == ["CPU", "Affinity"]
    rows = {words[0]: words[1:] for words in lines[start + 1 :] if words[0] in header}
    labels = [word for word in header if _LABEL.fullmatch(word)]
    width = len(header)
    for label in labels:
        cells = rows.get(label, [])
        # A row without affinity is one cell shorter; nothing else may follow.
        if len(cells) not in (width, width + affinity):
            return None, [f"no topology: row {label} has {len(cells)} of {width} links"]
        strange = [cell for cell in cells[:width] if cell not in LINK_WORDS]
        if strange:
            return None, [f"no topology: row {label} has an unknown link {excerpt(strange[0])}"]
    numbers = [int(number) for number in _LABEL.findall(" ".join(labels))]
    if len(set(numbers)) != len(numbers):
        return None, ["no topology: a device is listed twice"]
    columns = [header.index(label) for label in labels]
    links = [[rows[label][column] for column in columns] for label in labels]
    cpus = [rows[label][width] for label in labels if len(rows[label]) > width]
    affinity_of = cpus if len(cpus) == len(labels) else None
    return {"devices": numbers, "links": links, "cpu_affinity": affinity_of}, []


def _is_header(words: list[str]) -> bool:
    if words[-2:] == ["CPU", "Affinity"]:
        words = words[:-2]
    known = [word for word in words if _LABEL.fullmatch(word) or _NIC_LABEL.fullmatch(word)]
    return len(known) == len(words) and any(_LABEL.fullmatch(word) for word in words)
