# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and changes the state file that the emulated tools of a node read.

A test so decides what a node's devices look like:

    device_tools.py make --family a2 --node 0       write the state of a healthy node
    device_tools.py set devices.3.health Alarm      change one value (JSON, or else a string)
    device_tools.py hccn-conf                       print the /etc/hccn.conf that fits the state
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

try:
    from lab.emulators import amd_tools, ascend_tools, nvidia_tools
    from lab.emulators.state import State, load_state, save_state, set_value
except ImportError:  # on a node the files stand side by side, without the package
    import amd_tools  # type: ignore[import-not-found, no-redef]
    import ascend_tools  # type: ignore[import-not-found, no-redef]
    import nvidia_tools  # type: ignore[import-not-found, no-redef]
    from state import (  # type: ignore[import-not-found, no-redef]
        State,
        load_state,
        save_state,
        set_value,
    )


class Server(Protocol):
    """A family's row, of which the rest is the vendor's own affair."""

    @property
    def devices(self) -> int: ...


class Vendor(Protocol):
    """What a vendor's module has: families by name, tools by name, and a state for a family."""

    @property
    def FAMILIES(self) -> Mapping[str, Server]: ...

    @property
    def TOOLS(self) -> Mapping[str, Callable[[list[str]], int]]: ...

    def make_state(self, family: str, devices: int | None = None, node: int = 0) -> State: ...


MODULES: tuple[Vendor, ...] = (ascend_tools, nvidia_tools, amd_tools)
VENDORS = {family: module for module in MODULES for family in module.FAMILIES}


def device_count(family: str) -> int:
    """Return how many devices a server of the family has."""
    return VENDORS[family].FAMILIES[family].devices


def make_state(family: str, devices: int | None = None, node: int = 0) -> State:
    """Return the state of a healthy, idle node of any vendor's family."""
    return VENDORS[family].make_state(family, devices, node)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Make or change the state of the emulated devices."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("make", help="write the state of a healthy node")
    make.add_argument("--family", choices=tuple(VENDORS), default="a2")
    make.add_argument("--node", type=int, default=0, help="keeps NPU addresses apart")
    make.add_argument("--devices", type=int)
    change = verbs.add_parser("set", help="change one value")
    change.add_argument("path", help="for instance devices.3.health, or devices.*.tls")
    change.add_argument("value", help="JSON, or else a plain string")
    verbs.add_parser("hccn-conf", help="print the matching /etc/hccn.conf")
    args = parser.parse_args(argv)
    if args.verb == "make":
        save_state(make_state(args.family, args.devices, args.node))
        return 0
    state = load_state()
    if args.verb == "hccn-conf":
        if state["family"] not in ascend_tools.FAMILIES:
            parser.error(
                f"a node of the family {state['family']} has no hccn.conf; expected one of "
                f"{', '.join(ascend_tools.FAMILIES)}"
            )
        sys.stdout.write(ascend_tools.hccn_conf(state))
        return 0
    try:
        set_value(state, args.path, args.value)
    except (KeyError, TypeError):
        parser.error(f"the state has no {args.path}")
    save_state(state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
