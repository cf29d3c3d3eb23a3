# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall_info
short_description: Return what a deployment has on a node, and how the rest of its replicas does
version_added: "0.1.0"
description:
  - Finds units, links and the service of a floating address by what is on the node, those among
    them that a removal that was cut off has left over. No plan is needed.
  - Asks the links of the other nodes of each replica how their units do.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.deployment
  - muster.serving.run
  - muster.serving.run.owner
seealso:
  - module: muster.serving.uninstall_decision
  - module: muster.serving.node_uninstall
"""

EXAMPLES = r"""
- name: Find what a cluster has on its nodes
  muster.serving.uninstall_info:
    deployment: a2-cluster
  register: found
"""

RETURN = r"""
deployment:
  description: The deployment.
  returned: success
  type: str
units:
  description: Its units here, each with C(name).
  returned: success
  type: list
  elements: dict
links:
  description: Name and systemd service of the agents that restart its replicas as one.
  returned: success
  type: list
  elements: dict
address:
  description: Whether the service of a floating address is installed.
  returned: success
  type: bool
replicas:
  description: What each of RV(links) knows of its replica.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The link's name.
      type: str
    listen:
      description: This node's address in the replica.
      type: str
    peers:
      description:
        - The other nodes, as C(address) and C(state). A state is V(running), V(starting),
          V(stopped) or V(failed), and empty where no link answers.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.node import uninstall_io
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module)
    try:
        found = uninstall_io.installed(NodeFiles(), module.params["deployment"])
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, deployment=module.params["deployment"], **found)


if __name__ == "__main__":
    main()
