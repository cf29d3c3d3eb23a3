"""What of a deployment goes from a node, what stays, and that nothing else is ever touched."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import Output
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    Notes,
    dump_notes,
    notes_path,
)
from ansible_collections.muster.serving.plugins.module_utils.engine.venv import (
    CACHE_DIR,
    PYTHON_DIR,
    USER,
    UV_HOME,
    Marker,
    marker_path,
)
from ansible_collections.muster.serving.plugins.module_utils.host import docker, tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.node import uninstall, uninstall_io
from ansible_collections.muster.serving.plugins.module_utils.node.uninstall import (
    ORDER,
    PLACES,
    Decision,
    Image,
    Seen,
    Step,
    Wishes,
    decide,
    place_of,
)
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_address,
    gateway_admin,
    links_io,
    names,
    unit_files,
    unit_io,
    verified,
)
from ansible_collections.muster.serving.plugins.module_utils.units.names import deployment_of
from ansible_collections.muster.serving.plugins.module_utils.weights.hashes import (
    cache_path,
    cache_text,
)
from ansible_collections.muster.serving.plugins.modules import (
    node_uninstall,
    uninstall_info,
    unit_state,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import gateway
from ansible_collections.muster.serving.plugins.plugin_utils.plan.venvs import VENVS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.plan_support import pair, plan

ALL = Wishes(images=True, caches=True, logs=True)
NONE = Wishes()
WANTS = f"{unit_files.SYSTEMD_DIR}/multi-user.target.wants"
# What an operator may have laid there, near to what Muster's own is called.
FOREIGN = (
    "/etc/muster/api-key",
    "/etc/muster/recipes/own.yml",
    "/etc/muster/a-r0-rank0.env.bak",
    "/etc/systemd/system/muster-a.service",
    "/etc/systemd/system/vllm.service",
    "/var/lib/muster/models/config.json",
    "/var/lib/muster/notes.txt",
    "/var/lib/muster/cache/shared/kernel.so",
    "/var/lib/muster/verified/README",
    "/var/log/muster/mine.log",
    "/usr/local/lib/muster/tool.sh",
    "/opt/muster/own/file",
    "/opt/muster/venvs/notes.txt",
    "/var/cache/muster/other/file",
    "/data/models/m/model.safetensors",
)


def units_of(deployment: str, ranks: int = 2, gateways: int = 0) -> list[str]:
    return [names.rank_name(deployment, 0, rank) for rank in range(ranks)] + [
        names.gateway_name(deployment, index) for index in range(gateways)
    ]


def install(
    files: NodeFiles,
    deployment: str,
    *,
    ranks: int = 2,
    gateways: int = 0,
    venv: str = "",
    image: str = "",
    peers: tuple[str, ...] = (),
) -> set[str]:
    """Put on a node what serve, verify and the engines do, and return all paths of files."""
    written: dict[str, str] = {}
    units = units_of(deployment, ranks, gateways)
    for name in units:
        unit = {"name": name}
        is_gateway = name in names.gateways_of([name])
        read = {f"/etc/muster/{name}/haproxy.cfg": "cfg"} if is_gateway else {}
        effective = {f"file {path}": "0" for path in read}
        effective |= {"environment": venv} if venv else {"image": image, "image id": image}
        record = {"deployment": deployment, "effective": effective}
        written |= read
        written[unit_files.env_path(unit)] = "KEY=secret"
        written[unit_files.unit_path(names.service(name))] = "[Service]"
        written[f"{WANTS}/{names.service(name)}"] = "[Service]"
        written[unit_files.state_path(name)] = json.dumps(record)
        if is_gateway:
            written[gateway_admin.admin_socket(name)] = ""
        else:
            home = (
                f"{unit_files.HOME_DIR}/{name}/.cache" if venv else f"/var/lib/muster/cache/{name}"
            )
            written[f"{home}/kernels/k.so"] = "code"
            written[f"/var/log/muster/{name}/plog/debug.log"] = "log"
    for link in names.links_of(units):
        config = {"listen": "10.0.0.1", "port": 1, "peers": list(peers)}
        written[unit_files.link_config_path(link)] = json.dumps(config)
        written[unit_files.unit_path(names.link_service(link))] = "[Service]"
        written[f"{WANTS}/{names.link_service(link)}"] = "[Service]"
        written[unit_files.link_state_path(link)] = "{}"
        written[f"{unit_files.STALLS_DIR}/{link}/2026/why"] = "stood still"
    if gateways:
        written[gateway_address.config_path(deployment)] = "vrrp"
        written[gateway_address.service_path(deployment)] = "[Service]"
    written[verified.record_path(deployment)] = json.dumps({"engines": {"u": image or venv}})
    for path, text in written.items():
        files.write(path, text)
    return {*written}


def share(files: NodeFiles) -> set[str]:
    """Put on a node what all deployments have together, and return all paths of files."""
    written = dict.fromkeys(links_io.PROGRAMS, "code")
    written[unit_files.LOG_PROGRAM] = written[gateway_address.PROBE_PATH] = "code"
    written[f"{unit_files.PROGRAMS_DIR}/__pycache__/stall_watch.cpython-311.pyc"] = "code"
    written[cache_path("/data/models/m")] = cache_text("/data/models/m", {})
    written[f"/var/lib/muster/parser/{'0' * 64}.json"] = "{}"
    written[notes_path("sha256:00ff")] = dump_notes("sha256:00ff", Notes())
    written["/var/lib/muster/units/.muster-abcd1234"] = "half a fi"
    written["/etc/sysctl.d/.muster-abcd1234"] = "half a fi"
    for path, text in written.items():
        files.write(path, text)
    return {*written}


def lay(files: NodeFiles, paths: tuple[str, ...] = FOREIGN) -> set[str]:
    for path in paths:
        files.write(path, "an operator's own")
    return {*paths}


def environment(files: NodeFiles, name: str) -> str:
    path = f"{VENVS}/{name}"
    files.write(f"{path}/pyvenv.cfg", "home = /usr/bin")
    files.write(f"{path}/lib/vllm.py", "code")
    files.write(marker_path(path), Marker("sha256:1", []).dump())
    return path


def tree(files: NodeFiles) -> set[str]:
    """Return all files, and folders that are empty."""
    found = set()
    for folder, below, here in os.walk(files.root):
        inside = "/" + os.path.relpath(folder, files.root)
        found |= {os.path.join(inside, name) for name in here}
        if not below and not here:
            found.add(inside)
    return found


def left_files(files: NodeFiles) -> set[str]:
    return {path for path in tree(files) if not os.path.isdir(files.path(path))}


class Tools:
    """Stands in for systemctl, docker and userdel: answers and keeps what it was asked."""

    def __init__(self, images: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.images = {key: dict(value) for key, value in (images or {}).items()}
        self.containers: dict[str, str] = {}
        self.answers: dict[str, Output] = {}

    def run(self, argv: list[str], timeout: float, stdin: str = "") -> Output:
        del timeout, stdin
        self.asked.append(argv)
        words = [os.path.basename(argv[0]), *argv[1:]]
        for start, answer in self.answers.items():
            if " ".join(words).startswith(start):
                return answer
        if words[:3] == ["docker", "image", "inspect"]:
            found = self.images.get(words[3])
            if found is None:
                return Output(1, "", f"Error: No such image: {words[3]}")
            return Output(0, json.dumps([{"Id": words[3], **found}]), "")
        if words[:3] == ["docker", "image", "rm"]:
            return self.remove_image(words[3])
        if words[:2] == ["docker", "ps"]:
            return Output(0, "\n".join(self.containers), "")
        if words[:2] == ["docker", "inspect"]:
            lines = [f"{image} /{name}" for name, image in self.containers.items()]
            return Output(0, "\n".join(lines), "")
        return Output(0, "", "")

    def remove_image(self, name: str) -> Output:
        for image_id, image in list(self.images.items()):
            if name in image["RepoTags"]:
                image["RepoTags"].remove(name)
                # As Docker does with the last tag of a repository.
                image["RepoDigests"] = []
            if name == image_id or not image["RepoTags"]:
                del self.images[image_id]
                return Output(0, "Deleted", "")
        return Output(1, "", f"Error: No such image: {name}")


@contextmanager
def tools(fake: Tools) -> Iterator[Tools]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uninstall_io, "run", fake.run)
        patch.setattr(uninstall_io, "has_docker", lambda: True)
        yield fake


def remove(
    files: NodeFiles, deployment: str, wishes: Wishes = NONE, fake: Tools | None = None
) -> Decision:
    with tools(fake or Tools()):
        seen = uninstall_io.look(files, deployment, wishes)
        decision = decide(seen, deployment, wishes)
        assert uninstall_io.remove(files, seen, decision) == {}
    return decision


def why(decision: Decision) -> dict[str, str]:
    return {stay.what: stay.why for stay in decision.stays}


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    return NodeFiles(str(tmp_path))


def test_nothing_is_left_of_the_only_deployment(files: NodeFiles) -> None:
    install(files, "a", gateways=1)
    share(files)
    decision = remove(files, "a", ALL)
    # What the distribution made, in the folders that are its own.
    left = {path for path in tree(files) if "muster" in path}
    assert left == set()
    assert {"/etc/muster", "/var/lib/muster", "/usr/local/lib/muster"} & set(tree(files)) == set()
    assert why(decision)["journal of muster-a-*"]
    assert why(decision)["the package keepalived"]


def test_without_being_asked_caches_and_logs_stay_and_are_told(files: NodeFiles) -> None:
    install(files, "a", ranks=1)
    decision = remove(files, "a")
    assert left_files(files) == {
        "/var/lib/muster/cache/a-r0-rank0/kernels/k.so",
        "/var/log/muster/a-r0-rank0/plog/debug.log",
    }
    assert why(decision)["/var/lib/muster/cache/a-r0-rank0"] == (
        "-e uninstall_caches=true removes it"
    )
    assert why(decision)["/var/log/muster/a-r0-rank0"] == "-e uninstall_logs=true removes it"
    # What stays for one reason in one folder is one line.
    install(files, "a", ranks=2)
    told = why(remove(files, "a"))
    assert "/var/log/muster: a-r0-rank0, a-r0-rank1" in told


def test_the_record_of_what_was_replaced_stays_for_the_way_back(files: NodeFiles) -> None:
    install(files, "a")
    files.write("/var/lib/muster/takeover/a.json", "{}")
    decision = remove(files, "a", ALL)
    assert why(decision)["/var/lib/muster/takeover/a.json"] == uninstall.NOTE_REPLACED
    assert files.exists("/var/lib/muster/takeover/a.json")


@pytest.mark.parametrize("service", ["a-r0-rank0", "a-r0-link", "a-gateway0", "a-address"])
def test_what_an_operator_gave_a_service_stays_and_is_told(files: NodeFiles, service: str) -> None:
    install(files, "a", gateways=1)
    folder = f"/etc/systemd/system/muster-{service}.service.d"
    files.write(f"{folder}/override.conf", "[Service]\nNice=-5\n")
    files.write("/etc/systemd/system/muster-b-r0-rank0.service.d/override.conf", "")
    decision = remove(files, "a", ALL)
    assert files.exists(f"{folder}/override.conf")
    assert why(decision)[folder] == uninstall.NOTE_DROP_IN
    assert not any("muster-b-" in what for what in why(decision))
    # A second run has nothing to do, and tells it still.
    again = remove(files, "a", ALL)
    assert (again.steps, why(again)) == ([], {folder: uninstall.NOTE_DROP_IN})


def test_a_second_time_there_is_nothing_and_what_stays_is_told_again(files: NodeFiles) -> None:
    install(files, "a", gateways=1)
    share(files)
    lay(files)
    first = remove(files, "a")
    fake = Tools()
    second = remove(files, "a", fake=fake)
    assert second.steps == []
    assert fake.asked == [], "nothing is to be reloaded"
    assert {stay.what for stay in second.stays} <= {stay.what for stay in first.stays}
    assert why(second)["/etc/muster: a-r0-rank0.env.bak, api-key"] == "Muster did not make it"
    # What stayed goes once it is asked for.
    third = remove(files, "a", Wishes(logs=True))
    assert {step.kind for step in third.steps} == {"log"}


def test_what_two_deployments_share_goes_with_the_last(files: NodeFiles) -> None:
    install(files, "a")
    other = install(files, "b", gateways=1)
    shared = share(files)
    decision = remove(files, "a", ALL)
    assert other | shared <= tree(files)
    assert why(decision)["b, another deployment (b-gateway0, b-r0-rank0, b-r0-rank1)"] == (
        "to remove it, too: -e muster_cluster=b"
    )
    assert any(reason == "b may use it, too" for reason in why(decision).values())
    remove(files, "b", ALL)
    assert not (other | shared) & tree(files)


def test_a_deployment_that_is_only_prepared_keeps_what_it_shares(files: NodeFiles) -> None:
    install(files, "a")
    shared = share(files)
    path = environment(files, "vllm-1")
    files.write(docker.STATE_PATH, json.dumps({"deployments": {"b": {}}}))
    decision = remove(files, "a", ALL)
    assert shared <= tree(files)
    assert why(decision)[path] == "b is prepared here and may start from it"
    assert why(decision)[docker.STATE_PATH] == "what b wants of the node stays in force"


def test_what_another_gateway_reads_stays(files: NodeFiles) -> None:
    install(files, "a", gateways=1)
    install(files, "b", gateways=1)
    path = "/etc/muster/a-gateway0/haproxy.cfg"
    record = {"deployment": "b", "effective": {f"file {path}": "0"}}
    files.write(unit_files.state_path("b-gateway0"), json.dumps(record))
    assert why(remove(files, "a"))[path] == "units of another deployment read it"
    assert path in tree(files)


def test_a_file_beside_a_gateways_own_stays_with_its_folder(files: NodeFiles) -> None:
    install(files, "a", ranks=0, gateways=1)
    lay(files, ("/etc/muster/a-gateway0/own.pem",))
    assert why(remove(files, "a"))["/etc/muster/a-gateway0/own.pem"] == "Muster did not make it"
    assert "/etc/muster/a-gateway0/own.pem" in tree(files)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/muster/a-r0-rank0.env",
        "/etc/muster/a-r0.link.json",
        "/etc/systemd/system/muster-a-r0-link.service",
        f"{WANTS}/muster-a-r0-rank0.service",
        "/etc/muster/a.address.conf",
        "/var/lib/muster/links/a-r0.json",
    ],
)
def test_what_a_cut_off_removal_left_is_found_by_its_name(files: NodeFiles, path: str) -> None:
    files.write(path, "{}")
    assert [step.name for step in remove(files, "a").steps] == [path]
    assert path not in tree(files)


def test_the_folder_that_a_cut_off_removal_emptied_goes(files: NodeFiles) -> None:
    os.makedirs(files.path("/etc/muster/a-gateway0"))
    os.makedirs(files.path("/etc/muster/own"))
    decision = remove(files, "a")
    assert tree(files) == {"/etc/muster/own"}
    assert why(decision) == {"/etc/muster/own": "Muster did not make it"}


@pytest.mark.parametrize("count", range(0, 40, 4))
def test_a_removal_that_was_cut_off_is_made_up_for(files: NodeFiles, count: int) -> None:
    install(files, "a", ranks=1, gateways=1)
    share(files)
    mine = lay(files)
    environment(files, "vllm-1")
    fake = Tools()
    with tools(fake):
        seen = uninstall_io.look(files, "a", ALL)
        decision = decide(seen, "a", ALL)
        cut = decision._replace(steps=decision.steps[:count], folders=[])
        uninstall_io.remove(files, seen, cut)
    remove(files, "a", ALL)
    assert left_files(files) == mine


def test_what_says_whose_things_are_goes_last() -> None:
    assert ORDER[-2:] == ("verified", "record")
    # What takeover.yml replaced comes back by its record, so that never goes.
    # What an operator gave a service is his.
    assert {place.kind for place in PLACES} - {"takeover", "drop-in"} <= set(ORDER)


def test_an_environment_is_known_for_one_until_it_has_gone(files: NodeFiles, monkeypatch) -> None:
    path = environment(files, "vllm-1")
    removed: list[str] = []
    real = NodeFiles.remove
    monkeypatch.setattr(
        NodeFiles, "remove", lambda self, one: (removed.append(one), real(self, one))
    )
    uninstall_io.remove_path(files, path, {})
    assert removed[0] == f"{path}/lib/vllm.py"
    assert {*removed[-2:]} == {f"{path}/pyvenv.cfg", marker_path(path)}
    assert not files.exists(path)


def test_systemd_is_told_once_all_services_have_gone(files: NodeFiles) -> None:
    install(files, "a", ranks=1)
    fake = Tools()
    with tools(fake):
        seen = uninstall_io.look(files, "a", NONE)
        steps = [step for step in decide(seen, "a", NONE).steps if step.kind == "service"]
        # Killed before systemd is told.
        for step in steps:
            files.remove(step.name)
    remove(files, "a", fake=fake)
    assert ["systemctl", "daemon-reload"] in fake.asked


def test_a_systemd_that_does_not_reload_is_an_error(files: NodeFiles) -> None:
    install(files, "a")
    fake = Tools()
    fake.answers["systemctl daemon-reload"] = Output(1, "", "Connection refused")
    with pytest.raises(uninstall_io.UninstallError, match="Connection refused"):
        remove(files, "a", fake=fake)
    # What says that units were here is left for the next try.
    assert files.exists(unit_files.state_path("a-r0-rank0"))


# Weights and mounts


def test_weights_in_a_cache_stay_and_the_rest_of_it_goes(files: NodeFiles) -> None:
    install(files, "a", ranks=1)
    cache = "/var/lib/muster/cache/a-r0-rank0"
    kept = lay(
        files,
        (f"{cache}/huggingface/hub/m/config.json", f"{cache}/old/model-1.safetensors"),
    )
    decision = remove(files, "a", ALL)
    assert left_files(files) == kept
    assert "weights are never removed" in why(decision)[f"{cache}/huggingface"]
    assert remove(files, "a", ALL).steps == []


def test_what_is_mounted_below_a_cache_is_not_entered(files: NodeFiles, monkeypatch) -> None:
    install(files, "a", ranks=1)
    share_of = "/var/lib/muster/cache/a-r0-rank0/nfs"
    kept = lay(files, (f"{share_of}/others",))
    real = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda one: one == files.path(share_of) or real(one))
    assert why(remove(files, "a", ALL))[share_of] == "something is mounted there"
    assert kept <= tree(files)


def test_a_folder_of_the_same_file_system_that_is_mounted_is_not_entered_either(
    files: NodeFiles,
) -> None:
    install(files, "a", ranks=1)
    shared = "/var/lib/muster/cache/a-r0-rank0/of all"
    kept = lay(files, (f"{shared}/others",))
    # As the kernel tells of mount --bind.
    told = f"90 26 8:1 /srv/shared {shared} rw - ext4 /dev/sda1 rw\n".replace(
        "of all", "of\\040all"
    )
    kept |= lay(files, ("/proc/self/mountinfo",))
    files.write("/proc/self/mountinfo", told)
    assert why(remove(files, "a", ALL))[shared] == "something is mounted there"
    assert left_files(files) == kept


def test_a_link_is_removed_and_not_followed(files: NodeFiles) -> None:
    install(files, "a", ranks=1)
    kept = lay(files, ("/data/models/m/model.safetensors",))
    files.link("/var/lib/muster/cache/a-r0-rank0/m", files.path("/data/models/m"))
    remove(files, "a", ALL)
    assert left_files(files) == kept


def test_weights_that_were_hashed_are_named(files: NodeFiles) -> None:
    install(files, "a")
    share(files)
    assert why(remove(files, "a"))["/data/models/m"] == "weights are never removed"


# Images, environments and the engines' user

ID = "sha256:" + "a" * 64
TAGS = {"RepoTags": ["lab:5000/vllm:1"], "RepoDigests": [f"lab:5000/vllm@{ID}"]}


def bring(files: NodeFiles, *own: str) -> None:
    files.write(unit_files.DOCKER, "")
    files.write(notes_path(ID), dump_notes(ID, Notes(brought=own)))


def test_an_image_that_muster_brought_goes_when_asked_for(files: NodeFiles) -> None:
    install(files, "a", image=ID)
    bring(files, "lab:5000/vllm:1")
    fake = Tools({ID: TAGS})
    decision = remove(files, "a", fake=fake)
    assert fake.images
    assert why(decision)["image lab:5000/vllm:1"] == "-e uninstall_images=true removes it"
    # By its note the next run still knows it.
    assert files.exists(notes_path(ID))
    decision = remove(files, "a", ALL, fake)
    assert [step.kind for step in decision.steps if step.kind in ("image", "note")] == [
        "image",
        "note",
    ]
    assert fake.images == {}
    assert not files.exists("/var/lib/muster")


@pytest.mark.parametrize(
    ("image", "used", "reason"),
    [
        (Image(ID, ["v:1"], ["v:1"], ["train"]), set(), "containers are made of it: train"),
        (Image(ID, ["v:1"], ["v:1"], []), {ID}, "units of another deployment run from it"),
        (Image(ID, ["v:1"], ["v:1"], []), {"v:1"}, "units of another deployment run from it"),
        (Image(ID, ["v:1", "mine"], ["v:1"], []), set(), "it has a name that Muster did not"),
    ],
)
def test_images_that_stay(image: Image, used: set[str], reason: str) -> None:
    records = {f"b-r0-rank{rank}": {"effective": {"image": one}} for rank, one in enumerate(used)}
    seen = Seen(
        paths=[unit_files.state_path(name) for name in records],
        records=records,
        images=[image],
    )
    decision = decide(seen, "a", ALL)
    assert Step("image", ID) not in decision.steps
    assert reason in why(decision)["image v:1"]


def test_an_image_stays_from_which_another_that_stays_was_built() -> None:
    base = Image("sha256:b", ["v:1"], ["v:1"], layers=["l1", "l2"])
    built = Image("sha256:d", ["muster/v:1"], ["muster/v:1"], layers=["l1", "l2", "l3"])
    alien = Image("sha256:c", ["w:1"], ["w:1"], layers=["l1", "l4"])
    path = unit_files.state_path("b-r0-rank0")
    records = {"b-r0-rank0": {"effective": {"image": "muster/v:1"}}}
    seen = Seen(paths=[path], records=records, images=[base, built, alien])
    decision = decide(seen, "a", ALL)
    assert [step.name for step in decision.steps] == ["sha256:c"]
    assert why(decision)["image v:1"] == "muster/v:1 is made of it"
    # Without the other deployment both go.
    decision = decide(seen._replace(paths=[], records={}), "a", ALL)
    assert len(decision.steps) == 3


def test_an_image_is_known_by_dockers_own_name_for_it(files: NodeFiles) -> None:
    bring(files, "docker.io/library/haproxy:3.0", f"docker.io/library/haproxy@{ID}")
    names_there = {"RepoTags": ["haproxy:3.0"], "RepoDigests": [f"haproxy@{ID}"]}
    fake = Tools({ID: names_there})
    assert Step("image", ID) in remove(files, "a", ALL, fake).steps
    assert fake.images == {}


def test_an_image_that_was_there_before_is_none_of_ours(files: NodeFiles) -> None:
    bring(files)
    fake = Tools({ID: TAGS})
    remove(files, "a", ALL, fake)
    assert fake.images
    assert not any("image" in argv for argv in fake.asked)


def test_a_docker_that_does_not_tell_keeps_the_notes(files: NodeFiles) -> None:
    bring(files, "lab:5000/vllm:1")
    fake = Tools({ID: TAGS})
    fake.answers["docker ps"] = Output(1, "", "Cannot connect to the Docker daemon")
    decision = remove(files, "a", ALL, fake)
    assert "Cannot connect" in why(decision)["images"]
    assert files.exists(notes_path(ID))


def test_an_image_that_docker_does_not_remove_stays_with_its_words(files: NodeFiles) -> None:
    bring(files, "lab:5000/vllm:1")
    fake = Tools({ID: TAGS})
    fake.answers["docker image rm"] = Output(1, "", "conflict: container 1 uses it")
    with tools(fake):
        seen = uninstall_io.look(files, "a", ALL)
        late = uninstall_io.remove(files, seen, decide(seen, "a", ALL))
    assert "conflict" in late[Step("image", ID)].why
    # By its note the next run still knows it.
    assert files.exists(notes_path(ID))


def test_environments_go_with_what_made_them_and_their_user(files: NodeFiles) -> None:
    path = environment(files, "vllm-1")
    install(files, "a", venv=path)
    for own in (UV_HOME, PYTHON_DIR, CACHE_DIR):
        files.write(f"{own}/x", "")
    files.write("/etc/passwd", f"{USER}:x:998:998::/nonexistent:/usr/sbin/nologin\n")
    kept = why(remove(files, "a"))
    assert kept[path] == kept[f"user {USER}"] == "-e uninstall_images=true removes it"
    decision = remove(files, "a", Wishes(images=True))
    assert "is its own" in why(decision)[f"user {USER}"]
    fake = Tools()
    remove(files, "a", ALL, fake)
    assert ["userdel", USER] in fake.asked
    assert {
        one for one in tree(files) if "muster" in one and not one.startswith("/var/log")
    } == set()


def test_environments_of_another_deployment_stay_with_what_they_need(files: NodeFiles) -> None:
    mine, theirs = environment(files, "vllm-1"), environment(files, "vllm-2")
    install(files, "a", venv=mine)
    install(files, "b", venv=theirs)
    files.write(f"{PYTHON_DIR}/x", "")
    files.write("/etc/passwd", f"{USER}:x:998:998::/nonexistent:/usr/sbin/nologin\n")
    fake = Tools()
    decision = remove(files, "a", ALL, fake)
    assert not files.exists(mine)
    assert files.exists(theirs)
    assert files.exists(PYTHON_DIR)
    assert ["userdel", USER] not in fake.asked
    assert why(decision)[theirs] == "units of another deployment run from it"


def test_a_user_of_that_name_who_is_the_operators_is_left_alone(files: NodeFiles) -> None:
    files.write("/etc/passwd", f"{USER}:x:1000:1000::/home/{USER}:/bin/bash\n")
    fake = Tools()
    remove(files, "a", ALL, fake)
    assert fake.asked == []


# Properties

# Names that could be taken for each other's.
DEPLOYMENTS = ("a", "a-r0", "a-r0-rank0", "a-gateway0", "a-r0-link", "a.b", "b-address", "uv")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(DEPLOYMENTS), min_size=1, max_size=4, unique=True),
    st.integers(0, 2),
    st.integers(0, 1),
    st.lists(st.sampled_from(FOREIGN), unique=True),
    st.builds(Wishes, st.booleans(), st.booleans(), st.booleans()),
    st.integers(0, 60),
)
def test_only_what_is_the_deployments_own_goes(
    deployments: list[str],
    ranks: int,
    gateways: int,
    foreign: list[str],
    wishes: Wishes,
    cut: int,
) -> None:
    with tempfile.TemporaryDirectory() as root, tools(Tools()):
        node = NodeFiles(root)
        own, *rest = (install(node, name, ranks=ranks, gateways=gateways) for name in deployments)
        shared, mine = share(node), lay(node, tuple(foreign))
        before = tree(node)
        for steps in (cut, None, None):
            seen = uninstall_io.look(node, deployments[0], wishes)
            decision = decide(seen, deployments[0], wishes)
            uninstall_io.remove(node, seen, decision._replace(steps=decision.steps[:steps]))
        gone = before - tree(node)
        others = set().union(*rest)
        assert gone <= own | shared
        assert not gone & (others | mine)
        assert gone <= own or not rest
        # Nothing is left but what was not asked for, and a second run finds nothing.
        kinds = {place_of(os.path.dirname(os.path.dirname(path)))[0] for path in own - gone}
        assert kinds <= {"cache", "log"}
        assert decision.steps == []


@given(st.sampled_from(DEPLOYMENTS), st.integers(0, 99), st.integers(0, 99))
def test_a_name_is_one_deployments_alone(deployment: str, replica: int, rank: int) -> None:
    name = names.rank_name(deployment, replica, rank)
    door = names.gateway_name(deployment, rank)
    assert deployment_of(name) == deployment_of(door) == deployment
    link = names.link_name(deployment, replica)
    for path in (
        unit_files.unit_path(names.service(name)),
        unit_files.unit_path(names.service(door)),
        unit_files.unit_path(names.link_service(link)),
        gateway_address.service_path(deployment),
        gateway_address.config_path(deployment),
        unit_files.env_path({"name": name}),
        unit_files.link_config_path(link),
        unit_files.link_state_path(link),
        unit_files.state_path(name),
        verified.record_path(deployment),
        f"{unit_files.STALLS_DIR}/{link}",
    ):
        assert place_of(path)[1] == deployment, path


def test_host_tuning_firewall_and_docker_are_left_to_their_modules() -> None:
    for path in (
        tuning.STATE_PATH,
        tuning.SYSCTL_PATH,
        tuning.UNIT_PATH,
        tuning.UNIT_LINK,
        docker.STATE_PATH,
        docker.DROP_IN,
        docker.PROXY_ENV,
        docker.DAEMON_JSON,
        firewall.STATE_PATH,
        firewall.UNIT_PATH,
        firewall.UNIT_LINK,
        f"{firewall.KEPT_DIR}/rules",
    ):
        seen = Seen(paths=[path])
        assert decide(seen, "a", ALL)[0::2] == ([], []), path


@pytest.fixture
def served(files: NodeFiles, monkeypatch) -> NodeFiles:
    """A node on which unit_state has started a rank and a gateway of a plan, with all it writes."""
    made = os.makedirs

    def makedirs(path: str, *arguments: Any, **options: Any) -> None:
        inside = path if path.startswith(files.root) else files.path(path)
        made(inside, *arguments, **options)

    for module in (unit_state, unit_io):
        monkeypatch.setattr(module, "NodeFiles", lambda: files)
    monkeypatch.setattr(os, "makedirs", makedirs)
    monkeypatch.setattr(os, "chown", lambda *_arguments: None)
    monkeypatch.setattr(unit_io, "ask", lambda *_arguments: Output(0, "", ""))
    monkeypatch.setattr(unit_io, "image_ids", lambda images: dict.fromkeys(images, ID))
    monkeypatch.setattr(unit_state, "refuse_reload", lambda *_arguments: None)
    monkeypatch.setattr(unit_state, "end_listeners", lambda _units: None)
    planned = plan(pair())
    hosts = [gateway.GatewayHost("c-0", "c-0", "10.0.0.1", "eth0")]
    backends = [gateway.Backend("r0", "10.0.0.1", 20004)]
    units = [unit for unit in planned["units"] if unit["host"] == "c-0"]
    units += gateway.gateway_units(
        cluster="c", hosts=hosts, port=8080, backends=backends, model="m"
    )
    params = {
        "deployment": "c",
        "units": units,
        "links": [link for link in planned["links"] if link["host"] == "c-0"],
        "orphans": [],
        "start_id": "1",
    }
    module = SimpleNamespace(check_mode=False)
    unit_state.start(unit_state.Host(module), params)  # type: ignore[arg-type]
    return files


def test_all_that_serve_writes_is_known_for_what_it_is(served: NodeFiles) -> None:
    written = left_files(served)
    assert {"/etc/muster/c-r0-rank0.env", "/etc/muster/c-gateway0/haproxy.cfg"} <= written
    assert set(links_io.PROGRAMS) <= written
    with tools(Tools()):
        seen = uninstall_io.look(served, "c", ALL)
    # As an operator would be told of what is not Muster's.
    assert "Muster did not make it" not in why(decide(seen, "c", ALL)).values()
    remove(served, "c", ALL)
    assert [path for path in tree(served) if "muster" in path] == []


def test_nothing_that_serve_writes_goes_with_another_deployment(served: NodeFiles) -> None:
    written = tree(served)
    remove(served, "c-r0", ALL)
    remove(served, "d", ALL)
    assert tree(served) == written


# The modules


def call(module: Any, files: NodeFiles, monkeypatch, capsys, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(module, "NodeFiles", lambda: files)
    fake = Tools()
    with tools(fake), patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {**said, "asked": fake.asked}


def test_check_mode_lists_all_that_goes_and_touches_nothing(
    files: NodeFiles, monkeypatch, capsys
) -> None:
    install(files, "a")
    share(files)
    before = tree(files)
    monkeypatch.setattr(node_uninstall, "refuse_reload", lambda *_args: None)
    arguments = {"deployment": "a", "logs": True}
    dry = call(node_uninstall, files, monkeypatch, capsys, **arguments, _ansible_check_mode=True)
    assert dry["changed"]
    assert dry["asked"] == []
    assert tree(files) == before
    assert "record /var/lib/muster/units/a-r0-rank0.json\n" in dry["diff"]["before"]
    real = call(node_uninstall, files, monkeypatch, capsys, **arguments)
    assert (real["removed"], real["stays"], real["diff"]) == (
        dry["removed"],
        dry["stays"],
        dry["diff"],
    )
    again = call(node_uninstall, files, monkeypatch, capsys, **arguments)
    assert not again["changed"]
    assert again["removed"] == []


def test_nothing_goes_where_a_reload_would_cost_another_his_gpus(
    files: NodeFiles, monkeypatch, capsys
) -> None:
    install(files, "a")
    before = tree(files)

    def refuse(_files: NodeFiles, services: list[str]) -> None:
        assert services == ["muster-a-r0-link.service", *map(names.service, units_of("a"))]
        raise node_uninstall.ReloadError("train would lose its GPUs")

    monkeypatch.setattr(node_uninstall, "refuse_reload", refuse)
    said = call(node_uninstall, files, monkeypatch, capsys, deployment="a")
    assert "train would lose" in said["msg"]
    assert tree(files) == before


def test_a_look_finds_units_links_and_how_their_peers_do(
    files: NodeFiles, monkeypatch, capsys
) -> None:
    install(files, "a", gateways=1, peers=("10.0.0.2", "10.0.0.3"))
    install(files, "b")
    monkeypatch.setattr(
        uninstall_io,
        "peer_state",
        lambda address, _port, _start: {"10.0.0.2": "running"}.get(address, ""),
    )
    said = call(uninstall_info, files, monkeypatch, capsys, deployment="a")
    assert [unit["name"] for unit in said["units"]] == ["a-gateway0", "a-r0-rank0", "a-r0-rank1"]
    assert said["links"] == [{"name": "a-r0", "systemd_unit": "muster-a-r0-link.service"}]
    assert said["address"]
    assert said["replicas"] == [
        {
            "name": "a-r0",
            "listen": "10.0.0.1",
            "peers": [
                {"address": "10.0.0.2", "state": "running"},
                {"address": "10.0.0.3", "state": ""},
            ],
        }
    ]
