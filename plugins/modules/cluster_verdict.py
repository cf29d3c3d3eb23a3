# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_verdict
short_description: Judge the checks of all nodes together
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Collects the checks that tasks registered on all nodes, compares the nodes with each other,
    applies waivers, prints one table of everything that is not fine with its remedy, and writes a
    report.
  - Returns the hosts that must not go on and fails none of them. What is not fine is kept in the
    run's statistics, which a failed task cannot set, as C(muster_STAGE).
  - Runs on the controller and connects to no node. Use it with C(run_once).
  - A node that could not be reached is a failed check V(node-reachable); a module that ended
    without checks is a failed check with the module's name.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.checks
attributes:
  check_mode:
    support: full
    details: It judges and writes its report in check mode, too.
options:
  hosts:
    description: The hosts that must have reported.
    type: list
    elements: str
    required: true
  results:
    description:
      - By registered variable, the module whose result it holds. A result has C(checks), and
        perhaps C(facts); a skipped task counts for nothing.
    type: dict
    required: true
  replicas:
    description:
      - The hosts of each replica. What must be equal is compared within a replica, and a replica
        without a failed check goes on without the others.
      - Without it all O(hosts) are one replica.
    type: list
    elements: list
  waivers:
    description:
      - By host, the checks that are accepted, each a map of C(check), C(reason) and C(until), a
        date. A waiver whose date has passed has no effect, and a warning says so.
    type: dict
    default: {}
  stage:
    description: What these checks belong to, for the summary and the report.
    type: str
    required: true
  report_file:
    description: A file on the controller for the whole report, as JSON. Its folder is made.
    type: path
  show:
    description:
      - Keys of the results that are printed and kept in the report beside the checks, for instance
        the answer of an endpoint.
    type: list
    elements: str
    default: []
  gate:
    description:
      - Whether RV(blocked_hosts) has the hosts of the replicas that have a failed check.
    type: bool
    default: true
  required:
    description:
      - Whether the task fails when no host has made any of these checks. Else it is skipped.
    type: bool
    default: false
notes:
  - Only V(failed) fails. V(pending) is what prepare will repair; V(unknown) and V(warning) are
    shown.
  - "These facts must be equal within a replica: C(weights_index), C(weights_hash), C(mtu),
    C(driver_version), C(npu_tls), C(firmware_version), C(cann_version) and C(super_pod_id)."
  - "No value of these facts may stand on two nodes: C(npu_addresses), C(super_pod_server) and
    C(super_pod_sdid)."
  - "These facts may differ within a replica, up to a warning and up to a failure: C(clock_offset)
    by 5 and by 30 seconds."
"""

EXAMPLES = r"""
- name: Judge what the nodes found
  muster.serving.cluster_verdict:
    hosts: "{{ ansible_play_hosts_all }}"
    results:
      nic: nic_check
      ports: port_check
    waivers:
      a2-node1:
        - check: port-reserved
          reason: the range is set at the next reboot
          until: 2027-01-31
    stage: preflight
    report_file: ./muster-output/a2-cluster/preflight.json
  run_once: true
  register: verdict

- name: Leave replicas with failed checks as they are
  ansible.builtin.fail:
    msg: its replica has failed checks, see above
  when: inventory_hostname in verdict.blocked_hosts
"""

RETURN = r"""
checks:
  description:
    - All checks, each with its C(host); what is waived also with C(waiver), and what is not ok also
      with C(page), the runbook for it in the collection.
    - Those of a host that gave none are V(node-reachable), V(node-become) and V(node-python).
    - Those of a comparison are V(cluster-clock), V(cluster-weights), V(cluster-weights-hash),
      V(cluster-mtu),
      V(cluster-driver-version), V(cluster-npu-tls), V(cluster-npu-address),
      V(cluster-firmware-version), V(cluster-cann-version), V(cluster-super-pod),
      V(cluster-super-pod-server) and V(cluster-super-pod-sdid).
  returned: always
  type: list
  elements: dict
failures:
  description: A line for each failed check.
  returned: always
  type: list
  elements: str
  sample: ["a2-node1: nic-up (enp67s0f0np0)"]
counts:
  description: How many checks have each status.
  returned: always
  type: dict
  sample: {ok: 40, failed: 1, warning: 0, waived: 0, pending: 2, unknown: 0}
failed_hosts:
  description: The hosts that have a failed check.
  returned: always
  type: list
  elements: str
blocked_hosts:
  description: The hosts of replicas that have a failed check; none without O(gate).
  returned: always
  type: list
  elements: str
expired_waivers:
  description: A line for each waiver that has run out while its check still fails.
  returned: always
  type: list
  elements: str
ansible_stats:
  description:
    - The report for the run's statistics, with those of its checks that are not V(ok), under
      C(muster_STAGE).
  returned: always
  type: dict
report_file:
  description: Where the report stands.
  returned: when a report was asked for
  type: str
"""
