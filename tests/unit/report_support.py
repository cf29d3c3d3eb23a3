"""A folder of reports as runs leave it, of a cluster whose plan is a real one."""

import json
from pathlib import Path
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import report_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import Wish, runs_of
from ansible_collections.muster.serving.plugins.plugin_utils.report import files_io, model, page

from tests.unit.plan_support import pair, plan
from tests.unit.test_shipped_recipes import served

NOW = "2026-11-30T13:40:00+00:00"
A2 = plan(pair())
B200 = plan(served("minimax-m2.5/vllm-b200", "tp4"))
LOADS = ("2k-512-c8", "2k-512-c16", "2k-512-c32", "2k-512-c64")


def check(host: str, name: str, status: str = "ok", **more: str) -> dict[str, str]:
    return {
        "host": host,
        "id": name,
        "phase": "bare",
        "status": status,
        "subject": "devices 0-7",
        "observed": "1 of 8",
        "expected": "8 of 8",
        "remedy": "" if status == "ok" else "replace the device",
        **more,
    }


def verdict(stage: str, checks: list[dict[str, str]], hosts: list[str]) -> dict[str, Any]:
    counts = dict.fromkeys(("ok", "failed", "warning", "waived", "pending", "unknown"), 0)
    for one in checks:
        counts[one["status"]] += 1
    return {
        "schema": 1,
        "stage": stage,
        "time": "2026-11-30T12:00:00+00:00",
        "passed": not counts["failed"],
        "counts": counts,
        "failed_hosts": [],
        "expired_waivers": [],
        "checks": checks,
        "facts": {host: {"mtu": 9000 - number} for number, host in enumerate(hosts)},
        "results": {},
    }


def device(number: int, health: str = "OK", used: int | None = 3171) -> dict[str, Any]:
    return {
        "device_id": number,
        "name": "910B3",
        "health": health,
        "bus_id": "0000:C1:00.0",
        "power_w": 98.5 + number,
        "temperature_c": 41,
        "utilisation_percent": None,
        "memory_used_mb": used,
        "memory_total_mb": 65536,
        "processes": [],
    }


def unit(one: Any, **changes: Any) -> dict[str, Any]:
    return {
        "host": one["host"],
        "name": one["name"],
        "installed": True,
        "differences": [],
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "restarts": 1,
        "stalled": "",
        "ready": None if one["role"] == "follower" else True,
        **changes,
    }


def run(hour: int, playbook: str = "site.yml", passed: bool = True) -> dict[str, Any]:
    names = ("Plan", "Preflight", "Prepare", "Serve", "Verify")
    return {
        "schema": 1,
        "time": f"2026-11-30T{hour:02}:00:00+00:00",
        "playbook": playbook,
        "failed_hosts": [] if passed else ["c-1"],
        "stages": [
            {"name": name, "seconds": 1.5 * place**3, "nodes": 2, "changed": 0, "failed": 0}
            for place, name in enumerate(names, 1)
        ],
        "verdicts": {"preflight": {"passed": passed, "counts": {"ok": 12}}},
    }


def bench(made: Any, hour: int, factor: float = 1, names: tuple[str, ...] = LOADS) -> Any:
    """What bench writes of loads that are slower than published by a factor."""
    hosts = [host for replica in made["replicas"] for host in replica["hosts"]]
    told = runs_of(made, Wish(hosts, scenarios=list(names), warm_up=False))
    results = {one["name"]: one for one in told["scenarios"]}
    done = [
        {
            "rc": 0,
            "timed_out": False,
            "log": [],
            "seconds": 4.0,
            "raw": {
                "completed": one["prompts"],
                "failed": 0,
                "duration": 1.0,
                "total_output_tokens": one["prompts"] * one["output"],
                "output_throughput": one["results"]["output_tok_per_s"] / factor,
                "mean_ttft_ms": one["results"]["ttft_ms"] * factor,
                "mean_tpot_ms": one["results"]["tpot_ms"] * factor,
                "p99_ttft_ms": 1234.5678 * factor,
            },
        }
        for one in (results[run["scenario"]] for run in told["runs"])
    ]
    names_of_devices = {"names": ["NVIDIA B200"], "driver": "580.65.06"}
    time = f"2026-11-30T{hour:02}:00:00+00:00"
    return report_of(made, told, {"runs": done}, names_of_devices, 3, None, time)


