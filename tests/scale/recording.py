# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes answered to Ansible, kept in files and told again in the names of other nodes.

A recording is a folder: NODE/KIND/NNN.json, the answers of a node to one kind of call in the order
of the run, each {rc, stdout, stderr, seconds}. KIND is the full name of a module, or `shell` for
what Ansible runs beside modules. Nothing in it depends on which modules a playbook calls, or on
their options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# How Ansible's payload names the module that it carries.
MODULE = re.compile(rb"^module_fqn=['\"]([\w.]+)['\"],$", re.MULTILINE)
COLLECTION = "ansible_collections."
# Where a plan has names that its nodes' answers hold, too.
NAMES = {
    "units": ("host", "node", "address", "name", "group"),
    "links": ("name", "group"),
}


def kind_of(stdin: bytes | None) -> str:
    """Return what kind of call it is, by what a node's interpreter would read."""
    found = MODULE.search(stdin or b"")
    if not found:
        return "shell"
    name = found[1].decode()
    # ansible_collections.muster.serving.plugins.modules.unit_info is muster.serving.unit_info.
    return name.removeprefix(COLLECTION).replace(".plugins.modules.", ".")


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text with each name in place of another, longer ones first.

    A name stands for itself alone: 10.0.0.1 is no part of 10.0.0.10, though `r0` is one of
    `cluster-r0-rank1`.
    """
    if not names:
        return text
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])"
    return re.sub(pattern, lambda match: names[match[0]], text)


def names_between(recorded: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """Return what a recorded replica is called by plans, and what another of its shape is called.

    Args:
        recorded: {units, links}, the parts of a plan that belong to the recorded replica.
        other: The same of the other one.

    Raises:
        ValueError: The replicas are not of one shape.
    """
    names: dict[str, str] = {}
    for part, keys in NAMES.items():
        if len(recorded[part]) != len(other[part]):
            raise ValueError(f"{len(recorded[part])} {part} were recorded, not {len(other[part])}")
        for here, there in zip(recorded[part], other[part], strict=True):
            names.update((here[key], there[key]) for key in keys if here.get(key))
    return names


def moved(addresses: Iterable[str], host: int) -> dict[str, str]:
    """Return by address of a node's device that of a host of this number.

    Two numbers below 256 have addresses in one network of 16 bits, which nodes of one replica want.
    """
    found = {}
    for address in addresses:
        first, second, _third, last = address.split(".")
        found[address] = f"{first}.{int(second) + host // 256}.{host % 256}.{last}"
    return found


def replica_of(plan: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the units and links of one of a plan's replicas, for `names_between`."""
    return {
        part: [one for one in plan.get(part) or [] if one.get("replica") == index]
        for part in ("units", "links")
    }


class Recording:
    """The folder of a recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, node: str, kind: str, answer: Mapping[str, Any]) -> None:
        """Keep the next answer of a node."""
        folder = self.folder / node / kind
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number:03}.json").write_text(json.dumps(answer), encoding="utf-8")

    def answer(self, node: str, kind: str, number: int, names: Mapping[str, str]) -> dict[str, Any]:
        """Return a node's answer to a call of a kind, in other names.

        Args:
            node: The recorded node.
            kind: What was called.
            number: How many calls of the kind came before it. Past the last answer that is kept,
                the last one is given.
            names: By recorded name, that which takes its place.
        """
        kept = sorted((self.folder / node / kind).glob("*.json"))
        if not kept:
            said = f"{node} was not asked for {kind} when its answers were recorded"
            return {"rc": 1, "stdout": "", "stderr": said, "seconds": 0}
        text = kept[min(number, len(kept) - 1)].read_text(encoding="utf-8")
        answer: dict[str, Any] = json.loads(renamed(text, names))
        return answer

    def seconds(self) -> float:
        """Return how long all answers took together."""
        kept = (json.loads(one.read_text("utf-8")) for one in self.folder.rglob("*.json"))
        return sum(answer["seconds"] for answer in kept)
