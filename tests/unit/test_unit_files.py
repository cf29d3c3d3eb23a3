"""From a unit of the plan to the files that run it."""

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.programs import replica_link
from ansible_collections.muster.serving.plugins.module_utils.programs.replica_link import Memory
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files
from hypothesis import given
from hypothesis import strategies as st

PYTHON = "/usr/bin/python3"


def unit(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a2-cluster-r0-rank0",
        "host": "a2-node0",
        "replica": 0,
        "group": "replica-0",
        "role": "head",
        "device_nodes": ["/dev/davinci0", "/dev/davinci_manager"],
        "mounts": ["/usr/local/dcmi:/usr/local/dcmi:ro"],
        "env": {"HCCL_BUFFSIZE": "1024", "NAME": "a b $c %d 'e'"},
        "argv": ["vllm", "serve", "/models/m", "--max-num-seqs", "128", "--headless"],
        "image": "registry/vllm:1",
        "install": "container",
        "container": {
            "ipc": "host",
            "shm_size": "1200g",
            "privileged": False,
            "cap_add": ["SYS_NICE"],
            "group_add": [],
            "security_opt": [],
            "user": "0",
            "entrypoint": ["/bin/bash", "-c", 'exec "$@"', "muster"],
        },
        "restart": {"count": 3, "window_s": 3600},
        "systemd_unit": "muster-a2-cluster-r0-rank0.service",
        **changes,
    }


LINK = {
    "name": "a2-cluster-r0",
    "listen": "192.0.2.1",
    "port": 29551,
    "peers": ["192.0.2.2"],
    "units": ["muster-a2-cluster-r0-rank0.service"],
    "stall": {
        "patience_s": 120,
        "first_patience_s": 2100,
        "restarts": 2,
        "window_s": 12600,
        "apis": [
            {
                "systemd_unit": "muster-a2-cluster-r0-rank0.service",
                "url": "http://192.0.2.1:8000/v1",
                "model": "m",
                "api_key_env": "VLLM_API_KEY",
                "install": "container",
            }
        ],
    },
}


def test_the_agent_reads_what_is_written_for_it() -> None:
    config = replica_link.parse_config(unit_files.link_config(LINK, "start"))
    assert config.stall is not None
    assert config.stall.evidence == "/var/lib/muster/stalls/a2-cluster-r0"
    (api,) = config.stall.apis
    assert (api.key_file, api.key_name) == (unit_files.env_path(unit()), "VLLM_API_KEY")
    assert any(argv[0] == "npu-smi" for argv in config.stall.commands.values())
    alone = {**LINK, "port": None, "peers": []}
    assert replica_link.parse_config(unit_files.link_config(alone, "start")).port == 0


def test_a_link_of_a_plan_without_stall_watches_no_engine() -> None:
    older = {name: value for name, value in LINK.items() if name != "stall"}
    assert replica_link.parse_config(unit_files.link_config(older, "start")).stall is None


def test_the_agent_tells_prometheus_whose_units_they_are() -> None:
    limit = {"count": 3, "window_s": 3600}
    link = {**LINK, "deployment": "a2-cluster", "host": "a2-node0", "replica": 0, "restart": limit}
    metrics = replica_link.parse_config(unit_files.link_config(link, "start")).metrics
    assert metrics is not None
    assert metrics.labels == {"cluster": "a2-cluster", "node": "a2-node0", "replica": "0"}
    assert (metrics.starts, metrics.window_s) == (3, 3600)
    # Where the service may write although all else of the node is closed to it.
    service = unit_files.link_service({**link, "systemd_unit": "x"}, "/usr/bin/python3")
    (folder,) = re.findall(r"^RuntimeDirectory=(.+)$", service, re.M)
    assert metrics.file == f"/run/{folder}/a2-cluster-r0.prom"
    assert replica_link.parse_config(unit_files.link_config(LINK, "start")).metrics is None


NAME = "muster-a2-cluster-r0-rank0.service"


