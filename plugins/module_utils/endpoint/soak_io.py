# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a small load on an endpoint for a time, and end as soon as it breaks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Mapping

from ansible_collections.muster.serving.plugins.module_utils.endpoint.checks import (
    SOAK_FAILED,
    Soaked,
)
from ansible_collections.muster.serving.plugins.module_utils.endpoint.client_io import Client
from ansible_collections.muster.serving.plugins.module_utils.endpoint.replies import (
    EndpointError,
    parse_json,
)

# Requests at once: enough for every rank to have some.
AT_ONCE = 8
_PAUSE_S = 1.0


class _Count:
    def __init__(self) -> None:
        self.requests = 0
        self.errors: list[str] = []
        self.lock = threading.Lock()


def soak(client: Client, path: str, payload: Mapping[str, Any], seconds: float) -> Soaked:
    """Send requests for so many seconds, several at once, until some have failed."""
    count = _Count()
    begin = time.monotonic()
    until = begin + seconds

    def send(_place: int) -> None:
        while time.monotonic() < until and len(count.errors) < SOAK_FAILED:
            error = ""
            try:
                parse_json(client.post(path, dict(payload)))
            except EndpointError as problem:
                error = str(problem)
            with count.lock:
                count.requests += 1
                if error:
                    count.errors.append(error)
            if error:
                time.sleep(_PAUSE_S)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(send, range(AT_ONCE)))
    first = count.errors[0] if count.errors else ""
    return Soaked(time.monotonic() - begin, count.requests, len(count.errors), first)
