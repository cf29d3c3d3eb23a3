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

import os
import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import (
    observe_io as nvidia,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    CANN_SCRIPT,
    DERIVED_LABEL,
    ImageError,
    Notes,
    Reference,
    architecture_problem,
    cann_check,
    derived_mark,
    dump_notes,
    explain_build,
    explain_pull,
    matches,
    missing_preloads,
    notes_path,
    parse_cann,
    parse_inspect,
    parse_reference,
    preload_problem,
    read_notes,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.requirements import (
    Injection,
    cuda_check,
    requirement_check,
    why_unasked,
)
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io

NVIDIA_CONFIG = "/etc/nvidia-container-runtime/config.toml"


class NoProgramError(Exception):
    """An image lacks a program that the proof runs in it."""


def has_docker() -> bool:
    """Tell whether Docker can be asked. On a bare node, its socket would start a daemon."""
    # Where a distribution has them in two packages, a daemon can run without the command.
    try:
        run(["docker", "--version"], timeout=30)
    except CommandError as error:
        if error.not_started:
            return False
        raise
    return run(["systemctl", "is-active", "docker.service"], timeout=30).rc == 0


def inspect(name: str) -> dict[str, Any] | None:
    """Return the image of this name, None when there is none."""
    output = run(["docker", "image", "inspect", name], timeout=60)
    if output.rc and "no such image" not in output.text.lower():
        raise ImageError(
            f"docker image inspect {name} failed: {output.text}. Does Docker run here?"
        )
    return parse_inspect(output.stdout) if output.rc == 0 else None


def observe(reference: Reference) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the wanted image, and the one that has its name now."""
    named = inspect(reference.local)
    if matches(named, reference):
        return named, named
    return (inspect(reference.source) if reference.digest else None), named


def docker(*words: str, timeout: float) -> None:
    output = run(["docker", *words], timeout)
    if output.rc:
        raise ImageError(f"docker {' '.join(words)} failed: {output.text}")


def pull(reference: Reference, timeout: float) -> dict[str, Any]:
    output = run(["docker", "pull", reference.source], timeout)
    if output.rc:
        raise ImageError(explain_pull(reference, output.stderr or output.stdout))
    image = inspect(reference.source)
    if image is None:
        raise ImageError(f"{reference.source} was pulled, yet is not there: is it being pruned?")
    return image


def build(name: str, containerfile: str, mark: str, reference: Reference, timeout: float) -> None:
    argv = ["docker", "build", "--network", "none", "--pull=false", "--tag", name]
    output = run([*argv, "--label", f"{DERIVED_LABEL}={mark}", "-"], timeout, containerfile)
    if output.rc:
        raise ImageError(explain_build(name, reference.local, output.stdout + output.stderr))


def prove(reference: Reference, libraries: list[str], ask_cann: bool, timeout: float) -> str:
    """Start a container once, with the libraries, without a network; it is removed at its end.

    Returns:
        The version of CANN in the image, where it was asked for.

    Raises:
        NoProgramError: The image lacks the program that would run in it.
        ImageError: The container or a library in it does not work.
    """
    name = f"muster-proof-{os.getpid()}"
    argv = ["docker", "run", "--rm", "--name", name, "--network", "none"]
    if libraries:
        argv += ["--env", "LD_PRELOAD=" + ":".join(libraries)]
    # Images of gateways have no CANN, and need not have a shell.
    program, words = ("/bin/sh", ["-c", CANN_SCRIPT]) if ask_cann else ("/bin/true", [])
    try:
        output = run([*argv, "--entrypoint", program, reference.local, *words], timeout)
    except CommandError:
        run(["docker", "rm", "--force", name], timeout=60)
        raise
    missing = missing_preloads(output.stderr, libraries)
    if missing:
        raise ImageError(preload_problem(reference, missing))
    # Docker has one exit code for a missing command and for a runtime that fails.
    if output.rc in (126, 127) and f'exec: "{program}"' in output.stderr:
        raise NoProgramError(f"{reference.local} has no {program}: {output.text}")
    if output.rc:
        raise ImageError(
            f"no container starts from {reference.local} here: {output.text}. Look at journalctl "
            "-u docker.service."
        )
    return output.stdout


def check_runs(
    module: AnsibleModule, files: NodeFiles, reference: Reference, image: dict[str, Any]
) -> Notes:
    """Prove an image that is on the node, as far as that is possible, and keep the result."""
    problem = architecture_problem(image, reference, platform.machine())
    if problem:
        raise ImageError(problem)
    path = notes_path(image["id"])
    kept = read_notes(files.read(path))
    known = kept or Notes()
    untested = [item for item in module.params["preload"] if item not in known.preloads]
    ask_cann = bool(module.params["min_cann"]) and known.cann is None
    if module.check_mode or not (untested or ask_cann or kept is None):
        return known
    try:
        output = prove(reference, untested, ask_cann, module.params["proof_timeout"])
    except NoProgramError as error:
        module.warn(f"LD_PRELOAD is not tested: {error}")
        return known
    found = Notes([*known.preloads, *untested], parse_cann(output) if ask_cann else known.cann)
    files.write(path, dump_notes(image["id"], found))
    return found


def driver_checks(
    files: NodeFiles, reference: Reference, image: dict[str, Any], given: dict[str, Any]
) -> list[Check]:
    """Hold the node's driver and GPUs against what an image says that it wants of them."""
    gpus = nvidia.observe(None, timeout=30)
    names = [one["name"] or "" for one in gpus.devices if one["device_id"] in given["devices"]]
    own = {name: str(value) for name, value in given["env"].items() if name.startswith("NVIDIA_")}
    env = {**image["env"], **own}
    injection = Injection(
        hook=nvidia.has_toolkit_program(files, "nvidia-container-runtime-hook"),
        cdi_hook=nvidia.has_toolkit_program(files, "nvidia-cdi-hook"),
        specifications=nvidia.cdi_specifications(files),
        config=files.read(NVIDIA_CONFIG),
    )
    docker = run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=60)
    unasked = why_unasked(injection, docker.stdout.strip())
    return [
        requirement_check(reference.local, env, gpus.version, gpus.cuda_version, names, unasked),
        cuda_check(reference.local, env, gpus.version, given["compat"], names),
    ]


