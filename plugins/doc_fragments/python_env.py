# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that make an environment of Python for a client."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  python:
    description: The interpreter that makes the environment, 3.11 or later. Without it Ansible's.
    type: str
  wheels:
    description: A folder with all wheels on the host, where it reaches no package index.
    type: path
"""
