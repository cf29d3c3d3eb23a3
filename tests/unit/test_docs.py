"""The docs are what the code and the recipes say."""

import ast
import re
import subprocess
import sys

from ansible_collections.muster.serving.plugins.module_utils.common.checks import PHASES, STATUSES

from tests.conftest import ROOT

# The calls that make checks, their ids in the first place.
MAKERS = ("check", "grouped", "Comparison", "Spread", "mode")


def test_the_generated_docs_are_up_to_date() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def ids_in_the_code() -> tuple[set[str], set[str], set[str]]:
    """Ids that the code makes checks with, what begins those that it puts together, and all words
    that it has."""
    whole, begun, words = set(), set(), set()
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            name = getattr(getattr(node, "func", None), "id", "")
            if not isinstance(node, ast.Call) or name not in MAKERS:
                continue
            for argument in node.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    if re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", argument.value):
                        whole.add(argument.value)
                elif isinstance(argument, ast.JoinedStr) and argument is node.args[0]:
                    first = argument.values[0]
                    if isinstance(first, ast.Constant):
                        begun.add(str(first.value))
    return whole, begun, words


def test_the_docs_list_every_check() -> None:
    text = (ROOT / "docs" / "checks.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\w+) \| (\w+) \|(.*)\|$", text, re.MULTILINE)
    assert {phase for _id, phase, _worst, _rest in rows} <= set(PHASES)
    assert {worst for _id, _phase, worst, _rest in rows} <= set(STATUSES)
    assert all(len(rest.split("|")) == 3 for _id, _phase, _worst, rest in rows)
    listed = [check_id for check_id, *_rest in rows]
    assert len(listed) == len(set(listed))
    whole, begun, words = ids_in_the_code()
    assert whole - set(listed) == set()
    unfounded = set(listed) - words
    assert {one for one in unfounded if not one.startswith(tuple(begun))} == set()
