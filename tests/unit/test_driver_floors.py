"""The oldest driver: what a plan derives of it, and what a node's driver is told."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.driver import (
    driver_check,
    floor_alone,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.cuda import (
    COMPAT_BRANCHES,
    TOOLKIT_DRIVERS,
    cuda_of,
    driver_needs,
    library_floor,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import checks_of, needs_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.stages import stages_of
from hypothesis import given
from hypothesis import strategies as st

from scripts import engine_tables
from tests.conftest import ROOT
from tests.unit.plan_support import SINGLE, host, plan, view

VLLM, SGLANG = "minimax-m2.5/vllm-nvidia", "minimax-m2/sglang-nvidia"
KNOWS = ROOT / "recipes" / "_base" / "knows"
CU12, CU13 = "525.60.13", "580.65.06"


def made(recipe: str = VLLM, version: str | None = None, **variables: Any) -> dict[str, Any]:
    """The plan of one node, for any version."""
    if version:
        variables |= {"engine_version": version, "engine_version_unproven": True}
        # What a version does not know is not the question here.
        names = ["mem-fraction-static", "enable-metrics", "VLLM_ENGINE_READY_TIMEOUT_S"]
        variables.setdefault("engine_unchecked", names)
    result: dict[str, Any] = plan(view(c=[host(1, recipe, **variables)]))
    return result


def of_cuda(driver: dict[str, Any]) -> dict[str, Any]:
    (floor,) = (one for one in driver["floors"] if one["of_cuda"])
    return floor


def releases(engine: str) -> list[str]:
    return engine_tables.covered_by((KNOWS / f"{engine}-flags.yml").read_text())


def first_of_cuda_13(engine: str) -> str:
    return {"vllm": "0.20.0", "sglang": "0.5.11"}[engine]


# --- the plan -------------------------------------------------------------------------------------

ALL = [(engine, version) for engine in ("vllm", "sglang") for version in releases(engine)]


@pytest.mark.parametrize(("engine", "version"), ALL)
def test_every_known_release_has_a_floor_from_its_own_cuda(engine: str, version: str) -> None:
    driver = made({"vllm": VLLM, "sglang": SGLANG}[engine], version)["driver"]
    floor = of_cuda(driver)
    newer = versions.parse(version) >= versions.parse(first_of_cuda_13(engine))
    cuda, oldest = ("13.0", CU13) if newer else ("12.9", CU12)
    assert (driver["cuda"], floor["floor"]) == (cuda, oldest)
    assert driver["full"] == (None if newer else "575.51.03")
    assert floor["sure"]
    assert f"v{version} is built for CUDA {cuda}" in floor["reason"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_table_reaches_as_far_as_the_others_of_the_engine(engine: str) -> None:
    table = yaml.safe_load((KNOWS / f"{engine}-cuda.yml").read_text())["engine"]["cuda"]
    assert table["known_to"] == releases(engine)[-1]
    for version in releases(engine):
        rows = [row for row in table["releases"] if versions.matches(version, row["versions"])]
        assert len(rows) == 1, version
    assert all(row["source"] for row in table["releases"])


WHEELS = {"install": "venv"}
OWN_INDEX = ["https://wheels.vllm.ai/0.22.1/cu129"]
TORCH_INDEX = ["https://download.pytorch.org/whl/cu128"]


@pytest.mark.parametrize(
    ("version", "variables", "cuda", "sure"),
    [
        ("0.19.1", WHEELS, "12.9", True),
        ("0.22.1", WHEELS, "13.0", True),
        ("0.22.1", {**WHEELS, "wheel_requirements": ["vllm==0.22.1+cu129"]}, "12.9", True),
        ("0.22.1", {**WHEELS, "wheel_index_urls": OWN_INDEX}, "12.9", True),
        # An index for torch says nothing of vLLM's own libraries.
        ("0.22.1", {**WHEELS, "wheel_index_urls": TORCH_INDEX}, "13.0", False),
        (
            "0.22.1",
            {**WHEELS, "wheel_requirements": ["vllm==0.22.1", "torch==2.11.0+cu129"]},
            "13.0",
            True,
        ),
        ("0.22.1", {**WHEELS, "wheel_dir": "/srv/wheels"}, "13.0", False),
        ("0.22.1", {**WHEELS, "wheel_channel": "nightly"}, "13.0", False),
        ("0.22.1", {"image": "vllm/vllm-openai:v0.22.1"}, "13.0", True),
        ("0.22.1", {"image": "r.lan:5000/hub/vllm/vllm-openai:v0.22.1"}, "13.0", True),
        ("0.22.1", {"image": "vllm/vllm-openai:v0.22.1-cu129"}, "12.9", True),
        ("0.19.1", {"image": "vllm/vllm-openai:v0.19.1-cu130"}, "13.0", True),
        ("0.22.1", {"image": "r.lan/engine:cuda12.8.1-v3"}, "12.8", True),
        ("0.22.1", {"image": "r.lan/engine:cuda13-latest"}, "13", True),
        ("0.22.1", {"image": "r.lan/engine:v0.22.1"}, "13.0", False),
        ("0.22.1", {"image": f"vllm/vllm-openai@sha256:{'0' * 64}"}, "13.0", False),
        # Later and earlier than the table.
        ("0.99.0", {}, "13.0", False),
        ("0.15.0", {}, "12.9", False),
        ("0.22.1.post1", {}, "13.0", True),
        ("0.20.0rc1", {}, "13.0", True),
    ],
)
def test_what_is_built_for_which_cuda_and_whether_that_is_sure(
    version: str, variables: dict[str, Any], cuda: str, sure: bool
) -> None:
    driver = made(version=version, **variables)["driver"]
    floor = of_cuda(driver)
    assert (driver["cuda"], floor["sure"]) == (cuda, sure)
    assert floor["floor"] == library_floor(cuda)
    assert ("is taken for" in floor["reason"]) == (not sure and version != "0.15.0")


def test_a_release_that_no_table_has_leaves_the_devices_own_floor() -> None:
    driver = made(version="0.11.0")["driver"]
    (floor,) = driver["floors"]
    assert (driver["cuda"], floor["floor"]) == (None, "525")
    assert "it is not known which CUDA vllm 0.11.0 is built for" in floor["reason"]
    later = made(image="r.lan/engine:cu140")["driver"]
    assert [one["floor"] for one in later["floors"]] == ["525"]
    assert "CUDA 14.0, of which no driver is known" in later["floors"][0]["reason"]


def test_the_higher_floor_holds_and_each_keeps_its_reason() -> None:
    b200 = made("minimax-m2.5/vllm-b200")
    assert [one["floor"] for one in b200["driver"]["floors"]] == ["570", CU12]
    assert "Blackwell" in b200["driver"]["floors"][0]["reason"]
    assert b200["platform"]["min_driver"] == "570"
    newer = made("minimax-m2.5/vllm-b200", "0.22.1")
    assert [one["floor"] for one in newer["driver"]["floors"]] == [CU13, "570"]
    assert newer["platform"]["min_driver"] == CU13


def test_other_vendors_keep_their_own_floor() -> None:
    ascend = made(SINGLE)
    assert [one["floor"] for one in ascend["driver"]["floors"]] == ["25.0.rc1"]
    assert ascend["platform"]["min_driver"] == "25.0.rc1"
    amd = made("minimax-m2/sglang-rocm")
    assert (amd["driver"], amd["platform"]["min_driver"]) == (None, None)
    (options,) = checks_of(amd, needs_of(amd)).values()
    assert options["gpu_topology_check"]["driver"] is None


@pytest.mark.parametrize(
    ("version", "value", "compat"),
    [
        ("0.22.1", None, "off"),
        ("0.22.1", "1", "on"),
        ("0.22.1", "True", "on"),
        ("0.22.1", "0", "off"),
        ("0.19.1", "1", "on"),
        ("0.16.0", None, "always"),
        # This one has no switch.
        ("0.14.1", None, "none"),
    ],
)
def test_forward_compatibility_is_what_the_engine_was_told(
    version: str, value: str | None, compat: str
) -> None:
    env = {"VLLM_ENABLE_CUDA_COMPATIBILITY": value} if value else {}
    assert made(version=version, engine_env=env)["driver"]["compat"] == compat


@pytest.mark.parametrize(
    ("recipe", "version", "variables", "how"),
    [
        (VLLM, "0.22.1", {}, "the image vllm/vllm-openai:v0.22.1-cu129 (muster_image)"),
        (VLLM, "0.22.1", WHEELS, "wheels of https://wheels.vllm.ai/0.22.1/cu129"),
        (SGLANG, "0.5.12", {}, "the image lmsysorg/sglang:v0.5.12-cu129 (muster_image)"),
        # None is published, none is needed, or none is known.
        (VLLM, "0.33.0", {}, None),
        (SGLANG, "0.5.20", {}, None),
        (VLLM, "0.19.1", {}, None),
        (VLLM, "0.22.1", {"image": "r.lan/engine:1"}, None),
        (VLLM, "0.22.1", {"image": "vllm/vllm-openai:v0.22.1-cu130"}, None),
    ],
)
def test_another_build_is_offered_where_there_is_one(
    recipe: str, version: str, variables: dict[str, Any], how: str | None
) -> None:
    other = made(recipe, version, **variables)["driver"]["instead"]
    assert (other is None) == (how is None)
    if how:
        assert other["how"].startswith(how)
        assert (other["cuda"], other["floor"]) == ("12.9", CU12)


def test_preflight_and_prepare_are_given_what_the_plan_says() -> None:
    whole = made(engine_env={"NVIDIA_DISABLE_REQUIRE": "1"})
    (options,) = checks_of(whole, needs_of(whole)).values()
    assert options["gpu_topology_check"]["driver"] == whole["driver"]
    (stage,) = stages_of(whole, ["c-0"]).values()
    assert stage["engine_image"]["nvidia"] == {
        "devices": [0, 1, 2, 3],
        "env": {"NVIDIA_DISABLE_REQUIRE": "1"},
        "compat": "off",
    }
    ascend = made(SINGLE)
    (stage,) = stages_of(ascend, ["c-0"]).values()
    assert stage["engine_image"]["nvidia"] is None


# --- the check ------------------------------------------------------------------------------------

H100, GEFORCE = ["NVIDIA H100 80GB HBM3"], ["NVIDIA GeForce RTX 4090"]


def needs(cuda: str | None = "13.0", platform: str = "525", **more: Any) -> dict[str, Any]:
    """What a plan asks of the driver; more is sure, compat or instead."""
    of_build = driver_needs(cuda, f"it is built for CUDA {cuda}", **{"sure": True, **more})
    own = {"floor": platform, "reason": "the devices want it", "sure": True, "of_cuda": False}
    floors = [*of_build["floors"], own]
    floors.sort(key=lambda one: leading_numbers(one["floor"]), reverse=True)
    return {**of_build, "floors": floors}


INSTEAD = {"cuda": "12.9", "floor": CU12, "how": "the image of CUDA 12.9"}


@pytest.mark.parametrize(
    ("seen", "wanted", "names", "status", "words"),
    [
        ("580.65.06", needs(), H100, "ok", ""),
        ("590.48.01", needs(), H100, "ok", ""),
        ("575.57.08", needs(), H100, "failed", "install driver 580.65.06"),
        ("575.57.08", needs(instead=INSTEAD), H100, "failed", "or take the image of CUDA 12.9"),
        ("470.256.02", needs(compat="off"), H100, "failed", "install driver 580.65.06"),
        ("[N/A]", needs(), H100, "unknown", "nvidia-smi"),
        (None, needs(), H100, "unknown", "nvidia-smi"),
        # Between the libraries' floor and the driver of CUDA 12.9.
        ("575.51.03", needs("12.9"), H100, "ok", ""),
        ("570.124.06", needs("12.9"), H100, "warning", "error 222"),
        ("525.60.13", needs("12.9"), H100, "warning", "install driver 575.51.03"),
        ("520.61.05", needs("12.9"), H100, "failed", "install driver 525.60.13"),
        # What is only assumed keeps nothing from starting.
        ("550.144.03", needs(sure=False), H100, "warning", "older CUDA"),
        ("520.61.05", needs(sure=False), H100, "failed", "install driver 580.65.06"),
        # Forward compatibility: offered where NVIDIA lists it, used where it was asked for.
        ("570.124.06", needs(compat="off"), H100, "failed", "VLLM_ENABLE_CUDA_COMPATIBILITY"),
        ("570.124.06", needs(), H100, "failed", "forward compatibility"),
        ("570.124.06", needs(compat="on"), H100, "warning", "by cuda-compat alone"),
        ("550.144.03", needs(compat="on"), H100, "warning", "branches 535, 570"),
        ("530.30.02", needs(compat="on"), H100, "failed", "install driver 580.65.06"),
        ("570.124.06", needs(compat="on"), GEFORCE, "failed", "install driver 580.65.06"),
        ("535.183.01", needs("12.9", compat="on"), H100, "ok", ""),
        ("580.65.06", needs("12.9", compat="on"), H100, "warning", "error 803"),
        ("580.65.06", needs("12.9", compat="always"), H100, "warning", "another version"),
        ("590.48.01", needs("13.0", compat="on"), H100, "warning", "error 803"),
        ("580.65.06", needs("13.0", compat="on"), H100, "ok", ""),
        # It brings no new device to an old driver.
        ("535.183.01", needs(platform="570", compat="on"), H100, "failed", "the devices want it"),
        # Of a later CUDA than the tables have, only the devices' floor is known.
        ("530.30.02", needs("99.0"), H100, "ok", ""),
        ("520.61.05", needs(None), H100, "failed", "the devices want it"),
    ],
)
def test_a_driver_is_judged_with_its_reason_and_remedy(
    seen: str | None, wanted: dict[str, Any], names: list[str], status: str, words: str
) -> None:
    one = driver_check("nvidia-smi", seen, wanted, names)
    assert (one["id"], one["status"]) == ("gpu-driver", status)
    assert bool(one["remedy"]) == (status != "ok")
    assert words in f"{one['expected']} {one['remedy']}"


def test_forward_compatibility_is_not_offered_where_it_does_not_apply() -> None:
    for seen, names in (("550.144.03", H100), ("570.124.06", GEFORCE)):
        said = driver_check("nvidia-smi", seen, needs(compat="off"), names)["remedy"]
        assert "COMPATIBILITY" not in said


def test_a_floor_alone_is_as_good_as_it_was() -> None:
    wanted = floor_alone("6.12")
    assert wanted is not None
    assert driver_check("amd-smi", "6.16.6", wanted)["status"] == "ok"
    assert driver_check("amd-smi", "6.10.5", wanted)["expected"] == "6.12 or later"
    assert floor_alone(None) is None


ORDER = {"failed": 0, "warning": 1, "ok": 2}
drivers = st.tuples(st.integers(300, 700), st.integers(0, 200)).map(lambda d: f"{d[0]}.{d[1]}")


@given(
    st.sampled_from(sorted(TOOLKIT_DRIVERS)),
    drivers,
    drivers,
    st.sampled_from(["off", "none"]),
    st.booleans(),
)
def test_a_newer_driver_is_never_worse(
    cuda: str, one: str, other: str, compat: str, sure: bool
) -> None:
    """Without cuda-compat, whose libraries newer drivers do not take."""
    wanted = needs(cuda, sure=sure, compat=compat)
    older, newer = sorted((one, other), key=leading_numbers)
    said = [driver_check("nvidia-smi", seen, wanted, H100)["status"] for seen in (older, newer)]
    assert ORDER[said[0]] <= ORDER[said[1]]


@given(
    st.sampled_from([None, *TOOLKIT_DRIVERS]),
    st.one_of(st.none(), drivers, st.text(max_size=12)),
    st.sampled_from(["on", "off", "always", "none"]),
    st.sampled_from([[], H100, GEFORCE]),
    st.sampled_from([None, INSTEAD]),
)
def test_each_verdict_says_what_to_do(
    cuda: str | None, seen: str | None, compat: str, names: list[str], instead: Any
) -> None:
    one = driver_check("nvidia-smi", seen, needs(cuda, compat=compat, instead=instead), names)
    assert bool(one["remedy"]) == (one["status"] != "ok")
    assert one["expected"]
    sound = leading_numbers(seen or "") >= leading_numbers(TOOLKIT_DRIVERS[cuda or "13.5"])
    if sound and compat in ("off", "none"):
        assert one["status"] == "ok"


# --- NVIDIA's tables ------------------------------------------------------------------------------


def test_nvidias_tables_agree_with_each_other() -> None:
    branches = [leading_numbers(TOOLKIT_DRIVERS[cuda])[0] for cuda in TOOLKIT_DRIVERS]
    assert branches == sorted(set(branches))
    for cuda, listed in COMPAT_BRANCHES.items():
        assert listed == sorted(set(listed))
        assert listed[-1] < leading_numbers(TOOLKIT_DRIVERS[cuda])[0]
    for cuda, driver in TOOLKIT_DRIVERS.items():
        assert leading_numbers(library_floor(cuda) or "") <= leading_numbers(driver)


@pytest.mark.parametrize(
    ("text", "cuda"), [("13.0.2", "13.0"), ("12.9", "12.9"), ("13", None), ("", None), ("x", None)]
)
def test_a_cuda_is_read_from_its_version(text: str, cuda: str | None) -> None:
    assert cuda_of(text) == cuda
