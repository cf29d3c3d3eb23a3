# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_venv
short_description: Make the virtual environment that an engine runs from without a container
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes a Python environment with uv and installs what is asked for. Where the node has no uv, it
    is installed below C(/opt/muster/uv) with the node's own python3, venv and pip.
  - An environment is finished when C(.muster.json) stands in it, which is written last. One whose
    making was interrupted is made anew.
  - A finished environment is never changed, because an engine may run from it. A changed request
    needs another path; the old environment stays until it is removed by hand.
  - Adds the system user C(muster), as which such engines run, with the groups of the device nodes.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
    details: It asks no index.
  diff_mode:
    support: full
    details: It shows the request, and the user where it is added.
  idempotent:
    support: full
options:
  path:
    description: Folder of the environment on the node.
    type: str
    required: true
  python:
    description: Version of Python, as C(3.12). uv uses the node's own one, or fetches it.
    type: str
    required: true
  requirements:
    description: What to install, as C(NAME==VERSION) or another requirement.
    type: list
    elements: str
    required: true
  index_urls:
    description: Indexes to look in before the node's default one.
    type: list
    elements: str
    default: []
  torch_backend:
    description:
      - The build of PyTorch to take, as C(cu129), or C(auto) for the one that fits the driver.
    type: str
  find_links:
    description:
      - Folder of wheels on the node. Then nothing else is asked, and uv itself has to be among them
        where the node has none.
    type: str
  readable:
    description: Paths that the engine's user has to be able to read, above all the model's.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that an install may take.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Make the engine's environment
  muster.serving.engine_venv:
    path: /opt/muster/venvs/vllm-0.23.0
    python: "3.12"
    requirements: [vllm==0.23.0]
    torch_backend: auto
"""

RETURN = r"""
missing:
  description: What the node lacked, the user or the environment.
  returned: always
  type: list
  elements: str
uv:
  description: The uv of the node that makes it. Null where there is nothing to make, and where uv
    would be installed in check mode.
  returned: always
  type: str
bootstrap:
  description: Packages of the node's distribution that uv is installed with. Empty where uv is not
    needed or there, and where the distribution is not known.
  returned: always
  type: list
  elements: str
identity:
  description: A hash of what is installed; environments with the same one are alike. Null where
    the environment would be made in check mode.
  returned: always
  type: str
packages:
  description: What it holds, as C(NAME==VERSION).
  returned: when it is finished
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import VenvError
from ansible_collections.muster.serving.plugins.module_utils.engine.venv_io import (
    ARGUMENT_SPEC,
    bring,
)
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENT_SPEC, "lock": {"type": "str"}, "owner": {"type": "dict"}},
        supports_check_mode=True,
    )
    run_lock_io.hold(module, busy_s=2 * module.params["timeout"], changes=True)
    result: dict[str, Any] = {}
    try:
        bring(module.params, module.check_mode, result)
    except (VenvError, CommandError, OSError) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(changed=bool(result["missing"]), **result)


if __name__ == "__main__":
    main()
