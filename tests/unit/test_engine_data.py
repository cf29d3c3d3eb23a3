"""The tables of what engine versions know can be read, and say what is known otherwise."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.plan import known, versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import SGLANG, VLLM

from tests.conftest import ROOT

BASE = ROOT / "recipes/_base/knows"
FILES = ["nccl-env", "sglang-env", "sglang-flags", "vllm-ascend-keys", "vllm-env", "vllm-flags"]
FILES.append("vllm-keys")
NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_]+)*(\.\*)?")


def engine(name: str) -> dict[str, Any]:
    tables: dict[str, Any] = yaml.safe_load((BASE / f"{name}.yml").read_text())["engine"]
    return tables


def tables(data: dict[str, Any]) -> list[dict[str, Any]]:
    found = [data.get("flags", {}), *data.get("keys", {}).values()]
    return [*found, data.get("env_names", {}).get("names", {})]


FLAGS = {name: engine(f"{name}-flags")["flags"] for name in ("vllm", "sglang")}
KEYS = engine("vllm-keys")["keys"]
ASCEND = engine("vllm-ascend-keys")
ENV = {name: engine(f"{name}-env")["env_names"]["names"] for name in ("vllm", "sglang", "nccl")}


def has_flag(name: str, flag: str, version: str) -> bool:
    return known.unknown_flags([flag], FLAGS[name], name, version, ()) == []


def acts(table: dict[str, dict[str, str]], flag: str, value: dict[str, Any], version: str) -> bool:
    return known.inert_keys({flag: value}, table, "vllm", version, ()) == []


def reads(names: dict[str, str], name: str, version: str) -> bool:
    about = {"prefixes": [name], "names": names}
    return known.inert_env([name], about, "vllm", version, ()) == []


@pytest.mark.parametrize("name", FILES)
def test_names_are_sorted_and_ranges_can_be_read(name: str) -> None:
    for table in tables(engine(name)):
        assert list(table) == sorted(table)
        for key, entry in table.items():
            assert NAME.fullmatch(key)
            spec = entry if name.endswith(("-env", "-keys")) else None
            if isinstance(entry, dict):
                spec = entry["versions"]
            if spec and spec != "*":
                assert spec == spec.strip(",")
                versions.matches("1.0", spec)


@pytest.mark.parametrize("name", ["vllm-ascend-keys", "vllm-env", "sglang-env"])
def test_each_prefix_has_names_and_each_name_a_prefix(name: str) -> None:
    names = engine(name)["env_names"]
    listed = set(names["names"]) | (
        set(ENV["nccl"]) | set(ENV["vllm"]) if "NCCL_" in names["prefixes"] else set()
    )
    assert all(any(one.startswith(prefix) for one in listed) for prefix in names["prefixes"])
    assert all(one.startswith(tuple(names["prefixes"])) for one in names["names"])


def test_what_the_plan_computes_is_no_flag_to_set() -> None:
    assert not set(FLAGS["vllm"]) & set(VLLM.computed)
    assert not set(FLAGS["sglang"]) & (set(SGLANG.computed) | set(SGLANG.spellings))


@pytest.mark.parametrize(
    ("name", "flag", "version", "there"),
    [
        ("vllm", "prefill-context-parallel-size", "0.18.0", True),
        ("vllm", "profiler-config", "0.12.0", False),
        ("vllm", "profiler-config", "0.18.0", True),
        ("vllm", "swap-space", "0.12.0", True),
        ("vllm", "swap-space", "0.18.0", False),
        ("vllm", "mm-processor-cache-type", "0.23.0.post1", True),
        ("vllm", "grpc-port", "0.31.0", False),
        ("sglang", "ep-size", "0.5.7", True),
        ("sglang", "enable-ep-moe", "0.5.7", False),
        ("sglang", "cuda-graph-max-bs", "0.5.7", True),
        ("sglang", "cuda-graph-max-bs", "0.5.23", False),
    ],
)
def test_flags_come_and_go(name: str, flag: str, version: str, there: bool) -> None:
    assert has_flag(name, flag, version) is there


@pytest.mark.parametrize(
    ("version", "acting"),
    [("0.12.0", False), ("0.19.0", False), ("0.19.1", True), ("0.22.1", True), ("0.23.0", False)],
)
def test_the_fused_norm_of_minimax_acts_in_few_versions(version: str, acting: bool) -> None:
    value = {"mode": 3, "pass_config": {"fuse_minimax_qk_norm": True}}
    assert acts(KEYS, "compilation-config", value, version) is acting


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("compilation-config", {"cudagraph_mode": "FULL_DECODE_ONLY"}),
        ("compilation-config", {"inductor_compile_config": {"combo_kernels": True}}),
        (
            "kv-transfer-config",
            {"kv_role": "kv_both", "kv_connector_extra_config": {"a": {"b": 1}}},
        ),
        ("model-loader-extra-config", {"enable_multithread_load": True, "num_threads": 16}),
        ("profiler-config", {"profiler": "torch", "torch_profiler_dir": "/x"}),
        ("speculative-config", {"method": "eagle3", "model": "/x", "enforce_eager": True}),
    ],
)
@pytest.mark.parametrize("version", ["0.18.0", "0.23.0", "0.32.0"])
def test_what_the_guides_set_acts(flag: str, value: dict[str, Any], version: str) -> None:
    assert acts(KEYS, flag, value, version)
    assert not acts(KEYS, flag, {**value, "moed": 3}, version)


@pytest.mark.parametrize(
    ("value", "version", "acting"),
    [
        ({"enable_cpu_binding": True}, "0.18.0", True),
        ({"enable_cpu_bindings": True}, "0.18.0", False),
        ({"enable_fused_mc2": 1}, "0.18.0", False),
        ({"enable_fused_mc2": 1, "weight_nz_mode": 1}, "0.23.0.post1", True),
        ({"scheduler_config": {"enable_balance_scheduling": True}}, "0.23.0.post1", False),
        ({"scheduler_config": {"enable_balance_scheduling": True}}, "0.27.1rc1", True),
        ({"weight_prefetch_config": {"prefetch_ratio": {"moe": {"gate_up": 0.8}}}}, "0.18.0", True),
    ],
)
def test_keys_of_vllm_ascend_come_and_go(value: dict[str, Any], version: str, acting: bool) -> None:
    assert acts(ASCEND["keys"], "additional-config", value, version) is acting


@pytest.mark.parametrize(
    ("names", "name", "version", "read"),
    [
        (ENV["vllm"], "VLLM_USE_DEEP_GEMM", "0.12.0", True),
        (ENV["vllm"], "VLLM_ROCM_USE_AITER", "0.32.0", True),
        (ENV["vllm"], "VLLM_TORCH_PROFILER_DIR", "0.13.0", True),
        (ENV["vllm"], "VLLM_TORCH_PROFILER_DIR", "0.18.0", False),
        (ENV["vllm"], "VLLM_ENGINE_READY_TIMEOUT_S", "0.12.0", False),
        (ENV["sglang"], "SGLANG_USE_AITER", "0.5.7", True),
        (ENV["nccl"], "NCCL_IB_HCA", "0.32.0", True),
        (ASCEND["env_names"]["names"], "VLLM_ASCEND_BALANCE_SCHEDULING", "0.26.0rc1", True),
        (ASCEND["env_names"]["names"], "VLLM_ASCEND_BALANCE_SCHEDULING", "0.27.1rc1", False),
        (ASCEND["env_names"]["names"], "VLLM_ASCEND_ENABLE_FLASHCOMM1", "0.30.0rc2", True),
        (ASCEND["env_names"]["names"], "HCCL_BUFFSIZE", "0.18.0", True),
    ],
)
def test_variables_come_and_go(names: dict[str, str], name: str, version: str, read: bool) -> None:
    assert reads(names, name, version) is read


CONFIG = """
from typing import Literal
Backend = Literal["fast", "safe"]
@config
class ModelConfig:
    dtype: str = "auto"
    backend: Backend | None = None
    overrides: dict[str, int] | None = None
