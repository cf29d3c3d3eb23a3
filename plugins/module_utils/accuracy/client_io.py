# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads data sets, and runs lm-evaluation-harness in an environment of its own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import urllib.parse
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.accuracy.harness import (
    HarnessError,
    config_of,
    summary_of,
    task_of,
)
from ansible_collections.muster.serving.plugins.module_utils.accuracy.sets import (
    ENDINGS,
    SETS,
    DataError,
    chosen,
    questions_of,
    wanted_files,
)
from ansible_collections.muster.serving.plugins.module_utils.common import python_env_io
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.python_env_io import Kind
from ansible_collections.muster.serving.plugins.module_utils.endpoint.reach_io import (
    why_unreachable,
)
from ansible_collections.muster.serving.plugins.module_utils.engine import bench_io
from ansible_collections.muster.serving.plugins.module_utils.engine.bench_io import Place

_FETCH_S = 900
_LINES = 12
HARNESS = Kind("lm-evaluation-harness", "accuracy", "accuracy", 1)
# Reads what only the harness's environment can: Parquet, and the hub.
_FETCH = """
import sys, datasets
name, configuration, split, path, out = sys.argv[1:]
if path:
    rows = datasets.load_dataset("parquet", data_files=path, split="train")
else:
    rows = datasets.load_dataset(name, configuration or None, split=split)
rows.to_json(out)
"""


class AccuracyError(Exception):
    """A run of the harness is not possible; the text says why and what to do."""


class Home(NamedTuple):
    """Where one cluster's runs lie on this host.

    Fields:
        folder: The folder of all of it.
    """

    folder: str

    @property
    def place(self) -> Place:
        """Return where the process runs, whose end removes that folder."""
        return Place(f"{self.folder}/run", None, None)

    @property
    def work(self) -> str:
        """Return where its questions, settings and results lie."""
        return f"{self.folder}/work"


def home_of(deployment: str) -> Home:
    return Home(os.path.join(python_env_io.cache_dir(HARNESS), "runs", deployment))


def key_of(path: str | None) -> str | None:
    """Return the API's key from a file of this host.

    Raises:
        AccuracyError: It cannot be read.
    """
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise AccuracyError(
            f"the API's key cannot be read from {path} on the harness's host ({error.strerror}): "
            "put it there, mode 0600, or set accuracy_api_key_file to a file of that host"
        ) from error


