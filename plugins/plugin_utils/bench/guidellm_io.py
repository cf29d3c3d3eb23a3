# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GuideLLM as the client of a sweep: made ready on its host, read, and kept with its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench import guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import (
    Client,
    authority_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.detached_io import Detached
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import target_made
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import (
    GUIDELLM,
    Plan,
    Scenario,
    refusals,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    write_json,
    write_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show


class Guidellm:
    """GuideLLM on the host of a task.

    Args:
        action: The action whose task is on the client's host.
        variables: Its task's variables.
        plan: The plan of one cluster.
        made: What was going to be done (runs.runs_of).
        asked: Of the action's options venv, python, wheels, lock, api_key_file, trace, trace_scale,
            seconds and timeout.
    """

    def __init__(
        self,
        action: ControllerAction,
        variables: dict[str, Any],
        plan: Plan,
        made: Mapping[str, Any],
        asked: Mapping[str, Any],
    ) -> None:
        self._trace: dict[str, Any] | None = None
        self._plan, self._asked = plan, asked
        self._target = target_made(plan, made)
        self._client = Client(**made["client"])
        self._host = Detached(action, "muster.serving.bench_guidellm", {}, variables)
        self._venv: str | None = None
        self._reports: list[dict[str, Any]] = []

    def prepare(self, one: Scenario) -> Scenario:
        """Get the host ready and return the load, that of the trace where one is replayed.

        Raises:
            PlanError: It cannot be made, or the deployment cannot hold it.
        """
        asked, path = self._asked, self._asked["trace"]
        if not asked["venv"]:
            show("  GuideLLM is made ready on its host (some minutes the first time)")
        names = ("lock", "python", "wheels", "venv", "trace", "api_key_file")
        options = {
            "url": self._target.url,
            "ca_file": authority_of(self._plan, self._target),
            **{name: asked[name] for name in names},
        }
        if self._plan["model"]["path"]:
            options["tokenizer"] = guidellm.tokenizer_of(self._plan, self._target)
        found = self._host.call("prepare", **options)
        if "venv" not in found:
            raise PlanError([found.get("msg", "GuideLLM's host does not answer")])
        if found["venv"]:
            self._venv = found["venv"]
            self._client = guidellm.in_environment(self._client, found["venv"])
        lasts = 0.0
        if path:
            seen, scale = found["trace"], asked["trace_scale"]
            lasts = seen["seconds"] * scale
            self._trace = {"path": path, "scale": scale, **seen}
            one = guidellm.trace_load(path, seen)
            refused = refusals(one, self._plan, GUIDELLM)
            if refused:
                raise PlanError(refused)
            show(f"  {path}: {one.prompts} requests, the last one after {lasts:.0f} s")
        guidellm.check_time(asked["seconds"], lasts, asked["timeout"])
        return one

    def command(self, one: Scenario, goodput: Mapping[str, float]) -> list[str]:
        """Return the command of a load."""
        asked = (goodput, self._asked["seconds"], self._trace)
        return guidellm.command(self._plan, self._client, self._target, one, one.seed, *asked)

    def read(self, ended: Mapping[str, Any]) -> dict[str, Any]:
        """Return the end of a run with figures in the words of vllm bench serve, and keep it.

        Raises:
            PlanError: It is not as the pinned GuideLLM writes it.
        """
        try:
            figures = guidellm.figures_of(ended["raw"])
            notes = [] if figures is None else guidellm.notes_of(ended["raw"])
        except (LookupError, TypeError) as error:
            raise PlanError(
                [f"bench_venv: its GuideLLM reports otherwise than the pinned one: {error!r}"]
            ) from None
        if figures is not None:
            self._reports.append(ended["raw"])
        return {**ended, "raw": figures, "notes": notes}

    def keep(self, folder: str, stamp: str) -> dict[str, Any]:
        """Write all that it reported and its own page of that, and return what to tell of it."""
        whole = guidellm.merged(self._reports)
        told = {
            "version": whole["metadata"]["guidellm_version"] if whole else None,
            "venv": self._venv,
            "trace": self._trace,
            "seconds": self._asked["seconds"],
            "report": None,
            "page": None,
        }
        if whole is None:
            return told
        told["report"] = f"guidellm-{stamp}.json"
        write_json(f"{folder}/{told['report']}", whole)
        made = self._host.call("page", venv=self._venv, report=whole)
        if "page" not in made:
            show(f"  {made.get('msg', 'its host does not answer')}", color="yellow")
            return told
        told["page"] = f"guidellm-{stamp}.html"
        write_text(f"{folder}/{told['page']}", made["page"])
        return told
