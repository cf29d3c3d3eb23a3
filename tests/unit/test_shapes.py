"""More shapes than one engine a node: external ranks, larger replicas, gateways, and what fits."""

import json
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_access import (
    certificate_path,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import advice, memory, planner
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import checks_of, needs_of
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import PAIR, flags, host, load, pair, plan, problems, single, view

FOUR_RANKS = {"tensor-parallel-size": 4, "data-parallel-size": 4}
M2 = {
    "size_gb": 220,
    "expert_share": 0.98,
    "kv_gb_per_million_tokens": 240,
    "kv_heads": 8,
}


# --- external data parallelism ------------------------------------------------------------------


def test_external_ranks_have_their_own_unit_devices_and_ports() -> None:
    made = plan(pair(data_parallel="external", engine_args=FOUR_RANKS))
    units = made["units"]
    assert [(unit["name"], unit["host"], unit["role"]) for unit in units] == [
        ("c-r0-rank0", "c-0", "rank"),
        ("c-r0-rank1", "c-0", "rank"),
        ("c-r0-rank2", "c-1", "rank"),
        ("c-r0-rank3", "c-1", "rank"),
    ]
    assert [unit["devices"] for unit in units] == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
    assert [unit["ports"] for unit in units] == [
        {"api": 20004, "dp_rpc": 2347, "link": 2348, "hccl": "60000-60031"},
        {"api": 20005, "hccl": "60032-60063"},
        {"api": 20004, "link": 2348, "hccl": "60000-60031"},
        {"api": 20005, "hccl": "60032-60063"},
    ]
    assert made["host_tuning"]["reserved_ports"] == ["60000-60063"]
    assert made["endpoint"]["backends"] == [
        f"http://10.0.0.{node}:{port}/v1" for node in (1, 2) for port in (20004, 20005)
    ]
    second = units[1]
    assert second["device_nodes"][0] == "/dev/davinci4"
    assert second["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"
    assert second["env"]["HCCL_IF_BASE_PORT"] == "60032"
    assert "HCCL_IF_BASE_PORT" not in units[0]["env"]


def test_external_ranks_are_told_their_number_and_where_rank_0_is() -> None:
    units = plan(pair(data_parallel="external", engine_args=FOUR_RANKS))["units"]
    for rank, unit in enumerate(units):
        said = flags(unit)
        assert said["data-parallel-rank"] == str(rank)
        assert said["data-parallel-size"] == "4"
        assert said["data-parallel-address"] == "10.0.0.1"
        assert said["data-parallel-rpc-port"] == "2347"
        assert said["port"] == str(unit["ports"]["api"])
        assert not {"headless", "data-parallel-size-local", "data-parallel-start-rank"} & set(said)


def test_one_agent_a_node_watches_all_its_ranks() -> None:
    links = plan(pair(data_parallel="external", engine_args=FOUR_RANKS))["links"]
    assert [(link["host"], link["peers"]) for link in links] == [
        ("c-0", ["10.0.0.2"]),
        ("c-1", ["10.0.0.1"]),
    ]
    assert links[1]["units"] == ["muster-c-r0-rank2.service", "muster-c-r0-rank3.service"]
    two = {"tensor-parallel-size": 4, "data-parallel-size": 2}
    (link,) = plan(single(data_parallel="external", engine_args=two))["links"]
    assert link["peers"] == []
    assert link["units"] == ["muster-c-r0-rank0.service", "muster-c-r0-rank1.service"]


def test_one_rank_is_single_whatever_the_mode() -> None:
    made = plan(single(data_parallel="external"))
    assert [unit["role"] for unit in made["units"]] == ["single"]
    assert [link["peers"] for link in made["links"]] == [[]]


@given(tensor=st.sampled_from([1, 2, 4, 8]), data=st.sampled_from([2, 4, 8, 16]))
def test_external_ranks_never_share_a_device_or_a_port(tensor: int, data: int) -> None:
    args = {"tensor-parallel-size": tensor, "data-parallel-size": data}
    inventory = pair(data_parallel="external", engine_args=args, weights_gb=1, idle_devices=True)
    found = problems(inventory)
    if tensor * data > 16:
        assert any("devices and the node gives 8" in text for text in found)
        return
    assert found == []
    made = plan(inventory)
    assert planner.machine_conflicts([made]) == []
    assert sorted(rank for unit in made["units"] for rank in unit["ranks"]) == list(range(data))
    assert all(len(unit["devices"]) == tensor for unit in made["units"])


# --- larger replicas ----------------------------------------------------------------------------


def test_a_replica_of_more_nodes_has_as_many_more_ranks() -> None:
    made = plan(view(c=[host(n, replica_nodes=4) for n in range(1, 5)]))
    assert [unit["role"] for unit in made["units"]] == ["head", *["follower"] * 3]
    assert [unit["ranks"] for unit in made["units"]] == [[0], [1], [2], [3]]
    assert {flags(unit)["data-parallel-size"] for unit in made["units"]} == {"4"}
    assert {flags(unit)["tensor-parallel-size"] for unit in made["units"]} == {"8"}
    assert len(made["replicas"]) == 1
    assert [len(link["peers"]) for link in made["links"]] == [3] * 4


def test_nodes_that_fill_no_replica_are_named() -> None:
    (found,) = problems(view(c=[host(n, replica_nodes=4) for n in range(1, 7)]))
    assert "c-4, c-5 would be left over" in found


# --- gateways -----------------------------------------------------------------------------------


def replicas(**variables: Any) -> Any:
    return view(c=[host(n, **variables) for n in range(1, 5)])


def test_a_gateway_stands_before_all_replicas() -> None:
    made = plan(replicas(gateway_hosts=["c-0", "c-2"], gateway_address="10.0.0.99"))
    assert made["endpoint"]["url"] == "http://10.0.0.99:8080/v1"
    assert made["gateway"]["floating"] == {"address": "10.0.0.99", "router_id": 51}
    gateways = [unit for unit in made["units"] if unit["role"] == "gateway"]
    assert [(unit["host"], unit["replica"], unit["group"]) for unit in gateways] == [
        ("c-0", 0, "gateway-0"),
        ("c-2", 1, "gateway-1"),
    ]
    (config,) = gateways[0]["files"].values()
    for backend in ("10.0.0.1:20004", "10.0.0.3:20004"):
        assert backend in config
    assert "10.0.0.2:20004" not in config
    checks = checks_of(made, needs_of(made))
    assert "8080" in checks["c-0"]["port_check"]["ports"]
    assert "8080" not in checks["c-1"]["port_check"]["ports"]
    assert checks["c-0"]["host_check"]["images"] != checks["c-1"]["host_check"]["images"]


def test_without_a_floating_address_the_first_gateway_is_the_endpoint() -> None:
    made = plan(replicas(gateway_hosts=["c-2"], gateway_port=80))
    assert made["endpoint"]["url"] == "http://10.0.0.3:80/v1"


GIVEN = {"certificate": "/etc/ssl/llm.pem", "key": "/etc/ssl/llm.key"}


@pytest.mark.parametrize(
    ("hosts", "more", "url", "called"),
    [
        (["c-2"], {"gateway_tls": {}}, "https://10.0.0.3:8080/v1", "10.0.0.3"),
        (["c-2"], {"gateway_tls": {"name": "llm.lan"}}, "https://llm.lan:8080/v1", "llm.lan"),
        (["c-0", "c-2"], {"gateway_tls": GIVEN}, "https://10.0.0.1:8080/v1", "10.0.0.1"),
        (
            ["c-0", "c-2"],
            {"gateway_tls": GIVEN, "gateway_address": "10.0.0.99"},
            "https://10.0.0.99:8080/v1",
            "10.0.0.99",
        ),
    ],
)
def test_with_tls_clients_come_by_an_address_that_the_certificate_is_for(
    hosts: list[str], more: Any, url: str, called: str
) -> None:
    made = plan(replicas(gateway_hosts=hosts, **more))
    assert made["endpoint"]["url"] == url
    gateways = [unit for unit in made["units"] if unit["role"] == "gateway"]
    assert gateways[0]["tls"]["names"] == [called]
    for unit in gateways:
        (config,) = unit["files"].values()
        (bind,) = [line for line in config.splitlines() if line.startswith("    bind ")]
        assert f" ssl crt {certificate_path(unit['name'])} " in bind
        assert unit["api_url"].startswith("https://10.0.0.")
        if unit["floating"]:
            assert "http://" not in unit["floating"]["config"]


def test_keys_change_nothing_of_a_plan() -> None:
    own = {"gateway_hosts": ["c-0"], "api_key_file": "/etc/muster/api-key"}
    one = plan(replicas(gateway_keys={"a": "k" * 16}, **own))
    other = plan(replicas(gateway_keys={"b": ["l" * 16, "m" * 16]}, **own))
    assert one == other
    assert one != plan(replicas(**own))


def test_a_gateway_stands_before_external_ranks() -> None:
    own = {"data_parallel": "external", "engine_args": FOUR_RANKS, "gateway_hosts": ["c-0"]}
    (gateway,) = [unit for unit in plan(pair(**own))["units"] if unit["role"] == "gateway"]
    (config,) = gateway["files"].values()
    assert all(f"10.0.0.{n}:{port}" in config for n in (1, 2) for port in (20004, 20005))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"gateway_hosts": ["c-9"]}, "'c-9', which is no host of the cluster"),
        ({"gateway_hosts": ["c-0", "c-0"]}, "names a host twice"),
        ({"gateway_hosts": ["c-0"], "gateway_address": "10.0.0.99"}, "muster_gateway_hosts"),
        ({"gateway_hosts": ["c-0", "c-1"], "gateway_address": "10.0.0.2"}, "a node's own address"),
        ({"gateway_hosts": ["c-0"], "gateway_port": 20004}, "change muster_gateway_port"),
        ({"gateway_hosts": ["c-0"], "gateway_balance": "random"}, "one of least-outstanding"),
        ({"gateway_router_id": 256}, "a number from 1 to 255"),
        ({"gateway_hosts": ["c-0"], "gateway_keys": {}}, "set muster_api_key_file"),
        ({"gateway_hosts": ["c-0", "c-1"], "gateway_tls": {}}, "name a certificate and key"),
    ],
)
def test_a_gateway_that_cannot_work_is_refused(variables: Any, expected: str) -> None:
    assert expected in "\n".join(problems(replicas(**variables)))


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_gb", "devices", "published"),
    [(96, 4, 400_000), (144, 8, 3_000_000), (192, 2, 500_000), (192, 4, 1_500_000)],
)
def test_the_cache_is_what_the_vllm_guide_publishes(
    device_gb: int, devices: int, published: int
) -> None:
    """Within a third: the guide rounds, and does not say what it leaves to activations."""
    sizes = {"tensor": devices, "data": 1, "prefill_context": 1}
    need = memory.fit(
        M2,
        device_gb=device_gb,
        reserve_gb=4,
        utilization=0.9,
        sizes=sizes,
        experts_shared=False,
    )
    assert 0.75 < need.tokens / published < 4 / 3


