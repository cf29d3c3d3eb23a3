# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Muster keeps its own on a node, and how its files are marked."""

from __future__ import annotations

MANAGED_HEADER = "# Managed by Muster (muster.serving). Local changes will be overwritten."
# Before the names of all services and containers of Muster.
PREFIX = "muster-"
STATE_DIR = "/var/lib/muster"
# One file an installed unit, which names its deployment.
UNITS_DIR = f"{STATE_DIR}/units"
# Logs that an engine writes into files, a folder a unit.
LOG_DIR = "/var/log/muster"

# The docker command as units run it.
DOCKER = "/usr/bin/docker"

# Made by Muster itself before an engine starts.
OWN_SOURCES = (f"{LOG_DIR}/", f"{STATE_DIR}/", "/etc/muster/")
