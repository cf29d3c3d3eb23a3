"""What holds a plan's devices and ports by other hands: found, stopped, kept, brought back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    CONMON,
    Owner,
    held_by,
    parse_cgroup,
    watched_by,
)
from ansible_collections.muster.serving.plugins.module_utils.node import takeover, takeover_io
from ansible_collections.muster.serving.plugins.module_utils.node.takeover import (
    Container,
    Held,
    Holder,
    Process,
    Seen,
    Service,
)
from ansible_collections.muster.serving.plugins.modules import node_takeover
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT

ID = "4f" * 32
WHEN = "2026-11-30 09:25:43Z"
OWN = "/etc/systemd/system/vllm.service"


def seen_of(process: Process, *above: Process, **more: Any) -> Seen:
    """One process on devices 0 and 1 and port 8000, with those above it and beside it."""
    holds = {process.pid: Held((1, 0), (8000,))}
    return Seen(holds, {one.pid: one for one in (process, *above)}, ports=[8000, 8001], **more)


def only(seen: Seen) -> Holder:
    (holder,) = takeover.holders_of(seen, "c")
    return holder


# --- who holds it -------------------------------------------------------------------------------


def test_a_container_is_stopped_without_its_restart_policy_and_comes_back_with_it() -> None:
    container = Container(ID, "vllm", image="vllm/vllm-openai:v0.9.1", restart="on-failure:5")
    holder = only(seen_of(Process(7, 1, "vllm", container_id=ID), containers=[container]))
    assert (holder.problem, holder.lost, holder.pids) == ("", "", [7])
    assert takeover.title(holder.entry) == "container vllm (vllm/vllm-openai:v0.9.1)"
    assert takeover.held_text(holder.entry) == "devices 0-1, port 8000"
    assert takeover.stop_commands(holder.entry) == [
        ["docker", "update", "--restart=no", ID],
        ["docker", "stop", "-t", "60", ID],
    ]
    entry = {**holder.entry, "lost": ""}
    assert takeover.return_commands(entry) == [
        ["docker", "update", "--restart=on-failure:5", ID],
        ["docker", "start", ID],
    ]
    assert takeover.remove_commands(entry) == [["docker", "rm", ID[:12]]]


def test_a_port_that_docker_publishes_is_its_containers() -> None:
    container = Container(ID, "vllm", ports=[8000, 9000])
    proxy = Process(9, 2, "docker-proxy", unit="docker.service")
    docker = Service("docker.service", "/usr/lib/systemd/system/docker.service", "enabled", 2)
    seen = Seen(
        {9: Held(ports=[8000])}, {9: proxy}, [container], {"docker.service": docker}, [8000]
    )
    assert only(seen).entry["name"] == "vllm"
    # Without the proxy nobody holds the port in /proc.
    assert only(seen._replace(holds={})).entry["ports"] == [8000]
    assert takeover.holders_of(seen._replace(holds={}, ports=[8001]), "c") == []


def test_a_port_that_docker_passes_on_for_no_known_container_is_not_dockers_end() -> None:
    proxy = Process(9, 2, "docker-proxy", unit="docker.service")
    seen = Seen({9: Held(ports=[8000])}, {9: proxy, 2: Process(2, 1, "dockerd")}, ports=[8000])
    docker = Service("docker.service", "/usr/lib/systemd/system/docker.service", "enabled", 2)
    holder = only(seen._replace(services={"docker.service": docker}))
    assert (holder.entry["kind"], bool(holder.problem)) == ("service", True)
    # Where it is no service, as of a snap.
    assert only(seen).entry["name"] == "docker-proxy (pid 9)"


def test_a_service_of_the_operators_own_is_stopped_and_disabled() -> None:
    service = Service("vllm.service", OWN, "enabled", 7)
    process = Process(7, 1, "vllm", unit="vllm.service")
    holder = only(seen_of(process, services={"vllm.service": service}))
    assert (holder.problem, holder.lost) == ("", "")
    assert takeover.stop_commands(holder.entry) == [
        ["systemctl", "stop", "vllm.service"],
        ["systemctl", "disable", "vllm.service"],
    ]
    assert takeover.return_commands({**holder.entry, "lost": ""}) == [
        ["systemctl", "enable", OWN],
        ["systemctl", "start", "vllm.service"],
    ]


@pytest.mark.parametrize(
    ("file_state", "stop", "back"),
    [
        ("disabled", [], []),
        ("static", [], []),
        ("generated", [["systemctl", "mask", "u.service"]], [["systemctl", "unmask", "u.service"]]),
        (
            "enabled-runtime",
            [["systemctl", "disable", "--runtime", "u.service"]],
            [["systemctl", "enable", "--runtime", "/etc/u.service"]],
        ),
    ],
)
def test_a_service_is_kept_from_a_boot_as_its_file_asks_for(
    file_state: str, stop: list[list[str]], back: list[list[str]]
) -> None:
    named = {"kind": "service", "name": "u.service", "path": "/etc/u.service", "lost": ""}
    entry = {**named, "file_state": file_state}
    assert takeover.stop_commands(entry)[1:] == stop
    assert takeover.return_commands(entry)[:-1] == back


@pytest.mark.parametrize(
    "argv",
    [
        ["docker", "run", "--rm", "--name", "vllm", "image"],
        ["docker", "run", "--name=vllm", "image"],
        ["docker", "start", "-a", ID[:12]],
        ["docker", "run", "--gpus", "all", "image", "serve"],
    ],
)
def test_the_service_that_runs_a_container_is_what_stops(argv: list[str]) -> None:
    container = Container(ID, "vllm", image="image", removed=True)
    client = Process(5, 1, "docker", argv, unit="vllm.service")
    engine = Process(7, 6, "vllm", container_id=ID)
    services = {"vllm.service": Service("vllm.service", OWN, "enabled", 5)}
    seen = seen_of(engine, client, containers=[container], services=services)
    assert only(seen).entry["key"] == "vllm.service"
    assert Owner(1, container="vllm").belongs_to(takeover.own_units([only(seen)]))
    # Another container of that image is not the service's by that alone.
    others = [container, Container("5a" * 32, "other", image="image")]
    named = "vllm" in argv or "--name=vllm" in argv or ID[:12] in argv
    kind = only(seen._replace(containers=others)).entry["kind"]
    assert kind == ("service" if named else "container")


@pytest.mark.parametrize(
    ("argv", "runs"),
    [
        (["podman", "--log-level", "warn", "container", "start", "-a", "vllm"], True),
        (["docker", "attach", "vllm"], True),
        (["docker", "compose", "-f", "c.yml", "up", "vllm"], True),
        (["docker", "compose", "logs", "-f", "vllm"], False),
        (["docker", "logs", "-f", "vllm"], False),
        (["docker", "exec", "vllm", "run", "vllm"], False),
        (["docker", "stats", "vllm"], False),
        (["docker", "events", "--filter", f"container={ID}"], False),
    ],
)
def test_a_service_that_only_reads_of_a_container_is_left_alone(
    argv: list[str], runs: bool
) -> None:
    client = Process(5, 1, argv[0], argv, unit="logs.service")
    services = {"logs.service": Service("logs.service", OWN, "enabled", 5)}
    engine = Process(7, 6, "vllm", container_id=ID)
    seen = seen_of(engine, client, containers=[Container(ID, "vllm")], services=services)
    assert only(seen).entry["kind"] == ("service" if runs else "container")


def test_podman_runs_a_container_within_its_service() -> None:
    container = Container(ID, "vllm", "podman", ports=[8001])
    engine = Process(7, 6, "vllm", unit="vllm.service", container_id=ID)
    services = {"vllm.service": Service("vllm.service", "/run/systemd/generator/x", "generated")}
    holder = only(seen_of(engine, containers=[container], services=services))
    assert (holder.entry["kind"], holder.lost) == ("service", "")
    assert holder.entry["ports"] == [8000, 8001]


# What Podman 4.3.1 printed of containers that were made for it, and their processes: one that
# publishes a port, one with --rm, one on the host's network, and one in a pod with its infra.
PODMAN = json.loads((ROOT / "tests/unit/captures/podman/podman_4.3.1.json").read_text())
NAMES = ["vllm-always", "vllm-rm", "vllm-unit", "vllm-inpod"]


def podman_seen(ports: dict[int, int], **units: str) -> Seen:
    """Podman's containers where processes of them hold these ports, by their pid."""
    inspected = takeover.parse_inspect(json.dumps(PODMAN["containers"]), "podman")
    containers = [one._replace(unit=units.get(one.name.replace("-", "_"), "")) for one in inspected]
    processes = {}
    for one in PODMAN["processes"]:
        unit, container = parse_cgroup(one["cgroup"])
        if one["comm"] == CONMON:
            container, _name = watched_by(one["argv"])
        more = {"cgroup": one["cgroup"], "unit": unit, "container_id": container}
        processes[one["pid"]] = Process(one["pid"], 1, one["comm"], one["argv"], **more)
    services = {name: Service(name, f"/etc/systemd/system/{name}") for name in units.values()}
    holds = {pid: Held(ports=[port]) for pid, port in ports.items()}
    return Seen(holds, processes, containers, services, [*ports.values()])


