"""What modules and actions document, held against what they are."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.verdict import COMPARISONS

from tests.conftest import ROOT

PLUGINS = ROOT / "plugins"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))


def document() -> dict[str, Any]:
    """Return what ansible-doc says of every module, fragments merged."""
    names = [f"muster.serving.{name}" for name in MODULES]
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-doc"), "--json", "--type", "module", *names],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "ERROR" not in ran.stderr, ran.stderr
    said = json.loads(ran.stdout)
    return {name.rpartition(".")[2]: entry for name, entry in said.items()}


DOCUMENTED = document()


def specs() -> dict[str, Mapping[str, Any]]:
    """Return the SPEC of every action that has one."""
    found = {}
    for path in sorted((PLUGINS / "action").glob("*.py")):
        action = importlib.import_module(
            f"ansible_collections.muster.serving.plugins.action.{path.stem}"
        )
        spec = getattr(action.ActionModule, "SPEC", None)
        if spec is not None:
            found[path.stem] = spec
    return found


SPECS = specs()


def option(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an option what a caller has to know, from a specification or a documentation."""
    return {
        "type": said.get("type", "str"),
        "elements": said.get("elements"),
        "required": said.get("required", False),
        "default": said.get("default"),
        "choices": said.get("choices"),
        "aliases": said.get("aliases", []),
    }


def test_ansible_doc_shows_every_module() -> None:
    assert sorted(DOCUMENTED) == MODULES
    for name, entry in DOCUMENTED.items():
        assert entry["examples"], f"{name} has no example"


def test_a_documentation_without_code_belongs_to_an_action_with_a_specification() -> None:
    """ansible-test holds the options of other modules against their code."""
    empty = {
        name
        for name in MODULES
        if "AnsibleModule(" not in (PLUGINS / "modules" / f"{name}.py").read_text()
    }
    assert empty == set(SPECS)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_actions_documented_options_are_those_it_takes(name: str) -> None:
    documented = DOCUMENTED[name]["doc"]["options"]
    taken = {key: option(value) for key, value in SPECS[name].items()}
    assert {key: option(value) for key, value in documented.items()} == taken


def test_the_verdict_documents_every_fact_that_it_compares() -> None:
    notes = DOCUMENTED["cluster_verdict"]["doc"]["notes"]
    apart = {one.fact for one in COMPARISONS if one.unique}
    near = {one.fact for one in COMPARISONS if one.spread}
    for start, wanted in (
        ("These facts must be equal", {one.fact for one in COMPARISONS} - apart - near),
        ("No value of these facts", apart),
        ("These facts may differ", near),
    ):
        (note,) = (note for note in notes if note.startswith(start))
        assert set(re.findall(r"C\((\w+)\)", note)) == wanted
