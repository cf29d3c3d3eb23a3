# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: diagnose_info
short_description: Collect a node's logs, states and configuration after a failure
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Puts into one archive of bounded size the states and journals of the units, the logs below
    C(/var/log/muster), what units run with, the output of Docker, kernel and devices' tools, and
    the ports in use.
  - Lines that may hold a prompt are left out, and what looks like a secret, or stands behind the
    name of one, is replaced. No file of a secret is read.
  - Needs nothing that Muster installed, and never fails on what it finds.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
attributes:
  check_mode:
    support: full
    details: It returns the states alone and writes no archive.
options:
  units:
    description: systemd services of the plan for this node; those that are installed come on top.
    type: list
    elements: str
    default: []
  log_lines:
    description: How many of the last lines of each unit's journal.
    type: int
    default: 10000
  max_mb:
    description: Size of all texts together, before they are compressed.
    type: int
    default: 50
"""

EXAMPLES = r"""
- name: Collect
  muster.serving.diagnose_info:
    units: "{{ muster_plan.units[inventory_hostname] | map(attribute='systemd_unit') }}"
  register: diagnosis
"""

RETURN = r"""
units:
  description: One entry a planned or installed unit.
  returned: always
  type: list
  elements: dict
  contains:
    systemd_unit:
      description: The service.
      type: str
    installed:
      description: Whether systemd knows it.
      type: bool
    active_state:
      description: systemd's ActiveState; empty when systemd did not answer.
      type: str
    sub_state:
      description: systemd's SubState.
      type: str
    result:
      description: systemd's Result.
      type: str
    exit_status:
      description: Exit status of the last main process.
      type: str
    restarts:
      description: How often systemd restarted it by itself.
      type: int
folder:
  description: The folder to remove once the archive was fetched, readable by root alone.
  returned: not in check mode
  type: str
archive:
  description: The archive in it, a tar.gz.
  returned: not in check mode
  type: str
left_out:
  description: What did not fit, or only with its end.
  returned: not in check mode
  type: list
  elements: str
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import diagnosis_io as diagnosis


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "log_lines": {"type": "int", "default": 10000},
            "max_mb": {"type": "int", "default": 50},
        },
        supports_check_mode=True,
    )
    files = NodeFiles()
    units = sorted({*module.params["units"], *diagnosis.installed_units(files)})
    observed = diagnosis.observe(units)
    if module.check_mode:
        module.exit_json(changed=False, units=observed)
    folder = tempfile.mkdtemp(prefix="muster-diagnose-")
    path = os.path.join(folder, "node.tar.gz")
    try:
        archive = diagnosis.Archive(path, module.params["max_mb"] * 1024 * 1024)
        diagnosis.collect(archive, files, units, module.params["log_lines"])
        archive.close()
    except OSError as error:
        module.fail_json(msg=f"the archive {path} cannot be written: {error}", units=observed)
    module.exit_json(
        changed=False, units=observed, folder=folder, archive=path, left_out=archive.left_out
    )


if __name__ == "__main__":
    main()
