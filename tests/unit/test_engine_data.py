"""The tables of what engine versions know can be read, and say what is known otherwise."""

import re
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.plan import keys, known, versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import SGLANG, VLLM
from hypothesis import given
from hypothesis import strategies as st

from scripts import engine_tables
from tests.conftest import ROOT

BASE = ROOT / "recipes/_base/knows"
FILES = sorted(path.stem for path in BASE.glob("*.yml"))
# Those that say which versions they cover.
BY_HAND = (
    *("hccl-env", "nccl-env", "sglang-cuda", "sglang-limits", "vllm-cuda", "vllm-limits"),
    "vllm-ascend-values",
)
COVERING = [name for name in FILES if name not in BY_HAND]
NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_]+)*(=\S+|\.\*)?")


def engine(name: str) -> dict[str, Any]:
    text = (BASE / f"{name}.yml").read_text()
    tables: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)["engine"]
    return tables


def tables(data: dict[str, Any]) -> list[dict[str, Any]]:
    found = [data.get("flags", {}), *data.get("keys", {}).values(), data.get("utilizations", {})]
    found.append(data.get("values", {}))
    return [*found, data.get("env_names", {}).get("names", {})]


FLAGS = {name: engine(f"{name}-flags")["flags"] for name in ("vllm", "sglang")}
VALUES = {name: engine(f"{name}-values") for name in ("vllm", "sglang")}
KEYS = engine("vllm-keys")["keys"]
ASCEND_KEYS = engine("vllm-ascend-keys")["keys"]
ENV = {
    name: engine(f"{name}-env")["env_names"]["names"]
    for name in ("hccl", "nccl", "sglang", "vllm", "vllm-ascend")
}


def has_flag(name: str, flag: str, version: str) -> bool:
    return known.unknown_flags([flag], FLAGS[name], name, version, ()) == []


def acts(table: dict[str, dict[str, str]], flag: str, value: dict[str, Any], version: str) -> bool:
    return keys.problems({flag: value}, table, "vllm", version, ()) == []


def reads(names: dict[str, str], name: str, version: str) -> bool:
    about = {"prefixes": [name], "names": names}
    return known.inert_env([name], about, "vllm", version, ()) == []


@pytest.mark.parametrize("name", FILES)
def test_names_are_sorted_and_ranges_can_be_read(name: str) -> None:
    for table in tables(engine(name)):
        assert list(table) == sorted(table)
        for key, entry in table.items():
            assert NAME.fullmatch(key)
            spec = known.having({key: entry})[key]
            if spec != "*":
                assert spec == spec.strip(",")
                versions.matches("1.0", spec)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_bounds_are_of_flags_that_there_are_and_hold_together(name: str) -> None:
    dialect = {"vllm": VLLM, "sglang": SGLANG}[name]
    flags = {**known.flag_types(FLAGS[name]), **dict.fromkeys(dialect.sizes.values(), "int")}
    limits = engine(f"{name}-limits")["limits"]
    assert list(limits) == sorted(limits)
    if name == "vllm":
        limits = {**limits, **engine("vllm-ascend-keys")["limits"]}
    for flag, bounds in limits.items():
        outer, _dot, key = flag.partition(".")
        assert flags[outer] == "map" if key else flags[flag] in ("int", "float", "list"), flag
        assert not key or key in {**KEYS.get(outer, {}), **ASCEND_KEYS.get(outer, {})}, flag
        assert bounds.get("at_least", outer).partition(".")[0] in flags
        least = bounds.get("min", bounds.get("above"))
        assert least < bounds.get("max", bounds.get("below", least + 1))
        for value, range_ in bounds.get("special", {}).items():
            assert float(value) < least
            versions.holds("1.0", range_)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_values_are_of_flags_that_there_are(name: str) -> None:
    own = {**VALUES[name]["values"], **engine("vllm-ascend-values")["values"]}
    named = own if name == "vllm" else VALUES[name]["values"]
    paths = {value.partition("=")[0].partition(".") for value in named}
    assert {flag for flag, _dot, _key in paths} <= set(FLAGS[name])
    assert all(key in KEYS[flag] for flag, _dot, key in paths if key)


