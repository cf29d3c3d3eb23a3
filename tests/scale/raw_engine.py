# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The raw engine: the plan's own commands started by hand, without Muster's roles.

What site.yml adds to the time until an answer is measured against this. It needs the lab's image
on the nodes (pulled before the clock starts) and takes two nodes that serve nothing:

    .venv/bin/ansible-playbook -i inventories/lab playbooks/plan.yml -l a2-cluster \\
      -e plan_file=plan.json
    .venv/bin/python tests/scale/raw_engine.py plan.json

The containers are removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lab.paths import key_file  # noqa: E402

NAME = "raw-engine"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ssh(unit: dict[str, Any], command: str, timeout: float = 600) -> str:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    done = subprocess.run(
        [
            *("ssh", "-i", str(key_file()), *(f"-o{option}" for option in options)),
            *(f"root@{unit['address']}", command),
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{unit['host']}: {command.split(maxsplit=2)[:2]}: {done.stderr}")
    return done.stdout


def docker_run(unit: dict[str, Any]) -> str:
    container = unit["container"]
    argv = ["docker", "run", "-d", "--name", NAME, "--network", "host"]
    if container["ipc"]:
        argv += ["--ipc", container["ipc"]]
    for device in unit["device_nodes"]:
        argv += ["--device", device]
    for mount in unit["mounts"]:
        argv += ["-v", mount]
    for key, value in unit["env"].items():
        argv += ["-e", f"{key}={value}"]
    program, *rest = unit["argv"]
    return shlex.join([*argv, "--entrypoint", program, unit["image"], *rest])


def first_answer(url: str, model: str, deadline: float) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    while True:
        try:
            with OPENER.open(request, timeout=60) as answer:
                json.load(answer)["choices"]
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"no answer from {url} before the deadline") from None
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the plan's engines without Muster's roles.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--timeout", type=float, default=900)
    args = parser.parse_args()
    plan = json.loads(args.plan.read_text())
    units = plan["units"]
    with ThreadPoolExecutor(len(units)) as pool:
        list(pool.map(lambda unit: ssh(unit, f"docker pull -q {unit['image']}"), units))
        start = time.monotonic()
        try:
            list(pool.map(lambda unit: ssh(unit, docker_run(unit)), units))
            started = time.monotonic()
            endpoint = plan["endpoint"]
            first_answer(endpoint["url"], endpoint["model"], start + args.timeout)
            end = time.monotonic()
            figures = {"containers_s": round(started - start, 1), "answer_s": round(end - start, 1)}
            print(json.dumps(figures))
        finally:
            list(pool.map(lambda unit: ssh(unit, f"docker rm -f {NAME}"), units))


if __name__ == "__main__":
    main()
