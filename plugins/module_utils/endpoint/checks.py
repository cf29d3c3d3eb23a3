# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge what an endpoint answered: a reply, or why there is none, becomes checks."""

from __future__ import annotations

import re
from typing import Any, Mapping, NamedTuple, Union

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    ModelNotServed,
    NobodyListens,
    add_usage,
    chat_text,
    completion_text,
    judge_tool_reply,
    longest_repetition,
    response_text,
    shorten,
    without_thinking,
)

# A reply's JSON object, or why there is none.
Reply = Union[Mapping[str, Any], EndpointError]


# One request may fail for reasons of its own; an engine that has died fails them all.
SOAK_FAILED = 3


class Soaked(NamedTuple):
    """What came of a load: seconds, requests, those that failed, and why the first of them did."""

    seconds: float
    requests: int
    failed: int
    error: str


_METRICS_REMEDY = (
    "see that /metrics answers: SGLang serves it only with --enable-metrics (muster_engine_args)"
)
_LOG_REMEDY = "read the engine's log on every node: journalctl -u 'muster-*' -n 100"
_RESTART_REMEDY = (
    f"restart the whole replica, since its ranks work together or not at all; {_LOG_REMEDY}"
)
_WRONG_MODEL_REMEDY = (
    "the weights or the engine's flags are wrong for this model: compare both with the recipe"
)
# The APIs that answer with text alone, and where it stands.
_TEXTS = {"completions": completion_text, "responses": response_text}


def place(engine: str, hosts: Mapping[str, str]) -> str:
    """Return an engine as an operator finds it, given the nodes of the engines by label."""
    host = hosts.get(engine)
    return f"engine {engine} on {host}" if host else f"engine {engine}"


def time_may_mend(error: EndpointError) -> bool:
    """Return whether a model that is not served may be soon, with nothing done about it.

    A server may have to start, and a gateway to find its engines. A request that was refused is
    refused again, and a server of other models does not take on one more.
    """
    refused = error.status is not None and 400 <= error.status < 500
    return not refused and not isinstance(error, ModelNotServed)


def models_check(subject: str, model: str, error: EndpointError | None, started: bool) -> Check:
    """Return whether the endpoint serves the model.

    Args:
        subject: What the check names.
        model: The model's name in the API.
        error: Why it is not served, None where it is.
        started: Whether engines have been started; without that nobody needs to listen.
    """
    expected = f"serves {model}"
    if error is None:
        return _verdict("endpoint-models", "ok", subject, expected, expected)
    status, remedy = "failed", _LOG_REMEDY
    if isinstance(error, NobodyListens) and not started:
        status, remedy = "pending", "serve starts the engines"
    elif error.status in (401, 403):
        remedy = "set muster_api_key_file to the file with the key that the engine was given"
    elif isinstance(error, ModelNotServed):
        remedy = "another server holds the port, or muster_served_model_name differs"
    return _verdict("endpoint-models", status, subject, str(error), expected, remedy)


def chat_answer(reply: Reply) -> str:
    """Return what a model answers in a chat, empty where it does not."""
    if isinstance(reply, EndpointError):
        return ""
    text = chat_text(reply)
    # A short reply may be all thought.
    return without_thinking(text) or text.strip()


def chat_checks(subject: str, reply: Reply, max_repetition: int | None) -> list[Check]:
    """Return whether a chat is answered and, where a bound is given, without running in circles."""
    answer = chat_answer(reply)
    expected = "an answer"
    if not answer:
        seen = str(reply) if isinstance(reply, EndpointError) else "an answer without text"
        return [_verdict("endpoint-chat", "failed", subject, seen, expected, _LOG_REMEDY)]
    checks = [_verdict("endpoint-chat", "ok", subject, "answers", expected)]
    if max_repetition is not None:
        checks.append(_repetition_check(subject, answer, max_repetition))
    return checks


def _repetition_check(subject: str, answer: str, most: int) -> Check:
    found = longest_repetition(answer)
    expected = f"nothing more than {most} times in a row"
    if found <= most:
        seen = f"nothing more than {found} times in a row"
        return _verdict("endpoint-repetition", "ok", subject, seen, expected)
    seen = f"something {found} times in a row: {shorten(answer)!r}"
    return _verdict("endpoint-repetition", "failed", subject, seen, expected, _WRONG_MODEL_REMEDY)


