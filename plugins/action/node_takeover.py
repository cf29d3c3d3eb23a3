# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module on the node, with the lock of this run where the task names one."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import (
    HoldingAction,
)


class ActionModule(HoldingAction):
    MUST_HOLD = True
