"""The checkout as a project, and the collection that is built from it and installed elsewhere."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LINK = ".collections/ansible_collections/muster/serving"

# What a person finds in the root, and why it has to be there.
ROOT_ENTRIES = {
    # what Muster is made of
    *("docs", "inventories", "lab", "meta", "molecule", "playbooks", "plugins", "recipes", "roles"),
    *("scripts", "tests"),
    # what a reader opens
    *("CHANGELOG.rst", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    # what a tool looks for here and nowhere else
    *("Makefile", "ansible.cfg", "bindep.txt", "changelogs", "execution-environment.yml"),
    *("galaxy.yml", "pyproject.toml", "requirements.lock", "requirements.txt", "site.yml"),
    *(".ci", ".collections", ".config", ".github", ".gitignore"),
    *(".pre-commit-config.yaml", ".yamllint"),
}
# What is packed, tracked files alone.
PACKED = ("docs/", "inventories/example/", "meta/", "playbooks/", "plugins/", "recipes/", "roles/")
PACKED_FILES = {
    *("CHANGELOG.rst", "LICENSE", "README.md", "SECURITY.md", "bindep.txt", "requirements.txt"),
    "changelogs/changelog.yaml",
}
# What may lie in an operator's checkout.
PLANTED = (
    *("inventories/mine/hosts.yml", "inventories/mine/group_vars/all/vault.yml"),
    *("inventories/example-2/hosts.yml", "inventories/ex/hosts.yml", "inventories/hosts.yml"),
    *("plan.json", "a2-plan.json", "muster-output/a2/preflight.json", "playbooks/muster-output/x"),
    *(".env", ".vault_pass", "docs/.env", "secrets.vault", "vault.yml", "node.key", "node.pem"),
    *(".venv/bin/python", ".collections/ansible_collections/other/one/galaxy.yml", "ansible.log"),
)


def ansible(command: str, *arguments: str, cwd: Path, rc: int = 0, **environment: str) -> str:
    """Run an Ansible command as a user without any settings of this checkout would."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    # As README.md has it for group names such as a2-cluster.
    ours = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore"}
    done = subprocess.run(
        [str(BIN / command), *arguments],
        cwd=cwd,
        env=kept | ours | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout + done.stderr


def tracked() -> list[str]:
    """Return what a commit of the checkout would hold."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and os.path.lexists(ROOT / name))


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout as `git clone` makes it, with nothing else in it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def artifact(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact, built from a checkout in which an operator has worked."""
    used, folder = tmp_path_factory.mktemp("used"), tmp_path_factory.mktemp("artifact")
    shutil.copytree(clone, used, symlinks=True, dirs_exist_ok=True)
    for name in PLANTED:
        (used / name).parent.mkdir(parents=True, exist_ok=True)
        (used / name).write_text("an operator's own\n")
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=used)
    (built,) = folder.glob("muster-serving-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(artifact: Path) -> Path:
    """Return an empty folder's collections after the artifact was installed there."""
    folder = artifact.parent / "collections"
    options = ("--offline", "--collections-path", str(folder), str(artifact))
    ansible("ansible-galaxy", "collection", "install", *options, cwd=artifact.parent)
    return folder


@pytest.fixture
def unreachable(tmp_path: Path) -> Path:
    """Return an inventory of one cluster whose node cannot be reached."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit 255\n")
    ssh.chmod(0o755)
    node = {
        "ansible_host": "10.0.0.11",
        "ansible_ssh_executable": str(ssh),
        "ansible_ssh_retries": 0,
        "muster_recipe": "minimax-m2.5-w8a8/vllm-ascend-a2",
        "muster_model_path": "/data/model",
        "muster_draft_model_path": "/data/draft",
        "muster_output_dir": str(tmp_path / "output"),
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"a2": {"hosts": {"npu-a": node}}}))
    return inventory


def test_the_root_has_what_is_named_here_and_no_more() -> None:
    assert {name.split("/")[0] for name in tracked()} == ROOT_ENTRIES


def test_the_checkout_holds_the_link_that_makes_it_a_collection() -> None:
    assert [name for name in tracked() if name.startswith(".collections/")] == [LINK]
    assert (ROOT / LINK).resolve() == ROOT
    assert os.readlink(ROOT / LINK) == "../../.."


def test_the_roots_site_is_that_of_the_collection() -> None:
    (play,) = load("site.yml")
    assert play.pop("name")
    assert play == {"import_playbook": "playbooks/site.yml"}


def test_the_artifact_holds_what_serves_and_nothing_of_an_operators(artifact: Path) -> None:
    with tarfile.open(artifact) as packed:
        names = {member.name for member in packed if not member.isdir()}
    assert names - {"FILES.json", "MANIFEST.json"} == {
        name for name in tracked() if name.startswith(PACKED) or name in PACKED_FILES
    }


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1))
def test_no_inventory_but_the_example_is_packed(name: str) -> None:
    patterns = load("galaxy.yml")["build_ignore"]
    ignored = any(fnmatch.fnmatch(f"inventories/{name}", pattern) for pattern in patterns)
    assert ignored == (name != "example")


@pytest.mark.parametrize("cut", range(1, len("example") + 1))
@pytest.mark.parametrize("more", ["", "-2", "s", ".yml"])
def test_no_inventory_named_almost_as_the_example_is_packed(cut: int, more: str) -> None:
    test_no_inventory_but_the_example_is_packed.hypothesis.inner_test("example"[:cut] + more)


def test_an_installed_site_has_the_stages_of_the_checkouts(clone: Path, installed: Path) -> None:
    options = ("-i", str(ROOT / "inventories/example"), "-l", "a2-cluster", "--list-tasks")
    where = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    ours = ansible("ansible-playbook", "site.yml", *options, cwd=clone)
    theirs = ansible(
        "ansible-playbook", "muster.serving.site", *options, cwd=installed.parent, **where
    )
    assert theirs.split("play #1")[1] == ours.split("play #1")[1]
    assert "muster.serving.preflight : Judge all nodes" in ours


def test_an_installed_collection_plans_as_the_checkout_does(clone: Path, installed: Path) -> None:
    there = installed.parent
    options = ("-l", "a2-cluster", "-e")
    ansible("ansible-playbook", "playbooks/plan.yml", *options, "plan_file=ours", cwd=clone)
    ansible(
        *("ansible-playbook", "muster.serving.plan", "-i", str(ROOT / "inventories/example")),
        *(*options, f"plan_file={there}/theirs"),
        cwd=there,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    ours, theirs = (clone / "ours").read_text(), (there / "theirs").read_text()
    assert json.loads(ours) == json.loads(theirs)
    (clone / "ours").unlink()


@pytest.mark.parametrize("name", ["site.yml", "muster.serving.site"])
def test_site_names_a_node_that_cannot_be_reached(
    name: str, clone: Path, installed: Path, unreachable: Path
) -> None:
    cwd, where = clone, {}
    if name == "muster.serving.site":
        cwd, where = installed.parent, {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    command = ("ansible-playbook", name, "-i", str(unreachable), "-l", "a2")
    shown = ansible(*command, cwd=cwd, rc=2, ANSIBLE_SHOW_CUSTOM_STATS="1", **where)
    kept = shown.split("CUSTOM STATS:")[1]
    assert "muster_preflight" in kept, kept
    assert "node-reachable" in kept, kept
    assert re.search(r"npu-a +failed +node-reachable", shown), shown


def imported(folder: Path) -> set[str]:
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    names = {
        name
        for tree in trees
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_requirements_name_what_the_controllers_code_imports() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert named == pyproject()["dependency-groups"]["collection"]
    # Some come with ansible-core, and plots are left out where nothing draws them. Programs on a
    # node import what lies beside them there.
    beside = {
        "durable_io",
        "redaction",
        *(path.stem for path in ROOT.glob("plugins/*/programs/*.py")),
    }
    others = {"ansible_collections", "yaml", "jinja2", "markupsafe", "matplotlib"}
    assert imported(ROOT / "plugins") - others - beside == {
        re.split(r"[<>=]", line)[0].removesuffix("-core") for line in named
    }


def test_one_version_of_ansible_is_the_least_everywhere() -> None:
    least = {
        load("meta/runtime.yml")["requires_ansible"].removesuffix(".0"),
        *(
            f">={load(str(path.relative_to(ROOT)))['galaxy_info']['min_ansible_version']}"
            for path in ROOT.glob("roles/*/meta/main.yml")
        ),
        pyproject()["dependency-groups"]["collection"][0].removeprefix("ansible-core"),
    }
    assert least == {">=2.19"}


def test_the_execution_environment_has_the_pins_of_the_lock() -> None:
    dependencies = load("execution-environment.yml")["dependencies"]
    lock = (ROOT / "requirements.lock").read_text()
    core = dependencies["ansible_core"]["package_pip"]
    assert f"{core} ; python_full_version >= '3.12'\n" in lock
    assert f"{dependencies['ansible_runner']['package_pip']}\n" in lock
    assert (
        {key: dependencies[key] for key in ("python", "system")}
        == load("meta/execution-environment.yml")["dependencies"]
        == {"python": "requirements.txt", "system": "bindep.txt"}
    )


def test_collection_and_project_have_one_version_and_licence() -> None:
    galaxy, project = load("galaxy.yml"), pyproject()["project"]
    assert galaxy["version"] == project["version"]
    assert galaxy["license"] == [project["license"]]


def test_addresses_of_the_collection_are_one_publishers() -> None:
    galaxy = load("galaxy.yml")
    addresses = [galaxy[key] for key in ("repository", "documentation", "homepage", "issues")]
    assert len({address.split("/")[2] for address in addresses}) == 1


def make_targets() -> dict[str, list[str]]:
    rules = re.findall(r"^([a-z-][a-z -]*):([^#=\n]*)", (ROOT / "Makefile").read_text(), re.M)
    return {name: needs.split() for names, needs in rules for name in names.split()}


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (local,) = load(".pre-commit-config.yaml")["repos"]
    assert {hook["entry"] for hook in local["hooks"]} == {
        f"make --silent {target}" for target in make_targets()["lint"]
    }


def test_ci_runs_the_tiers_of_make_test_with_pinned_actions() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    runs = re.findall(r"run: (?:sudo \S+ )?make (\S+)", text)
    assert sorted(runs) == sorted(make_targets()["test"])
    uses = re.findall(r"uses: (\S+)", text)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in uses), uses


def test_a_changed_lock_makes_the_environment_anew(tmp_path: Path) -> None:
    """The old environment stands first on PATH, as the Makefile has it."""
    lock, python = tmp_path / "lock", tmp_path / "venv/bin/python"
    path = f"{python.parent}:{os.environ['PATH']}"
    command = [str(ROOT / "scripts/setup-venv"), "venv", "lock"]
    # The old one is as venv makes it; what pip has put there says nothing about the new one.
    venv.create(tmp_path / "venv", symlinks=True)
    old = tmp_path / "venv/of-the-old"
    old.touch()
    (tmp_path / "venv/.stamp").write_text("of another lock\n")
    lock.write_text("# one\n")
    for made in ("anew", "never again"):
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": path}, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert not old.exists()
        assert ("making venv" in done.stderr) == (made == "anew"), done.stderr
    subprocess.run([str(python), "-m", "pip", "--version"], check=True, capture_output=True)
    assert (tmp_path / "venv/.stamp").read_text() != "of another lock\n"
