"""Every Ansible role keeps its contract: defaults, argument_specs and README say the same."""

from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())
roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def options(role: Path) -> dict:
    """The options of all entry points together."""
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: spec for entry in specs.values() for name, spec in entry["options"].items()}


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
