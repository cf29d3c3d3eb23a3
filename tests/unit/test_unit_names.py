"""Names of units, links and services are composed and read in one place."""

import json
import re

import pytest
from ansible_collections.muster.serving.plugins.module_utils.units import names
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

deployments = st.from_regex(re.compile(r"[a-z][a-z0-9._-]{0,20}"), fullmatch=True)


def test_links_of_installed_units_are_those_of_the_plan() -> None:
    plan = json.loads((ROOT / "tests/unit/golden/a2-cluster.json").read_text())
    found = names.links_of(unit["name"] for unit in plan["units"])
    assert set(found) == {link["name"] for link in plan["links"]}
    assert {names.link_service(one) for one in found} == {
        link["systemd_unit"] for link in plan["links"]
    }


@pytest.mark.parametrize("installed", [[], ["c-gateway0"]])
def test_what_is_no_rank_has_no_link(installed: list[str]) -> None:
    assert names.links_of(installed) == []


@given(deployments, st.integers(0, 99), st.integers(0, 99))
def test_what_was_composed_is_read_again(deployment: str, replica: int, rank: int) -> None:
    unit = names.rank_name(deployment, replica, rank)
    assert names.links_of([unit]) == [names.link_name(deployment, replica)]
    assert names.gateways_of([unit]) == []
    gateway = names.gateway_name(deployment, rank)
    assert names.gateways_of([unit, gateway]) == [gateway]
    assert names.links_of([gateway]) == []


def test_nobody_else_spells_a_name() -> None:
    """Code composes or matches no name of a unit's service, container, rank or gateway itself."""
    spelled = re.compile(r"""f["'][^"']*(muster-\{|-rank\{|-gateway\{|-link\.service)""")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("module_utils", "plugin_utils", "modules", "action", "filter")
        for path in (ROOT / "plugins" / folder).rglob("*.py")
        if path.name != "names.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if spelled.search(line) and "pid" not in line
    ]
    matched = [
        str(path.relative_to(ROOT))
        for folder in ("playbooks", "roles")
        for path in (ROOT / folder).rglob("*.yml")
        if re.search(r"-gateway\[|-rank\[|-link\.service|'muster-", path.read_text("utf-8"))
    ]
    assert found + matched == []
