"""What the lab reads from a machine, and what it tells container engines about it."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import machine, nodes, podman, tour
from lab.emulators import device_tools
from lab.engine import build as engine
from lab.paths import LAB, digest, state_dir
from lab.shell import LabError

TARGETS = """\
MetaKey: main/binary-amd64/Packages
Description: http://mirror.example/debian bookworm/main amd64 Packages
Origin: Debian
Component: main
Release: bookworm
Repo-URI: http://mirror.example/debian/

MetaKey: contrib/binary-amd64/Packages
Origin: Debian
Component: contrib
Release: bookworm
Repo-URI: http://mirror.example/debian/

Origin: Debian
Component: main
Release: bookworm-backports
Repo-URI: http://mirror.example/debian/

Origin: Debian
Component: main
Release: bookworm-security
Repo-URI: http://mirror.example/debian-security/

Origin: Node Source
Component: main
Release: bookworm
Repo-URI: https://deb.example/node/
"""


def test_sources_are_the_machines_own_archives_of_its_suite():
    assert machine.parse_index_targets(TARGETS, "bookworm", "/k.gpg") == (
        "deb [signed-by=/k.gpg] http://mirror.example/debian/ bookworm main contrib",
        "deb [signed-by=/k.gpg] http://mirror.example/debian-security/ bookworm-security main",
    )


def test_another_release_lies_on_the_same_mirrors():
    lines = machine.parse_index_targets(TARGETS, "bookworm", "/bookworm/k.gpg")
    other = machine.of_other_release(machine.AptSources("bookworm", lines, ("x",)))
    assert other == machine.AptSources(
        "trixie",
        (
            "deb [signed-by=/bookworm/k.gpg] http://mirror.example/debian/ trixie main contrib",
            "deb [signed-by=/bookworm/k.gpg] http://mirror.example/debian-security/"
            " trixie-security main",
        ),
        ("x",),
    )
    with pytest.raises(LabError, match="no other release beside sid"):
        machine.of_other_release(machine.AptSources("sid", (), ()))


def test_apt_options_carry_the_proxy_and_nothing_else():
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::https::CAInfo "/etc/ssl/site.pem";\n'
        'Acquire::http::User-Agent "x";\n'
    )
    assert machine.parse_apt_options(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CAInfo "/etc/ssl/site.pem";',
    )


def test_os_release_without_its_quotes():
    assert machine.parse_os_release('ID=ubuntu\nVERSION_CODENAME="noble"\n\n') == {
        "ID": "ubuntu",
        "VERSION_CODENAME": "noble",
    }


def test_an_ordinary_machine_needs_no_settings_of_ours():
    ordinary = {"may_raise_limits": True, "cgroup_v2": True, "open_files": 1048576}
    assert podman.containers_conf(**ordinary) == ""
    assert nodes.docker_daemon(**ordinary) == {}


def test_a_restricted_machine_keeps_its_limits():
    restricted = {"may_raise_limits": False, "cgroup_v2": False, "open_files": 20000}
    conf = tomllib.loads(podman.containers_conf(**restricted))
    assert "nofile=20000:20000" in conf["containers"]["default_ulimits"]
    assert conf["engine"]["runtime"] == "runc"
    daemon = nodes.docker_daemon(**restricted)
    assert daemon["default-cgroupns-mode"] == "private"
    assert daemon["default-ulimits"]["nofile"]["Hard"] == 20000


@pytest.fixture
def limit(tmp_path, monkeypatch):
    """A limit of a machine of its own, of which the lab needs at least 2048."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state_dir().mkdir()
    file = tmp_path / "limit"
    monkeypatch.setattr(machine, "LEAST", {str(file): 2048})
    monkeypatch.setattr(machine, "GLOBAL_SETTINGS", ())
    return file


def kept():
    file = state_dir() / "machine.json"
    return json.loads(file.read_text()) if file.exists() else {}


@pytest.mark.parametrize("enough", ["2048\n", "8192\n"])
def test_a_limit_that_does_stays_as_it_is(limit, enough):
    limit.write_text(enough)
    machine.raise_limits()
    assert limit.read_text() == enough
    assert kept() == {}


