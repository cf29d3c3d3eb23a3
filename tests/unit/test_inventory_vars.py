"""The variables of an inventory: read, converted, refused and documented."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.plan.variables import (
    VARIABLES,
    Unreadable,
    read_settings,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

RIGHT = {
    "muster_port": [(1, 1), ("8000", 8000)],
    "muster_privileged": [(True, True), ("no", False)],
    "muster_address": [("10.0.0.1", "10.0.0.1"), ("FD00::1", "fd00::1")],
    "muster_recipes_path": [("recipes", ["recipes"]), (["/a", "b"], ["/a", "b"])],
    "muster_reasoning_parser": [(False, False), ("minimax_m2", "minimax_m2")],
    "muster_devices": [([0, "1"], [0, 1])],
    "muster_restart": [("never", "never")],
    "muster_engine_env": [({"A": "1", "B": None}, {"A": "1", "B": None})],
    "muster_host_tuning": [
        ({"reserved_ports": ["1-2"]}, {"reserved_ports": ["1-2"]}),
        ({"sysctl": {"vm.swappiness": "10"}}, {"sysctl": {"vm.swappiness": "10"}}),
        ({"sysctl": {"kernel.sched_rt_runtime_us": -1}},) * 2,
    ],
    "muster_firewall": [
        ({"enabled": False}, {"enabled": False}),
        ({"enabled": "no", "api_sources": None}, {"enabled": False}),
        (
            {"enabled": True, "api_sources": ["10.2.3.4", "10.2.0.0/16"], "also_allowed": [53]},
            {
                "enabled": True,
                "close_others": False,
                "api_sources": ["10.2.0.0/16"],
                "internal_sources": [],
                "also_allowed": ["53"],
            },
        ),
    ],
    "muster_model_path": [("/data//m/", "/data/m"), ("/a b/模", "/a b/模")],
    "muster_device_memory_gb": [(141, 141), ("192", 192.0)],
    "muster_served_model_name": [("a b/%n", "a b/%n")],
    "muster_registry_mirrors": [
        (["https://m.lan:5000", "http://10.0.0.9/"],) * 2,
    ],
    "muster_insecure_registries": [(["r:5000", "10.0.0.0/8", "[fd00::1]:5000", "r"],) * 2],
    "muster_registry_ca": [({"r:5000": "/ca.pem"}, {"r:5000": "/ca.pem"})],
    "muster_proxy": [
        ({"http": "http://u:p@p.lan:3128/", "https": "p:3128", "no_proxy": "10.0.0.0/8,.lan"},) * 2,
        ({"http": None, "https": "socks5://p:1080"},) * 2,
    ],
    "muster_gateway_keys": [
        ({"search": "k" * 16, "support.eu": ["a" * 16, "!#$%&,:;=@~+/." * 2]},) * 2,
        ({},) * 2,
        ("secrets/keys.yml",) * 2,
    ],
    "muster_gateway_tls": [
        ({},) * 2,
        ({"name": "llm.example.net"},) * 2,
        ({"certificate": "/c.pem", "key": "/k.pem", "ca": "/ca.pem", "name": "l"},) * 2,
    ],
}
WRONG = {
    "muster_port": [0, 65536, True, "80a", 1.5, "²", "080", "00", " 80"],
    "muster_privileged": ["maybe", 1],
    "muster_address": ["10.0.0", "host", 10],
    "muster_interface": [".", "..", "eth0/1", "a name", "sixteen-letters-"],
    "muster_model_path": ["models", "/a:b", "/a\n", ""],
    "muster_extra_mounts": ["/a:/b", ["/a"], ["/a:/b:rw"]],
    "muster_devices": ["0,1", [0.5], [True]],
    "muster_restart": ["later", ["now"]],
    "muster_engine_env": [{"A": 1}, {"A": "x\0"}, {"A": True}, []],
    "muster_device_memory_gb": [0, -1, 65536, 1025, "64GB", True],
    "muster_served_model_name": ["", "--host", 25],
    "muster_registry_mirrors": [
        "https://m",
        ["m.example"],
        ["ftp://m"],
        ["https://m/path"],
        ["https://u@m"],
        ["https://m:99999"],
        ["https://"],
    ],
    "muster_insecure_registries": [
        ["http://r:5000"],
        ["r:99999"],
        ["r:0"],
        ["r/x"],
        ["10.0.0.0/99"],
        [""],
    ],
    "muster_registry_ca": [["x"], {"http://r": "/ca"}, {"r": 1}],
    "muster_gateway_keys": [
        ["k" * 16],
        "",
        1,
        {"search": "short"},
        {"search": "k" * 15 + " "},
        {"search": "k" * 16 + "\n"},
        {"search": "\u00e9" * 16},
        {"search": 1234567890123456},
        {"search": None},
        {"search": []},
        {"search": {"key": "k" * 16}},
        {"a b": "k" * 16},
        {"-": "k" * 16},
        {1: "k" * 16},
        {"muster": "k" * 16},
        {"a": "k" * 16, "b": ["l" * 16, "k" * 16]},
    ],
    "muster_gateway_tls": [
        True,
        "/c.pem",
        {"certificate": "/c.pem"},
        {"key": "/k.pem"},
        {"ca": "/ca.pem"},
        {"cert": "/c.pem", "key": "/k.pem"},
        {"certificate": "c.pem", "key": "k.pem"},
        {"name": "https://llm"},
        {"name": None},
    ],
    "muster_proxy": [
        "http://p:3128",
        {"http_proxy": "http://p:3128"},
        {"http": "ftp://p"},
        {"http": "http://p:99999"},
        {"http": "two words"},
        {"no_proxy": ["a", "b"]},
    ],
    "muster_engine_args": ["--seed 1", {1: 2}],
    "muster_firewall": [
        True,
        {},
        {"enable": True},
        {"enabled": "on"},
        {"enabled": True},
        {"enabled": True, "api_sources": "10.0.0.0/8"},
        {"enabled": True, "api_sources": ["gw.lan"]},
        {"enabled": True, "api_sources": ["10.0.0.1"], "also_allowed": ["ssh"]},
        {"enabled": True, "api_sources": ["10.0.0.1"], "close_others": 1},
        {"enabled": False, "internal_sources": [10]},
    ],
    "muster_waivers": [
        {},
        [{}],
        [{"check": "npu-ecc", "reason": "", "until": "2026-01-01"}],
        [{"check": "npu-ecc", "reason": "b", "until": "2026-02-30"}],
        [{"check": "npu-eck", "reason": "b", "until": "2026-02-28"}],
    ],
    "muster_host_tuning": [
        {"sysctls": {}},
        {"cpu_governor": "On Demand"},
        {"sysctl": {"vm.swappiness": True}},
        {"sysctl": {"a b": 1}},
        {"sysctl": {"vm.swappiness": -5}},
        {"sysctl": {"vm.swappiness": "many"}},
        {"sysctl": []},
        {"sched_migration_cost_ns": -1},
        {"reserved_ports": ["2-1"]},
        # No connection could go out any more.
        {"reserved_ports": ["1-65535"]},
        {"reserved_ports": ["30000-50000", "50001-60000"]},
        {"reserved_ports": "60000"},
    ],
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, cases in RIGHT.items() for value, expected in cases],
)
def test_right_values_are_taken(name: str, value: Any, expected: Any) -> None:
    read = read_settings("h", {name: value})
    assert (read.values, read.errors) == ({name: expected}, [])


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_wrong_values_are_named(name: str, value: Any) -> None:
    read = read_settings("h", {name: value})
    assert read.values == {}
    assert read.wrong == [name]
    assert read.errors[0].startswith((f"h: {name} has to be ", f"h: {name}: "))


def test_no_message_shows_a_key() -> None:
    for value in WRONG["muster_gateway_keys"]:
        (error,) = read_settings("h", {"muster_gateway_keys": value}).errors
        assert not any(key in error for key in ("short", "k" * 9, "l" * 9, "1234567", "\u00e9"))


def test_a_message_shows_no_values_of_a_map() -> None:
    read = read_settings("h", {"muster_proxy": {"http": "http://user:secret@proxy", "https": 1}})
    assert "https has to be text in quotes, or null, not 1" in read.errors[0]
    assert "secret" not in read.errors[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("muster_engine_env", {"OMP_NUM_THREADS": 10}, "has to be text in quotes, or null, not 10"),
        ("muster_engine_env", {"A": True}, "A has to be text in quotes, or null, not True"),
        ("muster_host_tuning", {"cpu_governor": "Performance"}, "in small letters, such as perf"),
        ("muster_host_tuning", {"swapiness": 0}, "swapiness is unknown in it: known: cpu_governor"),
        ("muster_host_tuning", {"reserved_ports": [6]}, 'a list of "FIRST-LAST", not [6]'),
        ("muster_proxy", {"http_proxy": "x"}, "http_proxy is unknown in it: known: http, https"),
        ("muster_variant", 8, "has to be a line of text, not 8; put it in quotes"),
        ("muster_node", " h", "no space at its beginning or end, not ' h'"),
        ("muster_variant", "tp4 ", "no space at its beginning or end, not 'tp4 '"),
        ("muster_model_path", "/models/m2 ", "no space at its end, not '/models/m2 '"),
        ("muster_weights_gb", "0", "has to be a number above 0, not '0'"),
        ("muster_device_memory_gb", "0.0", "above 0"),
        ("muster_engine_version", 0.18, "not 0.18; put it in quotes"),
        ("muster_restart", False, "not False; YAML reads a bare yes, no, on and off as true"),
        ("muster_devices", "[0,1]", """-e '{"muster_devices": VALUE}'"""),
        ("muster_engine_args", "{a: 1}", """give the whole as JSON: -e '{"muster_engine_args":"""),
        (
            "muster_waivers",
            [{"check": "npu-eck", "reason": "b", "until": "2026-02-28"}],
            "npu-ecc?",
        ),
        ("MUSTER_PORT", 8001, "MUSTER_PORT is unknown: did you mean muster_port?"),
        ("musterport", 8001, "musterport is unknown: did you mean muster_port?"),
        ("muster-port", 8001, "muster-port is unknown: did you mean muster_port?"),
    ],
)
def test_a_message_says_what_to_write(name: str, value: Any, said: str) -> None:
    (message,) = read_settings("h", {name: value}).errors
    assert said in message
    assert "not a map of" not in message


