import contextlib
import dataclasses
import errno
import json
import os

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.module_utils.host import tuning as host_tuning
from ansible_collections.muster.serving.plugins.module_utils.host.tuning import (
    RESERVED_PORTS,
    SCHED_MIGRATION_COST,
    STATE_PATH,
    SYSCTL_PATH,
    UNIT_LINK,
    UNIT_PATH,
    TuningError,
    Wanted,
    load_state,
    parse_ports,
    sysctl_name,
    sysctl_path,
    wanted_from,
)
from ansible_collections.muster.serving.plugins.module_utils.host.tuning_io import apply
from hypothesis import given
from hypothesis import strategies as st

WANTED = Wanted(
    cpu_governor="performance",
    sysctl={"vm.swappiness": "0", "kernel.numa_balancing": "0"},
    sched_migration_cost_ns=50000,
    reserved_ports=["60000-60031"],
)
PORTS_PATH = sysctl_path(RESERVED_PORTS)
GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"


@pytest.fixture
def node(tmp_path):
    files = NodeFiles(str(tmp_path))
    files.write("/proc/sys/vm/swappiness", "60\n")
    files.write("/proc/sys/kernel/numa_balancing", "1\n")
    files.write(PORTS_PATH, "8080,9148\n")
    files.write(SCHED_MIGRATION_COST[0], "500000\n")
    for cpu in range(4):
        files.write(GOVERNOR.format(cpu), "powersave\n")
    return files


def decide(files, wanted, deployment="a"):
    return host_tuning.decide(files, wanted, deployment)


def converge(files, wanted=WANTED, deployment="a"):
    changes = decide(files, wanted, deployment)
    assert apply(files, changes) == []
    return changes


def test_a_node_is_tuned_live_and_for_the_next_boot(node) -> None:
    assert converge(node).changed
    assert node.read("/proc/sys/vm/swappiness").strip() == "0"
    assert node.read(GOVERNOR.format(3)).strip() == "performance"
    assert node.read(SCHED_MIGRATION_COST[0]).strip() == "50000"
    assert node.read(PORTS_PATH).strip() == "8080,9148,60000-60031"
    assert node.read(SYSCTL_PATH).splitlines()[1:] == [
        "kernel.numa_balancing = 0",
        f"{RESERVED_PORTS} = 8080,9148,60000-60031",
        "vm.swappiness = 0",
    ]
    assert "echo performance > $$file" in node.read(UNIT_PATH)
    assert f"echo 50000 > {SCHED_MIGRATION_COST[0]}" in node.read(UNIT_PATH)
    assert node.is_link(UNIT_LINK, UNIT_PATH)


def test_a_second_run_changes_nothing(node) -> None:
    converge(node)
    state = node.read(STATE_PATH)
    again = converge(node)
    assert not again.changed
    assert {row["status"] for row in again.settings} == {"ok"}
    assert node.read(STATE_PATH) == state


def test_absent_restores_what_was_found(node) -> None:
    converge(node)
    assert converge(node, Wanted()).changed
    assert node.read("/proc/sys/vm/swappiness").strip() == "60"
    assert node.read(GOVERNOR.format(0)).strip() == "powersave"
    assert node.read(SCHED_MIGRATION_COST[0]).strip() == "500000"
    assert node.read(PORTS_PATH).strip() == "8080,9148"
    for path in (SYSCTL_PATH, UNIT_PATH, STATE_PATH):
        assert node.read(path) is None, path
    assert not node.is_link(UNIT_LINK, UNIT_PATH)
    assert not converge(node, Wanted()).changed


def test_absent_keeps_ports_that_others_reserved_meanwhile(node) -> None:
    converge(node)
    node.write(PORTS_PATH, "8080,9148,30000,60000-60031\n")
    assert not decide(node, WANTED).changed
    converge(node, Wanted())
    assert node.read(PORTS_PATH).strip() == "8080,9148,30000"


def test_a_changed_range_replaces_ours_and_keeps_the_nodes_own(node) -> None:
    node.write(PORTS_PATH, "60000\n")
    converge(node)
    converge(node, Wanted(reserved_ports=["61000-61031"]))
    assert node.read(PORTS_PATH).strip() == "60000,61000-61031"