@pytest.mark.parametrize("name", ["vllm-ascend", "vllm", "sglang"])
def test_each_prefix_has_names_and_each_name_a_prefix(name: str) -> None:
    prefixes = engine(f"{name}-env")["env_names"]["prefixes"]
    others = {"vllm-ascend": ("hccl", "vllm", "nccl")}.get(name, ("nccl",))
    listed = set(ENV[name]).union(*(ENV[other] for other in others))
    assert all(any(one.startswith(prefix) for one in listed) for prefix in prefixes)
    assert all(one.startswith(tuple(prefixes)) for one in ENV[name])


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
    assert acts(ASCEND_KEYS, "additional-config", value, version) is acting


@pytest.mark.parametrize(
    ("names", "name", "version", "read"),
    [
        (ENV["vllm"], "VLLM_USE_DEEP_GEMM", "0.12.0", True),
        (ENV["vllm"], "VLLM_ROCM_USE_AITER", "0.32.0", True),
        (ENV["vllm"], "VLLM_TORCH_PROFILER_DIR", "0.13.0", True),
        (ENV["vllm"], "VLLM_TORCH_PROFILER_DIR", "0.18.0", False),
        (ENV["vllm"], "VLLM_ENGINE_READY_TIMEOUT_S", "0.12.0", False),
        (ENV["sglang"], "SGLANG_USE_AITER", "0.5.7", True),
        # SGLang reads an older name, too, as long as a field names it.
        (ENV["sglang"], "SGLANG_NSA_FUSE_TOPK", "0.5.18", True),
        (ENV["sglang"], "SGLANG_NSA_FUSE_TOPK", "0.5.21", False),
        (ENV["nccl"], "NCCL_IB_HCA", "0.32.0", True),
        (ENV["vllm-ascend"], "VLLM_ASCEND_BALANCE_SCHEDULING", "0.26.0rc1", True),
        (ENV["vllm-ascend"], "VLLM_ASCEND_BALANCE_SCHEDULING", "0.27.1rc1", False),
        (ENV["vllm-ascend"], "VLLM_ASCEND_ENABLE_FLASHCOMM1", "0.30.0rc2", True),
        (ENV["hccl"], "HCCL_BUFFSIZE", "0.18.0", True),
    ],
)
def test_variables_come_and_go(names: dict[str, str], name: str, version: str, read: bool) -> None:
    assert reads(names, name, version) is read


ERROR, WARNING, FINE = "error", "warning", "fine"


