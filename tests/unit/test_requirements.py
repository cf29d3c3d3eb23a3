"""What an image requires of NVIDIA's driver, read as libnvidia-container reads it."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.muster.serving.plugins.module_utils.engine.requirements import (
    Gpu,
    Injection,
    brands_of,
    cuda_check,
    evaluate,
    judge,
    requirement_check,
    requirements_of,
    summary,
    why_unasked,
)
from hypothesis import given
from hypothesis import strategies as st

BRANDS = "unknown grid tesla nvidia quadro quadrortx nvidiartx vapps vpc vcs vws cloudgaming"


def of_image(cuda: str, *branches: int) -> str:
    """The value of NVIDIA's own images: a CUDA, or one of these branches on most brands."""
    terms = [
        f"brand={brand},driver>={branch},driver<{branch + 1}"
        for branch in branches
        for brand in BRANDS.split()
    ]
    return " ".join([f"cuda>={cuda}", *terms])


# nvidia/cuda:12.9.1 and 13.0.2, which the engines' images are made of.
R129 = of_image("12.9", 535, 550, 560, 565, 570)
R130 = of_image("13.0", 535, 550, 565, 570, 575)
CUDA_OF = {
    "470.256.02": "11.4",
    "525.147.05": "12.0",
    "530.30.02": "12.1",
    "535.183.01": "12.2",
    "545.23.08": "12.3",
    "550.144.03": "12.4",
    "555.42.06": "12.5",
    "560.35.05": "12.6",
    "565.57.01": "12.7",
    "570.124.06": "12.8",
    "575.57.08": "12.9",
    "580.159.04": "13.0",
    "590.48.01": "13.1",
}
ADMITTED = {
    ("12.9", "NVIDIA H100 80GB HBM3"): "535 550 560 565 570 575 580 590",
    ("13.0", "NVIDIA H100 80GB HBM3"): "535 550 565 570 575 580 590",
    ("12.9", "NVIDIA GeForce RTX 4090"): "575 580 590",
    ("13.0", "NVIDIA GeForce RTX 4090"): "580 590",
}


@pytest.mark.parametrize(("cuda", "name"), ADMITTED)
def test_the_drivers_that_an_image_admits(cuda: str, name: str) -> None:
    value = {"12.9": R129, "13.0": R130}[cuda]
    said = {driver: judge([value], driver, CUDA_OF[driver], [name]) for driver in CUDA_OF}
    assert set(said.values()) <= {"ok", "refused"}
    admitted = [driver.split(".")[0] for driver, one in said.items() if one == "ok"]
    assert " ".join(admitted) == ADMITTED[cuda, name]


H200 = Gpu("580.159.04", "13.0", "9.0", "NVIDIA")


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("", "ok"),
        ("   ", "ok"),
        ("cuda>=13.0", "ok"),
        ("cuda>=13", "ok"),
        ("cuda=13.0.0", "ok"),
        ("cuda>13.0", "refused"),
        ("cuda!=13.0", "refused"),
        ("cuda<=13.0,driver<581", "ok"),
        ("cuda<13.0", "refused"),
        ("CUDA>=12.9", "ok"),
        # Numbers, not texts: 580.159 is after 580.65, and zeros in front do not count.
        ("driver>=580.65.06", "ok"),
        ("driver=580.159.4", "ok"),
        ("arch>=9.0", "ok"),
        ("arch>=10.0", "refused"),
        ("brand=nvidia", "ok"),
        ("brand!=tesla", "ok"),
        ("brand=geforce", "refused"),
        # Alternatives between blanks, conditions between commas; empty pieces do not count.
        ("cuda>=99 driver>=580", "ok"),
        ("cuda>=99  brand=tesla,driver>=1 ,brand=nvidia,driver>=1,", "ok"),
        ("cuda>=99 brand=tesla,driver>=1", "refused"),
        # What cannot be read refuses, if it is reached.
        ("cuda>=13.0 nonsense", "ok"),
        ("nonsense cuda>=13.0", "refused"),
        ("cuda>=99,nonsense cuda>=13.0", "ok"),
        ("cuda==13.0", "refused"),
        ("cuda=>13.0", "refused"),
        ("cuda>=", "refused"),
        ("brand!=", "refused"),
        ("=13.0", "refused"),
        ("cuda>=13.0-1", "refused"),
        ("compute>=9.0", "refused"),
        ("brand>=nvidia", "refused"),
    ],
)
def test_a_requirement_is_read_as_the_hook_reads_it(requirement: str, said: str) -> None:
    assert evaluate(requirement, H200) == said


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("cuda>=12.9", "unknown"),
        ("cuda>=12.9 driver>=580", "ok"),
        ("cuda>=12.9,driver>=999", "refused"),
        ("cuda>=12.9 driver>=999", "unknown"),
        ("brand=tesla driver>=999", "unknown"),
        ("cuda>=12.9 nonsense", "unknown"),
        ("cuda>=12.9,nonsense driver>=580", "unknown"),
    ],
)
def test_what_is_not_known_decides_only_where_it_has_to(requirement: str, said: str) -> None:
    assert evaluate(requirement, Gpu(driver="580.159.04")) == said