def test_two_deployments_on_a_machine_keep_each_others_settings(node) -> None:
    other = Wanted(sysctl={"vm.swappiness": "0"}, reserved_ports=["61000-61031"])
    converge(node)
    converge(node, other, deployment="b")
    assert not converge(node).changed
    assert not converge(node, other, deployment="b").changed
    assert node.read(PORTS_PATH).strip() == "8080,9148,60000-60031,61000-61031"
    converge(node, Wanted())
    assert node.read(PORTS_PATH).strip() == "8080,9148,61000-61031"
    assert node.read("/proc/sys/vm/swappiness").strip() == "0"
    assert node.read(GOVERNOR.format(0)).strip() == "powersave"
    converge(node, Wanted(), deployment="b")
    assert node.read("/proc/sys/vm/swappiness").strip() == "60"
    assert node.read(STATE_PATH) is None


def test_opting_out_restores_that_setting_only(node) -> None:
    converge(node)
    converge(node, Wanted(sysctl={"vm.swappiness": "0"}))
    assert node.read(GOVERNOR.format(0)).strip() == "powersave"
    assert node.read("/proc/sys/vm/swappiness").strip() == "0"
    assert node.read(UNIT_PATH) is None
    assert node.read(SYSCTL_PATH).splitlines()[1:] == ["vm.swappiness = 0"]


def test_a_reboot_that_lost_a_setting_keeps_the_first_original(node) -> None:
    converge(node)
    node.write("/proc/sys/vm/swappiness", "10\n")
    assert converge(node).changed
    converge(node, Wanted())
    assert node.read("/proc/sys/vm/swappiness").strip() == "60"


def test_an_offline_cpu_is_restored_when_it_is_back(node) -> None:
    converge(node)
    node.remove(GOVERNOR.format(3))
    assert not converge(node).changed
    node.write(GOVERNOR.format(3), "performance\n")
    converge(node, Wanted())
    assert node.read(GOVERNOR.format(3)).strip() == "powersave"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ENODEV])
def test_a_cpu_whose_files_answer_that_it_is_offline_is_left_out(node, code) -> None:
    converge(node)

    class SmtOff(NodeFiles):
        def read(self, path: str) -> str | None:
            if "/cpu3/" in path:
                raise OSError(code, os.strerror(code))
            return super().read(path)

    half = SmtOff(node.root)
    again = converge(half)
    assert (again.changed, again.warnings) == (False, [])
    assert converge(half, dataclasses.replace(WANTED, cpu_governor="schedutil")).changed
    # Its own way back is kept for when it is there again.
    converge(node, WANTED)
    converge(node, Wanted())
    assert node.read(GOVERNOR.format(3)).strip() == "powersave"


def test_what_a_node_lacks_is_unsupported_and_not_persisted(tmp_path) -> None:
    files = NodeFiles(str(tmp_path))
    files.write("/proc/sys/vm/swappiness", "0\n")
    changes = decide(files, WANTED)
    unsupported = {row["name"] for row in changes.settings if row["status"] == "unsupported"}
    assert unsupported == {
        "kernel.numa_balancing",
        "sched_migration_cost_ns",
        "cpu_governor",
        RESERVED_PORTS,
    }
    assert len(changes.warnings) == 4
    assert changes.files[SYSCTL_PATH][1].splitlines()[1:] == ["vm.swappiness = 0"]
    assert UNIT_PATH not in changes.files


def test_a_debugfs_that_lockdown_closes_is_unsupported(node) -> None:
    class LockedDown(NodeFiles):
        def read(self, path: str) -> str | None:
            if path.startswith("/sys/kernel/debug/"):
                raise PermissionError(1, "Operation not permitted")
            return super().read(path)

    changes = converge(LockedDown(node.root))
    assert "lockdown" in changes.warnings[0]
    assert "swappiness" in node.read(SYSCTL_PATH)
    assert "debug/sched" not in node.read(UNIT_PATH)


def test_an_older_kernel_has_the_migration_cost_as_a_sysctl(tmp_path) -> None:
    files = NodeFiles(str(tmp_path))
    files.write(SCHED_MIGRATION_COST[1], "500000\n")
    converge(files, Wanted(sched_migration_cost_ns=50000))
    assert "kernel.sched_migration_cost_ns = 50000" in files.read(SYSCTL_PATH)


def test_a_governor_that_is_not_offered_fails_before_anything_changes(node) -> None:
    available = GOVERNOR.format(0).replace("scaling_governor", "scaling_available_governors")
    node.write(available, "powersave ondemand\n")
    with pytest.raises(TuningError, match="only ondemand, powersave"):
        decide(node, WANTED)


