import json
import os
from pathlib import Path

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

REPORT = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "preflight.json"


def test_nothing_is_wrong_with_a_bare_node(host: Host, handed_down: set[str]) -> None:
    checks = json.loads(REPORT.read_text())["checks"]
    mine = [one for one in checks if one["host"] == host.backend.get_hostname()]
    bad = {one["id"] for one in mine if one["status"] not in ("ok", "pending")}
    assert bad == handed_down
    # The kernel gives the ports of HCCL away until prepare reserves them.
    assert {one["id"] for one in mine if one["status"] == "pending"} == {"port-reserved"}
    tried = [one["subject"] for one in mine if one["id"] == "port-reachable"]
    assert len(tried) == 1
    assert "60000-60031" in tried[0]


def test_no_listener_is_left(host: Host) -> None:
    assert host.check_output("ss --no-header --tcp --listening --numeric sport ge 60000") == ""
    assert host.process.filter(comm="muster-listen") == []
