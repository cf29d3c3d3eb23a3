"""The gateway's door with a real HAProxy before a backend that a test can read: which paths and
which keys get through, what a change of keys or certificate does while it runs."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import EndpointError
from ansible_collections.muster.serving.plugins.module_utils.programs import gateway_probe
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_access,
    gateway_access_io,
    gateway_admin_io,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import AdminError
from ansible_collections.muster.serving.plugins.modules import gateway_access as module
from ansible_collections.muster.serving.plugins.plugin_utils.plan import gateway

from tests.unit.authority import Authority

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")

ENGINE_KEY = 'engine a%b"c d$e'
SEARCH, SEARCH_NEXT, SUPPORT = "sk-search-0123456789", "sk-search-abcdefghij", "sk-support-01234567"
NAME = "c-gateway0"


def digests(**teams: str) -> dict[str, str]:
    return {
        hashlib.sha256(key.encode()).hexdigest(): team.partition("_")[0]
        for team, key in teams.items()
    }


class Backend(BaseHTTPRequestHandler):
    """An engine that answers any path, and keeps which they were and with what key."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = self.rfile.read(length)
        if b'max_tokens": 1' not in asked:
            self.seen.append((self.path, self.headers.get("Authorization")))
        if b"slow" in asked:
            time.sleep(2)
        body = b'{"usage": {"completion_tokens": 1}}'
        self.send_response(400 if b"bad" in asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_GET

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _haproxys_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root can give files to nobody but itself."""
    if os.geteuid() != 0:
        monkeypatch.setattr(gateway_access, "USER_ID", os.geteuid())


class Door:
    """A running gateway."""

    def __init__(self, port: int, folder: Path, seen: list[tuple[str, str | None]]) -> None:
        self.port, self.folder, self.seen = port, folder, seen
        self.log_file = folder / "log"

    def files(self) -> NodeFiles:
        return NodeFiles(str(self.folder / "root"))

    def ask_admin(self, command: str) -> str:
        """Ask it as its node would, whose paths lie below root here."""
        return gateway_admin_io.exchange(
            str(self.folder / "admin.sock"),
            command.replace(STATE_DIR, self.files().path(STATE_DIR)),
        )

    def ask(
        self,
        path: str,
        key: str | None = None,
        body: Any = None,
        method: str | None = None,
        **headers: str,
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def raw(self, text: str) -> int:
        """Send bytes as they are and return the status of the answer; 0 for none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(text.encode("latin-1"))
            answer = b""
            with contextlib.suppress(OSError):
                answer = connection.recv(65536)
        return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0

    def look(self, teams: dict[str, str] | None, tls: dict[str, Any] | None = None) -> Any:
        """What is to change of it. The certificate's own files are this machine's."""
        files, own = NodeFiles(), self.files()
        read, path = files.read, files.path
        files.read = lambda name: (own.read if name.startswith(STATE_DIR) else read)(name)
        files.path = lambda name: (own.path if name.startswith(STATE_DIR) else path)(name)
        params = {"gateway": NAME, "teams": teams, "tls": tls}
        (part,), _checks = gateway_access_io.look(files, params, self.ask_admin)
        return part

    def differs(self, teams: dict[str, str] | None, tls: dict[str, Any] | None = None) -> list[str]:
        return gateway_access_io.differences([self.look(teams, tls)])

    def apply(self, teams: dict[str, str] | None, tls: dict[str, Any] | None = None) -> None:
        """Change it as the module does."""
        module.apply(self.files(), {"teams": teams}, self.look(teams, tls), self.ask_admin)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Start = Callable[..., Door]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run HAProxy with the plan's configuration; paths of the node lie below root."""
    # A socket's path has to be short.
    stack = contextlib.ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-")))

    def run(keys: dict[str, str] | None = None, pem: str | None = None) -> Door:
        seen: list[tuple[str, str | None]] = []
        handler = type("Handler", (Backend,), {"seen": seen})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        door = Door(free_port(), folder, seen)
        root = door.files()
        keys_path, pem_path = gateway_access.keys_path(NAME), gateway_access.certificate_path(NAME)
        if keys is not None:
            gateway_access_io.write(root, keys_path, gateway_access.keys_text(keys))
        if pem is not None:
            gateway_access_io.write(root, pem_path, pem)
        (folder / "usage.lua").write_text(gateway.USAGE_LUA)
        text = gateway.haproxy_config(
            bind="127.0.0.1",
            port=door.port,
            backends=[gateway.Backend("r0", "127.0.0.1", server.server_address[1])],
            model="m",
            api_key=keys is not None,
            admin=str(folder / "admin.sock"),
            keys=root.path(keys_path) if keys is not None else None,
            usage=str(folder / "usage.lua") if keys is not None else None,
            certificate=root.path(pem_path) if pem is not None else None,
        )
        config = folder / "haproxy.cfg"
        config.write_text(text)
        env = {**os.environ, gateway.API_KEY_ENV: ENGINE_KEY}
        log = door.log_file.open("w")
        process = subprocess.Popen(
            ["haproxy", "-W", "-db", "-f", str(config)], stdout=log, stderr=log, env=env
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.callback(process.terminate)
        deadline = time.monotonic() + 10
        while not (folder / "admin.sock").exists() or "1 of 1" not in health(door, pem):
            assert process.poll() is None, door.log_file.read_text()
            assert time.monotonic() < deadline, door.log_file.read_text()
            time.sleep(0.05)
        return door

    with stack:
        yield run


def health(door: Door, pem: str | None) -> str:
    with contextlib.suppress(OSError, http.client.HTTPException):
        if pem is None:
            return door.ask("/health")[1]
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=context, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().read().decode()
    return ""


ROUTES = [
    line
    for line in (Path(__file__).parent / "engine_routes.txt").read_text().splitlines()
    if line.startswith("/")
]
OPEN = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/{model:path}",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
}
# What the gateway itself answers.
ITS_OWN = {"/health"}


def test_of_all_routes_that_engines_have_the_listed_ones_alone_are_passed_on(start: Start) -> None:
    assert set(ROUTES) > OPEN
    for keys in (None, digests(search=SEARCH)):
        door = start(keys)
        for key in (None, SEARCH, ENGINE_KEY):
            for route in ROUTES:
                path = route.replace("{model:path}", "org/m-2.5").replace("{response_id}", "resp_1")
                if route in ITS_OWN:
                    continue
                refused = 403 if route not in OPEN else 401 if keys and not key else 200
                for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                    assert (door.ask(path, key, method=method)[0], method, path, key) == (
                        refused,
                        method,
                        path,
                        key,
                    )
        passed = {path for path, _key in door.seen}
        assert all(path.startswith("/v1/") and "lora" not in path for path in passed)
        assert len(passed) == len(OPEN)


TRICKS = [
    "//pause",
    "/v1//models",
    "/v1/../pause",
    "/v1/./models",
    "/v1/models/../../pause",
    "/v1/models/..%2f..%2fpause",
    "/v1/models/%2e%2e/pause",
    "/%70ause",
    "/%2570ause",
    "/v1/%6dodels",
    "/v1/models%2f..%2f..%2fpause",
    "/v1/models;/../pause",
    "/v1/models/.",
    "/v1/models/",
    "/v1/models#/pause",
    "/v1\\..\\pause",
    "/V1/models",
    "/v1/Models",
    "/v1/chat/completions/",
    "/v1/chat/completions.",
    "/v1/chat/completions/render",
    "/v1/chat/completions%00",
    "/v1/responses/a/b",
    "/v1/responses/a/cancel/x",
    "/muster/../pause",
    "/muster/usage/x",
]


def test_no_spelling_of_another_path_gets_through(start: Start) -> None:
    door = start(digests(search=SEARCH))
    host = f"127.0.0.1:{door.port}"
    rest = (
        f" HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {SEARCH}\r\nConnection: close\r\n\r\n"
    )
    for path in TRICKS:
        for target in (path, f"http://{host}{path}"):
            assert door.raw(f"GET {target}{rest}") in (400, 403), target
    assert door.raw(f"CONNECT {host}{rest}") in (400, 403, 405)
    assert door.raw(f"OPTIONS *{rest}") in (400, 403)
    # Two requests of which a careless proxy sees one.
    smuggled = f"GET /pause HTTP/1.1\r\nHost: {host}\r\n\r\n"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {SEARCH}\r\n"
    lengths = f"Content-Length: {len(smuggled)}\r\nTransfer-Encoding: chunked\r\n"
    door.raw(f"{head}{lengths}\r\n0\r\n\r\n{smuggled}")
    assert [path for path, _key in door.seen if path != "/v1/completions"] == []
    # An absolute form of an open path is that path.
    assert door.raw(f"GET http://{host}/v1/models?a=/pause{rest}") == 200
    assert door.seen[-1][0] == "/v1/models?a=/pause"
    assert door.raw(f"GET http://elsewhere/v1/models{rest}") == 400


def test_over_http_2_the_same_paths_are_closed(start: Start) -> None:
    if (
        not shutil.which("curl")
        or "HTTP2" not in subprocess.run(["curl", "-V"], capture_output=True, text=True).stdout
    ):
        pytest.skip("needs a curl with HTTP/2")
    door = start(digests(search=SEARCH))

    def status(path: str, *more: str) -> str:
        argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]
        argv += [
            "--http2-prior-knowledge",
            "--path-as-is",
            *more,
            f"http://127.0.0.1:{door.port}{path}",
        ]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout

    key = ["-H", f"Authorization: Bearer {SEARCH}"]
    for path in ("/pause", "/v1/../pause", "//pause", "/v1/load_lora_adapter", "/%70ause"):
        assert status(path, *key) == "403 2"
        assert status(path) == "403 2"
    assert status("/v1/models") == "401 2"
    assert status("/v1/models", *key) == "200 2"
    assert {path for path, _key in door.seen} == {"/v1/models"}


