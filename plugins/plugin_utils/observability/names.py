# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics that rules and dashboards use, and where their names are from.

A name that is in no row may stand in no rule and no dashboard; a test holds that, and holds the
rows to what the programs themselves say, as far as they can be run here.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Source(NamedTuple):
    """Who exposes metrics, and how far their names are proven."""

    title: str
    proof: str


SOURCES = {
    "vllm": Source("vLLM and vLLM Ascend", "vLLM 0.32.0 of the lab, 0.22.1 on an H200"),
    "vllm-older": Source("vLLM before 0.13", "docs/design/metrics.md of vLLM; not run here"),
    "sglang": Source(
        "SGLang with --enable-metrics; its router writes `sglang_`",
        "SGLang's page Production Metrics; not run here",
    ),
    "muster": Source("the agent of a replica, through node_exporter", "the agent itself"),
    "haproxy": Source("the gateway", "HAProxy of Debian"),
    "node": Source("node_exporter", "node_exporter of Debian"),
    "ascend": Source(
        "npu-exporter of MindCluster", "README of Ascend/ascend-npu-exporter; not run here"
    ),
    "nvidia": Source(
        "dcgm-exporter", "etc/default-counters.csv of NVIDIA/dcgm-exporter; not run here"
    ),
    "amd": Source(
        "device-metrics-exporter; older configurations prefix `amd_`",
        "docs/configuration/metricslist.md of ROCm/device-metrics-exporter; not run here",
    ),
    "blackbox": Source("blackbox exporter", "blackbox exporter of Debian"),
    "prometheus": Source("Prometheus itself", "Prometheus of Debian"),
}


class Metric(NamedTuple):
    """One metric: a histogram goes by the name that its samples share."""

    source: str
    name: str
    meaning: str


