# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_takeover
short_description: Stop what holds a plan's devices and ports by other hands, and bring it back
version_added: "0.1.0"
description:
  - Finds the containers of Docker and Podman, the systemd services and the bare processes that are
    on the planned devices by their vendor's tool, or that listen on planned ports.
  - A container is stopped and stays, with its restart policy at V(no). A service is stopped, and
    disabled where it was enabled. Both come back as they were.
  - A bare process, a container that was started with C(--rm) and a service of C(systemd-run) cannot
    be brought back. They are stopped with O(for_good) alone.
  - Refused are units of another deployment of Muster, containers of Kubernetes or Docker Swarm, a
    user's own services and services of packages. What holds none of the plan's devices and ports is
    left as it is, such as an exporter that only reads a device's counters.
  - What is stopped is kept in C(/var/lib/muster/takeover/DEPLOYMENT.json), for root alone, before
    the first of it stops, so that another call goes on where one was cut off. No environment is
    kept, as it may hold secrets, and command lines are kept without secrets.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
  - muster.serving.run
  - muster.serving.run.owner
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows what runs before and after.
  idempotent:
    support: full
options:
  state:
    description:
      - V(stopped) stops all that holds the plan's devices and ports, and waits until they are free.
      - V(replaced) notes that what took their place was verified.
      - V(undone) brings back what was stopped since the last V(replaced).
      - V(returned) brings back all that the record has.
    type: str
    choices: [stopped, replaced, undone, returned]
    required: true
  vendor:
    description:
      - The devices' vendor, as C(platform.vendor) of a recipe has it. Without it none is looked at.
    type: str
  devices:
    description: The planned devices.
    type: list
    elements: int
    default: []
  device_nodes:
    description:
      - Their device nodes. Where the vendor's tool does not tell who is on a device, that is who
        has the node of its number open.
    type: list
    elements: path
    default: []
  ports:
    description: The planned ports, as numbers or ranges.
    type: list
    elements: raw
    default: []
  bind_address:
    description: The address to which the ports will be bound.
    type: str
  for_good:
    description: Whether that is stopped, too, which cannot be brought back.
    type: bool
    default: false
seealso:
  - module: muster.serving.node_checks
"""

EXAMPLES = r"""
- name: Stop what was started by hand on NPUs 0 and 1
  muster.serving.node_takeover:
    deployment: a2-cluster
    state: stopped
    vendor: ascend
    devices: [0, 1]
    ports: [20004]

- name: Bring it back
  muster.serving.node_takeover:
    deployment: a2-cluster
    state: returned
"""

RETURN = r"""
stopped:
  description: What was, or would be, stopped by this or by a run that was cut off.
  returned: with O(state=stopped)
  type: list
  elements: str
  sample: ["container vllm (vllm/vllm-openai:v0.9.1)"]
replaced:
  description:
    - Of all that the record has, C(what) it was, its C(state) (V(stopping) or V(replaced)) since
      when (C(since)), whether it can come back (C(can_return)), and the commands that bring it
      C(back) or C(remove) it.
  returned: success
  type: list
  elements: dict
msg:
  description: What was, or would be, started again, and what was not and why.
  returned: with O(state=undone) and O(state=returned)
  type: str
"""

from typing import Any, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.network.ports import PortError
from ansible_collections.muster.serving.plugins.module_utils.node import takeover, takeover_io
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock_io


def diff(before: Mapping[str, Sequence[takeover.Entry]], after: str) -> dict[str, str]:
    """Return what runs before, by a word for that, and after, a line for each."""
    lines = [
        (word, f"{takeover.title(one)}, {takeover.held_text(one)}\n")
        for word, entries in before.items()
        for one in entries
    ]
    return {
        "before": "".join(f"{word}: {line}" for word, line in lines),
        "after": "".join(f"{after}: {line}" for _word, line in lines),
    }


def stop(module: AnsibleModule, files: NodeFiles) -> dict[str, Any]:
    params = module.params
    name, for_good = params["deployment"], params["for_good"]
    holders = takeover.holders_of(takeover_io.look(params), name)
    refused = [
        f"{one['subject']} {one['observed']}: {one['remedy']}"
        for one in takeover.checks_of(holders, for_good)
        if one["status"] == "failed"
    ]
    if refused:
        raise takeover.TakeoverError(f"nothing was stopped. {'; '.join(refused)}")
    entries = takeover.begun(takeover_io.read(files, name), holders, "")
    stopping = takeover.to_stop(entries)
    if not module.check_mode:
        takeover_io.stop(files, name, holders)
        if stopping:
            takeover_io.wait_until_free(params)
    titles = [takeover.title(one) for one in takeover.unfinished(entries)]
    holding = [one.entry for one in holders]
    keys = [one["key"] for one in holding]
    halfway = [one for one in stopping if one["key"] not in keys]
    changes = diff({"runs": holding, "left halfway": halfway}, "stopped")
    return {"changed": bool(stopping), "stopped": titles, "diff": changes}


def bring_back(module: AnsibleModule, files: NodeFiles) -> dict[str, Any]:
    name, undo = module.params["deployment"], module.params["state"] == "undone"
    entries = takeover_io.read(files, name)
    chosen = takeover.unfinished(entries) if undo else entries
    if not chosen:
        return {"changed": False, "msg": "nothing was replaced here"}
    able = [one for one in chosen if not one["lost"]]
    changes = diff({"stopped": able}, "runs")
    if module.check_mode:
        texts = [f"{takeover.title(one)} would be started again" for one in able]
        texts += [
            f"not brought back: {takeover.title(one)}: {takeover.way_back(one)}"
            for one in chosen
            if one["lost"]
        ]
        return {"changed": bool(able), "diff": changes, "msg": "; ".join(texts)}
    back, problems = takeover_io.bring_back(files, name, chosen, forget=not undo)
    texts = [f"{takeover.title(one)} was started again" for one in back]
    texts += [f"not brought back: {one}" for one in problems]
    result = {"changed": bool(back), "diff": changes, "msg": "; ".join(texts)}
    if takeover.left(takeover_io.read(files, name), able):
        module.fail_json(**result)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["stopped", "replaced", "undone", "returned"],
                "required": True,
            },
            **takeover_io.ARGUMENT_SPEC,
            "lock": {"type": "str"},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run_lock_io.hold(module, changes=True)
    files, name = NodeFiles(), module.params["deployment"]
    try:
        if module.params["state"] == "stopped":
            result = stop(module, files)
        elif module.params["state"] == "replaced":
            done = takeover.unfinished(takeover_io.read(files, name))
            if done and not module.check_mode:
                takeover_io.finish(files, name)
            result = {"changed": bool(done)}
        else:
            result = bring_back(module, files)
        result["replaced"] = takeover.told(takeover_io.read(files, name))
    except (takeover.TakeoverError, CommandError, PortError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