def test_a_team_is_let_in_by_its_keys_and_engines_see_their_own_alone(start: Start) -> None:
    door = start(digests(search=SEARCH, search_2=SEARCH_NEXT, support=SUPPORT))
    for key in (SEARCH, SEARCH_NEXT, SUPPORT, ENGINE_KEY):
        assert door.ask("/v1/models", key)[0] == 200
    assert door.ask("/v1/models", authorization=f"bearer {SEARCH}")[0] == 200
    assert {key for _path, key in door.seen} == {f"Bearer {ENGINE_KEY}"}
    seen = len(door.seen)
    digest = hashlib.sha256(SEARCH.encode()).hexdigest()
    for wrong in ("", " ", SEARCH[:-1], SEARCH + "x", SEARCH.upper(), digest, "search", "None"):
        status, text = door.ask("/v1/models", wrong)
        assert status == 401, wrong
        assert json.loads(text)["error"]["code"] == "invalid_api_key"
    for header in (
        SEARCH,
        f"Basic {SEARCH}",
        f"Bearer{SEARCH}",
        f"Bearer {SUPPORT}, Bearer {SEARCH}",
    ):
        assert door.ask("/v1/models", authorization=header)[0] == 401, header
    two = f"GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {SEARCH}\r\n"
    assert door.raw(f"{two}Authorization: Bearer {SUPPORT}\r\n\r\n") == 401
    assert len(door.seen) == seen


