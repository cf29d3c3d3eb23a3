# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what an OpenAI endpoint answers: replies, metrics and streams."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Iterable, Mapping, Sequence

_BY_RANK = "sglang:realtime_tokens_total"
_COUNTER = re.compile(
    rf"^(?P<name>(?:vllm|sglang):generation_tokens_total|{_BY_RANK})"
    r"(?:\{(?P<labels>[^\n]*)\})?[ \t]+(?P<value>[-+.\w]+)",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# A model that calls a tool writes this; the server's parser should have taken it out.
_TOOL_MARKUP = re.compile(r"<minimax:tool_call>|<invoke name=|<tool_call>")
_LONGEST_UNIT = 12


class EndpointError(Exception):
    """The endpoint did not answer as the protocol wants.

    Attributes:
        status: The HTTP status of an answer that was refused or failed, or None.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class NobodyListens(EndpointError):
    """There is no server at the endpoint's address."""


class ModelNotServed(EndpointError):
    """The server serves, but not this model."""


def generated_tokens(metrics: str) -> dict[str, float]:
    """Return the tokens that each engine has produced so far, by its label, from /metrics.

    An engine without a label has an empty one. SGLang's total names no rank; with data parallelism
    its schedulers' own counters do.
    """
    tokens: dict[str, float] = {}
    ranks: dict[str, float] = {}
    for found in _COUNTER.finditer(metrics):
        labels = dict(_LABEL.findall(found["labels"] or ""))
        try:
            value = float(found["value"])
        except ValueError:
            continue
        if not math.isfinite(value):
            continue
        if found["name"] != _BY_RANK:
            # Several models or API servers may report for one engine.
            engine = labels.get("engine", "")
            tokens[engine] = tokens.get(engine, 0) + value
        elif labels.get("mode") == "decode" and "dp_rank" in labels:
            # Each of a rank's devices may count the same tokens.
            rank = labels["dp_rank"]
            ranks[rank] = max(ranks.get(rank, 0), value)
    return ranks or tokens


def risen(
    engines: Iterable[str], before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, int]:
    """Return the tokens that each engine produced between two readings, by its label."""
    engines = list(engines)
    # A lone engine may go without a label.
    alias = {"": engines[0]} if len(engines) == 1 and engines[0] not in after else {}
    grown: dict[str, int] = dict.fromkeys(engines, 0)
    for label, value in after.items():
        engine = alias.get(label, label)
        if engine in grown or not engines:
            grown[engine] = round(value - before.get(label, 0))
    return grown


def parse_json(text: str) -> dict[str, Any]:
    """Return a reply's JSON object.

    Raises:
        EndpointError: It is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise EndpointError(f"not JSON: {shorten(text)!r}") from None
    if not isinstance(value, dict):
        raise EndpointError(f"not a JSON object: {shorten(text)!r}")
    return value


def parse_stream(lines: Iterable[str]) -> dict[str, Any]:
    """Return a streamed chat completion put together: text, usage, and chunks with a piece of text.

    Raises:
        EndpointError: An event is no JSON object or an error, or the stream ended early.
    """
    pieces: list[str] = []
    usage: dict[str, Any] = {}
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[len("data:") :].strip()
        if data == "[DONE]":
            return {"text": "".join(pieces), "chunks": len(pieces), "usage": usage}
        event = parse_json(data)
        if event.get("error"):
            raise EndpointError(f"error in the stream: {error_text(data)}")
        usage = event.get("usage") or usage
        piece = _text_of(_first(event.get("choices")).get("delta"))
        if piece:
            pieces.append(piece)
    raise EndpointError(f"the stream ended after {len(pieces)} pieces without [DONE]")


def chat_text(reply: Mapping[str, Any]) -> str:
    """Return the text of a chat completion; with a reasoning parser that may be reasoning alone."""
    return _text_of(_first(reply.get("choices")).get("message"))


def completion_text(reply: Mapping[str, Any]) -> str:
    """Return the text of a plain completion."""
    return _string(_first(reply.get("choices")).get("text"))


def response_text(reply: Mapping[str, Any]) -> str:
    """Return the text of a reply of the responses API, reasoning included."""
    parts = []
    for item in _objects(reply.get("output")):
        parts += [_string(part.get("text")) for part in _objects(item.get("content"))]
    return "".join(parts)


def judge_tool_reply(reply: Mapping[str, Any], tools: Sequence[str]) -> tuple[str, str]:
    """Return a status and what was seen, for a reply to a request that offered tools."""
    message = _mapping(_first(reply.get("choices")).get("message"))
    calls = _objects(message.get("tool_calls"))
    text = _text_of(message)
    for call in calls:
        function = _mapping(call.get("function"))
        name, arguments = _string(function.get("name")), _string(function.get("arguments"))
        if name not in tools:
            return "failed", f"calls {name!r}, which was not offered"
        try:
            parse_json(arguments)
        except EndpointError as error:
            return "failed", f"calls {name} with arguments that are {error}"
        return "ok", f"calls {name} with {shorten(arguments)}"
    if _TOOL_MARKUP.search(text):
        return "failed", f"the call stands in the text: {shorten(text)!r}"
    if text:
        return "warning", f"answers in words: {shorten(text)!r}"
    return "failed", "neither a call nor text"


def without_thinking(text: str) -> str:
    """Return an answer without the model's thoughts, whose opening mark may stand in the prompt."""
    answer = text.rpartition("</think>")[2]
    return answer.partition("<think>")[0].strip()


def longest_repetition(text: str) -> int:
    """Return how often some run of up to 12 words or characters follows itself, at most."""
    return max(_longest_run(text.split()), _longest_run(list(text)))


def _longest_run(items: list[str]) -> int:
    longest = 1 if items else 0
    for size in range(1, min(_LONGEST_UNIT, len(items) // 2) + 1):
        same = 0
        for at in range(size, len(items)):
            # Whenever size items in a row equal those before them, the run is one longer.
            same = same + 1 if items[at] == items[at - size] else 0
            longest = max(longest, same // size + 1)
    return longest


def max_model_len(models: Mapping[str, Any], model: str) -> int | None:
    """Return the model's context length in tokens, None where the server does not say it.

    Raises:
        ModelNotServed: Its text names the models that are.
    """
    served = {_string(one.get("id")): one for one in _objects(models.get("data"))}
    if model not in served:
        raise ModelNotServed(f"serves {', '.join(served) or 'no model'}")
    length = served[model].get("max_model_len")
    return length if isinstance(length, int) else None


def error_text(body: str) -> str:
    """Return what the server says went wrong, from the forms that engines use."""
    try:
        reply = parse_json(body)
    except EndpointError:
        return shorten(body)
    error = reply.get("error", reply)
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return shorten(str(message or body))


def add_usage(total: dict[str, int], usage: Any) -> None:
    """Add the token counts of one reply to a total."""
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        value = _mapping(usage).get(key)
        if isinstance(value, int):
            total[key] = total.get(key, 0) + value


def shorten(text: str, limit: int = 200) -> str:
    """Return a text on one line, cut where it has more characters than the limit."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 4] + " ..."


def _text_of(message: Any) -> str:
    found = _mapping(message)
    for key in ("content", "reasoning_content", "reasoning"):
        if _string(found.get(key)):
            return _string(found.get(key))
    return ""


def _first(items: Any) -> Mapping[str, Any]:
    return next(iter(_objects(items)), {})


def _objects(items: Any) -> list[Mapping[str, Any]]:
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
