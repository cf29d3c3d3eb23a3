# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/cluster_diagnosis.py has the documentation."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.diagnosis_io import configuration
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import statistics
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.failure import archive_io, diagnosis

# Where playbooks/diagnose.yml puts the nodes' archives, below the output folder.
FETCHED = ".diagnose"


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "str", "required": True},
        "output_dir": {"type": "path", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, hosts = plain(args["plan"]), plain(args["hosts"])
        output = Path(args["output_dir"])
        seen = registered(variables, hosts, args["results"])
        archives = {
            host: output / FETCHED / f"{host}.tar.gz" for host in hosts if "archive" in seen[host]
        }
        nodes: dict[str, diagnosis.Node] = {}
        for host in hosts:
            try:
                logs = archive_io.logs_of(archives[host]) if host in archives else {}
                nodes[host] = diagnosis.judge(seen[host], logs)
            except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
                nodes[host] = f"its archive cannot be read: {error}"
                del archives[host]
        lines = diagnosis.report(nodes)
        show("\n".join(lines))
        data = {host: diagnosis.as_data(node) for host, node in nodes.items()}
        result = {"nodes": data, "ansible_stats": statistics("muster_diagnose", data)}
        if self._task.check_mode:
            return result

        now = datetime.datetime.now(datetime.UTC)
        target = output / f"diagnose-{now:%Y%m%dT%H%M%SZ}.tar.gz"
        texts = {
            "report.txt": "\n".join(lines) + "\n",
            "report.json": json.dumps(data, indent=2) + "\n",
            "plan.json": json.dumps(redaction.value(plan), indent=2) + "\n",
        }
        try:
            output.mkdir(parents=True, exist_ok=True)
            for path in sorted(output.glob("*.json")):
                text = configuration(path.read_text(encoding="utf-8"))
                texts[f"reports/{path.name}"] = redaction.lines(text)
            # Logs are private to whoever runs Muster.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            archive_io.merge(target, archives, texts)
            shutil.rmtree(output / FETCHED, ignore_errors=True)
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleActionFail(f"{target} cannot be written: {error}") from None
        show(f"\nAll of it, without secrets and prompts: {target}")
        return {**result, "archive": str(target)}
