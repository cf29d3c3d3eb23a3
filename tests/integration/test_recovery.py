"""After a failure: what diagnose packs, and what starts again without registry and download. Two
replicas behind two gateways, each test going on from where the one before it ended."""

from __future__ import annotations

import base64
import json
import ssl
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.authority import Authority

from .conftest import (
    FLOATING,
    PAIR,
    Outcome,
    eventually,
    invocation,
    lab,
    on_node,
    stop_pair,
)

Play = Callable[..., Outcome]

HEALTHY, BROKEN = PAIR
UNITS = {node: f"muster-a3-replicas-r{index}-rank0.service" for index, node in enumerate(PAIR)}
IMAGE = "registry:5000/muster-lab/vllm-cpu:0.32.0"
KEY_FILE = "/root/api-key"
KEY = "zqPLANTEDkey0123456789"
TOKEN = "hf_zqPLANTEDtoken0123456789"  # noqa: S105
PROMPT = "zqPLANTED what the user asked"
# The team's key before and after its rotation.
TEAM_KEYS = ["zqPLANTEDteam0123456789", "zqPLANTEDnext0123456789"]
# What clients have on this machine; the first test's fixture fills it.
CLIENT = ssl.create_default_context()
BASE = f"https://{FLOATING}:8080/v1"
# The engines log requests with their prompts, as an operator in search of something has them do.
SETTINGS: dict[str, Any] = {
    "muster_api_key_file": KEY_FILE,
    "muster_gateway_tls": {
        "certificate": "/root/gateway.pem",
        "key": "/root/gateway.key",
        "ca": "/root/authority.pem",
    },
    "muster_engine_env": {
        "VLLM_ASCEND_ENABLE_FLASHCOMM1": None,
        "VLLM_LOGGING_LEVEL": "DEBUG",
    },
    "lab_a3_args": {
        "data-parallel-size": 1,
        "additional-config": {"scheduler_config": None},
        "quantization": None,
        "enable-log-requests": True,
    },
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "own")


