"""What actions print for a person, and what a program reads in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import reads_as_json

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("callback", "json"),
    [
        ("default", False),
        ("ansible.builtin.minimal", False),
        ("json", True),
        ("ansible.posix.json", True),
        ("ansible.posix.jsonl", True),
    ],
)
def test_callbacks_that_make_json_of_standard_output_are_known(callback: str, json: bool) -> None:
    assert reads_as_json(callback) is json


def test_a_json_callback_gives_json_alone() -> None:
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/recipes.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (play,) = json.loads(ran.stdout)["plays"]
    assert "recipes" in play["tasks"][-1]["hosts"]["localhost"]
