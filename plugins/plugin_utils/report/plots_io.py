# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as SVG for a page, by matplotlib, which the controller may lack.

Colours and font are variables of the page's style sheet, so that a plot follows its scheme.
"""

from __future__ import annotations

import datetime
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import Bars, Lines
from ansible_collections.muster.serving.plugins.plugin_utils.screen.text import printable

try:
    import matplotlib as mpl
    from matplotlib import dates, ticker
    from matplotlib.figure import Figure
except ImportError:
    DRAWS = False
else:
    DRAWS = True

# What takes a colour's place until the SVG is written: no two are the same, and none is seen.
_TEXT, _GRID, _BAND, _BOUND = "#000101", "#000102", "#000103", "#000104"
_SERIES = ("#000201", "#000202", "#000203", "#000204", "#000205")
_VARIABLES = {
    _TEXT: "var(--text)",
    _GRID: "var(--line)",
    _BAND: "var(--band)",
    _BOUND: "var(--bad)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)},
}
# Curves differ by more than their colour.
_MARKERS = ("o", "s", "^", "D", "v")
_STYLES = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)))
# What is left of them by printable, and no XML may hold.
_NO_XML = re.compile("[\ufffe\uffff]")
_WIDTH = 7.4
_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "muster",
    # A name with two dollar signs is no formula.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.labelcolor": _TEXT,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}

ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _LINK)


def missing() -> str:
    """Return what to do where plots cannot be drawn; empty where they can."""
    if DRAWS:
        return ""
    return "matplotlib is not installed beside ansible-core: pip install 'matplotlib>=3.9'"


def draw(chart: Lines | Bars, name: str) -> str:
    """Return a plot as an SVG element for HTML, its ids beginning with a name of its own."""
    chart = _printable(chart)
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A letter that matplotlib's font lacks is one that the reader's font has.
        warnings.simplefilter("ignore")
        figure = _bars(chart) if isinstance(chart, Bars) else _lines(chart)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(written.getvalue(), chart, name)


def _printable(chart: Lines | Bars) -> Lines | Bars:
    """Return a plot whose names are one line each, of characters that XML has."""
    if isinstance(chart, Bars):
        bars = [(_line(name), value, _line(text)) for name, value, text in chart.bars]
        return chart._replace(title=_line(chart.title), says=_line(chart.says), bars=bars)
    series = [one._replace(name=_line(one.name)) for one in chart.series]
    return chart._replace(title=_line(chart.title), says=_line(chart.says), series=series)


def _line(name: str) -> str:
    whole = name.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_NO_XML.sub(" ", printable(whole)).split())


def _lines(chart: Lines) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    measured = 0
    for one in chart.series:
        x: list[Any] = [at for at, _value in one.points]
        if chart.times:
            x = [datetime.datetime.fromtimestamp(at, datetime.UTC) for at in x]
        y = [value for _at, value in one.points]
        if one.reference:
            axes.plot(x, y, label=one.name, color=_TEXT, linestyle=":", marker="x", linewidth=1.2)
            continue
        place = measured % len(_SERIES)
        measured += 1
        axes.plot(
            x,
            y,
            label=one.name,
            color=_SERIES[place],
            linestyle=_STYLES[place],
            marker=_MARKERS[place] if len(x) <= 60 else "",
        )
    if chart.bound:
        text, height = chart.bound
        axes.axhline(height, color=_BOUND, linestyle="--", linewidth=1.4, label=text)
    if chart.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda at, _place: f"{at:g}"))
        axes.minorticks_off()
    if chart.times:
        locator = dates.AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    heights = [value for one in chart.series for _at, value in one.points]
    axes.set_ylim(0, 1.08 * max([*heights, chart.bound[1] if chart.bound else 0]) or 1)
    axes.margins(x=0.04)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda at, _place: f"{at:,g}"))
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    # Over time it may be one unit or device of several.
    if chart.times or len(chart.series) + bool(chart.bound) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.22), ncols=3, handlelength=3)
    return figure


def _bars(chart: Bars) -> Figure:
    figure = Figure(figsize=(_WIDTH, 0.7 + 0.3 * len(chart.bars)), layout="constrained")
    axes = figure.subplots()
    places = range(len(chart.bars))
    values = [value for _name, value, _text in chart.bars]
    if chart.centre:
        centre, half = chart.centre
        axes.axvspan(centre - half, centre + half, color=_BAND, linewidth=0)
        axes.axvline(centre, color=_TEXT, linewidth=1.2)
        axes.hlines(places, centre, values, color=_SERIES[0], linewidth=2)
        axes.plot(values, places, "o", color=_SERIES[0])
        low, high = min([centre - half, *values]), max([centre + half, *values])
    else:
        axes.barh(places, values, color=_SERIES[0], height=0.62)
        low, high = 0, max(values) or 1
    room = (high - low) or 1
    axes.set_xlim(low - (0.04 * room if low else 0), high + 0.04 * room)
    for place, (_name, _value, text) in zip(places, chart.bars, strict=True):
        axes.text(1.01, place, text, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(list(places), [name for name, _value, _text in chart.bars])
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(chart.x)
    return figure


def _for_page(svg: str, chart: Lines | Bars, name: str) -> str:
    """Return what matplotlib wrote as part of an HTML page of several such."""
    root = ET.fromstring(svg)  # noqa: S314 (what matplotlib has just written)
    for part in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(part)
    # A style of one plot would count for the whole page, which has it for all.
    for part in root.findall(f"{{{_SVG}}}defs"):
        for style in part.findall(f"{{{_SVG}}}style"):
            part.remove(style)
    for element, key, value in list(_attributes(root)):
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif value.startswith("#"):
            element.set(key, f"#{name}-{value[1:]}")
        elif "url(#" in value or "#0" in value or "DejaVu" in value:
            text = value.replace("url(#", f"url(#{name}-").replace("'DejaVu Sans'", "var(--font)")
            for colour, variable in _VARIABLES.items():
                text = text.replace(colour, variable)
            element.set(key, text)
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", f"{chart.title}. {chart.says}")
    return ET.tostring(root, encoding="unicode")


def _attributes(root: ET.Element) -> Iterator[tuple[ET.Element, str, str]]:
    for element in root.iter():
        for key, value in element.attrib.items():
            yield element, key, value
