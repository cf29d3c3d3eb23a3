"""The firewall of a serving node: its rules as two simple readers of them see packets."""

import ipaddress
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.network.firewall import (
    FirewallError,
    Kept,
    Listener,
    Want,
)
from ansible_collections.muster.serving.plugins.module_utils.network.ports import parse_socket_table
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

OPTIONS: dict[str, Any] = {
    "peers": ["10.0.0.2"],
    "internal_sources": ["10.9.0.0/24"],
    "api_sources": ["10.2.0.0/16"],
    "api_ports": ["8080"],
    "also_allowed": ["9100/tcp"],
}


def want(**changed: Any) -> Want:
    return firewall.want_from({**OPTIONS, **changed})


def policy(*wants: Want, ssh: Any = (22,)) -> firewall.Policy:
    return firewall.policy_of(wants or [want()], ssh)


class Packet(NamedTuple):
    source: str
    protocol: str
    port: int
    state: str = "NEW"
    device: str = "eth0"
    flags: str = "SYN"


def by_iptables(text: str, packet: Packet) -> str:
    """The verdict of the chain's first rule that matches."""
    for line in text.splitlines():
        if not line.startswith("-A muster-firewall "):
            continue
        words = line.split()[2:]
        said = dict(itertools.pairwise(words))
        matches = [
            said.get("-i", packet.device) == packet.device,
            said.get("-p", packet.protocol) == packet.protocol,
            packet.state in said.get("--ctstate", packet.state).split(","),
            "!" not in words or packet.flags != "SYN",
            "-s" not in said
            or ipaddress.ip_address(packet.source) in ipaddress.ip_network(said["-s"]),
        ]
        first, _colon, last = said.get("--dport", "0:65535").partition(":")
        matches.append(int(first) <= packet.port <= int(last or first))
        if all(matches):
            return said["-j"]
    return "RETURN"


def by_nft(text: str, packet: Packet) -> str:
    """The verdict of the table's first rule that matches."""
    body = text.split("policy accept;\n")[1].split("  }")[0]
    address = ipaddress.ip_address(packet.source)
    for rule in body.splitlines():
        *_, verdict = rule.split()
        matches = []
        if "iifname" in rule:
            matches.append(packet.device == "lo")
        if "ct state" in rule:
            matches.append(packet.state in ("ESTABLISHED", "RELATED"))
        if "l4proto !=" in rule:
            matches.append(packet.protocol not in ("tcp", "udp"))
        if "tcp flags" in rule:
            matches.append(packet.protocol == "tcp" and packet.flags != "SYN")
        family = re.search(r"nfproto ipv([46])", rule)
        if family:
            matches.append(address.version == int(family[1]))
        sources = re.search(r"(ip6?) saddr \{ (.*?) \}", rule)
        if sources:
            nets = map(ipaddress.ip_network, sources[2].split(", "))
            matches.append(any(address in net for net in nets if net.version == address.version))
        ports = re.search(r"(tcp|udp) dport (?:\{ (.*?) \}|(\S+))", rule)
        if ports:
            spans = [one.partition("-") for one in (ports[2] or ports[3]).split(", ")]
            inside = any(int(a) <= packet.port <= int(b or a) for a, _dash, b in spans)
            matches.append(packet.protocol == ports[1] and inside)
        if all(matches):
            return verdict
    return "accept"


