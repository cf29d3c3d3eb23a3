"""link_metrics: what the agent of a replica tells Prometheus, and which starts count."""

from __future__ import annotations

import json

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import link_metrics
from ansible_collections.muster.serving.plugins.module_utils.programs.link_metrics import (
    Config,
    Seen,
    count,
    note,
    parse_config,
    render,
)
from hypothesis import given
from hypothesis import strategies as st

from . import prometheus_tools

HOUR = 3600.0
UNIT = "muster-c-r0-rank0.service"
CONFIG = Config("/run/x.prom", {"cluster": "c", "node": "n", "replica": "0"}, 3, HOUR)
SEEN = Seen(up=True, wanted=True, stalled=False, started_at=10.0, starts=1)


def samples(text: str) -> dict[str, float]:
    return {
        line.split("{")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_a_healthy_unit() -> None:
    text = render(CONFIG, {UNIT: SEEN}, None, None, 2100, boot_time=1000.0)
    assert samples(text) == {
        "muster_unit_up": 1,
        "muster_unit_wanted": 1,
        "muster_unit_stalled": 0,
        "muster_unit_start_time_seconds": 1010,
        "muster_unit_starts": 1,
        "muster_unit_start_limit": 3,
        "muster_unit_start_timeout_seconds": 2100,
    }
    assert f'muster_unit_up{{cluster="c",node="n",replica="0",unit="{UNIT}"}} 1' in text


def test_what_is_not_so_is_not_said() -> None:
    text = render(CONFIG, {UNIT: SEEN._replace(up=False)}, 50.0, 40.0, None, boot_time=1000.0)
    found = samples(text)
    assert found["muster_replica_restart_time_seconds"] == 1050
    assert found["muster_replica_stall_time_seconds"] == 1040
    assert "muster_unit_start_time_seconds" not in found
    assert "muster_unit_start_timeout_seconds" not in found


def test_promtool_takes_it_whatever_the_labels_are() -> None:
    odd = CONFIG._replace(labels={"node": 'a "b" \\ c\nd'})
    text = render(odd, {UNIT: SEEN, "b.service": SEEN}, 5.0, 6.0, 60, boot_time=1.0)
    prometheus_tools.run("promtool", "check", "metrics", stdin=text)


@pytest.mark.parametrize(
    ("lives", "anew_at", "counted"),
    [
        ([(0, "first")], 0.0, 1),
        ([(0, "first"), (60, "second"), (120, "third")], 0.0, 3),
        ([(0, "first"), (60, "first"), (120, "first")], 0.0, 1),
        # By hand: what was before is forgotten.
        ([(0, "first"), (60, "second"), (120, "third")], 120.0, 1),
        ([(0, "first"), (4000, "second")], 0.0, 1),
        # One that runs for long does not count again when it leaves the window.
        ([(0, "first"), (4000, "first")], 0.0, 0),
    ],
)
def test_which_starts_count(lives: list[tuple[float, str]], anew_at: float, counted: int) -> None:
    noted: link_metrics.Starts = {}
    for at, life in lives:
        noted = note(noted, {UNIT: life}, at, HOUR)
    assert count(noted[UNIT], lives[-1][0], HOUR, anew_at) == counted


@given(st.lists(st.floats(0, 2000), min_size=1), st.lists(st.integers(1, 3)))
def test_each_start_counts_for_as_long_as_the_window(pauses: list[float], looks: list[int]) -> None:
    noted: link_metrics.Starts = {}
    began, now = [], 0.0
    for life, pause in enumerate(pauses):
        now += pause
        began.append(now)
        # Looked at more than once: that is no start.
        for _look in range(looks[life] if life < len(looks) else 1):
            noted = note(noted, {UNIT: str(life)}, now, HOUR)
    in_window = [at for at in began if now - at < HOUR]
    assert count(noted[UNIT], now, HOUR, 0.0) == len(in_window)
    assert len(noted[UNIT]) == len(in_window)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "x"}, "not an absolute path"),
        ({"labels": {"a": 1}}, "not an object of texts"),
        ({"starts": 0}, "starts: 0 is not a number above 0"),
        ({"window_s": True}, "window_s: True is not a number"),
        ({"more": 1}, "not an object of file, labels, starts, window_s"),
    ],
)
def test_a_wrong_configuration_is_refused(change: dict[str, object], message: str) -> None:
    good = json.loads(json.dumps(CONFIG._asdict()))
    assert parse_config(good) == CONFIG
    with pytest.raises(ValueError, match=message):
        parse_config({**good, **change})
