"""README's "Your own nodes", word for word, on a node that is not the lab's standard one.

The node is of another release of the distribution, and has Docker's daemon without its command, as
a minimal installation leaves it. Of README's inventory only the address is replaced. What lets a
CPU serve in place of NPUs stands beside it, in group_vars, as in the lab's own inventory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import LAB_INVENTORY, ROOT, lab, on_node, stop_pair

pytestmark = pytest.mark.chaos

NODE = "first-hours-node"
DRIVER = "/usr/local/Ascend /usr/local/dcmi /usr/local/bin/npu-smi /etc/hccn.conf"
# What a CPU without Ascend's parts cannot run of the recipe.
OVERLAY = {
    "lab_more_args": {"quantization": None, "speculative-config": None},
    "muster_engine_env": {"VLLM_ASCEND_ENABLE_FLASHCOMM1": None},
}
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def readme_blocks() -> tuple[list[str], str, list[str]]:
    """The commands before the inventory, the inventory, and the commands after it."""
    text = (ROOT / "README.md").read_text()
    section = text.split("\n## Your own nodes\n")[1].split("\n## ")[0]
    blocks = [(kind, textwrap.dedent(body)) for _, kind, body in BLOCK.findall(section)]
    assert [kind for kind, _ in blocks] == ["console", "yaml", "console"]
    first, inventory, second = (body for _, body in blocks)
    return commands(first), inventory, commands(second)


def commands(block: str) -> list[str]:
    lines = block.splitlines()
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


class Shell:
    """A user's shell: what a command changes in its folder and environment stays for the next."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / ".state"
        ours = str(ROOT / ".venv")
        path = [one for one in os.environ["PATH"].split(":") if not one.startswith(ours)]
        keep = ("HOME", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "XDG_STATE_HOME")
        self.environment = {
            **{name: os.environ[name] for name in keep if name in os.environ},
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            **{name: value for name, value in os.environ.items() if name.endswith("_proxy")},
            "PATH": ":".join(path),
        }

    def run(self, command: str, timeout: float = 300) -> tuple[int, str]:
        """Return the exit code and what it printed."""
        script = f"{command}\ncode=$?\n{{ pwd; env -0; }} >{self.state}\nexit $code"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        print(f"$ {command}\n{done.stdout}")
        folder, _, variables = self.state.read_text().partition("\n")
        self.folder = Path(folder)
        self.environment = dict(one.split("=", 1) for one in variables.split("\0") if "=" in one)
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A node as its owner has it before the driver is installed, with the weights in place."""
    lab("up")
    # The engine needs the memory that the pair's engines hold.
    stop_pair()
    made = json.loads(lab("node", "create", NODE, "--other-release"))
    variables = inventory_variables()
    for path in (variables["muster_model_path"], variables["muster_draft_model_path"]):
        folder = Path(path).parent
        model = "/opt/muster-lab/models/MiniMax-M2.5-tiny"
        on_node(NODE, "sh", "-c", f"mkdir -p {folder} && cp -r {model} {path}")
    yield str(made["address"])
    lab("node", "remove", NODE)


def inventory_variables() -> dict[str, Any]:
    (group,) = yaml.safe_load(readme_blocks()[1])["all"]["children"].values()
    variables: dict[str, Any] = group["vars"]
    return variables


@pytest.fixture(scope="module")
def shell(address: str, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """README's steps 1 and 2. What is committed is cloned."""
    shell = Shell(tmp_path_factory.mktemp("user"))
    install, inventory, _ = readme_blocks()
    assert install[0].split()[:2] == ["git", "clone"]
    # A checkout of another user is none of the user's, which git asks about.
    clone = install[0].replace("REPOSITORY", str(ROOT))
    trusting = f"git -c safe.directory='*' {clone.removeprefix('git ')}"
    for command in (trusting, *install[1:]):
        assert shell.run(command)[0] == 0, command

    where, _, _ = inventory.partition("\n")
    file = shell.folder / where.removeprefix("# ")
    (group,) = yaml.safe_load(inventory)["all"]["children"].items()
    (host,) = group[1]["hosts"].values()
    (file.parent / "group_vars").mkdir(parents=True)
    file.write_text(inventory.replace(host["ansible_host"], address))
    # What the inventory says itself stands.
    of_lab = yaml.safe_load((LAB_INVENTORY / "group_vars/all.yml").read_text())
    rest = {name: value for name, value in of_lab.items() if name not in group[1]["vars"]}
    (file.parent / "group_vars/all.yml").write_text(yaml.safe_dump(rest))
    (file.parent / f"group_vars/{group[0]}.yml").write_text(yaml.safe_dump(OVERLAY))
    return shell


@pytest.fixture(scope="module")
def steps() -> tuple[str, ...]:
    return tuple(readme_blocks()[2])


def rows(printed: str, status: str) -> list[str]:
    """The checks of preflight's table that have this status."""
    table = re.findall(r"^  \S+ +(\w+) +([a-z]+-[a-z-]+) ", printed, re.MULTILINE)
    return [check for found, check in table if found == status]


def test_a_node_without_a_driver_is_one_failed_row(shell: Shell, steps: tuple[str, ...]) -> None:
    devices = "sed -n 's/^c \\([^ ]*\\).*/\\1/p' /etc/tmpfiles.d/muster-lab.conf"
    on_node(NODE, "sh", "-c", f"mkdir /root/driver && mv {DRIVER} /root/driver && rm $({devices})")
    code, printed = shell.run(steps[0])
    assert code == 2
    assert rows(printed, "failed") == ["npu-driver-loaded"]
    said = " ".join(printed.split())
    assert "install the NPU driver" in said
    # What only follows from it stands with it.
    assert re.search(r"follows .*npu-tool.*device-node.*driver-mount", said)


def test_the_same_node_passes_once_it_has_the_driver(shell: Shell, steps: tuple[str, ...]) -> None:
    back = "; ".join(f"mv /root/driver/{Path(path).name} {path}" for path in DRIVER.split())
    on_node(NODE, "sh", "-c", f"{back}; systemd-tmpfiles --create 2>/dev/null || true")
    code, printed = shell.run(steps[0])
    assert code == 0
    assert rows(printed, "failed") == []
    # The distribution's own Docker lacks its command.
    assert rows(printed, "pending") == ["container-engine", "port-reserved"]


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    shell: Shell, steps: tuple[str, ...]
) -> None:
    code, printed = shell.run(steps[1])
    assert code == 0
    assert "+installed: docker-cli" in printed
    assert "vllm-cpu:0.32.0: pulled" in printed
    left = on_node(NODE, "sh", "-c", "ls -d /etc/muster /var/lib/muster /usr/bin/docker || true")
    assert left.strip() == ""


def test_the_node_answers(shell: Shell, steps: tuple[str, ...]) -> None:
    code, printed = shell.run(steps[2], timeout=600)
    assert code == 0
    report = json.loads(next(shell.folder.glob("muster-output/*/verify.json")).read_text())
    assert report["passed"]
    (answered,) = report["results"].values()
    assert all(answered["produced"].values())
    # Once more, and nothing changes.
    code, printed = shell.run(steps[2])
    assert code == 0
    assert re.search(r"^ok=\d+ changed=0 ", printed, re.MULTILINE)