def test_keys_change_while_a_request_goes_on_and_all_at_once(start: Start) -> None:
    door = start(digests(search=SEARCH))
    pid = door.ask_admin("show info").partition("Pid: ")[2].split()[0]
    slow: list[int] = []
    under_way = threading.Thread(
        target=lambda: slow.append(door.ask("/v1/completions", SEARCH, {"prompt": "slow"})[0])
    )
    under_way.start()
    time.sleep(0.3)
    # Both, then the new one alone, then hundreds: more than one command of HAProxy's holds.
    many = digests(**{f"team{n}": f"sk-many-{n:020}" for n in range(450)})
    steps = [
        (digests(search=SEARCH, search_2=SEARCH_NEXT), [200, 200]),
        (digests(search=SEARCH_NEXT), [401, 200]),
        ({**many, **digests(search=SEARCH)}, [200, 401]),
        ({}, [401, 401]),
    ]
    for keys, answers in steps:
        assert door.differs(keys) == ["the keys", "the keys in the running gateway"]
        door.apply(keys)
        assert [door.ask("/v1/models", key)[0] for key in (SEARCH, SEARCH_NEXT)] == answers
        assert door.differs(keys) == []
    under_way.join()
    assert slow == [200]
    assert door.ask_admin("show info").partition("Pid: ")[2].split()[0] == pid