KEYS = {
    "cuda": ["12.0", "13.0"],
    "driver": ["535.5", "580.1"],
    "arch": ["9.0", "10.0"],
    "brand": ["nvidia", "tesla"],
}
conditions = st.builds(
    "".join,
    st.one_of(
        st.tuples(
            st.sampled_from(["cuda", "driver", "arch"]),
            st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "=="]),
            st.sampled_from(["9.0", "10", "12.0", "13", "535", "580.1", "x"]),
        ),
        st.tuples(st.just("brand"), st.sampled_from(["=", "!="]), st.sampled_from(["nvidia", "x"])),
    ),
)
requirements = st.lists(st.lists(conditions, min_size=1, max_size=3).map(",".join), max_size=4)


@given(requirements.map(" ".join), st.sets(st.sampled_from(sorted(KEYS))))
def test_what_is_said_for_sure_holds_whatever_is_hidden(requirement: str, hidden: set[str]) -> None:
    worlds = [
        Gpu(**dict(zip(KEYS, values, strict=True))) for values in itertools.product(*KEYS.values())
    ]
    seen = Gpu(**{key: None if key in hidden else values[0] for key, values in KEYS.items()})
    said = evaluate(requirement, seen)
    possible = {
        evaluate(requirement, world)
        for world in worlds
        if all(key in hidden or getattr(world, key) == getattr(seen, key) for key in KEYS)
    }
    assert possible <= {"ok", "refused"}
    assert said == "unknown" or possible == {said}
    if not hidden:
        assert said != "unknown"


@given(st.text(max_size=80))
def test_no_text_is_too_strange(requirement: str) -> None:
    assert evaluate(requirement, H200) in ("ok", "refused")
    assert judge([requirement], None, None, []) in ("ok", "refused", "unknown")
    assert len(summary(requirement)) <= 300


@given(st.sampled_from([R129, R130]), st.integers(400, 699), st.integers(110, 140))
def test_a_newer_cuda_is_never_refused(value: str, branch: int, cuda: int) -> None:
    version = f"{cuda // 10}.{cuda % 10}"
    said = judge([value], f"{branch}.1", version, ["NVIDIA H100"])
    if said == "refused":
        assert cuda < {R129: 129, R130: 130}[value]
    assert said in ("ok", "refused")


@pytest.mark.parametrize(
    ("name", "brand"),
    [
        ("NVIDIA H200", "nvidia"),
        ("NVIDIA A100-SXM4-80GB", "tesla"),
        ("NVIDIA GB200", "nvidia"),
        ("NVIDIA L40S", "nvidia"),
        ("Tesla V100-SXM2-32GB", "tesla"),
        ("NVIDIA RTX A6000", "nvidiartx"),
        ("NVIDIA GeForce RTX 4090", "geforce"),
        ("NVIDIA TITAN RTX", "titan"),
        ("Device 2901", None),
        (None, None),
    ],
)
def test_a_gpus_brand_follows_from_its_name_or_is_not_known(
    name: str | None, brand: str | None
) -> None:
    assert brand in brands_of(name)


def test_gpus_of_which_one_is_not_admitted_are_refused() -> None:
    both = ["NVIDIA H100", "NVIDIA GeForce RTX 4090"]
    assert judge([R129], "535.183.01", "12.2", both) == "refused"
    assert judge([R129], "535.183.01", "12.2", ["Device 2901"]) == "unknown"
    assert judge([R129], "580.159.04", "13.0", ["Device 2901"]) == "ok"
    assert judge([R129, "cuda>=99"], "580.159.04", "13.0", ["NVIDIA H100"]) == "refused"
    assert judge([], None, None, []) == "ok"


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, []),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=13.0", "CUDA_VERSION": "13.0.2"}, ["cuda>=13.0"]),
        # As images without the variable are read.
        ({"CUDA_VERSION": "12.9.1"}, ["cuda>=12.9"]),
        ({"CUDA_VERSION": "12.9.1", "NVIDIA_REQUIRE_CUDA": ""}, ["cuda>=12.9"]),
        ({"CUDA_VERSION": "of the base"}, []),
        (
            {"NVIDIA_REQUIRE_CUDA": "cuda>=12", "NVIDIA_REQUIRE_ARCH": "arch>=9.0"},
            ["arch>=9.0", "cuda>=12"],
        ),
        ({"NVIDIA_REQUIRE_JETPACK": "csv", "NVIDIA_REQUIRE_CUDA": "cuda>=12"}, ["cuda>=12"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=99", "NVIDIA_DISABLE_REQUIRE": "1"}, []),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=99", "NVIDIA_DISABLE_REQUIRE": "no"}, ["cuda>=99"]),
    ],
)
def test_all_requirements_of_an_environment_count(env: dict[str, str], found: list[str]) -> None:
    assert requirements_of(env) == found