def of_podman(name: str, which: str = "ConmonPid") -> int:
    states = {one["Name"]: one["State"] for one in PODMAN["containers"]}
    return int(states[name][which])


def test_what_podman_prints_is_read() -> None:
    seen = podman_seen({})
    by_name = {one.name: one for one in seen.containers}
    assert [*by_name][:4] == NAMES
    assert [(one.restart, one.removed) for one in seen.containers[:3]] == [
        ("always", False),
        ("no", True),
        ("on-failure:5", False),
    ]
    assert by_name["vllm-always"].ports == [18001]
    # Of a pod each container shows what is published for all of it.
    assert [one.ports for one in seen.containers[3:]] == [[18002], [18002]]
    assert by_name["vllm-unit"].conmon == of_podman("vllm-unit")
    assert "hunter2" not in repr(seen.containers)
    assert "hunter2" in json.dumps(PODMAN)


def test_the_port_that_podmans_watcher_holds_is_its_containers() -> None:
    (holder,) = takeover.holders_of(podman_seen({of_podman("vllm-always"): 18001}), "c")
    assert (holder.entry["kind"], holder.entry["name"]) == ("container", "vllm-always")
    # The other checks, too, know it as what is stopped first.
    assert Owner(of_podman("vllm-always")).belongs_to(takeover.own_units([holder]))


