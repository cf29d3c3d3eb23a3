# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_weights
short_description: Check that a model on disk is whole and readable
version_added: "0.1.0"
author:
  - Muster contributors (@muster)
description:
  - Checks a model's configuration and tokenizer, and that every shard of its index is there with
    the size and the tensors that its safetensors header implies. A cut-off download is found
    in milliseconds, without reading the weights.
  - Only observes.
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
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
    description: Seconds after which a file system that does not answer is a failed check.
    type: int
    default: 120
  enforce:
    description: Fail when a check fails, instead of only reporting it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Is the model whole?
  muster.serving.model_weights:
    path: /opt/data/verification/models/MiniMax-M2.5
    enforce: true
"""

RETURN = r"""
checks:
  description: Verdicts C(weights-directory), C(weights-config), C(weights-tokenizer) and
    C(weights-complete).
  returned: always
  type: list
  elements: dict
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.enforce import failure_message
from ansible_collections.muster.serving.plugins.module_utils.model_weights import Model, inspect


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "draft_paths": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 120},
            "enforce": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, timeout = module.params["path"], module.params["timeout"]
    models = [Model(path)] + [Model(draft, draft=True) for draft in module.params["draft_paths"]]

    answered, checks = inspect(models, timeout)
    facts = [model.facts for model in answered]
    message = failure_message(checks)
    if message and module.params["enforce"]:
        module.fail_json(msg=message, checks=checks, models=facts)
    module.exit_json(changed=False, checks=checks, models=facts)


if __name__ == "__main__":
    main()
