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
  - Beside the socket a file says who has taken an engine out, and whether for a run alone
    (O(for_run)). So what a run that was cut off has left drained is told from what an operator
    drained, and O(state=resumed) takes it back.
  - A node without a running gateway of the deployment has nothing to do.
notes:
  - An action of the same name says by whom an engine is taken out.
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
      - V(resumed) takes back those of them alone that a run has drained, and waits for nothing.
        Only who holds their nodes (M(muster.serving.run_lock)) knows that no such run lives.
    type: str
    choices: [drained, serving, resumed]
    required: true
  for_run:
    description:
      - With O(state=drained), whether they are out for as long as this run goes, which takes them
        back. An operator's order on the same engines stays one.
    type: bool
    default: false
  by:
    description: By what command and whose, for status. The action of the same name says it.
    type: str
    default: ""
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

- name: Take it back where a run that was cut off has drained it
  muster.serving.gateway_drain:
    deployment: a3-replicas
    backends: [a3-replicas-r0-rank0]
    state: resumed
"""

RETURN = r"""
gateways:
  description: The node's gateways that were asked, by name.
  returned: success
  type: list
  elements: str
alone:
  description: Of them, those to which no other engine is left. Their clients get errors now.
  returned: success
  type: list
  elements: str
told:
  description: The engines that were, or would be, taken out or back, by any gateway.
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
from typing import Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_admin,
    gateway_admin_io,
    run_lock_io,
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
    """Return what an operator is told of a gateway without another engine.

    Args:
        gateway: The gateway.
        idle: The engines that could serve and are drained, with by whom.
    """
    text = f"{gateway} has no other engine that serves: its clients get errors"
    return f"{text}. One could: {'; '.join(idle)}" if idle else text


def chosen(
    state: str,
    backends: list[str],
    found: Mapping[str, gateway_admin.Server],
    orders: Mapping[str, gateway_admin.Order],
) -> list[str]:
    """Return which engines of a gateway are concerned."""
    known = [name for name in backends if name in found]
    runs = gateway_admin.left_by_runs(orders)
    return [name for name in known if name in runs] if state == "resumed" else known


def ordered(
    orders: Mapping[str, gateway_admin.Order],
    names: list[str],
    new: list[str],
    order: gateway_admin.Order,
) -> dict[str, gateway_admin.Order]:
    """Return who has drained what, once an order was given.

    Args:
        orders: Who had before.
        names: The engines that it concerns.
        new: Those of them that took requests until now.
        order: Whose it is.
    """
    # What somebody has drained before, a run only uses; an operator makes it his own.
    given = new if order.of_run else [n for n in names if n not in orders or orders[n].of_run]
    return {**orders, **dict.fromkeys(given, order)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "backends": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": [*gateway_admin.STATES], "required": True},
            "for_run": {"type": "bool", "default": False},
            "by": {"type": "str", "default": ""},
            "timeout": {"type": "float", "default": 120},
            "enforce": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    backends, state = params["backends"], params["state"]
    deadline = time.monotonic() + params["timeout"]
    order = gateway_admin.Order(params["for_run"], params["by"], run_lock_io.now().clock)
    # Of each gateway to which no other engine is left, those that are drained there.
    alone: dict[str, list[str]] = {}
    told: list[str] = []
    left = 0
    try:
        gateways = gateway_admin_io.running_gateways(params["deployment"])
        for gateway in gateways:
            with gateway_admin_io.alone(gateway):
                found = gateway_admin_io.servers(gateway)
                orders = gateway_admin_io.orders(gateway, found)
                if state == "drained" and not gateway_admin.has_other(found, backends):
                    idle = gateway_admin.drained(found, backends)
                    alone[gateway] = [gateway_admin.drained_text(n, orders.get(n)) for n in idle]
                names = chosen(state, backends, found, orders)
                new = [name for name in names if found[name].drained != (state == "drained")]
                told += new
                if module.check_mode:
                    continue
                # A run may be cut off at any point: who drains is noted before it is done.
                if state == "drained":
                    note(module, gateway, ordered(orders, names, new, order))
                for name in new:
                    gateway_admin_io.tell(gateway, name, state)
                if state != "drained":
                    rest = {name: one for name, one in orders.items() if name not in names}
                    note(module, gateway, rest)
        while gateways and state != "resumed" and not module.check_mode:
            left = max(left_of(gateway, backends, state) for gateway in gateways)
            if not left or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    except (gateway_admin.AdminError, unit_io.UnitError, OSError) as error:
        module.fail_json(msg=str(error))
    result = {
        "changed": bool(told),
        "gateways": gateways,
        "told": sorted(set(told)),
        "alone": [*alone],
        "left": left,
    }
    for gateway, idle in alone.items():
        module.warn(alone_text(gateway, idle))
    if left and params["enforce"]:
        module.fail_json(msg=unfinished(state, left, params["timeout"]), **result)
    module.exit_json(**result)


def note(module: AnsibleModule, gateway: str, orders: Mapping[str, gateway_admin.Order]) -> None:
    """Keep who has drained what. A node that takes no file is drained all the same."""
    try:
        gateway_admin_io.keep_orders(gateway, orders)
    except OSError as error:
        module.warn(f"{gateway}: it is not kept who has drained its engines: {error}")


if __name__ == "__main__":
    main()
