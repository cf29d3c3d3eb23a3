# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The longest sequence: what the engine is told, what the model takes, and what lifts that."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import Dialect

# For the engine to choose what fits into its memory.
AUTO = -1


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
    if not context.asked or context.asked <= own:
        return [], []
    said = f"{flag} {context.asked} is beyond the model's own context of {own} ({model['id']})"
    if context.asked <= context.limit:
        lifted = f"by {over}"
    elif env.get(dialect.longer_env, "").strip().lower() in ("1", "true"):
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


def unread(args: Mapping[str, Any], dialect: Dialect) -> list[str]:
    """Return an error where what is laid over the model's configuration is no map."""
    flag = dialect.config_overrides
    if isinstance(_overrides(args, dialect), Mapping):
        return []
    return [f"{flag} has to be the JSON text of a map, not {shown(args[flag])}"]


def _limit(own: int, args: Mapping[str, Any], dialect: Dialect) -> int:
    """Return the model's context with what is laid over its configuration.

    The engines multiply it by the factor of the rope scaling: _get_and_verify_max_len in vLLM's
    config/model.py, get_context_length in SGLang's utils/hf_transformers_utils.py.
    """
    over = _overrides(args, dialect)
    if not isinstance(over, Mapping):
        return own
    positions = _number(over.get("max_position_embeddings"), own)
    rope = over.get("rope_parameters") or over.get("rope_scaling")
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


def _overrides(args: Mapping[str, Any], dialect: Dialect) -> Any:
    """Return what is laid over the model's configuration; None for a text that is no JSON."""
    over = args.get(dialect.config_overrides, {})
    if not isinstance(over, str):
        return over
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(over)
    return None


def _number(value: Any, otherwise: float) -> float:
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    return value if right else otherwise
