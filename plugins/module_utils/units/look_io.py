# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a node's planned units: what unit_info does."""

from __future__ import annotations

import time
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.units import (
    dealing,
    gateway_admin,
    gateway_admin_io,
    links_io,
    names,
    run_lock_io,
    startup,
    unit_files,
    unit_io,
    usage_io,
    verified_io,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "required": True},
    "units": {"type": "list", "elements": "dict", "default": []},
    "links": {"type": "list", "elements": "dict", "default": []},
    "model": {"type": "str", "default": ""},
    "wait": {"type": "float", "default": 0},
    "restarts_before": {"type": "dict", "default": {}},
    "engine": {"type": "str", "choices": ["vllm", "vllm-ascend", "sglang"]},
    "version": {"type": "str"},
}
STATE_SPEC = {**ARGUMENT_SPEC, "redeal": {"type": "bool", "default": False}}
POLL_S = 1.0


class Seen(NamedTuple):
    """One unit at one moment: systemd's properties, whether it has ended, whether it serves."""

    shown: dict[str, str]
    ended: bool
    ready: bool | None


def look(
    params: dict[str, Any], with_logs: bool = True, with_usage: bool = False
) -> dict[str, Any]:
    """Return what unit_info returns, with the logs of the units and what they do or without.

    Raises:
        UnitError: systemd, Docker or a file of the node keeps it from being told.
    """
    deadline = time.monotonic() + params["wait"]
    seen = glance(params)
    while not _settled(seen) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        seen = glance(params)
    wanted = unit_io.desired(params["units"])
    reports = []
    for unit in params["units"]:
        shown, ended, ready = seen[unit["name"]]
        report = unit_io.describe(unit, shown, wanted[unit["name"]], ready)
        log = unit_io.last_log(unit["systemd_unit"], startup.LINES) if with_logs else []
        lines = unit_io.LOG_LINES if ended and report["installed"] else 1
        doing = "" if ended or ready else startup.doing(log)
        report.update(ended=ended, log=log[-lines:], doing=doing)
        reports.append(report)
    present = unit_io.installed_names(params["deployment"])
    planned = {unit["name"] for unit in params["units"]}
    links = [
        {"name": link, "systemd_unit": names.link_service(link)} for link in names.links_of(present)
    ]
    services = [names.service(name) for name in present] + [link["systemd_unit"] for link in links]
    running = unit_io.running(services)
    return {
        "units": reports,
        "planned_links": links_io.look(NodeFiles(), params["links"], running),
        "installed": {
            "units": [{"name": name} for name in present],
            "gateways": names.gateways_of(present),
            "links": links,
            "running": running,
        },
        "orphans": [name for name in present if name not in planned],
        "parser_checks": _parser_checks(params, reports),
        "others": unit_io.running_others(params["deployment"]),
        "run": run_lock_io.holder(params["deployment"]),
        "verified": verified_io.told(params["deployment"]),
        **(_usage(params, reports, present) if with_usage else {}),
    }


def _parser_checks(params: dict[str, Any], reports: list[dict[str, Any]]) -> list[Check] | None:
    """Return what the engine's parser is known to say of the units that would start."""
    starting = [
        unit
        for unit, report in zip(params["units"], reports)
        if report["differences"] or not unit_files.runs(report)
    ]
    if not (params["engine"] and starting):
        return None
    # A module's code comes to the node without its compiled form: mostly nothing starts.
    from ansible_collections.muster.serving.plugins.module_utils.units import parser_io

    return parser_io.kept_checks(params["engine"], params["version"], starting, NodeFiles())


def _usage(
    params: dict[str, Any], reports: list[dict[str, Any]], present: list[str]
) -> dict[str, Any]:
    """Return what links and file systems tell, and put into the reports what the engines do."""
    asked = [
        unit
        for unit, report in zip(params["units"], reports)
        if report["ready"] and report["role"] != "gateway"
    ]
    told = usage_io.of_units(asked, params["model"])
    for report in reports:
        report["usage"] = told.get(report["name"])
        out = drained(report)
        report.update(drained=[*out], drained_by=[*out.values()])
    images = any(not unit_files.in_venv(unit) for unit in params["units"])
    return {
        "links": usage_io.of_links(present),
        "disks": usage_io.of_disks(params["weights"], images),
    }


def drained(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the engines that a gateway keeps new requests from, each with by whom it was drained.

    None where it does not tell.
    """
    if report["role"] != "gateway" or not report["ready"]:
        return {}
    try:
        servers = gateway_admin_io.servers(report["name"])
        orders = gateway_admin_io.orders(report["name"], servers)
    except (gateway_admin.AdminError, unit_io.UnitError):
        return {}
    return {
        name: gateway_admin.drained_text(name, orders.get(name))
        for name in gateway_admin.drained(servers)
    }


def left_by_runs(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the engines that runs have drained at this node's gateways and not taken back yet.

    Those are among them that do not serve now.
    """
    found: set[str] = set()
    for unit in units:
        if unit["role"] != "gateway" or not unit["ready"]:
            continue
        try:
            orders = gateway_admin_io.orders(unit["name"], gateway_admin_io.servers(unit["name"]))
        except (gateway_admin.AdminError, unit_io.UnitError):
            continue
        found.update(gateway_admin.left_by_runs(orders))
    return sorted(found)


def state(params: dict[str, Any]) -> State:
    """Return the units as they are, and what keeps a replica of them from serving as planned."""
    seen = look(params, with_logs=False)
    checks = dealing.replica_checks(params["units"], seen["orphans"], params["redeal"])
    differs = unit_files.unplanned(seen["units"], seen["orphans"])
    differs += [
        f"the link {link['name']} {text}"
        for link in seen["planned_links"]
        for text in link["differences"]
    ]
    return State(differs, checks, seen={**seen, "left_drained": left_by_runs(seen["units"])})


def glance(params: dict[str, Any]) -> dict[str, Seen]:
    """Return each unit as it is now, by its name."""
    shown = unit_io.show([unit["systemd_unit"] for unit in params["units"]])
    seen = {}
    for unit in params["units"]:
        properties = shown.get(unit["systemd_unit"], {})
        # Who looks once asks how it does: that systemd restarted it earlier is no end.
        untold = 0 if params["wait"] else unit_files.restarts(properties)
        before = int(params["restarts_before"].get(unit["name"], untold))
        ended = unit_files.has_ended(properties, before)
        ready = None
        if unit.get("api_url"):
            # Another process on the port may answer in place of a dead engine.
            ready = not ended and unit_io.is_ready(unit, params["model"])
        seen[unit["name"]] = Seen(properties, ended, ready)
    return seen


def _settled(seen: dict[str, Seen]) -> bool:
    return any(unit.ended for unit in seen.values()) or all(
        unit.ready is not False for unit in seen.values()
    )