"""
ARGS = """
from vllm.config import ModelConfig
class EngineArgs:
    def add_cli_args(parser):
        model_kwargs = get_kwargs(ModelConfig)
        parser.add_argument("--dtype", **model_kwargs["dtype"])
        parser.add_argument("--backend", **{**model_kwargs["backend"], "default": None})
        parser.add_argument("--overrides", **model_kwargs["overrides"])
        parser.add_argument("--model", type=str)
"""
FRONT = """
class FrontendArgs:
    port: int = 8000
    allowed: list[str] = []
"""


def write_tree(tree: Path, args: str) -> str:
    for path, text in {
        "config.py": CONFIG,
        "engine/arg_utils.py": args,
        "entrypoints/openai/cli_args.py": FRONT,
        "envs.py": 'environment_variables = {\n    "VLLM_A": lambda: os.getenv("VLLM_A"),\n}\n',
    }.items():
        (tree / "vllm" / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / "vllm" / path).write_text(text)
    return str(tree)


def run(*args: str) -> Any:
    script = str(ROOT / "scripts/engine-data")
    done = subprocess.run([sys.executable, script, *args], capture_output=True, check=True)
    return yaml.safe_load(done.stdout)


def test_the_reader_finds_types_and_bounds_without_running_code(tmp_path: Path) -> None:
    old = write_tree(tmp_path / "vllm-1.0.0", ARGS)
    more = ARGS + '        parser.add_argument("--eager", action="store_true")\n'
    new = write_tree(tmp_path / "vllm-1.1.0", more.replace('"--dtype"', '"--d-type"'))
    assert run("flags", "vllm", new, old) == {
        "allowed": "list",
        "backend": "str",
        "d-type": {"type": "str", "versions": ">=1.1"},
        "dtype": {"type": "str", "versions": "<1.1"},
        "eager": {"type": "bool", "versions": ">=1.1"},
        "overrides": "map",
    }
    assert run("env", "vllm", old, new) == {"VLLM_A": "*"}
