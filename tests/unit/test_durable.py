"""State on a node is whole and on disk, whenever its writer ends; one helper writes all of it."""

import ast
import contextlib
import json
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import durable_io
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.programs import stall_evidence
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files
from ansible_collections.muster.serving.plugins.modules import unit_state

from tests.conftest import ROOT
from tests.unit.test_unit_files import unit

# What writes files past the helper, and why none of it is state that a power cut may take.
NO_STATE = {
    "accuracy/client_io.py _keep": "what an operator wants to read, made anew by the next run",
    "accuracy/client_io.py _write": "what the harness reads while it runs",
    "common/python_env_io.py make": "an environment counts once its stamp is there",
    "common/durable_io.py replace": "the helper",
    "common/files_io.py write_kernel": "/proc and /sys",
    "engine/guidellm_io.py page_of": "a page that is read back at once",
    "engine/bench_io.py start": "what a benchmark needs while it runs",
    "network/firewall_io.py confirm": "what is on trial, in /run: it is gone with the boot",
    "network/sockets_io.py detach": "/proc",
    "network/sockets_io.py _close_all_but": "/dev/null",
    "programs/stall_evidence.py start": "a file without a name, for a command's output",
    "programs/stall_evidence.py save": "a folder of files that the helper has written",
    "units/diagnosis_io.py __init__": "an archive that the run fetches and removes",
    "units/gateway_access_io.py make_own": "what openssl reads and writes; the helper keeps it",
    "units/run_lock_io.py _alone": "an empty file in /run, for flock alone",
}
RENAMES = {"rename", "replace", "renames", "move", "copy", "copyfile", "copy2", "atomic_move"}
TEMPORARY = {"mkstemp", "NamedTemporaryFile", "TemporaryFile"}
OPENED_TO_WRITE = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND"}


def writes(call: ast.Call) -> bool:
    """Whether a call makes, changes or moves a file."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name in ("write_text", "write_bytes") or name in TEMPORARY:
        return True
    if name in RENAMES:
        # text.replace() and a dataclass's are other things.
        return owner in ("os", "shutil") or name == "atomic_move"
    if name == "open" and owner == "os":
        flags = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
        return bool(flags & OPENED_TO_WRITE)
    if name == "open":
        mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
        if mode is None and owner != "tarfile":
            mode = call.args[1] if len(call.args) > 1 and isinstance(call.func, ast.Name) else None
        return isinstance(mode, ast.Constant) and bool(set(str(mode.value)) & set("wax+"))
    return False


def writers(tree: ast.AST, function: str = "") -> set[str]:
    """Names of the functions in which files are written."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Call) and writes(node):
            found.add(function)
        found |= writers(node, inside)
    return found