def passes(one: firewall.Policy, packet: Packet) -> bool:
    """Whether both let a packet through; they have to agree."""
    version = ipaddress.ip_address(packet.source).version
    told = {
        by_iptables(firewall.iptables_text(one, version), packet) != "DROP",
        by_nft(firewall.nft_text(one), packet) != "drop",
    }
    assert len(told) == 1, packet
    return told.pop()


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Packet("10.0.0.2", "tcp", 31234), True),
        (Packet("10.0.0.2", "udp", 31234), True),
        (Packet("10.9.0.77", "tcp", 31234), True),
        (Packet("10.0.0.3", "tcp", 31234), False),
        (Packet("10.0.0.3", "udp", 31234), False),
        (Packet("fd00::3", "tcp", 31234), False),
        (Packet("10.0.0.3", "tcp", 8080), False),
        (Packet("10.2.3.4", "tcp", 8080), True),
        (Packet("10.2.3.4", "udp", 8080), False),
        (Packet("10.2.3.4", "tcp", 8081), False),
        (Packet("10.0.0.3", "tcp", 22), True),
        (Packet("fd00::3", "tcp", 22), True),
        (Packet("10.0.0.3", "tcp", 9100), True),
        (Packet("10.0.0.3", "udp", 9100), False),
        # Leases, loopback, what is under way, and what is neither TCP nor UDP.
        (Packet("10.0.0.3", "udp", 68), True),
        (Packet("fe80::1", "udp", 546), True),
        (Packet("10.0.0.3", "tcp", 31234, device="lo"), True),
        (Packet("10.0.0.3", "udp", 31234, state="ESTABLISHED"), True),
        (Packet("10.0.0.3", "tcp", 31234, flags="ACK"), True),
        (Packet("10.0.0.3", "icmp", 0), True),
        (Packet("10.0.0.3", "vrrp", 0), True),
    ],
)
def test_who_comes_in(packet: Packet, expected: bool) -> None:
    assert passes(policy(), packet) is expected


def test_everybody_may_be_named() -> None:
    open_api = policy(want(api_sources=["0.0.0.0/0", "::/0"]))
    assert passes(open_api, Packet("203.0.113.9", "tcp", 8080))
    assert passes(open_api, Packet("2001:db8::9", "tcp", 8080))
    assert not passes(open_api, Packet("203.0.113.9", "tcp", 8081))


def test_deployments_of_one_machine_get_what_each_wants() -> None:
    other = want(peers=["10.0.0.7"], api_sources=["10.3.0.0/16"], api_ports=["8000-8007"])
    both = policy(want(), other)
    for source in ("10.0.0.2", "10.0.0.7"):
        assert passes(both, Packet(source, "tcp", 31234))
    assert passes(both, Packet("10.3.0.1", "tcp", 8007))
    assert not passes(both, Packet("10.3.0.1", "tcp", 8080))
    assert not passes(both, Packet("10.2.0.1", "tcp", 8000))


ADDRESSES = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/27"), st.ip_addresses(v=6, network="fd00::/123")
).map(str)
NETWORKS = st.one_of(
    ADDRESSES,
    st.sampled_from(["10.0.0.0/28", "10.0.0.16/30", "fd00::/124", "0.0.0.0/0", "::/0"]),
)
PORTS = st.integers(1, 40)
SPANS = st.tuples(PORTS, PORTS).map(lambda both: f"{min(both)}-{max(both)}")
ALLOWED = st.tuples(st.one_of(PORTS.map(str), SPANS), st.sampled_from(["", "/tcp", "/udp"]))
WANTS = st.builds(
    want,
    peers=st.lists(ADDRESSES, max_size=4),
    internal_sources=st.lists(NETWORKS, max_size=2),
    api_sources=st.lists(NETWORKS, max_size=3),
    api_ports=st.lists(st.one_of(PORTS.map(str), SPANS), max_size=2),
    also_allowed=st.lists(ALLOWED.map("".join), max_size=2),
)
PACKETS = st.tuples(ADDRESSES, st.sampled_from(["tcp", "udp", "icmp"]), PORTS)


def let_in(wants: list[Want], ssh: set[int], packet: Packet) -> bool:
    """The same from what was wanted, without any rule."""
    address = ipaddress.ip_address(packet.source)

    def within(texts: Any) -> bool:
        return any(address in ipaddress.ip_network(text) for text in texts)

    def on(texts: Any) -> bool:
        spans = [text.partition("-") for text in texts]
        return any(int(a) <= packet.port <= int(b or a) for a, _dash, b in spans)

    if packet.protocol == "icmp" or (packet.protocol == "tcp" and packet.port in ssh):
        return True
    return any(
        within(one.internal)
        or (packet.protocol == "tcp" and within(one.api_sources) and on(one.api_ports))
        or on(
            text.partition("/")[0]
            for text in one.also_allowed
            if text.partition("/")[2] in ("", packet.protocol)
        )
        for one in wants
    )


