"""What is made of an endpoint's replies, without an endpoint."""

import pytest
from ansible_collections.muster.serving.plugins.module_utils.endpoint.checks import (
    asked_engine_check,
    chat_answer,
    chat_checks,
    counted_engine_check,
    known_answer_check,
    models_check,
    place,
    produced_tokens,
    streaming_check,
    text_check,
    time_may_mend,
    tools_check,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    ModelNotServed,
    NobodyListens,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_endpoint_check import json_values

# Texts that look like another error's: nothing may be read from them.
MISLEADING = ("HTTP 401: no", "HTTP 503: no", "serves another", "Connection refused", "")
LOG, KEY, MODEL, SERVE = "journalctl", "muster_api_key_file", "muster_served_model_name", "serve "


def chat(content):
    return {"choices": [{"message": {"content": content}}]}


@pytest.mark.parametrize("text", MISLEADING)
@pytest.mark.parametrize(
    ("make", "mends", "remedy", "planned"),
    [
        (EndpointError, True, LOG, LOG),
        (NobodyListens, True, LOG, SERVE),
        (ModelNotServed, False, MODEL, MODEL),
        (lambda text: EndpointError(text, 400), False, LOG, LOG),
        (lambda text: EndpointError(text, 401), False, KEY, KEY),
        (lambda text: EndpointError(text, 403), False, KEY, KEY),
        (lambda text: EndpointError(text, 404), False, LOG, LOG),
        (lambda text: EndpointError(text, 499), False, LOG, LOG),
        (lambda text: EndpointError(text, 500), True, LOG, LOG),
        (lambda text: EndpointError(text, 503), True, LOG, LOG),
        (lambda text: EndpointError(text, 302), True, LOG, LOG),
    ],
)
def test_why_a_model_is_not_served(make, mends, remedy, planned, text):
    error = make(text)
    assert time_may_mend(error) == mends
    started = models_check("e", "m", error, started=True)
    assert (started["status"], started["observed"]) == ("failed", text)
    assert remedy in started["remedy"]
    unstarted = models_check("e", "m", error, started=False)
    assert unstarted["status"] == ("pending" if planned == SERVE else "failed")
    assert planned in unstarted["remedy"]


def test_a_model_that_is_served_needs_nothing():
    one = models_check("e", "m", None, started=False)
    assert (one["status"], one["observed"], one["remedy"]) == ("ok", "serves m", "")


@pytest.mark.parametrize(
    ("reply", "answer", "seen"),
    [
        (chat("<think>Hm.</think> Hi. "), "Hi.", "answers"),
        (chat(" <think>Hm"), "<think>Hm", "answers"),
        (chat(" \n"), "", "an answer without text"),
        ({}, "", "an answer without text"),
        (EndpointError("HTTP 500: boom", 500), "", "HTTP 500: boom"),
    ],
)
def test_an_answer_to_a_greeting(reply, answer, seen):
    assert chat_answer(reply) == answer
    (one,) = chat_checks("e", reply, None)
    assert (one["id"], one["observed"]) == ("endpoint-chat", seen)
    assert one["status"] == ("ok" if answer else "failed")
    ids = [check["id"] for check in chat_checks("e", reply, 16)]
    assert ids == (["endpoint-chat", "endpoint-repetition"] if answer else ["endpoint-chat"])


@pytest.mark.parametrize(("times", "status"), [(4, "ok"), (5, "failed")])
def test_an_answer_may_repeat_itself_up_to_the_bound(times, status):
    repetition = chat_checks("e", chat("ha " * times), 4)[-1]
    assert repetition["status"] == status
    assert f"{times} times in a row" in repetition["observed"]


@pytest.mark.parametrize(
    ("produced", "problem", "metrics", "status", "seen", "remedy"),
    [
        (3, "", "", "ok", "3 tokens", ""),
        # One request of many that went wrong is no fault of an engine that works.
        (3, "boom", "", "ok", "3 tokens", ""),
        (0, "", "", "failed", "no tokens from 9 requests", "restart"),
        (0, "boom", "", "failed", "no tokens from 9 requests; boom", "restart"),
        (0, "boom", "gone", "failed", "no tokens from 9 requests; gone", "--enable-metrics"),
        (3, "", "gone", "failed", "3 tokens from 9 requests; gone", "--enable-metrics"),
        # A counter that fell is that of an engine that was restarted meanwhile.
        (-5, "", "", "failed", "no tokens from 9 requests", "restart"),
    ],
)
def test_an_engine_behind_the_endpoint(produced, problem, metrics, status, seen, remedy):
    one = counted_engine_check("engine 0", produced, 9, problem, metrics)
    assert (one["status"], one["observed"]) == (status, seen)
    assert remedy in one["remedy"]
    assert bool(one["remedy"]) == bool(remedy)


@pytest.mark.parametrize(
    ("reply", "tokens", "seen"),
    [
        ({"usage": {"completion_tokens": 4}}, 4, "4 tokens"),
        ({"usage": {"completion_tokens": 0}}, 0, "an answer without tokens"),
        ({"usage": None}, 0, "an answer without tokens"),
        (EndpointError("no answer within 5 s"), 0, "no answer within 5 s"),
    ],
)
def test_an_engine_that_is_asked_itself(reply, tokens, seen):
    assert produced_tokens(reply) == tokens
    one = asked_engine_check("engine 0 (http://n:1/v1)", reply)
    assert (one["status"], one["observed"]) == ("ok" if tokens else "failed", seen)


def test_an_engine_is_named_with_its_node_where_that_is_known():
    assert place("0", {"0": "n0"}) == "engine 0 on n0"
    assert place("1", {"0": "n0"}) == "engine 1"


def every_check(reply):
    """Every verdict on one reply, but those on lists of models and on counters."""
    return [
        *chat_checks("e", reply, 16),
        tools_check("e", reply, "w"),
        text_check("completions", "e", reply),
        text_check("responses", "e", reply),
        known_answer_check("Who?", "model", reply),
        asked_engine_check("engine 0", reply),
    ]


@given(
    st.dictionaries(st.sampled_from(["choices", "output", "usage", "error"]), json_values)
    | json_values.map(lambda value: {"choices": [{"message": {"content": value}}]})
)
def test_any_reply_is_judged_and_what_is_not_right_has_a_remedy(reply):
    for one in every_check(reply):
        assert one["status"] in ("ok", "warning", "failed")
        assert bool(one["remedy"]) == (one["status"] != "ok")


@given(st.text(), st.none() | st.integers(100, 599))
def test_a_reply_that_did_not_come_fails_with_its_reason(text, status):
    error = EndpointError(text, status)
    for one in [*every_check(error), streaming_check("e", error)]:
        assert one["status"] == "failed"
        assert one["observed"] == text


@given(st.text(), st.integers(0))
def test_a_stream_is_right_when_it_brought_text(text, chunks):
    one = streaming_check("e", {"text": text, "chunks": chunks, "usage": {}})
    assert one["status"] == ("ok" if text else "failed")
    assert one["observed"] == f"{chunks} pieces"
