"""Old log files are removed before a unit starts, on a real file system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import bound_logs
from hypothesis import given
from hypothesis import strategies as st

LOG = "debug/plog/plog-{}_2026.log"


def write(folder: Path, number: int, size: int) -> Path:
    """Make the log of a process that wrote last at this time."""
    path = folder / LOG.format(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (number, number))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_newest_stay(tmp_path: Path) -> None:
    paths = [write(tmp_path, number, 10) for number in range(5)]
    removed = bound_logs.bound(str(tmp_path), max_bytes=25)
    assert sorted(removed) == [str(path) for path in paths[:3]]
    assert names(tmp_path) == [path.name for path in paths[3:]]
    assert bound_logs.bound(str(tmp_path), max_bytes=25) == []


def test_many_small_files_are_bounded_by_their_number(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path, number, 1)
    bound_logs.bound(str(tmp_path), max_files=4)
    assert len(names(tmp_path)) == 4


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    kept = write(outside, 1, 100)
    logs = tmp_path / "logs"
    write(logs, 2, 100)
    (logs / "folder").symlink_to(outside)
    (logs / "file").symlink_to(kept)
    os.mkfifo(logs / "pipe")
    bound_logs.bound(str(logs), max_bytes=0)
    assert kept.exists()
    assert (logs / "file").is_symlink()
    assert names(logs) == ["file"]


@pytest.mark.parametrize("there", [True, False])
def test_as_a_program_it_fails_no_start(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "plog"
    if there:
        write(folder, 1, 10)
    ran = subprocess.run(
        [sys.executable, bound_logs.__file__, str(folder)], capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert folder.exists() == there


@given(
    sizes=st.lists(st.integers(0, 50), max_size=12),
    limit=st.integers(0, 200),
    count=st.integers(0, 12),
)
def test_what_is_left_is_within_bounds_and_newer_than_all_that_went(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, count: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    for number, size in enumerate(sizes):
        write(folder, number, size)
    removed = bound_logs.bound(str(folder), limit, count)
    left = list(bound_logs.files_below(str(folder)))
    assert sum(one.size for one in left) <= limit
    assert len(left) <= count
    gone = {int(Path(path).name.split("-")[1].split("_")[0]) for path in removed}
    assert all(one.mtime > max(gone) for one in left if gone)
