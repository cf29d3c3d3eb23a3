import contextlib
import json
import os
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import (
    observe_io as gpu_observe,
)
from ansible_collections.muster.serving.plugins.module_utils.engine import image_io
from ansible_collections.muster.serving.plugins.module_utils.engine.image import (
    CANN_SCRIPT,
    ImageError,
    Notes,
    Reference,
    architecture_problem,
    cann_check,
    derived_mark,
    dump_notes,
    explain_build,
    explain_pull,
    matches,
    missing_preloads,
    notes_path,
    parse_cann,
    parse_inspect,
    parse_reference,
    read_notes,
    usual_name,
)
from ansible_collections.muster.serving.plugins.modules import engine_image
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.nvidia_node import NvidiaNode
from tests.unit.test_requirements import R129, R130

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
        ("[fd00::1]:5000/a:1", None, "[fd00::1]:5000/a:1", None, "[fd00::1]:5000"),
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
        ("a//b", None, "is not an image"),
        ("a.-b", None, "is not an image"),
        ("fd00::1/a:1", None, "is not an image"),
        (f"{'a' * 256}:1", None, "is not an image"),
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
    for cann in (None, "", "8.5.1"):
        notes = read_notes(dump_notes("sha256:00ff", Notes(["b.so", "a.so"], cann)))
        assert notes == Notes(["a.so", "b.so"], cann)
    # As they were before images were asked for their CANN.
    assert read_notes('{"image_id": "sha256:00ff", "preloads": ["a.so"]}') == Notes(["a.so"])


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({"preloads": value})))
def test_any_text_as_notes_or_inspection_gives_a_result(text) -> None:
    assert isinstance(read_notes(text), (Notes, type(None)))
    assert isinstance(parse_cann(text), str)
    assert parse_inspect(text) is None


def test_an_inspection_is_read() -> None:
    document = {"Id": "sha256:1", "RepoDigests": None, "Architecture": "amd64", "Size": 5}
    seen = parse_inspect(json.dumps([document]))
    assert (seen["id"], seen["repo_digests"], seen["size"]) == ("sha256:1", [], 5)
    assert seen["labels"] == {}


SENTENCE = "/opt/a.py is not the file that the recipe changes: its sha256 is 0, not 1"
SCRIPT = "printf 'muster: %s is not the file that the recipe changes: ' \"$1\" >&2"


@pytest.mark.parametrize(
    "output",
    [
        # The older builder, which colours what a step says, and shows the step that failed.
        f"Step 2/3 : RUN [...]\n ---> Running in 0\n\x1b[91mmuster: {SENTENCE}\n\x1b[0m"
        f"The command '/bin/sh -ec seen=missing\n  {SCRIPT}\n' returned a non-zero code: 1\n",
        # BuildKit, which numbers and times it.
        f'#5 [2/3] RUN ["/bin/sh", "-ec", ...]\n#5 0.213 muster: {SENTENCE}\n'
        "#5 ERROR: process did not complete successfully: exit code: 1\n",
    ],
)
def test_an_image_that_is_another_one_is_named_with_the_file(output) -> None:
    message = explain_build("muster/a:v1-0", "r.lan/a:v1", output)
    assert message.startswith(f"cannot build muster/a:v1-0 from r.lan/a:v1: {SENTENCE}. ")
    assert "muster_engine_version" in message
    assert "printf" not in message


def test_another_failed_build_is_told_with_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(20)]
    message = explain_build("muster/a:v1-0", "r.lan/a:v1", "\n".join(lines))
    assert message.endswith("Docker said: " + " / ".join(lines[-6:]))
    full = explain_build("muster/a:v1-0", "r.lan/a:v1", "write /x: no space left on device\n")
    assert "docker system df" in full
    assert explain_build("muster/a:v1-0", "r.lan/a:v1", "").endswith("Docker said: nothing")


CANN = """package_name=Ascend-cann-toolkit
version=8.5.1
innerversion=V100R001C25SPC001B232
compatible_version=[V100R001C29],[V100R001C30]
arch=aarch64
"""


def test_the_version_of_cann_is_read() -> None:
    assert parse_cann(CANN) == "8.5.1"
    assert parse_cann(CANN.replace("\n", "\r\n")) == "8.5.1"
    assert parse_cann("innerversion=1\n") == ""