@pytest.mark.parametrize(
    ("state", "shown", "told"),
    [
        ("", {"ActiveState": "active", "InvocationID": "a"}, ""),
        ("[]", {"ActiveState": "active", "InvocationID": "a"}, ""),
        ('{"stalled": null}', {"ActiveState": "active", "InvocationID": "a"}, ""),
        ("stands", {"ActiveState": "active", "InvocationID": "a"}, "stalled since 12:00"),
        ("stands", {"ActiveState": "active", "InvocationID": "the next life"}, ""),
        ("stands", {"ActiveState": "inactive", "InvocationID": "a"}, "it stays down"),
        ("stands", {"ActiveState": "failed"}, "it stays down"),
    ],
)
def test_what_a_link_says_of_a_stall_is_told_of_that_life(
    state: str, shown: dict[str, str], told: str
) -> None:
    stands = {NAME: {"invocation": "a", "why": "stalled since 12:00"}}
    if state == "stands":
        state = json.dumps({"stalled": stands, "gave_up": "it stays down"})
    assert unit_files.stall_text(state, NAME, shown) == told


@pytest.mark.parametrize(
    ("hopeless", "life", "seconds"),
    [
        ([], "a1", "60"),
        (["a1"], "a1", "5"),
        (["b2", "a1"], "a1", "5"),
        # Ended earlier, or begun since: requests of this one may end.
        (["b2"], "a1", "60"),
        (None, "a1", "60"),
    ],
)
def test_what_an_agent_ends_is_not_waited_for(
    tmp_path: Path, hopeless: list[str] | None, life: str, seconds: str
) -> None:
    """The shell of ExecStop over what an agent really writes."""
    state = tmp_path / "c-r0.json"
    if hopeless is not None:
        memory = Memory("id", "boot", invocations={NAME: "a1"}, hopeless=hopeless)
        state.write_text(json.dumps(dataclasses.asdict(memory)))
    words = {"healthy": 60, "broken": 5, "state": state}
    script = f'{unit_files.STOP_SECONDS.format(**words)}; echo "$s"'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"INVOCATION_ID": life, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{seconds}\n", "")


@pytest.mark.parametrize(("planned", "stop_s"), [({"stop_timeout_s": 330}, 330), ({}, 30)])
@pytest.mark.parametrize("install", ["container", "venv"])
def test_systemd_waits_longer_than_the_stop_that_it_runs(
    planned: dict[str, int], stop_s: int, install: str
) -> None:
    argv = ["/opt/muster/venvs/v/bin/vllm", "serve"] if install == "venv" else ["vllm", "serve"]
    text = unit_files.service(unit(install=install, argv=argv, **planned), PYTHON)
    assert f"TimeoutStopSec={stop_s + 30}" in text
    assert f"s={stop_s};" in text
    assert unit_files.link_state_path("a2-cluster-r0") in text


def test_a_gateway_has_no_agent_whose_word_counts() -> None:
    text = unit_files.service(unit(name="a2-cluster-gateway0"), PYTHON)
    assert "s=30; exec /usr/bin/docker stop" in text
    assert "grep" not in text


def test_the_container_gets_what_the_plan_says_and_no_more() -> None:
    argv = unit_files.docker_argv(unit())
    assert "--privileged" not in argv
    assert "--shm-size" not in argv, "without effect beside --ipc host"
    assert argv[argv.index("--cap-add") + 1] == "SYS_NICE"
    devices = [argv[i + 1] for i, word in enumerate(argv) if word == "--device"]
    assert devices == ["/dev/davinci0", "/dev/davinci_manager"]
    image = argv.index("registry/vllm:1")
    assert argv[image - 2 : image] == ["--entrypoint", "/bin/bash"]
    assert argv[image + 1 : image + 6] == ["-c", 'exec "$@"', "muster", "vllm", "serve"]


def test_without_an_entrypoint_the_engine_is_started_itself() -> None:
    container = {**unit()["container"], "entrypoint": None, "ipc": None}
    argv = unit_files.docker_argv(unit(container=container))
    image = argv.index("registry/vllm:1")
    assert argv[image - 2 : image + 2] == ["--entrypoint", "vllm", "registry/vllm:1", "serve"]
    assert argv[argv.index("--shm-size") + 1] == "1200g"


