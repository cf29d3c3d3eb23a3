"""Recipe and inventory merged for a version of the engine, each step by itself."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import merging
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    read_deployment,
)

from tests.unit.plan_support import PAIR, SINGLE, host, load, view

NVIDIA = "minimax-m2.5/vllm-nvidia"
RULE = {"versions": ">=0.20", "drop": "args.seed", "reason": "gone"}


def of(recipe: str, nodes: int = 1, **variables: Any) -> tuple[Any, Deployment]:
    hosts = [host(number + 1, recipe, **variables) for number in range(nodes)]
    deployment, errors = read_deployment(view(c=hosts), "c")
    assert errors == []
    return load(recipe, None), deployment


def asked(recipe: Any, deployment: Deployment) -> merging.Asked:
    found, errors, _notes = merging.asked_of(recipe, deployment, dialect_of(recipe))
    assert errors == []
    return found


def merged(recipe: Any, deployment: Deployment, version: str = "") -> merging.Merged:
    return merging.merge(
        recipe,
        deployment,
        dialect_of(recipe),
        version or recipe["engine"]["version"],
        asked(recipe, deployment),
    )


def test_the_inventory_wins_and_its_null_takes_away() -> None:
    plain = merged(*of(NVIDIA))
    name = next(name for name in plain.args if name not in ("max-model-len", "seed"))
    own = merged(*of(NVIDIA, engine_args={name: None, "max-model-len": 4096}))
    assert name not in own.args
    assert own.args["max-model-len"] == 4096
    assert own.idle == {"muster_engine_args": set(), "muster_engine_env": set()}


def test_a_null_that_removes_nothing_is_idle() -> None:
    own = merged(
        *of(NVIDIA, engine_args={"seed": None}, engine_env={"VLLM_CPU_KVCACHE_SPACE": None})
    )
    assert own.idle == {
        "muster_engine_args": {"seed"},
        "muster_engine_env": {"VLLM_CPU_KVCACHE_SPACE"},
    }


def test_sizes_are_no_flags_whoever_says_them() -> None:
    recipe, deployment = of(NVIDIA, engine_args={"tensor-parallel-size": 8})
    found = merged(recipe, deployment)
    assert found.sizes["tensor"] == 8
    assert not set(dialect_of(recipe).sizes.values()) & set(found.args)


@pytest.mark.parametrize(("nodes", "data"), [(2, 1), (4, 2)])
def test_more_nodes_than_the_recipe_names_are_more_ranks(nodes: int, data: int) -> None:
    recipe, deployment = of(PAIR, nodes=nodes, replica_nodes=nodes)
    per_recipe = recipe["parallelism"]["data"]
    assert asked(recipe, deployment).sizes["data"] == per_recipe * data


def test_a_rule_of_the_version_falls_on_the_recipe_alone() -> None:
    recipe, deployment = of(NVIDIA)
    recipe = {
        **recipe,
        "args": {**recipe["args"], "seed": 1},
        "engine": {**recipe["engine"], "rules": [RULE]},
    }
    found = merged(recipe, deployment)
    assert "seed" not in found.args
    assert [change["what"] for change in found.changes] == ["--seed"]
    _recipe, said = of(NVIDIA, engine_args={"seed": 2})
    # What the inventory says against a rule is refused later, not dropped in silence.
    assert merged(recipe, said).args["seed"] == 2


def test_draft_weights_count_where_the_recipe_has_a_use_for_them() -> None:
    recipe, deployment = of(SINGLE, draft_model_path="/models/draft")
    for speculative in (True, False):
        one = {key: value for key, value in recipe.items() if key != "speculative"}
        one |= {"speculative": {"method": "eagle3"}} if speculative else {}
        draft = merging.draft_of(one, deployment.settings)
        args = asked(one, deployment).layers["args"]
        assert draft == ("/models/draft" if speculative else None)
        assert args.get("speculative-config", {}).get("model") == draft
