"""The gateway: the distribution's HAProxy, run with what the plan would give it, before engines
that a test can break, on this machine's loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import gateway_access_io
from ansible_collections.muster.serving.plugins.plugin_utils.plan import gateway

from lab import registry
from lab.gateway import build
from tests.unit.fake_endpoint import MODEL, Endpoint, serving

from .conftest import lab, run_podman

IMAGE = f"{registry.ADDRESS}:{registry.PORT}/{build.REPOSITORY}:{build.TAG}"
# Three checks five seconds apart at most, the last two one second apart, and some slack.
OUT_WITHIN_S = 10
KEY = 'a%b"c d$e'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gateway:
    """A running gateway, as its clients see it."""

    def __init__(self, port: int, container: str) -> None:
        self.port = port
        self.container = container

    def ask(self, path: str, body: Any = None, key: str | None = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def chat(self, *messages: Any, key: str | None = None, **more: Any) -> int:
        roles = ("user", "assistant") * len(messages)
        asked = [
            message if isinstance(message, dict) else {"role": role, "content": message}
            for role, message in zip(roles, messages, strict=False)
        ]
        body = {"model": MODEL, "messages": asked, "max_tokens": 4, **more}
        return self.ask("/v1/chat/completions", body, key)[0]

    def serving(self) -> int:
        """How many engines it has."""
        return int(self.ask("/muster/health")[1].split()[0])

    def wait_for(self, engines: int, within_s: float = OUT_WITHIN_S) -> float:
        """Wait until it has so many engines; the seconds that took."""
        start = time.monotonic()
        while self.serving() != engines:
            taken = time.monotonic() - start
            assert taken < within_s, f"{self.serving()} engines, not {engines}:\n{self.log()}"
            time.sleep(0.1)
        return time.monotonic() - start

    def log(self, last: str = "") -> str:
        """Return its log once it has `last`: a request is written to it after the answer."""
        deadline = time.monotonic() + 10
        while True:
            done = run_podman("logs", self.container)
            text = done.stdout + done.stderr
            if last in text:
                return text
            assert time.monotonic() < deadline, f"no {last!r} in {text}"
            time.sleep(0.2)


def backends(engines: list[Endpoint]) -> list[gateway.Backend]:
    return [
        gateway.Backend(f"r{index}", "127.0.0.1", engine.port)
        for index, engine in enumerate(engines)
    ]


@pytest.fixture(scope="module", autouse=True)
def _image() -> None:
    lab("up", "--all")


@pytest.fixture
def engines() -> Iterator[list[Endpoint]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serving()) for _index in range(3)]


Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Run a gateway the way its unit does, with the user and the stop signal of a unit."""
    names = []

    def run(
        before: list[Endpoint], balance: str = gateway.LEAST_OUTSTANDING, key: str | None = None
    ) -> Gateway:
        port = free_port()
        config = gateway.haproxy_config(
            bind="127.0.0.1",
            port=port,
            backends=backends(before),
            model=MODEL,
            balance=balance,
            api_key=key is not None,
        )
        folder = tmp_path / f"gateway-{port}"
        folder.mkdir()
        (folder / "haproxy.cfg").write_text(config)
        (folder / "env").write_text(f"{gateway.API_KEY_ENV}={key}\n" if key else "")
        for path in (*folder.parents, folder):
            if path.is_relative_to(tmp_path.parents[1]):
                path.chmod(0o755)
        name = f"muster-gateway-test-{port}"
        names.append(name)
        done = run_podman(
            "run", "--detach", "--name", name, "--network", "host", "--tls-verify=false",
            "--user", f"{gateway.USER_ID}:{gateway.USER_ID}", "--env-file", str(folder / "env"),
            "--volume", f"{folder}:{folder}:ro", IMAGE,
            "haproxy", "-W", "-db", "-f", str(folder / "haproxy.cfg"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = Gateway(port, name)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                found.ask("/muster/health")
                break
            assert time.monotonic() < deadline, found.log()
            time.sleep(0.05)
        return found

    yield run
    for name in names:
        run_podman("rm", "--force", "--time", "0", name)


def asked(engine: Endpoint) -> list[Any]:
    """What clients have asked an engine, the gateway's own checks left out."""
    return [body for path, body in engine.requests if path == "/v1/chat/completions"]


def checked(engine: Endpoint) -> int:
    return len(engine.requests) - len(asked(engine))


def test_haproxy_takes_every_configuration(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "keys.map").write_text("")
    (tmp_path / "usage.lua").write_text(gateway.USAGE_LUA)
    own = gateway_access_io.make_own(NodeFiles(str(tmp_path / "root")), "g", ["10.0.0.9"])
    (tmp_path / "tls.pem").write_text(own)
    some = [gateway.Backend("r0", "10.0.0.1", 8000), gateway.Backend("r1", "2001:db8::1", 8000)]
    for balance in gateway.BALANCES:
        for key in (False, True):
            for bind, port in (("10.0.0.9", 8000), ("::", 80)):
                text = gateway.haproxy_config(
                    bind=bind,
                    port=port,
                    backends=some,
                    model='it\'s "one" $HOME %[env(HOME)] \\ 模',
                    balance=balance,
                    api_key=key,
                    keys="/c/keys.map" if key else None,
                    usage="/c/usage.lua" if key else None,
                    certificate="/c/tls.pem" if key else None,
                )
                (tmp_path / f"{balance}-{key}-{port}.cfg").write_text(text)
    done = run_podman(
        "run", "--rm", "--network", "host", "--tls-verify=false", "--volume", f"{tmp_path}:/c:ro",
        IMAGE, "sh", "-ec", "for one in /c/*.cfg; do echo $one; haproxy -c -q -f $one; done",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.split()) == 8


def test_an_engine_whose_completions_fail_is_taken_out_and_comes_back(
    start: Start, engines: list[Endpoint]
) -> None:
    found = start(engines)
    assert found.serving() == 3
    engines[0].broken["/v1/completions"] = 500
    assert urllib.request.urlopen(f"{engines[0].url}/models").status == 200
    found.wait_for(2)
    before = len(asked(engines[0]))
    assert [found.chat(f"question {n}") for n in range(6)] == [200] * 6
    assert len(asked(engines[0])) == before
    engines[0].broken.clear()
    found.wait_for(3, 15)


def test_an_engine_that_answers_without_a_token_is_taken_out(
    start: Start, engines: list[Endpoint]
) -> None:
    found = start(engines)
    engines[0].broken["/v1/completions"] = '{"choices": [], "usage": {"completion_tokens": 0}}'
    found.wait_for(2)


@pytest.mark.parametrize("balance", gateway.BALANCES)
def test_no_request_is_lost_to_an_engine_that_dies_idle(
    start: Start, engines: list[Endpoint], balance: str
) -> None:
    with contextlib.ExitStack() as mortal:
        dying = mortal.enter_context(serving())
        found = start([dying, *engines[:2]], balance)
        assert [found.chat(f"warm up {n}") for n in range(9)] == [200] * 9
        assert asked(dying)
        mortal.close()
    started = time.monotonic()
    assert [found.chat(f"after {n}") for n in range(30)] == [200] * 30
    assert time.monotonic() - started < OUT_WITHIN_S
    found.wait_for(2)


def test_a_dead_engine_is_taken_out_before_anybody_asks(
    start: Start, engines: list[Endpoint]
) -> None:
    with contextlib.ExitStack() as mortal:
        found = start([mortal.enter_context(serving()), *engines[:2]])
    print(f"without traffic: out after {found.wait_for(2):.1f} s")


def test_a_request_that_an_engine_has_seen_is_not_sent_again(
    start: Start, engines: list[Endpoint]
) -> None:
    for engine in engines:
        engine.broken["/v1/chat/completions"] = "close"
    found = start(engines)
    assert found.chat("Only once.") == 502
    assert sum(len(asked(engine)) for engine in engines) == 1


def test_the_least_busy_engine_is_preferred(start: Start, engines: list[Endpoint]) -> None:
    found = start(engines[:2])
    for engine in engines[:2]:
        engine.delay = 3.0
    with ThreadPoolExecutor() as pool:
        long = pool.submit(found.chat, "long")
        while not any(asked(engine) for engine in engines):
            time.sleep(0.01)
        busy, idle = sorted(engines[:2], key=lambda engine: -len(asked(engine)))
        idle.delay = 0.0
        assert [found.chat(f"short {n}") for n in range(8)] == [200] * 8
        assert (len(asked(busy)), len(asked(idle))) == (1, 8)
        assert long.result() == 200


SYSTEM = {"role": "system", "content": "You are a careful engineer. " * 200}


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(lambda n: [f"first of {n}"], id="user"),
        pytest.param(
            lambda n: [SYSTEM, {"role": "user", "content": f"first of {n}"}], id="system-and-user"
        ),
        pytest.param(
            lambda n: [
                SYSTEM,
                {"role": "user", "content": [{"type": "text", "text": f"first of {n}"}]},
            ],
            id="list-of-parts",
        ),
        # json.dumps writes these as \u escapes.
        pytest.param(
            lambda n: [SYSTEM, {"role": "user", "content": f"第{n}个问题 C:\\users\\u{n}\\"}],
            id="escapes",
        ),
    ],
)
def test_a_conversation_stays_on_one_engine_and_conversations_spread(
    start: Start, engines: list[Endpoint], beginning: Callable[[int], list[Any]]
) -> None:
    found = start(engines, gateway.PREFIX_AFFINE)
    count = 24
    for turn in range(3):
        for n in range(count):
            later = [
                {"role": role, "content": f"{role} says {n} in turn {one}"}
                for one in range(turn)
                for role in ("assistant", "user")
            ]
            assert found.chat(*beginning(n), *later, temperature=turn / 10) == 200
            # A request counts as the engine's until a moment after its client has the answer.
            time.sleep(0.01)

    def conversations(engine: Endpoint) -> set[str]:
        return {
            json.dumps(next(one for one in body["messages"] if one["role"] == "user"))
            for body in asked(engine)
        }

    seen = [conversations(engine) for engine in engines]
    assert sum(map(len, seen)) == count, "a conversation changed its engine"
    assert all(seen), f"conversations an engine: {[len(one) for one in seen]}"


