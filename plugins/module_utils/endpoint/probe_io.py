# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an endpoint what its users will ask, and see that every engine behind it works."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.endpoint import replies as endpoint
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    NobodyListens,
)

FEATURES = ("chat", "streaming", "tools", "completions", "responses")
# All that a pass looks at, in its order.
ASPECTS = (*FEATURES, "engines", "answers")

GREETING = "Hello, who are you?"
_TOOL_QUESTION = "What is the weather in Shanghai? Use the tool."
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
        },
    },
}

# What an answer may take; never more than a sixteenth of the model's context.
_ANSWER_TOKENS = 200
_CALL_TOKENS = 512
_THOUGHT_TOKENS = 1024
_FEW_TOKENS = 16
_RETRY_S = 1.0
# Counters follow the tokens after a moment.
_SETTLE_S = 3.0

_METRICS_REMEDY = (
    "see that /metrics answers: SGLang serves it only with --enable-metrics (muster_engine_args)"
)
_LOG_REMEDY = "read the engine's log on every node: journalctl -u 'muster-*' -n 100"
_RESTART_REMEDY = (
    f"restart the whole replica, since its ranks work together or not at all; {_LOG_REMEDY}"
)


class Prober:
    """One pass over an endpoint. Its attributes are the result."""

    def __init__(
        self,
        client: Client,
        model: str,
        engine_hosts: Mapping[str, str] | None = None,
        engine_clients: Mapping[str, Client] | None = None,
        subject: str | None = None,
    ) -> None:
        self.checks: list[Check] = []
        self.skipped: dict[str, str] = {}
        self.answer = ""
        self.usage: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.requests = 0
        self._client = client
        self._model = model
        self._subject = subject or model
        self._engine_hosts = engine_hosts or {}
        self._engine_clients = engine_clients or {}
        self._most_tokens = _THOUGHT_TOKENS
        self._metrics_problem = ""

    def run(
        self,
        features: Sequence[str],
        engines: Sequence[str],
        max_requests: int,
        known_answers: Sequence[Mapping[str, str]] = (),
        max_repetition: int | None = None,
        spend: bool = True,
        patience: float = 0,
    ) -> None:
        """Make all checks, as far as those before them allow.

        Who does not serve yet is asked again until patience seconds have passed.
        """
        asks: dict[str, Callable[[], None]] = {
            "chat": lambda: self._chat(max_repetition),
            "streaming": self._streaming,
            "tools": self._tools,
            "completions": self._completions,
            "responses": self._responses,
        }
        rest = list(ASPECTS)
        # In check mode nothing has been started that could begin to serve.
        until = time.monotonic() + (patience if spend else 0)
        if not self._models(spend, until):
            self._skip(rest, "the model is not served")
            return
        if not spend:
            self._skip(rest, "check mode spends no tokens")
            return
        counted = [engine for engine in engines if engine not in self._engine_clients]
        before = self._metrics() if counted else {}
        for feature in FEATURES:
            rest.remove(feature)
            # Without a chat nothing else is worth a time-out.
            if feature != "chat" and feature not in features:
                self._skip([feature], "the deployment does not have it")
                continue
            asks[feature]()
            if feature == "chat" and not self.answer:
                self._skip(rest, "the endpoint does not answer a chat")
                return
        if counted:
            self._engines(counted, before, max_requests)
        if self._engine_clients:
            self._engines_with_an_api()
        if not engines:
            self._skip(["engines"], "no engines were named")
        if known_answers:
            for one in known_answers:
                self._known_answer(one["prompt"], one["expect"])
        else:
            self._skip(["answers"], "the deployment names no known answers")

    def _skip(self, features: Sequence[str], reason: str) -> None:
        self.skipped.update(dict.fromkeys(features, reason))

    def _add(
        self, name: str, status: str, observed: str, expected: str, remedy: str, subject: str = ""
    ) -> None:
        remedy = "" if status == "ok" else remedy
        self.checks.append(
            check(
                f"endpoint-{name}",
                status,
                subject or self._subject,
                observed,
                expected,
                remedy,
            )
        )

    def _length(self, until: float) -> int | None:
        """The model's longest context, as the endpoint says when it serves."""
        while True:
            try:
                reply = endpoint.parse_json(self._client.get(f"{self._client.base}/models"))
                return endpoint.max_model_len(reply, self._model)
            except EndpointError as error:
                settled = str(error).startswith(("HTTP 4", "serves "))
                if settled or time.monotonic() >= until:
                    raise
            time.sleep(_RETRY_S)

    def _models(self, started: bool, until: float) -> bool:
        expected = f"serves {self._model}"
        try:
            length = self._length(until)
        except EndpointError as error:
            text = str(error)
            if isinstance(error, NobodyListens) and not started:
                # In check mode nothing has been started that could answer.
                self._add("models", "pending", text, expected, "serve starts the engines")
                return False
            if text.startswith(("HTTP 401", "HTTP 403")):
                remedy = (
                    "set muster_api_key_file to the file with the key that the engine was given"
                )
            elif text.startswith("serves "):
                remedy = "another server holds the port, or muster_served_model_name differs"
            else:
                remedy = _LOG_REMEDY
            self._add("models", "failed", text, expected, remedy)
            return False
        if length:
            self._most_tokens = max(1, length // 16)
        self._add("models", "ok", expected, expected, "")
        return True

    def _message(
        self, prompt: str, max_tokens: int = _ANSWER_TOKENS, **more: Any
    ) -> dict[str, Any]:
        self.requests += 1
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": min(max_tokens, self._most_tokens),
            **more,
        }

    def _ask(self, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        reply = endpoint.parse_json(self._client.post(path, dict(payload)))
        endpoint.add_usage(self.usage, reply.get("usage"))
        return reply

    def _chat(self, max_repetition: int | None) -> None:
        try:
            payload = self._message(GREETING, temperature=0.8, top_p=0.8)
            reply = self._ask("/chat/completions", payload)
            text = endpoint.chat_text(reply)
            # A short reply may be all thought.
            self.answer = endpoint.without_thinking(text) or text.strip()
        except EndpointError as error:
            self._add("chat", "failed", str(error), "an answer", _LOG_REMEDY)
            return
        if not self.answer:
            self._add("chat", "failed", "an answer without text", "an answer", _LOG_REMEDY)
            return
        self._add("chat", "ok", "answers", "an answer", "")
        if max_repetition is not None:
            found = endpoint.longest_repetition(self.answer)
            self._add(
                "repetition",
                "failed" if found > max_repetition else "ok",
                f"something {found} times in a row: {endpoint.shorten(self.answer)!r}"
                if found > max_repetition
                else f"nothing more than {found} times in a row",
                f"nothing more than {max_repetition} times in a row",
                "the weights or the engine's flags are wrong for this model: compare both with "
                "the recipe",
            )

    def _streaming(self) -> None:
        payload = self._message(
            GREETING, _FEW_TOKENS, stream=True, stream_options={"include_usage": True}
        )
        expected = "text in pieces, then [DONE]"
        try:
            reply = endpoint.parse_stream(self._client.stream("/chat/completions", payload))
        except EndpointError as error:
            self._add("streaming", "failed", str(error), expected, _LOG_REMEDY)
            return
        endpoint.add_usage(self.usage, reply["usage"])
        status = "ok" if reply["text"] else "failed"
        self._add("streaming", status, f"{reply['chunks']} pieces", expected, _LOG_REMEDY)

    def _tools(self) -> None:
        payload = self._message(
            _TOOL_QUESTION, _CALL_TOKENS, tools=[_TOOL], tool_choice="auto", temperature=0
        )
        expected = "a call of get_current_weather"
        try:
            reply = self._ask("/chat/completions", payload)
        except EndpointError as error:
            self._add("tools", "failed", str(error), expected, _LOG_REMEDY)
            return
        status, observed = endpoint.judge_tool_reply(reply, ["get_current_weather"])
        self._add(
            "tools",
            status,
            observed,
            expected,
            "see that the plan's argv has the model's --tool-call-parser, and with vLLM"
            " --enable-auto-tool-choice",
        )

    def _completions(self) -> None:
        payload = {"model": self._model, "prompt": GREETING, "max_tokens": _FEW_TOKENS}
        self._text("completions", payload, endpoint.completion_text)

    def _responses(self) -> None:
        most = min(_ANSWER_TOKENS, self._most_tokens)
        payload = {"model": self._model, "input": GREETING, "max_output_tokens": most}
        self._text("responses", payload, endpoint.response_text)

    def _text(
        self, name: str, payload: dict[str, Any], text_of: Callable[[Mapping[str, Any]], str]
    ) -> None:
        self.requests += 1
        try:
            found = text_of(self._ask(f"/{name}", payload))
        except EndpointError as error:
            self._add(name, "failed", str(error), "text", _LOG_REMEDY)
            return
        observed = "text" if found else "a reply without text"
        self._add(name, "ok" if found else "failed", observed, "text", _LOG_REMEDY)

    def _known_answer(self, prompt: str, expect: str) -> None:
        try:
            payload = self._message(prompt, _THOUGHT_TOKENS, temperature=0)
            reply = self._ask("/chat/completions", payload)
            text = endpoint.without_thinking(endpoint.chat_text(reply))
            status = "ok" if re.search(expect, text) else "failed"
            observed = repr(endpoint.shorten(text))
        except EndpointError as error:
            status, observed = "failed", str(error)
        self._add(
            "answers",
            status,
            observed,
            f"something that matches {expect}",
            "the weights or the engine's flags are wrong for this model: compare both with the "
            "recipe",
            subject=endpoint.shorten(prompt, 60),
        )

    def _metrics(self) -> dict[str, float]:
        try:
            return endpoint.generated_tokens(self._client.get(f"{self._client.root}/metrics"))
        except EndpointError as error:
            self._metrics_problem = f"/metrics: {error}"
            return {}

    def _engines(
        self, engines: Sequence[str], before: Mapping[str, float], max_requests: int
    ) -> None:
        """Send small requests, several at a time, until every engine has produced tokens.

        The server gives a request to the engine with the least to do, so a few at once reach all.
        """
        problem, sent = "", 0
        tokens = self._read_tokens(engines, before)
        with ThreadPoolExecutor(max_workers=2 * len(engines)) as pool:
            while not (all(tokens.values()) or problem or self._metrics_problem):
                batch = min(2 * len(engines), max_requests - sent)
                if batch <= 0:
                    break
                sent += batch
                payloads = [
                    self._message(f"Count from {number}.", _FEW_TOKENS) for number in range(batch)
                ]
                for outcome in pool.map(self._small_request, payloads):
                    problem = problem or outcome
                tokens = self._read_tokens(engines, before)
        deadline = time.monotonic() + _SETTLE_S
        while not (all(tokens.values()) or problem or self._metrics_problem):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
            tokens = self._read_tokens(engines, before)
        self.tokens.update(tokens)
        problem = self._metrics_problem or problem
        for engine, produced in sorted(tokens.items()):
            working = produced > 0 and not self._metrics_problem
            observed = f"{produced} tokens" if produced > 0 else "no tokens"
            if not working:
                observed += f" from {self.requests} requests" + (f"; {problem}" if problem else "")
            self._add(
                "engines",
                "ok" if working else "failed",
                observed,
                "tokens",
                _METRICS_REMEDY if self._metrics_problem else _RESTART_REMEDY,
                subject=self.place(engine),
            )

    def _engines_with_an_api(self) -> None:
        """Ask each engine that has an API of its own, all at the same time."""
        payload = self._message("Count from 1.", _FEW_TOKENS)
        self.requests += len(self._engine_clients) - 1

        def ask(client: Client) -> tuple[int, str]:
            try:
                reply = endpoint.parse_json(client.post("/chat/completions", payload))
            except EndpointError as error:
                return 0, str(error)
            usage: dict[str, int] = {}
            endpoint.add_usage(usage, reply.get("usage"))
            return usage.get("completion_tokens", 0), ""

        with ThreadPoolExecutor(max_workers=len(self._engine_clients)) as pool:
            outcomes = pool.map(ask, self._engine_clients.values())
            for (engine, client), (produced, problem) in zip(
                self._engine_clients.items(), outcomes
            ):
                self.tokens[engine] = produced
                self._add(
                    "engines",
                    "ok" if produced else "failed",
                    f"{produced} tokens" if produced else problem or "an answer without tokens",
                    "tokens",
                    _RESTART_REMEDY,
                    subject=f"{self.place(engine)} ({client.url})",
                )

    def place(self, engine: str) -> str:
        """An engine as an operator finds it."""
        host = self._engine_hosts.get(engine)
        return f"engine {engine} on {host}" if host else f"engine {engine}"

    def _read_tokens(self, engines: Sequence[str], before: Mapping[str, float]) -> dict[str, int]:
        return endpoint.risen(engines, before, self._metrics())

    def _small_request(self, payload: dict[str, Any]) -> str:
        """What went wrong, or nothing. Runs in threads, so it leaves the result alone."""
        try:
            endpoint.parse_json(self._client.post("/chat/completions", payload))
        except EndpointError as error:
            return str(error)
        return ""
