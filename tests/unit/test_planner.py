"""What the planner makes of recipes and inventories, and what it refuses."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import planner
from ansible_collections.muster.serving.plugins.plugin_utils.plan import variables as inventory_vars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit.plan_support import (
    PAIR,
    SINGLE,
    flags,
    host,
    load,
    pair,
    plan,
    problems,
    single,
    view,
)

GOLDEN = ROOT / "tests" / "unit" / "golden" / "a2-cluster.json"


def example_cluster() -> Any:
    """The inventory's a2-cluster, read without Ansible: it needs no templates."""
    folder = ROOT / "inventories" / "example"
    groups = yaml.safe_load((folder / "hosts.yml").read_text())["all"]["children"]
    shared = yaml.safe_load((folder / "group_vars" / "a2-cluster.yml").read_text())
    hosts = groups["a2-cluster"]["hosts"]
    return {
        "groups": {"all": list(hosts), "a2-cluster": list(hosts)},
        "hostvars": {name: {**shared, **own} for name, own in hosts.items()},
    }


def test_the_example_cluster_has_the_plan_on_record() -> None:
    """A difference here restarts every running A2 pair: record it only on purpose."""
    inventory = example_cluster()
    plans = planner.plan_clusters(inventory, ["a2-node0"], planner.Verb(), load, "0.0.0")
    assert plans["a2-cluster"] == json.loads(GOLDEN.read_text())


def test_head_and_follower_differ_in_what_makes_them_one_and_nothing_else() -> None:
    head, follower = plan(pair())["units"]
    assert (head["role"], follower["role"]) == ("head", "follower")
    assert (head["ranks"], follower["ranks"]) == ([0], [1])
    of_head, of_follower = flags(head), flags(follower)
    assert "data-parallel-start-rank" not in of_head
    assert of_follower.pop("headless", "absent") is None
    assert of_follower.pop("data-parallel-start-rank") == "1"
    assert (of_head.pop("host"), of_follower.pop("host")) == ("10.0.0.1", "10.0.0.2")
    assert of_head == of_follower
    assert of_head["data-parallel-address"] == "10.0.0.1"
    assert of_head["data-parallel-rpc-port"] == "2347"
    assert head["ports"] == {"api": 20004, "dp_rpc": 2347, "link": 2348, "hccl": "60000-60031"}
    assert follower["ports"] == {"link": 2348, "hccl": "60000-60031"}
    assert follower["env"]["HCCL_IF_IP"] == "10.0.0.2"
    names = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
    assert {follower["env"][name] for name in names} == {"enp67s0f0np0"}


def test_each_node_of_a_pair_links_its_unit_to_the_other() -> None:
    links = plan(pair())["links"]
    assert [(link["host"], link["listen"], link["peers"]) for link in links] == [
        ("c-0", "10.0.0.1", ["10.0.0.2"]),
        ("c-1", "10.0.0.2", ["10.0.0.1"]),
    ]
    assert [link["units"] for link in links] == [
        ["muster-c-r0-rank0.service"],
        ["muster-c-r0-rank1.service"],
    ]
    assert {link["port"] for link in links} == {2348}
    assert {link["port"] for link in plan(pair(link_port=9))["links"]} == {9}


@pytest.mark.parametrize(
    ("recipe", "name"),
    [(SINGLE, "VLLM_HOST_IP"), ("minimax-m2.1/sglang-nvidia", "SGLANG_HOST_IP")],
)
def test_an_engine_alone_is_told_its_planned_address(recipe: str, name: str) -> None:
    """Else it names that of the default route, which another NIC may carry."""
    (unit,) = plan(view(c=[host(1, recipe)]))["units"]
    assert unit["env"][name] == unit["address"] == flags(unit)["host"]
    own = view(c=[host(1, recipe, engine_env={name: "10.9.9.9"})])
    assert plan(own)["units"][0]["env"][name] == "10.9.9.9"


def test_one_node_needs_no_ports_or_names_for_others() -> None:
    (link,) = plan(single(interface=None))["links"]
    assert (link["port"], link["peers"]) == (None, [])
    (unit,) = plan(single(interface=None))["units"]
    assert unit["role"] == "single"
    assert unit["ports"] == {"api": 8000, "hccl": "60000-60031"}
    assert "HCCL_IF_IP" not in unit["env"]
    assert not [
        name
        for name in flags(unit)
        if name.startswith("data-parallel-") and name != "data-parallel-size"
    ]


