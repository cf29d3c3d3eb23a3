import json
import os
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

REPORT = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "preflight.json"
# As much of a userland as `ls` needs.
USERLAND = "bin/ls lib/x86_64-linux-gnu/lib{c,selinux,pcre2-8}.so.* lib64/ld-linux-x86-64.so.2"


def test_nothing_is_wrong_with_a_bare_node(host: Host, handed_down: set[str]) -> None:
    checks = json.loads(REPORT.read_text())["checks"]
    mine = [one for one in checks if one["host"] == host.backend.get_hostname()]
    assert {one["id"] for one in mine if one["status"] != "ok"} == handed_down
    gpus = {one["id"] for one in mine if one["subject"] == "devices 0-3"}
    assert {"gpu-count", "gpu-name", "gpu-health", "gpu-topology", "gpu-memory"} <= gpus


def test_a_node_has_no_tools_but_its_own(host: Host) -> None:
    tools = ("npu-smi", "nvidia-smi", "amd-smi")
    mine = {"molecule-b200": "nvidia-smi", "molecule-mi300x": "amd-smi"}
    assert [tool for tool in tools if host.exists(tool)] == [mine[host.backend.get_hostname()]]


def test_docker_hands_over_the_gpus_that_are_asked_for(host: Host) -> None:
    if host.backend.get_hostname() != "molecule-b200":
        pytest.skip("this is about NVIDIA's container toolkit")
    host.check_output(f"bash -c 'cd / && tar -ch {USERLAND} | docker import - ls'")
    given = """docker run --rm --gpus '"device=1,3"' ls /bin/ls /dev"""
    nodes = [name for name in host.check_output(given).split() if name.startswith("nvidia")]
    assert nodes == ["nvidia-uvm", "nvidia1", "nvidia3", "nvidiactl"]
    assert "nvidia" not in host.check_output("docker run --rm ls /bin/ls /dev")
    refused = host.run("docker run --rm --gpus device=9 ls /bin/ls /dev")
    assert "unknown device" in refused.stderr
