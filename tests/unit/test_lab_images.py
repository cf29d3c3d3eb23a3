"""Which images a lab node needs, and what the lab says before it makes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab import images, registry
from lab.engine import build as engine
from lab.gateway import build as gateway
from lab.machine import AptSources
from lab.sglang import build as sglang

SOURCES = AptSources("bookworm", ("deb http://mirror.example/debian bookworm main",), ())
PIECES = (images.NODE_IMAGE, images.ENGINE_IMAGE, images.OTHER_IMAGES)


@pytest.mark.parametrize(
    ("node", "repositories"),
    [
        ("a2-node0", set()),
        ("a3-node0", {gateway.REPOSITORY}),
        ("h100-node0", set()),
        ("h100-node1", {sglang.REPOSITORY}),
        # Its second deployment has an inventory name of its own.
        ("mi300x-node0", {sglang.REPOSITORY}),
        ("fault0", set()),
    ],
)
def test_a_node_needs_the_images_that_its_clusters_name(node: str, repositories: set[str]) -> None:
    assert images.named_for(node) == repositories


def test_every_image_that_the_labs_inventory_names_can_be_built() -> None:
    named = set()
    for file in (images.INVENTORY / "group_vars").glob("*.yml"):
        for value in yaml.safe_load(file.read_text()).values():
            if isinstance(value, str) and (found := re.fullmatch(r"registry:5000/(.+):.+", value)):
                named.add(found[1])
    assert named == set(images.BUILDERS)


def test_an_inventory_may_name_an_image_with_its_digest_beside_its_hosts(tmp_path: Path) -> None:
    image = f"{registry.NAME}:{registry.PORT}/{gateway.REPOSITORY}:1@sha256:{'0' * 64}"
    cluster = {"hosts": {"n": None}, "vars": {"muster_gateway_image": image, "muster_port": 1}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"c": cluster}}}))
    assert images.named_for("n", tmp_path) == {gateway.REPOSITORY}
    assert images.named_for("m", tmp_path) == set()


def push(repository: str, tag: str) -> None:
    """Leave in the registry's storage what shows that it has an image."""
    folder = registry._storage() / f"docker/registry/v2/repositories/{repository}/_manifests/tags"
    (folder / tag / "current").mkdir(parents=True)
    (folder / tag / "current" / "link").touch()


def test_what_is_missing_is_what_was_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # a machine without podman

    def missing(*, with_engine: bool = True, with_others: bool = True) -> list[images.Piece]:
        return images.missing(SOURCES, with_engine=with_engine, with_others=with_others)

    assert missing() == list(PIECES)
    assert missing(with_others=False) == [images.NODE_IMAGE, images.ENGINE_IMAGE]
    assert missing(with_engine=False, with_others=False) == [images.NODE_IMAGE]
    push(engine.REPOSITORY, engine.build_tag(SOURCES))
    push(gateway.REPOSITORY, gateway.build_tag(SOURCES))
    assert missing() == [images.NODE_IMAGE, images.OTHER_IMAGES]
    for tag in sglang.build_tags(SOURCES).values():
        push(sglang.REPOSITORY, tag)
    assert missing() == [images.NODE_IMAGE]


@given(st.sets(st.sampled_from(PIECES), min_size=1))
def test_the_forecast_names_each_piece_and_grows_with_them(pieces: set[images.Piece]) -> None:
    def minutes(some: set[images.Piece]) -> int:
        return int(re.findall(r"about (\d+) minutes?", images.forecast(some, "/cache"))[0])

    text = images.forecast(pieces, "/cache")
    assert all(piece.name in text for piece in pieces)
    assert "/cache" in text
    assert 1 <= minutes(pieces) <= minutes(set(PIECES))


def test_with_everything_built_the_forecast_is_of_seconds() -> None:
    assert "second" in images.forecast([], "/cache")
    assert "minute" not in images.forecast([], "/cache")
