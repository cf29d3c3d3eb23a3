"""The engine's own parser over planned command lines: what is asked, and what answers mean."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.engine.version import is_planned
from ansible_collections.muster.serving.plugins.module_utils.programs import (
    engine_parser as engine_parser_program,
)
from ansible_collections.muster.serving.plugins.module_utils.units import parser as engine_parser
from ansible_collections.muster.serving.plugins.module_utils.units import parser_io, unit_files
from ansible_collections.muster.serving.plugins.module_utils.units.parser import (
    Answer,
    Place,
    Verdict,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes_io import recipe_book
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import checks_of
from hypothesis import given
from hypothesis import strategies as st

from lab.sglang.launch_server import make_parser
from tests.unit import plan_support

PROGRAM = Path(engine_parser_program.__file__)
WRAPPER = ["/bin/bash", "-c", '. set_env.sh; exec "$@"', "muster"]


def unit(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"c-r0-rank{number}",
        "role": "rank",
        "install": "container",
        "image": "quay.io/ascend/vllm-ascend:v0.18.0",
        "container": {"entrypoint": WRAPPER},
        "argv": ["vllm", "serve", "/m", "--data-parallel-start-rank", str(number)],
        "env": {"OMP_NUM_THREADS": "1", "ASCEND_RT_VISIBLE_DEVICES": str(number)},
        **changes,
    }


def venv_unit(number: int = 0) -> dict[str, Any]:
    argv = ["/opt/muster/venvs/vllm/bin/vllm", "serve", "/m"]
    return unit(number, install="venv", image=None, argv=argv)


def test_units_of_one_image_are_one_question_with_what_they_share() -> None:
    alike = unit(2, argv=unit(1)["argv"])
    (question,) = engine_parser.questions("vllm-ascend", [unit(0), unit(1), alike])
    assert question.argvs == (tuple(unit(0)["argv"]), tuple(unit(1)["argv"]))
    assert question.env == {"OMP_NUM_THREADS": "1"}


def test_another_image_and_a_venv_are_questions_of_their_own() -> None:
    units = [unit(0), unit(1, image="other:1"), venv_unit()]
    places = [question.place for question in engine_parser.questions("vllm", units)]
    assert [place.image for place in places] == [units[0]["image"], "other:1", None]
    assert places[2] == Place(None, "/opt/muster/venvs/vllm", ())


def test_the_container_is_cut_off_and_goes_through_the_units_wrapper() -> None:
    (question,) = engine_parser.questions("vllm-ascend", [unit()])
    argv = engine_parser.command(question, "PROGRAM", "muster-parser-1")
    image = argv.index("quay.io/ascend/vllm-ascend:v0.18.0")
    assert argv[:10] == [
        *("/usr/bin/docker", "run", "--rm", "--name", "muster-parser-1"),
        *("--network", "none", "--pull", "never", "--env"),
    ]
    assert argv[image - 2 : image] == ["--entrypoint", "/bin/bash"]
    assert argv[image + 1 : -1] == [*WRAPPER[1:], "python3", "-c", "PROGRAM"]
    assert json.loads(argv[-1]) == {"engine": "vllm-ascend", "argvs": [unit()["argv"]]}
    assert not {"--device", "--volume", "--privileged", "--env-file"} & set(argv)


def test_a_venv_answers_with_its_own_python_as_the_user_of_its_units() -> None:
    (question,) = engine_parser.questions("vllm", [venv_unit()])
    argv = engine_parser.command(question, "PROGRAM", "unused")
    assert argv[:6] == [
        *("/usr/bin/setpriv", "--reuid", "muster", "--regid", "muster", "--init-groups")
    ]
    assert argv[6:10] == [
        *("/usr/bin/env", "HOME=/tmp", "ASCEND_RT_VISIBLE_DEVICES=0", "OMP_NUM_THREADS=1")
    ]
    assert argv[10:13] == ["/opt/muster/venvs/vllm/bin/python", "-c", "PROGRAM"]


def test_an_answer_is_kept_for_this_engine_this_program_and_this_question_alone() -> None:
    (question,) = engine_parser.questions("vllm", [unit()])
    (other,) = engine_parser.questions("vllm", [unit(argv=["vllm", "serve", "/m", "--seed", "1"])])
    paths = {
        engine_parser.notes_path("sha256:1", question, "program"),
        engine_parser.notes_path("sha256:2", question, "program"),
        engine_parser.notes_path("sha256:1", other, "program"),
        engine_parser.notes_path("sha256:1", question, "another program"),
    }
    assert len(paths) == 4
    assert all(path.startswith("/var/lib/muster/parser/") for path in paths)


@pytest.mark.parametrize(
    ("status", "judged"),
    [
        ("accepted", "ok"),
        ("refused", "failed"),
        ("unknown", "unknown"),
        ("absent", "pending"),
    ],
)
def test_only_a_refusal_fails(status: str, judged: str) -> None:
    one = engine_parser.judge(unit(), Verdict(status, "unrecognized arguments: --x"))
    assert (one["id"], one["status"], one["subject"]) == ("engine-parser", judged, "c-r0-rank0")
    assert (one["remedy"] == "") == (judged == "ok")
    assert ("--x" in one["observed"]) == (judged != "ok")


def test_a_long_complaint_is_cut() -> None:
    assert len(engine_parser.judge(unit(), Verdict("refused", "a b " * 999))["observed"]) <= 600


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        '{"version": null, "error": null, "verdicts": []}',
        '{"version": null, "error": null, "verdicts": [{"status": "fine", "text": ""}]}',
        '{"version": null, "error": null, "verdicts": [{"status": "refused"}]}',
        '{"version": null, "error": null, "verdicts": 7}',
        '{"error": null, "verdicts": [{"status": "accepted", "text": ""}]}',
    ],
)
def test_an_answer_to_something_else_is_none(text: str | None) -> None:
    assert engine_parser.read_answer(text, 1) is None


def test_an_engine_that_does_not_load_leaves_all_command_lines_unknown() -> None:
    text = '{"version": "0.18.0", "error": "ImportError: libascend_hal.so", "verdicts": []}'
    answer = engine_parser.read_answer(text, 2)
    assert answer is not None
    assert answer.version == "0.18.0"
    assert answer.verdicts == [Verdict("unknown", "ImportError: libascend_hal.so")] * 2
    assert not engine_parser.is_definite(answer.verdicts)


VALUES = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(
    st.text()
    | VALUES.map(json.dumps)
    | VALUES.map(lambda value: json.dumps({"version": 1, "error": None, "verdicts": value}))
    | VALUES.map(lambda value: json.dumps({"version": value, "error": value, "verdicts": [value]}))
)
def test_any_output_gives_one_verdict_a_command_line_or_none(text: str) -> None:
    found = engine_parser.find_answer(f"INFO loading\n{engine_parser_program.MARK}{text}\nBye\n")
    for answer in (engine_parser.read_answer(text, 3), engine_parser.read_answer(found, 3)):
        assert answer is None or len(answer.verdicts) == 3
        assert answer is None or engine_parser.judge_version(
            "vllm", "0.18.0", Place("image", None, ()), answer
        )
    assert isinstance(engine_parser.last_line(text), str)


ENGINES = {
    # As vLLM's command line is put together: a subcommand that adds its parser and validates.
    "vllm/entrypoints/cli/serve.py": """