@pytest.mark.parametrize(
    ("name", "args", "version", "answer"),
    [
        ("vllm", {"kv-cache-dtype": "fp9"}, "0.18.0", ERROR),
        ("vllm", {"kv-cache-dtype": "fp8"}, "0.18.0", FINE),
        # One of a later version, and of one whose choices nobody has read.
        ("vllm", {"kv-cache-dtype": "nvfp4"}, "0.18.0", ERROR),
        ("vllm", {"kv-cache-dtype": "nvfp4"}, "0.18.0+cpu", ERROR),
        ("vllm", {"kv-cache-dtype": "nvfp4"}, "0.15.0", WARNING),
        ("vllm", {"kv-cache-dtype": "nvfp4"}, "0.20.1rc1", FINE),
        ("vllm", {"kv-cache-dtype": "fp9"}, "0.15.0", ERROR),
        # From 0.33 on its parser lets any through.
        ("vllm", {"kv-cache-dtype": "fp9"}, "0.33.0", WARNING),
        ("vllm", {"dtype": "bf16"}, "0.18.0", ERROR),
        ("vllm", {"block-size": 24}, "0.17.1", ERROR),
        ("vllm", {"block-size": 24}, "0.18.0", FINE),
        ("vllm", {"load-format": "safetensor"}, "0.18.0", WARNING),
        ("vllm", {"load-format": "SafeTensors"}, "0.18.0", FINE),
        ("vllm", {"distributed-executor-backend": "rey"}, "0.18.0", WARNING),
        ("vllm", {"distributed-executor-backend": "ray"}, "0.18.0", FINE),
        ("vllm", {"all2all-backend": "deepep"}, "0.18.0", ERROR),
        ("vllm", {"tool-call-parser": "anything"}, "0.18.0", FINE),
        ("vllm", {"attention-backend": "flash_attn"}, "0.18.0", FINE),
        ("vllm", {"attention-backend": "FLASH_ATTENTION"}, "0.18.0", WARNING),
        ("sglang", {"attention-backend": "flash"}, "0.5.7", ERROR),
        ("sglang", {"attention-backend": "flash"}, "0.5.23", WARNING),
        ("sglang", {"attention-backend": "dsa"}, "0.5.7", ERROR),
        ("sglang", {"attention-backend": "dsa"}, "0.5.14", FINE),
        ("sglang", {"log-requests-level": 3}, "0.5.7", FINE),
        ("sglang", {"log-requests-level": 4}, "0.5.7", ERROR),
        ("sglang", {"lora-target-modules": ["q_proj", "qproj"]}, "0.5.7", ERROR),
        ("sglang", {"lora-target-modules": ["q_proj", "all"]}, "0.5.7", FINE),
    ],
)
def test_values_of_fixed_choices_are_held_to_the_version(
    name: str, args: dict[str, Any], version: str, answer: str
) -> None:
    table = VALUES[name]
    about: Any = (table["values"], table["values_of"].split(), name, version)
    errors, warnings = known.wrong_values(args, *about, ())
    assert (ERROR if errors else WARNING if warnings else FINE) == answer
    assert len(errors + warnings) == (answer != FINE)
    assert known.wrong_values(args, *about, tuple(args)) == ([], [])


def test_a_wrong_value_is_told_with_the_nearest_or_with_the_versions_that_take_it() -> None:
    table = VALUES["vllm"]
    args = {"kv-cache-dtype": "nvfp4", "dtype": "bfloat1"}
    errors, _none = known.wrong_values(
        args, table["values"], table["values_of"].split(), "vllm", "0.18.0", ()
    )
    assert errors == [
        "--dtype: bfloat1 is no value that vllm 0.18.0 takes: did you mean bfloat16? "
        "(muster_engine_unchecked: [dtype] lets it pass)",
        "--kv-cache-dtype: nvfp4 is no value that vllm 0.18.0 takes: versions >=0.20 do "
        "(muster_engine_unchecked: [kv-cache-dtype] lets it pass)",
    ]


CONFIG = """
from typing import Literal
Backend = Literal["fast", "safe"]
Level = Literal[Backend, "all"]
GONE = "safe"
@config
class ModelConfig:
    dtype: str = "auto"
    width: Literal[1, 2] = 1
    loader: str | Literal["auto", "slow"] = "auto"
    levels: list[Level] | None = None
    kept: Level = "all"
    backend: Backend | None = None
    overrides: dict[str, int] | None = None
@config
class PassConfig:
    fuse: bool = None
    size_mb: float | None = None
class Mode(enum.IntEnum):
    NONE = 0
    FULL = 2
@config
class CompilationConfig:
    mode: Mode | None = None
    level: int | None = None
    sizes: list[int] | None = None
    names: list[str] = field(default_factory=list)
    backend: Backend = "fast"
    either: int | str = 1
    inductor: dict[str, Any] = field(default_factory=dict)
    pass_config: PassConfig = field(default_factory=PassConfig)
    local: int = field(init=False)
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
CHOOSING = """
        parser.add_argument("--width", **model_kwargs["width"])
        parser.add_argument("--loader", **model_kwargs["loader"])
        parser.add_argument("--levels", **model_kwargs["levels"])
        model_kwargs["kept"]["choices"].remove(GONE)
        parser.add_argument("--kept", **model_kwargs["kept"])
        model_kwargs["levels"]["choices"] += ["more"]
        parser.add_argument("--named", choices=["a", *OTHERS])
        parser.add_argument("--made", choices=["a"] + make())
        parser.add_argument("--upper", type=str.upper, choices=["A"])
