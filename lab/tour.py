# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands after `make demo`: an answer, who computed it, and what to try next."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.paths import ROOT
from lab.shell import LabError, run

QUESTION = "Hello, who are you?"
ANSWER_TOKENS = 24
TOKENS = re.compile(r'^vllm:generation_tokens_total\{engine="(\d+)".*\} (\S+)$', re.MULTILINE)

# A proxy of this machine has no way into the lab's network.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str, body: dict[str, Any] | None = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - from our own plan
    try:
        with _OPENER.open(request, timeout=120) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError) as error:
        raise LabError(
            f"{url} does not answer ({error}); bring the pair into service with\n"
            "    .venv/bin/ansible-playbook -i inventories/lab site.yml -l a2-cluster"
        ) from error


def tokens_by_rank(metrics: str) -> dict[int, int]:
    return {int(rank): int(float(count)) for rank, count in TOKENS.findall(metrics)}


def make_plan() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "plan.json")
        run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(ROOT / "inventories/lab"), str(ROOT / "playbooks/plan.yml")),
                *("-l", "a2-cluster", "-e", f"plan_file={file}"),
            ],
            env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        )
        plan: dict[str, Any] = json.loads(file.read_text())
        return plan


def show() -> None:
    plan = make_plan()
    endpoint = plan["endpoint"]
    url, model = endpoint["url"], endpoint["model"]
    chat = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": ANSWER_TOKENS,
    }
    reply = json.loads(_get(f"{url}/chat/completions", chat))
    host_of = {rank: unit["host"] for unit in plan["units"] for rank in unit["ranks"]}
    counts = tokens_by_rank(_get(url.removesuffix("/v1") + "/metrics"))
    print(
        f"\n{QUESTION}\n  {reply['choices'][0]['message']['content'].strip()}\n"
        "  (a tiny model with random weights: words, no sense)\n\n"
        f"Endpoint  {url}  model {model}"
    )
    for rank, count in sorted(counts.items()):
        print(f"          rank {rank} on {host_of.get(rank, '?')}: {count} tokens so far")
    print(
        f"""
Try next
  curl {url}/chat/completions -H 'Content-Type: application/json' \\
    -d '{json.dumps(chat)}'
  .venv/bin/ansible-playbook -i inventories/lab playbooks/status.yml -l a2-cluster
  .venv/bin/ansible-playbook -i inventories/lab site.yml -l a2-cluster      # changes nothing
  .venv/bin/python -m lab exec a2-node1 \\
    python3 /usr/local/lib/muster-lab/device_tools.py set devices.3.health Alarm
  .venv/bin/ansible-playbook -i inventories/lab playbooks/preflight.yml -l a2-cluster
  make demo-down                                                            # removes it all"""
    )
