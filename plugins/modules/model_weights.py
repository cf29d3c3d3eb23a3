# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_weights
short_description: Check that a model on disk is whole and readable
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Checks a model's configuration and tokenizer, and that every shard of its index is there with
    the size and the tensors that its safetensors header implies. A cut-off download is found
    in milliseconds, without reading the weights.
  - With O(hashes) it also reads the weights, and finds files that are whole and have other bytes
    than the publisher's.
  - Only observes.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
  - muster.serving.checks.enforce
attributes:
  check_mode:
    support: full
    details: With O(hashes) it hashes the files as always, but keeps no hash.
options:
  path:
    description: Directory of the model.
    type: path
    required: true
  draft_paths:
    description: Directories of draft models, which need no tokenizer of their own.
    type: list
    elements: path
    default: []
  timeout:
    description:
      - Seconds after which a file system that does not answer is a failed check.
      - Hashing has bounds of its own, see O(hashes).
    type: int
    default: 120
  hashes:
    description:
      - Hash (SHA-256) every shard, the configuration, the tokenizer and the code of each model that
        is whole, and compare the hashes with those of the publisher that the folder holds. These
        are the etags that C(hf download --local-dir) notes below C(.cache/huggingface), the names
        of the blobs in a hub's cache, and lists in the format of C(sha256sum) whose name begins
        with C(SHA256SUM) or ends in C(.sha256). What has no such hash is only compared between
        nodes.
      - Takes minutes once, as fast as the storage reads. The hashes are kept below
        C(/var/lib/muster/weights/) by size, time and inode of the file, so that the next run takes
        none, and one that was interrupted goes on where it was. Remove that folder to have all
        files read anew, since a disk that breaks changes none of the three.
      - A folder is given up, as a failed check, after 60 seconds without a byte read, or when it
        has taken longer than its size at 50 MB/s and than 120 seconds.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Is the model whole?
  muster.serving.model_weights:
    path: /data/models/MiniMax-M2.5
    enforce: true

- name: Are its bytes the publisher's?
  muster.serving.model_weights:
    path: /data/models/MiniMax-M2.5
    hashes: true
  register: weights
"""

RETURN = r"""
checks:
  description: V(weights-directory), V(weights-config), V(weights-tokenizer) and
    V(weights-complete), and with O(hashes) V(weights-hash).
  returned: always
  type: list
  elements: dict
weights_hash:
  description:
    - Beginning of one hash over the names and hashes of all files, equal on nodes with the same
      models. Null without O(hashes), and when a file was not hashed.
  returned: always
  type: str
  sample: 3f0c8e1b97a2
models:
  description: What is there, the model first and then its draft models, without those whose file
    system does not answer.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The directory.
      type: str
    architecture:
      description: First of the architectures in C(config.json).
      type: str
    model_type:
      description: As C(config.json) says.
      type: str
    quantization:
      description: Quantisation method, or null.
      type: str
    shards:
      description: Number of whole safetensors files.
      type: int
    bytes:
      description: Their size together.
      type: int
    index_sha256:
      description: Hash of the index, equal on nodes with the same model. Null without an index.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import failure_message
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes_io import hash_checks
from ansible_collections.muster.serving.plugins.module_utils.weights.model_io import Model, inspect


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "draft_paths": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 120},
            "hashes": {"type": "bool", "default": False},
            "enforce": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, timeout = module.params["path"], module.params["timeout"]
    models = [Model(path)] + [Model(draft, draft=True) for draft in module.params["draft_paths"]]

    answered, checks = inspect(models, timeout)
    facts = [model.facts for model in answered]
    result: dict[str, Any] = {"checks": checks, "models": facts, "weights_hash": None}
    if module.params["hashes"]:
        hashed, result["weights_hash"] = hash_checks(models, NodeFiles(), not module.check_mode)
        checks += hashed
    message = failure_message(checks)
    if message and module.params["enforce"]:
        module.fail_json(msg=message, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
