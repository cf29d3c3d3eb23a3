# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands inside the JSON of flags: its keys, their types, and what contradicts the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan import known
from ansible_collections.muster.serving.plugins.plugin_utils.plan.rendering import look

# By flag its keys, dotted, each with its type, its versions or both; see known.Flags.
Keys = Mapping[str, known.Flags]

# Methods of speculation that need no weights of their own.
_WITHOUT_DRAFT = re.compile(
    r"ngram|ngram_gpu|suffix|custom_class|extract_hidden_states|(.+_)?mtp(_.+)?"
)
_SPECULATIVE = "speculative-config"
# The formats that vLLM's DefaultModelLoader reads, and its settings.
_USUAL_FORMATS = ("auto", "fastsafetensors", "hf", "mistral", "npcache", "pt", "safetensors")
_OF_USUAL_LOADER = {"enable_multithread_load", "enable_weights_track", "num_threads"}


def problems(
    args: Mapping[str, Any],
    keys: Keys,
    engine: str,
    version: str,
    unchecked: Collection[str],
) -> list[str]:
    """Return an error for each key that this version does not act on, and each value of no use."""
    errors = []
    for flag, listed in keys.items():
        value = args.get(flag)
        if not isinstance(value, Mapping) or flag in unchecked:
            continue
        having, types = known.having(listed), known.flag_types(listed)
        for path, inner in _leaves(value):
            if f"{flag}.{path}" in unchecked or _below_open(path, having):
                continue
            where = f"--{flag}: {path}"
            if any(name.startswith(f"{path}.") for name in having):
                # An empty section says nothing, and does no harm.
                errors += [] if inner == {} else [f"{where} has to be a map, not {shown(inner)}"]
            elif not known.acts(having, path, version):
                what = f"key that {engine} {version} acts on"
                errors.append(known.unknown(where, path, having, what, "a key that acts", version))
            elif inner is not None and _wrong_type(inner, types[path]):
                expected = _wrong_type(inner, types[path])
                errors.append(f"{where} has to be {expected}, not {shown(inner)}")
    return errors


def said_twice(args: Mapping[str, Any], same: Mapping[str, str]) -> list[str]:
    """Return an error for each setting that a flag and a key of another flag's JSON both say.

    Args:
        args: Flags by name.
        same: By flag, the FLAG.KEY that is the same setting, which the engine takes once.
    """
    errors = []
    for flag, path in same.items():
        if args.get(flag) is not None and look(args, path) is not None:
            outer, _dot, key = path.partition(".")
            errors.append(
                f"--{flag} and {key} in --{outer} are one setting, and the engine refuses both: "
                "leave one out"
            )
    return errors


def contradictions(
    args: Mapping[str, Any], sizes: Mapping[str, int], longest: int
) -> tuple[list[str], list[str]]:
    """Return what vLLM's checks of its JSON flags refuse, and what has no effect.

    Args:
        args: Flags by name.
        sizes: The parallel sizes, {tensor, data, prefill_context}.
        longest: The longest sequence that the engine may take.
    """
    errors = _speculation(args, sizes["tensor"], longest) + _cut_finer(args, sizes["data"])
    warnings = []
    transfer = _map(args, "kv-transfer-config")
    if transfer.get("kv_connector") and not transfer.get("kv_role"):
        errors.append(
            "--kv-transfer-config: kv_connector needs a kv_role: kv_both, kv_producer or "
            "kv_consumer"
        )
    if transfer.get("kv_role") and not transfer.get("kv_connector"):
        warnings.append(
            "without effect here: --kv-transfer-config: kv_role (kv_connector is not set)"
        )
    if transfer.get("kv_connector") and transfer.get("kv_role") in ("kv_producer", "kv_consumer"):
        warnings.append(
            f"--kv-transfer-config: kv_role {transfer['kv_role']}: the plan has no engines that "
            "are the other side; kv_both is for one that stands alone"
        )
    balance = _map(args, "eplb-config")
    if balance and args.get("enable-eplb") is not True:
        if balance.get("num_redundant_experts"):
            errors.append(
                "--eplb-config: num_redundant_experts needs enable-eplb, without which the engine "
                "refuses it"
            )
        else:
            warnings.append("without effect here: --eplb-config (enable-eplb is not set)")
    profiler = _map(args, "profiler-config")
    torch = profiler.get("profiler") == "torch"
    if profiler and torch is not bool(profiler.get("torch_profiler_dir")):
        errors.append(
            "--profiler-config: profiler torch and torch_profiler_dir go together: set "
            "muster_profiler_dir, which says both"
        )
    return errors + _graphs(args) + _loading(args), warnings


