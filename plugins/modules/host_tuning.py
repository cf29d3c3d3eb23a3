# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_tuning
short_description: Tune a node's kernel for serving, and undo it
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Sets the CPU governor, sysctls, the scheduler's migration cost and reserved ports, at once and
    for the next boot.
  - What a node had before the first change is kept in C(/var/lib/muster/host_tuning.json).
    O(state=absent), or leaving out a setting, restores it.
  - A setting that this kernel or machine does not have is reported as unsupported with a warning.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment.shared
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows live settings and the files that persist them.
  idempotent:
    support: full
options:
  state:
    description: Whether the node is tuned for the deployment, or no longer.
    type: str
    choices: [present, absent]
    default: present
  cpu_governor:
    description: The cpufreq governor of all CPUs.
    type: str
  sysctl:
    description: Sysctls and their values. A null value leaves that one alone.
    type: dict
    default: {}
  sched_migration_cost_ns:
    description: The scheduler's migration cost, a sysctl on older kernels and in debugfs on newer.
    type: int
  reserved_ports:
    description:
      - Ports and ranges added to C(net.ipv4.ip_local_reserved_ports), so that no outgoing
        connection takes a port that an engine will listen on. The node's own entries stay.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Tune the node for serving
  muster.serving.host_tuning:
    cpu_governor: performance
    sysctl:
      vm.swappiness: 0
      kernel.numa_balancing: 0
    sched_migration_cost_ns: 50000
    reserved_ports: ["60000-60031"]

- name: Leave the node as it was found
  muster.serving.host_tuning:
    state: absent
"""

RETURN = r"""
settings:
  description: Every setting that was asked for or restored.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The sysctl, C(cpu_governor) or C(sched_migration_cost_ns).
      type: str
    status:
      description: V(ok), V(changed) or V(unsupported).
      type: str
    observed:
      description: The value before this run.
      type: str
    wanted:
      description: The value it shall have.
      type: str
    detail:
      description: Why it is unsupported.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host import tuning as host_tuning
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)
from ansible_collections.muster.serving.plugins.module_utils.host.tuning_io import (
    ARGUMENT_SPEC,
    apply,
    difference,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
    )
    files = NodeFiles()
    try:
        changes = difference(files, module.params)
        if host_tuning.UNIT_PATH in changes.files:
            refuse_reload(files)
    except (host_tuning.TuningError, ReloadError, OSError) as error:
        module.fail_json(msg=str(error))

    refused = []
    if not module.check_mode:
        try:
            refused = apply(files, changes)
            if host_tuning.UNIT_PATH in changes.files and files.exists("/run/systemd/system"):
                run(["systemctl", "daemon-reload"], timeout=60)
        except (OSError, CommandError) as error:
            module.fail_json(msg=str(error), settings=changes.settings)

    for warning in changes.warnings:
        module.warn(warning)
    result = {
        "changed": changes.changed,
        "diff": host_tuning.diff(changes),
        "settings": changes.settings,
    }
    if refused:
        module.fail_json(msg="\n".join(refused), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
