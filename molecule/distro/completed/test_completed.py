import json

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def test_the_command_came_back_and_the_daemon_took_the_new_settings(host: Host) -> None:
    assert host.file("/usr/bin/docker").is_file
    info = json.loads(host.check_output("docker info --format '{{json .RegistryConfig}}'"))
    assert info["Mirrors"] == ["https://other.invalid/"]
