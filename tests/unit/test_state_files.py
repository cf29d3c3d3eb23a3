"""What Muster wrote on a node and reads back: broken in any way, it is told or made anew."""

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.engine import image, venv
from ansible_collections.muster.serving.plugins.module_utils.host import docker, tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall, firewall_io
from ansible_collections.muster.serving.plugins.module_utils.node import takeover
from ansible_collections.muster.serving.plugins.module_utils.units import (
    parser,
    run_lock,
    unit_files,
    unit_io,
    usage,
    verified,
)
from ansible_collections.muster.serving.plugins.module_utils.weights import hashes
from hypothesis import given
from hypothesis import strategies as st

NOW = run_lock.Now(10.0, "2026-01-01 00:00:00Z")
LOCK = {**dict.fromkeys(run_lock._TEXTS, "x"), **dict.fromkeys(run_lock._NUMBERS, 1)}
PLAN: dict[str, Any] = {"units": []}
LISTS = {kind: ["a.lan"] for kind in docker.KINDS}


class Node:
    """A node of one file, as decisions see it."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def read(self, path: str) -> str | None:
        return self.text if path == self.path else None

    def exists(self, path: str) -> bool:
        return path == self.path

    def glob(self, pattern: str) -> list[str]:
        return []

    def is_link(self, path: str, target: str) -> bool:
        return False


def of_lock(text: str) -> None:
    record = run_lock.read_record(text)
    run_lock.take("a", record, {**LOCK, "id": "other"}, NOW)
    run_lock.run_check("a", record, NOW, False, False)
    if record:
        run_lock.described(record)
        run_lock.is_held(record, NOW)


def of_takeover(text: str) -> None:
    entries = takeover.read_record(text)
    takeover.begun(entries, [], "now")
    takeover.to_stop(takeover.finished(entries, "now"))


def of_verified(text: str) -> None:
    record = verified.read_record(text)
    verified.same_plan(verified.before(record), {"digest": "x", "engines": {}})


def of_docker(text: str) -> None:
    node = Node(docker.STATE_PATH, text)
    daemon = docker.Daemon(active=True, enabled=True)
    docker.decide(node, docker.Wanted(["b.lan"]), daemon, "other")
    docker.leave(node, daemon, "a")


def of_tuning(text: str) -> None:
    node = Node(tuning.STATE_PATH, text)
    tuning.decide(node, tuning.Wanted("performance", {"vm.swappiness": "0"}), "other")


def of_stalls(text: str) -> None:
    unit_files.stall_text(text, "u", {"ActiveState": "active", "InvocationID": "i"})


TUNING = {
    "original": {"/proc/sys/vm/swappiness": "60"},
    "reserved_ports": "60000-60010",
    "wants": {"a": {"cpu_governor": "performance", "sysctl": {"vm.swappiness": "0"}}},
}
TAKEN = {"kind": "container", "key": "k", "name": "n", "state": "stopping"}
FIREWALL = {
    "wants": {"a": {}},
    "backend": "nft",
    "ssh": [22],
    "listing": "",
    "rich": {"public": ["rule"]},
}
STAMP = {"size": 1, "mtime_ns": 1, "inode": 1, "sha256": "a" * 64}
KEPT: dict[str, Any] = {"schema": verified.SCHEMA, "plan": PLAN, "engines": {"u": "id"}}
KEPT["digest"] = verified.digest(PLAN)

# What reads a file, a right one, and the error by which it may be told.
FILES: dict[str, tuple[Callable[[str], Any], Any, type[Exception] | None]] = {
    "run lock": (of_lock, LOCK, None),
    "takeover": (
        of_takeover,
        {"schema": takeover.SCHEMA, "entries": [{**TAKEN, "devices": [0], "ports": [80]}]},
        takeover.TakeoverError,
    ),
    "verified": (of_verified, {**KEPT, "before": {**KEPT}}, None),
    "docker": (of_docker, {**LISTS, "deployments": {"a": LISTS}}, docker.DockerError),
    "tuning": (of_tuning, TUNING, tuning.TuningError),
    "firewall": (firewall.load_kept, FIREWALL, firewall.FirewallError),
    "image": (image.read_notes, {"preloads": ["l"], "cann": "8.2", "brought": ["i"]}, None),
    "environment": (venv.parse_marker, {"request": "r", "packages": ["vllm==1"]}, None),
    "agent": (unit_files.start_id, {"start_id": "s"}, None),
    "stalls": (of_stalls, {"stalled": {"u": {"invocation": "i", "why": "w"}}}, None),
    "restarts": (
        lambda text: usage.link_report("l", text, "active"),
        {"generation": 1, "events": [{"at": "t", "did": "d", "why": "w"}]},
        None,
    ),
    "parser": (
        lambda text: parser.read_answer(text, 1),
        {"version": "1", "error": None, "verdicts": [{"status": "accepted", "text": ""}]},
        None,
    ),
    "hashes": (
        lambda text: hashes.read_cache(text, "/m"),
        {"schema": hashes.SCHEMA, "path": "/m", "files": {"a": STAMP}},
        None,
    ),
}
TEXTS = ["", "null", "[]", "{}", "0", '"x"', "{", "\ufeff{}", "[" * 9999, "NaN", '{"a":1}{', "\0"]
ODD = [None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, "", "x", [], [[]], {}, {"a": 1}]


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a document."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [above, *(path for key, one in inner for path in places(one, (*above, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    result = copy.deepcopy(document)
    at = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return result


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_none_is_told_or_made_anew(name: str, text: str) -> None:
    read, _right, error = FILES[name]
    with contextlib.suppress(*([error] if error else [])):
        read(text)


@pytest.mark.parametrize("name", FILES)
def test_what_muster_wrote_is_read(name: str) -> None:
    read, right, _error = FILES[name]
    read(json.dumps(right))


@pytest.mark.parametrize("name", FILES)
@given(st.data())
def test_a_value_of_another_type_is_told_or_made_anew(name: str, data: Any) -> None:
    read, right, error = FILES[name]
    path = data.draw(st.sampled_from(places(right)))
    text = json.dumps(replaced(right, path, data.draw(st.sampled_from(ODD))))
    with contextlib.suppress(*([error] if error else [])):
        read(text)


def test_the_letters_of_a_text_are_no_registries() -> None:
    state = json.dumps({docker.INSECURE: "abc", "deployments": {}})
    with pytest.raises(docker.DockerError, match="no list of texts"):
        docker.load_state(state)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"effective": []}', "[" * 9999])
def test_a_unit_whose_state_describes_nothing_is_installed_anew(
    text: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = NodeFiles(str(tmp_path))
    files.write(unit_files.state_path("a-r0-rank0"), text)
    monkeypatch.setattr(unit_io, "NodeFiles", lambda: files)
    assert unit_io.installed("a-r0-rank0") == {"effective": {}}
    assert unit_io.installed("a-r0-rank1") is None
    assert unit_io.deployments() == {"a-r0-rank0": "a"}


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"undo": 1, "unit": "", "session": ""}'])
def test_a_firewall_on_trial_whose_mark_is_broken_goes_back_by_itself(
    text: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = NodeFiles(str(tmp_path))
    files.write(firewall.TRIAL_PATH, text)
    asked: list[Any] = []
    monkeypatch.setattr(firewall_io, "run", lambda argv, *_more: asked.append(argv))
    with pytest.raises(firewall.FirewallError, match="takes itself back"):
        firewall_io.take_back(files)
    with pytest.raises(firewall.FirewallError, match="takes itself back"):
        firewall_io.confirm(files, {})
    # Above all, nobody has stopped the timer that does it.
    assert asked == []


@pytest.mark.parametrize("text", ["NaN", "[1e999]", '{"a": -Infinity}', "[" * 9999, "", "{"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_text.parse(text)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_what_was_written_is_read_as_it_was(value: Any) -> None:
    assert json_text.parse(json.dumps(value)) == value
