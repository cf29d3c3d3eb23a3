# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Check what a host itself must bring for a deployment
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Observes a node without looking at its devices - clock, memory, shared memory, disks, limits,
    operating system, name, Docker, the file of the API's key and the weights - and returns one
    check for each thing that must hold.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns, and
    compares the clocks of a replica's nodes.
  - What M(muster.serving.docker_config) installs or starts later is V(pending).
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
attributes:
  check_mode:
    support: partial
    details: With O(weights_hashes) it hashes the weights as always, but keeps no hash.
options:
  vendor:
    description:
      - Whose devices the node has, as C(platform.vendor) of a recipe. It decides which operating
        systems and architectures will do.
    type: str
  own_units:
    description:
      - Names of the systemd units of Muster on this node, and what the run stops before they start,
        as M(muster.serving.node_checks) adds it. While one of them runs, memory and shared memory
        are not measured against the need, of which it holds a part.
    type: list
    elements: str
    default: []
  address:
    description:
      - The node's address on the cluster network, for the remedies.
    type: str
  multi_node:
    description:
      - Whether the replica spans several nodes. The node's name then has to lead to an address that
        others reach.
    type: bool
    default: false
  memory_gb:
    description:
      - Memory that the engine's processes need at least.
    type: float
    default: 0
  shm_gb:
    description:
      - Shared memory that they need at least, where it is the host's.
    type: float
    default: 0
  images:
    description:
      - Images that Docker has to run. Without any, Docker is not looked at.
    type: list
    elements: str
    default: []
  image_gb:
    description:
      - What these images take where Docker keeps them, about. Less is only a warning, and nothing
        is needed once Docker has them.
    type: float
    default: 0
  disk:
    description:
      - What else will be put on the node's disks.
    type: list
    elements: dict
    default: []
    suboptions:
      what:
        description: A word for it.
        type: str
        required: true
      path:
        description:
          - Where it will lie. What lies there already is taken off the need.
          - Without it, it lies where Docker keeps images and containers.
        type: path
      need_gb:
        description: How much it takes in all.
        type: float
        required: true
  writes:
    description:
      - Folders that are written to, or will be made. The file system of each has to be writable,
        and so has the one where Docker keeps O(images). Nothing is written to find out.
    type: list
    elements: path
    default: []
  key_files:
    description:
      - Files that hold the key of the API. They are looked at, and not read out.
    type: list
    elements: path
    default: []
  model_path:
    description:
      - Folder of the weights, checked as by M(muster.serving.model_weights).
    type: path
  draft_path:
    description:
      - Folder of the draft weights.
    type: path
  model_architecture:
    description:
      - The architecture that C(config.json) of the weights has to name. Without it, any will do.
    type: str
  model_format:
    description:
      - The format that the recipe's weights have. Without it, any will do.
    type: str
    choices: [fp8, w8a8, nvfp4, bf16]
  weights_hashes:
    description:
      - Whether to hash all files of the weights, and to hold them to what is published, as
        M(muster.serving.model_weights) does. What was hashed is kept below
        C(/var/lib/muster/weights), but not in check mode.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that one call of a tool, and reading the weights, may take, but for hashing them.
    type: float
    default: 30
notes:
  - An action of the same name runs it, and notes the controller's time before and after.
seealso:
  - module: muster.serving.cluster_verdict
  - module: muster.serving.model_weights
"""

EXAMPLES = r"""
- name: Check the host
  muster.serving.host_check:
    vendor: ascend
    address: 10.20.0.11
    multi_node: true
    memory_gb: 8
    shm_gb: 1
    images: [quay.io/ascend/vllm-ascend:v0.18.0]
    image_gb: 30
    writes: [/etc/muster, /etc/systemd/system, /var/lib/muster]
    model_path: /data/models/MiniMax-M2.5
    model_architecture: MiniMaxM2ForCausalLM
    model_format: fp8
  register: host
"""

RETURN = r"""
checks:
  description:
    - The verdicts.
    - Of the host, V(host-systemd), V(host-clock-sync), V(host-memory), V(host-shm), V(host-disk),
      V(host-writable), V(host-hugepages), V(host-limits), V(host-os), V(host-kernel),
      V(host-arch), V(host-python) and V(host-name).
    - Of Docker, V(container-engine), V(container-engine-version), V(container-engine-cgroup),
      V(container-engine-security) and, on a node with NVIDIA GPUs, V(container-gpus).
    - Of files, V(api-key-file), V(weights-directory), V(weights-config), V(weights-tokenizer),
      V(weights-complete), V(weights-architecture), V(weights-format) and V(weights-hash).
  returned: always
  type: list
  elements: dict
  sample:
    - id: host-shm
      phase: bare
      status: failed
      subject: /dev/shm
      observed: 0.1 GB of 0.1 GB free
      expected: at least 1 GB free
      remedy: mount -o remount,size=1G /dev/shm (and in /etc/fstab)
clock:
  description: The node's clock when the module began and ended, in seconds of the epoch.
  returned: always
  type: dict
  sample: {began: 1795255200.1, ended: 1795255201.3}
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    clock_offset:
      description:
        - By how many seconds at least and at most the node's clock is ahead of the controller's,
          as the controller's own times before and after the call prove it.
      type: list
      elements: float
    weights_index:
      description: Beginning of the hash of the weights' index. Null when not known.
      type: str
    weights_hash:
      description: Beginning of the hash over all files of the weights. Null when not known.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import OptionError
from ansible_collections.muster.serving.plugins.module_utils.host.look_io import ARGUMENT_SPEC, look


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = look(module.params, module.check_mode)
    except OptionError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
