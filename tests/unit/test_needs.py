"""What a plan needs of its hosts, and how preflight looks for it."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.filter.checks_between import checks_between
from ansible_collections.muster.serving.plugins.module_utils.common import paths
from ansible_collections.muster.serving.plugins.module_utils.engine import venv as engine_venv
from ansible_collections.muster.serving.plugins.module_utils.host import docker
from ansible_collections.muster.serving.plugins.module_utils.host import tuning as host_tuning
from ansible_collections.muster.serving.plugins.module_utils.network import firewall
from ansible_collections.muster.serving.plugins.module_utils.units import (
    gateway_address,
    unit_files,
)
from ansible_collections.muster.serving.plugins.modules import unit_state
from ansible_collections.muster.serving.plugins.plugin_utils.plan import venvs
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import checks_of, needs_of

from tests.unit.plan_support import host, pair, plan, single, view


def checks(inventory: Any) -> Any:
    return checks_of(plan(inventory), needs_of(plan(inventory)))


def test_a_host_knows_its_replica_and_what_its_containers_are_given() -> None:
    needs = needs_of(plan(pair()))
    assert needs["c-1"]["peers"] == ["c-0"]
    assert "/dev/davinci7" in needs["c-0"]["device_nodes"]
    assert not needs["c-0"]["container_gpus"]


def test_a_node_is_checked_for_what_its_units_take() -> None:
    head, follower = checks(pair(interface="bond0")).values()
    assert head["nic_check"] == {
        "address": "10.0.0.1",
        "interface": "bond0",
        "peers": ["10.0.0.2"],
        "prefix_match": True,
    }
    units = ["muster-c-r0-rank0.service", "muster-c-r0-link.service"]
    assert head["port_check"] == {
        "mode": "listen",
        "ports": ["20004", "2347", "2348", "60000-60031"],
        "bind_address": "10.0.0.1",
        "peers": ["10.0.0.2"],
        "reserve": ["60000-60031"],
        "lifetime": 300,
        "own_units": units,
        "unit_ports": {units[0]: ["20004", "2347", "2348", "60000-60031"]},
    }
    npus = head["npu_topology_check"]
    assert (npus["devices"], npus["multi_node"]) == (list(range(8)), True)
    assert npus["own_units"] == units
    assert "20004" not in follower["port_check"]["ports"]


def test_a_node_by_itself_has_nobody_to_reach() -> None:
    (node,) = checks(single()).values()
    assert node["port_check"]["mode"] == "local"
    assert not node["npu_topology_check"]["multi_node"]


def test_the_slower_levels_are_asked_for() -> None:
    slower = plan(pair(weights_hashes=True, npu_ping="full"))
    node = checks_of(slower, needs_of(slower))["c-0"]
    assert node["host_check"]["weights_hashes"]
    # The other nodes may hash for long before they try the ports.
    assert node["port_check"]["lifetime"] == 7200
    assert node["npu_topology_check"]["pings"] == "full"
    assert not checks_of(slower, needs_of(slower), weights_hashes=False)["c-0"]["host_check"][
        "weights_hashes"
    ]
    node = checks(pair(npu_ping="none"))["c-0"]
    assert node["npu_topology_check"]["pings"] == "sampled"


def test_the_host_has_to_bring_what_its_units_take() -> None:
    head, follower = (
        node["host_check"] for node in checks(pair(api_key_file="/etc/muster/key")).values()
    )
    expected = {
        "memory_gb": 8,
        "shm_gb": 1,
        "image_gb": 30,
        "disk": [],
        "writes": [
            "/etc/docker",
            "/etc/muster",
            "/etc/sysctl.d",
            "/etc/systemd/system",
            "/usr/local/lib/muster",
            "/var/lib/muster",
            "/var/log/muster",
        ],
        "key_files": ["/etc/muster/key"],
        "model_path": "/models/m2.5",
    }
    assert {name: head[name] for name in expected} == expected
    # Only the head serves an API.
    assert follower["key_files"] == []
    # A container with shared memory of its own takes none of the host's.
    apart = plan(single())
    apart["units"][0]["container"]["ipc"] = None
    assert checks_of(apart, needs_of(apart))["c-0"]["host_check"]["shm_gb"] == 0


def test_only_folders_that_are_written_to_have_to_be_writable() -> None:
    venv = host(1, "minimax-m2.5/vllm-nvidia", install="venv", host_tuning={"sysctl": None})
    writes = checks(view(c=[venv]))["c-0"]["host_check"]["writes"]
    assert {"/opt/muster", "/var/cache/muster"} <= set(writes)
    # An engine without a container needs no Docker.
    assert not {"/etc/docker", "/etc/sysctl.d"} & set(writes)


def test_whatever_modules_write_lies_in_a_folder_that_is_checked() -> None:
    needs = checks(pair())["c-0"]["host_check"]["writes"]
    venv = view(c=[host(1, "minimax-m2.5/vllm-nvidia", install="venv")])
    needs += checks(venv)["c-0"]["host_check"]["writes"]
    written = [
        docker.DAEMON_JSON,
        docker.DROP_IN,
        docker.PROXY_ENV,
        engine_venv.CACHE_DIR,
        engine_venv.PYTHON_DIR,
        engine_venv.UV_HOME,
        gateway_address.PROBE_PATH,
        firewall.KEPT_DIR,
        firewall.UNIT_PATH,
        host_tuning.SYSCTL_PATH,
        host_tuning.UNIT_PATH,
        paths.STATE_DIR,
        unit_files.CONFIG_DIR,
        unit_files.HOME_DIR,
        unit_files.LINK_PROGRAM,
        unit_files.LOG_PROGRAM,
        unit_files.SYSTEMD_DIR,
        venvs.VENVS,
        *unit_state.OWN_DIRECTORIES,
    ]
    stray = [path for path in written if not f"{path}/".startswith(tuple(f"{n}/" for n in needs))]
    assert stray == []


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({}, "/var/lib/muster/cache/c-r0-rank0/modelscope"),
        (
            {"extra_mounts": ["/data/hub:/root/.cache/modelscope", "/x:/root/.cache/huggingface"]},
            "/data/hub",
        ),
        ({"engine_env": {"MODELSCOPE_CACHE": "/models"}, "extra_mounts": ["/d:/models"]}, "/d"),
        # Nothing is mounted there: the weights fill the container.
        ({"engine_env": {"MODELSCOPE_CACHE": "/models"}}, None),
    ],
)
def test_weights_from_a_hub_need_room_where_they_will_lie(more: Any, path: str | None) -> None:
    hub = checks(single(model_source="modelscope", model_path=None, **more))["c-0"]["host_check"]
    (need,) = hub["disk"]
    assert need == {"what": "weights of c-r0-rank0", "path": path, "need_gb": 236.2}
    assert path is None or path in hub["writes"]


def test_a_hub_without_a_container_fills_the_cache_of_the_unit() -> None:
    variables = {"install": "venv", "model_source": "huggingface", "model_path": None}
    made = checks(view(c=[host(1, "minimax-m2.5/vllm-nvidia", **variables)]))["c-0"]["host_check"]
    (need,) = made["disk"]
    assert need["path"] == "/var/cache/muster/c-r0-rank0/.cache/huggingface"
    assert made["image_gb"] == 0


# --- between nodes --------------------------------------------------------------------------------

NODE = {"usable": True, "address": "10.0.0.1", "listening": [1], "facts": {"npu_reachable": {}}}
PEER = {"usable": True, "address": "10.0.0.2", "listening": [2], "facts": {"npu_reachable": {}}}


def test_nodes_try_each_others_ports_and_npus() -> None:
    assert checks_between(NODE, [PEER, {}], "full") == {
        "port_check": {
            "mode": "probe",
            "bind_address": "10.0.0.1",
            "peer_ports": {"10.0.0.2": [2]},
        },
        "npu_topology_check": {
            "mode": "ping",
            "node_facts": NODE["facts"],
            "peer_facts": [PEER["facts"]],
            "pings": "full",
        },
    }


@pytest.mark.parametrize(
    ("node", "peer", "remains"),
    [
        (NODE, {**PEER, "listening": []}, {"npu_topology_check"}),
        (NODE, {**PEER, "usable": False}, {"npu_topology_check"}),
        ({**NODE, "usable": False}, PEER, {"npu_topology_check"}),
        # GPUs.
        ({**NODE, "facts": {}}, {**PEER, "facts": {}}, {"port_check"}),
        # The module broke, or the node was not reached.
        ({"failed": False, "msg": "no"}, PEER, set()),
        (NODE, {"unreachable": True}, set()),
        (NODE, {}, set()),
    ],
)
def test_what_has_its_verdict_already_is_not_tried(node: Any, peer: Any, remains: Any) -> None:
    assert set(checks_between(node, [peer])) == remains


def test_pings_can_be_left_out() -> None:
    assert set(checks_between(NODE, [PEER], npu_ping="none")) == {"port_check"}
