# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a node's firewall, and puts ours on trial, confirms it and removes it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.network.firewall import (
    CONFIRMING_PATH,
    FIREWALLD,
    KEPT_DIR,
    STATE_PATH,
    TRIAL_DIR,
    TRIAL_PATH,
    UNDO_UNIT,
    UNIT,
    UNIT_LINK,
    UNIT_PATH,
    Command,
    FirewallError,
    Kept,
    Listener,
)
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    SocketEntry,
    parse_ephemeral,
    parse_socket_table,
)
from ansible_collections.muster.serving.plugins.module_utils.network.sockets_io import owners_of

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "default": "default"},
    "state": {
        "type": "str",
        "choices": ["present", "confirmed", "absent"],
        "default": "present",
    },
    "peers": {"type": "list", "elements": "str", "default": []},
    "internal_sources": {"type": "list", "elements": "str", "default": []},
    "api_sources": {"type": "list", "elements": "str", "default": []},
    "api_ports": {"type": "list", "elements": "str", "default": []},
    "also_allowed": {"type": "list", "elements": "str", "default": []},
    "close_others": {"type": "bool", "default": False},
    "ssh_ports": {"type": "list", "elements": "int", "default": []},
    "backend": {
        "type": "str",
        "choices": ["auto", "nftables", "iptables", "firewalld"],
        "default": "auto",
    },
    "trial_s": {"type": "int", "default": 60},
}
COMMAND_S = 30
# Beside PATH: what a login without sudo, or a unit, does not have in it.
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


@dataclass
class Changes:
    """What the node has otherwise, decided before anything is touched.

    Fields:
        kept: What holds for good now.
        wanted: What is to hold; its listing is not known yet.
        files: By name, the rule files that are to hold.
        before: Those that hold for good now.
        unit: The text of the unit that is to hold, None where none is.
        unit_before: The one that is there.
        rich: By zone of firewalld, the rules that it lacks now.
        others: What listens here and would be closed to all but peers.
        why: What differs, a phrase each; empty where nothing does.
        effect: What the rules mean, a line each.
        effect_before: What those mean that hold for good now.
    """

    kept: Kept
    wanted: Kept
    files: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    unit: str | None = None
    unit_before: str | None = None
    rich: dict[str, list[str]] = field(default_factory=dict)
    others: list[Listener] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    effect: list[str] = field(default_factory=list)
    effect_before: list[str] = field(default_factory=list)

    @property
    def diff(self) -> list[dict[str, str]]:
        """Return what an operator reads with --diff."""
        entries = []
        if self.effect != self.effect_before:
            entries.append(
                {
                    "before": "".join(f"{line}\n" for line in self.effect_before),
                    "after": "".join(f"{line}\n" for line in self.effect),
                    "before_header": "who may begin what here",
                    "after_header": "who may begin what here",
                }
            )
        entries += [
            {
                "before": self.before.get(name, ""),
                "after": self.files.get(name, ""),
                "before_header": f"{KEPT_DIR}/{name}",
                "after_header": f"{KEPT_DIR}/{name}",
            }
            for name in sorted({*self.before, *self.files})
            if self.before.get(name) != self.files.get(name)
        ]
        if self.unit != self.unit_before:
            entries.append(
                {
                    "before": self.unit_before or "",
                    "after": self.unit or "",
                    "before_header": UNIT_PATH,
                    "after_header": UNIT_PATH,
                }
            )
        return entries