def test_affinity_yields_to_load(start: Start, engines: list[Endpoint]) -> None:
    found = start(engines, gateway.PREFIX_AFFINE)
    for engine in engines:
        engine.delay = 1.0
    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(lambda n: found.chat("the same", seed=n), range(24))) == {200}
    shares = sorted(len(asked(engine)) for engine in engines)
    # Of 24 requests at a time, twice the share of one of three engines is 16.
    assert shares[-1] <= 17, shares


def test_a_body_beyond_the_buffer_arrives_whole(start: Start, engines: list[Endpoint]) -> None:
    found = start(engines, gateway.PREFIX_AFFINE)
    long = "word " * 100_000
    for turn in range(3):
        assert found.chat(long, f"answer {turn}") == 200
    (home,) = [engine for engine in engines if asked(engine)]
    assert asked(home)[0]["messages"][0]["content"] == long


@pytest.mark.parametrize("balance", gateway.BALANCES)
def test_tokens_pass_as_they_come(start: Start, engines: list[Endpoint], balance: str) -> None:
    for engine in engines:
        engine.broken["/v1/chat/completions"] = "trickle"  # a byte each 50 ms, without end
    found = start(engines, balance)
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=5)
    body = json.dumps({"model": MODEL, "messages": [], "max_tokens": 4, "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    answer = connection.getresponse()
    start_s = time.monotonic()
    assert len([answer.read(1) for _index in range(10)]) == 10
    assert 0.3 < time.monotonic() - start_s < 2.0
    connection.close()


def test_an_engine_is_told_when_its_client_has_gone(start: Start, engines: list[Endpoint]) -> None:
    for engine in engines:
        engine.broken["/v1/chat/completions"] = "hang"
    found = start(engines)
    connection = http.client.HTTPConnection("127.0.0.1", found.port)
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": MODEL}))
    time.sleep(0.5)
    connection.close()
    deadline = time.monotonic() + 5
    # HAProxy's word for it: the client (C) ended it while the answer's head (H) was awaited.
    while " CH, " not in found.log():
        assert time.monotonic() < deadline, found.log()
        time.sleep(0.1)


def test_a_stop_lets_requests_end(start: Start, engines: list[Endpoint]) -> None:
    found = start(engines)
    # HAProxy's first process hears signals only a moment after its second one serves.
    time.sleep(1)
    for engine in engines:
        engine.delay = 3.0
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(found.chat, "long")
        while not any(asked(engine) for engine in engines):
            time.sleep(0.01)
        stopped = pool.submit(run_podman, "stop", "--time", "30", found.container)
        assert under_way.result() == 200
        assert stopped.result().returncode == 0
    assert "All workers exited" in found.log()
    with pytest.raises(OSError, match="refused"):
        found.ask("/muster/health")


def test_only_the_api_is_reachable(start: Start, engines: list[Endpoint]) -> None:
    found = start(engines)
    closed = (
        "/pause", "/update_weights", "/invocations", "/score", "/scale_elastic_ep", "/metrics",
        "/v2/models", "/", "//v1/models", "/v1/../pause", "/v1/%2e%2e/pause", "/v1/%2E%2e/pause",
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/embeddings", "/v1/models/",
    )  # fmt: skip
    assert {path: found.ask(path, {})[0] for path in closed} == dict.fromkeys(closed, 403)
    assert all(not [p for p, _b in engine.requests if p in closed] for engine in engines)
    assert found.ask("/v1/models")[0] == 200
    assert found.ask("/health") == (200, "3 of 3 engines serve\n")
    assert "haproxy_server_status" in found.ask("/muster/metrics")[1]


def test_checks_and_clients_need_the_key(start: Start, engines: list[Endpoint]) -> None:
    for engine in engines:
        engine.key = KEY
    found = start(engines, key=KEY)
    deadline = time.monotonic() + OUT_WITHIN_S
    while min(checked(engine) for engine in engines) < 2:
        assert time.monotonic() < deadline, "the engines are not being checked"
        time.sleep(0.1)
    assert found.serving() == 3, found.log()
    assert found.chat("hello", key=KEY) == 200
    assert found.chat("hello") == 401
    engines[0].key = "another"
    found.wait_for(2)
    assert KEY not in found.log()


def test_without_an_engine_clients_are_told_so(start: Start, engines: list[Endpoint]) -> None:
    for engine in engines:
        engine.broken["/v1/completions"] = 500
    found = start(engines)
    found.wait_for(0)
    assert found.ask("/muster/health") == (503, "0 of 3 engines serve\n")
    status, text = found.ask("/v1/chat/completions", {"model": MODEL, "messages": []})
    assert (status, json.loads(text)["error"]["code"]) == (503, 503)


def test_the_log_tells_requests_apart_and_holds_no_prompt(
    start: Start, engines: list[Endpoint]
) -> None:
    found = start(engines, gateway.PREFIX_AFFINE)
    found.chat("a most secret question")
    found.ask("/v1/models?prompt=secret")
    found.ask("/pause?prompt=secret")
    log = found.log(last="GET /pause 403")
    assert "POST /v1/chat/completions 200" in log
    assert "secret" not in log
