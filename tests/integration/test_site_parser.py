"""The engine's own parser, in the lab's image. The name puts it behind test_site.py, whose pair it
finds in service; alone, it brings the pair up itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import (
    engine_parser as engine_parser_program,
)
from ansible_collections.muster.serving.plugins.module_utils.units import parser as engine_parser
from ansible_collections.muster.serving.plugins.module_utils.units.parser import (
    Place,
    Question,
    Verdict,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book

from lab.engine import build
from tests.unit import plan_support

from .conftest import NODES, UNITS, Outcome, containers, lab, on_node
from .test_site import lab_variables

Play = Callable[..., Outcome]

BOOK = recipe_book()

# What the planner refuses for the engine of the lab, by what it says; planned for its own engine.
NOT_FOR_THIS_VERSION = {
    (f"{model}-w8a8/vllm-ascend-a3", "long-context"): "--prefill-context-parallel-size"
    for model in ("minimax-m2.5", "minimax-m2.7")
}


def variants() -> list[tuple[str, str]]:
    """All recipes of the vLLM family with all their variants."""
    return [
        (name, variant)
        for name in BOOK.names()
        if BOOK.load(name)["engine"]["name"].startswith("vllm")
        for variant in BOOK.variants(name)
    ]


def inventory(name: str, variant: str, **variables: Any) -> Any:
    """A cluster for one replica of a recipe, with all that can be switched on."""
    recipe = BOOK.load(name, variant)
    if "speculative" in recipe:
        variables["draft_model_path"] = "/models/draft"
    # A profiler that is set by variables leaves nothing for a parser to read.
    if "env" not in recipe["engine"]["switches"]["profiler"]:
        variables["profiler_dir"] = "/var/log/profiles"
    return plan_support.view(
        c=[
            plan_support.host(
                number,
                name,
                variant=variant,
                tool_calling=True,
                **variables,
            )
            for number in range(1, recipe["nodes"] + 1)
        ]
    )


def planned(name: str, variant: str) -> dict[str, tuple[str, ...]]:
    """The argv of each unit, for the version of vLLM that the lab has."""
    version = {"engine_version": build.version(), "engine_version_unproven": True}
    if (name, variant) in NOT_FOR_THIS_VERSION:
        (problem,) = plan_support.problems(inventory(name, variant, **version))
        assert NOT_FOR_THIS_VERSION[name, variant] in problem
        version = {}
    units = plan_support.plan(inventory(name, variant, **version))["units"]
    return {f"{name} {variant} {unit['name']}": tuple(unit["argv"]) for unit in units}


def ask(argvs: list[tuple[str, ...]]) -> list[Verdict]:
    """What the parser of the lab's image says, asked on a node as a start asks it."""
    place = Place(lab_variables()["muster_image"], None, ())
    program = Path(engine_parser_program.__file__).read_text()
    question = Question("vllm", place, {}, tuple(argvs))
    said = on_node("a2-node0", *engine_parser.command(question, program, "muster-parser-test"))
    answer = engine_parser.read_answer(engine_parser.find_answer(said), len(argvs))
    assert answer is not None, said
    return answer.verdicts


@pytest.fixture(scope="module", autouse=True)
def nodes() -> None:
    lab("up")


@pytest.fixture
def image(play: Play) -> None:
    """The engine's image on the nodes."""
    assert play("playbooks/prepare.yml").rc == 0


@pytest.mark.usefixtures("image")
def test_the_parser_takes_every_recipe() -> None:
    argvs = {name: argv for pair in variants() for name, argv in planned(*pair).items()}
    verdicts = ask(list(argvs.values()))
    wrong = {name: one for name, one in zip(argvs, verdicts, strict=True) if one.text}
    assert wrong == {}
    assert {one.status for one in verdicts} == {engine_parser.ACCEPTED}
    # What a recipe says of this is what has just been seen.
    said = {pair for pair in variants() if BOOK.load(*pair)["evidence"]["level"] != "planned"}
    assert said == set(variants()) - set(NOT_FOR_THIS_VERSION)


def test_a_flag_that_only_the_engine_can_refuse_leaves_the_pair_serving(
    play: Play, tmp_path: Path
) -> None:
    assert play("site.yml").rc == 0
    before = containers()
    assert all(before.values())
    args = {**lab_variables()["muster_engine_args"], "kv-cache-dtype": "fp9"}
    # The plan knows the values that it takes, and is told to leave them to the engine.
    passed = {"muster_engine_unchecked": ["kv-cache-dtype"]}
    outcome = play("site.yml", muster_engine_args=args, **passed)
    assert outcome.rc != 0
    assert outcome.changed_tasks() == []
    assert containers() == before
    checks = json.loads((tmp_path / "output" / "serve.json").read_text())["checks"]
    versions = [one for one in checks if one["id"] == "engine-version"]
    assert [(one["host"], one["status"]) for one in versions] == [(node, "ok") for node in NODES]
    refused = [one for one in checks if one not in versions]
    assert [(one["host"], one["id"], one["status"], one["subject"]) for one in refused] == [
        (node, "engine-parser", "failed", UNITS[node]) for node in NODES
    ]
    for one in refused:
        assert "argument --kv-cache-dtype: invalid choice: 'fp9'" in one["observed"]
        assert one["subject"] in outcome.stdout