def test_the_log_is_kept_once_by_the_journal() -> None:
    argv = unit_files.docker_argv(unit())
    options = argv[: argv.index("registry/vllm:1")]
    assert options[options.index("--log-driver") + 1] == "none"
    # In the foreground, with its output left to the service's own.
    assert not {"--detach", "-d"} & set(options)
    assert "StandardOutput" not in unit_files.service(unit(), PYTHON)


def test_a_start_waits_for_docker(tmp_path: Path) -> None:
    """Docker here answers from the third question on."""
    docker, asked = tmp_path / "docker", tmp_path / "asked"
    docker.write_text(f"#!/bin/sh\necho >> {asked}\ntest $(wc -l < {asked}) -ge 3\n")
    docker.chmod(0o755)
    wait = unit_files.AWAIT_DOCKER.replace(unit_files.DOCKER, str(docker))
    subprocess.run(["/bin/sh", "-c", wait], check=True, timeout=30)
    assert len(asked.read_text()) == 3
    text = unit_files.service(unit(), PYTHON)
    assert text.index(unit_files.AWAIT_DOCKER) < text.index("docker rm --force")


def test_before_each_start_the_logs_that_an_engine_writes_itself_are_bounded() -> None:
    own = "/var/log/muster/a2-cluster-r0-rank0/plog"
    logs = unit(mounts=[f"{own}:/root/ascend/log"])
    lines = unit_files.service(logs, PYTHON).splitlines()
    bound = lines.index(f"ExecStartPre=+-{PYTHON} {unit_files.LOG_PROGRAM} {own}")
    assert bound > lines.index(
        "ExecStartPre=-/usr/bin/docker rm --force muster-a2-cluster-r0-rank0"
    ), "what still runs would go on writing"
    assert unit_files.LOG_PROGRAM not in unit_files.service(unit(), PYTHON)


@pytest.mark.parametrize(
    "source",
    [
        "/var/log/muster",
        "/var/log/muster/a2-cluster-r0-rank0/../../../etc",
        "/var/log/muster/another-r0-rank0/plog",
        "/data/logs",
    ],
)
def test_nothing_but_a_units_own_logs_is_ever_removed(source: str) -> None:
    assert unit_files.log_folders(unit(mounts=[f"{source}:/root/ascend/log"])) == []


def test_how_a_unit_logs_restarts_nothing() -> None:
    logs = unit(mounts=["/var/log/muster/a2-cluster-r0-rank0/plog:/root/ascend/log"])
    effective = json.dumps(unit_files.effective(logs, None, {}))
    assert "log-driver" not in effective
    assert unit_files.LOG_PROGRAM not in effective


def test_gpus_are_given_so_that_systemd_knows_of_them() -> None:
    argv = unit_files.docker_argv(unit(container={**unit()["container"], "gpus": [0, 3]}))
    assert argv[argv.index("--device-cgroup-rule") + 1] == "c 195:* rw"
    assert argv[argv.index("--device") + 1] == "/dev/nvidia-uvm"
    # No GPU by name: /dev/nvidiaN may be another than the tools count as N.
    assert not [word for word in argv if re.fullmatch(r"/dev/nvidia[0-9]+", word)]
    text = unit_files.service(unit(container={**unit()["container"], "gpus": [0, 3]}), PYTHON)
    assert "nvidia-modprobe" in text
    alone = unit(container={**unit()["container"], "gpus": []})
    assert "--device-cgroup-rule" not in unit_files.docker_argv(alone)
    assert "nvidia-modprobe" not in unit_files.service(alone, PYTHON)


def test_a_release_that_gives_gpus_otherwise_restarts_nothing() -> None:
    one = unit(container={**unit()["container"], "gpus": [0]})
    assert not [text for text in unit_files.effective(one, "i", {}).values() if "195" in text]


