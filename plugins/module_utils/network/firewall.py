# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall of a node that serves: who may begin what, as rules for nftables and iptables. Pure.

An engine listens on ports that nobody can list before it runs, so the rules name who comes in, not
which ports are closed: a new TCP connection and unasked UDP from anybody else is dropped. All that
is under way, SSH, loopback, address leases and whatever is neither TCP nor UDP is left alone.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from dataclasses import asdict, dataclass, field
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence, Union

from ansible_collections.muster.serving.plugins.module_utils.common import json_text
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.common.paths import (
    MANAGED_HEADER,
    STATE_DIR,
)
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import (
    port_range,
    ranges_text,
)
from ansible_collections.muster.serving.plugins.module_utils.common.systemd import unit_file
from ansible_collections.muster.serving.plugins.module_utils.network.ports import (
    LISTENER,
    SocketEntry,
)

TABLE = "muster"
CHAIN = "muster-firewall"
UNIT = "muster-firewall.service"
UNIT_PATH = "/etc/systemd/system/" + UNIT
# Whether the unit starts at boot.
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/" + UNIT
UNDO_UNIT = "muster-firewall-undo"
STATE_PATH = STATE_DIR + "/firewall.json"
# What holds for good, and what holds until the minute is over.
KEPT_DIR = "/etc/muster/firewall"
TRIAL_DIR = "/run/muster/firewall"
TRIAL_PATH = TRIAL_DIR + "/trial.json"
# The same file while it is confirmed: either that or the timer gets it, and never both.
CONFIRMING_PATH = TRIAL_DIR + "/confirming.json"

# As Debian's nftables.service, and further. iptables may have to load its kernel module itself, and
# locks a file in /run.
HARDENING = (
    ("CapabilityBoundingSet", "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_MODULE"),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "full"),
    ("ProtectHome", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_NETLINK AF_INET AF_INET6"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
)

NFTABLES = "nftables"
IPTABLES = "iptables"
FIREWALLD = "firewalld"

PROTOCOLS = ("tcp", "udp")
# Answers to a DHCP client come from addresses that it has not asked: without them a lease ends.
LEASE_PORTS = (68, 546)
BRIDGE_ZONES = ("docker", "libvirt", "libvirt-routed")
SSH_SERVERS = ("sshd", "dropbear")
# These services empty the kernel's rules, ours among them, when they stop, start or reload.
FLUSHING = (
    "nftables.service",
    "netfilter-persistent.service",
    "iptables.service",
    "ip6tables.service",
)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class FirewallError(ValueError):
    """The request makes no sense on this node, or would cost the operator something."""


@dataclass(frozen=True)
class Want:
    """What a deployment wants of its node's firewall.

    Fields:
        internal: Addresses and networks that may begin anything: the other nodes, and more.
        api_sources: Those that may reach the API.
        api_ports: The ports of the API, numbers and FIRST-LAST.
        also_allowed: Ports that stay as they are for everybody: PORT[/tcp|/udp], or a range.
    """

    internal: Sequence[str] = ()
    api_sources: Sequence[str] = ()
    api_ports: Sequence[str] = ()
    also_allowed: Sequence[str] = ()


class Policy(NamedTuple):
    """What all deployments of a node want together.

    Fields:
        internal: The networks that may begin anything, without overlaps.
        api: By networks, the TCP ports that they may reach.
        open: By protocol, the ports that stay as they are for everybody, SSH among them.
    """

    internal: tuple[Network, ...]
    api: tuple[tuple[tuple[Network, ...], tuple[range, ...]], ...]
    open: Mapping[str, tuple[range, ...]]


class Listener(NamedTuple):
    """A port on which something other than the node itself can be answered."""

    protocol: str
    port: int
    owners: tuple[Owner, ...] = ()

    def __str__(self) -> str:
        who = ", ".join(sorted({str(owner) for owner in self.owners}))
        return f"{self.port}/{self.protocol} ({who or 'the kernel, or a process that is not seen'})"


@dataclass(frozen=True)
class Kept:
    """What holds on a node.

    Fields:
        wants: By deployment.
        backend: nftables, iptables or firewalld; empty where no deployment wants anything.
        ssh: The ports of SSH that the rules leave alone.
        listing: The kernel's rules as the tool listed them when they were confirmed.
        rich: By zone of firewalld, the rules that were added to it.
    """

    wants: dict[str, Want] = field(default_factory=dict)
    backend: str = ""
    ssh: tuple[int, ...] = ()
    listing: str = ""
    rich: dict[str, list[str]] = field(default_factory=dict)


