# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent of a replica tells Prometheus of its units, as a file for node_exporter.

A follower has no API, and an engine that is down has none either: only the agent knows of both.
Beside replica_link.py, which imports it, it imports the standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Sequence

# By unit, the lives that it had and when each was first seen, in seconds since boot.
Starts = Dict[str, Dict[str, float]]


class Config(NamedTuple):
    """What of an agent's configuration concerns its metrics."""

    file: str
    # Of every sample.
    labels: dict[str, str]
    # systemd's start limit of the units.
    starts: int
    window_s: float


class Seen(NamedTuple):
    """What the agent knows of a unit."""

    up: bool
    # Not stopped by the operator.
    wanted: bool
    stalled: bool
    # Since boot, and how many starts systemd has counted of its limit.
    started_at: float
    starts: int


def note(starts: Starts, lives: Mapping[str, str], now: float, window_s: float) -> Starts:
    """Return the lives of units with what runs now; those that ended before the window are gone.

    Args:
        starts: What was noted before.
        lives: The invocation of each unit that runs or has just crashed.
        now: Seconds since boot.
        window_s: How far back systemd's start limit counts.
    """
    noted = {}
    for name in {*starts, *lives}:
        known = starts.get(name, {})
        kept = {
            life: at for life, at in known.items() if life == lives.get(name) or now - at < window_s
        }
        if name in lives:
            kept.setdefault(lives[name], now)
        noted[name] = kept
    return noted


def count(noted: Mapping[str, float], now: float, window_s: float, anew_at: float) -> int:
    """Return how many of a unit's lives count in its start limit.

    Args:
        noted: When each began.
        now: Seconds since boot.
        window_s: How far back the limit counts.
        anew_at: When the operator began anew; what was before does not count.
    """
    return sum(1 for at in noted.values() if at >= anew_at and now - at < window_s)


def render(
    config: Config,
    units: Mapping[str, Seen],
    restarted_at: float | None,
    stalled_at: float | None,
    start_timeout_s: float | None,
    boot_time: float,
) -> str:
    """Return the samples in Prometheus's text format.

    Args:
        config: Their labels, and the units' start limit.
        units: The units of the replica on this node.
        restarted_at: When the replica was last restarted without an operator, None for never.
        stalled_at: When it was last restarted because an engine here stood still.
        start_timeout_s: How long a start may take, None where it is not known.
        boot_time: The boot as Unix time, to which all times are relative.
    """
    by_unit: list[tuple[str, str, Mapping[str, float]]] = [
        ("up", "Whether the unit runs", {n: seen.up for n, seen in units.items()}),
        ("wanted", "0 once the operator stopped it", {n: s.wanted for n, s in units.items()}),
        ("stalled", "Whether its engine stands still", {n: s.stalled for n, s in units.items()}),
        (
            "start_time_seconds",
            "When its present run was first seen",
            {n: boot_time + s.started_at for n, s in units.items() if s.up},
        ),
        (
            "starts",
            "Starts that count in its start limit",
            {n: s.starts for n, s in units.items()},
        ),
        (
            "start_limit",
            "Starts after which systemd gives it up",
            dict.fromkeys(units, config.starts),
        ),
        (
            "start_timeout_seconds",
            "How long its start may take",
            {} if start_timeout_s is None else dict.fromkeys(units, start_timeout_s),
        ),
    ]
    of_replica = [
        ("restart_time_seconds", "When it was last restarted without an operator", restarted_at),
        ("stall_time_seconds", "When it was last restarted for a stall", stalled_at),
    ]
    lines: list[str] = []
    for name, what, values in by_unit:
        labelled = [({**config.labels, "unit": unit}, value) for unit, value in values.items()]
        lines += _family(f"muster_unit_{name}", what, labelled)
    for name, what, at in of_replica:
        labelled = [] if at is None else [(config.labels, boot_time + at)]
        lines += _family(f"muster_replica_{name}", what, labelled)
    return "".join(f"{line}\n" for line in lines)


def _family(name: str, what: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> list[str]:
    if not samples:
        return []
    lines = [f"# HELP {name} {what}.", f"# TYPE {name} gauge"]
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels.items()))
        lines.append(f"{name}{{{shown}}} {float(value):.17g}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse_config(value: Any) -> Config:
    """Parse that part of an agent's configuration.

    Raises:
        ValueError: What is wrong with it.
    """
    if not isinstance(value, dict) or set(value) != set(Config._fields):
        raise ValueError(f"metrics: not an object of {', '.join(Config._fields)}")
    config = Config(**value)
    if not isinstance(config.file, str) or not config.file.startswith("/"):
        raise ValueError(f"metrics: file: {config.file!r} is not an absolute path")
    labels = config.labels
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        raise ValueError("metrics: labels: not an object of texts")
    for key in ("starts", "window_s"):
        number = getattr(config, key)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number <= 0:
            raise ValueError(f"metrics: {key}: {number!r} is not a number above 0")
    return config
