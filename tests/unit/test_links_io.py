"""Agents on a node beside units that run on: what differs is seen, and written anew."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    links_io,
    unit_files,
    unit_io,
)
from ansible_collections.muster.serving.plugins.modules import unit_state

from tests.unit.test_unit_files import LINK

SERVICE = "muster-a2-cluster-r0-link.service"
CONFIG = unit_files.link_config_path(LINK["name"])
PLANNED = {**LINK, "systemd_unit": SERVICE}
RUNNING = [SERVICE, *LINK["units"]]


class Node:
    """A node's files, and what systemctl was told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files, self.told = NodeFiles(str(root)), []
        monkeypatch.setattr(unit_state, "NodeFiles", lambda: self.files)
        monkeypatch.setattr(unit_state, "refuse_reload", lambda *_arguments: None)
        monkeypatch.setattr(unit_io, "ask", self.ask)

    def ask(self, argv: list[str], *_timeout: float) -> Output:
        self.told.append(argv[1])
        return Output(0, "", "")

    def relink(self, link: dict[str, Any], check_mode: bool = False) -> dict[str, str]:
        module = SimpleNamespace(check_mode=check_mode)
        return unit_state.relink(unit_state.Host(module), [link])  # type: ignore[arg-type]

    def look(self, link: dict[str, Any], running: list[str] = RUNNING) -> dict[str, Any]:
        (found,) = links_io.look(self.files, [link], running)
        return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    one = Node(tmp_path, monkeypatch)
    one.relink({**PLANNED, "start_id": "s1"})
    assert one.told == ["enable", "restart"]
    one.told.clear()
    return one


def test_what_was_written_is_as_planned(node: Node) -> None:
    assert node.look(PLANNED) == {"name": LINK["name"], "start_id": "s1", "differences": []}


def test_another_patience_is_written_without_a_reload(node: Node) -> None:
    patient = {**PLANNED, "stall": {**LINK["stall"], "patience_s": 300}}
    found = node.look(patient)
    assert found["differences"] == ["has other settings"]
    said = node.relink({**patient, "start_id": found["start_id"]}, check_mode=True)
    assert (node.look(patient), node.told) == (found, [])
    assert node.relink({**patient, "start_id": found["start_id"]}) == said
    assert (node.look(patient)["differences"], node.told) == ([], ["restart"])
    before, after = (json.loads(said[key].partition("\n")[2]) for key in ("before", "after"))
    assert before.pop("stall")["patience_s"] == 120
    assert after.pop("stall")["patience_s"] == 300
    assert before == after


@pytest.mark.parametrize("path", links_io.PROGRAMS)
def test_a_program_of_another_release_is_renewed(node: Node, path: str) -> None:
    node.files.write(path, "an older one", 0o644)
    assert node.look(PLANNED)["differences"] == ["is of another release of Muster"]
    node.relink({**PLANNED, "start_id": "s1"})
    assert node.look(PLANNED)["differences"] == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"start_id": 1'])
def test_a_file_that_is_cut_off_is_written_anew(node: Node, text: str) -> None:
    node.files.write(CONFIG, text, 0o644)
    assert node.look(PLANNED)["differences"] == ["has other settings"]
    assert node.look(PLANNED)["start_id"] == ""


def test_an_agent_is_missed_beside_units_that_run_alone(node: Node) -> None:
    assert node.look(PLANNED, [*LINK["units"]])["differences"] == ["does not run"]
    assert node.look(PLANNED, [])["differences"] == []
    node.files.remove(CONFIG)
    assert node.look(PLANNED, [])["differences"] == ["is not installed"]
