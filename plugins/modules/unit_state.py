# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_state
short_description: Install, start, stop or remove the units of a node
version_added: "0.1.0"
description:
  - A unit is one engine process in the foreground under one systemd service, in a container or
    from a virtual environment of the node.
  - Does what it is told; M(muster.serving.replica_decision) decides for all nodes of a replica
    together whether it has to start.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the effective configuration before and after, without secrets, and the
      files that the units read.
  idempotent:
    support: partial
    details: O(state=started) and O(state=linked) restart what runs, on purpose; V(stopped) and
      V(absent) are idempotent.
options:
  state:
    description:
      - V(started) writes the units as planned and starts them; the call does not wait for the
        engines.
      - V(linked) writes and restarts the agents of O(links) alone, beside units that run on.
      - V(stopped) stops them and leaves their files.
      - V(absent) stops them and removes their files, of those that the plan lists only what lies
        below C(/etc/muster/). Logs are kept.
    type: str
    choices: [started, linked, stopped, absent]
    required: true
  deployment:
    description: Name of the deployment. Its units that the plan no longer has are removed, too.
    type: str
    required: true
  units:
    description:
      - Units of the plan for this node, as the plan file has them. The deployment's other units on
        this node are left alone unless O(orphans) names them.
    type: list
    elements: dict
    required: true
  orphans:
    description: Names of installed units of the deployment that are to go.
    type: list
    elements: str
    default: []
  links:
    description:
      - Links of the plan for this node, one a replica, for the agent that restarts its units as
        one when one of them dies or stands still. With O(state=linked) each has its C(start_id).
    type: list
    elements: dict
    default: []
  start_id:
    description: Names this deliberate start; equal on all nodes of a replica.
    type: str
    default: ""
  restart:
    description: With O(state=stopped), whether the units are to be started anew after it. Nothing
      is stopped then where the start would be refused, since it takes another container's GPUs.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Stop this node's units
  muster.serving.unit_state:
    state: stopped
    deployment: a2-cluster
    units: "{{ muster_plan.units[inventory_hostname] }}"
"""

RETURN = r"""
differences:
  description: What O(state=started) changed, as C({name, current, desired}) by unit name.
  returned: when state is started
  type: dict
stopped:
  description: systemd services that were running and were stopped.
  returned: when state is stopped or absent
  type: list
  elements: str
"""

import contextlib
import glob
import inspect
import json
import os
import sys
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    LOG_DIR,
    STATE_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)
from ansible_collections.muster.serving.plugins.module_utils.network import ports as net_ports
from ansible_collections.muster.serving.plugins.module_utils.network import (
    sockets_io as net_sockets,
)
from ansible_collections.muster.serving.plugins.module_utils.programs import bound_logs
from ansible_collections.muster.serving.plugins.module_utils.units import (
    links_io,
    run_lock_io,
    unit_files,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units import names as unit_names

# systemd bounds each stop by the unit's own TimeoutStopSec: at most the longest muster_drain_s and
# a minute. This only ends a systemctl that is never answered.
STOP_TIMEOUT_S = 720
# Directories on the host that keep what units write. Docker would make them, too, but readable by
# all.
OWN_DIRECTORIES = (f"{LOG_DIR}/", f"{STATE_DIR}/")


class Host:
    """The effects on the node. In check mode it only records whether there would be any."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.files = NodeFiles()

    def systemctl(self, *arguments: str) -> None:
        if self.module.check_mode:
            return
        output = unit_io.ask(["systemctl", *arguments], STOP_TIMEOUT_S)
        if output.rc != 0:
            raise unit_io.UnitError(
                f"systemctl {' '.join(arguments)} ended with rc {output.rc}: {output.text}"
            )

    def write(self, path: str, text: str, mode: int) -> None:
        if not (self.module.check_mode or self.files.holds(path, text, mode)):
            self.files.write(path, text, mode)

    def remove(self, paths: list[str]) -> None:
        if not self.module.check_mode:
            for path in paths:
                self.files.remove(path)
                # A folder that held only this file.
                if unit_files.is_removable(os.path.dirname(path)):
                    with contextlib.suppress(OSError):
                        os.rmdir(os.path.dirname(path))


