"""A node with emulated AMD GPUs."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import (
    observe_io as amd_observe,
)

from lab.emulators import amd_tools
from lab.emulators import state as lab_state

EMULATORS = Path(amd_tools.__file__).parent


def say(tool: str, *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rc = amd_tools.TOOLS[tool](list(arguments))
    return Output(rc, out.getvalue(), err.getvalue())


class AmdNode:
    """Owns the state that the emulated tools read, and remembers what they were asked."""

    def __init__(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("MUSTER_LAB_STATE", str(tmp_path / "state.json"))
        self._patch = monkeypatch
        self.asked: list[str] = []
        self.make()

    def make(self, family: str = "amd", devices: int = 8) -> None:
        lab_state.save_state(amd_tools.make_state(family, devices))

    def set(self, path: str, value: Any) -> None:
        state = lab_state.load_state()
        lab_state.set_value(state, path, json.dumps(value))
        lab_state.save_state(state)

    def run_in_process(self) -> None:
        """Spare the tests an interpreter a call. One after the other, as output is redirected."""

        def ask_all(commands, timeout):
            self.asked += [" ".join([Path(argv[0]).name, *argv[1:]]) for argv in commands.values()]
            return {query: say(Path(argv[0]).name, *argv[1:]) for query, argv in commands.items()}

        self._patch.setattr(amd_observe, "ask_all", ask_all)
