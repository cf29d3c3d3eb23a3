"""The page of a cluster: what stands on it, and that no text of others becomes a part of it."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from ansible_collections.muster.serving.plugins.plugin_utils.report import (
    files_io,
    model,
    page,
    plots_io,
    shapes,
)
from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import (
    Bars,
    Lines,
    Series,
)
from ansible_collections.muster.serving.plugins.plugin_utils.screen import runs_io
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.unit import report_support as support
from tests.unit.plan_support import host

# Elements without an end.
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, texts, values of data, ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.values: list[tuple[float, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self._value: float | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self._value = float(dict(attrs)["value"])

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if self._value is not None:
            self.values.append((self._value, data))
            self._value = None
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def attributes(read: Page, name: str) -> list[str]:
    return [value for _tag, key, value in read.attributes if key == name]


@cache
def bench_reports() -> str:
    return json.dumps(
        [support.bench(support.B200, hour, factor) for hour, factor in ((8, 1), (13, 1.05))]
    )


def measured() -> tuple[Any, ...]:
    return tuple(json.loads(bench_reports()))


def test_what_is_not_there_stands_with_the_playbook_that_makes_it(tmp_path: Path) -> None:
    read = Page(support.html(tmp_path / "absent", support.A2))
    for playbook in ("preflight", "serve", "verify", "site", "bench", "sweep", "soak", "accuracy"):
        assert f"ansible-playbook playbooks/{playbook}.yml -l c" in read.text
    assert "Devices 0-7 are planned; none has been seen yet." in read.text
    assert "Left out of this report" not in read.text


def test_the_numbers_on_the_page_are_those_of_the_reports(tmp_path: Path) -> None:
    reports = measured()
    read = Page(support.html(support.fill(tmp_path, support.B200, reports), support.B200))
    values = Counter(value for value, _text in read.values)
    for scenario in reports[-1]["scenarios"]:
        for row in scenario["rows"]:
            for key in ("measured", "reference", "change_percent"):
                assert row[key] is None or values[row[key]] >= 1, row
        assert values[scenario["metrics"]["p99_ttft_ms"]] >= 1
    for scenario in reports[0]["scenarios"]:
        assert values[scenario["metrics"]["output_tok_per_s"]] >= 1
    devices = json.loads((tmp_path / "devices.json").read_text())["hosts"]
    for node in devices.values():
        for device in node["devices"]:
            for key in ("memory_used_mb", "memory_total_mb", "power_w", "temperature_c"):
                assert device[key] is None or values[device[key]] >= 1
    for stage in support.run(12)["stages"]:
        assert values[stage["seconds"]] >= 1
    assert "The last run of site.yml that came to a verdict ended 2026-11-30 12:00" in read.text
    # What is read is what is meant, to half of the last digit that is shown.
    for value, text in read.values:
        shown = text.replace(",", "")
        digits = len(shown.partition(".")[2])
        assert float(shown) == pytest.approx(value, abs=0.51 * 10**-digits)


def test_a_sweep_a_soak_and_scores_are_shown_with_all_their_numbers(tmp_path: Path) -> None:
    trials = support.trials(support.B200)
    read = Page(support.html(support.fill(tmp_path, support.B200, (), trials), support.B200))
    sweep, soak, accuracy = trials.values()
    values = {value for value, _text in read.values}
    for one in (*sweep["steps"], *soak["windows"]):
        assert set(one["metrics"].values()) | {one["requests"]} <= values
    score = accuracy["sets"][0]
    assert {score["score_percent"], score["strict_percent"], *score["interval_percent"]} <= values
    assert {reference["percent"] for reference in score["references"]} <= values
    for said in (
        "knee at 32 at once",
        "max-num-seqs (sure): 32 requests run and 31 wait",
        "raise max-num-seqs in muster_engine_args",
        "rank 0: 8 requests run or wait, no token for 121 s",
        "✗ 1 found",
        "92.50 % a guide not comparable : 0 shots",
        "gsm8k 85.5 % (below), mmlu no figure",
    ):
        assert said in read.text, said


def test_the_cluster_is_shown_as_it_is(tmp_path: Path) -> None:
    read = Page(support.html(support.fill(tmp_path, support.A2), support.A2))
    assert "c-0 c-1 ✗ failed" not in read.text
    assert "checks of the way: 2 ok" in read.text
    assert "MTU 9000, MTU 8999" in read.text
    assert "✗ failed (failed) c-r0-rank1" in read.text
    assert "✗ Alarm" in read.text
    assert "ok c-0, c-1 npu-count" in read.text
    assert "Devices ✗ 2 not OK 16 of the plan seen 2026-11-30 13:30:00 UTC" in read.text
    assert "HCCS joins 28 pairs" in read.text
    assert "c-r0-rank1 on c-1 does not run (failed, failed)" in read.text
    assert "the same as what was verified last" in read.text
    other = copy.deepcopy(support.A2)
    other["units"][0]["argv"].append("--enforce-eager")
    assert "not the same as what was verified last" in Page(support.html(tmp_path, other)).text


def test_a_figure_of_another_setting_is_never_beside_a_reference_without_saying_so(
    tmp_path: Path,
) -> None:
    report = support.bench(support.B200, 13)
    (first, *_others) = report["scenarios"]
    assert first["status"] == "met"
    same = model.figures.bench([report])
    assert same["charts"][0].bars
    lab = copy.deepcopy(support.B200)
    lab["model"]["format"] = None
    other = support.bench(lab, 13)
    assert {one["status"] for one in other["scenarios"]} == {"not compared"}
    told = model.figures.bench([other])
    series = [one for chart in told["charts"] for one in chart.series]
    assert [one for one in series if one.reference] == []
    assert not any(isinstance(chart, Bars) for chart in told["charts"])
    read = Page(support.html(support.fill(tmp_path, lab, (other,)), lab))
    assert "Reference, not comparable" in read.text
    assert "weights that are not the recipe's, as in the lab" in read.text
    assert "which is of another setting or for orientation" in read.text


def test_figures_of_other_settings_are_in_the_history_and_in_no_curve() -> None:
    old, new = measured()
    old["setting"]["devices"] = ["NVIDIA B300"]
    told = model.figures.bench([old, new])
    assert told["trend"] is None
    assert {tuple(one["differs"]) for one in told["earlier"]} == {(), ("devices",)}
    assert {one["time"] for one in told["scenarios"]} == {new["time"]}


def test_a_newer_engine_is_the_same_setting_and_another_load_of_a_name_is_none() -> None:
    old, new = measured()
    old["setting"]["engine"] = "vllm 0.11.0"
    old["scenarios"][0]["load"]["prompts"] += 1
    names = [one.name for one in model.figures.bench([old, new])["trend"].series]
    assert names == [one["name"] for one in new["scenarios"][1:]]
    for one in (old, new):
        one["setting"]["devices"] = []
    assert model.figures.bench([old, new])["trend"] is None


def test_the_page_asks_no_network_and_runs_nothing(tmp_path: Path) -> None:
    read = Page(support.html(support.fill(tmp_path, support.B200, measured()), support.B200))
    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & set(read.tags)
    assert [value for value in attributes(read, "href") if not value.startswith("#")] == []
    assert not [
        key for _tag, key, _value in read.attributes if key.startswith("on") or key == "src"
    ]
    assert any("default-src 'none'" in value for value in attributes(read, "content"))


def test_the_page_can_be_walked_through(tmp_path: Path) -> None:
    read = Page(support.html(support.fill(tmp_path, support.B200, measured()), support.B200))
    headings = [int(tag[1]) for tag in read.tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    assert {"header", "nav", "main", "footer"} <= set(read.tags)
    assert read.tags.count("table") <= read.tags.count("caption") + read.text.count("Status Node")
    ids = attributes(read, "id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in attributes(read, "href")} <= set(ids)
    assert set(attributes(read, "aria-labelledby")) <= set(ids)
    # Whatever a mark's colour says, a word says, too.
    for mark in attributes(read, "class"):
        assert "badge" not in mark or len(mark.split()) == 2


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(part * share for part, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def schemes() -> list[dict[str, str]]:
    """The variables of the light scheme and of the dark one."""
    light, dark = re.findall(r":root \{(.*?)\}", files_io.template(), re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for text in (light, dark)]
    assert set(found[0]) == set(found[1])
    return found


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_every_text_and_every_curve_stands_out(colours: dict[str, str]) -> None:
    texts = [
        *(("text", ground) for ground in ("page", "panel", "none-fill", "warn-fill", "band")),
        *((name, ground) for name in ("muted", "link") for ground in ("page", "panel")),
        *((name, f"{name}-fill") for name in ("ok", "bad", "warn")),
    ]
    for name, ground in texts:
        assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in [name for name in colours if name.startswith("series-")] + ["bad", "ok"]:
        assert contrast(colours[name], colours["page"]) >= 3, name


# --- texts of others -----------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</style></svg><script>",
            "{{ 7 * 7 }}{% raw %}",
            "$x^2$ & <!-- -->]]>",
            "\x1b[31mred\x00\u202e",
            "\ud800",
        ]
    ),
    st.text(min_size=1, max_size=30),
)


def with_text(text: str, folder: Path) -> Any:
    """Reports in which a text stands wherever another one may stand; returns the plan."""
    made = copy.deepcopy(support.A2)
    made["warnings"] = [text]
    made["units"][0]["env"]["X"] = text
    made["units"][0]["argv"].append(text)
    made["evidence"]["note"] = text
    support.fill(folder, made)
    preflight = json.loads((folder / "preflight.json").read_text())
    keys = ("host", "id", "subject", "observed", "expected", "remedy")
    preflight["checks"].append({**preflight["checks"][0], **dict.fromkeys(keys, text)})
    preflight["checks"][-1]["status"] = "failed"
    preflight["expired_waivers"] = [text]
    status = json.loads((folder / "status.json").read_text())
    status.update(problems=[text], runs=[text])
    devices = json.loads((folder / "devices.json").read_text())
    node = devices["hosts"]["c-0"]
    node.update(version=text, problems=[text])
    node["devices"][0].update(name=text, health=text)
    node["topology"]["links"][0][1] = text
    support.write(folder, {"preflight": preflight, "status": status, "devices": devices})
    return made


@given(HOSTILE)
@settings(max_examples=20)
def test_no_text_of_others_becomes_an_element(text: str) -> None:
    with TemporaryDirectory() as folder:
        plain = Page(support.html(Path(folder), with_text("plain", Path(folder))))
        read = Page(support.html(Path(folder), with_text(text, Path(folder))))
    assert [one for one in read.tags if one != "p"] == [one for one in plain.tags if one != "p"]
    assert Counter(key for _tag, key, _value in read.attributes) == Counter(
        key for _tag, key, _value in plain.attributes
    )


def test_secrets_of_a_command_line_do_not_reach_the_page(tmp_path: Path) -> None:
    made = copy.deepcopy(support.A2)
    made["units"][0]["argv"] += ["--api-key", "sk-0123456789abcdef"]
    made["units"][0]["env"] |= {"HF_TOKEN": "hf_0123456789abcdefghij"}
    text = support.html(tmp_path, made)
    assert "0123456789" not in text


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a JSON value."""
    found = [at] if at else []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:3])
    for key, one in items:
        found += places(one, (*at, key))
    return found


