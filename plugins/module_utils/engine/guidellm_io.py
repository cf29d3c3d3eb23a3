# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GuideLLM on its host: its environment, what it is given to read, and its own page."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.muster.serving.plugins.module_utils.common import python_env_io
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.python_env_io import Kind
from ansible_collections.muster.serving.plugins.module_utils.endpoint.reach_io import (
    why_unreachable,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.guidellm import (
    TraceError,
    trace_of,
)

# With the CPU's build of PyTorch it takes 1.2 GiB, and as much again while it is installed.
GUIDELLM = Kind("GuideLLM", "guidellm", "bench", 2.5)
# Any of these makes a folder one with a tokenizer.
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_PAGE_S = 300


class GuidellmError(Exception):
    """GuideLLM cannot be run here; the text says why and what to do."""


def program_of(venv: str) -> str:
    """Return GuideLLM's program in an environment.

    Raises:
        GuidellmError: There is none.
    """
    program = os.path.join(venv, "bin", "guidellm")
    if not os.path.exists(program):
        raise GuidellmError(f"there is no {program} on this host: correct bench_venv")
    return program


def prepare(
    lock: str, python: str | None, wheels: str | None, venv: str | None
) -> tuple[str, bool]:
    """Return the environment with GuideLLM, made where there is none; and whether it was.

    Args:
        lock: What it is made of, pins as pip reads them.
        python: The interpreter that makes it; None for the one that runs this.
        wheels: A folder with all wheels, for a host without a package index.
        venv: One of the operator's own, which is taken as it is.

    Raises:
        GuidellmError: There is no GuideLLM in the operator's own.
        PythonEnvError: It cannot be made.
    """
    if venv:
        program_of(venv)
        return venv, False
    return python_env_io.make(GUIDELLM, lock, python, wheels)


def check_reach(url: str, key: str | None, ca: str | None) -> None:
    """See that the API answers this host, with a certificate of an authority (ca) if it speaks TLS.

    Raises:
        GuidellmError: It does not.
    """
    unreachable = why_unreachable(url, key, GUIDELLM.role, ca)
    if unreachable:
        raise GuidellmError(unreachable)


def check_tokenizer(folder: str) -> None:
    """See that prompts can be cut on this host.

    Raises:
        GuidellmError: There is no tokenizer.
    """
    if not any(os.path.exists(os.path.join(folder, name)) for name in _TOKENIZERS):
        raise GuidellmError(
            f"GuideLLM cuts prompts by the model's tokenizer, and {folder} on this host has none "
            f"({', '.join(_TOKENIZERS)}): put the small files of the weights there, or make the "
            "load on a host that has them (bench_client)"
        )


def look_at_trace(path: str) -> dict[str, Any]:
    """Return what a trace holds (guidellm.trace_of), with its sha256.

    Raises:
        GuidellmError: It cannot be read, or is none.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise GuidellmError(
            f"bench_trace: {path} cannot be read on this host ({error.strerror}): put it there, "
            "or make the load on the host that has it (bench_client)"
        ) from error
    try:
        found = trace_of(content.decode("utf-8", errors="replace").splitlines())
    except TraceError as error:
        raise GuidellmError(f"bench_trace: {path}: {error}") from None
    return {**found, "sha256": hashlib.sha256(content).hexdigest()}


def page_of(venv: str, report: Mapping[str, Any]) -> str:
    """Return GuideLLM's own HTML page of a report.

    Raises:
        GuidellmError: It does not make one.
    """
    with tempfile.TemporaryDirectory(prefix="muster-guidellm-") as folder:
        source, page = os.path.join(folder, "report.json"), os.path.join(folder, "report.html")
        Path(source).write_text(json.dumps(report), encoding="utf-8")
        output = json.dumps({"kind": "html", "path": page})
        argv = [program_of(venv), "export", source, "--output", output]
        try:
            said = run(argv, _PAGE_S)
        except CommandError as error:
            raise GuidellmError(f"GuideLLM makes no page: {error}") from None
        try:
            return Path(page).read_text(encoding="utf-8")
        except OSError:
            last = said.text.splitlines()[-1:]
            raise GuidellmError(f"GuideLLM makes no page: {''.join(last)}") from None