def test_gpus_are_one_value_of_dockers_csv() -> None:
    argv = unit_files.docker_argv(unit(container={**unit()["container"], "gpus": [0, 3]}))
    assert argv[argv.index("--gpus") + 1] == '"device=0,3"'
    assert r'--gpus "\"device=0,3\""' in unit_files.service(
        unit(container={**unit()["container"], "gpus": [0, 3]}), PYTHON
    )
    assert "--gpus" not in unit_files.docker_argv(
        unit(container={**unit()["container"], "gpus": []})
    )


def venv_unit(**changes: Any) -> dict[str, Any]:
    argv = ["/opt/muster/venvs/vllm-1/bin/vllm", "serve", "/models/m"]
    return unit(install="venv", image=None, argv=argv, **changes)


def test_a_unit_without_a_container_runs_its_program_as_a_user_of_its_own() -> None:
    text = unit_files.service(venv_unit(), PYTHON)
    assert "ExecStart=/opt/muster/venvs/vllm-1/bin/vllm serve /models/m\n" in text
    assert "User=muster\n" in text
    assert "docker" not in text
    assert "EnvironmentFile=/etc/muster/a2-cluster-r0-rank0.env\n" in text
    assert "PATH=/opt/muster/venvs/vllm-1/bin:" in text


def test_restarts_and_logs_do_not_depend_on_how_an_engine_is_installed() -> None:
    kept = ("Restart", "StartLimit", "Timeout", "Kill", "Syslog", "LogRate", "WantedBy", "Type")
    both = [
        [line for line in unit_files.service(one, PYTHON).splitlines() if line.startswith(kept)]
        for one in (unit(), venv_unit())
    ]
    assert both[0] == both[1]
    assert len(both[0]) >= len(kept)


def test_without_a_container_values_are_quoted_as_systemd_reads_them() -> None:
    environment = unit_files.env_file(venv_unit(), {"VLLM_API_KEY": 's"cret'})
    assert "NAME=\"a b \\$c %d 'e'\"\n" in environment
    assert 'VLLM_API_KEY="s\\"cret"\n' in environment


def test_another_environment_is_a_difference_and_the_image_is_none() -> None:
    before = unit_files.effective(venv_unit(), "sha256:1", {})
    after = unit_files.effective(venv_unit(), None, {})
    assert unit_files.differences(before, after) == [
        {"name": "environment id", "current": "sha256:1", "desired": unit_files.NOT_PRESENT}
    ]
    assert before["environment"] == "/opt/muster/venvs/vllm-1"
    assert not {"image", "devices", "mounts"} & set(before)


def test_a_files_text_counts_and_its_path_is_known_afterwards() -> None:
    before = unit_files.effective(unit(files={"/etc/muster/x/a.cfg": "one"}), None, {})
    after = unit_files.effective(unit(files={"/etc/muster/x/a.cfg": "two"}), None, {})
    [row] = unit_files.differences(before, after)
    assert row["name"] == "file /etc/muster/x/a.cfg"
    assert unit_files.file_paths(before) == ["/etc/muster/x/a.cfg"]
    assert unit_files.file_paths(unit_files.effective(unit(), None, {})) == []


@pytest.mark.parametrize(
    ("path", "removable"),
    [
        ("/etc/muster/x.cfg", True),
        ("/etc/muster/x/y.cfg", True),
        ("/etc/muster/../passwd", False),
        ("/etc/muster", False),
        ("/etc/haproxy/haproxy.cfg", False),
    ],
)
def test_only_files_among_musters_own_go_with_a_unit(path: str, removable: bool) -> None:
    assert unit_files.is_removable(path) is removable


