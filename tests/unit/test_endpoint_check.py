"""The endpoint check against a server that is right, or wrong in one way."""

import json
import threading
import time

import pytest
from ansible_collections.muster.serving.plugins.module_utils.endpoint import (
    probe_io as endpoint_probe,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.checks import (
    Soaked,
    soak_check,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.probe_io import (
    ASPECTS,
    FEATURES,
    GREETING,
    Prober,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    chat_text,
    error_text,
    generated_tokens,
    judge_tool_reply,
    longest_repetition,
    max_model_len,
    parse_json,
    parse_stream,
    response_text,
    risen,
    without_thinking,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_endpoint import MODEL, serving


@pytest.fixture
def server():
    with serving() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _short_settling(monkeypatch):
    monkeypatch.setattr(endpoint_probe, "_SETTLE_S", 0.3)


def probe(server, timeout=5, key=None, model=MODEL, **options):
    prober = Prober(Client(server.url, key, timeout), model, {"0": "a2-node0", "1": "a2-node1"})
    asked = {"features": FEATURES, "engines": ["0", "1"], "max_requests": 20, **options}
    prober.run(**asked)
    return prober


def statuses(prober):
    return {(one["id"], one["subject"]): one["status"] for one in prober.checks}


def failed(prober):
    return [one for one in prober.checks if one["status"] == "failed"]


def test_a_working_endpoint(server):
    prober = probe(
        server,
        known_answers=[{"prompt": GREETING, "expect": r"\ba model\b"}],
        max_repetition=4,
    )
    assert statuses(prober) == {
        ("endpoint-models", MODEL): "ok",
        ("endpoint-chat", MODEL): "ok",
        ("endpoint-repetition", MODEL): "ok",
        ("endpoint-streaming", MODEL): "ok",
        ("endpoint-tools", MODEL): "ok",
        ("endpoint-completions", MODEL): "ok",
        ("endpoint-responses", MODEL): "ok",
        ("endpoint-engines", "engine 0 on a2-node0"): "ok",
        ("endpoint-engines", "engine 1 on a2-node1"): "ok",
        ("endpoint-answers", GREETING): "ok",
    }
    assert prober.answer == "I am a model."
    assert prober.skipped == {}
    assert all(count > 0 for count in prober.tokens.values())
    assert prober.requests == len(server.requests)
    assert prober.usage["completion_tokens"] > 0
    assert {one["phase"] for one in prober.checks} == {"ready"}


def test_answers_stay_within_a_sixteenth_of_the_context(server):
    server.context = 512
    probe(server)
    asked = [one.get("max_tokens") or one["max_output_tokens"] for _path, one in server.requests]
    assert max(asked) == 32


def test_requests_stop_once_every_engine_has_worked(server):
    probe(server, features=["chat"])
    # The greeting went to one engine; a single round reaches the other.
    assert len(server.requests) == 1 + 4


def test_a_rank_that_never_produces(server):
    server.dead_engines = {"1"}
    prober = probe(server, features=["chat"], max_requests=10)
    (one,) = failed(prober)
    assert (one["id"], one["subject"]) == ("endpoint-engines", "engine 1 on a2-node1")
    assert one["observed"] == "no tokens from 11 requests"
    assert prober.tokens["1"] == 0
    assert prober.tokens["0"] > 0


def test_a_lone_engine_needs_no_label(server):
    server.engines, server.labelled = {"0": 1.0}, False
    assert probe(server, features=["chat"], engines=["0"]).tokens["0"] > 0


def test_without_metrics_no_engine_is_taken_for_working(server):
    server.broken["/metrics"] = 404
    (first, second) = failed(probe(server, features=["chat"]))
    assert (first["id"], second["id"]) == ("endpoint-engines", "endpoint-engines")
    assert "/metrics: HTTP 404" in first["observed"]
    assert "--enable-metrics" in first["remedy"]
    assert len(server.requests) == 1, "requests were spent although nothing can be seen"


def test_what_is_not_offered_is_skipped_with_the_reason(server):
    prober = probe(server, features=["chat"], engines=[])
    assert set(prober.skipped) == set(ASPECTS) - {"chat"}
    assert prober.skipped["tools"] == "the deployment does not have it"
    assert not any(asked.get("tools") for _path, asked in server.requests)


def test_check_mode_spends_no_tokens(server):
    before = dict(server.engines)
    prober = probe(server, spend=False)
    assert statuses(prober) == {("endpoint-models", MODEL): "ok"}
    assert server.engines == before
    assert server.requests == []
    assert set(prober.skipped) == set(ASPECTS)


def test_nobody_listens(server):
    server.url = "http://127.0.0.1:1/v1"
    (one,) = failed(probe(server))
    assert (one["id"], one["observed"]) == ("endpoint-models", "Connection refused")
    # In check mode nothing was started that could listen.
    assert statuses(probe(server, spend=False)) == {("endpoint-models", MODEL): "pending"}


def test_a_gateway_is_given_time_to_find_its_engines(server, monkeypatch):
    server.broken["/v1/models"] = 503
    monkeypatch.setattr(endpoint_probe.time, "sleep", lambda _seconds: server.broken.clear())
    assert failed(probe(server, patience=60)) == []
    server.broken["/v1/models"] = 503
    (one,) = failed(probe(server))
    assert one["observed"].startswith("HTTP 503")


@pytest.mark.parametrize(
    ("url", "options", "status"),
    [
        ("", {"model": "other"}, "failed"),
        ("", {"key": "wrong"}, "failed"),
        ("http://127.0.0.1:1/v1", {"spend": False}, "pending"),
    ],
)
def test_what_time_does_not_mend_is_not_waited_for(server, monkeypatch, url, options, status):
    server.key = "secret"
    server.url = url or server.url
    slept = []
    monkeypatch.setattr(endpoint_probe.time, "sleep", slept.append)
    prober = probe(server, patience=60, **{"key": "secret", **options})
    assert statuses(prober) == {("endpoint-models", options.get("model", MODEL)): status}
    assert slept == []


def test_another_model_is_served(server):
    (one,) = failed(probe(server, model="other"))
    assert (one["id"], one["observed"]) == ("endpoint-models", f"serves {MODEL}")
    assert server.requests == []


def test_the_key_is_sent_and_asked_for(server):
    server.key = "secret"
    assert failed(probe(server, key="secret")) == []
    (one,) = failed(probe(server, key="wrong"))
    assert one["observed"].startswith("HTTP 401")
    assert "muster_api_key_file" in one["remedy"]
    assert "secret" not in json.dumps(one)


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (500, "HTTP 500: EngineCore encountered an issue."),
        ("garbage", "not JSON: 'garbage'"),
        ("[]", "not a JSON object"),
        ('{"choices": []}', "an answer without text"),
        ("close", "cut off"),
        ("hang", "no answer within 0.3 s"),
        ("trickle", "no answer within 0.3 s"),
    ],
)
def test_a_broken_chat_ends_the_pass(server, how, seen):
    server.broken["/v1/chat/completions"] = how
    start = time.monotonic()
    prober = probe(server, timeout=0.3)
    (one,) = failed(prober)
    assert one["id"] == "endpoint-chat"
    assert seen in one["observed"]
    assert len(server.requests) == 1
    assert time.monotonic() - start < 2
    assert set(prober.skipped) == set(ASPECTS) - {"chat"}


@pytest.mark.parametrize("feature", ["completions", "responses"])
def test_another_broken_feature_fails_alone(server, feature):
    server.broken[f"/v1/{feature}"] = 500
    assert [one["id"] for one in failed(probe(server))] == [f"endpoint-{feature}"]


def test_garbled_output_is_noticed(server):
    server.text = "!" * 50
    (one,) = failed(probe(server, features=["chat"], max_repetition=16))
    assert one["id"] == "endpoint-repetition"
    assert "50 times" in one["observed"]


def test_wrong_answers_are_noticed(server):
    known = [{"prompt": "17 + 25?", "expect": r"\b42\b"}]
    server.known = {"17 + 25?": "<think>42?</think>It is 41."}
    (one,) = failed(probe(server, features=["chat"], known_answers=known))
    assert (one["id"], one["subject"]) == ("endpoint-answers", "17 + 25?")
    assert "41" in one["observed"]


@pytest.mark.parametrize(
    ("message", "status", "seen"),
    [
        ({"tool_calls": [{"function": {"name": "w", "arguments": "{}"}}]}, "ok", "calls w"),
        ({"tool_calls": [{"function": {"name": "w", "arguments": "{"}}]}, "failed", "not JSON"),
        ({"tool_calls": [{"function": {"name": "v", "arguments": "{}"}}]}, "failed", "not offered"),
        ({"content": "<minimax:tool_call><invoke"}, "failed", "stands in the text"),
        ({"content": "It is sunny."}, "warning", "in words"),
        ({"content": None, "tool_calls": []}, "failed", "neither"),
        ({"content": "", "tool_calls": [{"function": None}]}, "failed", "not offered"),
    ],
)
def test_replies_to_an_offered_tool(message, status, seen):
    judged = judge_tool_reply({"choices": [{"message": message}]}, ["w"])
    assert judged[0] == status
    assert seen in judged[1]


def test_a_stream_is_put_together():
    lines = [
        ": a comment",
        'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}',
        'data: {"choices": [{"delta": {"reasoning_content": "Hm. "}}]}',
        "",
        'data:{"choices": [{"delta": {"content": "Hi"}}]}',
        'data: {"choices": [], "usage": {"completion_tokens": 2}}',
        "data: [DONE]",
    ]
    assert parse_stream(lines) == {
        "text": "Hm. Hi",
        "chunks": 2,
        "usage": {"completion_tokens": 2},
    }
    with pytest.raises(EndpointError, match="after 2 pieces without"):
        parse_stream(lines[:-1])
    with pytest.raises(EndpointError, match="error in the stream: boom"):
        parse_stream(['data: {"error": {"message": "boom"}}'])


def test_token_counters_of_vllm():
    text = (
        'vllm:generation_tokens_total{engine="0",model_name="m"} 3.4e+03\n'
        'vllm:generation_tokens_total{engine="1",model_name="a \\"b\\" {c}"} 4.0 1700000000000\n'
        'vllm:generation_tokens_total{engine="1",model_name="n"} 6\n'
        'vllm:generation_tokens_total{engine="2",model_name="m"} NaN\n'
        'vllm:generation_tokens_total{engine="2",model_name="m"} +Inf\n'
        'vllm:request_generation_tokens_sum{engine="3"} 9\n'
        'x vllm:generation_tokens_total{engine="4"} 9\n'
    )
    assert generated_tokens(text) == {"0": 3400, "1": 10}
    assert generated_tokens("vllm:generation_tokens_total 7\n") == {"": 7}
    assert risen(["0", "1", "2"], {"0": 1.0}, {"0": 3.0, "1": 2.0}) == {"0": 2, "1": 2, "2": 0}
    assert risen(["0"], {"": 1.0}, {"": 3.0}) == {"0": 2}
    assert risen([], {}, {"0": 3.0}) == {"0": 3}


def test_token_counters_of_sglang():
    total = 'sglang:generation_tokens_total{model_name="m"} 30.0\n'
    lone = (
        'sglang:prompt_tokens_total{model_name="m"} 9.0\n'
        + total
        + 'sglang:realtime_tokens_total{model_name="m",mode="decode",tp_rank="0"} 28.0\n'
    )
    assert generated_tokens(lone) == {"": 30}
    assert risen(["0"], {}, generated_tokens(lone)) == {"0": 30}
    # Newer ones tell streamed answers apart.
    halves = total.replace("}", ',is_streaming="true"}') + total.replace(
        "}", ',is_streaming="false"}'
    )
    assert generated_tokens(halves) == {"": 60}
    ranked = total + "".join(
        f'sglang:realtime_tokens_total{{dp_rank="{rank}",mode="{mode}",tp_rank="{tp}"}} {value}\n'
        for rank, mode, tp, value in [
            (0, "decode", 0, 10.0),
            (0, "decode", 1, 11.0),
            (0, "prefill_compute", 0, 500.0),
            (1, "decode", 2, 19.0),
        ]
    )
    assert generated_tokens(ranked) == {"0": 11, "1": 19}


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("", 0),
        ("one two three", 2),
        ("ha " * 9, 9),
        ("the cat sat " * 5, 5),
        ("!!!!!!!!", 8),
        ("哈哈哈哈哈哈", 6),
        ("| --- | --- | --- |", 3),
    ],
)
def test_repetition(text, longest):
    assert longest_repetition(text) == longest


