# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hccl_nic_check
short_description: Check the NIC that carries HCCL on a node
version_added: "0.1.0"
author:
  - Muster contributors (@muster)
description:
  - Observes the network interface that HCCL, Gloo and the engine's own sockets are to use, and
    returns one check for each thing that must hold.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  address:
    description:
      - The node's address on the cluster network.
    type: str
  interface:
    description:
      - The NIC that carries HCCL.
      - Without it the NIC that holds O(address) is looked at.
    type: str
  peers:
    description:
      - Addresses of the other nodes of the replica. The route to each must leave through the NIC.
    type: list
    elements: str
    default: []
  min_mtu:
    description:
      - The smallest MTU that will do. Without it any MTU does; that all nodes have the same is
        checked by M(muster.serving.cluster_verdict) on RV(facts.mtu).
    type: int
  timeout:
    description:
      - Seconds that one call of C(ip) may take.
    type: float
    default: 10
notes:
  - Needs C(ip) of iproute2 on the node.
"""

EXAMPLES = r"""
- name: Check the NIC of the cluster network
  muster.serving.hccl_nic_check:
    address: 10.20.0.11
    interface: enp67s0f0np0
    peers: [10.20.0.12]
  register: nic
"""

RETURN = r"""
checks:
  description:
    - The verdicts, with the ids V(nic-tool), V(nic-exists), V(nic-up), V(nic-kind),
      V(nic-address), V(nic-mtu), V(nic-route) and V(nic-prefix).
  returned: always
  type: list
  elements: dict
  sample:
    - id: nic-up
      phase: bare
      status: failed
      subject: enp67s0f0np0
      observed: down
      expected: up, carrier
      remedy: ip link set enp67s0f0np0 up
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    interface:
      description: The NIC that was looked at.
      type: str
    mtu:
      description: Its MTU, or null where there is no such NIC.
      type: int
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.checks import check
from ansible_collections.muster.serving.plugins.module_utils.command import CommandError, run
from ansible_collections.muster.serving.plugins.module_utils.net import (
    NetError,
    Route,
    chosen_nic,
    decide,
    parse_addresses,
    parse_route,
)


def ip(args: list[str], timeout: float) -> str:
    """What C(ip -json) prints.

    Raises:
        NetError: It cannot be run, failed, or did not end in time.
    """
    try:
        output = run(["ip", "-json", *args], timeout)
    except CommandError as error:
        raise NetError(str(error)) from error
    if output.rc != 0:
        raise NetError(output.text)
    return output.stdout


def route_to(peer: str, timeout: float) -> Route:
    try:
        return parse_route(ip(["route", "get", peer], timeout))
    except NetError as error:
        return Route(problem=str(error))


def inspect(params: dict[str, Any]) -> dict[str, Any]:
    try:
        nics = parse_addresses(ip(["-details", "addr", "show"], params["timeout"]))
    except NetError as error:
        failed = check(
            "nic-tool",
            "bare",
            "failed",
            "ip",
            str(error),
            "the node's interfaces as JSON",
            "install iproute2 (5.0 or later)",
        )
        return {"checks": [failed], "facts": {"interface": params["interface"], "mtu": None}}
    interface = chosen_nic(nics, params["interface"], params["address"])
    return {
        "checks": decide(
            nics,
            params["interface"],
            params["address"],
            {peer: route_to(peer, params["timeout"]) for peer in params["peers"]},
            params["min_mtu"],
        ),
        "facts": {
            "interface": interface,
            "mtu": next((nic.mtu for nic in nics if nic.name == interface), None),
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str"},
            "interface": {"type": "str"},
            "peers": {"type": "list", "elements": "str", "default": []},
            "min_mtu": {"type": "int"},
            "timeout": {"type": "float", "default": 10},
        },
        required_one_of=[["address", "interface"]],
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **inspect(module.params))


if __name__ == "__main__":
    main()
