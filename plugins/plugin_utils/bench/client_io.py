# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the engine's own client on its host, one load after the other, and watch it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench.detached_io import (
    Detached,
    say_progress,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import duration
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show

Samples = list[dict[str, Any]]


class ClientRuns:
    """Runs of one client, with what is known of its image (about).

    Args:
        action: The action whose task is on the client's host.
        variables: Its task's variables.
        made: What bench was going to do (runs.runs_of).
        api_key_file: A file on that host with the API's key.
        every: Seconds between two samples of the engines' metrics; 0 for none.
    """

    def __init__(
        self,
        action: ControllerAction,
        variables: dict[str, Any],
        made: Mapping[str, Any],
        api_key_file: str | None,
        every: float = 0,
    ) -> None:
        self.about: dict[str, Any] = {"image_id": None, "image_digests": None}
        self._every = every
        options = {
            "folder": made["client"]["folder"],
            "container": made["client"]["container"],
            "owner": made["client"]["owner"],
            "image": made["client"]["image"],
            "api_key_file": api_key_file,
            "metrics_urls": made["target"]["metrics"],
        }
        self._client = Detached(action, "muster.serving.bench_client", options, variables)

    def one(
        self,
        run: Mapping[str, Any],
        what: str,
        timeout: int,
        until: Callable[[Samples], Any] = lambda _samples: None,
    ) -> dict[str, Any]:
        """Return how one run of the client ended; with msg where it could not be run.

        Args:
            run: The run, as runs.run_of_client returns it.
            what: What to call it on the screen.
            timeout: Seconds that it may take.
            until: From all samples so far, why it is to end before its time; None while it is not.

        Returns:
            seconds, rc, timed_out, raw, log, cache_before, cache_after, samples, and cut: what
            until returned, where it ended the run.
        """
        expected = run["expected_s"]
        show(f"  {what}" + (f", about {duration(expected)}" if expected else ""))
        begin = time.monotonic()
        started = self._client.call("start", argv=run["argv"], timeout=timeout)
        if started.get("failed") or started.get("unreachable"):
            return _nothing(what, started, [])
        self.about.update({name: started.get(name) for name in self.about})
        samples: Samples = []
        cut, waited = None, 0.0

        def goes_on(seen: dict[str, Any]) -> bool:
            nonlocal cut, waited
            samples.extend(seen["samples"])
            waited = time.monotonic() - begin
            if seen["running"]:
                cut = until(samples)
                first = "the first requests are under way"
                say_progress(seen["printed"], run["requests"], waited, "requests", first)
            return not cut

        seen = self._client.watch(goes_on, every=self._every)
        if "running" not in seen:
            return _nothing(what, seen, samples)
        return {
            "seconds": round(waited, 1),
            "rc": seen.get("rc"),
            "timed_out": seen.get("timed_out", False),
            "raw": seen.get("raw"),
            "log": seen.get("log", seen["printed"]),
            "cache_before": started["cache"],
            "cache_after": seen.get("cache"),
            "samples": samples,
            "cut": cut,
        }


def _nothing(what: str, answer: Mapping[str, Any], samples: Samples) -> dict[str, Any]:
    """Return the end of a run that the node gave no result of."""
    said = f"{what}: {answer.get('msg', 'the node does not answer')}"
    nothing = dict.fromkeys(("seconds", "rc", "raw", "cache_before", "cache_after", "cut"))
    return {**nothing, "timed_out": False, "log": [said], "samples": samples, "msg": said}
