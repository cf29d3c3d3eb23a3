# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control path against its best peer and its own goals, in one run on one machine.

- site.yml where nothing changes, with and without verify, on real lab nodes; beside it a pyinfra
  deploy that brings the same states and asks the same device tools once a node (peer/).
- The same on light nodes: the controller is real, and so is its inventory. What modules and
  pyinfra's commands ask is answered with what the real nodes answered at the beginning of the run,
  in other names and after the same time. No SSH runs, and no node waits for this machine's cores.
  Light nodes that answer at once show what the controller alone costs.
- The plan of many hosts.
- With --start: a stopped pair's way to its first token, by site.yml and by start.yml, over that of
  the same units started by hand.

Commands alternate within rounds, and ratios are taken within a round. `make bench-control` makes
the environment of pyinfra and matplotlib and runs this; the lab is up and its pair serves:

    make bench-control BENCH="--nodes 2 8 --light 8 32 100 --start"

Eight nodes are made for the run, brought into service and removed after it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.scale import figures, peer_data  # noqa: E402
from tests.scale.clusters import (  # noqa: E402
    LAB_INVENTORY,
    Bench,
    Cluster,
    inventory_of,
    lab_cluster,
    lab_nodes,
    light_cluster,
    on_node,
    record,
    run,
    say,
)
from tests.scale.raw_engine import first_answer  # noqa: E402

SITE_COMMANDS = {
    figures.WITHOUT_VERIFY: ("site.yml", "--skip-tags", "verify"),
    figures.SITE: ("site.yml",),
    figures.INSTANT: ("site.yml", "--skip-tags", "verify"),
}


# --- what is measured ---------------------------------------------------------------------------


def no_change(bench: Bench, cluster: Cluster, rounds: int) -> dict[str, Any]:
    """Rounds of all commands on a cluster on which nothing changes."""

    def measure(command: str, **more: Any) -> dict[str, Any]:
        if command == figures.PEER:
            found = bench.pyinfra(cluster.peer)
            changed = peer_data.changed(found["said"])
        else:
            instant = command == figures.INSTANT
            arguments = SITE_COMMANDS[command]
            found = bench.playbook(cluster.inventory, *arguments, instant=instant, **more)
            changed = found["tasks"]["changed"]
        if changed:
            raise SystemExit(f"{command} changed something:\n{found['said'][-3000:]}")
        del found["said"]
        return found

    names = []
    if not cluster.light or cluster.nodes in figures.PEER_GOALS:
        names += [figures.WITHOUT_VERIFY, figures.SITE, figures.PEER]
    if cluster.light:
        names.append(figures.INSTANT)
    # What a second run on a cluster finds: open connections, and files that are in memory.
    for name in names:
        measure(name)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in figures.order(names, turn):
            runs[name].append(measure(name))
    if cluster.light:
        # In a run of its own, whose time nobody asks for.
        seen = measure(figures.INSTANT, memory=True)
        for one in runs[figures.INSTANT]:
            one.update({key: seen[key] for key in ("memory_mb", "resident_mb")})
    how = "light nodes: recorded answers, no SSH" if cluster.light else "real lab nodes over SSH"
    return {"nodes": cluster.nodes, "light": cluster.light, "how": how, "runs": runs}