import argparse
class FlexibleArgumentParser(argparse.ArgumentParser):
    pass
class ServeSubcommand:
    name = "serve"
    def subparser_init(self, subparsers):
        parser = subparsers.add_parser("serve", usage="vllm serve [model_tag] [options]")
        parser.add_argument("model_tag", nargs="?")
        parser.add_argument("--max-num-seqs", type=int)
        parser.add_argument("--chat-template")
        parser.add_argument("--enable-auto-tool-choice", action="store_true")
        parser.add_argument("--crash", action="store_true")
    def validate(self, args):
        if args.chat_template:
            raise ValueError(f"the chat template {args.chat_template} does not exist")
        if args.enable_auto_tool_choice:
            raise TypeError("--enable-auto-tool-choice requires --tool-call-parser")
        if args.crash:
            raise RuntimeError("no device")
def cmd_init():
    print("INFO: noise on standard output")
    return [ServeSubcommand()]
""",
    "sglang/srt/server_args.py": """
class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--model-path", required=True)
        parser.add_argument("--tp-size", type=int)
""",
}


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Engines as far as their parsers go, where this Python finds them."""
    for name, text in ENGINES.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def answer(engine: str, *argvs: list[str]) -> Answer:
    """What the program answers in a process of its own, as in an image."""
    request = json.dumps({"engine": engine, "argvs": argvs})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.read_text(), request],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = engine_parser.read_answer(engine_parser.find_answer(done.stdout), len(argvs))
    assert found is not None, done
    return found


