"""Every Ansible role keeps its contract: defaults, argument_specs and README say the same."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
SCENARIOS = {path.parent.name: path.parent for path in (ROOT / "molecule").glob("*/molecule.yml")}
roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def options(role: Path) -> dict:
    """The options of all entry points together."""
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: spec for entry in specs.values() for name, spec in entry["options"].items()}


def roles_of(scenario: str) -> set[str]:
    """The roles that a scenario's playbooks run, those that they import among them."""
    found, files = set(), [*SCENARIOS[scenario].glob("*.yml")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"name: muster\.serving\.(\w+)$", text, re.M))
        imported = re.findall(r"import_playbook: (\S+)", text)
        files += [file.parent / one for one in imported]
    return found & {role.name for role in ROLES}


@roles
def test_defaults_are_what_the_argument_specs_say(role) -> None:
    described = {
        name: spec.get("default")
        for name, spec in options(role).items()
        if not spec.get("required")
    }
    real = load(role / "defaults" / "main.yml")
    # A default that is computed is described in words.
    computed = {name for name, value in real.items() if "{{" in str(value)}
    assert set(real) == set(described)
    assert {name: real[name] for name in set(real) - computed} == {
        name: described[name] for name in set(described) - computed
    }


@roles
def test_variables_bear_the_roles_name(role) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


@roles
def test_every_option_says_what_it_is(role) -> None:
    assert [name for name, spec in options(role).items() if not spec.get("description")] == []


@roles
def test_the_readme_is_the_roles_own(role) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {role.name}\n")
    assert f"muster.serving.{role.name}" in text
    assert f"docs/roles.md#{role.name}" in text
    typed_out = [name for name in options(role) if f"| `{name}` |" in text]
    assert typed_out == [], "docs/roles.md has the variables"


@roles
def test_the_readme_names_a_scenario_that_runs_the_role(role) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    (scenario,) = re.findall(r"Molecule scenario `(\w+)`", text)
    assert role.name in roles_of(scenario)


def test_the_table_of_scenarios_has_each_with_roles_that_it_runs() -> None:
    text = (ROOT / "molecule" / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", text, re.M))
    assert set(table) == set(SCENARIOS)
    for scenario, names in table.items():
        assert set(names.split(", ")) <= roles_of(scenario), scenario