def test_nodes_are_dealt_into_replicas_in_inventory_order() -> None:
    made = plan(view(c=[host(n) for n in range(1, 5)]))
    assert [replica["hosts"] for replica in made["replicas"]] == [["c-0", "c-1"], ["c-2", "c-3"]]
    assert [unit["name"] for unit in made["units"]] == [
        "c-r0-rank0",
        "c-r0-rank1",
        "c-r1-rank0",
        "c-r1-rank1",
    ]
    assert made["endpoint"]["backends"] == ["http://10.0.0.1:20004/v1", "http://10.0.0.3:20004/v1"]
    assert flags(made["units"][3])["data-parallel-address"] == "10.0.0.3"


def test_a_larger_replica_deals_ranks_to_nodes_in_order() -> None:
    args = {"tensor-parallel-size": 4, "data-parallel-size": 4}
    head, follower = plan(pair(engine_args=args))["units"]
    assert (head["ranks"], follower["ranks"]) == ([0, 1], [2, 3])
    assert follower["name"] == "c-r0-rank2"
    assert flags(follower)["data-parallel-start-rank"] == "2"
    assert flags(follower)["data-parallel-size-local"] == "2"


def test_the_oldest_cann_is_that_of_the_engines_version() -> None:
    assert plan(pair())["platform"]["min_cann"] == "8.5.1"
    assert plan(single())["platform"]["min_cann"] == "9.1.0"
    gpus = plan(view(c=[host(1, "minimax-m2.5/vllm-nvidia")]))
    assert gpus["platform"]["min_cann"] is None


def test_weights_of_another_size_have_no_known_format() -> None:
    assert plan(single())["model"]["format"] == "w8a8"
    assert plan(single(weights_gb=100))["model"]["format"] is None