def ask(engine: str, *argvs: list[str]) -> list[Verdict]:
    return answer(engine, *argvs).verdicts


@pytest.mark.usefixtures("engines")
def test_a_parser_takes_and_refuses_in_its_own_words() -> None:
    serve = ["vllm", "serve", "/m"]
    assert ask(
        "vllm",
        [*serve, "--max-num-seqs", "7"],
        [*serve, "--max-num-seq-s", "7"],
        [*serve, "--max-num-seqs", "many"],
        [*serve, "--enable-auto-tool-choice"],
    ) == [
        Verdict("accepted", ""),
        Verdict("refused", "unrecognized arguments: --max-num-seq-s 7"),
        Verdict("refused", "argument --max-num-seqs: invalid int value: 'many'"),
        Verdict("refused", "--enable-auto-tool-choice requires --tool-call-parser"),
    ]


@pytest.mark.usefixtures("engines")
def test_what_is_no_word_of_the_parser_is_no_refusal() -> None:
    serve = ["vllm", "serve", "/m"]
    found = ask("vllm", [*serve, "--crash"], [*serve, "--chat-template", "/absent/t.jinja"])
    assert [one.status for one in found] == ["unknown", "unknown"]
    assert found[0].text == "RuntimeError: no device"


@pytest.mark.usefixtures("engines")
def test_sglang_reads_what_stands_behind_its_module() -> None:
    launch = ["python3", "-m", "sglang.launch_server", "--model-path", "/m"]
    found = ask("sglang", [*launch, "--tp-size", "8"], [*launch, "--tp-siz", "eight"], launch[:3])
    assert [one.status for one in found] == ["accepted", "refused", "refused"]


def test_an_engine_that_is_not_there_could_not_be_asked() -> None:
    (verdict,) = ask("sglang", ["python3", "-m", "sglang.launch_server"])
    assert verdict == Verdict("unknown", "ModuleNotFoundError: No module named 'sglang'")


def install(folder: Path, name: str, version: str) -> None:
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_engines_own_package_tells_the_version(engines: Path) -> None:
    install(engines, "vllm", "0.18.0+empty")
    install(engines, "vllm_ascend", "0.18.0rc1")
    launch = ["vllm", "serve", "/m"]
    assert answer("vllm", launch).version == "0.18.0+empty"
    assert answer("vllm-ascend", launch).version == "0.18.0rc1"
    assert answer("sglang", ["python3"]).version is None


def test_an_engine_that_does_not_load_tells_its_version(engines: Path) -> None:
    (engines / "sglang/srt/server_args.py").write_text("raise ImportError('libcuda.so.1')")
    install(engines, "sglang", "0.5.7")
    found = answer("sglang", ["python3"])
    assert (found.version, found.verdicts[0].status) == ("0.5.7", "unknown")


@pytest.mark.parametrize(
    ("told", "planned", "same"),
    [
        ("0.18.0", "0.18.0", True),
        ("0.18.0", "0.18", True),
        ("0.18.0+cu129", "0.18.0", True),
        ("0.18.0rc1", "v0.18.0rc1", True),
        ("0.5.7+rocm700", "0.5.7", True),
        ("0.23.0.post1", "0.23.0.post1", True),
        # Changes on the way to the release that is planned, or to one of its candidates.
        ("0.18.0.dev3", "0.18.0", True),
        ("0.18.0rc2.dev7+g1234567", "0.18.0rc1", True),
        # A changed file in the checkout of a tag, as images are built.
        ("0.18.1.dev0+g1234567.d20260101", "0.18.0", True),
        ("0.18.1.dev37+g1234567", "0.18.0", False),
        ("0.18.0rc1", "0.18.0", False),
        ("0.18.0", "0.18.0rc1", False),
        ("0.18.0.post1", "0.18.0", False),
        ("0.18.1", "0.18.0", False),
        ("0.19.0.dev0", "0.18.0", False),
        ("1.18.0", "0.18.0", False),
        # No tag was there to count from.
        ("0.1.dev1+g1234567", "0.18.0", None),
        ("0.0.0", "0.18.0", None),
        ("main", "0.18.0", None),
        ("", "0.18.0", None),
    ],
)
def test_what_marks_a_build_is_no_other_version(told: str, planned: str, same: bool | None) -> None:
    place = Place("vllm/vllm-openai:x", None, ())
    found = engine_parser.judge_version("vllm", planned, place, Answer(told, []))
    status = {True: "ok", False: "warning", None: "unknown"}[same]
    assert (found["id"], found["status"]) == ("engine-version", status)
    assert found["subject"] == "vllm/vllm-openai:x"
    assert found["observed"].startswith(f"vllm {told}".strip())
    assert found["expected"] == f"vllm {planned}"


