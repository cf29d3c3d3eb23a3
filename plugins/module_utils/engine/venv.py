# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments that engines run from without a container: what one is asked to hold, what
it holds, and what a failure to make it means. Pure."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import asdict, dataclass
from typing import Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.redaction import without_users

# The release that is installed where the node has no uv, and the oldest one that is used.
UV_VERSION = "0.13.8"
UV_OLDEST = (0, 8)
UV_HOME = "/opt/muster/uv"
# Interpreters that uv fetches; the engine's user has to read them, so not in root's home.
PYTHON_DIR = "/opt/muster/python"
CACHE_DIR = "/var/cache/muster/uv"
# As whom engines without a container run.
USER = "muster"


# The packages that make environments with pip, by the ID of a distribution or of its family. Debian
# has the module venv apart from python3, the others have it in there.
_DEBIAN, _PYTHON = ("python3-venv",), ("python3", "python3-pip")
PACKAGES = {
    **dict.fromkeys(("debian", "ubuntu"), _DEBIAN),
    **dict.fromkeys(("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn"), _PYTHON),
    **dict.fromkeys(("openEuler", "kylin", "sles", "suse", "opensuse"), _PYTHON),
}


class VenvError(Exception):
    """The environment cannot be made, with the remedy."""


@dataclass(frozen=True)
class Request:
    """What an environment shall hold and where it comes from."""

    python: str
    requirements: Sequence[str]
    index_urls: Sequence[str]
    torch_backend: str | None
    find_links: str | None

    @property
    def hash(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def describe(self) -> str:
        """Return lines for --diff, without passwords in addresses."""
        lines = [f"python {self.python}", *self.requirements]
        lines += [f"index {url}" for url in self.index_urls]
        lines += [f"torch backend {self.torch_backend}"] if self.torch_backend else []
        lines += [f"wheels of {self.find_links} alone"] if self.find_links else []
        return without_users("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Marker:
    """What is known of a finished environment; it is written last."""

    request: str
    packages: Sequence[str]

    @property
    def identity(self) -> str:
        """Return what tells two environments apart: what they hold."""
        return "sha256:" + hashlib.sha256("\n".join(self.packages).encode()).hexdigest()

    def dump(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def packages_of(release: Mapping[str, str]) -> list[str]:
    """Return the packages with which python3 makes environments with pip; none where unknown.

    Args:
        release: What /etc/os-release says.
    """
    families = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((list(PACKAGES[name]) for name in families if name in PACKAGES), [])


def marker_path(path: str) -> str:
    return posixpath.join(path, ".muster.json")


def parse_marker(text: str | None) -> Marker | None:
    """Return the marker of an environment; None where there is none or it cannot be read."""
    try:
        value = json_text.parse(text)
        packages = value["packages"]
        if isinstance(value["request"], str) and all(isinstance(line, str) for line in packages):
            return Marker(value["request"], list(packages))
    except (ValueError, TypeError, KeyError):
        pass
    return None


def environment_of(argv: Sequence[str]) -> str:
    """Return the environment whose program an argv starts, as PATH of PATH/bin/PROGRAM."""
    return posixpath.dirname(posixpath.dirname(argv[0]))


def request_problem(path: str, request: Request) -> str | None:
    """Say what is wrong with a request before anything was tried."""
    if not posixpath.isabs(path) or posixpath.normpath(path) != path or path.count("/") < 2:
        return f"path: {path!r} is not an absolute path of a folder of its own"
    if not re.fullmatch(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?", request.python, re.ASCII):
        return f"python: {request.python!r} is not a version such as 3.12"
    if not request.requirements:
        return "requirements: nothing is asked for"
    for line in request.requirements:
        if not re.fullmatch(r"[A-Za-z0-9][^\n\r]*", line, re.ASCII):
            return f"requirements: {line!r} is not a requirement such as vllm==0.23.0"
    for url in request.index_urls:
        if not re.fullmatch(r"https?://[^\s\"']+", url, re.ASCII):
            return f"index_urls: {without_users(url)!r} is not the address of an index"
    if request.torch_backend is not None and not re.fullmatch(
        r"[a-z0-9.]+", request.torch_backend, re.ASCII
    ):
        return f"torch_backend: {request.torch_backend!r} is none, such as auto or cu129"
    if request.find_links is not None and not posixpath.isabs(request.find_links):
        return f"find_links: {request.find_links!r} is not the absolute path of a folder"
    return None


def venv_argv(uv: str, path: str, request: Request) -> list[str]:
    """Return the command that makes the empty environment."""
    offline = ["--offline"] if request.find_links else []
    return [uv, "venv", "--no-project", "--python", request.python, *offline, path]


def install_argv(uv: str, path: str, request: Request) -> list[str]:
    """Return the command that fills it. Indexes come by the process's environment: they may
    hold a password."""
    argv = [uv, "pip", "install", "--python", f"{path}/bin/python"]
    if request.torch_backend:
        argv += ["--torch-backend", request.torch_backend]
    if request.find_links:
        argv += ["--offline", "--no-index", "--find-links", request.find_links]
    return [*argv, "--", *request.requirements]


def bootstrap_argv(request: Request) -> list[str]:
    """Return the command that installs uv itself, with the pip of an environment of its own."""
    argv = [f"{UV_HOME}/bin/python", "-m", "pip", "install", "--no-input", "--quiet"]
    argv += ["--disable-pip-version-check"]
    if request.find_links:
        argv += ["--no-index", "--find-links", request.find_links]
    return [*argv, f"uv=={UV_VERSION}"]


def is_usable(version: str) -> bool:
    """Tell whether this answer of uv --version is of a release that knows what is asked of it."""
    match = re.match(r"uv ([0-9]{1,9})\.([0-9]{1,9})", version, re.ASCII)
    return match is not None and (int(match[1]), int(match[2])) >= UV_OLDEST


def parse_freeze(text: str) -> list[str]:
    """Return the packages that uv pip freeze lists, sorted."""
    lines = (line.strip() for line in text.splitlines())
    return sorted(without_users(line) for line in lines if line and not line.startswith("#"))


FAILURES = (
    (
        r"no interpreter found|No download found|python downloads are",
        "the node has no such Python, and none was fetched",
        "Install that Python on the node, or let uv fetch it: it needs a network for that.",
    ),
    (
        r"ensurepip is not available|No module named '?(venv|ensurepip|pip)",
        "the node's python3 makes no environments with pip",
        "Install python3-venv on the node (Enterprise Linux, openEuler and Kylin: python3 and "
        "python3-pip), or put uv itself into PATH there.",
    ),
    (
        r"no space left on device",
        "the disk is full",
        "Free space: environments of former releases below the same folder may go.",
    ),
    (
        r"unauthorized|forbidden|\b40[13]\b",
        "an index wants a login",
        "Put user and password into its address in muster_wheel_index_urls.",
    ),
    (
        r"invalid peer certificate|certificate verify failed|UnknownIssuer",
        "the certificate of an index is not trusted",
        "Add its CA to the node's own (update-ca-certificates, or update-ca-trust).",
    ),
    (
        r"not found in the package registry|not found in the provided package locations"
        r"|no solution found|no matching distribution|there is no version of|no wheels? with a",
        "no set of packages fits what is asked for",
        "Correct the engine's version, or the indexes or wheels they are taken from.",
    ),
    (
        r"failed to fetch|error sending request|dns error|connection refused|timed out|timeout"
        r"|network is unreachable|connection reset|temporary failure in name resolution",
        "an index cannot be reached from this node",
        "Check its address, the network and the proxy, or install from a folder of wheels "
        "(muster_wheel_dir).",
    ),
)


def explain(what: str, output: str) -> str:
    """Explain in one message what a tool said: what it means and what to do."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    said = " ".join(lines[-5:]) or "nothing"
    unknown = ("it failed", "Try the same on the node by hand.")
    known = (
        (meaning, remedy)
        for pattern, meaning, remedy in FAILURES
        if re.search(pattern, " ".join(lines), re.IGNORECASE)
    )
    meaning, remedy = next(known, unknown)
    return f"cannot {what}: {meaning}. {remedy} The last words: {without_users(said)}"


def unreadable_problem(path: str, said: str) -> str:
    return (
        f"user {USER}, as which engines without a container run, cannot read {path} ({said}). Let "
        f"it: chmod -R o+rX {path}, and every folder above has to be passable (o+x); or keep the "
        "model elsewhere (muster_model_path)."
    )


def identity_of(text: str | None) -> str | None:
    """Return the identity of the environment with this marker's text, None if none is finished."""
    marker = parse_marker(text)
    return marker.identity if marker else None
