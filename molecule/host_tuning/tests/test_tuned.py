from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

UNIT = "muster-host-tuning.service"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def test_settings_are_live(host: Host) -> None:
    assert host.sysctl("vm.swappiness") == 0
    assert host.sysctl("net.core.somaxconn") == 8192
    assert host.file(GOVERNOR).content_string.strip() == "performance"


def test_reserved_ports_are_added_to_the_nodes_own(host: Host) -> None:
    assert host.sysctl("net.ipv4.ip_local_reserved_ports") == "8080,60000-60031"


def test_a_reboot_brings_the_settings_back(host: Host) -> None:
    host.check_output("sysctl -w net.core.somaxconn=4000 net.ipv4.ip_local_reserved_ports=1")
    host.check_output("echo ondemand > " + GOVERNOR)
    host.check_output("systemctl restart systemd-sysctl " + UNIT)
    assert host.service(UNIT).is_enabled
    test_settings_are_live(host)
    test_reserved_ports_are_added_to_the_nodes_own(host)


def test_files_say_who_manages_them(host: Host) -> None:
    for path in ("/etc/sysctl.d/90-muster.conf", "/etc/systemd/system/" + UNIT):
        assert host.file(path).content_string.startswith("# Managed by Muster")