def difference(files: NodeFiles, params: Mapping[str, Any]) -> Changes:
    """Return what node_firewall would change; state confirmed changes nothing that is asked here.

    Raises:
        FirewallError: An option or the node does not allow it.
        CommandError: A command of the node did not end.
    """
    kept = firewall.load_kept(files.read(STATE_PATH))
    if params["state"] == "absent" and kept.wants and params["deployment"] not in kept.wants:
        return Changes(kept, kept)
    wants = {name: want for name, want in kept.wants.items() if name != params["deployment"]}
    if params["state"] != "absent":
        wants[params["deployment"]] = firewall.want_from(params)
    before = _rules_in(files, KEPT_DIR)
    meant = firewall.effect(firewall.policy_of(kept.wants.values(), kept.ssh)) if kept.wants else []
    unit_before = files.read(UNIT_PATH)
    if not wants:
        there = {UNIT_PATH: unit_before, STATE_PATH: kept.wants}
        gone = [f"{KEPT_DIR}/{name}" for name in before]
        gone += [path for path, found in there.items() if found]
        return Changes(
            kept, Kept(), before=before, unit_before=unit_before, why=gone, effect_before=meant
        )

    listeners = _listeners()
    ssh = {*params["ssh_ports"], *firewall.ssh_ports_of(listeners, session())}
    policy = firewall.policy_of(wants.values(), ssh)
    backend = _backend(params["backend"], kept.backend)
    rules = firewall.rule_files(policy, backend, _ipv6(backend))
    now, later = _rich_missing(firewall.rich_rules(policy)) if backend == FIREWALLD else ({}, {})
    # What the host's admin has let in himself is not ours to remove one day.
    rich = firewall.own_rich(firewall.rich_rules(policy), kept.rich, later)
    wanted = Kept(wants, backend, tuple(sorted(ssh)), "", rich)
    paths = {name: _path_of(name) for name in firewall.commands_used(rules)}
    changes = Changes(
        kept,
        wanted,
        rules,
        before,
        firewall.unit_text(rules, paths),
        unit_before,
        now,
        firewall.closed(listeners, policy, wants),
        effect=firewall.effect(policy),
        effect_before=meant,
    )
    changes.why = [
        *(
            f"{KEPT_DIR}/{name}"
            for name in sorted({*rules, *before})
            if rules.get(name) != before.get(name)
        ),
        *([UNIT_PATH] if changes.unit != unit_before else []),
        *([] if files.is_link(UNIT_LINK, UNIT_PATH) else [UNIT_LINK]),
        *([f"zone {zone} of firewalld" for zone in sorted({*now, *later})]),
        *([STATE_PATH] if replace(kept, listing="") != wanted else []),
    ]
    if not changes.why and listing(rules) != kept.listing:
        changes.why.append("the rules in the kernel")
    return changes


def state(params: Mapping[str, Any]) -> State:
    """Return what node_firewall would change."""
    return State(difference(NodeFiles(), params).why)


def refuse(changes: Changes, close_others: bool) -> None:
    """Let nothing pass that would close what others use here.

    Raises:
        FirewallError: Something listens that nobody but peers would reach any more.
    """
    if changes.others and not close_others:
        raise FirewallError(firewall.refusal(changes.others))


def reloads(files: NodeFiles, changes: Changes) -> bool:
    """Return whether these changes, once confirmed, make systemd read its units anew."""
    linked = files.is_link(UNIT_LINK, UNIT_PATH)
    return changes.unit != changes.unit_before or (changes.unit is not None and not linked)


def put_on_trial(files: NodeFiles, changes: Changes, trial_s: int) -> None:
    """Bring the rules into the kernel, for as long as they are not confirmed.

    The way back is set before the first rule, and needs neither Ansible nor this file.

    Raises:
        FirewallError: There is no way back here, or a rule was refused.
    """
    if not files.exists("/run/systemd/system"):
        raise FirewallError("systemd does not run here, and without its timer there is no way back")
    take_back(files)
    # A run that was ended between two files left them without a mark.
    shutil.rmtree(files.path(TRIAL_DIR), ignore_errors=True)
    script = firewall.undo_script(changes.files, changes.before, changes.rich)
    mark = {
        "wanted": asdict(changes.wanted),
        "unit": changes.unit,
        "session": session(),
        "undo": script,
    }
    for name, text in changes.files.items():
        files.write(f"{TRIAL_DIR}/{name}", text, 0o600)
    files.write(TRIAL_PATH, json.dumps(mark), 0o600)
    try:
        _needed(
            [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={UNDO_UNIT}",
                "--description=Muster firewall: takes back what was not confirmed",
                f"--on-active={trial_s}",
                "--timer-property=AccuracySec=1s",
                f"--setenv=PATH={SBIN}",
                "/bin/sh",
                "-c",
                firewall.timer_script(script),
            ]
        )
        if changes.before and set(changes.before) != set(changes.files):
            carry_out(firewall.unload_commands(changes.before))
        carry_out(firewall.load_commands(changes.files, TRIAL_DIR))
        for argv in firewall.rich_commands(changes.rich, "add", permanent=False):
            _needed(argv)
    except (FirewallError, CommandError):
        # No need to wait a minute for what is known to be wrong.
        take_back(files)
        raise


