import contextlib
import json

import pytest
from ansible_collections.muster.serving.plugins.module_utils.engine_image import (
    ImageError,
    Reference,
    architecture_problem,
    dump_notes,
    explain_pull,
    matches,
    missing_preloads,
    notes_path,
    parse_inspect,
    parse_reference,
    proven_preloads,
)
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
IMAGE = {
    "id": "sha256:" + "c" * 64,
    "repo_digests": [f"quay.io/ascend/vllm-ascend@{DIGEST}"],
    "architecture": "arm64",
    "os": "linux",
    "size": 1,
}


@pytest.mark.parametrize(
    ("image", "digest", "local", "source", "registry"),
    [
        ("q.io/a/b:v1", None, "q.io/a/b:v1", "q.io/a/b:v1", "q.io"),
        ("q.io/a/b:v1", DIGEST, "q.io/a/b:v1", f"q.io/a/b@{DIGEST}", "q.io"),
        (f"q.io/a/b@{DIGEST}", None, f"q.io/a/b@{DIGEST}", f"q.io/a/b@{DIGEST}", "q.io"),
        (f"q.io/a/b:v1@{DIGEST}", DIGEST, "q.io/a/b:v1", f"q.io/a/b@{DIGEST}", "q.io"),
        ("198.51.100.1:5000/x", None, "198.51.100.1:5000/x:latest", None, "198.51.100.1:5000"),
        ("localhost/x:1", None, "localhost/x:1", None, "localhost"),
        ("lmsysorg/sglang:v0.5.7-rocm700-mi30x", None, None, None, "docker.io"),
        ("vllm-cpu", None, "vllm-cpu:latest", None, "docker.io"),
    ],
)
def test_references(image, digest, local, source, registry) -> None:
    reference = parse_reference(image, digest)
    assert reference.registry == registry
    assert reference.local == (local or image)
    assert reference.source == (source or reference.local)


@pytest.mark.parametrize(
    ("image", "digest", "message"),
    [
        ("", None, "is not an image"),
        ("UPPER/Case", None, "is not an image"),
        ("a b", None, "is not an image"),
        ("--privileged", None, "is not an image"),
        ("q.io/a:v1", "sha256:12", "64 hex digits"),
        (f"q.io/a@{DIGEST}", OTHER, "another digest"),
    ],
)
def test_bad_references_are_refused(image, digest, message) -> None:
    with pytest.raises(ImageError, match=message):
        parse_reference(image, digest)


@given(st.text() | st.from_regex(r"[a-z0-9./:@-]*", fullmatch=True))
def test_any_text_is_a_reference_or_refused_and_never_an_option(text) -> None:
    with contextlib.suppress(ImageError):
        assert not parse_reference(text).source.startswith("-")


def test_a_digest_decides_and_without_one_the_name_does() -> None:
    assert matches(IMAGE, Reference("mirror.lan/ascend/vllm-ascend", "v1", DIGEST))
    assert matches(IMAGE, Reference("quay.io/ascend/vllm-ascend", "v1", None))
    assert not matches(IMAGE, Reference("quay.io/ascend/vllm-ascend", "v1", OTHER))
    assert not matches(None, Reference("quay.io/ascend/vllm-ascend", "v1", None))


def test_an_image_for_another_machine_is_named() -> None:
    reference = parse_reference("q.io/a:v1")
    assert architecture_problem(IMAGE, reference, "aarch64") is None
    problem = architecture_problem(IMAGE, reference, "x86_64")
    assert problem.startswith("q.io/a:v1 is built for arm64, this node is amd64")


@pytest.mark.parametrize(
    ("output", "meaning", "remedy"),
    [
        (
            "Error response from daemon: manifest for r.lan/a:v1 not found: manifest unknown: "
            "manifest unknown",
            "does not have it",
            "muster_image",
        ),
        (
            'Error response from daemon: Get "https://r.lan/v2/": http: server gave HTTP response '
            "to HTTPS client",
            "speaks plain HTTP",
            "muster_insecure_registries",
        ),
        (
            'Error response from daemon: Get "https://r.lan/v2/": dial tcp 198.51.100.9:443: '
            "connect: connection refused",
            "cannot be reached",
            "muster_proxy",
        ),
        (
            'Error response from daemon: Get "https://r.lan/v2/": x509: certificate signed by '
            "unknown authority",
            "not trusted",
            "muster_registry_ca",
        ),
        (
            "failed to register layer: Error processing tar file(exit status 1): write /x: no "
            "space left on device",
            "disk is full",
            "docker system df",
        ),
        (
            "Error response from daemon: pull access denied for a, repository does not exist or "
            "may require 'docker login': denied: requested access to the resource is denied",
            "wants a login",
            "docker login",
        ),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "not for this node's architecture",
            "muster_image",
        ),
        ("something new", "it failed", "Try docker pull r.lan/a:v1"),
        ("", "it failed", "Try docker pull r.lan/a:v1"),
    ],
)
def test_a_failed_pull_says_what_to_do(output, meaning, remedy) -> None:
    message = explain_pull(parse_reference("r.lan/a:v1"), "v1: Pulling from a\n" + output)
    assert message.startswith("cannot pull r.lan/a:v1 from r.lan: ")
    assert meaning in message
    assert remedy in message


LD_SO = (
    "ERROR: ld.so: object 'libjemalloc.so.2' from LD_PRELOAD cannot be preloaded (cannot open "
    "shared object file): ignored.\n"
)


def test_the_dynamic_linkers_warning_names_the_library() -> None:
    wanted = ["libjemalloc.so.2", "libother.so"]
    assert missing_preloads(LD_SO, wanted) == ["libjemalloc.so.2"]
    assert missing_preloads("", wanted) == []


def test_notes_about_an_image_are_kept_and_read_back() -> None:
    assert notes_path("sha256:00ff") == "/var/lib/muster/images/sha256-00ff.json"
    assert proven_preloads(dump_notes("sha256:00ff", ["b.so", "a.so"])) == ["a.so", "b.so"]


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({"preloads": value})))
def test_any_text_as_notes_or_inspection_gives_a_result(text) -> None:
    assert isinstance(proven_preloads(text), list)
    assert parse_inspect(text) is None


def test_an_inspection_is_read() -> None:
    document = {"Id": "sha256:1", "RepoDigests": None, "Architecture": "amd64", "Size": 5}
    seen = parse_inspect(json.dumps([document]))
    assert (seen["id"], seen["repo_digests"], seen["size"]) == ("sha256:1", [], 5)
