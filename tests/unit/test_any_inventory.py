"""Whatever an inventory sets for whichever recipe, the planner plans or says what is wrong.

What is set is close to what operators write: values of the right kind and just beside it, flags and
environment variables of the engine itself, sizes that may or may not fit.
"""

import json
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import planner
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book
from ansible_collections.muster.serving.plugins.plugin_utils.plan.variables import VARIABLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.plan_support import host, load, view

BOOK = recipe_book()
RECIPES = [(name, variant) for name in BOOK.names() for variant in BOOK.variants(name)]

TEXTS = ["", " ", "a", "-x", "a b", "{{ x }}", "auto", "none", "1", "ä", "a\nb", "x" * 300, "true"]
NUMBERS = [0, 1, 2, 3, 4, 8, 16, 64, 128, -1, 4096, 10**6, 10**12, 0.5, 0.92, 1.0, 1.5, -0.1]
SCALARS = st.sampled_from([*TEXTS, *NUMBERS, None, True, False, float("nan"), float("inf")])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*TEXTS[2:], "a.b"]) | st.integers(0, 3), inner, max_size=3
        )
    ),
    max_leaves=5,
)


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def lists(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3)


PATHS = some(
    "/m", "/", "/m/", "//m", "m", "/a:b", "/a/../b", "/dev/shm", "/root/.cache", "/m o", "~/m"
)
IMAGES = some(
    "vllm/vllm-openai:v0.22.1",
    "lmsysorg/sglang:v0.5.7",
    "a:1",
    "a",
    "A:1",
    "a:b c",
    "reg:5000/a:v1",
    "quay.io/ascend/vllm-ascend:v0.23.0rc1-a3",
    "a@sha256:" + 64 * "a",
    "a:1@sha256:" + 64 * "b",
    "a@sha256:ab",
)
REGISTRIES = some("registry.lan", "registry.lan:5000", "http://r", "r/x", "r:99999", "10.0.0.0/8")
# By the type of a variable, values that operators could write for it.
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": some(*TEXTS),
    "name": some("MiniMax-M2", "-m", "a/b", ""),
    "int": some(*NUMBERS),
    "float": some(*NUMBERS, "230.5"),
    "device gb": some(16, 64, 80.0, "141", 192, 0, 2000, 81920),
    "count": some(1, 2, 3, 4, 8, 16, 0, 1024, 1025, "2"),
    "router id": some(1, 51, 255, 0, 256),
    "port": some(1, 80, 8000, 8001, 8080, 13389, 28080, 60000, 65535, 0, 65536, "8000", "x"),
    "seconds": some(10, 120, 86400, 9, 86401, "60"),
    "bool": some(True, False, "yes", "no", "on", 1, 0),
    "ip": some(
        "10.0.0.9", "2001:db8::9", "127.0.0.1", "224.0.0.1", "fe80::1", "10.0.0.0/8", "node"
    ),
    "image": IMAGES,
    "path": PATHS,
    "path or paths": PATHS | lists(PATHS),
    "interface": some("eth0", "enp67s0f0np0", "", "x" * 16, "a b", "bond0.5", "eth0,eth1"),
    "map of str": st.dictionaries(
        some("A", "B_C", "1A", "a b"), some("1", "", "a\nb", 1), max_size=3
    ),
    "map of registries": st.dictionaries(REGISTRIES, PATHS, max_size=2),
    "map of proxies": st.dictionaries(
        some("http", "https", "no_proxy", "ftp"),
        some("http://p:3128", "p", "", "http://p/x"),
        max_size=3,
    ),
    "map of tuning": st.fixed_dictionaries(
        {},
        optional={
            "cpu_governor": some("performance", "Powersave", None, 1),
            "sysctl": st.dictionaries(
                some("vm.swappiness", "kernel.numa_balancing", "net.core.somaxconn", "X Y"),
                some(0, 1, 10, 1000, "1", "a", None),
                max_size=2,
            ),
            "sched_migration_cost_ns": some(0, 50000, -1, None, "1"),
            "reserved_ports": lists(some("8000-8001", "60000-60015", "9", "2-1", 8000)),
            "other": some(1),
        },
    ),
    "list of mirrors": lists(some("http://m", "https://m:5000/", "m", "http://m/x", "http://u@m")),
    "list of registries": lists(REGISTRIES),
    "list of str": lists(some("a", "c-0", "c-1", "vllm==0.22.1", "", 1, "https://u:p@x/simple")),
    "list of int": lists(st.integers(-1, 17)),
    "list of mounts": lists(
        some("/a:/b", "/a:/b:ro", "/a", "/a:/m", "/dev/shm:/dev/shm", "/a:b", 1)
    ),
    "list of waivers": lists(
        st.fixed_dictionaries(
            {
                "check": some(*list(CHECKS)[:3], "x"),
                "reason": some("r", ""),
                "until": some("2030-01-01", "x"),
            }
        )
    ),
    "str or false": some("minimax_m2", "minimax", False, True, ""),
    "local, modelscope or huggingface": some("local", "modelscope", "huggingface", "hf"),
    "container or venv": some("container", "venv", "docker"),
    "internal or external": some("internal", "external", "hybrid"),
    "least-outstanding or prefix-affine": some("least-outstanding", "prefix-affine", "random"),
    "sampled, full or none": some("sampled", "full", "none", False),
    "now, stage or never": some("now", "stage", "never", True),
}
# What a type alone does not say.
BY_NAME = {
    "muster_engine_version": some(
        "0.12.0",
        "0.18.0",
        "0.19.0rc1",
        "0.22.1",
        "0.23.0.post1",
        "0.30.0rc2",
        "0.33.0",
        "0.99.0",
        "0.5.7",
        "0.5.23",
        "v0.22.1",
        "latest",
        "1",
        0.2,
        "",
    ),
    "muster_devices": st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True)
    | BY_TYPE["list of int"],
    "muster_gateway_hosts": lists(some("c-0", "c-1", "c-2", "elsewhere")),
    "muster_wheel_channel": some("release", "nightly", "x"),
    "muster_cluster": some("c", "all", "d", ""),
    "muster_node": some("n1", "c-0", "", 1),
    "muster_weights_gb": some(1, 60, 120.5, 230, 460, 0, -1),
}


