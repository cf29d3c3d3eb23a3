# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the service that moves a gateway's floating address. Pure."""

from __future__ import annotations

import inspect
from typing import Any, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.paths import MANAGED_HEADER
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    command,
    unit_file,
)
from ansible_collections.muster.serving.plugins.module_utils.programs import gateway_probe
from ansible_collections.muster.serving.plugins.module_utils.units import names

KEEPALIVED = "/usr/sbin/keepalived"
PROBE_PATH = "/usr/local/lib/muster/gateway_probe.py"


class File(NamedTuple):
    """A file's text and mode."""

    text: str
    mode: int


def service_name(deployment: str) -> str:
    return names.address_service(deployment)


def service_path(deployment: str) -> str:
    return f"/etc/systemd/system/{service_name(deployment)}"


def config_path(deployment: str) -> str:
    return f"/etc/muster/{deployment}.address.conf"


def wanted_files(
    deployment: str, floating: Mapping[str, Any] | None, python: str
) -> dict[str, File | None]:
    """Return by path what a host of the deployment has to have; None for what it must not.

    floating is that of the host's gateway unit in the plan, python the host's interpreter.
    """
    own = [config_path(deployment), service_path(deployment)]
    if floating is None:
        # The probe stays: it may be another deployment's, and does nothing by itself.
        return dict.fromkeys(own)
    probe = f"#!{python}\n{MANAGED_HEADER}\n{inspect.getsource(gateway_probe)}"
    return {
        own[0]: File(floating["config"], 0o644),
        own[1]: File(service(deployment, floating["address"]), 0o644),
        PROBE_PATH: File(probe, 0o755),
    }


def service(deployment: str, address: str) -> str:
    """Return the service of a keepalived of its own, which the distribution's does not know of."""
    pid_file = f"/run/muster-{deployment}-address"
    argv = [
        KEEPALIVED,
        "--dont-fork",
        "--log-console",
        "--no-syslog",
        "--vrrp",
        f"--use-file={config_path(deployment)}",
        f"--pid={pid_file}.pid",
        f"--vrrp_pid={pid_file}-vrrp.pid",
    ]
    return unit_file(
        [
            (
                "Unit",
                [
                    ("Description", f"Muster: holds {address} where a gateway of it serves"),
                    ("After", "network-online.target"),
                    ("Wants", "network-online.target"),
                    ("StartLimitIntervalSec", "0"),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "exec"),
                    ("ExecStart", command(argv)),
                    ("ExecReload", "/bin/kill -HUP $MAINPID"),
                    ("Restart", "always"),
                    ("RestartSec", "5"),
                    ("KillMode", "mixed"),
                ],
            ),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
    )


def verb(deployment: str, changed: Mapping[str, Any], active: bool) -> str | None:
    """Return what systemctl is to do with the service, None for nothing.

    A reload leaves the address where it is.
    """
    if not active:
        return "start"
    if service_path(deployment) in changed:
        return "restart"
    return "reload" if config_path(deployment) in changed else None