def derive(
    module: AnsibleModule, reference: Reference, base: dict[str, Any] | None, result: dict[str, Any]
) -> None:
    """Build the derived image. In check mode its base may not be on the node yet."""
    name, containerfile = (
        module.params["derived"]["image"],
        module.params["derived"]["containerfile"],
    )
    mark = derived_mark(base["id"], containerfile) if base else None
    before = after = inspect(name) if base else None
    result["built"] = before is None or before["labels"].get(DERIVED_LABEL) != mark
    result["changed"] = result["changed"] or result["built"]
    if mark and result["built"] and not module.check_mode:
        build(name, containerfile, mark, reference, module.params["timeout"])
        after = inspect(name)
    elif result["built"]:
        after = None
    result["derived_id"] = after["id"] if after else None
    result["diff"]["before"] += describe(name, before)
    result["diff"]["after"] += describe(name, after) if after else f"{name}: built\n"


def describe(name: str, image: dict[str, Any] | None) -> str:
    return f"{name}: {image['id'] if image else 'not here'}\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "digest": {"type": "str"},
            "preload": {"type": "list", "elements": "str", "default": []},
            "min_cann": {"type": "str"},
            "nvidia": {
                "type": "dict",
                "options": {
                    "devices": {"type": "list", "elements": "int", "required": True},
                    "env": {"type": "dict", "default": {}},
                    "compat": {
                        "type": "str",
                        "choices": ["none", "off", "on", "always"],
                        "default": "none",
                    },
                },
            },
            "derived": {
                "type": "dict",
                "options": {
                    "image": {"type": "str", "required": True},
                    "containerfile": {"type": "str", "required": True},
                },
            },
            "timeout": {"type": "int", "default": 3600},
            "proof_timeout": {"type": "int", "default": 120},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module, busy_s=2 * module.params["timeout"], changes=True)
    files = NodeFiles()
    result: dict[str, Any] = dict.fromkeys(("changed", "pulled", "built"), False)
    result.update(dict.fromkeys(("image_id", "derived_id")))
    result.update(checks=[], facts={"cann_version": None})
    try:
        reference = parse_reference(module.params["image"], module.params["digest"])
        planned = module.check_mode and not has_docker()
        image, named = (None, None) if planned else observe(reference)
        result["pulled"] = image is None
        if image is None and not module.check_mode:
            image = pull(reference, module.params["timeout"])
        # A pull by digest leaves the tag, under which containers start, where it was.
        retag = reference.source != reference.local and image != named
        if retag and not module.check_mode:
            docker("tag", reference.source, reference.local, timeout=60)
        result["changed"] = result["pulled"] or retag
        result["diff"] = {
            "before": describe(reference.local, named),
            "after": describe(reference.local, image) if image else f"{reference.source}: pulled\n",
        }
        if image:
            result.update({key: image[key] for key in ("repo_digests", "architecture", "size")})
            result["image_id"] = image["id"]
            notes = check_runs(module, files, reference, image)
            result["preload"] = [p for p in module.params["preload"] if p in notes.preloads]
            floor = module.params["min_cann"]
            if floor and not (module.check_mode and notes.cann is None):
                result["checks"] = [cann_check(reference, notes.cann, floor)]
                result["facts"] = {"cann_version": notes.cann or None}
            if module.params["nvidia"]:
                result["checks"] += driver_checks(files, reference, image, module.params["nvidia"])
        if module.params["derived"]:
            derive(module, reference, image, result)
    except (ImageError, CommandError, OSError) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