def test_a_refused_write_names_setting_and_remedy_and_the_rest_is_done(node) -> None:
    class ReadOnlyKernel(NodeFiles):
        def write_kernel(self, path: str, value: str) -> None:
            if path.endswith("numa_balancing"):
                raise OSError(30, "Read-only file system")
            super().write_kernel(path, value)

    files = ReadOnlyKernel(node.root)
    refused = apply(files, decide(files, WANTED))
    assert len(refused) == 1
    assert refused[0].startswith("kernel.numa_balancing: the kernel refused '0' (was '1')")
    assert "opt out with null" in refused[0]
    assert node.read("/proc/sys/vm/swappiness").strip() == "0"
    assert decide(files, WANTED).writes[0].setting == "kernel.numa_balancing"


def test_a_value_that_the_kernel_takes_over_otherwise_is_refused(node) -> None:
    class Clamping(NodeFiles):
        def write_kernel(self, path: str, value: str) -> None:
            super().write_kernel(path, "100" if path.endswith("swappiness") else value)

    files = Clamping(node.root)
    (refused,) = apply(files, decide(files, Wanted(sysctl={"vm.swappiness": "500"})))
    assert "it is '100' after the write" in refused


def test_a_value_that_can_no_longer_be_read_stays_to_be_restored(node) -> None:
    converge(node)

    class LockedDown(NodeFiles):
        def read(self, path: str) -> str | None:
            if path.startswith("/sys/kernel/debug/"):
                raise PermissionError(1, "Operation not permitted")
            return super().read(path)

    converge(LockedDown(node.root))
    converge(node, Wanted())
    assert node.read(SCHED_MIGRATION_COST[0]).strip() == "500000"


def test_a_later_sysctl_file_that_undoes_ours_is_named(node) -> None:
    node.write(
        "/etc/sysctl.d/99-site.conf", "# site\nvm/swappiness=10\n; kernel.numa_balancing = 1\n"
    )
    node.write("/etc/sysctl.d/10-early.conf", "vm.swappiness = 30\n")
    (warning,) = decide(node, WANTED).warnings
    assert "/etc/sysctl.d/99-site.conf sets '10'" in warning


def test_the_diff_counts_cpus_and_shows_files(node) -> None:
    live, *persisted = host_tuning.diff(decide(node, WANTED))
    assert "cpu_governor = powersave (4 CPUs)\n" in live["before"]
    assert "cpu_governor = performance (4 CPUs)\n" in live["after"]
    assert "vm.swappiness = 60\n" in live["before"]
    assert [entry["after_header"] for entry in persisted] == [SYSCTL_PATH, UNIT_PATH, UNIT_LINK]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reserved_ports": ["60000-"]}, "'60000-' is not a port"),
        ({"reserved_ports": ["2-1"]}, "'2-1' is not a port"),
        ({"reserved_ports": ["70000"]}, "'70000' is not a port"),
        ({"sysctl": {"vm.swappiness": True}}, "wants a number"),
        ({"sysctl": {"vm.swappiness": "0\nx = 1"}}, "wants a number"),
        ({"sysctl": {"../etc/passwd": 0}}, "is not the name of a sysctl"),
        ({"sysctl": {RESERVED_PORTS: "1"}}, "use reserved_ports"),
        ({"sysctl": {"kernel.sched_migration_cost_ns": 1}}, "use sched_migration_cost_ns"),
        ({"cpu_governor": "a; reboot"}, "is not the name of a governor"),
        ({"sched_migration_cost_ns": -1}, "is negative"),
    ],
)
def test_senseless_options_are_refused(params, message) -> None:
    with pytest.raises(TuningError, match=message):
        wanted_from(params)


def test_null_opts_out() -> None:
    options = {"cpu_governor": None, "sysctl": {"vm.swappiness": None}, "reserved_ports": None}
    assert wanted_from(options) == Wanted()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/100.rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_sysctl_names_with_dots_in_them(name, path) -> None:
    assert sysctl_path(name) == path
    assert sysctl_path(sysctl_name(path)) == path


@given(st.sets(st.integers(0, 65535)))
def test_port_lists_survive_a_round_trip(ports) -> None:
    assert parse_ports(ranges_text(ports)) == ports


@given(st.text())
def test_any_text_as_ports_is_parsed_or_refused(text) -> None:
    with contextlib.suppress(TuningError):
        assert parse_ports(ranges_text(parse_ports(text))) == parse_ports(text)


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.text() | JSON.map(json.dumps))
def test_any_state_file_is_read_or_refused(text) -> None:
    with contextlib.suppress(TuningError):
        assert load_state(text).reserved_ports is not None