@given(st.lists(WANTS, min_size=1, max_size=3), st.sets(PORTS, min_size=1, max_size=3), PACKETS)
def test_the_rules_let_in_who_was_named_and_nobody_else(
    wants: list[Want], ssh: set[int], first: tuple[str, str, int]
) -> None:
    packet = Packet(*first)
    made = firewall.policy_of(wants, ssh)
    assert passes(made, packet) == let_in(wants, ssh, packet)
    assert firewall.policy_of(reversed(wants), ssh) == made
    # Overlaps in a set are an error of older nft.
    for _sources, match in re.findall(r"(ip6?) saddr \{ (.*?) \}", firewall.nft_text(made)):
        nets = [ipaddress.ip_network(one) for one in match.split(", ")]
        assert list(ipaddress.collapse_addresses(nets)) == sorted(nets)


@given(WANTS, st.sets(PORTS, max_size=3))
def test_what_is_kept_is_read_back(one: Want, ssh: set[int]) -> None:
    kept = Kept({"a": one}, "nftables", tuple(sorted(ssh)), "x", {"public": ["rule accept"]})
    assert firewall.load_kept(firewall.dump_kept(kept)) == kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wants": {"a": {"b": 1}}}'])
def test_what_is_kept_and_broken_is_named(text: str) -> None:
    with pytest.raises(FirewallError, match=r"firewall\.json cannot be read"):
        firewall.load_kept(text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peers": ["npu-02"]}, "'npu-02' is no IP address"),
        ({"api_sources": ["10.0.0.0/33"]}, "api_sources: '10.0.0.0/33'"),
        ({"internal_sources": [""]}, "locked out"),
        ({"api_ports": ["0"]}, "api_ports: '0'"),
        ({"also_allowed": ["ssh"]}, "also_allowed: 'ssh'"),
        ({"also_allowed": ["53/sctp"]}, "also_allowed: '53/sctp'"),
        ({"also_allowed": ["53/"]}, "also_allowed: '53/'"),
    ],
)
def test_what_is_no_address_or_port_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(FirewallError, match=re.escape(said)):
        want(**changed)


def test_without_a_known_port_of_ssh_nothing_is_closed() -> None:
    with pytest.raises(FirewallError, match="no port of SSH is known"):
        policy(ssh=())


UFW = "-P INPUT DROP\n-A INPUT -j ufw-before-input\n"
OURS = "-P INPUT ACCEPT\n-A INPUT -j muster-firewall\n"


@pytest.mark.parametrize(
    ("asked", "kept", "runs", "rules", "expected"),
    [
        ("auto", "", "nft", "", "nftables"),
        ("auto", "", "nft iptables", "-P INPUT ACCEPT\n", "nftables"),
        ("auto", "", "nft iptables", OURS, "nftables"),
        ("auto", "", "nft iptables", UFW, "iptables"),
        ("auto", "", "iptables", "", "iptables"),
        ("auto", "", "nft iptables firewalld", UFW, "firewalld"),
        # What holds stays, whatever fail2ban has added meanwhile.
        ("auto", "nftables", "nft iptables", UFW, "nftables"),
        ("auto", "iptables", "nft iptables", OURS, "iptables"),
        ("auto", "nftables", "iptables", "", "iptables"),
        ("auto", "firewalld", "nft iptables", "", "nftables"),
        ("auto", "nftables", "nft firewalld", "", "firewalld"),
        ("iptables", "nftables", "nft iptables", "", "iptables"),
        ("nftables", "", "nft iptables", UFW, "nftables"),
        ("auto", "", "", "", "install nftables"),
        ("auto", "", "iptables firewalld", "", "beside firewalld"),
        ("iptables", "", "nft", "", "iptables is asked for"),
        ("firewalld", "", "nft", "", "does not run"),
    ],
)
def test_what_the_host_runs_carries_the_rules(
    asked: str, kept: str, runs: str, rules: str, expected: str
) -> None:
    there = {name: name in runs.split() for name in ("nft", "iptables", "firewalld")}
    try:
        chosen = firewall.choose_backend(asked, kept, input_rules=rules, **there)
    except FirewallError as error:
        chosen = str(error)
    assert expected == chosen or (" " in expected and expected in chosen)


