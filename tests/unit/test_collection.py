"""The checkout as a project, and the collection that is built from it and installed elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def ansible(command: str, *arguments: str, cwd: Path, **environment: str) -> str:
    """Run an Ansible command as a user without any settings of this checkout would."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(BIN / command), *arguments],
        cwd=cwd,
        env=kept | {"ANSIBLE_NOCOLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=ROOT)
    (built,) = folder.glob("muster-serving-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(artifact: Path) -> Path:
    """Return an empty folder's collections after the artifact was installed there."""
    folder = artifact.parent / "collections"
    options = ("--offline", "--collections-path", str(folder), str(artifact))
    ansible("ansible-galaxy", "collection", "install", *options, cwd=artifact.parent)
    return folder


def test_the_roots_site_is_that_of_the_collection() -> None:
    (play,) = yaml.safe_load((ROOT / "site.yml").read_text())
    assert play.pop("name")
    assert play == {"import_playbook": "playbooks/site.yml"}


def test_an_installed_site_has_the_stages_of_the_checkouts(installed: Path) -> None:
    options = ("-i", str(ROOT / "inventories/example"), "-l", "a2-cluster", "--list-tasks")
    ours = ansible("ansible-playbook", "site.yml", *options, cwd=ROOT)
    theirs = ansible(
        "ansible-playbook",
        "muster.serving.site",
        *options,
        cwd=installed.parent,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert theirs.split("play #1")[1] == ours.split("play #1")[1]
    assert "muster.serving.preflight : Judge all nodes" in ours
