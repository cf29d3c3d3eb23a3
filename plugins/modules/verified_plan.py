# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verified_plan
short_description: Keep on a node what was verified there, or read it
version_added: "0.1.0"
notes:
  - An action of the same name lets the file say by whom it was verified, and by what run.
author:
  - Muster contributors (!UNKNOWN)
description:
  - Keeps the units of a node's replicas as the plan has them, in
    C(/var/lib/muster/verified/DEPLOYMENT.json), so that they can start again without a registry, a
    download or a plan.
  - What runs otherwise than planned is not kept, since it is not the plan that was verified.
  - With the plan it keeps when that was and which runs of the units it was, as systemd names them.
    M(muster.serving.node_checks) tells by it whether the same still runs.
  - Secrets are named by their files alone.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the file before and after.
  idempotent:
    support: full
    details: The time and the runs are kept anew each time, and are no change.
options:
  host:
    description: The node's inventory name, to know its own units.
    type: str
    required: true
  plan:
    description:
      - What to keep, of the plan its C(engine), C(endpoint), C(replicas), C(units) and C(links), as
        far as they are of the node's replicas. Without it the file is read.
    type: dict
  told:
    description: What an operator is to read of it in the file besides the plan's own C(told).
    type: dict
    default: {}
  asked:
    description:
      - Whether the units have answered all that their users ask. Where they have only started, the
        next M(muster.serving.node_checks) tells that it is not known of these runs.
    type: bool
    default: true
  which:
    description:
      - What is read; V(before) for the other plan that was verified before the present one, which
        the file keeps, too.
    type: str
    choices: [verified, before]
    default: verified
"""

EXAMPLES = r"""
- name: Read what was verified here
  muster.serving.verified_plan:
    deployment: a2-cluster
    host: "{{ inventory_hostname }}"
  register: verified
"""

RETURN = r"""
deployment:
  description: Name of the deployment.
  returned: success
  type: str
plan:
  description: What the file holds, as it was given; null where there is none.
  returned: success
  type: dict
why:
  description: Why there is no plan to read, and what to do; empty where there is one.
  returned: success
  type: str
told:
  description: With the plan that was read, O(told) and the time (C(verified)).
  returned: success
  type: dict
problems:
  description:
    - With O(plan), how the running units differ from it; it is then not kept. Without, why units
      cannot start as they were verified.
  returned: success
  type: list
  elements: dict
  contains:
    unit:
      description: Name of the unit.
      type: str
    text:
      description: What is wrong.
      type: str
"""

import json
from typing import Any, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    run_lock_io,
    unit_files,
    unit_io,
    verified,
    verified_io,
)


def differing(wanted: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Return how the installed units differ from the planned ones."""
    problems = []
    for name, effective in wanted.items():
        state = unit_io.installed(name)
        if state is None:
            problems.append({"unit": name, "text": "is not installed"})
        else:
            rows = unit_files.differences(state["effective"], effective)
            problems += [
                {"unit": name, "text": f"{row['name']} differs from the plan"} for row in rows
            ]
    return problems


def running(units: Sequence[unit_files.Unit]) -> dict[str, str]:
    """Return by unit systemd's id of its present run."""
    shown = unit_io.show([unit["systemd_unit"] for unit in units])
    return {
        unit["name"]: shown.get(unit["systemd_unit"], {}).get("InvocationID", "") for unit in units
    }


def missing(
    files: NodeFiles, unit: unit_files.Unit, engines: Mapping[str, str], which: str
) -> list[dict[str, str]]:
    """Return why a unit cannot start as it was verified, None when it can."""
    name = unit["name"]
    try:
        present = verified.engine_ids(unit_io.desired([unit]))[name]
        texts = [verified.engine_problem(engines.get(name), present, which)]
    except (unit_io.UnitError, OSError) as error:
        # A secret is gone, or Docker does not answer.
        texts = [str(error)]
    if not unit_files.in_venv(unit):
        texts += verified_io.mount_problems(files, unit["mounts"])
    return [{"unit": name, "text": text} for text in texts if text]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "plan": {"type": "dict"},
            "told": {"type": "dict", "default": {}},
            "asked": {"type": "bool", "default": True},
            "which": {"type": "str", "choices": ["verified", "before"], "default": "verified"},
        },
        supports_check_mode=True,
    )
    files = NodeFiles()
    deployment, host = module.params["deployment"], module.params["host"]
    path = verified.record_path(deployment)
    given: dict[str, Any] | None = None
    changed, diff = False, {"before": "", "after": ""}
    problems: list[dict[str, str]] = []
    try:
        before = files.read(path)
        if module.params["plan"] is not None:
            given = verified.kept_part(module.params["plan"])
            wanted = unit_io.desired(verified.own_units(given, host))
            problems = differing(wanted)
            units = verified.own_units(given, host) if module.params["asked"] else []
            told = {
                **module.params["plan"].get("told", {}),
                **module.params["told"],
                "verified": run_lock_io.now().clock,
            }
            kept = verified.read_record(before)
            after = verified.record_text(
                given, verified.engine_ids(wanted), running(units), told, kept
            )
            # That the same answered once more is no change of the node.
            if not problems and not verified.same_plan(kept, json.loads(after)):
                changed, diff = True, {"before": before or "", "after": after}
            if not problems and not module.check_mode:
                files.write(path, after, 0o600)
                before = after
        record = verified.read_record(before) or {}
        if module.params["which"] == "before":
            record = verified.before(record) or {}
        plan = record.get("plan")
        if given is None and plan:
            for unit in verified.own_units(plan, host):
                problems += missing(files, unit, record["engines"], module.params["which"])
    except (unit_io.UnitError, OSError, KeyError, TypeError) as error:
        module.fail_json(msg=f"{path}: {error}")
    module.exit_json(
        changed=changed,
        deployment=deployment,
        plan=plan,
        why="" if plan else verified.why_none(deployment, before, module.params["which"]),
        told=record.get("told") or {},
        problems=problems,
        diff=diff,
    )


if __name__ == "__main__":
    main()
