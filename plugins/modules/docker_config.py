# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_config
short_description: Configure Docker without disturbing what runs, and undo it
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Merges registry settings into C(/etc/docker/daemon.json), sets the daemon's proxy and the CAs of
    registries, and enables and starts the daemon. Keys and entries of others stay.
  - Registry settings take a reload, which no container notices. A proxy takes a restart of the
    daemon, which is done only while no container runs; otherwise the module fails before it has
    changed anything.
  - On a node without Docker, or without its command, it names in RV(install) what has to be
    installed and from where, by the node's distribution and release. Where no daemon runs it writes
    the files all the same, so that one starts with them. Call it again once Docker is installed.
  - Where it knows no packages for a distribution, it fails before it has changed anything. A Docker
    that is there is taken whatever the distribution.
  - With O(state=absent) what was added for the deployment goes, as far as no other wants it, and
    Docker is otherwise left alone. Under running containers its daemon goes on with a proxy until
    its next start.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment.shared
  - muster.serving.deployment.proxy
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows files and what happens to the daemon, without passwords.
  idempotent:
    support: full
options:
  state:
    description: Whether Docker is as the deployment wants it, or no longer. With V(absent) the
      options of what is wanted count for nothing.
    type: str
    choices: [present, absent]
    default: present
  insecure_registries:
    description: Registries (C(HOST[:PORT]) or a network) asked over HTTP or without a known CA.
    type: list
    elements: str
    default: []
  registry_mirrors:
    description: Mirrors of Docker Hub, as C(http[s]://HOST[:PORT]).
    type: list
    elements: str
    default: []
  registry_ca:
    description:
      - CA of each registry (C(HOST[:PORT])), as PEM text or as an absolute path on the node.
      - One that the node has without this module stays as it is when it is the same, and else is an
        error.
    type: dict
    default: {}
  timeout:
    description: Seconds that the daemon may take to start, to restart or to answer.
    type: int
    default: 90
"""

EXAMPLES = r"""
- name: Let Docker pull from a plain HTTP registry through a proxy
  muster.serving.docker_config:
    insecure_registries: ["registry.lan:5000"]
    proxy:
      https: http://proxy.lan:3128
      no_proxy: localhost,127.0.0.1,registry.lan

- name: Take back what a cluster wanted of Docker
  muster.serving.docker_config:
    deployment: a2-cluster
    state: absent
"""

RETURN = r"""
installed:
  description: Whether Docker's service and its command are on the node.
  returned: with O(state=present)
  type: bool
install:
  description:
    - What has to be installed, or null; the C(packages), their C(manager) (V(apt) or V(dnf)),
      and the C(repository) that has to be added, as null or its C(url) and C(key).
  returned: with O(state=present)
  type: dict
stays:
  description: With O(state=absent), what a running daemon goes by until its next start, each with
    C(what) and C(why).
  returned: always
  type: list
  elements: dict
action:
  description: What happened to the daemon, V(none), V(start), V(reload) or V(restart).
  returned: always
  type: str
version:
  description: Version of the daemon. Null where it does not run, as may be in check mode.
  returned: with O(state=present)
  type: str
cgroup_driver:
  description: Its cgroup driver, or null.
  returned: with O(state=present)
  type: str
cgroup_version:
  description: The cgroup version it sees, or null.
  returned: with O(state=present)
  type: str
storage_driver:
  description: Its storage driver, or null.
  returned: with O(state=present)
  type: str
root_dir:
  description: Where it keeps images, or null.
  returned: with O(state=present)
  type: str
containers_running:
  description: How many containers run, or null.
  returned: with O(state=present)
  type: int
"""

import time
from dataclasses import asdict
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host import docker
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    UNIT,
    DockerError,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_io import (
    ARGUMENT_SPEC,
    difference,
    docker_info,
    keep_state,
    observe,
    take_back,
    write,
    write_daemon_json,
)
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access_io import (
    ReloadError,
    refuse_reload,
)


def systemctl(*words: str, timeout: float) -> None:
    output = run(["systemctl", *words], timeout)
    if output.rc:
        raise DockerError(
            f"systemctl {' '.join(words)} failed: {output.text}. Look at journalctl -u {UNIT}."
        )


def act(changes: docker.Changes, wanted: docker.Wanted, timeout: float) -> None:
    """Bring the daemon to its new configuration."""
    if docker.DROP_IN in changes.files:
        systemctl("daemon-reload", timeout=timeout)
    if changes.enable:
        systemctl("enable", UNIT, timeout=timeout)
    if changes.action == "none":
        return
    systemctl(changes.action, UNIT, timeout=timeout)
    wait_until_read(lambda: docker.lacks(docker_info(timeout), wanted), timeout)


def wait_until_read(missing: Callable[[], list[str]], timeout: float) -> None:
    """Wait until the daemon has read its file: a reload returns before that."""
    deadline = time.monotonic() + timeout
    while True:
        untaken = missing()
        if not untaken:
            return
        if time.monotonic() > deadline:
            raise DockerError(
                f"the Docker daemon does not take over {', '.join(untaken)} from "
                f"{docker.DAEMON_JSON}. Look at journalctl -u {UNIT}."
            )
        time.sleep(0.3)


def leave(files: NodeFiles, module: AnsibleModule) -> dict[str, Any]:
    """Take back what was added for a deployment, and return the module's result."""
    timeout = module.params["timeout"]
    # Where nothing was added, Docker is not even looked at.
    known = files.exists(docker.STATE_PATH)
    daemon = observe(files, timeout) if known else docker.Daemon()
    changes = docker.leave(files, daemon, module.params["deployment"])
    reread = docker.DROP_IN in changes.files or changes.action == "restart"
    if reread:
        refuse_reload(files)
    if not module.check_mode:
        if changes.action == "reload" and changes.between is not None:
            write_daemon_json(files, changes.between)
            systemctl("reload", UNIT, timeout=timeout)
            wait_until_read(lambda: docker.still_has(docker_info(timeout), changes.gone), timeout)
        take_back(files, changes)
        if reread:
            systemctl("daemon-reload", timeout=timeout)
        if changes.action == "restart":
            systemctl("restart", UNIT, timeout=timeout)
        # Last: by this, another call makes up for one that was cut off.
        keep_state(files, changes)
    return {
        "changed": changes.changed,
        "diff": docker.diff(changes),
        "action": changes.action,
        "stays": [
            {"what": f"{', '.join(changes.lingers)} of Docker's daemon", "why": docker.LINGERS}
            for _once in changes.lingers[:1]
        ],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
    )
    files = NodeFiles()
    timeout = module.params["timeout"]
    try:
        if module.params["state"] == "absent":
            module.exit_json(**leave(files, module))
        wanted, daemon, changes = difference(files, module.params)
        info = daemon.info
        # To enable a unit reads all of them anew, too.
        if docker.DROP_IN in changes.files or changes.enable:
            refuse_reload(files)
        # A daemon that runs without its command is configured once it can be asked.
        if not module.check_mode and not (changes.install and daemon.active):
            write(files, changes)
        if not module.check_mode and not changes.install:
            act(changes, wanted, timeout)
            if changes.action != "none":
                info = docker_info(timeout)
    except (DockerError, ReloadError, CommandError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changes.changed,
        diff=docker.diff(changes),
        installed=not daemon.lack,
        install=asdict(changes.install) if changes.install else None,
        action=changes.action,
        stays=[],
        **docker.summary(info),
    )


if __name__ == "__main__":
    main()