def streaming_check(subject: str, streamed: Reply) -> Check:
    """Return whether a streamed chat, as parse_stream() gives it, brings text."""
    if isinstance(streamed, EndpointError):
        status, seen = "failed", str(streamed)
    else:
        status, seen = "ok" if streamed["text"] else "failed", f"{streamed['chunks']} pieces"
    expected = "text in pieces, then [DONE]"
    return _verdict("endpoint-streaming", status, subject, seen, expected, _LOG_REMEDY)


def tools_check(subject: str, reply: Reply, tool: str) -> Check:
    """Return whether a tool is called that was offered, as the only one."""
    remedy = (
        "see that the plan's argv has the model's --tool-call-parser, and with vLLM"
        " --enable-auto-tool-choice"
    )
    if isinstance(reply, EndpointError):
        status, seen, remedy = "failed", str(reply), _LOG_REMEDY
    else:
        status, seen = judge_tool_reply(reply, [tool])
    return _verdict("endpoint-tools", status, subject, seen, f"a call of {tool}", remedy)


def text_check(feature: str, subject: str, reply: Reply) -> Check:
    """Return whether an API brings text: completions or responses."""
    if isinstance(reply, EndpointError):
        status, seen = "failed", str(reply)
    elif _TEXTS[feature](reply):
        status, seen = "ok", "text"
    else:
        status, seen = "failed", "a reply without text"
    return _verdict(f"endpoint-{feature}", status, subject, seen, "text", _LOG_REMEDY)


def known_answer_check(prompt: str, expect: str, reply: Reply) -> Check:
    """Return whether the answer to a prompt matches a regular expression somewhere."""
    if isinstance(reply, EndpointError):
        status, seen = "failed", str(reply)
    else:
        text = without_thinking(chat_text(reply))
        status, seen = "ok" if re.search(expect, text) else "failed", repr(shorten(text))
    expected = f"something that matches {expect}"
    subject = shorten(prompt, 60)
    return _verdict("endpoint-answers", status, subject, seen, expected, _WRONG_MODEL_REMEDY)


def counted_engine_check(
    engine: str, produced: int, requests: int, problem: str, metrics_problem: str
) -> Check:
    """Return whether an engine works, by the counter that the endpoint keeps of its tokens.

    Args:
        engine: The engine as an operator finds it, see place().
        produced: The tokens by which its counter rose.
        requests: How many requests were sent meanwhile, to all engines together.
        problem: What went wrong with one of them, or nothing.
        metrics_problem: Why the counters could not be read, or nothing. Without them no engine is
            taken for working.
    """
    working = produced > 0 and not metrics_problem
    seen = f"{produced} tokens" if produced > 0 else "no tokens"
    if not working:
        why = metrics_problem or problem
        seen += f" from {requests} requests" + (f"; {why}" if why else "")
    status = "ok" if working else "failed"
    remedy = _METRICS_REMEDY if metrics_problem else _RESTART_REMEDY
    return _verdict("endpoint-engines", status, engine, seen, "tokens", remedy)


def produced_tokens(reply: Reply) -> int:
    """Return the tokens that were produced for a reply, as it says itself."""
    usage: dict[str, int] = {}
    if not isinstance(reply, EndpointError):
        add_usage(usage, reply.get("usage"))
    return usage.get("completion_tokens", 0)


def asked_engine_check(engine: str, reply: Reply) -> Check:
    """Return whether an engine that was asked itself produces tokens.

    Args:
        engine: The engine as an operator finds it, see place(), with its URL.
        reply: Its own.
    """
    produced = produced_tokens(reply)
    if produced:
        status, seen = "ok", f"{produced} tokens"
    elif isinstance(reply, EndpointError):
        status, seen = "failed", str(reply)
    else:
        status, seen = "failed", "an answer without tokens"
    return _verdict("endpoint-engines", status, engine, seen, "tokens", _RESTART_REMEDY)


def soak_check(subject: str, seconds: float, soaked: Soaked) -> Check:
    """Return whether a load was borne for as long as it was to go on.

    Args:
        subject: The endpoint.
        seconds: How long that is.
        soaked: What came of it.
    """
    seen = f"{soaked.requests} requests in {soaked.seconds:.0f} s, {soaked.failed} failed"
    status = "failed" if soaked.failed >= SOAK_FAILED else "warning" if soaked.failed else "ok"
    if soaked.failed:
        seen += f": {soaked.error}"
    expected = f"answers under load for {seconds:.0f} s"
    return _verdict("endpoint-soak", status, subject, seen, expected, _RESTART_REMEDY)


def _verdict(
    check_id: str, status: str, subject: str, observed: str, expected: str, remedy: str = ""
) -> Check:
    return check(check_id, status, subject, observed, expected, "" if status == "ok" else remedy)
