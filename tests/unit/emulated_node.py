"""What nodes with emulated device tools have in common; the tools run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output

from lab.emulators import state as lab_state

EMULATORS = Path(lab_state.__file__).parent


def call(tool: Callable[[list[str]], int], *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rc = tool(list(arguments))
    return Output(rc, out.getvalue(), err.getvalue())


class EmulatedNode:
    """Owns the state that the emulated tools read, and remembers what they were asked.

    tools are the tools by name, as an emulator has them.
    """

    tools: dict[str, Callable[[list[str]], int]]

    def __init__(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("MUSTER_LAB_STATE", str(tmp_path / "state.json"))
        self._patch = monkeypatch
        self.asked: list[str] = []
        self.make()

    def make(self) -> None:
        """Write the state of a healthy, idle node."""
        raise NotImplementedError

    def write(self, state: dict[str, Any]) -> None:
        lab_state.save_state(state)

    def set(self, path: str, value: Any) -> None:
        state = lab_state.load_state()
        lab_state.set_value(state, path, json.dumps(value))
        self.write(state)

    def answer(self, program: str, *arguments: str) -> Output:
        """What a command of the node prints."""
        return call(self.tools[Path(program).name], *arguments)

    def note(self, argv: list[str]) -> None:
        self.asked.append(" ".join([Path(argv[0]).name, *argv[1:]]))

    def answer_in_process(self, observe: Any) -> None:
        """Spare ask_all an interpreter a call; one after the other, since output is redirected."""

        def ask_all(commands, timeout):
            for argv in commands.values():
                self.note(argv)
            return {name: self.answer(*argv) for name, argv in commands.items()}

        self._patch.setattr(observe, "ask_all", ask_all)