def test_a_pod_stops_and_comes_back_with_what_holds_its_port() -> None:
    infra = PODMAN["containers"][4]["Name"]
    holders = takeover.holders_of(podman_seen({of_podman(infra): 18002}), "c")
    assert {one.entry["name"] for one in holders} == {"vllm-inpod", infra}


@pytest.mark.parametrize("which", ["Pid", "ConmonPid"])
def test_a_service_that_watches_a_container_is_what_stops(which: str) -> None:
    # podman generate systemd: neither the container nor its watcher is in the service's group.
    seen = podman_seen({of_podman("vllm-unit", which): 8000}, vllm_unit="vllm.service")
    (holder,) = takeover.holders_of(seen, "c")
    assert (holder.entry["key"], holder.entry["container"]) == ("vllm.service", "vllm-unit")
    assert takeover.stop_commands(holder.entry) == [["systemctl", "stop", "vllm.service"]]


def test_what_podman_would_start_at_a_boot_is_refused() -> None:
    seen = podman_seen({of_podman("vllm-always"): 18001})
    first = seen.containers[0]._replace(at_boot=takeover.PODMAN_RESTART)
    (holder,) = takeover.holders_of(seen._replace(containers=[first]), "c")
    assert "podman-restart.service starts it at each boot" in holder.problem
    assert "without --restart=always" in holder.remedy
    # Whose service it is, that one stops it for good.
    run_by = seen._replace(
        containers=[first._replace(unit="vllm.service")],
        services={"vllm.service": Service("vllm.service", OWN)},
    )
    (holder,) = takeover.holders_of(run_by, "c")
    assert (holder.entry["kind"], holder.problem) == ("service", "")


FAKE_COMMAND = """\
#!/bin/sh
case "$(basename "$0") $1 $2" in
*' ps '*) echo {id};;
*' inspect '*) cat {inspected};;
'podman update --help') echo "{help}";;
'systemctl is-enabled '*) echo enabled;;
'systemctl show '*) printf 'Id=a.service\\nMainPID=0\\n\\nId=vllm.service\\nMainPID={main}\\n';;
*) exit 125;;
esac
"""


@pytest.mark.parametrize(
    ("helped", "main", "unit", "at_boot"),
    [
        ("--cpus", 1, "", "podman-restart.service"),
        ("--restart", of_podman("vllm-always"), "vllm.service", ""),
    ],
)
def test_podman_by_the_name_of_docker_is_podman(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    helped: str,
    main: int,
    unit: str,
    at_boot: str,
) -> None:
    inspected = tmp_path / "inspected.json"
    inspected.write_text(json.dumps(PODMAN["containers"][:1]))
    text = FAKE_COMMAND.format(id=ID, inspected=inspected, help=helped, main=main)
    for name in ("docker", "podman", "systemctl"):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (found,) = takeover_io._all_containers(None)
    assert (found.engine, found.unit, found.at_boot) == ("podman", unit, at_boot)


@pytest.mark.parametrize(
    ("cgroup", "kind", "said"),
    [
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            "container",
            f"as that user: podman stop {ID[:12]}",
        ),
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service/docker/{ID}",
            "container",
            "of the user 1000, by rootless",
        ),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vllm.service/"
            f"libpod-payload-{ID}",
            "user service",
            "systemctl --user -M 1000@ stop vllm.service",
        ),
    ],
)
def test_what_another_user_runs_is_told_by_how_he_stops_it(
    cgroup: str, kind: str, said: str
) -> None:
    unit, container = parse_cgroup(cgroup)
    assert container == ID
    holder = only(seen_of(Process(7, 1, "vllm", unit=unit, container_id=ID, cgroup=cgroup)))
    assert holder.entry["kind"] == kind
    assert said in f"{holder.problem} {holder.remedy}"


def test_a_supervisor_that_a_package_brings_is_not_ended_with_what_it_runs() -> None:
    unit = "supervisor.service"
    service = Service(unit, "/lib/systemd/system/supervisor.service", "enabled", 4)
    supervisor = PARENT._replace(name="supervisord", unit=unit, parent=1)
    seen = seen_of(WORKER._replace(unit=unit), supervisor, services={unit: service})
    holder = only(seen)
    assert holder.entry["key"].startswith("5@")
    assert "supervisord of supervisor.service runs it" in holder.problem


SHELL = Process(3, 2, "bash", ["-bash"])
PARENT = Process(4, 3, "vllm", ["vllm", "serve", "/m", "--api-key", "hunter2"], "/srv", "ann", "99")
WORKER = Process(5, 4, "VLLM::Worker", ["VLLM::Worker"])


def test_a_bare_process_is_ended_with_what_started_it_and_its_secrets_are_not_kept() -> None:
    holder = only(seen_of(WORKER, PARENT, SHELL))
    assert (holder.entry["key"], holder.pids) == ("4@99", [5])
    assert takeover.stop_commands(holder.entry) == []
    entry = {**holder.entry, "lost": holder.lost}
    assert takeover.return_commands(entry) == []
    assert "hunter2" not in takeover.record_text("c", [entry])
    (told,) = takeover.told([{**entry, "state": "replaced"}])
    assert "cd /srv && vllm serve /m --api-key" in told["back"]
    assert "as ann" in told["back"]


