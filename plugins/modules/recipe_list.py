# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recipe_list
short_description: List the recipes that a cluster can run
version_added: "0.1.0"
description:
  - Shows every recipe and variant with its platform, the nodes and devices of one replica, the
    longest context, the best published output throughput and how far it is proven.
  - An action plugin does it on the controller; no node is connected to.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
options:
  folders:
    description: Folders with own recipes, searched before those of the collection.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Show what can be served
  muster.serving.recipe_list:
    folders: [/etc/muster/recipes]
"""

RETURN = r"""
recipes:
  description:
    - One entry a variant, with C(recipe), C(variant), C(summary), C(engine), C(platform),
      C(nodes), C(devices), C(context), C(evidence) and C(reference).
    - C(reference) is the published figure with the highest output throughput, or null.
  returned: always
  type: list
  elements: dict
"""
