# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's commands: `python -m lab --help`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time

from lab import images, machine, network, nodes, podman, registry, tour, userland
from lab.engine import build as engine
from lab.paths import ROOT, cache_dir, key_file, lab_lock, state_dir, sweep_scratch
from lab.shell import LabError, say

# What sudo has to let through: places, mirrors and their certificates.
FORWARDED = re.compile(
    r"HOME|PATH|XDG_(CACHE|STATE)_HOME|(PIP|SSL|TORCH)_\w+|REQUESTS_CA_BUNDLE|(https?|no)_proxy",
    re.IGNORECASE,
)


def prepare(*, with_engine: bool = False, other_release: bool = False) -> str:
    """Everything a node needs; the node image's reference is returned."""
    machine.install_missing_packages()
    podman.forget_the_dead()
    sweep_scratch()
    sources = machine.apt_sources()
    if with_engine:
        engine.prepare(sources)
    nodes.ensure_key()
    machine.save_settings()
    machine.raise_limits()
    image = userland.make_node_image(sources, other_release=other_release)
    network.ensure()
    return image


def up(args: argparse.Namespace) -> int:
    start = time.monotonic()
    with lab_lock():
        if shutil.which("podman"):
            podman.forget_the_dead()
        found = images.missing(
            machine.apt_sources(), with_engine=not args.bare, with_others=args.all
        )
        say(f"  {images.forecast(found, str(cache_dir()))}")
        image = prepare(with_engine=not args.bare)
        wanted = nodes.cluster_nodes(args.nodes)
        if args.fresh:
            for node in wanted:
                nodes.remove_node(node.name)
        nodes.ensure_nodes(wanted, image)
        registry.ensure(image)
        if not args.bare:
            wanted_images = images.BUILDERS if args.all else (engine.REPOSITORY,)
            for name in images.ensure(machine.apt_sources(), wanted_images):
                say(f"  image: {name}")
    say(f"the lab is up ({time.monotonic() - start:.1f} s)")
    return 0


def down(_args: argparse.Namespace) -> int:
    with lab_lock():
        if shutil.which("podman"):
            podman.forget_the_dead()
            nodes.remove_everything()
        machine.restore_settings()
    shutil.rmtree(state_dir())
    say("the lab is gone; caches stay in " + str(cache_dir()))
    return 0


def status(args: argparse.Namespace) -> int:
    found = [
        {
            "name": node.name,
            "address": node.address,
            "family": node.family,
            "devices": node.devices,
            "container": node.container,
            "state": "up" if podman.is_alive(info) and nodes.ssh_answers(node.address) else "dead",
        }
        for node, info in (nodes.known_nodes() if shutil.which("podman") else [])
    ]
    if args.json:
        print(json.dumps({"key": str(key_file()), "nodes": found}, indent=2))
    else:
        for entry in found:
            print(
                f"{entry['name']:<20} {entry['address']:<15} {entry['family']:<16}{entry['state']}"
            )
        if not found:
            print("no lab here; `make demo` or `python -m lab up` makes one")
    return 0 if found and all(entry["state"] == "up" for entry in found) else 1


def node_create(args: argparse.Namespace) -> int:
    with lab_lock():
        image = prepare(other_release=args.other_release)
        node = nodes.new_node(args.name, args.family, args.devices)
        needed = images.named_for(args.name)
        if needed:
            sources = machine.apt_sources()
            registry.ensure(userland.make_node_image(sources))
            images.ensure(sources, sorted(needed))
        nodes.create_node(node, image)
    nodes.wait_for_ssh([node])
    print(json.dumps({"name": node.name, "address": node.address, "key": str(key_file())}))
    return 0


def node_remove(args: argparse.Namespace) -> int:
    with lab_lock():
        nodes.remove_node(args.name)
    return 0


def node_restart(args: argparse.Namespace) -> int:
    nodes.restart_node(nodes.node_named(args.name))
    return 0


def execute(args: argparse.Namespace) -> int:
    return podman.run_attached("exec", "-i", nodes.node_named(args.name).container, *args.argv)


def show_tour(_args: argparse.Namespace) -> int:
    tour.show()
    return 0


def clean_cache(_args: argparse.Namespace) -> int:
    for image in podman.podman(
        "images", "-q", "--filter", "reference=localhost/muster-lab/*"
    ).split():
        podman.podman("rmi", "--force", image, check=False)
    shutil.rmtree(cache_dir(), ignore_errors=True)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lab", description="The bench without hardware.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="make the nodes, or reuse what is healthy")
    command.add_argument("--nodes", type=int, default=2, help="how many a2-nodeN (default 2)")
    command.add_argument("--fresh", action="store_true", help="make the nodes anew")
    extent = command.add_mutually_exclusive_group()
    extent.add_argument("--bare", action="store_true", help="without the engine's image")
    extent.add_argument("--all", action="store_true", help="with all images that tests use")
    command.set_defaults(run=up)

    command = commands.add_parser("down", help="remove all of it and restore the machine")
    command.set_defaults(run=down)

    command = commands.add_parser("status", help="nodes, their addresses and whether they answer")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=status)

    command = commands.add_parser("tour", help="an answer, who computed it, what to try next")
    command.set_defaults(run=show_tour)

    command = commands.add_parser("exec", help="run a command on a node, beside SSH")
    command.add_argument("name")
    command.add_argument("argv", nargs=argparse.REMAINDER)
    command.set_defaults(run=execute)

    node = commands.add_parser("node", help="extra bare nodes").add_subparsers(
        required=True, metavar="ACTION"
    )
    command = node.add_parser("create", help="a fresh node; prints name, address and key as JSON")
    command.add_argument("name")
    command.add_argument(
        "--family",
        choices=tuple(nodes.FAMILIES),
        help="default: as inventories/lab has it, else a2",
    )
    command.add_argument("--devices", type=int, help="default: as many as such a server has")
    command.add_argument(
        "--other-release",
        action="store_true",
        help="of the distribution's release before or after this machine's",
    )
    command.set_defaults(run=node_create)
    command = node.add_parser("remove", help="remove a node and its volume")
    command.add_argument("name")
    command.set_defaults(run=node_remove)
    command = node.add_parser("restart", help="what a reboot is to a host")
    command.add_argument("name")
    command.set_defaults(run=node_restart)

    command = commands.add_parser("clean-cache", help="remove images and caches")
    command.set_defaults(run=clean_cache)
    return top


def become_root() -> None:
    """podman, mknod and mmdebstrap need root; the caller's own paths are kept."""
    if os.geteuid() == 0:
        return
    keep = [f"{name}={value}" for name, value in os.environ.items() if FORWARDED.fullmatch(name)]
    os.chdir(ROOT)
    command = ["sudo", "env", *keep, sys.executable, "-m", "lab", *sys.argv[1:]]
    os.execvp("sudo", command)  # noqa: S606


def main() -> int:
    args = parser().parse_args()
    become_root()
    try:
        code: int = args.run(args)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted; run the same command again to go on")
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
