# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an endpoint what its users will ask, and every engine behind it for tokens."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.endpoint import checks, replies
from ansible_collections.muster.serving.plugins.module_utils.endpoint.checks import Reply
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError
from ansible_collections.muster.serving.plugins.module_utils.endpoint.soak_io import soak

FEATURES = ("chat", "streaming", "tools", "completions", "responses")
# All that a pass looks at, in its order.
ASPECTS = (*FEATURES, "engines", "answers")

_CHAT = "/chat/completions"
GREETING = "Hello, who are you?"
_TOOL_QUESTION = "What is the weather in Shanghai? Use the tool."
_TOOL_NAME = "get_current_weather"
_TOOL = {
    "type": "function",
    "function": {
        "name": _TOOL_NAME,
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
        self._counting = Lock()

    def run(
        self,
        features: Sequence[str],
        engines: Sequence[str],
        max_requests: int,
        known_answers: Sequence[Mapping[str, str]] = (),
        max_repetition: int | None = None,
        spend: bool = True,
        patience: float = 0,
        verified: str | None = None,
        soak_s: float = 0,
    ) -> None:
        """Make all checks, as far as the models' list and a first chat allow, side by side.

        Who does not serve yet is asked again until patience seconds have passed. Where all of it
        was verified already, as the text says when, a short chat and the engines will do. What has
        answered all of it otherwise is kept under a small load for soak_s seconds.
        """
        # In check mode nothing has been started that could begin to serve.
        until = time.monotonic() + (patience if spend else 0)
        if not self._models(spend, until):
            self._skip(ASPECTS, "the model is not served")
            return
        if not spend:
            self._skip(ASPECTS, "check mode spends no tokens")
            return
        counted = [engine for engine in engines if engine not in self._engine_clients]
        before = self._metrics() if counted else {}
        if verified:
            features, known_answers = ("chat",), ()
            self._chat(None, _FEW_TOKENS)
        else:
            self._chat(max_repetition)
        # Without a chat nothing else is worth a time-out.
        if not self.answer:
            self._skip(ASPECTS[1:], "the endpoint does not answer a chat")
            return
        asks: dict[str, Callable[[], Check]] = {
            "streaming": self._streaming,
            "tools": self._tools,
            "completions": self._completions,
            "responses": self._responses,
        }
        same = f"the same units run as when they answered it at {verified}"
        self._skip(
            [feature for feature in asks if feature not in features],
            same if verified else "the deployment does not have it",
        )
        offered = [ask for feature, ask in asks.items() if feature in features]
        questions = [partial(self._known_answer, one) for one in known_answers]
        # An engine computes several answers in little more time than the longest of them.
        with ThreadPoolExecutor(max_workers=len(offered) + len(questions) + 1) as pool:
            answered = list(pool.map(lambda ask: ask(), [*offered, *questions]))
        self.checks += answered[: len(offered)]
        if counted:
            self._counted_engines(counted, before, max_requests)
        if self._engine_clients:
            self._asked_engines()
        if not engines:
            self._skip(["engines"], "no engines were named")
        self.checks += answered[len(offered) :]
        if soak_s and not verified and all(one["status"] != "failed" for one in self.checks):
            self._soak(soak_s)
        if not questions:
            self._skip(["answers"], same if verified else "the deployment names no known answers")

    def _skip(self, features: Sequence[str], reason: str) -> None:
        self.skipped.update(dict.fromkeys(features, reason))

    def _models(self, started: bool, until: float) -> bool:
        """Return whether the model is served, which is asked again as long as that may help."""
        error = self._unserved()
        while error and checks.time_may_mend(error) and time.monotonic() < until:
            time.sleep(_RETRY_S)
            error = self._unserved()
        self.checks.append(checks.models_check(self._subject, self._model, error, started))
        return error is None

    def _unserved(self) -> EndpointError | None:
        """Return why the model is not served now, None where it is."""
        try:
            listed = replies.parse_json(self._client.get(f"{self._client.base}/models"))
            length = replies.max_model_len(listed, self._model)
        except EndpointError as error:
            return error
        if length:
            self._most_tokens = max(1, length // 16)
        return None

    def _message(
        self, prompt: str, max_tokens: int = _ANSWER_TOKENS, **more: Any
    ) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": min(max_tokens, self._most_tokens),
            **more,
        }

    def _ask(self, path: str, payload: dict[str, Any]) -> Reply:
        reply = _reply(self._client, path, payload)
        self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        with self._counting:
            self.requests += 1
            if not isinstance(reply, EndpointError):
                replies.add_usage(self.usage, reply.get("usage"))

    def _chat(self, max_repetition: int | None, max_tokens: int = _ANSWER_TOKENS) -> None:
        payload = self._message(GREETING, max_tokens, temperature=0.8, top_p=0.8)
        reply = self._ask(_CHAT, payload)
        self.answer = checks.chat_answer(reply)
        self.checks += checks.chat_checks(self._subject, reply, max_repetition)

    def _streaming(self) -> Check:
        payload = self._message(
            GREETING, _FEW_TOKENS, stream=True, stream_options={"include_usage": True}
        )
        streamed: Reply
        try:
            streamed = replies.parse_stream(self._client.stream(_CHAT, payload))
        except EndpointError as error:
            streamed = error
        self._count(streamed)
        return checks.streaming_check(self._subject, streamed)

    def _tools(self) -> Check:
        payload = self._message(
            _TOOL_QUESTION, _CALL_TOKENS, tools=[_TOOL], tool_choice="auto", temperature=0
        )
        reply = self._ask(_CHAT, payload)
        return checks.tools_check(self._subject, reply, _TOOL_NAME)

    def _completions(self) -> Check:
        payload = {"model": self._model, "prompt": GREETING, "max_tokens": _FEW_TOKENS}
        reply = self._ask("/completions", payload)
        return checks.text_check("completions", self._subject, reply)

    def _responses(self) -> Check:
        most = min(_ANSWER_TOKENS, self._most_tokens)
        payload = {"model": self._model, "input": GREETING, "max_output_tokens": most}
        reply = self._ask("/responses", payload)
        return checks.text_check("responses", self._subject, reply)

    def _known_answer(self, question: Mapping[str, str]) -> Check:
        prompt = question["prompt"]
        reply = self._ask(_CHAT, self._message(prompt, _THOUGHT_TOKENS, temperature=0))
        return checks.known_answer_check(prompt, question["expect"], reply)

    def _metrics(self) -> dict[str, float]:
        try:
            return replies.generated_tokens(self._client.get(f"{self._client.root}/metrics"))
        except EndpointError as error:
            self._metrics_problem = f"/metrics: {error}"
            return {}

    def _counted_engines(
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
                for reply in pool.map(lambda one: _reply(self._client, _CHAT, one), payloads):
                    if isinstance(reply, EndpointError):
                        problem = problem or str(reply)
                tokens = self._read_tokens(engines, before)
        self.requests += sent
        deadline = time.monotonic() + _SETTLE_S
        while not (all(tokens.values()) or problem or self._metrics_problem):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
            tokens = self._read_tokens(engines, before)
        self.tokens.update(tokens)
        for engine, produced in sorted(tokens.items()):
            self.checks.append(
                checks.counted_engine_check(
                    checks.place(engine, self._engine_hosts),
                    produced,
                    self.requests,
                    problem,
                    self._metrics_problem,
                )
            )

    def _asked_engines(self) -> None:
        """Ask each engine that has an API of its own, all at the same time."""
        payload = self._message("Count from 1.", _FEW_TOKENS)
        clients = self._engine_clients
        self.requests += len(clients)
        with ThreadPoolExecutor(max_workers=len(clients)) as pool:
            own = list(pool.map(lambda client: _reply(client, _CHAT, payload), clients.values()))
        for (engine, client), reply in zip(clients.items(), own):
            subject = f"{checks.place(engine, self._engine_hosts)} ({client.url})"
            self.tokens[engine] = checks.produced_tokens(reply)
            self.checks.append(checks.asked_engine_check(subject, reply))

    def _soak(self, seconds: float) -> None:
        soaked = soak(self._client, _CHAT, self._message("Count from 1."), seconds)
        self.requests += soaked.requests
        self.checks.append(checks.soak_check(self._subject, seconds, soaked))

    def _read_tokens(self, engines: Sequence[str], before: Mapping[str, float]) -> dict[str, int]:
        return replies.risen(engines, before, self._metrics())


def _reply(client: Client, path: str, payload: dict[str, Any]) -> Reply:
    try:
        return replies.parse_json(client.post(path, payload))
    except EndpointError as error:
        return error