def _speculation(args: Mapping[str, Any], tensor: int, longest: int) -> list[str]:
    if not isinstance(args.get(_SPECULATIVE), Mapping):
        return []
    said = args[_SPECULATIVE]
    flag = f"--{_SPECULATIVE}"
    method = said.get("method", args.get("spec-method"))
    model = said.get("model", args.get("spec-model"))
    tokens = said.get("num_speculative_tokens", args.get("spec-tokens"))
    errors = []
    if not model and not (isinstance(method, str) and _WITHOUT_DRAFT.fullmatch(method)):
        errors.append(
            f"{flag}: model does not name the draft weights, and the method "
            f"{method or 'is not said'}{' needs them' if method else ''}: set it, or take a method "
            "without weights of its own, such as ngram"
        )
    if method in ("ngram", "ngram_gpu") and tokens is None:
        errors.append(f"{flag}: num_speculative_tokens has to be said for {method}")
    draft = said.get("draft_tensor_parallel_size")
    if isinstance(draft, int) and draft not in (1, tensor):
        errors.append(
            f"{flag}: draft_tensor_parallel_size {draft} has to be 1 or that of the model, {tensor}"
        )
    length = said.get("max_model_len")
    if isinstance(length, int) and length > longest:
        errors.append(
            f"{flag}: max_model_len {length} is beyond that of the model, {longest}: lower it, or "
            "leave it out"
        )
    if said.get("tensor_parallel_size") is not None:
        errors.append(
            f"{flag}: tensor_parallel_size is refused by the engine: its name is "
            "draft_tensor_parallel_size"
        )
    return errors


def _loading(args: Mapping[str, Any]) -> list[str]:
    """Hold the settings of a loader to what vLLM's usual one takes."""
    chosen = str(args.get("load-format", "auto")).lower()
    other = sorted({*_map(args, "model-loader-extra-config")} - _OF_USUAL_LOADER)
    if chosen not in _USUAL_FORMATS or not other:
        return []
    return [
        f"--model-loader-extra-config: {', '.join(other)}: load-format {chosen} takes "
        f"{', '.join(sorted(_OF_USUAL_LOADER))} alone: set the load-format that they are for"
    ]


def _cut_finer(args: Mapping[str, Any], data: int) -> list[str]:
    """Hold what vllm-ascend cuts among data parallel ranks to their number."""
    finer = _map(_map(args, "additional-config"), "finegrained_tp_config")
    return [
        f"--additional-config: finegrained_tp_config.{name} {size} does not divide the data "
        f"parallel size {data}, among whose ranks it cuts: take one that does, or leave it out"
        for name, size in finer.items()
        if isinstance(size, int) and size > 0 and data % size
    ]


def _graphs(args: Mapping[str, Any]) -> list[str]:
    compilation = _map(args, "compilation-config")
    errors = []
    custom = compilation.get("custom_ops")
    if isinstance(custom, list) and {"all", "none"} <= {*map(str, custom)}:
        errors.append("--compilation-config: custom_ops has both all and none: leave one out")
    sizes = compilation.get("cudagraph_capture_sizes", args.get("cudagraph-capture-sizes"))
    most = compilation.get("max_cudagraph_capture_size", args.get("max-cudagraph-capture-size"))
    if sizes == []:
        errors.append("--compilation-config: cudagraph_capture_sizes is empty: leave it out")
    elif isinstance(sizes, list) and most is not None and most not in sizes:
        errors.append(
            f"the largest graph, max_cudagraph_capture_size {most}, is none of "
            f"cudagraph_capture_sizes {shown(sizes)}: leave one of the two out"
        )
    return errors


def _map(args: Mapping[str, Any], flag: str) -> Mapping[str, Any]:
    value = args.get(flag)
    return value if isinstance(value, Mapping) else {}


def _below_open(path: str, having: Mapping[str, str]) -> bool:
    """Tell whether a key stands below one of which anything may stand."""
    return path.startswith(tuple(name[:-1] for name in having if name.endswith(".*")))


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path of each key that holds no further map, with its value."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}", inner


def _wrong_type(value: Any, expected: str) -> str | None:
    """Return what a key's value should have been, None when it is right or its type is not known.

    What fills the engine's classes reads numbers and true or false from texts, too.
    """
    text = value if isinstance(value, str) else None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = number and math.isfinite(value)
    forms = {
        "bool": (
            value in (True, False)
            or (text or "").lower() in ("true", "false", "yes", "no", "on", "off", "1", "0"),
            "true or false",
        ),
        "switch": (text is None and value in (True, False), "true or false, without quotes"),
        "int": (
            (number and float(value).is_integer()) or re.fullmatch(r"-?[0-9]+", text or ""),
            "a whole number",
        ),
        "float": (
            number or re.fullmatch(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", text or ""),
            "a number",
        ),
        "str": (text is not None, "text"),
        "list": (isinstance(value, list), "a list"),
        "ints": (
            isinstance(value, list) and not any(_wrong_type(item, "int") for item in value),
            "a list of whole numbers",
        ),
    }
    right, words = forms.get(expected, (True, ""))
    return None if right else words
