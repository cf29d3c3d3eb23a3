"""A fleet split over controllers: the commands of docs/controllers.md, and their merged results."""

import base64
import io
import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import context
from ansible_collections.muster.serving.plugins.callback import progress
from hypothesis import given
from hypothesis import strategies as st

from scripts.merge_results import Kept, judge, merge, read, table
from tests.conftest import ROOT
from tests.controllers import commands, shell

INVENTORY = "inventories/lab"
SEND = commands("here") + commands("part")


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The folder of the page's first try, its exit code and its screen."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    folder = tmp_path_factory.mktemp("controllers")
    script = commands("layout") + SEND + commands("plan")
    return folder, *shell(script, folder, INVENTORY, SOME_VARIABLE="of-the-controller")


def merged(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "results/merged.json").read_text())
    return value


def test_two_controllers_give_one_result(sent: tuple[Path, int, str]) -> None:
    folder, rc, screen = sent
    made = merged(folder)
    assert (rc, made["passed"]) == (0, True)
    hosts = yaml.safe_load((ROOT / INVENTORY / "hosts.yml").read_text())["all"]["children"]
    for name, run in (("a2-cluster", "ctl1"), ("h100-vllm", "ctl2")):
        head = next(iter(hosts[name]["hosts"].values()))["ansible_host"]
        assert made["clusters"][name]["url"].startswith(f"http://{head}:")
        assert made["clusters"][name]["runs"] == [run]
        assert any(line.split()[:3] == [name, run, "passed"] for line in screen.splitlines())
        # Each has planned its own cluster, and no other.
        assert [*made["runs"][run]["statistics"]["muster_endpoints"]] == [name]
        assert name in (folder / "results" / f"{run}.txt").read_text()
    assert not list((ROOT / "muster-output").glob("ctl*"))


def test_the_page_says_what_goes_there_and_comes_back(sent: tuple[Path, int, str]) -> None:
    folder, _rc, _screen = sent
    command = ["ansible-runner", "transmit", str(folder / "fleet"), "--playbook", "site.yml"]
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        capture_output=True,
        check=True,
        timeout=60,
    )
    _options, size, rest = done.stdout.split(b"\n", 2)
    archive = base64.b64decode(rest[: rest.index(b"{")])
    assert len(archive) == json.loads(size)["zipfile"]
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert {name.partition("/")[0] for name in names} == {"project", "inventory", "env"}
    assert "project/.collections/ansible_collections/muster/serving" in names
    assert not [name for name in names if "/.git/" in name or "/.venv/" in name]
    # The reason for the page's warning.
    kept = folder / "results/artifacts/ctl1"
    assert "of-the-controller" in (kept / "command").read_text()


def test_a_part_that_fails_or_is_lost_is_told(sent: tuple[Path, int, str]) -> None:
    folder, _rc, _screen = sent
    script = """
    part refused nothing playbooks/plan.yml &
    on_controller() { ansible-runner worker | head -c 4000; }
    part broken a2-cluster playbooks/plan.yml &
    on_controller() { cat > /dev/null; false; }
    part away a2-cluster playbooks/plan.yml &
    wait
    python scripts/merge_results.py "$RESULTS" refused broken away forgotten
    """
    lost = folder / "lost"
    lost.mkdir()
    (lost / "fleet").symlink_to(folder / "fleet")
    rc, screen = shell(SEND + script, lost, INVENTORY)
    assert rc == 2
    said = {line.split(":")[0].strip(): line for line in screen.splitlines() if ":" in line}
    assert "no hosts to target" in said["refused"]
    assert "ended before the run did" in said["broken"]
    assert "nothing came back" in said["away"]
    assert "nothing came back" in said["forgotten"]
    assert not any(run["passed"] for run in merged(lost)["runs"].values())


class OfRunner(progress.CallbackModule):
    """As ansible-runner's callback builds on ours when that is asked for."""