def plans(bench: Bench, counts: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """How long plans of many hosts take: the action alone, and all of plan.yml."""
    found = {}
    for count in counts:
        hosts = {
            f"node{number:04}": {"ansible_host": f"198.18.{number // 200}.{number % 200 + 10}"}
            for number in range(count)
        }
        inventory = inventory_of(bench.folder / f"plan-{count}", hosts)
        runs = [
            bench.playbook(
                inventory, "playbooks/plan.yml", plan_file=str(bench.folder / f"{count}-{turn}")
            )
            for turn in range(rounds)
        ]
        found[str(count)] = {
            "plan_s": figures.spread(
                one["tasks"]["seconds"]["muster.serving.cluster_plan"] for one in runs
            ).median,
            **{key: figures.spread(one[key] for one in runs).median for key in ("wall_s", "cpu_s")},
        }
    return found


def starts(bench: Bench, pair: Cluster, rounds: int) -> dict[str, list[float]]:
    """Seconds from a command's first moment to the first token of the pair, stopped before."""
    commands = (figures.SITE, "start.yml", "raw")
    found: dict[str, list[float]] = {name: [] for name in commands}
    try:
        for turn in range(rounds):
            for name in figures.order(commands, turn):
                bench.playbook(pair.inventory, "playbooks/stop.yml")
                found[name].append(first_token(bench, pair, name))
                say(f"{name}: first token after {found[name][-1]:.1f} s")
    finally:
        bench.playbook(pair.inventory, "site.yml")
    return found


def first_token(bench: Bench, pair: Cluster, name: str) -> float:
    """Seconds to the first token when the stopped pair is started by a playbook, or `raw`."""
    begun = time.monotonic()
    answered: list[float] = []

    def ask() -> None:
        endpoint = pair.plan["endpoint"]
        first_answer(endpoint["url"], endpoint["model"], begun + 900)
        answered.append(time.monotonic() - begun)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    if name == "raw":
        start_by_hand(pair.plan)
    else:
        path = "site.yml" if name == figures.SITE else f"playbooks/{name}"
        bench.playbook(pair.inventory, path)
    asking.join()
    if not answered:
        raise SystemExit(f"{name}: no answer from {pair.plan['endpoint']['url']}")
    return round(answered[0], 2)


def start_by_hand(plan: Mapping[str, Any]) -> None:
    """systemctl start of the plan's units, on all nodes at once."""

    def start(unit: Mapping[str, Any]) -> None:
        on_node(unit["address"], "systemctl", "start", unit["systemd_unit"])

    with concurrent.futures.ThreadPoolExecutor(len(plan["units"])) as pool:
        list(pool.map(start, plan["units"]))


# --- the run ------------------------------------------------------------------------------------


def machine(tools: Path) -> dict[str, Any]:
    def version(program: Path) -> str:
        return run([str(program), "--version"]).splitlines()[0]

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(memory / 10**9),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ansible": version(Path(sys.executable).with_name("ansible-playbook")),
        "pyinfra": version(tools / "pyinfra"),
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tools", type=Path, required=True, help="where pyinfra and a Python are")
    parser.add_argument("--nodes", type=int, nargs="*", default=[2], help="real lab nodes")
    parser.add_argument("--light", type=int, nargs="*", default=[8, 32, 100], help="light nodes")
    parser.add_argument("--plans", type=int, nargs="*", default=[100, 1000], help="hosts to plan")
    parser.add_argument("--start", action="store_true", help="also stop and start the pair")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--light-rounds", type=int, default=3)
    parser.add_argument("--gate", action="store_true", help="end with 1 where a goal is missed")
    parser.add_argument("--out", type=Path, default=ROOT / "muster-output" / "bench-control")
    return parser.parse_args()


def main() -> None:
    args = options()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "control.json"
    result: dict[str, Any] = {"machine": machine(args.tools), "clusters": []}
    if result["machine"]["load"] > 1:
        say(f"other work has this machine (load {result['machine']['load']}): walls will not hold")
    with tempfile.TemporaryDirectory(prefix="bench-control-") as name:
        bench = Bench(Path(name), args.tools)

        def keep() -> None:
            text = json.dumps(figures.with_goals(result), indent=1)
            file.write_text(text + "\n")

        if args.plans:
            say(f"plans of {', '.join(map(str, args.plans))} hosts")
            result["plan"] = plans(bench, args.plans, args.rounds)
            keep()
        for count in args.nodes:
            with lab_nodes(bench, count) as cluster:
                say(f"{count} lab nodes")
                result["clusters"].append(no_change(bench, cluster, args.rounds))
                keep()
        if args.light or args.start:
            pair = lab_cluster(bench, LAB_INVENTORY)
        if args.light:
            say("what the pair answers is recorded")
            recorded = record(bench, pair)
        for count in args.light:
            say(f"{count} light nodes")
            cluster = light_cluster(bench, recorded, count)
            result["clusters"].append(no_change(bench, cluster, args.light_rounds))
            keep()
        if args.start:
            say("the pair is stopped and started")
            result["start"] = starts(bench, pair, args.rounds)
            keep()
    run([str(args.tools / "python"), str(Path(__file__).with_name("plot.py")), str(file)])
    print(figures.table(result))
    print(f"\n{file}, {file.with_suffix('.svg').name}, {file.with_suffix('.png').name}")
    if args.gate and any(goal.met is False for goal in figures.goals(result)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