def test_a_release_that_knows_more_finds_no_difference_in_what_runs() -> None:
    state = {
        "image": "registry/vllm:1",
        "image id": "sha256:1",
        "argv": "vllm serve /models/m",
        "argv --headless": "",
        "argv --max-num-seqs": "128",
        "container cap_add": '["SYS_NICE"]',
        "container entrypoint": json.dumps(unit()["container"]["entrypoint"]),
        "container ipc": "host",
        "container shm_size": "1200g",
        "container user": "0",
        "devices": "/dev/davinci0 /dev/davinci_manager",
        "env HCCL_BUFFSIZE": "1024",
        "env NAME": "a b $c %d 'e'",
        "mounts": "/usr/local/dcmi:/usr/local/dcmi:ro",
        "restart": "3 in 3600 s",
    }
    wanted = unit_files.effective(unit(files={}, first_start=None), "sha256:1", {})
    assert unit_files.differences(state, wanted) == []


def test_environment_and_secrets_stay_out_of_the_unit_file() -> None:
    text = unit_files.service(unit(), PYTHON)
    assert "HCCL_BUFFSIZE" not in text
    environment = unit_files.env_file(unit(), {"VLLM_API_KEY": "s3cret"})
    assert "HCCL_BUFFSIZE=1024\n" in environment
    assert "NAME=a b $c %d 'e'\n" in environment, "Docker takes values literally"
    assert "VLLM_API_KEY=s3cret\n" in environment


def test_a_line_break_cannot_stand_in_the_env_file() -> None:
    with pytest.raises(ValueError, match=r"VLLM_API_KEY.*line break"):
        unit_files.env_file(unit(), {"VLLM_API_KEY": "a\nb"})


def test_the_restart_budget_reaches_systemd() -> None:
    text = unit_files.service(unit(), PYTHON)
    assert "Restart=always\n" in text
    assert "StartLimitBurst=3\nStartLimitIntervalSec=3600\n" in text


def test_a_changed_flag_is_one_difference() -> None:
    before = unit_files.effective(unit(), "sha256:1", {})
    argv = ["vllm", "serve", "/models/m", "--max-num-seqs", "64", "--headless"]
    after = unit_files.effective(unit(argv=argv), "sha256:1", {})
    assert unit_files.differences(before, after) == [
        {"name": "argv --max-num-seqs", "current": "128", "desired": "64"}
    ]


def test_the_order_of_flags_and_mounts_is_no_difference() -> None:
    mounts = ["/a:/a", "/b:/b"]
    argv = ["vllm", "serve", "/models/m", "--headless", "--max-num-seqs", "128"]
    assert unit_files.effective(unit(mounts=mounts), None, {}) == unit_files.effective(
        unit(mounts=mounts[::-1], argv=argv), None, {}
    )


def test_a_secret_is_never_shown() -> None:
    before = unit_files.effective(unit(), None, {"VLLM_API_KEY": "old-key"})
    after = unit_files.effective(unit(), None, {"VLLM_API_KEY": "new-key"})
    rows = unit_files.differences(before, after)
    assert rows == [
        {"name": "secret VLLM_API_KEY", "current": "<secret>", "desired": "<another secret>"}
    ]
    shown = unit_files.diff_text(after) + json.dumps(rows)
    for secret in before["secret VLLM_API_KEY"], after["secret VLLM_API_KEY"], "new-key":
        assert secret not in shown


@given(st.lists(st.text(min_size=1)))
def test_any_argv_can_be_compared(words: list[str]) -> None:
    flat = unit_files.flatten_argv(words)
    assert all(key.startswith("argv") for key in flat)
    for word in words:
        assert any(word in f"{key} {value}" for key, value in flat.items())


@pytest.mark.parametrize(
    ("shown", "before", "ended"),
    [
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "0"}, 0, False),
        ({"ActiveState": "activating", "SubState": "start-pre", "NRestarts": "0"}, 0, False),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "0"}, 0, True),
        ({"ActiveState": "activating", "SubState": "auto-restart-queued"}, 0, True),
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "1"}, 0, True),
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "1"}, 1, False),
        ({"ActiveState": "failed", "SubState": "failed"}, 0, True),
        ({"ActiveState": "inactive", "SubState": "dead"}, 0, True),
        ({"ActiveState": "active", "NRestarts": "[not set]"}, 0, False),
    ],
)
def test_has_ended(shown: dict[str, str], before: int, ended: bool) -> None:
    assert unit_files.has_ended(shown, before) is ended
