"""Who a gateway lets in, and its certificate: what is read, what is said, and what is never shown.
What a running HAProxy makes of it is in test_gateway_live.py."""

from __future__ import annotations

import calendar
import datetime
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_access,
    gateway_access_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access import (
    Certificate,
    CertificateError,
)
from ansible_collections.muster.serving.plugins.modules import gateway_access as module
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.authority import Authority

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture(autouse=True)
def _haproxys_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root can give files to nobody but itself."""
    if os.geteuid() != 0:
        monkeypatch.setattr(gateway_access, "USER_ID", os.geteuid())


NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
TEAMS = st.from_regex(gateway_access.TEAM, fullmatch=True)
DIGESTS = st.from_regex(gateway_access.DIGEST, fullmatch=True)


@given(keys=st.dictionaries(DIGESTS, TEAMS, max_size=300))
def test_keys_are_read_as_they_were_written(keys: dict[str, str]) -> None:
    text = gateway_access.keys_text(keys)
    assert gateway_access.parse_keys(text) == keys
    # As HAProxy shows a map.
    shown = "".join(f"0x55d1c0ffee{n:02x} {line}\n" for n, line in enumerate(text.splitlines()))
    assert gateway_access.parse_keys(shown + "\n") == keys
    commands = gateway_access.key_commands("/map", "7", keys)
    assert commands[-1] == "commit map @7 /map"
    assert all(len(command) < 16384 for command in commands)
    sent = "".join(command.partition("\n")[2] for command in commands)
    assert gateway_access.parse_keys(sent) == keys


@as_root
def test_haproxy_may_read_a_file_from_the_moment_that_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = NodeFiles(str(tmp_path)), gateway_access.keys_path("c-gateway0")
    owners, replace = [], os.replace

    def renamed(source: str, target: str) -> None:
        owners.extend(os.stat(one).st_uid for one in (source, os.path.dirname(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", renamed)
    gateway_access_io.write(files, path, "")
    assert owners == [gateway_access.USER_ID] * 2


@as_root
def test_a_file_that_haproxy_may_not_read_is_written_anew(tmp_path: Path) -> None:
    files, path = NodeFiles(str(tmp_path)), gateway_access.keys_path("c-gateway0")
    asked = {"gateway": "c-gateway0", "teams": {"a" * 64: "search"}, "tls": None}

    def differing() -> list[str]:
        return gateway_access_io.differences(gateway_access_io.look(files, asked, None)[0])

    assert differing() == ["the keys"]
    gateway_access_io.write(files, path, gateway_access.keys_text(asked["teams"]))
    assert differing() == []
    os.chown(files.path(path), 0, 0)
    assert differing() == ["the keys"]


def test_a_diff_shows_teams_and_no_digest() -> None:
    keys = {hashlib.sha256(str(n).encode()).hexdigest(): f"team-{n % 2}" for n in range(4)}
    shown = gateway_access.keys_shown(gateway_access.keys_text(keys))
    assert [line.partition(":")[0] for line in shown.splitlines()] == ["team-0", "team-1"]
    assert all(digest[:8] in shown and digest not in shown for digest in keys)


PEM = "-----BEGIN {0}-----\nQUJD\n\nREVG\n-----END {0}-----\n"
CERTIFICATE, KEY = PEM.format("CERTIFICATE"), PEM.format("PRIVATE KEY")


def test_a_bundle_is_certificates_and_one_key_without_empty_lines() -> None:
    made = gateway_access.bundle(f"text\r\n{CERTIFICATE}\n{CERTIFICATE}", KEY, "w")
    assert made.count("BEGIN CERTIFICATE") == 2
    assert made.count("BEGIN PRIVATE KEY") == 1
    assert "\n\n" not in made
    assert "text" not in made
    assert "PRIVATE" not in gateway_access.public_part(made)
    assert gateway_access.fingerprint(made) == "970093678B182127F60BB51B8AF2C94D539ECA3A"


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (KEY, KEY, "no certificate"),
        (CERTIFICATE, CERTIFICATE, "0 private keys"),
        (CERTIFICATE, KEY + KEY, "2 private keys"),
        (CERTIFICATE, PEM.format("ENCRYPTED PRIVATE KEY"), "passphrase"),
        (CERTIFICATE, KEY.replace("QUJD", "Proc-Type: 4,ENCRYPTED"), "passphrase"),
        ("", "", "no certificate"),
    ],
)
def test_what_haproxy_cannot_use_is_said(certificate: str, key: str, said: str) -> None:
    with pytest.raises(CertificateError, match=said) as caught:
        gateway_access.bundle(certificate, key, "/c and /k")
    assert str(caught.value).startswith("/c and /k: ")
    assert "QUJD" not in str(caught.value)


@pytest.mark.parametrize(
    ("days", "wrong", "status", "seen"),
    [
        (400, [], "ok", "in 400 days"),
        (30, [], "ok", "in 30 days"),
        (29.9, [], "warning", "in 29 days"),
        (0.1, [], "warning", "in 0 days"),
        (0, [], "failed", "ended 2026-06-01"),
        (-3, [], "failed", "ended 2026-05-29"),
        (400, ["10.0.0.9"], "failed", "not for 10.0.0.9"),
    ],
)
def test_the_verdict_over_a_certificate(
    days: float, wrong: list[str], status: str, seen: str
) -> None:
    one = Certificate(NOW + datetime.timedelta(days=days), wrong)
    found = gateway_access.certificate_check("/c", one, NOW, ["10.0.0.9"])
    assert (found["status"], found["subject"]) == (status, "/c")
    assert seen in found["observed"]
    assert bool(found["remedy"]) is (status != "ok")


def test_the_end_of_a_certificate_is_read_whatever_language_the_node_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As Python has it where LANG is zh_CN.UTF-8: modules of Ansible take that over.
    monkeypatch.setattr(calendar, "month_abbr", ["", *(f"{month}月" for month in range(1, 13))])
    monkeypatch.setattr("_strptime._getlang", lambda: ("zh_CN", "UTF-8"))
    end = gateway_access.parse_end("notAfter=Jun  1 03:04:05 2099 GMT\n")
    assert end == datetime.datetime(2099, 6, 1, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "text", ["", "notAfter=\n", "notAfter=tomorrow\n", "notAfter=Jun 31 00:00:00 2099 GMT\n"]
)
def test_an_end_that_openssl_does_not_tell_is_an_error(text: str) -> None:
    with pytest.raises(CertificateError, match="does not tell"):
        gateway_access.parse_end(text)


OPENSSL = """#!/bin/sh
case "$*" in
    *-enddate) echo "notAfter=Jun  1 00:00:00 2099 GMT" ;;
    *-checkhost*) {} ;;
    *) printf "......" >&2; exit 3 ;;