@pytest.mark.parametrize(
    "above",
    [
        *("sh", "ash", "bash", "dash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish"),
        *("sshd", "sshd-session", "mosh-server", "su", "sudo", "login", "tmux: server", "screen"),
        *("systemd", "(sd-pam)", "crond", "containerd-shim", "containerd-shim-runc-v2", "conmon"),
    ],
)
def test_what_a_process_was_started_from_outlives_it(above: str) -> None:
    assert only(seen_of(WORKER, PARENT, SHELL._replace(name=above))).entry["key"] == "4@99"


@pytest.mark.parametrize("above", ["python3", "torchrun", "vllm-sh", "crash"])
def test_what_is_of_a_process_ends_with_it(above: str) -> None:
    launcher = SHELL._replace(name=above, started="7")
    assert only(seen_of(WORKER, PARENT, launcher)).entry["key"] == "3@7"


LOGIN = Service("ssh.service", "/lib/systemd/system/ssh.service", "enabled", 2)


@pytest.mark.parametrize(
    ("process", "more", "kind", "problem"),
    [
        # Below a login, which is a package's service, and is none of its own.
        (WORKER._replace(unit="ssh.service"), {"services": {"ssh.service": LOGIN}}, "process", ""),
        (
            Process(2, 1, "nginx", unit="ssh.service"),
            {"services": {"ssh.service": LOGIN}},
            "service",
            "from a package",
        ),
        (
            Process(8, 2, "nginx", unit="ssh.service"),
            {"services": {"ssh.service": LOGIN}},
            "service",
            "from a package",
        ),
        (Process(7, deployment="other"), {}, "deployment", "of other, another deployment"),
        (Process(7, unit="muster-gone-r0-rank0.service"), {}, "service", "a unit of Muster"),
        (
            Process(7, container_id=ID),
            {"containers": [Container(ID, "muster-gone-r0-rank0")]},
            "service",
            "a unit of Muster",
        ),
        (Process(7, container_id=ID, cgroup="0::/kubepods/x"), {}, "container", "Kubernetes"),
        (Process(7, container_id=ID), {}, "container", "neither Docker nor Podman"),
        (
            Process(7, container_id=ID),
            {"containers": [Container(ID, "x", manager="Docker Swarm")]},
            "container",
            "Docker Swarm",
        ),
        (
            Process(
                7, unit="v.service", cgroup="0::/user.slice/user@7.service/app.slice/v.service"
            ),
            {},
            "user service",
            "user's own",
        ),
    ],
)
def test_what_is_not_the_operators_to_stop_is_refused(
    process: Process, more: dict[str, Any], kind: str, problem: str
) -> None:
    above = [Process(2, 1, "nginx"), SHELL, PARENT]
    holder = only(seen_of(process, *(one for one in above if one.pid != process.pid), **more))
    assert holder.entry["kind"] == kind
    assert problem in holder.problem
    assert bool(holder.problem) == bool(problem)
    if problem:
        assert holder.remedy
        (check,) = takeover.checks_of([holder], for_good=True)
        assert (check["status"], check["remedy"]) == ("failed", holder.remedy)


def test_the_deployments_own_units_and_processes_that_have_ended_hold_nothing() -> None:
    assert takeover.holders_of(seen_of(Process(7, deployment="c")), "c") == []
    assert takeover.holders_of(Seen({7: Held([0])}, {}), "c") == []


@pytest.mark.parametrize("for_good", [False, True])
def test_what_cannot_be_brought_back_is_stopped_where_that_was_said(for_good: bool) -> None:
    removed = Holder({"kind": "container", "name": "v", "devices": [0], "ports": []}, lost="--rm")
    kept = removed._replace(lost="")
    statuses = [one["status"] for one in takeover.checks_of([removed, kept], for_good)]
    assert statuses == ["pending" if for_good else "failed", "pending"]
    assert takeover.checks_of([], for_good)[0]["status"] == "ok"


def test_other_checks_know_what_is_stopped_by_name_and_process() -> None:
    container = Container(ID, "vllm")
    holder = only(seen_of(Process(7, 1, "vllm", container_id=ID), containers=[container]))
    units = takeover.own_units([holder, only(seen_of(WORKER, PARENT, SHELL))])
    assert Owner(1, container="vllm").belongs_to(units)
    assert Owner(7).belongs_to(units)
    assert Owner(5).belongs_to(units)
    assert not Owner(6).belongs_to(units)
    assert held_by([Owner(7)]) == "held by what this run stops first"


def test_of_an_inspected_container_its_environment_is_not_kept() -> None:
    document = {
        "Id": ID,
        "Name": "/vllm",
        "Config": {"Image": "i", "Env": ["HF_TOKEN=hunter2"], "Labels": None},
        "HostConfig": {
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "AutoRemove": False,
        },
        "NetworkSettings": {
            "Ports": {"8000/tcp": [{"HostIp": "", "HostPort": "80"}], "9/tcp": None}
        },
    }
    (container,) = takeover.parse_inspect(json.dumps([document, {"Id": 7}]), "docker")
    assert container == Container(ID, "vllm", "docker", "i", "on-failure:3", ports=[80])
    assert "hunter2" not in repr(container)


