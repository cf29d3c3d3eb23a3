"""What stop makes of the names of installed units is what the plan said of them."""

import json
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.conftest import ROOT


def templated(names: list[str], wanted: str) -> Any:
    """A variable of the play's stop task on host a, on which these units are installed."""
    loader = DataLoader()
    play = loader.load_from_file(str(ROOT / "playbooks/stop.yml"), trusted_as_template=True)[0]
    task = next(one for one in play["tasks"] if "unit_plan" in one.get("vars", {}))
    given = {
        "inventory_hostname": "a",
        "group_names": ["c"],
        "__stop_installed": {"orphans": names},
    }
    variables = {**play["vars"], **task["vars"], **given}
    return Templar(loader, variables).template(variables[wanted])


def test_units_and_agents_are_named_as_in_the_plan() -> None:
    plan = json.loads((ROOT / "tests/unit/golden/a2-cluster.json").read_text())
    names = [unit["name"] for unit in plan["units"]]
    found = templated(names, "unit_plan")
    assert found["units"] == [{"name": name, "host": "a"} for name in names]
    planned = {(link["name"], link["systemd_unit"]) for link in plan["links"]}
    assert {(link["name"], link["systemd_unit"]) for link in found["links"]} == planned
    assert {link["host"] for link in found["links"]} == {"a"}


@pytest.mark.parametrize("names", [[], ["c-gateway0"]])
def test_what_is_no_rank_has_no_agent(names: list[str]) -> None:
    found = templated(names, "unit_plan")
    assert found["deployment"] == "c"
    assert [unit["name"] for unit in found["units"]] == names
    assert found["links"] == []