def test_the_cache_of_a_token_is_what_a_real_engine_counted() -> None:
    """vLLM 0.22.1 on an H200 found room for 15,696,336 tokens of two layers in 119.75 GiB."""
    a_million = 119.75 / 15.696336 / 2 * 62
    recipe = load("minimax-m2.5/vllm-nvidia", None)
    assert recipe["model"]["kv_gb_per_million_tokens"] == pytest.approx(a_million, rel=0.02)


@given(
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    data=st.integers(1, 16),
    prefill=st.integers(1, 4),
    device=st.floats(8, 300),
    expert=st.booleans(),
)
def test_memory_adds_up(tensor: int, data: int, prefill: int, device: float, expert: bool) -> None:
    sizes = {"tensor": tensor, "data": data, "prefill_context": prefill}
    settings: Any = {"reserve_gb": 4, "utilization": 0.9, "sizes": sizes}
    need = memory.fit(M2, device_gb=device, experts_shared=expert, **settings)
    assert need.tokens >= 0
    assert need.cache == 0 or need.weights + need.reserve + need.cache == pytest.approx(
        need.available
    )
    larger = memory.fit(M2, device_gb=device + 1, experts_shared=expert, **settings)
    assert larger.tokens >= need.tokens
    dealt = memory.fit(M2, device_gb=device, experts_shared=True, **settings)
    assert dealt.weights <= need.weights


