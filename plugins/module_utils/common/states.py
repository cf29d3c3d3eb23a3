# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How something that prepare or serve looks after stands on a node. Pure."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check


class State(NamedTuple):
    """What a look says of one of them.

    Fields:
        differs: What its module would change, a phrase each; empty where it would change nothing.
        checks: The verdicts of one that differs in nothing.
        facts: What is compared between nodes.
        seen: What else there is to tell, as its module returns it.
    """

    differs: Sequence[str]
    checks: Sequence[Check] = ()
    facts: Mapping[str, Any] = {}
    seen: Mapping[str, Any] = {}
