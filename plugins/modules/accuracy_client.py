# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accuracy_client
short_description: Run lm-evaluation-harness against an endpoint and look at it
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes an environment for lm-evaluation-harness, starts the harness on one data set as a process
    that outlives the connection, and says in later calls how far it is and what came of it.
  - M(muster.serving.accuracy_run) calls it and shows the progress.
  - Environments and runs lie in C(muster-accuracy) below the user's cache folder
    (E(XDG_CACHE_HOME), else C(~/.cache)).
  - The key of the API is read from a file of the host, and reaches the harness by its environment,
    never by its command line.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.deployment
  - muster.serving.accuracy
  - muster.serving.accuracy.harness
  - muster.serving.python_env
attributes:
  check_mode:
    support: full
    details: It makes and starts nothing.
  diff_mode:
    support: N/A
    details: It changes no configuration.
  idempotent:
    support: N/A
    details: Each start asks all questions anew.
options:
  step:
    description:
      - V(prepare) the environment, V(start) a run, V(look) at it, or V(end) it and remove all that
        it left but for O(keep).
      - A start is refused while another run of the same deployment is under way.
    type: str
    choices: [prepare, start, look, end]
    required: true
  lock:
    description: What the environment is made of, pins as pip reads them; of V(prepare).
    type: str
  venv:
    description: The environment to run, as V(prepare) returns it or one of your own.
    type: path
  set:
    description: The data set; of V(start) and V(look).
    type: str
    choices: [gsm8k, mmlu, gpqa, aime25]
  files:
    description:
      - By split the data set's file on this host, as M(muster.serving.accuracy_data) returns it.
        Without it the set comes from the hub.
    type: dict
    default: {}
  samples:
    description: How many questions are drawn. Without it all are asked.
    type: int
  sampling:
    description: C(temperature), C(top_p), C(top_k) and C(max_gen_toks) of requests.
    type: dict
    default: {}
  url:
    description: The API, http[s]://HOST:PORT/v1; of V(start).
    type: str
  model:
    description: The model's name in the API; of V(start).
    type: str
  timeout:
    description: Seconds after which the run is ended.
    type: int
    default: 86400
  api_key_file:
    description: A file on the host that holds the key which requests carry.
    type: path
  wait:
    description: Seconds that V(look) waits for the run's end.
    type: float
    default: 0
  keep:
    description: The folder on the host in which V(look) keeps the harness's own files.
    type: path
"""

EXAMPLES = r"""
- name: Ask a hundred questions
  muster.serving.accuracy_client:
    step: start
    deployment: a2-cluster
    venv: /opt/lm-eval
    set: gsm8k
    files: {test: /data/gsm8k/test.jsonl, train: /data/gsm8k/train.jsonl}
    samples: 100
    url: http://10.20.0.11:8000/v1
    model: MiniMax-M2.5

- name: See whether it has ended
  muster.serving.accuracy_client:
    step: look
    deployment: a2-cluster
    set: gsm8k
    wait: 30
  register: seen
"""

RETURN = r"""
venv:
  description: The environment.
  returned: at O(step=prepare)
  type: str
made:
  description: Whether it was made just now.
  returned: at O(step=prepare)
  type: bool
questions:
  description: How many questions are asked.
  returned: at O(step=start)
  type: int
running:
  description: Whether the harness runs.
  returned: at O(step=look)
  type: bool
printed:
  description: What it printed last.
  returned: at O(step=look)
  type: list
  elements: str
rc:
  description: Its exit code; null where it has left none.
  returned: at O(step=look), when it has ended
  type: int
timed_out:
  description: Whether it was ended because its time was up.
  returned: at O(step=look), when it has ended
  type: bool
log:
  description: Its last lines.
  returned: at O(step=look), when it has ended
  type: list
  elements: str
result:
  description:
    - How many C(questions) were asked, and by way to read an answer how many were C(right), and in
      how many it found nothing (C(unread)); how many answers were C(empty) or ended within the
      model's thinking (C(unfinished)); C(harness_version) and C(task_hash). Null without a result.
  returned: at O(step=look), when it has ended
  type: dict
problem:
  description: Why there is no result.
  returned: at O(step=look), when it has ended
  type: str
kept:
  description: The folder of the harness's own files, the log of all answers among them.
  returned: at O(step=look), when it has ended, with O(keep)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.accuracy import client_io
from ansible_collections.muster.serving.plugins.module_utils.accuracy.client_io import AccuracyError
from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import SETS
from ansible_collections.muster.serving.plugins.module_utils.common.python_env_io import (
    PythonEnvError,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import BenchError


def act(params: dict[str, Any]) -> dict[str, Any]:
    """Take one step and return what it says.

    Raises:
        AccuracyError: It cannot be taken.
        BenchError: The process cannot be started.
        PythonEnvError: Its environment cannot be made.
        OSError: The host's files do not allow it.
    """
    home = client_io.home_of(params["deployment"])
    if params["step"] == "prepare":
        venv, made = client_io.prepare(params["lock"], params["python"], params["wheels"])
        return {"venv": venv, "made": made}
    if params["step"] == "start":
        asked = {
            **{
                name: params[name]
                for name in (
                    *("samples", "seed", "sampling", "url", "model", "concurrency"),
                    *("request_timeout", "timeout"),
                )
            },
            "key": client_io.key_of(params["api_key_file"]),
        }
        number = client_io.start(home, params["venv"], params["set"], params["files"], asked)
        return {"questions": number}
    if params["step"] == "look":
        return client_io.look(home, params["set"], params["wait"], params["keep"])
    client_io.end(home)
    return {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "step": {
                "type": "str",
                "choices": ["prepare", "start", "look", "end"],
                "required": True,
            },
            "lock": {"type": "str"},
            "python": {"type": "str"},
            "wheels": {"type": "path"},
            "venv": {"type": "path"},
            "set": {"type": "str", "choices": list(SETS)},
            "files": {"type": "dict", "default": {}},
            "samples": {"type": "int"},
            "seed": {"type": "int", "default": 1234},
            "sampling": {"type": "dict", "default": {}},
            "url": {"type": "str"},
            "model": {"type": "str"},
            "concurrency": {"type": "int", "default": 32},
            "request_timeout": {"type": "int", "default": 3600},
            "timeout": {"type": "int", "default": 86400},
            "api_key_file": {"type": "path", "no_log": False},
            "wait": {"type": "float", "default": 0},
            "keep": {"type": "path"},
        },
        required_if=[
            ("step", "prepare", ["lock"]),
            ("step", "start", ["venv", "set", "url", "model"]),
            ("step", "look", ["set"]),
        ],
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="check mode: nothing is asked")
    try:
        result = act(module.params)
    except (AccuracyError, BenchError, PythonEnvError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
