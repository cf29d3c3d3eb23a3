# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Userlands made of the machine's own Debian or Ubuntu: the node image and the engine's base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab import podman
from lab.machine import AptSources, of_other_release
from lab.paths import LAB, digest, log_file, scratch
from lab.shell import run, step

NODE_PACKAGES = (
    "ca-certificates",
    "dbus",
    "docker.io",
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)

# Units that would reach for the machine's consoles and modules, or change its kernel for all.
MASKED = (
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-udevd.service",
)

NODE_ROOTFS = LAB / "node" / "rootfs"
NODE_HOOKS = (
    'cp -a "$ROOTFS/." "$1/"',
    'chown -R 0:0 "$1/etc" "$1/usr/local"',
    'rm -f "$1"/etc/ssh/ssh_host_*; : >"$1/etc/machine-id"',
    # The distribution's sysctls would be applied to the whole machine at each node's boot.
    'rm -f "$1"/etc/sysctl.d/*.conf; for f in "$1"/usr/lib/sysctl.d/*.conf; do '
    'ln -s /dev/null "$1/etc/sysctl.d/${f##*/}"; done',
    'chroot "$1" useradd --system --user-group HwHiAiUser',
    f'chroot "$1" systemctl mask {" ".join(MASKED)}',
    'chroot "$1" systemctl enable muster-lab-cpufreq.service docker.service',
)


def make_userland(
    name: str,
    sources: AptSources,
    packages: Sequence[str],
    *,
    hooks: Sequence[str] = (),
    rootfs: Path | None = None,
) -> str:
    """Build `localhost/muster-lab/NAME:HASH` unless podman has it, and return that reference."""
    image, options = _recipe(name, sources, packages, hooks, rootfs)
    if podman.succeeds("image", "exists", image):
        return image
    with step(f"build the {name} image"), scratch() as folder:
        tar, apt_list = Path(folder, "root.tar"), Path(folder, "sources.list")
        apt_list.write_text("\n".join([*sources.lines, ""]))
        run(
            ["mmdebstrap", *options, sources.suite, str(tar), str(apt_list)],
            timeout=1200,
            env={"ROOTFS": str(rootfs or "")},
            log=log_file(f"build-{name}"),
        )
        podman.podman("import", "--quiet", str(tar), image, timeout=300)
    return image


def _recipe(
    name: str,
    sources: AptSources,
    packages: Sequence[str],
    hooks: Sequence[str],
    rootfs: Path | None,
) -> tuple[str, list[str]]:
    """The reference that says what an image is made of, and mmdebstrap's options for it."""
    docs = ("doc", "man", "locale", "info")
    options = [
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in docs),
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--aptopt={option}" for option in sources.options),
        *(f"--customize-hook={hook}" for hook in hooks),
    ]
    key = digest(sources.suite, *sources.lines, *options, *([rootfs] if rootfs else []))
    return f"localhost/muster-lab/{name}:{key}", options


def _node_packages() -> tuple[str, ...]:
    """Newer releases ship Docker's command apart from its daemon."""
    apart = run(["apt-cache", "show", "docker-cli"], check=False).returncode == 0
    return (*NODE_PACKAGES, "docker-cli") if apart else NODE_PACKAGES


def has_node_image(sources: AptSources) -> bool:
    """Whether podman has the image of nodes of the machine's own release."""
    image, _options = _recipe("node", sources, _node_packages(), NODE_HOOKS, NODE_ROOTFS)
    return podman.succeeds("image", "exists", image)


def make_node_image(sources: AptSources, *, other_release: bool = False) -> str:
    """The image of nodes of the machine's own release, or of another one.

    Where Docker's command is a package of its own, a node of another release is without it, as a
    minimal installation would be.
    """
    packages = NODE_PACKAGES if other_release else _node_packages()
    sources = of_other_release(sources) if other_release else sources
    return make_userland("node", sources, packages, hooks=NODE_HOOKS, rootfs=NODE_ROOTFS)
