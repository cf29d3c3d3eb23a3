"""Whose process it is, from its control group."""

import json
import os

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import owners_io as owners
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    Owner,
    deployment_of,
    parse_cgroup,
    way_to_end,
)
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import (
    container_name,
    read_owner,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import used_by_others
from hypothesis import given
from hypothesis import strategies as st

ID = "4f" * 32
OTHER = "5a" * 32


@pytest.mark.parametrize(
    ("text", "unit", "container"),
    [
        ("0::/system.slice/sshd.service\n", "sshd.service", ""),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        (f"0::/../docker/{ID}\n", "", ID),
        (f"0::/docker/{ID}/system.slice/sshd.service\n", "sshd.service", ID),
        (f"12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", "", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", "", ID),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", "x.service", ""),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "", ""),
        ("", "", ""),
    ],
)
def test_unit_and_container_of_a_control_group(text, unit, container):
    assert parse_cgroup(text) == (unit, container)


def test_a_node_that_is_a_container_is_not_taken_for_the_holder():
    node = f"1:name=systemd:/libpod-{OTHER}/init.scope\n0::/\n"
    inside = f"1:name=systemd:/libpod-{OTHER}/system.slice/old-vllm.service\n0::/\n"
    assert parse_cgroup(inside, node) == ("old-vllm.service", "")
    nested = f"1:name=systemd:/libpod-{OTHER}/docker/{ID}\n0::/\n"
    assert parse_cgroup(nested, node) == ("", ID)


@given(st.text())
def test_any_control_group_can_be_read(text):
    unit, container = parse_cgroup(text)
    assert unit == "" or unit.endswith(".service")
    assert container == "" or len(container) == 64


def test_a_unit_owns_its_own_processes_and_those_of_its_container():
    ours = ["muster-a2-r0-rank0.service"]
    assert Owner(1, "docker", unit="muster-a2-r0-rank0.service").belongs_to(ours)
    assert Owner(1, "vllm", container_id=ID, container="muster-a2-r0-rank0").belongs_to(ours)
    assert not Owner(1, "vllm", container_id=ID, container="minimax2_5").belongs_to(ours)
    assert not Owner(1, "vllm", unit="muster-a2-r0-rank1.service").belongs_to(ours)
    assert not Owner(1, "vllm").belongs_to(ours)


def test_an_owner_names_itself():
    assert str(Owner(7, "vllm", "x.service", ID, "minimax2_5")) == (
        "pid 7 (vllm) in container minimax2_5"
    )
    assert str(Owner(7, "vllm", "", ID)) == f"pid 7 (vllm) in container {ID[:12]}"
    assert str(Owner(7, "vllm", "x.service")) == "pid 7 (vllm) of x.service"
    assert str(Owner(7)) == "pid 7"


def test_a_process_is_read_from_proc(tmp_path):
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "comm").write_text("VLLM::Worker\n")
    (process / "cgroup").write_text(f"0::/docker/{ID}\n")
    record = tmp_path / "docker" / "containers" / ID
    record.mkdir(parents=True)
    (record / "config.v2.json").write_text(json.dumps({"Name": "/minimax2_5"}))
    assert read_owner(42, tmp_path / "proc", tmp_path / "docker") == Owner(
        42, "VLLM::Worker", "", ID, "minimax2_5"
    )
    assert read_owner(os.getpid()).name
    assert read_owner(2**22 + 1) == Owner(2**22 + 1)


def test_what_podmans_watcher_holds_is_its_containers(tmp_path):
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "comm").write_text("conmon\n")
    # With the cgroupfs driver its control group names no container.
    (process / "cgroup").write_text("0::/libpod_parent/conmon\n")
    argv = ["/usr/bin/conmon", "-c", ID, "-u", ID, "-n", "vllm", "--exit-command-arg", "-n", "x"]
    (process / "cmdline").write_text("\0".join(argv))
    owner = read_owner(42, tmp_path / "proc")
    assert (owner.container_id, owner.container) == (ID, "vllm")
    assert way_to_end([owner]) == "stop it: podman stop vllm"
    assert way_to_end([owner._replace(name="docker-proxy")]) == "stop it: docker stop vllm"
    (process / "cmdline").write_text("")
    assert read_owner(42, tmp_path / "proc").container_id == ""


