# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a module that holds a deployment for a run."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  lock:
    description:
      - The deployment to hold on this node for the run, before the module does anything else. Where
        another run holds it, the module fails and says who that is and since when. It stays held
        until M(muster.serving.run_lock) releases it.
      - Without it nothing is held. In check mode nothing is held either.
    type: str
"""

    # Of a module that runs on the node.
    OWNER = r"""
options:
  owner:
    description: The run that holds it. The action of the module's name gives it.
    type: dict
"""
