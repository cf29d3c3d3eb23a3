import json

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def mirrors(host: Host) -> list[str]:
    info = json.loads(host.check_output("docker info --format '{{json .RegistryConfig}}'"))
    return info["Mirrors"]


def test_docker_runs_with_its_command_and_its_settings(host: Host) -> None:
    assert host.file("/usr/bin/docker").is_file
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled
    assert mirrors(host) == ["https://mirror.invalid/"]


def test_the_node_is_of_another_release_than_the_labs_others(host: Host) -> None:
    """What this scenario is for; on Debian 12 it is Debian 13."""
    assert host.system_info.codename in ("trixie", "bookworm", "jammy", "noble")
    assert host.file("/etc/apt/apt.conf.d/99mmdebstrap").contains("Install-Recommends")
