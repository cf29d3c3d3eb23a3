# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_address
short_description: Let an address move to a gateway that serves
version_added: "0.1.0"
description:
  - Runs a keepalived of its own for a deployment, as C(muster-DEPLOYMENT-address.service). It
    takes the address while this host's gateway serves, and leaves it to the other one otherwise.
  - The distribution's C(keepalived.service) and its configuration are left alone.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the files before and after.
  idempotent:
    support: full
    details: It takes over a new configuration without giving up the address.
options:
  state:
    description:
      - V(stopped) gives the address up, to the other gateway where there is one, and leaves the
        service's files.
    type: str
    choices: [started, stopped]
    default: started
  floating:
    description:
      - What the plan's gateway unit of this host has under C(floating). Null, or nothing, stops
        the service and removes its files.
    type: dict
    suboptions:
      address:
        description: The address that moves.
        type: str
        required: true
      router_id:
        description: VRRP's number of the address.
        type: int
      interface:
        description: The NIC that is to hold it.
        type: str
      config:
        description: keepalived's configuration.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Let the cluster's address move between its gateways
  muster.serving.gateway_address:
    deployment: a2-replicas
    floating: "{{ gateway_unit.floating }}"
"""

RETURN = r"""
service:
  description: The systemd service.
  returned: always
  type: str
action:
  description: What systemd did with it, V(start), V(restart), V(reload), V(stop) or null.
  returned: always
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)
from ansible_collections.muster.serving.plugins.module_utils.units import gateway_address
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_address import File
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_address_io import (
    ARGUMENT_SPEC,
    SYSTEMCTL_TIMEOUT_S,
    difference,
    is_active,
)


class AddressError(Exception):
    """systemd refused; the text says what to do."""


def systemctl(*words: str) -> Output:
    output = run(["systemctl", *words], SYSTEMCTL_TIMEOUT_S)
    if output.rc != 0:
        raise AddressError(
            f"systemctl {' '.join(words)} ended with rc {output.rc}: {output.text}. "
            f"Look whether {gateway_address.KEEPALIVED} is there and at journalctl -u {words[-1]}"
        )
    return output


def apply(
    files: NodeFiles, deployment: str, changed: dict[str, File | None], action: str | None
) -> None:
    """Write the files, and start, reload, restart or stop the service as they demand."""
    service = gateway_address.service_name(deployment)
    if action == "stop":
        systemctl("disable", "--now", service)
    for path, file in changed.items():
        if file is None:
            files.remove(path)
        else:
            files.write(path, file.text, file.mode)
    if gateway_address.service_path(deployment) in changed:
        systemctl("daemon-reload")
    if action in ("start", "restart", "reload"):
        systemctl("enable", "--quiet", service)
        systemctl(action, service)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
    )
    deployment = module.params["deployment"]
    files = NodeFiles()
    service = gateway_address.service_name(deployment)
    try:
        if module.params["state"] == "stopped":
            running = is_active(service)
            if running and not module.check_mode:
                systemctl("stop", service)
            action = "stop" if running else None
            module.exit_json(changed=running, service=service, action=action, diff=[])
        found, changed, action = difference(files, module.params)
        # To enable or disable a unit reads all of them anew, too.
        if action is not None or gateway_address.service_path(deployment) in changed:
            refuse_reload(files)
        if not module.check_mode:
            apply(files, deployment, changed, action)
    except (AddressError, ReloadError, CommandError, OSError) as error:
        module.fail_json(msg=f"{deployment}'s floating address: {error}")
    module.exit_json(
        changed=bool(changed) or action is not None,
        service=service,
        action=action,
        diff=diff(found, changed),
    )


def diff(found: dict[str, str | None], changed: dict[str, File | None]) -> list[dict[str, Any]]:
    return [
        {
            "before": found[path] or "",
            "after": file.text if file else "",
            "before_header": path,
            "after_header": path,
        }
        for path, file in changed.items()
    ]


if __name__ == "__main__":
    main()
