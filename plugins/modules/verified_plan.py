# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verified_plan
short_description: Keep on a node what was verified there, or read it
version_added: "0.1.0"
author:
  - Muster contributors (@muster)
description:
  - Keeps the units of a node's replicas as the plan has them, in
    C(/var/lib/muster/verified/DEPLOYMENT.json), so that they can start again without a registry, a
    download or a plan.
  - What runs otherwise than planned is not kept, since it is not the plan that was verified.
  - Secrets are named by their files alone.
attributes:
  check_mode:
    support: full
    description: Tells whether the file would change.
  diff_mode:
    support: full
    description: Shows the file before and after.
  idempotent:
    support: full
    description: Writes the file only when it differs.
options:
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  host:
    description: The node's inventory name, to know its own units.
    type: str
    required: true
  plan:
    description:
      - What to keep, of the plan its C(engine), C(endpoint), C(replicas), C(units) and C(links), as
        far as they are of the node's replicas. Without it the file is read.
    type: dict
"""

EXAMPLES = r"""
- name: Read what was verified here
  muster.serving.verified_plan:
    deployment: a2-cluster
    host: "{{ inventory_hostname }}"
  register: verified
"""

RETURN = r"""
plan:
  description: What the file holds, as it was given; null where there is none.
  returned: success
  type: dict
digest:
  description: Equal on all nodes on which the same was verified.
  returned: success
  type: str
problems:
  description:
    - With O(plan), how the running units differ from it; it is then not kept. Without, why they
      cannot start as they were verified.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils import (
    rank_host,
    rank_unit,
    verified,
)
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles


def differing(wanted: dict[str, dict[str, str]]) -> list[str]:
    """How the installed units differ from the planned ones."""
    problems = []
    for name, effective in wanted.items():
        state = rank_host.installed(name)
        if state is None:
            problems.append(f"{name} is not installed")
        else:
            rows = rank_unit.differences(state["effective"], effective)
            problems += [f"{name}: {row['name']} differs from the plan" for row in rows]
    return problems


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "plan": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    files = NodeFiles()
    path = verified.record_path(module.params["deployment"])
    given: dict[str, Any] | None = module.params["plan"]
    changed, problems, diff = False, [], {"before": "", "after": ""}
    try:
        before = files.read(path)
        if given is not None:
            wanted = rank_host.desired(verified.own_units(given, module.params["host"]))
            problems = differing(wanted)
            after = verified.record_text(given, verified.engine_ids(wanted))
            if not problems and before != after:
                changed, diff = True, {"before": before or "", "after": after}
                if not module.check_mode:
                    files.write(path, after, 0o600)
                    before = after
        record = verified.read_record(before) or {}
        plan = record.get("plan")
        if given is None and plan:
            units = verified.own_units(plan, module.params["host"])
            present = verified.engine_ids(rank_host.desired(units))
            problems = verified.engine_problems(record["engines"], present)
    except (rank_host.RankError, OSError, KeyError, TypeError) as error:
        module.fail_json(msg=f"{path}: {error}")
    module.exit_json(
        changed=changed, plan=plan, digest=record.get("digest", ""), problems=problems, diff=diff
    )


if __name__ == "__main__":
    main()