@given(st.text(), st.text())
def test_any_version_is_compared_or_said_to_be_none(told: str, planned: str) -> None:
    assert is_planned(told, planned) in (True, False, None)


def test_another_version_comes_with_what_to_set() -> None:
    image = Place("registry/vllm:tag", None, ())
    venv = Place(None, "/opt/muster/venvs/vllm", ())
    told = Answer("0.22.1rc1.dev4+cu129", [])
    seen = engine_parser.judge_version("vllm", "0.18.0", image, told)
    assert 'muster_engine_version: "0.22.1rc1"' in seen["remedy"]
    assert "muster_image" in seen["remedy"]
    seen = engine_parser.judge_version("vllm", "0.18.0", venv, told)
    assert (seen["subject"], "muster_wheel" in seen["remedy"]) == ("/opt/muster/venvs/vllm", True)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (engine_parser.no_answer("absent", "not there yet", 1), "pending", "not there yet"),
        (engine_parser.no_answer("unknown", "rc 127", 1), "unknown", "could not be asked: rc 127"),
        (Answer(None, []), "unknown", "it has no package of the name vllm-ascend"),
    ],
)
def test_a_version_that_is_not_told_is_no_other_version(
    answer: Answer, status: str, said: str
) -> None:
    found = engine_parser.judge_version("vllm-ascend", "0.18.0", Place("i", None, ()), answer)
    assert (found["status"], found["observed"]) == (status, said)
    assert found["remedy"]


def test_the_ascend_plugin_gets_stubs_of_the_driver(
    engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = engines / "vllm/entrypoints/cli/serve.py"
    serve.write_text(
        "import os\nraise ImportError(os.environ['LD_LIBRARY_PATH'] + ' '"
        " + os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'])"
    )
    stubs = engines / f"{engine_parser_program.platform.machine()}-linux" / "devlib"
    stubs.mkdir(parents=True)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(engines))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/cann/lib64")
    (verdict,) = ask("vllm-ascend", ["vllm", "serve", "/m"])
    assert verdict == Verdict("unknown", f"ImportError: /cann/lib64:{stubs} 0")


# As much of Docker as the module needs: one image, whose Python is this one.
DOCKER = """#!/bin/sh
case "$1" in
image) test -s "$0.image" && cat "$0.image" || { echo "No such image" >&2; exit 1; } ;;
rm) echo "$3" >> "$0.removed" ;;
run) while [ "$1" != python3 ]; do shift; done; shift; . "$0.inside"; exec "$PYTHON" "$@" ;;
esac
"""


class Node:
    """A node with an image, and what the module says of a unit that would run from it."""

    def __init__(self, root: Path) -> None:
        self.files = NodeFiles(str(root / "node"))
        self.docker = root / "docker"
        self.docker.write_text(DOCKER)
        self.docker.chmod(0o755)

    def load(self, image_id: str, inside: str = "") -> None:
        """Have an image; a line of shell may go wrong in each container of it."""
        self.docker.with_suffix(".image").write_text(image_id)
        self.docker.with_suffix(".inside").write_text(f"PYTHON={sys.executable}\n{inside}\n")

    def ask(self, *flags: str, timeout: float = 60, keep: bool = True) -> Verdict:
        units = [unit(argv=["vllm", "serve", "/m", *flags])]
        (question,) = engine_parser.questions("vllm", units)
        (verdict,) = parser_io.answer(question, self.files, timeout, keep).verdicts
        return verdict

    def kept(self) -> list[str]:
        return self.files.glob("/var/lib/muster/parser/*.json")


@pytest.fixture
def node(tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path)
    monkeypatch.setattr(unit_files, "DOCKER", str(node.docker))
    return node


def test_an_image_that_prepare_has_not_brought_yet_is_no_failure(node: Node) -> None:
    text = "quay.io/ascend/vllm-ascend:v0.18.0 is not on this node yet"
    assert node.ask() == Verdict("absent", text)
    node.docker.unlink()
    assert node.ask() == Verdict("absent", text)