@pytest.mark.parametrize(
    ("inside", "address", "bind_address", "holds"),
    [
        ("8000/tcp", "", "10.0.0.1", True),
        ("8000/tcp", "0.0.0.0", "10.0.0.1", True),  # noqa: S104 (read, not bound)
        ("8000/tcp", "::", "10.0.0.1", True),
        ("8000/tcp", "10.0.0.1", "10.0.0.1", True),
        ("8000/tcp", "127.0.0.1", None, True),
        ("8000/tcp", "fd00:0::1", "fd00::1", True),
        ("8000/tcp", "127.0.0.1", "10.0.0.1", False),
        ("8000/udp", "", "10.0.0.1", False),
        ("8000/udp", "", None, False),
        ("8000/sctp", "10.0.0.1", "10.0.0.1", False),
    ],
)
def test_a_published_port_holds_the_plans_where_it_is_bound_as_that(
    inside: str, address: str, bind_address: str | None, holds: bool
) -> None:
    bound = {inside: [{"HostIp": address, "HostPort": "8000"}]}
    document = {"Id": ID, "Name": "/vllm", "NetworkSettings": {"Ports": bound}}
    found = takeover.parse_inspect(json.dumps([document]), "docker", bind_address)
    holders = takeover.holders_of(Seen({}, {}, found, ports=[8000]), "c")
    assert [one.entry["name"] for one in holders] == (["vllm"] if holds else [])


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_anything_else_that_is_printed_holds_no_container(text: str) -> None:
    assert takeover.parse_inspect(text, "docker") == []


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": 1, "entries": [{}]}', '{"schema": 2}']
)
def test_a_record_that_cannot_be_read_is_not_written_over(text: str, tmp_path: Path) -> None:
    files = NodeFiles(str(tmp_path))
    files.write(takeover.record_path("c"), text)
    with pytest.raises(takeover.TakeoverError, match=r"takeover/c\.json"):
        takeover_io.stop(files, "c", [only(seen_of(WORKER, PARENT, SHELL))])
    assert files.read(takeover.record_path("c")) == text


# --- what a run that is cut off leaves to the next one ------------------------------------------


class CutOff(Exception):
    """The node has lost its power."""


@dataclass
class Machine:
    """Containers and services as docker and systemctl have them, and a record; power may fail."""

    root: str
    restart: dict[str, str]
    file_state: dict[str, str]
    runs: set[str] = field(default_factory=set)
    steps_left: int = 10**6

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise CutOff

    @property
    def files(self) -> NodeFiles:
        machine = self

        class Files(NodeFiles):
            def write(self, path: str, text: str, mode: int | None = None) -> None:
                machine.step()
                super().write(path, text, mode)
                machine.step()

        return Files(self.root)

    def state(self) -> tuple[dict[str, str], dict[str, str], set[str]]:
        return dict(self.restart), dict(self.file_state), set(self.runs)

    def holders(self) -> list[Holder]:
        """What a look finds: all that runs, as it is now."""
        found = []
        for name in sorted(self.runs):
            process = Process(7, 1, "vllm", container_id=name, unit=name)
            service = Service(name, f"/etc/systemd/system/{name}", self.file_state.get(name, ""))
            container = Container(name, name, restart=self.restart.get(name, ""))
            here: dict[str, Any] = (
                {"containers": [container]}
                if name in self.restart
                else {"services": {name: service}}
            )
            there = process._replace(**{"unit" if name in self.restart else "container_id": ""})
            found.append(only(seen_of(there, **here)))
        return found

    def do(self, argv: Sequence[str], _timeout: float) -> Output:
        self.step()
        program, verb, *words = argv
        name = words[-1].rpartition("/")[2]
        if program == "docker" and verb == "update":
            self.restart[name] = words[0].partition("=")[2]
        elif verb in ("stop", "start"):
            (self.runs.add if verb == "start" else self.runs.discard)(name)
        elif verb in ("disable", "enable"):
            assert verb == "disable" or words[-1].startswith("/etc/")
            on = "enabled-runtime" if "--runtime" in words else "enabled"
            self.file_state[name] = on if verb == "enable" else "disabled"
        else:
            assert verb in ("mask", "unmask")
            self.file_state[name] = "masked" if verb == "mask" else "generated"
        self.step()
        return Output(0, "", "")


def run(machine: Machine, verb: str) -> None:
    if verb == "stop":
        takeover_io.stop(machine.files, "c", machine.holders(), machine.do)
    elif verb == "finish":
        takeover_io.finish(machine.files, "c")
    else:
        entries = takeover_io.read(machine.files, "c")
        chosen = takeover.unfinished(entries) if verb == "undo" else entries
        takeover_io.bring_back(machine.files, "c", chosen, verb == "return", machine.do)


containers = st.dictionaries(
    st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(["no", "always", "on-failure:5"])
)
services = st.dictionaries(
    st.sampled_from(["a.service", "b.service"]),
    st.sampled_from(["enabled", "disabled", "enabled-runtime", "generated", "static"]),
)


