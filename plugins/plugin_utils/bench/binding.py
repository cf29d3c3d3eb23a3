# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which limit of an engine binds under a load, from what its metrics said meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import Plan
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of

SURE, LIKELY, UNKNOWN = "sure", "likely", "unknown"

# A cache of which this share is in use has no room for one more long request.
_FULL = 0.95
# Of the samples, how many have to show the same.
_MOSTLY = 0.5
# All that can run at once do, as far as a sample between two of the scheduler's steps can tell.
_ALL = 0.97
# Fewer of the load's requests in the engine than this share are on their way elsewhere.
_ARRIVED = 0.7


class Busy(NamedTuple):
    """What all engines behind a load did together, at one moment.

    Fields:
        at: Seconds since 1970.
        running: Requests that run.
        waiting: Requests that wait.
        kv_usage: The share of the KV cache that is in use, of the fullest rank.
        preemptions: Requests that lost their place since the engines started.
        tokens: Tokens of answers since then.
    """

    at: float
    running: float
    waiting: float
    kv_usage: float
    preemptions: float
    tokens: float


def busy_of(samples: Sequence[Mapping[str, Any]]) -> list[Busy]:
    """Return what engines did, from those samples of bench_client that all of them answered."""
    found = []
    for sample in samples:
        ranks = [rank for ranks in sample["engines"].values() for rank in ranks.values()]
        if ranks and not sample["errors"]:
            found.append(
                Busy(
                    sample["at"],
                    sum(rank.get("running", 0.0) for rank in ranks),
                    sum(rank.get("waiting", 0.0) for rank in ranks),
                    max(rank.get("kv_usage", 0.0) for rank in ranks),
                    sum(rank.get("preemptions", 0.0) for rank in ranks),
                    sum(rank.get("tokens", 0.0) for rank in ranks),
                )
            )
    return found


def summary_of(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what engines did under a load, for the report; None where nothing is known."""
    # What is before the first and after the last request is no part of the load.
    busy = [one for one in busy_of(samples) if one.running or one.waiting]
    if not busy:
        return None
    return {
        "samples": len(busy),
        "running_mean": round(statistics.fmean(one.running for one in busy), 1),
        "running_max": max(one.running for one in busy),
        "waiting_mean": round(statistics.fmean(one.waiting for one in busy), 1),
        "waiting_max": max(one.waiting for one in busy),
        "waiting_share": round(statistics.fmean(one.waiting > 0 for one in busy), 3),
        "kv_usage_max": round(max(one.kv_usage for one in busy), 4),
        "preemptions": max(busy[-1].preemptions - busy[0].preemptions, 0.0),
    }


def limit_of(
    samples: Sequence[Mapping[str, Any]], concurrency: int, plan: Plan, replicas: int
) -> dict[str, str]:
    """Return {limit, certainty, evidence, change} of a load.

    limit is max-num-seqs, kv-cache, batched-tokens, devices, client or unknown; change says what to
    set, in an operator's words.
    """
    seen = summary_of(samples)
    if seen is None:
        return _limit(
            "unknown",
            UNKNOWN,
            "the engine's metrics told nothing while the load ran",
            "see that /metrics answers (SGLang: enable-metrics in muster_engine_args), and give "
            "each step more requests (bench_each)",
        )
    dialect, bench = dialect_of(plan), plan["bench"]
    ranks = bench["sizes"]["data"] * replicas
    own = bench["max_num_seqs"]
    kv = f"the KV cache was at most {seen['kv_usage_max']:.0%} full"
    waited = f"requests waited in {seen['waiting_share']:.0%} of {seen['samples']} samples"
    busy = [one for one in busy_of(samples) if one.running or one.waiting]
    if seen["preemptions"] > 0 or (
        seen["kv_usage_max"] >= _FULL and seen["waiting_share"] >= _MOSTLY
    ):
        preempted = f"{seen['preemptions']:.0f} requests were preempted"
        return _limit(
            "kv-cache",
            SURE if seen["preemptions"] > 0 and seen["kv_usage_max"] >= _FULL else LIKELY,
            f"{kv}, {preempted}, {waited}",
            f"give the KV cache more room: raise {dialect.utilization} in muster_engine_args as "
            "far as the plan allows, or give a rank more devices; or keep the load below "
            f"{seen['running_max']:.0f} requests at once",
        )
    if own is not None:
        full = statistics.fmean(
            one.waiting > 0 and one.running >= _ALL * own * ranks for one in busy
        )
        if full >= _MOSTLY:
            more = int(own * min(2.0, 0.9 / max(seen["kv_usage_max"], 0.01)))
            return _limit(
                "max-num-seqs",
                SURE,
                f"{seen['running_max']:.0f} requests ran ({own} on each of {ranks} ranks are "
                f"allowed) and others waited in {full:.0%} of {seen['samples']} samples; {kv}",
                f"raise {dialect.at_once} to {more} in muster_engine_args; each token then takes "
                "longer"
                if more > own
                else f"the KV cache has no room for more than {dialect.at_once} now allows: give a "
                "rank more devices, or add a replica",
            )
    if seen["waiting_share"] >= _MOSTLY:
        return _limit(
            "batched-tokens",
            LIKELY,
            f"{waited} although {seen['running_max']:.0f} ran at most; {kv}",
            f"raise {dialect.batched_tokens} in muster_engine_args, so that more of the prompts is "
            "computed at once; tokens of running answers then take longer",
        )
    if seen["running_mean"] < _ARRIVED * concurrency:
        return _limit(
            "client",
            LIKELY,
            f"of {concurrency} requests {seen['running_mean']:.0f} ran in the mean and none waited",
            "make the load from another host (bench_client), and give each step more requests "
            "(bench_each)",
        )
    return _limit(
        "devices",
        LIKELY,
        f"all requests ran, {waited}, and {kv}",
        "no limit of the scheduler binds: add a replica, or choose another variant of the recipe",
    )


def _limit(limit: str, certainty: str, evidence: str, change: str) -> dict[str, str]:
    return {"limit": limit, "certainty": certainty, "evidence": evidence, "change": change}
