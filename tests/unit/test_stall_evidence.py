"""stall_evidence: what it saves of processes and commands, within its bounds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import stall_evidence
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_evidence import (
    KEPT,
    Commands,
    descendants,
    entries,
    parents,
    parse_roots,
    process_text,
    read_text,
    save,
)

SHOWN = """\
Id=muster-a.service
MainPID=70

Id=muster-b.service
MainPID=0
"""
STAT = {1: 0, 70: 1, 71: 70, 80: 1, 81: 80, 82: 81}


def test_the_processes_of_a_unit_are_those_below_it_and_below_its_container() -> None:
    files = {f"/proc/{pid}/stat": f"{pid} (a (b) c) S {parent} 1" for pid, parent in STAT.items()}
    names = [*map(str, STAT), "self", "999"]
    known = parents(lambda path: files.get(path, ""), names)
    assert known == STAT
    units = {"muster-a": "muster-a.service", "muster-b": "muster-b.service"}
    first = parse_roots(f"{SHOWN}\n\n/muster-a 80\nError: No such object: muster-b\n", units)
    assert first == {"muster-a.service": [70, 80], "muster-b.service": []}
    assert descendants(known, first["muster-a.service"]) == [70, 71, 80, 81, 82]


def test_a_stopped_process_shows_as_one() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process.send_signal(signal.SIGSTOP)
        text, deadline = "", time.monotonic() + 5
        while "(stopped)" not in text and time.monotonic() < deadline:
            text = process_text(process.pid, read_text, entries(f"/proc/{process.pid}/task"))
        assert f"process {process.pid}: Name:" in text
        assert "State: T (stopped)" in text
        assert f"thread {process.pid} python" in text
    finally:
        process.kill()
        process.wait()


def test_what_hangs_is_ended_and_the_end_of_what_is_long_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stall_evidence, "MAX_TEXT", 10)
    commands = Commands(str(tmp_path))
    commands.start("long", ["echo", "0123456789abcdef"])
    commands.start("hangs", ["sh", "-c", "echo begun; exec sleep 60"])
    commands.start("absent", ["no-such-tool-here"])
    began_at = time.monotonic()
    texts = commands.texts(began_at + 1)
    assert time.monotonic() - began_at < 5
    assert set(texts) == {"long", "hangs"}
    assert texts["long"] == "789abcdef\n"
    assert "was killed" in texts["hangs"]
    assert os.listdir(tmp_path) == []


@pytest.fixture
def config(tmp_path):
    commands = {"npu/info.txt": ["echo", "HF_TOKEN=planted"]}
    return {
        "units": ["muster-none.service"],
        "stall": {"evidence": str(tmp_path / "stalls"), "commands": commands, "apis": []},
    }


def test_the_last_few_are_kept_without_secrets(tmp_path, config) -> None:
    place = tmp_path / "stalls"
    for number in range(KEPT + 2):
        (place / f"2020010{number}T000000Z").mkdir(parents=True)
    (place / ".20200109T000000Z").mkdir()
    folder = save(config, "it stands still, API_KEY=planted")
    kept = sorted(os.listdir(place))
    assert len(kept) == KEPT
    assert kept[-1] == os.path.basename(folder)
    assert not [name for name in kept if name.startswith(".")]
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            assert "planted" not in file.read()
    assert (os.stat(folder).st_mode & 0o77, "npu-info.txt" in os.listdir(folder)) == (0, True)


def test_an_engine_that_answers_nonsense_takes_nothing_else_from_what_is_kept(config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"nothing of HTTP\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        config["stall"]["apis"] = [{"unit": "muster-none.service", "url": url}]
        folder = save(config, "it stands still")
        thread.join()
    with open(os.path.join(folder, "muster-none.service.metrics.txt"), encoding="utf-8") as file:
        assert "/metrics does not answer" in file.read()
    assert "npu-info.txt" in os.listdir(folder)
