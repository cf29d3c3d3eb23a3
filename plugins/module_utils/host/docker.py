# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's configuration on a node: what differs, and what may be done about it now."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.files import FilesView
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    MANAGED_HEADER,
    STATE_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.common.redaction import without_users
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import environment_line
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    Lack,
    Source,
)

UNIT = "docker.service"
DAEMON_JSON = "/etc/docker/daemon.json"
DROP_IN = "/etc/systemd/system/docker.service.d/muster-proxy.conf"
CERTIFICATES = "/etc/docker/certs.d"
PROXY_ENV = "/etc/muster/docker-proxy.env"
STATE_PATH = STATE_DIR + "/docker.json"
INSECURE, MIRRORS = "insecure-registries", "registry-mirrors"
KINDS = (INSECURE, MIRRORS, "registry_ca", "proxy")
LINGERS = "it goes by this proxy until its next start, which containers that run would not survive"
FLAGS = {INSECURE: "--insecure-registry", MIRRORS: "--registry-mirror"}
REGISTRY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"


class DockerError(Exception):
    """Something that the operator has to put right first."""


@dataclass(frozen=True)
class Wanted:
    insecure_registries: Sequence[str] = ()
    registry_mirrors: Sequence[str] = ()
    proxy: Mapping[str, str] = field(default_factory=dict)
    registry_ca: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Daemon:
    """The daemon as it is. info is what docker info says, empty while it does not run.

    lack is what has to be installed first; without any, service and command are there.
    """

    lack: Lack | None = None
    active: bool = False
    enabled: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Both hold lists by kind: registries, mirrors, CAs by registry, names of proxy variables."""

    added: dict[str, list[str]]
    deployments: dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class FileChange:
    before: str | None
    after: str | None
    mode: int | None = None


@dataclass
class Changes:
    """What differs.

    Of what goes: gone are the entries by kind, between the daemon's file while the daemon reads
    that it has lost some, lingers what it goes by until its next start, which it does not get here.
    """

    files: dict[str, FileChange] = field(default_factory=dict)
    state: str | None = None
    gone: dict[str, list[str]] = field(default_factory=dict)
    between: str | None = None
    lingers: list[str] = field(default_factory=list)
    install: Source | None = None
    enable: bool = False
    action: str = "none"

    @property
    def changed(self) -> bool:
        return bool(self.files or self.install or self.enable) or self.action != "none"


def ca_path(registry: str) -> str:
    return f"{CERTIFICATES}/{registry}/ca.crt"


def wanted_from(params: Mapping[str, Any], files: FilesView) -> Wanted:
    """Check the options before Docker would refuse to start with them."""
    for registry in params["insecure_registries"]:
        if not (re.fullmatch(REGISTRY, registry) or _network(registry)):
            raise DockerError(
                f"insecure_registries: {registry!r} is not HOST[:PORT] or a network; leave out "
                "http:// and any path"
            )
    for mirror in params["registry_mirrors"]:
        if not re.fullmatch(r"https?://[^\s/?#@]+/?", mirror):
            raise DockerError(
                f"registry_mirrors: {mirror!r} is not http[s]://HOST[:PORT]; Docker takes no path "
                "and no user in it"
            )
    proxy = {}
    for key, value in (params["proxy"] or {}).items():
        if value:
            if any(ord(character) < 32 for character in value):
                raise DockerError(f"proxy: {key} is not one line")
            proxy["NO_PROXY" if key == "no_proxy" else f"{key.upper()}_PROXY"] = value
    authorities = {}
    for registry, value in params["registry_ca"].items():
        if not re.fullmatch(REGISTRY, registry):
            raise DockerError(f"registry_ca: {registry!r} is not HOST[:PORT]")
        text = files.read(value) if value.startswith("/") else value
        if text is None:
            raise DockerError(f"registry_ca: there is no {value} on this node for {registry}")
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise DockerError(f"registry_ca: what is given for {registry} is no PEM certificate")
        authorities[registry] = text.strip() + "\n"
    return Wanted(
        tuple(params["insecure_registries"]), tuple(params["registry_mirrors"]), proxy, authorities
    )


def _network(text: str) -> str:
    """Return a network as Docker itself writes it, empty for what is none."""
    if not re.fullmatch(r"[^/]+/[0-9]{1,3}", text):
        return ""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""


def read_daemon_json(files: FilesView) -> str | None:
    """Return the text of the daemon's own configuration, None where there is none.

    Raises:
        DockerError: It is there and cannot be read.
    """
    try:
        return files.read(DAEMON_JSON)
    except OSError as error:
        raise DockerError(
            f"{DAEMON_JSON} cannot be read: {error.strerror}. It has to be a file that root reads."
        ) from error


def load_daemon_json(text: str | None) -> dict[str, Any]:
    """Return the daemon's own configuration, which is merged into and never replaced."""
    # Some editors put a mark of the encoding first, which Docker skips.
    text = (text or "").lstrip("\ufeff")
    if not text.strip():
        return {}
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise TypeError("it is not an object")
        for key in (INSECURE, MIRRORS):
            entries = config.get(key) or []
            if not isinstance(entries, list) or not all(isinstance(item, str) for item in entries):
                raise TypeError(f"{key} is not a list of texts")
    except (ValueError, TypeError, RecursionError) as error:
        raise DockerError(
            f"{DAEMON_JSON} is not what Docker reads: {error}. Repair it, or move it away if "
            "nothing in it is needed."
        ) from error
    return config


