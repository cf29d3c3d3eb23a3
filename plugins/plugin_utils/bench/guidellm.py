# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GuideLLM in place of the engine's own client: its command, and what its report says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import (
    RESULT,
    Client,
    Target,
    environment,
    folder_of,
    model_of,
    root_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import (
    ENGINE,
    TRACE,
    Plan,
    Scenario,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

# How figures call GuideLLM's distributions. Its time per output token counts the first one, and its
# inter-token latency is the mean of a request's others, which is what engines' clients call TPOT.
_LATENCIES = (
    ("ttft", "time_to_first_token_ms", 1.0),
    ("tpot", "inter_token_latency_ms", 1.0),
    ("e2el", "request_latency", 1000.0),
)
# Requests count with their ends; tokens count with all that the engine has worked on.
_RATES = (
    ("request_throughput", "requests_per_second", "successful"),
    ("input_throughput", "prompt_tokens_per_second", "total"),
    ("output_throughput", "output_tokens_per_second", "total"),
    ("total_token_throughput", "tokens_per_second", "total"),
)
_PERCENTILES = ("p50", "p90", "p95", "p99")
_CONNECT_S = 30


def check_wish(tool: str, trace: str | None, of_engine: Mapping[str, Any], named: bool) -> None:
    """See that options belong to the client that is asked for.

    Args:
        tool: engine or guidellm.
        trace: The file that is replayed; None for none.
        of_engine: By the operator's variable, what only the engine's client takes.
        named: Whether a load is named or given.

    Raises:
        PlanError: Some do not.
    """
    if tool == ENGINE:
        errors = (
            ["bench_trace is replayed by GuideLLM: set bench_tool to guidellm"] if trace else []
        )
    else:
        errors = [
            f"{name} is of the engine's client: leave it out, or set bench_tool to engine"
            for name, value in of_engine.items()
            if value
        ]
        if trace and named:
            errors.append(
                "bench_trace is replayed in place of a load: leave out bench_scenarios and "
                "bench_custom"
            )
    if errors:
        raise PlanError(errors)


def check_environment(tool: str, asked: Mapping[str, Any]) -> None:
    """See that what is GuideLLM's alone is not given for the engine's client.

    Raises:
        PlanError: It is, or the trace's unit of time is none.
    """
    names = {"venv": "venv", "python": "python", "wheels": "wheels", "seconds": "step_s"}
    given = [f"bench_{variable}" for name, variable in names.items() if asked[name] is not None]
    if tool == ENGINE and given:
        raise PlanError(f"{name} is of GuideLLM: set bench_tool to guidellm" for name in given)
    if not asked["trace_scale"] > 0:
        raise PlanError(["bench_trace_scale has to be more than 0 seconds"])


def check_time(seconds: float | None, lasts: float, timeout: int) -> None:
    """See that a load has its end before the client is ended.

    Args:
        seconds: The operator's bound; None for none.
        lasts: How long a trace lasts; 0 for a load without a time of its own.
        timeout: Seconds that one run of the client may take.

    Raises:
        PlanError: It has not.
    """
    if seconds is not None and seconds <= 0:
        raise PlanError(["bench_step_s has to be more than 0 seconds"])
    if seconds is not None and seconds >= timeout:
        raise PlanError(
            [
                f"bench_step_s ({seconds:g}) has to be less than bench_timeout ({timeout}): raise "
                "the timeout"
            ]
        )
    if seconds is None and lasts >= timeout:
        raise PlanError(
            [
                f"bench_trace lasts {lasts:.0f} s, and bench_timeout ends it after {timeout}: "
                "raise the timeout, replay a part (bench_step_s), or correct the unit of its times "
                "(bench_trace_scale: 0.001 for milliseconds)"
            ]
        )


def client_of(plan: Plan, target: Target) -> Client:
    """Return how GuideLLM is run, before its environment is known (in_environment)."""
    folder = folder_of(plan)
    # Its data sets' library keeps a copy of each trace.
    own = {"HF_DATASETS_CACHE": f"{folder}/out/cache", **environment(plan, target)}
    prefix = ["/usr/bin/env", *(f"{key}={value}" for key, value in own.items())]
    return Client(folder, prefix, ["guidellm", "run"], f"{folder}/out", None, None, None, None)


def in_environment(client: Client, venv: str) -> Client:
    """Return the client as it is run from an environment."""
    return client._replace(program=[f"{venv}/bin/guidellm", "run"])


def tokenizer_of(plan: Plan, target: Target) -> str:
    """Return where the model's tokenizer lies, or the model's name on a hub."""
    tokenizer: str = model_of(plan, target)[-1]
    return tokenizer


def trace_load(path: str, found: Mapping[str, Any] | None) -> Scenario:
    """Return the load of a trace, of unknown size where nobody has looked at it yet."""
    one = Scenario("trace", f"the trace {path}", TRACE, 0, 0, 1, 0, lengths="up_to")
    if found is None:
        return one
    sizes = {name: found[name] for name in ("input", "output")}
    return one._replace(prompts=found["requests"], **sizes)


def command(
    plan: Plan,
    client: Client,
    target: Target,
    one: Scenario,
    seed: int,
    goodput: Mapping[str, float] | None = None,
    seconds: float | None = None,
    trace: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return GuideLLM's whole command for one load.

    Args:
        plan: The plan of one cluster.
        client: How it is run.
        target: What is measured.
        one: The load.
        seed: What its prompts are drawn with.
        goodput: What a good request takes at most, in milliseconds by ttft, tpot and e2el.
        seconds: How long the load lasts at most; None without a bound.
        trace: {path, kind, scale} of what is replayed in place of the load, scale in seconds for
            each unit of its time; None without one.
    """
    trusts = "--trust-remote-code" in target.unit["argv"]
    backend = {
        "kind": "openai_http",
        "target": root_of(target.url),
        "model": plan["endpoint"]["model"],
        "request_format": "/v1/completions",
        "verify": True,
        # A connection a request at once, as separate users have them.
        "http2": False,
        "timeout_connect": _CONNECT_S,
        # Gateways let through what serves requests, and no look at their health.
        "api_routes": {"/health": "v1/models"},
    }
    tokenizer = {
        "kind": "huggingface_auto",
        "model": tokenizer_of(plan, target),
        "load_kwargs": {"trust_remote_code": True} if trusts else {},
    }
    constraints: list[dict[str, Any]] = []
    if trace:
        profile = {
            "kind": "replay",
            "time_scale": trace["scale"],
            # When they came, however long each of them takes here.
            "schedule_turn": "timestamp",
        }
        source = {"kind": "json_file", "path": trace["path"]}
        data: dict[str, Any] = {"kind": trace["kind"], "source": source}
    else:
        profile = {"kind": "concurrent", "streams": [one.concurrency]}
        constraints.append({"kind": "max_requests", "count": one.requests})
        data = {
            "kind": "synthetic_text",
            "prompt_tokens": one.input - one.prefix,
            "output_tokens": one.output,
        }
        if one.prefix:
            data.update(prefix_tokens=one.prefix, prefix_count=one.prefixes)
    if seconds:
        constraints.append({"kind": "max_duration", "seconds": seconds})
    metrics: dict[str, Any] = {"kind": "generative", "sample_size": 0}
    if goodput:
        metrics["slo"] = {f"{kind}_ms": limit for kind, limit in goodput.items()}
    flags = [
        ("--backend", backend),
        ("--profile", profile),
        *(("--constraint", constraint) for constraint in constraints),
        ("--data", data),
        ("--tokenizer", tokenizer),
        ("--seed", {"kind": "static", "value": seed}),
        ("--metrics", metrics),
        ("--output", {"kind": "json", "path": f"{client.mount}/{RESULT}"}),
    ]
    words = [word for name, value in flags for word in (name, json.dumps(value))]
    return [*client.prefix, *client.program, "--disable-console-interactive", *words]


def figures_of(report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the only load of a report came to, in the words of vllm bench serve.

    Args:
        report: GuideLLM's JSON; None where it left none.

    Returns:
        Beside those words requests, how many had an end; the others were cut off by a bound in
        time. None without a load.
    """
    loads = report["benchmarks"] if report else []
    if not loads:
        return None
    measured = loads[0]["metrics"]
    totals = measured["request_totals"]
    found: dict[str, Any] = {
        "requests": totals["successful"] + totals["errored"],
        "completed": totals["successful"],
        "failed": totals["errored"],
        "duration": loads[0]["duration"],
        "total_input_tokens": measured["prompt_token_count"]["successful"]["total_sum"],
        "total_output_tokens": measured["output_token_count"]["successful"]["total_sum"],
        "concurrency": measured["request_concurrency"]["total"]["mean"],
        "max_concurrent_requests": measured["request_concurrency"]["total"]["max"],
        **{word: measured[name][state]["mean"] for word, name, state in _RATES},
    }
    if measured.get("request_goodput"):
        found["request_goodput"] = measured["request_goodput"]["successful"]["mean"]
    for kind, name, factor in _LATENCIES:
        seen = measured[name]["successful"]
        if not seen["count"]:
            continue
        values = {
            **{statistic: seen[statistic] for statistic in ("mean", "median")},
            "std": seen["std_dev"],
            **{percentile: seen["percentiles"][percentile] for percentile in _PERCENTILES},
        }
        found |= {f"{statistic}_{kind}_ms": factor * value for statistic, value in values.items()}
    return found


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """Return what GuideLLM warns of in the only load of a report, and what has no end in it."""
    load = report["benchmarks"][0]
    cut = load["metrics"]["request_totals"]["incomplete"]
    # Its processes may end before the last answers have come to the one that counts.
    lost = load["scheduler_state"]["processing_requests"]
    told = []
    if cut:
        told.append(f"its time was up: {cut} requests under way count for their tokens alone")
    if lost:
        told.append(f"GuideLLM lost {lost} of its last requests, which count for nothing")
    warned = [f"GuideLLM: {one['message']} {one.get('note') or ''}" for one in load["warnings"]]
    return told + [text.strip() for text in warned]


def merged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return several reports as one, as GuideLLM writes it of several loads; None for none."""
    if not reports:
        return None
    return {**reports[0], "benchmarks": [one for report in reports for one in report["benchmarks"]]}
