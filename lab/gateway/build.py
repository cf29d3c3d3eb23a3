# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the gateway's image from the distribution's HAProxy and push it to the lab's registry."""

from __future__ import annotations

from lab import podman, registry, userland
from lab.machine import AptSources
from lab.paths import LAB, digest, log_file, scratch
from lab.shell import step

CONTAINERFILE = LAB / "gateway" / "Containerfile"
REPOSITORY = "muster-lab/haproxy"
PACKAGES = ("haproxy",)
# Which version that is depends on the machine, and an inventory has to name the image.
TAG = "distribution"


def build_tag(sources: AptSources) -> str:
    return "build-" + digest(sources.suite, *sources.lines, *PACKAGES, CONTAINERFILE)


def ensure_image(sources: AptSources) -> str:
    """Have the gateway's image in the registry; a second call only looks."""
    tag = build_tag(sources)
    if not registry.stores(REPOSITORY, tag):
        base = userland.make_userland("gateway-base", sources, PACKAGES)
        local = f"localhost/{REPOSITORY}:{tag}"
        with step("build the gateway's image"), scratch() as folder:
            podman.podman(
                "build", "--quiet", "--network=none", "--layers=false",
                f"--build-arg=BASE={base}",
                f"--file={CONTAINERFILE}", f"--tag={local}", folder,
                timeout=300, log=log_file("gateway-build"),
            )  # fmt: skip
            registry.push(local, REPOSITORY, tag)
        podman.podman("rmi", "--force", local, check=False)
    registry.tag(REPOSITORY, tag, TAG)
    return f"{registry.NAME}:{registry.PORT}/{REPOSITORY}:{TAG}"
