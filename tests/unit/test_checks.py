"""One check, and the table that says what checks there are."""

import re

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import check_table
from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    check,
)

from tests.conftest import ROOT


def test_a_check_has_the_published_keys() -> None:
    verdict = check("npu-health", "failed", "device 3", "Alarm", "OK", "Replace it.")
    assert list(verdict) == ["id", "phase", "status", "subject", "observed", "expected", "remedy"]


@pytest.mark.parametrize(
    ("check_id", "status", "problem"),
    [
        ("npu-helth", "ok", "not in the table"),
        ("npu-health", "good", "unknown status"),
        ("host-clock-sync", "failed", "at worst warning"),
        ("host-python", "warning", "at worst ok"),
        ("host-python", "unknown", "at worst ok"),
    ],
)
def test_what_the_table_does_not_have_is_refused(check_id: str, status: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check(check_id, status, "device 3")


def test_the_phase_is_the_tables() -> None:
    assert check("npu-health", "ok", "device 3")["phase"] == "bare"
    assert check("endpoint-chat", "ok", "m")["phase"] == "ready"


def test_every_row_is_whole() -> None:
    rows = list(check_table.CHECKS.values())
    assert len(rows) == len(check_table._KINDS), "an id stands twice"
    for row in rows:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", row.id)
        assert row.phase in ("bare", "ready")
        assert row.worst in ("ok", "warning", "failed")
        assert all(row[:-1]), f"{row.id} leaves something empty"
        assert set(row.follows) <= set(check_table.CHECKS)


def test_no_check_follows_from_itself() -> None:
    for row in check_table.CHECKS.values():
        causes, seen = list(row.follows), set()
        while causes:
            cause = causes.pop()
            assert cause != row.id
            if cause not in seen:
                seen.add(cause)
                causes += check_table.CHECKS[cause].follows


def test_every_row_is_made_by_some_code() -> None:
    """By its whole name, or by a part of it where a maker puts the name together."""
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "plugins").rglob("*.py")
        if path.name != "check_table.py"
    ]
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    words = set(re.findall(r'"([a-z0-9_-]+)"', "\n".join(sources)))
    begun = set(re.findall(r'f"([a-z-]+)\{', "\n".join(sources)))
    missing = {
        row_id
        for row_id in check_table.CHECKS
        if row_id not in words
        and row_id.replace("-", "_") not in modules
        and not any(one and row_id.startswith(one) for one in begun)
    }
    assert missing == set()
