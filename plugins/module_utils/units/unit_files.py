# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a unit of the plan to the files that run it, and what tells two of them apart. Pure.

A unit here is one entry of the plan's units: see the plan file in docs/plan.md.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text, paths
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    OPEN_FILES,
    command,
    environment_line,
    unit_file,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import USER, environment_of
from ansible_collections.muster.serving.plugins.module_utils.units import names

Unit = Mapping[str, Any]

DOCKER = paths.DOCKER
SYSTEMD_DIR = "/etc/systemd/system"
CONFIG_DIR = "/etc/muster"
UNITS_DIR = paths.UNITS_DIR
LINK_STATE_DIR = f"{paths.STATE_DIR}/links"
PROGRAMS_DIR = "/usr/local/lib/muster"
LINK_PROGRAM = f"{PROGRAMS_DIR}/replica_link.py"
# Below /run: what agents tell Prometheus.
METRICS_DIR = "muster-metrics"
# What an agent saves of engines that stand still, a folder a link.
STALLS_DIR = f"{paths.STATE_DIR}/stalls"
LOG_PROGRAM = f"{PROGRAMS_DIR}/bound_logs.py"
# What an engine without a container keeps between its runs, compiled kernels above all.
HOME_DIR = "/var/cache/muster"

STALL_LIMITS = ("patience_s", "first_patience_s", "restarts", "window_s")

# The id of an image or environment that the node does not have.
NOT_PRESENT = "not present"

# NVIDIA's hook gives a container its GPUs past systemd, which takes them away again at its next
# daemon-reload. What Docker itself is told stays: this opens the major number of all GPUs and their
# control device, while the hook still makes the nodes of those alone that --gpus names. By name,
# /dev/nvidiaN might be another GPU than the tools count as N.
GPU_RULE = "c 195:* rw"
# Of a number that the kernel deals out. Nobody may have made its node since the node has booted.
UVM = "/dev/nvidia-uvm"
MAKE_UVM = (
    f"test -e {UVM} || nvidia-modprobe -u -c 0 || {{ modprobe nvidia-uvm; mknod -m 666 {UVM} c "
    "$(sed -n 's/^ *\\([0-9]*\\) nvidia-uvm$/\\1/p' /proc/devices) 0; }"
)

# Bounded by the time that a unit has to start.
AWAIT_DOCKER = f"until {DOCKER} version > /dev/null 2>&1; do sleep 1; done"

# How long an engine without requests may take to end by itself: its workers free the devices in
# that time.
STOP_TIMEOUT_S = 30
# The same where its replica is broken: what it serves comes to no end, and its workers may wait for
# ranks that are gone.
BROKEN_STOP_TIMEOUT_S = 5
# Says as "$s" how long to wait: an agent notes the runs that it ends since their replica is broken.
STOP_SECONDS = (
    's={healthy}; grep -qs \'"hopeless": \\[[^]]*"\'"$INVOCATION_ID" {state} && s={broken}'
)


# Of a service that is a docker command alone, which reads its own settings in root's home.
CLIENT_SANDBOX = (
    ("CapabilityBoundingSet", ""),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "read-only"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("LockPersonality", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("UMask", "0077"),
)
# Of a service that is an engine itself: what none of them needs, whatever its devices. ProtectClock
# would keep it from all of them but the clock.
ENGINE_SANDBOX = (
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "full"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictSUIDSGID", "yes"),
)
# Of an agent: it restarts services, looks at processes and asks the devices' tools.
LINK_SANDBOX = (
    (
        "CapabilityBoundingSet",
        "~CAP_AUDIT_CONTROL CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_LEASE CAP_LINUX_IMMUTABLE "
        "CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BROADCAST CAP_SETFCAP "
        "CAP_SETPCAP CAP_SYS_BOOT CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_PACCT CAP_SYS_TIME "
        "CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM",
    ),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ReadWritePaths", paths.STATE_DIR),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service @debug"),
    ("UMask", "0077"),
)


def env_path(unit: Unit) -> str:
    return f"{CONFIG_DIR}/{unit['name']}.env"


def state_path(name: str) -> str:
    return f"{UNITS_DIR}/{name}.json"


def unit_path(systemd_unit: str) -> str:
    return f"{SYSTEMD_DIR}/{systemd_unit}"


def in_venv(unit: Unit) -> bool:
    """Tell whether the unit runs from a virtual environment on the node, without a container."""
    return str(unit["install"]) == "venv"