def test_the_engines_own_cann_is_the_one_that_is_asked(tmp_path) -> None:
    info = tmp_path / "aarch64-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text(CANN)

    def ask(home) -> str:
        environment = {"PATH": os.environ["PATH"], "ASCEND_TOOLKIT_HOME": str(home)}
        argv = ["/bin/sh", "-c", CANN_SCRIPT]
        return subprocess.run(
            argv, env=environment, capture_output=True, check=True
        ).stdout.decode()

    assert ask(tmp_path) == CANN
    assert ask(tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("8.5.1", "ok"),
        ("9.0.0", "ok"),
        ("8.5.0", "failed"),
        ("8.3.RC2", "failed"),
        # A version of another form is not guessed at.
        ("7.0.T10", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_older_cann_than_the_engines_is_a_failed_check(version, status) -> None:
    one = cann_check(parse_reference("q.io/a:v1"), version, "8.5.1")
    assert (one["id"], one["phase"], one["status"]) == ("cann-version", "ready", status)
    assert (one["subject"], one["expected"]) == ("q.io/a:v1", "CANN 8.5.1 or later")
    assert bool(one["remedy"]) == (status != "ok")


class Docker:
    """Images by name, and what was asked of them."""

    def __init__(self, base: str = "sha256:base") -> None:
        self.images = {"r.lan/a:v1": {"Id": base, "Architecture": "amd64"}}
        self.builds: list[str] = []
        self.started: list[list[str]] = []
        self.cann = CANN
        self.has_shell = True
        self.fails = False
        self.version = "28.5.1"
        self.has_command = True

    def run(self, argv, timeout, stdin="") -> Output:
        if argv[0] == "docker" and not self.has_command:
            raise CommandError("docker could not be started") from FileNotFoundError()
        if argv[:3] == ["docker", "image", "inspect"]:
            if argv[3] not in self.images:
                return Output(1, "[]", f"Error: No such image: {argv[3]}")
            return Output(0, json.dumps([self.images[argv[3]]]), "")
        if argv[:2] == ["docker", "pull"]:
            self.images[argv[2]] = {"Id": "sha256:base", "Architecture": "amd64"}
        if argv[:2] == ["docker", "tag"]:
            self.images[argv[3]] = self.images[argv[2]]
        if argv[:2] == ["docker", "build"]:
            assert argv[-1] == "-"
            assert argv[2:5] == ["--network", "none", "--pull=false"]
            self.builds.append(stdin)
            if self.fails:
                return Output(1, "", "no space left on device")
            label, value = argv[argv.index("--label") + 1].split("=")
            made = {"Id": f"sha256:{len(self.builds)}", "Config": {"Labels": {label: value}}}
            self.images[argv[argv.index("--tag") + 1]] = made
        if argv[:2] == ["docker", "run"]:
            self.started.append(argv)
            program = argv[argv.index("--entrypoint") + 1]
            if program == "/bin/sh" and not self.has_shell:
                return Output(127, "", f'exec: "{program}": no such file or directory')
            return Output(0, self.cann if program == "/bin/sh" else "", "")
        if argv[:2] == ["docker", "version"]:
            return Output(0, f"{self.version}\n", "")
        return Output(0, "", "")


@pytest.fixture
def docker(monkeypatch, tmp_path) -> Docker:
    fake = Docker()
    monkeypatch.setattr(image_io, "run", fake.run)
    monkeypatch.setattr(image_io, "NodeFiles", lambda: NodeFiles(str(tmp_path)))
    monkeypatch.setattr(image_io.platform, "machine", lambda: "x86_64")
    return fake


def bring(capsys, **more):
    derived = {"image": "muster/a:v1-0", "containerfile": "FROM r.lan/a:v1\n"}
    arguments = {"image": "r.lan/a:v1", "derived": derived, **more}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        engine_image.main()
    return json.loads(capsys.readouterr().out)


def test_a_derived_image_is_built_once(docker, capsys) -> None:
    first = bring(capsys)
    assert (first["changed"], first["built"], first["derived_id"]) == (True, True, "sha256:1")
    assert first["image_id"] == "sha256:base"
    assert "muster/a:v1-0: not here" in first["diff"]["before"]
    assert "muster/a:v1-0: sha256:1" in first["diff"]["after"]
    second = bring(capsys)
    assert (second["changed"], second["built"], second["derived_id"]) == (False, False, "sha256:1")
    assert docker.builds == ["FROM r.lan/a:v1\n"]


def brought(tmp_path, image_id: str) -> list[str]:
    """Return the names under which Muster brought an image, as is kept on the node."""
    notes = read_notes(NodeFiles(str(tmp_path)).read(notes_path(image_id)))
    return list(notes.brought) if notes else []


def test_what_muster_brought_is_kept_and_what_was_there_is_not(docker, capsys, tmp_path) -> None:
    bring(capsys)
    assert brought(tmp_path, "sha256:base") == []
    assert brought(tmp_path, "sha256:1") == ["muster/a:v1-0"]
    docker.images.clear()
    assert bring(capsys, derived=None)["pulled"]
    assert brought(tmp_path, "sha256:base") == ["r.lan/a:v1"]
    # A name that it gets later is its own, too.
    docker.images = {"r.lan/a:v1": docker.images["r.lan/a:v1"]}
    digest = "sha256:" + "0" * 64
    bring(capsys, image="r.lan/a:v2", digest=digest, derived=None)
    assert {"r.lan/a:v1", "r.lan/a:v2"} <= {*brought(tmp_path, "sha256:base")}


def test_an_image_that_was_pulled_is_still_to_be_proven(docker, capsys, monkeypatch) -> None:
    """The run that pulled it may have been cut off before a container started from it."""
    docker.images.clear()

    def cut_off(*_arguments) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_io, "check_runs", cut_off)
        with pytest.raises(KeyboardInterrupt), patch_module_args({"image": "r.lan/a:v1"}):
            engine_image.main()
    assert docker.started == []
    assert not bring(capsys, derived=None)["changed"]
    assert len(docker.started) == 1
    bring(capsys, derived=None)
    assert len(docker.started) == 1


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("docker.io/library/haproxy:3.0", "haproxy:3.0"),
        ("docker.io/vllm/vllm-openai:v1", "vllm/vllm-openai:v1"),
        ("quay.io/ascend/vllm-ascend:v1", "quay.io/ascend/vllm-ascend:v1"),
        ("haproxy:3.0", "haproxy:3.0"),
    ],
)
def test_names_as_docker_lists_them(name: str, usual: str) -> None:
    assert usual_name(name) == usual


