# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules that return checks have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
notes:
  - A check in RV(checks) is a map of strings. C(id) is one of C(docs/checks.md). C(phase) is
    V(bare) when it is made before prepare, else V(ready). C(status) is V(ok), V(failed),
    V(warning), V(unknown), V(pending) (prepare will repair it) or V(waived). C(subject) is what was
    looked at, C(observed) what was found there, C(expected) what would be right, and C(remedy) what
    to do.
"""

    # Of a module that also works without an action that judges.
    ENFORCE = r"""
options:
  enforce:
    description: Fail when a check fails, instead of only reporting it.
    type: bool
    default: false
"""
