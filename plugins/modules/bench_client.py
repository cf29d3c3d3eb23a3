# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_client
short_description: Run an engine's bench client by itself and look at it
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Starts the load client of an engine, C(vllm bench serve) or C(sglang.bench_serving), as a
    process that outlives the connection, and says in later calls how far it is and what it has
    measured.
  - M(muster.serving.bench_run) calls it and shows the progress.
  - The key of the API is read from a file of the node, and reaches the client by its environment,
    never by its command line.
extends_documentation_fragment:
  - muster.serving.attributes
attributes:
  check_mode:
    support: full
    details: It starts nothing.
  diff_mode:
    support: N/A
    details: It changes no configuration.
  idempotent:
    support: N/A
    details: Each start is a load of its own.
options:
  step:
    description:
      - V(start) a client, V(look) at it, or V(end) it and remove all that it left on the node.
      - A start is refused while another client of the same O(folder) runs.
    type: str
    choices: [start, look, end]
    required: true
  folder:
    description: The client's own folder, which V(end) removes.
    type: path
    required: true
  argv:
    description: The whole command; of V(start).
    type: list
    elements: str
    default: []
  container:
    description: The name of the client's container, if it has one.
    type: str
  image:
    description: The image of that container, whose id and digests are told.
    type: str
  owner:
    description: The user that the client runs as, if that is not root.
    type: str
  api_key_file:
    description: A file on the node that holds the key which the client sends.
    type: path
  metrics_urls:
    description: The APIs of the engines, whose metrics are read.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds after which the client is ended.
    type: int
    default: 7200
  wait:
    description: Seconds that V(look) waits for the client's end.
    type: float
    default: 0
  every:
    description:
      - Seconds between two samples of the engines' metrics while V(look) waits; V(0) for none.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Put a load on the endpoint
  muster.serving.bench_client:
    step: start
    folder: /var/lib/muster/bench/a2-cluster
    argv: [/opt/muster/venvs/vllm/bin/vllm, bench, serve, --base-url, http://10.20.0.11:8000]

- name: See whether it has ended
  muster.serving.bench_client:
    step: look
    folder: /var/lib/muster/bench/a2-cluster
    wait: 30
  register: seen
"""

RETURN = r"""
running:
  description: Whether the client runs.
  returned: at O(step=start) and O(step=look)
  type: bool
printed:
  description: What it printed last.
  returned: at O(step=look)
  type: list
  elements: str
samples:
  description:
    - What the engines did meanwhile. Each has C(at) (seconds since 1970), by API and rank
      C(engines) (C(running) and C(waiting) requests, C(kv_usage) of 1, C(preemptions),
      C(prompt_tokens) and C(tokens) since the start, and C(moves), which differs whenever something
      did), and by API C(errors) of those that did not answer.
  returned: at O(step=look)
  type: list
  elements: dict
rc:
  description: The client's exit code; null where it has left none.
  returned: at O(step=look), when it has ended
  type: int
timed_out:
  description: Whether it was ended because its time was up.
  returned: at O(step=look), when it has ended
  type: bool
raw:
  description: The JSON that the client wrote, without the engine's configuration; null for none.
  returned: at O(step=look), when it has ended
  type: dict
log:
  description: Its last lines.
  returned: at O(step=look), when it has ended
  type: list
  elements: str
cache:
  description:
    - How many tokens of prompts the prefix caches were asked for (C(queries)) and had (C(hits))
      since the engines started; null where one does not tell.
  returned: at O(step=start), and at O(step=look) when the client has ended
  type: dict
image_id:
  description: The image's id.
  returned: at O(step=start), with O(image)
  type: str
image_digests:
  description: By which digests a registry knows it.
  returned: at O(step=start), with O(image)
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.engine import bench_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import (
    BenchError,
    Place,
    key_of,
)
from ansible_collections.muster.serving.plugins.module_utils.units import unit_io


def begin(place: Place, params: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Start the client and return what is known of its image and of the caches before.

    Raises:
        BenchError: It cannot be started.
        UnitError: Docker does not answer.
    """
    found: dict[str, Any] = {"running": True}
    image = params["image"]
    if image:
        identity = unit_io.image_ids([image])[image]
        if identity is None:
            raise BenchError(
                f"the image {image} is not on this node: run prepare, or docker pull it here"
            )
        found.update(image_id=identity, image_digests=bench_io.digests_of(image))
    found["cache"] = bench_io.cache_of(params["metrics_urls"], key)
    bench_io.start(place, params["argv"], key, params["timeout"])
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["start", "look", "end"], "required": True},
            "folder": {"type": "path", "required": True},
            "argv": {"type": "list", "elements": "str", "default": []},
            "container": {"type": "str"},
            "image": {"type": "str"},
            "owner": {"type": "str"},
            "api_key_file": {"type": "path", "no_log": False},
            "metrics_urls": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 7200},
            "wait": {"type": "float", "default": 0},
            "every": {"type": "float", "default": 0},
        },
        required_if=[("step", "start", ["argv"])],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="check mode: no load is made")
    place = Place(params["folder"], params["container"], params["owner"])
    result: dict[str, Any] = {}
    try:
        if params["step"] == "end":
            bench_io.end(place)
        else:
            key = key_of(params["api_key_file"])
            if params["step"] == "start":
                result = begin(place, params, key)
            else:
                urls, every = params["metrics_urls"], params["every"]
                result = bench_io.look(place, params["wait"], urls, key, every)
                if not result["running"]:
                    result["cache"] = bench_io.cache_of(params["metrics_urls"], key)
    except (BenchError, unit_io.UnitError, OSError, LookupError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