esac
"""


@pytest.fixture
def fake_openssl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an openssl first into the path, with what it does when it is asked for a name."""

    def put(checkhost: str) -> None:
        program = tmp_path / "openssl"
        program.write_text(OPENSSL.format(checkhost))
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return put


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("echo Hostname llm.lan does match certificate", []),
        ("echo Hostname llm.lan does NOT match certificate", ["llm.lan"]),
        # As releases after OpenSSL 3 end there.
        ("echo Hostname llm.lan does NOT match certificate; exit 1", ["llm.lan"]),
    ],
)
def test_a_name_is_judged_by_what_openssl_says_whatever_its_rc(
    fake_openssl: Callable[[str], None], said: str, wrong: list[str]
) -> None:
    fake_openssl(said)
    assert gateway_access_io.read_certificate("/c", ["llm.lan"]).wrong_names == wrong


@pytest.mark.parametrize("said", ["exit 1", "true", "echo unknown option >&2; exit 1"])
def test_an_openssl_that_says_nothing_of_a_name_is_an_error(
    fake_openssl: Callable[[str], None], said: str
) -> None:
    fake_openssl(said)
    with pytest.raises(CertificateError, match="does not tell whether it is for a name"):
        gateway_access_io.read_certificate("/c", ["llm.lan"])


def test_an_openssl_that_fails_with_dots_alone_is_an_error(
    fake_openssl: Callable[[str], None], tmp_path: Path
) -> None:
    fake_openssl("true")
    with pytest.raises(CertificateError, match="openssl genpkey ended with rc 3"):
        gateway_access_io.make_own(NodeFiles(str(tmp_path)), "c-gateway0", ["llm.lan"])


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


def params(**tls: Any) -> dict[str, Any]:
    full = {"certificate": None, "key": None, "names": ["10.0.0.9"], "ca": None, **tls}
    return {"gateway": "c-gateway0", "teams": None, "tls": full}


