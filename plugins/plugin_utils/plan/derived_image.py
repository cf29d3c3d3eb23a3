# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that a recipe's source changes make of the engine's image, as a Containerfile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.engine.image import parse_reference

_LONGEST_TAG = 128
# The scripts get the file as $1 and ask no more of an image than sh and the core utilities.
_VERIFY = """\
seen=missing
[ ! -f "$1" ] || seen=$(sha256sum <"$1")
if [ "${seen%% *}" != "$2" ]; then
  printf 'muster: %s is not the file that the recipe changes: ' "$1" >&2
  printf 'its sha256 is %s, not %s\\n' "${seen%% *}" "$2" >&2
  exit 1
fi
"""
_RENAME = """\
if [ -e "$2" ]; then
  printf 'muster: %s is there already\\n' "$2" >&2
  exit 1
fi
mv -- "$1" "$2"
"""
# What stands on the line decides, not its indentation. The file keeps its owner and mode.
_COMMENT_OUT = """\
found=
while IFS= read -r line || [ -n "$line" ]; do
  text=${line#"${line%%[![:space:]]*}"}
  if [ "$text" = "$2" ]; then
    found=yes
    line="${line%"$text"}# $text"
  fi
  printf '%s\\n' "$line"
done <"$1" >"$1.muster"
if [ -z "$found" ]; then
  printf 'muster: %s has no line %s\\n' "$1" "$2" >&2
  exit 1
fi
cat "$1.muster" >"$1"
rm "$1.muster"
"""


def derive(image: str, patches: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the derived image's name and its Containerfile.

    The name says what the image is made of. Every original is verified before anything changes, so
    that an image for which the changes were not written fails to build instead of running changed
    by half.
    """
    steps = [_run(_VERIFY, patch["path"], patch["sha256"]) for patch in patches]
    for patch in patches:
        if "rename_to" in patch:
            steps.append(_run(_RENAME, patch["path"], patch["rename_to"]))
        else:
            steps.append(_run(_COMMENT_OUT, patch["path"], patch["comment_out"].lstrip()))
    text = "\n".join([f"FROM {image}", *steps, ""])
    reference = parse_reference(image)
    name = reference.repository.rpartition("/")[2]
    mark = "-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    tag = (reference.tag or "pinned")[: _LONGEST_TAG - len(mark)]
    return {"image": f"muster/{name}:{tag}{mark}", "containerfile": text}


def _run(script: str, *words: str) -> str:
    """Return a step in the form that no shell reads: JSON keeps any path and line as it is."""
    return "RUN " + json.dumps(["/bin/sh", "-ec", script, "sh", *words])
