"""The action cluster_plan, driven by ansible-playbook on real inventories without any node."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


def playbook(
    *arguments: str, book: Path = ROOT / "playbooks/plan.yml"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "ansible-playbook", book, *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_plan_file_is_written_once(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    arguments = ("-l", "a2-cluster", "-e", f"plan_file={target}", "--diff")
    assert "changed=1" in playbook(*arguments, "--check").stdout
    assert not target.exists()
    first = playbook(*arguments)
    assert "changed=1" in first.stdout, first.stdout + first.stderr
    assert "a2-cluster-r0-rank1  a2-node1  follower  1      0-7" in first.stdout
    assert "driver    25.0.rc1 or later: Huawei's own checker" in first.stdout
    assert "warning   Upstream reports two-node A2 deployments" in first.stdout
    recorded = json.loads((ROOT / "tests/unit/golden/a2-cluster.json").read_text())
    assert json.loads(target.read_text())["units"] == recorded["units"]
    assert target.stat().st_mode & 0o777 == 0o644
    assert "changed=0" in playbook(*arguments).stdout


@pytest.mark.parametrize("inventory", ["example", "lab"])
def test_every_cluster_of_our_inventories_has_a_plan(inventory: str) -> None:
    run = playbook("-i", f"inventories/{inventory}")
    groups = yaml.safe_load((ROOT / "inventories" / inventory / "hosts.yml").read_text())
    assert run.returncode == 0, run.stdout + run.stderr
    for cluster in groups["all"]["children"]:
        assert f"\n  {cluster}-r0-rank0 " in run.stdout


def test_every_first_inventory_has_a_plan_and_every_platform_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "first-inventory.md").read_text(encoding="utf-8")
    sources, groups = [], {}
    for index, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.S)):
        file = tmp_path / f"{index}.yml"
        file.write_text(block)
        sources += ["-i", str(file)]
        groups |= yaml.safe_load(block)["all"]["children"]
    run = playbook(*sources)
    assert run.returncode == 0, run.stdout + run.stderr
    for cluster in groups:
        assert f"\n  {cluster}-r0-rank0 " in run.stdout
    shipped = {
        path.stem for path in (ROOT / "recipes").glob("*/*.yml") if path.parent.name != "_base"
    }
    assert {group["vars"]["muster_recipe"].split("/")[1] for group in groups.values()} == shipped


def test_no_example_has_a_folder_of_somebody_elses() -> None:
    """An example is copied: a path in it that only one site has misleads all others."""
    for file in (ROOT / "inventories" / "example" / "group_vars").glob("*.yml"):
        for name, value in yaml.safe_load(file.read_text()).items():
            if name.endswith("_path"):
                assert value.startswith("/data/models/"), f"{file.name}: {name}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("-l", "a2-node1", "-e", "plan_changes=true", "-e", "plan_verb=serve"),
            (
                "serve stops before it touches any node: 2 problems",
                "the limit leaves out a2-node0 of replica 0",
                "a2-node1: 192.0.2.21 is an address reserved for documentation",
            ),
        ),
        (
            ("-l", "a2-single", "-e", "muster_prt=1", "-e", "muster_image={{ nope }}"),
            (
                "muster_prt is unknown: did you mean muster_port?",
                "muster_image cannot be evaluated: 'nope' is undefined",
            ),
        ),
    ],
)
def test_a_refusal_is_a_message_without_a_traceback(
    arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    run = playbook(*arguments)
    shown = run.stdout + run.stderr
    assert run.returncode == 2, shown
    assert all(line in shown for line in expected), shown
    assert "Traceback" not in shown


INI = """
[prod]
10.1.0.11
10.1.0.12

[heads]
10.1.0.11

[dc:children]
prod
"""
YAML = """
all:
  children:
    dc:
      vars: {muster_npu_ping: none}
      children:
        prod:
          vars: {muster_recipe: minimax-m2.5/vllm-ascend-a2}
          children:
            heads: {hosts: {10.1.0.11: null}}
            followers: {hosts: {10.1.0.12: null}}
    monitored:
      hosts: {10.1.0.11: null, 10.1.0.12: null, "web": null}
"""


@pytest.mark.parametrize(
    ("inventory", "name"), [(INI, "hosts.ini"), (YAML, "hosts.yml")], ids=["ini", "yaml"]
)
def test_further_groups_and_names_that_are_addresses_ask_for_nothing(
    inventory: str, name: str, tmp_path: Path
) -> None:
    """The recipe stands in group_vars of one, in the inventory itself in the other."""
    (tmp_path / name).write_text(inventory)
    own = {"muster_model_path": "/models/m", "muster_interface": "eth0"}
    if "muster_recipe" not in inventory:
        own["muster_recipe"] = "minimax-m2.5/vllm-ascend-a2"
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "prod.yml").write_text(yaml.safe_dump(own))
    # Verbs without a plan take the same group.
    ask = "{{ group_names | muster.serving.cluster_name(hostvars, playbook_dir) }}"
    say = {"ansible.builtin.debug": {"msg": f"the group is {ask}"}}
    book = tmp_path / "book.yml"
    plays = [
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks/plan.yml")},
        {"hosts": "all", "gather_facts": False, "tasks": [say]},
    ]
    book.write_text(yaml.safe_dump(plays))
    run = playbook("-i", str(tmp_path / name), "-l", "10.1.0.11", book=book)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "prod-r0-rank0  10.1.0.11  head      0      0-7      10.1.0.11 eth0" in run.stdout
    assert "the group is prod" in run.stdout


def test_a_missing_ca_stops_only_what_would_install_it() -> None:
    nothing = json.dumps({"muster_registry_ca": {"r:5000": "/nothing.pem"}})
    arguments = ("-i", "inventories/lab", "-l", "a2-cluster", "-e", nothing)
    assert playbook(*arguments).returncode == 0
    run = playbook(*arguments, "-e", "plan_changes=true")
    assert run.returncode == 2, run.stdout
    assert "/nothing.pem of r:5000 cannot be read: No such file or directory" in run.stdout


def with_keys(tmp_path: Path, keys: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Plan a cluster with a gateway that asks for keys, as verbosely as Ansible can."""
    own = {"muster_gateway_hosts": ["a2-node0"], "muster_api_key_file": "/etc/muster/api-key"}
    (tmp_path / "own.yml").write_text(yaml.safe_dump({**own, "muster_gateway_keys": keys}))
    arguments = ("-i", "inventories/lab", "-l", "a2-cluster", "-e", f"@{tmp_path}/own.yml")
    return playbook(*arguments, "-e", "plan_changes=true", "--diff", "-vvvvv", *more)


