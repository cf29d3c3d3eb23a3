# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk HTTP to an OpenAI endpoint: straight to it, each request bounded in time as a whole."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import urllib.parse
from typing import Any, Iterator

from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    NobodyListens,
    error_text,
)


class Client:
    """Requests to one endpoint, http[s]://HOST:PORT/v1.

    Of one that speaks TLS, the certificate has to come from an authority in the file ca (None for
    those that the host knows) and to be for the name called (None for the host of the URL).

    Raises:
        ValueError: The URL is none.
        OSError: The file cannot be read, or holds no certificate.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        ca: str | None = None,
        called: str | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL such as http://10.20.0.11:20004/v1")
        self.url = url
        self.base = parts.path.rstrip("/")
        self.root = self.base[: -len("/v1")] if self.base.endswith("/v1") else self.base
        self._host, self._port = parts.hostname, parts.port
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._called = called or parts.hostname
        self._key = key
        self._timeout = timeout

    def get(self, path: str) -> str:
        """Return the body of a page.

        Raises:
            EndpointError: There is none, or none with status 200; with its status where it has one.
        """
        return b"".join(self._exchange("GET", path, None)).decode(errors="replace")

    def post(self, path: str, payload: dict[str, Any]) -> str:
        """Return the body of the answer to a request below the base.

        Raises:
            EndpointError: There is none, or none with status 200; with its status where it has one.
        """
        pieces = self._exchange("POST", self.base + path, payload)
        return b"".join(pieces).decode(errors="replace")

    def stream(self, path: str, payload: dict[str, Any]) -> Iterator[str]:
        """Yield the lines of a streamed answer, as they come.

        Raises:
            EndpointError: As for get(), or it stops before its end.
        """
        rest = b""
        for piece in self._exchange("POST", self.base + path, payload):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace").rstrip("\r")
        yield rest.decode(errors="replace")

    def _exchange(self, method: str, path: str, payload: dict[str, Any] | None) -> Iterator[bytes]:
        deadline = time.monotonic() + self._timeout
        connection = self._connection()
        headers = {"Accept": "*/*"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            body = None if payload is None else json.dumps(payload).encode()
            connection.request(method, path, body, headers)
            # The connection forgets its socket when the server means to close it.
            wire = connection.sock
            _bound(wire, deadline)
            response = connection.getresponse()
            pieces = _pieces(wire, response, deadline)
            if response.status != 200:
                said = error_text(b"".join(pieces).decode(errors="replace"))
                raise EndpointError(f"HTTP {response.status}: {said}", response.status)
            yield from pieces
        except socket.timeout as error:
            raise EndpointError(f"no answer within {self._timeout:g} s") from error
        except http.client.HTTPException as error:
            raise EndpointError(f"not HTTP, or cut off: {error!r}") from error
        except ConnectionRefusedError as error:
            raise NobodyListens(error.strerror or str(error)) from error
        except OSError as error:
            raise EndpointError(error.strerror or str(error)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return _Named(self._host, self._port, self._timeout, self._tls, self._called)


class _Named(http.client.HTTPSConnection):
    """A connection to a host whose certificate is for a name that need not lead to it."""

    def __init__(
        self, host: str, port: int | None, timeout: float, tls: ssl.SSLContext, called: str
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=tls)
        self._tls, self._called = tls, called

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._called)


def _pieces(
    wire: socket.socket, response: http.client.HTTPResponse, deadline: float
) -> Iterator[bytes]:
    while not response.isclosed():
        _bound(wire, deadline)
        piece = response.read1(65536)
        if not piece:
            return
        yield piece


def _bound(wire: socket.socket, deadline: float) -> None:
    """Let the next read last until the deadline and no longer."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout
    wire.settimeout(left)