def test_a_limit_is_raised_and_what_it_was_is_kept(limit):
    limit.write_text("128\n")
    machine.save_settings()
    machine.raise_limits()
    assert limit.read_text() == "2048\n"
    assert kept() == {str(limit): "128"}


def test_a_limit_that_is_raised_again_keeps_the_first_value(limit):
    for now in ("128\n", "256\n"):
        limit.write_text(now)
        machine.raise_limits()
    assert limit.read_text() == "2048\n"
    assert kept() == {str(limit): "128"}


def test_a_lab_of_before_keeps_a_limit_beside_its_settings(limit):
    (state_dir() / "machine.json").write_text('{"/proc/sys/vm/swappiness": "60"}\n')
    limit.write_text("128\n")
    machine.raise_limits()
    assert kept() == {str(limit): "128", "/proc/sys/vm/swappiness": "60"}


def test_a_kernel_without_the_limit_needs_nothing(limit):
    machine.raise_limits()
    assert not limit.exists()
    assert kept() == {}


def test_a_machine_that_refuses_is_told_and_goes_on(limit, monkeypatch, capsys):
    read_only = Path("/proc/sys/kernel/ngroups_max")
    before = read_only.read_text()
    monkeypatch.setattr(machine, "LEAST", {str(read_only): 10**9})
    machine.raise_limits()
    assert read_only.read_text() == before
    assert f"could not raise {read_only}" in capsys.readouterr().err


def test_the_device_major_is_one_that_no_driver_has():
    taken = "Character devices:\n  1 mem\n254 gpiochip\n253 rtc\n\nBlock devices:\n252 virtblk\n"
    assert nodes.free_major(taken) == 252
    everything = "".join(f"{major} x\n" for major in range(240, 255))
    with pytest.raises(LabError, match="every character device major"):
        nodes.free_major(f"Character devices:\n{everything}\nBlock devices:\n")


@pytest.mark.parametrize(
    ("family", "count", "node"),
    [
        ("a2", 11, "c /dev/davinci7 0660 HwHiAiUser HwHiAiUser - 244:7"),
        ("nvidia", 10, "c /dev/nvidia7 0666 root root - 244:7"),
        ("nvidia-hgx-b200", 10, "c /dev/nvidiactl 0666 root root - 244:255"),
        ("amd", 17, "c /dev/dri/renderD135 0666 root root - 244:135"),
    ],
)
def test_each_device_node_has_its_own_number(family, count, node):
    text = nodes.device_nodes(nodes.FAMILIES[family], 8, 244)
    lines = [line for line in text.splitlines() if line[0] == "c"]
    assert len(lines) == len({line.split()[-1] for line in lines}) == count
    assert node in lines


def test_the_families_of_nodes_are_those_that_the_emulators_can_make():
    made = [family for module in device_tools.MODULES for family in module.FAMILIES]
    assert sorted(nodes.FAMILIES) == sorted(made)


def tools_of(family):
    return {Path(place).name for place in nodes.FAMILIES[family].tools}


@pytest.mark.parametrize("family", nodes.FAMILIES)
def test_a_nodes_tools_are_those_of_its_vendor(family):
    links = nodes.links(nodes.Node("n", "198.19.67.9", family=family))
    linked = {Path(target).name for target in links.values() if nodes.TOOLS_HOME in target}
    assert linked == tools_of(family)
    assert linked <= set(device_tools.VENDORS[family].TOOLS)
    assert any("nvidia-fabricmanager" in path for path in links) == (family == "nvidia-hgx-b200")


@pytest.mark.parametrize("module", device_tools.MODULES, ids=lambda module: module.__name__)
def test_every_emulated_tool_is_on_a_node_of_its_vendor(module):
    assert set().union(*map(tools_of, module.FAMILIES)) == set(module.TOOLS)


