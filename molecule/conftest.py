"""A test of a node that fails prints the node's journal: the reason seldom stands elsewhere."""

from collections.abc import Generator
from typing import Any

import pytest
from testinfra.host import Host

# The fewest open files that an engine wants, see the check host-limits.
OPEN_FILES = 65535


@pytest.fixture
def handed_down(host: Host) -> set[str]:
    """Return the checks that warn of what the machine hands down to its nodes."""
    most = host.check_output("ulimit -Hn")
    return {"host-limits"} if most.isdecimal() and int(most) < OPEN_FILES else set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        journal = host.run(
            "journalctl --no-pager --lines 40 --priority info -u 'muster-*' -u docker"
        )
        report.sections.append((f"journal of {host.backend.hostname}", journal.stdout))
    return report