@pytest.mark.parametrize(
    ("recipe", "version", "args", "share"),
    [
        ("minimax-m2.5/vllm-nvidia", "0.19.1", {}, 0.9),
        ("minimax-m2.5/vllm-nvidia", "0.20.0rc1", {}, 0.92),
        ("minimax-m2.5/vllm-nvidia", "0.22.1", {}, 0.92),
        ("minimax-m2.5/vllm-nvidia", "0.22.1", {"gpu-memory-utilization": 0.89}, 0.89),
        ("minimax-m2.5/vllm-rocm", None, {}, 0.9),
        ("minimax-m2.1/sglang-nvidia", None, {"mem-fraction-static": None}, 0.85),
    ],
)
def test_the_share_of_memory_is_what_the_engines_version_takes(
    recipe: str, version: str | None, args: Any, share: float
) -> None:
    settings = {"engine_version": version, "engine_version_unproven": bool(version) or None}
    made = plan(view(c=[host(1, recipe, engine_args=args, **settings)]))
    assert made["engine"]["memory_utilization"] == share
    devices = made["engine"]["rank_devices"] * made["memory"]["device_gb"]
    assert made["memory"]["rank_gb"] == round(devices * share, 1)


def test_weights_that_do_not_fit_are_refused_with_the_figures() -> None:
    (found,) = problems(view(c=[host(1, PAIR, replica_nodes=1)]))
    assert "the weights do not fit" in found
    assert "471 GiB a rank, 460 GiB of them weights" in found