def want_from(params: Mapping[str, Any]) -> Want:
    """Return what the module's options ask for, in one spelling.

    Raises:
        FirewallError: An option names no address, network or port.
    """
    internal = [*(params["peers"] or ()), *(params["internal_sources"] or ())]
    want = Want(
        _networks_text("peers, internal_sources", internal),
        _networks_text("api_sources", params["api_sources"] or ()),
        _ranges("api_ports", params["api_ports"] or ()),
        sorted({text.strip() for text in map(str, params["also_allowed"] or ())}),
    )
    allowed(want.also_allowed)
    return want


def _networks_text(option: str, values: Iterable[Any]) -> list[str]:
    return [str(network) for network in networks(option, values)]


def _ranges(option: str, values: Iterable[Any]) -> list[str]:
    ports: set[int] = set()
    for value in values:
        found = port_range(str(value))
        if found is None:
            raise FirewallError(f"{option}: {value!r} is neither a port nor a range FIRST-LAST")
        ports.update(found)
    return ranges_text(ports).split(",") if ports else []


def networks(option: str, values: Iterable[Any]) -> tuple[Network, ...]:
    """Return addresses and networks, sorted, IPv4 first and without overlaps.

    Raises:
        FirewallError: One is neither; a name would have to be looked up, and may change.
    """
    found: dict[int, list[Any]] = {4: [], 6: []}
    for value in values:
        try:
            network = ipaddress.ip_network(value if isinstance(value, str) else "", strict=False)
        except ValueError:
            raise FirewallError(
                f"{option}: {value!r} is no IP address and no network such as 10.0.0.0/24. A name "
                "will not do: without the address its owner would be locked out."
            ) from None
        found[network.version].append(network)
    return tuple(
        one for version in (4, 6) for one in sorted(ipaddress.collapse_addresses(found[version]))
    )


def allowed(values: Iterable[str]) -> dict[str, set[int]]:
    """Return by protocol the ports of PORT, PORT/tcp, FIRST-LAST/udp and the like.

    Raises:
        FirewallError: One is none.
    """
    ports: dict[str, set[int]] = {protocol: set() for protocol in PROTOCOLS}
    for value in values:
        text, slash, protocol = str(value).partition("/")
        found = port_range(text)
        if found is None or (slash and protocol not in PROTOCOLS):
            raise FirewallError(
                f"also_allowed: {value!r} is no port such as 9100, 9100/tcp or 9100-9110/udp"
            )
        for one in [protocol] if slash else PROTOCOLS:
            ports[one].update(found)
    return ports


def policy_of(wants: Iterable[Want], ssh: Collection[int]) -> Policy:
    """Return what several deployments and the node's SSH want together.

    Raises:
        FirewallError: No port of SSH is known, or a want makes no sense.
    """
    if not ssh:
        raise FirewallError(
            "no port of SSH is known here: no sshd listens, and this run does not come over SSH. "
            "Name it with ssh_ports (firewall_ssh_ports), so that nobody is locked out."
        )
    wants = list(wants)
    open_ports: dict[str, set[int]] = {"tcp": set(ssh), "udp": set(LEASE_PORTS)}
    by_port: dict[int, set[str]] = {}
    for want in wants:
        for protocol, ports in allowed(want.also_allowed).items():
            open_ports[protocol] |= ports
        for text in want.api_ports:
            for port in port_range(text) or ():
                by_port.setdefault(port, set()).update(want.api_sources)
    by_sources: dict[tuple[Network, ...], set[int]] = {}
    for port, sources in by_port.items():
        if sources:
            by_sources.setdefault(networks("api_sources", sources), set()).add(port)
    return Policy(
        networks("peers", (one for want in wants for one in want.internal)),
        tuple(
            (sources, _as_ranges(ports))
            for sources, ports in sorted(by_sources.items(), key=lambda item: min(item[1]))
        ),
        {protocol: _as_ranges(open_ports[protocol]) for protocol in PROTOCOLS},
    )


def _as_ranges(ports: Collection[int]) -> tuple[range, ...]:
    texts = ranges_text(ports).split(",") if ports else []
    return tuple(found for found in map(port_range, texts) if found is not None)


