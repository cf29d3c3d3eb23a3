# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host's gateway should hold the floating address; keepalived asks every second.

It should while it has an engine that serves. A gateway without one answers its clients with 503,
which is more than they get from an address that nobody holds: so it keeps the address unless
another gateway has an engine. It is one standalone script: it imports the standard library only.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
import urllib.error
import urllib.request
from typing import Callable, Sequence

# Its own gateway and then all others at once have to answer within the timeout that keepalived's
# configuration gives this script.
TIMEOUT_S = 1.5


def status_of(url: str) -> int | None:
    """Return the HTTP status of a gateway's health page; None where no gateway answers."""
    # A proxy of the environment has no part in asking a gateway. It is asked by its address, which
    # its certificate need not be for, and told nothing.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323
    )
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException, ValueError):
        return None


def should_hold(
    own: str, peers: Sequence[str], ask: Callable[[str], int | None] = status_of
) -> bool:
    """Tell whether the gateway with the health page own is the one to send clients to."""
    status = ask(own)
    if status != 503:
        return status == 200
    others: list[int | None] = []
    asking = [threading.Thread(target=lambda url=peer: others.append(ask(url))) for peer in peers]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    return 200 not in others


def main(arguments: Sequence[str]) -> int:
    return 0 if should_hold(arguments[0], arguments[1:]) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
