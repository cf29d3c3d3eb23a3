# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at who a gateway of this node lets in and at its certificate, and changes both."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_access,
    gateway_admin,
    gateway_admin_io,
    names,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access import (
    Certificate,
    CertificateError,
)
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import AdminError

ARGUMENT_SPEC: dict[str, Any] = {
    "gateway": {"type": "str", "required": True},
    "teams": {"type": "dict"},
    "tls": {
        "type": "dict",
        "options": {
            "certificate": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "names": {"type": "list", "elements": "str", "required": True},
            "ca": {"type": "path"},
        },
        "required_together": [("certificate", "key")],
    },
}

_TIMEOUT_S = 20
# A client trusts this very certificate, so that a new one is work for all of them.
_OWN_DAYS = 3650

Ask = Callable[[str], str]


class Part(NamedTuple):
    """The teams' keys or the certificate of a gateway.

    Fields:
        what: keys or certificate.
        path: Its file.
        found: What the file holds; None for no file.
        wanted: What it is to hold; empty for a certificate that has yet to be made.
        in_file: Whether the file is to change, its owner included.
        in_process: Whether the running HAProxy is to change.
    """

    what: str
    path: str
    found: str | None
    wanted: str
    in_file: bool
    in_process: bool


def state(params: dict[str, Any]) -> State:
    """Return what gateway_access would change, and the verdicts over the certificate.

    With TLS it has seen the authority, unless the node has yet to make the certificate.
    """
    files, tls = NodeFiles(), params["tls"]
    trusted = None
    try:
        parts, checks = look(files, params, asker(params["gateway"]))
        if tls is not None:
            trusted = authority(files, tls, parts[-1].wanted)
    except CertificateError as error:
        subject = tls["certificate"] or params["gateway"]
        expected = f"a certificate for {', '.join(tls['names'])} and its key"
        remedy = "correct muster_gateway_tls, or put both there"
        return State(
            [str(error)],
            [check("gateway-certificate", "failed", subject, str(error), expected, remedy)],
        )
    return State(differences(parts), checks, seen={} if trusted is None else {"authority": trusted})


def authority(files: NodeFiles, tls: Mapping[str, Any], wanted: str) -> str | None:
    """Return what clients check a gateway's certificate by, PEM; empty where they know it.

    A certificate that the node makes is its own; None where it has yet to.

    Args:
        files: The node's files.
        tls: That of ARGUMENT_SPEC.
        wanted: The certificate with its key.

    Raises:
        CertificateError: The authority cannot be read, or there is none in its file.
    """
    if tls["certificate"] is None:
        return gateway_access.public_part(wanted) or None
    if not tls["ca"]:
        return ""
    text = gateway_access.public_part(_needed(_read(files, tls["ca"]), tls["ca"]))
    if not text:
        raise CertificateError(f"{tls['ca']}: no certificate in PEM form stands in it")
    return text


def differences(parts: Sequence[Part]) -> list[str]:
    """Return what is to change, a phrase each."""
    return [
        f"the {part.what}{where}"
        for part in parts
        for differs, where in ((part.in_file, ""), (part.in_process, " in the running gateway"))
        if differs
    ]


def asker(gateway: str) -> Ask | None:
    """Return what asks the running HAProxy of a gateway; None where it does not run.

    Raises:
        UnitError: systemd does not answer.
    """
    service = names.service(gateway)
    if not os.path.exists(gateway_admin.admin_socket(gateway)):
        return None
    if unit_io.show([service]).get(service, {}).get("ActiveState") != "active":
        return None
    return lambda command: gateway_admin_io.ask(gateway, command)