def default_open_files(text: str | None) -> str:
    """Return the hard limit of open files that daemon.json gives containers, "" if it gives none.

    Args:
        text: What the file holds; what cannot be read gives none.
    """
    try:
        hard = load_daemon_json(text)["default-ulimits"]["nofile"]["Hard"]
    except (DockerError, KeyError, TypeError):
        return ""
    if not isinstance(hard, int) or isinstance(hard, bool):
        return ""
    return "infinity" if hard < 0 else str(hard)


def load_state(text: str | None) -> State:
    """Return what Muster itself added, so that it can take it away again, and who wants it."""
    try:
        stored = json_text.parse(text or "{}")
        return State(
            _lists(stored),
            {str(name): _lists(wish) for name, wish in stored.get("deployments", {}).items()},
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DockerError(
            f"{STATE_PATH} cannot be read ({error}). Remove it: entries that Muster added earlier "
            "then count as the node's own."
        ) from error


def dump_state(state: State) -> str | None:
    if not any(state.added.values()) and not state.deployments:
        return None
    document = {**state.added, "deployments": state.deployments}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def merge(existing: Sequence[str], ours: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Merge two lists: the node's own entries stay, ours follow what is wanted."""
    kept = [item for item in existing if item not in ours or item in wanted]
    return kept + [item for item in dict.fromkeys(wanted) if item not in kept]


def render_environment(proxy: Mapping[str, str]) -> str:
    """Return a file for systemd's EnvironmentFile, which expands nothing in quotes but escapes."""
    lines = [MANAGED_HEADER]
    for name, value in sorted(proxy.items()):
        lines.append(environment_line(name, value))
    return "\n".join([*lines, ""])


def live_registries(info: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return what the running daemon goes by, from docker info."""
    config = info.get("RegistryConfig") or {}
    indexes = config.get("IndexConfigs") or {}
    insecure = {name for name, entry in indexes.items() if entry and not entry.get("Secure")}
    return {
        INSECURE: insecure | set(config.get("InsecureRegistryCIDRs") or []),
        MIRRORS: {mirror.rstrip("/") for mirror in config.get("Mirrors") or []},
    }


def _live(registry: str) -> str:
    """Return an insecure registry as docker info tells it: 10.1.2.3/8 as 10.0.0.0/8."""
    return _network(registry) or registry


def lacks(info: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Return the wanted entries that the running daemon does not go by yet."""
    live = live_registries(info)
    return [one for one in wanted.insecure_registries if _live(one) not in live[INSECURE]] + [
        item for item in wanted.registry_mirrors if item.rstrip("/") not in live[MIRRORS]
    ]


def decide(files: FilesView, wanted: Wanted, daemon: Daemon, deployment: str) -> Changes:
    """Compare, and refuse what would take down running containers before anything is touched."""
    if daemon.lack and not daemon.lack.install:
        raise DockerError(f"Docker: {daemon.lack.seen}. Nothing was changed: {daemon.lack.remedy}.")
    changes = Changes()
    state = load_state(files.read(STATE_PATH))
    wish = {
        INSECURE: list(wanted.insecure_registries),
        MIRRORS: list(wanted.registry_mirrors),
        "registry_ca": sorted(wanted.registry_ca),
        "proxy": sorted(wanted.proxy),
    }
    deployments = {name: of for name, of in state.deployments.items() if name != deployment}
    if any(wish.values()):
        deployments[deployment] = wish
    # What another deployment on this machine wants stays.
    desired = {kind: [item for of in deployments.values() for item in of[kind]] for kind in KINDS}

    before = read_daemon_json(files)
    config = load_daemon_json(before)
    added = dict(desired)
    other = _other_file(daemon.command)
    if other and (desired[INSECURE] or desired[MIRRORS]):
        raise DockerError(
            f"the Docker daemon reads {other} (--config-file) in place of {DAEMON_JSON}, so what "
            f"is written there would do nothing. Nothing was changed: let it read {DAEMON_JSON}, "
            "or put the registries into its own file and take them out of the inventory."
        )
    for key, flag in FLAGS.items():
        if desired[key] and any(word.split("=")[0] == flag for word in daemon.command):
            raise DockerError(
                f"the Docker daemon is started with {flag}, which excludes {key} in {DAEMON_JSON}. "
                "Move that flag's value from the unit into the file, then run again."
            )
        existing = list(config.get(key) or [])
        merged = merge(existing, state.added[key], desired[key])
        # An emptied list stays as such: a reload ignores a key that is gone.
        if merged != existing:
            config[key] = merged
        added[key] = [
            item for item in desired[key] if item in state.added[key] or item not in existing
        ]
    if config != load_daemon_json(before):
        changes.files[DAEMON_JSON] = FileChange(before, json.dumps(config, indent=2) + "\n")

    if wanted.proxy:
        drop_in = f"{MANAGED_HEADER}\n[Service]\nEnvironmentFile=-{PROXY_ENV}\n"
        _compare(changes, files, DROP_IN, drop_in)
        _compare(changes, files, PROXY_ENV, render_environment(wanted.proxy), 0o600)
    elif not desired["proxy"]:
        _compare(changes, files, DROP_IN, None)
        _compare(changes, files, PROXY_ENV, None)
    for registry in state.added["registry_ca"]:
        if registry not in desired["registry_ca"]:
            _compare(changes, files, ca_path(registry), None)
    given = [one for one in wanted.registry_ca if one not in state.added["registry_ca"]]
    own = [one for one in given if _is_missing(files, one, wanted.registry_ca[one])]
    added["registry_ca"] = [
        one for one in desired["registry_ca"] if one in state.added["registry_ca"] or one in own
    ]
    for registry, text in wanted.registry_ca.items():
        if registry in added["registry_ca"]:
            _compare(changes, files, ca_path(registry), text)
    changes.state = dump_state(State(added, deployments))

    if daemon.lack:
        changes.install = daemon.lack.install
    else:
        changes.enable = not daemon.enabled
        changes.action = _action(changes, wanted, daemon)
    return changes


def _other_file(command: Sequence[str]) -> str:
    """Return the file that a daemon's command line names for its configuration, "" for the usual.

    Args:
        command: The words of the command line.
    """
    text = "\0".join(command)
    named = re.search(r"--?config-file[=\0]([^\0]+)", text)
    return "" if not named or named[1] == DAEMON_JSON else named[1]


def _is_missing(files: FilesView, registry: str, text: str) -> bool:
    """Return whether a registry's CA is not there yet, by whatever hand.

    Raises:
        DockerError: Another one is.
    """
    path = ca_path(registry)
    found = files.read(path)
    if found is not None and found.split() != text.split():
        raise DockerError(
            f"{path} is another CA than registry_ca gives for {registry}, and Muster did not put "
            "it there. Nothing was changed: remove it, or leave the registry out of registry_ca."
        )
    return found is None


def leave(files: FilesView, daemon: Daemon, deployment: str) -> Changes:
    """Decide how what Muster added for a deployment goes, as far as no other one wants it.

    Docker is neither installed nor enabled nor started, and not restarted under containers.
    """
    state = load_state(files.read(STATE_PATH))
    deployments = {name: of for name, of in state.deployments.items() if name != deployment}
    desired = {kind: {item for of in deployments.values() for item in of[kind]} for kind in KINDS}
    gone = {
        kind: [item for item in state.added[kind] if item not in desired[kind]] for kind in KINDS
    }
    added = {kind: [item for item in state.added[kind] if item in desired[kind]] for kind in KINDS}
    changes = Changes(state=dump_state(State(added, deployments)), gone=gone)
    if gone[INSECURE] or gone[MIRRORS]:
        _leave_registries(changes, files, daemon, gone)
    for registry in gone["registry_ca"]:
        _compare(changes, files, ca_path(registry), None)
    if gone["proxy"]:
        _compare(changes, files, DROP_IN, None)
        _compare(changes, files, PROXY_ENV, None)
        names = [name for name in gone["proxy"] if name in daemon.environment]
        if daemon.active and names and daemon.info.get("ContainersRunning"):
            changes.lingers = names
        elif daemon.active and names:
            changes.action = "restart"
    return changes


def _leave_registries(
    changes: Changes, files: FilesView, daemon: Daemon, gone: Mapping[str, Sequence[str]]
) -> None:
    """Take entries out of the daemon's file. A reload ignores a key that is gone, so that it has
    to read an empty list before the key goes."""
    before = read_daemon_json(files)
    config = load_daemon_json(before)
    between = dict(config)
    for key in (INSECURE, MIRRORS):
        left = [item for item in config.get(key) or [] if item not in gone[key]]
        if key in config and gone[key]:
            config[key] = between[key] = left
            if not left:
                del config[key]
    after = json.dumps(config, indent=2) + "\n" if config else None
    if config != load_daemon_json(before) or (before is not None and after is None):
        changes.files[DAEMON_JSON] = FileChange(before, after)
    if daemon.active and still_has(daemon.info, gone):
        changes.between = json.dumps(between, indent=2) + "\n"
        changes.action = "reload"


def still_has(info: Mapping[str, Any], gone: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the entries of registries by which the running daemon goes, though they are gone."""
    live = live_registries(info)
    return [item for item in gone[INSECURE] if _live(item) in live[INSECURE]] + [
        item for item in gone[MIRRORS] if item.rstrip("/") in live[MIRRORS]
    ]


def diff(changes: Changes) -> list[dict[str, str]]:
    entries = [
        {
            "before_header": path,
            "after_header": path,
            "before": without_users(change.before or ""),
            "after": without_users(change.after or ""),
        }
        for path, change in changes.files.items()
    ]
    install = changes.install
    if install and install.repository:
        entries.append(_step("repository", f"added: {install.repository.url}\n"))
    steps = [
        step
        for step, due in (
            (f"installed: {' '.join(install.packages) if install else ''}", install),
            ("started", install),
            ("enabled", changes.enable),
            ("reloaded", changes.action == "reload"),
            ("restarted", changes.action == "restart"),
            ("started", changes.action == "start"),
        )
        if due
    ]
    if steps:
        entries.append(_step(UNIT, "".join(step + "\n" for step in steps)))
    return entries


def _step(subject: str, text: str) -> dict[str, str]:
    return {"before_header": subject, "after_header": subject, "before": "", "after": text}


def summary(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of docker info that others need."""
    return {
        "version": info.get("ServerVersion"),
        "cgroup_driver": info.get("CgroupDriver"),
        "cgroup_version": info.get("CgroupVersion"),
        "storage_driver": info.get("Driver"),
        "root_dir": info.get("DockerRootDir"),
        "containers_running": info.get("ContainersRunning"),
    }


def security_of(info: Mapping[str, Any]) -> list[str] | None:
    """Return by what the daemon confines containers, None where it does not say.

    They are names such as seccomp, apparmor, selinux, userns and rootless.
    """
    options = info.get("SecurityOptions")
    if not isinstance(options, list):
        return None
    found = (re.match(r"(?:name=)?([a-z-]+)", str(option)) for option in options)
    return [match[1] for match in found if match]


def _lists(document: Any) -> dict[str, list[str]]:
    """Return the lists of a state by kind.

    Raises:
        TypeError, AttributeError: It holds something else.
    """
    found = {kind: document.get(kind, []) for kind in KINDS}
    for kind, items in found.items():
        # The letters of a text would be entries, too.
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise TypeError(f"{kind} is no list of texts")
    return found


def _compare(
    changes: Changes, files: FilesView, path: str, after: str | None, mode: int | None = None
) -> None:
    before = files.read(path)
    if before != after:
        changes.files[path] = FileChange(before, after, mode)


def _action(changes: Changes, wanted: Wanted, daemon: Daemon) -> str:
    if not daemon.active:
        return "start"
    stale = {
        name: value for name, value in wanted.proxy.items() if daemon.environment.get(name) != value
    }
    if stale or DROP_IN in changes.files or PROXY_ENV in changes.files:
        running = daemon.info.get("ContainersRunning") or 0
        if running:
            raise DockerError(
                f"the proxy of the Docker daemon changes, which takes a restart of the daemon, but "
                f"{running} containers run here. Nothing was changed. Drain the node with "
                "playbooks/stop.yml, then run again."
            )
        return "restart"
    if DAEMON_JSON in changes.files or lacks(daemon.info, wanted):
        return "reload"
    return "none"
