# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine does, by two looks at its metrics and a token asked of each rank between. Pure."""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.programs import stall_watch

_RUNNING = {"vllm:num_requests_running", "sglang:num_running_reqs"}
_WAITING = {"vllm:num_requests_waiting", "sglang:num_queue_reqs"}
# vLLM counts by the reason why a request ended.
_DONE = {"vllm:request_success_total", "sglang:num_requests_total"}
_GENERATED = {"vllm:generation_tokens_total", "sglang:generation_tokens_total"}
_COUNTED = _RUNNING | _WAITING | _DONE | _GENERATED

# What asking each rank for a token came to. BUSY: no answer in time, while others got tokens.
SERVES, BUSY, PAUSED, REFUSED, SILENT = "serves", "busy", "paused", "refused", "no token"


class Answer(NamedTuple):
    """What one completion came to, asked of a rank; the rank is empty where there is no choice."""

    rank: str
    outcome: str
    words: str


def ranks_to_ask(text: str) -> list[str]:
    """Return the ranks that a completion each is to be asked of: one without a name for one rank.

    Only an engine that balances over several ranks takes a request for one of them.
    """
    ranks = {sample.engine for sample in stall_watch.samples(text, _RUNNING | _GENERATED)}
    numbered = sorted((rank for rank in ranks if rank.isdecimal()), key=int)
    return numbered if len(numbered) > 1 else [""]


def usage(before: str, after: str, passed_s: float, answers: Iterable[Answer]) -> dict[str, Any]:
    """Return what an engine has done and does.

    Args:
        before: Text of its /metrics; empty where it gave none.
        after: The same, later.
        passed_s: Seconds between.
        answers: The completions asked between.

    Returns:
        {state, said, running, waiting, done, ranks: [{rank, tokens, rate}]}, with the numbers of
        requests and of generated tokens since the engine started, null where it does not count
        them, and rate in tokens a second without those of the answers. state is one of those above,
        and said what is wrong; empty where nothing is.
    """
    answers = list(answers)
    first, last = _tokens(before), _tokens(after)
    ours: dict[str, int] = {}
    for answer in answers:
        # Without a name it is of the one rank that counts.
        rank = answer.rank if answer.rank in last else next(iter(last), "")
        ours[rank] = ours.get(rank, 0) + (answer.outcome == stall_watch.ANSWERED)
    ranks = []
    for rank, tokens in sorted(last.items(), key=lambda item: (len(item[0]), item[0])):
        made = tokens - first.get(rank, tokens) - ours.get(rank, 0)
        rate = round(max(made, 0) / passed_s, 1) if rank in first and passed_s > 0 else None
        ranks.append({"rank": rank, "tokens": int(tokens), "rate": rate})
    state, said = _judged(answers, _moved(before, after))
    return {
        "state": state,
        "said": said,
        "running": _sum(after, _RUNNING),
        "waiting": _sum(after, _WAITING),
        "done": _sum(after, _DONE),
        "ranks": ranks,
    }


def _judged(answers: list[Answer], moved: set[str]) -> tuple[str, str]:
    failed = [one for one in answers if one.outcome == stall_watch.FAILED]
    # What an engine counts for all its ranks together speaks for each of them, unless it is our own
    # token that was counted.
    shared = "" in moved and len(failed) == len(answers)
    still = [one for one in failed if not (shared or (one.rank in moved if one.rank else moved))]
    if still:
        ranks = ", ".join(f"rank {one.rank}" for one in still if one.rank)
        words = ", ".join(dict.fromkeys(one.words for one in still))
        return SILENT, f"{ranks}: {words}" if ranks else words
    if failed:
        return BUSY, ""
    for outcome, state in ((stall_watch.PAUSED, PAUSED), (stall_watch.REFUSED, REFUSED)):
        told = [one.words for one in answers if one.outcome == outcome]
        if told:
            return state, told[0]
    return SERVES, ""


def _moved(before: str, after: str) -> set[str]:
    """Return the ranks that did a step of their scheduler between two looks."""
    first, last = stall_watch.parse_metrics(before).beats, stall_watch.parse_metrics(after).beats
    return {rank for rank, beat in last.items() if first.get(rank, beat) != beat}


def _tokens(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for sample in stall_watch.samples(text, _GENERATED):
        if math.isfinite(sample.value):
            found[sample.engine] = found.get(sample.engine, 0.0) + sample.value
    return found


def _sum(text: str, names: set[str]) -> int | None:
    values = [
        sample.value
        for sample in stall_watch.samples(text, _COUNTED)
        if sample.name in names and math.isfinite(sample.value)
    ]
    return int(sum(values)) if values else None


def link_report(name: str, state: str | None, active: str) -> dict[str, Any]:
    """Return what the agent of a replica tells on this node.

    Args:
        name: Its name.
        state: The text of its state file; None for none.
        active: systemd's ActiveState of its service.

    Returns:
        {name, active_state, restarts, events}, restarts being those of the whole replica since its
        last deliberate start, null where the agent has written nothing that can be read, and events
        the last of them with when (at), what was done here (did) and why.
    """
    restarts, events = None, []
    try:
        told: Any = json_text.parse(state)
        restarts = int(told["generation"])
        events = [
            {key: str(one[key]) for key in ("at", "did", "why")} for one in told.get("events", [])
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return {"name": name, "active_state": active, "restarts": restarts, "events": events}


def file_systems(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return file systems by their mount point, each with all that Muster keeps on it.

    Args:
        found: {mount, what, size_bytes, free_bytes} of each folder.
    """
    systems: dict[str, dict[str, Any]] = {}
    for one in found:
        rest = {key: one[key] for key in ("mount", "size_bytes", "free_bytes")}
        holds = systems.setdefault(one["mount"], {**rest, "holds": []})["holds"]
        if one["what"] not in holds:
            holds.append(one["what"])
    return [systems[mount] for mount in sorted(systems)]
