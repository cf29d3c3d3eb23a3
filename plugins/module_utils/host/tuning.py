# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host tuning changes on a node, and how it finds its way back."""

from __future__ import annotations

import errno
import json
import posixpath
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.files import FilesView
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    MANAGED_HEADER,
    STATE_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import (
    port_range,
    ranges_text,
)

STATE_PATH = STATE_DIR + "/host_tuning.json"
SYSCTL_PATH = "/etc/sysctl.d/90-muster.conf"
UNIT = "muster-host-tuning.service"
UNIT_PATH = "/etc/systemd/system/" + UNIT
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/" + UNIT
RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
GOVERNORS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
# Newest kernels first: the sysctl moved to debugfs in Linux 5.13.
SCHED_MIGRATION_COST = (
    "/sys/kernel/debug/sched/migration_cost_ns",
    "/proc/sys/kernel/sched_migration_cost_ns",
)
SYSCTL_DIRS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")


class TuningError(ValueError):
    """The request or the state kept on the node makes no sense."""


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for. Nothing asked for is what state=absent means."""

    cpu_governor: str | None = None
    sysctl: Mapping[str, str] = field(default_factory=dict)
    sched_migration_cost_ns: int | None = None
    reserved_ports: Sequence[str] = ()


@dataclass(frozen=True)
class State:
    """reserved_ports are those that Muster added, in original is what the node had itself."""

    original: dict[str, str] = field(default_factory=dict)
    reserved_ports: set[int] = field(default_factory=set)
    wants: dict[str, Wanted] = field(default_factory=dict)


@dataclass(frozen=True)
class Write:
    setting: str
    path: str
    before: str
    after: str


@dataclass
class Changes:
    """Everything that differs, decided before anything is touched."""

    writes: list[Write] = field(default_factory=list)
    files: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    settings: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    state_during: State = field(default_factory=State)
    state_after: State = field(default_factory=State)

    @property
    def changed(self) -> bool:
        return bool(self.writes or self.files)


def parse_ports(text: str) -> set[int]:
    """Return the ports of a kernel list such as 8080,60000-60031."""
    ports: set[int] = set()
    for item in text.replace(",", " ").split():
        found = port_range(item, least=0)
        if found is None:
            raise TuningError(
                f"reserved_ports: {item!r} is not a port or a range such as 60000-60031"
            )
        ports.update(found)
    return ports


def sysctl_path(name: str) -> str:
    """Return a sysctl's file. As in sysctl(8), the first separator decides what the other means."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./:-]*", name) or ".." in name:
        raise TuningError(f"sysctl: {name!r} is not the name of a sysctl")
    separators = re.findall(r"[./]", name)
    if separators and separators[0] == ".":
        name = name.translate(str.maketrans("./", "/."))
    return "/proc/sys/" + name


def sysctl_name(path: str) -> str:
    return path[len("/proc/sys/") :].translate(str.maketrans("./", "/."))


def wanted_from(params: Mapping[str, Any]) -> Wanted:
    """Check the options and bring them into one form."""
    governor = params.get("cpu_governor")
    if governor is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", governor):
        raise TuningError(f"cpu_governor: {governor!r} is not the name of a governor")
    sysctl: dict[str, str] = {}
    for name, value in (params.get("sysctl") or {}).items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, str)) or "\n" in str(value):
            raise TuningError(f"sysctl: {name} wants a number or a one-line text, not {value!r}")
        if sysctl_path(name) == sysctl_path(RESERVED_PORTS):
            raise TuningError(f"sysctl: {name} is added to, never set: use reserved_ports")
        if sysctl_path(name) == SCHED_MIGRATION_COST[1]:
            raise TuningError(f"sysctl: {name} is not on every kernel: use sched_migration_cost_ns")
        sysctl[name] = _normal(str(value))
    cost = params.get("sched_migration_cost_ns")
    if cost is not None and cost < 0:
        raise TuningError(f"sched_migration_cost_ns: {cost} is negative")
    ports = tuple(params.get("reserved_ports") or ())
    parse_ports(",".join(ports))
    return Wanted(governor, sysctl, cost, ports)


def combine(wants: Iterable[Wanted]) -> Wanted:
    """Combine what several deployments on one machine want. The last one decides a conflict."""
    governor: str | None = None
    sysctl: dict[str, str] = {}
    cost: int | None = None
    ports: list[str] = []
    for wanted in wants:
        governor = governor if wanted.cpu_governor is None else wanted.cpu_governor
        sysctl.update(wanted.sysctl)
        cost = cost if wanted.sched_migration_cost_ns is None else wanted.sched_migration_cost_ns
        ports.extend(wanted.reserved_ports)
    return Wanted(governor, sysctl, cost, tuple(ports))


