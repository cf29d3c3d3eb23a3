"""A node with emulated AMD GPUs."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output

from lab.emulators import amd_tools
from tests.unit.emulated_node import EmulatedNode, call


def say(tool: str, *arguments: str) -> Output:
    """What an emulated tool answers, without a process."""
    return call(amd_tools.TOOLS[tool], *arguments)


class AmdNode(EmulatedNode):
    tools = amd_tools.TOOLS

    def make(self, family: str = "amd", devices: int = 8) -> None:
        self.write(amd_tools.make_state(family, devices))
