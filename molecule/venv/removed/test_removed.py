from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def test_nothing_of_the_units_is_left(host: Host) -> None:
    assert host.check_output("find /etc/muster /var/lib/muster/units -mindepth 1") == ""
    assert host.check_output("find /etc/systemd/system -name 'muster-venv-*'") == ""


def test_nothing_of_them_runs(host: Host) -> None:
    assert host.run("pgrep -u muster").stdout == ""


def test_the_environment_stays(host: Host) -> None:
    assert host.file("/opt/muster/venvs/tiny/.muster.json").exists
