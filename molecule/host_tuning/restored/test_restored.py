from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def test_the_nodes_own_settings_are_back(host: Host) -> None:
    assert host.sysctl("net.core.somaxconn") == 4000
    assert host.sysctl("net.ipv4.ip_local_reserved_ports") == 8080
    governor = host.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    assert governor.content_string.strip() == "ondemand"


def test_nothing_of_it_is_left(host: Host) -> None:
    left = host.check_output(
        "find /etc/sysctl.d /etc/systemd /var/lib/muster -name '*muster*' -not -name '*-lab-*' "
        "-o -name host_tuning.json"
    )
    assert left == "/var/lib/muster"
