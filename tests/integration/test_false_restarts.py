"""What is no stall restarts nothing: overload, a long prefill, an hour without a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import Outcome, lab
from .test_recovery_times import ask, runs

Play = Callable[..., Outcome]

pytestmark = pytest.mark.chaos

PATIENCE_S = 30
SEQUENCES = 4
RANKS = 2
# Positions that the tiny model's weights know nothing of, which is no matter: they are computed.
POSITIONS = 131072


@pytest.fixture(scope="module", autouse=True)
def _lab() -> None:
    lab("up")


def serve(play: Play, **args: Any) -> dict[str, str]:
    """Bring the pair into service with such flags and the patience, and return its runs."""
    more = {"lab_more_args": args, "muster_stall_patience_s": PATIENCE_S}
    assert play("site.yml", **more).rc == 0
    return runs()


def test_ten_minutes_of_ten_times_what_it_can_run_at_once(play: Play) -> None:
    before = serve(play, **{"max-num-seqs": SEQUENCES})
    until = time.monotonic() + 600
    answers: list[bool] = []

    def client(_index: int) -> None:
        while time.monotonic() < until:
            answers.append(ask(600, max_tokens=256, ignore_eos=True))

    clients = 10 * SEQUENCES * RANKS
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    assert runs() == before
    assert all(answers)
    assert len(answers) > clients, "it did no more than its clients asked at once"


def test_a_prefill_that_takes_longer_than_the_patience(play: Play) -> None:
    before = serve(
        play,
        **{"max-model-len": POSITIONS, "hf-overrides": {"max_position_embeddings": POSITIONS}},
    )
    begin = time.monotonic()
    assert ask(1200, [7] * (POSITIONS - 8))
    took = time.monotonic() - begin
    assert took > 2 * PATIENCE_S, f"a prefill of {took:.0f} s proves nothing"
    assert runs() == before


def test_an_hour_idle(play: Play) -> None:
    before = serve(play)
    time.sleep(3600)
    assert runs() == before
    assert ask(60)
