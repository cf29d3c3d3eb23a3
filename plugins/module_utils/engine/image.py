# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image references, what a pull's failure means, and what the first container showed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import plain
from ansible_collections.muster.serving.plugins.module_utils.common.versions import is_older

DIGEST = r"sha256:[0-9a-f]{64}"
# As Docker names architectures, by what the kernel calls the machine.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
# On an image that Muster derived: what it was made of.
DERIVED_LABEL = "muster.derived"

_LAST_LINES = 6
# Characters of a name without its tag, as Docker takes it.
_LONGEST_NAME = 255

# Prints what the CANN that the engine will load says of itself, and nothing where there is none.
# From 8.5 on CANN also has a folder of its own.
CANN_SCRIPT = """\
ascend=/usr/local/Ascend
for home in "$ASCEND_TOOLKIT_HOME" $ascend/ascend-toolkit/latest $ascend/cann; do
  for info in "$home"/*-linux/ascend_toolkit_install.info; do
    if [ -r "$info" ]; then cat "$info"; exit 0; fi
  done
done
"""


class ImageError(Exception):
    """The image cannot be used here, with the remedy."""


@dataclass(frozen=True)
class Reference:
    """An image as REPOSITORY:TAG, REPOSITORY@DIGEST or both."""

    repository: str
    tag: str | None
    digest: str | None

    @property
    def registry(self) -> str:
        first, _slash, rest = self.repository.partition("/")
        return first if rest and re.search(r"[.:]|^localhost$", first) else "docker.io"

    @property
    def local(self) -> str:
        """Return the name under which a container is started from it."""
        if self.tag:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.digest}"

    @property
    def source(self) -> str:
        """Return the name under which it is pulled: by digest where there is one."""
        return f"{self.repository}@{self.digest}" if self.digest else self.local


def parse_reference(image: str, digest: str | None = None) -> Reference:
    """Take a reference apart; a digest may stand in it or be given apart, not differ.

    Raises:
        ImageError: It is none.
    """
    match = re.fullmatch(
        r"(?P<repository>(?:(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?/)?"
        r"[a-z0-9]+(?:(?:[._]|__|-+|/)[a-z0-9]+)*)"
        r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>" + DIGEST + r"))?",
        image,
        re.ASCII,
    )
    if not match or len(match["repository"]) > _LONGEST_NAME:
        raise ImageError(f"{image!r} is not an image such as registry.lan:5000/name:tag")
    if digest is not None and not re.fullmatch(DIGEST, digest, re.ASCII):
        raise ImageError(f"digest {digest!r} is not sha256: and 64 hex digits")
    if digest and match["digest"] and digest != match["digest"]:
        raise ImageError(f"{image} holds another digest than the one given with it, {digest}")
    digest = digest or match["digest"]
    return Reference(
        match["repository"], match["tag"] or (None if match["digest"] else "latest"), digest
    )


def usual_name(name: str) -> str:
    """Return the name of an image as Docker lists it: without what it takes for granted."""
    for prefix in ("docker.io/", "library/"):
        if name.startswith(prefix):
            name = name[len(prefix) :]
    return name