"""
FRONT = """
class FrontendArgs:
    port: int = 8000
    allowed: list[str] = []
"""


def write_tree(tree: Path, args: str, share: str = "0.9") -> str:
    for path, text in {
        "config/__init__.py": CONFIG,
        "config/cache.py": f"class CacheConfig:\n    gpu_memory_utilization: float = {share}\n",
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
    newest = write_tree(tmp_path / "vllm-1.2.0", ARGS, "Field(default=0.92, gt=0, le=1)")
    assert run("defaults", "vllm", old, newest, new) == {"0.9": "<1.2", "0.92": ">=1.2"}


def test_the_reader_finds_the_values_of_fixed_choices(tmp_path: Path) -> None:
    old = write_tree(tmp_path / "vllm-1.0.0", ARGS)
    names = "from vllm.config import GONE\nOTHERS = ('b', 'c')"
    new = write_tree(tmp_path / "vllm-1.1.0", names + ARGS + CHOOSING)
    # Choices that the code changes, works out or rewrites are not known, and so are not there.
    found = run("values", "vllm", new, old)
    assert {name: range_ for name, range_ in found.items() if "." not in name} == {
        **dict.fromkeys(["backend=None", "backend=fast", "backend=safe"], "*"),
        **dict.fromkeys(["kept=all", "kept=fast"], ">=1.1"),
        **dict.fromkeys(["loader=*", "loader=auto", "loader=slow"], ">=1.1"),
        **dict.fromkeys(["named=a", "named=b", "named=c"], ">=1.1"),
        **dict.fromkeys(["width=1", "width=2"], ">=1.1"),
    }


def test_the_reader_finds_keys_of_json_with_types_and_choices(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "vllm-1.0.0", ARGS)
    assert run("keys", "vllm", tree) == {
        f"compilation-config/{key}": kind
        for key, kind in {
            "backend": "str",
            "either": "*",
            "inductor.*": "*",
            "level": "int",
            "mode": "*",
            "names": "list",
            "pass_config.fuse": "bool",
            "pass_config.size_mb": "float",
            "sizes": "ints",
        }.items()
    }
    inside = {name for name in run("values", "vllm", tree) if "." in name}
    assert inside == {
        *(f"compilation-config.mode={value}" for value in ("0", "2", "FULL", "NONE")),
        *(f"compilation-config.backend={value}" for value in ("fast", "safe")),
    }


FIELDS = """
class Envs:
    SGLANG_ON = EnvBool(False)
    SGLANG_SIZE = EnvInt(None)
    SGLANG_SHARE = EnvFloat(0.5)
    SGLANG_TEXT = EnvStr("")
    SGLANG_NEW = EnvBoolWithAlias(True, deprecated_name="SGLANG_OLD")
    SGLANG_BOTH = EnvBool(True)
    OTHER_ON = EnvBool(True)
"""
READS = """
both = get_bool_env_var("SGLANG_BOTH", "true")
crashes = int(os.environ.get("SGLANG_WORKERS", "4"))
plain = os.environ.get("SGLANG_PLAIN")
"""


def test_sglangs_variables_have_the_strictest_type_that_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "sglang-1.0.0" / "sglang/srt"
    folder.mkdir(parents=True)
    (folder / "environ.py").write_text(FIELDS)
    (folder / "utils.py").write_text(READS)
    assert run("env", "sglang", str(tmp_path / "sglang-1.0.0")) == {
        "SGLANG_BOTH": "switch",
        "SGLANG_NEW": "bool",
        "SGLANG_OLD": "bool",
        "SGLANG_ON": "bool",
        "SGLANG_PLAIN": "*",
        "SGLANG_SHARE": "float",
        "SGLANG_SIZE": "int",
        "SGLANG_TEXT": "*",
        "SGLANG_WORKERS": "int",
    }


CHOICES = """
LOADS = ["auto", "pt"]
POLICIES = ["lru", "lfu"]
add_load_choices = LOADS.extend
class ServerArgs:
    load: A[str, Arg(help="", choices=LOADS)] = "auto"
    policy: A[Optional[Literal["lru", "lfu"]], Arg(help="")] = None
    parsed: A[Literal["x"], Arg(help="", type_parser=read)] = None
    def add_cli_args(parser):
        parser.add_argument("--kind", type=str, choices=POLICIES + ["none"])
        parser.add_argument("--old", action=DeprecatedAction, choices=POLICIES)