def is_removable(path: str) -> bool:
    """Tell whether a file of a unit goes with it: one that stands among Muster's own."""
    return posixpath.normpath(path).startswith(CONFIG_DIR + "/")


def log_folders(unit: Unit) -> list[str]:
    """Return the unit's own folders on the node that its engine writes logs into."""
    sources = (posixpath.normpath(mount.split(":")[0]) for mount in unit["mounts"])
    return [path for path in sources if path.startswith(f"{paths.LOG_DIR}/{unit['name']}/")]


def docker_argv(unit: Unit) -> list[str]:
    """Return the foreground docker run of a unit; secrets and environment are in its env file.

    What the engine prints goes through this command to the journal, which is bounded. Docker's own
    copy is not while the container lives, and goes with it: so it keeps none. Both pass through its
    daemon, so nothing is lost with that daemon that its copy would have had.
    """
    container = unit["container"]
    argv = [DOCKER, "run", "--rm", "--name", names.container(unit["name"]), "--network", "host"]
    argv += ["--log-driver", "none"]
    argv += ["--env-file", env_path(unit)]
    if container.get("ipc"):
        argv += ["--ipc", container["ipc"]]
    # Docker ignores the size where the host's /dev/shm is used.
    if container.get("shm_size") and container.get("ipc") != "host":
        argv += ["--shm-size", container["shm_size"]]
    if container.get("privileged"):
        argv += ["--privileged"]
    if container.get("user"):
        argv += ["--user", str(container["user"])]
    for option, key in (
        ("--cap-add", "cap_add"),
        ("--cap-drop", "cap_drop"),
        ("--group-add", "group_add"),
        ("--security-opt", "security_opt"),
    ):
        for value in container.get(key) or []:
            argv += [option, str(value)]
    if container.get("gpus"):
        # Docker reads the value as CSV, in which a list of devices needs quotes of its own.
        devices = ",".join(str(device) for device in container["gpus"])
        argv += ["--gpus", f'"device={devices}"', "--device-cgroup-rule", GPU_RULE]
        argv += ["--device", UVM]
    for device in unit["device_nodes"]:
        argv += ["--device", device]
    for mount in unit["mounts"]:
        argv += ["--volume", mount]
    entrypoint = list(container.get("entrypoint") or [])
    words = [*entrypoint, *unit["argv"]]
    image = unit["image"]
    return [*argv, "--entrypoint", words[0], image, *words[1:]]


def service(unit: Unit, python: str) -> str:
    """Return the systemd service of one unit: a foreground process that lives and dies with it.

    Args:
        unit: The unit.
        python: The interpreter of the node for programs of Muster.
    """
    restart = unit["restart"]
    needs = [] if in_venv(unit) else ["docker.service"]
    return unit_file(
        [
            (
                "Unit",
                [
                    ("Description", f"Muster: {unit['role']} {unit['name']}"),
                    *(("Requires", name) for name in needs),
                    ("After", " ".join([*needs, "network-online.target"])),
                    ("Wants", "network-online.target"),
                    # The budget: so many starts in so long, then the unit stays failed.
                    ("StartLimitBurst", str(restart["count"])),
                    ("StartLimitIntervalSec", str(restart["window_s"])),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "exec"),
                    *(_venv_lines(unit) if in_venv(unit) else _container_lines(unit)),
                    *(
                        # A unit starts whether this works or not.
                        ("ExecStartPre", "+-" + command([python, LOG_PROGRAM, folder]))
                        for folder in log_folders(unit)
                    ),
                    # An engine that lost its peer may end with code 0, so on-failure is not enough.
                    ("Restart", "always"),
                    # An engine that ended is sooner back for it; a gateway, which is there at once,
                    # would use up its budget on what passes in seconds.
                    ("RestartSec", "5" if names.is_gateway(unit["group"]) else "1"),
                    ("TimeoutStartSec", "120"),
                    ("TimeoutStopSec", str(stop_timeout_s(unit) + 30)),
                    ("KillMode", "mixed"),
                    ("SyslogIdentifier", names.container(unit["name"])),
                    # Engine logs come in bursts at start-up: none of it is to be dropped.
                    ("LogRateLimitIntervalSec", "0"),
                ],
            ),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
    )


def stop_timeout_s(unit: Unit) -> int:
    """Return how long a unit may take to end; an older plan does not say it."""
    return int(unit.get("stop_timeout_s") or STOP_TIMEOUT_S)


