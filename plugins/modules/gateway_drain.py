# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_drain
short_description: Take engines out of a node's gateways, or back
version_added: "0.1.0"
description:
  - An engine that is drained gets no new requests; those that it answers go on. The gateway's other
    engines take its share.
  - A gateway forgets it when it restarts. It is told through a socket that only root reaches.
  - A node without a running gateway of the deployment has nothing to do.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What runs is changed, and no file.
  idempotent:
    support: full
options:
  backends:
    description: Names of the units whose APIs are taken out or back.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(drained) takes them out, and waits until they have answered what they were asked.
      - V(serving) takes them back, and waits until the gateway has seen that they serve.
    type: str
    choices: [drained, serving]
    required: true
  timeout:
    description:
      - Seconds to wait. A completion may take an hour, so choose what your clients can bear.
    type: float
    default: 120
  enforce:
    description: Whether it is an error when they pass; else RV(left) says what is left.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let replica 0 answer what it was asked
  muster.serving.gateway_drain:
    deployment: a3-replicas
    backends: [a3-replicas-r0-rank0]
    state: drained
    timeout: 300
"""

RETURN = r"""
gateways:
  description: The node's gateways that were told, by name.
  returned: success
  type: list
  elements: str
alone:
  description: Of them, those to which no other engine is left. Their clients get errors now.
  returned: success
  type: list
  elements: str
left:
  description:
    - With O(state=drained), how many requests were still being answered at the end; with
      V(serving), how many of O(backends) a gateway did not see serving yet. The most of any
      gateway.
  returned: success
  type: int
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_admin,
    gateway_admin_io,
    unit_io,
)

POLL_S = 0.5


def left_of(gateway: str, backends: list[str], state: str) -> int:
    """Return what a gateway still waits for."""
    found = gateway_admin_io.servers(gateway)
    mine = [found[name] for name in backends if name in found]
    if state == "drained":
        return sum(one.requests for one in mine)
    return sum(not one.up for one in mine)


def unfinished(state: str, left: int, timeout: float) -> str:
    """Return what an operator is told when the time has passed."""
    if state == "drained":
        return (
            f"{left} requests are still answered after {timeout:g} s. No new ones come: wait on by"
            " the same command, or stop, which cuts these off"
        )
    return (
        f"the gateway does not see {left} of them serve after {timeout:g} s. Look at status.yml:"
        " an engine that loads still takes its time"
    )


def alone_text(gateway: str, idle: list[str]) -> str:
    """Return what an operator is told of a gateway without another engine; idle are drained."""
    text = f"{gateway} has no other engine that serves: its clients get errors"
    if not idle:
        return text
    return (
        f"{text}. {', '.join(idle)} could, and is drained there, by drain.yml or by a run that was "
        "cut off: playbooks/drain.yml -e drain_state=serving takes it back"
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "backends": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": list(gateway_admin.STATES), "required": True},
            "timeout": {"type": "float", "default": 120},
            "enforce": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    backends, state = module.params["backends"], module.params["state"]
    deadline = time.monotonic() + module.params["timeout"]
    # Of each gateway to which no other engine is left, those that are drained there.
    alone: dict[str, list[str]] = {}
    changed, left = False, 0
    try:
        gateways = gateway_admin_io.running_gateways(module.params["deployment"])
        for gateway in gateways:
            found = gateway_admin_io.servers(gateway)
            if state == "drained" and not gateway_admin.has_other(found, backends):
                alone[gateway] = gateway_admin.drained(found, backends)
            for name in backends:
                if name in found and found[name].drained != (state == "drained"):
                    changed = True
                    if not module.check_mode:
                        gateway_admin_io.tell(gateway, name, state)
        while gateways and not module.check_mode:
            left = max(left_of(gateway, backends, state) for gateway in gateways)
            if not left or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    except (gateway_admin.AdminError, unit_io.UnitError) as error:
        module.fail_json(msg=str(error))
    result = {"changed": changed, "gateways": gateways, "alone": [*alone], "left": left}
    for gateway, idle in alone.items():
        module.warn(alone_text(gateway, idle))
    if left and module.params["enforce"]:
        module.fail_json(msg=unfinished(state, left, module.params["timeout"]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