def load_state(text: str | None) -> State:
    """Return what was found before the first change, and who wants what."""
    try:
        state = json_text.parse(text) if text is not None else {"original": {}}
        return State(
            {str(path): str(value) for path, value in state["original"].items()},
            parse_ports(state.get("reserved_ports", "")),
            {str(name): wanted_from(options) for name, options in state.get("wants", {}).items()},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TuningError(
            f"{STATE_PATH} cannot be read ({error}); it holds the values to restore. Repair it, or "
            "remove it to take the node's present values as its own."
        ) from error


def dump_state(state: State) -> str | None:
    if not state.original and not state.wants:
        return None
    document = {
        "original": state.original,
        "reserved_ports": ranges_text(state.reserved_ports),
        "wants": {name: asdict(wanted) for name, wanted in state.wants.items()},
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def decide(files: FilesView, own_wish: Wanted, deployment: str) -> Changes:
    """Compare what the node has with what is wanted, live and after a reboot."""
    changes = Changes()
    state = load_state(files.read(STATE_PATH))
    original = dict(state.original)
    wants = {name: wish for name, wish in state.wants.items() if name != deployment}
    if own_wish != Wanted():
        wants[deployment] = own_wish
    wanted = combine(wants.values())
    targets: dict[str, str] = {}
    names: dict[str, str] = {}

    def want(setting: str, path: str, value: str) -> None:
        live = live_value(files, path)
        if live is None:
            closed = f"the kernel keeps {path} closed (lockdown, or a container)"
            reason = closed if files.exists(path) else f"no {path}"
            changes.warnings.append(f"{setting}: unsupported here, {reason}")
            _report(changes, setting, "unsupported", "", value, reason)
            return
        targets[path], names[path] = value, setting
        original.setdefault(path, live)

    for name, value in wanted.sysctl.items():
        want(name, sysctl_path(name), value)
    if wanted.sched_migration_cost_ns is not None:
        present = [path for path in SCHED_MIGRATION_COST if files.exists(path)]
        want(
            "sched_migration_cost_ns",
            present[0] if present else SCHED_MIGRATION_COST[0],
            str(wanted.sched_migration_cost_ns),
        )
    if wanted.cpu_governor is not None:
        for path in _governor_paths(files, wanted.cpu_governor, changes):
            want("cpu_governor", path, wanted.cpu_governor)

    ports_path = sysctl_path(RESERVED_PORTS)
    ports_now = parse_ports(",".join(wanted.reserved_ports))
    ports_before = state.reserved_ports
    live_ports = parse_ports(live_value(files, ports_path) or "")
    own = parse_ports(original[ports_path]) if ports_path in original else live_ports
    if ports_now:
        want(
            RESERVED_PORTS,
            ports_path,
            ranges_text((live_ports - (ports_before - own)) | ports_now),
        )

    kept = {path: value for path, value in original.items() if path in targets}
    persisted = {path: targets[path] for path in kept}
    if ports_path in kept:
        persisted[ports_path] = ranges_text(own | ports_now)
    for path, value in original.items():
        if path in targets:
            continue
        if live_value(files, path) is None:
            # Gone for now, an offline CPU for instance: its way back is kept until all is undone.
            if wanted != Wanted():
                kept[path] = value
            continue
        if path == ports_path:
            value = ranges_text(live_ports - (ports_before - own))
        targets[path] = value
        names[path] = _setting_name(path)

    for path, value in targets.items():
        before = live_value(files, path) or ""
        if before != value:
            changes.writes.append(Write(names[path], path, before, value))
    _report_targets(changes, files, targets, names)

    _compare_files(changes, files, persisted)
    changes.warnings.extend(_overridden(files, persisted))
    changes.state_during = State(original, ports_before | ports_now, wants)
    changes.state_after = State(kept, ports_now if ports_path in kept else set(), wants)
    return changes


def render_sysctl(persisted: Mapping[str, str]) -> str | None:
    """Return the file that systemd-sysctl reads at boot."""
    lines = [
        f"{sysctl_name(path)} = {value}"
        for path, value in sorted(persisted.items())
        if path.startswith("/proc/sys/")
    ]
    return "\n".join([MANAGED_HEADER, *lines, ""]) if lines else None


def render_unit(persisted: Mapping[str, str]) -> str | None:
    """Return the unit that writes at boot what is no sysctl.

    Not tmpfiles.d, which runs before udev has loaded the CPU frequency driver.
    """
    governors = {value for path, value in persisted.items() if path.endswith("/scaling_governor")}
    # $$ is systemd's own escape for a dollar sign that the shell shall see.
    commands = [
        f"ExecStart=-/bin/sh -c 'for file in {GOVERNORS}; do echo {governor} > $$file; done'"
        for governor in sorted(governors)
    ]
    cost = persisted.get(SCHED_MIGRATION_COST[0])
    if cost is not None:
        commands.append(f"ExecStart=-/bin/sh -c 'echo {cost} > {SCHED_MIGRATION_COST[0]}'")
    if not commands:
        return None
    return "\n".join(
        [
            MANAGED_HEADER,
            "[Unit]",
            "Description=Muster host tuning: CPU governor and scheduler",
            "After=systemd-modules-load.service sys-kernel-debug.mount",
            "After=cpufrequtils.service tuned.service",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *commands,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def describe(settings: Mapping[str, str]) -> str:
    """Return live settings as lines. The many CPUs of a governor are counted, not listed."""
    lines: list[str] = []
    governors: dict[str, int] = {}
    for path, value in sorted(settings.items()):
        if path.endswith("/scaling_governor"):
            governors[value] = governors.get(value, 0) + 1
        else:
            lines.append(f"{_setting_name(path)} = {value}")
    counted = ", ".join(f"{value} ({count} CPUs)" for value, count in sorted(governors.items()))
    if counted:
        lines.append(f"cpu_governor = {counted}")
    return "".join(line + "\n" for line in lines)


def diff(changes: Changes) -> list[dict[str, str]]:
    """Return what an operator reads with --diff."""
    entries = []
    if changes.writes:
        entries.append(
            {
                "before_header": "live settings",
                "after_header": "live settings",
                "before": describe({write.path: write.before for write in changes.writes}),
                "after": describe({write.path: write.after for write in changes.writes}),
            }
        )
    for path, (before, after) in changes.files.items():
        entries.append(
            {
                "before_header": path,
                "after_header": path,
                "before": before or "",
                "after": after or "",
            }
        )
    return entries


def live_value(files: FilesView, path: str) -> str | None:
    """Return the value that the kernel has now, None where it has none or shows none."""
    try:
        text = files.read(path)
    except PermissionError:
        return None
    except OSError as error:
        if _is_offline(error):
            return None
        raise
    return None if text is None else _normal(text)


def _is_offline(error: OSError) -> bool:
    """Tell whether a file of a CPU is there and its CPU is offline, as those of SMT that is off."""
    return error.errno in (errno.EBUSY, errno.ENODEV)


def _normal(value: str) -> str:
    return " ".join(value.split())


def _setting_name(path: str) -> str:
    if path.endswith("/scaling_governor"):
        return "cpu_governor"
    if path in SCHED_MIGRATION_COST:
        return "sched_migration_cost_ns"
    return sysctl_name(path)


def _report(
    changes: Changes, name: str, status: str, observed: str, wanted: str, detail: str = ""
) -> None:
    changes.settings.append(
        {"name": name, "status": status, "observed": observed, "wanted": wanted, "detail": detail}
    )


def _report_targets(
    changes: Changes, files: FilesView, targets: Mapping[str, str], names: Mapping[str, str]
) -> None:
    for setting in dict.fromkeys(names.values()):
        paths = [path for path in targets if names[path] == setting]
        seen = ", ".join(sorted({live_value(files, path) or "" for path in paths}))
        value = ", ".join(sorted({targets[path] for path in paths}))
        _report(changes, setting, "ok" if seen == value else "changed", seen, value)


def _governor_paths(files: FilesView, governor: str, changes: Changes) -> list[str]:
    paths = [path for path in files.glob(GOVERNORS) if _has_cpu(files, path)]
    if not paths:
        detail = "no cpufreq, as in a virtual machine"
        changes.warnings.append(f"cpu_governor: unsupported here, {detail}")
        _report(changes, "cpu_governor", "unsupported", "", governor, detail)
    offered: set[str] = set()
    for path in paths:
        text = files.read(posixpath.join(posixpath.dirname(path), "scaling_available_governors"))
        if text is not None and governor not in text.split():
            offered.update(text.split() or ["none"])
    if offered:
        raise TuningError(
            f"cpu_governor: {governor!r} is not offered here, only {', '.join(sorted(offered))}. "
            "Choose one of these or opt out with null."
        )
    return paths


def _has_cpu(files: FilesView, path: str) -> bool:
    try:
        files.read(path)
    except OSError as error:
        return not _is_offline(error)
    return True


def _compare_files(changes: Changes, files: FilesView, persisted: Mapping[str, str]) -> None:
    unit = render_unit(persisted)
    for path, text in ((SYSCTL_PATH, render_sysctl(persisted)), (UNIT_PATH, unit)):
        before = files.read(path)
        if before != text:
            changes.files[path] = (before, text)
    linked = f"starts {UNIT} at boot\n"
    link_before = linked if files.is_link(UNIT_LINK, UNIT_PATH) else None
    link_after = linked if unit else None
    if link_before != link_after:
        changes.files[UNIT_LINK] = (link_before, link_after)


def _overridden(files: FilesView, persisted: Mapping[str, str]) -> list[str]:
    """Return later files of sysctl.d that would undo ours at the next boot."""
    warnings = []
    ours = posixpath.basename(SYSCTL_PATH)
    for folder in SYSCTL_DIRS:
        for path in files.glob(folder + "/*.conf"):
            if posixpath.basename(path) <= ours:
                continue
            for name, value in _parse_sysctl_file(files.read(path) or ""):
                wanted = persisted.get("/proc/sys/" + name.replace(".", "/"))
                if wanted is not None and wanted != value:
                    warnings.append(
                        f"{name}: {path} sets {value!r} after {SYSCTL_PATH} sets {wanted!r}, so a "
                        "reboot loses it. Remove that line."
                    )
    return warnings


def _parse_sysctl_file(text: str) -> list[tuple[str, str]]:
    entries = []
    for line in text.splitlines():
        match = re.fullmatch(r"\s*-?\s*([^\s#;=]+)\s*=\s*(.*)", line)
        if match:
            entries.append((match[1], _normal(match[2])))
    return entries
