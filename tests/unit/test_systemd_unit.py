"""The reader below follows systemd.syntax(7) and extract_first_word(); that the real systemd
agrees is shown on the lab by tests/integration."""

import re
import string

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import (
    by_id,
    command,
    environment_line,
    parse_show,
    quote,
    unit_file,
)
from hypothesis import given
from hypothesis import strategies as st

_C_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "s": " "}


def read_command(text: str) -> list[str]:
    """What systemd makes of an ExecStart= value: joined lines, words, escapes, specifiers."""
    text = text.replace("\\\n", " ")
    assert "\n" not in text
    words: list[str] = []
    word, quoted, started, index = "", "", False, 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            following = text[index + 1]
            width = {"x": 2, "u": 4}.get(following)
            if width:
                word += chr(int(text[index + 2 : index + 2 + width], 16))
                index += 2 + width
            else:
                word += _C_ESCAPES[following]
                index += 2
            started = True
            continue
        if quoted:
            if char == quoted:
                quoted = ""
            else:
                word += char
        elif char in "\"'":
            quoted, started = char, True
        elif char in " \t":
            if started:
                words.append(word)
            word, started = "", False
        else:
            word += char
            started = True
        index += 1
    assert not quoted
    if started:
        words.append(word)
    return [re.sub(r"\$\$|%%", lambda match: match[0][0], word) for word in words]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("vllm", "vllm"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        (";", '";"'),
        ('{"cudagraph_mode": "FULL_DECODE_ONLY"}', r'"{\"cudagraph_mode\": \"FULL_DECODE_ONLY\"}"'),
    ],
)
def test_quote(argument: str, expected: str) -> None:
    assert quote(argument) == expected


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))))
def test_argv_survives_the_unit_file(argv: list[str]) -> None:
    assert read_command(command(argv)) == argv


def read_environment_file(text: str) -> dict[str, str]:
    """What systemd makes of a file of EnvironmentFile= with double quotes: lines, comments,
    and in quotes a backslash before one of the four characters that it escapes."""
    found = {}
    name, value, quoted, index = "", "", False, 0
    while index < len(text):
        char = text[index]
        if quoted and char == "\\":
            index += 1
            value += text[index] if text[index] in '"\\`$' else char + text[index]
        elif quoted:
            quoted = char != '"'
            value += char if quoted else ""
        elif char == '"':
            quoted = True
        elif char == "\n":
            if not name.startswith(("#", ";")) and "=" in name:
                found[name.strip().rstrip("=")] = value
            name, value = "", ""
        else:
            name += char
        index += 1
    assert not quoted
    return found


ENVIRONMENTS = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.sampled_from("\t\\\"'$`#;% ")),
)


@given(ENVIRONMENTS)
def test_an_environment_survives_its_file(environment: dict[str, str]) -> None:
    lines = [environment_line(name, value) for name, value in environment.items()]
    assert read_environment_file("\n".join(["# NAME=comment", *lines, ""])) == environment


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("A", "b\nC=d", "A: a value .* control character"),
        ("A", "b\rC=d", "control character"),
        ("A", "\0", "control character"),
        ("A\nB", "", "is no name"),
        ("", "", "is no name"),
        ("1A", "", "is no name"),
    ],
)
def test_what_an_environment_file_cannot_carry_is_refused(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        environment_line(name, value)


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_flags_stand_on_lines_of_their_own() -> None:
    assert command(["docker", "run", "--rm", "--name", "x", "image"]) == (
        "docker run \\\n  --rm \\\n  --name x image"
    )


def test_unit_file_starts_with_the_header() -> None:
    text = unit_file([("Unit", [("Description", "x")]), ("Service", [("Type", "exec")])])
    assert text.splitlines()[0].startswith("# Managed by Muster")
    assert "[Unit]\nDescription=x\n\n[Service]\nType=exec\n" in text


def test_parse_show_separates_units() -> None:
    shown = "Id=a.service\nActiveState=active\n\nId=b.service\nActiveState=failed\nResult=a=b\n"
    first = {"Id": "a.service", "ActiveState": "active"}
    second = {"Id": "b.service", "ActiveState": "failed", "Result": "a=b"}
    assert parse_show(shown) == [first, second]
    assert by_id(parse_show(shown)) == {"a.service": first, "b.service": second}


def test_parse_show_has_a_first_unit_even_when_nothing_is_said() -> None:
    assert parse_show("") == [{}]
    assert parse_show("Failed to connect to bus\n") == [{}]
    assert by_id(parse_show("LoadState=loaded\n")) == {}


def test_parse_show_reads_the_manager() -> None:
    assert parse_show("DefaultLimitNOFILE=524288\n")[0] == {"DefaultLimitNOFILE": "524288"}


PROPERTIES = st.dictionaries(
    st.text(string.ascii_letters, min_size=1),
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])),
    min_size=1,
)


@given(st.lists(PROPERTIES, min_size=1))
def test_parse_show_reads_units_in_their_order_as_they_were_printed(units) -> None:
    text = "\n".join("".join(f"{key}={value}\n" for key, value in unit.items()) for unit in units)
    assert parse_show(text) == units


@given(st.text())
def test_parse_show_takes_any_text(text: str) -> None:
    assert len(parse_show(text)) >= 1