def test_a_requirement_is_told_in_few_words() -> None:
    assert summary(R129) == "cuda>=12.9 or a driver of branch 535, 550, 560, 565, 570"
    assert summary("driver>=450,brand=tesla cuda>=11") == "driver>=450 or cuda>=11"
    assert summary("brand=tesla") == "brand=tesla"


SPECIFICATION = ["/etc/cdi/nvidia.yaml"]


@pytest.mark.parametrize(
    ("injection", "docker", "asked"),
    [
        (Injection(True, False, [], None), "28.5.1", True),
        (Injection(True, True, SPECIFICATION, None), "28.5.1", True),
        (Injection(True, True, SPECIFICATION, None), "29.2.0", False),
        (Injection(True, False, SPECIFICATION, None), "29.2.0", True),
        (Injection(True, True, [], None), "29.4.1", True),
        (Injection(False, True, SPECIFICATION, None), "28.3.0", False),
        (Injection(True, False, [], "disable-require = true\n"), "28.5.1", False),
        (Injection(True, False, [], "#disable-require = true\n"), "28.5.1", True),
        (Injection(True, False, [], "disable-require = false\n"), "28.5.1", True),
        (Injection(True, True, SPECIFICATION, None), "", True),
    ],
)
def test_where_docker_gives_gpus_by_cdi_nobody_asks(
    injection: Injection, docker: str, asked: bool
) -> None:
    assert (why_unasked(injection, docker) == "") == asked


@pytest.mark.parametrize(
    ("driver", "names", "unasked", "status"),
    [
        ("580.159.04", ["NVIDIA H200"], "", "ok"),
        ("525.147.05", ["NVIDIA H100"], "", "failed"),
        ("525.147.05", ["NVIDIA H100"], "Docker gives the GPUs by CDI", "ok"),
        ("535.183.01", ["Device 2901"], "", "unknown"),
        (None, [], "", "unknown"),
    ],
)
def test_a_refused_image_is_a_failed_check(
    driver: str | None, names: list[str], unasked: str, status: str
) -> None:
    env = {"NVIDIA_REQUIRE_CUDA": R129, "CUDA_VERSION": "12.9.1"}
    one = requirement_check("r.lan/a:v1", env, driver, CUDA_OF.get(driver or ""), names, unasked)
    assert (one["id"], one["phase"], one["status"]) == ("image-requirement", "ready", status)
    assert one["subject"] == "r.lan/a:v1"
    assert one["expected"] == "cuda>=12.9 or a driver of branch 535, 550, 560, 565, 570"
    assert bool(one["remedy"]) == (status != "ok")
    assert unasked in one["observed"]


@pytest.mark.parametrize(
    ("told", "driver", "compat", "status"),
    [
        ("13.0.2", "580.65.06", "none", "ok"),
        ("13.0.2", "575.57.08", "none", "failed"),
        ("13.0.2", "570.124.06", "on", "warning"),
        ("12.9.1", "550.144.03", "none", "warning"),
        ("12.9.1", "525.60.13", "none", "warning"),
        ("12.9.1", "520.61.05", "none", "failed"),
        (None, "580.65.06", "none", "unknown"),
        # No table has it yet.
        ("14.0.0", "580.65.06", "none", "unknown"),
    ],
)
def test_the_cuda_that_an_image_holds_wants_a_driver(
    told: str | None, driver: str, compat: str, status: str
) -> None:
    env = {"CUDA_VERSION": told} if told else {}
    one = cuda_check("r.lan/a:v1", env, driver, compat, ["NVIDIA H100"])
    assert (one["id"], one["phase"], one["status"]) == ("image-cuda", "ready", status)
    assert bool(one["remedy"]) == (status != "ok")