@pytest.mark.parametrize(
    ("callback", "draws"), [(progress.CallbackModule, True), (OfRunner, False)]
)
def test_our_callback_draws_nothing_beside_that_of_ansible_runner(
    callback: type, draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which holds the lock for printing while it calls ours: a clock would wait for it for good."""
    monkeypatch.setattr(context, "CLIARGS", {"check": False})
    one = callback()
    before = {*threading.enumerate()}
    monkeypatch.setattr(one, "get_option", lambda _name: "")
    one.v2_playbook_on_start(SimpleNamespace(_file_name="play.yml"))
    try:
        begun = {thread.name for thread in threading.enumerate() if thread not in before}
        assert ("muster-progress" in begun) == draws
    finally:
        one._stop(False)


def kept(
    statistics: dict[str, Any] | None = None, status: str = "successful", rc: str = "0", **end: Any
) -> Kept:
    data = {"artifact_data": statistics or {}, **end}
    return Kept([{}], [data], status, rc, "one\n\x1b[31mlast line\x1b[0m\n\n")


ENDPOINTS = {"muster_endpoints": {"c": {"url": "http://h:1/v1", "model": "m", "key": False}}}
CHECK = {
    "host": "n0",
    "id": "nic-up",
    "status": "failed",
    "subject": "eth0",
    "observed": "down",
    "expected": "up",
    "remedy": "ip link set eth0 up",
}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (kept(ENDPOINTS), []),
        # Playbooks such as stop.yml leave no statistics.
        (kept(), []),
        (kept(status="failed", rc="1"), ["failed, exit code 1. last line"]),
        (
            kept(status="failed", rc="2", failures={"n1": 1, "n0": 2}, dark={"n2": 1}),
            ["failed, exit code 2. failed: n0, n1; unreachable: n2"],
        ),
        (
            kept(
                {**ENDPOINTS, "muster_preflight": {"passed": False, "checks": [CHECK]}},
                "failed",
                "2",
                failures={"n0": 1},
            ),
            ["n0: nic-up (eth0): down, expected up. ip link set eth0 up"],
        ),
        (
            kept({**ENDPOINTS, "muster_status": {"c": {"problems": ["u on n0"]}}}, "failed", "2"),
            ["u on n0"],
        ),
        # What failed although the reports found nothing.
        (
            kept({**ENDPOINTS, "muster_preflight": {"passed": True}}, "failed", "2", dark={"n": 1}),
            ["failed, exit code 2. unreachable: n"],
        ),
        (kept(status="canceled", rc="254"), ["canceled, exit code 254. last line"]),
    ],
)
def test_how_a_run_ended(found: Kept, said: list[str]) -> None:
    run = judge(found)
    assert run["problems"] == said
    assert run["passed"] == (not said)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Kept([], [], "", "", ""), "nothing came back"),
        (Kept([{}], [], "", "", ""), "ended before the run did"),
        # The events came back, and the end was cut off.
        (kept(ENDPOINTS)._replace(status="", rc=""), "ended before the run did"),
        (kept()._replace(ends=[{}]), "--omit-event-data"),
        # A folder that was used before would show the former run's success.
        (kept(ENDPOINTS)._replace(begins=[{}, {}]), "holds 2 runs"),
    ],
)
def test_what_did_not_come_back_whole_has_not_passed(found: Kept, said: str) -> None:
    run = judge(found)
    assert not run["passed"]
    assert any(said in problem for problem in run["problems"])


def test_a_run_is_read_from_its_folder_even_where_an_event_is_cut_off(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == Kept([], [], "", "", "")
    events = tmp_path / "job_events"
    events.mkdir()
    for name, content in (
        ("1-a", {"event": "playbook_on_start", "event_data": {"playbook": "p"}}),
        ("2-b", {"event": "runner_on_ok", "event_data": {"res": "playbook_on_stats"}}),
        ("3-c", {"event": "playbook_on_stats", "event_data": {"artifact_data": ENDPOINTS}}),
    ):
        (events / f"{name}.json").write_text(json.dumps(content))
    (events / "4-d.json").write_text('{"event": "playbook_on_stats", "event_d')
    (tmp_path / "rc").write_text("0")
    (tmp_path / "status").write_text("successful")
    run = judge(read(tmp_path))
    assert run["passed"]
    assert run["statistics"] == ENDPOINTS


NAMES = st.sampled_from(["a", "b", "c"])


@given(
    st.dictionaries(
        NAMES,
        st.builds(
            lambda clusters, ended: judge(
                kept({"muster_endpoints": {one: {"url": one} for one in clusters}})._replace(
                    rc=ended
                )
            ),
            st.sets(NAMES),
            st.sampled_from(["0", "2", ""]),
        ),
    )
)
def test_a_merged_result_has_every_run_and_passes_only_as_a_whole(
    runs: dict[str, dict[str, Any]],
) -> None:
    made = merge(runs)
    assert made["passed"] == (bool(runs) and all(one["rc"] == 0 for one in runs.values()))
    rows = {tuple(line.split()[:2]) for line in table(made)[1:]}
    for name, run in runs.items():
        clusters = run["statistics"]["muster_endpoints"]
        assert {(cluster, name) for cluster in clusters or ["-"]} <= rows
    for cluster, one in made["clusters"].items():
        having = {n for n, run in runs.items() if cluster in run["statistics"]["muster_endpoints"]}
        assert set(one["runs"]) == having
        assert one["passed"] == all(runs[name]["passed"] for name in having)


def test_a_table_says_what_each_run_reports_of_each_cluster() -> None:
    both = {name: {"url": f"http://{name}"} for name in ("c", "d")}
    of_both = {"c": {"problems": []}, "d": {"problems": ["x\x1b[2J", "y"]}}
    runs = {
        "look": judge(
            kept({"muster_endpoints": both, "muster_status": of_both}, status="failed", rc="2")
        ),
        "check": judge(kept({**ENDPOINTS, "muster_preflight": {"passed": True, "checks": []}})),
    }
    assert [line.split() for line in table(merge(runs))] == [
        ["CLUSTER", "RUN", "RESULT", "REPORTS", "ENDPOINT"],
        ["c", "look", "failed", "status:", "as", "planned", "http://c"],
        ["c", "check", "passed", "preflight", "passed", "http://c"],
        ["d", "look", "failed", "status:", "2", "not", "as", "planned", "http://d"],
        ["look:", "x"],
        ["look:", "y"],
    ]
