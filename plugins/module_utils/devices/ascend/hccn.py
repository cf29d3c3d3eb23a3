# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hccn_tool prints and what /etc/hccn.conf holds, as data.

hccn_tool is asked for one device at a time, so a text belongs to one device; most of its answers do
not name it. A function that does not find what it looks for returns nothing, never a default.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Dict, NamedTuple

# Per device: the keys of hccn.conf without their _N.
Configuration = Dict[int, Dict[str, str]]

BUSY = "hccn_tool is busy"
HEALTHY = "Success"
# What -hccs_ping says in place of its summary.
HCCS_FAILURES = ("not start to send!", "send fail!", "check recv msg fail!")

_SETTING = re.compile(r"([A-Za-z]\w*?)_(\d{1,4})\s*=\s*(.*)", re.ASCII)
_PING = re.compile(r"^[ \t]*(\d{1,9}) packets transmitted,\s*(\d{1,9}) received", re.A | re.M)
_TLS = re.compile(r"dev_id:\s*(\d{1,4}),\s*tls switch\[([01])\]", re.ASCII)


class Vnic(NamedTuple):
    """A device's end of HCCS, by which it reaches the other devices of its super pod."""

    link: str
    address: str


class Ping(NamedTuple):
    """How many packets went out, and how many answers came back."""

    sent: int
    received: int


def parse_link(text: str) -> str | None:
    """Return UP or DOWN from -link -g."""
    found = re.search(r"^\s*link status:\s*(UP|DOWN)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def parse_net_health(text: str) -> str | None:
    """Return the word behind -net_health -g, for instance Success or Socket fail."""
    found = re.search(r"^\s*net health status:[ \t]*(\S[^\r\n]*?)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def parse_tls(text: str, device: int) -> str | None:
    """Return the TLS switch from -tls -g: 0 or 1. Certificates and other devices may follow."""
    return next((switch for number, switch in _TLS.findall(text) if int(number) == device), None)


def parse_vnic(text: str) -> Vnic | None:
    """Return the link and the address from -vnic -g."""
    link = re.search(r"^\s*vnic link status:\s*(UP|DOWN)\s*$", text, re.MULTILINE)
    address = re.search(r"^\s*vnic ipaddr:\s*(\S+)\s*$", text, re.MULTILINE)
    return Vnic(link[1], address[1]) if link and address and is_address(address[1]) else None


def parse_address(text: str) -> str | None:
    """Return the NPU's address from -ip -g."""
    found = re.search(r"^\s*ipaddr:\s*(\S+)\s*$", text, re.MULTILINE)
    return found[1] if found and is_address(found[1]) else None


def parse_gateway(text: str) -> str | None:
    """Return the NPU's gateway from -gateway -g."""
    found = re.search(r"^\s*default gateway:\s*([^\s,]+)", text, re.MULTILINE)
    return found[1] if found and is_address(found[1]) else None


def parse_detect_address(text: str) -> str | None:
    """Return the address that the net health is measured against, from -netdetect -g."""
    found = re.search(r"^\s*netdetect addr(?:ess)?:\s*(\S+)\s*$", text, re.MULTILINE)
    return found[1] if found and is_address(found[1]) else None


def parse_ping(text: str) -> Ping | None:
    """Return the summary of -ping -g address X, or of -hccs_ping."""
    found = _PING.findall(text)
    return Ping(*map(int, found[-1])) if found else None


def is_unset(text: str) -> bool:
    """Tell whether the tool says a setting was never made; for an address it may say nothing."""
    return not text.strip() or re.search(r"because no \S+ was preset", text) is not None


def parse_neighbour(text: str) -> str | None:
    """Return what the NPU's cable ends at, from -lldp -g: switch, npu, or nothing known."""
    description = []
    inside = False
    for line in text.splitlines():
        if line.rstrip().endswith(" TLV"):
            inside = line.startswith("System Description")
        elif inside:
            description.append(line.strip())
    if any("AscendNPU" in line for line in description):
        return "npu"
    return "switch" if any(description) else None


def parse_configuration(text: str) -> tuple[Configuration, list[str]]:
    """Return the settings of /etc/hccn.conf by device, and the lines that are none."""
    settings: Configuration = {}
    problems = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _SETTING.fullmatch(line)
        if found:
            settings.setdefault(int(found[2]), {})[found[1]] = found[3]
        else:
            problems.append(f"/etc/hccn.conf line {number} is not KEY_DEVICE=VALUE")
    return settings, problems


def is_value(key: str, text: str) -> bool:
    """Tell whether a setting of /etc/hccn.conf has such a value: a TLS switch, or an address."""
    return text in ("0", "1") if key == "tls_enable" else is_address(text)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
