# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench_guidellm
short_description: Get a host ready for GuideLLM, and make its page
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes an environment for GuideLLM, sees that what it reads is on the host, and later makes
    GuideLLM's own HTML page of its reports.
  - M(muster.serving.bench_sweep) calls it, and runs GuideLLM by M(muster.serving.bench_client).
  - Environments lie in C(muster-guidellm) below the user's cache folder (E(XDG_CACHE_HOME), else
    C(~/.cache)).
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.bench.guidellm
  - muster.serving.python_env
attributes:
  check_mode:
    support: full
    details: It looks at what GuideLLM reads, and makes nothing.
  diff_mode:
    support: N/A
    details: It changes no configuration.
  idempotent:
    support: full
options:
  step:
    description: V(prepare) the host, or make the V(page).
    type: str
    choices: [prepare, page]
    required: true
  lock:
    description: Of V(prepare), the pins of which it makes the environment, as pip reads them.
    type: str
  tokenizer:
    description: The folder with the model's tokenizer, which has to be there; of V(prepare).
    type: path
  url:
    description: The API, http[s]://HOST:PORT/v1, which has to answer the host; of V(prepare).
    type: str
  api_key_file:
    description: A file on the host that holds the key of O(url).
    type: path
  ca_file:
    description: A file on the host with the authority of the certificate of O(url).
    type: path
  report:
    description: What GuideLLM wrote, as a whole; of V(page).
    type: dict
"""

EXAMPLES = r"""
- name: Get ready to replay a trace
  muster.serving.bench_guidellm:
    step: prepare
    lock: "{{ lookup('ansible.builtin.file', 'requirements.lock') }}"
    tokenizer: /data/models/MiniMax-M2.5
    trace: /data/traces/monday.jsonl
  register: ready
"""

RETURN = r"""
venv:
  description: The environment; null in check mode where none is given.
  returned: at O(step=prepare)
  type: str
made:
  description: Whether it was made just now.
  returned: at O(step=prepare)
  type: bool
trace:
  description:
    - What the trace holds. Its C(kind), how many C(requests) in how many C(seconds), C(input) and
      C(output) of the longest one in tokens, and its C(sha256). Null without one.
  returned: at O(step=prepare)
  type: dict
page:
  description: The page, as text.
  returned: at O(step=page)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.python_env_io import (
    PythonEnvError,
)
from ansible_collections.muster.serving.plugins.module_utils.engine import guidellm_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import (
    BenchError,
    key_of,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm_io import (
    GuidellmError,
)


def prepare(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return what is known of the host once it is ready.

    Raises:
        BenchError: The key cannot be read.
        GuidellmError: The API does not answer, or something that GuideLLM reads is not there.
        PythonEnvError: The environment cannot be made.
    """
    if params["tokenizer"]:
        guidellm_io.check_tokenizer(params["tokenizer"])
    trace = guidellm_io.look_at_trace(params["trace"]) if params["trace"] else None
    if check_mode and not params["venv"]:
        return {"venv": None, "made": False, "trace": trace}
    if params["url"] and not check_mode:
        key = key_of(params["api_key_file"])
        guidellm_io.check_reach(params["url"], key, params["ca_file"])
    asked = (params[name] for name in ("lock", "python", "wheels", "venv"))
    venv, made = guidellm_io.prepare(*asked)
    return {"venv": venv, "made": made, "trace": trace}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["prepare", "page"], "required": True},
            "lock": {"type": "str"},
            "python": {"type": "str"},
            "wheels": {"type": "path"},
            "venv": {"type": "path"},
            "tokenizer": {"type": "path"},
            "trace": {"type": "path"},
            "url": {"type": "str"},
            "api_key_file": {"type": "path", "no_log": False},
            "ca_file": {"type": "path"},
            "report": {"type": "dict"},
        },
        required_if=[
            ("step", "prepare", ["lock"]),
            ("step", "page", ["venv", "report"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    result: dict[str, Any] = {}
    try:
        if params["step"] == "prepare":
            result = prepare(params, module.check_mode)
        elif not module.check_mode:
            result = {"page": guidellm_io.page_of(params["venv"], params["report"])}
    except (BenchError, GuidellmError, PythonEnvError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