def _within(ranges: Iterable[range], port: int) -> bool:
    return any(port in ports for ports in ranges)


# Rules


def nft_text(policy: Policy) -> str:
    """Return the table as nft -f reads it: it takes the place of what was there in one step.

    Before the host's own chains (priority 0), and it only drops: what it lets through is theirs to
    judge. A TCP connection is refused by its first packet alone, so none that is under way when the
    table comes is cut.
    """
    rules = [
        'iifname "lo" accept',
        "ct state established,related accept",
        f"meta l4proto != {{ {', '.join(PROTOCOLS)} }} accept",
        "meta l4proto tcp tcp flags & (syn | ack) != syn accept",
    ]
    rules += [
        f"{protocol} dport {_nft_ports(ports)} accept" for protocol, ports in policy.open.items()
    ]
    rules += [f"{match}accept" for match in _nft_sources(policy.internal)]
    for sources, ports in policy.api:
        rules += [f"{match}tcp dport {_nft_ports(ports)} accept" for match in _nft_sources(sources)]
    rules.append("counter drop")
    lines = "".join(f"    {rule}\n" for rule in rules)
    return (
        f"{MANAGED_HEADER}\n"
        f"table inet {TABLE}\n"
        f"delete table inet {TABLE}\n"
        f"table inet {TABLE} {{\n"
        "  chain input {\n"
        "    type filter hook input priority -10; policy accept;\n"
        f"{lines}"
        "  }\n"
        "}\n"
    )


def _nft_ports(ports: Sequence[range]) -> str:
    texts = [_span(one, "-") for one in ports]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def _span(ports: range, between: str) -> str:
    first, last = ports[0], ports[-1]
    return str(first) if first == last else f"{first}{between}{last}"


def _nft_sources(sources: Sequence[Network]) -> list[str]:
    """Return a match for each family among the networks."""
    matches = []
    for version, word, name in ((4, "ip", "ipv4"), (6, "ip6", "ipv6")):
        here = [one for one in sources if one.version == version]
        if any(one.prefixlen == 0 for one in here):
            matches.append(f"meta nfproto {name} ")
        elif here:
            matches.append(f"{word} saddr {{ {', '.join(map(_plain, here))} }} ")
    return matches


def _plain(network: Network) -> str:
    one = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if one else str(network)


def iptables_text(policy: Policy, version: int) -> str:
    """Return the chain as iptables-restore --noflush reads it, for IPv4 or IPv6.

    Peers and the API's sources are accepted, also where the host's own rules behind it would drop
    them; what else passes is handed on to those.
    """
    rules = [
        "-i lo -j RETURN",
        "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j RETURN",
    ]
    rules += [
        f"-p {protocol} -m {protocol} --dport {_span(ports, ':')} -j RETURN"
        for protocol, ranges in policy.open.items()
        for ports in ranges
    ]
    rules += [f"-s {one} -j ACCEPT" for one in policy.internal if one.version == version]
    rules += [
        f"-s {one} -p tcp -m tcp --dport {_span(ports, ':')} -j ACCEPT"
        for sources, ranges in policy.api
        for one in sources
        if one.version == version
        for ports in ranges
    ]
    rules += [f"-p {protocol} -j DROP" for protocol in PROTOCOLS]
    lines = "".join(f"-A {CHAIN} {rule}\n" for rule in rules)
    return f"{MANAGED_HEADER}\n*filter\n:{CHAIN} - [0:0]\n{lines}-I INPUT 1 -j {CHAIN}\nCOMMIT\n"


def rich_rules(policy: Policy) -> list[str]:
    """Return what firewalld has to let in besides, as it lists rich rules itself."""
    rules = [
        f'rule family="ipv{one.version}" source address="{_plain(one)}" accept'
        for one in policy.internal
    ]
    return rules + [
        f'rule family="ipv{one.version}" source address="{_plain(one)}" '
        f'port port="{_span(ports, "-")}" protocol="tcp" accept'
        for sources, ranges in policy.api
        for one in sources
        for ports in ranges
    ]


# Backends


