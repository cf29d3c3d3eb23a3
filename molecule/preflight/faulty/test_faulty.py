import json
import os
from pathlib import Path

from testinfra.host import Host

testinfra_hosts = ["ansible://molecule-check0"]

REPORT = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "preflight.json"
HEAD, FOLLOWER = "molecule-check0", "molecule-check1"


def test_each_fault_is_named_with_its_node_and_nothing_else_is() -> None:
    failed = [one for one in json.loads(REPORT.read_text())["checks"] if one["status"] == "failed"]
    assert {(one["host"], one["id"]) for one in failed} == {
        (HEAD, "port-free"),
        (HEAD, "npu-link"),
        (FOLLOWER, "npu-health"),
        # Dropped on the head, and felt by the follower.
        (FOLLOWER, "port-reachable"),
        # Between two nodes nothing says which one is right.
        (HEAD, "cluster-mtu"),
        (FOLLOWER, "cluster-mtu"),
        (HEAD, "cluster-npu-tls"),
        (FOLLOWER, "cluster-npu-tls"),
    }
    by_id = {(one["host"], one["id"]): one for one in failed}
    held = by_id[HEAD, "port-free"]
    assert held["subject"] == "port 20004"
    assert "old-vllm.service" in held["observed"]
    assert held["remedy"].startswith("stop it: systemctl stop old-vllm.service")
    assert by_id[HEAD, "npu-link"]["subject"] == "device 2"
    assert by_id[FOLLOWER, "npu-health"]["subject"] == "device 3"
    assert by_id[FOLLOWER, "port-reachable"]["observed"] == "timeout"
    assert by_id[FOLLOWER, "port-reachable"]["subject"].endswith(" port 2347")


def test_what_runs_on_the_node_was_left_alone(host: Host) -> None:
    for unit in ("old-vllm", "muster-pair-r0-rank0"):
        assert host.service(unit).is_running
