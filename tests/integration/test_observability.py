"""A real Prometheus watches the pair: every target, and how soon what goes wrong is an alert."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.observability import names

from .conftest import Outcome, lab, on_node

pytestmark = pytest.mark.chaos

Play = Callable[..., Outcome]

HEAD, FOLLOWER = "a2-node0", "a2-node1"
WATCH = "observer"
MODEL = "minimax25"
UNIT = "muster-a2-cluster-r0-rank{}.service"
PACKAGES = "prometheus-node-exporter"
# Of the node that watches, once there is one.
ADDRESS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node for Prometheus, and the inventory that names it beside the lab's."""
    lab("up")
    made = json.loads(lab("node", "create", WATCH))
    ADDRESS.append(made["address"])
    inventory = tmp_path_factory.mktemp("observer") / "hosts.yml"
    inventory.write_text(f"all: {{hosts: {{{WATCH}: {{ansible_host: {made['address']}}}}}}}\n")
    yield inventory
    lab("node", "remove", WATCH)
    for node in (HEAD, FOLLOWER):
        on_node(node, "sh", "-c", f"apt-get purge -qq -y {PACKAGES} >/dev/null 2>&1 || true")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def asked(path: str, port: int = 9090) -> Any:
    return json.loads(get(f"http://{ADDRESS[0]}:{port}/{path}"))


def query(expression: str) -> list[dict[str, Any]]:
    quoted = urllib.parse.quote(expression)
    return asked(f"api/v1/query?query={quoted}")["data"]["result"]  # type: ignore[no-any-return]


def told() -> set[str]:
    """Return the alerts that Alertmanager has."""
    return {one["labels"]["alertname"] for one in asked("api/v2/alerts", 9093)}


def seconds_until(condition: Callable[[], object], bound_s: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < bound_s
        time.sleep(1)
    return time.monotonic() - began


def endpoint() -> str:
    (target,) = query('up{job="muster-engine"}')
    return f"http://{target['metric']['instance']}"


def complete(tokens: int, timeout_s: float) -> bool:
    """Ask for tokens; whether they came."""
    body = {"model": MODEL, "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
    request = urllib.request.Request(
        f"{endpoint()}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status == 200  # type: ignore[no-any-return]
    except OSError:
        return False


def test_the_pair_is_watched(play: Play, watch: Path) -> None:
    if "muster_unit_up" not in on_node(HEAD, "sh", "-c", "cat /run/muster-metrics/* || true"):
        # Of an earlier release, or stopped: agents tell from their next start on.
        play("playbooks/stop.yml")
    assert play("site.yml").rc == 0
    options = ("-i", str(watch))
    extra = {"observability_host": WATCH, "observability_interval_s": 5}
    first = play("playbooks/observability.yml", *options, **extra)
    assert first.rc == 0
    assert play("playbooks/observability.yml", *options, **extra).changed() == {}

    expected = {("muster-engine", HEAD), ("muster-node", HEAD), ("muster-node", FOLLOWER)}

    def up() -> set[tuple[str, str]]:
        found = query('up{job=~"muster-.*"} == 1')
        return {(one["metric"]["job"], one["metric"]["node"]) for one in found}

    seconds_until(lambda: up() == expected, 60)
    seconds_until(lambda: len(query("unit:muster_up:max == 1")) == 2, 60)
    rules = [rule for group in asked("api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    # The rank without an API is told of by its node.
    (follower,) = query(f'unit:muster_up:max{{unit="{UNIT.format(1)}"}}')
    assert follower["metric"]["node"] == FOLLOWER


def test_the_engine_has_the_names_of_the_table() -> None:
    exposed = set(re.findall(r"^# TYPE (\S+)", get(f"{endpoint()}/metrics"), re.M))
    wanted = {metric.name for metric in names.METRICS if metric.source == "vllm"}
    assert wanted - exposed == set()


def test_a_killed_rank_raises_its_alert(record_property: Callable[[str, object], None]) -> None:
    assert "MusterReplicaRestarted" not in told()
    on_node(FOLLOWER, "systemctl", "kill", "-s", "KILL", UNIT.format(1))
    delay = seconds_until(lambda: "MusterReplicaRestarted" in told(), 180)
    record_property("killed_s", round(delay))
    print(f"a killed rank: MusterReplicaRestarted after {delay:.0f} s")
    seconds_until(lambda: len(query('up{job="muster-engine"} == 1')) == 1, 240)


def test_a_rank_that_stands_still_raises_its_alert(
    record_property: Callable[[str, object], None],
) -> None:
    # An engine that has not served yet has longer.
    seconds_until(lambda: complete(1, 30), 240)
    assert "MusterStalled" not in told()
    container = UNIT.format(1).removesuffix(".service")
    stop = f"docker top {container} -eo pid | tail -n +2 | xargs kill -STOP"
    on_node(FOLLOWER, "sh", "-c", stop)
    for _request in range(4):
        threading.Thread(target=complete, args=(64, 200), daemon=True).start()
    delay = seconds_until(lambda: "MusterStalled" in told(), 300)
    record_property("stalled_s", round(delay))
    print(f"a rank that stands still: MusterStalled after {delay:.0f} s")
    # The agents have restarted the replica.
    seconds_until(lambda: complete(1, 30), 240)


def test_what_was_watched_can_be_forgotten(play: Play, watch: Path) -> None:
    extra = {"observability_host": WATCH, "observability_state": "absent"}
    assert play("playbooks/observability.yml", "-i", str(watch), **extra).rc == 0
    seconds_until(lambda: query("up") == [], 120)
