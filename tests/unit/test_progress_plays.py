"""The callback under a real ansible-playbook: through a pipe, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.report import shapes
from ansible_collections.muster.serving.plugins.plugin_utils.screen import runs_io

from tests.conftest import ROOT
from tests.unit.plan_support import SINGLE
from tests.unit.plan_support import host as single_host

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
# Two nodes, and where it is asked for one that nothing answers for.
GONE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

# Says its lines as our own actions do, from a worker, while others run.
SPEAKER = """
import time
from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        for number in range(20):
            show(f"  {number:3d} said by {task_vars['inventory_hostname']}\\n    and more of it")
            time.sleep(0.12)
        return {"changed": False}
"""


def play(folder: Path, plays: Any, *options: str, gone: bool = False, **environment: str) -> Any:
    """Write a playbook with its inventory and return the command that runs it, and its settings."""
    hosts: dict[str, Any] = {"a": LOCAL, "b": LOCAL, **({"gone": GONE} if gone else {})}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (folder / "book.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (folder / "action_plugins").mkdir(exist_ok=True)
    (folder / "action_plugins" / "speak.py").write_text(SPEAKER)
    command = [str(PLAYBOOK), "-i", str(folder / "hosts.yml"), str(folder / "book.yml"), *options]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    } | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment}
    return command, kept


def piped(
    folder: Path, plays: Any, *options: str, rc: int = 0, gone: bool = False, **environment: str
) -> str:
    """Return what a run prints where nothing is a terminal."""
    command, kept = play(folder, plays, *options, gone=gone, **environment)
    done = subprocess.run(
        command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == rc, done.stdout + done.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stdout), repr(done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def on_terminal(folder: Path, plays: Any, *options: str, **environment: str) -> str:
    """Return the bytes that a run sends to its terminal, decoded."""
    command, kept = play(folder, plays, *options, TERM="xterm", COLUMNS="200", **environment)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=ROOT, env=kept, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            sent += part
        process.wait(timeout=60)
    os.close(ours)
    return sent.decode()


def seen(sent: str) -> list[str]:
    """Return the lines that stay on a terminal: what is erased is gone."""
    return [
        ESCAPES.sub("", line.rstrip("\r").rpartition("\r\x1b[K")[2]) for line in sent.split("\n")
    ]


def tasks(*entries: dict[str, Any], name: str = "Prepare", **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "hosts": "all", "gather_facts": False, "tasks": list(entries), **more}]


def debug(said: str, **more: Any) -> dict[str, Any]:
    return {"ansible.builtin.debug": {"msg": said}, **more}


def fail(said: str, **more: Any) -> dict[str, Any]:
    return {"ansible.builtin.fail": {"msg": said}, **more}


def command(line: str, **more: Any) -> dict[str, Any]:
    return {"ansible.builtin.command": line, **more}


def work(name: str, changed: bool = True, **more: Any) -> dict[str, Any]:
    """A task that ends well without starting a program on its node."""
    done = {"ansible.builtin.assert": {"that": True, "quiet": True}}
    return {"name": name, **done, "changed_when": changed, **more}


def test_a_run_without_news_is_its_stages_and_their_times(tmp_path: Path) -> None:
    quiet = work("Look", changed=False)
    nothing = tasks({**quiet, "when": False}, name="Again")
    shown = piped(tmp_path, tasks(quiet) + nothing + tasks(quiet, name="Serve"))
    assert re.sub(r"\d+\.\d s", "T s", shown).split("\n\n") == [
        "Prepare\n  2 nodes done, T s\nServe\n  2 nodes done, T s",
        "Prepare         T s  2 nodes done\nServe           T s  2 nodes done\n"
        "in all          T s\n"
        "ok=4 changed=0 unreachable=0 failed=0 skipped=2 rescued=0 ignored=0\n",
    ]


def test_check_and_diff_tell_what_would_change(tmp_path: Path) -> None:
    copy = {
        "name": "Write",
        "ansible.builtin.copy": {"content": "new\n", "dest": f"{tmp_path}/x"},
    }
    copy_each = {
        "name": "Write each",
        "ansible.builtin.copy": {"content": "{{ item }}\n", "dest": f"{tmp_path}/{{{{ item }}}}"},
        "loop": ["one", "two"],
    }
    shown = piped(tmp_path, tasks(copy, copy_each), "--check", "--diff", "-l", "a")
    assert "  would change a: Write\n--- before\n+++ after" in shown
    assert "+new" in shown
    assert not (tmp_path / "x").exists()
    assert "  would change a: Write each\n    one\n    two\n" in shown
    assert (shown.count("+one"), shown.count("+two")) == (1, 1)
    shown = piped(tmp_path, tasks(copy), "-l", "a")
    assert "  changed a: Write\n" in shown
    assert "+new" not in shown
    assert "changed\n  a: Write\n" in shown


def test_each_failure_is_told_once_with_all_its_nodes(tmp_path: Path) -> None:
    shown = piped(tmp_path, tasks(fail("the disk\nis full", name="Fill")), rc=2)
    assert shown.count("the disk") == 1
    assert "failed\n  a, b: Fill\n    the disk\n    is full\n" in shown
    assert "2 failed (a, b)" in shown


def test_a_node_that_is_not_reached_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    shown = piped(tmp_path, tasks(command("true", name="Look")), rc=4, gone=True)
    assert shown.count("Connection refused") == 1
    assert "2 nodes done, 2 changed, 1 unreachable (gone)" in shown
    assert "gone (unreachable): Look (told above)" in shown


def test_rescues_ignored_failures_loops_and_secrets(tmp_path: Path) -> None:
    block = {"block": [fail("no package", name="Install")], "rescue": [debug("by hand")]}
    shown = piped(
        tmp_path,
        tasks(
            block,
            fail("never mind", name="Try", ignore_errors=True),
            command("{{ item }}", name="Loop", loop=["true", "false"], ignore_errors=True),
            command("echo s3cret", name="Secret", no_log=True),
            fail("s3cret", name="Fail in secret", no_log=True, ignore_errors=True),
            debug("said {{ item }}", name="Say", loop=[1, 2], run_once=True),
        ),
    )
    assert "failed a, b: Install, which has a rescue" in shown
    assert "rescued\n  a, b: Install\n    no package" in shown
    assert "ignored, failed a, b: Try\n    never mind" in shown
    assert "ignored, failed a, b: Loop\n    true\n    false: " in shown
    assert "changed a, b: Secret" in shown
    assert "ok a: Say\n    1: said 1\n    2: said 2" in shown
    assert "hidden due to the fact that 'no_log: true'" in shown
    assert "s3cret" not in shown
    assert "2 nodes done, 2 changed, 2 rescued" in shown or "2 nodes done, 2 rescued" in shown


def test_includes_handlers_and_playbooks_of_others(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text(yaml.safe_dump([work("Inner")]))
    plays = tasks(
        {"ansible.builtin.include_tasks": str(tmp_path / "more.yml")},
        work("Notify", notify="Handle"),
        handlers=[work("Handle")],
    )
    (tmp_path / "theirs.yml").write_text(
        yaml.safe_dump([{"ansible.builtin.import_playbook": str(tmp_path / "book.yml")}])
    )
    shown = piped(tmp_path, plays)
    for name in ("Inner", "Notify", "Handle"):
        assert f"  changed a, b: {name}\n" in shown
    command_, kept = play(tmp_path, plays)
    done = subprocess.run(
        [*command_[:3], str(tmp_path / "theirs.yml")],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a, b: Inner; Notify; Handle" in done.stdout, done.stdout + done.stderr


def test_hosts_that_go_on_by_themselves(tmp_path: Path) -> None:
    entries = [work(name) for name in ("One", "Two")]
    shown = piped(tmp_path, tasks(*entries, strategy="free"))
    for host in ("a", "b"):
        assert re.search(rf"changed (a, )?{host}(, b)?: Two", shown), shown
    assert "a, b: One; Two" in shown
    assert "2 nodes done, 2 changed" in shown


@pytest.mark.parametrize("level", ["-v", "-vvv"])
def test_more_is_told_when_asked_for(tmp_path: Path, level: str) -> None:
    quiet = command("echo told", name="Look", changed_when=False)
    shown = piped(tmp_path, tasks(quiet, fail("for this", name="Fail")), level, rc=2)
    assert "ok: [a]" in shown
    assert "stdout: told" in shown
    assert "PLAY RECAP" in shown
    assert "fatal: [b]: FAILED!" in shown
    assert "in all" in shown


def test_others_callbacks_are_as_they_were(tmp_path: Path) -> None:
    plays = tasks(work("Look"))
    shown = piped(tmp_path, plays, ANSIBLE_STDOUT_CALLBACK="ansible.builtin.default")
    assert "TASK [Look]" in shown
    assert "PLAY RECAP" in shown
    assert "in all" not in shown
    shown = piped(
        tmp_path,
        plays,
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        ANSIBLE_CALLBACKS_ENABLED="muster.serving.progress",
    )
    assert json.loads(shown)["stats"]["a"]["changed"] == 1


def test_statistics_of_a_run_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    stats = {"ansible.builtin.set_stats": {"data": {"told": "this"}}}
    shown = piped(tmp_path, tasks(stats), ANSIBLE_SHOW_CUSTOM_STATS="1")
    assert "CUSTOM STATS:" in shown
    assert "told: this" in shown


def test_lines_of_our_actions_are_whole_below_a_live_line(tmp_path: Path) -> None:
    sent = on_terminal(tmp_path, tasks({"name": "Wait", "speak": {}}))
    assert re.search(r"\r\x1b\[KPrepare \| \d s \| Wait \| 2 of 2 nodes: a, b", sent)
    lines = seen(sent)
    for host in ("a", "b"):
        own = [at for at, line in enumerate(lines) if line.endswith(f" said by {host}")]
        assert [lines[at] for at in own] == [
            f"  {number:3d} said by {host}" for number in range(20)
        ]
        assert all(lines[at + 1] == "    and more of it" for at in own)
    assert not any(" | " in line for line in lines), lines
    assert lines[-2].startswith("ok=2 "), lines


def test_the_second_run_knows_how_long_the_first_took(tmp_path: Path) -> None:
    file = tmp_path / "state" / "times.json"
    slow = tasks(command("sleep 2.5", name="Pull", changed_when=False))
    first = on_terminal(tmp_path, slow, MUSTER_PROGRESS_HISTORY=str(file))
    assert "last time" not in first
    assert file.exists()
    second = on_terminal(tmp_path, slow, MUSTER_PROGRESS_HISTORY=str(file))
    assert re.search(r"1 s, last time \d\.\d s \| Pull", second)


def test_a_broken_history_is_no_error(tmp_path: Path) -> None:
    broken = tmp_path / "times.json"
    broken.write_bytes(b"\xff{[")
    quiet = tasks(work("Look", changed=False))
    for file in (broken, broken / "below.json", Path("/proc/nothing.json")):
        assert "in all" in piped(tmp_path, quiet, MUSTER_PROGRESS_HISTORY=str(file))


def test_the_line_on_a_terminal_is_as_wide_as_told(tmp_path: Path) -> None:
    sent = on_terminal(
        tmp_path, tasks(command("sleep 1.2", name="x" * 80)), MUSTER_PROGRESS_WIDTH="40"
    )
    drawn = [part for part in re.findall(r"\r\x1b\[K([^\r\n\x1b]*)", sent) if "|" in part]
    assert drawn
    assert max(map(len, drawn)) <= 39


def test_the_end_says_why_units_start_and_where_the_endpoint_is(tmp_path: Path) -> None:
    """Our own actions, on what a node might have reported."""
    unit = {"name": "c-r0", "host": "a", "group": "replica-0", "secret_files": {"K": "/k"}}
    unit["systemd_unit"] = "muster-c-r0.service"
    row = {"name": "argv --max-num-seqs", "current": "32", "desired": "16"}
    seen_ = {"name": "c-r0", "group": "replica-0", "installed": True, "differences": [row]}
    seen_ |= {"active_state": "active", "sub_state": "running", "ready": True, "restarts": 0}
    plan = {"deployment": "c", "units": [unit], "links": []}
    entries = [
        {
            "ansible.builtin.set_fact": {
                "seen": {"units": [seen_], "orphans": [], "installed": {"running": []}}
            }
        },
        {
            "name": "Decide",
            "muster.serving.replica_decision": {"plan": plan, "results": "seen"},
        },
        {
            "name": "Start",
            "muster.serving.unit_state": {"state": "started", "deployment": "c", "units": []},
            "check_mode": True,
        },
    ]
    shown = piped(tmp_path, tasks(*entries, name="Serve"), "-l", "a")
    reason = "argv --max-num-seqs 32 -> 16"
    assert f"replica 0 of c restarts on a:\n  c-r0: {reason}\n" in shown
    assert f"units started, because\n  a:\n    c-r0: {reason}\n" in shown


def test_a_plan_ends_with_its_table_and_asks_nothing_of_an_endpoint() -> None:
    done = subprocess.run(
        [str(PLAYBOOK), "playbooks/plan.yml", "-l", "a2-cluster"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Plan\na2-cluster: ")
    assert "curl" not in done.stdout


@pytest.mark.parametrize(("options", "kept"), [((), 1), (("--check",), 0)])
def test_a_run_that_came_to_a_verdict_is_kept_beside_the_reports(
    tmp_path: Path, options: tuple[str, ...], kept: int
) -> None:
    said = {"muster_verify": {"passed": True, "counts": {"ok": 4}}}
    plays = [
        {
            "name": "Verify",
            "hosts": "c",
            "gather_facts": False,
            "tasks": [
                {"muster.serving.cluster_plan": {"verb": "verify"}, "run_once": True},
                {"ansible.builtin.set_stats": {"data": said}, "run_once": True},
            ],
        }
    ]
    command, environment = play(tmp_path, plays, *options)
    node = {**single_host(1, SINGLE), **LOCAL, "muster_output_dir": str(tmp_path / "reports")}
    hosts = {"all": {"children": {"c": {"hosts": {"n": node}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = runs_io.read(tmp_path / "reports" / runs_io.NAME)
    assert len(runs) == kept
    for run in runs:
        assert shapes.wrong("run", run) == ""
        assert (run["playbook"], run["failed_hosts"]) == ("book.yml", [])
        assert run["verdicts"] == {"verify": {"passed": True, "counts": {"ok": 4}}}
        assert [(one["name"], one["nodes"]) for one in run["stages"]] == [("Verify", 0)]