def take_back(files: NodeFiles) -> None:
    """Go back to what holds for good, where something is on trial.

    Raises:
        FirewallError: What is on trial cannot be read, and goes its way.
    """
    if not _mark(files):
        return
    run(["systemctl", "stop", f"{UNDO_UNIT}.timer"], COMMAND_S)
    # It may have been confirmed, or have taken itself back, just before.
    mark = _mark(files)
    if mark:
        run(["/bin/sh", "-c", f"PATH={SBIN}; {mark['undo']}"], COMMAND_S)


def abandon(files: NodeFiles, deployment: str, check_mode: bool) -> bool:
    """Go back where what a deployment wants is on trial; return whether it is.

    That of one that is kept, too, is taken back where it is withdrawn.
    """
    mark = _mark(files)
    if not mark or deployment not in mark["wanted"]["wants"]:
        return False
    if not check_mode:
        take_back(files)
    return True


def _mark(files: NodeFiles) -> Mapping[str, Any] | None:
    """Return what is on trial, also where a confirmation was cut off; None for nothing.

    Raises:
        FirewallError: It cannot be read; its way back is left to go its way.
    """
    for path in (TRIAL_PATH, CONFIRMING_PATH):
        text = files.read(path)
        if text is not None:
            return _mark_of(path, text)
    return None


def _mark_of(path: str, text: str) -> Mapping[str, Any]:
    try:
        mark: Mapping[str, Any] = json_text.parse(text)
        texts = (mark["undo"], mark["unit"], mark["session"])
        if all(isinstance(one, str) for one in texts) and isinstance(mark["wanted"]["wants"], dict):
            return mark
        raise ValueError("it is not what Muster writes there")
    except (ValueError, LookupError, TypeError) as error:
        raise FirewallError(
            f"{path} cannot be read ({error}). What is on trial takes itself back (systemctl "
            f"list-timers {UNDO_UNIT}.timer); remove the file after that, and run again."
        ) from error


def confirm(files: NodeFiles, params: Mapping[str, Any]) -> bool:
    """Let what is on trial hold for good; return whether anything was.

    Raises:
        FirewallError: It has been taken back, or nobody has come in anew to confirm it.
        CommandError: A command of the node did not end.
    """
    mark = _mark(files)
    if mark and mark["session"] and mark["session"] == session():
        raise FirewallError(
            "the firewall is confirmed over a new connection alone, and this is the one that put "
            "it on trial: reset the connection (meta: reset_connection), then confirm"
        )
    asked = asdict(firewall.want_from(params))
    if mark and mark["wanted"]["wants"].get(params["deployment"]) != asked:
        raise FirewallError("something else is on trial here, of another run: run again")
    run(["systemctl", "stop", f"{UNDO_UNIT}.timer"], COMMAND_S)
    # The way back begins by taking the mark away, if it is still there.
    with contextlib.suppress(FileNotFoundError):
        os.replace(files.path(TRIAL_PATH), files.path(CONFIRMING_PATH))
    if not mark or not files.exists(CONFIRMING_PATH):
        if difference(files, params).why:
            raise FirewallError(
                "nothing is on trial here: the firewall was not confirmed in time and has taken "
                "itself back. If nobody could come in anew, look how SSH reaches the node; then "
                "run again"
            )
        return False
    rules = _rules_in(files, TRIAL_DIR)
    old = firewall.load_kept(files.read(STATE_PATH))
    kept = firewall.load_kept(json.dumps({**mark["wanted"], "listing": listing(rules)}))
    if kept.backend == FIREWALLD:
        # Else firewalld has gone since, and those of its rules that were ours with it. It may have
        # been reloaded since the trial began.
        for permanent in (False, True):
            for argv in firewall.rich_commands(kept.rich, "add", permanent=permanent):
                _needed(argv)
    _remove_rich(firewall.only_in(old.rich, kept.rich))
    _keep_rules(files, rules)
    if files.read(UNIT_PATH) != mark["unit"]:
        files.write(UNIT_PATH, mark["unit"])
        _needed(["systemctl", "daemon-reload"])
    if not files.is_link(UNIT_LINK, UNIT_PATH):
        _needed(["systemctl", "enable", "--quiet", UNIT])
    # It brings the same rules once more, in one step over those of the trial.
    _needed(["systemctl", "reload-or-restart", UNIT])
    files.write(STATE_PATH, firewall.dump_kept(kept), 0o600)
    shutil.rmtree(files.path(TRIAL_DIR), ignore_errors=True)
    return True


