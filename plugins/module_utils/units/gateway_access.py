# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a gateway lets in: digests of the teams' keys, and its certificate. Pure.

Both lie in files that HAProxy reads when it starts, and both are changed in the running one by its
runtime API (management.txt of 2.4 and later), in one step each.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.paths import STATE_DIR
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_admin import (
    AdminError,
    admin_folder,
)

# The user of HAProxy's own image; a number, because other images may not have its name.
USER_ID = 99
# Who asks with the engines' own key: Muster itself.
OWN_TEAM = "muster"
DIGEST = r"[0-9a-f]{64}"
TEAM = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
# HAProxy takes a command of at most 16 KiB.
_ENTRIES_A_COMMAND = 100
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n.+?-----END \1-----", re.DOTALL)
_ENDS = re.compile(r"^notAfter=(\w{3}) +(\d+) (\d\d):(\d\d):(\d\d) (\d{4}) GMT$", re.MULTILINE)
# strptime would expect those of the node's own language, which Ansible's modules take over.
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
WARN_DAYS = 30


class CertificateError(Exception):
    """A certificate cannot be used; the text says what was seen and what to do."""


class Certificate(NamedTuple):
    """What openssl says of a certificate.

    Fields:
        ends: When it ends.
        wrong_names: Those of the names asked for that it is not for.
    """

    ends: datetime.datetime
    wrong_names: Sequence[str]


def keys_path(gateway: str) -> str:
    """Return the map of digests to teams of a gateway's unit."""
    return f"{admin_folder(gateway)}/keys.map"


def certificate_path(gateway: str) -> str:
    """Return the file of a gateway's unit with its certificate and key, as HAProxy reads it."""
    return f"{admin_folder(gateway)}/tls.pem"


def keys_text(keys: Mapping[str, str]) -> str:
    """Return the map's text: a digest and its team a line."""
    return "".join(f"{digest} {keys[digest]}\n" for digest in sorted(keys))


def parse_keys(text: str) -> dict[str, str]:
    """Return digests with their teams from the map's text, or from what show map says.

    The latter has an address before each. Other lines, of which neither has any, are left out.
    """
    found = re.findall(rf"^(?:0x[0-9a-f]+ )?({DIGEST}) ({TEAM})$", text, re.MULTILINE)
    return dict(found)


def knows_map(said: str) -> bool:
    """Tell whether HAProxy's answer to show map is of a map that it has loaded."""
    return not said.startswith("Unknown map")


def key_commands(path: str, version: str, keys: Mapping[str, str]) -> list[str]:
    """Return what fills a new version of the map and puts it in the place of the old one.

    Args:
        path: The map's file.
        version: What prepared() returns.
        keys: Digests with their teams.
    """
    lines = keys_text(keys).splitlines()
    parts = [
        lines[first : first + _ENTRIES_A_COMMAND]
        for first in range(0, len(lines), _ENTRIES_A_COMMAND)
    ]
    return [
        *(f"add map @{version} {path} <<\n" + "\n".join(part) + "\n" for part in parts),
        f"commit map @{version} {path}",
    ]


def prepared(said: str) -> str:
    """Return the version that prepare map has made.

    Raises:
        AdminError: It has made none.
    """
    match = re.search(r"New version created: (\d+)", said)
    if not match:
        raise AdminError(f"HAProxy said to prepare map: {said.strip()[:200]!r}")
    return match[1]


def keys_shown(text: str) -> str:
    """Return what --diff shows of the map: of each team the beginnings of its keys' digests."""
    teams: dict[str, list[str]] = {}
    for digest, team in sorted(parse_keys(text).items()):
        teams.setdefault(team, []).append(digest[:8])
    return "".join(f"{team}: {' '.join(teams[team])}\n" for team in sorted(teams))


