"""The layout of the code holds the rules of docs/architecture.md.

Run as a program it prints the rooms, their arrows and their floors.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

import pytest
from ansible_collections.muster.serving.plugins.module_utils.units import links_io

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
PACKAGE = "ansible_collections.muster.serving.plugins."

# The rooms of nodes and of the controller, from the ground floor up: imports go down alone.
NODE_ROOMS = (
    "common",
    "programs",
    "network",
    "weights",
    "endpoint",
    "devices",
    "host",
    "engine",
    "accuracy",
    "units",
    "node",
)
CONTROLLER_ROOMS = (
    "common",
    "screen",
    "plan",
    "observability",
    "bench",
    "accuracy",
    "verdict",
    "failure",
    "replica",
    "report",
)

# What touches a machine. A module that only computes on paths or addresses does not.
IMPURE = {
    "concurrent",
    "glob",
    "http",
    "os",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "selectors",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "platform",
    "pwd",
    "urllib.request",
}
PURE_FROM = {"os": {"path"}}


class Source:
    """One file of a room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(PLUGINS))
        self.kind, *rooms, _file = path.relative_to(PLUGINS).parts
        self.room = rooms[0] if rooms else ""
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.touches = path.stem.endswith("_io") or self.room == "programs"

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full name of all that is imported, wherever it stands."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        return found

    @cached_property
    def own_imports(self) -> list[tuple[int, str]]:
        """Those of the collection, as module_utils/common/checks.py."""
        found = []
        for line, name in self.imports:
            if name.startswith(PACKAGE):
                parts = name[len(PACKAGE) :].split(".")
                for length in range(len(parts), 0, -1):
                    path = PLUGINS.joinpath(*parts[:length]).with_suffix(".py")
                    if path.exists():
                        found.append((line, str(path.relative_to(PLUGINS))))
                        break
        return found


@cache
def source_of(path: Path) -> Source:
    return Source(path)


def sources(*folders: str) -> list[Source]:
    return [
        source_of(path)
        for folder in folders
        for path in sorted((PLUGINS / folder).rglob("*.py"))
        if path.stat().st_size
    ]


def arrows(kind: str) -> set[tuple[str, str]]:
    """From room to room, who imports whom."""
    return {
        (source.room, Path(target).parts[1])
        for source in sources(kind)
        for _line, target in source.own_imports
        if target.startswith(f"{kind}/") and Path(target).parts[1] != source.room
    }


def floors(rooms: tuple[str, ...], wires: set[tuple[str, str]]) -> dict[str, int]:
    """How high a room lies: one above the highest that it imports."""
    found: dict[str, int] = {}
    for room in rooms:
        found[room] = max((found[below] + 1 for above, below in wires if above == room), default=0)
    return found


@pytest.mark.parametrize(
    ("kind", "rooms"), [("module_utils", NODE_ROOMS), ("plugin_utils", CONTROLLER_ROOMS)]
)
def test_every_file_lies_in_a_room_and_imports_downward(kind: str, rooms: tuple[str, ...]) -> None:
    for source in sources(kind):
        assert source.room in rooms, f"{source.name} lies in no room of {', '.join(rooms)}"
        for line, target in source.own_imports:
            if not target.startswith(f"{kind}/"):
                continue
            below = Path(target).parts[1]
            assert rooms.index(below) <= rooms.index(source.room), (
                f"{source.name}:{line} imports {target}: {below} lies above {source.room}"
            )


def test_no_file_imports_itself_by_others() -> None:
    wires: dict[str, set[str]] = {}
    for source in sources("module_utils", "plugin_utils"):
        wires[source.name] = {target for _line, target in source.own_imports}

    def circle(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        for target in wires.get(name, ()):
            circle(target, (*path, name))

    for name in wires:
        circle(name, ())


def test_code_on_nodes_knows_nothing_of_the_controller() -> None:
    wrong = [
        f"{source.name}:{line} imports {target}"
        for source in sources("module_utils", "modules")
        for line, target in source.own_imports
        if not target.startswith("module_utils/")
    ]
    assert wrong == []


def test_programs_import_only_what_is_put_beside_them() -> None:
    """On a node there is no collection; unit_state writes these into one folder."""
    beside = {Path(path).name for path in links_io.PROGRAMS}
    wrong = [
        f"{source.name}:{line} imports {target}"
        for source in sources("module_utils/programs")
        for line, target in source.own_imports
        if Path(target).name not in beside
    ]
    assert wrong == []


def impurities(source: Source) -> Iterator[str]:
    """What a file does that belongs into an _io file."""
    for line, name in source.imports:
        top = name.partition(".")[0]
        listed = top if top in IMPURE else next((one for one in IMPURE if name.startswith(one)), "")
        allowed = name.partition(".")[2] in PURE_FROM.get(top, ())
        if listed and not allowed:
            yield f"{source.name}:{line} imports {name}"
    for line, target in source.own_imports:
        if target.endswith("_io.py"):
            yield f"{source.name}:{line} imports {target}"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield f"{source.name}:{node.lineno} opens a file"
        elif isinstance(called, ast.Attribute) and called.attr in (
            "read_text",
            "write_text",
            "read_bytes",
            "write_bytes",
            "unlink",
            "now",
            "today",
        ):
            yield f"{source.name}:{node.lineno} calls {called.attr}()"


def test_only_io_files_touch_a_machine() -> None:
    wrong = [
        text
        for source in sources("module_utils", "plugin_utils")
        if not source.touches
        for text in impurities(source)
    ]
    assert wrong == [], "\n".join(["what touches a machine belongs into an _io file:", *wrong])


def test_the_rule_sees_what_touches_a_machine(tmp_path: Path) -> None:
    path = PLUGINS / "module_utils" / "common" / "checks.py"
    source = Source(path)
    source.tree = ast.parse(
        "import os.path\nimport subprocess\nfrom os import environ\nfrom os import path\n"
        f"from {PACKAGE}module_utils.common import command_io\nopen('x')\nfiles.read_text()\n"
    )
    assert [text.partition(" ")[0].rpartition(":")[2] for text in impurities(source)] == [
        "2",
        "3",
        "5",
        "6",
        "7",
    ]


def test_markup_of_documentation_stands_only_where_it_is_rendered() -> None:
    markup = re.compile(r"\b[CIVOM]\([^)]")
    rendered = ("DOCUMENTATION", "EXAMPLES", "RETURN")
    wrong = []
    for source in sources(
        "module_utils", "plugin_utils", "modules", "action", "callback", "filter"
    ):
        skipped = {
            line
            for node in source.tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in rendered
            for line in range(node.lineno, (node.end_lineno or 0) + 1)
        }
        wrong += [
            f"{source.name}:{number}"
            for number, line in enumerate(source.path.read_text("utf-8").splitlines(), 1)
            if number not in skipped and markup.search(line)
        ]
    assert wrong == []


def main() -> None:
    for kind, rooms in (("module_utils", NODE_ROOMS), ("plugin_utils", CONTROLLER_ROOMS)):
        wires = arrows(kind)
        heights = floors(rooms, wires)
        print(
            f"{kind}: {len(rooms)} rooms, {len(wires)} arrows, {max(heights.values()) + 1} floors"
        )
        for room in rooms:
            below = sorted(target for source, target in wires if source == room)
            print(f"  {heights[room]} {room}: {', '.join(below) or '-'}")


if __name__ == "__main__":
    main()