def look(
    files: NodeFiles, params: Mapping[str, Any], ask: Ask | None
) -> tuple[list[Part], list[Check]]:
    """Return how a gateway's keys and certificate stand, and the verdicts over the certificate.

    Args:
        files: The node's files.
        params: Those of ARGUMENT_SPEC. Where one is None, its part is left out.
        ask: Asks the running HAProxy; None where none runs.

    Raises:
        AdminError: HAProxy does not answer.
        CertificateError: The certificate or its key cannot be used.
    """
    gateway = params["gateway"]
    parts: list[Part] = []
    checks: list[Check] = []
    if params["teams"] is not None:
        parts.append(_keys(files, gateway, params["teams"], ask))
    if params["tls"] is not None:
        wanted, checks = _wanted_certificate(files, gateway, params["tls"])
        parts.append(_certificate(files, gateway, wanted, ask))
    return parts, checks


def _keys(files: NodeFiles, gateway: str, teams: Mapping[str, str], ask: Ask | None) -> Part:
    path = gateway_access.keys_path(gateway)
    found, wanted = files.read(path), gateway_access.keys_text(teams)
    said = ask(f"show map {path}") if ask else ""
    # One that was started before there were keys has no map, and gets it when it starts anew.
    knows = bool(ask) and gateway_access.knows_map(said)
    differs = knows and gateway_access.parse_keys(said) != teams
    in_file = found != wanted or not _is_haproxys(files, path)
    return Part("keys", path, found, wanted, in_file, differs)


def _certificate(files: NodeFiles, gateway: str, wanted: str, ask: Ask | None) -> Part:
    path = gateway_access.certificate_path(gateway)
    found = files.read(path)
    running = gateway_access.told_fingerprint(ask(f"show ssl cert {path}")) if ask else None
    # HAProxy tells the first certificate alone: whether its chain is as wanted, the file tells.
    differs = running is not None and (
        found != wanted or running != gateway_access.fingerprint(wanted)
    )
    in_file = not wanted or found != wanted or not _is_haproxys(files, path)
    return Part("certificate", path, found, wanted, in_file, differs)


def _is_haproxys(files: NodeFiles, path: str) -> bool:
    return os.stat(files.path(path)).st_uid == gateway_access.USER_ID


def _wanted_certificate(
    files: NodeFiles, gateway: str, tls: Mapping[str, Any]
) -> tuple[str, list[Check]]:
    """Return the certificate with its key, empty where the node has yet to make it; and verdicts.

    Raises:
        CertificateError: They cannot be used.
    """
    given = tls["certificate"] is not None
    folder = gateway_access.own_folder(gateway)
    paths = (
        [tls["certificate"], tls["key"]] if given else [f"{folder}/cert.pem", f"{folder}/key.pem"]
    )
    texts = [_read(files, path) for path in paths]
    now = datetime.datetime.now(datetime.timezone.utc)
    if given:
        pem = gateway_access.bundle(
            _needed(texts[0], paths[0]), _needed(texts[1], paths[1]), " and ".join(paths)
        )
        _belong_together(files, *paths)
        authority(files, tls, pem)
        seen = read_certificate(files.path(paths[0]), tls["names"])
        return pem, [gateway_access.certificate_check(paths[0], seen, now, tls["names"])]
    if None not in texts:
        seen = read_certificate(files.path(paths[0]), tls["names"])
        one = gateway_access.certificate_check(paths[0], seen, now, tls["names"])
        if one["status"] == "ok":
            pem = gateway_access.bundle(str(texts[0]), str(texts[1]), " and ".join(paths))
            return pem, [one]
    expected = f"a certificate for {', '.join(tls['names'])}"
    remedy = "prepare makes it"
    return "", [
        check("gateway-certificate", "pending", paths[0], "none that is good", expected, remedy)
    ]


def _read(files: NodeFiles, path: str) -> str | None:
    try:
        return files.read(path)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error


def _needed(text: str | None, path: str) -> str:
    if text is None:
        raise CertificateError(f"{path}: no such file")
    return text


def _run_openssl(*words: str) -> Output:
    try:
        return run(["openssl", *words], _TIMEOUT_S)
    except CommandError as error:
        raise CertificateError(f"{error}: install openssl on this node") from error


def _openssl(*words: str) -> str:
    output = _run_openssl(*words)
    if output.rc != 0:
        # Where it has printed the dots of its progress alone, no line is left.
        last = output.text.rpartition("\n")[2]
        raise CertificateError(f"openssl {words[0]} ended with rc {output.rc}: {last}")
    return output.stdout