def test_thoughts_are_left_out():
    assert without_thinking("<think>a</think> b") == "b"
    assert without_thinking("a</think> b") == "b"
    assert without_thinking("<think>never ends") == ""
    assert without_thinking(" b ") == "b"


def test_errors_in_the_forms_that_engines_use():
    assert error_text('{"error": {"message": "no"}}') == "no"
    assert error_text('{"detail": "Not Found"}') == "Not Found"
    assert error_text('{"error": "Unauthorized"}') == "Unauthorized"
    assert error_text("<html>\nBad gateway") == "<html> Bad gateway"


@pytest.mark.parametrize("url", ["10.0.0.1:8000", "ftp://host/v1", "http:///v1", "http://h:x/v1"])
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match=r"not a URL|[Pp]ort"):
        Client(url, None, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "error",
                    "data",
                ]
            ),
            inner,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["choices", "output", "data", "error"]), json_values))
def test_any_reply_is_read_without_a_traceback(reply):
    assert isinstance(chat_text(reply), str)
    assert isinstance(response_text(reply), str)
    assert isinstance(error_text(json.dumps(reply)), str)
    assert judge_tool_reply(reply, ["w"])[0] in ("ok", "warning", "failed")
    with pytest.raises(EndpointError):
        max_model_len(reply, "absent")
    with pytest.raises(EndpointError):
        parse_stream([f"data: {json.dumps(reply)}"])


