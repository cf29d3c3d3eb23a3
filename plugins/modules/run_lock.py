# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Hold a deployment on a node for this run, or release it
version_added: "0.1.0"
description:
  - A run is one C(ansible-playbook) on one controller. While it holds a deployment on a node, calls
    of other runs that would hold it fail and say who holds it and since when.
  - The modules that have O(lock), too, hold the deployment by themselves; what is left to this one
    is mostly the end of a run.
  - A run that died is recognised by its process, on the controller it ran on, and everywhere 20
    minutes after its last call. The next run then takes its lock over, with a warning.
  - The lock is a file below C(/run/muster/), so a restart of the node releases it.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
    details: In check mode nothing is held, and the node is not connected to.
  diff_mode:
    support: none
    details: A lock is no state of the node.
  idempotent:
    support: full
    details: A lock is not reported as a change.
options:
  state:
    description:
      - V(held) takes the lock, or goes on holding it, and fails where another run has it.
      - V(released) removes this run's lock and leaves any other.
    type: str
    choices: [held, released]
    required: true
  after:
    description:
      - A stage, which is a tag, at whose end the run releases its lock instead. So V(released) only
        releases where the run's tags leave that stage out, or this host has failed and will not
        come to it.
    type: str
notes:
  - An action of the same name says which run it is.
"""

EXAMPLES = r"""
- name: Change the cluster as one run
  block:
    - name: Hold the cluster
      muster.serving.run_lock:
        lock: a2-cluster
        state: held

    - name: Change it
      ansible.builtin.include_tasks: change.yml
  always:
    - name: Release the cluster
      muster.serving.run_lock:
        lock: a2-cluster
        state: released
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "required": True},
            "after": {"type": "str"},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    lock, owner = module.params["lock"], module.params["owner"]
    if module.params["state"] == "held":
        run_lock_io.hold(module)
    elif lock and owner and not module.check_mode:
        try:
            run_lock_io.release(lock, owner)
        except OSError as error:
            module.fail_json(msg=f"the lock of {lock} cannot be released: {error}")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
