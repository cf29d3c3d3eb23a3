"""Whether an engine serves, asked of real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.muster.serving.plugins.module_utils.rank_host import serves


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """The URL of a port that gives one caller these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _address = server.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        thread.join(5)


def reply(value: object) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(value).encode()


def test_an_engine_that_lists_the_model_serves() -> None:
    with answering(reply({"data": [{"id": "other"}, {"id": "minimax25"}]})) as url:
        assert serves(url, "minimax25", "key")


@pytest.mark.parametrize(
    "body",
    [
        reply({"data": [{"id": "other"}]}),
        reply({"data": "minimax25"}),
        reply(["minimax25"]),
        b"HTTP/1.0 503 Loading\r\n\r\n",
        b"SSH-2.0-squatter\r\n",
        b"",
    ],
)
def test_whoever_else_holds_the_port_does_not(body: bytes) -> None:
    with answering(body) as url:
        assert not serves(url, "minimax25", None)


def test_a_port_without_a_listener_does_not_serve() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not serves(f"http://127.0.0.1:{port}/v1", "minimax25", None)
