"""How flags and environment are written, and what engine versions make of them."""

import argparse
import json
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import rendering
from hypothesis import given
from hypothesis import strategies as st

RULES = [
    {"versions": ">=0.24", "drop": "args.config.pass.fuse", "reason": "gone"},
    {
        "versions": ">=0.27.1rc1",
        "rename": "env.BALANCE",
        "to": "args.more.scheduler.balance",
        "value": True,
        "reason": "moved",
    },
    {"versions": "==0.12.0", "refuse": "args.pcp", "reason": "not there yet"},
    {"versions": ">=0.22,<=0.24", "refuse": "args.pcp", "with_data_parallel": True, "reason": "no"},
]


@pytest.mark.parametrize(
    ("value", "argv"),
    [
        (True, ["--a"]),
        (False, ["--no-a"]),
        (7, ["--a", "7"]),
        (0.92, ["--a", "0.92"]),
        ("x y", ["--a", "x y"]),
        ("", ["--a", ""]),
        ("-1", ["--a=-1"]),
        (-1, ["--a=-1"]),
        ([1, "b"], ["--a", "1", "b"]),
        ({"b": [True, None, "ä"]}, ["--a", '{"b":[true,null,"\\u00e4"]}']),
    ],
)
def test_a_flag_by_its_value(value: Any, argv: list[str]) -> None:
    assert rendering.render_flags({"a": value}) == argv


@given(
    text=st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), max_size=20),
    config=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_a_parser_reads_back_what_was_meant(text: str, config: dict[str, Any]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text")
    parser.add_argument("--config", type=json.loads)
    parser.add_argument("--on", action=argparse.BooleanOptionalAction)
    argv = rendering.render_flags({"text": text, "config": config, "on": False})
    read = parser.parse_args(argv)
    assert (read.text, read.config, read.on) == (text, config, False)


@pytest.mark.parametrize(
    ("flag", "value", "right"),
    [
        ("int", 1, True),
        ("int", True, False),
        ("int", "1", False),
        ("float", 1, True),
        ("float", float("nan"), False),
        ("bool", "true", False),
        ("str", 5, False),
        ("str", "a\nb", False),
        ("list", "a", False),
        ("list", ["a", 1], True),
        ("list", [["a"]], False),
        ("map", '{"a": 1}', False),
        ("map", {"a": float("inf")}, False),
        ("map", {"a": {"b": [1]}}, True),
        ("int", None, True),
        ("unlisted", {"a": 1}, True),
        ("unlisted", object(), False),
    ],
)
def test_a_flag_has_its_type(flag: str, value: Any, right: bool) -> None:
    types = {name: name for name in ("int", "float", "bool", "str", "list", "map")}
    assert (rendering.check_flags({flag: value}, types, {}, "here") == []) is right


def test_a_flag_with_dashes_in_front_is_refused() -> None:
    (message,) = rendering.check_flags({"--seed": 1}, {}, {}, "here")
    assert "without its dashes" in message


def test_what_a_version_no_longer_takes_is_dropped_or_moved() -> None:
    config = {"args": {"config": {"pass": {"fuse": True}}, "b": 1}, "env": {"BALANCE": "1"}}
    old, changes = rendering.apply_rules(config, RULES, "0.23.0", 1)
    assert old == config
    assert changes == []
    new, changes = rendering.apply_rules(config, RULES, "0.28.0", 1)
    assert new == {"args": {"b": 1, "more": {"scheduler": {"balance": True}}}, "env": {}}
    assert changes == [
        {"what": "--config.pass.fuse", "action": "dropped", "reason": "gone"},
        {
            "what": "BALANCE",
            "action": "renamed to --more.scheduler.balance",
            "reason": "moved",
        },
    ]


@pytest.mark.parametrize(
    ("version", "ranks", "refused"),
    [("0.12.0", 1, True), ("0.18.0", 2, False), ("0.23.0", 1, False), ("0.23.0", 2, True)],
)
def test_what_a_version_refuses(version: str, ranks: int, refused: bool) -> None:
    config = {"args": {"pcp": 2}, "env": {}}
    assert bool(rendering.refusals(config, RULES, version, ranks)) is refused