def bundle(certificate: str, key: str, where: str) -> str:
    """Return a certificate with its chain and key as HAProxy takes them, without other text.

    Args:
        certificate: Text of the certificate's file.
        key: Text of the key's file; it may be the same one.
        where: Names both in a message.

    Raises:
        CertificateError: There is no certificate in it, or no key that HAProxy can use.
    """
    chain = [part[0] for part in _parts(certificate) if part[1] == "CERTIFICATE"]
    keys = [part[0] for part in _parts(key) if part[1].endswith("PRIVATE KEY")]
    if not chain:
        raise CertificateError(f"{where}: no certificate in PEM form stands in the first of them")
    if len(keys) != 1:
        raise CertificateError(f"{where}: {len(keys)} private keys in PEM form, not one")
    if "ENCRYPTED" in keys[0]:
        raise CertificateError(
            f"{where}: the key has a passphrase, for which nobody is there to ask: store it without"
        )
    return "\n".join([*chain, *keys]) + "\n"


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the PEM blocks of a text with what they are, without empty lines."""
    return [
        ("\n".join(line for line in found[0].splitlines() if line.strip()), found[1])
        for found in _PEM.finditer(text.replace("\r\n", "\n"))
    ]


def public_part(pem: str) -> str:
    """Return the certificates of a file that also has the key."""
    return "".join(part + "\n" for part, kind in _parts(pem) if kind == "CERTIFICATE")


def fingerprint(pem: str) -> str:
    """Return the SHA-1 of a file's first certificate, as HAProxy tells it; empty for none."""
    first = next((part for part, kind in _parts(pem) if kind == "CERTIFICATE"), "")
    body = "".join(first.splitlines()[1:-1])
    try:
        der = base64.b64decode(body, validate=True)
    except ValueError:
        return ""
    # It tells certificates apart, and proves nothing.
    return hashlib.sha1(der).hexdigest().upper() if der else ""  # noqa: S324


def told_fingerprint(said: str) -> str | None:
    """Return that of the certificate in a running HAProxy, from show ssl cert; None for none."""
    match = re.search(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", said, re.MULTILINE)
    return match[1] if match else None


def certificate_commands(path: str, pem: str) -> list[str]:
    """Return what gives a running HAProxy another certificate; connections go on as they are."""
    return [f"set ssl cert {path} <<\n{pem}", f"commit ssl cert {path}"]


def name_flag(name: str) -> list[str]:
    """Return what makes openssl say whether a certificate is for a name or address."""
    is_address = ":" in name or re.fullmatch(r"[0-9.]+", name)
    return ["-checkip" if is_address else "-checkhost", name]


def parse_end(text: str) -> datetime.datetime:
    """Return when a certificate ends, from openssl x509 -enddate.

    Raises:
        CertificateError: It does not say.
    """
    match = _ENDS.search(text)
    try:
        month, *numbers = match.groups() if match else ("",)
        day, hour, minute, second, year = map(int, numbers)
        return datetime.datetime(
            *(year, _MONTHS.index(month) + 1, day, hour, minute, second),
            tzinfo=datetime.timezone.utc,
        )
    except ValueError as error:
        raise CertificateError(f"openssl does not tell its end: {text.strip()[:200]!r}") from error


def has_name(text: str) -> bool:
    """Tell whether openssl x509 -checkhost or -checkip says that the name is the certificate's.

    Raises:
        CertificateError: It says neither.
    """
    match = re.search("does( NOT)? match certificate", text)
    if not match:
        raise CertificateError(
            f"openssl does not tell whether it is for a name: {text.strip()[:200]!r}"
        )
    return match[1] is None


def certificate_check(
    subject: str, seen: Certificate, now: datetime.datetime, names: Sequence[str]
) -> Check:
    """Return the verdict over a certificate's end and names.

    Args:
        subject: Its file.
        seen: What openssl says of it.
        now: The node's time.
        names: What clients call the gateway.
    """
    days = (seen.ends - now).days
    date = f"{seen.ends:%Y-%m-%d}"
    expected = f"a certificate for {', '.join(names)} with more than {WARN_DAYS} days left"
    renew = "put the renewed certificate there, then run playbooks/prepare.yml"
    if seen.wrong_names:
        return check(
            "gateway-certificate",
            "failed",
            subject,
            f"not for {', '.join(seen.wrong_names)}",
            expected,
            "have it issued for that (subjectAltName), or set the name of muster_gateway_tls",
        )
    if seen.ends <= now:
        return check("gateway-certificate", "failed", subject, f"ended {date}", expected, renew)
    status = "warning" if days < WARN_DAYS else "ok"
    said = f"ends {date}, in {days} days"
    return check(
        "gateway-certificate", status, subject, said, expected, "" if status == "ok" else renew
    )


def own_certificate_config(names: Sequence[str]) -> str:
    """Return openssl's configuration for a certificate that signs itself, for these names."""
    kinds = ["IP" if name_flag(name)[0] == "-checkip" else "DNS" for name in names]
    listed = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names))
    return "\n".join(
        [
            "[req]",
            "distinguished_name = subject",
            "x509_extensions = extensions",
            "prompt = no",
            "[subject]",
            "CN = Muster gateway",
            "[extensions]",
            "basicConstraints = critical,CA:FALSE",
            "keyUsage = critical,digitalSignature",
            "extendedKeyUsage = serverAuth",
            "subjectKeyIdentifier = hash",
            f"subjectAltName = {listed}",
            "",
        ]
    )


def own_folder(gateway: str) -> str:
    """Return where a gateway's own certificate and key are made; no container sees it."""
    return f"{STATE_DIR}/tls/{gateway}"
