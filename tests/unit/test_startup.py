"""What an engine that starts does, by real lines of its log."""

from __future__ import annotations

import pytest
from ansible_collections.muster.serving.plugins.module_utils.units import startup
from hypothesis import given
from hypothesis import strategies as st

SHARDS = "Loading safetensors checkpoint shards:  67% Completed | 6/9 [00:16<00:08,  2.94s/it]"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (SHARDS, "loads weights, 6 of 9 shards"),
        (f"(Worker_TP0 pid=34322) {SHARDS}", "loads weights, 6 of 9 shards"),
        (
            "Multi-thread loading shards:  50% Completed | 4/8 [00:00<00:00,  4.87it/s]",
            "loads weights, 4 of 8 shards",
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  25%|██▌       | 13/51"
            " [00:00<00:00, 121.02it/s]\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):"
            "  51%|█████     | 26/51 [00:00<00:00, 124.54it/s]",
            "captures graphs, 26 of 51",
        ),
        (
            "Capturing batches (bs=72 avail_mem=16.60 GB):  67%|######6   | 24/36 [00:39<00:09]",
            "captures graphs, 24 of 36",
        ),
        ("[2025-12-04 20:58:41] Init torch distributed begin.", "meets the other ranks"),
        ("[2025-01-27 03:54:36 TP0] Load weight begin. avail mem=46.74 GB", "loads weights"),
        (
            "INFO 04-11 10:40:25 backends.py:585] Dynamo bytecode transform time: 12.88 s",
            "compiles",
        ),
        (
            "(Worker_TP0 pid=150) INFO 09-02 13:12:13 [backends.py:393] Compiling a graph for"
            " compile range (1, 8192) takes 5.98 s",
            "compiles",
        ),
        (
            "(Worker_TP0 pid=34322) INFO 05-06 20:59:57 [default_loader.py:384] Loading weights"
            " took 24.84 seconds",
            "has loaded its weights",
        ),
        (
            "(APIServer pid=1) DEBUG 08-09 20:55:10 [v1/engine/utils.py:1262] Waiting for 1 local,"
            " 8 remote core engine proc(s) to start.",
            "waits for 1 engine processes here and 8 on other nodes",
        ),
        (
            "INFO 04-27 22:51:23 [core.py:648] Waiting for init message from front-end.",
            "waits for its API server",
        ),
        (
            "[W1127 10:00:00.1 socket.cpp:752] [c10d] The client socket has failed to connect to"
            " [10.0.0.1]:29500 (errno: 111 - Connection refused).",
            "waits for 10.0.0.1:29500",
        ),
        (
            "[W1127 10:00:00.1 socket.cpp:752] [c10d] The client socket cannot be initialized to"
            " connect to [localhost]:29500 (errno: 97 - Address family not supported by protocol).",
            "",
        ),
        ("INFO:     Waiting for application startup.", ""),
        (
            "(Worker_TP3_EP3) [aiter] waiting for baton release at /tmp/aiter/tuned_fmoe.csv.lock",
            "waits until another process has compiled /tmp/aiter/tuned_fmoe.csv.lock",
        ),
        ("INFO 11-27 [jit_monitor.py:103] Triton kernel JIT compilation during inference: x", ""),
    ],
)
def test_a_line_says_what_the_engine_does(line: str, said: str) -> None:
    assert startup.doing([line]) == said


def test_the_newest_line_that_tells_counts() -> None:
    newer = SHARDS.replace("6/9", "7/9")
    assert startup.doing([SHARDS, newer, "INFO something else"]) == "loads weights, 7 of 9 shards"


def test_an_earlier_run_is_not_what_it_does_now() -> None:
    for mark in (
        "Started muster-a2-r0-rank0.service - Muster: head a2-r0-rank0.",
        "Starting Muster: head a2-r0-rank0...",
    ):
        assert startup.doing([SHARDS, mark, "INFO vLLM API server version 0.32.0"]) == ""


@given(st.lists(st.text(), max_size=5))
def test_no_line_is_an_error(lines: list[str]) -> None:
    assert isinstance(startup.doing(lines), str)
