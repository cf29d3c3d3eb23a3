import json
import time
from typing import Any

from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

LABELS = 'cluster="molecule",node="n",replica="0"'


def get(host: Host, port: int, path: str) -> str:
    """Ask on the node, which has no curl."""
    url = f"http://127.0.0.1:{port}/{path}"
    code = f"from urllib.request import urlopen; print(urlopen('{url}', timeout=5).read().decode())"
    return str(host.check_output(f'python3 -c "{code}"'))


def ask(host: Host, path: str) -> Any:
    return json.loads(get(host, 9090, f"api/v1/{path}"))["data"]


def eventually(condition: Any) -> None:
    end = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < end
        time.sleep(2)


def test_the_node_is_scraped_with_what_an_agent_writes(host: Host) -> None:
    restarted = f"muster_replica_restart_time_seconds{{{LABELS}}} {int(time.time())}"
    file = "/run/muster-metrics/molecule-r0.prom"
    host.check_output(f"mkdir -p /run/muster-metrics; echo '{restarted}' > {file}")
    eventually(lambda: ask(host, "query?query=muster_replica_restart_time_seconds")["result"])

    def health() -> dict[str, str]:
        targets = ask(host, "targets")["activeTargets"]
        return {one["labels"]["job"]: one["health"] for one in targets}

    # The blackbox exporter answers, whatever it finds at the endpoint.
    told = {"muster-node": "up", "muster-engine": "down", "muster-endpoint": "up"}
    eventually(lambda: health() == told)


def test_an_alert_reaches_alertmanager_with_the_address_of_its_page(host: Host) -> None:
    def alerts() -> dict[str, str]:
        told = json.loads(get(host, 9093, "api/v2/alerts"))
        return {one["labels"]["alertname"]: one["annotations"]["runbook_url"] for one in told}

    eventually(lambda: "MusterReplicaRestarted" in alerts())
    assert alerts()["MusterReplicaRestarted"] == "https://example.org/muster/docs/runbooks/ranks.md"


def test_all_rules_are_loaded_and_none_has_a_problem(host: Host) -> None:
    rules = [rule for group in ask(host, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_blackbox_exporter_knows_how_to_look_at_a_certificate(host: Host) -> None:
    assert "muster_certificate" in get(host, 9115, "config")