def test_a_file_and_a_process_that_differ_are_both_seen(start: Start) -> None:
    keys = digests(search=SEARCH)
    door = start(keys)
    path = gateway_access.keys_path(NAME)
    gateway_access_io.write(door.files(), path, "")
    assert door.differs(keys) == ["the keys"]
    gateway_access_io.tell_keys(door.ask_admin, path, {})
    assert door.differs({}) == []
    gateway_access_io.write(door.files(), path, gateway_access.keys_text(keys))
    assert door.differs(keys) == ["the keys in the running gateway"]


def test_usage_is_counted_a_team_and_no_key_is_told_anywhere(start: Start) -> None:
    door = start(digests(search=SEARCH, search_2=SEARCH_NEXT, support=SUPPORT))
    for key in (SEARCH, SEARCH_NEXT, SEARCH):
        assert door.ask("/v1/completions", key, {"prompt": "x" * 1000})[0] == 200
    assert door.ask("/v1/completions", SUPPORT, {"prompt": "bad"})[0] == 400
    assert door.ask("/v1/completions", "sk-wrong-0123456789", {})[0] == 401
    assert door.ask("/muster/usage")[0] == 401
    status, text = door.ask("/muster/usage", SUPPORT)
    assert status == 200
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def of(counter: str, team: str) -> int:
        return int(told[f'muster_gateway_team_{counter}_total{{team="{team}"}}'])

    assert [of("requests", team) for team in ("search", "support", "-")] == [3, 1, 2]
    assert [of("client_errors", team) for team in ("search", "support")] == [0, 1]
    assert of("received_bytes", "search") > 3000 > of("received_bytes", "support") > 0
    assert of("sent_bytes", "search") > 0
    log = door.log_file.read_text()
    assert "POST /v1/completions 200" in log
    assert {f"team {team}," in log for team in ("search", "support", "-")} == {True}
    everything = log + text + door.ask("/muster/metrics")[1] + door.ask_admin("show map")
    for secret in (SEARCH, SEARCH_NEXT, SUPPORT, ENGINE_KEY, "sk-wrong"):
        assert secret not in everything
        assert hashlib.sha256(secret.encode()).hexdigest() not in everything


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def presented(door: Door, ca: Path) -> str:
    """The serial number of the certificate that a client is shown, who trusts an authority."""
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        shown = connection.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def given(folder: Path) -> dict[str, Any]:
    """A certificate that is given, as the module takes it."""
    return {
        "certificate": str(folder / "cert.pem"),
        "key": str(folder / "key.pem"),
        "names": ["127.0.0.1"],
        "ca": None,
    }


def test_a_chain_that_changes_under_the_same_certificate_reaches_the_running_gateway(
    start: Start, authority: Authority
) -> None:
    certificate, key = authority.folder / "cert.pem", authority.folder / "key.pem"
    authority.issue(certificate, key)
    door = start(pem=gateway_access.bundle(certificate.read_text(), key.read_text(), "test"))
    tls, shown = given(authority.folder), f"show ssl cert {gateway_access.certificate_path(NAME)}"
    assert "Chain Subject: /CN=test" not in door.ask_admin(shown)
    certificate.write_text(certificate.read_text() + authority.ca.read_text())

    def killed(command: str) -> str:
        said = door.ask_admin(command)
        if command.startswith("commit"):
            raise InterruptedError
        return said

    # A run that ends once HAProxy has been told is repeated by the next one.
    with pytest.raises(InterruptedError):
        module.apply(door.files(), {"teams": None}, door.look(None, tls), killed)
    assert door.differs(None, tls) == ["the certificate", "the certificate in the running gateway"]
    door.apply(None, tls)
    assert "Chain Subject: /CN=test" in door.ask_admin(shown)
    assert door.differs(None, tls) == []