JSON = st.sampled_from(
    [None, True, -1, 2**70, 1e300, "", "x", "2026-13-99", [], [[]], {}, {"a": 1}, [None], [{}]]
)
TRIALS = support.trials(support.B200)
FILES = ("preflight", "verify", "status", "devices", "bench-0", *TRIALS)


@given(st.data())
@settings(max_examples=40)
def test_a_report_of_another_shape_is_named_or_shown_and_breaks_nothing(data: Any) -> None:
    with TemporaryDirectory() as name:
        folder = support.fill(Path(name), support.B200, (measured()[0],), TRIALS)
        file = data.draw(st.sampled_from(FILES))
        value = json.loads((folder / f"{file}.json").read_text())
        *way, last = data.draw(st.sampled_from(places(value)))
        inner = value
        for key in way:
            inner = inner[key]
        if data.draw(st.booleans()) and isinstance(inner, dict):
            del inner[last]
        else:
            inner[last] = data.draw(JSON)
        support.write(folder, {file: value})
        Page(support.html(folder, support.B200))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "is not as this release writes it"),
        ('{"time": "2026-11-30T10:00:00"}', "is not as this release writes it"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "verify.json").write_text(text)
    (problem,) = files_io.collect(tmp_path)["unreadable"]
    assert "verify.json" in problem
    assert said in problem
    assert "Left out of this report" in support.html(tmp_path, support.A2)