def test_devices_are_counted_as_the_container_sees_them() -> None:
    four = {"tensor_parallel_size": 4}
    half = {"devices": [7, 4, 5, 6], "engine_args": four, "weights_gb": 100}
    (unit,) = plan(single(**half))["units"]
    assert unit["devices"] == [4, 5, 6, 7]
    assert unit["device_nodes"][:4] == [f"/dev/davinci{n}" for n in (4, 5, 6, 7)]
    assert unit["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"
    (unit,) = plan(single(**half, privileged=True))["units"]
    assert unit["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "4,5,6,7"


def test_inventory_lays_flags_and_environment_over_the_recipe() -> None:
    unit = plan(
        single(
            engine_args={
                "max_num_seqs": 8,
                "enable-expert-parallel": None,
                "async-scheduling": False,
                "additional-config": {"pa_shape_list": [1]},
                "api-server-count": 2,
            },
            engine_env={"HCCL_BUFFSIZE": "256", "LD_PRELOAD": None},
        )
    )["units"][0]
    assert flags(unit)["max-num-seqs"] == "8"
    assert "enable-expert-parallel" not in flags(unit)
    assert "no-async-scheduling" in flags(unit)
    assert flags(unit)["additional-config"] == '{"enable_cpu_binding":true,"pa_shape_list":[1]}'
    assert unit["env"]["HCCL_BUFFSIZE"] == "256"
    assert "LD_PRELOAD" not in unit["env"]


def test_flags_of_the_api_server_stay_with_the_head() -> None:
    head, follower = plan(pair(engine_args={"api-server-count": 1}))["units"]
    assert flags(head)["api-server-count"] == "1"
    assert "api-server-count" not in flags(follower)


def test_switches() -> None:
    made = plan(
        pair(
            tool_calling=False,
            reasoning_parser="minimax_m2",
            profiler_dir="/data/profiles",
            api_key_file="/etc/muster/key",
            served_model_name="m",
            port=9000,
            known_answers=False,
            hccl_base_port=61000,
            extra_mounts=["/mnt/performance:/mnt/performance"],
        )
    )
    head, follower = made["units"]
    assert made["endpoint"] == {
        "url": "http://10.0.0.1:9000/v1",
        "model": "m",
        "backends": ["http://10.0.0.1:9000/v1"],
        "features": ["chat", "completions", "streaming", "responses"],
    }
    assert "tool-call-parser" not in flags(head)
    assert flags(head)["reasoning-parser"] == "minimax_m2"
    assert (
        json.loads(flags(head)["profiler-config"] or "")["torch_profiler_dir"] == "/data/profiles"
    )
    assert {"/data/profiles:/data/profiles", "/mnt/performance:/mnt/performance"} <= set(
        head["mounts"]
    )
    assert head["secret_files"] == {"VLLM_API_KEY": "/etc/muster/key"}
    assert follower["secret_files"] == {}
    assert head["env"]["HCCL_IF_BASE_PORT"] == "61000"
    assert made["host_tuning"]["reserved_ports"] == ["61000-61031"]
    # That it knows no answers is no reason to leave the load out, which the recipe wants.
    assert made["verify"] == {"known_answers": None, "max_repetition": None, "soak_s": 1200}


@pytest.mark.parametrize(("port", "reserved"), [(32767, []), (32768, ["32768-32768"])])
def test_ports_that_the_kernel_deals_out_are_reserved(port: int, reserved: list[str]) -> None:
    made = plan(view(c=[host(1, "minimax-m2.5/vllm-nvidia", port=port)]))
    assert made["host_tuning"]["reserved_ports"] == reserved


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"holds_for": "~=0.22"}, "c: recipe own: '~=0.22' is not a range such as"),
        (
            {"image": "vllm/vllm-openai"},
            "c: engine.image of the recipe: vllm/vllm-openai has no tag",
        ),
        ({"version": "0.18.0"}, "not for its own engine.version 0.18.0"),
    ],
)
def test_an_own_recipe_that_cannot_be_is_refused_by_name(
    spec: dict[str, str], expected: str
) -> None:
    def load_changed(name: str, variant: str | None, folders: Any) -> Any:
        recipe = load("minimax-m2.5/vllm-nvidia", variant)
        return {**recipe, "engine": {**recipe["engine"], **spec}}

    inventory = view(c=[host(1, "own")])
    with pytest.raises(PlanError, match=re.escape(expected)):
        planner.plan_clusters(inventory, ["c-0"], planner.Verb(), load_changed, "0.1.0")


def test_how_long_verify_loads_is_the_recipes_or_the_operators() -> None:
    assert plan(pair())["verify"]["soak_s"] == 1200
    assert plan(pair(verify_soak_s=0))["verify"]["soak_s"] == 0
    assert plan(single())["verify"]["soak_s"] == 0
    assert plan(single(verify_soak_s=300))["verify"]["soak_s"] == 300


def test_where_the_weights_are() -> None:
    (unit,) = plan(single())["units"]
    assert unit["argv"][2] == "/models/m2.5"
    assert "/models/m2.5:/models/m2.5:ro" in unit["mounts"]
    hub = plan(single(model_source="modelscope", model_path=None))
    assert hub["units"][0]["argv"][2] == "Eco-Tech/MiniMax-M2.5-w8a8-QuaRot"
    assert hub["units"][0]["env"]["VLLM_USE_MODELSCOPE"] == "True"
    assert hub["model"]["path"] is None


def test_draft_weights_turn_on_speculative_decoding() -> None:
    off = plan(single())
    assert "speculative-config" not in flags(off["units"][0])
    assert any("muster_draft_model_path" in warning for warning in off["warnings"])
    on = plan(single(draft_model_path="/models/eagle"))
    config = json.loads(flags(on["units"][0])["speculative-config"] or "")
    assert config["model"] == "/models/eagle"
    assert "/models/eagle:/models/eagle:ro" in on["units"][0]["mounts"]


def test_an_image_by_digest_is_run_by_digest() -> None:
    digest = "sha256:" + "a" * 64
    made = plan(single(image=f"registry:5000/engine:1@{digest}"))
    assert made["engine"]["image"] == "registry:5000/engine:1"
    assert made["engine"]["digest"] == digest
    assert made["units"][0]["image"] == f"registry:5000/engine:1@{digest}"


