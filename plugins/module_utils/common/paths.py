# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Muster keeps its own on a node, and how its files are marked."""

from __future__ import annotations

MANAGED_HEADER = "# Managed by Muster (muster.serving). Local changes will be overwritten."
STATE_DIR = "/var/lib/muster"

# Made by Muster itself before an engine starts.
OWN_SOURCES = ("/var/log/muster/", "/var/lib/muster/", "/etc/muster/")