def parse_inspect(text: str) -> dict[str, Any] | None:
    """Return the image of docker image inspect, or None where its output holds none."""
    try:
        document = json.loads(text)
        image = document[0]
        config = image.get("Config") or {}
        return {
            "id": str(image["Id"]),
            "repo_tags": [str(item) for item in image.get("RepoTags") or []],
            "repo_digests": [str(item) for item in image.get("RepoDigests") or []],
            "architecture": str(image.get("Architecture") or ""),
            "os": str(image.get("Os") or ""),
            "size": int(image.get("Size") or 0),
            "layers": [str(item) for item in (image.get("RootFS") or {}).get("Layers") or []],
            "labels": dict(config.get("Labels") or {}),
            "env": dict(str(item).partition("=")[::2] for item in config.get("Env") or []),
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def matches(image: Mapping[str, Any] | None, reference: Reference) -> bool:
    """Tell whether what is here is what is wanted. Without a digest the tag's name decides."""
    if image is None:
        return False
    if reference.digest is None:
        return True
    return any(name.endswith("@" + reference.digest) for name in image["repo_digests"])


def architecture_problem(
    image: Mapping[str, Any], reference: Reference, machine: str
) -> str | None:
    """Say what is wrong with an image that was built for another kind of node."""
    wanted = ARCHITECTURES.get(machine, machine)
    if not image["architecture"] or image["architecture"] == wanted:
        return None
    return (
        f"{reference.local} is built for {image['architecture']}, this node is {wanted}. Choose an "
        "image for this node, or a tag that holds several architectures, with muster_image."
    )


PULL_FAILURES = (
    (
        r"no matching manifest for",
        "the registry has it, but not for this node's architecture",
        "Choose a tag that holds this architecture with muster_image.",
    ),
    (
        r"manifest unknown|manifest for .* not found|not found: manifest",
        "the registry does not have it",
        "Correct muster_image or its digest; tags of the repository are listed by the registry.",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "the registry speaks plain HTTP and Docker asked over HTTPS",
        "Name it in muster_insecure_registries, if that is meant.",
    ),
    (
        r"x509:|certificate",
        "the registry's certificate is not trusted",
        "Give its CA with muster_registry_ca.",
    ),
    (
        r"toomanyrequests|rate limit",
        "the registry limits how much is pulled",
        "Use a mirror (muster_registry_mirrors) or log in with docker login as root on the node.",
    ),
    (
        r"unauthorized|authentication required|access denied|access forbidden|no basic auth",
        "the registry wants a login, or the repository does not exist",
        "Correct muster_image, or run docker login for its registry as root on the node.",
    ),
    (
        r"no space left on device",
        "the node's disk is full",
        "Free space where Docker keeps images (docker system df; docker image prune).",
    ),
    (
        r"cannot connect to the docker daemon|docker daemon is not running",
        "the Docker daemon does not run",
        "Run the role docker first.",
    ),
    (
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|deadline exceeded|request canceled|TLS handshake timeout|connection reset|EOF",
        "the registry cannot be reached from this node",
        "Check the name, the network and the proxy (muster_proxy), or use a mirror of it "
        "with muster_image.",
    ),
)


def explain_pull(reference: Reference, output: str) -> str:
    """Explain in one message what docker pull said: what it means and what to do."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = lines[-1] if lines else "nothing"
    unknown = ("it failed", f"Try docker pull {reference.source} on the node.")
    known = (
        (meaning, remedy)
        for pattern, meaning, remedy in PULL_FAILURES
        if re.search(pattern, output, re.IGNORECASE)
    )
    meaning, remedy = next(known, unknown)
    return (
        f"cannot pull {reference.source} from {reference.registry}: {meaning}. {remedy} "
        f"Docker said: {said}"
    )


def derived_mark(base_id: str, containerfile: str) -> str:
    """Return what a derived image is made of, as its label says it."""
    return hashlib.sha256(f"{base_id}\n{containerfile}".encode()).hexdigest()


def explain_build(image: str, base: str, output: str) -> str:
    """Explain in one message what docker build said: what it means and what to do."""
    problem = f"cannot build {image} from {base}: "
    # Older builders colour what a step says.
    output = plain(output)
    # A step of ours that fails says why; newer builders set number and time before it.
    own = re.search(r"^(?:#\d+ +[\d.]+ +)?muster: (.+)$", output, re.MULTILINE)
    if own:
        return (
            f"{problem}{own[1]}. This is not the image that the recipe was written for: set "
            "muster_image or muster_engine_version to the one it names, or choose a recipe for "
            "yours."
        )
    lines = [line.strip()[:200] for line in output.splitlines() if line.strip()]
    said = f"Docker said: {' / '.join(lines[-_LAST_LINES:]) or 'nothing'}"
    if "no space left on device" in output:
        return (
            f"{problem}the node's disk is full. Free space where Docker keeps images (docker "
            f"system df; docker image prune). {said}"
        )
    return f"{problem}it failed. Look at journalctl -u docker.service. {said}"


def missing_preloads(stderr: str, libraries: Sequence[str]) -> list[str]:
    """Return the libraries of which the dynamic linker says that it cannot preload them."""
    refused = set(re.findall(r"object '([^'\n]+)' from LD_PRELOAD cannot be preloaded", stderr))
    return [library for library in libraries if library in refused]


def preload_problem(reference: Reference, libraries: Sequence[str]) -> str:
    names = ", ".join(libraries)
    return (
        f"{reference.local} does not hold {names}, which the engine shall preload (LD_PRELOAD). "
        "Choose an image with it, give the path it has there, or take LD_PRELOAD out with "
        "muster_engine_env: {LD_PRELOAD: null}."
    )


def notes_path(image_id: str) -> str:
    """Return the path of the notes on an image, which never changes."""
    return f"{STATE_DIR}/images/{re.sub(r'[^0-9A-Za-z]', '-', image_id)}.json"


@dataclass(frozen=True)
class Notes:
    """What was found out about an image, and what was done for it.

    Fields:
        preloads: Libraries that load in it.
        cann: The version of its CANN, empty where the image tells none, None where it was not
            asked.
        brought: Names under which Muster pulled or built it; none where it was there before.
        started: Whether a container has started from it.
    """

    preloads: Sequence[str] = ()
    cann: str | None = None
    brought: Sequence[str] = ()
    started: bool = True


def read_notes(text: str | None) -> Notes | None:
    """Return the notes that were kept, if any. Unreadable ones are none: test again."""
    try:
        found = json_text.parse(text)
        preloads, cann = found["preloads"], found.get("cann")
        brought = found.get("brought", [])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(preloads, list) or not isinstance(brought, list):
        return None
    return Notes(
        [item for item in preloads if isinstance(item, str)],
        cann if isinstance(cann, str) else None,
        tuple(item for item in brought if isinstance(item, str)),
        found.get("started", True) is True,
    )


def dump_notes(image_id: str, notes: Notes) -> str:
    kept = {
        "image_id": image_id,
        "preloads": sorted(set(notes.preloads)),
        "cann": notes.cann,
        "brought": sorted(set(notes.brought)),
        "started": notes.started,
    }
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def parse_cann(text: str) -> str:
    """Return the version in ascend_toolkit_install.info, empty where there is none."""
    match = re.search(r"^version=([!-~]{1,64})[ \t\r]*$", text, re.MULTILINE)
    return match[1] if match else ""


def cann_check(reference: Reference, version: str | None, floor: str) -> Check:
    """Check whether the CANN in an image is new enough for the engine in it."""
    older = is_older(version, floor) if version else None
    status = {True: "failed", False: "ok", None: "unknown"}[older]
    remedy = {
        True: "set muster_image or muster_engine_version to an image that brings it",
        False: "",
        None: "look at ascend_toolkit_install.info below /usr/local/Ascend in the image",
    }[older]
    observed = f"CANN {version}" if version else "the image does not say which CANN it holds"
    return check(
        "cann-version", status, reference.local, observed, f"CANN {floor} or later", remedy
    )