def test_all_state_on_a_node_is_written_by_the_helper() -> None:
    found = set()
    for folder in ("module_utils", "modules"):
        for path in sorted((ROOT / "plugins" / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            name = path.relative_to(ROOT / "plugins").as_posix().removeprefix("module_utils/")
            found |= {f"{name} {function}" for function in writers(tree)}
    assert found == set(NO_STATE)


@pytest.mark.parametrize(
    "code",
    [
        "open('/x', 'w')",
        "open('/x', mode='a')",
        "os.open('/x', os.O_CREAT | os.O_WRONLY)",
        "os.replace(a, b)",
        "shutil.copy(a, b)",
        "Path('/x').write_text('')",
        "module.atomic_move(a, b)",
        "tempfile.mkstemp()",
    ],
)
def test_the_walk_knows_each_way_to_write(code: str) -> None:
    assert writers(ast.parse(f"def f():\n    {code}")) == {"f"}


def test_roles_write_no_file_by_tasks() -> None:
    """Ansible's own modules rename without a sync.

    What observability writes for Prometheus is no state: a run that finds it broken writes it anew.
    """
    tasks = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")]
    tasks = [path for path in tasks if path.parts[-3] != "observability"]
    assert len(tasks) > 10
    for path in tasks:
        text = path.read_text(encoding="utf-8")
        for module in ("copy", "template", "lineinfile", "blockinfile", "get_url"):
            assert f"ansible.builtin.{module}:" not in text, path


@pytest.mark.parametrize("survive", range(4))
def test_a_unit_counts_as_installed_when_all_its_files_are_there(
    tmp_path: Path, survive: int
) -> None:
    """What a run that was cut off has written looks to the next one like nothing."""
    host = unit_state.Host(SimpleNamespace(check_mode=False))
    files = NodeFiles(str(tmp_path))
    written: list[str] = []

    def write(path: str, text: str, mode: int) -> None:
        if len(written) == survive:
            raise OSError("the power is gone")
        written.append(path)
        files.write(path, text, mode)

    host.write = write
    with contextlib.suppress(OSError):
        unit_state.write(host, unit(), {"deployment": "a2-cluster", "effective": {}})
    path = unit_files.state_path(unit()["name"])
    assert files.exists(path) is (path in written)
    if path in written:
        assert {unit_files.env_path(unit()), unit_files.unit_path(unit()["systemd_unit"])} <= {
            *written[: written.index(path)]
        }


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is synced and renamed, by inode, in its order."""
    done: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(("sync", os.fstat(handle).st_ino))
        fsync(handle)

    def renamed(source: str, target: str) -> None:
        done.append(("rename", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return done


def test_what_is_renamed_into_place_was_synced_first_and_its_folder_after(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    NodeFiles(str(tmp_path)).write("/etc/muster/c.env", "KEY=1\n", 0o600)
    file, folder = tmp_path / "etc/muster/c.env", tmp_path / "etc/muster"
    inode = file.stat().st_ino
    assert steps[-3:] == [("sync", inode), ("rename", inode), ("sync", folder.stat().st_ino)]
    # A folder that was made is known to the one above it.
    assert [one for _what, one in steps[:-3]] == [
        path.stat().st_ino for path in (tmp_path, tmp_path / "etc")
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_evidence_is_synced_before_its_folder_has_a_name(
    tmp_path: Path, steps: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_evidence, "collect", lambda *_args: {"why.txt": "silent\n"})
    folder = stall_evidence.save({"stall": {"evidence": str(tmp_path / "stalls")}}, "silent")
    assert os.listdir(folder) == ["why.txt"]
    assert ("sync", os.stat(f"{folder}/why.txt").st_ino) in steps


def test_a_file_system_that_syncs_no_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    durable_io.replace(str(tmp_path / "a"), "1")
    assert (tmp_path / "a").read_text() == "1"


def test_only_old_leftovers_of_writers_are_removed(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".muster-abcdefgh", ".muster-12345678", ".b"))
    for path in (old, young, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    durable_io.replace(str(tmp_path / "a"), "1")
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, other.name, "a"])


# Replaces a file again and again in a child, which is killed; the parent reads what is there.
KILLER = """
import json, os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import durable_io
path, count, seed = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
number, torn, lost = 0, [], []
durable_io.replace(path, json.dumps({"number": 0, "filler": ""}))
for kill in range(count):
    said, says = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            number += 1
            text = json.dumps({"number": number, "filler": "x" * 200000})
            durable_io.replace(path, text)
            os.write(says, b"%d " % number)
    os.close(says)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while True:
        piece = os.read(said, 65536)
        if not piece:
            break
        told += piece
    os.close(said)
    promised = int((told.split() or [b"%d" % number])[-1])
    try:
        with open(path) as file:
            number = json.load(file)["number"]
    except (OSError, ValueError) as error:
        torn.append(repr(error))
        continue
    if number < promised:
        lost.append([promised, number])
left = sum(name.startswith(".muster-") for name in os.listdir(os.path.dirname(path)))
print(json.dumps({"torn": torn, "lost": lost, "left": left, "number": number}))
"""


def test_a_writer_that_is_killed_anywhere_leaves_a_whole_file(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)  # noqa: S311
    source = Path(durable_io.__file__).parent
    program = [sys.executable, "-c", KILLER, str(source), str(tmp_path / "state.json")]
    done = subprocess.run(
        [*program, "120", str(seed)], capture_output=True, text=True, timeout=120, check=True
    )
    seen = json.loads(done.stdout)
    assert (seen["torn"], seen["lost"]) == ([], []), f"seed {seed}"
    # Some were killed within a write, and some writes came through: else nothing was tried.
    assert seen["left"] > 0
    assert seen["number"] > 0
    for name in os.listdir(tmp_path):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    durable_io.replace(str(tmp_path / "state.json"), "{}")
    assert os.listdir(tmp_path) == ["state.json"]


def test_only_what_a_write_would_change_nothing_of_is_held(tmp_path: Path) -> None:
    files = NodeFiles(str(tmp_path))
    files.write("/etc/a", "one\n", 0o600)
    assert files.holds("/etc/a", "one\n", 0o600)
    assert not files.holds("/etc/a", "two\n", 0o600)
    assert not files.holds("/etc/a", "one\n", 0o644)
    assert not files.holds("/etc/absent", "one\n", 0o600)
    (tmp_path / "etc/link").symlink_to("a")
    assert not files.holds("/etc/link", "one\n", 0o600)