def withdraw(files: NodeFiles, changes: Changes) -> None:
    """Take a deployment out: the rules of the others hold, or none.

    Raises:
        FirewallError: A command failed.
    """
    take_back(files)
    _remove_rich(firewall.only_in(changes.kept.rich, changes.wanted.rich))
    if not changes.files:
        if changes.unit_before:
            _needed(["systemctl", "disable", "--quiet", "--now", UNIT])
        carry_out(firewall.unload_commands(changes.before))
        for path in (*(f"{KEPT_DIR}/{name}" for name in changes.before), UNIT_PATH, STATE_PATH):
            files.remove(path)
        if files.exists(KEPT_DIR) and not os.listdir(files.path(KEPT_DIR)):
            os.rmdir(files.path(KEPT_DIR))
        _needed(["systemctl", "daemon-reload"])
        return
    if set(changes.before) != set(changes.files):
        carry_out(firewall.unload_commands(changes.before))
    _keep_rules(files, changes.files)
    carry_out(firewall.load_commands(changes.files, KEPT_DIR))
    if changes.unit is not None and changes.unit != changes.unit_before:
        files.write(UNIT_PATH, changes.unit)
        _needed(["systemctl", "daemon-reload"])
    kept = replace(changes.wanted, listing=listing(changes.files))
    files.write(STATE_PATH, firewall.dump_kept(kept), 0o600)


def listing(rules: Mapping[str, str]) -> str:
    """Return our rules as they stand in the kernel; of what is not there, nothing."""
    texts = []
    for argv in firewall.listing_commands(rules):
        said = _said(argv)
        texts.append(firewall.listed(argv, said.stdout) if said and said.rc == 0 else "")
    return firewall.normal_listing("\n".join(texts))


def carry_out(commands: Sequence[Command]) -> None:
    """Run commands in their order.

    Raises:
        FirewallError: One that is needed failed.
    """
    for one in commands:
        if one.needed:
            _needed(one.argv)
        else:
            _said(one.argv)


