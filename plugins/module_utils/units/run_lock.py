# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run holds a deployment on a node, so that no second one changes it meanwhile. Pure.

A run is one ansible-playbook on one controller, and on each node one file a deployment names the
run that holds it. A run takes the file with a call that only looks, before it changes anything,
goes on holding it with the calls that follow, and releases it at its end. What a dead run left
behind is recognised in two ways: on its own controller by its process, which is_gone() judges, and
everywhere by its lease, which each of its calls extends. Neither counts while a call of the run
still changes the node.

The owner is {id, who, doing, place, pid, started}: this_run() of the controller makes it.
"""

from __future__ import annotations

import json
from typing import Any, Collection, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check

# Seconds without a call after which a run counts as dead where its process cannot be seen. A call
# that may take longer adds that. A run waits for its slowest node, so it is minutes.
LEASE_S = 1200

# Removed when the node restarts, and what a run was doing there has ended then.
FOLDER = "/run/muster"

_TEXTS = ("id", "who", "doing", "place", "started", "since", "seen", "call_started")
_NUMBERS = ("pid", "at", "expires", "call")


class Now(NamedTuple):
    """The node's time: seconds that only ever grow while it is up, and the time of day as text."""

    seconds: float
    clock: str


class Outcome(NamedTuple):
    """What taking a lock comes to.

    Fields:
        record: What its file has to say from now on; None where it stays as it is.
        refusal: Why the run may not go on; empty where it may.
        replaced: Whose lock, no longer alive, was taken over; else None.
    """

    record: dict[str, Any] | None
    refusal: str = ""
    replaced: Mapping[str, Any] | None = None


def lock_path(deployment: str) -> str:
    """Return the file that names the run that holds a deployment."""
    return f"{FOLDER}/{deployment}.run.json"


def read_record(text: str | None) -> dict[str, Any] | None:
    """Return what the file of a lock says; None where it is absent or not whole."""
    try:
        record = json_text.parse(text)
    except ValueError:
        return None
    whole = (
        isinstance(record, dict)
        and all(isinstance(record.get(key), str) for key in _TEXTS)
        and all(isinstance(record.get(key), (int, float)) for key in _NUMBERS)
    )
    return record if whole else None


def record_text(record: Mapping[str, Any]) -> str:
    """Return the file of a lock."""
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def take(
    deployment: str,
    record: Mapping[str, Any] | None,
    owner: Mapping[str, Any],
    now: Now,
    *,
    busy_s: float = 0,
    working: bool = False,
    gone: Collection[str] = (),
    must_hold: bool = False,
) -> Outcome:
    """Return whether a run may go on, and what the lock's file says then.

    Args:
        deployment: What is held.
        record: What the file says; None where there is none.
        owner: The run that asks.
        now: The node's time.
        busy_s: How long this call may take.
        working: Whether a call of the run in the file still changes the node.
        gone: Ids of runs that are known to have ended.
        must_hold: Whether the run took the lock before. It then builds on what it saw at that
            time, and may not go on where another was there since.
    """
    ours = record is not None and record["id"] == owner["id"]
    holds = record is not None and keeps_out(record, owner, now, working, gone)
    if holds or (must_hold and not ours):
        return Outcome(None, _refusal(deployment, record if holds else None, owner, now, working))
    taken = {
        **owner,
        "since": record["since"] if record is not None and ours else now.clock,
        "seen": now.clock,
        "at": now.seconds,
        "expires": now.seconds + LEASE_S + busy_s,
    }
    return Outcome(taken, replaced=None if ours else record)


def keeps_out(
    record: Mapping[str, Any],
    owner: Mapping[str, Any],
    now: Now,
    working: bool,
    gone: Collection[str],
) -> bool:
    """Return whether the lock in the file keeps a run out; for the arguments see take."""
    alive = is_held(record, now) and record["id"] not in gone
    return record["id"] != owner.get("id") and (working or alive)


def is_held(record: Mapping[str, Any], now: Now) -> bool:
    """Return whether the lease of a lock still runs; one from before a restart does not."""
    return bool(record["at"] <= now.seconds < record["expires"])


def may_release(record: Mapping[str, Any] | None, owner: Mapping[str, Any]) -> bool:
    """Return whether a lock is the run's own to release."""
    return record is not None and record["id"] == owner["id"]


def described(record: Mapping[str, Any]) -> str:
    """Return who holds a lock and since when, as part of a sentence."""
    return f"{record['doing']} by {record['who']}, since {record['since']}"


def is_gone(record: Mapping[str, Any], place: str, stat: str | None) -> bool:
    """Return whether the run of a lock is known to have ended.

    Args:
        record: The lock.
        place: Where the caller runs: processes of another place cannot be seen.
        stat: /proc/PID/stat of the run's process there; empty where there is none, None where
            this machine does not tell.
    """
    if record["place"] != place or stat is None:
        return False
    state, started = process_of(stat)
    return state in ("", "Z", "X") or started != record["started"]


def process_of(stat: str) -> tuple[str, str]:
    """Return the state and the start time in a text of /proc/PID/stat; empty where it has none.

    Source: proc_pid_stat(5). The name in brackets can hold anything, brackets included.
    """
    fields = stat.rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


def run_check(
    deployment: str, other: Mapping[str, Any] | None, now: Now, changes: bool, working: bool = False
) -> Check:
    """Return the verdict on whether another run keeps a node to itself.

    Args:
        deployment: What it holds.
        other: The lock of the other run; None where there is none.
        now: The node's time.
        changes: Whether the run that asks wants to change the node.
        working: As for take.
    """
    if other is None:
        return check("node-run", "ok", deployment, "no other run", "no other run")
    status = "failed" if changes else "warning"
    way = _way_out(other, now, working)
    return check("node-run", status, deployment, described(other), "no other run", way)


def _way_out(holder: Mapping[str, Any], now: Now, working: bool) -> str:
    """Return what to do about the run that holds a lock."""
    if working:
        pid = f"{holder['call']:.0f}"
        return f"wait until it has ended: a step of it still changes the node (pid {pid})"
    minutes = int((holder["expires"] - now.seconds) // 60) + 1
    return (
        "wait until it has ended. If it was killed, run again on its own controller, where this is "
        f"seen at once; elsewhere its lock ends by itself in {minutes} min"
    )


def _refusal(
    deployment: str,
    holder: Mapping[str, Any] | None,
    owner: Mapping[str, Any],
    now: Now,
    working: bool,
) -> str:
    untouched = "Nothing was changed by this step"
    if holder is None:
        return (
            f"this run ({owner['doing']}) does not hold {deployment} on this node, and another one "
            "may have been here since it looked: the node has restarted, or this run was quiet for "
            f"over {LEASE_S // 60} minutes, or the step that looks first was left out. "
            f"{untouched}: run it again"
        )
    return (
        f"another run holds {deployment} on this node: {described(holder)}, last heard of at "
        f"{holder['seen']}. {untouched}. To go on, {_way_out(holder, now, working)}"
    )
