# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings an engine's image to the node, and proves that it can run there."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from typing import Any, Callable, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
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

ARGUMENT_SPEC: dict[str, Any] = {
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
}

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


def unproven(known: Notes, params: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the libraries and whether the CANN that the image was not asked for yet."""
    untested = [item for item in params["preload"] if item not in known.preloads]
    return untested, bool(params["min_cann"]) and known.cann is None


def note_brought(files: NodeFiles, image_id: str, names: Sequence[str]) -> None:
    """Keep the names under which Muster brought an image: by them it may be removed again."""
    path = notes_path(image_id)
    known = read_notes(files.read(path)) or Notes(started=False)
    files.write(path, dump_notes(image_id, replace(known, brought=[*known.brought, *names])))


def check_runs(
    files: NodeFiles,
    reference: Reference,
    image: dict[str, Any],
    params: dict[str, Any],
    check_mode: bool,
    warn: Callable[[str], None],
) -> tuple[Notes, bool]:
    """Prove an image that is on the node, as far as that is possible, and keep the result.

    Returns:
        What is known of it, and whether a real run has nothing left to prove.
    """
    problem = architecture_problem(image, reference, platform.machine())
    if problem:
        raise ImageError(problem)
    path = notes_path(image["id"])
    known = read_notes(files.read(path)) or Notes(started=False)
    untested, ask_cann = unproven(known, params)
    proven = known.started and not (untested or ask_cann)
    if check_mode or proven:
        return known, proven
    try:
        output = prove(reference, untested, ask_cann, params["proof_timeout"])
    except NoProgramError as error:
        warn(f"LD_PRELOAD is not tested: {error}")
        return known, False
    found = replace(
        known,
        preloads=[*known.preloads, *untested],
        cann=parse_cann(output) if ask_cann else known.cann,
        started=True,
    )
    files.write(path, dump_notes(image["id"], found))
    return found, True


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
    reference: Reference,
    base: dict[str, Any] | None,
    params: dict[str, Any],
    check_mode: bool,
    result: dict[str, Any],
) -> None:
    """Build the derived image. In check mode its base may not be on the node yet."""
    name, containerfile = params["derived"]["image"], params["derived"]["containerfile"]
    mark = derived_mark(base["id"], containerfile) if base else None
    before = after = inspect(name) if base else None
    result["built"] = before is None or before["labels"].get(DERIVED_LABEL) != mark
    result["changed"] = result["changed"] or result["built"]
    if mark and result["built"] and not check_mode:
        build(name, containerfile, mark, reference, params["timeout"])
        after = inspect(name)
        if after:
            note_brought(NodeFiles(), after["id"], [name])
    elif result["built"]:
        after = None
    result["derived_id"] = after["id"] if after else None
    result["diff"]["before"] += describe(name, before)
    result["diff"]["after"] += describe(name, after) if after else f"{name}: built\n"


def describe(name: str, image: dict[str, Any] | None) -> str:
    return f"{name}: {image['id'] if image else 'not here'}\n"


def bring(
    params: dict[str, Any],
    check_mode: bool,
    result: dict[str, Any],
    warn: Callable[[str], None] = lambda _text: None,
) -> bool:
    """Do what engine_image does.

    Args:
        params: The module's options.
        check_mode: Whether nothing is pulled, started or built.
        result: The module's result, filled as far as it goes.
        warn: Takes warnings.

    Returns:
        Whether a further call would neither change nor prove anything.

    Raises:
        ImageError, CommandError, OSError: It cannot be done; the text says what to do.
    """
    files = NodeFiles()
    result.update(dict.fromkeys(("changed", "pulled", "built"), False))
    result.update(dict.fromkeys(("image_id", "derived_id")))
    result.update(checks=[], facts={"cann_version": None})
    reference = parse_reference(params["image"], params["digest"])
    planned = check_mode and not has_docker()
    image, named = (None, None) if planned else observe(reference)
    result["pulled"] = image is None
    if image is None and not check_mode:
        image = pull(reference, params["timeout"])
        note_brought(files, image["id"], [reference.source, reference.local])
    # A pull by digest leaves the tag, under which containers start, where it was.
    retag = reference.source != reference.local and image != named
    if retag and not check_mode:
        docker("tag", reference.source, reference.local, timeout=60)
        known = read_notes(files.read(notes_path(image["id"])) if image else None)
        if image and known and known.brought:
            note_brought(files, image["id"], [reference.local])
    result["changed"] = result["pulled"] or retag
    result["diff"] = {
        "before": describe(reference.local, named),
        "after": describe(reference.local, image) if image else f"{reference.source}: pulled\n",
    }
    proven = False
    if image:
        result.update({key: image[key] for key in ("repo_digests", "architecture", "size")})
        result["image_id"] = image["id"]
        notes, proven = check_runs(files, reference, image, params, check_mode, warn)
        result["preload"] = [p for p in params["preload"] if p in notes.preloads]
        floor = params["min_cann"]
        if floor and not (check_mode and notes.cann is None):
            result["checks"] = [cann_check(reference, notes.cann, floor)]
            result["facts"] = {"cann_version": notes.cann or None}
        if params["nvidia"]:
            result["checks"] += driver_checks(files, reference, image, params["nvidia"])
    if params["derived"]:
        derive(reference, image, params, check_mode, result)
    return proven and not result["changed"]


def state(params: dict[str, Any]) -> State:
    """Return what engine_image would do, and of an image that is here and proven its checks."""
    result: dict[str, Any] = {}
    if not bring(params, True, result):
        return State([f"{params['image']} is to be brought or proven"])
    return State([], checks=result["checks"], facts=result["facts"])
