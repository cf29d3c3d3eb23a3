# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says of check mode, diff mode and a second run."""

from __future__ import annotations


class ModuleDocFragment:
    # A module adds the support of each, and details where there are any.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
  diff_mode:
    description: Returns in diff mode what has changed, or would change in check mode.
  idempotent:
    description: Changes nothing when it runs again with the same options on the same state.
"""

    # Of a module that only observes.
    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: It changes nothing in any mode.
  diff_mode:
    support: N/A
    details: It changes nothing.
  idempotent:
    support: full
    details: It changes nothing.
"""

    # Of an action that connects to no node.
    CONTROLLER = r"""
options: {}
attributes:
  connection:
    description: Connects to the host that the task runs for.
    support: none
    details: It runs on the controller.
"""

    # Of an action that asks a deployment for tokens.
    LOAD = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: It is skipped, and spends no tokens.
  diff_mode:
    support: N/A
    details: It changes no configuration.
  idempotent:
    support: N/A
    details: Each run is a load of its own.
"""
