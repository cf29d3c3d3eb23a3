# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that ask data sets by lm-evaluation-harness."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  seed:
    description: What draws the questions, and what requests carry.
    type: int
    default: 1234
  concurrency:
    description: Requests at once.
    type: int
    default: 32
"""

    # Of a module that runs the harness on its host.
    HARNESS = r"""
options:
  request_timeout:
    description: Seconds that one request may take.
    type: int
    default: 3600
"""