def test_other_peoples_variables_are_left_alone() -> None:
    others = {"ansible_port": 22, "cluster_port": 1, "musterings": 1, "http_port": 80}
    assert read_settings("h", others).errors == []


def test_null_is_unset_and_a_failed_template_says_why() -> None:
    read = read_settings("h", {"muster_port": None, "muster_image": Unreadable("'x' is undefined")})
    assert read.values == {}
    assert read.errors == ["h: muster_image cannot be evaluated: 'x' is undefined"]


@given(
    st.sampled_from([variable.name for variable in VARIABLES]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=5,
    ),
)
def test_any_value_is_taken_or_named(name: str, value: Any) -> None:
    read = read_settings("h", {name: value})
    assert (name in read.values) + len(read.errors) == (value is not None)


def test_the_playbooks_read_only_what_can_be_set() -> None:
    known = {variable.name for variable in VARIABLES} | {"muster_plan", "muster_work"}
    files = (ROOT / "playbooks").glob("*.yml")
    used = {
        (path.name, name)
        for path in files
        for name in re.findall(r"\bmuster_[a-z_]+", path.read_text())
    }
    assert {(path, name) for path, name in used if name not in known} == set()


def test_what_a_run_leaves_as_statistics_may_be_variables_of_the_next() -> None:
    """Workflows of AWX hand them on so, above all that playbooks register."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "plugins/action").glob("*.py")]
    names = {name for text in texts for name in re.findall(r'statistics\(\s*"(\w+)"', text)}
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        names |= {f"muster_{stage}" for stage in re.findall(r"\bstage: (\w+)", path.read_text())}
    assert {"muster_endpoints", "muster_status", "muster_verify"} <= names
    assert names.isdisjoint({"muster_plan", "muster_work"})
    assert read_settings("h", {name: {"passed": True} for name in names}).errors == []


def strings_of(value: Any) -> Iterator[str]:
    """The texts in a loaded YAML document, which has no comments any more."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from strings_of(item)
    elif isinstance(value, str):
        yield value


def test_every_variable_is_read_by_something() -> None:
    """By code that names it as a key, or by a playbook's template: messages and comments do not
    count."""
    read: set[str] = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        if path.name != "variables.py":
            read |= {
                node.value
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    for path in (ROOT / "playbooks").glob("*.yml"):
        for text in strings_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
            read.update(re.findall(r"\bmuster_[a-z_]+", text))
    assert {one.name for one in VARIABLES} - read == set()
