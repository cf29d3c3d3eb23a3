# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the image of SGLang's emulator, plain and as ROCm's, and push both."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

from lab import podman, registry, userland
from lab.engine import build as engine
from lab.machine import AptSources
from lab.paths import LAB, cache_dir, digest, log_file, scratch
from lab.shell import LabError, run, step

HERE = LAB / "sglang"
# The version of the recipe on ROCm; flags.json and the emulator are of this one.
VERSION = "0.5.7"
# Tells the version as SGLang's own package does.
PACKAGE = "sglang"
REPOSITORY = "muster-lab/sglang-emulator"
# The tags and what the emulator is told to be.
FLAVOURS = {VERSION: "nvidia", f"{VERSION}-rocm": "rocm"}
INPUTS = ("Containerfile", "launch_server.py", "flags.json")
# Where SGLang's own images have it.
HOME = "sgl-workspace/sglang/python"
SERVER_ARGS = "sglang/srt/server_args.py"
# The true files that the recipe on ROCm changes.
SOURCES = ("sglang/srt/models/minimax_m2.py", "sglang/srt/models/transformers.py")


def _wheel() -> Path:
    wheels = cache_dir() / "wheels"
    wheel = wheels / f"sglang-{VERSION}-py3-none-any.whl"
    if not wheel.exists():
        wheels.mkdir(parents=True, exist_ok=True)
        with step(f"fetch SGLang {VERSION}'s sources"):
            run(
                [sys.executable, "-m", "pip", "--disable-pip-version-check", "download",
                 "--no-deps", "--only-binary=:all:", f"--dest={wheels}", f"sglang=={VERSION}"],
                timeout=300,
                log=log_file("sglang-pip"),
            )  # fmt: skip
    return wheel


def _stage(root: Path) -> None:
    home = root / HOME
    with zipfile.ZipFile(_wheel()) as wheel:
        for name in SOURCES:
            wheel.extract(name, home)
        spelled = set(re.findall(r'"(--[a-z0-9-]+)"', wheel.read(SERVER_ARGS).decode()))
    known = {
        name for flag in json.loads((HERE / "flags.json").read_text()) for name in flag["names"]
    }
    if known != spelled:
        differences = ", ".join(sorted(known ^ spelled))
        raise LabError(f"flags.json does not hold the flags of SGLang {VERSION}: {differences}")
    for name in ("launch_server.py", "flags.json"):
        shutil.copy(HERE / name, home / "sglang")
    site = root / "usr/lib/python3/dist-packages"
    site.mkdir(parents=True)
    (site / "sglang.pth").write_text(f"/{HOME}\n")
    engine.add_distribution(site, PACKAGE, VERSION)


def _build(sources: AptSources, build: str, flavour: str) -> None:
    # The engine image's base, so that nodes and registry keep it once.
    base = userland.make_userland("engine-base", sources, engine.BASE_PACKAGES)
    local = f"localhost/{REPOSITORY}:{build}"
    with scratch() as folder:
        _stage(Path(folder, "root"))
        with step(f"build the image of SGLang's emulator, {flavour}"):
            podman.podman(
                "build", "--quiet", "--network=none", "--layers=false",
                f"--build-arg=BASE={base}", f"--build-arg=FLAVOUR={flavour}",
                f"--file={HERE / 'Containerfile'}", f"--tag={local}", folder,
                timeout=300, log=log_file("sglang-build"),
            )  # fmt: skip
            registry.push(local, REPOSITORY, build)
    podman.podman("rmi", "--force", local, check=False)


def build_tags(sources: AptSources) -> dict[str, str]:
    """The tag that says what an image was built of, by its flavour."""
    inputs = (HERE / name for name in INPUTS)
    packages = engine.BASE_PACKAGES
    mark = digest(sources.suite, *sources.lines, *packages, *SOURCES, PACKAGE, VERSION, *inputs)
    return {flavour: f"build-{flavour}-{mark}" for flavour in FLAVOURS.values()}


def ensure_images(sources: AptSources) -> list[str]:
    """Have both images in the registry; a second call only looks."""
    builds = build_tags(sources)
    for tag, flavour in FLAVOURS.items():
        build = builds[flavour]
        if not registry.stores(REPOSITORY, build):
            _build(sources, build, flavour)
        registry.tag(REPOSITORY, build, tag)
    return [f"{registry.NAME}:{registry.PORT}/{REPOSITORY}:{tag}" for tag in FLAVOURS]
