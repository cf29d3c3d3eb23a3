# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network that nodes and registry share."""

from __future__ import annotations

from lab import podman
from lab.podman import LABEL
from lab.shell import LabError, run

NETWORK = "muster-lab"
PREFIX = "198.19.67"  # from RFC 2544's range for test benches, which no site routes
INTERFACE = "enp67s0f0np0"


def ensure() -> None:
    found = podman.inspect("network", NETWORK)
    subnet = f"{PREFIX}.0/24"
    if found is not None:
        if any(entry["subnet"] == subnet for entry in found.get("subnets", [])):
            return
        remove()
    in_use = run(["ip", "-4", "-o", "addr", "show", "to", subnet], check=False).stdout.strip()
    if in_use:
        raise LabError(
            f"the lab's network {subnet} is taken on this machine: {in_use.splitlines()[0]}\n"
            "    remove that address, or whatever container network holds it, and run again"
        )
    podman.podman(
        "network", "create", f"--label={LABEL}=network",
        "--subnet", subnet, "--gateway", f"{PREFIX}.1", NETWORK,
    )  # fmt: skip


def remove() -> None:
    found = podman.inspect("network", NETWORK)
    if found is not None:
        podman.podman("network", "rm", "--force", NETWORK)
        # Its bridge outlives containers that died without being stopped.
        run(["ip", "link", "delete", found["network_interface"]], check=False)