@needs_openssl
def test_a_host_makes_its_certificate_once_and_anew_for_another_address(tmp_path: Path) -> None:
    files = NodeFiles(str(tmp_path))

    def seen(**tls: Any) -> tuple[list[str], list[str]]:
        parts, checks = gateway_access_io.look(files, params(**tls), None)
        return gateway_access_io.differences(parts), [one["status"] for one in checks]

    assert seen() == (["the certificate"], ["pending"])
    pem = gateway_access_io.make_own(files, "c-gateway0", ["10.0.0.9"])
    gateway_access_io.write(files, gateway_access.certificate_path("c-gateway0"), pem)
    assert seen() == ([], ["ok"])
    held = Path(files.path(gateway_access.certificate_path("c-gateway0")))
    assert held.stat().st_mode & 0o777 == 0o600
    assert held.stat().st_uid == held.parent.stat().st_uid == gateway_access.USER_ID
    assert seen(names=["10.0.0.10"]) == (["the certificate"], ["pending"])


@needs_openssl
def test_a_given_certificate_that_does_not_fit_is_a_failed_check(tmp_path: Path) -> None:
    pairs = []
    for name in ("one", "other"):
        made = [str(tmp_path / f"{name}.{kind}") for kind in ("pem", "key")]
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"),
                *("-subj", "/CN=x", "-addext", "subjectAltName=IP:10.0.0.9,DNS:llm.lan"),
                *("-out", made[0], "-keyout", made[1]),
            ],
            check=True,
            capture_output=True,
        )
        pairs.append(made)
    (certificate, key), (_, other) = pairs

    def verdict(**tls: Any) -> tuple[str, str]:
        looked = gateway_access_io.state(params(**{"certificate": certificate, "key": key, **tls}))
        (one,) = looked.checks
        return one["status"], one["observed"]

    assert verdict()[0] == "warning"  # nine days
    assert verdict(names=["llm.lan"])[0] == "warning"
    assert verdict(names=["10.0.0.8"]) == ("failed", "not for 10.0.0.8")
    assert verdict(names=["lan"]) == ("failed", "not for lan")
    status, seen = verdict(key=other)
    assert (status, "is not the key of" in seen) == ("failed", True)
    assert verdict(certificate=str(tmp_path / "none"))[1].endswith("none: no such file")
    (tmp_path / "empty").write_text("")
    assert "no certificate" in verdict(certificate=str(tmp_path / "empty"))[1]
    assert verdict(ca=str(tmp_path / "none"))[1].endswith("none: no such file")
    assert "no certificate" in verdict(ca=key)[1]


def authority_seen(**tls: Any) -> Any:
    return gateway_access_io.state(params(**tls)).seen.get("authority")


@needs_openssl
def test_a_look_tells_what_clients_check_a_certificate_by(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = (str(authority.folder / name) for name in ("cert.pem", "key.pem"))
    authority.issue(Path(certificate), Path(key), "IP:10.0.0.9")
    pair = {"certificate": certificate, "key": key}
    assert authority_seen(**pair) == ""
    assert authority_seen(**pair, ca=str(authority.ca)) == authority.ca.read_text()
    # Of a file that holds more, nothing that is secret, and nothing that is no text.
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(b"\xff\n" + Path(key).read_bytes() + authority.ca.read_bytes())
    assert authority_seen(**pair, ca=str(mixed)) == authority.ca.read_text()
    assert authority_seen(**pair, ca=str(tmp_path / "none")) is None


@needs_openssl
def test_a_certificate_that_the_host_makes_is_what_clients_check_it_by(tmp_path: Path) -> None:
    files, tls = NodeFiles(str(tmp_path)), params()["tls"]
    assert gateway_access_io.authority(files, tls, "") is None
    pem = gateway_access_io.make_own(files, "c-gateway0", ["10.0.0.9"])
    known = gateway_access_io.authority(files, tls, pem)
    assert known == files.read(f"{gateway_access.own_folder('c-gateway0')}/cert.pem")
    part = gateway_access_io.Part("certificate", "/tls.pem", None, pem, True, False)
    assert module.authority_of(tls, [part]) == {"authority": known}
    # Of one that is yet to be made, in check mode, and of one that is given there is none to keep.
    assert module.authority_of(tls, [part._replace(wanted="")]) == {}
    assert module.authority_of({**tls, "certificate": "/c", "key": "/k"}, [part]) == {}
    assert module.authority_of(None, []) == {}
