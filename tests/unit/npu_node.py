"""A node with emulated NPUs."""

from __future__ import annotations

import threading
from pathlib import Path

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend import (
    observe_io as npu_observe,
)

from lab.emulators import ascend_tools
from tests.unit.emulated_node import EmulatedNode

CAPTURES = Path(__file__).parent / "captures"


def capture(name: str) -> str:
    return (CAPTURES / f"{name}.txt").read_bytes().decode()


class NpuNode(EmulatedNode):
    tools = ascend_tools.TOOLS

    def make(self, family: str = "a2", node: int = 0) -> None:
        self.write(ascend_tools.make_state(family, node=node))

    def run_in_process(self) -> None:
        """Spare the tests an interpreter a call, of which a node needs dozens."""
        one_at_a_time = threading.Lock()  # they share this process's standard output

        def run(argv: list[str], timeout: float) -> Output:
            self.note(argv)
            with one_at_a_time:
                return self.answer(*argv)

        self._patch.setattr(npu_observe, "run", run)
