"""Two runs at once on one cluster, what a killed one leaves, and a cluster under another name.

A node and an inventory of its own, so that it needs nothing of the pair. The first run is held up
where an operator's would be: in a pull from a registry that stalls.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import LAB_INVENTORY, ROOT, Outcome, eventually, lab, on_node

Play = Callable[..., Outcome]

NODE = "run-lock-node"
CLUSTER = "first-name"
RENAMED = "second-name"
UNIT = f"{CLUSTER}-r0-rank0"

# Docker talks HTTP to a registry on the node itself without being told to.
STALLING_PORT = 5999
IMAGE_THAT_STALLS = f"127.0.0.1:{STALLING_PORT}/muster-lab/stalls:1"
STALLING_REGISTRY = f"""
import http.server, time
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/v2/":
            time.sleep(3600)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", {STALLING_PORT}), Registry).serve_forever()
"""
REGISTRY_UNIT = "stalling-registry"

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
FIRST_RUN = rf"prepare\.yml by {re.escape(getpass.getuser())} on \S+, since {TIME}"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    lab("up", "--all")
    yield str(json.loads(lab("node", "create", NODE, "--family", "nvidia"))["address"])
    lab("node", "remove", NODE)


@pytest.fixture
def inventory(address: str, tmp_path: Path) -> Path:
    """The lab's cluster of SGLang's emulator, which starts in seconds, on this node alone."""
    return inventory_of(CLUSTER, address, tmp_path / CLUSTER)


def inventory_of(cluster: str, address: str, folder: Path) -> Path:
    (folder / "group_vars").mkdir(parents=True)
    hosts = {cluster: {"hosts": {NODE: {"ansible_host": address}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": hosts}}))
    for source, name in (("all", "all"), ("h100-sglang", cluster)):
        shutil.copy(LAB_INVENTORY / f"group_vars/{source}.yml", folder / f"group_vars/{name}.yml")
    return folder


def said(outcome: Outcome) -> str:
    """What a run printed, without its colours and line breaks."""
    return " ".join(COLOUR.sub("", outcome.stdout).split())


@pytest.fixture
def stalling_registry(address: str) -> Iterator[Callable[[], None]]:
    """A registry on the node that answers nothing but that it is one; to be ended by a call."""
    command = ("systemd-run", f"--unit={REGISTRY_UNIT}", "--collect")
    on_node(NODE, *command, "python3", "-c", STALLING_REGISTRY)

    def end() -> None:
        on_node(NODE, "sh", "-c", f"systemctl stop {REGISTRY_UNIT} 2>/dev/null || true")

    yield end
    end()


@pytest.fixture
def first_run(
    inventory: Path, tmp_path: Path, stalling_registry: Callable[[], None]
) -> Iterator[subprocess.Popen[str]]:
    """A run of prepare that changes the node and waits for the registry."""
    log = tmp_path / "first.log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(inventory), "playbooks/prepare.yml", "-l", CLUSTER),
                *("-e", f"muster_image={IMAGE_THAT_STALLS}"),
                *("-e", f"muster_output_dir={tmp_path / 'output-of-first'}"),
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as run,
    ):
        try:
            eventually(lambda: pulls() or run.poll() is not None, 120)
            assert run.poll() is None, log.read_text()
            yield run
        finally:
            stalling_registry()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def pulls() -> bool:
    """Whether the node waits for the registry that stalls."""
    return IMAGE_THAT_STALLS in on_node(NODE, "ps", "-eo", "args")


def test_a_second_run_is_told_who_runs_and_since_when(
    play: Play,
    inventory: Path,
    tmp_path: Path,
    first_run: subprocess.Popen[str],
    stalling_registry: Callable[[], None],
) -> None:
    for playbook in ("playbooks/prepare.yml", "playbooks/stop.yml", "site.yml"):
        second = play(playbook, inventory=inventory, limit=CLUSTER, muster_image=IMAGE_THAT_STALLS)
        assert second.rc != 0, playbook
        assert re.search(FIRST_RUN, said(second)), playbook
        assert "wait until it has ended" in said(second), playbook
        assert second.changed_tasks() == [], playbook

    # What changes nothing is not kept out: preflight and status tell it, a dry run goes.
    looked = play("playbooks/preflight.yml", inventory=inventory, limit=CLUSTER)
    assert re.search(rf"warning node-run {CLUSTER} seen {FIRST_RUN}", said(looked))
    dry = play("playbooks/prepare.yml", "--check", inventory=inventory, limit=CLUSTER)
    assert dry.rc == 0
    status = play("playbooks/status.yml", inventory=inventory, limit=CLUSTER)
    assert re.search(FIRST_RUN, said(status))

    stalling_registry()
    assert first_run.wait(120) != 0, "its image does not come"
    play("playbooks/preflight.yml", inventory=inventory, limit=CLUSTER)
    report = json.loads((tmp_path / "output" / "preflight.json").read_text())
    assert [one["status"] for one in report["checks"] if one["id"] == "node-run"] == ["ok"]


def test_what_a_killed_run_holds_is_taken_over_when_its_last_step_has_ended(
    play: Play,
    inventory: Path,
    first_run: subprocess.Popen[str],
    stalling_registry: Callable[[], None],
) -> None:
    os.killpg(first_run.pid, signal.SIGKILL)
    first_run.wait()
    # Docker still pulls, whoever asked for it.
    second = play("playbooks/stop.yml", inventory=inventory, limit=CLUSTER)
    assert second.rc != 0
    assert re.search(FIRST_RUN, said(second))
    step = re.search(r"a step of it still changes the node \(pid (\d+)\)", said(second))
    assert step

    stalling_registry()
    alive = f"kill -0 {step[1]} 2>/dev/null && echo yes || true"
    eventually(lambda: not on_node(NODE, "sh", "-c", alive).strip(), 120)
    second = play("playbooks/stop.yml", inventory=inventory, limit=CLUSTER)
    assert second.rc == 0
    taken = rf"took over {CLUSTER} from a run that has ended without releasing it: {FIRST_RUN}"
    assert re.search(taken, said(second))
    third = play("playbooks/stop.yml", inventory=inventory, limit=CLUSTER)
    assert third.rc == 0
    assert "took over" not in third.stdout


def test_a_renamed_cluster_is_told_how_to_stop_what_it_runs_under_its_former_name(
    play: Play, inventory: Path, address: str, tmp_path: Path
) -> None:
    served = play("site.yml", inventory=inventory, limit=CLUSTER)
    assert served.rc == 0
    before = invocation()
    renamed = inventory_of(RENAMED, address, tmp_path / RENAMED)
    way = f"playbooks/stop.yml -l {RENAMED} -e muster_cluster={CLUSTER}"

    for playbook in ("playbooks/preflight.yml", "site.yml"):
        outcome = play(playbook, inventory=renamed, limit=RENAMED)
        assert outcome.rc == 2
        assert way in said(outcome)
        assert "docker stop" not in outcome.stdout

    outcome = play("playbooks/stop.yml", inventory=renamed, limit=RENAMED)
    assert outcome.rc == 0
    assert f"{CLUSTER} runs on here ({UNIT})" in said(outcome)
    assert way in said(outcome)
    assert invocation() == before, "it was stopped without being asked for"

    # As it says, word for word.
    verb, _limit, _name, *arguments = way.split()
    assert play(verb, *arguments, inventory=renamed, limit=RENAMED).rc == 0
    assert invocation() == ""
    freed = play("playbooks/preflight.yml", inventory=renamed, limit=RENAMED)
    assert freed.rc == 0
    assert way not in said(freed)


def invocation() -> str:
    """What systemd calls the unit's present run; empty where it does not run."""
    shown = on_node(NODE, "systemctl", "show", "-p", "InvocationID,ActiveState", f"muster-{UNIT}")
    properties = dict(line.split("=", 1) for line in shown.split())
    return properties["InvocationID"] if properties["ActiveState"] == "active" else ""