@given(st.text())
def test_any_text_is_read_without_a_traceback(text):
    assert isinstance(generated_tokens(text), dict)
    assert isinstance(error_text(text), str)
    assert longest_repetition(text) <= len(text)
    try:
        assert isinstance(parse_json(text), dict)
    except EndpointError:
        assert not text.startswith("{}")


# --- a load that goes on -------------------------------------------------------------------------


def soaked(prober):
    found = [one for one in prober.checks if one["id"] == "endpoint-soak"]
    return found[0] if found else None


def test_a_replica_that_was_started_is_loaded_for_a_time(server):
    server.delay = 0.05
    begin = time.monotonic()
    one = soaked(probe(server, soak_s=1))
    assert time.monotonic() - begin >= 1
    assert one["status"] == "ok"
    requests = int(one["observed"].split()[0])
    assert requests > 16
    assert len(server.requests) >= requests


def test_an_engine_that_dies_under_load_ends_it_at_once(server):
    server.delay = 0.02
    timer = threading.Timer(1.5, lambda: server.broken.update({"/v1/chat/completions": 500}))
    timer.start()
    begin = time.monotonic()
    one = soaked(probe(server, soak_s=60))
    timer.join()
    assert time.monotonic() - begin < 10
    assert one["status"] == "failed"
    assert "EngineCore encountered an issue" in one["observed"]


def test_an_engine_that_hangs_under_load_is_found_by_its_requests(server):
    server.delay = 0.02
    timer = threading.Timer(1.0, lambda: server.broken.update({"/v1/chat/completions": "hang"}))
    timer.start()
    one = soaked(probe(server, timeout=1, soak_s=60))
    timer.join()
    assert "no answer within 1 s" in one["observed"]


@pytest.mark.parametrize(
    "asked",
    [{"verified": "2026-11-30 09:25:43Z"}, {"spend": False}, {"known_answers": "wrong"}],
)
def test_what_answered_before_or_answers_badly_is_not_loaded(server, asked):
    if asked.get("known_answers"):
        asked = {"known_answers": [{"prompt": GREETING, "expect": "xyzzy"}]}
    assert soaked(probe(server, soak_s=1, **asked)) is None


@pytest.mark.parametrize(("failed", "status"), [(0, "ok"), (2, "warning"), (3, "failed")])
def test_one_failed_request_is_no_dead_engine(failed, status):
    one = soak_check(MODEL, 60, Soaked(60.0, 900, failed, "HTTP 500: busy" if failed else ""))
    assert one["status"] == status
    assert ("busy" in one["observed"]) == bool(failed)
