"""A node with emulated NVIDIA GPUs."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import (
    observe_io as gpu_observe,
)

from lab.emulators import nvidia_tools
from lab.emulators import state as lab_state

EMULATORS = Path(nvidia_tools.__file__).parent


def say(tool: str, *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rc = nvidia_tools.TOOLS[tool](list(arguments))
    return Output(rc, out.getvalue(), err.getvalue())


class NvidiaNode:
    """Owns the state that the emulated tools read, and remembers what was asked."""

    def __init__(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("MUSTER_LAB_STATE", str(tmp_path / "state.json"))
        self._patch = monkeypatch
        self.asked: list[str] = []
        self.fabric_manager = "active"
        self.services: dict[str, str] = {}  # the others, by their names
        self.imex = ""  # what nvidia-imex-ctl -N prints
        self.make()

    def make(self, family: str = "nvidia", devices: int = 8) -> None:
        lab_state.save_state(nvidia_tools.make_state(family, devices))

    def set(self, path: str, value: Any) -> None:
        state = lab_state.load_state()
        lab_state.set_value(state, path, json.dumps(value))
        lab_state.save_state(state)

    def run_in_process(self) -> None:
        """Spare the tests an interpreter a call. One after the other, as output is redirected."""

        def ask_all(commands, timeout):
            self.asked += [" ".join([Path(argv[0]).name, *argv[1:]]) for argv in commands.values()]
            return {name: self._answer(*argv) for name, argv in commands.items()}

        self._patch.setattr(gpu_observe, "ask_all", ask_all)

    def _answer(self, program: str, *arguments: str) -> Output:
        if program == "systemctl":
            state = self.services.get(arguments[-1], self.fabric_manager)
            return Output(0 if state == "active" else 3, state, "")
        if program == "nvidia-imex-ctl":
            return Output(0, self.imex, "")
        return say(Path(program).name, *arguments)
