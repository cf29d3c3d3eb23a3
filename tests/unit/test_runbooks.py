"""The runbooks: each check and signature has a page, and what a page shows and says is so."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS
from ansible_collections.muster.serving.plugins.module_utils.common.checks import check
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks
from ansible_collections.muster.serving.plugins.plugin_utils.failure import diagnosis, judging
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signature import HARMLESS
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import SIGNATURES
from ansible_collections.muster.serving.plugins.plugin_utils.plan import variables
from ansible_collections.muster.serving.plugins.plugin_utils.verdict import table, verdict

from lab.emulators import ascend_tools
from tests.conftest import ROOT
from tests.unit import plan_support, runbook_examples
from tests.unit.emulated_node import call
from tests.unit.npu_node import NpuNode

FOLDER = ROOT / runbooks.FOLDER
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

# What an operator has: on the controller, and on a node that Muster serves on.
CONTROLLER = {"ansible", "ansible-galaxy", "ansible-playbook", "diff", "git"}
# fmt: off
NODE = {
    "amd-smi", "cat", "chronyc", "curl", "df", "dmesg", "docker", "dockerd", "du", "find",
    "findmnt", "free", "grep", "hccn_tool", "ip", "iptables", "journalctl", "ls", "lsmod",
    "lspci", "mkdir", "mount", "nft", "npu-smi", "nvidia-ctk", "nvidia-smi", "ping", "ps", "rm",
    "rsync", "ss", "stat", "systemctl", "timedatectl", "uptime",
}
# fmt: on
# Words of the pages, and what they are in the example inventory.
NAMES = {
    "CLUSTER": "a2-cluster",
    "HOST1,HOST2": "a2-node0,a2-node1",
    "NEW_NODES": "a2-node0,a2-node1",
    "NODE": "a2-node0",
}
# Playbooks that connect to no node run as they stand; of the others their tasks are listed.
ALONE = ("playbooks/plan.yml", "playbooks/recipes.yml")


class Command(NamedTuple):
    page: str
    prompt: str
    text: str
    shown: tuple[str, ...]


def commands() -> list[Command]:
    """Return what stands in the console blocks, each command with what it prints."""
    found: list[Command] = []
    for page, text in PAGES.items():
        for block in re.findall(r"^( *```console\n.*?\n) *```$", text, re.M | re.S):
            shown: list[str] = []
            for line in textwrap.dedent(block).splitlines()[1:]:
                if line.startswith(("$ ", "# ")):
                    shown = []
                    found.append(Command(page, line[0], line[2:], ()))
                elif line.strip():
                    assert found, f"{page}: output before a command"
                    shown.append(line.strip())
                    found[-1] = found[-1]._replace(shown=tuple(shown))
    return found


COMMANDS = commands()


def words_of(text: str) -> list[str]:
    """Return the words of a command without the variables that stand before it."""
    words = shlex.split(text)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


def placed(text: str) -> str:
    for name, meaning in NAMES.items():
        text = re.sub(rf"(?<![A-Z_]){name}(?![A-Z_])", meaning, text)
    return text


def programs_of(text: str) -> set[str]:
    """Return the programs of a command, which pipes may join."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    programs, words = set(), []
    for word in [*lexer, "|"]:
        if word.startswith(("|", "&", ";")):
            programs.add(next(one for one in words if not re.match(r"[A-Z_]+=", one)))
            words = []
        else:
            words.append(word)
    return programs


