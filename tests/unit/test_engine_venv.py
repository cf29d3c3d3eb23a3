"""What an environment is asked to hold, what tells two apart and what a failure means."""

import dataclasses
import json
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.redaction import without_users
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    UV_VERSION,
    Marker,
    Request,
    bootstrap_argv,
    environment_of,
    explain,
    identity_of,
    install_argv,
    is_usable,
    packages_of,
    parse_freeze,
    parse_marker,
    request_problem,
    venv_argv,
)
from hypothesis import given
from hypothesis import strategies as st

REQUEST = Request("3.12", ["vllm==0.23.0"], [], None, None)
PATH = "/opt/muster/venvs/vllm-1"


def changed(**values: Any) -> Request:
    return dataclasses.replace(REQUEST, **values)


def test_an_index_install_names_what_it_wants_after_all_options() -> None:
    request = changed(torch_backend="auto", index_urls=["https://user:word@wheels.example/nightly"])
    argv = install_argv("/usr/bin/uv", PATH, request)
    assert argv == [
        *("/usr/bin/uv", "pip", "install", "--python", f"{PATH}/bin/python"),
        *("--torch-backend", "auto", "--", "vllm==0.23.0"),
    ]
    assert "word" not in " ".join(argv), "a password in an argv is in everybody's ps"


def test_from_a_folder_of_wheels_nothing_else_is_asked() -> None:
    request = changed(find_links="/srv/wheels")
    assert "--offline" in venv_argv("uv", PATH, request)
    argv = install_argv("uv", PATH, request)
    assert argv[argv.index("--offline") :] == [
        *("--offline", "--no-index", "--find-links", "/srv/wheels", "--", "vllm==0.23.0")
    ]
    argv = bootstrap_argv(request)
    assert argv[-4:] == ["--no-index", "--find-links", "/srv/wheels", f"uv=={UV_VERSION}"]


@pytest.mark.parametrize(
    "other",
    [
        {"python": "3.11"},
        {"requirements": ["vllm==0.24.0"]},
        {"index_urls": ["https://wheels.example/nightly"]},
        {"torch_backend": "cu129"},
        {"find_links": "/srv/wheels"},
    ],
)
def test_whatever_is_asked_otherwise_is_another_request(other: dict[str, Any]) -> None:
    assert changed(**other).hash != REQUEST.hash
    assert changed(**other).describe() != REQUEST.describe()


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (PATH, {}, None),
        (PATH, {"python": "3.12.4", "torch_backend": "cu129"}, None),
        ("venvs/x", {}, "not an absolute path"),
        ("/opt/../etc", {}, "not an absolute path"),
        ("/opt", {}, "a folder of its own"),
        (PATH, {"python": "python3"}, "not a version"),
        (PATH, {"requirements": []}, "nothing is asked for"),
        (PATH, {"requirements": ["--index-url=x"]}, "not a requirement"),
        (PATH, {"index_urls": ["a b"]}, "not the address of an index"),
        (PATH, {"torch_backend": "--x"}, "torch_backend"),
        (PATH, {"find_links": "wheels"}, "absolute path of a folder"),
    ],
)
def test_a_request_is_looked_at_first(path: str, change: dict[str, Any], message: str) -> None:
    problem = request_problem(path, changed(**change))
    assert (message in problem) if message else problem is None


@given(st.text(), st.text(), st.lists(st.text()), st.text())
def test_no_request_becomes_an_option(path: str, python: str, lines: list[str], url: str) -> None:
    request = Request(python, lines, [url], None, None)
    if request_problem(path, request) is None:
        words = [path, python, *lines, url]
        assert not any(word.startswith("-") or "\n" in word for word in words)


def test_the_identity_is_what_is_installed_and_not_what_was_asked_for() -> None:
    marker = Marker(REQUEST.hash, ["torch==2.13.0", "vllm==0.23.0"])
    assert parse_marker(marker.dump()) == marker
    assert identity_of(marker.dump()) == marker.identity
    assert Marker("another", marker.packages).identity == marker.identity
    assert Marker(REQUEST.hash, ["torch==2.13.1", "vllm==0.23.0"]).identity != marker.identity


@given(st.none() | st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_what_is_no_marker_is_no_environment(text: str | None) -> None:
    assert identity_of(text) is None


@given(st.dictionaries(st.sampled_from(["request", "packages"]), st.none() | st.lists(st.text())))
def test_half_a_marker_is_none(value: dict[str, Any]) -> None:
    assert parse_marker(json.dumps(value)) is None


def test_packages_are_listed_without_comments_and_passwords() -> None:
    text = "# editable\nvllm @ https://me:word@wheels.example/vllm.whl\n\n torch==2.13.0\n"
    assert parse_freeze(text) == ["torch==2.13.0", "vllm @ https://***@wheels.example/vllm.whl"]


def test_no_diff_shows_a_password() -> None:
    text = changed(index_urls=["https://me:word@wheels.example/x"]).describe()
    assert "index https://***@wheels.example/x\n" in text


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    without_users(text)
    explain("install it", text)
    parse_freeze(text)
    is_usable(text)


@pytest.mark.parametrize(
    ("said", "usable"),
    [
        ("uv 0.13.8 (x86_64-unknown-linux-gnu)", True),
        ("uv 0.7.22", False),
        ("uv 1.0.0", True),
        ("", False),
        ("bash: uv: command not found", False),
    ],
)
def test_an_old_uv_is_not_used(said: str, usable: bool) -> None:
    assert is_usable(said) is usable


@pytest.mark.parametrize(
    ("release", "packages"),
    [
        ({"ID": "debian", "VERSION_ID": "13"}, ["python3-venv"]),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, ["python3-venv"]),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, ["python3-venv"]),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, ["python3", "python3-pip"]),
        ({"ID": "tencentos", "ID_LIKE": "rhel fedora centos"}, ["python3", "python3-pip"]),
        ({"ID": "openEuler", "VERSION_ID": "22.03"}, ["python3", "python3-pip"]),
        ({"ID": "kylin", "VERSION_ID": "V10"}, ["python3", "python3-pip"]),
        ({"ID": "alpine"}, []),
        ({}, []),
    ],
)
def test_each_family_has_its_own_package_for_environments(
    release: dict[str, str], packages: list[str]
) -> None:
    assert packages_of(release) == packages


def test_the_environment_of_a_unit_is_that_of_its_program() -> None:
    assert environment_of([f"{PATH}/bin/vllm", "serve"]) == PATH


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        (
            "error: No interpreter found for Python 3.12 in managed installations or search path",
            "no such Python",
        ),
        (
            "The virtual environment was not created successfully because ensurepip is not\n"
            "available.",
            "python3-venv",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because vllm was not found in the provided package locations and you require "
            "vllm==0.23.0, we can conclude that your requirements are unsatisfiable.",
            "no set of packages",
        ),
        (
            "error: Failed to fetch: http://127.0.0.1:9/simple/vllm/\n"
            "  cause: error sending request for url (http://127.0.0.1:9/simple/vllm/)\n"
            "  cause: client error (Connect)\n  cause: tcp connect error\n"
            "  cause: Connection refused (os error 111)",
            "cannot be reached",
        ),
        ("error: No space left on device (os error 28)", "disk is full"),
        ("HTTP status client error (401 Unauthorized) for url (https://x/simple/)", "login"),
        ("", "it failed"),
    ],
)
def test_a_failure_says_what_it_means(output: str, meaning: str) -> None:
    message = explain("install vllm==0.23.0", output)
    assert message.startswith("cannot install vllm==0.23.0: ")
    assert meaning in message
