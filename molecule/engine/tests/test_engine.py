import json

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def image(host: Host) -> dict:
    registry = "muster-lab/vllm-cpu"
    name = host.check_output(
        f"docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' '*/{registry}'"
    )
    return json.loads(host.check_output(f"docker image inspect {name}"))[0]


def test_docker_was_installed_and_starts_at_boot(host: Host) -> None:
    assert host.package("docker.io").is_installed
    assert host.file("/usr/bin/docker").is_file
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled


def test_the_running_daemon_goes_by_its_registries(host: Host) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .RegistryConfig}}'"))
    assert [name for name, entry in info["IndexConfigs"].items() if not entry["Secure"]] == [
        "registry:5000"
    ]
    assert info["Mirrors"] == ["https://mirror.invalid/"]


def test_the_image_came_from_the_registry_and_is_noted_as_proven(host: Host) -> None:
    found = image(host)
    assert found["RepoDigests"]
    notes = host.file("/var/lib/muster/images/" + found["Id"].replace(":", "-") + ".json")
    assert json.loads(notes.content_string)["preloads"] == ["libjemalloc.so.2"]


def test_no_container_of_the_proof_is_left(host: Host) -> None:
    assert host.check_output("docker ps --all --quiet") == ""
