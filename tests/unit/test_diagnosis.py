"""The archive of a node, and what the controller makes of several of them."""

import json
import os
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.action import cluster_diagnosis
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import MANAGED_HEADER
from ansible_collections.muster.serving.plugins.module_utils.units import diagnosis_io as node
from ansible_collections.muster.serving.plugins.plugin_utils.failure import (
    archive_io,
    diagnosis,
    judging,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECRET = "zqPLANTEDsecret0123456789"  # noqa: S105
PROMPT = "zq what the user asked"
UNIT = "muster-a2-cluster-r0-rank0.service"
TAKEN = "ZMQError: Address already in use (addr='tcp://10.0.0.1:2347')"

# Every answer of a node tells the secret in the way that such an answer could.
ANSWERS = {
    "systemctl": f"Id={UNIT}\nLoadState=loaded\nActiveState=failed\nSubState=failed\n"
    "Result=exit-code\nExecMainStatus=1\nNRestarts=3\n",
    "journalctl": f"INFO args: {{'api_key': ['{SECRET}']}}\n"
    f"INFO Received request cmpl-1: prompt: '{PROMPT}', params\n{TAKEN}\n{TAKEN}\n",
    "docker ps": f"muster-a {SECRET} muster-b",
    "docker inspect": json.dumps(
        [
            {
                "Args": ["serve", "/m", "--api-key", SECRET],
                "Config": {"Env": [f"PLAIN={SECRET}", f"VLLM_API_KEY={SECRET}"]},
            }
        ]
    ),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with one unit, whose logs and files hold a secret."""

    def answer(argv: list[str]) -> str:
        if argv[:2] == ["docker", "ps"]:
            return "muster-a\n"
        return ANSWERS.get(" ".join(argv[:2]), ANSWERS.get(argv[0], ""))

    monkeypatch.setattr(node, "ask", answer)
    files = NodeFiles(str(tmp_path / "root"))
    files.write(f"/etc/systemd/system/{UNIT}", f"{MANAGED_HEADER}\n[Unit]\n")
    files.write("/etc/systemd/system/muster-other.service", "[Unit]\n")
    files.write("/etc/muster/a2-cluster-r0-rank0.env", f"PLAIN={SECRET}\n", 0o600)
    state = {"effective": {"argv": "vllm serve", "secret VLLM_API_KEY": SECRET}}
    files.write("/var/lib/muster/units/a2-cluster-r0-rank0.json", json.dumps(state))
    files.write(
        "/var/log/muster/a2-cluster-r0-rank0/plog/run.log", "EJ0002: network port is down\n"
    )
    (tmp_path / "root/etc/ascend_install.info").mkdir(parents=True)
    return tmp_path / "root"


def archive(root: Path, target: Path, max_bytes: int = 1 << 20) -> node.Archive:
    made = node.Archive(str(target), max_bytes)
    node.collect(made, NodeFiles(str(root)), [UNIT], 2000)
    made.close()
    return made


def texts(path: Path) -> dict[str, str]:
    return {name: data.decode() for name, data in archive_io.members(path)}


def test_an_archive_has_no_secret_and_no_prompt(root: Path, tmp_path: Path) -> None:
    archive(root, tmp_path / "node.tar.gz")
    found = texts(tmp_path / "node.tar.gz")
    for name, text in found.items():
        assert SECRET not in text, name
        assert PROMPT not in text, name
    assert "VLLM_API_KEY=" in found["docker/inspect.json"]
    assert "vllm serve" in found["var/lib/muster/units/a2-cluster-r0-rank0.json"]
    assert not [name for name in found if name.endswith(".env")]
    assert os.stat(tmp_path / "node.tar.gz").st_mode & 0o777 == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(size=st.integers(0, 3000), limit=st.integers(0, 200))
def test_no_cut_lets_a_secret_pass(tmp_path: Path, size: int, limit: int) -> None:
    log = tmp_path / "log"
    log.write_text(f"HF_TOKEN={SECRET}\nAuthorization: Bearer {SECRET}\n" * 20)
    target = tmp_path / "cut.tar.gz"
    target.unlink(missing_ok=True)
    made = node.Archive(str(target), size)
    made.add("log", node.tail(str(log), limit))
    made.add("whole", log.read_text())
    made.close()
    found = texts(target)
    assert not any(SECRET[-6:] in text for text in found.values())
    assert sum(map(len, found.values())) <= size


def test_what_does_not_fit_is_named(root: Path, tmp_path: Path) -> None:
    made = archive(root, tmp_path / "node.tar.gz", 500)
    assert made.left_out
    assert sum(map(len, texts(tmp_path / "node.tar.gz").values())) <= 500


def test_only_services_of_muster_are_its_units(root: Path) -> None:
    assert node.installed_units(NodeFiles(str(root))) == [UNIT]


def test_no_link_of_an_engine_is_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:hash\n")
    logs = root / "var/log/muster/a2-cluster-r0-rank0"
    (logs / "link.log").symlink_to(tmp_path / "shadow")
    os.link(tmp_path / "shadow", logs / "hard.log")
    os.mkfifo(logs / "pipe.log")
    assert [Path(path).name for path in node.log_files(NodeFiles(str(root)))] == ["run.log"]
    assert node.tail(str(logs / "link.log")) == ""
    assert node.tail(str(logs / "pipe.log")) == ""


def test_a_file_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"\x7fELF\0\0")
    assert node.tail(str(tmp_path / "core")) == ""


def test_a_node_without_anything_still_answers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(node.shutil, "which", lambda *_args, **_more: None)
    target = tmp_path / "node.tar.gz"
    made = node.Archive(str(target), 1 << 20)
    node.collect(made, NodeFiles(str(tmp_path / "empty")), [UNIT], 10)
    made.close()
    assert json.loads(texts(target)["units.json"])[0]["active_state"] == ""


PLAN = {"deployment": "a2-cluster", "units": [{"env": {"HF_TOKEN": SECRET}}]}


@pytest.fixture
def diagnose(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The action over two nodes: one that answered, one that could not be reached."""
    output = tmp_path / "output"
    (output / ".diagnose").mkdir(parents=True)
    (output / "preflight.json").write_text('{"stage": "preflight"}')
    kept = {"argv": ["vllm", "--api-key", SECRET], "env": {"HF_TOKEN": SECRET}}
    (output / "verified-plan.json").write_text(json.dumps(kept, indent=2))
    said: list[str] = []
    monkeypatch.setattr(cluster_diagnosis, "show", said.append)

    def run(check_mode: bool = False, **changes: Any) -> tuple[dict[str, Any], str, Path]:
        seen: dict[str, Any] = {"units": node.observe([UNIT])}
        if not check_mode:
            archive(root, output / ".diagnose" / "n0.tar.gz")
            seen["archive"] = "/tmp/x/node.tar.gz"
        seen.update(changes)
        hostvars = {
            "n0": {"seen": seen},
            "n1": {"seen": {"unreachable": True, "msg": "Connection timed out"}},
        }
        action = cluster_diagnosis.ActionModule.__new__(cluster_diagnosis.ActionModule)
        arguments = {"plan": PLAN, "hosts": ["n0", "n1"], "results": "seen"}
        action._task = SimpleNamespace(
            args={**arguments, "output_dir": str(output)}, check_mode=check_mode, async_val=0
        )
        action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        result = action.run(task_vars={"hostvars": hostvars})
        return result, "\n".join(said), output

    return run


def test_the_report_names_state_cause_check_and_remedy(diagnose) -> None:
    result, said, _output = diagnose()
    state = "failed (failed), result exit-code, exit status 1, 3 restarts"
    assert said.splitlines()[:2] == ["n0", f"  {UNIT}: {state}"]
    for part in ("zmq-port-taken, 2 lines as: ", "Check: port-free", "Remedy: end what holds it"):
        assert part in said
    assert "npu-link-down" in said, "its own log files are read, too"
    assert "n1: not reached: Connection timed out" in said
    (unit,) = result["nodes"]["n0"]["units"]
    assert [one["name"] for one in unit["findings"]] == ["zmq-port-taken", "npu-link-down"]


def line(program: str, at: str, text: str) -> str:
    return f"2026-11-21T{at}+0000 n {program}: {text}"


def run_of(unit: str, hour: int, second: int, text: str) -> list[str]:
    """A run of a unit that begins at an hour and ends of something some seconds later."""
    end = f"{unit}: Main process exited, code=exited, status=1/FAILURE"
    return [
        line("systemd[1]", f"{hour}:00:00", f"Starting {unit} - Muster: ..."),
        line("muster[7]", f"{hour}:00:{second - 1:02}", text),
        line("systemd[1]", f"{hour}:00:{second:02}", end),
    ]


MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
CONNECT = "NCCL WARN socketStartConnect: Connect to 192.0.2.2<41000> failed : refused"
PEER = "RuntimeError: Connection closed by peer"


def unit_of(rank: int) -> str:
    return f"muster-a2-cluster-r0-rank{rank}.service"


def told(**journals: list[str]) -> str:
    """The report on nodes that each have one unit of a replica, by their journals."""
    nodes: dict[str, diagnosis.Node] = {}
    for rank, (host, journal) in enumerate(journals.items()):
        state = {"systemd_unit": unit_of(rank), "installed": True, "active_state": "failed"}
        state |= {"sub_state": "failed", "result": "", "exit_status": "", "restarts": 0}
        nodes[host] = diagnosis.judge({"units": [state]}, {unit_of(rank): judging.Log(journal, [])})
    return "\n".join(diagnosis.report(nodes))


def test_the_last_run_comes_first_and_earlier_ones_have_dates() -> None:
    said = told(n0=[*run_of(unit_of(0), 10, 9, TAKEN), *run_of(unit_of(0), 11, 9, MEMORY)])
    assert re.search(
        r"last run, 2026-11-21 11:00:00Z to 2026-11-21 11:00:09Z:\n *device-memory, a line: .*\n"
        r"(?:.*\n)*    earlier run, 2026-11-21 10:00:00Z to 2026-11-21 10:00:09Z:\n"
        r" *zmq-port-taken, cause: ",
        said,
    )


@pytest.mark.parametrize(("first", "second"), [(5, 9), (9, 5)])
def test_the_cause_is_that_of_the_unit_that_ended_first(first: int, second: int) -> None:
    said = told(
        n0=run_of(unit_of(0), 10, first, MEMORY if first < second else CONNECT),
        n1=run_of(unit_of(1), 10, second, CONNECT if first < second else MEMORY),
    )
    host = "n0" if first < second else "n1"
    assert said.startswith(f"a2-cluster-r0: device-memory, cause, on {host} (")


def test_a_symptom_that_came_first_gives_way_to_a_cause() -> None:
    said = told(
        n0=run_of(unit_of(0), 10, 5, PEER),
        n1=run_of(unit_of(1), 10, 9, MEMORY),
    )
    assert said.startswith("a2-cluster-r0: device-memory, cause, on n1 (")


def test_an_older_start_is_not_what_the_last_one_failed_of() -> None:
    said = told(
        n0=[*run_of(unit_of(0), 9, 3, MEMORY), *run_of(unit_of(0), 10, 9, PEER)],
        n1=run_of(unit_of(1), 10, 9, TAKEN),
    )
    assert said.startswith("a2-cluster-r0: zmq-port-taken, cause, on n1 (")


def test_what_the_engine_itself_writes_belongs_to_its_run() -> None:
    journal = [*run_of(unit_of(0), 10, 9, PEER), *run_of(unit_of(0), 11, 9, PEER)]
    files = ["[ERROR] HCCL(1,):2026-11-21-10:00:05.000.000 EJ0002: network port is down"]
    last, first = judging.judge(judging.Log(journal, files))
    assert last.cause is None
    assert first.cause is not None


def test_one_archive_holds_all_nodes_and_the_plan(diagnose) -> None:
    result, _said, output = diagnose()
    found = texts(Path(result["archive"]))
    assert {"report.txt", "plan.json", "reports/preflight.json", "n0/units.json"} <= {*found}
    assert SECRET not in "".join(found.values())
    assert json.loads(found["reports/verified-plan.json"])["argv"][:2] == ["vllm", "--api-key"]
    assert os.stat(result["archive"]).st_mode & 0o777 == 0o600
    assert not (output / ".diagnose").exists()


def test_check_mode_writes_nothing(diagnose) -> None:
    result, said, output = diagnose(check_mode=True)
    assert "archive" not in result
    assert "no known failure" in said
    assert not list(output.glob("diagnose-*"))


def test_a_module_that_broke_is_a_line(diagnose) -> None:
    _result, said, _output = diagnose(failed=True, msg="Traceback: boom")
    assert "n0: not asked: Traceback: boom" in said


def test_a_broken_archive_is_a_line(diagnose, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "archive", lambda _root, path: path.write_bytes(b"\x1f\x8bx"))
    result, said, _output = diagnose()
    assert "n0: its archive cannot be read" in said
    assert "n0/units.json" not in texts(Path(result["archive"]))


def test_a_member_outside_of_the_archive_is_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        for name in ("../up", "/etc/x", "fine"):
            member = tarfile.TarInfo(name)
            tar.addfile(member)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(link)
    assert [name for name, _data in archive_io.members(tmp_path / "evil.tar.gz")] == ["fine"]