def test_a_derived_image_of_another_base_is_built_anew(docker, capsys) -> None:
    bring(capsys)
    docker.images["r.lan/a:v1"]["Id"] = "sha256:moved"
    assert bring(capsys)["derived_id"] == "sha256:2"


def test_check_mode_says_what_would_be_built_and_builds_nothing(docker, capsys) -> None:
    planned = bring(capsys, _ansible_check_mode=True)
    assert (planned["changed"], planned["built"], planned["derived_id"]) == (True, True, None)
    assert "muster/a:v1-0: built" in planned["diff"]["after"]
    # Nor is it known before its base has been pulled.
    docker.images.clear()
    planned = bring(capsys, _ansible_check_mode=True)
    assert (planned["pulled"], planned["built"]) == (True, True)
    assert docker.builds == []


def test_check_mode_knows_a_daemon_without_its_command(docker, capsys) -> None:
    docker.has_command = False
    planned = bring(capsys, _ansible_check_mode=True)
    assert (planned["changed"], planned["pulled"]) == (True, True)
    assert "docker could not be started" in bring(capsys)["msg"]


def test_a_failed_build_fails_the_module(docker, capsys) -> None:
    docker.fails = True
    failed = bring(capsys)
    assert failed["failed"]
    assert failed["msg"].startswith("cannot build muster/a:v1-0 from r.lan/a:v1: ")


def test_an_image_is_asked_for_its_cann_once(docker, capsys) -> None:
    asked = {"min_cann": "9.1.0", "derived": None}
    # Known to load from before, and never asked for its CANN.
    assert bring(capsys, derived=None)["checks"] == []
    planned = bring(capsys, _ansible_check_mode=True, **asked)
    assert (planned["checks"], planned["facts"]) == ([], {"cann_version": None})
    for _again in range(2):
        found = bring(capsys, **asked)
        assert [one["status"] for one in found["checks"]] == ["failed"]
        assert found["facts"] == {"cann_version": "8.5.1"}
        assert not found["changed"]
    assert len(docker.started) == 2
    assert bring(capsys, _ansible_check_mode=True, **asked)["checks"] == found["checks"]