@settings(max_examples=300)
@given(
    containers,
    services,
    st.lists(
        st.tuples(st.sampled_from(["stop", "undo", "return"]), st.integers(0, 20)), max_size=4
    ),
    st.sampled_from(["undo", "return"]),
)
def test_whatever_is_cut_off_all_comes_back_as_it_was(
    restart: dict[str, str], file_state: dict[str, str], cuts: list[tuple[str, int]], end: str
) -> None:
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(root, dict(restart), dict(file_state), {*restart, *file_state})
        before = machine.state()
        for verb, steps in cuts:
            machine.steps_left = steps
            try:
                run(machine, verb)
            except CutOff:
                continue
        machine.steps_left = 10**6
        run(machine, "stop")
        assert machine.runs == set()
        stopped = takeover_io.read(machine.files, "c")
        assert {one["state"] for one in stopped} <= {takeover.STOPPING}
        assert takeover.to_stop(stopped) == []
        if end == "return":
            run(machine, "finish")
            assert takeover.unfinished(takeover_io.read(machine.files, "c")) == []
        run(machine, end)
        assert machine.state() == before
        # What runs again is nothing to remember.
        assert not machine.files.exists(takeover.record_path("c"))


@pytest.mark.parametrize(
    ("source", "remove"),
    [
        ("/etc/containers/systemd/v.container", "rm {} && systemctl unmask v.service"),
        ("", ""),
    ],
)
def test_a_generated_unit_goes_with_its_source(source: str, remove: str) -> None:
    path = "/run/systemd/generator/v.service"
    services = {"v.service": Service("v.service", path, "generated", source=source)}
    holder = only(seen_of(Process(7, 1, "vllm", unit="v.service"), services=services))
    (told,) = takeover.told([{**holder.entry, "lost": "", "state": "replaced"}])
    assert told["remove"] == remove.format(source)


def test_the_record_is_there_before_anything_stops_and_for_root_alone(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path), {"c1": "always"}, {}, {"c1"}, steps_left=2)
    with pytest.raises(CutOff):
        run(machine, "stop")
    assert machine.state() == ({"c1": "always"}, {}, {"c1"})
    record = tmp_path / takeover.record_path("c").lstrip("/")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    (entry,) = takeover.read_record(record.read_text())
    assert (entry["restart"], entry["state"]) == ("always", "stopping")


def test_what_a_cut_off_run_has_not_stopped_for_good_is_left_to_do(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path), {}, {"a.service": "enabled"}, {"a.service"})
    # It is stopped, and would start at boot.
    machine.steps_left = 4
    with pytest.raises(CutOff):
        run(machine, "stop")
    assert machine.state() == ({}, {"a.service": "enabled"}, set())
    machine.steps_left = 10**6
    assert takeover.to_stop(takeover_io.read(machine.files, "c"))
    run(machine, "stop")
    assert machine.file_state == {"a.service": "disabled"}
    assert takeover.to_stop(takeover_io.read(machine.files, "c")) == []
    # Somebody has started it again.
    begun = takeover.begun(
        takeover_io.read(machine.files, "c"),
        Machine(str(tmp_path), {}, {"a.service": "disabled"}, {"a.service"}).holders(),
        WHEN,
    )
    assert [one["file_state"] for one in takeover.to_stop(begun)] == ["enabled"]


@pytest.mark.parametrize("steps", range(12))
def test_what_was_half_brought_back_is_stopped_for_good_again(steps: int, tmp_path: Path) -> None:
    enabled = {"a.service": "enabled"}
    machine = Machine(str(tmp_path), {"c1": "always"}, enabled, {"c1", "a.service"})
    before = machine.state()
    run(machine, "stop")
    machine.steps_left = steps
    with contextlib.suppress(CutOff):
        run(machine, "undo")
    machine.steps_left = 10**6
    run(machine, "stop")
    assert machine.state() == ({"c1": "no"}, {"a.service": "disabled"}, set())
    run(machine, "undo")
    assert machine.state() == before


def test_what_a_second_takeover_stops_leaves_what_was_replaced_as_it_is(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path), {"c1": "always"}, {"a.service": "enabled"}, {"c1"})
    run(machine, "stop")
    run(machine, "finish")
    machine.runs = {"a.service"}
    run(machine, "stop")
    run(machine, "undo")
    assert machine.state() == ({"c1": "no"}, {"a.service": "enabled"}, {"a.service"})
    run(machine, "return")
    assert machine.restart == {"c1": "always"}
    assert machine.runs == {"a.service", "c1"}


def test_one_that_does_not_come_back_stays_in_the_record_and_the_others_come(
    tmp_path: Path,
) -> None:
    machine = Machine(str(tmp_path), {"c1": "no", "c2": "no", "c3": "no"}, {}, {"c1", "c2", "c3"})
    run(machine, "stop")
    # It itself is there, and something else is not.
    no_program = 'exec: "vllm": executable file not found in $PATH'
    answers = {"c1": Output(1, "", "No such container: c1"), "c2": Output(127, "", no_program)}

    def do(argv: Sequence[str], timeout: float) -> Output:
        return answers.get(argv[-1]) or machine.do(argv, timeout)

    chosen = takeover_io.read(machine.files, "c")
    back, problems = takeover_io.bring_back(machine.files, "c", chosen, True, do)
    assert [one["name"] for one in back] == ["c3"]
    assert problems[0].startswith(f"container c2: docker start c2 ended with rc 127: {no_program}")
    assert "c1: it is not on the node any more" in problems[1]
    assert [one["name"] for one in takeover_io.read(machine.files, "c")] == ["c2"]


