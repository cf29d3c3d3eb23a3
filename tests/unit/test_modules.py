"""What modules and actions document, held against what they are."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.comparison import COMPARISONS

from tests.conftest import ROOT

PLUGINS = ROOT / "plugins"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))


@cache
def documented() -> dict[str, Any]:
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


def written(name: str) -> dict[str, Any]:
    """Return the documentation that stands in a module's own file, without fragments."""
    tree = ast.parse((PLUGINS / "modules" / f"{name}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{name} has no DOCUMENTATION")


def fragments() -> dict[str, dict[str, Any]]:
    """Return the parts of all documentation fragments, by the name under which a module asks."""
    found = {}
    for path in sorted((PLUGINS / "doc_fragments").glob("*.py")):
        fragment = importlib.import_module(
            f"ansible_collections.muster.serving.plugins.doc_fragments.{path.stem}"
        ).ModuleDocFragment
        for part, text in vars(fragment).items():
            if part.isupper():
                suffix = "" if part == "DOCUMENTATION" else f".{part.lower()}"
                found[f"muster.serving.{path.stem}{suffix}"] = yaml.safe_load(text)
    return found


def returned(name: str) -> set[str]:
    """Return the keys of what an action's `act` returns, read from its code.

    These are the keys of the dictionaries that it returns or names result, and those that are set
    in it.
    """
    tree = ast.parse((PLUGINS / "action" / f"{name}.py").read_text())
    (act,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "act"
    )
    keys: set[str] = set()
    for node in ast.walk(act):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names = {ast.unparse(target).partition("[")[0] for target in targets}
        if isinstance(node, ast.Return) or names == {"result"}:
            if isinstance(node.value, ast.Dict):
                keys |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            keys |= {
                target.slice.value
                for target in targets
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)
            }
    return keys


def checks_of(name: str) -> set[str]:
    """Return the ids of the checks that a module documents."""
    checks = (documented()[name]["return"] or {}).get("checks", {})
    if checks.get("type") != "list":
        return set()
    lines = checks["description"]
    text = lines if isinstance(lines, str) else " ".join(lines)
    return set(re.findall(r"V\(([\w-]+)\)", text))


def test_ansible_doc_shows_every_module() -> None:
    assert sorted(documented()) == MODULES
    for name, entry in documented().items():
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
    options = documented()[name]["doc"]["options"]
    taken = {key: option(value) for key, value in SPECS[name].items()}
    assert {key: option(value) for key, value in options.items()} == taken


def test_the_verdict_documents_every_fact_that_it_compares() -> None:
    notes = documented()["cluster_verdict"]["doc"]["notes"]
    apart = {one.fact for one in COMPARISONS if one.unique}
    near = {one.fact for one in COMPARISONS if one.spread}
    for start, wanted in (
        ("These facts must be equal", {one.fact for one in COMPARISONS} - apart - near),
        ("No value of these facts", apart),
        ("These facts may differ", near),
    ):
        (note,) = (note for note in notes if note.startswith(start))
        assert set(re.findall(r"C\((\w+)\)", note)) == wanted


def test_what_modules_have_in_common_stands_in_a_fragment_alone() -> None:
    attributes = fragments()["muster.serving.attributes"]["attributes"]
    options: dict[str, str] = {}
    for where, doc in [*fragments().items(), *((name, written(name)) for name in MODULES)]:
        for key, value in doc.get("options", {}).items():
            other = options.setdefault(json.dumps([key, value], sort_keys=True), where)
            assert other == where, f"{where} repeats the option {key} of {other}"
    for name in MODULES:
        doc = documented()[name]["doc"]
        for key, value in written(name).get("attributes", {}).items():
            assert "description" not in value, f"{name} describes {key} itself"
        assert set(attributes) <= set(doc["attributes"]), name
        for key, value in doc["attributes"].items():
            assert value.keys() >= {"description", "support"}, f"{name}: {key}"


def test_every_fragment_is_used_and_every_module_with_checks_says_what_a_check_is() -> None:
    used = {name: set(written(name)["extends_documentation_fragment"]) for name in MODULES}
    assert set(fragments()) == set().union(*used.values())
    for name in MODULES:
        checks = (documented()[name]["return"] or {}).get("checks", {})
        assert ("muster.serving.checks" in used[name]) == (checks.get("type") == "list"), name


def test_an_action_without_a_connection_says_that_it_runs_on_the_controller() -> None:
    alone = {
        name
        for name in SPECS
        if not importlib.import_module(
            f"ansible_collections.muster.serving.plugins.action.{name}"
        ).ActionModule._requires_connection
    }
    assert alone == {
        name for name in MODULES if "connection" in documented()[name]["doc"]["attributes"]
    }


def test_every_check_is_documented_by_a_module_that_makes_it() -> None:
    named = set().union(*map(checks_of, MODULES))
    # One of a module's own name stands for its checks when it ends without them.
    broken = {name.replace("_", "-") for name in MODULES} & set(CHECKS)
    assert named == set(CHECKS) - broken


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_action_documents_all_that_it_returns(name: str) -> None:
    told = set(documented()[name]["return"] or {})
    # What Ansible itself knows.
    common = {"changed", "failed", "skipped", "msg"}
    assert told - common == returned(name) - common


def test_actions_print_by_show_alone() -> None:
    """A callback that makes JSON of standard output must find nothing else there."""
    printing = [
        path.name
        for path in sorted((PLUGINS / "action").glob("*.py"))
        if re.search(r"\bprint\(|[dD]isplay(?:\(\))?\.display\(", path.read_text())
    ]
    assert printing == []
