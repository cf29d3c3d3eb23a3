"""A node with emulated NPUs."""

from __future__ import annotations

from pathlib import Path

from lab.emulators import ascend_tools
from tests.unit.emulated_node import EmulatedNode

CAPTURES = Path(__file__).parent / "captures"


def capture(name: str) -> str:
    return (CAPTURES / f"{name}.txt").read_bytes().decode()


class NpuNode(EmulatedNode):
    tools = ascend_tools.TOOLS

    def make(self, family: str = "a2", node: int = 0) -> None:
        self.write(ascend_tools.make_state(family, node=node))