def test_a_time_without_zone_is_none() -> None:
    report = support.verdict("verify", [], [])
    assert shapes.wrong("verdict", report) == ""
    assert "time" in shapes.wrong("verdict", {**report, "time": "2026-11-30T10:00:00"})
    assert model.moment("2026-11-30T10:00:00+02:00") == "2026-11-30 08:00:00 UTC"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (8.0, "8"),
        (0.12345, "0.123"),
        (5.858213, "5.86"),
        (271.76, "271.8"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert model.number(value) == shown


# --- plots ---------------------------------------------------------------------------------------

LINES = Lines(
    "T", "says", "x", "y", [Series("a", [(1, 2), (2, 3)]), Series("r", [(1, 2)], True)], True
)
BARS = Bars("B", "says", "x", [("one", 3, "3 s"), ("two", 0, "0 s")])


@pytest.mark.parametrize("chart", [LINES, BARS, LINES._replace(times=True, log_x=False)])
def test_a_plot_takes_all_colours_and_the_font_from_the_page(chart: Any) -> None:
    pytest.importorskip("matplotlib")
    text = plots_io.draw(chart, "p1")
    assert not re.search("#0[0-9a-f]{5}|DejaVu", text)
    assert "var(--series-1)" in text
    assert "var(--font)" in text
    assert "<metadata" not in text


@given(HOSTILE)
@settings(max_examples=8)
def test_a_plot_of_any_name_is_well_formed(text: str) -> None:
    pytest.importorskip("matplotlib")
    for chart in (
        LINES._replace(series=[Series(text, [(1, 2)]), Series("b", [(1, 2)])]),
        BARS._replace(bars=[(text, 1, text)], title=text, centre=(100, 3)),
    ):
        root = ET.fromstring(plots_io.draw(chart, "p1"))  # noqa: S314 (our own)
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            *("svg", "defs", "style", "g", "path", "use", "text", "clipPath", "rect", "tspan"),
        }


