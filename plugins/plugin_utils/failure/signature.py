# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the table of failures is."""

from __future__ import annotations

from typing import NamedTuple

# How far the words of a line go: they state the cause; they come of one cause as a rule; several
# causes show so; it follows any failure; it is in order and says nothing.
CAUSE, LIKELY, SYMPTOM, FOLLOW_UP, HARMLESS = range(5)


class Signature(NamedTuple):
    """A text that engines log, and what it means.

    pattern is a regular expression of the words that carry the cause, never of a program's name or
    an exception's class alone. likely is another one, of words that come of this cause as a rule.
    hint is one of words that a healthy start can print, too: they count only where the run has
    failed, as likely at most, and as a symptom beside an error that is not known; so do warnings.
    explains are the names of signatures that follow from this one and stand behind it, whichever
    was logged first; behind a symptom causes do where it was logged first. checks are the ids of
    the checks that find the cause before a start; empty where none can. late is one that other
    failures end in, too: behind an error that is not known it is a symptom. unless is a regular
    expression of words beside which, anywhere in the run, it is a symptom as well.
    """

    name: str
    pattern: str
    cause: str
    remedy: str
    source: str
    checks: tuple[str, ...] = ()
    rank: int = CAUSE
    likely: str = ""
    hint: str = ""
    explains: tuple[str, ...] = ()
    late: bool = False
    unless: str = ""


PREPARE = "run playbooks/prepare.yml"
PREFLIGHT = "run playbooks/preflight.yml"
DIAGNOSE = "find the unit of the replica that ended first: playbooks/diagnose.yml"
RECIPE_IMAGE = "take the image that the recipe names, with muster_image"

# The frame of a function of an engine that checks its configuration and nothing else.
CONFIGURATION_FRAME = (
    r"/(?:vllm|sglang|vllm_ascend)/(?:\S*/)?(?:config|arg_groups|platforms?|server_args|arg_utils)\b\S*\""
    r", line \d+, in _?(?:(?:verify|validate|check)_\w+|handle_(?:page_size|grammar|data_parallel"
    r"|moe|a2a|eplb|elastic|pipeline|hicache|speculative|pd_disagg|encoder_disagg|cache_compat"
    r"|determinis|dllm|context_parallel|attention_backend|kv4|load_format|lora|mamba)\w*)"
)
