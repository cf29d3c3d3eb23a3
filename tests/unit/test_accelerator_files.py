import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.checks import failure_message
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.files_io import (
    mount_checks,
    node_checks,
)
from ansible_collections.muster.serving.plugins.modules import accelerator_files

HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"


@pytest.fixture
def node(tmp_path):
    files = NodeFiles(str(tmp_path))
    os.mkdir(files.path("/dev"))
    os.symlink("/dev/null", files.path("/dev/davinci0"))
    files.write("/usr/local/bin/npu-smi", "", mode=0o755)
    files.write(HCCN_TOOL, "", mode=0o755)
    files.write("/usr/local/Ascend/driver/lib64/libascend_hal.so", "")
    files.write("/etc/ascend_install.info", "")
    files.write("/data/model/config.json", "{}")
    return files


def test_a_complete_driver_is_ok(node) -> None:
    mounts = [
        "/usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro",
        f"{HCCN_TOOL}:{HCCN_TOOL}",
        "/usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/",
        "/etc/ascend_install.info:/etc/ascend_install.info",
        "/data/model:/data/model:ro",
    ]
    checks = node_checks(node, ["/dev/davinci0"]) + mount_checks(node, mounts)
    assert [entry["status"] for entry in checks] == ["ok"] * 6
    assert failure_message(checks) == ""


def test_device_nodes_that_are_missing_or_no_device_fail(node) -> None:
    node.write("/dev/davinci1", "")
    os.mkdir(node.path("/dev/davinci2"))
    plain, folder, missing = node_checks(
        node, ["/dev/davinci1", "/dev/davinci2", "/dev/davinci3", "/dev/davinci3"]
    )
    assert plain["observed"] == "a plain file"
    assert "rmdir /dev/davinci2" in folder["remedy"]
    assert missing["observed"] == "missing"
    assert "driver" in missing["remedy"]
    assert {plain["status"], folder["status"], missing["status"]} == {"failed"}


@pytest.mark.parametrize(
    ("source", "make", "observed", "remedy"),
    [
        ("/etc/hccn.conf", None, "missing", "Install the accelerator's driver"),
        ("/etc/hccn.conf", "directory", "a directory, as Docker makes", "rmdir /etc/hccn.conf"),
        ("/usr/local/sbin/npu-smi", "file", "a file that is not executable", "chmod 755"),
        ("/usr/local/dcmi", "directory", "an empty directory", "Install the accelerator's driver"),
        ("/usr/local/dcmi/", "file", "a file", "Remove it"),
        ("/data/profiles", None, "missing", "take its mount out of the inventory"),
    ],
)
def test_a_bad_mount_source_says_what_to_do(node, source, make, observed, remedy) -> None:
    if make == "file":
        node.write(source.rstrip("/"), "")
    elif make == "directory":
        os.makedirs(node.path(source))
    (entry,) = mount_checks(node, [f"{source}:{source}"])
    assert entry["status"] == "failed"
    assert entry["observed"].startswith(observed)
    assert remedy in entry["remedy"]
    assert failure_message([entry]).startswith(f"{entry['id']} {source}: {observed}")


def test_a_directory_of_devices_is_as_good_as_a_device(node) -> None:
    os.makedirs(node.path("/dev/dri/by-path"))
    (empty,) = node_checks(node, ["/dev/dri"])
    os.symlink("/dev/null", node.path("/dev/dri/renderD128"))
    (filled,) = node_checks(node, ["/dev/dri"])
    assert (empty["status"], filled["status"]) == ("failed", "ok")


def test_a_device_that_may_not_be_opened_fails_without_being_opened(node, monkeypatch) -> None:
    os.makedirs(node.path("/dev/dri"))
    for name in ("dri/card0", "dri/renderD128", "davinci1"):
        os.symlink("/dev/null", node.path(f"/dev/{name}"))
    denied = {node.path("/dev/davinci1"), node.path("/dev/dri/renderD128")}
    monkeypatch.setattr(os, "access", lambda path, mode: path not in denied)
    nodes = ["/dev/davinci0", "/dev/davinci1", "/dev/dri"]
    fine, device, folder = node_checks(node, nodes)
    assert [one["status"] for one in (fine, device, folder)] == ["ok", "failed", "failed"]
    assert device["observed"].startswith("davinci1 may not be opened")
    assert "device cgroup" in device["remedy"]
    assert folder["observed"].startswith("renderD128 ")


def test_a_device_on_a_file_system_without_devices_fails(node, monkeypatch) -> None:
    seen = os.statvfs(node.path("/dev"))
    nodev = type(seen)((*seen[:8], seen.f_flag | os.ST_NODEV, *seen[9:]))
    monkeypatch.setattr(os, "statvfs", lambda path: nodev)
    (one,) = node_checks(node, ["/dev/davinci0"])
    assert (one["status"], "nodev" in one["observed"]) == ("failed", True)
    assert "remount,dev" in one["remedy"]


def test_prepare_ends_where_containers_would_get_no_gpus(node, monkeypatch, capsys) -> None:
    monkeypatch.setattr(accelerator_files, "NodeFiles", lambda: node)

    def run(**arguments) -> dict:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            accelerator_files.main()
        return json.loads(capsys.readouterr().out)

    said = run(container_gpus=True, enforce=True)
    assert said["failed"]
    assert said["msg"].startswith("gpu-toolkit NVIDIA container toolkit: missing")
    assert run(enforce=True)["checks"] == []


def test_what_muster_makes_itself_is_not_asked_for(node) -> None:
    assert mount_checks(node, ["/var/log/muster/u/plog:/root/ascend/log"]) == []
