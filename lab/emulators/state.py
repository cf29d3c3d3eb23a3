# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all emulated tools share: the node's state file, and the faults that a test sets in it.

The state file is /var/lib/muster-lab/state.json or what MUSTER_LAB_STATE names. README.md in this
folder describes its keys.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

State = dict[str, Any]
Device = dict[str, Any]

DEFAULT_PATH = "/var/lib/muster-lab/state.json"


def state_path() -> Path:
    return Path(os.environ.get("MUSTER_LAB_STATE", DEFAULT_PATH))


def load_state() -> State:
    state: State = json.loads(state_path().read_text(encoding="utf-8"))
    return state


def save_state(state: State) -> None:
    """Write atomically: a tool may be reading."""
    path = state_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def set_value(state: State, path: str, text: str) -> None:
    """Set one value by its dotted path; a device is devices.NUMBER, every device devices.*."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    *parents, last = path.split(".")
    targets: list[Any] = [state]
    for name in parents:
        targets = [child for target in targets for child in _children(target, name)]
    for target in targets:
        if last not in target and parents != ["faults"]:
            raise KeyError(path)
        target[last] = value


def _children(target: Any, name: str) -> list[Any]:
    if isinstance(target, list):
        return list(target) if name == "*" else [d for d in target if str(d["id"]) == name]
    return [target[name]]


def present(state: State) -> list[Device]:
    """The devices that the driver still sees."""
    return [device for device in state["devices"] if device["present"]]


class Refused(Exception):
    """The tool says no: text for standard output or standard error, and its exit code."""

    def __init__(self, text: str, *, stderr: bool = False, rc: int = 1) -> None:
        super().__init__(text)
        self.stream = sys.stderr if stderr else sys.stdout
        self.rc = rc


def run_tool(tool: str, command: str, answer: Callable[[State], str]) -> int:
    """Print what the tool answers, or what the state's fault for it makes of that."""
    try:
        state = load_state()
    except (OSError, ValueError) as error:
        print(f"{tool} (lab): no usable state: {error}", file=sys.stderr)
        return 1
    faults = state["faults"]
    fault = faults.get(f"{tool} {command}", faults.get(tool, {}))
    time.sleep(float(fault.get("delay_s", 0)))
    while fault.get("hang"):
        time.sleep(3600)
    if "output" in fault:
        sys.stdout.write(fault["output"])
        return int(fault.get("rc", 0))
    try:
        text = answer(state)
    except Refused as refusal:
        print(refusal, file=refusal.stream)
        return refusal.rc
    sys.stdout.write(text)
    return int(fault.get("rc", 0))
