# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_uninstall
short_description: Remove what a deployment has on a node
version_added: "0.1.0"
description:
  - Removes the files of units, agents and the floating address with their state and records, and on
    request images, environments, caches and logs. Programs and records that deployments share go
    with the last of them.
  - What is removed is found by the names that Muster gives. Everything else stays, and so do
    weights, wherever they lie, and what is mounted.
  - What says whose things are goes last, so that another call makes up for one that was cut off.
  - Units are stopped before by M(muster.serving.unit_state), the address by
    M(muster.serving.gateway_address). M(muster.serving.host_tuning) and
    M(muster.serving.docker_config) take back what they changed.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It lists what goes, in its order.
  idempotent:
    support: full
options:
  images:
    description:
      - Remove the images that Muster brought, the environments of engines without a container and
        what made them, and the user of these. What a container is made of stays, and what another
        deployment runs from or was prepared to run from.
    type: bool
    default: false
  caches:
    description: Remove the caches of the deployment's engines, so that its next start is slow.
    type: bool
    default: false
  logs:
    description: Remove the logs that the deployment's engines wrote into files.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Remove what a cluster has on its nodes
  muster.serving.node_uninstall:
    deployment: a2-cluster
    caches: true
"""

RETURN = r"""
removed:
  description: What went, or would go in check mode, as C(kind) and C(name).
  returned: success
  type: list
  elements: dict
stays:
  description: What is left on the node of all that Muster brought, each with C(what) and C(why).
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)
from ansible_collections.muster.serving.plugins.module_utils.node import uninstall, uninstall_io
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "images": {"type": "bool", "default": False},
            "caches": {"type": "bool", "default": False},
            "logs": {"type": "bool", "default": False},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module, changes=True)
    params, files = module.params, NodeFiles()
    wishes = uninstall.Wishes(params["images"], params["caches"], params["logs"])
    try:
        seen = uninstall_io.look(files, params["deployment"], wishes)
        decision = uninstall.decide(seen, params["deployment"], wishes)
        if uninstall.needs_reload(decision):
            refuse_reload(files, uninstall.services_of(decision))
        late = {} if module.check_mode else uninstall_io.remove(files, seen, decision)
    except (uninstall_io.UninstallError, ReloadError, CommandError, OSError) as error:
        module.fail_json(msg=f"{params['deployment']}: {error}")
    gone = [step for step in decision.steps if step not in late]
    module.exit_json(
        changed=bool(gone),
        removed=[step._asdict() for step in gone],
        stays=[stay._asdict() for stay in [*decision.stays, *late.values()]],
        diff={"before": "".join(f"{step.kind} {step.name}\n" for step in gone), "after": ""},
    )


if __name__ == "__main__":
    main()