def test_a_patch_release_in_range_brings_its_image() -> None:
    assert plan(pair(engine_version="0.18.1"))["engine"]["image"].endswith(":v0.18.1")


def test_host_tuning_can_be_changed_and_left_alone() -> None:
    own = {"cpu_governor": None, "sysctl": {"vm.swappiness": 1, "kernel.numa_balancing": None}}
    assert plan(pair(host_tuning=own))["host_tuning"] == {
        "cpu_governor": None,
        "sysctl": {"vm.swappiness": 1},
        "sched_migration_cost_ns": 50000,
        "reserved_ports": ["60000-60031"],
    }


def test_two_deployments_share_a_machine_when_devices_and_ports_differ() -> None:
    def half(number: int, **variables: Any) -> Any:
        four = {"tensor-parallel-size": 4}
        own = {"node": "m", "engine_args": four, "weights_gb": 100, **variables}
        return host(number, SINGLE, **own)

    a = half(1, devices=[0, 1, 2, 3])
    b = half(1, devices=[4, 5, 6, 7], port=8001, hccl_base_port=60032)
    assert problems(view(a=[a], b=[b]), ["a-0"]) == []
    clash = half(1, devices=[3, 4, 5, 6], port=8001, hccl_base_port=60031)
    assert problems(view(a=[a], b=[clash]), ["a-0"]) == [
        "a-0 and b-0 are one machine (m) and both claim device 3: give each its own "
        "muster_devices; or correct muster_node",
        "a-0 and b-0 are one machine (m) and both claim a port, hccl 60000-60031 and hccl "
        "60031-60062: change muster_hccl_base_port of one; or correct muster_node",
    ]


def in_two_groups(**variables: Any) -> Any:
    inventory = view(a=[host(1, SINGLE, **variables)], b=[host(2, SINGLE)])
    inventory["groups"]["b"].append("a-0")
    return inventory


def documented(address: str) -> Any:
    inventory = single()
    inventory["hostvars"]["c-0"]["ansible_host"] = address
    return inventory


