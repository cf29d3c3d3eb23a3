"""The engine's image: names that no registry takes, and tags that say another version."""

from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan.images import image_of

from tests.unit.plan_support import plan, problems, single

DIGEST = "sha256:" + "0" * 64
SPEC = {"name": "vllm-ascend", "image": "quay.io/ascend/vllm-ascend:v{version}"}
A3 = {"name": "vllm-ascend", "image": "quay.io/ascend/vllm-ascend:v{version}-a3"}


@pytest.mark.parametrize("variable", ["image", "gateway_image"])
@pytest.mark.parametrize(
    "image",
    [
        "a b:c",
        "a//b:1",
        "UPPER/Case:1",
        "quay.io/Ascend/x:1",
        "https://quay.io/ascend/x:1",
        "-v:1",
        "x:",
        ":1",
        "x:-1",
        "x:a b",
        "/x:1",
        "x//y/:1",
        "quay.io/ascend/vllm-ascend",
        "reg.lan:5000/vllm",
        "reg.lan:99999/vllm:1",
        "reg.lan:0/vllm:1",
        "x:" + "t" * 129,
        "x@sha256:12",
        "x:1@md5:" + "0" * 32,
        "x:1\n",
        "${REGISTRY}/x:1",
    ],
)
def test_what_no_registry_takes_is_refused(variable: str, image: str) -> None:
    found = problems(single(**{variable: image}))
    assert any(text.startswith(f"c-0: muster_{variable} has to be NAME:TAG") for text in found)


@pytest.mark.parametrize(
    "image",
    [
        "haproxy:3.0",
        "quay.io/ascend/vllm-ascend:v0.23.0.post1",
        "reg.lan:5000/a/b_c/d.e:v0.23.0",
        f"reg.lan:5000/a/b:v1@{DIGEST}",
        f"localhost/x@{DIGEST}",
        "10.0.0.9:5000/x:1",
    ],
)
def test_what_a_registry_takes_is_planned(image: str) -> None:
    unit = plan(single(image=image))["units"][0]
    assert unit["image"] == image


TAGS = [
    # image, version, whether the operator said the version, level, a piece of the text
    ("mirror/ascend/vllm-ascend:v0.18.0", "0.23.0.post1", False, "error", 'version: "0.18.0"'),
    ("mirror/ascend/vllm-ascend:v0.18.0", "0.23.0.post1", True, "error", "says 0.18.0"),
    ("vllm-ascend:0.18.0-openeuler", "0.23.0", False, "error", "image of 0.23.0"),
    ("vllm-ascend:v0.23.0", "0.23.0", False, None, ""),
    ("vllm-ascend:v0.23.0-openeuler", "0.23.0", False, None, ""),
    ("vllm-ascend:v0.23", "0.23.0", False, None, ""),
    ("vllm-ascend:v0.23.0rc1", "0.23.0.post1", False, "warning", "says 0.23.0rc1"),
    (f"vllm-ascend:v0.18.0@{DIGEST}", "0.23.0", False, "warning", "says 0.18.0"),
    (f"vllm-ascend@{DIGEST}", "0.23.0", False, None, ""),
    ("our-engine:v0.18.0", "0.23.0", False, "warning", "says 0.18.0"),
    ("our-engine:2.3", "0.23.0", False, None, ""),
    ("our-engine:25.06-py3", "0.23.0", False, None, ""),
    ("our-engine:build-7", "0.23.0", False, None, ""),
    ("vllm-ascend:latest", "0.23.0", False, "warning", "the tag latest names no version"),
    ("our-engine:nightly-2026", "0.23.0", False, "warning", "names no version"),
    ("vllm-ascend:latest", "0.23.0", True, None, ""),
    ("vllm-ascend:minimax27", "0.23.0", False, "warning", "names no version"),
]


@pytest.mark.parametrize(("image", "version", "said", "level", "expected"), TAGS)
def test_a_tag_is_held_against_the_version(
    image: str, version: str, said: bool, level: str | None, expected: str
) -> None:
    settings: dict[str, Any] = {"muster_image": image}
    if said:
        settings["muster_engine_version"] = version
    _image, errors, warnings = image_of(SPEC, settings, version)
    assert (len(errors), len(warnings)) == (level == "error", level == "warning")
    assert expected in "\n".join(errors + warnings)


def test_a_tag_of_other_devices_is_warned_of() -> None:
    _image, errors, warnings = image_of(A3, {"muster_image": "x/vllm-ascend:v0.23.0"}, "0.23.0")
    assert (errors, len(warnings)) == ([], 1)
    assert "own image is tagged v0.23.0-a3, and v0.23.0 may be built" in warnings[0]
    mirror = {"muster_image": "x/vllm-ascend:v0.23.0-a3-openeuler"}
    assert image_of(A3, mirror, "0.23.0")[1:] == ([], [])
    a2 = {**SPEC, "foreign_tags": ["a3"]}
    (warning,) = image_of(a2, mirror, "0.23.0")[2]
    assert "v0.23.0-a3-openeuler may be built for other devices" in warning


def test_the_plan_says_what_to_set() -> None:
    (found,) = problems(single(image="quay.io/ascend/vllm-ascend:v0.18.0"))
    assert found.startswith("c: muster_image: the tag v0.18.0 says 0.18.0, and the plan is for ")
    assert "where the tag is wrong, name the image by its digest" in found


def test_a_version_may_begin_as_its_tag_does() -> None:
    made = plan(single(engine_version="v0.23.0"))["engine"]
    assert (made["version"], made["image"]) == ("0.23.0", "quay.io/ascend/vllm-ascend:v0.23.0")
