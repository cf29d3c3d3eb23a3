import json

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

NAME = "muster-serve-cluster-r0-rank0"
GET = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


def container(host: Host) -> dict:
    return json.loads(host.check_output(f"docker inspect {NAME}"))[0]


def test_the_unit_runs_and_starts_at_boot(host: Host) -> None:
    unit = host.service(NAME)
    assert unit.is_running
    assert unit.is_enabled


def test_the_engine_answers_where_the_plan_says(host: Host) -> None:
    address = host.interface("enp67s0f0np0").addresses[0]
    models = host.check_output(f'python3 -c "{GET}" http://{address}:8000/v1/models')
    assert json.loads(models)["data"][0]["id"] == "MiniMax-M2.5"


def test_the_container_has_no_more_rights_than_it_needs(host: Host) -> None:
    settings = container(host)["HostConfig"]
    assert not settings["Privileged"]
    assert "/dev/davinci0" in [device["PathOnHost"] for device in settings["Devices"]]
    assert settings["NetworkMode"] == "host"


def test_only_root_reads_the_environment(host: Host) -> None:
    found = host.check_output("find /etc/muster -name '*.env' -printf '%m %u\\n'")
    assert set(found.splitlines()) == {"600 root"}


def test_the_engines_log_is_in_the_journal(host: Host) -> None:
    assert "Application startup complete" in host.check_output(f"journalctl --unit {NAME}")


def test_docker_keeps_no_copy_of_the_log(host: Host) -> None:
    assert container(host)["HostConfig"]["LogConfig"]["Type"] == "none"
    assert host.check_output("find /var/lib/docker/containers -name '*-json.log*'") == ""


def test_a_killed_engine_comes_back_without_the_logs_of_long_ago(host: Host) -> None:
    before = container(host)["Id"]
    plog = f"/var/log/muster/{NAME.removeprefix('muster-')}/plog"
    host.check_output(
        f"truncate --size 3G {plog}/old.log && touch --date 2001-01-01 {plog}/old.log"
    )
    host.check_output(f"touch {plog}/new.log")
    host.check_output(f"docker kill {NAME}")
    host.check_output(
        f"for i in $(seq 60); do docker inspect {NAME} && exit; sleep 1; done; exit 1"
    )
    assert container(host)["Id"] != before
    assert not host.file(f"{plog}/old.log").exists
    assert host.file(f"{plog}/new.log").exists