def session() -> str:
    """Return SSH_CONNECTION of the connection that this process belongs to; nothing without one.

    sudo takes it out of the environment, so the parents' are asked.
    """
    pid = os.getpid()
    while pid > 1:
        proc = Path("/proc") / str(pid)
        try:
            environment = (proc / "environ").read_bytes().split(b"\0")
            parent = (proc / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            return ""
        for entry in environment:
            name, _equals, value = entry.partition(b"=")
            if name == b"SSH_CONNECTION":
                return value.decode(errors="replace")
        pid = int(parent)
    return ""


def _keep_rules(files: NodeFiles, rules: Mapping[str, str]) -> None:
    for name in set(_rules_in(files, KEPT_DIR)) - set(rules):
        files.remove(f"{KEPT_DIR}/{name}")
    for name, text in rules.items():
        files.write(f"{KEPT_DIR}/{name}", text, 0o600)


def _rules_in(files: NodeFiles, folder: str) -> dict[str, str]:
    found = {}
    for path in files.glob(f"{folder}/rules.*"):
        text = files.read(path)
        if text is not None:
            found[os.path.basename(path)] = text
    return found


def _backend(asked: str, kept: str) -> str:
    iptables = _said(["iptables", "-w", "10", "-S", "INPUT"])
    nft = _said(["nft", "list", "tables"])
    firewalld = _said(["firewall-cmd", "--state"])
    return firewall.choose_backend(
        asked,
        kept,
        firewalld=firewalld is not None and firewalld.rc == 0,
        nft=nft is not None and nft.rc == 0,
        iptables=iptables is not None and iptables.rc == 0,
        input_rules=iptables.stdout if iptables else "",
    )


def _ipv6(backend: str) -> bool:
    """Return whether IPv6 has rules of its own; the table of nftables is of both.

    Raises:
        FirewallError: The node speaks IPv6, and there is no ip6tables to close it.
    """
    if backend != firewall.IPTABLES:
        return True
    said = _said(["ip6tables", "-w", "10", "-S", "INPUT"])
    if said is not None and said.rc == 0:
        return True
    if _read("/proc/net/if_inet6").strip():
        raise FirewallError(
            "the node speaks IPv6, and no ip6tables works here: it would stay open to that. "
            "Install ip6tables or nftables, or turn IPv6 off (net.ipv6.conf.all.disable_ipv6)."
        )
    return False


def _rich_missing(
    rules: Sequence[str],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return by zone of firewalld that is in use which rules it lacks now, and which for good."""
    active, default = ([f"--get-{what}"] for what in ("active-zones", "default-zone"))
    zones = firewall.parse_zones(_firewalld(active), _firewalld(default))
    now: dict[str, list[str]] = {}
    later: dict[str, list[str]] = {}
    for zone in zones:
        for lacking, when in ((now, []), (later, ["--permanent"])):
            there = _firewalld([*when, f"--zone={zone}", "--list-rich-rules"]).splitlines()
            missing = [rule for rule in rules if rule not in there]
            if missing:
                lacking[zone] = missing
    return now, later


def _remove_rich(rich: Mapping[str, Sequence[str]]) -> None:
    for permanent in (False, True):
        for argv in firewall.rich_commands(rich, "remove", permanent=permanent):
            _said(argv)


def _firewalld(words: list[str]) -> str:
    return _needed(["firewall-cmd", *words]).stdout


def _listeners() -> list[Listener]:
    tables: dict[str, list[SocketEntry]] = {}
    for protocol in firewall.PROTOCOLS:
        texts = [_read(f"/proc/net/{protocol}{version}") for version in ("", "6")]
        tables[protocol] = [entry for text in texts for entry in parse_socket_table(text)]
    wanted = {
        entry.inode: [entry]
        for entries in tables.values()
        for entry in entries
        if entry.inode and (entry.listening or entry.remote.endswith(" port 0"))
    }
    ephemeral = parse_ephemeral(_read("/proc/sys/net/ipv4/ip_local_port_range"))
    return firewall.listeners_of(tables, owners_of(wanted, Path("/proc")), ephemeral)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _path_of(name: str) -> str:
    found = shutil.which(name, path=SBIN)
    if found is None:
        raise FirewallError(f"there is no {name} in {SBIN}: install it")
    return found


def _said(argv: Sequence[str]) -> Output | None:
    """Return what a command said; None where there is none."""
    path = shutil.which(argv[0], path=SBIN)
    if path is None:
        return None
    try:
        return run([path, *argv[1:]], COMMAND_S)
    except CommandError as error:
        if error.not_started:
            return None
        raise


def _needed(argv: Sequence[str]) -> Output:
    said = _said(argv)
    if said is None or said.rc != 0:
        text = said.text if said else "there is no such command"
        raise FirewallError(f"{' '.join(argv[:6])}: {text}")
    return said
