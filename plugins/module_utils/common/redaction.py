# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts and values of a node without the secrets and prompts that may stand in them. Pure.

Secrets are known by their names and shapes, since no secret's own file is read. What follows a
secret's name goes to the end of its line: where the secret itself ends cannot be known.
"""

from __future__ import annotations

import re
from typing import Any

SECRET = "<secret>"  # noqa: S105 (what stands in a secret's place)
PROMPT = "(a line that may hold a prompt was left out)"
# A longer line is cut, as its end is of no use to a reader.
LINE_LIMIT = 4000

# "token" is a secret; "tokens", "tokenizer" and "max-num-batched-tokens" are not.
_NAME = (
    r"(?:api[_-]?key|(?<=[a-z0-9][_-])key(?:[_-]id)?|(?<![a-z])token|(?:auth|access|api)token"
    r"|secret|passw(?:or)?d|passphrase|credentials?|authorization|cookie)"
)
# Said to be empty or taken out already, with nothing behind it.
_EMPTY = r"(?:none|null|true|false|\[\]|''|\"\"|\"<secret>\")(?:[\s,;:)}\]\"']|$)"
_NAMED = re.compile(
    rf"(?i)({_NAME}[\"'\]]{{0,3}}[ \t]*[=:][ \t]*|--[a-z0-9_-]{{0,40}}{_NAME}[ \t]+"
    r"|\b(?:bearer|auth_pass)[ \t]+)"
    rf"(?!{_EMPTY})\S.*"
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}$")
_SECRET_FLAG = re.compile(rf"(?i)--?[a-z0-9_-]{{0,40}}{_NAME}")
_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{8,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)"
    r"|(?<=://)[^\s/@]{1,200}@"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# What vLLM and SGLang log of requests, and requests in the errors about them.
_PROMPT = re.compile(
    r"(?i)\breceived request\b|\brequest \S{1,200} details:|\bgenerated response\b"
    r"|\b(?:receive|finish): obj=|GenerateReqInput|prompt_token_ids|\binput_ids\b"
    r"|\bprompts?['\"]?\s*[:=]|['\"](?:messages|content|prompt|text|arguments)['\"]\s*:"
    r"|['\"]role['\"]\s*:\s*['\"](?:user|system|assistant|tool)\b"
)


# A line without any of these is as it is: most are, and expressions take their time.
_HINTS = (
    *("key", "token", "secret", "passw", "passphrase", "auth", "credential", "cookie", "bearer"),
    *("prompt", "request", "response", "obj=", "input_ids", "message", "content", "text"),
    *("reqinput", "argument", "role", "://", "hf_", "sk-", "gh", "glpat", "xox", "akia", "eyj"),
)


def without_users(text: str) -> str:
    """Return a text without the user and password of its URLs."""
    return re.sub(r"(?<=://)[^\s/\"]*@", "***@", text)


def line(text: str) -> str:
    """Return one line of a log without secrets."""
    cut = text[:LINE_LIMIT]
    folded = cut.casefold()
    if not any(hint in folded for hint in _HINTS):
        return cut
    if _PROMPT.search(cut):
        return PROMPT
    return _SHAPES.sub(SECRET, _NAMED.sub(rf"\g<1>{SECRET}", cut))


def lines(text: str) -> str:
    """Return a text of many lines without secrets."""
    # Every break that a reader's program may take for one, a lone carriage return included.
    whole = _PRIVATE_KEY.sub(SECRET, text)
    return "".join(f"{line(one)}\n" for one in whole.splitlines())


def value(data: Any) -> Any:
    """Hide in data as JSON has it what stands under a secret's name or after its flag."""
    if isinstance(data, dict):
        return {
            str(key): SECRET if _is_secret(str(key)) and one else value(one)
            for key, one in data.items()
        }
    if isinstance(data, list):
        kept = []
        hide = False
        for one in data:
            kept.append(SECRET if hide else value(one))
            hide = isinstance(one, str) and bool(_SECRET_FLAG.fullmatch(one))
        return kept
    return "\n".join(map(line, data.splitlines())) if isinstance(data, str) else data


def _is_secret(name: str) -> bool:
    """Tell whether a key names a secret; an effective configuration's secret NAME does, too."""
    return bool(_SECRET_NAME.search(name)) or name.startswith("secret ")


def without_values(environment: Any) -> list[str]:
    """Return the names of an environment of KEY=VALUE entries."""
    entries = environment if isinstance(environment, list) else []
    return [f"{str(one).partition('=')[0]}=" for one in entries]
