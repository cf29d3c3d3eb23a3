# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus scrapes of a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.plugin_utils.plan.gateway import METRICS_PATH

# Jobs, as rules and dashboards know them.
ENGINE, GATEWAY, NODE, DEVICES, ENDPOINT = (
    "muster-engine",
    "muster-gateway",
    "muster-node",
    "muster-devices",
    "muster-endpoint",
)

NODE_PORT = 9100


def scrape_targets(
    plan: Mapping[str, Any],
    device_hosts: Collection[str] = (),
    prober: str = "",
    node_port: int = NODE_PORT,
    device_port: int | None = None,
) -> list[dict[str, Any]]:
    """Return the targets of a plan, as file_sd_configs takes them.

    A target's labels say its job too, and where its path or scheme is not the usual one, so that
    one job with this file scrapes all of them.

    Args:
        plan: One cluster's, as cluster_plan returns it.
        device_hosts: The hosts on which an exporter of the devices runs.
        prober: HOST:PORT of a blackbox exporter that looks at the certificate of an endpoint with
            TLS; empty for none.
        node_port: The port of node_exporter.
        device_port: The port of the devices' exporter; the vendor's usual one if None.
    """
    targets = []
    for unit in plan["units"]:
        labels = _labels(plan, [unit])
        if unit["role"] == "gateway":
            # All gateways of a plan speak as its endpoint does.
            scheme = urlsplit(plan["endpoint"]["url"]).scheme
            labels = {**labels, "__scheme__": scheme, "__metrics_path__": METRICS_PATH}
            targets.append(_target(GATEWAY, urlsplit(unit["api_url"]).netloc, labels))
        elif unit["api_url"]:
            # Headless ranks have no API; the head's tells of their tokens.
            parts = urlsplit(unit["api_url"])
            labels["__scheme__"] = parts.scheme
            targets.append(_target(ENGINE, parts.netloc, labels))
    exporters = device_exporters(plan, device_port)
    for host, units in _by_host(plan).items():
        labels = _labels(plan, units)
        targets.append(_target(NODE, _netloc(units[0]["address"], node_port), labels))
        exporter = exporters.get(host)
        if host in device_hosts and exporter and exporter["port"]:
            targets.append(_target(DEVICES, _netloc(**exporter), labels))
    if prober and urlsplit(plan["endpoint"]["url"]).scheme == "https":
        targets.append(_certificate(plan, prober))
    return targets


def device_exporters(
    plan: Mapping[str, Any], device_port: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return where the exporter of a host's devices would listen, for each host that has some.

    A port is null where none is given and the vendor's exporter has no usual one.

    Args:
        plan: One cluster's, as cluster_plan returns it.
        device_port: The port of the exporter; the vendor's usual one if None.
    """
    port = device_port or VENDORS[plan["platform"]["vendor"]].exporter_port
    return {
        unit["host"]: {"address": unit["address"], "port": port}
        for unit in plan["units"]
        if unit["devices"]
    }


def _certificate(plan: Mapping[str, Any], prober: str) -> dict[str, Any]:
    """Return the target that has a blackbox exporter look at the endpoint's certificate."""
    labels = {
        "cluster": plan["deployment"],
        "recipe": plan["recipe"],
        "instance": plan["endpoint"]["url"],
        "__metrics_path__": "/probe",
        "__param_target": urlsplit(plan["endpoint"]["url"]).netloc,
        "__param_module": "muster_certificate",
    }
    return _target(ENDPOINT, prober, labels)


def _by_host(plan: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the engines of each host; those of its gateway where it runs none."""
    by_host: dict[str, list[Mapping[str, Any]]] = {}
    for unit in sorted(plan["units"], key=lambda unit: unit["role"] == "gateway"):
        units = by_host.setdefault(unit["host"], [])
        if unit["role"] != "gateway" or not units:
            units.append(unit)
    return by_host


def _labels(plan: Mapping[str, Any], units: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return the labels of what some units of one host have in common."""
    labels = {
        "cluster": plan["deployment"],
        "recipe": plan["recipe"],
        "node": units[0]["host"],
        "role": _joined(unit["role"] for unit in units),
    }
    if units[0]["role"] != "gateway":
        labels["replica"] = _joined(unit["replica"] for unit in units)
        labels["rank"] = _joined(rank for unit in units for rank in unit["ranks"])
    if len(units) == 1:
        labels["unit"] = units[0]["systemd_unit"]
    return labels


def _joined(values: Iterable[Any]) -> str:
    """Return values once each in their order, as `0,1`."""
    return ",".join(str(value) for value in dict.fromkeys(values))


def _netloc(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _target(job: str, netloc: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"targets": [netloc], "labels": {"job": job, **labels}}