def _stop(unit: Unit, end: str) -> str:
    """Return a command that sets $s to the seconds that a unit has, and goes on with end."""
    links = names.links_of([unit["name"]])
    seconds = f"s={stop_timeout_s(unit)}"
    if links:
        seconds = STOP_SECONDS.format(
            healthy=stop_timeout_s(unit),
            broken=BROKEN_STOP_TIMEOUT_S,
            state=link_state_path(links[0]),
        )
    return command(["/bin/sh", "-c", f"{seconds}; {end}"])


def _container_lines(unit: Unit) -> list[tuple[str, str]]:
    name = names.container(unit["name"])
    gpus = unit["container"].get("gpus")
    return [
        # The command that talks to Docker needs none of this; what makes a device node does.
        *CLIENT_SANDBOX,
        *([("ExecStartPre", f"+-{command(['/bin/sh', '-c', MAKE_UVM])}")] if gpus else []),
        # Without it, starts that find Docker between two lives would use up the unit's budget.
        ("ExecStartPre", command(["/bin/sh", "-c", AWAIT_DOCKER])),
        # A container that a killed engine daemon or client left behind.
        ("ExecStartPre", f"-{DOCKER} rm --force {name}"),
        ("ExecStart", command(docker_argv(unit))),
        ("ExecStop", "-" + _stop(unit, f'exec {DOCKER} stop --time "$s" {name}')),
        ("ExecStopPost", f"-{DOCKER} rm --force {name}"),
        # A stopped engine ends with these; the unit is then inactive and not failed,
        # which the agents of its peers would take for a fault.
        ("SuccessExitStatus", "137 143"),
    ]


def _venv_lines(unit: Unit) -> list[tuple[str, str]]:
    home = f"{HOME_DIR}/{unit['name']}"
    programs = (
        f"{environment_of(unit['argv'])}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    )
    # As docker stop: systemd's own way to end what does not end by itself would leave the unit
    # failed.
    stop = 'kill "$0"; timeout "$s" tail --pid="$0" -f /dev/null || kill -KILL "$0"'
    return [
        *ENGINE_SANDBOX,
        ("User", USER),
        ("CacheDirectory", f"{posixpath.basename(HOME_DIR)}/{unit['name']}"),
        ("WorkingDirectory", home),
        # The unit's own environment stands in the file and goes before these.
        ("Environment", f"HOME={home} PATH={programs}"),
        ("EnvironmentFile", env_path(unit)),
        # Registered memory of the devices; where a limit cannot be raised, systemd takes the
        # highest that can.
        ("LimitMEMLOCK", "infinity"),
        ("LimitNOFILE", str(OPEN_FILES)),
        ("ExecStart", command(unit["argv"])),
        # As root, who may read what an agent notes.
        ("ExecStop", f"+-{_stop(unit, stop)} $MAINPID"),
        ("SuccessExitStatus", "137 143 SIGKILL"),
    ]


def env_file(unit: Unit, secrets: Mapping[str, str]) -> str:
    """Return the unit's environment, to be written with mode 0600: as Docker reads it, KEY=VALUE a
    line with values taken literally, or as systemd does.

    Raises:
        ValueError: A value holds a character that the format cannot carry.
    """
    lines = []
    for name, value in sorted({**unit["env"], **secrets}.items()):
        if in_venv(unit):
            lines.append(environment_line(name, value))
            continue
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name}: a value for the container's environment holds a line break")
        lines.append(f"{name}={value}")
    return "\n".join(["# Managed by Muster (muster.serving). Contains secrets.", *lines]) + "\n"


def link_config(link: Mapping[str, Any], start_id: str) -> str:
    """Return the configuration of the agent that restarts this node's units with its peers'.

    link is {name, host, replica, deployment, listen, port, peers, units, stall, restart} of the
    replica on this node, units being the systemd units that the agent may restart, stall how it
    watches their engines and restart their start limit.
    """
    return (
        json.dumps(
            {
                "units": list(link["units"]),
                "listen": link["listen"],
                # A replica without other nodes has no port.
                "port": link["port"] or 0,
                "peers": list(link["peers"]),
                "state_file": link_state_path(link["name"]),
                "start_id": start_id,
                "stall": _watch(link["name"], link.get("stall")),
                "metrics": _metrics(link),
            },
            indent=2,
        )
        + "\n"
    )


def is_link_config(text: str, link: Mapping[str, Any]) -> bool:
    """Return whether an agent's configuration is that of a link, of whichever start."""
    return text == link_config(link, start_id(text))