METRICS = (
    Metric("vllm", "vllm:num_requests_running", "requests that run, of a rank (`engine`)"),
    Metric("vllm", "vllm:num_requests_waiting", "requests that wait, of a rank"),
    Metric("vllm", "vllm:kv_cache_usage_perc", "how full a rank's KV cache is, 0 to 1"),
    Metric("vllm", "vllm:prompt_tokens_total", "tokens read"),
    Metric("vllm", "vllm:generation_tokens_total", "tokens written"),
    Metric("vllm", "vllm:prefix_cache_queries_total", "tokens looked up in the prefix cache"),
    Metric("vllm", "vllm:prefix_cache_hits_total", "tokens found there"),
    Metric("vllm", "vllm:num_preemptions_total", "requests put back for want of cache"),
    Metric("vllm", "vllm:request_success_total", "requests done, by `finished_reason`"),
    Metric("vllm", "vllm:time_to_first_token_seconds", "time to the first token, a histogram"),
    Metric("vllm", "vllm:inter_token_latency_seconds", "time between tokens, a histogram"),
    Metric("vllm", "vllm:e2e_request_latency_seconds", "time of a whole request, a histogram"),
    Metric("vllm-older", "vllm:gpu_cache_usage_perc", "`kv_cache_usage_perc` by its older name"),
    Metric(
        "vllm-older",
        "vllm:time_per_output_token_seconds",
        "`inter_token_latency_seconds` by its older name, a histogram",
    ),
    Metric("sglang", "sglang:num_running_reqs", "requests that run, of a rank (`dp_rank`)"),
    Metric("sglang", "sglang:num_queue_reqs", "requests that wait, of a rank"),
    Metric("sglang", "sglang:token_usage", "how full a rank's KV cache is, 0 to 1"),
    Metric("sglang", "sglang:prompt_tokens_total", "tokens read, counted at a request's end"),
    Metric("sglang", "sglang:generation_tokens_total", "tokens written, counted at its end"),
    Metric("sglang", "sglang:realtime_tokens_total", "tokens as they come; newer releases"),
    Metric("sglang", "sglang:cache_hit_rate", "share of tokens found in the prefix cache"),
    Metric("sglang", "sglang:time_to_first_token_seconds", "time to the first token, a histogram"),
    Metric("sglang", "sglang:inter_token_latency_seconds", "time between tokens, a histogram"),
    Metric("sglang", "sglang:e2e_request_latency_seconds", "time of a request, a histogram"),
    Metric("muster", "muster_unit_up", "whether a unit runs"),
    Metric("muster", "muster_unit_wanted", "0 once the operator has stopped it"),
    Metric("muster", "muster_unit_stalled", "whether its engine stands still"),
    Metric("muster", "muster_unit_start_time_seconds", "when its present run was first seen"),
    Metric("muster", "muster_unit_start_timeout_seconds", "how long its start may take"),
    Metric("muster", "muster_unit_starts", "starts that count in its start limit"),
    Metric("muster", "muster_unit_start_limit", "starts after which systemd gives it up"),
    Metric("muster", "muster_replica_restart_time_seconds", "its last restart that nobody ordered"),
    Metric("muster", "muster_replica_stall_time_seconds", "its last restart for a stall"),
    Metric("haproxy", "haproxy_server_status", "an engine's state as the gateway sees it"),
    Metric("haproxy", "haproxy_frontend_http_responses_total", "answers by class of their status"),
    Metric("node", "node_textfile_mtime_seconds", "when an agent last wrote its file"),
    Metric("node", "node_filesystem_avail_bytes", "what of a file system is free"),
    Metric("node", "node_filesystem_size_bytes", "its size"),
    Metric("node", "node_memory_MemAvailable_bytes", "memory that is available"),
    Metric("node", "node_memory_MemTotal_bytes", "memory that there is"),
    Metric("node", "node_cpu_seconds_total", "time of cores by `mode`"),
    Metric("node", "node_network_receive_bytes_total", "bytes received by a NIC"),
    Metric("node", "node_network_transmit_bytes_total", "bytes sent by a NIC"),
    Metric("ascend", "npu_chip_info_health_status", "1 healthy, 0 not, -1 could not be asked"),
    Metric("ascend", "npu_chip_info_utilization", "use of the AI cores, percent"),
    Metric("ascend", "npu_chip_info_hbm_used_memory", "HBM in use, MB"),
    Metric("ascend", "npu_chip_info_hbm_total_memory", "HBM that there is, MB"),
    Metric("ascend", "npu_chip_info_temperature", "temperature, degrees Celsius"),
    Metric("ascend", "npu_chip_info_power", "power, watts"),
    Metric("nvidia", "DCGM_FI_DEV_XID_ERRORS", "number of the last XID error"),
    Metric("nvidia", "DCGM_FI_DEV_ROW_REMAP_FAILURE", "1 when a row could not be remapped"),
    Metric("nvidia", "DCGM_FI_DEV_GPU_UTIL", "use, percent"),
    Metric("nvidia", "DCGM_FI_DEV_FB_USED", "memory in use, MiB"),
    Metric("nvidia", "DCGM_FI_DEV_FB_FREE", "memory that is free, MiB"),
    Metric("nvidia", "DCGM_FI_DEV_GPU_TEMP", "temperature, degrees Celsius"),
    Metric("nvidia", "DCGM_FI_DEV_POWER_USAGE", "power, watts"),
    Metric("amd", "gpu_health", "1 healthy, 0 not"),
    Metric("amd", "gpu_ecc_uncorrect_total", "memory errors that could not be corrected"),
    Metric("amd", "gpu_gfx_activity", "use, percent"),
    Metric("amd", "gpu_used_vram", "memory in use, MB"),
    Metric("amd", "gpu_total_vram", "memory that there is, MB"),
    Metric("amd", "gpu_junction_temperature", "temperature, degrees Celsius"),
    Metric("amd", "gpu_power_usage", "power, watts"),
    Metric("blackbox", "probe_ssl_earliest_cert_expiry", "when the endpoint's certificate ends"),
    Metric("prometheus", "up", "whether a target could be scraped"),
    Metric("prometheus", "ALERTS", "alerts that are pending or fire"),
)

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_BY_NAME = re.compile(r'__name__\s*=~?\s*"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")
# What follows one of these in brackets are labels.
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"\{[^}]*\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_KEYWORDS = """
and avg bool by changes count deriv group_left group_right histogram_quantile ignoring increase
label_replace max max_over_time min min_over_time on or rate sum time unless without
"""
_LANGUAGE = frozenset(_KEYWORDS.split())


def names_in(expression: str) -> set[str]:
    """Return the names of metrics in a PromQL expression.

    A pattern of names stands for each that it may mean. Names of recording rules, which have two
    colons, are left out.
    """
    named: set[str] = set()
    for pattern in _BY_NAME.findall(expression):
        named |= _alternatives(pattern)[0]
    rest = _TEXT.sub(" ", expression)
    for left_out in (_LABELS, _RANGE, _SELECTOR):
        rest = left_out.sub(" ", rest)
    words = {word for word in _WORD.findall(rest) if word not in _LANGUAGE}
    return named | {word for word in words if word.count(":") < 2}


def _alternatives(pattern: str) -> tuple[set[str], str]:
    """Return all texts that a pattern of (a|b), [ab] and x? matches, and what follows it."""
    done: set[str] = set()
    heads = {""}
    while pattern and pattern[0] != ")":
        first, pattern = pattern[0], pattern[1:]
        if first == "|":
            done, heads = done | heads, {""}
            continue
        tails = {first}
        if first == "(":
            tails, pattern = _alternatives(pattern)
            pattern = pattern[1:]
        elif first == "[":
            letters, _bracket, pattern = pattern.partition("]")
            tails = set(letters)
        if pattern.startswith("?"):
            tails, pattern = tails | {""}, pattern[1:]
        heads = {head + tail for head in heads for tail in tails}
    return done | heads, pattern


def forms(metric: Metric) -> set[str]:
    """Return the names under which the samples of a metric come."""
    spellings = {metric.name}
    if metric.source == "sglang":
        spellings.add(metric.name.replace("sglang:", "sglang_", 1))
    elif metric.source == "amd":
        spellings.add(f"amd_{metric.name}")
    if metric.meaning.endswith("a histogram"):
        return {name + suffix for name in spellings for suffix in ("_bucket", "_sum", "_count")}
    return spellings


def reference() -> str:
    """Return the table of metrics, for docs/observability.md."""
    lines = []
    for key, source in SOURCES.items():
        if key == "prometheus":
            continue
        lines += ["", f"**{source.title}** (names held to: {source.proof})", ""]
        lines += ["| metric | what it is |", "| --- | --- |"]
        lines += [
            f"| `{metric.name}` | {metric.meaning} |" for metric in METRICS if metric.source == key
        ]
    return "\n".join(lines).strip()
