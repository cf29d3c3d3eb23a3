"""Recipes: what is merged, and what is refused."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import cluster
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.plan_support import PAIR, SCHEMA, flags, host, load, pair, plan, view


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Writes a recipe of one's own and loads it."""

    def write(text: str, name: str = "mine/a2", variant: str | None = None) -> Any:
        path = tmp_path / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return recipe_book([str(tmp_path)]).load(name, variant)

    return write


def refused(own: Any, text: str) -> str:
    with pytest.raises(PlanError) as caught:
        own(text)
    return "\n".join(caught.value.messages)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_first_variant_is_the_default() -> None:
    assert load(PAIR, None)["variant"] == "tp8-dp2"


def test_own_recipes_extend_and_hide_those_of_the_collection(own: Any) -> None:
    recipe = own(f"extends: [{PAIR}]\nargs: {{max_num_seqs: 4, mm-processor-cache-type: null}}\n")
    assert recipe["name"] == "mine/a2"
    assert recipe["args"]["max-num-seqs"] == 4
    assert recipe["args"]["max-num-batched-tokens"] == 65536
    assert own("extends: [minimax-m2.5-w8a8/vllm-ascend-a2]\n", name=PAIR)["nodes"] == 1


def test_what_adds_up_and_what_is_replaced(own: Any) -> None:
    recipe = own(
        f"extends: [{PAIR}]\nmounts: ['/x:/x']\nwarnings: [mine]\ncontainer: {{cap_add: [A]}}\n"
    )
    assert recipe["mounts"] == [*load(PAIR, None)["mounts"], "/x:/x"]
    assert recipe["warnings"][-1] == "mine"
    assert recipe["container"]["cap_add"] == ["A"]


def test_a_variant_lies_over_its_recipe(own: Any) -> None:
    mine = "{parallelism: {tensor: 4, data: 4}, args: {max_model_len: 4096}}"
    text = f"extends: [{PAIR}]\nvariants:\n  mine: {mine}\n"
    assert own(text, variant="mine")["args"]["max-model-len"] == 4096
    assert "max-model-len" not in own(text, variant="tp8-dp2")["args"]


def test_an_unknown_key_is_named_with_its_place_and_its_neighbour(own: Any) -> None:
    message = refused(own, f"extends: [{PAIR}]\nengine: {{vresion: 0.18.0}}\n")
    assert message.endswith("mine/a2.yml: engine.vresion is an unknown key: did you mean version?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodes: two\n", "nodes: 'two' is not of type 'integer'"),
        ("args: {port: [}\n", "cannot be read"),
        ("- a\n", "is not a map"),
        ("extends: [nosuch]\n", "extends 'nosuch', for which there is no file"),
        ("extends: [../../etc/passwd]\n", "for which there is no file"),
        ("extends: [mine/a2]\n", "extends itself"),
        ("summary: x\n", "mine/a2 (variant default): 'engine' is missing"),
        ("args: {a-b: 1, a_b: 2}\n", "twice, with hyphens and underscores"),
        ("env: {A: 1}\n", "env.A: 1 is not of type 'string', 'null'"),
        ("variants: {a: {extends: []}}\n", "variants.a.extends: has no place here"),
        ("env: {1: a}\n", "all keys have to be text"),
        ("verify: {max_repetition: .nan}\n", "JSON has no form for"),
    ],
)
def test_a_wrong_recipe_is_one_clear_message(own: Any, text: str, expected: str) -> None:
    assert expected in refused(own, text)


def test_a_wrong_flag_in_a_recipe_is_refused_by_the_plan(own: Any) -> None:
    recipe = own(f"extends: [{PAIR}]\nargs: {{max-num-seqs: many}}\n")
    with pytest.raises(PlanError, match="recipe mine/a2: max-num-seqs has to be a whole number"):
        cluster.build_plan(recipe, pair(), "c", "0.1.0")


KEYS = st.sampled_from([*SCHEMA["properties"], "tensor", "data", "versions", "drop", "image", "x"])
YAMLISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(noise=st.dictionaries(KEYS, YAMLISH, min_size=1, max_size=3))
def test_any_recipe_gives_a_plan_or_an_error(own: Any, noise: dict[str, Any]) -> None:
    text = yaml.safe_dump({**noise, "extends": [PAIR]})
    try:
        made = cluster.build_plan(own(text), pair(), "c", "0.1.0")
    except PlanError as error:
        outcome: Any = error.messages
    else:
        outcome = made["units"]
    assert outcome


@given(st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_a_recipe_gives_an_error(own: Any, text: str) -> None:
    assert refused(own, text)


PAGE = (ROOT / "docs" / "add-a-recipe.md").read_text()
EXAMPLES = re.findall(r"```yaml\n# my-recipes/(\S+)\.yml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def examples(tmp_path: Path) -> str:
    """The folder of own recipes that the docs make."""
    for name, text in EXAMPLES:
        path = tmp_path / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize("name", [name for name, _text in EXAMPLES])
def test_the_recipes_of_the_docs_can_be_planned(examples: str, name: str) -> None:
    for variant in recipe_book([examples]).variants(name):
        made = plan(view(c=[host(1, name, recipes_path=[examples], variant=variant)]))
        assert (made["recipe"], made["variant"]) == (name, variant)


def test_the_variation_of_the_docs_is_what_they_say(examples: str) -> None:
    mine = {"recipes_path": [examples], "variant": "crowd"}
    (unit,) = plan(view(c=[host(1, "minimax-m2.7/vllm-h200", **mine)]))["units"]
    assert unit["devices"] == [0, 1, 2, 3]
    assert flags(unit)["max-num-seqs"] == "256"
    assert "reasoning-parser" not in flags(unit)
    crowded = {"max-num-seqs": 512, "max-model-len": 65536}
    made = plan(view(c=[host(1, "minimax-m2.7/vllm-h200", **mine, engine_args=crowded)]))
    assert any("do not fit the cache together" in warning for warning in made["warnings"])