def test_an_image_that_tells_no_cann_is_unknown(docker, capsys, monkeypatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(
        engine_image.AnsibleModule, "warn", lambda _self, text: warnings.append(text)
    )
    asked = {"min_cann": "8.5.1", "derived": None}
    docker.has_shell = False
    said = bring(capsys, preload=["libjemalloc.so.2"], **asked)
    assert [one["status"] for one in said["checks"]] == ["unknown"]
    assert "has no /bin/sh" in str(warnings)
    assert said["preload"] == []
    docker.has_shell, docker.cann = True, ""
    said = bring(capsys, preload=["libjemalloc.so.2"], **asked)
    assert [one["status"] for one in said["checks"]] == ["unknown"]
    assert said["facts"] == {"cann_version": None}
    assert said["preload"] == ["libjemalloc.so.2"]


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> NvidiaNode:
    node = NvidiaNode(tmp_path, monkeypatch)
    node.run_in_process()
    monkeypatch.setattr(gpu_observe, "find_tool", lambda name, _path: name)
    NodeFiles(str(tmp_path)).write("/usr/bin/nvidia-container-runtime-hook", "", mode=0o755)
    return node


def with_env(docker, **env) -> None:
    docker.images["r.lan/a:v1"]["Config"] = {"Env": [f"{name}={env[name]}" for name in env]}


def verdicts(said) -> dict[str, str]:
    return {one["id"]: one["status"] for one in said["checks"]}


@pytest.mark.parametrize(
    ("env", "driver", "cuda", "found"),
    [
        ((R130, "13.0.2"), "580.105.08", "13.0", ("ok", "ok")),
        # The hook lets it start, and the libraries want more.
        ((R130, "13.0.2"), "570.124.06", "12.8", ("ok", "failed")),
        ((R129, "12.9.1"), "545.23.08", "12.3", ("failed", "warning")),
        ((R129, "12.9.1"), "525.147.05", "12.0", ("failed", "warning")),
        (("", ""), "580.105.08", "13.0", ("ok", "unknown")),
    ],
)
def test_an_image_is_asked_what_it_requires_of_the_driver(
    docker, gpus, capsys, env, driver, cuda, found
) -> None:
    with_env(docker, NVIDIA_REQUIRE_CUDA=env[0], CUDA_VERSION=env[1])
    gpus.set("driver_version", driver)
    gpus.set("cuda_version", cuda)
    for check_mode in (True, False):
        said = bring(
            capsys, derived=None, nvidia={"devices": [0, 1]}, _ansible_check_mode=check_mode
        )
        assert not said.get("failed")
        assert verdicts(said) == dict(zip(("image-requirement", "image-cuda"), found, strict=True))


def test_the_environment_of_the_units_and_cdi_decide_who_asks(
    docker, gpus, capsys, tmp_path
) -> None:
    with_env(docker, NVIDIA_REQUIRE_CUDA="cuda>=99", CUDA_VERSION="13.0.2")
    asked = {"derived": None, "nvidia": {"devices": [0]}}
    assert verdicts(bring(capsys, **asked))["image-requirement"] == "failed"
    lifted = {"devices": [0], "env": {"NVIDIA_DISABLE_REQUIRE": "1"}}
    assert verdicts(bring(capsys, derived=None, nvidia=lifted))["image-requirement"] == "ok"
    files = NodeFiles(str(tmp_path))
    files.write("/etc/cdi/nvidia.yaml", "")
    files.write("/usr/bin/nvidia-cdi-hook", "", mode=0o755)
    assert verdicts(bring(capsys, **asked))["image-requirement"] == "failed"
    docker.version = "29.2.0"
    by_cdi = bring(capsys, **asked)
    assert verdicts(by_cdi)["image-requirement"] == "ok"
    assert "Docker gives the GPUs by CDI" in by_cdi["checks"][0]["observed"]


def test_a_node_whose_driver_tells_nothing_is_unknown(docker, gpus, capsys, monkeypatch) -> None:
    with_env(docker, NVIDIA_REQUIRE_CUDA=R130, CUDA_VERSION="13.0.2")
    monkeypatch.setattr(gpu_observe, "find_tool", lambda _name, _path: None)
    said = bring(capsys, derived=None, nvidia={"devices": [0]})
    assert set(verdicts(said).values()) == {"unknown"}
    assert all(one["remedy"] for one in said["checks"])


def test_without_gpus_of_nvidia_no_driver_is_looked_at(docker, capsys) -> None:
    assert bring(capsys, derived=None)["checks"] == []


def test_the_mark_of_a_derived_image_knows_its_base_and_its_changes() -> None:
    marks = {derived_mark(base, text) for base in ("a", "b") for text in ("c", "d")}
    assert len(marks) == 4