"""


def test_sglangs_lists_that_plugins_may_add_to_are_open(tmp_path: Path) -> None:
    trees = []
    for version in ("1.0.0", "1.1.0"):
        file = tmp_path / f"sglang-{version}" / "sglang/srt/server_args.py"
        file.parent.mkdir(parents=True)
        file.write_text(CHOICES)
        trees.append(str(tmp_path / f"sglang-{version}"))
    (tmp_path / "sglang-1.1.0/sglang/srt/plugins").mkdir()
    assert run("values", "sglang", *trees) == {
        **dict.fromkeys(["kind=lfu", "kind=lru", "kind=none", "load=auto", "load=pt"], "*"),
        **dict.fromkeys(["policy=lfu", "policy=lru"], "*"),
        "load=*": ">=1.1",
    }


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/engine-data as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    loader = SourceFileLoader("engine_data", str(ROOT / "scripts/engine-data"))
    module = module_from_spec(spec_from_loader("engine_data", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


def test_a_release_is_merged_into_its_engines_files(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("vllm-env", "vllm-ascend-env"):
        shutil.copy(BASE / f"{name}.yml", tmp_path)
    envs = tmp_path / "vllm_ascend-9.0.0" / "vllm_ascend" / "envs.py"
    envs.parent.mkdir(parents=True)
    read = ["VLLM_ASCEND_NEW", "VLLM_ASCEND_ENABLE_FLASHCOMM1", "VLLM_BATCH_INVARIANT"]
    envs.write_text("\n".join(f'A = os.getenv("{name}")' for name in read))
    monkeypatch.setattr(script, "KNOWS", tmp_path)
    monkeypatch.setattr(script, "fetch", lambda *_: envs.parents[1])
    script.add("vllm-ascend", "9.0.0")
    names = yaml.safe_load((tmp_path / "vllm-ascend-env.yml").read_text())["engine"]["env_names"]
    assert names["names"]["VLLM_ASCEND_NEW"] == ">=9.0"
    assert names["names"]["VLLM_ASCEND_ENABLE_FLASHCOMM1"] == "*"
    assert names["names"]["VLLM_VERSION"] == "<9.0"
    # vLLM's own stands in vLLM's table.
    assert "VLLM_BATCH_INVARIANT" not in names["names"]
    assert '+      VLLM_ASCEND_NEW: ">=9.0"' in capsys.readouterr().out


def test_pip_gets_the_metadata_of_a_release_and_builds_nothing(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: vllm-ascend\nVersion: 1.0\n")
    monkeypatch.chdir(tmp_path)
    backend: dict[str, Any] = {}
    exec(script.BUILD_NOTHING, backend)  # noqa: S102 (as pip does)
    about = backend["prepare_metadata_for_build_wheel"](str(tmp_path))
    assert about == "vllm_ascend-1.0.dist-info"
    assert (tmp_path / about / "METADATA").read_text().endswith("Version: 1.0\n")


# --- a version added to a table -------------------------------------------------------------------

VERSIONS = ["0.17.0rc1", "0.18.0rc1", "0.18.0", "0.23.0", "0.23.0.post1", "0.24.0rc1", "0.24.0"]
EMPTY = "# What there is.\n# Covers: 0.1.0\nextends: [other]\nengine:\n  flags:\n  more: {}\n"
KINDS = st.sampled_from(["bool", "int", "str"])
KNOWN = st.dictionaries(st.sampled_from(VERSIONS), st.dictionaries(st.sampled_from("abc"), KINDS))


def all_at_once(known_by: dict[str, dict[str, str]]) -> str:
    """The text of a table that covers some versions, made from what each of them knows."""
    order = engine_tables.ordered(known_by)
    names = sorted({name for names in known_by.values() for name in names})
    table = {}
    for name in names:
        having = [version for version in order if name in known_by[version]]
        table[name] = engine_tables.Entry(frozenset(having), known_by[having[-1]][name])
    lines = "".join(f"    {line}\n" for line in engine_tables.lines(table, order))
    text = EMPTY.replace("  flags:\n", f"  flags:\n{lines}")
    return text.replace("Covers: 0.1.0", f"Covers: {' '.join(order)}")


@given(KNOWN.filter(bool), st.randoms())
def test_versions_one_by_one_give_the_same_as_all_at_once(known_by: Any, random: Any) -> None:
    order = sorted(known_by)
    random.shuffle(order)
    text = all_at_once({order[0]: known_by[order[0]]})
    for version in order[1:]:
        text = engine_tables.added(text, {"engine/flags": known_by[version]}, version)
    assert text == all_at_once(known_by)
    again = engine_tables.added(text, {"engine/flags": known_by[order[0]]}, order[0])
    assert again == text


@given(KNOWN.filter(bool))
def test_a_range_holds_for_the_versions_that_know_a_name_and_no_other(known_by: Any) -> None:
    for name in "abc":
        having = {version for version, names in known_by.items() if name in names}
        if having:
            spec = engine_tables.ranges(having, known_by)
            found = {one for one in known_by if spec == "*" or versions.matches(one, spec)}
            assert found == having


def test_a_new_version_opens_and_closes_ranges() -> None:
    text = all_at_once({"0.18.0": {"gone": "int", "stays": "bool"}, "0.23.0": {"stays": "bool"}})
    found = {"stays": "bool", "new": "str", "gone": "str"}
    assert engine_tables.added(text, {"engine/flags": found}, "0.24.0") == (
        "# What there is.\n# Covers: 0.18.0 0.23.0 0.24.0\nextends: [other]\nengine:\n  flags:\n"
        '    gone: {type: str, versions: "!=0.23.0"}\n'
        '    new: {type: str, versions: ">=0.24"}\n'
        "    stays: bool\n  more: {}\n"
    )


@pytest.mark.parametrize("name", COVERING)
def test_a_table_is_as_the_script_writes_it(name: str) -> None:
    """A version that is added again from what the table says of it changes nothing."""
    text = (BASE / f"{name}.yml").read_text()
    covered = engine_tables.covered_by(text)
    data = engine(name)
    places = {"engine/flags": data.get("flags", {})}
    places["engine/env_names/names"] = data.get("env_names", {}).get("names", {})
    places["engine/values"] = data.get("values", {})
    places["engine/utilizations"] = {
        f'"{share}"': range_ for share, range_ in data.get("utilizations", {}).items()
    }
    places.update({f"engine/keys/{flag}": own for flag, own in data.get("keys", {}).items()})
    for version in covered:
        found = {
            place: {
                key: known.flag_types({key: entry})[key]
                for key, entry in table.items()
                if knows(table[key], version)
            }
            for place, table in places.items()
            if table
        }
        assert engine_tables.added(text, found, version) == text


def knows(entry: Any, version: str) -> bool:
    (spec,) = known.having({"name": entry}).values()
    return spec == "*" or versions.matches(version, spec)


def test_the_tables_of_an_engine_cover_the_same_versions() -> None:
    covered = {
        name: engine_tables.covered_by((BASE / f"{name}.yml").read_text()) for name in COVERING
    }
    for engine_name in ("vllm-ascend", "vllm", "sglang"):
        own = [covered[name] for name in COVERING if name.rsplit("-", 1)[0] == engine_name]
        assert all(one == own[0] for one in own)
        assert own[0] == engine_tables.ordered(own[0])


def test_a_text_that_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="Covers"):
        engine_tables.covered_by("engine: {}\n")
    with pytest.raises(ValueError, match="is no line of a table"):
        engine_tables.parsed(["a: [1, 2]"], ["1.0.0"])
    with pytest.raises(ValueError, match="has no engine/keys"):
        engine_tables.added(EMPTY, {"engine/keys": {}}, "1.0.0")