REFUSED = {
    "unknown recipe": (
        pair(recipe="minimax-m2.5/vllm-ascend-a22"),
        "c: recipe 'minimax-m2.5/vllm-ascend-a22' is unknown: did you mean "
        "minimax-m2.5/vllm-ascend-a2?",
    ),
    "unknown variant": (pair(variant="tp8-dp3"), "did you mean tp8-dp2?"),
    "unknown variable": (pair(engine_arg={}), "did you mean muster_engine_args?"),
    "wrong type": (pair(port="http"), "c: muster_port has to be a port, 1 to 65535, not 'http'"),
    "wrong type of a flag": (
        pair(engine_args={"max-num-seqs": "many"}),
        "max-num-seqs has to be a whole number, not 'many'",
    ),
    "a flag in two spellings": (
        pair(engine_args={"max-num-seqs": 1, "max_num_seqs": 2}),
        "twice, with hyphens and underscores",
    ),
    "a computed flag": (pair(engine_args={"port": 1}), "set muster_port"),
    "a computed variable": (
        pair(engine_env={"ASCEND_RT_VISIBLE_DEVICES": "0"}),
        "ASCEND_RT_VISIBLE_DEVICES is what the plan computes",
    ),
    "a secret in the environment": (
        pair(engine_env={"VLLM_API_KEY": "x"}),
        "set muster_api_key_file",
    ),
    "a newline in the environment": (
        pair(engine_env={"A": "x\ny"}),
        "c: muster_engine_env: A has to be one line of text",
    ),
    "an impossible name in the environment": (pair(engine_env={"A-B": "x"}), "'A-B' cannot name"),
    "too few devices": (
        pair(engine_args={"data-parallel-size": 4}),
        "c-0: tensor-parallel-size 8 x 2 of data-parallel-size 4 takes 16 devices and the node "
        "gives 8",
    ),
    "idle devices": (
        pair(engine_args={"tensor-parallel-size": 4}),
        "takes 4 devices and the node gives 8: raise one of them in muster_engine_args, name fewer "
        "muster_devices, or set muster_idle_devices: true",
    ),
    "tensor parallelism over nodes": (
        pair(engine_args={"tensor-parallel-size": 16, "data-parallel-size": 2}),
        "tensor parallelism does not cross nodes",
    ),
    "ranks that cannot be dealt": (
        pair(engine_args={"data-parallel-size": 1}),
        "data-parallel-size 1 cannot be dealt to the 2 nodes",
    ),
    "context parallelism that does not fit": (
        pair(engine_args={"prefill-context-parallel-size": 2}),
        "tensor-parallel-size 8 x prefill-context-parallel-size 2 takes 16 devices",
    ),
    "zero": (pair(engine_args={"tensor-parallel-size": 0}), "a number from 1 to 4096, not 0"),
    "devices that do not exist": (single(devices=[7, 8]), "different devices from 0 to 7"),
    "no device": (single(devices=[]), "c-0: muster_devices names no device: leave it out for all"),
    "a device twice": (single(devices=[1, 1]), "different devices from 0 to 7"),
    "an odd node": (
        view(c=[host(1), host(2), host(3)]),
        "c: has 3 nodes, and minimax-m2.5/vllm-ascend-a2 needs 2 for a replica: c-2 would be left",
    ),
    "no interface": (pair(interface=None), "c-0: muster_interface is not set"),
    "no address": (
        documented("node.example"),
        "c-0: muster_address is not set, and neither ansible_host",
    ),
    "not an address": (pair(address="10.0.0"), "muster_address has to be an IP address"),
    "one address twice": (view(c=[host(1), host(1)]), "c-1: has the address 10.0.0.1, and so has"),
    "a documentation address": (documented("203.0.113.9"), "reserved for documentation"),
    "a documentation address of IPv6": (documented("2001:db8::1"), "reserved for documentation"),
    "no weights": (pair(model_path=None), "c: muster_model_path is not set"),
    "weights that are on no hub": (
        single(model_source="huggingface"),
        "MiniMax-M2.5-w8a8-QuaRot is not on huggingface",
    ),
    "ports that overlap": (
        pair(port=60031),
        "the ports hccl (60000-60031) and api (60031) overlap: change muster_hccl_base_port",
    ),
    "ports that end too late": (pair(hccl_base_port=65530), "ends beyond port 65535"),
    "nodes that disagree": (
        view(c=[host(1), host(2, port=9000)]),
        "c-1: muster_port is 9000 and on c-0 not set: it has to be equal on all nodes",
    ),
    "nodes whose maps disagree": (
        view(c=[host(1, proxy={"http": "secret"}), host(2, proxy={"http": "other"})]),
        "c-1: muster_proxy is a map of http and on c-0 a map of http: it has to be equal",
    ),
    "an image that is none": (pair(image="x@sha256:12"), "muster_image has to be NAME:TAG"),
    "a version out of range": (
        pair(engine_version="0.32.0"),
        "holds for vllm-ascend >=0.18.0,<0.19, not for muster_engine_version 0.32.0",
    ),
    "a version that is none": (pair(engine_version="latest"), "'latest' is not a version"),
    "an install that the recipe lacks": (pair(install="venv"), "has no venv install"),
    "tuning that is unknown": (pair(host_tuning={"sysctls": {}}), "did you mean sysctl?"),
    "a firewall without sources": (
        pair(firewall={"enabled": True}),
        "muster_firewall: api_sources has to name who reaches the API",
    ),
    "a firewall and a peer without an address": (
        view(
            c=[
                host(1, firewall={"enabled": True, "api_sources": ["10.2.0.0/16"]}),
                host(
                    2,
                    firewall={"enabled": True, "api_sources": ["10.2.0.0/16"]},
                    address="127.0.0.1",
                ),
            ]
        ),
        "c-1: its address 127.0.0.1 is a loopback",
    ),
    "one name in two clusters": (
        in_two_groups(cluster="a"),
        "a-0: belongs to the clusters a and b: give the machine an inventory name for each",
    ),
    "several groups": (in_two_groups(), "set muster_cluster to the one that is its cluster"),
    "a cluster that is no group": (pair(cluster="d"), "muster_cluster names 'd'"),
    "several clusters": (
        view(a=[host(1, SINGLE)], b=[host(2, SINGLE)]),
        "serve takes one cluster: choose one of a, b with -l",
    ),
    "no cluster": (pair(recipe=None), "none of the hosts c-0, c-1 belongs to a cluster"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_its_reason(case: str) -> None:
    inventory, expected = REFUSED[case]
    found = problems(inventory)
    assert expected in "\n".join(found), found


def nested(**sets: bool) -> Any:
    """A cluster in a data centre, with groups of its own below it and one beside it."""
    inventory = pair()
    inventory["groups"] |= {
        "dc": ["c-0", "c-1", "web"],
        "monitored": ["c-0", "c-1"],
        "heads": ["c-0"],
        "followers": ["c-1"],
    }
    inventory["groups"]["all"].append("web")
    inventory["hostvars"]["web"] = {"ansible_host": "10.0.0.9"}
    return {**inventory, "sets_recipe": sets}


def test_the_cluster_is_the_one_group_that_sets_the_recipe() -> None:
    made = planner.plan_clusters(nested(c=True), ["c-0"], planner.Verb(), load, "0.1.0")
    assert list(made) == ["c"]
    assert made["c"]["units"][0]["name"] == "c-r0-rank0"
    other = planner.plan_clusters(nested(monitored=True), ["c-0"], planner.Verb(), load, "0.1.0")
    assert list(other) == ["monitored"]


@pytest.mark.parametrize(
    ("inventory", "expected"),
    [
        (nested(), "c-0: stands in the inventory groups c, dc, monitored, heads: set muster_clu"),
        (nested(c=True, dc=True), "c-0: the inventory groups c and dc both set muster_recipe: set"),
    ],
)
def test_a_cluster_that_nothing_tells_has_to_be_said(inventory: Any, expected: str) -> None:
    found = problems(inventory, ["c-0", "c-1"])
    assert found[0].startswith(expected)
    for name in ("c-0", "c-1"):
        inventory["hostvars"][name]["muster_cluster"] = "c"
    assert problems(inventory, ["c-0", "c-1"]) == []


def test_all_problems_come_at_once() -> None:
    found = problems(pair(interface=None, prt=1, engine_args={"seed": "x"}, model_path=None))
    assert len(found) == 5, found


def test_what_is_wrong_on_all_hosts_is_told_once() -> None:
    assert problems(pair(prt=1)) == ["c: muster_prt is unknown: did you mean muster_port?"]
    mixed = view(c=[host(1, prt=1), host(2, prt=1), host(3), host(4)])
    assert [text.split(":")[0] for text in problems(mixed)] == ["c-0", "c-1"]


@pytest.mark.parametrize("verb", ["status", "plan"])
def test_what_changes_nothing_takes_example_addresses_and_part_of_a_replica(verb: str) -> None:
    assert problems(documented("192.0.2.1"), verb=verb, changes=False) == []
    assert problems(pair(), ["c-1"], verb=verb, changes=False) == []


def test_a_change_takes_whole_replicas() -> None:
    inventory = view(c=[host(n) for n in range(1, 5)])
    assert problems(inventory, ["c-2", "c-3"]) == []
    (message,) = problems(inventory, ["c-0", "c-1", "c-3"])
    assert message.startswith("c: the limit leaves out c-2 of replica 1 (c-2, c-3)")


def test_a_change_refuses_hosts_outside_the_cluster() -> None:
    inventory = pair()
    inventory["groups"]["all"].append("registry")
    inventory["hostvars"]["registry"] = {"ansible_host": "10.0.0.9"}
    assert problems(inventory, ["c-0", "c-1"]) == []
    assert "registry: no part of c" in problems(inventory)[0]
    assert problems(inventory, verb="status", changes=False) == []


def test_another_cluster_in_disorder_blocks_nobody() -> None:
    inventory = view(a=[host(1, SINGLE)], b=[host(2, "nosuch/recipe", prt=1)])
    assert problems(inventory, ["a-0"]) == []


@pytest.mark.parametrize(
    ("inventory", "flag", "stop_s"),
    [
        (pair(), "30", 60),
        (pair(drain_s=300), "300", 330),
        (pair(drain_s=0), None, 30),
        # vLLM has the flag from 0.18 on: an older one cuts off what it has.
        (pair(engine_version="0.17.1", engine_version_unproven=True, drain_s=300), None, 30),
        # SGLang finishes what it has until Docker's time is over.
        (view(c=[host(1, "minimax-m2/sglang-nvidia", drain_s=300)]), None, 330),
    ],
)
def test_a_stopped_engine_may_finish_its_requests_up_to_a_bound(
    inventory: Any, flag: str | None, stop_s: int
) -> None:
    for unit in plan(inventory)["units"]:
        assert flags(unit).get("shutdown-timeout") == flag
        assert unit["stop_timeout_s"] == stop_s


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"drain_s": 601}, "seconds, 0 to 600"),
        ({"drain_s": -1}, "seconds, 0 to 600"),
        ({"engine_args": {"shutdown-timeout": 5}}, "set muster_drain_s"),
    ],
)
def test_the_bound_of_a_stop_is_one_variable(variables: dict[str, Any], words: str) -> None:
    (message,) = problems(pair(**variables))
    assert words in message