@pytest.mark.parametrize("family", nodes.FAMILIES)
def test_the_emulators_readme_has_a_familys_count_and_tools(family):
    lines = (LAB / "emulators" / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line[:1] == "|"]
    [(devices, tools)] = [row[2:4] for row in rows if row[1] == f"`{family}`"]
    vendor = device_tools.VENDORS[family]
    assert devices.split()[0] == str(device_tools.device_count(family))
    assert set(re.findall("`([^`]+)`", tools)) & set(vendor.TOOLS) == tools_of(family)


def test_a_new_node_has_as_many_devices_as_its_family(monkeypatch):
    there = [(nodes.Node("a", "198.19.67.100"), {})]
    monkeypatch.setattr(nodes, "known_nodes", lambda: there)
    assert nodes.new_node("b", "a3", None) == nodes.Node("b", "198.19.67.101", 16, "a3")
    assert nodes.new_node("a", "amd", 4) == nodes.Node("a", "198.19.67.100", 4, "amd")


def test_an_archive_keeps_contents_modes_and_links():
    archive = nodes.tar_of(
        {"root/.ssh/authorized_keys": nodes.File(b"key", 0o600)}, {"usr/bin/a": "/opt/a"}
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
        entries = {entry.name: entry for entry in unpacked}
        assert entries["root/.ssh"].mode == 0o700
        assert entries["usr/bin"].mode == 0o755
        assert entries["root/.ssh/authorized_keys"].mode == 0o600
        assert entries["usr/bin/a"].linkname == "/opt/a"
        content = unpacked.extractfile("root/.ssh/authorized_keys")
        assert content is not None
        assert content.read() == b"key"


@given(st.lists(st.text(), min_size=1), st.integers(min_value=0))
def test_the_hash_tells_where_one_part_ends(parts, at):
    at %= len(parts)
    split = [*parts[:at], parts[at] + "x", *parts[at + 1 :]]
    assert digest(*parts) == digest(*parts)
    assert digest(*parts) != digest(*split)
    assert digest(*parts, "") != digest(*parts)


def test_a_folders_hash_knows_names_modes_and_contents(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    seen = {digest(tmp_path)}
    file.chmod(0o755)
    seen.add(digest(tmp_path))
    file.write_text("2")
    seen.add(digest(tmp_path))
    file.rename(tmp_path / "b")
    seen.add(digest(tmp_path))
    assert len(seen) == 4


def test_the_lock_is_read_for_the_images_python():
    lock = (
        "networkx==3.6.1 ; python_full_version < '3.12'\n"
        "networkx==3.7 ; python_full_version >= '3.12'\n"
        "torch==2.13.0+cpu\n"
        "torchfake==1.0\n"
    )
    assert engine.locked_without_torch(lock, "3.11") == ["networkx==3.6.1", "torchfake==1.0"]
    assert engine.locked_without_torch(lock, "3.13") == ["networkx==3.7", "torchfake==1.0"]


def test_the_engines_lock_holds_the_pins_and_no_gpu_package():
    lock = engine.LOCK.read_text().splitlines()
    for name, pinned in engine.pins().items():
        assert f"{name}=={pinned}" in lock
    assert not [line for line in lock if line.startswith(("nvidia-", "cuda-"))]


def test_a_missing_torch_wheel_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_WHEEL", str(tmp_path / "torch-1.0-cp311-x.whl"))
    with pytest.raises(LabError, match=r"TORCH_WHEEL=.*expected a file named torch-"):
        engine.find_torch("3.11")


def test_tokens_are_counted_by_rank():
    metrics = (
        'vllm:generation_tokens_total{engine="0",model_name="m"} 46.0\n'
        'vllm:generation_tokens_total{engine="1",model_name="m"} 512.0\n'
        'vllm:prompt_tokens_total{engine="1",model_name="m"} 7.0\n'
    )
    assert tour.tokens_by_rank(metrics) == {0: 46, 1: 512}


def test_a_node_of_the_inventory_is_made_as_it_says():
    assert nodes.new_node("mi300x-node0", None, None) == nodes.Node(
        "mi300x-node0", "198.19.67.50", 8, "amd"
    )
    assert nodes.new_node("a3-node1", None, 4).devices == 4