def test_a_container_without_a_record_has_no_name(tmp_path, monkeypatch):
    def no_docker(argv, timeout):
        raise CommandError("docker could not be started")

    monkeypatch.setattr(owners, "run", no_docker)
    assert container_name(ID, tmp_path) == ""


INSTALLED = {"a2-r0-rank0": "a2", "a2-gateway0": "a2", "a2-b-r0-rank0": "a2-b"}


@pytest.mark.parametrize(
    ("service", "deployment"),
    [
        ("muster-a2-r0-rank0.service", "a2"),
        ("muster-a2-r0-rank0", "a2"),
        ("muster-a2-b-r0-rank0", "a2-b"),
        # Agents are not units; their names begin as their deployment's units' do.
        ("muster-a2-r0-link.service", "a2"),
        ("muster-a2-b-r0-link.service", "a2-b"),
        ("muster-a2-address.service", "a2"),
        ("muster-c3-r0-rank0.service", ""),
        ("muster-listen", ""),
        ("vllm.service", ""),
    ],
)
def test_whose_a_service_of_muster_is(service, deployment):
    assert deployment_of(service, INSTALLED) == deployment


MUSTER = "ansible-playbook playbooks/stop.yml -l <hosts> -e muster_cluster=a2"


@pytest.mark.parametrize(
    ("holders", "way"),
    [
        # systemd would start a unit's container again.
        (
            [Owner(1, "vllm", "", ID, "muster-a2-r0-rank0", "a2")],
            f"stop the deployment that it belongs to: {MUSTER}",
        ),
        ([Owner(2, "link", "muster-a2-r0-link.service", deployment="a2")], MUSTER),
        (
            [Owner(1, container="muster-x-r0-rank0")],
            "stop it: systemctl stop muster-x-r0-rank0.service",
        ),
        ([Owner(1, container="minimax2_5")], "stop it: docker stop minimax2_5"),
        ([Owner(1, unit="vllm.service")], "stop it: systemctl stop vllm.service"),
        ([Owner(7, unit="session-1.scope"), Owner(8)], "end it: kill 7 8"),
        ([], ""),
    ],
)
def test_the_way_to_end_a_holder_is_one_that_lasts(holders, way):
    assert way_to_end(holders).endswith(way)
    assert bool(way_to_end(holders)) == bool(holders)


@pytest.mark.parametrize(
    ("holder", "remedy"),
    [
        (Owner(1, container="muster-a2-r0-rank0", deployment="a2"), f"{MUSTER}, or leave the"),
        (Owner(1, container="notebook"), "stop it, or leave the"),
    ],
)
def test_a_device_of_another_deployment_is_let_go_by_its_stop(holder, remedy):
    finding = used_by_others({"device_id": 0}, [holder], ["muster-b-r0-rank0.service"], "tool")
    assert (finding.status, remedy in finding.remedy) == ("failed", True)


def test_the_deployment_of_a_process_is_that_of_its_installed_unit(tmp_path):
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "comm").write_text("vllm\n")
    (process / "cgroup").write_text("0::/system.slice/muster-a2-r0-rank0.service\n")
    units = tmp_path / "units"
    units.mkdir()
    (units / "a2-r0-rank0.json").write_text(json.dumps({"deployment": "a2", "effective": {}}))
    (units / "broken.json").write_text("{")
    (units / "odd.json").write_text("[]")
    owner = read_owner(42, tmp_path / "proc", units=units)
    assert owner.deployment == "a2"
    assert str(owner) == "pid 42 (vllm) of muster-a2-r0-rank0.service of a2, a deployment of Muster"
    assert read_owner(42, tmp_path / "proc", units=tmp_path / "none").deployment == ""
