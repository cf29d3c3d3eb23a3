"""The page in a real browser: nothing complained of, all numbers there, every scheme and width."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.report import plots_io

from tests.report.browser import Browser, browser
from tests.unit import report_support as support

# Where pictures are kept for a person to look at.
PICTURES = Path(os.environ.get("REPORT_PICTURES", "muster-output/report-pictures"))
VIEWS = {
    "light": (1280, "light", "screen"),
    "dark": (1280, "dark", "screen"),
    "narrow": (390, "light", "screen"),
    # What A4 leaves between its margins, on paper that is white whatever the screen is.
    "print": (718, "dark", "print"),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: a cluster of which all is there, one of two nodes, one of which nothing is known."""
    measured = [support.bench(support.B200, hour, factor) for hour, factor in ((8, 1), (13, 1.05))]
    full = tmp_path_factory.mktemp("full")
    support.fill(full, support.B200, tuple(measured), support.trials(support.B200))
    pair = support.fill(tmp_path_factory.mktemp("pair"), support.A2)
    bare = tmp_path_factory.mktemp("bare")
    made = {"full": (full, support.B200), "pair": (pair, support.A2), "bare": (bare, support.A2)}
    found = {}
    for name, (folder, plan) in made.items():
        found[name] = folder / "report.html"
        found[name].write_text(support.html(folder, plan, plots_io.draw), encoding="utf-8")
    return found


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["full", "pair", "bare"])
def test_a_page_shows_without_complaint_and_fits(
    chromium: Browser, pages: dict[str, Path], name: str, view: str
) -> None:
    width, scheme, media = VIEWS[view]
    chromium.show(pages[name], width, scheme, media)
    PICTURES.mkdir(parents=True, exist_ok=True)
    chromium.picture(PICTURES / f"{name}-{view}.png")
    assert chromium.complaints() == []
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    ground = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(13, 17, 23)" if view == "dark" else "rgb(255, 255, 255)")


def test_the_numbers_that_are_seen_are_those_of_the_reports(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    chromium.show(pages["full"], 1280, "light")
    shown = chromium.ask(
        "[...document.querySelectorAll('data')].map(one => [one.value, one.textContent])"
    )
    values = {float(value) for value, _text in shown}
    folder = pages["full"].parent
    for path in folder.glob("*-*.json"):
        report = json.loads(path.read_text())
        for row in [row for one in report.get("scenarios", ()) for row in one["rows"]]:
            if path.name == "bench-1.json":
                assert {row["measured"], row["reference"]} <= values
        for one in (*report.get("steps", ()), *report.get("windows", ())):
            assert set(one["metrics"].values()) <= values
    for value, text in shown:
        digits = len(text.partition(".")[2])
        assert float(text.replace(",", "")) == pytest.approx(float(value), abs=0.51 * 10**-digits)


def test_every_plot_is_drawn_in_the_colours_of_its_scheme(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    drawn: dict[str, Any] = {}
    for scheme in ("light", "dark"):
        chromium.show(pages["full"], 1280, scheme)
        assert chromium.ask("document.querySelectorAll('figure svg').length") == 11
        heights = "[...document.querySelectorAll('figure svg')].map(one => one.clientHeight)"
        assert min(chromium.ask(heights)) > 90
        drawn[scheme] = chromium.ask(
            "[...document.querySelectorAll('figure svg path')]"
            ".map(one => getComputedStyle(one).stroke)"
        )
    assert "rgb(11, 87, 168)" in drawn["light"]
    assert "rgb(108, 178, 255)" in drawn["dark"]
    assert not {"rgb(11, 87, 168)"} & set(drawn["dark"])


def test_a_keyboard_reaches_all_in_the_order_of_the_page(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    chromium.show(pages["full"], 1280, "light")
    wanted = chromium.ask(
        "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"
        ".filter(one => one.checkVisibility()).length"
    )
    reached = []
    for _number in range(wanted):
        chromium.press_tab()
        reached.append(
            chromium.ask(
                "(() => { const all = [...document.querySelectorAll('*')];"
                "const one = document.activeElement;"
                "return [all.indexOf(one), getComputedStyle(one).outlineStyle]; })()"
            )
        )
    places = [place for place, _outline in reached]
    assert places == sorted(set(places))
    assert {outline for _place, outline in reached} == {"solid"}


def test_a_large_cluster_loads_at_once(chromium: Browser, pages: dict[str, Path]) -> None:
    """The figures of docs/report.md: size and time until the page has loaded."""
    chromium.show(pages["full"], 1280, "light")
    took = chromium.ask("performance.timing.loadEventEnd - performance.timing.navigationStart")
    size = pages["full"].stat().st_size
    print(f"{size / 1000:.0f} kB, loaded in {took} ms")
    assert size < 400_000
    assert took < 3000