def flag_values(name: str, type_: str) -> st.SearchStrategy[Any]:
    sizes = st.integers(-1, 17) | st.sampled_from([32, 64, 256, 2048, 65536, 196608, 10**6, "128k"])
    maps = st.dictionaries(
        some("mode", "cudagraph_mode", "method", "rope_type", "factor", "num_hidden_layers", "x"),
        SCALARS | st.dictionaries(some("factor", "a", "enable"), SCALARS, max_size=2),
        max_size=3,
    )
    typed = {
        "bool": some(True, False),
        "int": sizes,
        "float": some(0, 0.5, 0.9, 0.95, 1, 1.0, 1.1, -1, 100),
        "str": some("auto", "fp8", "fp8_e4m3", "bfloat16", "ray", "triton", "-", ""),
        "list": lists(some("1", "a", 4)),
        "map": maps,
        "json": maps | maps.map(json.dumps),
    }
    return typed[type_] | typed[type_] | ANYTHING


@st.composite
def flags_of(draw: st.DrawFn, recipe: dict[str, Any]) -> dict[str, Any]:
    """Flags of a recipe's engine; more of them that the plan itself reads."""
    spec, dialect = recipe["engine"], dialect_of(recipe)
    types = {
        name: entry["type"] if isinstance(entry, dict) else entry
        for name, entry in spec["flags"].items()
    }
    types.update(dict.fromkeys(dialect.sizes.values(), "int"))
    read = [
        *dialect.sizes.values(),
        dialect.expert,
        dialect.context,
        dialect.utilization,
        dialect.cache_size,
        dialect.config_overrides,
        "max-num-seqs",
        "max-num-batched-tokens",
        "quantization",
        "kv-cache-dtype",
        "block-size",
        "speculative-config",
        "compilation-config",
        *recipe["args"],
    ]
    known = [name for name in read if name in types]
    name = st.sampled_from(known) | st.sampled_from(sorted(types))
    odd = st.sampled_from(["api-key", "port", "headless", "no-such-flag", "A", "--x", "", "tp"])
    result = {}
    for _each in range(draw(st.integers(1, 3))):
        flag = draw(name | name | name | odd)
        result[flag] = draw(flag_values(flag, types.get(flag, "str")))
    return result


@st.composite
def env_of(draw: st.DrawFn, recipe: dict[str, Any]) -> dict[str, Any]:
    about = recipe["engine"].get("env_names", {})
    computed = [name for names in recipe["platform"]["env"].values() for name in names]
    names = st.sampled_from([*sorted(about.get("names", {})), *computed, *recipe["env"]])
    odd = st.sampled_from(["HF_TOKEN", "A", "1A", "VLLM_X", "SGLANG_X", "PATH", ""])
    return draw(
        st.dictionaries(names | odd, some("0", "1", "", "a b", "=eth0", None, 1), max_size=3)
    )


@st.composite
def settings_of(draw: st.DrawFn, recipe: dict[str, Any]) -> dict[str, Any]:
    """Some variables of an inventory."""
    result = {}
    chosen = st.lists(st.sampled_from(VARIABLES), min_size=1, max_size=4, unique=True)
    for variable in draw(chosen):
        name = variable.name
        if name in ("muster_recipe", "muster_variant", "muster_recipes_path"):
            continue
        typed = BY_NAME.get(name, BY_TYPE.get(variable.type, ANYTHING))
        if name == "muster_engine_args":
            typed = flags_of(recipe)
        elif name == "muster_engine_env":
            typed = env_of(recipe)
        # Mostly of the right kind, or nothing behind the first look would ever be reached.
        result[name] = draw(typed if draw(st.integers(0, 9)) else ANYTHING)
    return result


@st.composite
def inventories(draw: st.DrawFn) -> tuple[Any, set[str]]:
    """An inventory, and the names that a message may be about: what it sets beside the least."""
    name, variant = draw(st.sampled_from(RECIPES))
    recipe = load(name, variant)
    count = recipe["nodes"] * draw(some(1, 1, 2))
    hosts = [{**host(n + 1, name), "muster_variant": variant} for n in range(count)]
    common = draw(settings_of(recipe))
    own = draw(some({}, {}, draw(settings_of(recipe))))
    for one in hosts:
        one.update(common)
    hosts[-1].update(own)
    names = {*common, *own}
    for said in (common, own):
        for inner in ("muster_engine_args", "muster_engine_env"):
            if isinstance(said.get(inner), dict):
                names.update(str(name) for name in said[inner] if name != "")
    return view(c=hosts), names


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(inventories(), st.booleans())
def test_an_inventory_is_planned_or_refused_by_the_names_that_it_sets(
    drawn: tuple[Any, set[str]], changes: bool
) -> None:
    inventory, names = drawn
    verb = planner.Verb("serve", changes)
    try:
        plans = planner.plan_clusters(inventory, inventory["groups"]["c"], verb, load, "0.1.0")
    except PlanError as error:
        messages = error.messages
    else:
        json.dumps(plans, allow_nan=False)
        return
    assert messages
    for message in messages:
        assert message.strip() == message
        assert "\n" not in message
        assert any(name in message for name in names), (message, names)