@pytest.mark.parametrize(
    ("rules", "first"),
    [
        ("-P INPUT ACCEPT\n", False),
        ("-A INPUT -j muster-firewall\n-A INPUT -j ACCEPT\n", True),
        ("-A INPUT -p tcp -j f2b-sshd\n-A INPUT -j muster-firewall\n", True),
        ("-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT -j muster-firewall\n", False),
    ],
)
def test_what_the_host_accepts_before_us_is_a_difference(rules: str, first: bool) -> None:
    assert firewall.listed(["iptables", "-S", "INPUT"], rules) == f"first in INPUT: {first}"


def files(backend: str, ipv6: bool = True) -> dict[str, str]:
    return firewall.rule_files(policy(), backend, ipv6)


def test_the_way_back_goes_to_what_holds() -> None:
    nft, both, alone = files("nftables"), files("iptables"), files("iptables", ipv6=False)
    first = firewall.undo_script(nft, {}, {})
    assert first == "rm -rf /run/muster/firewall; nft delete table inet muster"
    again = firewall.undo_script(nft, nft, {})
    assert again == "rm -rf /run/muster/firewall; nft -f /etc/muster/firewall/rules.nft"
    back = firewall.undo_script(both, nft, {}).split("; ")
    assert "ip6tables -w 10 -X muster-firewall" in back
    assert back[-1] == "nft -f /etc/muster/firewall/rules.nft"
    assert "ip6tables -w 10 -D INPUT -j muster-firewall" in firewall.undo_script(both, alone, {})


def test_the_way_back_closes_what_firewalld_was_opened_for() -> None:
    (rule,) = firewall.rich_rules(policy(want(internal_sources=[], api_sources=[])))
    assert rule == 'rule family="ipv4" source address="10.0.0.2" accept'
    script = firewall.undo_script(files("firewalld"), {}, {"public": [rule]})
    assert script.endswith(f"firewall-cmd --zone=public '--remove-rich-rule={rule}'")
    assert "--permanent" not in script


def test_only_rules_that_we_added_to_firewalld_are_ours() -> None:
    kept, lacking = {"public": ["a"]}, {"public": ["b"], "trusted": ["a", "b"]}
    own = firewall.own_rich(["a", "b", "c"], kept, lacking)
    assert own == {"public": ["a", "b"], "trusted": ["a", "b"]}
    assert firewall.only_in({"public": ["a", "x"], "gone": ["y"]}, own) == {
        "public": ["x"],
        "gone": ["y"],
    }


def test_zones_in_use_are_read() -> None:
    active = "docker\n  interfaces: docker0\npublic (default)\n  interfaces: eth0\n  sources: \n"
    assert firewall.parse_zones(active, "public\n") == ["public"]
    assert firewall.parse_zones("", "public\n") == ["public"]


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_the_unit_brings_the_rules_back_after_who_flushes_them(backend: str) -> None:
    rules = files(backend)
    used = firewall.commands_used(rules)
    text = firewall.unit_text(rules, {name: f"/usr/sbin/{name}" for name in used})
    said = [line.partition("=") for line in text.splitlines() if "=" in line]
    for key in ("ExecStart", "ExecReload", "ExecStop"):
        commands = [value.lstrip("-") for name, _equals, value in said if name == key]
        assert commands, key
        assert all(command.startswith("/usr/sbin/") for command in commands)
    for name in rules:
        assert f"{firewall.KEPT_DIR}/{name}" in text
    for key in ("After", "PartOf", "ReloadPropagatedFrom", "WantedBy"):
        (value,) = (value for name, _equals, value in said if name == key)
        assert "nftables.service" in value.split()


