"""The docs are what the code and the recipes say."""

import subprocess
import sys

from tests.conftest import ROOT


def test_the_generated_docs_are_up_to_date() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
