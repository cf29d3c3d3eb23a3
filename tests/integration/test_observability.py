"""A real Prometheus watches the pair: every target, and how soon what goes wrong is an alert."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
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
UNIT = "muster-a2-cluster-r0-rank{}.service"
PACKAGES = "prometheus-node-exporter"


@pytest.fixture(scope="module", autouse=True)
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node for Prometheus, and the inventory that names it beside the lab's."""
    lab("up")
    made = json.loads(lab("node", "create", WATCH))
    inventory = tmp_path_factory.mktemp("observer") / "hosts.yml"
    inventory.write_text(f"all: {{hosts: {{{WATCH}: {{ansible_host: {made['address']}}}}}}}\n")
    yield inventory
    lab("node", "remove", WATCH)
    for node in (HEAD, FOLLOWER):
        on_node(node, "sh", "-c", f"apt-get purge -qq -y {PACKAGES} >/dev/null 2>&1 || true")


def asked(path: str, port: int = 9090) -> Any:
    return json.loads(on_node(WATCH, "curl", "-sf", f"http://127.0.0.1:{port}/{path}"))


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


def complete(base: str, tokens: int) -> str:
    """Return a command for the head that asks for tokens and does not wait for them."""
    body = json.dumps({"model": "minimax25", "prompt": "a", "max_tokens": tokens})
    return f"curl -s -m 200 -H 'Content-Type: application/json' -d '{body}' {base}/completions"


def test_the_pair_is_watched(play: Play, watch: Path) -> None:
    # Agents tell from their next start on.
    play("playbooks/stop.yml")
    assert play("site.yml").rc == 0
    options = ("-i", str(watch))
    extra = {"observability_host": WATCH, "observability_interval_s": 5}
    first = play("playbooks/observability.yml", *options, **extra)
    assert first.rc == 0
    assert play("playbooks/observability.yml", *options, **extra).changed() == {}

    expected = {("muster-engine", HEAD), ("muster-node", HEAD), ("muster-node", FOLLOWER)}

    def up() -> set[tuple[str, str]]:
        return {(one["metric"]["job"], one["metric"]["node"]) for one in query("up == 1")}

    seconds_until(lambda: up() == expected, 60)
    seconds_until(lambda: len(query("unit:muster_up:max == 1")) == 2, 60)
    rules = [rule for group in asked("api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    # The rank without an API is told of by its node.
    (follower,) = query(f'unit:muster_up:max{{unit="{UNIT.format(1)}"}}')
    assert follower["metric"]["node"] == FOLLOWER


def test_the_engine_has_the_names_of_the_table() -> None:
    (target,) = query('up{job="muster-engine"}')
    text = on_node(WATCH, "curl", "-sf", f"http://{target['metric']['instance']}/metrics")
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.M))
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
    (target,) = query('up{job="muster-engine"}')
    base = f"http://{target['metric']['instance']}/v1"
    seconds_until(lambda: "choices" in on_node(HEAD, "sh", "-c", complete(base, 1) + "; true"), 240)
    assert "MusterStalled" not in told()
    container = UNIT.format(1).removesuffix(".service")
    stop = f"docker top {container} -eo pid | tail -n +2 | xargs kill -STOP"
    on_node(FOLLOWER, "sh", "-c", stop)
    for _request in range(4):
        on_node(HEAD, "sh", "-c", f"({complete(base, 64)} >/dev/null 2>&1 &)")
    delay = seconds_until(lambda: "MusterStalled" in told(), 300)
    record_property("stalled_s", round(delay))
    print(f"a rank that stands still: MusterStalled after {delay:.0f} s")


def test_what_was_watched_can_be_forgotten(play: Play, watch: Path) -> None:
    extra = {"observability_host": WATCH, "observability_state": "absent"}
    assert play("playbooks/observability.yml", "-i", str(watch), **extra).rc == 0
    seconds_until(lambda: query("up") == [], 60)