def test_a_version_renders_what_it_takes() -> None:
    own = {"engine_version": "0.32.0", "engine_version_unproven": True}
    made = plan(pair(**own))
    assert made["engine"]["version"] == "0.32.0"
    assert any("accepted by muster_engine_version_unproven" in w for w in made["warnings"])
    key = {"compilation-config": {"pass_config": {"fuse_minimax_qk_norm": True}}}
    message = problems(pair(**own, engine_args=key))[0]
    assert "fuse_minimax_qk_norm does not go with muster_engine_version 0.32.0" in message


def test_a_name_that_nobody_knows_passes_when_the_inventory_says_so() -> None:
    own = {"engine_args": {"brand-new": 4}, "engine_env": {"VLLM_BRAND_NEW": "1"}}
    made = plan(single(**own, engine_unchecked=["brand-new", "VLLM_BRAND_NEW"]))
    assert flags(made["units"][0])["brand-new"] == "4"


def test_planning_reads_and_never_writes() -> None:
    inventory = pair(engine_args={"additional-config": {"refresh": True}})
    before = deepcopy(inventory)
    assert plan(inventory) == plan(inventory)
    assert inventory == before


YAMLISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["tensor-parallel-size", "10.0.0.1", "0.32.0", "vm.swappiness", "a:/b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [name for name in inventory_vars.cluster_wide() if name != "muster_recipes_path"]
    + [
        "muster_cluster",
        "muster_node",
        "muster_address",
        "muster_devices",
        "muster_waivers",
        "ansible_host",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    recipe=st.sampled_from([PAIR, SINGLE]),
    noise=st.dictionaries(NAMES, YAMLISH, min_size=1, max_size=3),
    changes=st.booleans(),
)
def test_any_inventory_gives_a_plan_or_an_error(recipe: str, noise: Any, changes: bool) -> None:
    inventory = view(c=[{**host(n, recipe), **noise} for n in (1, 2)])
    try:
        plans = planner.plan_clusters(
            inventory, ["c-0", "c-1"], planner.Verb("serve", changes), load, "0.1.0"
        )
    except PlanError as error:
        messages = error.messages
    else:
        messages = ["a plan"]
        json.dumps(plans, allow_nan=False)
    assert all(message.strip() for message in messages)
    assert messages


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "a\nb", "x" * 201, "/etc"])
def test_a_host_whose_name_can_be_no_file_is_refused(name):
    inventory = single()
    inventory["groups"] = {"all": [name], "ungrouped": [], "c": [name]}
    inventory["hostvars"] = {name: inventory["hostvars"]["c-0"]}
    (problem,) = problems(inventory)
    assert f"{name!r} cannot name a node" in problem


@pytest.mark.parametrize(
    "name", ["node.a.lan", "NODE_1", "2001:db8::9", "fe80::1%eth0", "a b", "ñ"]
)
def test_any_other_name_of_a_host_is_planned(name):
    inventory = single()
    inventory["groups"] = {"all": [name], "ungrouped": [], "c": [name]}
    inventory["hostvars"] = {name: inventory["hostvars"]["c-0"]}
    assert {unit["host"] for unit in plan(inventory)["units"]} == {name}