def test_keys_come_from_a_file_or_a_vault_and_go_no_further(tmp_path: Path) -> None:
    secret, target = "sk-most-secret-0123456789", tmp_path / "plan.json"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    password, plain, vault = tmp_path / "password", tmp_path / "keys.yml", tmp_path / "vault.yml"
    password.write_text("opensesame")
    for path in (plain, vault):
        path.write_text(yaml.safe_dump({"search": [secret]}))
        path.chmod(0o600)
    opened = ("--vault-password-file", str(password))
    subprocess.run([BIN / "ansible-vault", "encrypt", *opened, vault], check=True, timeout=60)
    vault.chmod(0o644)
    # A value of the inventory may be a vault of its own.
    made = subprocess.run(
        [BIN / "ansible-vault", "encrypt_string", *opened, secret],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    inline = tmp_path / "inline.yml"
    inline.write_text(f"muster_gateway_keys:\n  search:\n    - {made.stdout.strip()}\n")
    for keys, more in (
        (str(plain), ()),
        (str(vault), opened),
        ("", (*opened, "-e", f"@{inline}")),
    ):
        run = with_keys(tmp_path, keys, *more, "-e", f"plan_file={target}")
        assert run.returncode == 0, run.stdout + run.stderr
        assert digest in run.stdout  # for the node
        assert secret not in run.stdout + run.stderr + target.read_text()
        assert digest not in target.read_text()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("search: sk-most-secret-0123456789", 0o640, "has mode 0640, and it holds keys: chmod 600"),
        ("search: sk-most secret-0123456789", 0o600, "a key of search has to be 16 to 512"),
        ("[sk-most-secret-0123456789]", 0o600, "has to hold a map of teams to keys"),
        ("search: sk-most-secret: 0123456789", 0o600, "is no YAML"),
        (None, 0o600, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_named_and_never_quoted(
    tmp_path: Path, text: str | None, mode: int, said: str
) -> None:
    keys = tmp_path / "keys.yml"
    if text is not None:
        keys.write_text(text)
        keys.chmod(mode)
    run = with_keys(tmp_path, str(keys))
    assert run.returncode == 2, run.stdout
    assert f"a2-cluster: muster_gateway_keys: {keys}" in run.stdout
    assert said in run.stdout
    assert "secret-0123456789" not in run.stdout + run.stderr


def test_the_plan_reaches_later_plays(tmp_path: Path) -> None:
    book = tmp_path / "book.yml"
    book.write_text(
        f"""
- import_playbook: {ROOT}/playbooks/plan.yml
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{{{ muster_plan.stages[inventory_hostname].unit.names | join }}}} with
          {{{{ muster_plan.stages[inventory_hostname].preflight.peers | join }}}}"
"""
    )
    run = subprocess.run(
        [BIN / "ansible-playbook", book, "-l", "a2-cluster", "--tags", "serve,all"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "muster-a2-cluster-r0-rank0.service with a2-node1" in run.stdout, run.stdout + run.stderr
    assert "muster-a2-cluster-r0-rank1.service with a2-node0" in run.stdout


def test_a_stage_takes_over_a_plan_that_was_made_for_what_it_does(tmp_path: Path) -> None:
    """Nor does one that changes nodes go on with what was made for a look."""
    plan = f"import_playbook: {ROOT}/playbooks/plan.yml"

    def stage(verb: str, changes: bool) -> str:
        more = "plan_changes" if changes else "plan_one_cluster"
        return f"- {plan}\n  vars: {{plan_verb: {verb}, {more}: true, plan_show: false}}\n"

    def made(*plays: str, **variables: object) -> tuple[list[bool], str]:
        """Return for each play whether the plan was made in it, and what the run printed."""
        book = tmp_path / "book.yml"
        book.write_text("".join(plays))
        run = subprocess.run(
            [
                *(BIN / "ansible-playbook", book, "-i", ROOT / "inventories/lab"),
                *("-l", "a2-cluster", "-e", json.dumps(variables)),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        shown = run.stdout.split("PLAY [")[1:]
        return ["TASK [Make the plan]" in one for one in shown], run.stdout

    look, verify = stage("preflight", False), stage("verify", False)
    prepare, serve = stage("prepare", True), stage("serve", True)
    # Who asks for the plan sees it, whatever was planned before.
    plays = (look, verify, prepare, look, serve, verify, f"- {plan}\n")
    assert made(*plays)[0] == [True, False, True, False, False, False, True]
    # Its checks are of its own kind; a CA is read where Docker is set up.
    other = {"muster_registry_ca": {"r:5000": "/nothing.pem"}, "preflight_weights_hashes": False}
    makes, said = made(look, verify, prepare, **other)
    assert makes == [True, True, True]
    assert "/nothing.pem of r:5000 cannot be read" in said
