"""docs/on-the-host.md says what the code does: places, ports, logs, and the way back."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common import paths
from ansible_collections.muster.serving.plugins.module_utils.engine import venv
from ansible_collections.muster.serving.plugins.module_utils.host import docker, docker_packages
from ansible_collections.muster.serving.plugins.module_utils.host import tuning as host_tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.programs import bound_logs
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_address,
    unit_files,
    verified,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import (
    GATEWAY_PORT,
    HCCL_BASE_PORT,
    PORT_SETTINGS,
)

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "on-the-host.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def section(title: str) -> str:
    """Return the text of a section."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of a section's tables."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize(
    "place",
    [
        docker.DAEMON_JSON,
        docker.DROP_IN,
        docker.PROXY_ENV,
        docker.STATE_PATH,
        docker.ca_path("REGISTRY"),
        gateway_address.config_path("CLUSTER"),
        gateway_address.service_name("CLUSTER"),
        firewall.KEPT_DIR,
        firewall.STATE_PATH,
        firewall.UNIT,
        host_tuning.STATE_PATH,
        host_tuning.SYSCTL_PATH,
        host_tuning.UNIT,
        paths.LOG_DIR,
        unit_files.CONFIG_DIR,
        unit_files.HOME_DIR,
        unit_files.LINK_STATE_DIR,
        unit_files.PROGRAMS_DIR,
        unit_files.UNITS_DIR,
        os.path.dirname(os.path.dirname(venv.PYTHON_DIR + "/")),
        verified.record_path("CLUSTER"),
    ],
)
def test_a_place_that_is_written_to_stands_in_the_table(place: str) -> None:
    assert place in section("What changes, and how to undo it")


def test_every_folder_of_state_that_the_code_names_stands_in_the_table() -> None:
    named = set()
    for source in [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "recipes").rglob("*.yml")]:
        text = source.read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:/var/lib/muster|\{(?:paths\.)?STATE_DIR\})/([a-z_]+)", text))
    assert {"units", "cache", "verified", "images"} <= named
    missing = {one for one in named if f"/var/lib/muster/{one}" not in PAGE}
    assert missing == set(), "say in docs/on-the-host.md what they hold and how they are removed"


def test_programs_of_muster_lie_in_one_folder() -> None:
    programs = (unit_files.LINK_PROGRAM, unit_files.LOG_PROGRAM, gateway_address.PROBE_PATH)
    assert {os.path.dirname(path) for path in programs} == {unit_files.PROGRAMS_DIR}


def test_every_kind_of_port_has_a_row_with_its_variable() -> None:
    by_port = {cells[0].strip("`"): cells for cells in rows("Ports to open")}
    for name, variable in PORT_SETTINGS.items():
        assert by_port[name][-1].strip("`") == variable
    assert str(GATEWAY_PORT) in by_port["gateway"][1]
    assert str(HCCL_BASE_PORT) in by_port["hccl"][1]


def test_the_defaults_of_ports_are_the_recipes() -> None:
    by_port = {cells[0].strip("`"): cells[1] for cells in rows("Ports to open")}
    for source in (ROOT / "recipes").rglob("*.yml"):
        recipe = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
        for name, number in recipe.get("ports", {}).items():
            assert str(number) in by_port[name], source
        count = recipe.get("platform", {}).get("hccl_ports")
        if count:
            assert f"{HCCL_BASE_PORT}-{HCCL_BASE_PORT + count - 1}" in by_port["hccl"]


def test_how_large_logs_get_is_what_the_program_allows() -> None:
    text = section("Logs, and how large they get")
    assert f"{bound_logs.MAX_BYTES >> 30} GiB and {bound_logs.MAX_FILES} files" in text
    assert "`none`" in text
    assert paths.LOG_DIR in text


def test_the_repository_that_is_added_is_the_roles() -> None:
    tasks = (ROOT / "roles" / "docker" / "tasks" / "main.yml").read_text(encoding="utf-8")
    (file,) = re.findall(r"file: (muster-\S+)$", tasks, re.M)
    assert f"/etc/yum.repos.d/{file}.repo" in PAGE
    assert docker_packages.DOCKER in PAGE