@pytest.mark.parametrize(
    "text",
    [
        "Failed to start a.service: Unit a.service not found.",
        "Failed to enable unit: Unit file /etc/systemd/system/a.service does not exist.",
        "Error response from daemon: No such container: a.service",
        'Error: no container with name or ID "a.service" found: no such container',
    ],
)
def test_what_somebody_has_removed_meanwhile_is_forgotten(text: str, tmp_path: Path) -> None:
    machine = Machine(str(tmp_path), {}, {"a.service": "enabled"}, {"a.service"})
    run(machine, "stop")
    chosen = takeover_io.read(machine.files, "c")
    _back, (problem,) = takeover_io.bring_back(
        machine.files, "c", chosen, False, lambda _argv, _timeout: Output(1, "", text)
    )
    assert "not on the node any more" in problem
    assert takeover_io.read(machine.files, "c") == []


def test_a_process_that_was_ended_is_told_again_until_it_is_forgotten(tmp_path: Path) -> None:
    files = NodeFiles(str(tmp_path))
    holder = only(seen_of(WORKER, PARENT, SHELL))
    entries = takeover.begun([], [holder], WHEN)
    takeover_io.write(files, "c", entries)
    for forget in (False, True):
        chosen = takeover_io.read(files, "c")
        back, (problem,) = takeover_io.bring_back(files, "c", chosen, forget)
        assert back == []
        assert "cd /srv && vllm serve" in problem
    assert takeover_io.read(files, "c") == []


# --- on a machine -------------------------------------------------------------------------------

LISTENS = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(60)
"""


def test_who_listens_on_a_planned_port_is_found_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    inspected = [{"Id": ID, "Name": "/vllm", "NetworkSettings": {"Ports": {}}}]
    docker.write_text(
        f"#!/bin/sh\n[ $1 = ps ] && echo {ID} || echo '{json.dumps(inspected)}'\n", "ascii"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(takeover, "CLIENTS", ("docker",))
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):
            seen = takeover_io.look(
                {
                    "vendor": None,
                    "devices": [],
                    "device_nodes": [],
                    "ports": [str(port)],
                    "bind_address": "127.0.0.1",
                }
            )
        takeover_io.end([process.pid], grace=5)
    # Not this process, which is but connected to it.
    assert {pid: (*held.ports,) for pid, held in seen.holds.items()} == {process.pid: (port,)}
    found = seen.processes[process.pid]
    assert (found.cwd, found.argv[1:]) == (str(tmp_path), ["-c", LISTENS])
    assert found.parent == os.getpid()
    assert [one.name for one in seen.containers] == ["vllm"]


def test_a_process_that_does_not_mind_being_asked_is_killed() -> None:
    script = "trap '' TERM; echo; while :; do sleep 0.1; done"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        takeover_io.end([process.pid], grace=0.3)
        assert process.wait(5) == -9
    # It is over before that where it does.
    with subprocess.Popen(["sleep", "60"]) as process:
        takeover_io.end([process.pid, 2**22 + 1], grace=5)
        assert process.wait(5) == -15


def test_where_the_tool_does_not_tell_who_has_the_node_open_holds_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [
        {"device_id": 0, "processes": None},
        {"device_id": 1, "processes": [{"pid": 9}]},
        {"device_id": 2, "processes": []},
        {"device_id": 5, "processes": [{"pid": 8}]},
    ]
    monkeypatch.setattr(takeover_io, "_devices", lambda _vendor: devices)
    (tmp_path / "42" / "fd").mkdir(parents=True)
    for number in (0, 2):
        (tmp_path / "42" / "fd" / str(number)).symlink_to(f"/dev/davinci{number}")
    nodes = [f"/dev/davinci{number}" for number in range(3)]
    params = {"vendor": "ascend", "devices": [0, 1, 2], "device_nodes": nodes}
    held = takeover_io._device_holders(params, tmp_path)
    assert held == [(0, [42]), (1, [9]), (2, [])]


# --- the module ---------------------------------------------------------------------------------

# A docker that has one container, which publishes a port while it runs.
DOCKER = """\
import json, pathlib, sys
file = pathlib.Path(__file__).with_name("container.json")
container = json.loads(file.read_text())
words = sys.argv[1:]
if words[0] == "ps":
    print(container["Id"] if container["runs"] else "")
elif words[0] == "inspect":
    print(json.dumps([container]))
else:
    if words[0] == "update":
        container["HostConfig"]["RestartPolicy"]["Name"] = words[1].partition("=")[2]
    else:
        container["runs"] = words[0] == "start" or container["comes_back"]
    file.write_text(json.dumps(container))
"""


class Docker:
    """A node whose docker command is the above."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.files = NodeFiles(str(folder / "root"))
        self.container = folder / "bin" / "container.json"
        self.capsys = capsys
        program = folder / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\n{DOCKER}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setattr(takeover, "CLIENTS", ("docker",))
        monkeypatch.setattr(node_takeover, "NodeFiles", lambda: self.files)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.has()

    def has(self, **more: Any) -> None:
        document = {
            "Id": ID,
            "Name": "/vllm",
            "HostConfig": {"RestartPolicy": {"Name": "always"}, "AutoRemove": False},
            "NetworkSettings": {"Ports": {"8000/tcp": [{"HostPort": str(self.port)}]}},
            "runs": True,
            "comes_back": False,
        }
        self.container.write_text(json.dumps({**document, **more}))

    def seen(self) -> tuple[bool, str]:
        document = json.loads(self.container.read_text())
        return document["runs"], document["HostConfig"]["RestartPolicy"]["Name"]

    def call(self, state: str, **more: Any) -> dict[str, Any]:
        given = {"deployment": "c", "state": state, "ports": [str(self.port)], **more}
        with patch_module_args(given), pytest.raises(SystemExit):
            node_takeover.main()
        said: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return said


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Docker:
    return Docker(tmp_path, monkeypatch, capsys)


