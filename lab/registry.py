# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's registry: Debian's own, plain HTTP, on the nodes' network."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

from lab import podman
from lab.network import NETWORK, PREFIX
from lab.paths import LAB, cache_dir, digest, log_file
from lab.podman import LABEL
from lab.shell import LabError, run, step

NAME = "registry"
PORT = 5000
ADDRESS = f"{PREFIX}.2"
CONTAINER = f"{NETWORK}-{NAME}"
CONFIG = LAB / "registry.yml"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

# A proxy of this machine has no way into the lab's network.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _ask(
    path: str, *, method: str = "GET", body: bytes | None = None, kind: str = ""
) -> tuple[bytes, str] | None:
    """Body and content type, or None where there is no such thing."""
    headers = {"Accept": ", ".join(MANIFESTS), **({"Content-Type": kind} if kind else {})}
    request = urllib.request.Request(
        f"http://{ADDRESS}:{PORT}/v2/{path}", data=body, method=method, headers=headers
    )
    try:
        with _OPENER.open(request, timeout=10) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LabError(f"the lab's registry answers {error.code} to {method} {path}") from error


def _is_up() -> bool:
    try:
        return _ask("") is not None
    except OSError:
        return False


def _storage() -> Path:
    return cache_dir() / "registry"


def _program() -> Path:
    """The registry's own program out of the distribution's package."""
    folder = cache_dir() / "docker-registry"
    program = folder / "usr/bin/docker-registry"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with step("fetch the registry"):
            run(
                ["sh", "-ec", 'cd "$0"; apt-get download -q docker-registry; dpkg-deb -x *.deb .',
                 str(folder)],
                timeout=300,
                log=log_file("registry"),
            )  # fmt: skip
    return program


def ensure(image: str) -> None:
    """Run it in the node image's userland, with its storage in the cache."""
    program = _program()
    storage = _storage()
    storage.mkdir(parents=True, exist_ok=True)
    mark = digest(image, CONFIG, str(storage))
    found = podman.inspect("container", CONTAINER)
    if (
        found is not None
        and podman.is_alive(found)
        and (found["Config"]["Labels"] or {}).get(f"{LABEL}.mark") == mark
        and _is_up()
    ):
        return
    podman.remove_container(CONTAINER)
    with step("start the registry"):
        podman.podman(
            "run", "--detach",
            "--name", CONTAINER,
            "--hostname", NAME,
            f"--label={LABEL}=registry",
            f"--label={LABEL}.mark={mark}",
            "--network", f"{NETWORK}:ip={ADDRESS},alias={NAME}",
            "--volume", f"{program}:/usr/local/bin/docker-registry:ro",
            "--volume", f"{CONFIG}:/etc/registry.yml:ro",
            "--volume", f"{storage}:/var/lib/registry",
            image,
            "/usr/local/bin/docker-registry", "serve", "/etc/registry.yml",
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while not _is_up():
            if time.monotonic() > deadline:
                said = podman.podman("logs", "--tail", "5", CONTAINER, check=False)
                raise LabError(f"the registry does not answer on {ADDRESS}:{PORT}\n{said}")
            time.sleep(0.1)


def stores(repository: str, tag: str) -> bool:
    """Look into the storage itself, so that it can be said before anything runs."""
    link = f"docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
    return (_storage() / link).exists()


def push(image: str, repository: str, tag: str) -> None:
    target = f"docker://{ADDRESS}:{PORT}/{repository}:{tag}"
    podman.podman("push", "--quiet", "--tls-verify=false", image, target, timeout=900)


def tag(repository: str, existing: str, new: str) -> None:
    found = _ask(f"{repository}/manifests/{existing}")
    if found is None:
        raise LabError(f"the registry has no {repository}:{existing}")
    manifest, kind = found
    current = _ask(f"{repository}/manifests/{new}")
    if current is None or current[0] != manifest:
        _ask(f"{repository}/manifests/{new}", method="PUT", body=manifest, kind=kind)
