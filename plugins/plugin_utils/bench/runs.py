# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All runs that a bench makes, decided before the first."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench import guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import (
    WARM_UP_SEED,
    Client,
    Target,
    client_of,
    command,
    target_of,
    warm_up,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import duration
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import (
    ENGINE,
    GUIDELLM,
    TRACE,
    Plan,
    Scenario,
    cautions,
    chosen,
    expected_s,
    refusals,
    scenarios_of,
    without_load,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

# What writes the command of a client for a load, with the seed of its prompts.
Command = Callable[[Plan, Client, Target, Scenario, int], list[str]]


class Wish(NamedTuple):
    """What an operator asks of bench; the options of muster.serving.bench_plan have the words."""

    hosts: Sequence[str]
    scenarios: Sequence[str] = ()
    custom: Sequence[Mapping[str, Any]] = ()
    repetitions: int = 1
    warm_up: bool = True
    through: str = "replica"
    replica: int | None = None
    client: str | None = None
    image: str | None = None
    texts: str | None = None
    single: bool = False
    tool: str = ENGINE
    trace: str | None = None


def runs_of(plan: Plan, wish: Wish) -> dict[str, Any]:
    """Return all that bench is going to do, and on which hosts.

    What cannot be held is left out where no scenario is named, and refused where one is.

    Raises:
        PlanError: Nothing can be run, or not what is asked for.
    """
    if wish.repetitions < 1:
        raise PlanError(["bench_repetitions has to be 1 or more"])
    held, refused = _loads_of(plan, wish)
    target = target_of(plan, wish.hosts, wish.through, wish.replica)
    write: Command = command
    if wish.tool == GUIDELLM:
        client, write = guidellm.client_of(plan, target), guidellm.command
    else:
        client = client_of(plan, target, wish.image, wish.texts)
    # Nobody has looked at a trace yet.
    loads = [] if wish.trace else held
    runs = [run for one in loads for run in _runs_of_load(plan, wish, client, target, one, write)]
    measured = dict.fromkeys(unit["host"] for unit in target.units)
    return {
        "deployment": plan["deployment"],
        "model": plan["endpoint"]["model"],
        "vendor": plan["platform"]["vendor"],
        "target": {
            **target._asdict(),
            "unit": target.unit["name"],
            "units": [unit["name"] for unit in target.units],
        },
        "units": {
            host: [unit for unit in plan["units"] if unit["host"] == host] for host in measured
        },
        "tool": wish.tool,
        "client": client._asdict(),
        "client_host": wish.client or target.head,
        "head": target.head,
        "scenarios": [{**one._asdict(), "cautions": cautions(one, plan)} for one in held],
        "refused": {name: texts for name, texts in refused.items() if texts},
        "without_load": [] if wish.single else without_load(plan),
        "repetitions": wish.repetitions,
        "warm_up": wish.warm_up,
        "runs": runs,
    }


def _loads_of(plan: Plan, wish: Wish) -> tuple[list[Scenario], dict[str, list[str]]]:
    """Return the loads that are made, and by the name of each that is wanted why it cannot be held.

    Raises:
        PlanError: None can be held, or not all that are named; or options do not go together.
    """
    of_engine = {"bench_image": wish.image, "bench_texts": wish.texts}
    named = bool(wish.scenarios or wish.custom)
    guidellm.check_wish(wish.tool, wish.trace, of_engine, named)
    if wish.trace:
        wanted = [guidellm.trace_load(wish.trace, None)]
    else:
        wanted = chosen(scenarios_of(plan, wish.custom), wish.scenarios)
    if wish.single and len(wish.scenarios) > 1:
        raise PlanError(["bench_scenarios: name one load; this playbook makes no more than one"])
    refused = {one.name: refusals(one, plan, wish.tool) for one in wanted}
    held = [one for one in wanted if not refused[one.name]]
    if not held or (wish.scenarios and len(held) < len(wanted)):
        raise PlanError(
            ["bench runs nothing, since this deployment cannot hold it:"]
            + [f"- {text}" for texts in refused.values() for text in texts]
        )
    return (held[:1], {}) if wish.single else (held, refused)


def _runs_of_load(
    plan: Plan, wish: Wish, client: Client, target: Target, one: Scenario, write: Command
) -> list[dict[str, Any]]:
    """Return the runs of one load: its warm-up, where there is one, and its repetitions."""
    runs = []
    if wish.warm_up:
        short, seed = warm_up(one), WARM_UP_SEED + one.seed
        runs.append(run_of_client(short, 0, seed, write(plan, client, target, short, seed), None))
    for repetition in range(wish.repetitions):
        # The same prompts again would come from the cache of prefixes.
        seed = one.seed + repetition
        argv = write(plan, client, target, one, seed)
        runs.append(run_of_client(one, repetition + 1, seed, argv, expected_s(one)))
    return runs


def run_of_client(
    one: Scenario, repetition: int, seed: int, argv: list[str], expected: float | None
) -> dict[str, Any]:
    """Return one run of the client; repetition 0 is the warm-up, of which nothing is kept."""
    return {
        "scenario": one.name,
        "repetition": repetition,
        "seed": seed,
        "requests": one.requests,
        "expected_s": None if expected is None else round(expected),
        "argv": argv,
    }


def scenario_of(entry: Mapping[str, Any]) -> Scenario:
    """Return a scenario from how runs_of tells it."""
    return Scenario(**{key: value for key, value in entry.items() if key != "cautions"})


def target_made(plan: Plan, made: Mapping[str, Any]) -> Target:
    """Return what is measured from how runs_of tells it."""
    units = {unit["name"]: unit for unit in plan["units"]}
    told = made["target"]
    own = [units[name] for name in told["units"]]
    return Target(**{**told, "unit": units[told["unit"]], "units": own})


def announcement(made: Mapping[str, Any]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the table of what will run, its heading first, and what to know of it."""
    rows: list[tuple[str, ...]] = [
        ("SCENARIO", "PROMPT", "ANSWER", "AT ONCE", "REQUESTS", "TIMES", "ABOUT")
    ]
    told = []
    times: dict[str, float] = {}
    for run in made["runs"]:
        if run["expected_s"] is not None:
            times[run["scenario"]] = times.get(run["scenario"], 0) + run["expected_s"]
    for entry in made["scenarios"]:
        name = entry["name"]
        rows.append(
            (
                name,
                *(["-"] * 4 if entry["dataset"] == TRACE else _sizes(entry)),
                str(made["repetitions"]),
                duration(times[name]) if name in times else "-",
            )
        )
        told += [f"{name}: {text}" for text in entry["cautions"]]
    told += [f"left out, {text}" for texts in made["refused"].values() for text in texts]
    told += [f"not repeatable, {text}" for text in made["without_load"]]
    return rows, told


def _sizes(entry: Mapping[str, Any]) -> list[str]:
    upto = "up to " if entry["lengths"] == "up_to" else ""
    sizes = [f"{upto}{entry['input']}", f"{upto}{entry['output']}"]
    return [*sizes, str(entry["concurrency"]), str(entry["prompts"])]


def commands(made: Mapping[str, Any]) -> list[str]:
    """Return the commands of all measured runs as a shell takes them."""
    return [shlex.join(run["argv"]) for run in made["runs"] if run["repetition"]]