def choose_backend(
    asked: str, kept: str, *, firewalld: bool, nft: bool, iptables: bool, input_rules: str
) -> str:
    """Return the backend for what the host runs.

    Args:
        asked: auto, or a backend.
        kept: The one that holds, which stays as long as it can; or nothing.
        firewalld: Whether it runs.
        nft: Whether there is a command nft that works.
        iptables: Whether there is a command iptables that works.
        input_rules: What iptables -S INPUT lists.

    Raises:
        FirewallError: What it takes is not there.
    """
    backend = asked
    if asked == "auto":
        works = {NFTABLES: nft, IPTABLES: iptables}
        if firewalld:
            backend = FIREWALLD
        elif works.get(kept):
            backend = kept
        elif iptables and (host_rules(input_rules) or not nft):
            backend = IPTABLES
        else:
            backend = NFTABLES
    if backend == IPTABLES and not iptables:
        raise FirewallError("iptables is asked for, and there is none that works: install it")
    if backend != IPTABLES and not nft:
        beside = "beside firewalld, whose reload empties rules of iptables" if firewalld else "here"
        raise FirewallError(
            f"nft is needed {beside}, and there is none that works: install nftables"
        )
    if backend == FIREWALLD and not firewalld:
        raise FirewallError("firewalld is asked for, and it does not run: start it")
    return backend


def host_rules(listing: str) -> bool:
    """Tell whether the host filters its own input by iptables, from iptables -S INPUT."""
    lines = [line for line in listing.splitlines() if f"-j {CHAIN}" not in line]
    return any(line.startswith("-A ") for line in lines) or "-P INPUT DROP" in lines


class Command(NamedTuple):
    """A command; needed tells whether its failure is one."""

    argv: list[str]
    needed: bool = True


def rule_files(policy: Policy, backend: str, ipv6: bool) -> dict[str, str]:
    """Return the files of rules by their names."""
    if backend != IPTABLES:
        return {"rules.nft": nft_text(policy)}
    files = {"rules.v4": iptables_text(policy, 4)}
    return {**files, "rules.v6": iptables_text(policy, 6)} if ipv6 else files


def _families(files: Collection[str]) -> list[tuple[str, str]]:
    """Return the iptables commands whose files there are, with the files."""
    both = (("iptables", "rules.v4"), ("ip6tables", "rules.v6"))
    return [(tool, name) for tool, name in both if name in files]


def load_commands(files: Collection[str], folder: str) -> list[Command]:
    """Return what brings rule files of a folder into the kernel, whatever is there of ours."""
    if "rules.nft" in files:
        return [Command(["nft", "-f", f"{folder}/rules.nft"])]
    commands = []
    for tool, name in _families(files):
        commands.append(Command([tool, "-w", "10", "-D", "INPUT", "-j", CHAIN], needed=False))
        commands.append(Command([f"{tool}-restore", "-w", "10", "--noflush", f"{folder}/{name}"]))
    return commands


def unload_commands(files: Collection[str]) -> list[Command]:
    """Return what takes our rules out of the kernel; that they are gone already is no failure."""
    if "rules.nft" in files:
        return [Command(["nft", "delete", "table", "inet", TABLE], needed=False)]
    return [
        Command([tool, "-w", "10", *words], needed=False)
        for tool, _name in _families(files)
        for words in (["-D", "INPUT", "-j", CHAIN], ["-F", CHAIN], ["-X", CHAIN])
    ]


def listing_commands(files: Collection[str]) -> list[list[str]]:
    """Return what lists our rules as they stand in the kernel, without counters."""
    if "rules.nft" in files:
        return [["nft", "-s", "list", "table", "inet", TABLE]]
    return [
        [tool, "-w", "10", "-S", chain]
        for tool, _name in _families(files)
        for chain in (CHAIN, "INPUT")
    ]


def listed(argv: Sequence[str], text: str) -> str:
    """Return what of a listing is ours: of INPUT, whether its packets come to our chain first.

    Others may drop before us, as fail2ban does; what they accept we would not see.
    """
    if argv[-1] != "INPUT":
        return text
    rules = [line for line in text.splitlines() if line.startswith("-A ")]
    ours = f"-A INPUT -j {CHAIN}"
    before = rules[: rules.index(ours)] if ours in rules else ["-j ACCEPT"]
    return f"first in INPUT: {not any('-j ACCEPT' in rule for rule in before)}"