def test_a_page_with_plots_has_each_id_once(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = support.fill(tmp_path, support.B200, measured(), TRIALS)
    text = support.html(folder, support.B200, plots_io.draw)
    read = Page(text)
    # Stages; bench: references, concurrency, trend; sweep: throughput, goodput, bound; soak:
    # latency, throughput, memory of units and of devices.
    assert read.tags.count("svg") == 11
    ids = attributes(read, "id")
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text))
    assert {one or other for one, other in used} <= set(ids)
    # The style of an SVG counts for the whole page.
    assert "style" not in read.tags[read.tags.index("body") :]
    assert len(text) < 400_000


def test_without_matplotlib_the_tables_have_all_and_the_page_says_so(tmp_path: Path) -> None:
    shown = model.page_of(support.A2, files_io.collect(tmp_path), support.NOW, "install it")
    text = page.render(shown, files_io.template(), None)
    assert "Plots are left out, the tables have all figures. install it" in text


# --- the playbook --------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [True, False])
def test_the_playbook_makes_the_page_when_no_node_answers(tmp_path: Path, look: bool) -> None:
    folder = tmp_path / "reports"
    support.fill(folder, support.A2)
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "muster_output_dir": str(folder)}
    hosts = {
        f"c-{number}": {**host(number, address=f"10.0.0.{number}"), **gone} for number in (0, 1)
    }
    inventory = {"all": {"children": {"c": {"hosts": hosts}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-l", "c"),
            *("-i", str(tmp_path / "hosts.yml"), "-e", f"report_look={look}"),
            str(ROOT / "playbooks" / "report.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {folder}/report.html" in done.stdout
    read = Page((folder / "report.html").read_text(encoding="utf-8"))
    # What was seen before is still there, with its time.
    assert read.text.count("driver 25.5.0 · seen 2026-11-30 13:30:00 UTC") == 2
    assert read.text.count("✗ could not be asked") == (2 if look else 0)


# --- runs ----------------------------------------------------------------------------------------


def test_runs_are_kept_beside_the_reports_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "new" / runs_io.NAME
    for number in range(203):
        runs_io.keep(path, {"playbook": f"{number}.yml"})
    runs = runs_io.read(path)
    assert [run["playbook"] for run in runs] == [f"{number}.yml" for number in range(3, 203)]
    assert all(shapes.wrong("run", run).startswith("$: 'failed_hosts'") for run in runs)
    assert [one.name for one in path.parent.iterdir()] == [runs_io.NAME]


def test_a_line_that_is_no_run_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / runs_io.NAME
    good = json.dumps(support.run(9))
    path.write_text(f'{{"time"\n[]\n{good}\n{{"time": 3}}\n')
    assert runs_io.read(path) == [support.run(9)]
    runs_io.keep(path, support.run(10))
    assert len(path.read_text().splitlines()) == 2


def test_where_runs_cannot_be_kept_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    runs_io.keep(tmp_path / "file" / runs_io.NAME, support.run(9))
    assert runs_io.read(tmp_path / "file" / runs_io.NAME) == []
