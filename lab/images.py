# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images in the lab's registry a node needs, and how long the missing ones take.

The demo and most tests need the engine's image alone. Others are built for the nodes of clusters
that name them in inventories/lab, or on request.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from lab import registry, userland
from lab.engine import build as engine
from lab.gateway import build as gateway
from lab.machine import AptSources
from lab.paths import ROOT
from lab.sglang import build as sglang

INVENTORY = ROOT / "inventories" / "lab"

BUILDERS: dict[str, Callable[[AptSources], list[str]]] = {
    engine.REPOSITORY: lambda sources: [engine.ensure_image(sources)],
    gateway.REPOSITORY: lambda sources: [gateway.ensure_image(sources)],
    sglang.REPOSITORY: sglang.ensure_images,
}


class Piece(NamedTuple):
    """Something that the first `up` makes: what two cores and a near mirror take for it."""

    name: str
    seconds: int
    megabytes: int


NODE_IMAGE = Piece("the nodes' image", 45, 450)
ENGINE_IMAGE = Piece("the engine's image", 170, 850)
OTHER_IMAGES = Piece("the images of the gateway and of SGLang's emulator", 35, 150)
START_S = 20


def ensure(sources: AptSources, repositories: Iterable[str]) -> list[str]:
    """Have these images in the registry, and return their references."""
    return [image for name in repositories for image in BUILDERS[name](sources)]


def named_for(node: str, folder: Path = INVENTORY) -> set[str]:
    """Return the repositories of the lab that the clusters of one of the lab's hosts name."""
    groups = yaml.safe_load((folder / "hosts.yml").read_text())["all"]["children"]
    found = set()
    for group, about in groups.items():
        hosts = {name: variables or {} for name, variables in about["hosts"].items()}
        if node in hosts or any(host.get("muster_node") == node for host in hosts.values()):
            own = folder / "group_vars" / f"{group}.yml"
            values = [*(about.get("vars") or {}).values()]
            values += (yaml.safe_load(own.read_text()) or {}).values() if own.exists() else ()
            found |= {name for value in values for name in _repository(value)}
    return found


def _repository(value: object) -> Iterator[str]:
    """Give the repository of a reference to an image that the lab builds."""
    prefix = f"{registry.NAME}:{registry.PORT}/"
    if isinstance(value, str) and value.startswith(prefix):
        name = value[len(prefix) :].partition("@")[0].rpartition(":")[0]
        if name in BUILDERS:
            yield name


def missing(sources: AptSources, *, with_engine: bool, with_others: bool) -> list[Piece]:
    """Return what `up` would have to make."""
    built = shutil.which("podman") is not None and userland.has_node_image(sources)
    pieces = [] if built else [NODE_IMAGE]
    if with_engine and not registry.stores(engine.REPOSITORY, engine.build_tag(sources)):
        pieces.append(ENGINE_IMAGE)
    others = [(gateway.REPOSITORY, gateway.build_tag(sources))]
    others += [(sglang.REPOSITORY, tag) for tag in sglang.build_tags(sources).values()]
    if with_others and not all(registry.stores(*other) for other in others):
        pieces.append(OTHER_IMAGES)
    return pieces


def forecast(pieces: Iterable[Piece], cache: str) -> str:
    """Say how long making these takes and what they fill, as a line for the operator."""
    pieces = list(pieces)
    if not pieces:
        return f"all images are built: about {START_S} seconds for nodes that have to start"
    minutes = max(1, round((START_S + sum(piece.seconds for piece in pieces)) / 60))
    gigabytes = sum(piece.megabytes for piece in pieces) / 1000
    return (
        f"to make once: {', '.join(piece.name for piece in pieces)}: about {minutes} "
        f"minute{'' if minutes == 1 else 's'} with two cores and a near mirror, "
        f"{gigabytes:.1f} GB in {cache} and podman's storage; later runs: about {START_S} seconds"
    )
