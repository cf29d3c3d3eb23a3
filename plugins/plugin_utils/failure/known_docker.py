# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of Docker and its images."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import (
    LIKELY,
    PREFLIGHT,
    PREPARE,
    Signature,
)

_NETWORK = (
    r"(?:request canceled|Client\.Timeout|i/o timeout|connection refused|no such host"
    r"|network is unreachable|no route to host|TLS handshake timeout|context deadline exceeded"
    r"|\bEOF\b|connection reset by peer)"
)

SIGNATURES = (
    Signature(
        "mount-kind",
        r"Are you trying to mount a directory onto a file|error mounting \".{0,300}not a directory",
        "a path that the container mounts is a folder where a file is wanted, or the reverse:"
        " Docker makes a folder of a file that was missing",
        "remove the empty folder on the node and put the file in its place",
        "Docker",
        ("mount-source", "driver-mount"),
    ),
    Signature(
        "mount-absent",
        r"bind source path does not exist|error mounting \".{0,300}no such file or directory",
        "a path that the container mounts is not on this node",
        PREFLIGHT,
        "Docker",
        ("mount-source",),
    ),
    Signature(
        "image-architecture",
        r"(?i)exec format error|no matching manifest for \S+",
        "the image is built for another processor than this node's",
        "take a tag that holds this architecture with muster_image",
        "kernel, ENOEXEC; Docker",
        ("host-arch",),
    ),
    Signature(
        "image-command",
        r"exec: \"[^\"]+\": (?:executable file not found|stat [^:]+: no such file)"
        r"|status=203/EXEC|Failed at step EXEC",
        "the program that the plan starts is not in the image or environment",
        f"another image with muster_image; for an environment, {PREPARE}",
        "Docker; systemd",
    ),
    Signature(
        "image-certificate",
        r"x509: |certificate signed by unknown authority|CERTIFICATE_VERIFY_FAILED",
        "the registry or Hub, or a proxy before it, shows a certificate that this node does not"
        " know",
        f"name its authority with muster_registry_ca, then {PREPARE}",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "registry-plain",
        r"server gave HTTP response to HTTPS client",
        "the registry speaks HTTP, and Docker was not told so",
        f"name it in muster_insecure_registries, then {PREPARE}",
        "Docker",
        ("container-engine",),
    ),
    Signature(
        "image-limit",
        r"(?i)\btoomanyrequests\b|pull rate limit",
        "the registry allows this address no more pulls for now",
        "log in, wait, or pull through muster_registry_mirrors",
        "Docker Hub",
    ),
    Signature(
        "image-auth",
        r"(?i)unauthorized: |no basic auth credentials|authentication required"
        r"|(?<!repository does not exist or may require 'docker login': )denied: requested access"
        r"|(?:/v2/|manifests).{0,200}(?:401 unauthorized|403 forbidden)|daemon: denied"
        r"|fetch (?:anonymous|oauth) token: unexpected status",
        "the registry wants a login for the image",
        "docker login on the node, then run playbooks/prepare.yml",
        "Docker",
    ),
    Signature(
        "registry-unreachable",
        rf"(?:/v2/|registry|docker\.io).{{0,300}}{_NETWORK}",
        "the node does not reach the registry",
        "muster_proxy or muster_registry_mirrors, or see DNS, route and firewall of the node",
        "Docker",
    ),
    Signature(
        "image-absent",
        r"manifest unknown|pull access denied|manifest for \S+ not found|repository does not exist"
        r"|failed to resolve (?:reference|source metadata).{0,200}: not found",
        "the registry has no image of that name and tag, or shows it to nobody without a login",
        "correct muster_image",
        "Docker",
    ),
    Signature(
        "image-not-pulled",
        r"Unable to find image|No such image",
        "the image is not on this node",
        PREPARE,
        "Docker",
        rank=LIKELY,
    ),
    Signature(
        "container-name",
        r"The container name \"[^\"]+\" is already in use",
        "a container of the unit's name is still there",
        "docker rm --force NAME on the node, then start the unit again",
        "Docker",
    ),
    Signature(
        "docker-permission",
        r"permission denied while trying to connect to the [Dd]ocker",
        "the user may not talk to Docker",
        "units run as root: look at the service file, and at become in the inventory",
        "Docker",
    ),
    Signature(
        "docker-down",
        r"Cannot connect to the Docker daemon",
        "Docker does not run on this node",
        "look at systemctl status docker",
        "Docker",
        ("container-engine",),
    ),
)