def start_id(text: str) -> str:
    """Return of which start an agent's configuration is; empty where it does not say."""
    try:
        return str(json_text.parse(text)["start_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _metrics(link: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an agent writes for Prometheus; None where an older plan has no start limit."""
    if "restart" not in link:
        return None
    return {
        "file": link_metrics_path(link["name"]),
        # As those of what Prometheus scrapes.
        "labels": {
            "cluster": link["deployment"],
            "replica": str(link["replica"]),
            "node": link["host"],
        },
        "starts": link["restart"]["count"],
        "window_s": link["restart"]["window_s"],
    }


def _watch(link: str, stall: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return how an agent watches engines; None where an older plan has no stall."""
    if stall is None:
        return None
    return {
        **{name: stall[name] for name in STALL_LIMITS},
        "evidence": f"{STALLS_DIR}/{link}",
        "commands": {
            name: list(argv)
            for vendor in VENDORS.values()
            for name, argv in vendor.commands.items()
        },
        "apis": [
            {
                "unit": api["systemd_unit"],
                "url": api["url"],
                "model": api["model"],
                "key_file": env_path({"name": names.unit_of(api["systemd_unit"])}),
                "key_name": api["api_key_env"] or "",
                "key_quoted": api["install"] == "venv",
            }
            for api in stall["apis"]
        ],
    }


def link_service(link: Mapping[str, Any], python: str) -> str:
    """Return the agent's own service."""
    return unit_file(
        [
            (
                "Unit",
                [
                    ("Description", f"Muster: keeps the ranks of {link['name']} together"),
                    # The agent takes the runs that it finds for the ones it belongs to.
                    ("After", " ".join(["network-online.target", *link["units"]])),
                    ("Wants", "network-online.target"),
                    ("StartLimitIntervalSec", "0"),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "exec"),
                    (
                        "ExecStart",
                        command([python, LINK_PROGRAM, "--config", link_config_path(link["name"])]),
                    ),
                    ("Restart", "always"),
                    ("RestartSec", "5"),
                    # Of all agents of the node.
                    ("RuntimeDirectory", METRICS_DIR),
                    ("RuntimeDirectoryMode", "0755"),
                    ("RuntimeDirectoryPreserve", "yes"),
                    *LINK_SANDBOX,
                ],
            ),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
    )


def link_config_path(name: str) -> str:
    return f"{CONFIG_DIR}/{name}.link.json"


def link_state_path(name: str) -> str:
    """Return what the agent of a replica remembers."""
    return f"{LINK_STATE_DIR}/{name}.json"


def link_metrics_path(name: str) -> str:
    """Return what the agent of a replica tells Prometheus; a boot takes it away."""
    return f"/run/{METRICS_DIR}/{name}.prom"


def stall_text(state: str, systemd_unit: str, shown: Mapping[str, str]) -> str:
    """Return what a link's state says of a unit that stands still; empty for nothing.

    Args:
        state: Text of the file at link_state_path.
        systemd_unit: The unit's service.
        shown: Its properties, as systemctl show names them.
    """
    try:
        remembered = json_text.parse(state)
        stands = remembered.get("stalled", {}).get(systemd_unit, {})
        gave_up = str(remembered.get("gave_up", ""))
        if shown.get("ActiveState") in ("inactive", "failed"):
            return gave_up
        # Of another life it says nothing.
        same = stands.get("invocation") == shown.get("InvocationID")
        return str(stands.get("why", "")) if same else ""
    except (ValueError, AttributeError):
        return ""


def effective(unit: Unit, engine_id: str | None, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return what decides how a unit runs, as {name: value}; two equal ones need no restart.

    Deliberately not the text of the unit's own service: a release that words it anew restarts
    nothing. Secrets enter as hashes, under names that start with secret; files do under
    file and their path.

    Args:
        unit: The unit.
        engine_id: What the node has of the engine: the image's id, or that of the environment.
        secrets: Values by environment name.
    """
    flat: dict[str, str] = {}
    if in_venv(unit):
        flat["environment"] = environment_of(unit["argv"])
        flat["environment id"] = engine_id or NOT_PRESENT
    else:
        flat["image"] = unit["image"]
        flat["image id"] = engine_id or NOT_PRESENT
        for key, value in sorted(unit["container"].items()):
            # Absent, null and empty all mean: not asked for.
            if value not in (None, "", [], False):
                flat[f"container {key}"] = (
                    json.dumps(value) if not isinstance(value, str) else value
                )
        flat["devices"] = " ".join(unit["device_nodes"])
        flat["mounts"] = " ".join(sorted(unit["mounts"]))
    flat.update(flatten_argv(unit["argv"]))
    for name, value in unit["env"].items():
        flat[f"env {name}"] = value
    for name, value in secrets.items():
        flat[f"secret {name}"] = hashlib.sha256(value.encode()).hexdigest()
    for path, text in (unit.get("files") or {}).items():
        flat[f"file {path}"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    flat["restart"] = "{count} in {window_s} s".format(**unit["restart"])
    return flat


def engine_of(effective_config: Mapping[str, str] | None) -> dict[str, str]:
    """Return what a unit that was installed with this configuration runs from, {name, id}."""
    config = effective_config or {}
    return {
        "name": config.get("image") or config.get("environment", ""),
        "id": config.get("image id") or config.get("environment id", ""),
    }


def file_paths(effective_config: Mapping[str, str] | None) -> list[str]:
    """Return the files of a unit that was installed with this configuration."""
    names = effective_config or {}
    return [name[len("file ") :] for name in names if name.startswith("file ")]


def flatten_argv(argv: Sequence[str]) -> dict[str, str]:
    """Return an argv as {"argv --flag": "values"}; what stands before the flags as "argv"."""
    flat: dict[str, str] = {}
    key = "argv"
    values: list[str] = []
    for word in argv:
        if word.startswith("--"):
            flat[key] = " ".join(values)
            # A flag given twice keeps both.
            key = f"argv {word}"
            values = [flat[key]] if key in flat else []
        else:
            values.append(word)
    flat[key] = " ".join(values)
    return flat


def differences(
    current: Mapping[str, str] | None, desired: Mapping[str, str] | None
) -> list[dict[str, str | None]]:
    """Return [{name, current, desired}] of what is not equal; of a secret only that it differs."""
    rows = []
    for name in sorted({*(current or {}), *(desired or {})}):
        before = (current or {}).get(name)
        after = (desired or {}).get(name)
        if before == after:
            continue
        if name.startswith("secret "):
            before = before and "<secret>"
            after = after and ("<another secret>" if before else "<secret>")
        rows.append({"name": name, "current": before, "desired": after})
    return rows


def diff_text(effective_config: Mapping[str, str] | None) -> str:
    """Return an effective configuration as sorted lines for --diff, without secrets."""
    if not effective_config:
        return ""
    lines = [
        f"{name}: " + ("<secret>" if name.startswith("secret ") else value)
        for name, value in sorted(effective_config.items())
    ]
    return "\n".join(lines) + "\n"


def unplanned(reports: Sequence[Mapping[str, Any]], orphans: Sequence[str]) -> list[str]:
    """Return how units differ from the plan, or why they do not serve, a phrase each.

    Args:
        reports: What unit_info says of each planned unit.
        orphans: The units that are there and not planned.
    """
    found = []
    for report in reports:
        if not report["installed"]:
            found.append(f"{report['name']} is not installed")
        elif report["differences"]:
            found.append(f"{report['name']} differs from the plan")
        elif not runs(report):
            found.append(f"{report['name']} does not run")
        elif report["ready"] is False:
            found.append(f"{report['name']} does not serve")
    return found + [f"{name} is not planned" for name in orphans]


def runs(report: Mapping[str, Any]) -> bool:
    """Return whether a unit runs, or is on its way up without a start of systemd's own."""
    return (
        report["active_state"] in ("active", "activating")
        and "auto-restart" not in report["sub_state"]
    )


def has_ended(shown: Mapping[str, str], restarts_before: int = 0) -> bool:
    """Tell whether systemd's word on a started unit means that its engine has ended since.

    Args:
        shown: Properties of the unit, as systemctl show names them.
        restarts_before: NRestarts when the watch began. What systemd restarted by itself since
            counts as ended, although it may be up again for now.
    """
    if shown.get("ActiveState") in ("failed", "inactive", "deactivating"):
        return True
    # From systemd 254 on also auto-restart-queued, for as long as Docker lets it wait.
    if "auto-restart" in shown.get("SubState", ""):
        return True
    return restarts(shown) > restarts_before


def restarts(shown: Mapping[str, str]) -> int:
    """Return NRestarts: what systemd restarted by itself since the last deliberate start."""
    text = shown.get("NRestarts", "")
    return int(text) if text.isdecimal() and text.isascii() else 0