def playbooks() -> list[tuple[str, tuple[str, ...]]]:
    """Return each playbook with its options, and what it prints where it runs by itself.

    Which hosts and whether as a check makes no other tasks of it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in COMMANDS:
        if "ansible-playbook" in programs_of(one.text):
            text = one.text
            if not any(name in text for name in ALONE):
                text = re.sub(r" (?:-l \S+|--check|--diff)", "", text)
            found[text] = (*found.get(text, ()), *one.shown)
    return sorted(found.items())


# --- every id has its page --------------------------------------------------------------------


def test_each_check_stands_on_one_page() -> None:
    assert Counter(one for book in runbooks.RUNBOOKS for one in book.checks) == Counter([*CHECKS])


def test_each_signature_that_can_be_a_finding_stands_on_one_page() -> None:
    named = Counter(one for book in runbooks.RUNBOOKS for one in book.signatures)
    assert named == Counter(one.name for one in SIGNATURES if one.rank < HARMLESS)


@pytest.mark.parametrize("book", runbooks.RUNBOOKS, ids=lambda book: book.name)
def test_a_page_is_there_and_names_what_it_is_for(book: runbooks.Runbook) -> None:
    for one in (*book.checks, *book.signatures):
        assert f"| `{one}` |" in PAGES[book.name]
    assert all(runbooks.of_check(one) == f"docs/runbooks/{book.name}.md" for one in book.checks)


def test_what_nobody_gave_a_page_leads_to_the_index() -> None:
    assert runbooks.of_check("no-such") == runbooks.of_signature("no-such") == runbooks.INDEX
    assert (ROOT / runbooks.INDEX).is_file()


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+)\.md", PAGES["README"]))
    assert linked == PAGES.keys() - {"README"}


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"README", "failed-start"}))
def test_a_page_begins_with_what_is_seen_and_ends_with_how_it_is_over(page: str) -> None:
    titles = re.findall(r"^## (.+)$", PAGES[page].split("\n## Known by\n")[0], re.M)
    assert {"Look", "It is over when"} <= {*titles}
    assert titles[-1] == "It is over when"
    assert any(one.page == page for one in COMMANDS)


# --- where they are named ---------------------------------------------------------------------


def failed(check_id: str, status: str = "failed") -> dict[str, str]:
    return {"host": "a", **check(check_id, status, "x", "seen", "", "mend it")}


def test_a_table_names_the_page_of_its_rows_in_one_line() -> None:
    assert runbooks.line([]) == ""
    assert runbooks.line(["port-free", "port-reserved"]) == "docs/runbooks/ports.md"
    text = table.table([failed("port-free"), failed("host-shm"), failed("port-free")], 120)
    assert text.splitlines()[-1] == (
        "  runbook  docs/runbooks/ports.md (port-free); docs/runbooks/memory.md (host-shm)"
    )


@pytest.mark.parametrize("status", ["pending", "waived"])
def test_what_is_settled_otherwise_has_no_page_in_the_table(status: str) -> None:
    assert "runbook" not in table.table([failed("port-free", status)], 120)


def test_a_table_over_all_checks_stays_within_the_terminal() -> None:
    checks = [failed(kind.id) for kind in CHECKS.values() if kind.worst == "failed"]
    text = table.table(checks, 120)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("\n  runbook  ") == 1


def test_the_report_has_the_page_of_each_check_that_is_not_ok() -> None:
    fine, wrong = verdict.with_pages([failed("port-free", "ok"), failed("port-free")])
    assert "page" not in fine
    assert wrong["page"] == "docs/runbooks/ports.md"


@pytest.mark.parametrize("page", runbook_examples.LOGS)
def test_a_finding_names_its_page(page: str) -> None:
    runs = judging.judge(judging.Log([runbook_examples.LOGS[page]], []))
    assert f"Runbook: docs/runbooks/{page}.md" in judging.paragraph(runs[0])
    state = {"systemd_unit": "u", "installed": True}
    (unit,) = diagnosis.as_data([(state, runs)])["units"]
    assert unit["findings"][0]["page"] == f"docs/runbooks/{page}.md"


# --- what the pages show ----------------------------------------------------------------------


@pytest.mark.parametrize("page", runbook_examples.TABLES)
def test_a_table_of_a_page_is_what_is_printed(page: str) -> None:
    table = runbook_examples.table(page)
    assert table in PAGES[page]
    # Its rows lead back here.
    assert f"docs/runbooks/{page}.md" in table


@pytest.mark.parametrize("page", runbook_examples.LOGS)
def test_a_finding_of_a_page_is_what_is_printed(page: str) -> None:
    assert runbook_examples.log(page) in PAGES[page]


def test_the_report_and_the_status_are_what_is_printed() -> None:
    assert runbook_examples.ranks() in PAGES["ranks"]
    assert runbook_examples.stalled() in PAGES["no-answer"]


# --- what the pages say to type ---------------------------------------------------------------


def test_the_pages_have_commands_for_both_sides() -> None:
    assert {one.prompt for one in COMMANDS} == {"$", "#"}
    assert len(COMMANDS) > 100


def test_the_commands_are_ones_that_a_shell_reads() -> None:
    script = "\n".join(one.text for one in COMMANDS)
    ran = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_command_is_of_a_program_that_is_there() -> None:
    for one in COMMANDS:
        assert programs_of(one.text) <= (CONTROLLER if one.prompt == "$" else NODE), one


@pytest.mark.parametrize("page", PAGES)
def test_units_are_called_what_they_are_called(page: str) -> None:
    for name in re.findall(r"muster-CLUSTER-[\w-]+", PAGES[page]):
        assert re.fullmatch(r"muster-CLUSTER-(r\d+-(rank\d+|link)|gateway\d+|address)", name)


@cache
def text_of(playbook: str) -> str:
    """Return a playbook with those that it imports."""
    text = (ROOT / playbook).read_text(encoding="utf-8")
    for part in yaml.safe_load(text):
        imported = part.get("import_playbook") or part.get("ansible.builtin.import_playbook")
        if imported:
            text += text_of(os.path.relpath((ROOT / playbook).parent / imported, ROOT))
    return text


@pytest.mark.parametrize(("line", "shown"), playbooks())
def test_a_playbook_takes_what_it_is_given(
    line: str, shown: tuple[str, ...], tmp_path: Path
) -> None:
    text = re.sub(r"/tmp/(\w+\.json)", rf"{tmp_path}/\1", placed(line))
    program, playbook, *options = words_of(text)
    assert program == "ansible-playbook"
    assert (ROOT / playbook).is_file()
    known = {variable.name for variable in variables.VARIABLES}
    for option, value in itertools.pairwise([*options, ""]):
        if option == "-e":
            given = json.loads(value) if value.startswith("{") else [value.partition("=")[0]]
            for name in given:
                assert name in known or f"{{{{ {name} |" in text_of(playbook), name
    runs = playbook in ALONE
    arguments = ["-i", "inventories/example", playbook, *options]
    ran = subprocess.run(
        [BIN / "ansible-playbook", *arguments, *([] if runs else ["--list-tasks"])],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = " ".join((ran.stdout + ran.stderr).split())
    refused = any("plan stops" in one for one in shown)
    assert ran.returncode == (2 if refused else 0), printed
    if runs:
        for one in shown:
            assert " ".join(one.split()) in printed
    else:
        assert re.search(r"tasks: \S", printed), "no task is left of it"


def test_the_modules_of_ad_hoc_commands_take_their_options() -> None:
    asked = {}
    for one in COMMANDS:
        words = words_of(one.text)
        if words[0] == "ansible":
            module = words[words.index("-m") + 1]
            given = shlex.split(words[words.index("-a") + 1]) if "-a" in words else []
            asked[module] = asked.get(module, set()) | {
                word.partition("=")[0] for word in given if "=" in word
            }
    ran = subprocess.run(
        [BIN / "ansible-doc", "--json", "--type", "module", *asked],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(ran.stdout)
    for module, names in asked.items():
        assert names <= set(said[module]["doc"]["options"]), module


def test_the_tools_of_ascend_take_what_they_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NpuNode(tmp_path, monkeypatch)
    tools = {"npu-smi": ascend_tools.npu_smi, "hccn_tool": ascend_tools.hccn_tool}
    asked = 0
    for one in COMMANDS:
        program, *arguments = words_of(one.text)
        if program in tools and "-s" not in arguments:
            answer = call(tools[program], *arguments)
            assert answer.rc == 0, (one.text, answer)
            asked += 1
    assert asked > 5
    node.set("devices.0.link", "DOWN")
    (shown,) = {one.shown for one in COMMANDS if one.page == "npu-network" and "-link" in one.text}
    assert call(ascend_tools.hccn_tool, "-i", "0", "-link", "-g").stdout.split("\n")[0] == shown[0]


@pytest.mark.parametrize("recipe", [plan_support.PAIR, plan_support.SINGLE])
def test_nodes_at_the_end_leave_the_replicas_before_them_as_they_are(recipe: str) -> None:
    hosts = [plan_support.host(number, recipe) for number in range(1, 7)]
    before, after = (
        plan_support.plan(plan_support.view(c=hosts[:count]))["units"] for count in (4, 6)
    )
    assert after[: len(before)] == before
    assert len(after) > len(before)


# --- links ------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's titles as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_link_leads_to_what_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+:", link):
            continue
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link
