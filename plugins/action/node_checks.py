# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes the controller's time around the module, as the action host_check does."""

from __future__ import annotations

from ansible_collections.muster.serving.plugins.action.host_check import ActionModule

__all__ = ["ActionModule"]
