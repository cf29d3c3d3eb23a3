"""The commands of docs/controllers.md, as its readers run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PAGE = (ROOT / "docs/controllers.md").read_text(encoding="utf-8")


def commands(name: str) -> str:
    """Return the commands that the page gives under a name."""
    (block,) = re.findall(rf"<!-- test: {name} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def shell(script: str, folder: Path, inventory: str, **variables: str) -> tuple[int, str]:
    """Run commands from the root of the checkout; return the exit code and what they print.

    Both folders of the page lie in the given one.
    """
    inherited = {key: one for key, one in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FLEET": str(folder / "fleet"),
            "RESULTS": str(folder / "results"),
            "INVENTORY": inventory,
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout)
    return done.returncode, done.stdout
