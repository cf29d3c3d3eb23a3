"""What the plan hands to each stage, and that playbooks compute nothing of it themselves."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.node import look_io as node_look
from ansible_collections.muster.serving.plugins.module_utils.units.verified import digest, kept_part
from ansible_collections.muster.serving.plugins.plugin_utils.plan.stages import run_of, stages_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.variables import REGISTERED

from tests.conftest import ROOT
from tests.unit.plan_support import host, pair, plan, single, view

EXTERNAL = {"data_parallel": "external", "gateway_hosts": ["c-0"]}


def stages(inventory: Any, *limited: str, **more: Any) -> Any:
    made = plan(inventory)
    hosts = limited or tuple(inventory["groups"]["c"])
    return stages_of(made, hosts, **more)


def test_prepare_hands_over_what_the_plan_has() -> None:
    head = stages(pair())["c-0"]
    assert head["engine_image"]["image"].startswith("quay.io/ascend/vllm-ascend")
    assert head["engine_image"]["preload"] == ["libjemalloc.so.2"]
    assert head["model_weights"] == {"path": "/models/m2.5", "draft_paths": []}
    assert head["docker"] == {}
    assert "/dev/davinci7" in head["accelerator"]["device_nodes"]
    assert (head["gateway"], head["gateway_image"], head["engine_venv"]) == (None, None, None)
    docker = {"registry_ca": {"r:5000": "PEM"}, "insecure_registries": ["r:5001"]}
    assert stages(pair(), docker=docker)["c-0"]["docker"] == docker


def test_a_run_that_changes_nodes_looks_at_what_its_stages_look_after() -> None:
    assert all(stage["look"] == {} for stage in stages(pair()).values())
    for stage in stages(pair(), docker={"registry_mirrors": ["https://m"]}).values():
        look = stage["look"]
        assert set(look) == {
            "docker",
            "engine_image",
            "firewall",
            "host_tuning",
            "unit",
            "verified",
        }
        assert look["docker"] == {"registry_mirrors": ["https://m"], "deployment": "c"}
        assert look["verified"]["digest"] == digest(kept_part(stage["part"]))
        for name, options in look.items():
            assert node_look.options_of("states", name, options)


def test_a_gateways_keys_and_certificate_are_prepared_where_it_runs() -> None:
    own = {"gateway_hosts": ["c-0"], "api_key_file": "/etc/muster/api-key", "gateway_keys": {}}
    four = view(c=[host(n, **own, gateway_tls={}) for n in range(1, 5)])
    keys = {"a" * 64: "search"}
    made = stages(four, docker={}, team_keys=keys)
    access = made["c-0"]["gateway_access"]
    assert (access["gateway"], access["teams"]) == ("c-gateway0", keys)
    assert access["tls"]["names"] == ["10.0.0.1"]
    assert made["c-0"]["look"]["gateway_access"] == access
    assert node_look.options_of("states", "gateway_access", access)
    assert made["c-0"]["verify"]["gateway_ca"] == access["tls"]["ca"]
    assert made["c-1"]["gateway_access"] is None
    # A look alone is at the certificate, which may end; who is let in is no matter of a check.
    assert stages(four)["c-0"]["look"] == {"gateway_access": {**access, "teams": None}}


def test_without_a_container_there_is_no_docker() -> None:
    recipe = "minimax-m2/vllm-nvidia"
    (node,) = stages(view(c=[host(1, recipe, install="venv")])).values()
    assert (node["docker"], node["engine_image"]) == (None, None)
    assert node["engine_venv"]["readable"] == ["/models/m2.5"]


def test_one_host_of_a_replica_asks_and_the_head_where_it_can() -> None:
    both = stages(pair())
    assert both["c-0"]["verify"]["url"] == "http://10.0.0.1:20004/v1"
    assert both["c-0"]["verify"]["engines"] == {"0": "c-0", "1": "c-1"}
    assert both["c-1"]["verify"]["url"] is None
    alone = stages(pair(), "c-1")
    assert (alone["c-0"]["verify"]["url"], bool(alone["c-1"]["verify"]["url"])) == (None, True)


def test_ranks_with_an_api_of_their_own_are_asked_one_by_one() -> None:
    inventory = view(c=[host(1, "minimax-m2/vllm-nvidia", **EXTERNAL)])
    variant = {"muster_variant": "dp8-ep"}
    inventory["hostvars"]["c-0"].update(variant)
    (node,) = stages(inventory).values()
    assert len(node["verify"]["engine_urls"]) == 8
    assert node["verify"]["gateway_url"] == plan(inventory)["endpoint"]["url"]
    assert node["gateway_image"]["image"]


def test_a_takeover_is_of_a_hosts_own_devices_and_ports() -> None:
    head, follower = (one["takeover"] for one in stages(pair()).values())
    assert (head["vendor"], head["devices"]) == ("ascend", [*range(8)])
    assert "/dev/davinci7" in head["device_nodes"]
    assert "20004" in head["ports"]
    assert (head["bind_address"], follower["bind_address"]) == ("10.0.0.1", "10.0.0.2")
    assert node_look.options_of("states", "takeover", head)


CLOSED = {"enabled": True, "api_sources": ["10.2.0.0/16"], "also_allowed": [9100]}


def test_a_firewall_lets_in_the_other_hosts_and_the_apis_sources() -> None:
    assert {str(one["firewall"]) for one in stages(pair()).values()} == {"{'state': 'absent'}"}
    both = stages(pair(firewall=CLOSED), docker={})
    head, follower = both["c-0"]["firewall"], both["c-1"]["firewall"]
    assert head == {
        "state": "present",
        "peers": ["10.0.0.2"],
        "api_ports": ["20004"],
        "api_sources": ["10.2.0.0/16"],
        "internal_sources": [],
        "also_allowed": ["9100"],
        "close_others": False,
    }
    assert (follower["peers"], follower["api_ports"]) == (["10.0.0.1"], [])
    assert both["c-0"]["look"]["firewall"] == {**head, "deployment": "c"}
    assert node_look.options_of("states", "firewall", both["c-0"]["look"]["firewall"])


def test_behind_a_gateway_its_port_alone_is_the_api() -> None:
    nodes = [host(n, "minimax-m2.5-w8a8/vllm-ascend-a2", firewall=CLOSED) for n in (1, 2, 3)]
    inventory = view(c=nodes)
    for hostvars in inventory["hostvars"].values():
        hostvars["muster_gateway_hosts"] = ["c-1"]
    ports = {name: one["firewall"]["api_ports"] for name, one in stages(inventory).items()}
    assert ports == {"c-0": [], "c-1": ["8080"], "c-2": []}
    # Replicas are closed to each other's nodes no more than within: the gateway asks them all.
    assert stages(inventory)["c-0"]["firewall"]["peers"] == ["10.0.0.2", "10.0.0.3"]
    single = {"data_parallel": "external", "variant": "dp8-ep", "firewall": CLOSED}
    (node,) = stages(view(c=[host(1, "minimax-m2/vllm-nvidia", **single)])).values()
    assert len(node["firewall"]["api_ports"]) == 8


def test_a_host_keeps_its_own_groups_alone() -> None:
    replicas = [host(number, "minimax-m2.5-w8a8/vllm-ascend-a2") for number in (1, 2)]
    inventory = view(c=replicas)
    for hostvars in inventory["hostvars"].values():
        hostvars["muster_gateway_hosts"] = ["c-1"]
    by_host = stages(inventory)
    assert [unit["group"] for unit in by_host["c-0"]["part"]["units"]] == ["replica-0"]
    assert [unit["group"] for unit in by_host["c-1"]["part"]["units"]] == [
        "replica-1",
        "gateway-0",
    ]
    assert [one["index"] for one in by_host["c-1"]["part"]["replicas"]] == [1]


def test_reports_and_waivers_of_a_run() -> None:
    waiver = {"check": "npu-ecc", "reason": "r", "until": "2027-01-31"}
    inventory = single(waivers=[waiver])
    run = run_of(plan(inventory), ["c-0"], inventory["hostvars"])
    assert run["reports"]["preflight"] == "muster-output/c/preflight.json"
    assert (run["hosts"], run["replicas"]) == (["c-0"], [["c-0"]])
    assert run["waivers"] == {"c-0": [waiver]}
    inventory["hostvars"]["c-0"]["muster_output_dir"] = "/srv/out"
    run = run_of(plan(inventory), [], inventory["hostvars"])
    assert run["reports"]["verified_plan"] == "/srv/out/verified-plan.json"
    assert run["hosts"] == []


def test_what_a_host_gets_does_not_grow_with_the_cluster() -> None:
    def size(hosts: int) -> int:
        nodes = [host(n, "minimax-m2.5-w8a8/vllm-ascend-a2") for n in range(1, hosts + 1)]
        return len(repr(stages(view(c=nodes))["c-0"]))

    assert size(40) <= size(2) + 200


def expressions(path: Path) -> Iterator[str]:
    """Every Jinja expression of a playbook, those of conditions included."""

    def walk(value: Any, key: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                yield from walk(item, str(name))
        elif isinstance(value, list):
            for item in value:
                yield from walk(item, key)
        elif isinstance(value, str):
            if key in ("when", "failed_when", "changed_when", "until"):
                yield f"{{{{ {value} }}}}"
            elif "{{" in value:
                yield from re.findall(r"\{\{.*?\}\}", value, re.DOTALL)

    yield from walk(yaml.safe_load(path.read_text(encoding="utf-8")), "")


def work(expression: str) -> int:
    """How many filters and lookups an expression has."""
    environment = jinja2.Environment(autoescape=True)
    found = re.sub(r"\bmuster\.serving\.", "", expression)
    tree = environment.parse(re.sub(r"\bansible\.builtin\.", "", found))
    calls = [
        node
        for node in tree.find_all(jinja2.nodes.Call)
        if getattr(node.node, "name", "") in ("lookup", "query", "q")
    ]
    return len(list(tree.find_all(jinja2.nodes.Filter))) + len(calls)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem
)
def test_a_playbook_computes_nothing(path: Path) -> None:
    assert [one for one in expressions(path) if work(one) > 1] == []


def test_work_counts_filters_and_lookups() -> None:
    assert work("{{ a.b[c] }}") == 0
    assert work("{{ a | default([]) }}") == 1
    assert work("{{ a | select('in', b) | list }}") == 2
    assert work("{{ query('ansible.builtin.file', a) | first }}") == 2


@pytest.mark.parametrize("register", ["muster_plan", "muster_work"])
def test_what_a_run_goes_on_with_is_not_forgotten_by_a_task_that_is_skipped(register: str) -> None:
    def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for one in entries:
            yield one
            for part in ("block", "rescue", "always"):
                yield from tasks(one.get(part, []))

    found = [
        task
        for path in (ROOT / "playbooks").glob("*.yml")
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        for task in tasks(play.get("tasks", []))
        if task.get("register") == register
    ]
    assert found
    assert [task["name"] for task in found if "when" in task] == []


def tasks_of(book: str, part: str) -> Iterator[dict[str, Any]]:
    """Return what a playbook gives to roles of a task whose name has a part."""

    def walk(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, list):
            for item in value:
                yield from walk(item)
        elif isinstance(value, dict):
            if part in str(value.get("name")) and "ansible.builtin.import_role" in value:
                yield value["vars"]
            for item in value.values():
                yield from walk(item)

    return walk(yaml.safe_load((ROOT / "playbooks" / book).read_text(encoding="utf-8")))


def test_whoever_takes_one_replica_after_the_other_verifies_alike() -> None:
    upgrade, takeover = (
        {name: given for name, given in roll.items() if name.startswith("verify_")}
        for book in ("upgrade.yml", "takeover.yml")
        for roll in tasks_of(book, "one replica after the other")
    )
    assert "verify_soak_s" in upgrade
    assert takeover == upgrade


def test_verify_keeps_under_load_what_the_run_has_started_and_not_asked_before() -> None:
    *_before, play = yaml.safe_load((ROOT / "playbooks/verify.yml").read_text(encoding="utf-8"))
    expression = play["vars"]["__verify_anew"].strip("{} ")
    anew = jinja2.Environment(autoescape=True).compile_expression(expression)
    work = {"takeover": ["c-0"]}
    assert anew(inventory_hostname="c-1", muster_work=work)
    assert not anew(inventory_hostname="c-0", muster_work=work)
    assert not anew(inventory_hostname="c-1")


def test_what_playbooks_register_is_no_setting_of_a_later_plan() -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "playbooks").glob("*.yml"))
    assert set(re.findall(r"register: (muster_\w+)", text)) <= set(REGISTERED)
