"""Mounts of the engines' containers, and the folders that settings name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan_support import host, pair, plan, problems, single, view

SOCKET = "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"extra_mounts": ["/a:/b", "/c:/b"]},
            "c: muster_extra_mounts: /c is to be mounted at /b, and so is /a (muster_extra_mounts)",
        ),
        ({"extra_mounts": ["/a:/b", "/a:/b:ro"]}, "/a is to be mounted at /b, and so is /a"),
        (
            {"extra_mounts": ["/x:/models/m2.5/"]},
            "/x is to be mounted at /models/m2.5, and so is /models/m2.5 (muster_model_path)",
        ),
        (
            {"extra_mounts": ["/big:/root/.cache"]},
            "/big is to be mounted at /root/.cache, and so is /var/lib/muster/cache/{unit} (the "
            "recipe)",
        ),
        (
            {"profiler_dir": "/models/m2.5"},
            "muster_profiler_dir: /models/m2.5 is to be mounted at /models/m2.5",
        ),
        ({"extra_mounts": ["/x:/"]}, "muster_extra_mounts: /x at / would hide the container's own"),
        ({"extra_mounts": ["/x:/usr/lib"]}, "/x at /usr/lib would hide"),
        ({"extra_mounts": ["/x:/usr/"]}, "muster_extra_mounts: /x at /usr would hide"),
        ({"extra_mounts": ["/proc:/proc"]}, "muster_extra_mounts: /proc would hide"),
        ({"model_path": "/"}, "muster_model_path: / is a folder of the system"),
        ({"model_path": "//"}, "muster_model_path: / is a folder of the system"),
        ({"model_path": "/etc/"}, "muster_model_path: /etc is a folder of the system"),
        ({"draft_model_path": "/"}, "muster_draft_model_path: / is a folder of the system"),
        ({"profiler_dir": "/"}, "muster_profiler_dir: / is a folder of the system"),
        (
            {"model_path": "/var/lib/muster/cache/M"},
            "/var/lib/muster/cache/M lies in /var/lib/muster/cache, which Muster fills",
        ),
        ({"profiler_dir": "/var/log/muster"}, "lies in /var/log/muster, which Muster fills"),
        (
            {"model_path": "/models/M/", "draft_model_path": "/models/M"},
            "muster_draft_model_path: /models/M is muster_model_path",
        ),
        ({"model_path": "/data/../etc"}, "absolute path without a colon, a $ or .., not"),
        ({"model_path": "/data/$HOME/M"}, "absolute path without a colon, a $ or .., not"),
        ({"model_path": "/data/`id`"}, "absolute path without a colon, a $ or .., not"),
        ({"model_path": "~/M"}, "absolute path without a colon, a $ or .., not"),
        ({"extra_mounts": ["/a/../b:/b"]}, "a list of SRC:DST or SRC:DST:ro, of absolute paths"),
        ({"extra_mounts": ["a:/b"]}, "a list of SRC:DST or SRC:DST:ro, of absolute paths"),
        ({"extra_mounts": ["/a:/b:rw"]}, "a list of SRC:DST or SRC:DST:ro, of absolute paths"),
        ({"extra_mounts": ["/a:/b:"]}, "a list of SRC:DST or SRC:DST:ro, of absolute paths"),
    ],
)
def test_mounts_that_cannot_be_are_refused(variables: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(problems(single(**variables)))


@pytest.mark.parametrize("mount", ["/:/host", f"{SOCKET}:{SOCKET}", "/run/docker.sock:/d:ro"])
def test_a_mount_that_gives_the_node_away_is_warned_of(mount: str) -> None:
    made = plan(single(extra_mounts=[mount]))
    assert f"muster_extra_mounts: {mount} gives the container the whole node" in made["warnings"]


@pytest.mark.parametrize(
    ("variables", "mount"),
    [
        ({"model_path": "/data/my models/M"}, "/data/my models/M:/data/my models/M:ro"),
        ({"model_path": "/data/\u6a21\u578b/M"}, "/data/\u6a21\u578b/M:/data/\u6a21\u578b/M:ro"),
        ({"model_path": "/data//models/./M/"}, "/data/models/M:/data/models/M:ro"),
        # One file of the weights' folder may be another's.
        (
            {"extra_mounts": ["/fixed.jinja:/models/m2.5/chat_template.jinja:ro"]},
            "/fixed.jinja:/models/m2.5/chat_template.jinja:ro",
        ),
        ({"extra_mounts": ["/dev/shm:/dev/shm"]}, "/dev/shm:/dev/shm"),
        ({"extra_mounts": ["/models/m2.5:/models/m2.5:ro"]}, "/models/m2.5:/models/m2.5:ro"),
    ],
)
def test_other_mounts_are_taken(variables: dict[str, Any], mount: str) -> None:
    assert mount in plan(single(**variables))["units"][0]["mounts"]


def test_folders_count_without_a_container_as_well() -> None:
    own = {"install": "venv", "model_path": "/"}
    found = problems(view(c=[host(1, "minimax-m2.5/vllm-nvidia", **own)]))
    assert found == [
        "c: muster_model_path: / is a folder of the system: name the one that is meant"
    ]


PATHS = st.lists(st.sampled_from(["a", "b", "models", "m2.5", "usr"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(st.tuples(PATHS, PATHS), max_size=4))
def test_a_planned_container_has_one_mount_a_target(pairs: list[tuple[str, str]]) -> None:
    inventory = pair(extra_mounts=[f"{source}:{target}" for source, target in pairs])
    if problems(inventory) == []:
        for unit in plan(inventory)["units"]:
            targets = [mount.split(":")[1] for mount in unit["mounts"]]
            assert len(set(targets)) == len(targets)
            assert not {"/", "/usr"} & set(targets)
