# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each engine family is told on its command line what the plan decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Dialect(NamedTuple):
    """One family's flags.

    model is None where the model stands behind the command without a flag. sizes gives the
    flags of the plan's parallel sizes, expert the one that spreads experts over the ranks, or
    over groups of devices within a rank (deals_in_rank), computed the flags that nobody sets and
    what to do in their place, spellings other names of a flag, hub_env what makes the engine ask
    another hub than Hugging Face.
    config_overrides is the flag for what is laid over the model's configuration, longer_env the
    variable that lifts the bound of the model's own context, and scales_original tells whether the
    factor of YaRN is of the original context. at_once is the flag for the requests that a rank runs
    at once, batched_tokens that for the tokens of one of its steps, no_prefix_cache the flag and
    its value that turn the cache of prefixes off. drain is the flag for the seconds that requests
    under way have when the engine is stopped; None where it finishes them by itself.
    """

    model: str | None
    sizes: Mapping[str, str]
    expert: str
    deals_in_rank: bool
    context: str
    config_overrides: str
    longer_env: str
    scales_original: bool
    utilization: str
    cache_size: str
    # Whether the size of the cache holds in place of the share of memory.
    cache_size_alone: bool
    # Whether false is written as --no-FLAG; else it is no flag at all.
    negates: bool
    # Flags of the API server, which a follower refuses.
    head_only: tuple[str, ...]
    computed: Mapping[str, str]
    spellings: Mapping[str, str]
    hub_env: Mapping[str, Mapping[str, str]]
    at_once: str
    batched_tokens: str
    # Without this flag a whole prompt has to fit into one step; None where there is none.
    chunks: str | None
    no_prefix_cache: tuple[str, bool]
    drain: str | None

    @property
    def not_to_set(self) -> Mapping[str, str]:
        """Return the flags that are no recipe's or inventory's, and what to do in their place."""
        return {**self.computed, **({self.drain: "set muster_drain_s"} if self.drain else {})}


_PLACED = "the plan joins nodes by data parallelism"
_NUMBERED = "the plan numbers the ranks"
_ADDRESS = "set muster_address"
_KEY = "set muster_api_key_file"
_HIDDEN = "a secret does not belong into a command line"
_DEVICES = "set muster_devices"
_PLAIN = "engines speak plain HTTP to the gateway, which speaks TLS: set muster_gateway_tls"
_TLS = dict.fromkeys(
    (
        "enable-ssl-refresh",
        "ssl-ca-certs",
        "ssl-cert-reqs",
        "ssl-certfile",
        "ssl-ciphers",
        "ssl-keyfile",
    ),
    _PLAIN,
)
_HTTP = "the plan makes endpoints of HTTP"

VLLM = Dialect(
    model=None,
    sizes={
        "tensor": "tensor-parallel-size",
        "data": "data-parallel-size",
        "prefill_context": "prefill-context-parallel-size",
    },
    expert="enable-expert-parallel",
    deals_in_rank=False,
    context="max-model-len",
    config_overrides="hf-overrides",
    longer_env="VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    scales_original=True,
    utilization="gpu-memory-utilization",
    cache_size="kv-cache-memory-bytes",
    cache_size_alone=True,
    negates=True,
    head_only=("api-server-count",),
    computed={
        "api-key": _KEY,
        "config": "set muster_engine_args",
        "data-parallel-address": "set muster_address of the head",
        "data-parallel-external-lb": "set muster_data_parallel: external",
        "data-parallel-hybrid-lb": "set muster_data_parallel to internal or external",
        "data-parallel-multi-port-external-lb": "set muster_data_parallel: external",
        "data-parallel-rank": _NUMBERED,
        "data-parallel-rpc-port": "set muster_dp_rpc_port",
        "data-parallel-size-local": "the plan deals the ranks to the nodes",
        "data-parallel-start-rank": _NUMBERED,
        "device-ids": _DEVICES,
        "grpc": _HTTP,
        "headless": "the plan makes the followers headless",
        "hf-token": _HIDDEN,
        "host": _ADDRESS,
        "master-addr": _PLACED,
        "master-port": _PLACED,
        "model": "set muster_model_path",
        "nnodes": _PLACED,
        "node-rank": _PLACED,
        "pipeline-parallel-size": ("the plan places tensor, data and context parallel ranks alone"),
        "port": "set muster_port",
        "revision": "set muster_model_revision",
        "served-model-name": "set muster_served_model_name",
        "uds": "the plan makes endpoints of an address and a port",
        **_TLS,
    },
    # The name that vLLM has for it from 0.31 on, beside the old one.
    spellings={"device-memory-utilization": "gpu-memory-utilization"},
    hub_env={"modelscope": {"VLLM_USE_MODELSCOPE": "True"}},
    at_once="max-num-seqs",
    batched_tokens="max-num-batched-tokens",
    chunks="enable-chunked-prefill",
    no_prefix_cache=("enable-prefix-caching", False),
    drain="shutdown-timeout",
)

SGLANG = Dialect(
    model="model-path",
    sizes={"tensor": "tp-size", "data": "dp-size"},
    expert="ep-size",
    deals_in_rank=True,
    context="context-length",
    config_overrides="json-model-override-args",
    longer_env="SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
    scales_original=False,
    utilization="mem-fraction-static",
    cache_size="max-total-tokens",
    cache_size_alone=False,
    negates=False,
    head_only=(),
    computed={
        "admin-api-key": _HIDDEN,
        "api-key": _KEY,
        "base-gpu-id": _DEVICES,
        "config": "set muster_engine_args",
        "disaggregation-mode": "the plan has no form of prefill and decoding apart",
        "dist-init-addr": _PLACED,
        "enable-dp-attention": "the plan gives each data parallel rank devices of its own",
        "gpu-id-step": _DEVICES,
        "grpc-mode": _HTTP,
        "host": _ADDRESS,
        "model-path": "set muster_model_path",
        "nccl-init-addr": _PLACED,
        "nnodes": _PLACED,
        "node-rank": _PLACED,
        "pp-size": "the plan places tensor and data parallel ranks alone",
        "port": "set muster_port",
        "revision": "set muster_model_revision",
        "served-model-name": "set muster_served_model_name",
        "smg-grpc-mode": _HTTP,
        **_TLS,
        "ssl-keyfile-password": _HIDDEN,
    },
    # SGLang knows these as further names or takes them as abbreviations: one flag has one name.
    spellings={
        "data-parallel-size": "dp-size",
        "dp": "dp-size",
        "ep": "ep-size",
        "expert-parallel-size": "ep-size",
        "model": "model-path",
        "pipeline-parallel-size": "pp-size",
        "tensor-parallel-size": "tp-size",
        "tp": "tp-size",
    },
    hub_env={"modelscope": {"SGLANG_USE_MODELSCOPE": "true"}},
    at_once="max-running-requests",
    batched_tokens="chunked-prefill-size",
    chunks=None,
    no_prefix_cache=("disable-radix-cache", True),
    drain=None,
)

_FAMILIES = {"vllm": VLLM, "vllm-ascend": VLLM, "sglang": SGLANG}


def dialect_of(recipe: Mapping[str, Any]) -> Dialect:
    """Return the dialect of a recipe's engine."""
    return _FAMILIES[recipe["engine"]["name"]]
