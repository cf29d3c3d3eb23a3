# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller alone; see plugins/modules/cluster_diagnosis.py for the documentation."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.diagnosis_io import configuration
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import plain
from ansible_collections.muster.serving.plugins.plugin_utils.failure import diagnosis

display = Display()

# Where playbooks/diagnose.yml puts the nodes' archives, below the output folder.
FETCHED = ".diagnose"


class ActionModule(ActionBase):
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "plan": {"type": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "results": {"type": "str", "required": True},
                "output_dir": {"type": "path", "required": True},
            }
        )
        plan, hosts = plain(args["plan"]), plain(args["hosts"])
        hostvars = (task_vars or {})["hostvars"]
        output = Path(args["output_dir"])
        seen = {host: plain(hostvars[host].get(args["results"]) or {}) for host in hosts}
        archives = {
            host: output / FETCHED / f"{host}.tar.gz" for host in hosts if "archive" in seen[host]
        }
        told: dict[str, Any] = {}
        for host in hosts:
            told[host] = diagnosis.problem(seen[host])
            if told[host] is None:
                try:
                    logs = diagnosis.logs_of(archives[host]) if host in archives else {}
                    told[host] = diagnosis.judge(seen[host], logs)
                except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
                    told[host] = f"its archive cannot be read: {error}"
                    del archives[host]
        lines = diagnosis.report(told)
        display.display("\n".join(lines))
        result.update(changed=False, nodes={host: _plain(one) for host, one in told.items()})
        if self._task.check_mode:
            return result

        now = datetime.datetime.now(datetime.UTC)
        target = output / f"diagnose-{now:%Y%m%dT%H%M%SZ}.tar.gz"
        texts = {
            "report.txt": "\n".join(lines) + "\n",
            "report.json": json.dumps(result["nodes"], indent=2) + "\n",
            "plan.json": json.dumps(redaction.value(plan), indent=2) + "\n",
        }
        try:
            output.mkdir(parents=True, exist_ok=True)
            for path in sorted(output.glob("*.json")):
                text = configuration(path.read_text(encoding="utf-8"))
                texts[f"reports/{path.name}"] = redaction.lines(text)
            # Logs are for whoever runs Muster, until they pass them on.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            diagnosis.merge(target, archives, texts)
            shutil.rmtree(output / FETCHED, ignore_errors=True)
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleActionFail(f"{target} cannot be written: {error}") from None
        display.display(f"\nAll of it, without secrets and prompts: {target}")
        result["archive"] = str(target)
        return result


def _plain(told: Any) -> Any:
    """A node's part of the report as JSON has it."""
    if isinstance(told, str):
        return {"problem": told}
    return {
        "units": [
            {
                **unit,
                "findings": [
                    {**one.signature._asdict(), "line": one.line, "times": one.times}
                    for one in findings
                ],
            }
            for unit, findings in told
        ]
    }