@pytest.fixture(scope="module", autouse=True)
def nodes(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[None]:
    lab("up")
    folder = tmp_path_factory.mktemp("controller")
    SETTINGS["muster_gateway_keys"] = str(folder / "keys.json")
    let_in(TEAM_KEYS[:1])
    CLIENT.load_verify_locations(authority.ca)
    # The engines of these tests need the memory that the pair's engines hold.
    stop_pair()
    for node in PAIR:
        lab("node", "create", node)
        on_node(node, "sh", "-c", f"umask 077; echo {KEY} > {KEY_FILE}")
        put(node, "/root/authority.pem", authority.ca)
    certify(authority)
    yield
    for node in PAIR:
        lab("node", "remove", node)


def cut_off(node: str) -> None:
    """Take the registry and all that is not the lab from a node."""
    for way in ("-d 198.19.67.2", "! -o lo ! -d 198.19.67.0/24"):
        on_node(node, "sh", "-c", f"iptables -I OUTPUT {way} -j REJECT")


def let_in(keys: list[str]) -> None:
    """Write the file of the teams' keys on the controller."""
    path = Path(SETTINGS["muster_gateway_keys"])
    path.write_text(json.dumps({"search": keys}))
    path.chmod(0o600)


def put(node: str, path: str, source: Path) -> None:
    text = base64.b64encode(source.read_bytes()).decode()
    on_node(node, "sh", "-c", f"umask 077; echo {text} | base64 -d > {path}")


def certify(authority: Authority) -> None:
    """Give both nodes a new certificate for their address."""
    certificate, key = authority.folder / "gateway.pem", authority.folder / "gateway.key"
    authority.issue(certificate, key, f"IP:{FLOATING}")
    for node in PAIR:
        put(node, "/root/gateway.pem", certificate)
        put(node, "/root/gateway.key", key)


def status_of(path: str, key: str | None = None, method: str = "GET") -> int:
    """What the gateway answers to a request without a body."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = BASE.removesuffix("/v1") + path
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30, context=CLIENT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def complete(base: str = BASE, key: str = KEY) -> int:
    """Ask for a few tokens; how many came."""
    request = urllib.request.Request(
        f"{base}/completions",
        json.dumps({"model": "MiniMax-M2.5", "prompt": PROMPT, "max_tokens": 4}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=60, context=CLIENT) as answer:
        return int(json.load(answer)["usage"]["completion_tokens"])


def holders() -> list[str]:
    """The nodes that have the floating address."""
    return [node for node in PAIR if FLOATING in on_node(node, "ip", "-4", "-o", "address")]


def packed(tmp_path: Path) -> dict[str, str]:
    """The files of the one archive that was written, by name."""
    (path,) = (tmp_path / "output").glob("diagnose-*.tar.gz")
    with tarfile.open(path) as archive:
        return {
            member.name: stream.read().decode()
            for member in archive
            if (stream := archive.extractfile(member)) is not None
        }


def without_plants(files: dict[str, str]) -> None:
    for name, text in files.items():
        assert "zqPLANTED" not in text, name


def test_the_archive_of_a_running_cluster_has_all_but_secrets_and_prompts(
    play: Play, tmp_path: Path
) -> None:
    assert play("site.yml", limit="a3-replicas", **SETTINGS).rc == 0
    log = "/var/log/muster/a3-replicas-r0-rank0/plog/debug/plog/plog-1.log"
    lines = f"EJ0002: network port is down\\nHF_TOKEN={TOKEN}\\n"
    on_node(HEALTHY, "sh", "-c", f"mkdir -p $(dirname {log}); printf '{lines}' > {log}")
    assert complete() == complete(key=TEAM_KEYS[0]) == 4
    for base in ("http://198.19.67.20:8000/v1", "http://198.19.67.21:8000/v1"):
        assert complete(base) == 4
    logged = on_node(HEALTHY, "journalctl", f"--unit={UNITS[HEALTHY]}", "--no-pager")
    assert PROMPT in logged, "the engine logs prompts, so there is something to leave out"

    outcome = play("playbooks/diagnose.yml", limit="a3-replicas", **SETTINGS)
    assert outcome.rc == 0
    assert outcome.changed() == {}
    assert "npu-link-down" in outcome.stdout
    files = packed(tmp_path)
    without_plants(files)
    assert "network port is down" in files[f"{HEALTHY}{log}"]
    for index, node in enumerate(PAIR):
        assert {
            f"{node}/units.json",
            f"{node}/journal/{UNITS[node]}.log",
            f"{node}/journal/muster-a3-replicas-gateway{index}.service.log",
            f"{node}/var/lib/muster/units/a3-replicas-r{index}-rank0.json",
            f"{node}/device/npu-smi.txt",
            f"{node}/docker/inspect.json",
            f"{node}/system/ports.txt",
            f"{node}/usr/local/Ascend/driver/version.info",
        } <= set(files)
    assert {"report.txt", "plan.json", "reports/verify.json"} <= set(files)
    left = "".join(
        on_node(node, "sh", "-c", "ls -d /tmp/muster-diagnose-* || true") for node in PAIR
    )
    assert left == ""


def test_of_the_engines_own_routes_the_open_ones_alone_are_let_through() -> None:
    with urllib.request.urlopen("http://198.19.67.20:8000/openapi.json", timeout=30) as answer:
        routes = json.load(answer)["paths"]
    assert {"/v1/chat/completions", "/invocations", "/scale_elastic_ep"} <= set(routes)
    found = {}
    for route, methods in [*routes.items(), ("/metrics", ["get"]), ("/docs", ["get"])]:
        path = route.replace("{response_id}", "resp_1")
        for method in {*map(str.upper, methods)} & {"GET", "POST", "PUT", "DELETE"}:
            answers = {status_of(path, key, method) for key in (TEAM_KEYS[0], KEY)}
            found[route, method] = (status_of(path, None, method), *sorted(answers))
    passed = {route for (route, _method), (without, *_with) in found.items() if without == 401}
    assert passed == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
    }
    # The gateway's own.
    del found["/health", "GET"]
    others = {answers for (route, _method), answers in found.items() if route not in passed}
    assert others == {(403, 403)}


def test_keys_and_certificate_change_while_everything_runs(
    play: Play, tmp_path: Path, authority: Authority
) -> None:
    gateways = {node: f"muster-a3-replicas-gateway{index}" for index, node in enumerate(PAIR)}

    def runs() -> list[str]:
        return [invocation(node, units[node]) for units in (UNITS, gateways) for node in PAIR]

    before, shown = runs(), ssl.get_server_certificate((FLOATING, 8080))
    let_in(TEAM_KEYS)
    certify(authority)
    outcome = play("playbooks/prepare.yml", "--diff", "-vvv", limit="a3-replicas", **SETTINGS)
    assert outcome.rc == 0
    told = outcome.task_results("Keep the gateway's keys and certificate")
    assert {(node, *one["told"]) for node, one in told.items()} == {
        (node, "keys", "certificate") for node in PAIR
    }
    assert ssl.get_server_certificate((FLOATING, 8080)) != shown
    trusted = tmp_path / "output" / "gateway.pem"
    assert trusted.read_text() == authority.ca.read_text()
    assert [complete(key=key) for key in TEAM_KEYS] == [4, 4]
    let_in(TEAM_KEYS[1:])
    again = play("playbooks/prepare.yml", "--diff", limit="a3-replicas", **SETTINGS)
    assert again.rc == 0
    assert [one.partition(": ")[2] for one in again.changed_tasks()] == [
        "Keep the gateway's keys and certificate"
    ] * 2
    assert status_of("/v1/models", TEAM_KEYS[0]) == 401
    assert complete(key=TEAM_KEYS[1]) == 4
    assert runs() == before

    # What was said on the way, and what is left of it: no key and no certificate's key.
    without_plants({"first": outcome.stdout, "second": again.stdout})
    left = {
        str(path): path.read_text(errors="replace")
        for folder in ("artifacts", "output")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file()
    }
    without_plants(left)
    assert not [name for name, text in left.items() if "PRIVATE KEY" in text]


def test_on_a_node_a_key_is_in_files_of_its_owner_alone() -> None:
    """The engine's key; a team's is on no node at all."""
    places = "/etc /var/lib/muster /usr/local/lib/muster /run/systemd /tmp /root"
    for node in PAIR:
        for key in TEAM_KEYS:
            found = on_node(node, "sh", "-c", f"grep -rlsF {key} {places} /var/log || true")
            assert found == ""
            assert on_node(node, "sh", "-c", f"journalctl | grep -F {key} || true") == ""
            # What looks for it has it in its own command line.
            environments = f"cat /proc/[0-9]*/environ | grep -acF {key} || true"
            assert on_node(node, "sh", "-c", environments).strip() == "0"
        for key, where in ((KEY, places), ("PRIVATE.KEY-----", "/etc/muster /var/lib/muster")):
            # Neither is what looks for it.
            pattern = f"'[{key[0]}]{key[1:]}'"
            assert on_node(node, "sh", "-c", f"ps axww | grep {pattern} || true") == ""
            assert on_node(node, "sh", "-c", f"journalctl | grep -e {pattern} || true") == ""
            holding = on_node(node, "sh", "-c", f"grep -rlsI -e {pattern} {where} || true").split()
            assert holding
            assert set(on_node(node, "stat", "-c", "%a", *holding).split()) == {"600"}, holding


def test_a_failed_unit_and_a_node_that_is_down_are_told(play: Play, tmp_path: Path) -> None:
    for node in PAIR:
        cut_off(node)
    on_node(BROKEN, "systemctl", "stop", UNITS[BROKEN])
    on_node(BROKEN, "docker", "tag", IMAGE, "kept:1")
    on_node(BROKEN, "docker", "rmi", IMAGE)
    on_node(BROKEN, "systemctl", "start", UNITS[BROKEN])
    state = ("systemctl", "show", "--property=ActiveState", "--value", UNITS[BROKEN])
    eventually(lambda: on_node(BROKEN, *state).strip() == "failed", 90)
    outcome = play("playbooks/diagnose.yml", limit="a3-replicas", **SETTINGS)
    assert f"{UNITS[BROKEN]}: failed (failed)" in outcome.stdout
    # The image is gone from the node, and the registry from which Docker would bring it is cut off.
    told = outcome.stdout.partition(UNITS[BROKEN])[2]
    assert "registry-unreachable, a line: " in told
    assert "Cause: the node does not reach the registry" in told
    assert "Also: image-not-pulled, a line: " in told
    without_plants(packed(tmp_path))

    for path in (tmp_path / "output").glob("diagnose-*"):
        path.unlink()
    # Sessions that Ansible keeps open would outlive their daemon.
    on_node(BROKEN, "sh", "-c", "systemctl stop ssh.socket ssh; pkill sshd || true")
    try:
        # Nor is there a plan any more.
        outcome = play("playbooks/diagnose.yml", limit="a3-replicas", muster_recipe="gone/gone")
    finally:
        on_node(BROKEN, "systemctl", "start", "ssh")
    assert outcome.rc == 0
    assert f"{BROKEN}: not reached: " in outcome.stdout
    files = packed(tmp_path)
    assert f"{HEALTHY}/journal/{UNITS[HEALTHY]}.log" in files
    without_plants(files)


def test_a_replica_whose_image_is_gone_is_left_out_and_the_other_serves_on(play: Play) -> None:
    before = invocation(HEALTHY, UNITS[HEALTHY])
    outcome = play("playbooks/start.yml", limit="a3-replicas")
    assert outcome.rc != 0
    assert outcome.changed() == {}
    said = outcome.task_results("Say what was left out")
    assert set(said) == {BROKEN}
    assert "its image or environment is not on this node any more" in said[BROKEN]["msg"]
    assert invocation(HEALTHY, UNITS[HEALTHY]) == before
    assert complete() == 4


def test_all_comes_back_without_registry_with_a_check_that_fails(
    play: Play, tmp_path: Path
) -> None:
    on_node(BROKEN, "docker", "tag", "kept:1", IMAGE)
    assert play("playbooks/stop.yml", limit="a3-replicas").rc == 0
    assert holders() == []
    alarm = "d['devices'][3]['health'] = 'Alarm'"
    path = "/var/lib/muster-lab/state.json"
    edit = f"import json; d = json.load(open('{path}')); {alarm}; json.dump(d, open('{path}', 'w'))"
    on_node(HEALTHY, "python3", "-c", edit)

    outcome = play("playbooks/start.yml", limit="a3-replicas", **SETTINGS)
    assert outcome.rc == 0
    assert "plans otherwise" not in outcome.stdout
    checks = json.loads((tmp_path / "output" / "preflight.json").read_text())["checks"]
    assert (HEALTHY, "npu-health") in {
        (one["host"], one["id"]) for one in checks if one["status"] == "failed"
    }
    eventually(lambda: len(holders()) == 1 and complete() == 4, 30)
    assert play("playbooks/verify.yml", limit="a3-replicas", **SETTINGS).rc == 0


def test_after_a_reboot_it_is_waited_for_whatever_became_of_the_inventory(play: Play) -> None:
    for node in PAIR:
        lab("node", "restart", node)
    outcome = play("playbooks/start.yml", limit="a3-replicas", muster_recipe="gone/gone")
    assert outcome.rc == 0
    assert outcome.changed() == {}, "systemd has started everything"
    assert "there are no checks" in outcome.stdout
    eventually(lambda: complete() == 4, 30)