def undo_script(
    trial: Collection[str], kept: Collection[str], rich: Mapping[str, Sequence[str]]
) -> str:
    """Return the shell script that goes back to what holds for good.

    Args:
        trial: The names of the rule files on trial.
        kept: Those that hold for good.
        rich: By zone of firewalld, the rules that were added on trial.
    """
    commands = [["rm", "-rf", TRIAL_DIR]]
    if _families(trial) != _families(kept) or not kept:
        commands += [one.argv for one in unload_commands(trial)]
    commands += [one.argv for one in load_commands(kept, KEPT_DIR)]
    commands += rich_commands(rich, "remove", permanent=False)
    return "; ".join(" ".join(map(shlex.quote, argv)) for argv in commands)


def timer_script(undo: str) -> str:
    """Return what the timer runs when the trial is over, unless it is just confirmed."""
    return f"rm {TRIAL_PATH} || exit 0; {undo}"


def rich_commands(
    rich: Mapping[str, Sequence[str]], verb: str, *, permanent: bool
) -> list[list[str]]:
    """Return what adds or removes rules of firewalld's zones, now or for good."""
    when = ["--permanent"] if permanent else []
    return [
        ["firewall-cmd", *when, f"--zone={zone}", *(f"--{verb}-rich-rule={rule}" for rule in rules)]
        for zone, rules in sorted(rich.items())
        if rules
    ]


def own_rich(
    rules: Sequence[str], kept: Mapping[str, Sequence[str]], lacking: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return by zone the rules that are ours: added before, or to be added now.

    Args:
        rules: All that every zone needs.
        kept: By zone, those that were added before.
        lacking: By zone, those that it lacks for good.
    """
    own = {
        zone: [one for one in rules if one in kept.get(zone, ()) or one in lacking.get(zone, ())]
        for zone in sorted({*kept, *lacking})
    }
    return {zone: found for zone, found in own.items() if found}


def only_in(
    old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return by zone the rules that are in the first alone."""
    left = {
        zone: [one for one in rules if one not in new.get(zone, ())] for zone, rules in old.items()
    }
    return {zone: rules for zone, rules in left.items() if rules}


def parse_zones(active: str, default: str) -> list[str]:
    """Return firewalld's zones in use, from --get-active-zones and --get-default-zone.

    Nobody comes from another node through those of the host's own bridges.
    """
    named = [line.split()[0] for line in active.splitlines() if line[:1].strip()]
    return sorted({*named, default.strip()} - {"", *BRIDGE_ZONES})


def unit_text(files: Collection[str], paths: Mapping[str, str]) -> str:
    """Return the unit that brings the rules back at boot, and after who flushes them.

    Args:
        files: The names of the rule files.
        paths: By command, its absolute path.
    """

    def lines(key: str, commands: Sequence[Command]) -> list[tuple[str, str]]:
        return [
            (key, ("" if one.needed else "-") + " ".join([paths[one.argv[0]], *one.argv[1:]]))
            for one in commands
        ]

    load = load_commands(files, KEPT_DIR)
    others = " ".join(FLUSHING)
    return unit_file(
        [
            (
                "Unit",
                [
                    ("Description", "Muster firewall: who may reach what serves here"),
                    ("DefaultDependencies", "no"),
                    ("Wants", "network-pre.target"),
                    ("Before", "network-pre.target shutdown.target"),
                    ("After", f"local-fs.target systemd-modules-load.service {others}"),
                    ("Conflicts", "shutdown.target"),
                    ("PartOf", others),
                    ("ReloadPropagatedFrom", others),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "oneshot"),
                    ("RemainAfterExit", "yes"),
                    *lines("ExecStart", load),
                    *lines("ExecReload", load),
                    *lines("ExecStop", unload_commands(files)),
                    *HARDENING,
                ],
            ),
            ("Install", [("WantedBy", f"multi-user.target {others}")]),
        ]
    )


def commands_used(files: Collection[str]) -> list[str]:
    """Return the commands that the unit of these rule files runs."""
    used = [*load_commands(files, KEPT_DIR), *unload_commands(files)]
    return list(dict.fromkeys(one.argv[0] for one in used))


# Who would be closed


