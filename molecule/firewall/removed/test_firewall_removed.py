from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def test_nothing_of_it_is_left(host: Host) -> None:
    listed = host.run("nft list ruleset; iptables -S; ip6tables -S").stdout
    assert "muster" not in listed
    left = host.check_output(
        "find /etc/muster /etc/systemd/system /var/lib/muster /run/muster -name '*firewall*' "
        "|| true"
    )
    assert left == ""
