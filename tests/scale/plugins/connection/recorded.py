# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers modules with what a node has answered before, or keeps what it answers now."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.plugins.connection import ConnectionBase

from tests.scale.recording import Recording, kind_of

DOCUMENTATION = """
name: recorded
short_description: Answers modules with recorded answers
description:
  - Plays back what nodes answered, so that a run of many hosts needs the controller alone.
  - Without O(names) it asks the real node over SSH and keeps its answers.
author: Muster contributors
extends_documentation_fragment: connection_pipelining
options:
  folder:
    description: Where the recording is.
    required: true
    vars: [{name: recorded_folder}]
  node:
    description: The recorded node that this host stands for.
    vars: [{name: inventory_hostname}, {name: recorded_node}]
  names:
    description: By recorded name, what takes its place. Empty to record.
    type: dict
    default: {}
    vars: [{name: recorded_names}]
  counts:
    description: A folder for how often each host was asked. New for each run.
    vars: [{name: recorded_counts}]
    env: [{name: RECORDED_COUNTS}]
  times:
    description: Whether an answer takes as long as it took the node. Otherwise it takes no time.
    type: bool
    default: false
    env: [{name: RECORDED_TIMES}]
  remote_addr:
    description: Where the real node is.
    vars: [{name: ansible_host}]
  key:
    description: The key to it.
    vars: [{name: ansible_ssh_private_key_file}]
  arguments:
    description: Further arguments of ssh.
    default: ""
    vars: [{name: ansible_ssh_common_args}]
"""


class Connection(ConnectionBase):
    transport = "recorded"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        recording = Recording(Path(self.get_option("folder")))
        node, kind = self.get_option("node"), kind_of(in_data)
        names = self.get_option("names")
        if names:
            answer = recording.answer(node, kind, self._count(kind), names)
            if self.get_option("times"):
                time.sleep(answer["seconds"])
        else:
            answer = self._ask(cmd, in_data)
            recording.keep(node, kind, answer)
        return answer["rc"], answer["stdout"].encode(), answer["stderr"].encode()

    def _count(self, kind: str) -> int:
        """Return how many calls of the kind this host has had in this run."""
        folder = Path(self.get_option("counts"))
        # Each task is a process of its own.
        with (folder / f"{self.get_option('remote_addr')} {kind}").open("ab") as file:
            number = file.tell()
            file.write(b".")
        return number

    def _ask(self, cmd: str, in_data: bytes | None) -> dict[str, Any]:
        ssh = ["ssh", "-i", self.get_option("key"), *shlex.split(self.get_option("arguments"))]
        begun = time.monotonic()
        done = subprocess.run(
            [*ssh, f"root@{self.get_option('remote_addr')}", cmd],
            input=in_data or b"",
            capture_output=True,
            check=False,
        )
        return {
            "rc": done.returncode,
            "stdout": done.stdout.decode(),
            "stderr": done.stderr.decode(),
            "seconds": round(time.monotonic() - begun, 3),
        }

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)

    def close(self) -> None:
        self._connected = False
