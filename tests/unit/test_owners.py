"""Whose process it is, from its control group."""

import json
import os

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common import owners_io as owners
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import CommandError
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    Owner,
    parse_cgroup,
)
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import (
    container_name,
    read_owner,
)
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


def test_a_container_without_a_record_has_no_name(tmp_path, monkeypatch):
    def no_docker(argv, timeout):
        raise CommandError("docker could not be started")

    monkeypatch.setattr(owners, "run", no_docker)
    assert container_name(ID, tmp_path) == ""
