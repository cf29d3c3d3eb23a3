# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of the pyinfra deploy: the file of PEER_FILE lists them with their data.

With PEER_RECORD, what the nodes answer goes to that file, one JSON line a command. Hosts that
answer so again take as long as the nodes took.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.ssh import SSHConnector

hosts = [tuple(one) for one in json.loads(Path(os.environ["PEER_FILE"]).read_text())]
ask_node = SSHConnector.run_shell_command
ask_recording = FakeConnector.run_shell_command


def text_of(command: Any) -> str:
    return command if isinstance(command, str) else command.get_masked_value()


def asked_and_kept(self: SSHConnector, command: Any, *more: Any, **arguments: Any) -> Any:
    begun = time.monotonic()
    ok, output = ask_node(self, command, *more, **arguments)
    line = {
        "host": self.host.name,
        "command": text_of(command),
        "success": ok,
        "stdout": output.stdout_lines,
        "stderr": output.stderr_lines,
        "seconds": round(time.monotonic() - begun, 3),
    }
    with Path(os.environ["PEER_RECORD"]).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    return ok, output


def answered_in_time(self: FakeConnector, command: Any, *more: Any, **arguments: Any) -> Any:
    # A command that was not recorded ends the run here, where pyinfra would say that it succeeded.
    gevent.sleep(self.data["fake_responses"][text_of(command)]["seconds"])
    return ask_recording(self, command, *more, **arguments)


if os.environ.get("PEER_RECORD"):
    SSHConnector.run_shell_command = asked_and_kept
FakeConnector.run_shell_command = answered_in_time
