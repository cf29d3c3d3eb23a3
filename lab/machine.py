# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab takes from this machine and gives back: packages, apt's sources, global sysctls."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.paths import give_to_caller, log_file, state_dir
from lab.shell import LabError, run, say, step

CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")

# What the lab's nodes set through host_tuning and the kernel keeps for the whole machine.
GLOBAL_SETTINGS = (
    "/proc/sys/vm/swappiness",
    "/proc/sys/kernel/numa_balancing",
    "/proc/sys/kernel/sched_migration_cost_ns",
    "/sys/kernel/debug/sched/migration_cost_ns",
)

# What all nodes share, by the least that many of them need. A node's systemd and containerd hold
# six inotify instances of root, and kernels allow 128 by default: as many as twenty-one nodes have.
LEAST = {"/proc/sys/fs/inotify/max_user_instances": 2048}

# A file that shows that a package is there, and the package.
NEEDED = (
    ("podman", "podman"),
    ("/usr/lib/podman/netavark", "netavark"),
    ("/usr/lib/podman/aardvark-dns", "aardvark-dns"),
    ("iptables", "iptables"),
    ("mmdebstrap", "mmdebstrap"),
    ("ssh-keygen", "openssh-client"),
    ("strip", "binutils"),
)


def has_cgroup_v2() -> bool:
    return CGROUP_V2.exists()


def may_raise_limits() -> bool:
    """Container engines raise RLIMIT_NOFILE to 2**20; a restricted root may not."""
    probe = (
        "import resource as r; "
        "r.setrlimit(r.RLIMIT_NOFILE, (max(2**20, r.getrlimit(r.RLIMIT_NOFILE)[1]),) * 2); "
        "r.setrlimit(r.RLIMIT_NPROC, (r.RLIM_INFINITY, r.RLIM_INFINITY))"
    )
    return run(["/usr/bin/python3", "-c", probe], check=False).returncode == 0


def open_files_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _is_there(marker: str) -> bool:
    return Path(marker).exists() if marker.startswith("/") else shutil.which(marker) is not None


def install_missing_packages() -> None:
    needed = NEEDED if has_cgroup_v2() else (*NEEDED, ("runc", "runc"))
    missing = [package for marker, package in needed if not _is_there(marker)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"the lab needs {', '.join(missing)} and finds no apt-get to install them")
    say(f"  installing on this machine: {' '.join(missing)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with step("apt-get install"):
        run(["apt-get", "update", "-q"], timeout=300, log=log_file("apt-update"))
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            timeout=900,
            env=env,
            log=log_file("apt-install"),
        )


@dataclass(frozen=True)
class AptSources:
    """This machine's own distribution mirror, as mmdebstrap takes it."""

    suite: str
    lines: tuple[str, ...]
    options: tuple[str, ...]


def parse_os_release(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def parse_index_targets(text: str, suite: str, keyring: str) -> tuple[str, ...]:
    """One deb line for each archive of the suite, from `apt-get indextargets`."""
    found: dict[tuple[str, str], list[str]] = {}
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        release = fields.get("Release", "")
        wanted = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates"}
        if fields.get("Origin") in ("Debian", "Ubuntu") and release in wanted:
            components = found.setdefault((fields["Repo-URI"], release), [])
            if fields["Component"] not in components:
                components.append(fields["Component"])
    signed = f"[signed-by={keyring}] " if keyring else ""
    return tuple(
        f"deb {signed}{uri} {release} {' '.join(components)}"
        for (uri, release), components in found.items()
    )


def parse_apt_options(text: str) -> tuple[str, ...]:
    """How this machine's apt reaches its mirror: proxy and certificate settings."""
    keep = ("proxy", "cainfo", "verify-peer", "verify-host")
    return tuple(
        line
        for line in text.splitlines()
        if line.startswith("Acquire::http") and any(word in line.lower() for word in keep)
    )


def apt_sources() -> AptSources:
    release = parse_os_release(Path("/etc/os-release").read_text())
    suite, family = release.get("VERSION_CODENAME", ""), release.get("ID", "")
    if family not in ("debian", "ubuntu") or not suite:
        raise LabError(
            "the lab builds its nodes from this machine's Debian or Ubuntu; this is "
            f"{release.get('PRETTY_NAME', 'something else')}"
        )
    keyring = f"/usr/share/keyrings/{family}-archive-keyring.gpg"
    targets = ["apt-get", "indextargets", "Created-By: Packages"]
    lines: tuple[str, ...] = ()
    for attempt in ("as it is", "after an update"):
        if attempt == "after an update":
            run(["apt-get", "update", "-q"], timeout=300, log=log_file("apt-update"))
        lines = parse_index_targets(
            run(targets).stdout, suite, keyring if Path(keyring).exists() else ""
        )
        if lines:
            break
    else:
        raise LabError(f"apt knows no {family} archive of {suite}: see /etc/apt/sources.list.d")
    return AptSources(suite, lines, parse_apt_options(run(["apt-config", "dump"]).stdout))


# Whose nodes the lab makes on request: the release before or after the machine's own.
OTHER_RELEASES = {"bookworm": "trixie", "trixie": "bookworm", "jammy": "noble", "noble": "jammy"}


def of_other_release(own: AptSources) -> AptSources:
    """The archives of another release, on the same mirrors."""
    suite = OTHER_RELEASES.get(own.suite)
    if suite is None:
        raise LabError(f"the lab knows no other release beside {own.suite}")
    lines = tuple(re.sub(rf" {own.suite}(?=[-/ ])", f" {suite}", line) for line in own.lines)
    return AptSources(suite, lines, own.options)


def _saved_settings() -> Path:
    return state_dir() / "machine.json"


def _debugfs(script: str, stdin: str = "") -> str:
    """Run a shell line where debugfs is mounted, without mounting it for the machine."""
    mount = "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{{ {mount}; }} 2>/dev/null; {script}"],
        input=stdin.encode(),
        capture_output=True,
        timeout=20,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def _keep(values: dict[str, str]) -> None:
    """Add to what `restore_settings` brings back; what was kept before an earlier change stays."""
    file = _saved_settings()
    kept = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**values, **kept}, indent=2) + "\n")
    give_to_caller(file)


def save_settings() -> None:
    """Keep what the machine had before the lab's first change."""
    if _saved_settings().exists():
        return
    values = {path: _debugfs(f"cat {path} 2>/dev/null") for path in GLOBAL_SETTINGS}
    _keep({path: value for path, value in values.items() if value})


def raise_limits() -> None:
    """Raise what would not do for many nodes, and keep what it was for `restore_settings`."""
    for path, least in LEAST.items():
        file = Path(path)
        now = file.read_text().strip() if file.exists() else ""
        if not now or int(now) >= least:
            continue
        _keep({path: now})
        try:
            file.write_text(f"{least}\n")
        except OSError as error:
            say(f"  could not raise {path} from {now} to {least}: {error}")
            say("  the lab goes on; from about twenty nodes on, a new one may give no SSH answer")


def restore_settings() -> None:
    file = _saved_settings()
    if not file.exists():
        return
    for path, value in json.loads(file.read_text()).items():
        now = _debugfs(f"cat {path} 2>/dev/null")
        if now != value:
            _debugfs(f"cat > {path}", stdin=value)
            after = _debugfs(f"cat {path} 2>/dev/null")
            say(
                f"  restored {path}: {now} -> {after}"
                if after == value
                else f"  could not restore {path}: it is {after}, it was {value} before the lab"
            )
    file.unlink()