def services_of(names: list[str], links: list[dict[str, Any]]) -> list[str]:
    """Return the systemd services of units and agents by name.

    Agents come first, so that none of them takes a deliberate stop for a fault.
    """
    return [link["systemd_unit"] for link in links] + [unit_names.service(name) for name in names]


def stop(host: Host, services: list[str]) -> list[str]:
    """Stop those of the services that run, and return them."""
    running = unit_io.running(services)
    if running:
        host.systemctl("stop", *running)
    return running


def remove(host: Host, names: list[str], links: list[dict[str, Any]]) -> bool:
    """Remove the files of units and agents, and return whether there were any."""
    paths = unused_files(names, [])
    for name in names:
        paths += [
            unit_files.unit_path(unit_names.service(name)),
            f"{unit_files.CONFIG_DIR}/{name}.env",
            unit_files.state_path(name),
        ]
    for link in links:
        paths += [
            unit_files.unit_path(link["systemd_unit"]),
            unit_files.link_config_path(link["name"]),
            unit_files.link_state_path(link["name"]),
        ]
    present = [path for path in paths if os.path.lexists(path)]
    if present:
        refuse_reload(host.files, services_of(names, links))
        enabled = [
            os.path.basename(path) for path in present if path.startswith(unit_files.SYSTEMD_DIR)
        ]
        if enabled:
            host.systemctl("disable", *enabled)
        host.remove(present)
        host.systemctl("daemon-reload")
    return bool(present)


def unused_files(names: list[str], wanted: list[str]) -> list[str]:
    """Return the removable files of these units that no other installed or planned unit has."""
    return [
        path
        for path, owners in sorted(unit_io.owners_of_files().items())
        if unit_files.is_removable(path) and owners <= {*names} and path not in wanted
    ]


