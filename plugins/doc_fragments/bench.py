# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that make a load or judge it have in common."""

from __future__ import annotations


class ModuleDocFragment:
    # Of those that run the client.
    CLIENT = r"""
options:
  results:
    description:
      - Name of the variable under which the hosts of C(made.units) registered the result of
        M(muster.serving.unit_info). Without it nothing is asked of the units.
    type: str
  api_key_file:
    description: A file on the client's host with the API's key, which gets into no command line.
    type: path
"""

    # Of those that make one load and watch the engines meanwhile.
    WATCHED = r"""
options:
  every:
    description: Seconds between two samples of the engines' metrics.
    type: float
    default: 2.0
"""

    # Of those that run GuideLLM.
    GUIDELLM = r"""
options:
  venv:
    description: An environment with GuideLLM on the client's host, in place of one that is made.
    type: path
  trace:
    description:
      - A file on the client's host with requests to replay, one JSON object a line, with
        C(timestamp), C(input_length) and C(output_length), and C(hash_ids) as Mooncake's have them.
    type: path
"""

    # Of those that tell whose figures they are.
    WHOSE = r"""
options:
  devices:
    description: What M(muster.serving.device_info) returned on the head; without devices it counts
      for nothing.
    type: dict
    default: {}
"""