def test_the_module_stops_once_and_brings_back_once(docker: Docker) -> None:
    dry = docker.call("stopped", _ansible_check_mode=True)
    assert dry["changed"]
    assert dry["stopped"] == ["container vllm"]
    assert dry["diff"]["before"] == f"runs: container vllm, port {docker.port}\n"
    assert (docker.seen(), docker.files.exists("/var")) == ((True, "always"), False)
    assert docker.call("stopped")["diff"] == dry["diff"]
    assert docker.seen() == (False, "no")
    again = docker.call("stopped")
    # What was stopped before still counts as this takeover's.
    assert (again["changed"], again["stopped"]) == (False, ["container vllm"])
    assert [docker.call("replaced")["changed"] for _time in range(2)] == [True, False]
    assert docker.call("undone")["msg"] == "nothing was replaced here"
    dry = docker.call("returned", _ansible_check_mode=True)
    assert (dry["changed"], dry["msg"]) == (True, "container vllm would be started again")
    told = dry["replaced"]
    assert told[0]["can_return"]
    assert told[0]["back"] == f"docker update --restart=always {ID} && docker start {ID}"
    assert docker.call("returned")["msg"] == "container vllm was started again"
    assert docker.seen() == (True, "always")
    assert not docker.call("returned")["changed"]


def test_the_module_stops_nothing_that_a_stop_removes(docker: Docker) -> None:
    policy = {"RestartPolicy": {"Name": "no"}, "AutoRemove": True}
    docker.has(HostConfig=policy)
    said = docker.call("stopped")
    assert said["failed"]
    assert "nothing was stopped. container vllm holds" in said["msg"]
    assert docker.seen() == (True, "no")
    docker.call("stopped", for_good=True)
    assert docker.seen() == (False, "no")
    (told,) = docker.call("replaced")["replaced"]
    assert not told["can_return"]
    dry, said = (docker.call("returned", _ansible_check_mode=dry) for dry in (True, False))
    for one in (dry, said):
        assert (one["changed"], docker.seen()) == (False, (False, "no"))
        assert one["msg"].startswith("not brought back: container vllm: by hand: it was started")
    assert dry["diff"] == said["diff"] == {"before": "", "after": ""}


def test_the_module_says_that_it_stops_what_a_cut_off_run_has_not(docker: Docker) -> None:
    docker.call("stopped")
    # Cut off before its restart policy was changed.
    docker.has(runs=False)
    entries = takeover_io.read(docker.files, "c")
    takeover_io.write(docker.files, "c", takeover.marked(entries, entries, down=False))
    for dry in (True, False):
        said = docker.call("stopped", _ansible_check_mode=dry)
        assert (said["changed"], said["stopped"]) == (True, ["container vllm"])
        assert said["diff"]["before"] == f"left halfway: container vllm, port {docker.port}\n"
    assert docker.seen() == (False, "no")
    assert not docker.call("stopped")["changed"]


def test_what_is_started_again_by_something_else_is_told(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.has(comes_back=True)
    monkeypatch.setattr(takeover_io, "FREE_S", 0)
    said = docker.call("stopped")
    assert said["failed"]
    assert "look what starts it again" in said["msg"]
    docker.call("undone")
    assert docker.seen() == (True, "always")


@pytest.mark.parametrize("can_return", [True, False])
def test_return_leaves_a_cluster_as_it_is_where_nothing_can_come_back(
    can_return: bool, tmp_path: Path
) -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/return.yml").read_text())
    (guard,) = (
        task
        for task in play["tasks"][0]["block"]
        if task["name"] == "Leave a cluster as it is that has replaced nothing"
    )
    book = {"hosts": "all", "gather_facts": False, "tasks": [guard], "vars": play["vars"]}
    lost, kept = {"what": "process vllm", "can_return": False}, {"what": "c", "can_return": True}
    known = {"a": {"replaced": [lost]}, "b": {"replaced": [kept] if can_return else []}, "c": {}}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    said = {"msg": "by hand: vllm serve"}
    hosts = {name: {**local, "__return_known": {**said, **one}} for name, one in known.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "book.yml").write_text(yaml.safe_dump([book], sort_keys=False))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml"]
    done = subprocess.run(
        [*command, tmp_path / "book.yml", "-e", "__return_deployment=c"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    for words in ("c has replaced nothing that could come back", "by hand: vllm serve"):
        assert (words in " ".join(done.stdout.split())) == (not can_return)
    assert done.returncode == (0 if can_return else 2), done.stdout + done.stderr


def test_a_docker_that_does_not_answer_is_no_free_node(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\necho it hangs >&2; exit 1\n")
    params = {"devices": [], "device_nodes": [], "ports": [], "bind_address": None}
    state = takeover_io.state({**params, "deployment": "c", "vendor": None, "for_good": False})
    (check,) = state.checks
    assert (check["status"], bool(state.differs)) == ("failed", True)
    assert check["observed"] == "docker ps ended with rc 1: it hangs"