def listeners_of(
    tables: Mapping[str, Sequence[SocketEntry]],
    owners: Mapping[int, Sequence[Owner]],
    ephemeral: tuple[int, int] | None,
) -> list[Listener]:
    """Return what can be reached from other nodes, by port.

    Args:
        tables: By protocol, the sockets of the kernel's tables.
        owners: By inode, who holds a socket.
        ephemeral: The ports of outgoing connections. A UDP socket there that a process holds asks
            others, and gets its answers in any case.
    """
    found: dict[tuple[str, int], set[Owner]] = {}
    for protocol, entries in tables.items():
        for entry in entries:
            waits = entry.listening if protocol == "tcp" else entry.remote.endswith(" port 0")
            held = tuple(owners.get(entry.inode, ()))
            asks = protocol == "udp" and held and ephemeral is not None
            if (
                not waits
                or _is_loopback(entry.address)
                or (asks and ephemeral and ephemeral[0] <= entry.port <= ephemeral[1])
            ):
                continue
            found.setdefault((protocol, entry.port), set()).update(held)
    return [
        Listener(protocol, port, tuple(sorted(held)))
        for (protocol, port), held in sorted(found.items())
    ]


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def ssh_ports_of(listeners: Iterable[Listener], session: str) -> set[int]:
    """Return the ports of SSH: those of its servers, and the one that this run came in by.

    Args:
        listeners: What the node can be reached at.
        session: SSH_CONNECTION of this run: client, its port, server, its port; or nothing.
    """
    ports = {
        one.port
        for one in listeners
        if one.protocol == "tcp" and any(owner.name in SSH_SERVERS for owner in one.owners)
    }
    words = session.split()
    return ports | ({int(words[3])} if len(words) == 4 and words[3].isdecimal() else set())


def closed(
    listeners: Iterable[Listener], policy: Policy, deployments: Collection[str]
) -> list[Listener]:
    """Return what only peers would still reach, without what belongs to the deployments."""
    api = [ports for _sources, ranges in policy.api for ports in ranges]
    found = []
    for one in listeners:
        named = [*policy.open[one.protocol], *(api if one.protocol == "tcp" else ())]
        own = bool(one.owners) and all(
            owner.name == LISTENER or owner.deployment in deployments for owner in one.owners
        )
        if not own and not _within(named, one.port):
            found.append(one)
    return found


def refusal(others: Sequence[Listener]) -> str:
    """Return why the firewall is not turned on where others listen."""
    named = ", ".join(f'"{one.port}/{one.protocol}"' for one in others)
    lines = "".join(f"\n  {one}" for one in others)
    return (
        "the firewall drops everything new but SSH, the cluster's nodes, the API from its sources "
        "and what is named, so nobody else would reach what listens here:"
        f"{lines}\nName in muster_firewall.also_allowed what others need (all of it: [{named}]), "
        "or set muster_firewall.close_others: true to close it."
    )


def effect(policy: Policy) -> list[str]:
    """Return in words what the rules mean, a line each."""
    lines = [
        "left alone: what is under way, loopback, leases of addresses, all but TCP and UDP",
        f"as before, for everybody: {_open_text(policy)}",
        f"everything, from: {', '.join(map(_plain, policy.internal)) or 'no other node'}",
    ]
    for sources, ports in policy.api:
        spans = ", ".join(_span(one, "-") for one in ports)
        lines.append(f"port {spans}/tcp, from: {', '.join(map(_plain, sources))}")
    return [*lines, "dropped: every other new TCP connection and unasked UDP, on every port"]


def _open_text(policy: Policy) -> str:
    return ", ".join(
        f"{_span(one, '-')}/{protocol}" for protocol, ports in policy.open.items() for one in ports
    )


# What is kept


def load_kept(text: str | None) -> Kept:
    """Return what STATE_PATH says.

    Raises:
        FirewallError: It cannot be read.
    """
    if text is None:
        return Kept()
    try:
        said = json_text.parse(text)
        return Kept(
            {str(name): Want(**want) for name, want in said["wants"].items()},
            said["backend"],
            tuple(int(port) for port in said["ssh"]),
            said["listing"],
            {str(zone): list(rules) for zone, rules in said["rich"].items()},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FirewallError(
            f"{STATE_PATH} cannot be read ({error}). Remove it and run again, which makes it anew."
        ) from error


def dump_kept(kept: Kept) -> str:
    """Return the text for STATE_PATH."""
    return json.dumps(asdict(kept), indent=2, sort_keys=True) + "\n"


def normal_listing(text: str) -> str:
    """Return a listing without what changes by itself: handles and blanks."""
    lines = (re.sub(r"\s+# handle \d+$", "", line.strip()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)
