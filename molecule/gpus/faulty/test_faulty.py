import json
import os
from pathlib import Path

testinfra_hosts = ["ansible://molecule-b200"]

REPORT = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "preflight.json"
NVIDIA, AMD = "molecule-b200", "molecule-mi300x"


def test_each_fault_is_named_with_its_node_and_nothing_else_is() -> None:
    failed = [one for one in json.loads(REPORT.read_text())["checks"] if one["status"] == "failed"]
    assert {(one["host"], one["id"], one["subject"]) for one in failed} == {
        (NVIDIA, "gpu-fabric-manager", "nvidia-fabricmanager.service"),
        (NVIDIA, "gpu-mig", "device 1"),
        (NVIDIA, "gpu-health", "device 2"),
        # The unit of another time, and not the one of ours on device 3.
        (NVIDIA, "gpu-processes", "device 0"),
        (AMD, "gpu-name", "device 3"),
        (AMD, "gpu-device-nodes", "/dev/kfd, /dev/dri"),
    }
    by_id = {one["id"]: one for one in failed}
    assert by_id["gpu-processes"]["observed"].endswith("(sleep) of old-training.service")
    assert "systemctl enable --now" in by_id["gpu-fabric-manager"]["remedy"]