def look_for(folder: str | None, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by data set what a folder has of it.

    Returns:
        files: By split its file.
        rows: How many questions there are; None where only the harness's environment can tell.
        problems: What is missing or wrong, a line each.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        files, problems, rows = {}, [], None
        for split, wanted in zip(SETS[name].splits, wanted_files(name)):
            path = _file_of(folder, name, split) if folder else None
            if path is None:
                problems.append(f"there is no {os.path.join(folder or '', wanted)}")
                continue
            files[split] = path
            if path.endswith(".parquet"):
                continue
            try:
                number = len(questions_of(name, _rows(path)))
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {error}")
                continue
            rows = number if split == "test" else rows
        found[name] = {"files": files, "rows": rows, "problems": problems}
    return found


def _file_of(folder: str, name: str, split: str) -> str | None:
    paths = [os.path.join(folder, name, f"{split}.{ending}") for ending in ENDINGS]
    return next((path for path in paths if os.path.isfile(path)), None)


def _rows(path: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON lines or CSV file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file.
    """
    with open(path, encoding="utf-8-sig", newline="") as stream:
        if path.endswith(".csv"):
            return list(csv.DictReader(stream))
        rows = []
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                raise DataError(f"line {number} is no JSON") from None
            if not isinstance(row, dict):
                raise DataError(f"line {number} is no JSON object")
            rows.append(row)
        return rows


def prepare(lock: str, python: str | None, wheels: str | None) -> tuple[str, bool]:
    """Return the harness's environment, made where there is none of this lock; and whether it was.

    Args:
        lock: What is installed, pins as pip reads them.
        python: The interpreter; None for the one that runs this.
        wheels: A folder with all wheels, for a host without a package index.

    Raises:
        PythonEnvError: It cannot be made.
    """
    return python_env_io.make(HARNESS, lock, python, wheels)


def start(
    home: Home, venv: str, name: str, files: Mapping[str, str], asked: Mapping[str, Any]
) -> int:
    """Start the harness on one data set, which then runs by itself; return how many it asks.

    Args:
        home: Where runs of this cluster lie.
        venv: The harness's environment.
        name: The data set.
        files: By split its file; empty for the hub.
        asked: samples (None for all), seed, sampling, url, model, concurrency, request_timeout,
            key, timeout.

    Raises:
        AccuracyError: It cannot be started.
        BenchError: Another run is under way.
    """
    harness = os.path.join(venv, "bin", "lm_eval")
    if not os.path.exists(harness):
        raise AccuracyError(f"there is no lm_eval in {venv}: correct accuracy_venv")
    pid = bench_io.running(home.place)
    if pid:
        raise AccuracyError(
            f"another accuracy run of this cluster is under way on this host (process {pid}): "
            f"wait for its end, or end it: kill -- -{pid}"
        )
    unreachable = why_unreachable(asked["url"], asked["key"], HARNESS.role)
    if unreachable:
        raise AccuracyError(unreachable)
    shutil.rmtree(home.work, ignore_errors=True)
    os.makedirs(f"{home.work}/tasks")
    by_split = {
        split: _questions(home, venv, name, split, files.get(split)) for split in SETS[name].splits
    }
    places = chosen(len(by_split["test"]), asked["samples"], asked["seed"])
    by_split["test"] = [by_split["test"][place] for place in places]
    examples = by_split.get("train", [])
    if len(examples) < SETS[name].shots:
        raise AccuracyError(
            f"{name}: its train part has {len(examples)} rows, and {SETS[name].shots} examples go "
            "before each question"
        )
    _write(home, name, by_split, asked)
    # Whatever key of another service this host's environment has is not this endpoint's to see.
    argv = _argv(home, harness, asked["url"])
    bench_io.start(home.place, argv, asked["key"] or "none", asked["timeout"])
    return len(places)


def _write(
    home: Home, name: str, by_split: Mapping[str, Sequence[Any]], asked: Mapping[str, Any]
) -> None:
    """Write the files that the harness reads."""
    files = {split: f"{home.work}/{split}.jsonl" for split in by_split}
    for split, questions in by_split.items():
        text = "".join(f"{json.dumps(one)}\n" for one in questions)
        Path(files[split]).write_text(text, encoding="utf-8")
    task = task_of(name, files, asked["sampling"])
    settings = config_of(name, home.work, asked)
    # YAML takes JSON.
    for path, value in (("tasks/task.yaml", task), ("config.yaml", settings)):
        Path(home.work, path).write_text(json.dumps(value, indent=2), encoding="utf-8")


def _argv(home: Home, harness: str, url: str) -> list[str]:
    host = urllib.parse.urlsplit(url).hostname or ""
    environment = {
        # All that it reads is here by now.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": f"{home.work}/cache",
        "PYTHONUNBUFFERED": "1",
        # Questions go straight to the endpoint, whatever proxy the host has.
        "NO_PROXY": host,
        "no_proxy": host,
    }
    settings = [f"{key}={value}" for key, value in environment.items()]
    return ["/usr/bin/env", *settings, harness, "run", "--config", f"{home.work}/config.yaml"]


def _questions(
    home: Home, venv: str, name: str, split: str, path: str | None
) -> list[dict[str, str]]:
    """Return what a split of a data set asks, from its file or from the hub.

    Raises:
        AccuracyError: It cannot be had, or is not what the data set has.
    """
    origin = path or f"{SETS[name].hub[0]} of the hub"
    try:
        if path is None or path.endswith(".parquet"):
            out = f"{home.work}/{split}.raw.jsonl"
            _fetch(venv, name, split, path, out)
            return questions_of(name, _rows(out))
        return questions_of(name, _rows(path))
    except (OSError, ValueError) as error:
        raise AccuracyError(f"{name}: {origin}: {error}") from None


def _fetch(venv: str, name: str, split: str, path: str | None, out: str) -> None:
    one = SETS[name]
    argv = [os.path.join(venv, "bin", "python"), "-c", _FETCH]
    argv += [*one.hub, one.splits[split], path or "", out]
    try:
        output = run(argv, _FETCH_S)
        said = "" if output.rc == 0 else "\n".join(output.text.splitlines()[-_LINES:])
    except CommandError:
        said = f"no end within {_FETCH_S} s"
    if not said:
        return
    if path:
        raise DataError(f"it cannot be read: {said}")
    wanted = "\n".join(wanted_files(name))
    raise AccuracyError(
        f"{name}: the hub does not give {one.hub[0]} (HF_ENDPOINT, HF_HOME and a token for what is "
        f"on request are taken from accuracy_environment): {said}\nOr put into the folder of "
        f"accuracy_data:\n{wanted}"
    )


def look(home: Home, name: str, wait: float, keep: str | None) -> dict[str, Any]:
    """Return how a run does, and once it has ended what it came to.

    Args:
        home: Where runs of this cluster lie.
        name: The data set.
        wait: Seconds to wait for its end at most.
        keep: The folder for the harness's own files: what it asked, was answered and made of it.

    Returns:
        running, printed, rc, timed_out, log: As of the bench's client.
        result: As `summary_of` returns it; None without one.
        problem: Why there is none.
        kept: Where the harness's own files lie.
    """
    seen = bench_io.look(home.place, wait)
    if seen["running"]:
        return seen
    seen.pop("raw", None)
    seen.update(result=None, problem=None, kept=None)
    written = sorted(Path(home.work, "out").glob("*/*"))
    results = next((path for path in written if path.name.startswith("results_")), None)
    answers = next((path for path in written if path.name.startswith("samples_")), None)
    if keep:
        seen["kept"] = _keep(home, name, keep, written)
    if results is None or answers is None or seen["rc"] != 0:
        seen["problem"] = "its time was up" if seen["timed_out"] else "it left no result"
        return seen
    try:
        with answers.open(encoding="utf-8") as lines:
            told = json.loads(results.read_text(encoding="utf-8"))
            seen["result"] = summary_of(name, told, lines)
    except (HarnessError, ValueError, LookupError, TypeError) as error:
        seen["problem"] = f"its result cannot be read: {error}"
    return seen


def _keep(home: Home, name: str, folder: str, written: Sequence[Path]) -> str:
    """Put the harness's files where they outlive the run; return where."""
    target = os.path.join(os.path.abspath(folder), name)
    os.makedirs(target, exist_ok=True)
    for path in written:
        # The harness puts the time into their names, which the folder has already.
        kind = "results.json" if path.name.startswith("results_") else "answers.jsonl"
        shutil.copyfile(path, os.path.join(target, kind))
    for path in (Path(home.work, "tasks/task.yaml"), Path(home.work, "config.yaml")):
        if path.exists():
            shutil.copyfile(path, os.path.join(target, path.name))
    return target


def end(home: Home) -> None:
    """End a run and remove what it left, but for what was kept."""
    bench_io.end(home.place)
    shutil.rmtree(home.folder, ignore_errors=True)
