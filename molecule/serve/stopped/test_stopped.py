from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

NAME = "muster-serve-cluster-r0-rank0"


def test_the_unit_is_down_and_its_container_gone(host: Host) -> None:
    assert not host.service(NAME).is_running
    assert host.check_output("docker ps --all --quiet") == ""


def test_its_log_is_kept(host: Host) -> None:
    assert host.check_output(f"journalctl --unit {NAME} --lines 1 --quiet") != ""
