"""Every vendor keeps the contract of plugins/module_utils/devices, and a new one needs no more.

The new one is written into a copy of the collection, as docs/adding-a-platform.md says, and is then
planned for, looked at and asked by diagnose there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.devices import contract
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import look_io as gpu_look
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.module_utils.node import look_io as node_look

from tests.conftest import ROOT

DEVICES = ROOT / "plugins/module_utils/devices"
INFO_MODULES = [vendor.info_module for vendor in VENDORS.values()]


def returned(module: str) -> dict[str, Any]:
    text = (ROOT / "plugins/modules" / f"{module}.py").read_text()
    documented: dict[str, Any] = yaml.safe_load(text.split('RETURN = r"""')[1].split('"""')[0])
    return documented


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_is_a_folder_and_a_record(name: str) -> None:
    vendor = VENDORS[name]
    assert vendor.name == name
    for file in ("vendor.py", "checks.py", "observe_io.py", "look_io.py"):
        assert (DEVICES / name / file).exists()
    spec = node_look.LOOKS[vendor.check_module]().ARGUMENT_SPEC
    assert set(vendor.options) <= set(spec)
    assert vendor.systems
    assert vendor.architectures


def test_whoever_is_looked_at_as_a_gpu_is_registered_as_one() -> None:
    gpus = {one.name for one in VENDORS.values() if one.check_module == "gpu_topology_check"}
    assert set(gpu_look.LOOKS) == gpus
    for load in gpu_look.LOOKS.values():
        look = load()
        assert callable(look.observe)
        assert callable(look.more_checks)
        assert look.RULES.tool


def test_no_parser_knows_of_a_verdict() -> None:
    judging = ("checks", "compiler_checks", "look_io", "observe_io", "observation")
    parsers = [
        path
        for path in DEVICES.glob("*/*.py")
        if path.stem not in (*judging, "vendor", "__init__") and path.parent.name in VENDORS
    ]
    assert {path.stem for path in parsers} >= {"npu_smi", "hccn", "nvidia_smi", "amd_smi"}
    for path in parsers:
        assert "checks import" not in path.read_text(), path


@pytest.mark.parametrize("module", INFO_MODULES)
def test_all_info_modules_return_what_the_contract_names(module: str) -> None:
    documented = returned(module)
    assert set(documented["topology"]["contains"]) == set(contract.Topology.__annotations__)
    device = set(documented["devices"]["contains"])
    assert {*contract.Device.__annotations__, "health"} <= device


# --- a new vendor -------------------------------------------------------------------------------

PACKAGE = "ansible_collections.muster.serving.plugins.module_utils"
HEAD = "from __future__ import annotations\n\n"
# A GPU of nobody's: its tool prints "INDEX NAME MEMORY" lines.
FOLDER = {
    "__init__.py": "",
    "vendor.py": f"""{HEAD}from {PACKAGE}.devices.contract import Vendor
from {PACKAGE}.devices.gpu.vendor import GPU_OPTIONS

ACME = Vendor(
    name="acme",
    check_module="gpu_topology_check",
    info_module="acme_info",
    options=GPU_OPTIONS,
    systems={{"acmeos": ("1",)}},
    architectures=("riscv64",),
    driver_paths=("/opt/acme",),
    driver_tools=("acme-smi",),
    device_groups=("acme",),
    commands={{"acme-smi.txt": ("acme-smi", "list")}},
    files=("/sys/module/acme/version",),
    exporter_port=9555,
)
""",
    "acme_smi.py": f"""{HEAD}from {PACKAGE}.devices.contract import Gpu, Observation


def parse(text: str) -> Observation[Gpu]:
    devices = []
    for line in text.splitlines():
        index, name, memory = line.split()
        devices.append(dict.fromkeys(Gpu.__annotations__) | {{
            "device_id": int(index), "name": name, "memory_total_mb": int(memory),
            "memory_used_mb": 0, "uncorrectable_errors": 0, "processes": [],
        }})
    return Observation(devices, "9.1")
""",
    "checks.py": f"""{HEAD}from {PACKAGE}.devices.gpu.checks import Rules

RULES = Rules(
    tool="acme-smi", listing="acme-smi ps", link="ACMELINK", link_pattern="AL",
    reset="reset it", ecc="turn ECC on", health=lambda device: "OK", modes=lambda device: [],
)
""",
    "observe_io.py": f"""{HEAD}from {PACKAGE}.devices.acme.acme_smi import parse
from {PACKAGE}.devices.tools_io import ask_all, find_tool


def observe(path, timeout):
    said = ask_all({{"list": [find_tool("acme-smi", path), "list"]}}, timeout)
    return parse(said["list"].stdout)
""",
    "look_io.py": f"""{HEAD}from {PACKAGE}.devices.acme.checks import RULES
from {PACKAGE}.devices.acme.observe_io import observe


def more_checks(params, gpus, wanted, files):
    return []
""",
}
RECIPES = {
    "recipes/_base/platforms/acme.yml": """\
extends: [_base/platforms/gpu]
platform:
  name: acme
  title: Acme
  vendor: acme
  device_memory_gb: 192
  device_names: [ACME]
  manager_nodes: [/dev/acme]
  env: {devices: [HIP_VISIBLE_DEVICES]}