def start(host: Host, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Write and start the units, and return the differences by unit and the diff."""
    units, links = params["units"], params["links"]
    names = [unit["name"] for unit in units] + params["orphans"]
    refuse_reload(host.files, services_of(names, links))
    wanted = unit_io.desired(units)
    found = {unit["name"]: unit_io.installed(unit["name"]) for unit in units}
    before = {name: state["effective"] if state else None for name, state in found.items()}
    files = {path: text for unit in units for path, text in (unit.get("files") or {}).items()}
    old = {
        path: host.files.read(path)
        for name in found
        for path in unit_files.file_paths(before[name])
    }

    remove(host, params["orphans"], [])
    host.remove(unused_files([*found], [*files]))
    for path, text in files.items():
        host.write(path, text, 0o644)
    for unit in units:
        write(host, unit, {"deployment": params["deployment"], "effective": wanted[unit["name"]]})
    for link in links:
        write_link(host, link, params["start_id"])
    services = services_of([unit["name"] for unit in units], links)
    if not host.module.check_mode:
        end_listeners(units)
    if services:
        # It reloads systemd itself.
        host.systemctl("enable", "--quiet", *services)
        # A deliberate start gets the whole restart budget, whatever earlier runs used up.
        # systemctl refuses this for a unit that is not loaded, which has used up nothing.
        if not host.module.check_mode:
            unit_io.ask(["systemctl", "reset-failed", *services])
        # Units before agents: an agent takes the run that it finds for the one it belongs to.
        host.systemctl("restart", "--no-block", *reversed(services))

    changes = {name: unit_files.differences(before[name], wanted[name]) for name in wanted}
    diff = {
        "before": "".join(_titled(name, before[name]) for name in wanted) + _files_text(old),
        "after": "".join(_titled(name, wanted[name]) for name in wanted) + _files_text(files),
    }
    return changes, diff


def relink(host: Host, links: list[dict[str, Any]]) -> dict[str, str]:
    """Write and restart agents beside units that run on, and return the diff."""
    services = services_of([], links)
    paths = [unit_files.link_config_path(link["name"]) for link in links]
    old = {path: host.files.read(path) for path in paths}
    present = {path: host.files.read(path) for path in map(unit_files.unit_path, services)}
    wanted = {
        unit_files.unit_path(link["systemd_unit"]): unit_files.link_service(link, sys.executable)
        for link in links
    }
    if present != wanted:
        refuse_reload(host.files, services)
    for link in links:
        write_link(host, link, link["start_id"])
    if present != wanted:
        # It reloads systemd itself.
        host.systemctl("enable", "--quiet", *services)
    host.systemctl("restart", *services)
    texts = {
        path: unit_files.link_config(link, link["start_id"]) for path, link in zip(paths, links)
    }
    return {"before": _files_text(old), "after": _files_text(texts)}


def end_listeners(units: list[dict[str, Any]]) -> None:
    """End the listeners of preflight on the units' ports that no peer has reached."""
    for unit in units:
        ports = net_ports.parse_ports((unit.get("ports") or {}).values())
        net_sockets.end_listeners(net_sockets.find_busy(ports, unit.get("address")))


def write(host: Host, unit: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a unit's service, environment and state."""
    for mount in unit["mounts"]:
        source = mount.split(":")[0]
        if source.startswith(OWN_DIRECTORIES) and not host.module.check_mode:
            os.makedirs(source, mode=0o750, exist_ok=True)
            give_to_user(unit, source)
    environment = unit_files.env_file(unit, unit_io.secrets(unit))
    host.write(unit_files.env_path(unit), environment, 0o600)
    if unit_files.log_folders(unit):
        host.write(unit_files.LOG_PROGRAM, inspect.getsource(bound_logs), 0o644)
    service = unit_files.service(unit, sys.executable)
    host.write(unit_files.unit_path(unit["systemd_unit"]), service, 0o644)
    text = json.dumps(state, indent=2, sort_keys=True)
    host.write(unit_files.state_path(unit["name"]), text, 0o600)


def give_to_user(unit: dict[str, Any], folder: str) -> None:
    """Let the user of a container write into a folder of its own below the state's."""
    user, _colon, group = str((unit.get("container") or {}).get("user") or "").partition(":")
    if user.isdigit() and folder.startswith(f"{STATE_DIR}/"):
        os.chown(folder, int(user), int(group) if group.isdigit() else -1)


def write_link(host: Host, link: dict[str, Any], start_id: str) -> None:
    """Write an agent; its program comes with this module call."""
    service = unit_files.link_service(link, sys.executable)
    for path, source in links_io.sources().items():
        host.write(path, source, 0o644)
    host.write(
        unit_files.link_config_path(link["name"]), unit_files.link_config(link, start_id), 0o644
    )
    host.write(unit_files.unit_path(link["systemd_unit"]), service, 0o644)


def _titled(name: str, effective: dict[str, str] | None) -> str:
    return f"[{name}]\n{unit_files.diff_text(effective)}" if effective else ""


def _files_text(files: Mapping[str, str | None]) -> str:
    return "".join(
        f"[{path}]\n{text.rstrip()}\n" for path, text in sorted(files.items()) if text is not None
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["started", "linked", "stopped", "absent"],
                "required": True,
            },
            "deployment": {"type": "str", "required": True},
            "units": {"type": "list", "elements": "dict", "required": True},
            "orphans": {"type": "list", "elements": "str", "default": []},
            "links": {"type": "list", "elements": "dict", "default": []},
            "start_id": {"type": "str", "default": ""},
            "restart": {"type": "bool", "default": False},
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    # The engine's user reads the files and folders made here, unless their mode says otherwise.
    os.umask(0o022)
    run_lock_io.hold(module, changes=True)
    host = Host(module)
    params = module.params
    names = [unit["name"] for unit in params["units"]] + params["orphans"]
    try:
        if params["state"] == "started":
            changes, diff = start(host, params)
            module.exit_json(changed=True, differences=changes, diff=diff)
        if params["state"] == "linked":
            module.exit_json(changed=True, diff=relink(host, params["links"]))
        services = services_of(names, params["links"])
        if params["restart"]:
            refuse_reload(host.files, services)
        stopped = stop(host, services)
        removed = params["state"] == "absent" and remove(host, names, params["links"])
        if params["state"] == "absent" and not glob.glob(f"{unit_files.CONFIG_DIR}/*.link.json"):
            host.remove([*links_io.PROGRAMS])
        if params["state"] == "absent" and not glob.glob(unit_files.state_path("*")):
            host.remove([unit_files.LOG_PROGRAM])
        module.exit_json(changed=bool(stopped) or removed, stopped=stopped)
    except (unit_io.UnitError, ReloadError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
