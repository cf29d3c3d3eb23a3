"""What the host itself must bring."""

import json
import os
import resource
import time
from dataclasses import replace
from threading import Event

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.host import look_io as host_look
from ansible_collections.muster.serving.plugins.module_utils.host.checks import (
    FORMATS,
    GB,
    Docker,
    Folder,
    KeyFile,
    Need,
    OpenFiles,
    Space,
    Systemd,
    architecture_check,
    clock_sync_check,
    disk_checks,
    docker_checks,
    format_check,
    free_space,
    granted,
    hugepages_check,
    key_file_checks,
    limit_checks,
    meminfo,
    memory_check,
    mount_of,
    mount_points,
    name_check,
    open_files_of,
    properties,
    shm_check,
    system_checks,
    systemd_check,
    writable_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    default_open_files,
    security_of,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import (
    Lack,
    Source,
)
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.clock import (
    clock_offset,
    note_clock_offset,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.test_model_weights import model

__all__ = ["model"]  # a whole model on disk, which pytest finds by its name

MEMINFO = """MemTotal:       24684092 kB
MemFree:         1000000 kB
MemAvailable:   20000000 kB
HugePages_Total:       0
HugePages_Free:        0
HugePages_Rsvd:        0
Hugepagesize:       2048 kB
"""
OS_RELEASE = 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n'
LIMITS_TEXT = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 20000                files
Max locked memory         unlimited            unlimited            bytes
"""
DF = """Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/nvme0n1p2   264212084 29785928  76604984      28% /var/lib/docker
"""


def statuses(checks):
    return [(one["id"], one["status"]) for one in checks]


# Reading


def test_what_the_tools_print_is_read():
    assert meminfo(MEMINFO)["MemAvailable"] == 20000000 * 1024
    assert meminfo(MEMINFO)["HugePages_Total"] == 0
    assert properties(OS_RELEASE)["PRETTY_NAME"] == "Ubuntu 22.04.5 LTS"
    assert free_space(DF) == Space("/var/lib/docker", 76604984 * 1024)
    spaced = "host:/a b 100 50 40 60% /mnt/with space\n"
    assert free_space(spaced) == Space("/mnt/with space", 40 * 1024)
    assert leading_numbers("5.10.0-216.0.0.115.oe2203sp4.aarch64") == (5, 10, 0)
    assert leading_numbers("20.10.24+dfsg1") == (20, 10, 24)


@given(st.text())
def test_garbage_is_no_traceback(text):
    for parse in (properties, meminfo, free_space, mount_points, leading_numbers):
        parse(text)
    mount_of(text, [text])
    system_checks({"ID": text, "VERSION_ID": text}, text, text, "ascend")
    limit_checks({"fs.file-max": text}, OpenFiles("docker.service", text, text))
    granted(text, open_files_of(text), text, may_raise=True)
    default_open_files(text)
    docker_checks(Docker("loaded", True, "", text, text, text))
    clock_sync_check("", {"NTPSynchronized": text}, text)
    name_check(text, [text], True, text)


# Clock


@given(
    offset=st.floats(-1e6, 1e6),
    start=st.floats(1e9, 2e9),
    spans=st.lists(st.floats(0, 600), min_size=3, max_size=3),
)
def test_the_offset_of_a_clock_lies_in_between_however_slow_the_way(offset, start, spans):
    there, work, back = spans
    began, ended = start + there, start + there + work
    low, high = clock_offset(start, began + offset, ended + offset, ended + back)
    assert low - 0.002 <= offset <= high + 0.002
    assert high - low == pytest.approx(there + back, abs=0.004)


def test_the_offset_becomes_a_fact_of_nodes_that_answered():
    result = {"clock": {"began": 105.0, "ended": 107.0}, "facts": {}}
    note_clock_offset(result, sent=99.0, received=104.0)
    assert result["facts"] == {"clock_offset": [3.0, 6.0]}
    unreachable = {"unreachable": True}
    note_clock_offset(unreachable, sent=99.0, received=104.0)
    assert unreachable == {"unreachable": True}


@pytest.mark.parametrize(
    ("container", "timedate", "status", "seen"),
    [
        ("", {"NTP": "yes", "NTPSynchronized": "yes"}, "ok", "synchronised"),
        # chrony on its own, without timedatectl's knowledge, sets the kernel's flag as well.
        ("", {"NTP": "no", "NTPSynchronized": "yes"}, "ok", "synchronised"),
        ("", {"NTP": "yes", "NTPSynchronized": "no"}, "warning", "a client runs"),
        ("", {"NTP": "no", "NTPSynchronized": "no"}, "warning", "not synchronised"),
        ("podman", {"NTP": "no", "NTPSynchronized": "no"}, "ok", "below this container (podman)"),
        ("", {}, "unknown", "not started"),
    ],
)
def test_a_clock_that_nothing_keeps_right_is_a_warning(container, timedate, status, seen):
    one = clock_sync_check(container, timedate, "timedatectl could not be started: not started")
    assert (one["id"], one["status"]) == ("host-clock-sync", status)
    assert seen in one["observed"]
    assert bool(one["remedy"]) == (status != "ok")


# Memory


def test_memory_is_measured_against_the_need():
    memory = meminfo(MEMINFO)
    assert memory_check(memory, 20, running=False)["status"] == "ok"
    short = memory_check(memory, 21, running=False)
    assert (short["status"], short["observed"]) == ("failed", "20.5 GB available of 25.3 GB")
    # Part of what is gone is the need itself.
    assert memory_check(memory, 21, running=True)["status"] == "ok"
    assert memory_check({}, 1, running=False)["status"] == "unknown"


@pytest.mark.parametrize(
    ("free", "reserved", "status"), [(0, 0, "ok"), (5000, 0, "warning"), (5000, 5000, "ok")]
)
def test_idle_huge_pages_are_named(free, reserved, status):
    pages = {"HugePages_Free": free, "HugePages_Rsvd": reserved, "Hugepagesize": 2048 * 1024}
    one = hugepages_check({**meminfo(MEMINFO), **pages})
    assert one["status"] == status
    assert ("vm.nr_hugepages=0" in one["remedy"]) == (status != "ok")


def test_shared_memory_is_too_small_or_full_of_what_the_dead_left():
    assert shm_check(2 * GB, 2 * GB, 1, running=False)["status"] == "ok"
    small = shm_check(64_000_000, 64_000_000, 1, running=False)
    assert (small["status"], small["observed"]) == ("failed", "0.1 GB of 0.1 GB free")
    assert small["remedy"].startswith("mount -o remount,size=1G /dev/shm")
    full = shm_check(2 * GB, 0, 1, running=False)
    assert (full["status"], "fuser" in full["remedy"]) == ("failed", True)
    assert shm_check(2 * GB, 0, 1, running=True)["status"] == "ok"


# Disks


def test_what_shares_a_file_system_shares_its_room():
    disk = Space("/", 100 * GB)
    weights = Need("weights", 80 * GB, disk)
    assert statuses(disk_checks([weights])) == [("host-disk", "ok")]
    (one,) = disk_checks([weights, Need("more weights", 30 * GB, disk)])
    assert (one["status"], one["subject"], one["observed"]) == ("failed", "/", "100 GB free")
    assert one["expected"] == "room for 80 GB for weights, 30 GB for more weights"
    # The size of images is a guess, and a guess stops nothing.
    images = Need("images", 30 * GB, disk, estimate=True)
    assert statuses(disk_checks([weights, images])) == [("host-disk", "warning")]
    apart = replace(images, space=Space("/var/lib/docker", 40 * GB))
    assert statuses(disk_checks([weights, apart])) == [("host-disk", "ok")] * 2


def test_what_lies_there_already_is_taken_off():
    half = Need("weights", 220 * GB, Space("/", 100 * GB, held=130 * GB))
    assert statuses(disk_checks([half])) == [("host-disk", "ok")]
    full = replace(half, space=Space("/", 0, held=230 * GB))
    assert statuses(disk_checks([full])) == [("host-disk", "ok")]


MOUNTINFO = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 22 8:2 / /var rw,relatime shared:2 - ext4 /dev/sda2 rw
41 40 0:40 / /var/lib/my\\040docker ro,relatime - overlay overlay ro
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/etc/muster", "/"),
        ("/", "/"),
        ("/var", "/var"),
        ("/variable", "/"),
        ("/var/lib/my docker/x", "/var/lib/my docker"),
    ],
)
def test_a_path_lies_on_the_nearest_mount_above_it(path, mount):
    assert mount_of(path, mount_points(MOUNTINFO)) == mount


def test_a_read_only_mount_is_one_fault_with_all_its_folders():
    var, lib = Folder("/var/log/muster", "/var"), Folder("/var/lib/muster", "/var")
    etc = Folder("/etc/muster", "/")
    assert statuses(writable_checks([etc, var, lib])) == [("host-writable", "ok")] * 2
    fine, bad = writable_checks([etc, replace(var, read_only=True), replace(lib, read_only=True)])
    assert (fine["status"], fine["subject"]) == ("ok", "/")
    assert (bad["status"], bad["subject"]) == ("failed", "/var")
    assert bad["expected"] == "can be written, for /var/log/muster, /var/lib/muster"
    assert bad["remedy"].startswith("mount -o remount,rw /var ")
    assert "dmesg" in bad["remedy"]


def test_a_folder_that_refuses_root_is_named_itself():
    (one,) = writable_checks([Folder("/var/lib/muster", "/var", problem="may not be written to")])
    assert (one["status"], one["subject"]) == ("failed", "/var/lib/muster")
    assert "chattr -i" in one["remedy"]


# Limits and system


def test_limits_that_are_too_low_are_named_with_the_command_that_raises_them():
    seen = {"fs.file-max": "9223372036854775807", "kernel.pid_max": "32768"}
    docker = OpenFiles("docker.service", "infinity", "infinity")
    checks = {one["subject"]: one for one in limit_checks(seen, docker)}
    assert checks["fs.file-max"]["status"] == "ok"
    assert checks["open files of docker.service"]["status"] == "ok"
    assert checks["kernel.threads-max"]["status"] == "unknown"
    low = checks["kernel.pid_max"]
    assert (low["status"], low["remedy"][:28]) == ("warning", "sysctl kernel.pid_max=65536 ")


@pytest.mark.parametrize(
    ("got", "asked", "status", "seen", "remedy"),
    [
        ("1048576", "1048576", "ok", "1048576", ""),
        ("infinity", "", "ok", "infinity", ""),
        # A real node: the unit asked, and its systemd could not raise the limit.
        ("20000", "1048576", "warning", "20000, though 1048576 are asked for", "--ulimit nofile"),
        ("20000", "infinity", "warning", "20000, though infinity are asked for", "--ulimit"),
        ("1024", "1024", "warning", "1024", "systemctl edit docker.service"),
        ("", "1048576", "unknown", "not told", "/proc/PID/limits"),
        ("?", "1048576", "unknown", "?", "/proc/PID/limits"),
    ],
)
def test_open_files_are_those_that_an_engine_gets(got, asked, status, seen, remedy):
    *_, files = limit_checks({}, OpenFiles("docker.service", got, asked))
    assert (files["id"], files["status"], files["observed"]) == ("host-limits", status, seen)
    assert remedy in files["remedy"]


@pytest.mark.parametrize(
    ("asked", "own", "most", "may_raise", "got"),
    [
        ("1048576", "20000", "1073741816", False, "20000"),
        ("1048576", "20000", "1073741816", True, "1048576"),
        ("1048576", "20000", "65536", True, "65536"),
        ("infinity", "20000", "1048576", True, "1048576"),
        ("infinity", "infinity", "1048576", False, "infinity"),
        ("4096", "20000", "1048576", False, "4096"),
        ("1048576", "", "1048576", False, ""),
        ("", "20000", "1048576", True, ""),
    ],
)
def test_what_systemd_may_not_raise_stays_below_its_own_limit(asked, own, most, may_raise, got):
    assert granted(asked, own, most, may_raise) == got


@pytest.mark.parametrize(
    ("text", "hard"),
    [
        (LIMITS_TEXT, "20000"),
        (LIMITS_TEXT.replace("20000    ", "unlimited"), "infinity"),
        ("", ""),
    ],
)
def test_the_limit_of_a_process_is_its_hard_one(text, hard):
    assert open_files_of(text) == hard


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 20000}}}', "20000"),
        ('{"default-ulimits": {"nofile": {"Hard": -1}}}', "infinity"),
        ('{"default-ulimits": {"nofile": {"Hard": true}}}', ""),
        ('{"default-ulimits": []}', ""),
        ("{", ""),
        (None, ""),
    ],
)
def test_the_daemon_may_be_told_what_containers_get(text, told):
    assert default_open_files(text) == told


def test_this_process_keeps_its_limits_when_they_are_tried():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert host_look.may_raise_limits() in (True, False)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


# systemd


@pytest.mark.parametrize(
    ("seen", "status", "observed"),
    [
        (Systemd(True, "systemd", "252.39"), "ok", "systemd 252.39"),
        (Systemd(False, "tini", problem="x"), "failed", "not running; process 1 is tini"),
        (Systemd(False), "failed", "not running; process 1 is unknown"),
        (Systemd(True, "systemd", problem="systemctl did not end"), "unknown", "did not end"),
        (Systemd(True, "systemd"), "unknown", "does not tell its version"),
    ],
)
def test_a_node_without_systemd_is_named(seen, status, observed):
    one = systemd_check(seen)
    assert (one["id"], one["status"]) == ("host-systemd", status)
    assert observed in one["observed"]
    assert bool(one["remedy"]) == (status != "ok")


@pytest.mark.parametrize(
    ("vendor", "name", "number", "status"),
    [
        ("ascend", "openEuler", "22.03", "ok"),
        ("ascend", "ubuntu", "22.04", "ok"),
        ("ascend", "debian", "12", "ok"),
        ("ascend", "debian", "13", "warning"),
        ("ascend", "centos", "7", "warning"),
        ("nvidia", "rhel", "9.4", "ok"),
        ("nvidia", "rhel", "90", "warning"),
        ("amd", "ubuntu", "20.04", "warning"),
        (None, "rhel", "9.4", "ok"),
        (None, "arch", "", "warning"),
    ],
)
def test_an_operating_system_nobody_names_is_a_warning(vendor, name, number, status):
    release = {"ID": name, "VERSION_ID": number}
    one, *_rest = system_checks(release, "5.10.0", "x86_64", vendor)
    assert (one["id"], one["status"]) == ("host-os", status)
    assert one["observed"].startswith(f"{name} {number}".strip())


def test_an_old_kernel_and_a_foreign_architecture():
    release = properties(OS_RELEASE)
    fine = system_checks(release, "5.15.0-119-generic", "aarch64", "ascend")
    assert statuses(fine) == [("host-os", "ok"), ("host-kernel", "ok"), ("host-arch", "ok")]
    old = system_checks(release, "3.10.0-1160.el7.x86_64", "ppc64le", "nvidia")
    assert statuses(old)[1:] == [("host-kernel", "warning"), ("host-arch", "failed")]
    assert statuses(system_checks(release, "6.1", "aarch64", "amd"))[-1] == ("host-arch", "failed")
    assert len(system_checks(release, "6.1", "ppc64le", None)) == 2


def test_the_formats_of_the_recipes_are_those_that_the_host_check_can_tell():
    schema = json.loads((ROOT / "recipes" / "schema.json").read_text())
    assert schema["properties"]["model"]["properties"]["format"]["enum"] == list(FORMATS)


@pytest.mark.parametrize(
    ("addresses", "several", "status", "remedy"),
    [
        (["10.0.0.1"], True, "ok", ""),
        (["127.0.1.1"], False, "ok", ""),
        (["127.0.1.1"], True, "warning", "begin with 10.0.0.1 instead of 127.0.1.1"),
        (["::1", "10.0.0.1"], True, "ok", ""),
        ([], False, "warning", "add to /etc/hosts: 10.0.0.1 n0"),
    ],
)
def test_the_nodes_own_name(addresses, several, status, remedy):
    one = name_check("n0", addresses, several, "10.0.0.1")
    assert one["status"] == status
    assert remedy in one["remedy"]


# Docker and files

INSTALLED = Lack("not installed", "prepare installs it", Source("apt", ("docker.io",)))
BY_HAND = Lack("not installed", "install it by hand")
SOUND = Docker("loaded", True, "", "27.3.1", "systemd", "2", security=["seccomp", "cgroupns"])


@pytest.mark.parametrize(
    ("docker", "expected"),
    [
        (Docker("not-found", lack=INSTALLED), [("container-engine", "pending")]),
        (Docker("loaded", True, lack=INSTALLED), [("container-engine", "pending")]),
        (Docker("loaded", True, lack=BY_HAND), [("container-engine", "failed")]),
        (Docker("loaded"), [("container-engine", "pending")]),
        (Docker("masked"), [("container-engine", "failed")]),
        (Docker("loaded", True, "docker info did not end"), [("container-engine", "failed")]),
        # A daemon.json that cannot be read is not what prepare repairs.
        (Docker("loaded", False, "no JSON"), [("container-engine", "failed")]),
    ],
)
def test_docker_is_not_there_or_does_not_answer(docker, expected):
    (one,) = docker_checks(docker)
    assert statuses([one]) == expected
    assert one["remedy"]


def test_dockers_version_and_cgroups():
    assert {status for _id, status in statuses(docker_checks(SOUND))} == {"ok"}
    old = docker_checks(replace(SOUND, version="19.03.15"))
    assert ("container-engine-version", "failed") in statuses(old)
    for untold in (
        {"version": ""},
        {"cgroup_driver": ""},
        {"cgroup_version": ""},
        {"security": None},
    ):
        told = docker_checks(replace(SOUND, **untold))
        assert [one["id"] for one in told] == [one["id"] for one in docker_checks(SOUND)]
        [unknown] = [one for one in told if one["status"] != "ok"]
        assert (unknown["status"], bool(unknown["remedy"])) == ("unknown", True)
    mixed = docker_checks(replace(SOUND, cgroup_driver="cgroupfs"))
    assert ("container-engine-cgroup", "warning") in statuses(mixed)
    legacy = docker_checks(replace(SOUND, cgroup_driver="cgroupfs", cgroup_version="1"))
    assert ("container-engine-cgroup", "ok") in statuses(legacy)


@pytest.mark.parametrize(
    ("options", "enforcing", "status", "said"),
    [
        (["name=apparmor", "name=seccomp,profile=builtin"], False, "ok", "apparmor, seccomp"),
        ([], False, "ok", "not confined further"),
        (["name=seccomp,profile=default", "name=userns"], False, "failed", "userns-remap"),
        (["name=rootless", "name=cgroupns"], False, "failed", "rootless"),
        (["name=selinux", "name=seccomp"], True, "warning", "not labelled"),
        # Where SELinux only writes down what it would deny, all works.
        (["name=selinux"], False, "ok", "selinux"),
        # As Docker 1.11 had it.
        (["seccomp", "userns"], False, "failed", "userns-remap"),
        ("none", False, "unknown", "not told"),
        (None, False, "unknown", "not told"),
    ],
)
def test_what_docker_confines_containers_by(options, enforcing, status, said):
    security = security_of({"SecurityOptions": options})
    checks = docker_checks(replace(SOUND, security=security, selinux=enforcing))
    (one,) = [one for one in checks if one["id"] == "container-engine-security"]
    assert (one["status"], bool(one["remedy"])) == (status, status != "ok")
    assert said in one["observed"]


def test_a_key_is_there_and_nobody_elses():
    files = [
        KeyFile("/k"),
        KeyFile("/k", mode=0o400),
        KeyFile("/k", mode=0o644),
        KeyFile("/k", empty=True),
        KeyFile("/k", "No such file or directory"),
    ]
    assert [one["status"] for one in key_file_checks(files)] == [
        "ok",
        "ok",
        "warning",
        "failed",
        "failed",
    ]


@pytest.mark.parametrize(
    ("wanted", "method", "names", "status"),
    [
        ("fp8", "fp8", [], "ok"),
        ("fp8", None, [], "warning"),
        ("fp8", "ascend", ["quant_model_description.json"], "failed"),
        ("w8a8", "ascend", ["quant_model_description.json"], "ok"),
        ("w8a8", "compressed-tensors", [], "ok"),
        ("w8a8", "fp8", [], "failed"),
        ("w8a8", None, [], "failed"),
        ("nvfp4", "modelopt_fp4", [], "ok"),
        ("nvfp4", None, ["hf_quant_config.json"], "ok"),
        ("nvfp4", "fp8", [], "failed"),
        ("bf16", None, [], "ok"),
        ("bf16", "fp8", [], "failed"),
        # ModelSlim leaves the configuration of the weights that it started from, and an engine may
        # believe it.
        ("w8a8", "fp8", ["quant_model_description.json"], "warning"),
        ("fp8", "fp8", ["quant_model_description_w8a8.json"], "failed"),
    ],
)
def test_weights_of_another_format_are_found(wanted, method, names, status):
    one = format_check("/m", wanted, {"quantization": method}, names)
    assert (one["id"], one["status"]) == ("weights-format", status)
    assert bool(one["remedy"]) == (status != "ok")
    if names == [] and status != "ok":
        assert "muster_weights_gb" in one["remedy"]


# The module

TOOLS = {
    "timedatectl show": "NTP=yes\nNTPSynchronized=yes\n",
    "systemctl show docker.service": "LoadState=loaded\nActiveState=active\nLimitNOFILE=1048576\n",
    "systemctl show --property=DefaultLimitNOFILE,Version": (
        "DefaultLimitNOFILE=524288\nVersion=252.39\n"
    ),
    "getent ahosts": "10.0.0.1      STREAM n0\n10.0.0.1      DGRAM\n",
    "docker info": json.dumps(
        {
            "ServerVersion": "27.3.1",
            "CgroupDriver": "systemd",
            "CgroupVersion": "2",
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        }
    ),
    "df -Pk": DF,
    "du -sk": "100\t/x\n",
}
OPTIONS = {
    "vendor": "ascend",
    "own_units": [],
    "address": "10.0.0.1",
    "multi_node": True,
    "memory_gb": 8,
    "shm_gb": 0,
    "images": [],
    "image_gb": 30,
    "disk": [],
    "writes": [],
    "key_files": [],
    "model_path": None,
    "draft_path": None,
    "model_architecture": None,
    "model_format": None,
    "weights_hashes": False,
    "timeout": 5,
}


@pytest.fixture
def look(tmp_path, monkeypatch):
    """The module on a node of these tools; a tool without an output fails."""
    files = NodeFiles(str(tmp_path / "node"))
    files.write("/proc/meminfo", MEMINFO)
    files.write("/etc/os-release", OS_RELEASE)
    files.write("/usr/bin/docker", "")
    files.write("/run/systemd/system/none", "")
    files.write("/proc/1/comm", "systemd\n")
    files.write("/proc/1/limits", LIMITS_TEXT)
    monkeypatch.setattr(host_look, "may_raise_limits", lambda: True)
    for name in ("fs/file-max", "fs/nr_open", "kernel/pid_max", "kernel/threads-max"):
        files.write(f"/proc/sys/{name}", "4194304\n")
    tools = dict(TOOLS)
    asked = []

    def run(argv, timeout, stdin=""):
        asked.append(" ".join(argv))
        for start, text in tools.items():
            if asked[-1].startswith(start):
                if text is None:
                    raise CommandError(f"{start} did not end within {timeout:g} s")
                return Output(0, text, "")
        return Output(1, "", "no")

    monkeypatch.setattr(host_look, "run", run)
    monkeypatch.setattr(
        "ansible_collections.muster.serving.plugins.module_utils.host.docker_io.run", run
    )

    def look(**options):
        result = host_look.observe({**OPTIONS, **options}, files, keep_hashes=False)
        return {one["id"]: one for one in result["checks"]}, result["facts"]

    look.tools, look.files, look.asked = tools, files, asked
    return look


def bad(checks):
    return {name: one["status"] for name, one in checks.items() if one["status"] != "ok"}


def test_a_sound_node_has_nothing_but_ok(look, model):
    files = {"key_files": ["/etc/key"], "disk": [{"what": "w", "path": "/data", "need_gb": 50}]}
    look.files.write("/etc/key", "secret-key\n", 0o600)
    checks, facts = look(images=["engine:1"], model_path=str(model), **files)
    # Engine images: a guess of 30 GB beside the 50 of the weights, on the same file system.
    assert bad(checks) == {"host-disk": "warning"}
    assert "secret-key" not in str(checks)
    assert len(facts["weights_index"]) == 12
    look.tools["docker image inspect"] = "sha256:1\n"
    assert bad(look(images=["engine:1"], **files)[0]) == {}


def test_docker_is_asked_for_images_only_where_they_would_not_fit(look):
    asked = "docker image inspect"
    look(images=["engine:1"], image_gb=1)
    assert not [command for command in look.asked if command.startswith(asked)]
    look(images=["engine:1"], image_gb=10000)
    assert [command for command in look.asked if command.startswith(asked)]


def test_what_docker_keeps_of_others_is_no_part_of_the_need(look):
    look.tools["du -sk"] = f"{500 * GB // 1024}\t/var/lib/docker\n"
    weights = {"what": "w", "path": None, "need_gb": 70}
    checks, _facts = look(images=["engine:1"], disk=[weights])
    assert checks["host-disk"]["status"] == "warning"
    # Its own folder is.
    checks, _facts = look(disk=[{**weights, "path": "/data", "need_gb": 400}])
    assert checks["host-disk"]["status"] == "ok"
    assert [one for one in look.asked if one.startswith("du")] == ["du -sk /data"]


def test_the_clock_spans_the_whole_look(look, monkeypatch):
    monkeypatch.setattr(host_look, "NodeFiles", lambda: look.files)
    before = time.time()
    clock = host_look.look(OPTIONS, False)["clock"]
    assert before <= clock["began"] <= clock["ended"] <= time.time()


def test_without_docker_nothing_of_docker_is_asked(look):
    look.tools["systemctl show docker.service"] = "LoadState=not-found\nActiveState=inactive\n"
    checks, _facts = look(images=["engine:1"])
    assert bad(checks) == {"container-engine": "pending"}
    assert not [command for command in look.asked if command.startswith("docker")]
    assert "container-engine" not in look(images=[])[0]


def test_a_docker_without_its_command_is_found_before_it_is_asked(look):
    look.files.remove("/usr/bin/docker")
    checks, _facts = look(images=["engine:1"])
    assert bad(checks) == {"container-engine": "failed"}
    assert "without the docker command" in checks["container-engine"]["observed"]
    assert not [command for command in look.asked if command.startswith("docker")]
    look.files.write("/etc/os-release", 'ID=debian\nVERSION_ID="13"\n')
    checks, _facts = look(images=["engine:1"])
    assert checks["container-engine"]["status"] == "pending"
    assert checks["container-engine"]["remedy"] == "prepare installs docker-cli"


def test_tools_that_hang_are_unknown_and_no_traceback(look):
    for tool in TOOLS:
        look.tools[tool] = None
    checks, _facts = look(disk=[{"what": "w", "path": "/data", "need_gb": 50}])
    assert bad(checks) == {
        "host-clock-sync": "unknown",
        "host-name": "warning",
        "host-disk": "unknown",
        "host-systemd": "unknown",
    }


@pytest.mark.parametrize("text", [None, "{bad", "[1]"])
def test_a_daemon_json_that_is_none_hides_no_other_check(look, text):
    path = "/etc/docker/daemon.json"
    if text is None:
        os.makedirs(look.files.path(path))
    else:
        look.files.write(path, text)
    found, _facts = look(images=["i:1"])
    docker = found["container-engine"]
    assert (docker["status"], "daemon.json" in docker["observed"]) == ("failed", True)
    assert "host-os" in found


def open_files(look, **options):
    result = host_look.observe({**OPTIONS, **options}, look.files, keep_hashes=False)
    return next(one for one in result["checks"] if one["subject"].startswith("open files"))


def test_a_unit_without_a_container_gets_what_systemd_can_give(look, monkeypatch):
    assert open_files(look)["observed"] == "1048576"
    monkeypatch.setattr(host_look, "may_raise_limits", lambda: False)
    one = open_files(look)
    assert (one["subject"], one["status"]) == ("open files of Muster's units", "warning")
    assert one["observed"] == "20000, though 1048576 are asked for"
    # One that runs is asked itself.
    look.tools["systemctl show docker.service"] = (
        "LoadState=not-found\nActiveState=inactive\n\nActiveState=active\nMainPID=4711\n"
    )
    look.files.write("/proc/4711/limits", LIMITS_TEXT.replace("20000", "70000"))
    assert open_files(look, own_units=["muster-a.service"])["observed"] == "70000"


def test_a_container_gets_what_docker_gives(look):
    one = open_files(look, images=["engine:1"])
    assert (one["subject"], one["observed"]) == ("open files of docker.service", "1048576")
    look.tools["systemctl show docker.service"] += "MainPID=815\n"
    look.files.write("/proc/815/limits", LIMITS_TEXT)
    assert open_files(look, images=["engine:1"])["observed"].startswith("20000, though 1048576")
    look.files.write("/etc/docker/daemon.json", '{"default-ulimits": {"nofile": {"Hard": 1024}}}')
    assert open_files(look, images=["engine:1"])["observed"] == "1024"


def test_a_node_without_systemd_fails_by_name(look):
    os.remove(look.files.path("/run/systemd/system/none"))
    os.rmdir(look.files.path("/run/systemd/system"))
    look.files.write("/proc/1/comm", "init\n")
    for tool in [one for one in TOOLS if one.startswith("systemctl")]:
        del look.tools[tool]
    checks, _facts = look()
    one = checks["host-systemd"]
    assert (one["status"], one["observed"]) == ("failed", "not running; process 1 is init")


def test_a_path_that_is_not_there_yet_is_measured_where_it_will_lie(look):
    del look.tools["df -Pk"]
    look.tools["df -Pk /data"] = DF
    look.tools["df -Pk /data/a"] = None
    checks, _facts = look(disk=[{"what": "w", "path": "/data/a/b", "need_gb": 50}])
    assert checks["host-disk"]["subject"] == "/var/lib/docker"


def writable(look, *writes, **options):
    result = host_look.observe(
        {**OPTIONS, "writes": list(writes), **options}, look.files, keep_hashes=False
    )
    return [one for one in result["checks"] if one["id"] == "host-writable"]


def test_folders_are_asked_whether_they_can_be_written(look, monkeypatch):
    look.files.write("/etc/muster/key", "k")
    look.files.write("/etc/plain", "")
    (one,) = writable(look, "/etc/muster", "/var/lib/muster")
    assert one["status"] == "ok"
    assert one["expected"] == "can be written, for /etc/muster, /var/lib/muster"
    (one,) = writable(look, "/etc/plain/muster")
    assert (one["status"], one["observed"]) == ("failed", "Not a directory")

    # Where nothing is yet, what is there of the path decides.
    above = look.files.path("/")
    monkeypatch.setattr(host_look.os, "access", lambda path, mode: path != above)
    refused, fine = writable(look, "/etc/muster", "/var/lib/muster")
    assert (refused["status"], refused["subject"]) == ("failed", "/var/lib/muster")
    assert (fine["status"], fine["expected"]) == ("ok", "can be written, for /etc/muster")


def test_a_read_only_file_system_is_named_by_its_mount(look, monkeypatch):
    look.files.write("/proc/self/mountinfo", f"40 22 8:2 / {look.files.root} ro - ext4 /dev/a ro\n")
    statvfs = os.statvfs

    def read_only(path):
        seen = statvfs(path)
        return type(seen)((*seen[:8], seen.f_flag | os.ST_RDONLY, *seen[9:]))

    monkeypatch.setattr(host_look.os, "statvfs", read_only)
    (one,) = writable(look, "/etc/muster", "/var/lib/muster")
    assert (one["status"], one["subject"]) == ("failed", look.files.root)
    assert one["observed"] == "mounted read-only"


def test_where_docker_keeps_images_is_written_to(look):
    assert writable(look) == []
    look.files.write("/etc/docker/daemon.json", '{"data-root": "/data/docker"}')
    (one,) = writable(look, images=["engine:1"])
    assert one["expected"] == "can be written, for /data/docker"


def test_a_file_system_that_does_not_answer_costs_its_time_once(look, monkeypatch):
    ended, stat = Event(), os.stat

    def hang(path, **options):
        return ended.wait(20) if "/hub" in str(path) else stat(path, **options)

    monkeypatch.setattr(host_look.os, "stat", hang)
    began = time.monotonic()
    checks = writable(look, "/hub/a", "/hub/b", "/etc", timeout=0.5)
    took = time.monotonic() - began
    ended.set()
    assert [one["status"] for one in checks] == ["failed", "failed", "ok"]
    assert checks[0]["observed"] == "no answer from its file system within 0.5 s"
    assert took < 5


def test_memory_that_the_own_units_hold_is_no_fault(look):
    assert bad(look(memory_gb=99, own_units=["muster-x.service"])[0]) == {"host-memory": "failed"}
    look.tools["systemctl show docker.service"] = (
        "LoadState=loaded\nActiveState=inactive\n\nLoadState=loaded\nActiveState=active\n"
    )
    assert bad(look(memory_gb=99, own_units=["muster-x.service"])[0]) == {}


def test_a_running_docker_is_no_unit_of_ours(look):
    assert bad(look(memory_gb=99)[0]) == {"host-memory": "failed"}


def test_a_containers_clock_is_that_of_its_host(look):
    look.tools["systemd-detect-virt --container"] = "podman\n"
    checks, _facts = look()
    assert checks["host-clock-sync"]["status"] == "ok"
    assert not [line for line in look.asked if line.startswith("timedatectl")]


def test_a_broken_daemon_json_is_said_with_its_file(look):
    look.files.write("/etc/docker/daemon.json", "{")
    checks, _facts = look(images=["engine:1"])
    assert bad(checks)["container-engine"] == "failed"
    assert "/etc/docker/daemon.json" in checks["container-engine"]["observed"]


def test_docker_keeps_its_images_where_its_configuration_says(look):
    look.tools["systemctl show docker.service"] = "LoadState=loaded\nActiveState=inactive\n"
    look.files.write("/etc/docker/daemon.json", '{"data-root": "/data/docker"}')
    look(images=["engine:1"])
    assert "df -Pk /data/docker" in look.asked


def test_the_format_is_checked_when_the_recipe_names_one(look, model):
    path = str(model)
    assert bad(look(model_path=path)[0]) == {}
    assert bad(look(model_path=path, model_format="w8a8")[0]) == {"weights-format": "failed"}
    (model / "quant_model_description.json").write_text("{}")
    assert bad(look(model_path=path, model_format="w8a8")[0]) == {}
    # Weights that cannot be read are one fault, not two.
    (model / "config.json").write_text("{")
    assert bad(look(model_path=path, model_format="w8a8")[0]) == {"weights-config": "failed"}
    gone = look(model_path=str(model / "gone"), model_format="w8a8")[0]
    assert bad(gone) == {"weights-directory": "failed"}


def test_draft_weights_are_looked_at_too(look, model, tmp_path):
    checks, _facts = look(model_path=str(model), draft_path=str(tmp_path / "no-draft"))
    assert checks["weights-directory"]["status"] == "failed"
    assert checks["weights-directory"]["subject"].endswith("no-draft")


def test_weights_are_hashed_only_when_asked_for(look, model):
    checks, facts = look(model_path=str(model))
    assert "weights-hash" not in checks
    assert "weights_hash" not in facts
    checks, facts = look(model_path=str(model), weights_hashes=True)
    assert checks["weights-hash"]["status"] == "ok"
    assert len(facts["weights_hash"]) == 12


def test_weights_of_another_model_are_named_with_both_architectures():
    wanted = "MiniMaxM2ForCausalLM"
    assert architecture_check("/m", wanted, wanted)["status"] == "ok"
    one = architecture_check("/m", wanted, "LlamaForCausalLM")
    assert (one["id"], one["status"]) == ("weights-architecture", "failed")
    assert (one["observed"], one["expected"]) == ("LlamaForCausalLM", wanted)
    assert "muster_model_path" in one["remedy"]


def test_memory_that_is_not_told_is_unknown_and_none_at_all_a_fault():
    assert hugepages_check({})["status"] == "unknown"
    missing = shm_check(None, None, 1, running=False)
    assert (missing["status"], missing["observed"]) == ("failed", "not there")


# What a node's tools and files tell, by how the host is asked for it.
SAID = {
    "systemctl": "LoadState=loaded\nActiveState=inactive\nLimitNOFILE=524288\n",
    "df": "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 9 1 900000000 1% /\n",
    "getent": "10.0.0.1 STREAM n\n",
    "systemd-detect-virt": "docker\n",
}


@given(st.sets(st.sampled_from([*SAID, "meminfo", "sysctl", "os-release", "mountinfo"])))
def test_no_check_of_the_host_vanishes_with_an_answer(silent):
    class Quiet(host_look.Host):
        def said(self, *argv):
            return "" if argv[0] in silent else SAID.get(argv[0], "")

    files = NodeFiles("/")
    asked = {
        "meminfo": "/proc/meminfo",
        "os-release": "/etc/os-release",
        "mountinfo": "/proc/self/mountinfo",
    }
    hidden = [path for name, path in asked.items() if name in silent]

    class Hidden(NodeFiles):
        def read(self, path):
            if path in hidden or ("sysctl" in silent and path.startswith("/proc/sys")):
                return None
            return super().read(path)

    def ids(node_files, kind):
        options = {name: spec.get("default") for name, spec in host_look.ARGUMENT_SPEC.items()}
        options.update(memory_gb=1, shm_gb=0.001, image_gb=1, images=["x:1"], vendor="nvidia")
        original, host_look.Host = host_look.Host, kind
        try:
            seen = host_look.observe(options, node_files, keep_hashes=False)
        finally:
            host_look.Host = original
        return [one["id"] for one in seen["checks"]]

    class Told(host_look.Host):
        def said(self, *argv):
            return SAID.get(argv[0], "")

    assert sorted(set(ids(Hidden("/"), Quiet))) == sorted(set(ids(files, Told)))