def test_a_definite_answer_is_not_asked_for_again(node: Node) -> None:
    node.load("sha256:1")
    refused = node.ask("--no-such-flag")
    assert refused.status == "refused"
    node.load("sha256:1", "exit 1")
    assert node.ask("--no-such-flag") == refused
    assert node.ask("--another").status == "unknown"


def test_what_is_known_of_units_is_told_without_asking(node: Node) -> None:
    units = [unit(), {**unit(1), "role": "gateway", "image": "gateway:1"}]

    def known(version: str | None = None) -> Any:
        return parser_io.kept_checks("vllm", version, units, node.files)

    assert known() is None
    node.load("sha256:1")
    assert known() is None
    (question,) = engine_parser.questions("vllm", units)
    said = parser_io.answer(question, node.files, 60, keep=True)
    node.load("sha256:1", "exit 1")
    assert known() == [engine_parser.judge(units[0], said.verdicts[0])]
    assert [one["id"] for one in known("0.18.0")] == ["engine-version", "engine-parser"]
    node.load("sha256:2")
    assert known() is None
    # What cannot be read is engine_parser_check's to tell.
    node.load("sha256:1")
    (kept,) = (Path(node.files.path(path)) for path in node.kept())
    kept.unlink()
    kept.mkdir()
    assert known() is None


@pytest.mark.parametrize(
    ("subjects", "covers"),
    [(["r0", "r1"], True), (["r0"], False), (["r0", "r1", "r2"], False), ([], False)],
)
def test_what_is_known_of_other_units_is_no_answer(subjects: list[str], covers: bool) -> None:
    units = [{"name": name, "group": "replica-0"} for name in ("r0", "r1")]
    units.append({"name": "g", "group": "gateway-0"})
    known = [{"id": "engine-version", "subject": "image"}]
    known += [{"id": "engine-parser", "subject": name} for name in subjects]
    assert checks_of(units, known) == (known if covers else None)
    assert checks_of(units, None) is None


def test_another_image_of_the_same_name_is_asked_anew(node: Node) -> None:
    node.load("sha256:1")
    assert node.ask().status == "accepted"
    node.load("sha256:2", "exit 1")
    assert node.ask().status == "unknown"


def test_check_mode_keeps_nothing(node: Node) -> None:
    node.load("sha256:1")
    assert node.ask(keep=False).status == "accepted"
    assert node.kept() == []


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("echo no such library >&2; exit 127", "it ended with rc 127 and said no such library"),
        (f"echo '{engine_parser_program.MARK}[]'; exit", "its answer makes no sense: []"),
    ],
)
def test_an_engine_that_gives_no_answer_is_unknown_and_asked_again(
    node: Node, inside: str, said: str
) -> None:
    node.load("sha256:1", inside)
    verdict = node.ask()
    assert verdict == Verdict("unknown", said)
    assert node.kept() == []


def test_a_container_that_takes_too_long_is_removed(node: Node) -> None:
    node.load("sha256:1", "sleep 60")
    verdict = node.ask(timeout=0.5)
    assert (verdict.status, node.kept()) == ("unknown", [])
    assert "did not end within 0.5 s" in verdict.text
    assert "muster-parser-" in node.docker.with_suffix(".removed").read_text()


def test_a_venv_that_is_not_whole_is_not_asked(node: Node) -> None:
    (question,) = engine_parser.questions("vllm", [venv_unit()])
    (verdict,) = parser_io.answer(question, node.files, 60, keep=True).verdicts
    assert verdict == Verdict("absent", "/opt/muster/venvs/vllm is not on this node yet")


BOOK = recipe_book()
SGLANG = [
    (name, variant)
    for name in BOOK.names()
    if name.partition("/")[2].startswith("sglang")
    for variant in BOOK.variants(name)
]


@pytest.mark.parametrize(("name", "variant"), SGLANG)
def test_sglang_knows_all_flags_and_values_of_its_recipes(name: str, variant: str) -> None:
    """Held against the lab's copy of SGLang's parser: its own does not load without its engine."""
    nodes = BOOK.load(name, variant)["nodes"]
    hosts = [
        plan_support.host(number, name, variant=variant, tool_calling=True)
        for number in range(1, nodes + 1)
    ]
    for one in plan_support.plan(plan_support.view(c=hosts))["units"]:
        assert one["argv"][:3] == ["python3", "-m", "sglang.launch_server"]
        make_parser().parse_args(one["argv"][3:])