def _is_for(path: str, name: str) -> bool:
    # Releases differ in the rc of a name that does not match.
    output = _run_openssl("x509", "-in", path, "-noout", *gateway_access.name_flag(name))
    return gateway_access.has_name(output.stdout + output.stderr)


def read_certificate(path: str, called: Sequence[str]) -> Certificate:
    """Return what openssl says of a file's first certificate.

    Raises:
        CertificateError: It is none, or there is no openssl.
    """
    ends = gateway_access.parse_end(_openssl("x509", "-in", path, "-noout", "-enddate"))
    return Certificate(ends, [name for name in called if not _is_for(path, name)])


def _belong_together(files: NodeFiles, certificate_file: str, key_file: str) -> None:
    of_certificate = _openssl("x509", "-in", files.path(certificate_file), "-noout", "-pubkey")
    # Without a passphrase given it would be asked for on a terminal.
    of_key = _openssl("pkey", "-in", files.path(key_file), "-pubout", "-passin", "pass:")
    if of_certificate.split() != of_key.split():
        raise CertificateError(
            f"{key_file} is not the key of the certificate {certificate_file}: a renewal may have "
            "replaced one of them alone"
        )


def make_own(files: NodeFiles, gateway: str, called: Sequence[str]) -> str:
    """Make a gateway's own certificate with its key, and return both as HAProxy takes them.

    Raises:
        CertificateError: openssl does not make it.
    """
    folder = gateway_access.own_folder(gateway)
    os.makedirs(files.path(folder), mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=files.path(folder)) as made:
        with open(f"{made}/config", "w", encoding="utf-8") as stream:
            stream.write(gateway_access.own_certificate_config(called))
        curve = "ec_paramgen_curve:prime256v1"
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", f"{made}/key")
        _openssl(
            *("req", "-new", "-x509", "-sha256", "-days", str(_OWN_DAYS), "-key", f"{made}/key"),
            *("-config", f"{made}/config", "-out", f"{made}/cert"),
        )
        texts = []
        for name in ("cert", "key"):
            with open(f"{made}/{name}", encoding="ascii") as stream:
                texts.append(stream.read())
    files.write(f"{folder}/key.pem", texts[1], 0o600)
    files.write(f"{folder}/cert.pem", texts[0], 0o644)
    return gateway_access.bundle(texts[0], texts[1], folder)


def write(files: NodeFiles, path: str, text: str) -> None:
    """Write a file that HAProxy alone reads, in the folder of its socket.

    A process that starts meanwhile finds the old or the new text, and may read it.
    """
    folder = os.path.dirname(files.path(path))
    os.makedirs(folder, mode=0o750, exist_ok=True)
    # Before the file: a run that is killed here finds it differ the next time.
    os.chown(folder, gateway_access.USER_ID, -1)
    files.write(path, text, 0o600, gateway_access.USER_ID)


def tell_keys(ask: Ask, path: str, teams: Mapping[str, str]) -> None:
    """Give a running HAProxy other keys, all of them in one step.

    Raises:
        AdminError: It does not take them.
    """
    version = gateway_access.prepared(ask(f"prepare map {path}"))
    for command in gateway_access.key_commands(path, version, teams):
        said = ask(command).strip()
        if said:
            raise AdminError(f"HAProxy does not take the keys: {said[:200]}")


def tell_certificate(ask: Ask, path: str, pem: str) -> None:
    """Give a running HAProxy another certificate. Connections that are open go on.

    Raises:
        AdminError: It does not take it.
    """
    make, commit = gateway_access.certificate_commands(path, pem)
    said = ask(make)
    if "ransaction" in said:
        said = ask(commit)
        if "Success" in said:
            return
        with contextlib.suppress(AdminError):
            ask(f"abort ssl cert {path}")
    raise AdminError(f"HAProxy does not take the certificate: {said.strip()[:200]}")
