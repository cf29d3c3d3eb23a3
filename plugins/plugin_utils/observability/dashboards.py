# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards of Grafana, built from short tables of panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

# The schema that Grafana 10 writes; later ones migrate it when they read it.
SCHEMA_VERSION = 38
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Two a row, of the 24 columns that there are.
WIDTH, HEIGHT = 12, 8


class Panel(NamedTuple):
    """One graph: its lines are pairs of an expression and how a line of it is called."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    what: str


class Dashboard(NamedTuple):
    """One page, and the labels that choose what it shows, from outer to inner."""

    uid: str
    title: str
    chosen_by: tuple[str, ...]
    panels: tuple[Panel, ...]


_REPLICA = 'cluster=~"$cluster", replica=~"$replica"'
_NODE = 'cluster=~"$cluster", node=~"$node"'

FLEET = Dashboard(
    "muster-fleet",
    "Muster: fleet",
    ("cluster",),
    (
        Panel(
            "Alerts that fire",
            "short",
            (
                (
                    'count by (alertname, cluster) (ALERTS{alertstate="firing", '
                    'alertname=~"Muster.*", cluster=~"$cluster"})',
                    "{{alertname}} {{cluster}}",
                ),
            ),
            "Each has the address of its runbook in Alertmanager.",
        ),
        Panel(
            "Units that run, of those that are wanted",
            "short",
            (
                ('sum by (cluster) (unit:muster_up:max{cluster=~"$cluster"})', "{{cluster}} run"),
                (
                    'sum by (cluster) (unit:muster_wanted:max{cluster=~"$cluster"})',
                    "{{cluster}} wanted",
                ),
            ),
            "What the agents on the nodes say.",
        ),
        Panel(
            "Tokens written",
            "short",
            (
                (
                    "sum by (cluster) (replica:engine_generation_tokens:rate1m"
                    '{cluster=~"$cluster"})',
                    "{{cluster}}",
                ),
            ),
            "Tokens a second, of all replicas.",
        ),
        Panel(
            "Tokens read",
            "short",
            (
                (
                    'sum by (cluster) (replica:engine_prompt_tokens:rate1m{cluster=~"$cluster"})',
                    "{{cluster}}",
                ),
            ),
            "Tokens a second, of all replicas.",
        ),
        Panel(
            "Requests",
            "short",
            (
                (
                    'sum by (cluster) (rank:engine_requests_running:sum{cluster=~"$cluster"})',
                    "{{cluster}} run",
                ),
                (
                    'sum by (cluster) (rank:engine_requests_waiting:sum{cluster=~"$cluster"})',
                    "{{cluster}} wait",
                ),
            ),
            "Those that wait have found no room in a batch or in the KV cache.",
        ),
        Panel(
            "Time to the first token, 95 %",
            "s",
            (
                (
                    "max by (cluster) (replica:engine_first_token_seconds:p95"
                    '{cluster=~"$cluster"})',
                    "{{cluster}}",
                ),
            ),
            "Of the slowest replica, over five minutes.",
        ),
        Panel(
            "Engines as the gateways see them",
            "short",
            (
                (
                    "sum by (cluster, node) (haproxy_server_status"
                    '{proxy="engines", state="UP", cluster=~"$cluster"})',
                    "{{cluster}} {{node}}",
                ),
            ),
            "How many yield tokens.",
        ),
        Panel(
            "Answers of the gateways",
            "reqps",
            (
                (
                    "sum by (cluster, code) (rate(haproxy_frontend_http_responses_total"
                    '{cluster=~"$cluster"}[1m]))',
                    "{{cluster}} {{code}}",
                ),
            ),
            "By class of their status.",
        ),
    ),
)

REPLICA = Dashboard(
    "muster-replica",
    "Muster: replica",
    ("cluster", "replica"),
    (
        Panel(
            "Tokens",
            "short",
            (
                (f"replica:engine_generation_tokens:rate1m{{{_REPLICA}}}", "{{replica}} written"),
                (f"replica:engine_prompt_tokens:rate1m{{{_REPLICA}}}", "{{replica}} read"),
            ),
            "Tokens a second.",
        ),
        Panel(
            "Requests done",
            "reqps",
            (
                (
                    "sum by (replica, finished_reason) "
                    f"(rate(vllm:request_success_total{{{_REPLICA}}}[1m]))",
                    "{{replica}} {{finished_reason}}",
                ),
            ),
            "vLLM alone counts why they ended.",
        ),
        Panel(
            "Time to the first token",
            "s",
            (
                (f"replica:engine_first_token_seconds:p95{{{_REPLICA}}}", "{{replica}} 95 %"),
                (
                    "histogram_quantile(0.5, sum by (replica, le) (rate("
                    '{__name__=~"(vllm:|sglang[:_])time_to_first_token_seconds_bucket", '
                    f"{_REPLICA}}}[5m])))",
                    "{{replica}} median",
                ),
            ),
            "Over five minutes.",
        ),
        Panel(
            "Time between tokens, 95 %",
            "s",
            ((f"replica:engine_between_tokens_seconds:p95{{{_REPLICA}}}", "{{replica}}"),),
            "Over five minutes.",
        ),
        Panel(
            "Time of a whole request, 95 %",
            "s",
            (
                (
                    "histogram_quantile(0.95, sum by (replica, le) (rate("
                    '{__name__=~"(vllm:|sglang[:_])e2e_request_latency_seconds_bucket", '
                    f"{_REPLICA}}}[5m])))",
                    "{{replica}}",
                ),
            ),
            "Over five minutes.",
        ),
        Panel(
            "Found in the prefix cache",
            "percentunit",
            (
                (
                    f"sum by (replica) (rate(vllm:prefix_cache_hits_total{{{_REPLICA}}}[5m])) "
                    f"/ sum by (replica) (rate(vllm:prefix_cache_queries_total{{{_REPLICA}}}[5m])) "
                    "or avg by (replica) "
                    f'({{__name__=~"sglang[:_]cache_hit_rate", {_REPLICA}}})',
                    "{{replica}}",
                ),
            ),
            "Share of the tokens of prompts.",
        ),
        Panel(
            "Starts that are left",
            "short",
            ((f"unit:muster_starts_left:min{{{_REPLICA}}}", "{{unit}}"),),
            "Of systemd's start limit; at 0 a unit that ends stays down.",
        ),
        Panel(
            "Requests put back",
            "short",
            (
                (
                    f"sum by (replica) (rate(vllm:num_preemptions_total{{{_REPLICA}}}[5m]))",
                    "{{replica}}",
                ),
            ),
            "For want of KV cache, a second; vLLM alone counts them.",
        ),
    ),
)

RANK = Dashboard(
    "muster-rank",
    "Muster: rank",
    ("cluster", "replica"),
    (
        Panel(
            "Requests that run",
            "short",
            (
                (
                    f"rank:engine_requests_running:sum{{{_REPLICA}}}",
                    "{{unit}} {{engine}}{{dp_rank}}",
                ),
            ),
            "By rank; ranks of one replica that differ for long are not dealt to alike.",
        ),
        Panel(
            "Requests that wait",
            "short",
            (
                (
                    f"rank:engine_requests_waiting:sum{{{_REPLICA}}}",
                    "{{unit}} {{engine}}{{dp_rank}}",
                ),
            ),
            "By rank.",
        ),
        Panel(
            "KV cache",
            "percentunit",
            (
                (
                    f"rank:engine_cache_usage:max{{{_REPLICA}}}",
                    "{{unit}} {{engine}}{{dp_rank}}",
                ),
            ),
            "How full it is.",
        ),
        Panel(
            "Progress",
            "short",
            (
                (
                    f"rank:engine_progress:rate2m{{{_REPLICA}}}",
                    "{{unit}} {{engine}}{{dp_rank}}",
                ),
            ),
            "0 with requests that run or wait is a stall. It is no figure of speed.",
        ),
        Panel(
            "Units that run",
            "short",
            ((f"unit:muster_up:max{{{_REPLICA}}}", "{{unit}} on {{node}}"),),
            "Headless ranks too, as the agents on their nodes say.",
        ),
        Panel(
            "Engines that stand still",
            "short",
            ((f"max by (unit) (muster_unit_stalled{{{_REPLICA}}})", "{{unit}}"),),
            "As the agents have found them.",
        ),
    ),
)


def _devices(title: str, unit: str, what: str, *lines: str) -> Panel:
    """Return a panel of lines that name the device of their vendor."""
    legend = "{{node}} {{id}}{{gpu}}{{gpu_id}}"
    return Panel(title, unit, tuple((line, legend) for line in lines), what)


DEVICES = Dashboard(
    "muster-devices",
    "Muster: devices and nodes",
    ("cluster", "node"),
    (
        Panel(
            "Devices that are healthy",
            "short",
            ((f"device:muster_healthy:min{{{_NODE}}}", "{{node}} {{device}}"),),
            "By the exporter of their vendor.",
        ),
        _devices(
            "Use",
            "percent",
            "Of the compute cores.",
            f"npu_chip_info_utilization{{{_NODE}}}",
            f"DCGM_FI_DEV_GPU_UTIL{{{_NODE}}}",
            f'{{__name__=~"(amd_)?gpu_gfx_activity", {_NODE}}}',
        ),
        _devices(
            "Memory in use",
            "percentunit",
            "Share of what the device has.",
            f"npu_chip_info_hbm_used_memory{{{_NODE}}} / npu_chip_info_hbm_total_memory",
            f"DCGM_FI_DEV_FB_USED{{{_NODE}}} / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
            f"gpu_used_vram{{{_NODE}}} / gpu_total_vram",
            f"amd_gpu_used_vram{{{_NODE}}} / amd_gpu_total_vram",
        ),
        _devices(
            "Temperature",
            "celsius",
            "Of AMD's the hottest spot.",
            f"npu_chip_info_temperature{{{_NODE}}}",
            f"DCGM_FI_DEV_GPU_TEMP{{{_NODE}}}",
            f'{{__name__=~"(amd_)?gpu_junction_temperature", {_NODE}}}',
        ),
        _devices(
            "Power",
            "watt",
            "As the exporter says.",
            f"npu_chip_info_power{{{_NODE}}}",
            f"DCGM_FI_DEV_POWER_USAGE{{{_NODE}}}",
            f'{{__name__=~"(amd_)?gpu_power_usage", {_NODE}}}',
        ),
        Panel(
            "Memory of the node in use",
            "percentunit",
            (
                (
                    f"1 - node_memory_MemAvailable_bytes{{{_NODE}}} / node_memory_MemTotal_bytes",
                    "{{node}}",
                ),
            ),
            "By node_exporter.",
        ),
        Panel(
            "Cores of the node in use",
            "percentunit",
            (
                (
                    f'1 - avg by (node) (rate(node_cpu_seconds_total{{mode="idle", {_NODE}}}[1m]))',
                    "{{node}}",
                ),
            ),
            "By node_exporter.",
        ),
        Panel(
            "Network of the node",
            "Bps",
            (
                (
                    "sum by (node, device) (rate(node_network_receive_bytes_total"
                    f'{{device!~"lo|veth.*|docker.*", {_NODE}}}[1m]))',
                    "{{node}} {{device}} in",
                ),
                (
                    "sum by (node, device) (rate(node_network_transmit_bytes_total"
                    f'{{device!~"lo|veth.*|docker.*", {_NODE}}}[1m]))',
                    "{{node}} {{device}} out",
                ),
            ),
            "RDMA between devices does not pass here.",
        ),
    ),
)

DASHBOARDS = (FLEET, REPLICA, RANK, DEVICES)


def render(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["muster"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(dashboard.chosen_by)},
        "links": [
            {
                "type": "dashboards",
                "title": "Muster",
                "tags": ["muster"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _variables(labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the choice of the data source, then of each label among what is left."""
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    ]
    for position, label in enumerate(labels):
        outer = ", ".join(f'{one}=~"${one}"' for one in labels[:position])
        query = f'label_values(up{{job=~"muster-.*"{", " + outer if outer else ""}}}, {label})'
        variables.append(
            {
                "name": label,
                "label": label.capitalize(),
                "type": "query",
                "datasource": DATASOURCE,
                "query": {"query": query, "refId": label},
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "sort": 3,
            }
        )
    return variables


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across, down = number % 2, number // 2
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.what,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": across * WIDTH, "y": down * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expr}
            | {"legendFormat": legend}
            for index, (expr, legend) in enumerate(panel.lines)
        ],
    }
