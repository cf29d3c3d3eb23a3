"""A node with emulated NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output

from lab.emulators import nvidia_tools
from tests.unit.emulated_node import EmulatedNode, call


def say(tool: str, *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    return call(nvidia_tools.TOOLS[tool], *arguments)


class NvidiaNode(EmulatedNode):
    """Besides its tools: fabric_manager and services are what systemctl says of units, imex is what
    nvidia-imex-ctl -N prints.
    """

    tools = nvidia_tools.TOOLS

    def __init__(self, tmp_path: Path, monkeypatch) -> None:
        super().__init__(tmp_path, monkeypatch)
        self.fabric_manager = "active"
        self.services: dict[str, str] = {}
        self.imex = ""

    def make(self, family: str = "nvidia", devices: int = 8) -> None:
        self.write(nvidia_tools.make_state(family, devices))

    def answer(self, program: str, *arguments: str) -> Output:
        if program == "systemctl":
            state = self.services.get(arguments[-1], self.fabric_manager)
            return Output(0 if state == "active" else 3, state, "")
        if program == "nvidia-imex-ctl":
            return Output(0, self.imex, "")
        return super().answer(program, *arguments)
