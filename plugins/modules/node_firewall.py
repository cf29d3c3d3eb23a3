# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_firewall
short_description: Close a serving node to all but its peers, and open its API to named sources
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - An engine listens on ports that nobody can list before it runs. So with this firewall every new
    TCP connection and all unasked UDP is dropped, but for SSH, O(peers), O(internal_sources), the
    API from O(api_sources), and O(also_allowed).
  - What is under way, loopback, leases of addresses (DHCP) and what is neither TCP nor UDP is left
    alone, and so are connections that are forwarded, to ports that Docker publishes for instance.
  - The rules are on trial until they are confirmed with O(state=confirmed) over a new connection.
    Otherwise a timer of systemd takes them back after O(trial_s), without Ansible.
  - Rules, tables and files of the host itself are left as they are. With nftables the rules are a
    table C(inet muster) of its own, which only drops. With iptables they are a chain
    C(muster-firewall) at the head of C(INPUT), which also accepts peers and the API's sources.
    Beside firewalld they are that table, and rich rules let peers and the API's sources in.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment.shared
attributes:
  check_mode:
    support: full
    details: It also refuses what a run would refuse.
  diff_mode:
    support: full
    details: It shows what the rules mean, the rules, and the systemd unit that brings them back.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) puts the rules on trial where they are not what holds, V(confirmed) lets what is
        on trial hold, now and at every boot, and V(absent) removes what the deployment wants.
      - V(confirmed) takes the same options as V(present). It fails when the trial is over.
    type: str
    choices: [present, confirmed, absent]
    default: present
  peers:
    description: Addresses of the other nodes, which may reach every port.
    type: list
    elements: str
    default: []
  internal_sources:
    description: More addresses and networks that may, such as a monitoring's.
    type: list
    elements: str
    default: []
  api_sources:
    description: Addresses and networks that may reach the API.
    type: list
    elements: str
    default: []
  api_ports:
    description: TCP ports of the API on this node, numbers and V(FIRST-LAST).
    type: list
    elements: str
    default: []
  also_allowed:
    description:
      - Ports that stay as they are for everybody, such as V(9100), V(9100/tcp) or
        V(9100-9110/udp). The host's own rules for them hold.
    type: list
    elements: str
    default: []
  close_others:
    description:
      - Whether ports on which something else listens, and which are not named, are closed.
        Otherwise they are listed, and nothing is changed.
    type: bool
    default: false
  ssh_ports:
    description: Ports of SSH besides those that are found, which are never closed.
    type: list
    elements: int
    default: []
  backend:
    description:
      - What carries the rules. V(auto) takes V(firewalld) where it runs, V(iptables) where the host
        filters its input by it or has no nft, and V(nftables) otherwise. What holds already stays.
    type: str
    choices: [auto, nftables, iptables, firewalld]
    default: auto
  trial_s:
    description: Seconds after which rules that are not confirmed are taken back.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Close the node's ports on trial
  muster.serving.node_firewall: &rules
    deployment: a2-cluster
    peers: [10.1.0.12]
    api_sources: [10.2.0.0/16]
    api_ports: ["20004"]

- name: Come in anew
  ansible.builtin.meta: reset_connection

- name: Let the rules hold
  muster.serving.node_firewall:
    <<: *rules
    state: confirmed

- name: Leave the node's ports as they were
  muster.serving.node_firewall:
    deployment: a2-cluster
    state: absent
"""

RETURN = r"""
backend:
  description: What carries the rules, V(nftables), V(iptables) or V(firewalld); empty without any.
  returned: always
  type: str
effect:
  description: What the rules mean, in words, a line each.
  returned: always
  type: list
  elements: str
closed:
  description: What listens on the node and is closed to all but peers, with its process.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)
from ansible_collections.muster.serving.plugins.module_utils.network.firewall import FirewallError
from ansible_collections.muster.serving.plugins.module_utils.network.firewall_io import (
    ARGUMENT_SPEC,
    abandon,
    confirm,
    difference,
    put_on_trial,
    refuse,
    reloads,
    withdraw,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    files = NodeFiles()
    try:
        # What a trial has changed already is no difference to what it was confirmed for.
        confirmed = (
            params["state"] == "confirmed" and not module.check_mode and confirm(files, params)
        )
        abandoned = params["state"] == "absent" and abandon(
            files, params["deployment"], module.check_mode
        )
        changes = difference(files, params)
        changed = confirmed or abandoned or (params["state"] != "confirmed" and bool(changes.why))
        if params["state"] == "present" and changes.why:
            refuse(changes, params["close_others"])
        if changes.why and changed and not confirmed:
            if reloads(files, changes):
                refuse_reload(files)
            if not module.check_mode:
                if params["state"] == "present":
                    put_on_trial(files, changes, params["trial_s"])
                else:
                    withdraw(files, changes)
    except (FirewallError, ReloadError, CommandError, OSError) as error:
        module.fail_json(msg=f"{params['deployment']}'s firewall: {error}")
    closed = [str(one) for one in changes.others]
    if closed and not params["close_others"]:
        module.warn("the firewall closes to all but peers what listens here: " + "; ".join(closed))
    module.exit_json(
        changed=changed,
        diff=changes.diff,
        backend=changes.wanted.backend,
        effect=changes.effect,
        closed=closed,
    )


if __name__ == "__main__":
    main()
