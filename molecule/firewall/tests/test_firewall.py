from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

UNIT = "muster-firewall.service"


def rules(host: Host) -> str:
    """Whichever of the two carries them here."""
    nft = host.run("nft list table inet muster")
    return nft.stdout if nft.rc == 0 else host.check_output("iptables -S")


def test_the_rules_hold_and_nothing_takes_them_back(host: Host) -> None:
    assert "192.0.2.12" in rules(host)
    assert host.run("systemctl is-active muster-firewall-undo.timer").stdout.strip() == "inactive"
    assert not host.file("/run/muster/firewall").exists


def test_a_boot_brings_the_rules_back(host: Host) -> None:
    assert host.service(UNIT).is_enabled
    host.check_output("systemctl stop " + UNIT)
    assert "192.0.2.12" not in host.run("nft list ruleset; iptables -S").stdout
    host.check_output("systemctl start " + UNIT)
    assert "192.0.2.12" in rules(host)


def test_rules_are_for_root_alone(host: Host) -> None:
    assert host.check_output("find /etc/muster/firewall -type f -perm /077") == ""