def trials(made: Any) -> dict[str, Any]:
    """What a sweep, a soak that finds something, and accuracy write, by their files' names."""
    measured = bench(made, 12, names=LOADS[:1])
    about = {
        key: measured[key]
        for key in ("time", "plan", "setting", "driver", "prefix_caching", "client")
    }
    load = {**measured["scenarios"][0]["load"], "concurrency": 8}
    steps = [
        {
            "concurrency": at,
            "requests": 4 * at,
            "metrics": {
                "output_tok_per_s": 3000.5 * at / (at + 20),
                "request_per_s": 6.25 * at / (at + 20),
                "good_request_per_s": 6.25 * at / (at + 20) / (1 + at / 64),
                "p99_ttft_ms": 90.5 + at**1.5,
                "p99_tpot_ms": 11.25 + at / 9,
            },
            "broken": ["p99_ttft_ms 602.5, bound 500"] if at > 32 else [],
            "engine": {"running_mean": at - 0.5, "waiting_mean": 0.25, "kv_usage_max": at / 100},
        }
        for at in (1, 2, 4, 8, 16, 32, 64)
    ]
    begin = 1796040000.0
    windows = [
        {
            "begin": begin + 60 * number,
            "end": begin + 60 * number + 59,
            "requests": 480,
            "failed": 7 if number == 14 else 0,
            "metrics": {
                "output_tok_per_s": 2300.5 - 3 * number,
                "median_ttft_ms": 81.5 + number,
                "p99_ttft_ms": 160.5 + 2 * number,
                "median_tpot_ms": 14.125,
            },
        }
        for number in range(15)
    ]
    nodes = {
        host: [
            {
                "at": begin + 30 * number,
                "units": {f"{host}-unit": {"memory_mb": 40000 + 20 * number}},
                "devices": {"0": 60000.0, "1": 60010.0, "2": None},
            }
            for number in range(30)
        ]
        for host in dict.fromkeys(one["host"] for one in made["units"])
    }
    found = {
        "kind": "stalled",
        "at": begin + 870.0,
        "subject": "http://10.0.0.1:8000/v1",
        "what": "rank 0: 8 requests run or wait, no token for 121 s",
    }
    score = {
        "name": "gsm8k",
        "title": "GSM8K, grade-school mathematics",
        "form": "chat, 5 shots",
        "status": "below",
        "questions": 200,
        "total": 1319,
        "right": 171,
        "score_percent": 85.5,
        "strict_percent": 84.25,
        "interval_percent": [79.86, 90.07],
        "references": [
            {"percent": 95.75, "source": "upstream", "differences": [], "status": "below"},
            {"percent": 92.5, "source": "a guide", "differences": ["0 shots"], "status": None},
        ],
        "notes": ["3 of 200 answers have no end of their thinking"],
    }
    silent = {key: score[key] for key in ("title", "form", "total")}
    return {
        "sweep-20261130T120000Z": {
            **about,
            "scenario": load,
            "bounds": {"p99_ttft_ms": 500.0},
            "ended": "bound broken",
            "knee": {"concurrency": 32, "output_tok_per_s": 1846.46, "good_request_per_s": 2.56},
            "largest_within_bounds": {"concurrency": 32, "output_tok_per_s": 1846.46},
            "binds": {
                "concurrency": 64,
                "limit": "max-num-seqs",
                "certainty": "sure",
                "evidence": "32 requests run and 31 wait while the KV cache is at 41 %",
                "change": "raise max-num-seqs in muster_engine_args",
            },
            "steps": steps,
        },
        "soak-20261130T120000Z": {
            **about,
            "scenario": load,
            "passed": False,
            "seconds": 900.5,
            "soak": {"duration": 1800, "window": 60, "stall": 120},
            "requests": 7200,
            "failed": 7,
            "findings": [found],
            "notes": ["c-9 was not watched: it did not answer"],
            "windows": windows,
            "nodes": nodes,
        },
        "accuracy-20261130T120000Z": {
            "time": about["time"],
            "passed": False,
            "harness": "lm-evaluation-harness",
            "plan": about["plan"],
            "sets": [
                score,
                {
                    **silent,
                    "name": "mmlu",
                    "status": "no figure",
                    "questions": 0,
                    "references": [],
                    "notes": ["it was not run"],
                },
            ],
        },
    }


def fill(
    folder: Path, made: Any, measured: tuple[Any, ...] = (), more: dict[str, Any] | None = None
) -> Path:
    """Write what runs of a cluster leave; of its devices one is ill, of its units one is down."""
    hosts = list(dict.fromkeys(one["host"] for one in made["units"]))
    links = [["X" if row == column else "HCCS" for column in range(8)] for row in range(8)]
    told = [unit(one) for one in made["units"]]
    if len(told) > 1:
        told[-1] = unit(made["units"][-1], active_state="failed", sub_state="failed", ready=False)
    checks = [check(host, name) for host in hosts for name in ("npu-count", "port-reachable")]
    write(
        folder,
        {
            "preflight": verdict(
                "preflight", [*checks, check(hosts[0], "npu-health", "failed")], hosts
            ),
            "verify": verdict("verify", [check(hosts[0], "endpoint-chat", "warning")], hosts),
            "status": {
                "schema": 1,
                "time": "2026-11-30T13:30:00+00:00",
                "units": told,
                "unreachable": [],
                "problems": ["c-r0-rank1 on c-1 does not run (failed, failed)"],
                "runs": ["site.yml by root, since 2026-11-30 13:00:00Z"],
            },
            "devices": {
                "schema": 1,
                "hosts": {
                    host: {
                        "time": "2026-11-30T13:30:00+00:00",
                        "version": "25.5.0",
                        "devices": [
                            *(device(number, used=8000 * number) for number in range(7)),
                            device(7, "Alarm", None),
                        ],
                        "topology": {"devices": list(range(8)), "links": links},
                        "problems": [],
                    }
                    for host in hosts
                },
            },
            "verified-plan": made,
            **{f"bench-{number}": one for number, one in enumerate(measured)},
            **(more or {}),
        },
    )
    runs = [run(9), run(12), run(13, "restart.yml", passed=False)]
    (folder / "runs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in runs))
    return folder


def write(folder: Path, files: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def html(folder: Path, made: Any, draw: Any = None, now: str = NOW) -> str:
    """The page of a folder."""
    no_plots = "" if draw else "no matplotlib here"
    shown = model.page_of(made, files_io.collect(folder), now, no_plots)
    return page.render(shown, files_io.template(), draw)
