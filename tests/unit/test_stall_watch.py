"""stall_watch: what it reads of an engine's metrics, and when an engine stands still."""

from __future__ import annotations

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import stall_watch
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_watch import (
    ANSWERED,
    CLIENTS,
    FAILED,
    PAUSED,
    REFUSED,
    SILENT,
    Api,
    Limits,
    Metrics,
    Seen,
    Watch,
    answered,
    ask,
    env_value,
    has_clients,
    look,
    observe,
    parse_metrics,
    rank_to_ask,
    stall,
    to_ask,
)
from hypothesis import given, settings
from hypothesis import strategies as st

LIMITS = Limits(120.0, 2100.0)
INTERVAL_S = 10.0
ASK_S = 30.0

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="m"} 1200.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:generation_tokens_total{engine="1",model_name="m"} 34.0
vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="m"} 30.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 31.0
"""
SGLANG = """\
sglang:num_running_reqs{model_name="m",dp_rank="1"} 1.0
sglang:num_queue_reqs{model_name="m",dp_rank="1"} 4.0
sglang:num_used_tokens{model_name="m",dp_rank="1"} 900.0
sglang:generation_tokens_total{model_name="m"} 7.0
"""


def test_vllm_is_read_by_rank() -> None:
    found = parse_metrics(VLLM)
    assert found.work == {"0": 5.0, "1": 0.0}
    assert (found.tokens, found.asleep) == (1265.0, False)
    assert "kv_cache_usage_perc" in found.beats["0"]
    assert "generation_tokens_total" in found.beats["1"]
    assert "created" not in found.beats["0"]


@pytest.mark.parametrize("text", [SGLANG, SGLANG.replace("sglang:", "sglang_")])
def test_sglang_is_read_in_both_spellings(text) -> None:
    found = parse_metrics(text)
    assert (found.work, found.tokens) == ({"1": 5.0}, 7.0)
    assert set(found.beats) == {"1", ""}


def test_an_engine_that_sleeps_says_so() -> None:
    assert parse_metrics(VLLM.replace('"awake"} 1.0', '"awake"} 0.0')).asleep


@pytest.mark.parametrize(
    "text", ["", "no metrics here", "vllm:num_requests_running{engine=", VLLM.split("vllm:kv")[0]]
)
def test_without_token_counters_nothing_is_judged(text) -> None:
    found = parse_metrics(text)
    assert (found.work, found.beats) == ({}, {})


@given(st.text() | st.text('vllm:sgang_{}"=0123 \n', max_size=80).map(lambda t: f"{VLLM}vllm:{t}"))
def test_any_text_is_read(text) -> None:
    parse_metrics(text)


def test_connections_of_clients_are_told_from_those_that_close() -> None:
    table = "  sl  local_address rem_address   st\n   0: 0100007F:1F40 0200007F:8E3A {}\n"
    assert has_clients([table.format("01")], 8000)
    assert not has_clients([table.format("06")], 8000)
    assert not has_clients([table.format("01")], 8001)
    assert not has_clients(["", "x\ny z\n"], 8000)


@pytest.mark.parametrize(
    ("text", "quoted", "key"),
    [
        ("# a\nA=1\nVLLM_API_KEY=a=b\n", False, "a=b"),
        ('VLLM_API_KEY="a\\"b"\n', True, 'a"b'),
        ("OTHER=1\n", False, None),
    ],
)
def test_the_key_is_read_from_the_units_environment(text, quoted, key) -> None:
    assert env_value(text, "VLLM_API_KEY", quoted) == key


class Engine:
    """An engine with ranks that step, stop and start again, behind an API that may hang."""

    def __init__(self, ranks: int = 1) -> None:
        self.life = "life0"
        self.work = [0] * ranks
        # A rank that stops keeps the figures that it gave last.
        self.shown = [0] * ranks
        self.steps = [1] * ranks
        self.stopped = [False] * ranks
        self.api = True
        self.up = True
        self.ready = True
        self.asleep = False
        self.paused = False
        self.overloaded = False

    def pass_time(self) -> None:
        for rank, stopped in enumerate(self.stopped):
            if not stopped:
                self.shown[rank] = self.work[rank]
                self.steps[rank] += bool(self.work[rank])

    def seen(self) -> Seen:
        if not self.up:
            return Seen("", None, False, False)
        if not self.api:
            return Seen(self.life, None, False, False)
        if not self.ready:
            return Seen(self.life, None, False, False)
        beats = {str(rank): str(steps) for rank, steps in enumerate(self.steps)}
        work = {str(rank): float(count) for rank, count in enumerate(self.shown)}
        metrics = Metrics(work, beats, float(sum(self.steps)), self.asleep)
        return Seen(self.life, metrics, any(self.work), True)

    def completion(self, cause: str) -> str:
        if self.paused:
            return PAUSED
        asked = int(cause) if cause.isdigit() else 0
        hangs = not self.api or self.stopped[asked] or (any(self.stopped) and cause == CLIENTS)
        return FAILED if hangs or self.overloaded else ANSWERED


class Agent:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watch = Watch()
        self.now = 1000.0
        self.asked = 0

    def run(self, seconds: float) -> float | None:
        """Watch for so long; return after how long the engine was found stalled."""
        end, began = self.now + seconds, self.now
        while self.now < end:
            self.engine.pass_time()
            self.watch = observe(self.watch, self.engine.seen(), self.now)
            cause = to_ask(self.watch, self.now, LIMITS)
            if cause is not None:
                self.asked += 1
                outcome = self.engine.completion(cause)
                self.now += ASK_S if outcome == FAILED else 0.1
                self.watch = answered(self.watch, cause, outcome, self.now)
            if stall(self.watch, self.now, LIMITS):
                return self.now - began
            self.now += INTERVAL_S
        return None


FOUND_WITHIN_S = LIMITS.patience_s + INTERVAL_S + ASK_S


def test_a_rank_that_stops_with_work_is_found_within_the_patience_and_one_completion() -> None:
    engine = Engine(2)
    agent = Agent(engine)
    engine.work = [1, 2]
    assert agent.run(600) is None
    engine.stopped[1] = True
    found = agent.run(600)
    assert LIMITS.patience_s <= found <= FOUND_WITHIN_S
    _since, why = stall(agent.watch, agent.now, LIMITS)
    assert why.startswith("rank 1: 2 requests wait or run, no token for 1")
    assert why.endswith("and 2 completions of one token failed")


def test_a_rank_that_stopped_while_idle_is_found_by_the_clients_that_wait() -> None:
    engine = Engine()
    agent = Agent(engine)
    agent.run(30)
    engine.stopped[0] = True
    assert agent.run(3600) is None
    assert agent.asked == 0
    engine.work[0] = 1
    assert agent.run(600) <= FOUND_WITHIN_S + INTERVAL_S
    assert CLIENTS in agent.watch.causes


def test_an_api_that_is_silent_is_found_when_its_engine_had_served() -> None:
    engine = Engine()
    agent = Agent(engine)
    agent.run(30)
    engine.api = False
    assert agent.run(600) <= FOUND_WITHIN_S + INTERVAL_S
    assert list(agent.watch.causes) == [SILENT]


def test_an_agent_that_starts_anew_knows_which_life_had_served() -> None:
    engine = Engine()
    engine.api = False
    agent = Agent(engine)
    assert agent.run(600) is None
    agent.watch = Watch(life=engine.life, ready=True, served=True)
    assert agent.run(600) is not None


def test_a_stall_that_heals_within_the_patience_is_none() -> None:
    engine = Engine()
    agent = Agent(engine)
    engine.work[0] = 1
    agent.run(60)
    for _ in range(5):
        engine.stopped[0] = True
        assert agent.run(70) is None
        engine.stopped[0] = False
        assert agent.run(30) is None


@pytest.mark.parametrize("attribute", ["asleep", "paused"])
def test_an_engine_that_sleeps_or_is_paused_is_left_alone(attribute) -> None:
    engine = Engine()
    agent = Agent(engine)
    engine.work[0] = 1
    agent.run(60)
    engine.stopped[0] = True
    setattr(engine, attribute, True)
    assert agent.run(7200) is None


def test_before_the_first_token_the_start_is_waited_for() -> None:
    engine = Engine()
    engine.steps = [0]
    engine.work = [1]
    engine.stopped = [True]
    agent = Agent(engine)
    engine.shown = [1]
    found = agent.run(7200)
    assert LIMITS.first_patience_s <= found <= LIMITS.first_patience_s + INTERVAL_S + ASK_S


def test_a_refused_completion_says_nothing_of_the_engine() -> None:
    watch = observe(Watch(), Seen("a", Metrics({"0": 1.0}, {"0": "x"}, 5.0, False), True, True), 0)
    for now in range(0, 1000, 10):
        watch = observe(
            watch, Seen("a", Metrics({"0": 1.0}, {"0": "x"}, 5.0, False), True, True), now
        )
        if to_ask(watch, now, LIMITS):
            watch = answered(watch, "0", REFUSED, now)
        assert stall(watch, now, LIMITS) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "work",
                "idle",
                "overload",
                "calm",
                "restart",
                "down",
                "up",
                "loading",
                "ready",
                "drop",
            ]
        ),
        st.integers(0, 2),
        st.floats(0, 400),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(ranks=st.integers(1, 3), steps=STEPS, seed=st.integers(0, 1000))
def test_an_engine_that_moves_or_is_idle_is_never_found_stalled(ranks, steps, seed) -> None:
    """Whatever is asked of it, restarts by itself, loads, or fails under load."""
    rng = random.Random(seed)  # noqa: S311
    engine = Engine(ranks)
    agent = Agent(engine)
    for number, (kind, rank, pause) in enumerate(steps):
        rank %= ranks
        if kind == "work":
            engine.work[rank] = rng.randint(1, 100)
        elif kind == "idle":
            engine.work = [0] * ranks
        elif kind in ("overload", "calm"):
            # Its completions run into their bound.
            engine.overloaded = kind == "overload" and any(engine.work)
        elif kind == "restart":
            # Counters begin at zero.
            engine.life = f"life{number + 1}"
            engine.steps = [0] * ranks
        elif kind in ("down", "up"):
            engine.up = kind == "up"
        elif kind in ("loading", "ready"):
            engine.life = f"life{number + 1}" if kind == "loading" else engine.life
            engine.ready = kind == "ready"
        elif kind == "drop":
            # A link that heals within the patience.
            engine.stopped[rank] = True
            assert agent.run(LIMITS.patience_s / 2) is None
            engine.stopped[rank] = False
            # Two of them without a look between would be one as long as the patience.
            assert agent.run(INTERVAL_S) is None
        if not any(engine.work):
            engine.overloaded = False
        assert agent.run(pause) is None


@settings(max_examples=100)
@given(
    ranks=st.integers(1, 3),
    before=st.floats(0, 900),
    busy=st.booleans(),
    start=st.floats(0, 1e6),
)
def test_a_true_stall_is_always_found_in_time(ranks, before, busy, start) -> None:
    engine = Engine(ranks)
    agent = Agent(engine)
    agent.now = start
    agent.run(INTERVAL_S)
    engine.work = [int(busy)] * ranks
    agent.run(before)
    engine.stopped = [True] * ranks
    engine.work = [1] * ranks
    found = agent.run(FOUND_WITHIN_S + 2 * INTERVAL_S)
    assert found is not None
    assert found >= LIMITS.patience_s


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.reply(*self.server.pages.get(self.path, (404, "")))

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.asked.append((dict(self.headers), json.loads(self.rfile.read(length))))
        self.reply(self.server.status, "{}")

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args) -> None:
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages = {"/metrics": (200, VLLM), "/health": (200, "")}
    server.status = 200
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def api(server, tmp_path):
    env = tmp_path / "unit.env"
    env.write_text("VLLM_API_KEY=k-1\n")
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return Api("u.service", url, "m", str(env), "VLLM_API_KEY", False)


def test_an_engine_is_looked_at_over_http(server, api) -> None:
    assert look(api, Watch(), "") == Seen("", None, False, False)
    assert look(api, Watch(), "a") == Seen("a", parse_metrics(VLLM), False, True)
    server.pages["/health"] = (503, "")
    assert not look(api, Watch(), "a").ready
    # An engine without metrics answers, and is not silent.
    del server.pages["/metrics"]
    assert look(api, Watch("a", ready=True), "a").metrics == parse_metrics("")
    gone = api._replace(url="http://127.0.0.1:9/v1")
    assert look(gone, Watch("a", ready=True), "a").metrics is None


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, ANSWERED), (401, REFUSED), (404, REFUSED), (503, FAILED)]
)
def test_a_completion_of_one_token_goes_to_the_rank_with_the_key(
    server, api, status, outcome
) -> None:
    server.status = status
    assert ask(api, "1", 5.0)[0] == outcome
    [(headers, body)] = server.asked
    assert (headers["Authorization"], headers["X-data-parallel-rank"]) == ("Bearer k-1", "1")
    assert (body["model"], body["max_tokens"]) == ("m", 1)


@pytest.mark.parametrize(
    ("ranks", "cause", "rank"),
    [
        (["0", "1"], "1", "1"),
        # Each rank has an API of its own, and this is the second one's.
        (["1"], "1", ""),
        # SGLang, and what is known of all ranks together.
        ([""], "", ""),
        (["0", "1"], CLIENTS, ""),
        ([], SILENT, ""),
    ],
)
def test_a_rank_is_named_only_where_an_api_has_a_choice(ranks, cause, rank) -> None:
    assert rank_to_ask(Watch("a", beats=dict.fromkeys(ranks, "1")), cause) == rank


def test_nothing_is_asked_of_an_engine_that_is_paused(server, api) -> None:
    server.pages["/is_paused"] = (200, '{"is_paused": true}')
    assert ask(api, "0", 5.0)[0] == PAUSED
    assert server.asked == []


def test_an_engine_that_accepts_and_says_nothing_fails_within_the_bound(api) -> None:
    with stall_watch.http.client.socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        mute = api._replace(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", key_name="")
        assert ask(mute, "", 0.3, silent=True) == (FAILED, "timed out")
