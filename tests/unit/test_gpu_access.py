"""Whose GPUs systemd takes away when it reads its units anew, and who is kept from making it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host import gpu_access_io
from ansible_collections.muster.serving.plugins.module_utils.host import look_io as host_look
from ansible_collections.muster.serving.plugins.module_utils.host.gpu_access import (
    GPU,
    UVM,
    Container,
    Scope,
    access_check,
    gpu_containers,
    keeps_gpus,
    majors_of,
    parse_scopes,
)
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files
from ansible_collections.muster.serving.plugins.modules import unit_state
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

DEVICES = """Character devices:
  1 mem
195 nvidia
195 nvidia-modeset
195 nvidiactl
511 nvidia-uvm

Block devices:
  8 sd
"""
IDS = {name: character * 64 for name, character in (("train", "a"), ("muster-n-r0-rank0", "b"))}


def container(name="train", running=True, env=(), **host):
    return {
        "Id": IDS.get(name, "c" * 64),
        "Name": f"/{name}",
        "State": {"Running": running},
        "Config": {"Env": list(env)},
        "HostConfig": {"Runtime": "runc", "DeviceRequests": None, "Devices": [], **host},
    }


LEGACY = [{"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}]
CDI = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"], "Capabilities": None}]


@pytest.mark.parametrize(
    ("seen", "has"),
    [
        (container(DeviceRequests=LEGACY), True),
        (container(DeviceRequests=CDI), True),
        (container(DeviceRequests=[{"Driver": "cdi", "DeviceIDs": ["other.com/nic=0"]}]), False),
        (container(DeviceRequests=[{"Driver": "amd", "Capabilities": [["gpu"]]}]), False),
        (container(Runtime="nvidia", env=["NVIDIA_VISIBLE_DEVICES=all"]), True),
        (container(Runtime="nvidia", env=["NVIDIA_VISIBLE_DEVICES=void"]), False),
        # An image of CUDA, run as any other.
        (container(env=["NVIDIA_VISIBLE_DEVICES=all"]), False),
        (container(Devices=[{"PathOnHost": "/dev/nvidia3"}]), True),
        (container(Devices=[{"PathOnHost": "/dev/nvidiactl"}]), False),
        (container(DeviceRequests=LEGACY, running=False), False),
        (container(), False),
    ],
)
def test_containers_with_gpus_are_known_by_what_they_asked_for(seen, has):
    assert [one.name for one in gpu_containers(json.dumps([seen]))] == ["train"] * has


KEYS = [
    *("Id", "State", "Running", "HostConfig", "DeviceRequests", "Config", "Env", "Devices"),
    *("Driver", "Capabilities", "DeviceIDs", "Runtime"),
]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
        max_leaves=20,
    )
)
def test_whatever_docker_prints_is_read(value):
    running = {"State": {"Running": True}, "HostConfig": value, "Config": value}
    gpu_containers(json.dumps([running, value]))
    gpu_containers(json.dumps([{**running, "HostConfig": {"DeviceRequests": [value]}}]))
    parse_scopes(json.dumps(value))
    majors_of(json.dumps(value))


MAJORS = {GPU: "195", UVM: "511"}


def test_majors_are_those_that_cuda_opens():
    assert majors_of(DEVICES) == MAJORS
    assert majors_of(DEVICES.replace("195 nvidia\n", "195 nvidia-frontend\n")) == MAJORS
    assert majors_of("Character devices:\n511 nvidia-uvm\n") == {UVM: "511"}
    assert majors_of("Block devices:\n195 nvidia\n") == majors_of("") == {}


@pytest.mark.parametrize(
    ("policy", "allowed", "keeps"),
    [
        # What runc writes for a container that the hook gave its GPUs.
        ("strict", ["char-pts rwm", "/dev/char/5:2 rwm", "char-* m", "block-* m"], False),
        ("strict", ["/dev/char/195:255 rw", "/dev/char/511:0 rw"], False),
        ("strict", ["/dev/char/195:0 rw", "/dev/char/195:255 rw", "/dev/char/511:0 rw"], True),
        # The GPU alone does not make a CUDA context.
        ("strict", ["/dev/char/195:0 rw", "/dev/char/195:255 rw"], False),
        ("strict", ["/dev/char/195:0 rw", "/dev/char/511:1 rw"], False),
        ("strict", ["/dev/char/195:3 m", "/dev/char/511:0 rw"], False),
        ("strict", ["/dev/nvidia0 rw", "/dev/nvidia-uvm rw"], True),
        # All of a major number, as runc writes it for newer and older systemd.
        ("strict", ["char-195 rw", "/dev/char/511:0 rwm"], True),
        ("strict", ["char-nvidia rw", "char-nvidia-uvm rw"], True),
        ("strict", ["char-nvidia-frontend rw", "char-511 rw"], True),
        ("strict", ["char-nvidia-uvm rw"], False),
        ("strict", [], False),
        ("auto", [], True),  # privileged
        ("auto", ["char-pts rwm"], False),
    ],
)
def test_systemd_takes_what_is_not_in_its_list(policy, allowed, keeps):
    lines = "".join(f"DeviceAllow={one}\n" for one in allowed)
    shown = f"Id=docker-x.scope\nLoadState=loaded\nDevicePolicy={policy}\n{lines}"
    assert keeps_gpus(parse_scopes(shown)["docker-x.scope"], MAJORS) is keeps


def test_control_groups_that_are_not_systemds_lose_nothing():
    assert keeps_gpus(None, MAJORS)
    assert keeps_gpus(Scope(loaded=False, policy="", allowed=[]), MAJORS)


def test_scopes_are_told_apart():
    shown = (
        "Id=docker-a.scope\nLoadState=loaded\nDeviceAllow=char-pts rwm\nDeviceAllow=/dev/x rw\n"
        "\nId=docker-b.scope\nLoadState=not-found\nDeviceAllow=\n"
    )
    assert parse_scopes(shown) == {
        "docker-a.scope": Scope(True, "", [("char-pts", "rwm"), ("/dev/x", "rw")]),
        "docker-b.scope": Scope(False, "", []),
    }


TRAIN = Container(IDS["train"], "train")
OURS = Container(IDS["muster-n-r0-rank0"], "muster-n-r0-rank0")


def test_the_verdict_names_the_container_and_the_way_out():
    [foreign, own] = access_check([TRAIN, OURS], ["muster-n-r0-rank0.service"])
    assert (foreign["status"], foreign["subject"]) == ("failed", "container train")
    assert "docker stop train" in foreign["remedy"]
    assert "nvidia.com/gpu" in foreign["remedy"]
    assert (own["status"], own["subject"]) == ("warning", "container muster-n-r0-rank0")
    assert "stop.yml" in own["remedy"]
    [fine] = access_check([], [])
    [unknown] = access_check([], [], "docker ps did not end")
    assert (fine["status"], unknown["status"]) == ("ok", "unknown")


class Node:
    """What Docker and systemd say on a node, and what was asked."""

    def __init__(self, tmp_path, monkeypatch):
        self.files = NodeFiles(str(tmp_path))
        self.files.write("/proc/devices", DEVICES)
        self.docker = "active"
        self.containers = [container(DeviceRequests=LEGACY)]
        self.allowed = ["char-pts rwm"]
        self.asked = []
        self.failure = None
        monkeypatch.setattr(gpu_access_io, "run", self.run)

    def run(self, argv, timeout):
        self.asked.append(shlex.join(argv))
        if self.failure and argv[0] == self.failure:
            raise CommandError(f"{argv[0]} did not end")
        if argv[:2] == ["docker", "ps"]:
            return Output(0, "".join(f"{one['Id']}\n" for one in self.containers), "")
        if argv[:2] == ["docker", "inspect"]:
            return Output(0, json.dumps(self.containers), "")
        if argv[-1] == "docker.service":
            return Output(0, f"ActiveState={self.docker}\n", "")
        lines = "".join(f"DeviceAllow={one}\n" for one in self.allowed)
        blocks = [
            f"Id={scope}\nLoadState=loaded\nDevicePolicy=strict\n{lines}" for scope in argv[3:]
        ]
        return Output(0, "\n".join(blocks), "")


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


def test_a_container_of_the_hook_keeps_systemd_from_being_reloaded(node):
    with pytest.raises(gpu_access_io.ReloadError, match=r"running container train: .*docker stop"):
        gpu_access_io.refuse_reload(node.files)
    # Who starts anew anyway loses nothing.
    gpu_access_io.refuse_reload(node.files, ["train.service"])
    node.allowed = ["/dev/char/195:0 rw", "/dev/char/511:0 rw"]
    gpu_access_io.refuse_reload(node.files)


@pytest.mark.parametrize(
    ("without", "asked"),
    [
        ("driver", 0),
        ("docker", 1),
        ("containers", 2),
        ("gpus", 3),
    ],
)
def test_nodes_without_such_containers_are_never_kept_from_anything(node, without, asked):
    if without == "driver":
        node.files.write("/proc/devices", "Character devices:\n  1 mem\n")
    if without == "docker":
        node.docker = "inactive"
    if without == "containers":
        node.containers = []
    if without == "gpus":
        node.containers = [container()]
    gpu_access_io.refuse_reload(node.files)
    assert len(node.asked) == asked


@pytest.mark.parametrize("failure", ["docker", "systemctl"])
def test_what_cannot_be_found_out_is_unknown_and_stops_nobody(node, failure):
    node.failure = failure
    gpu_access_io.refuse_reload(node.files)

    options = {name: spec.get("default") for name, spec in host_look.ARGUMENT_SPEC.items()}
    [one] = host_look.Host({**options, "vendor": "nvidia"}, node.files).gpu_access()
    assert (one["id"], one["status"]) == ("container-gpus", "unknown")


@pytest.mark.parametrize(("vendor", "count"), [("nvidia", 1), ("amd", 0), ("ascend", 0)])
def test_the_check_is_there_for_nvidia(node, vendor, count):
    options = {name: spec.get("default") for name, spec in host_look.ARGUMENT_SPEC.items()}
    checks = host_look.Host({**options, "vendor": vendor}, node.files).gpu_access()
    assert len(checks) == count
    assert all(one["status"] == "failed" for one in checks)


@pytest.mark.parametrize("asked", [{"state": "started"}, {"state": "stopped", "restart": True}])
def test_no_unit_is_touched_where_its_start_would_cost_another_his_gpus(
    node, tmp_path, monkeypatch, capsys, asked
):
    monkeypatch.setattr(unit_state, "NodeFiles", lambda: node.files)
    written = sorted(tmp_path.rglob("*"))
    unit = {"name": "n-r0-rank0", "mounts": [], "ports": {}, "files": {}, "systemd_unit": "x"}
    arguments = {**asked, "deployment": "n", "units": [unit]}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        unit_state.main()
    said = json.loads(capsys.readouterr().out)
    assert said["failed"]
    assert "container train" in said["msg"]
    assert sorted(tmp_path.rglob("*")) == written


def test_every_module_that_reloads_systemd_asks_first():
    reloads = []
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '"daemon-reload"' in text or 'systemctl("enable"' in text:
            reloads.append(path.stem)
            assert "refuse_reload(" in text, path
    assert {"unit_state", "docker_config", "gateway_address", "host_tuning"} <= set(reloads)


def test_our_own_units_are_given_their_gpus_by_docker_itself():
    """The rule that Docker writes into the container's list is of all GPUs' major number."""
    kind, number, access = unit_files.GPU_RULE.split()
    assert (kind, number) == ("c", f"{majors_of(DEVICES)[GPU]}:*")
    assert re.fullmatch(UVM.path, unit_files.UVM)
    uvm = ("/dev/char/511:0", "rwm")
    for group in ("char-195", "char-nvidia", "char-nvidia-frontend"):
        assert keeps_gpus(Scope(True, "strict", [(group, access), uvm]), MAJORS)
    assert not keeps_gpus(Scope(True, "strict", [uvm]), MAJORS)


def test_the_node_of_uvm_is_made_where_it_is_missing(tmp_path):
    """With the tools of the driver, or by hand as NVIDIA's guide has it; not where it is there."""
    log = tmp_path / "log"
    for name, rc in (("nvidia-modprobe", 1), ("modprobe", 0), ("mknod", 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\nexit {rc}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "devices").write_text(DEVICES)
    node = tmp_path / "nvidia-uvm"
    script = unit_files.MAKE_UVM.replace("/proc/devices", str(tmp_path / "devices"))
    script = script.replace("/dev/nvidia-uvm", str(node))
    path = f"{tmp_path}:/usr/bin:/bin"
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": path}, check=True)
    assert log.read_text().splitlines() == [
        "nvidia-modprobe -u -c 0",
        "modprobe nvidia-uvm",
        f"mknod -m 666 {node} c 511 0",
    ]
    log.unlink()
    node.touch()
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": path}, check=True)
    assert not log.exists()