def test_a_renewed_certificate_is_taken_over_and_no_connection_is_cut(
    start: Start, authority: Authority
) -> None:
    folder = authority.folder
    tls = given(folder)
    authority.issue(folder / "cert.pem", folder / "key.pem")
    pem = gateway_access.bundle(
        (folder / "cert.pem").read_text(), (folder / "key.pem").read_text(), "test"
    )
    door = start(pem=pem)
    before = presented(door, authority.ca)
    context = ssl.create_default_context(cafile=str(authority.ca))
    old = http.client.HTTPSConnection("127.0.0.1", door.port, context=context, timeout=10)
    old.request("POST", "/v1/completions", json.dumps({"prompt": "slow"}))

    assert door.differs(None, tls) == []
    authority.issue(folder / "cert.pem", folder / "key.pem")
    assert door.differs(None, tls) == ["the certificate", "the certificate in the running gateway"]
    door.apply(None, tls)
    assert presented(door, authority.ca) != before
    assert door.differs(None, tls) == []
    # The request that was under way, and another one over the same connection.
    assert old.getresponse().read() == b'{"usage": {"completion_tokens": 1}}'
    old.request("GET", "/v1/models")
    assert old.getresponse().status == 200


def test_what_haproxy_cannot_use_is_said_and_leaves_what_it_had(
    start: Start, authority: Authority
) -> None:
    folder = authority.folder
    authority.issue(folder / "cert.pem", folder / "key.pem")
    certificate = (folder / "cert.pem").read_text()
    door = start(pem=gateway_access.bundle(certificate, (folder / "key.pem").read_text(), "test"))
    before = presented(door, authority.ca)
    authority.issue(folder / "cert.pem", folder / "key.pem")
    wrong = gateway_access.bundle(certificate, (folder / "key.pem").read_text(), "test")
    with pytest.raises(AdminError, match="does not take the certificate"):
        gateway_access_io.tell_certificate(
            door.ask_admin, gateway_access.certificate_path(NAME), wrong
        )
    with pytest.raises(AdminError, match="prepare map"):
        gateway_access_io.tell_keys(door.ask_admin, gateway_access.keys_path(NAME), {})
    assert presented(door, authority.ca) == before


def test_a_certificate_of_the_hosts_own_is_one_that_clients_can_trust(
    start: Start, tmp_path: Path
) -> None:
    files = NodeFiles(str(tmp_path))
    pem = gateway_access_io.make_own(files, NAME, ["127.0.0.1", "::1", "llm.example.net"])
    folder = tmp_path / gateway_access.own_folder(NAME).lstrip("/")
    assert folder.joinpath("key.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["cert.pem", "key.pem"]
    door = start(pem=pem)
    public = tmp_path / "public.pem"
    public.write_text(gateway_access.public_part(pem))
    assert "PRIVATE" not in public.read_text()
    assert presented(door, public)
    strict = ssl.create_default_context(cafile=str(public))
    # As Python does from 3.13 on.
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("127.0.0.1", "llm.example.net"):
        with socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain:
            strict.wrap_socket(plain, server_hostname=name).close()
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        strict.wrap_socket(plain, server_hostname="127.0.0.2")


def test_muster_asks_a_gateway_over_tls_by_the_name_that_it_is_called(
    start: Start, authority: Authority
) -> None:
    certificate, key = authority.folder / "cert.pem", authority.folder / "key.pem"
    authority.issue(certificate, key, "DNS:llm.example.net")
    door = start(pem=gateway_access.bundle(certificate.read_text(), key.read_text(), "test"))
    url = f"https://127.0.0.1:{door.port}/v1"

    def models(ca: str | None, called: str | None) -> str:
        return Client(url, None, 5, ca=ca, called=called).get("/v1/models")

    assert "usage" in models(str(authority.ca), "llm.example.net")
    for ca, called in (
        (None, "llm.example.net"),
        (str(authority.ca), "other.example.net"),
        (str(authority.ca), None),
    ):
        with pytest.raises(EndpointError, match=r"(?i)certificate"):
            models(ca, called)
    # Whether it lives is asked by its address, whatever name it has.
    health = url.removesuffix("/v1") + gateway.HEALTH_PATH
    assert gateway_probe.status_of(health) == 200
    assert unit_io.answers(health)
