# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may hang for ever, in threads that can be left behind."""

from __future__ import annotations

from threading import Thread
from typing import Callable


def ended(work: Callable[[], None], timeout: float) -> bool:
    """Tell whether some work ended within so many seconds. What it raises is raised here.

    A shared file system that has gone away blocks its reader for ever, and is not waited for: the
    thread is left behind.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    worker = Thread(target=run, daemon=True)
    worker.start()
    worker.join(timeout)
    if failures:
        raise failures[0]
    return not worker.is_alive()
