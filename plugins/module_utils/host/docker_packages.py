# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Docker comes from on each release of a distribution, and what of it a node lacks. Pure.

Sources: packages.debian.org and packages.ubuntu.com, files and dependencies of docker.io and
docker-cli; the installation guides of Docker (CentOS, RHEL) and Rocky Linux; for openEuler and
Kylin, which take the same packages, the role docker of kubespray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.paths import DOCKER

# Where the docker command may stand, the place that units run first.
CLIENTS = (DOCKER, "/usr/local/bin/docker", "/snap/bin/docker")
OLDEST_DOCKER = (20, 10)
DOCKER_CE = "https://download.docker.com/linux/centos"
GUIDE = "https://docs.docker.com/engine/install/"


@dataclass(frozen=True)
class Repository:
    """A repository that the distribution does not have."""

    url: str
    key: str


@dataclass(frozen=True)
class Source:
    """Docker's packages on one release.

    Attributes:
        manager: apt or dnf.
        packages: All that is needed, the docker command included.
        client: Those of them that bring the command, where the daemon can be installed without.
        repository: The repository that has to be added; None where the distribution has them.
    """

    manager: str
    packages: Sequence[str]
    client: Sequence[str] = ()
    repository: Repository | None = None


class Lack(NamedTuple):
    """What a node lacks of Docker, what mends it, and what prepare installs; None: nothing."""

    seen: str
    remedy: str
    install: Source | None = None


def _docker_ce(release: int) -> Source:
    """Return Docker's own packages for a release of Enterprise Linux."""
    repository = Repository(f"{DOCKER_CE}/{release}/$basearch/stable", f"{DOCKER_CE}/gpg")
    return Source("dnf", ("docker-ce", "docker-ce-cli", "containerd.io"), (), repository)


_WHOLE = Source("apt", ("docker.io",))
# Debian 13 only recommends the package of the command, and recommendations can be off.
_APART = Source("apt", ("docker.io", "docker-cli"), ("docker-cli",))
_ENTERPRISE = {str(release): _docker_ce(release) for release in (8, 9, 10)}

# By ID and VERSION_ID of os-release; a version stands for its minor ones, too.
SOURCES: Mapping[str, Mapping[str, Source]] = {
    "debian": {"11": _WHOLE, "12": _WHOLE, "13": _APART},
    "ubuntu": dict.fromkeys(("20.04", "22.04", "24.04", "26.04"), _WHOLE),
    **dict.fromkeys(("rhel", "centos", "rocky", "almalinux", "ol"), _ENTERPRISE),
    # openEuler's own docker-engine is Docker 18.09, in which current images cannot start a thread.
    "openEuler": dict.fromkeys(("20.03", "22.03", "24.03"), _docker_ce(8)),
    "kylin": {"V10": _docker_ce(8)},
}

# What helps by hand on others that vendors of devices name.
_HINTS = {
    "sles": "activate the Containers Module, then zypper install docker",
    "amzn": "dnf install docker",
}


def source_of(release: Mapping[str, str]) -> Source | None:
    """Return where Docker comes from on a release; None where that is not known.

    Args:
        release: What /etc/os-release says.
    """
    number = release.get("VERSION_ID", "")
    for version, source in SOURCES.get(release.get("ID", ""), {}).items():
        if number == version or number.startswith(f"{version}."):
            return source
    return None


def lack_of(release: Mapping[str, str], service: bool, client: str | None) -> Lack | None:
    """Return what a node lacks of Docker; None where it has what units need.

    A Docker that is there is taken whatever the distribution.

    Args:
        release: What /etc/os-release says.
        service: Whether systemd has a docker.service.
        client: Where the docker command stands; None where there is none.
    """
    if client and client.startswith("/snap/"):
        # Its daemon does not see most of the host's folders, and has another service.
        remedy = "remove it (snap remove docker), and prepare installs the distribution's own"
        return Lack("Docker as a snap, without a docker.service", remedy)
    if service and client == DOCKER:
        return None
    if service and client:
        remedy = f"units run {DOCKER}: ln -s {client} {DOCKER}"
        return Lack(f"the docker command at {client} alone", remedy)
    source = source_of(release)
    if service:
        seen = "docker.service without the docker command"
        if source and source.client:
            remedy = f"prepare installs {' and '.join(source.client)}"
            return Lack(seen, remedy, Source(source.manager, source.client))
        return Lack(seen, f"install the package that brings {DOCKER}: docker-cli or docker-ce-cli")
    if source:
        return Lack("not installed", f"prepare installs {' and '.join(source.packages)}", source)
    return Lack(
        f"not installed, and Muster knows no package of {_name(release)}", _by_hand(release)
    )


def _by_hand(release: Mapping[str, str]) -> str:
    hint = _HINTS.get(release.get("ID", ""), f"see {GUIDE}")
    oldest = ".".join(map(str, OLDEST_DOCKER))
    return (
        f"install Docker {oldest} or later by hand ({hint}), so that docker.service and {DOCKER} "
        "are there"
    )


def _name(release: Mapping[str, str]) -> str:
    known = f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip()
    return release.get("PRETTY_NAME") or known or "this operating system"
