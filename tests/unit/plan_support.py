"""An inventory as small as the planner takes, and the recipes of the collection."""

from copy import deepcopy
from functools import cache
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import planner
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import (
    read_schema,
    recipe_book,
)

PAIR = "minimax-m2.5/vllm-ascend-a2"
SINGLE = "minimax-m2.5-w8a8/vllm-ascend-a2"
SCHEMA = read_schema()


# One book reads and validates a shared file once for all recipes.
book = cache(recipe_book)


@cache
def load(name: str, variant: str | None, folders: Any = ()) -> Any:
    return book(folders).load(name, variant)


def host(number: int, recipe: str = PAIR, **variables: Any) -> dict[str, Any]:
    """One host's variables; a variable given as None is absent."""
    result = {
        "ansible_host": f"10.0.0.{number}",
        "muster_recipe": recipe,
        "muster_model_path": "/models/m2.5",
        "muster_interface": "enp67s0f0np0",
        **{f"muster_{name}": value for name, value in variables.items()},
    }
    return {name: value for name, value in result.items() if value is not None}


def view(**clusters: list[dict[str, Any]]) -> Any:
    """An inventory of clusters, whose hosts are named CLUSTER-0, CLUSTER-1 and so on."""
    groups: dict[str, list[str]] = {"all": [], "ungrouped": []}
    hostvars = {}
    for cluster, hosts in clusters.items():
        groups[cluster] = [f"{cluster}-{number}" for number in range(len(hosts))]
        groups["all"] += groups[cluster]
        hostvars.update(dict(zip(groups[cluster], deepcopy(hosts), strict=True)))
    return {"groups": groups, "hostvars": hostvars}


def pair(**variables: Any) -> Any:
    """The inventory of one cluster of two nodes, with the same variables on both."""
    return view(c=[host(1, **variables), host(2, **variables)])


def single(**variables: Any) -> Any:
    """The inventory of one cluster of one node."""
    return view(c=[host(1, SINGLE, **variables)])


def plan(inventory: Any, cluster: str = "c") -> Any:
    limited = inventory["groups"][cluster]
    plans = planner.plan_clusters(
        inventory, limited, planner.Verb("serve", changes=True), load, "0.1.0"
    )
    return plans[cluster]


def problems(
    inventory: Any, limited: Any = None, verb: str = "serve", changes: bool = True
) -> list[str]:
    """What planning refuses; no refusal is an empty list."""
    limited = inventory["groups"]["all"] if limited is None else limited
    try:
        planner.plan_clusters(inventory, limited, planner.Verb(verb, changes), load, "0.1.0")
    except PlanError as error:
        return error.messages
    return []


def flags(unit: Any) -> dict[str, str | None]:
    """A unit's flags, by name without dashes; a bare flag has None."""
    found: dict[str, str | None] = {}
    argv = unit["argv"][3:]
    for position, word in enumerate(argv):
        if word.startswith("--"):
            name, _, tied = word[2:].partition("=")
            following = argv[position + 1] if position + 1 < len(argv) else "--"
            found[name] = tied or (None if following.startswith("--") else following)
    return found
