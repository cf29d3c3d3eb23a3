"""What nodes with emulated device tools have in common; the tools run in this process."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices import tools_io

from lab.emulators import state as lab_state

EMULATORS = Path(lab_state.__file__).parent

# What shells, wrappers and libraries do to what a tool prints. The wordy ones add words.
DRESSES: dict[str, Callable[[str], str]] = {
    "colours": lambda text: "\x1b[?25l\x1b[1;32m" + text.replace("\n", "\x1b[0m\n\x1b[K"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "a library's warning": lambda text: (
        "ERROR: ld.so: object 'libjemalloc.so' from LD_PRELOAD cannot be preloaded: ignored.\n"
        + text
    ),
    "a warning after it": lambda text: text + "WARNING: infoROM is corrupted at gpu 0000:DF:00.0\n",
}
WORDY = ("a library's warning", "a warning after it")


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
    # How what the tools print looks like once it has come through a wrapper.
    dress: Callable[[str], str] = staticmethod(str)

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

    def run_in_process(self) -> None:
        """Spare the tests an interpreter a call, of which a node needs dozens."""
        one_at_a_time = threading.Lock()  # they share this process's standard output

        def run(argv: list[str], timeout: float) -> Output:
            self.note(argv)
            with one_at_a_time:
                said = self.answer(*argv)
            return Output(said.rc, self.dress(said.stdout), said.stderr)

        self._patch.setattr(tools_io, "run", run)
