"""The Containerfile of a derived image: its steps are run here, on files of the test."""

import hashlib
import json
import subprocess

import pytest
from ansible_collections.muster.serving.plugins.module_utils.engine.image import parse_reference
from ansible_collections.muster.serving.plugins.plugin_utils.plan.derived_image import derive
from hypothesis import given
from hypothesis import strategies as st

IMAGE = "lmsysorg/sglang:v0.5.7-rocm700-mi30x"
DECORATOR = "@torch.compile(dynamic=True, backend=get_compiler_backend())"
SOURCE = f"import torch\n\n\nclass Norm:\n    {DECORATOR}\n    def forward(self): ...\n"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def steps(containerfile):
    """The commands of a Containerfile, as a builder would start them."""
    first, *others = containerfile.splitlines()
    assert first == f"FROM {IMAGE}"
    assert all(line.startswith("RUN [") for line in others)
    return [json.loads(line[len("RUN ") :]) for line in others]


def build(patches):
    """Run all steps until one fails; returns what it said."""
    for argv in steps(derive(IMAGE, patches)["containerfile"]):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        if done.returncode:
            return done.stderr
    return None


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'it\'s a $HOME "file"; `x`.py'
    path.write_text(SOURCE)
    path.chmod(0o640)
    return path


def test_a_line_is_commented_out_where_it_stands(source):
    line = {"path": str(source), "sha256": sha256(SOURCE), "comment_out": DECORATOR}
    assert build([line]) is None
    assert source.read_text() == SOURCE.replace(DECORATOR, f"# {DECORATOR}")
    assert source.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_file_is_renamed(source):
    target = source.with_name("other.py")
    rename = {"path": str(source), "sha256": sha256(SOURCE), "rename_to": str(target)}
    assert build([rename]) is None
    assert target.read_text() == SOURCE
    assert not source.exists()


def test_nothing_is_replaced_by_a_rename(source):
    target = source.with_name("other.py")
    target.write_text("mine")
    rename = {"path": str(source), "sha256": sha256(SOURCE), "rename_to": str(target)}
    assert build([rename]) == f"muster: {target} is there already\n"
    assert (source.read_text(), target.read_text()) == (SOURCE, "mine")


def test_all_originals_are_verified_before_any_is_changed(source, tmp_path):
    second = tmp_path / "second.py"
    second.write_text("newer\n")
    first = {"path": str(source), "sha256": sha256(SOURCE), "comment_out": DECORATOR}
    said = build([first, {"path": str(second), "sha256": "0" * 64, "rename_to": "/nowhere"}])
    assert said == (
        f"muster: {second} is not the file that the recipe changes: its sha256 is "
        f"{sha256('newer' + chr(10))}, not {'0' * 64}\n"
    )
    assert source.read_text() == SOURCE


def test_a_file_that_is_missing_is_named(tmp_path):
    gone = {"path": f"{tmp_path}/gone.py", "sha256": "0" * 64, "rename_to": "/nowhere"}
    assert f"{tmp_path}/gone.py is not the file" in build([gone])


def test_a_line_that_is_not_there_is_named(source):
    line = {"path": str(source), "sha256": sha256(SOURCE), "comment_out": "import jax"}
    assert build([line]) == f"muster: {source} has no line import jax\n"
    assert source.read_text() == SOURCE


def test_the_name_says_what_the_image_is_made_of():
    patches = [{"path": "/a", "sha256": "0" * 64, "rename_to": "/b"}]
    name = derive(IMAGE, patches)["image"]
    assert name.startswith("muster/sglang:v0.5.7-rocm700-mi30x-")
    assert derive(IMAGE, patches)["image"] == name
    other = [{**patches[0], "rename_to": "/c"}]
    assert derive(IMAGE, other)["image"] != name
    assert derive("mirror.lan:5000/" + IMAGE, patches)["image"] != name


@pytest.mark.parametrize("image", ["q.io/a/b", f"q.io/a/b@sha256:{'a' * 64}", f"b:{'t' * 128}"])
def test_the_name_is_one_that_docker_takes(image):
    derived = parse_reference(derive(image, [])["image"])
    assert derived.repository == "muster/b"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_path_and_no_line_leaves_its_place(text):
    patches = [
        {"path": text, "sha256": "0" * 64, "comment_out": "x" + text},
        {"path": "/a", "sha256": "1" * 64, "rename_to": text},
    ]
    found = steps(derive(IMAGE, patches)["containerfile"])
    assert [argv[4:] for argv in found] == [
        [text, "0" * 64],
        ["/a", "1" * 64],
        [text, "x" + text],
        ["/a", text],
    ]
