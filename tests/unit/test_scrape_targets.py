"""scrape_targets: from a plan to what Prometheus scrapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.devices import registry
from ansible_collections.muster.serving.plugins.plugin_utils.observability.targets import (
    device_exporters,
    scrape_targets,
)

from . import prometheus_tools
from .plan_support import SINGLE, host, pair, plan, single, view

A3 = "minimax-m2.7-w8a8/vllm-ascend-a3"


def by_job(targets: list[dict[str, Any]]) -> dict[str, list[tuple[str, dict[str, str]]]]:
    found: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for group in targets:
        labels = dict(group["labels"])
        (address,) = group["targets"]
        found.setdefault(labels.pop("job"), []).append((address, labels))
    return found


def gateways(**variables: Any) -> Any:
    hosts = [host(n, SINGLE, gateway_hosts=["c-0"], **variables) for n in (1, 2)]
    return plan(view(c=hosts))


def test_a_headless_rank_is_scraped_through_its_node_alone() -> None:
    jobs = by_job(scrape_targets(plan(pair())))
    common = {"cluster": "c", "recipe": "minimax-m2.5/vllm-ascend-a2", "replica": "0"}
    head = {**common, "node": "c-0", "role": "head", "rank": "0"}
    head["unit"] = "muster-c-r0-rank0.service"
    follower = {**common, "node": "c-1", "role": "follower", "rank": "1"}
    follower["unit"] = "muster-c-r0-rank1.service"
    assert jobs == {
        "muster-engine": [("10.0.0.1:20004", {**head, "__scheme__": "http"})],
        "muster-node": [("10.0.0.1:9100", head), ("10.0.0.2:9100", follower)],
    }


def test_several_ranks_of_one_node_are_one_node() -> None:
    jobs = by_job(scrape_targets(plan(single())))
    ((_address, labels),) = jobs["muster-node"]
    ranks = [rank for unit in plan(single())["units"] for rank in unit["ranks"]]
    assert labels["rank"] == ",".join(map(str, ranks))


def test_a_gateway_is_scraped_at_its_path() -> None:
    made = gateways()
    ((address, labels),) = by_job(scrape_targets(made))["muster-gateway"]
    assert address == "10.0.0.1:8080"
    assert labels["__metrics_path__"] == "/muster/metrics"
    assert labels["role"] == "gateway"
    # Of no replica: it stands before all of them.
    assert {"replica", "rank"}.isdisjoint(labels)
    # Its node is labelled by the engine that it has.
    roles = {labels["role"] for _address, labels in by_job(scrape_targets(made))["muster-node"]}
    assert "gateway" not in roles


def test_an_endpoint_with_tls_is_scraped_with_tls_and_its_certificate_looked_at() -> None:
    made = gateways()
    made = {**made, "endpoint": {**made["endpoint"], "url": "https://10.0.0.1:8080/v1"}}
    jobs = by_job(scrape_targets(made, prober="127.0.0.1:9115"))
    assert jobs["muster-gateway"][0][1]["__scheme__"] == "https"
    # The gateway speaks TLS; the engines behind it do as their own addresses say.
    assert {labels["__scheme__"] for _address, labels in jobs["muster-engine"]} == {"http"}
    ((prober, labels),) = jobs["muster-endpoint"]
    assert prober == "127.0.0.1:9115"
    assert labels["__param_target"] == "10.0.0.1:8080"
    assert "muster-endpoint" not in by_job(scrape_targets(gateways(), prober="127.0.0.1:9115"))


@pytest.mark.parametrize(
    ("recipe", "port"),
    [
        ("minimax-m2.5/vllm-ascend-a2", 8082),
        ("minimax-m2.5/vllm-nvidia", 9400),
        ("minimax-m2.5/vllm-rocm", 5000),
    ],
)
def test_devices_are_scraped_where_their_exporter_runs(recipe: str, port: int) -> None:
    made = plan(view(c=[host(1, recipe), host(2, recipe)]))
    jobs = by_job(scrape_targets(made, device_hosts=["c-1"]))
    assert [address for address, _labels in jobs["muster-devices"]] == [f"10.0.0.2:{port}"]
    moved = by_job(scrape_targets(made, device_hosts=["c-1"], device_port=9999))
    assert [address for address, _labels in moved["muster-devices"]] == ["10.0.0.2:9999"]
    assert "muster-devices" not in by_job(scrape_targets(made))


def test_a_host_with_a_gateway_alone_has_no_devices() -> None:
    made = gateways()
    kept = [unit for unit in made["units"] if unit["host"] != "c-0" or unit["role"] == "gateway"]
    made = {**made, "units": kept}
    assert device_exporters(made) == {"c-1": {"address": "10.0.0.2", "port": 8082}}
    jobs = by_job(scrape_targets(made, device_hosts=["c-0", "c-1"]))
    assert [address for address, _labels in jobs["muster-devices"]] == ["10.0.0.2:8082"]
    # It is a node nevertheless.
    assert [labels["node"] for _address, labels in jobs["muster-node"]] == ["c-1", "c-0"]


def test_an_exporter_without_a_usual_port_is_scraped_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = plan(single())
    vendor = registry.VENDORS[made["platform"]["vendor"]]._replace(exporter_port=None)
    monkeypatch.setitem(registry.VENDORS, vendor.name, vendor)  # type: ignore[arg-type]
    assert device_exporters(made) == {"c-0": {"address": "10.0.0.1", "port": None}}
    assert "muster-devices" not in by_job(scrape_targets(made, ["c-0"]))
    assert "muster-devices" in by_job(scrape_targets(made, ["c-0"], device_port=9999))


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    made = plan(single(address="fd00::1"))
    jobs = by_job(scrape_targets(made))
    assert jobs["muster-node"][0][0] == "[fd00::1]:9100"
    assert jobs["muster-engine"][0][0].startswith("[fd00::1]:")


def test_prometheus_takes_them(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(scrape_targets(gateways(), ["c-0"], "[::1]:9115")))
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "scrape_configs:\n- job_name: muster\n  file_sd_configs:\n"
        f"  - files: ['{tmp_path}/*.json']\n"
    )
    prometheus_tools.run("promtool", "check", "config", str(config))
