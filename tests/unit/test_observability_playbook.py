"""playbooks/observability.yml as one who has a Prometheus runs it: files alone, on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

from . import prometheus_tools

INVENTORY = """\
all:
  vars:
    ansible_connection: local
    ansible_become: false
    ansible_python_interpreter: {python}
  hosts:
    watch:
  children:
    a2-cluster:
      vars:
        muster_recipe: minimax-m2.5/vllm-ascend-a2
        muster_model_path: /models/m2.5
        muster_interface: enp67s0f0np0
      hosts:
        npu-a: {{ansible_host: 10.255.255.2}}
        npu-b: {{ansible_host: 10.255.255.3}}
"""


def playbook(
    inventory: Path, name: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [program, "-i", str(inventory), name, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


class Run:
    """The playbook's runs on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(INVENTORY.format(python=sys.executable))
        self.target = folder / "prometheus"
        self.grafana = folder / "grafana"
        for kind in ("datasources", "dashboards"):
            (self.grafana / kind).mkdir(parents=True)
        (folder / "textfiles").mkdir()

    def __call__(self, *arguments: str, host: str = "watch", rc: int = 0) -> str:
        given = {
            "observability_host": host,
            "observability_install": False,
            "observability_dir": str(self.target),
            "observability_textfile_dir": str(self.folder / "textfiles"),
            "observability_grafana": True,
            "observability_grafana_dir": str(self.grafana),
            "observability_runbooks": "https://example.org/m/",
        }
        arguments = ("-l", "a2-cluster", "-e", json.dumps(given), *arguments)
        done = playbook(self.inventory, "playbooks/observability.yml", *arguments)
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout

    def changed(self, *arguments: str) -> int:
        return sum(map(int, re.findall(r"changed=(\d+)", self(*arguments))))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(tmp_path_factory.mktemp("observability"))
    assert made.changed("--check", "--diff") > 0
    assert not made.target.exists()
    assert made.changed() > 0
    return made


def test_what_is_written_is_what_prometheus_takes(run: Run) -> None:
    config = {
        **yaml.safe_load((run.target / "scrape.yml").read_text()),
        "rule_files": [str(run.target / "muster.rules.yml")],
    }
    path = run.folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    said = prometheus_tools.run("promtool", "check", "config", str(path))
    assert "1 rule files found" in said
    assert "runbook_url: https://example.org/m/docs/runbooks/disk.md" in (
        (run.target / "muster.rules.yml").read_text()
    )
    targets = json.loads((run.target / "targets" / "a2-cluster.json").read_text())
    # Whether an exporter of devices listens there is the network's word.
    assert [one["targets"] for one in targets if one["labels"]["job"] != "muster-devices"] == [
        ["10.255.255.2:20004"],
        ["10.255.255.2:9100"],
        ["10.255.255.3:9100"],
    ]


def test_a_certificate_is_looked_at_where_there_is_one(run: Run) -> None:
    module = run.target / "blackbox.yml"
    assert not module.exists()
    tls = {"muster_gateway_hosts": ["npu-a"], "muster_gateway_tls": {}}
    run("-e", json.dumps(tls))
    assert "muster_certificate" in yaml.safe_load(module.read_text())["modules"]
    targets = json.loads((run.target / "targets" / "a2-cluster.json").read_text())
    (found,) = [one for one in targets if one["labels"]["job"] == "muster-endpoint"]
    assert found["targets"] == ["127.0.0.1:9115"]


def test_agents_are_joined_to_node_exporter(run: Run) -> None:
    (link,) = (run.folder / "textfiles").iterdir()
    assert link.readlink() == Path("/run/muster-metrics/a2-cluster-r0.prom")


def test_grafana_is_provisioned(run: Run) -> None:
    (provider,) = yaml.safe_load((run.grafana / "dashboards" / "muster.yml").read_text())[
        "providers"
    ]
    found = {path.stem for path in Path(provider["options"]["path"]).glob("*.json")}
    assert found == {"muster-fleet", "muster-replica", "muster-rank", "muster-devices"}
    (source,) = yaml.safe_load((run.grafana / "datasources" / "muster.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"


def test_a_host_that_is_not_there_is_refused(run: Run) -> None:
    assert "wacth is no host of the inventory" in " ".join(run(host="wacth", rc=2).split())


def test_a_part_of_a_cluster_is_refused(run: Run) -> None:
    # Of two replicas, so that the plan itself takes the limit.
    recipe = "muster_recipe=minimax-m2.5-w8a8/vllm-ascend-a2"
    said = " ".join(run("-l", "npu-a", "-e", recipe, rc=2).split())
    assert "npu-b: of a2-cluster and not in the limit" in said


def test_the_cluster_can_be_taken_out(run: Run) -> None:
    run("-e", "observability_state=absent")
    assert list((run.target / "targets").iterdir()) == []
    assert list((run.folder / "textfiles").iterdir()) == []


# --- what is somebody else's --------------------------------------------------------------------

MARK = "# Managed by Muster (muster.serving). Local changes will be overwritten.\n"
CHANGED = "??5?????? c {}\n"
# By case: what the file has, what dpkg prints of its package, and whether the file is refused. None
# is no file, and no package.
CASES: dict[str, tuple[str | None, str | None, bool]] = {
    "nothing": (None, None, False),
    "no-package": ("theirs\n", None, True),
    "empty-no-package": ("", None, True),
    "as-brought": ("the package's\n", "", False),
    "changed": ("theirs\n", CHANGED, True),
    "other-file-changed": ("the package's\n", CHANGED.format("/etc/default/other"), False),
    "missing": (None, "missing   c {}\n", False),
    "ours": (MARK, CHANGED, False),
    "ours-no-package": (MARK, None, False),
}
PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: muster.serving.observability, tasks_from: refuse}
"""


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "dpkg"
    tool.parent.mkdir()
    # dpkg --verify PACKAGE ends with 1 where it does not know the package alone.
    tool.write_text(f'#!/bin/sh\n[ "$1" = --verify ] && exec cat {tmp_path}/$2.said 2>&-\n')
    tool.chmod(0o755)
    hosts = {}
    for name, (text, said, _refused) in CASES.items():
        file = tmp_path / f"{name}.yml"
        if text is not None:
            file.write_text(text)
        if said is not None:
            (tmp_path / f"{name}.said").write_text(said.format(file))
        hosts[name] = {
            "observability_host": name,
            "observability_package": name,
            "observability_files": [str(file), str(tmp_path / "none.yml")],
            "observability_remedy": "choose another host",
        }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": local, "hosts": hosts}}))
    (tmp_path / "play.yml").write_text(PLAY)
    path = f"{tool.parent}:{os.environ['PATH']}"
    done = playbook(inventory, str(tmp_path / "play.yml"), PATH=path)
    refused = {name for name, case in CASES.items() if case[2]}
    assert set(re.findall(r"^(\S+) .*failed=1", done.stdout, re.M)) == refused, done.stdout
    # The callback breaks lines.
    said = " ".join(done.stdout.split())
    for name in refused:
        assert f"{name}: {tmp_path}/{name}.yml is neither Muster's nor" in said
    assert len(re.findall(r"ok=[1-9].*unreachable=0", done.stdout)) == len(CASES)
