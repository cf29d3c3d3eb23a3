# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_check
short_description: Ask an endpoint what its users will ask
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Sends real requests to an OpenAI endpoint and checks that every engine behind it produces
    tokens.
    A health page is not asked, since it can be fine while every completion fails.
  - It never fails on a verdict; M(muster.serving.cluster_verdict) judges what it returns.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.checks
attributes:
  check_mode:
    support: partial
    details: It only asks which models are served, and spends no tokens.
  idempotent:
    support: full
    details: It changes nothing, but spends tokens.
options:
  url:
    description: The endpoint, C(http[s]://HOST:PORT/v1). No proxy is used.
    type: str
    required: true
  model:
    description: The model's name in the API.
    type: str
    required: true
  subject:
    description: What the checks name. Without it the model.
    type: str
  api_key_file:
    description: A file on the node that holds the API key.
    type: path
  ca_file:
    description:
      - A file on the node with the authority that the certificate of an C(https) endpoint has to
        come from. Without it those that the node knows.
    type: path
  certificate_name:
    description: The name or address that the certificate has to be for. Without it that of O(url).
    type: str
  features:
    description:
      - What the deployment offers. A chat is always asked for; what stands not here is skipped.
      - With V(tools) a reply that calls the offered tool is right, one that answers in words is a
        warning.
    type: list
    elements: str
    choices: [chat, streaming, tools, completions, responses]
    default: [chat]
  engines:
    description:
      - The engines whose token counters must rise, as C(/metrics) of vLLM or SGLang labels them.
        With data parallelism each rank is one. A lone engine may go without a label.
    type: list
    elements: str
    default: []
  engine_hosts:
    description: By engine, the node that it runs on, for messages.
    type: dict
    default: {}
  engine_urls:
    description:
      - By engine that has an API of its own (external data parallelism), its URL. Each of them is
        asked itself; the counters of the others must rise.
    type: dict
    default: {}
  max_requests:
    description: How many small requests may be sent until every engine has produced tokens.
    type: int
    default: 64
  known_answers:
    description: Questions with a regular expression that their answers match.
    type: list
    elements: dict
    suboptions:
      prompt:
        description: The question.
        type: str
        required: true
      expect:
        description: The regular expression. It is searched in the answer, without its thoughts.
        type: str
        required: true
  max_repetition:
    description:
      - How often the same few words or characters may follow each other in an answer. Wrong weights
        or flags show so. Without it there is no such check.
    type: int
  patience:
    description:
      - Seconds within which the endpoint may begin to serve. A gateway's address moves within some,
        and a gateway takes some more to see that its engines serve. Not used in check mode.
    type: float
    default: 0
  verified:
    description:
      - When the very units that run now answered all of it, as a text. Only the list of models, one
        short chat and the engines are asked for then, and what else there is rests on that time.
    type: str
  soak_s:
    description:
      - Seconds for which what has answered all else is kept under a small load (check
        V(endpoint-soak)); V(0) for none. Nor is there one with O(verified) or in check mode.
    type: float
    default: 0
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 120
"""

EXAMPLES = r"""
- name: Ask the endpoint
  muster.serving.endpoint_check:
    url: http://10.20.0.11:20004/v1
    model: minimax25
    features: [chat, streaming, tools]
    engines: ["0", "1"]
    known_answers:
      - prompt: What is 17 + 25? Answer with the number only.
        expect: \b42\b
  register: endpoint
"""

RETURN = r"""
checks:
  description:
    - The verdicts, with the ids V(endpoint-key), V(endpoint-models), V(endpoint-chat),
      V(endpoint-repetition), V(endpoint-streaming), V(endpoint-tools), V(endpoint-completions),
      V(endpoint-responses), V(endpoint-engines), V(endpoint-soak) and V(endpoint-answers).
  returned: always
  type: list
  elements: dict
  sample:
    - id: endpoint-engines
      phase: ready
      status: failed
      subject: engine 1
      observed: no tokens from 66 requests
      expected: tokens
      remedy: restart the whole replica, since its ranks work together or not at all
answer:
  description: What the model answered to a greeting, cut where it is long.
  returned: always
  type: str
tokens:
  description: Tokens that each engine produced meanwhile.
  returned: always
  type: dict
  sample: {"0": 312, "1": 96}
produced:
  description: RV(tokens) as people read it, with the engines' nodes.
  returned: always
  type: dict
  sample: {engine 0 on a2-node0: 312, engine 1 on a2-node1: 96}
url:
  description: The endpoint.
  returned: always
  type: str
usage:
  description: Tokens that the server counted for the answers to single requests.
  returned: always
  type: dict
  sample: {prompt_tokens: 120, completion_tokens: 408, total_tokens: 528}
requests:
  description: How many requests that cost tokens were sent.
  returned: always
  type: int
skipped_features:
  description: By feature that was not asked for, the reason.
  returned: always
  type: dict
  sample: {tools: the deployment does not have it}
"""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import check
from ansible_collections.muster.serving.plugins.module_utils.endpoint.checks import place
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.probe_io import (
    ASPECTS,
    FEATURES,
    Prober,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import shorten


def ask(
    client: Client, engines: dict[str, Client], params: dict[str, Any], spend: bool
) -> dict[str, Any]:
    hosts = params["engine_hosts"] or {}
    prober = Prober(client, params["model"], hosts, engines, params["subject"])
    prober.run(
        features=params["features"],
        engines=params["engines"],
        max_requests=params["max_requests"],
        known_answers=params["known_answers"] or (),
        max_repetition=params["max_repetition"],
        spend=spend,
        patience=params["patience"],
        verified=params["verified"],
        soak_s=params["soak_s"],
    )
    return {
        "checks": prober.checks,
        "answer": shorten(prober.answer, 400),
        "tokens": prober.tokens,
        "produced": {place(engine, hosts): count for engine, count in prober.tokens.items()},
        "usage": prober.usage,
        "requests": prober.requests,
        "skipped_features": prober.skipped,
    }


def no_key(path: str, problem: str) -> dict[str, Any]:
    return {
        "checks": [
            check(
                "endpoint-key",
                "failed",
                path,
                problem,
                "a file with the API key",
                "put the key there, or correct muster_api_key_file",
            )
        ],
        "answer": "",
        "tokens": {},
        "produced": {},
        "usage": {},
        "requests": 0,
        "skipped_features": dict.fromkeys(ASPECTS, "there is no API key"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "subject": {"type": "str"},
            "api_key_file": {"type": "path", "no_log": False},
            "ca_file": {"type": "path"},
            "certificate_name": {"type": "str"},
            "features": {
                "type": "list",
                "elements": "str",
                "choices": list(FEATURES),
                "default": ["chat"],
            },
            "engines": {"type": "list", "elements": "str", "default": []},
            "engine_hosts": {"type": "dict", "default": {}},
            "engine_urls": {"type": "dict", "default": {}},
            "max_requests": {"type": "int", "default": 64},
            "known_answers": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "prompt": {"type": "str", "required": True},
                    "expect": {"type": "str", "required": True},
                },
            },
            "max_repetition": {"type": "int"},
            "patience": {"type": "float", "default": 0},
            "verified": {"type": "str"},
            "soak_s": {"type": "float", "default": 0},
            "timeout": {"type": "float", "default": 120},
        },
        supports_check_mode=True,
    )
    params = module.params
    key = None
    if params["api_key_file"]:
        try:
            key = Path(params["api_key_file"]).read_text(errors="replace").strip()
        except OSError as error:
            module.exit_json(
                changed=False,
                url=params["url"],
                **no_key(params["api_key_file"], error.strerror or str(error)),
            )
    try:
        for one in params["known_answers"] or ():
            re.compile(one["expect"])
        client = Client(
            params["url"],
            key,
            params["timeout"],
            ca=params["ca_file"],
            called=params["certificate_name"],
        )
        engines = {
            engine: Client(url, key, params["timeout"])
            for engine, url in params["engine_urls"].items()
        }
    except (ValueError, re.error) as error:
        module.fail_json(msg=f"an option cannot be used: {error}")
    except OSError as error:
        module.fail_json(msg=f"ca_file {params['ca_file']} cannot be used: {error}")
    result = ask(client, engines, params, spend=not module.check_mode)
    module.exit_json(changed=False, url=params["url"], **result)


if __name__ == "__main__":
    main()
