# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The longest sequence: what the engine is told, what the model takes, and what lifts that."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect

# For the engine to choose what fits into its memory.
AUTO = -1
# Of a model's configuration: how its positions are rescaled, and what its weights are cut by.
_ROPE = ("rope_parameters", "rope_scaling")
_SHAPE = (
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "vocab_size",
)


class Context(NamedTuple):
    """The longest sequence that an engine is to take.

    asked is what it is told, None for the model's own and AUTO for what fits; limit what the
    model takes.
    """

    asked: int | None
    limit: int

    @property
    def longest(self) -> int:
        """Return what the engine will take if it has the memory."""
        return self.asked if self.asked and self.asked > 0 else self.limit


def context_of(model: Mapping[str, Any], args: Mapping[str, Any], dialect: Dialect) -> Context:
    """Return the longest sequence, with positions rescaled as the flags say."""
    asked = args.get(dialect.context)
    given = isinstance(asked, int) and not isinstance(asked, bool)
    return Context(asked if given else None, _limit(model["max_context"], args, dialect))


def problems(
    context: Context,
    model: Mapping[str, Any],
    env: Mapping[str, str],
    dialect: Dialect,
) -> tuple[list[str], list[str]]:
    """Return why a context cannot be, and what to know of one that can."""
    own, flag, over = model["max_context"], dialect.context, dialect.config_overrides
    if not context.asked or context.asked <= min(own, context.limit):
        return [], []
    if context.asked <= own:
        if _longer(env, dialect):
            return [], []
        return [
            f"{flag} {context.asked} is beyond the context of {context.limit} that {over} leaves "
            f"the model ({model['id']}), which the engine refuses: lower the one or raise the other"
        ], []
    said = f"{flag} {context.asked} is beyond the model's own context of {own} ({model['id']})"
    if context.asked <= context.limit:
        lifted = f"by {over}"
    elif _longer(env, dialect):
        lifted = f"by {dialect.longer_env}"
    else:
        return [
            f"{said}: set it to {context.limit} or less in muster_engine_args; {over} "
            "there, with the rope scaling of the model's makers, takes it further"
        ], []
    return [], [f"{said}, lifted {lifted}: whether its answers are good there is for you to prove"]


def unchunked(context: Context, args: Mapping[str, Any], dialect: Dialect) -> list[str]:
    """Return an error where a whole prompt has to fit into a step, and the longest one does not.

    SchedulerConfig.verify_max_model_len of vLLM refuses it.
    """
    step = args.get(dialect.batched_tokens)
    whole = dialect.chunks is not None and args.get(dialect.chunks) is False
    if not whole or not isinstance(step, int) or context.asked == AUTO or step >= context.longest:
        return []
    return [
        f"{dialect.batched_tokens} {step} is less than the longest sequence, {context.longest}, "
        f"which the engine refuses without {dialect.chunks}: raise it, or lower {dialect.context}"
    ]


def miswritten(args: Mapping[str, Any], dialect: Dialect) -> list[str]:
    """Return an error for each length and scaling in the model's configuration that is none."""
    over, flag = _overrides(args, dialect), dialect.config_overrides
    errors = [
        f"{flag}: {name} has to be a whole number from 1, not {shown(over[name])}"
        for name in ("max_position_embeddings", *_SHAPE)
        if over.get(name) is not None and not _is_count(over[name])
    ]
    for name in _ROPE:
        rope = over.get(name)
        if rope is None:
            continue
        if not isinstance(rope, Mapping):
            errors.append(f"{flag}: {name} has to be a map, not {shown(rope)}")
        elif rope.get("factor") is not None and not _number(rope["factor"], 0):
            errors.append(
                f"{flag}: {name}.factor has to be a number above 0, not {shown(rope['factor'])}"
            )
    return errors


def reshaped(args: Mapping[str, Any], dialect: Dialect) -> list[str]:
    """Return a warning for what is laid over the model's own shape."""
    over = _overrides(args, dialect)
    names = [name for name in _SHAPE if over.get(name) is not None]
    if not names:
        return []
    return [
        f"{dialect.config_overrides}: {', '.join(names)}: the weights have the shape that their "
        "own configuration says, and so has the plan: the engine loads no other"
    ]


def _longer(env: Mapping[str, str], dialect: Dialect) -> bool:
    """Tell whether the environment lifts the bound of the model's own context."""
    return env.get(dialect.longer_env, "").strip().lower() in ("1", "true")


def _limit(own: int, args: Mapping[str, Any], dialect: Dialect) -> int:
    """Return the model's context with what is laid over its configuration.

    The engines multiply it by the factor of the rope scaling: _get_and_verify_max_len in vLLM's
    config/model.py, get_context_length in SGLang's utils/hf_transformers_utils.py.
    """
    over = _overrides(args, dialect)
    positions = _number(over.get("max_position_embeddings"), own)
    rope = next((over[name] for name in _ROPE if over.get(name)), None)
    if not isinstance(rope, Mapping):
        return int(positions)
    kind = rope.get("rope_type", rope.get("type"))
    original = rope.get("original_max_position_embeddings")
    factor = 1 if kind in ("su", "longrope", "llama3") else _number(rope.get("factor"), 1)
    if original is not None and not dialect.scales_original:
        factor = 1
    elif kind == "yarn":
        positions = _number(original, positions)
    return int(positions * factor)


def _overrides(args: Mapping[str, Any], dialect: Dialect) -> Mapping[str, Any]:
    """Return what is laid over the model's configuration; nothing of what is no map."""
    over = args.get(dialect.config_overrides)
    if isinstance(over, str):
        with contextlib.suppress(ValueError, RecursionError):
            over = json.loads(over)
    return over if isinstance(over, Mapping) else {}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: Any, otherwise: float) -> float:
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    return value if right else otherwise