def test_the_largest_context_that_fits_is_said() -> None:
    args = {"max-model-len": 196608, "gpu-memory-utilization": 0.6}
    (found,) = problems(single(engine_args=args, device_memory_gb=60))
    assert "max-model-len 196608 does not fit" in found
    fits = int(found.split(" in muster_engine_args to ")[1].split()[0])
    assert fits % 1024 == 0
    assert problems(single(engine_args={**args, "max-model-len": fits}, device_memory_gb=60)) == []


def test_ranks_of_vllm_share_the_experts_with_and_without_expert_parallelism() -> None:
    """Each rank of four NPUs could not hold all of them."""
    sizes = {"tensor-parallel-size": 4, "data-parallel-size": 2}
    for expert in (True, None):
        args = {**sizes, "enable-expert-parallel": expert}
        assert problems(single(engine_args=args)) == []


def test_other_weights_and_devices_are_taken_at_their_word() -> None:
    small = {"engine_args": {"tensor-parallel-size": 1}, "idle_devices": True}
    assert problems(single(**small)) != []
    assert problems(single(**small, weights_gb=1)) == []
    assert plan(single(device_memory_gb=96))["memory"]["device_gb"] == 96


# --- advice -------------------------------------------------------------------------------------

CONFIG = {
    "args": {"flag": {"key": 3}, "on": True, "off": False, "word": "/models/M2.5-draft"},
    "env": {"NAME": "1"},
}
SIZES = {"tensor": 8, "data": 1, "prefill_context": 1}


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"args.flag.key": 3}, True),
        ({"args.flag.key": 4}, False),
        ({"args.flag.other": 3}, False),
        ({"args.flag.key.deeper": 3}, False),
        ({"args.on": {"set": True}}, True),
        ({"args.off": {"set": False}}, True),
        ({"args.absent": {"set": False}}, True),
        ({"args.absent": {"min": 1}}, False),
        ({"env.NAME": "1", "sizes.tensor": {"min": 8}}, True),
        ({"env.NAME": "1", "sizes.tensor": {"max": 7}}, False),
        ({"context": {"min": 65536, "max": 200000}}, True),
        ({"args.on": {"min": 1}}, False),
        ({"model.expert_share": {"min": 0.5}}, True),
        ({"model.expert_share": {"max": 0}}, False),
        ({"args.word": {"matches": "M2[.]5"}}, True),
        ({"args.word": {"matches": "M2[.]7"}}, False),
        ({"args.flag": {"matches": "."}}, False),
        ({"args.word": {"not": "other"}}, True),
        ({"env.NAME": {"not": "1"}}, False),
        ({"env.ABSENT": {"not": "1"}}, True),
        ({"env.ABSENT": {"set": True, "not": "1"}}, False),
        ({"device_gb": {"min": 64}}, True),
        ({"device_gb": {"min": 65}}, False),
    ],
)
def test_advice_holds_when_all_its_conditions_are_met(when: Any, holds: bool) -> None:
    item = {"level": "error", "when": when, "reason": "why", "remedy": "what"}
    advised = advice.heed([item], CONFIG, SIZES, 196608, M2, 64)
    assert advised.errors == (["why: what"] if holds else [])
    assert advised.warnings == []


# --- what an engine version knows ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"engine_args": {"max-num-seq": 4}}, "did you mean max-num-seqs?"),
        ({"engine_args": {"max-num-seq": 4}}, "muster_engine_unchecked"),
        ({"wheel_channel": "release", "install": "venv"}, "has no venv install"),
        ({"engine_args": {"tensor-parallel-size": True}}, "tensor-parallel-size has to be a whole"),
        ({"engine_args": {"tensor-parallel-size": 5000}}, "a number from 1 to 4096"),
    ],
)
def test_what_the_engine_would_not_take_is_found_in_the_plan(variables: Any, expected: str) -> None:
    assert expected in "\n".join(problems(pair(**variables)))


def test_the_plan_is_json() -> None:
    own = {"data_parallel": "external", "engine_args": FOUR_RANKS, "gateway_hosts": ["c-0"]}
    made = plan(pair(**own))
    assert json.loads(json.dumps(made)) == made