""",
    "recipes/minimax-m2.5/vllm-acme.yml": """\
summary: MiniMax-M2.5 on nobody's GPUs
extends:
  [_base/models/minimax-m2.5, _base/pairs/minimax-m2-vllm-rocm, _base/platforms/acme]
variants:
  tp4: {evidence: {level: lab, note: Made up.}}
""",
}
# By file that is there already, what is put in, and before which line.
LINES = {
    "registry.py": [
        ("from typing import Mapping\n", f"from {PACKAGE}.devices.acme.vendor import ACME\n"),
        (
            "VENDORS: Mapping[str, Vendor] = {vendor.name: vendor for vendor in (",
            "VENDORS: Mapping[str, Vendor] = {vendor.name: vendor for vendor in (ACME, ",
        ),
    ],
    "gpu/look_io.py": [
        (
            'LOOKS: dict[str, Callable[[], Any]] = {"nvidia"',
            'LOOKS: dict[str, Callable[[], Any]] = {"acme": _acme, "nvidia"',
        ),
        (
            "def _amd() -> Any:\n",
            f"def _acme():\n    from {PACKAGE}.devices.acme import look_io\n    return look_io\n\n",
        ),
    ],
}

PROGRAM = """
import json, sys
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.files import is_driver
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu import look_io
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import DEVICE_GROUPS
from ansible_collections.muster.serving.plugins.module_utils.host.checks import system_checks
from ansible_collections.muster.serving.plugins.module_utils.node.look_io import options_of
from ansible_collections.muster.serving.plugins.module_utils.units import diagnosis_io
from ansible_collections.muster.serving.plugins.plugin_utils.observability import targets
from ansible_collections.muster.serving.plugins.plugin_utils.plan import needs, planner
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book

inventory = {
    "groups": {"all": ["n"], "c": ["n"], "ungrouped": []},
    "hostvars": {"n": {
        "ansible_host": "10.0.0.1", "muster_recipe": "minimax-m2.5/vllm-acme",
        "muster_model_path": "/models/m2.5", "muster_interface": "eth0",
    }},
}
verb = planner.Verb("plan", changes=False)
load = lambda name, variant, folders: recipe_book(folders).load(name, variant)
(plan,) = planner.plan_clusters(inventory, ["n"], verb, load, "0.1.0").values()
options = needs.checks_of(plan, needs.needs_of(plan))["n"]["gpu_topology_check"]
options = {**options, "tool_path": sys.argv[1], "device_nodes": []}
options = options_of("checks", "gpu_topology_check", options)
seen = look_io.inspect(options, NodeFiles(sys.argv[2]))
print(json.dumps({
    "vendor": options["vendor"],
    "checks": [[one["id"], one["status"], one["subject"]] for one in seen["checks"]],
    "facts": seen["facts"],
    "driver": [is_driver("/opt/acme/lib"), is_driver("/opt/other")],
    "groups": DEVICE_GROUPS,
    "system": [one["status"] for one in system_checks({"ID": "acmeos", "VERSION_ID": "1.2"},
                                                      "6.1", "riscv64", "acme")],
    "asked": diagnosis_io.COMMANDS["device/acme-smi.txt"],
    "files": [path for path in diagnosis_io.FILES if "acme" in path],
    "scraped": [one["targets"] for one in targets.scrape_targets(plan, ["n"])
                if one["labels"]["job"] == targets.DEVICES],
}))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection with one more vendor."""
    root = tmp_path_factory.mktemp("copy") / "ansible_collections/muster/serving"
    for part in ("plugins", "recipes"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    devices = root / "plugins/module_utils/devices"
    (devices / "acme").mkdir()
    for name, text in FOLDER.items():
        (devices / "acme" / name).write_text(text)
    for name, text in RECIPES.items():
        (root / name).write_text(text)
    for name, changes in LINES.items():
        text = (devices / name).read_text()
        for old, new in changes:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new if old[:12] == new[:12] else new + old)
        (devices / name).write_text(text)
    return root.parents[2]


def test_a_new_vendor_is_one_folder_one_recipe_and_lines_of_registries(
    copied: Path, tmp_path: Path
) -> None:
    tool = tmp_path / "acme-smi"
    tool.write_text("#!/bin/sh\nfor n in 0 1 2 3; do echo $n ACME 196608; done\n")
    tool.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tool), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(copied)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["vendor"] == "acme"
    assert ["gpu-tool", "ok", "acme-smi"] in said["checks"]
    assert ["gpu-name", "ok", "devices 0-3"] in said["checks"]
    assert ["gpu-topology", "unknown", "devices 0-3"] in said["checks"]
    assert said["facts"] == {"driver_version": "9.1"}
    assert said["driver"] == [True, False]
    assert "acme" in said["groups"]
    assert said["system"] == ["ok", "ok", "ok"]
    assert said["asked"] == ["acme-smi", "list"]
    assert said["files"] == ["/sys/module/acme/version"]
    assert said["scraped"] == [["10.0.0.1:9555"]]
