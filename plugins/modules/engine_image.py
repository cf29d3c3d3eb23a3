# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_image
short_description: Bring an engine's image to a node and prove that it can run there
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Pulls an image unless it is there, by digest where one is given. An image that is there is
    used without asking the registry.
  - Checks that the image is built for this machine, that a container starts from it, and that the
    libraries that the engine preloads load in it. The dynamic linker only warns about a missing
    one, so that an engine would run without it. The result is kept below
    C(/var/lib/muster/images/).
  - Where O(min_cann) is given, the same container prints which CANN the image holds. An older one
    is a failed check, and the module does not fail of it.
  - Where O(nvidia) is given, holds the node's driver and GPUs against what the image requires of
    them (C(NVIDIA_REQUIRE_CUDA) and its kin), as NVIDIA's container hook will, and the driver
    against the CUDA that the image says it holds. The hook's condition is not asked for where
    Docker gives GPUs by CDI. The module does not fail of either.
  - Builds the image that a recipe derives from it by changes of source files, unless it is there
    and made of this image by these changes. The build has no network.
  - Running containers keep the image they were started from.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.checks
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: partial
    details: It says whether it would pull and build. It starts no container, so an image is
      first proven in a real run.
  diff_mode:
    support: full
    details: It shows the image's identity before and after.
  idempotent:
    support: full
options:
  image:
    description: The image, as C(REPOSITORY[:TAG][@DIGEST]).
    type: str
    required: true
  digest:
    description:
      - Digest that the image must have. The tag is set to it, whatever it was before.
    type: str
  preload:
    description: Libraries of C(LD_PRELOAD), as names or as paths in the image.
    type: list
    elements: str
    default: []
  min_cann:
    description: The oldest CANN that will do for the engine. Without it none is looked for.
    type: str
  nvidia:
    description: What the engine's containers get of NVIDIA. Without it no driver is looked at.
    type: dict
    suboptions:
      devices:
        description: The GPUs that they get, as numbers.
        type: list
        elements: int
        required: true
      env:
        description: What their environment has besides the image's own; C(NVIDIA_*) alone counts.
        type: dict
        default: {}
      compat:
        description: Whether the engine uses forward compatibility (cuda-compat), as
          C(driver.compat) of a plan has it.
        type: str
        choices: [none, "off", "on", always]
        default: none
  derived:
    description: The image to build from it.
    type: dict
    suboptions:
      image:
        description: The derived image's name.
        type: str
        required: true
      containerfile:
        description: What it is built from. It may copy nothing, since there is no context.
        type: str
        required: true
  timeout:
    description: Seconds that the pull may take, and after it the build.
    type: int
    default: 3600
  proof_timeout:
    description: Seconds that the first container may take to start.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Bring the engine
  muster.serving.engine_image:
    image: quay.io/ascend/vllm-ascend:v0.18.0
    preload: [libjemalloc.so.2]
    min_cann: 8.5.1

- name: Bring an engine for NVIDIA GPUs
  muster.serving.engine_image:
    image: vllm/vllm-openai:v0.22.1
    nvidia:
      devices: [0, 1, 2, 3]

- name: Bring an engine whose image needs a change
  muster.serving.engine_image:
    image: lmsysorg/sglang:v0.5.7-rocm700-mi30x
    derived:
      image: muster/sglang:v0.5.7-rocm700-mi30x-0a1b2c3d4e5f
      containerfile: |
        FROM lmsysorg/sglang:v0.5.7-rocm700-mi30x
        RUN ["mv", "/opt/a.py", "/opt/b.py"]
"""

RETURN = r"""
pulled:
  description: Whether it was pulled, or would be in check mode.
  returned: always
  type: bool
built:
  description: Whether the derived image was built, or would be in check mode.
  returned: always
  type: bool
derived_id:
  description: The derived image's id. Null without one, and where it would be built in check mode.
  returned: always
  type: str
image_id:
  description: Its id. Null where it would be pulled in check mode.
  returned: always
  type: str
repo_digests:
  description: Digests under which registries know it.
  returned: when it is on the node
  type: list
  elements: str
architecture:
  description: Architecture it is built for.
  returned: when it is on the node
  type: str
size:
  description: Its size in bytes.
  returned: when it is on the node
  type: int
preload:
  description: Libraries that were shown to load in it, now or before.
  returned: when it is on the node
  type: list
  elements: str
checks:
  description:
    - V(cann-version), with O(min_cann). Not in check mode, unless the image was asked before.
    - V(image-requirement) and V(image-cuda), with O(nvidia), of an image that is on the node.
  returned: always
  type: list
  elements: dict
  sample:
    - id: cann-version
      phase: ready
      status: failed
      subject: quay.io/ascend/vllm-ascend:v0.18.0
      observed: CANN 8.3.RC2
      expected: CANN 8.5.1 or later
      remedy: set muster_image or muster_engine_version to an image that brings it
facts:
  description: What is compared between nodes.
  returned: always
  type: dict
  contains:
    cann_version:
      description: Version of the image's CANN. Null without O(min_cann) and where it is unknown.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.image import ImageError
from ansible_collections.muster.serving.plugins.module_utils.engine.image_io import (
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
        bring(module.params, module.check_mode, result, module.warn)
    except (ImageError, CommandError, OSError) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
