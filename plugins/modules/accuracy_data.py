# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accuracy_data
short_description: Say which data sets of accuracy a folder has, and what is missing
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Looks for the files of data sets in a folder of the host, and reads those in JSON lines and CSV.
  - Never fails on what it finds; M(muster.serving.accuracy_plan) judges it.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
options:
  folder:
    description:
      - The folder, with a folder for each data set, as C(gsm8k/test.jsonl). Without it nothing is
        there.
    type: path
  sets:
    description: The data sets.
    type: list
    elements: str
    choices: [gsm8k, mmlu, gpqa, aime25]
    required: true
"""

EXAMPLES = r"""
- name: Look for questions
  muster.serving.accuracy_data:
    folder: /data/accuracy
    sets: [gsm8k, gpqa]
  register: data
"""

RETURN = r"""
sets:
  description:
    - By data set its C(files) by split, how many C(rows) it asks (null where only the harness can
      read it), and C(problems), what is missing or wrong and what to put where.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.accuracy import client_io
from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import SETS


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path"},
            "sets": {"type": "list", "elements": "str", "choices": list(SETS), "required": True},
        },
        supports_check_mode=True,
    )
    folder = module.params["folder"]
    module.exit_json(changed=False, sets=client_io.look_for(folder, module.params["sets"]))


if __name__ == "__main__":
    main()
