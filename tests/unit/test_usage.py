"""What an engine does: by its metrics, and by a token asked of each rank."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import (
    ANSWERED,
    FAILED,
    PAUSED,
    REFUSED,
)
from ansible_collections.muster.serving.plugins.module_utils.units import usage_io
from ansible_collections.muster.serving.plugins.module_utils.units.usage import (
    Answer,
    file_systems,
    link_report,
    ranks_to_ask,
    usage,
)
from hypothesis import given
from hypothesis import strategies as st


def vllm(*tokens: int, running: int = 0, waiting: int = 0) -> str:
    """The metrics of an engine whose ranks have generated so many tokens."""
    lines = []
    for rank, count in enumerate(tokens):
        labels = f'engine="{rank}",model_name="m"'
        lines += [
            f"vllm:num_requests_running{{{labels}}} {running}.0",
            f"vllm:num_requests_waiting{{{labels}}} {waiting}.0",
            f"vllm:generation_tokens_total{{{labels}}} {count}.0",
            f'vllm:request_success_total{{{labels},finished_reason="stop"}} 3.0',
            f'vllm:request_success_total{{{labels},finished_reason="length"}} 1.0',
            f'vllm:request_success_created{{{labels},finished_reason="stop"}} 1.7e+09',
        ]
    return "\n".join(lines) + "\n"


SGLANG = """\
sglang:num_running_reqs{model_name="m",tp_rank="0"} 2.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 5.0
sglang:num_requests_total{model_name="m"} 11.0
sglang:generation_tokens_total{model_name="m"} 700.0
"""


def test_requests_and_tokens_are_read_by_rank() -> None:
    answers = [Answer("0", ANSWERED, "HTTP 200"), Answer("1", ANSWERED, "HTTP 200")]
    assert usage(vllm(100, 7), vllm(201, 8, running=2, waiting=1), 2.0, answers) == {
        "state": "serves",
        "said": "",
        "running": 4,
        "waiting": 2,
        "done": 8,
        # Without the token that was asked of each.
        "ranks": [
            {"rank": "0", "tokens": 201, "rate": 50.0},
            {"rank": "1", "tokens": 8, "rate": 0.0},
        ],
    }


@pytest.mark.parametrize("text", [SGLANG, SGLANG.replace("sglang:", "sglang_")])
def test_sglang_is_read_in_both_spellings(text: str) -> None:
    found = usage(text, text.replace("700.0", "711.0"), 1.0, [Answer("", ANSWERED, "")])
    assert (found["running"], found["waiting"], found["done"]) == (2, 5, 11)
    assert found["ranks"] == [{"rank": "", "tokens": 711, "rate": 10.0}]


def test_an_engine_that_counts_nothing_says_nothing_of_it() -> None:
    found = usage("", "", 1.0, [Answer("", ANSWERED, "HTTP 200")])
    assert (found["state"], found["running"], found["ranks"]) == ("serves", None, [])


def test_one_that_has_begun_to_count_between_two_looks_has_no_rate() -> None:
    found = usage("", vllm(5), 1.0, [Answer("", ANSWERED, "")])
    assert found["ranks"] == [{"rank": "0", "tokens": 5, "rate": None}]


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        (vllm(1, 2), ["0", "1"]),
        (vllm(1), [""]),
        (SGLANG, [""]),
        ("", [""]),
        ("\n".join(vllm(*range(12)).splitlines()[::-1]), [str(rank) for rank in range(12)]),
    ],
)
def test_each_of_several_ranks_is_asked(text: str, ranks: list[str]) -> None:
    assert ranks_to_ask(text) == ranks


STANDS = [Answer("0", ANSWERED, ""), Answer("1", FAILED, "timed out")]


@pytest.mark.parametrize(
    ("after", "answers", "state", "said"),
    [
        # One rank of two hangs: that the other one works says nothing of it.
        (vllm(150, 20), STANDS, "no token", "rank 1: timed out"),
        # Overloaded: our request waits, those before it get their tokens.
        (vllm(150, 90), STANDS, "busy", ""),
        (vllm(150, 20), [Answer("0", PAUSED, "/is_paused")], "paused", "/is_paused"),
        (vllm(150, 20), [Answer("0", REFUSED, "HTTP 401")], "refused", "HTTP 401"),
        ("", [Answer("", FAILED, "timed out")], "no token", "timed out"),
        (vllm(150, 20), [Answer("", FAILED, "timed out")], "busy", ""),
    ],
)
def test_what_gives_no_token_is_told_from_what_is_busy(
    after: str, answers: list[Answer], state: str, said: str
) -> None:
    found = usage(vllm(100, 20), after, 1.0, answers)
    assert (found["state"], found["said"]) == (state, said)


def test_a_token_of_ours_does_not_speak_for_a_rank_that_hangs() -> None:
    """SGLang counts tokens for all ranks together, and requests by rank."""
    before = SGLANG + 'sglang:num_used_tokens{dp_rank="1"} 9.0\n'
    after = before.replace("700.0", "701.0")
    assert usage(before, after, 1.0, STANDS)["state"] == "no token"
    both = [answer._replace(outcome=FAILED) for answer in STANDS]
    assert usage(before, after, 1.0, both)["state"] == "busy"
    works = after.replace("9.0", "12.0")
    assert usage(before, works, 1.0, STANDS)["state"] == "busy"


TEXTS = st.text() | st.text('vllm:sgang_{}"=0123 \n', max_size=80).map(
    lambda t: f"{vllm(3)}vllm:{t}"
)


@given(TEXTS, TEXTS, st.floats(0, 100), st.sampled_from([ANSWERED, FAILED, PAUSED, REFUSED]))
def test_any_text_is_read(before: str, after: str, passed_s: float, outcome: str) -> None:
    answers = [Answer(rank, outcome, "") for rank in ranks_to_ask(before)]
    json.dumps(usage(before, after, passed_s, answers), allow_nan=False)


@pytest.mark.parametrize(
    ("state", "restarts", "events"),
    [
        (None, None, []),
        ("", None, []),
        ("[]", None, []),
        ('{"generation": "x"}', None, []),
        ('{"generation": 2}', 2, []),
        (
            '{"generation": 1, "events": [{"at": "t", "did": "restart", "why": "w", "more": 1}]}',
            1,
            [{"at": "t", "did": "restart", "why": "w"}],
        ),
    ],
)
def test_an_agent_tells_restarts_and_why(state, restarts, events) -> None:
    assert link_report("c-r0", state, "active") == {
        "name": "c-r0",
        "active_state": "active",
        "restarts": restarts,
        "events": events,
    }


def test_folders_on_one_file_system_are_told_together() -> None:
    room = {"size_bytes": 10, "free_bytes": 5}
    found = [
        {"mount": "/", "what": "state", **room},
        {"mount": "/data", "what": "weights", **room},
        {"mount": "/data", "what": "weights", **room},
        {"mount": "/", "what": "logs", **room},
    ]
    assert file_systems(found) == [
        {"mount": "/", "holds": ["state", "logs"], **room},
        {"mount": "/data", "holds": ["weights"], **room},
    ]


def test_the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above(tmp_path: Path) -> None:
    found = usage_io.of_disks([str(tmp_path / "not/yet")], images=False)
    (weights,) = [one for one in found if "weights" in one["holds"]]
    assert tmp_path.as_posix().startswith(weights["mount"])
    assert 0 < weights["free_bytes"] < weights["size_bytes"]


class Engine:
    """An engine of two ranks behind a real port. A rank that hangs answers nothing."""

    def __init__(self) -> None:
        self.tokens = [10, 10]
        self.hangs: set[str] = set()
        self.works = False
        self.asked: list[str] = []
        self.over = threading.Event()


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            if engine.works:
                engine.tokens = [count + 50 for count in engine.tokens]
            self.reply(vllm(*engine.tokens, running=1))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            rank = self.headers["X-data-parallel-rank"]
            engine.asked.append(rank)
            if rank in engine.hangs:
                engine.over.wait(10)
                return
            engine.tokens[int(rank)] += 1
            self.reply("{}")

        def reply(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        engine.over.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("hangs", "works", "state"),
    [(set(), False, "serves"), ({"1"}, False, "no token"), ({"0", "1"}, True, "busy")],
)
def test_each_rank_of_a_real_port_is_asked_for_a_token(
    monkeypatch: pytest.MonkeyPatch, hangs: set[str], works: bool, state: str
) -> None:
    monkeypatch.setattr(usage_io, "ASK_S", 0.5)
    monkeypatch.setattr(usage_io, "RATE_S", 0.1)
    engine = Engine()
    engine.hangs, engine.works = hangs, works
    with serving(engine) as url:
        unit = {"name": "u", "systemd_unit": "u.service", "api_url": url, "install": "container"}
        began = time.monotonic()
        found = usage_io.of_units([unit], "m")["u"]
    # Ranks are asked at once.
    assert time.monotonic() - began < 5
    assert (found["state"], sorted(engine.asked)) == (state, ["0", "1"])
    assert found["running"] == 2
    assert found["said"] == ("rank 1: timed out" if state == "no token" else "")
