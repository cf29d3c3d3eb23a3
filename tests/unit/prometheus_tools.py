"""Debian's Prometheus and its kin, unpacked into the cache: nothing is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
    "prometheus-node-exporter": "prometheus-node-exporter",
}


@functools.cache
def tool(name: str) -> str:
    """Return the path of a program; the test is skipped where it cannot be had."""
    installed = shutil.which(name)
    if installed:
        return installed
    package = PACKAGES[name]
    policy = (
        subprocess.run(
            ["apt-cache", "policy", package], capture_output=True, text=True, check=False
        )
        if shutil.which("apt-cache")
        else None
    )
    candidate = ""
    for line in policy.stdout.splitlines() if policy else ():
        if line.strip().startswith("Candidate:"):
            candidate = line.split(":", 1)[1].strip()
    if candidate in ("", "(none)"):
        pytest.skip(f"no package {package}: apt-get update, or install it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "muster-prometheus" / f"{package}-{candidate.replace(':', '_')}"
    if not folder.exists():
        _unpack(package, folder)
    return str(folder / "usr" / "bin" / name)


def _unpack(package: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        got = subprocess.run(
            ["apt-get", "download", package],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(scratch).glob("*.deb"))
        if got.returncode != 0 or not archives:
            pytest.skip(f"{package} cannot be downloaded: {got.stderr.strip()[-200:]}")
        root = Path(scratch) / "root"
        subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(root)], check=True)
        try:
            root.rename(folder)
        except OSError:
            # Another process was faster.
            assert folder.exists()


def run(name: str, *arguments: str, stdin: str = "", rc: int = 0) -> str:
    """Return what a program prints; it has to end with rc."""
    done = subprocess.run(
        [tool(name), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout + done.stderr
