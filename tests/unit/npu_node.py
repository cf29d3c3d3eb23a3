"""A node with emulated NPUs, for tests that run in this process."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as npu_observe,
)

from lab.emulators import ascend_tools
from lab.emulators import state as lab_state

EMULATORS = Path(ascend_tools.__file__).parent
CAPTURES = Path(__file__).parent / "captures"


def capture(name: str) -> str:
    return (CAPTURES / f"{name}.txt").read_bytes().decode()


def call(tool, *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rc = tool(list(arguments))
    return Output(rc, out.getvalue(), err.getvalue())


class NpuNode:
    """Owns the state that the emulated tools read, and remembers what they were asked."""

    def __init__(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("MUSTER_LAB_STATE", str(tmp_path / "state.json"))
        self._patch = monkeypatch
        self.asked: list[str] = []
        self.make()

    def make(self, family: str = "a2", node: int = 0) -> None:
        self.write(ascend_tools.make_state(family, node=node))

    def write(self, state: dict[str, Any]) -> None:
        lab_state.save_state(state)

    def set(self, path: str, value: Any) -> None:
        state = lab_state.load_state()
        lab_state.set_value(state, path, json.dumps(value))
        self.write(state)

    def run_in_process(self) -> None:
        """Spare the tests an interpreter a call, of which a node needs dozens."""

        one_at_a_time = threading.Lock()  # they share this process's standard output

        def run(argv: list[str], timeout: float) -> Output:
            self.asked.append(" ".join([Path(argv[0]).name, *argv[1:]]))
            with one_at_a_time:
                return call(ascend_tools.TOOLS[Path(argv[0]).name], *argv[1:])

        self._patch.setattr(npu_observe, "run", run)
