# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_watch
short_description: Watch the memory and the restarts of a node's units while a load runs
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Stays on the node and samples, until its time is up or another call with O(step=end) has come,
    what its units and devices do. Run it with C(async) beside the load.
  - Memory of a unit is what its control groups hold in anonymous and shared pages, without what the
    kernel keeps of files; where they cannot be read, the anonymous memory of its processes.
extends_documentation_fragment:
  - muster.serving.attributes
attributes:
  check_mode:
    support: full
    details: It is skipped.
  diff_mode:
    support: N/A
    details: It changes no configuration.
  idempotent:
    support: N/A
    details: Each watch is one of its own.
options:
  step:
    description: V(watch), or V(end) what watches.
    type: str
    choices: [watch, end]
    required: true
  ends:
    description: A file by which V(end) tells V(watch), with a name of its own for each watch.
    type: path
    required: true
  units:
    description: The systemd services to watch.
    type: list
    elements: str
    default: []
  vendor:
    description: Whose devices they have, as C(platform.vendor) of the plan.
    type: str
  every:
    description: Seconds between two samples.
    type: float
    default: 30
  duration:
    description: Seconds after which it ends by itself.
    type: float
    default: 3600
"""

EXAMPLES = r"""
- name: Watch the units
  muster.serving.bench_watch:
    step: watch
    ends: /run/muster-bench-a2-cluster.ends
    units: [muster-a2-cluster-r0-rank0.service]
    vendor: ascend
  async: 7200
  poll: 0
  register: watching
"""

RETURN = r"""
samples:
  description:
    - Each has C(at) (seconds since 1970), C(units) (by service its C(state), C(restarts),
      C(invocation) and C(memory_mb), null where it cannot be told) and C(devices) (by device the
      MiB in use, as far as the vendor's tool tells them).
  returned: with O(step=watch)
  type: list
  elements: dict
last_words:
  description:
    - By service whose run has ended meanwhile, the last lines of that run, without secrets.
  returned: with O(step=watch)
  type: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import watch_io
from ansible_collections.muster.serving.plugins.module_utils.units.unit_io import UnitError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["watch", "end"], "required": True},
            "ends": {"type": "path", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
            "vendor": {"type": "str"},
            "every": {"type": "float", "default": 30},
            "duration": {"type": "float", "default": 3600},
        },
        required_if=[("step", "watch", ["units", "vendor"])],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="check mode: nothing is watched")
    result: dict[str, Any] = {}
    try:
        if params["step"] == "end":
            Path(params["ends"]).touch()
        else:
            asked = ("units", "vendor", "every", "duration", "ends")
            samples = watch_io.watch(*(params[name] for name in asked))
            result = {"samples": samples, "last_words": watch_io.last_words(samples)}
            Path(params["ends"]).unlink(missing_ok=True)
    except (UnitError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
