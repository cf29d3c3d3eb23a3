import os
import stat
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles


@pytest.fixture
def files(tmp_path):
    return NodeFiles(str(tmp_path))


def mode(files, path) -> int:
    return stat.S_IMODE(os.stat(files.path(path)).st_mode)


def test_a_file_keeps_its_mode_unless_one_is_given(files) -> None:
    files.write("/etc/a", "1")
    assert mode(files, "/etc/a") == 0o644
    files.write("/etc/a", "2", mode=0o600)
    files.write("/etc/a", "3")
    assert (mode(files, "/etc/a"), files.read("/etc/a")) == (0o600, "3")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(files, monkeypatch) -> None:
    files.write("/etc/a", "old")

    def full(*_args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write("/etc/a", "new")
    assert files.read("/etc/a") == "old"
    assert os.listdir(files.path("/etc")) == ["a"]


def test_bytes_that_are_no_text_survive(files) -> None:
    with open(files.path("/a"), "wb") as stream:
        stream.write(b"\xff\n")
    files.write("/b", files.read("/a"))
    with open(files.path("/b"), "rb") as stream:
        assert stream.read() == b"\xff\n"


def test_a_missing_file_is_none_and_may_be_removed(files) -> None:
    files.remove("/nothing")
    assert files.read("/nothing") is None


def test_a_command_says_what_it_did() -> None:
    output = run(["sh", "-c", "echo out; echo err. >&2; exit 3"], timeout=10)
    assert (output.rc, output.stdout, output.text) == (3, "out\n", "err")


def test_a_command_runs_in_the_c_locale(monkeypatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"], timeout=10).stdout == "C\n"


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"sh -c sleep 60 & wait did not end within 0\.2 s"):
        run(["sh", "-c", "sleep 60 & wait"], timeout=0.2)
    assert time.monotonic() - start < 10


def test_a_command_that_is_missing_is_named() -> None:
    with pytest.raises(CommandError, match="/no/such/tool could not be started: No such file"):
        run(["/no/such/tool"], timeout=1)