# Who would be closed

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid t inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 00000000:238C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0200000A:1F91 0300000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4 1
   4: 0200000A:4E24 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5 1
   5: 00000000:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 0 1
"""
UDP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid t inode
   0: 00000000:006F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2
   1: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2
   2: 00000000:9C41 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2
   3: 0200000A:0044 0100000A:0043 01 00000000:00000000 00:00000000 00000000     0        0 13 2
"""
OWNERS = {
    1: [Owner(1, "sshd", "ssh.service")],
    3: [Owner(3, "node_exporter", "node_exporter.service")],
    5: [Owner(5, "vllm", container="muster-a-r0-rank0", deployment="a")],
    11: [Owner(11, "rpcbind", "rpcbind.service")],
    12: [Owner(12, "chronyd")],
}


def listeners() -> list[Listener]:
    tables = {"tcp": parse_socket_table(TCP), "udp": parse_socket_table(UDP)}
    return firewall.listeners_of(tables, OWNERS, (32768, 60999))


def test_what_can_be_reached_from_others_is_listed() -> None:
    assert [(one.protocol, one.port) for one in listeners()] == [
        ("tcp", 22),
        ("tcp", 2049),
        ("tcp", 9100),
        ("tcp", 20004),
        ("udp", 111),
        ("udp", 51820),
    ]
    assert str(listeners()[1]) == "2049/tcp (the kernel, or a process that is not seen)"


def test_what_others_use_is_named_with_its_process_and_the_ways_out() -> None:
    others = firewall.closed(listeners(), policy(want(also_allowed=[])), ["a"])
    assert [(one.protocol, one.port) for one in others] == [
        ("tcp", 2049),
        ("tcp", 9100),
        ("udp", 111),
        ("udp", 51820),
    ]
    text = firewall.refusal(others)
    assert "9100/tcp (pid 3 (node_exporter) of node_exporter.service)" in text
    assert '["2049/tcp", "9100/tcp", "111/udp", "51820/udp"]' in text
    assert "close_others: true" in text
    named = ["2049/tcp", "9100", "111", "51820"]
    assert firewall.closed(listeners(), policy(want(also_allowed=named)), ["a"]) == []


def test_another_deployment_without_a_firewall_is_one_that_would_be_closed() -> None:
    others = firewall.closed(listeners(), policy(), ["b"])
    assert any("of a, a deployment of Muster" in str(one) for one in others)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ("", {22}),
        ("10.0.0.9 50000 10.0.0.2 2222", {22, 2222}),
        ("fd00::9 50000 fd00::2 22", {22}),
        ("junk", {22}),
    ],
)
def test_the_ports_of_ssh_are_its_servers_and_this_runs_own(
    session: str, expected: set[int]
) -> None:
    assert firewall.ssh_ports_of(listeners(), session) == expected


def test_the_effect_says_who_and_what() -> None:
    text = "\n".join(firewall.effect(policy()))
    assert "everything, from: 10.0.0.2, 10.9.0.0/24" in text
    assert "port 8080/tcp, from: 10.2.0.0/16" in text
    assert "dropped: every other new TCP connection" in text
    assert json.dumps(firewall.effect(policy()))


def test_a_node_that_lets_nobody_in_anew_is_told_to_take_its_rules_back(tmp_path: Path) -> None:
    """The role's own tasks, on a host of which nobody answers."""
    nobody = {"ansible_host": "127.0.0.1", "ansible_port": 9, "firewall_trial_s": 60}
    hosts = {"all": {"hosts": {"n0": nobody}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    defaults = str(ROOT / "roles/firewall/defaults/main.yml")
    confirm = {"ansible.builtin.include_tasks": str(ROOT / "roles/firewall/tasks/confirm.yml")}
    play = {"hosts": "all", "gather_facts": False, "vars_files": [defaults], "tasks": [confirm]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "this run cannot come in anew (" in said
    assert "takes the rules back by itself, 60 s after they came" in said
