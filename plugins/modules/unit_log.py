# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_log
short_description: Find the lines of a unit's log that show why it ended
version_added: "0.1.0"
description:
  - Looks through all that some runs of a systemd service logged, up to O(max_mb) of its end, and
    returns the lines that match one of O(patterns), with those that tell where a run begins, ends,
    is stopped or serves. The reason for an end often stands far above the last lines.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
options:
  invocations:
    description: systemd's ids of the runs, its C(InvocationID).
    type: list
    elements: str
    required: true
  patterns:
    description: Regular expressions. A line counts for the first one that it matches.
    type: list
    elements: str
    required: true
  max_mb:
    description: How much of the log is looked at, from its end.
    type: int
    default: 2
"""

EXAMPLES = r"""
- name: Find why it ended
  muster.serving.unit_log:
    invocations: [5c9c1e1e2f6b4d2f8a7f3f0f9d1e4b5a]
    patterns: ['No space left on device', '\bEADDRINUSE\b']
"""

RETURN = r"""
lines:
  description: These lines as the journal has them, with time, host and program, oldest first; of
    each pattern the first three of a run.
  returned: success
  type: list
  elements: str
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import log, log_io
from ansible_collections.muster.serving.plugins.module_utils.units.unit_io import UnitError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "invocations": {"type": "list", "elements": "str", "required": True},
            "patterns": {"type": "list", "elements": "str", "required": True},
            "max_mb": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    try:
        lines = log_io.read(module.params["invocations"], module.params["max_mb"] << 20)
        found = log.matching(lines, module.params["patterns"])
    except (UnitError, re.error) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, lines=found)


if __name__ == "__main__":
    main()
